//! Groups of many members, and many groups.
//!
//! `cargo bench --bench groups`: how long a group of 100 members over 500 partitions takes until everybody
//! has its share again when one comes, one says goodbye, and one falls silent, by each protocol, over several
//! rounds; then 10,000 groups of one member each that commit every 5 seconds, with the processor time and
//! memory that the server takes.
//!
//! `--members 100 --rounds 3 --groups 10000 --seconds 60`; `--bootstrap HOST:PORT` takes a server that runs
//! already, Apache Kafka say, whose members of the newer protocols must have sessions of 6 s for the figures
//! to be alike; `--pid N` is its process.

#![allow(missing_docs, reason = "a bench has no readers but its output")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a bench ends at the first fault and prints its figures"
)]

use std::fs;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use alluvium_client::Connection;
use alluvium_protocol::message;
use alluvium_protocol::messages::create_topics_request::CreatableTopic;
use alluvium_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use alluvium_protocol::messages::{
    CreateTopicsRequest, HeartbeatRequest, JoinGroupRequest, OffsetCommitRequest, SyncGroupRequest,
    join_group_request::JoinGroupRequestProtocol, sync_group_request::SyncGroupRequestAssignment,
};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::sleep;

mod membership;

use membership::{Board, Member, PARTITIONS, Protocol, SESSION};

const TOPIC: &str = "shared";

/// Connections over which the many groups' members speak.
const CONNECTIONS: usize = 200;

/// Partitions that each of the many groups commits.
const COMMITTED: i32 = 10;

/// The newest version of OffsetCommit that names topics.
const BY_NAME: i16 = 9;

fn text(name: &str) -> Option<String> {
    let mut arguments = std::env::args().skip_while(|it| it != name);
    arguments.next()?;
    arguments.next()
}

fn number(name: &str, default: usize) -> usize {
    text(name).map_or(default, |value| value.parse().expect("a number"))
}

/// A server of this build on a folder of its own.
struct Server {
    child: Child,
    folder: std::path::PathBuf,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn start(port: u16) -> Server {
    let folder = std::env::temp_dir().join(format!("alluvium-groups-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let log = fs::File::create(folder.join("log")).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
    command
        .arg("dev")
        .arg("--data-dir")
        .arg(folder.join("data"));
    command.args([
        "--kafka",
        &format!("127.0.0.1:{port}"),
        "--http",
        "127.0.0.1:0",
    ]);
    for setting in [
        "group.consumer.session.timeout.ms=6000",
        "group.share.session.timeout.ms=6000",
        "group.max.size=1000",
        "group.share.max.size=1000",
    ] {
        command.args(["--set", setting]);
    }
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the server");
    Server { child, folder }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(run());
}

async fn run() {
    let (address, pid, _server) = match text("--bootstrap") {
        Some(address) => (address, number("--pid", 0), None),
        None => {
            let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = socket.local_addr().expect("a port").port();
            drop(socket);
            let server = start(port);
            let pid = usize::try_from(server.child.id()).expect("a number");
            (format!("127.0.0.1:{port}"), pid, Some(server))
        }
    };
    create_topic(&address).await;
    let members = number("--members", 100);
    println!("{members} members, {PARTITIONS} partitions; seconds until everybody has its share");
    println!(
        "protocol   round    all come   one comes   one leaves   one dies   (silence before {} s)",
        SESSION / 1000
    );
    for protocol in [Protocol::Classic, Protocol::Consumer, Protocol::Share] {
        for round in 0..number("--rounds", 3) {
            rebalance(&address, protocol, members, round).await;
        }
    }
    many_groups(
        &address,
        pid,
        number("--groups", 10_000),
        number("--seconds", 60),
    )
    .await;
}

async fn create_topic(address: &str) {
    let mut connection = loop {
        match Connection::open(address).await {
            Ok(connection) => break connection,
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    };
    let topic = message!(CreatableTopic {
        name: TOPIC.into(),
        num_partitions: i32::try_from(PARTITIONS).expect("few"),
        replication_factor: 1,
    });
    let create = message!(CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 30_000,
    });
    connection.call(&create).await.expect("an answer");
}

async fn rebalance(address: &str, protocol: Protocol, count: usize, round: usize) {
    let board = Arc::new(Board::default());
    let group = format!("{protocol:?}-{round}-{}", std::process::id());
    let once = protocol != Protocol::Share;
    let join = |number| Member::start(protocol, address, &group, TOPIC, number, &board);
    let started = Instant::now();
    let mut members: Vec<Member> = (0..count).map(join).collect();
    board.settled(count, PARTITIONS, once).await;
    let all = started.elapsed();

    sleep(Duration::from_secs(2)).await;
    let started = Instant::now();
    members.push(join(count));
    board.settled(count + 1, PARTITIONS, once).await;
    let one = started.elapsed();

    sleep(Duration::from_secs(2)).await;
    let started = Instant::now();
    let leaver = members.pop().expect("a member");
    leaver.leave(&board).await;
    board.settled(count, PARTITIONS, once).await;
    let left = started.elapsed();

    sleep(Duration::from_secs(2)).await;
    let started = Instant::now();
    members.pop().expect("a member").kill(&board);
    board.settled(count - 1, PARTITIONS, once).await;
    let died = started.elapsed();
    println!(
        "{:9} {round:6} {:11.2} {:11.2} {:12.2} {:10.2}",
        format!("{protocol:?}").to_lowercase(),
        all.as_secs_f64(),
        one.as_secs_f64(),
        left.as_secs_f64(),
        died.as_secs_f64()
    );
    for member in members {
        member.kill(&board);
    }
}

/// Groups of one member each: heartbeats every 3 s, a commit of ten partitions every 5 s.
async fn many_groups(address: &str, pid: usize, groups: usize, seconds: usize) {
    let mut tasks = JoinSet::new();
    let each = groups.div_ceil(CONNECTIONS);
    let started = Instant::now();
    let ends = started + Duration::from_secs(u64::try_from(seconds).expect("few") + 20);
    for connection in 0..CONNECTIONS.min(groups) {
        let address = address.to_owned();
        tasks.spawn(async move { drive(&address, connection * each, each, ends).await });
    }
    sleep(Duration::from_secs(20)).await;
    let before = usage(pid);
    let from = Instant::now();
    sleep(ends.saturating_duration_since(Instant::now())).await;
    let after = usage(pid);
    let took = from.elapsed().as_secs_f64();
    let mut waits = Vec::new();
    let mut late = 0;
    while let Some(driven) = tasks.join_next().await {
        let driven = driven.expect("a task");
        waits.extend(driven.waits);
        late += driven.late;
    }
    waits.sort_unstable();
    let at = |part: usize| waits[(waits.len() - 1) * part / 100] as f64 / 1000.0;
    println!(
        "{groups} groups: {} commits of {COMMITTED} partitions in {:.0} s ({late} rounds late), {:.1} / {:.1} ms (p50 / p99)",
        waits.len(),
        started.elapsed().as_secs_f64(),
        at(50),
        at(99)
    );
    if let (Some(before), Some(after)) = (before, after) {
        println!(
            "processor: {:.2} of one core; resident memory {} MiB",
            (after.0 - before.0) / took,
            after.1 >> 20
        );
    }
}

struct Driven {
    /// Microseconds that commits took.
    waits: Vec<u64>,
    late: usize,
}

/// Plays the members of some groups over one connection.
async fn drive(address: &str, first: usize, count: usize, ends: Instant) -> Driven {
    let mut connection = Connection::open(address).await.expect("a server");
    let mut members = Vec::new();
    for number in first..first + count {
        members.push(join_alone(&mut connection, &format!("many-{number}")).await);
    }
    let mut driven = Driven {
        waits: Vec::new(),
        late: 0,
    };
    let mut tick = 0_u64;
    let begun = Instant::now();
    while Instant::now() < ends {
        // Every second a third of the heartbeats and a fifth of the commits.
        for (at, (group, member, generation)) in (0_u64..).zip(&members) {
            if at % 3 == tick % 3 {
                let beat = message!(HeartbeatRequest {
                    group_id: group.as_str().into(),
                    generation_id: *generation,
                    member_id: member.as_str().into(),
                });
                let answer = connection.call(&beat).await.expect("an answer");
                assert_eq!(answer.error_code, 0, "a member is lost");
            }
            if at % 5 == tick % 5 {
                let asked = Instant::now();
                let commit = commit(group, member, *generation, tick);
                let answer = connection
                    .call_up_to(&commit, BY_NAME)
                    .await
                    .expect("an answer");
                let mut codes = answer.topics.iter().flat_map(|topic| &topic.partitions);
                assert!(codes.all(|partition| partition.error_code == 0));
                let wait = asked.elapsed().as_micros();
                driven.waits.push(u64::try_from(wait).unwrap_or(u64::MAX));
            }
        }
        tick += 1;
        let next = begun + Duration::from_secs(tick);
        if Instant::now() > next {
            driven.late += 1;
        }
        sleep(next.saturating_duration_since(Instant::now())).await;
    }
    driven
}

async fn join_alone(connection: &mut Connection, group: &str) -> (String, String, i32) {
    let mut member = String::new();
    loop {
        let join = message!(JoinGroupRequest {
            group_id: group.into(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: member.as_str().into(),
            protocol_type: "load".into(),
            protocols: vec![message!(JoinGroupRequestProtocol {
                name: "none".into(),
                metadata: Bytes::from_static(b"m"),
            })],
        });
        let joined = connection.call(&join).await.expect("an answer");
        member = joined.member_id.to_string();
        if joined.error_code != 0 {
            continue;
        }
        let sync = message!(SyncGroupRequest {
            group_id: group.into(),
            generation_id: joined.generation_id,
            member_id: member.as_str().into(),
            protocol_type: Some("load".into()),
            protocol_name: Some("none".into()),
            assignments: vec![message!(SyncGroupRequestAssignment {
                member_id: member.as_str().into(),
                assignment: Bytes::from_static(b"all"),
            })],
        });
        let synced = connection.call(&sync).await.expect("an answer");
        assert_eq!(synced.error_code, 0);
        return (group.to_owned(), member, joined.generation_id);
    }
}

fn commit(group: &str, member: &str, generation: i32, tick: u64) -> OffsetCommitRequest {
    let partition = |partition_index| {
        message!(OffsetCommitRequestPartition {
            partition_index,
            committed_offset: i64::try_from(tick).unwrap_or(0),
            committed_metadata: Some("".into()),
        })
    };
    let topic = message!(OffsetCommitRequestTopic {
        name: TOPIC.into(),
        partitions: (0..COMMITTED).map(partition).collect(),
    });
    message!(OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: generation,
        member_id: member.into(),
        topics: vec![topic],
    })
}

/// Processor seconds and resident bytes of a process.
fn usage(pid: usize) -> Option<(f64, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((ticks / 100.0, kib << 10))
}
