//! Exactly once, while agents and the metadata leader are killed: programs that consume, transform and
//! produce in two languages, by both consumer protocols, and a Kafka Streams application.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::nodes::Cluster;
use crate::support::{client, kafka_tools, python};

/// How long the programs write for, unless `ALLUVIUM_FAULT_SECONDS` says otherwise.
const SECONDS: u64 = 40;

/// A program with a verdict of its own; killed when dropped.
struct Program {
    what: &'static str,
    child: Option<Child>,
}

impl Program {
    fn start(what: &'static str, mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = Some(command.spawn().unwrap());
        Self { what, child }
    }

    fn finish(mut self) {
        let child = self.child.take().unwrap();
        let output = child.wait_with_output().unwrap();
        let verdict = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("{}: {}", self.what, verdict.trim());
        assert!(output.status.success(), "{}: {verdict}{why}", self.what);
        assert!(verdict.contains("good"), "{}: {verdict}", self.what);
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

/// A random schedule: an agent or the leader dies every few seconds. `ALLUVIUM_FAULT_SECONDS` makes it
/// longer, `ALLUVIUM_FAULT_SEED` repeats one.
#[test]
fn exactly_once_holds_while_agents_and_the_leader_are_killed() {
    let (Some(python), Some(class_path)) = (python(), kafka_tools()) else {
        return;
    };
    let class_path = class_path.trim();
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("ALLUVIUM_FAULT_SECONDS").unwrap_or(SECONDS);
    let seed = number("ALLUVIUM_FAULT_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    eprintln!("seed {seed}, {seconds} s");
    let mut cluster = Cluster::over_a_folder(3);
    cluster.wait_healthy();
    let (bootstrap, time) = (cluster.bootstrap(), seconds.to_string());
    let drive = |name: &str, worker: &[&str]| {
        let mut arguments = vec!["drive", &bootstrap, &time, name];
        arguments.extend(worker);
        let mut command = client(&python, "eos.py", &arguments);
        command.env("EOS_LOG", cluster.dir.path().join("eos"));
        command
    };
    let (eos, counts) = (program("Eos.java"), program("streams/Counts.java"));
    let java = ["java", "-Xmx160m", "-XX:+UseSerialGC", "-cp", class_path];
    let worker = [
        &java[..],
        &["-Dgroup.protocol=consumer", eos.to_str().unwrap()],
    ]
    .concat();
    let mut streams = Command::new(java[0]);
    streams
        .args(&java[1..])
        .arg(format!("-Dcounts.source={}", counts.display()))
        .arg(&counts)
        .args(["drive", &bootstrap, "exactly_once_v2", &time])
        .arg(cluster.dir.path());
    let programs = [
        Program::start("confluent-kafka, classic groups", drive("python", &[])),
        Program::start("kafka-clients, consumer groups", drive("java", &worker)),
        Program::start("Kafka Streams", streams),
    ];
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut draw = seed;
    let mut next = |most: u64| {
        draw = draw
            .wrapping_mul(0x5851_f42d_4c95_7f2d)
            .wrapping_add(0x1405_7b7e_f767_814f);
        (draw >> 33) % most
    };
    let (mut agents, mut leaders) = (0, 0);
    std::thread::sleep(Duration::from_secs(8));
    while Instant::now() < end {
        // One of each first: a short run has seen both.
        let leader = match agents + leaders {
            0 => false,
            1 => true,
            _ => next(3) == 0,
        };
        let place = if leader {
            leaders += 1;
            cluster.leader()
        } else {
            agents += 1;
            3 + usize::try_from(next(3)).unwrap()
        };
        cluster.nodes[place].kill_9();
        std::thread::sleep(Duration::from_millis(500 + next(4000)));
        cluster.nodes[place].start();
        std::thread::sleep(Duration::from_secs(3 + next(4)));
    }
    assert!(agents > 0 && leaders > 0);
    eprintln!("{agents} agents and {leaders} leaders were killed");
    for program in programs {
        program.finish();
    }
    cluster.wait_healthy();
}
