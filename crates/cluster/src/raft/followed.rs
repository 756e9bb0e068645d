//! Log entries as observers are sent them: commands as they were encoded.

use std::io;

use bytes::Bytes;
use openraft::EntryPayload;

use crate::raft::codec;
use crate::raft::log_store::LogStore;

impl LogStore {
    /// Commands of the entries from `start` to `end`, at least one entry and about `max_bytes`; `None`
    /// for an entry that holds none. The caller knows that they are committed. Blocks.
    ///
    /// # Errors
    /// The disk's, and when they are not in the log any more.
    pub(crate) fn read_commands(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<Option<Bytes>>> {
        if start < self.begin() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("entry {start} was purged"),
            ));
        }
        let entries = self.read_encoded(start, end, max_bytes)?;
        entries
            .into_iter()
            .map(|entry| {
                Ok(match codec::decode_entry(entry)?.payload {
                    EntryPayload::Normal(proposal) => Some(proposal.encoded().clone()),
                    EntryPayload::Blank | EntryPayload::Membership(_) => None,
                })
            })
            .collect()
    }
}
