//! Metadata nodes and agents as processes of their own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{PATIENCE, kafka_tool, kafka_tools, signal, wait_until};

/// A process of a cluster; killed when dropped.
struct Process {
    name: String,
    child: Child,
    http: u16,
    log: PathBuf,
}

/// A cluster on this machine: its folder, and the ports of its processes.
struct Cluster {
    dir: TempDir,
    metadata: Vec<u16>,
}

/// A port that nobody else takes before it is used: below those that the system gives away by
/// itself, and each one given once by this process.
fn port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = (std::process::id().wrapping_mul(64).wrapping_add(step)) % 16_000;
        let port = 16_000 + u16::try_from(place).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl Cluster {
    fn of(metadata: usize) -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            metadata: (0..metadata).map(|_| port()).collect(),
        }
    }

    fn nodes(&self) -> Vec<String> {
        self.metadata.iter().copied().map(address).collect()
    }

    fn list(&self) -> String {
        format!("nodes = {:?}", self.nodes())
    }

    /// A process by its configuration, which every process shares in part.
    fn process(&self, name: &str, sections: &str) -> Process {
        let http = port();
        let data = self.dir.path().join(name);
        let text = format!(
            "data_dir = {data:?}\n{sections}\n[store]\nurl = \"file://{}\"\n[http]\nlisten = \
             \"{}\"\n[log]\nformat = \"text\"\n",
            self.dir.path().join("objects").display(),
            address(http),
        );
        let config = self.dir.path().join(format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        let log = self.dir.path().join(format!("{name}.log"));
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(["server", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .unwrap();
        Process {
            name: name.to_owned(),
            child,
            http,
            log,
        }
    }

    /// Metadata node `number`, from 1; with the list of all or without any.
    fn node(&self, number: usize, list: &str) -> Process {
        let listen = address(self.metadata[number - 1]);
        let sections = format!(
            "roles = [\"metadata\"]\n[cluster]\nlisten = {listen:?}\n{list}\n[metadata]\nnode_id = \
             {number}"
        );
        self.process(&format!("m{number}"), &sections)
    }

    fn agent(&self, name: &str, port: u16, zone: &str) -> Process {
        let sections = format!(
            "roles = [\"agent\"]\n[cluster]\n{}\n[kafka]\nlisten = {:?}\n\
             \"group.initial.rebalance.delay.ms\" = 0\n[agent]\nzone = {zone:?}",
            self.list(),
            address(port)
        );
        self.process(name, &sections)
    }
}

impl Process {
    /// What an HTTP path answers: the status and the body; `None` while nobody listens.
    fn get(&self, path: &str) -> Option<(u16, Value)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        socket.write_all(request.as_bytes()).ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split_whitespace().nth(1)?.parse().ok()?;
        Some((status, serde_json::from_str(body).ok()?))
    }

    fn wait_ready(&self) {
        wait_until(&format!("{} to be ready", self.name), || {
            self.get("/ready").is_some_and(|(status, _)| status == 200)
        });
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGTERM; it must end by itself, in peace.
    fn stop(mut self) {
        signal(self.child.id(), "TERM");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert_eq!(status.code(), Some(0), "{}:\n{}", self.name, self.log());
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{} did not stop:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(4000);
            eprintln!(
                "--- log of {}\n{}",
                self.name,
                log.get(tail..).unwrap_or(&log)
            );
        }
    }
}

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Runs our tool; it must succeed.
fn tool(args: &[&str]) -> String {
    let output = run(args);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "alluvium {}: {stderr}",
        args.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}

fn status(args: &[&str]) -> Value {
    let args = [&["cluster", "status", "--json"], args].concat();
    serde_json::from_str(&tool(&args)).unwrap()
}

fn produce(bootstrap: &str, topic: &str, lines: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_alluvium"))
        .args(["produce", topic, "--bootstrap", bootstrap])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(lines.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
}

fn consume(bootstrap: &str, topic: &str) -> String {
    tool(&[
        "consume",
        topic,
        "--from-beginning",
        "--exit-at-end",
        "--bootstrap",
        bootstrap,
    ])
}

#[test]
fn three_metadata_nodes_and_two_agents_are_one_cluster() {
    let cluster = Cluster::of(3);
    let (one, two) = (port(), port());
    // The agents first: the order of starting must not matter.
    let first = cluster.agent("a1", one, "zone-a");
    wait_until("the agent to wait", || {
        first.get("/ready").is_some_and(|(status, body)| {
            let reason = body["reason"].as_str().unwrap_or_default().to_owned();
            status == 503 && reason.contains("waiting for") && reason.contains(&cluster.nodes()[0])
        })
    });
    assert_eq!(first.get("/health").unwrap().0, 200);
    let list = cluster.list();
    let nodes: Vec<Process> = (1..=3).map(|number| cluster.node(number, &list)).collect();
    let second = cluster.agent("a2", two, "zone-b");
    for process in nodes.iter().chain([&first, &second]) {
        process.wait_ready();
    }
    let (one, two) = (address(one), address(two));

    tool(&["topic", "create", "clicks", "--bootstrap", &one]);
    produce(&one, "clicks", "a\nb\nc\n");
    assert_eq!(consume(&two, "clicks"), "a\nb\nc\n");

    let seen = status(&["--bootstrap", &two]);
    assert_eq!(seen["source"], "leader", "{seen}");
    assert_eq!(seen["voters"].as_array().unwrap().len(), 3, "{seen}");
    let agents = seen["agents"].as_array().unwrap();
    let mut zones: Vec<&str> = agents
        .iter()
        .filter_map(|agent| agent["zone"].as_str())
        .collect();
    zones.sort_unstable();
    assert_eq!(zones, ["zone-a", "zone-b"], "{seen}");
    let known = cluster.nodes().join(",");
    let to = seen["voters"]
        .as_array()
        .unwrap()
        .iter()
        .find(|voter| voter["leader"] == false);
    let to = to.unwrap()["id"].as_str().unwrap();
    tool(&["cluster", "hand-over", "--to", to, "--nodes", &known]);
    wait_until("the other node to lead", || {
        status(&["--nodes", &known])["leader"] == to
    });
    described_by_kafka(&one, to);

    // An agent leaves in peace: it is not named any more, and the other has everything.
    first.stop();
    wait_until("one agent to be left", || {
        status(&["--nodes", &known])["agents"]
            .as_array()
            .unwrap()
            .len()
            == 1
    });
    produce(&two, "clicks", "d\n");
    assert_eq!(consume(&two, "clicks"), "a\nb\nc\nd\n");
    second.stop();
    for node in nodes {
        node.stop();
    }
}

/// Kafka's own tool sees the same quorum.
fn described_by_kafka(bootstrap: &str, leader: &str) {
    let Some(classes) = kafka_tools() else {
        return;
    };
    let class = "org.apache.kafka.tools.MetadataQuorumCommand";
    let ask = |what: &str| {
        kafka_tool(
            &classes,
            class,
            &["--bootstrap-server", bootstrap, "describe", what],
        )
    };
    let node = leader.split('-').next().unwrap();
    let text = ask("--status");
    let line = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name}: {text}")).to_owned()
    };
    assert!(line("LeaderId:").ends_with(node), "{text}");
    let voters = line("CurrentVoters:");
    for number in 1..=3 {
        assert!(voters.contains(&format!("\"id\": {number}")), "{text}");
    }
    assert!(voters.contains("CONTROLLER://127.0.0.1:"), "{text}");
    let class = "org.apache.kafka.tools.BrokerApiVersionsCommand";
    let versions = kafka_tool(&classes, class, &["--bootstrap-server", bootstrap]);
    let agents = versions
        .lines()
        .filter(|line| line.contains("isFenced: false"));
    assert_eq!(agents.count(), 2, "{versions}");
    assert!(
        versions.contains("DescribeQuorum(55): 0 to 2"),
        "{versions}"
    );
    assert!(versions.contains("AddRaftVoter(80): 0 to 1"), "{versions}");
    let table = ask("--replication");
    let count = |role: &str| table.lines().filter(|line| line.contains(role)).count();
    assert_eq!(
        (count("Leader"), count("Follower"), count("Observer")),
        (1, 2, 2),
        "{table}"
    );
}

#[test]
fn a_quorum_is_formed_and_changed_by_an_operator() {
    let cluster = Cluster::of(4);
    let nodes: Vec<Process> = (1..=4).map(|number| cluster.node(number, "")).collect();
    for node in &nodes {
        wait_until("the node to wait", || {
            node.get("/ready").is_some_and(|(status, _)| status == 503)
        });
    }
    let known = cluster.nodes();
    let (three, fourth) = (known[..3].join(","), &known[3]);
    tool(&["cluster", "init", "--nodes", &three]);
    for node in &nodes[..3] {
        node.wait_ready();
    }
    let again = run(&["cluster", "init", "--nodes", &three]);
    assert_eq!(again.status.code(), Some(1));
    let error = String::from_utf8_lossy(&again.stderr);
    assert!(error.contains("belongs to a quorum already"), "{error}");

    tool(&["cluster", "add-voter", fourth, "--nodes", &three]);
    nodes[3].wait_ready();
    let voters = |nodes: &str| {
        status(&["--nodes", nodes])["voters"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(voters(&three), 4);
    tool(&["cluster", "remove-voter", "2", "--nodes", fourth]);
    wait_until("three voters to be left", || voters(fourth) == 3);
}

#[test]
fn a_directory_is_not_opened_with_another_store() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let mut options = crate::support::ServerOptions::new(&data);
    options.store = Some(format!("file://{}", dir.path().join("here").display()));
    let (mut options, _) = crate::support::Server::start(options).terminate();
    options.store = Some(format!("file://{}", dir.path().join("there").display()));
    let output = options.command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("/here") && error.contains("/there"),
        "{error}"
    );
}
