//! Exactly once, while agents and the metadata leader are killed: programs that consume, transform and
//! produce in two languages, by both consumer protocols, and a Kafka Streams application.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::nodes::Cluster;
use crate::support::{client, kafka_tools, python};

/// How long the programs write for, unless `ALLUVIUM_FAULT_SECONDS` says otherwise.
const SECONDS: u64 = 40;

struct Program {
    what: &'static str,
    child: Child,
}

impl Program {
    fn start(what: &'static str, mut command: Command) -> Self {
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        Self { what, child }
    }

    fn finish(self) {
        let output = self.child.wait_with_output().unwrap();
        let verdict = String::from_utf8_lossy(&output.stdout);
        let why = String::from_utf8_lossy(&output.stderr);
        eprintln!("{}: {}", self.what, verdict.trim());
        assert!(output.status.success(), "{}: {verdict}{why}", self.what);
        assert!(verdict.contains("good"), "{}: {verdict}", self.what);
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(name)
}

#[test]
fn exactly_once_holds_while_agents_and_the_leader_are_killed() {
    let (Some(python), Some(class_path)) = (python(), kafka_tools()) else {
        return;
    };
    let class_path = class_path.trim();
    let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
    let seconds = number("ALLUVIUM_FAULT_SECONDS").unwrap_or(SECONDS);
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
    let (mut agents, mut leaders) = (0, 0);
    std::thread::sleep(Duration::from_secs(8));
    while Instant::now() < end {
        let place = if (agents + leaders) % 3 == 1 {
            leaders += 1;
            cluster.leader()
        } else {
            agents += 1;
            3 + agents % 3
        };
        cluster.nodes[place].kill_9();
        std::thread::sleep(Duration::from_secs(2));
        cluster.nodes[place].start();
        std::thread::sleep(Duration::from_secs(6));
    }
    assert!(agents > 0 && leaders > 0);
    eprintln!("{agents} agents and {leaders} leaders were killed");
    for program in programs {
        program.finish();
    }
    cluster.wait_healthy();
}
