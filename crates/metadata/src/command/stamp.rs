//! What the state machine is told of a batch.

use serde::{Deserialize, Serialize};

use alluvium_types::{Millis, ProducerId};

/// What the state machine must know of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStamp {
    /// Length in bytes, header included.
    pub bytes: u32,
    /// Offsets it takes: last offset delta + 1.
    pub records: u32,
    /// Its greatest record timestamp.
    pub max_timestamp: Millis,
    /// Its idempotent producer.
    pub producer: Option<ProducerStamp>,
}

/// Idempotence fields of a batch (KIP-98).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "StoredStamp", into = "StoredStamp")]
pub struct ProducerStamp {
    /// Producer id.
    pub id: ProducerId,
    /// Producer epoch.
    pub epoch: i16,
    /// Sequence of the first record; wraps at `i32::MAX`.
    pub base_sequence: i32,
    /// Whether it is part of a transaction.
    pub transaction: InTransaction,
}

/// Whether a batch is part of a transaction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum InTransaction {
    /// It is not.
    #[default]
    No,
    /// It is, and its partition was added to the transaction before (KIP-98).
    Added,
    /// It is, and adds its partition by itself (KIP-890).
    Joins,
}

/// As a stamp is written. Sequence and epoch are never negative, so their complements say that the
/// batch is part of a transaction: that of the sequence always, that of the epoch when it joins.
/// Stamps from before there were transactions read as what they are. One that cannot be true, because
/// either is negative, is written with an epoch of -1, and refused as before.
#[derive(Serialize, Deserialize)]
struct StoredStamp {
    id: ProducerId,
    epoch: i16,
    base_sequence: i32,
}

impl From<StoredStamp> for ProducerStamp {
    fn from(stored: StoredStamp) -> Self {
        let StoredStamp {
            id,
            epoch,
            base_sequence,
        } = stored;
        let (epoch, base_sequence, transaction) = match (epoch < 0, base_sequence < 0) {
            (_, false) => (epoch, base_sequence, InTransaction::No),
            (false, true) => (epoch, !base_sequence, InTransaction::Added),
            (true, true) => (!epoch, !base_sequence, InTransaction::Joins),
        };
        Self {
            id,
            epoch,
            base_sequence,
            transaction,
        }
    }
}

impl From<ProducerStamp> for StoredStamp {
    fn from(stamp: ProducerStamp) -> Self {
        let ProducerStamp {
            id,
            epoch,
            base_sequence,
            transaction,
        } = stamp;
        let (epoch, base_sequence) = match transaction {
            _ if epoch < 0 || base_sequence < 0 => (-1, 0),
            InTransaction::No => (epoch, base_sequence),
            InTransaction::Added => (epoch, !base_sequence),
            InTransaction::Joins => (!epoch, !base_sequence),
        };
        Self {
            id,
            epoch,
            base_sequence,
        }
    }
}
