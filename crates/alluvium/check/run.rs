//! What all clients of a check share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use alluvium_checker::{Place, Read, RecordId};
use alluvium_client::{Client, ClientError, Patience};
use alluvium_protocol::records::Record;

use super::recorder::Recorder;

/// What a client takes for dead, sooner than services would.
pub(super) const PATIENCE: Patience = Patience {
    connect: Duration::from_millis(1000),
    answer: Duration::from_secs(4),
};

/// Group members wait while others join.
pub(super) const MEMBER_PATIENCE: Patience = Patience {
    connect: Duration::from_millis(1000),
    answer: Duration::from_secs(20),
};

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Run {
    pub(super) recorder: Arc<Recorder>,
    pub(super) bootstrap: Arc<str>,
    pub(super) topic: Arc<str>,
    pub(super) partitions: i32,
    pub(super) group: Arc<str>,
    /// Before a record's id in its value, so that records of other runs are known for that.
    pub(super) mark: Arc<str>,
    pub(super) stop: watch::Receiver<bool>,
}

impl Run {
    pub(super) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Waits, or returns when it is time to stop.
    pub(super) async fn pause(&self, pause: Duration) {
        let mut stop = self.stop.clone();
        let stopped = stop.wait_for(|stop| *stop);
        let _ = tokio::time::timeout(pause, stopped).await;
    }

    pub(super) fn place(&self, partition: i32) -> Place {
        Place::new(&self.topic, partition)
    }

    /// Connects, however long that takes; nothing when it is time to stop.
    pub(super) async fn connect(&self, patience: Patience) -> Option<Client> {
        while !self.stopping() {
            match Client::connect_within(&self.bootstrap, patience).await {
                Ok(client) => return Some(client),
                Err(error) => self.failed("connect", &error).await,
            }
        }
        None
    }

    /// Counts an error and waits a little.
    pub(super) async fn failed(&self, what: &str, error: &ClientError) {
        self.recorder.refused(what, error);
        self.pause(Duration::from_millis(100)).await;
    }

    pub(super) fn value(&self, id: RecordId) -> String {
        format!("{}{id}", self.mark)
    }

    pub(super) fn read(&self, record: &Record) -> Read {
        let text = record
            .value
            .as_ref()
            .and_then(|v| std::str::from_utf8(v).ok());
        // What follows the id only makes the record larger.
        let id = text
            .and_then(|text| text.strip_prefix(&*self.mark))
            .and_then(|text| RecordId::parse(text.split(' ').next()?));
        Read {
            offset: record.offset,
            record: id,
        }
    }
}
