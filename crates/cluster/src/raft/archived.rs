//! Log entries as the archive keeps them: encoded, as they lie in the journal.

use std::io;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::RaftLogStorage;

use alluvium_metadata::Command;

use crate::checkpoint::LogPosition;
use crate::raft::codec;
use crate::raft::log_store::LogStore;
use crate::raft::types::position;

/// Where an encoded entry stands.
pub(crate) fn entry_position(entry: &Bytes) -> io::Result<LogPosition> {
    codec::decode_entry_position(entry)
}

/// Where an encoded entry stands and the command in it; none in a blank and in one that set the
/// membership.
pub(crate) fn entry_command(entry: Bytes) -> io::Result<(LogPosition, Option<Command>)> {
    let entry = codec::decode_entry(entry)?;
    let command = match entry.payload {
        EntryPayload::Normal(proposal) => Some(proposal.into_command()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    };
    Ok((position(&entry.log_id), command))
}

impl LogStore {
    /// Whether it holds nothing and never did: its voter belonged to no quorum.
    pub(crate) async fn is_untouched(&self) -> io::Result<bool> {
        let state = self.clone().get_log_state().await?;
        Ok(state.last_log_id.is_none() && state.last_purged_log_id.is_none())
    }

    /// Entries of `start..end`, encoded: at least one, about `max_bytes`. Blocks.
    ///
    /// # Errors
    /// The disk's, and when they are not all in the log.
    pub(crate) fn read_encoded(
        &self,
        start: u64,
        end: u64,
        max_bytes: usize,
    ) -> io::Result<Vec<Bytes>> {
        let entries = self.read_raw(start, end, max_bytes)?;
        Ok(entries.into_iter().map(|(_, entry)| entry).collect())
    }
}
