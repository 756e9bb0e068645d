//! The log as the archiver sees it.

use std::fmt;
use std::io;

use async_trait::async_trait;
use bytes::Bytes;

use alluvium_storage::blocking;

use crate::raft::{LogStore, Voter};

/// A voter's log.
#[async_trait]
pub(crate) trait Source: fmt::Debug + Send + Sync + 'static {
    /// Whether this voter leads, as far as it knows.
    fn leads(&self) -> bool;

    /// Index of the first entry that the log still has.
    fn begin(&self) -> u64;

    /// Entries of `start..end`, which were committed, as they lie in the log: at least one, about
    /// `max_bytes`.
    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Bytes>>;
}

/// The voter in this process.
#[derive(Clone, Debug)]
pub(crate) struct VoterSource {
    log: LogStore,
    voter: Voter,
}

impl VoterSource {
    pub(crate) fn new(log: LogStore, voter: Voter) -> Self {
        Self { log, voter }
    }
}

#[async_trait]
impl Source for VoterSource {
    fn leads(&self) -> bool {
        self.voter.standing().leads()
    }

    fn begin(&self) -> u64 {
        self.log.begin()
    }

    async fn read(&self, start: u64, end: u64, max_bytes: usize) -> io::Result<Vec<Bytes>> {
        let log = self.log.clone();
        blocking(move || log.read_encoded(start, end, max_bytes)).await?
    }
}
