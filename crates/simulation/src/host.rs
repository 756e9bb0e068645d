//! Machines and the processes on them.

use std::fmt;
use std::future::pending;

use tokio_util::sync::CancellationToken;

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    /// Runs a metadata node.
    Metadata(usize),
    /// Runs an agent.
    Agent(usize),
    /// Runs clients.
    Client(usize),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metadata(n) => write!(f, "m{n}"),
            Self::Agent(n) => write!(f, "a{n}"),
            Self::Client(n) => write!(f, "c{n}"),
        }
    }
}

/// A process's way to the world. Once the process is killed nothing comes out of it any more, and
/// what its tasks still ask for is never answered.
#[derive(Clone, Debug)]
pub(crate) struct Port {
    pub(crate) host: Host,
    killed: CancellationToken,
}

impl Port {
    pub(crate) fn new(host: Host) -> Self {
        Self {
            host,
            killed: CancellationToken::new(),
        }
    }

    pub(crate) fn kill(&self) {
        self.killed.cancel();
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.killed.is_cancelled()
    }

    pub(crate) async fn killed(&self) {
        self.killed.cancelled().await;
    }

    /// Goes on while the process lives; else never.
    pub(crate) async fn check(&self) {
        if self.is_dead() {
            pending::<()>().await;
        }
    }

    /// What a task of the process waits for, as long as the process lives.
    pub(crate) async fn living<T>(&self, wait: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.killed() => None,
            answer = wait => Some(answer),
        }
    }
}
