//! What every suite needs: server processes, an S3 server, other people's clients.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "each suite uses its own part"
)]

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Longest that anything in a suite may take to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The folder that `tests/provision` fills.
pub fn test_env() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-env")
}

/// Notes that a test did not run because `what` is missing on this machine. `tests/run` lists these.
pub fn skip(what: &str) {
    eprintln!("skipped: {what} is not installed (tests/provision says why)");
    let path = test_env().join("skipped");
    if let Ok(mut file) = File::options().create(true).append(true).open(path) {
        let test = thread::current().name().unwrap_or("a test").to_owned();
        let _ = writeln!(file, "{test}: needs {what}");
    }
}

/// Waits until `holds`, asking every 20 ms.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "gave up waiting for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// How to start a server.
#[derive(Clone)]
pub struct ServerOptions {
    pub data_dir: PathBuf,
    pub port: u16,
    pub store: Option<String>,
    pub env: Vec<(String, String)>,
    pub set: Vec<String>,
}

impl ServerOptions {
    pub fn new(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            port: free_port(),
            store: None,
            env: Vec::new(),
            set: vec![
                "group.initial.rebalance.delay.ms=100".to_owned(),
                // Many suites write records with times of years ago.
                "log.retention.ms=-1".to_owned(),
            ],
        }
    }

    pub fn set(mut self, setting: &str) -> Self {
        self.set.push(setting.to_owned());
        self
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_alluvium"));
        command.arg("dev").arg("--data-dir").arg(&self.data_dir);
        command.args([
            "--kafka",
            &format!("127.0.0.1:{}", self.port),
            "--http",
            "127.0.0.1:0",
        ]);
        if let Some(store) = &self.store {
            command.args(["--store", store]);
        }
        for setting in &self.set {
            command.args(["--set", setting]);
        }
        command.envs(self.env.iter().cloned());
        command.stdin(Stdio::null());
        command
    }
}

/// A running `alluvium dev`; killed when dropped.
pub struct Server {
    pub options: ServerOptions,
    pub child: Child,
    pub started_in: Duration,
    pub banner: Vec<String>,
    log: PathBuf,
}

impl Server {
    /// A server on an empty data directory.
    pub fn fresh() -> (TempDir, Self) {
        let dir = tempfile::tempdir().unwrap();
        let server = Self::start(ServerOptions::new(&dir.path().join("data")));
        (dir, server)
    }

    /// Starts and waits until it says that it listens.
    pub fn start(options: ServerOptions) -> Self {
        fs::create_dir_all(&options.data_dir).unwrap();
        let log = options.data_dir.with_extension("log");
        let stderr = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .unwrap();
        let begun = Instant::now();
        let mut child = options
            .command()
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .expect("start server");
        let stdout = child.stdout.take().unwrap();
        let (lines, received) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = lines.send(line);
            }
        });
        let mut banner = Vec::new();
        let address = format!("127.0.0.1:{}", options.port);
        loop {
            match received.recv_timeout(PATIENCE) {
                Ok(line) => {
                    let ready = line.contains(&address);
                    banner.push(line);
                    if ready {
                        break;
                    }
                }
                Err(error) => {
                    let log = fs::read_to_string(&log).unwrap_or_default();
                    panic!("server did not start: {error}; it said {banner:?} and\n{log}");
                }
            }
        }
        let started_in = begun.elapsed();
        while let Ok(line) = received.recv_timeout(Duration::from_millis(100)) {
            banner.push(line);
        }
        Self {
            options,
            child,
            started_in,
            banner,
            log,
        }
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.options.port)
    }

    pub fn socket(&self) -> TcpStream {
        let address: SocketAddr = self.address().parse().unwrap();
        let socket = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }

    /// SIGKILL, proved: the process was there before and ended by that signal.
    pub fn kill_9(mut self) -> ServerOptions {
        use std::os::unix::process::ExitStatusExt;
        assert!(
            self.child.try_wait().unwrap().is_none(),
            "server ended by itself:\n{}",
            self.log()
        );
        self.child.kill().unwrap();
        assert_eq!(self.child.wait().unwrap().signal(), Some(9));
        self.options.clone()
    }

    /// SIGTERM; the exit code.
    pub fn terminate(self) -> (ServerOptions, Option<i32>) {
        signal(self.child.id(), "TERM");
        self.wait_for_end()
    }

    /// Waits for the process to end by itself; the exit code.
    pub fn wait_for_end(mut self) -> (ServerOptions, Option<i32>) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (self.options.clone(), status.code());
            }
            assert!(
                Instant::now() < deadline,
                "server did not stop:\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Runs `alluvium ARGS --bootstrap here` and returns what it printed; it must succeed.
    pub fn tool(&self, args: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_alluvium"))
            .args(args)
            .args(["--bootstrap", &self.address()])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        checked(&format!("alluvium {}", args.join(" ")), output)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log();
            let tail = log.len().saturating_sub(8000);
            eprintln!("--- server log\n{}", log.get(tail..).unwrap_or(&log));
        }
    }
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success(), "kill -{name} {pid}");
}

fn checked(what: &str, output: Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{what}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    stdout
}

/// The Python of the suites' own environment, if it could be made.
pub fn python() -> Option<PathBuf> {
    let python = test_env().join("venv/bin/python");
    if python.exists() {
        return Some(python);
    }
    skip("the Python clients");
    None
}

/// A command that runs a program of tests/clients.
pub fn client(python: &Path, program: &str, args: &[&str]) -> Command {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/clients")
        .join(program);
    let mut command = Command::new(python);
    command
        .arg("-u")
        .arg(script)
        .args(args)
        .stdin(Stdio::null());
    command
}

/// Runs a program of tests/clients to its end; what it printed.
pub fn run_client(python: &Path, program: &str, args: &[&str]) -> String {
    let output = client(python, program, args).output().unwrap();
    checked(&format!("{program} {}", args.join(" ")), output)
}

/// Whether kcat is here.
pub fn has_kcat() -> bool {
    let found = Command::new("kcat").arg("-V").output().is_ok();
    if !found {
        skip("kcat");
    }
    found
}

/// Runs kcat to its end; what it printed.
pub fn kcat(args: &[&str]) -> String {
    let output = Command::new("kcat")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    checked(&format!("kcat {}", args.join(" ")), output)
}

/// The class path of Kafka's own tools, if they could be fetched.
pub fn kafka_tools() -> Option<String> {
    let path = fs::read_to_string(test_env().join("kafka-tools.classpath")).ok();
    if path.is_none() {
        skip("Kafka's own tools");
    }
    path
}

/// Runs one of Kafka's own tools by class name; it must succeed.
pub fn kafka_tool(class_path: &str, class: &str, args: &[&str]) -> String {
    let output = Command::new("java")
        .args(["-Xmx256m", "-cp", class_path.trim(), class])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    checked(&format!("{class} {}", args.join(" ")), output)
}

/// A MinIO server on an empty folder; killed when dropped.
pub struct Minio {
    child: Child,
    host: String,
    port: u16,
    _dir: TempDir,
}

impl Minio {
    /// Starts it on loopback, if it could be built.
    pub fn start() -> Option<Self> {
        Self::start_at("127.0.0.1")
    }

    /// Starts it on an address of this machine, if it could be built.
    pub fn start_at(host: &str) -> Option<Self> {
        let binary = test_env().join("bin/minio");
        if !binary.exists() {
            skip("MinIO");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        let child = Command::new(binary)
            .args(["server", "--quiet", "--address", &format!("{host}:{port}")])
            .arg(dir.path())
            .env("MINIO_ROOT_USER", "alluvium")
            .env("MINIO_ROOT_PASSWORD", "alluvium-secret")
            .env("MINIO_BROWSER", "off")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let minio = Self {
            child,
            host: host.to_owned(),
            port,
            _dir: dir,
        };
        wait_until("MinIO to be ready", || minio.is_ready());
        Some(minio)
    }

    fn is_ready(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect((self.host.as_str(), self.port)) else {
            return false;
        };
        let request = "GET /minio/health/ready HTTP/1.0\r\nHost: localhost\r\n\r\n";
        let _ = socket.set_read_timeout(Some(Duration::from_secs(5)));
        let mut line = String::new();
        socket.write_all(request.as_bytes()).is_ok()
            && BufReader::new(socket).read_line(&mut line).is_ok()
            && line.contains(" 200 ")
    }

    /// The variables that a server needs to use it.
    pub fn env(&self) -> Vec<(String, String)> {
        [
            (
                "AWS_ENDPOINT_URL",
                format!("http://{}:{}", self.host, self.port),
            ),
            ("AWS_ACCESS_KEY_ID", "alluvium".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "alluvium-secret".to_owned()),
            ("AWS_REGION", "us-east-1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

impl Drop for Minio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
