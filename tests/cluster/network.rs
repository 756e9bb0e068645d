//! One network namespace for each process, joined by a bridge.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::{free_port, skip};

/// What begins every name that is made here.
const PREFIX: &str = "alv";
/// Networks of this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Where the processes of one cluster live. Gone when dropped.
pub enum Network {
    /// A bridge whose own address is `base`.1; processes have `base`.11 and up.
    Bridge {
        name: String,
        base: String,
        hosts: AtomicU32,
    },
    /// All on 127.0.0.1, told apart by ports.
    Loopback,
}

/// A place for one process.
#[derive(Clone, Debug)]
pub struct Host {
    pub ip: String,
    /// The namespace and the end of its cable that is plugged into the bridge.
    inside: Option<(String, String)>,
}

fn ip(args: &[&str]) -> Result<String, String> {
    let output = Command::new("ip")
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", args.join(" "), error.trim()))
}

/// Whether namespaces can be made here; what runs that were killed left behind is removed first.
fn is_possible() -> bool {
    static POSSIBLE: OnceLock<bool> = OnceLock::new();
    *POSSIBLE.get_or_init(|| {
        sweep();
        let name = format!("{PREFIX}-{}-try", std::process::id());
        let link = format!("{PREFIX}{}t", std::process::id());
        let made = ip(&["netns", "add", &name]).and_then(|_| {
            ip(&[
                "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &name,
            ])
        });
        let _ = ip(&["netns", "del", &name]);
        let _ = ip(&["link", "del", &link]);
        if let Err(reason) = &made {
            eprintln!("processes share the loopback: {reason}");
        }
        made.is_ok()
    })
}

/// Names hold the id of the process that made them.
fn is_left_behind(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let rest = rest.trim_start_matches('-');
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    !digits.is_empty() && !std::path::Path::new(&format!("/proc/{digits}")).exists()
}

fn sweep() {
    for line in ip(&["netns", "list"]).unwrap_or_default().lines() {
        if let Some(name) = line.split_whitespace().next()
            && is_left_behind(name)
        {
            let _ = ip(&["netns", "del", name]);
        }
    }
    let links = ip(&["-o", "link", "show", "type", "bridge"]).unwrap_or_default();
    for line in links.lines() {
        if let Some(name) = line.split(": ").nth(1)
            && is_left_behind(name)
        {
            let _ = ip(&["link", "del", name]);
        }
    }
}

fn namespace(bridge: &str, number: u32) -> String {
    format!("{PREFIX}-{}-{number}", bridge.trim_start_matches(PREFIX))
}

impl Network {
    pub fn new() -> Self {
        if !is_possible() {
            return Self::Loopback;
        }
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}b{number}", std::process::id());
        let taken = ip(&["-o", "-4", "address"]).unwrap();
        let free = |base: &String| !taken.contains(&format!(" {base}."));
        let first = std::process::id().wrapping_mul(31).wrapping_add(number);
        let base = (0..=0xffff)
            .map(|step: u32| first.wrapping_add(step))
            .map(|place| format!("10.{}.{}", 128 + (place >> 8) % 128, place % 256))
            .find(free)
            .expect("a free network");
        ip(&["link", "add", &name, "type", "bridge", "forward_delay", "0"]).unwrap();
        let network = Self::Bridge {
            name,
            base,
            hosts: AtomicU32::new(0),
        };
        let Self::Bridge { name, base, .. } = &network else {
            unreachable!()
        };
        ip(&["address", "add", &format!("{base}.1/24"), "dev", name]).unwrap();
        ip(&["link", "set", name, "up"]).unwrap();
        network
    }

    /// An address of this machine that every process can reach.
    pub fn gateway(&self) -> String {
        match self {
            Self::Bridge { base, .. } => format!("{base}.1"),
            Self::Loopback => "127.0.0.1".to_owned(),
        }
    }

    /// Whether processes can be cut off; a test that needs it says that it is skipped.
    pub fn can_cut(&self) -> bool {
        let can = matches!(self, Self::Bridge { .. });
        if !can {
            skip("network namespaces (root and ip)");
        }
        can
    }

    /// A place for one more process.
    pub fn host(&self) -> Host {
        let Self::Bridge { name, base, hosts } = self else {
            return Host {
                ip: "127.0.0.1".to_owned(),
                inside: None,
            };
        };
        let number = hosts.fetch_add(1, Ordering::Relaxed);
        let namespace = namespace(name, number);
        let cable = format!("{name}-{number}");
        let address = format!("{base}.{}", 11 + number);
        ip(&["netns", "add", &namespace]).unwrap();
        let host = Host {
            ip: address,
            inside: Some((namespace.clone(), cable.clone())),
        };
        ip(&[
            "link", "add", &cable, "type", "veth", "peer", "name", "eth0", "netns", &namespace,
        ])
        .unwrap();
        ip(&["link", "set", &cable, "master", name, "up"]).unwrap();
        let inside = |args: &[&str]| ip(&[&["-n", &namespace], args].concat()).unwrap();
        inside(&["address", "add", &format!("{}/24", host.ip), "dev", "eth0"]);
        inside(&["link", "set", "eth0", "up"]);
        inside(&["link", "set", "lo", "up"]);
        host
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Self::Bridge { name, hosts, .. } = self {
            for number in 0..hosts.load(Ordering::Relaxed) {
                // Its cable goes with it.
                let _ = ip(&["netns", "del", &namespace(name, number)]);
            }
            let _ = ip(&["link", "del", name]);
        }
    }
}

impl Host {
    /// A command that runs a program in this place; the process is the program itself.
    pub fn command(&self, program: &str) -> Command {
        let Some((namespace, _)) = &self.inside else {
            return Command::new(program);
        };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", namespace, program]);
        command
    }

    /// A port for it: the same for all that have addresses of their own.
    pub fn port(&self, fixed: u16) -> u16 {
        if self.inside.is_some() {
            fixed
        } else {
            free_port()
        }
    }

    /// Pulls the cable: nothing goes out or comes in, and nobody is told.
    pub fn cut(&self) {
        self.plug("down");
    }

    pub fn heal(&self) {
        self.plug("up");
    }

    fn plug(&self, how: &str) {
        let (_, cable) = self.inside.as_ref().expect("a network of its own");
        ip(&["link", "set", cable, how]).unwrap();
        let state = ip(&["-o", "link", "show", cable]).unwrap();
        assert_eq!(state.contains(",UP"), how == "up", "{state}");
    }
}
