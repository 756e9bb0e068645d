//! A group shares partitions, loses a member, commits, and goes on.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::support::{
    Server, ServerOptions, client, has_kcat, kafka_tool, kafka_tools, kcat, python, signal,
    wait_until,
};

struct Member {
    child: Child,
    owns: Arc<Mutex<Vec<i32>>>,
    read: Arc<Mutex<Vec<(i32, i64)>>>,
}

impl Member {
    fn join(python: &Path, address: &str) -> Self {
        Self::with("member.py", python, address)
    }

    /// A member of the newer consumer protocol (KIP-848).
    fn newer(python: &Path, address: &str) -> Self {
        Self::with("newer_member.py", python, address)
    }

    fn with(program: &str, python: &Path, address: &str) -> Self {
        let mut child = client(python, program, &[address, "shared", "sharers"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let owns = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::new(Mutex::new(Vec::new()));
        let (owns_heard, read_heard) = (Arc::clone(&owns), Arc::clone(&read));
        let stdout = child.stdout.take().unwrap();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let mut fields = line.split_whitespace();
                let what = fields.next();
                let numbers: Vec<i64> = fields.map(|field| field.parse().unwrap()).collect();
                match what {
                    Some("owns") => {
                        *owns_heard.lock().unwrap() = numbers
                            .iter()
                            .map(|number| i32::try_from(*number).unwrap())
                            .collect();
                    }
                    Some("read") => read_heard
                        .lock()
                        .unwrap()
                        .push((i32::try_from(numbers[0]).unwrap(), numbers[1])),
                    _ => {}
                }
            }
        });
        Self { child, owns, read }
    }

    fn owned(&self) -> Vec<i32> {
        self.owns.lock().unwrap().clone()
    }

    fn leave(mut self) {
        signal(self.child.id(), "TERM");
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every partition has one owner and every member owns `each`.
fn shared(members: &[Member], each: usize) -> bool {
    let owned: Vec<Vec<i32>> = members.iter().map(Member::owned).collect();
    let all: BTreeSet<i32> = owned.iter().flatten().copied().collect();
    owned.iter().all(|partitions| partitions.len() == each) && all.len() == 6
}

fn produce(server: &Server, count: usize) {
    let lines: String = (0..count)
        .map(|number| format!("record {number}\n"))
        .collect();
    let file = server.options.data_dir.with_extension("lines");
    std::fs::write(&file, lines).unwrap();
    for partition in 0..6 {
        let partition = partition.to_string();
        let file = file.to_str().unwrap();
        kcat(&[
            "-b",
            &server.address(),
            "-P",
            "-t",
            "shared",
            "-p",
            &partition,
            "-l",
            file,
        ]);
    }
}

#[test]
fn three_members_share_lose_one_share_again_and_a_fresh_one_goes_on() {
    let Some(python) = python() else { return };
    if !has_kcat() {
        return;
    }
    let (_dir, server) = Server::fresh();
    let address = server.address();
    server.tool(&["topic", "create", "shared", "--partitions", "6"]);
    let mut members: Vec<Member> = (0..3).map(|_| Member::join(&python, &address)).collect();
    wait_until("three members to own two partitions each", || {
        shared(&members, 2)
    });
    produce(&server, 10);
    let total = |members: &[Member]| {
        members
            .iter()
            .map(|m| m.read.lock().unwrap().len())
            .sum::<usize>()
    };
    wait_until("sixty records to be read", || total(&members) == 60);

    let mut lost = members.pop().unwrap();
    assert!(lost.child.try_wait().unwrap().is_none());
    lost.child.kill().unwrap();
    lost.child.wait().unwrap();
    wait_until("two members to own three partitions each", || {
        shared(&members, 3)
    });
    let before = total(&members);
    produce(&server, 5);
    wait_until("thirty more records to be read", || {
        total(&members) >= before + 30
    });
    for member in members {
        member.leave();
    }

    produce(&server, 2);
    if let Some(class_path) = kafka_tools() {
        let described = kafka_tool(
            &class_path,
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            &[
                "--bootstrap-server",
                &address,
                "--describe",
                "--group",
                "sharers",
            ],
        );
        assert_eq!(lags(&described), vec![2; 6], "{described}");
    }

    let fresh = Member::join(&python, &address);
    wait_until("the fresh member to own all six partitions", || {
        fresh.owned().len() == 6
    });
    wait_until("the fresh member to read what is new", || {
        fresh.read.lock().unwrap().len() >= 12
    });
    let mut read = fresh.read.lock().unwrap().clone();
    read.sort_unstable();
    let expected: Vec<(i32, i64)> = (0..6)
        .flat_map(|partition| [(partition, 15), (partition, 16)])
        .collect();
    assert_eq!(read, expected, "it goes on from the commit");
    fresh.leave();
}

/// What Kafka's tool says of the group.
fn described(class_path: &str, address: &str, what: &[&str]) -> String {
    let class = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    let mut arguments = vec!["--bootstrap-server", address, "--describe"];
    arguments.extend(["--group", "sharers"]);
    arguments.extend(what);
    kafka_tool(class_path, class, &arguments)
}

#[test]
fn a_group_goes_over_to_the_newer_protocol_member_by_member_and_back() {
    let (Some(python), Some(class_path)) = (python(), kafka_tools()) else {
        return;
    };
    if !has_kcat() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let options = ServerOptions::new(&dir.path().join("data"))
        .set("group.consumer.session.timeout.ms=6000")
        .set("group.consumer.heartbeat.interval.ms=300");
    let server = Server::start(options);
    let address = server.address();
    server.tool(&["topic", "create", "shared", "--partitions", "6"]);
    let classic = Member::join(&python, &address);
    wait_until("one to own all", || classic.owned().len() == 6);
    produce(&server, 10);
    wait_until("sixty records to be read", || {
        classic.read.lock().unwrap().len() == 60
    });

    let mut members = vec![classic];
    members.extend((0..2).map(|_| Member::newer(&python, &address)));
    wait_until("three members to own two partitions each", || {
        shared(&members, 2)
    });
    let text = described(&class_path, &address, &["--state"]);
    assert!(
        text.contains("Stable") && text.contains("uniform"),
        "{text}"
    );
    let text = described(&class_path, &address, &["--members", "--verbose"]);
    assert!(text.contains("UPGRADED") && text.contains("true"), "{text}");

    let mut lost = members.pop().unwrap();
    assert!(lost.child.try_wait().unwrap().is_none());
    lost.child.kill().unwrap();
    lost.child.wait().unwrap();
    wait_until("two members to own three partitions each", || {
        shared(&members, 3)
    });
    members.pop().unwrap().leave();
    wait_until("the classic member to own all again", || {
        members[0].owned().len() == 6
    });
    produce(&server, 5);
    wait_until("what is new to be read", || {
        members[0].read.lock().unwrap().len() >= 90
    });
    members.pop().unwrap().leave();

    // Nobody is there: the next to come decides.
    produce(&server, 2);
    assert_eq!(lags(&described(&class_path, &address, &[])), vec![2; 6]);
    let fresh = Member::newer(&python, &address);
    wait_until("the fresh member to read what is new", || {
        fresh.read.lock().unwrap().len() >= 12
    });
    let mut read = fresh.read.lock().unwrap().clone();
    read.sort_unstable();
    let expected: Vec<(i32, i64)> = (0..6)
        .flat_map(|partition| [(partition, 15), (partition, 16)])
        .collect();
    assert_eq!(read, expected, "it goes on from the commit");
    wait_until("its commit", || {
        lags(&described(&class_path, &address, &[])) == vec![0; 6]
    });
    fresh.leave();
}

/// The LAG column of Kafka's tool.
fn lags(described: &str) -> Vec<i64> {
    let header = described
        .lines()
        .find(|line| line.contains("LAG"))
        .expect("a header");
    let column = header
        .split_whitespace()
        .position(|name| name == "LAG")
        .unwrap();
    described
        .lines()
        .filter(|line| line.contains("shared"))
        .map(|line| {
            line.split_whitespace()
                .nth(column)
                .unwrap()
                .parse()
                .unwrap()
        })
        .collect()
}
