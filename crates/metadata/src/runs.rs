//! Runs: stretches of a partition's offsets, and where their bytes are.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber, Millis, ObjectId, Offset};

/// A stretch of a partition's offsets that lies in one piece of one location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// First offset.
    pub base_offset: Offset,
    /// One past the last offset.
    pub end_offset: Offset,
    /// Greatest record timestamp in it. Of a gap: no more than that of any run behind it, unless
    /// timestamps go back there.
    pub max_timestamp: Millis,
    /// Bytes of its batches.
    pub length: u64,
    /// Where they are.
    pub location: RunLocation,
}

/// Where a run's batches are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RunLocation {
    /// In an object, from `position` on.
    Object {
        /// Which.
        object: ObjectId,
        /// First byte.
        position: u64,
    },
    /// Here. Exactly the run's bytes.
    Inline(Bytes),
    /// In the write-ahead buffers that [`State::journal_chunk`](crate::State::journal_chunk) names,
    /// from `position` of the chunk on.
    Journal {
        /// Which chunk.
        chunk: JournalChunkId,
        /// First byte within the chunk.
        position: u64,
    },
    /// In an object, from `position` on. The batches bear their own offsets in their headers, and
    /// some offsets of the run have no record: keys were compacted.
    Sparse {
        /// Which.
        object: ObjectId,
        /// First byte.
        position: u64,
    },
    /// No record is left at these offsets, or none was ever there: all keys were compacted away, or
    /// the chunk was lost before anybody could read it. The run's length is 0.
    Gap,
}

/// A chunk in write-ahead buffers, as [`Location::Journal`](crate::Location::Journal) names it: the
/// registration that wrote it there, and a number counted under that registration. It is not
/// [`Sequence::chunk`](crate::Sequence::chunk), which is given later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JournalChunkId {
    /// Who sealed it.
    pub agent: AgentId,
    /// Under which registration.
    pub epoch: AgentEpoch,
    /// Its number.
    pub chunk: ChunkNumber,
}

impl Run {
    /// The bytes themselves, while they are here.
    pub(crate) const fn inline(&self) -> Option<&Bytes> {
        match &self.location {
            RunLocation::Inline(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The object that holds its bytes, and the first of them.
    pub(crate) const fn object(&self) -> Option<(ObjectId, u64)> {
        match &self.location {
            RunLocation::Object { object, position } | RunLocation::Sparse { object, position } => {
                Some((*object, *position))
            }
            RunLocation::Inline(_) | RunLocation::Journal { .. } | RunLocation::Gap => None,
        }
    }

    /// The chunk that holds its bytes, while they are in write-ahead buffers.
    pub(crate) const fn journal(&self) -> Option<JournalChunkId> {
        match &self.location {
            RunLocation::Journal { chunk, .. } => Some(*chunk),
            _ => None,
        }
    }

    pub(crate) const fn is_gap(&self) -> bool {
        matches!(self.location, RunLocation::Gap)
    }

    /// Whether its bytes wait for their object.
    pub(crate) const fn is_unsettled(&self) -> bool {
        matches!(
            self.location,
            RunLocation::Inline(_) | RunLocation::Journal { .. }
        )
    }

    /// Whether `next` continues this run: it lies right behind it in the same object and in the same
    /// way, or both hold nothing.
    pub(crate) fn is_followed_by(&self, next: &Self) -> bool {
        let same_kind = match (&self.location, &next.location) {
            (RunLocation::Object { .. }, RunLocation::Object { .. })
            | (RunLocation::Sparse { .. }, RunLocation::Sparse { .. }) => {
                let end = self
                    .object()
                    .and_then(|(object, start)| Some((object, start.checked_add(self.length)?)));
                end.is_some() && end == next.object()
            }
            (RunLocation::Gap, RunLocation::Gap) => true,
            _ => false,
        };
        same_kind && self.end_offset == next.base_offset
    }

    pub(crate) fn extend(&mut self, next: &Self) {
        self.end_offset = next.end_offset;
        self.max_timestamp = self.max_timestamp.max(next.max_timestamp);
        self.length = self.length.saturating_add(next.length);
    }
}
