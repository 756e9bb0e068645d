//! The processes of a cluster.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::network::{Host, Network};
use crate::support::{Minio, PATIENCE, signal, wait_until};

/// The binary under test: release where `ALLUVIUM_BINARY` names one.
pub fn binary() -> String {
    std::env::var("ALLUVIUM_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_alluvium").to_owned())
}

/// What a node does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Metadata(u32),
    Agent,
}

/// A machine with a process on it, running or not.
#[derive(Debug)]
pub struct Node {
    pub name: String,
    pub role: Role,
    pub host: Host,
    pub cluster: String,
    pub kafka: String,
    http: String,
    config: PathBuf,
    data: PathBuf,
    log: PathBuf,
    env: Vec<(String, String)>,
    child: Option<Child>,
}

/// Three metadata nodes and some agents.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub network: Network,
    pub dir: TempDir,
    metadata: String,
    store: String,
    env: Vec<(String, String)>,
    minio: Option<Minio>,
}

impl Cluster {
    /// A cluster over a folder that every node sees.
    pub fn over_a_folder(agents: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = format!("file://{}", dir.path().join("objects").display());
        Self::over(agents, dir, Network::new(), store, None)
    }

    /// A cluster over MinIO; `None` where there is none.
    pub fn over_minio(agents: usize) -> Option<Self> {
        let network = Network::new();
        let minio = Minio::start_at(&network.gateway())?;
        let dir = tempfile::tempdir().unwrap();
        let store = "s3://cluster-test/prefix".to_owned();
        Some(Self::over(agents, dir, network, store, Some(minio)))
    }

    fn over(
        agents: usize,
        dir: TempDir,
        network: Network,
        store: String,
        minio: Option<Minio>,
    ) -> Self {
        let env = minio.as_ref().map(Minio::env).unwrap_or_default();
        let hosts: Vec<Host> = (0..3).map(|_| network.host()).collect();
        let addresses: Vec<String> = hosts
            .iter()
            .map(|host| format!("{}:{}", host.ip, host.port(9190)))
            .collect();
        let mut cluster = Self {
            nodes: Vec::new(),
            network,
            dir,
            metadata: format!("{addresses:?}"),
            store,
            env,
            minio,
        };
        for ((number, host), address) in (1..).zip(hosts).zip(addresses) {
            let sections = format!(
                "roles = [\"metadata\"]\n[cluster]\nlisten = {address:?}\nnodes = {}\n[metadata]\nnode_id = {number}",
                cluster.metadata
            );
            let role = Role::Metadata(number);
            cluster.add(&format!("m{number}"), role, host, address, &sections);
        }
        for number in 0..agents {
            cluster.add_agent(&format!("a{}", number + 1));
        }
        cluster
    }

    /// Adds an agent and starts it; its place among the nodes.
    pub fn add_agent(&mut self, name: &str) -> usize {
        let host = self.network.host();
        self.add_agent_at(name, host, "", "")
    }

    /// As `add_agent`, for one that does something for other agents, with more sections.
    pub fn add_peer(&mut self, name: &str, sections: &str) -> usize {
        let host = self.network.host();
        let listen = format!("listen = \"{}:{}\"\n", host.ip, host.port(9190));
        self.add_agent_at(name, host, &listen, sections)
    }

    fn add_agent_at(&mut self, name: &str, host: Host, cluster: &str, more: &str) -> usize {
        let kafka = format!("{}:{}", host.ip, host.port(9092));
        let zone = format!("zone-{}", self.nodes.len() % 3);
        let sections = format!(
            "roles = [\"agent\"]\n[cluster]\n{cluster}nodes = {}\n[kafka]\nlisten = {kafka:?}\n\
             \"group.initial.rebalance.delay.ms\" = 0\n[agent]\nzone = {zone:?}\n{more}",
            self.metadata
        );
        self.add(name, Role::Agent, host, kafka, &sections)
    }

    fn add(
        &mut self,
        name: &str,
        role: Role,
        host: Host,
        address: String,
        sections: &str,
    ) -> usize {
        let path = self.dir.path();
        let data = path.join(name);
        let http = format!("{}:{}", host.ip, host.port(8080));
        let text = format!(
            "data_dir = {data:?}\n{sections}\n[store]\nurl = {:?}\n[http]\nlisten = {http:?}\n[log]\nformat = \"text\"\n",
            self.store
        );
        let config = path.join(format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        let mut node = Node {
            name: name.to_owned(),
            role,
            cluster: address.clone(),
            kafka: address,
            http,
            host,
            config,
            data,
            log: path.join(format!("{name}.log")),
            env: self.env.clone(),
            child: None,
        };
        node.start();
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Waits until every running node takes part and nothing is unhealthy.
    pub fn wait_healthy(&self) {
        let agents = self.running(|node| node.role == Role::Agent);
        let mut last = Value::Null;
        wait_until_or("the cluster to be healthy", || {
            let Some(status) = self.status() else {
                return Err("no status".to_owned());
            };
            last = status;
            let list = |name: &str| last[name].as_array().cloned().unwrap_or_default();
            let live = list("agents")
                .iter()
                .filter(|agent| agent["standing"] == "live" || agent["state"] == "live")
                .count();
            let holds = list("advice").is_empty() && live == agents && list("voters").len() == 3;
            if holds { Ok(()) } else { Err(last.to_string()) }
        });
    }

    fn running(&self, which: impl Fn(&Node) -> bool) -> usize {
        let running = self.nodes.iter().filter(|node| node.child.is_some());
        running.filter(|node| which(node)).count()
    }

    /// Addresses of the metadata nodes, as `--nodes` takes them.
    pub fn metadata_addresses(&self) -> String {
        let nodes = self.nodes.iter();
        let metadata = nodes.filter(|node| node.role != Role::Agent);
        let addresses: Vec<_> = metadata.map(|node| node.cluster.clone()).collect();
        addresses.join(",")
    }

    /// Addresses of all agents, running or not.
    pub fn bootstrap(&self) -> String {
        let nodes = self.nodes.iter();
        let agents = nodes.filter(|node| node.role == Role::Agent);
        let addresses: Vec<_> = agents.map(|node| node.kafka.clone()).collect();
        addresses.join(",")
    }

    /// What the leader says of the cluster, if there is one now.
    pub fn status(&self) -> Option<Value> {
        let nodes = self.metadata_addresses();
        let output = Command::new(binary())
            .args(["cluster", "status", "--json", "--nodes", &nodes])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).ok()
    }

    /// The place of the metadata node that leads.
    pub fn leader(&self) -> usize {
        let mut found = None;
        wait_until("a leader", || {
            found = self.status().and_then(|status| {
                let leader = status["leader"].as_str()?.to_owned();
                let number: u32 = leader.split('-').next()?.parse().ok()?;
                let is_it = |node: &Node| node.role == Role::Metadata(number);
                self.nodes.iter().position(is_it)
            });
            found.is_some()
        });
        found.unwrap()
    }

    /// Runs our tool against the agents; it must succeed.
    pub fn tool(&self, args: &[&str]) -> String {
        let output = Command::new(binary())
            .args(args)
            .args(["--bootstrap", &self.bootstrap()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "alluvium {args:?}: {stderr}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The store's URL and what a process needs to use it.
    pub fn store(&self) -> (&str, &[(String, String)]) {
        debug_assert!(self.minio.is_some() || self.env.is_empty());
        (&self.store, &self.env)
    }
}

/// As `wait_until`, and says what was seen last.
fn wait_until_or(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(seen) = holds() {
        assert!(
            Instant::now() < deadline,
            "gave up waiting for {what}; last seen: {seen}"
        );
        sleep(Duration::from_millis(100));
    }
}

impl Node {
    /// Starts the process.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(&self.log)
            .unwrap();
        let child = self
            .host
            .command(&binary())
            .args(["server", "--config"])
            .arg(&self.config)
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    pub fn is_running(&self) -> bool {
        self.child.is_some()
    }

    fn running(&mut self) -> &mut Child {
        let (name, log) = (self.name.clone(), self.log.clone());
        let child = self.child.as_mut().unwrap();
        if let Some(status) = child.try_wait().unwrap() {
            let log = fs::read_to_string(log).unwrap_or_default();
            panic!("{name} ended by itself: {status}\n{}", tail(&log));
        }
        child
    }

    /// SIGKILL, proved: the process was there before and ended by that signal.
    pub fn kill_9(&mut self) {
        let child = self.running();
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9), "{}", self.name);
        self.child = None;
    }

    /// SIGSTOP, proved: the kernel says that it stands.
    pub fn stop(&mut self) {
        let pid = self.running().id();
        signal(pid, "STOP");
        wait_until("the process to stand", || state_of(pid) == Some('T'));
    }

    /// SIGCONT.
    pub fn go_on(&mut self) {
        signal(self.running().id(), "CONT");
    }

    /// Cuts it off.
    pub fn cut(&mut self) {
        self.running();
        self.host.cut();
    }

    /// SIGTERM; it must end by itself, in peace.
    pub fn terminate(&mut self) {
        signal(self.running().id(), "TERM");
        let deadline = Instant::now() + PATIENCE;
        let mut child = self.child.take().unwrap();
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                let _ = child.kill();
                panic!("{} did not stop:\n{}", self.name, tail(&self.log()));
            }
            sleep(Duration::from_millis(20));
        };
        let log = self.log();
        assert_eq!(status.code(), Some(0), "{}:\n{}", self.name, tail(&log));
    }

    /// Deletes its disk. It must not run.
    pub fn delete_disk(&self) {
        assert!(self.child.is_none());
        fs::remove_dir_all(&self.data).unwrap();
    }

    /// What it has asked of the store, and for how many bytes of its clients, since it was started.
    pub fn cost(&self) -> Value {
        let mut socket = TcpStream::connect(&self.http).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /cost HTTP/1.0\r\nHost: localhost\r\n\r\n";
        socket.write_all(request).unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        let (_, body) = text.split_once("\r\n\r\n").unwrap();
        serde_json::from_str(body).unwrap()
    }

    pub fn data(&self) -> &Path {
        &self.data
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

fn tail(log: &str) -> &str {
    let mut start = log.len().saturating_sub(6000);
    while !log.is_char_boundary(start) {
        start += 1;
    }
    &log[start..]
}

/// The state letter of a process, or of its first child where `ip netns exec` stands before it.
fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
            if std::thread::panicking() {
                eprintln!("--- log of {}\n{}", node.name, tail(&node.log()));
            }
        }
    }
}
