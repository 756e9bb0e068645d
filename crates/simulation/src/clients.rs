//! Clients: they load the cluster, never give up before their time, and note what they see.
//!
//! - `session`: a connection over which produces are pipelined. `producer`: idempotent producers. `plain`: others.
//! - `transactional`: producers of transactions, and `committed`: readers of those that were committed.
//! - `reader`: fetching. `member`: members of a group. `admin`: topics come and go; ends are asked for.

mod admin;
mod committed;
mod member;
mod plain;
mod producer;
mod reader;
mod session;
mod transactional;

use std::sync::Arc;
use std::time::Duration;

use alluvium_types::random;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::host::Host;

pub(crate) use admin::{churn, list, make_topic};
pub(crate) use committed::{follow_committed, read_all_committed};
pub(crate) use member::member;
pub(crate) use plain::produce_once;
pub(crate) use producer::produce;
pub(crate) use reader::{follow, read_all};
pub(crate) use transactional::{close_all, transact};

/// Topics that are there from the beginning: name, partitions, lane.
pub(crate) const TOPICS: [(&str, i32, &str); 3] = [
    ("auto", 2, "auto"),
    ("object", 2, "object"),
    ("inline", 1, "low-latency"),
];

/// Who a client is and when it is to stop.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) host: Host,
    pub(crate) number: u32,
    pub(crate) stop: CancellationToken,
}

impl Client {
    pub(crate) fn new(cluster: &Arc<Cluster>, number: usize, stop: &CancellationToken) -> Self {
        Self {
            cluster: Arc::clone(cluster),
            host: Host::Client(number),
            number: u32::try_from(number).unwrap_or(0),
            stop: stop.clone(),
        }
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Waits up to so many milliseconds, or until it is time to stop.
    pub(crate) async fn pause(&self, most: u64) {
        let pause = Duration::from_millis(random::range(0..=most));
        let _ = timeout(pause, self.stop.cancelled()).await;
    }

    /// The same, however late it is.
    pub(crate) async fn wait(&self, most: u64) {
        sleep(Duration::from_millis(random::range(0..=most))).await;
    }

    pub(crate) fn any_agent(&self) -> usize {
        random::range(0..self.cluster.agents.len())
    }
}
