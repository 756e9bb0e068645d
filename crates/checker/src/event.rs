//! What clients do and see.

use std::fmt;

use serde::{Deserialize, Serialize};

use alluvium_types::{Offset, PartitionIndex};

/// Microseconds since the history began, by the observer's monotonic clock (virtual in a simulation).
pub type Micros = u64;

/// A record: which writer's, and its number. A writer's numbers rise in the order in which it sent
/// them to a partition. A writer is one idempotent producer identity: who gets another producer id is
/// another writer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordId(pub u32, pub u64);

impl RecordId {
    /// Most writers of a history.
    pub const WRITERS: u32 = 1 << 22;
    /// Most records of a writer.
    pub const NUMBERS: u64 = 1 << 39;

    /// Reads what `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (writer, number) = text.strip_prefix('w')?.split_once('-')?;
        let id = Self(writer.parse().ok()?, number.parse().ok()?);
        (id.0 < Self::WRITERS && id.1 < Self::NUMBERS).then_some(id)
    }
}

impl fmt::Display for RecordId {
    /// `w3-17`: a record's value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "w{}-{}", self.0, self.1)
    }
}

impl fmt::Debug for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A partition of a topic. A topic that is deleted and made again needs another name here.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The topic.
    pub topic: String,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl Place {
    /// Names a partition.
    #[must_use]
    pub fn new(topic: &str, partition: PartitionIndex) -> Self {
        Self {
            topic: topic.to_owned(),
            partition,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// Where.
    pub offset: Offset,
    /// Which; nothing where its value is none that a writer of this history makes.
    pub record: Option<RecordId>,
}

/// One line of a history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When the observer noted it; for an answer, when it arrived.
    pub at: Micros,
    /// Whose it is: producers, readers and members are numbered together.
    pub client: u32,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A batch is about to be sent for the first time.
    ProduceInvoked {
        /// Names this batch in later events; unique in the history.
        op: u64,
        /// Where to.
        #[serde(flatten)]
        place: Place,
        /// The writer; see [`RecordId`].
        writer: u32,
        /// The number of its first record; the others follow.
        first: u64,
        /// How many records.
        count: u32,
        /// Kafka's producer id, for people.
        producer: i64,
        /// Kafka's sequence of the first record, for people.
        sequence: i32,
    },
    /// It was acknowledged by all.
    ProduceAcked {
        /// Which.
        op: u64,
        /// The offset of its first record.
        offset: Offset,
    },
    /// From here on this writer asks one agent alone to keep its records (acks=1): when that was away
    /// in between, they may come behind others that were sent later, or twice.
    WritesAlone {
        /// Which.
        writer: u32,
    },
    /// It was acknowledged by one agent alone (acks=1). It may not be gone in the end unless that
    /// agent's disk is (since it was sent), and unless nobody has read it; its offset may be another.
    ProduceKept {
        /// Which.
        op: u64,
        /// The agent's machine.
        keeper: String,
    },
    /// A machine's disk is gone, and with it what only it had kept.
    DiskLost {
        /// The machine.
        keeper: String,
    },
    /// It was refused in a way that means: not stored, and never will be.
    ProduceFailed {
        /// Which.
        op: u64,
    },
    /// It was given up; it may be stored, now or later.
    ProduceUnknown {
        /// Which.
        op: u64,
    },
    /// A fetch was answered.
    Fetched {
        /// Which partition.
        #[serde(flatten)]
        place: Place,
        /// The connection it came over: high watermarks may not go back on one.
        session: u64,
        /// The offset asked for; records below it were skipped by the reader.
        from: Offset,
        /// The high watermark of the answer.
        high_watermark: Offset,
        /// The log start offset of the answer.
        log_start: Offset,
        /// What came.
        records: Vec<Read>,
        /// Part of the last reading of everything, after the cluster has healed.
        #[serde(default)]
        last: bool,
    },
    /// A batch that was invoked is part of a transaction.
    Joined {
        /// Which transaction; unique in the history.
        transaction: u64,
        /// Which batch.
        op: u64,
    },
    /// A transaction has ended, as its producer was told. Before it commits all its batches are
    /// acknowledged. One without this may be committed or aborted, or open still.
    Ended {
        /// Which.
        transaction: u64,
        /// Committed, or aborted.
        committed: bool,
    },
    /// A fetch for committed records alone was answered.
    FetchedCommitted {
        /// Which partition.
        #[serde(flatten)]
        place: Place,
        /// The connection it came over: last stable offsets may not go back on one.
        session: u64,
        /// The offset asked for.
        from: Offset,
        /// The offset from which the next fetch goes on.
        next: Offset,
        /// The last stable offset of the answer.
        last_stable_offset: Offset,
        /// What came, without the records of aborted transactions.
        records: Vec<Read>,
        /// Part of the last reading of everything, after all transactions have ended.
        #[serde(default)]
        last: bool,
    },
    /// `ListOffsets` for the latest offset was answered.
    Listed {
        /// Which partition.
        #[serde(flatten)]
        place: Place,
        /// When it was asked.
        asked: Micros,
        /// The answer: the end of the log.
        offset: Offset,
    },
    /// A group's offset was committed and acknowledged. Members never commit below what they found
    /// committed.
    Committed {
        /// The group.
        group: String,
        /// The partition.
        #[serde(flatten)]
        place: Place,
        /// What was committed.
        offset: Offset,
    },
    /// A group's committed offset was asked for and answered.
    CommitFetched {
        /// The group.
        group: String,
        /// The partition.
        #[serde(flatten)]
        place: Place,
        /// When it was asked.
        asked: Micros,
        /// The answer; nothing where there is no commit.
        offset: Option<Offset>,
    },
    /// A member of a group was given partitions.
    Assigned {
        /// The group.
        group: String,
        /// The generation.
        generation: i32,
        /// The member's id.
        member: String,
        /// Its partitions.
        places: Vec<Place>,
    },
    /// Something that happened to the cluster: for people, not judged.
    Note {
        /// What.
        text: String,
    },
}
