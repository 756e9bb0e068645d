//! Identifiers. Each is a plain value; none is interpreted outside the crate that issues it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Position of a record within a partition. Never negative once assigned.
pub type Offset = i64;

/// Index of a partition within its topic, from 0 (Kafka's `int32`).
pub type PartitionIndex = i32;

/// Kafka's producer id (KIP-98). Negative means "none".
pub type ProducerId = i64;

/// A topic's identity for its whole life (KIP-516). A topic deleted and created again under the
/// same name has another id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// The id that Kafka reads as "no topic id".
    pub const ZERO: Self = Self([0; 16]);

    /// Builds an id from random bits, avoiding the values that Kafka reserves.
    #[must_use]
    pub fn from_random(bits: u128) -> Self {
        // Version 4, RFC 4122 variant, as Kafka's own `Uuid.randomUuid` makes them.
        let mut bytes = bits.to_be_bytes();
        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        Self(bytes)
    }
}

const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl fmt::Display for TopicId {
    /// Prints the id as Kafka's tools do: unpadded URL-safe base64, 22 characters.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = u128::from_be_bytes(self.0);
        for digit in 0..22u32 {
            // 128 bits are 21 digits of six bits and a last one of two, padded on the right.
            let shift = 122i32 - 6 * i32::try_from(digit).unwrap_or(0);
            let bits = if shift >= 0 {
                value >> shift
            } else {
                value << -shift
            };
            let index = usize::try_from(bits & 0x3f).unwrap_or(0);
            write!(f, "{}", char::from(BASE64_URL[index]))?;
        }
        Ok(())
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition within it.
    pub partition: PartitionIndex,
}

impl TopicPartition {
    /// Names a partition of a topic.
    #[must_use]
    pub const fn new(topic: TopicId, partition: PartitionIndex) -> Self {
        Self { topic, partition }
    }
}

/// An agent's number in the cluster; it is the node id that Kafka clients see.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
pub struct AgentId(pub i32);

impl fmt::Display for AgentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the registrations of one agent id; a command that carries an older epoch is fenced.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
pub struct AgentEpoch(pub u64);

/// Numbers the chunks of one agent epoch in the order in which they were sealed, from 1.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default,
)]
pub struct ChunkNumber(pub u64);

/// Names an object of the bucket. 128 random bits, so that keys spread over the store's prefixes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
pub struct ObjectId(pub u128);

impl fmt::Display for ObjectId {
    /// 32 lower-case hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({self})")
    }
}

impl FromStr for ObjectId {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_ids_print_as_kafka_prints_them() {
        assert_eq!(TopicId::ZERO.to_string(), "AAAAAAAAAAAAAAAAAAAAAA");
        let bytes: [u8; 16] = core::array::from_fn(|i| u8::try_from(i).unwrap());
        assert_eq!(TopicId(bytes).to_string(), "AAECAwQFBgcICQoLDA0ODw");
    }

    #[test]
    fn object_ids_round_trip_through_text() {
        let id = ObjectId(0x0123_4567_89ab_cdef_0011_2233_4455_6677);
        assert_eq!(id.to_string().parse::<ObjectId>(), Ok(id));
    }
}
