//! A state that arrives in pieces.

use bytes::Bytes;

use alluvium_metadata::State;
use alluvium_storage::blocking;

use crate::checkpoint::{Checkpoint, LogPosition};
use crate::view::Current;

/// Bytes of a state; no cluster comes near it.
const MAX_BYTES: u64 = 8 << 30;

/// What has come so far.
#[derive(Debug)]
pub(super) struct Arriving {
    next_index: u64,
    length: u64,
    /// Grows with what comes, whatever was announced.
    bytes: Vec<u8>,
}

impl Arriving {
    pub(super) fn new(next_index: u64, length: u64) -> Result<Self, String> {
        if length == 0 || length > MAX_BYTES || next_index == 0 {
            return Err(format!("announced a snapshot of {length} bytes"));
        }
        Ok(Self {
            next_index,
            length,
            bytes: Vec::new(),
        })
    }

    /// Takes the next piece; whether all are here.
    pub(super) fn add(&mut self, piece: &Bytes) -> Result<bool, String> {
        let so_far = self.bytes.len().saturating_add(piece.len());
        let so_far = u64::try_from(so_far).unwrap_or(u64::MAX);
        if piece.is_empty() || so_far > self.length {
            return Err(format!(
                "sent {so_far} bytes of a snapshot of {}",
                self.length
            ));
        }
        self.bytes.extend_from_slice(piece);
        Ok(so_far == self.length)
    }

    /// Reads the whole; its checksum tells whether it is as it was sent.
    pub(super) async fn open(self) -> Result<Current, String> {
        let Self {
            next_index, bytes, ..
        } = self;
        let read = blocking(move || State::from_snapshot(&bytes));
        let state = read
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        let last = LogPosition {
            term: 0,
            leader: 0,
            index: next_index.saturating_sub(1),
        };
        Ok(Current {
            state,
            checkpoint: Checkpoint {
                last: Some(last),
                ..Checkpoint::default()
            },
        })
    }
}
