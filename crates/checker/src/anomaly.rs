//! What is wrong with a history.

use std::fmt;

use serde::Serialize;

use alluvium_types::Offset;

use crate::event::{Entry, Event, Place, RecordId};

/// Most anomalies that are kept; more are counted.
const KEPT: usize = 100;

/// A way in which a log may not behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A record that was acknowledged is not there in the end.
    Lost,
    /// A record that a reader saw is not there in the end.
    Vanished,
    /// A record is there twice.
    Duplicated,
    /// A writer's records are not in the order in which it sent them.
    Reordered,
    /// A record is elsewhere than its acknowledgement or an earlier reader said.
    SecondOffset,
    /// Two records were said to be at one offset.
    OffsetGivenTwice,
    /// A high watermark went back on one connection, or ended below one that was seen.
    HighWatermarkBack,
    /// A record was read at or above the answer's own high watermark.
    ReadPastHighWatermark,
    /// The end of the log was said to be below what was known before it was asked for.
    StaleListOffsets,
    /// A committed offset was found below one whose commit was acknowledged before.
    CommitBack,
    /// Two members own a partition in one generation.
    TwoOwners,
    /// A reader was led past a record that is there.
    Skipped,
    /// A record is there that nobody sent there, or whose sending was refused.
    Phantom,
    /// A record of an aborted transaction was given to a reader of committed ones.
    Uncommitted,
    /// Of a transaction some records are shown in the end, and others that were acknowledged are not.
    Torn,
    /// A last stable offset went back on one connection.
    StableOffsetBack,
    /// A reader of committed records was given one at or above the answer's own last stable offset.
    ReadPastStableOffset,
}

impl Kind {
    /// In a few words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Lost => "acknowledged record lost",
            Self::Vanished => "record that was read is gone",
            Self::Duplicated => "record duplicated",
            Self::Reordered => "records reordered",
            Self::SecondOffset => "second offset for a record",
            Self::OffsetGivenTwice => "offset given twice",
            Self::HighWatermarkBack => "high watermark went back",
            Self::ReadPastHighWatermark => "read past the high watermark",
            Self::StaleListOffsets => "stale ListOffsets",
            Self::CommitBack => "committed offset went back",
            Self::TwoOwners => "two owners of a partition in one generation",
            Self::Skipped => "reader was led past a record",
            Self::Phantom => "record that nobody sent",
            Self::Uncommitted => "record of an aborted transaction shown",
            Self::Torn => "half a transaction shown",
            Self::StableOffsetBack => "last stable offset went back",
            Self::ReadPastStableOffset => "read past the last stable offset",
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Anomaly {
    /// Which way.
    pub kind: Kind,
    /// Where.
    pub place: Place,
    /// At which offset, where that makes sense.
    pub offset: Option<Offset>,
    /// Which record, where that makes sense.
    pub record: Option<RecordId>,
    /// What was seen, with numbers.
    pub detail: String,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} in {}: {}",
            self.kind.words(),
            self.place,
            self.detail
        )
    }
}

impl Anomaly {
    /// Whether an entry of the history has to do with it. Answers to produces name their
    /// batch by number only: find them by the operation of those that do.
    #[must_use]
    pub fn concerns(&self, entry: &Entry) -> bool {
        let near = |offset: Offset| self.offset.is_none_or(|at| at == offset);
        match &entry.event {
            Event::Note { .. } | Event::DiskLost { .. } => true,
            Event::ProduceInvoked {
                place,
                writer,
                first,
                count,
                ..
            } => {
                *place == self.place
                    && self.record.is_some_and(|record| {
                        record.0 == *writer
                            && record.1 >= *first
                            && record.1 - first < u64::from(*count)
                    })
            }
            Event::ProduceAcked { .. }
            | Event::ProduceKept { .. }
            | Event::WritesAlone { .. }
            | Event::ProduceFailed { .. }
            | Event::ProduceUnknown { .. }
            | Event::Joined { .. }
            | Event::Ended { .. } => false,
            Event::FetchedCommitted { place, records, .. } => {
                *place == self.place
                    && (self.kind == Kind::StableOffsetBack
                        || records
                            .iter()
                            .any(|read| self.record.is_some() && read.record == self.record))
            }
            Event::Fetched { place, records, .. } => {
                *place == self.place
                    && (self.kind == Kind::HighWatermarkBack
                        || records.iter().any(|read| {
                            (self.offset.is_some() && near(read.offset))
                                || (self.record.is_some() && read.record == self.record)
                        }))
            }
            Event::Listed { place, .. } => {
                *place == self.place && self.kind == Kind::StaleListOffsets
            }
            Event::Committed { place, .. } | Event::CommitFetched { place, .. } => {
                *place == self.place && self.kind == Kind::CommitBack
            }
            Event::Assigned { places, .. } => {
                matches!(self.kind, Kind::TwoOwners | Kind::CommitBack)
                    && places.contains(&self.place)
            }
        }
    }
}

/// Anomalies as they are found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    kept: Vec<Anomaly>,
    omitted: u64,
}

impl Found {
    pub(crate) fn add(
        &mut self,
        kind: Kind,
        place: &Place,
        offset: Option<Offset>,
        record: Option<RecordId>,
        detail: String,
    ) {
        if self.is_full() {
            return self.omit();
        }
        self.kept.push(Anomaly {
            kind,
            place: place.clone(),
            offset,
            record,
            detail,
        });
    }

    pub(crate) fn is_full(&self) -> bool {
        self.kept.len() >= KEPT
    }

    pub(crate) fn omit(&mut self) {
        self.omitted += 1;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    pub(crate) fn into_verdict(self, counts: Counts) -> Verdict {
        Verdict {
            anomalies: self.kept,
            omitted: self.omitted,
            counts,
        }
    }
}

/// What a verdict is based on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Records acknowledged.
    pub acked: u64,
    /// Records whose sending was refused for good.
    pub failed: u64,
    /// Records of which it is not known whether they were stored.
    pub unknown: u64,
    /// Records read, by all readers together.
    pub read: u64,
    /// Records there in the end.
    pub there: u64,
    /// ListOffsets answered.
    pub listed: u64,
    /// Commits acknowledged.
    pub committed: u64,
}

/// What a history shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What is wrong, at most a hundred.
    pub anomalies: Vec<Anomaly>,
    /// How many more there are.
    pub omitted: u64,
    /// What was looked at.
    pub counts: Counts,
}

impl Verdict {
    /// Nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.anomalies.is_empty()
    }
}
