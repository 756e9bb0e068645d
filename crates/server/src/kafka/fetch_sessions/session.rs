//! One session: the partitions a client reads, and what it was last told of each.

use std::collections::{BTreeMap, HashMap};

use alluvium_protocol::fetch::{FetchPartition, FetchedPartition};
use alluvium_protocol::messages::StrBytes;
use alluvium_protocol::produce::TopicRef;
use alluvium_types::{ErrorCode, Offset, PartitionIndex};

type Key = (TopicRef, PartitionIndex);

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    /// Topics are named by id; this cannot change within a session.
    pub(super) by_id: bool,
    /// Of the request that comes next.
    pub(super) epoch: i32,
    places: HashMap<Key, u64>,
    /// In the order in which they are read. A partition that gave records goes to the end, so that
    /// a busy one does not starve those behind it.
    order: BTreeMap<u64, Known>,
    next_place: u64,
}

#[derive(Debug)]
struct Known {
    asked: FetchPartition,
    /// What the client was told; -1 makes sure that it is told again.
    high_watermark: Offset,
    last_stable_offset: Offset,
    log_start: Offset,
}

impl Session {
    /// A session of a full request and its answer.
    pub(super) fn new(
        by_id: bool,
        asked: Vec<FetchPartition>,
        answered: &[FetchedPartition],
    ) -> Self {
        let mut session = Self {
            by_id,
            epoch: 1,
            places: HashMap::new(),
            order: BTreeMap::new(),
            next_place: 0,
        };
        session.update(asked, &[]);
        for answer in answered {
            if let Some(place) = session
                .places
                .get(&(answer.topic.clone(), answer.partition))
                && let Some(known) = session.order.get_mut(place)
            {
                known.told(answer);
            }
        }
        session
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Adds and changes `asked`, takes out `forgotten`.
    pub(super) fn update(
        &mut self,
        asked: Vec<FetchPartition>,
        forgotten: &[(TopicRef, PartitionIndex)],
    ) {
        for mut asked in asked {
            if let Some(place) = self.places.get(&(asked.topic.clone(), asked.partition)) {
                if let Some(known) = self.order.get_mut(place) {
                    asked.topic = known.asked.topic.clone();
                    known.asked = asked;
                }
            } else {
                // The name is a slice of its request's frame, which must not live on with us.
                if let TopicRef::Name(name) = &asked.topic {
                    asked.topic = TopicRef::Name(StrBytes::from(name.as_str()));
                }
                let place = self.next_place;
                self.next_place += 1;
                self.places
                    .insert((asked.topic.clone(), asked.partition), place);
                self.order.insert(
                    place,
                    Known {
                        asked,
                        high_watermark: -1,
                        last_stable_offset: -1,
                        log_start: -1,
                    },
                );
            }
        }
        for key in forgotten {
            if let Some(place) = self.places.remove(key) {
                self.order.remove(&place);
            }
        }
    }

    /// Everything that the session reads, in order.
    pub(super) fn partitions(&self) -> Vec<FetchPartition> {
        self.order
            .values()
            .map(|known| known.asked.clone())
            .collect()
    }

    /// Takes out of an answer what the client knows already, and remembers the rest as told.
    pub(super) fn keep_changes(&mut self, answers: &mut Vec<FetchedPartition>) {
        answers.retain(|answer| {
            let key = (answer.topic.clone(), answer.partition);
            let Some(place) = self.places.get_mut(&key) else {
                return true;
            };
            let Some(mut known) = self.order.remove(place) else {
                return true;
            };
            let has_records = !answer.records.is_empty();
            let is_news = has_records
                || answer.error != ErrorCode::None
                || answer.preferred_read_replica >= 0
                || answer.high_watermark != known.high_watermark
                || answer.last_stable_offset != known.last_stable_offset
                || answer.log_start != known.log_start;
            known.told(answer);
            if has_records {
                *place = self.next_place;
                self.next_place += 1;
            }
            self.order.insert(*place, known);
            is_news
        });
    }
}

impl Known {
    fn told(&mut self, answer: &FetchedPartition) {
        let failed = answer.error != ErrorCode::None;
        self.high_watermark = if failed { -1 } else { answer.high_watermark };
        self.last_stable_offset = answer.last_stable_offset;
        self.log_start = answer.log_start;
    }
}
