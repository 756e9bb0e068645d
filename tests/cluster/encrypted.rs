//! Processes that show each other certificates, and those who have none.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::nodes::binary;
use crate::support::{PATIENCE, free_port, skip, wait_until};

/// A process; killed when dropped.
struct Process {
    child: Child,
    http: u16,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Process {
    /// A process by its name and configuration, over a store that all share.
    fn start(dir: &Path, name: &str, sections: &str) -> Self {
        let http = free_port();
        let text = format!(
            "data_dir = {:?}\n{sections}\n[store]\nurl = \"file://{}\"\n[http]\nlisten = \
             \"127.0.0.1:{http}\"\n",
            dir.join(name),
            dir.join("objects").display(),
        );
        let config = dir.join(format!("{name}.toml"));
        fs::write(&config, text).unwrap();
        let child = Command::new(binary())
            .args(["server", "--config"])
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(dir.join(format!("{name}.log"))).unwrap())
            .spawn()
            .unwrap();
        Self { child, http }
    }

    /// Whether it is ready, and what it says of that.
    fn ready(&self) -> Option<(bool, Value)> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.http)).ok()?;
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n";
        socket.write_all(request).ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        Some((head.contains(" 200 "), serde_json::from_str(body).ok()?))
    }

    fn is_ready(&self) -> bool {
        self.ready().is_some_and(|(ready, _)| ready)
    }
}

fn openssl(dir: &Path, line: &str) {
    let output = Command::new("openssl")
        .args(line.split(' '))
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {line}: {error}");
}

/// A folder with `ca.pem` and, signed by it for this machine, `node.pem` and `node.key`.
fn authority(dir: &Path) -> PathBuf {
    fs::create_dir_all(dir).unwrap();
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(
        dir,
        &format!("req -x509 {key} -subj /CN=ca -keyout ca.key -out ca.pem"),
    );
    openssl(
        dir,
        &format!(
            "req {key} -subj /CN=node -addext subjectAltName=IP:127.0.0.1 -keyout node.key -out node.csr"
        ),
    );
    openssl(
        dir,
        "x509 -req -in node.csr -CA ca.pem -CAkey ca.key -CAcreateserial -copy_extensions copy -out node.pem",
    );
    dir.to_owned()
}

/// The lines of `[cluster]` for one who trusts `ca` and shows a certificate of `own`.
fn shows(ca: &Path, own: &Path) -> String {
    format!(
        "tls_ca = {:?}\ntls_certificate = {:?}\ntls_key = {:?}",
        ca.join("ca.pem"),
        own.join("node.pem"),
        own.join("node.key")
    )
}

fn status(nodes: &str, tls: Option<&Path>) -> Output {
    let mut command = Command::new(binary());
    command.args(["cluster", "status", "--json", "--nodes", nodes]);
    if let Some(dir) = tls {
        command.arg("--tls-ca").arg(dir.join("ca.pem"));
        command.arg("--tls-certificate").arg(dir.join("node.pem"));
        command.arg("--tls-key").arg(dir.join("node.key"));
    }
    command.stdin(Stdio::null()).output().unwrap()
}

#[test]
fn only_who_shows_a_certificate_of_the_ca_takes_part() {
    if Command::new("openssl").arg("version").output().is_err() {
        return skip("openssl");
    }
    let dir = tempfile::tempdir().unwrap();
    let ours = authority(&dir.path().join("ours"));
    let theirs = authority(&dir.path().join("theirs"));
    let address = format!("127.0.0.1:{}", free_port());
    let node = Process::start(
        dir.path(),
        "m1",
        &format!(
            "roles = [\"metadata\"]\n[cluster]\nlisten = {address:?}\nnodes = [{address:?}]\n{}\n\
             [metadata]\nnode_id = 1",
            shows(&ours, &ours)
        ),
    );
    let agent = |name: &str, tls: &str| {
        let kafka = format!("127.0.0.1:{}", free_port());
        let sections = format!(
            "roles = [\"agent\"]\n[cluster]\nnodes = [{address:?}]\n{tls}\n[kafka]\nlisten = {kafka:?}"
        );
        Process::start(dir.path(), name, &sections)
    };
    // One knows no certificates, one trusts another CA, one is trusted by another CA only.
    let strangers = [
        agent("plain", ""),
        agent("stranger", &shows(&theirs, &theirs)),
        agent("liar", &shows(&ours, &theirs)),
    ];
    let friend = agent("friend", &shows(&ours, &ours));
    wait_until("the node to serve", || node.is_ready());
    wait_until("the agent with a certificate to serve", || {
        friend.is_ready()
    });

    // They had as much time as the other one, and two seconds more.
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        for stranger in &strangers {
            assert!(!stranger.is_ready());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    for stranger in &strangers {
        let (_, said) = stranger.ready().unwrap();
        assert!(said.to_string().contains(&address), "{said}");
    }

    let output = status(&address, Some(&ours));
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(seen["agents"].as_array().unwrap().len(), 1, "{seen}");
    for tls in [None, Some(theirs.as_path())] {
        let output = status(&address, tls);
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(error.contains(&address), "{error}");
    }
}
