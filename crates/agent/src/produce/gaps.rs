//! Idempotent producers of which a batch was lost on its way.
//!
//! A client has several batches under way. When one of them cannot be stored, those behind it must
//! not be either, or they would stand before it once it is sent again; and a partition that knows
//! nothing of a producer yet takes any sequence for its first. So what follows a lost batch is
//! turned away until that batch comes again.


use tokio::time::{Duration, Instant};

use alluvium_metadata::ProducerStamp;
use alluvium_types::hash::HashMap;
use alluvium_types::{ProducerId, TopicPartition};

/// No client tries for longer (`delivery.timeout.ms` is two minutes).
const REMEMBERED: Duration = Duration::from_secs(600);

/// Most gaps that are remembered; only a store that is long away makes more than a few.
const GAPS: usize = 100_000;

/// Sequences wrap; what is less than half a circle back is before.
const HALF_CIRCLE: i32 = 1 << 30;

/// A producer in a partition.
pub(super) type Place = (TopicPartition, ProducerId);

#[derive(Debug)]
struct Gap {
    epoch: i16,
    sequence: i32,
    since: Instant,
}

/// The gaps that are open.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    open: HashMap<Place, Gap>,
}

impl Gaps {
    /// A batch was lost. The first of the sequence counts, whichever was lost first.
    pub(super) fn open(&mut self, partition: TopicPartition, stamp: &ProducerStamp, now: Instant) {
        self.open.retain(|_, gap| now < gap.since + REMEMBERED);
        let place = (partition, stamp.id);
        let known = self.open.get(&place);
        let begins_before = known.is_some_and(|gap| {
            gap.epoch > stamp.epoch
                || gap.epoch == stamp.epoch && !follows(gap.sequence, stamp.base_sequence)
        });
        if !begins_before && (known.is_some() || self.open.len() < GAPS) {
            let gap = Gap {
                epoch: stamp.epoch,
                sequence: stamp.base_sequence,
                since: now,
            };
            self.open.insert(place, gap);
        }
    }

    /// Whether a batch may go on. The one that was lost closes its gap.
    pub(super) fn admit(&mut self, partition: TopicPartition, stamp: &ProducerStamp) -> bool {
        let place = (partition, stamp.id);
        let Some(gap) = self.open.get(&place) else {
            return true;
        };
        if stamp.epoch > gap.epoch || stamp.base_sequence == gap.sequence {
            self.open.remove(&place);
            return true;
        }
        stamp.epoch < gap.epoch || !follows(stamp.base_sequence, gap.sequence)
    }

    /// Whether a batch follows one that was lost.
    pub(super) fn is_behind(&self, partition: TopicPartition, stamp: &ProducerStamp) -> bool {
        self.open.get(&(partition, stamp.id)).is_some_and(|gap| {
            stamp.epoch == gap.epoch && follows(stamp.base_sequence, gap.sequence)
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

const fn follows(sequence: i32, lost: i32) -> bool {
    let distance = sequence.wrapping_sub(lost) & i32::MAX;
    distance != 0 && distance < HALF_CIRCLE
}

#[cfg(test)]
mod tests {
    use alluvium_types::TopicId;

    use super::*;

    fn stamp(epoch: i16, base_sequence: i32) -> ProducerStamp {
        ProducerStamp {
            id: 5,
            epoch,
            base_sequence,
        }
    }

    #[test]
    fn what_follows_a_lost_batch_waits_for_it() {
        let at = TopicPartition::new(TopicId([1; 16]), 0);
        let now = Instant::now();
        let mut gaps = Gaps::default();
        gaps.open(at, &stamp(1, i32::MAX), now);
        gaps.open(at, &stamp(1, 3), now);
        assert!(gaps.is_behind(at, &stamp(1, 3)) && !gaps.admit(at, &stamp(1, 3)));
        // Sequences wrap: this one comes before.
        assert!(gaps.admit(at, &stamp(1, i32::MAX - 1)));
        let other = ProducerStamp {
            id: 6,
            ..stamp(1, 3)
        };
        assert!(gaps.admit(at, &other) && gaps.admit(at, &stamp(0, 9)));
        assert!(gaps.admit(at, &stamp(1, i32::MAX)));
        assert!(gaps.is_empty() && gaps.admit(at, &stamp(1, 3)));

        gaps.open(at, &stamp(1, 7), now);
        gaps.open(at, &stamp(1, 5), now);
        assert!(!gaps.admit(at, &stamp(1, 7)), "it would stand before 5");
        assert!(gaps.admit(at, &stamp(1, 5)) && gaps.is_empty());

        gaps.open(at, &stamp(1, 0), now);
        assert!(gaps.admit(at, &stamp(2, 0)), "a new epoch begins anew");
        gaps.open(at, &stamp(2, 0), now);
        gaps.open(
            TopicPartition::new(at.topic, 1),
            &stamp(2, 0),
            now + REMEMBERED,
        );
        assert!(gaps.admit(at, &stamp(2, 7)), "no client tries for so long");
    }
}
