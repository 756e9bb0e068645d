//! The uniform assignor: numbers that are even as far as subscriptions allow, each member keeping what it
//! had as far as that allows.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_metadata::Partitions;
use alluvium_types::{PartitionIndex, TopicId};

use super::{Counts, Subscriber, give};

pub(super) fn assign(subscribers: &[Subscriber<'_>], counts: &Counts) -> Vec<Partitions> {
    let alike = subscribers
        .windows(2)
        .all(|pair| pair[0].topics == pair[1].topics);
    if alike {
        among_equals(subscribers, counts)
    } else {
        among_unequals(subscribers, counts)
    }
}

/// Partitions that nobody has been given.
struct Free(BTreeMap<TopicId, BTreeSet<PartitionIndex>>);

impl Free {
    fn all(counts: &Counts, is_wanted: impl Fn(TopicId) -> bool) -> Self {
        let topics = counts.iter().filter(|(topic, _)| is_wanted(**topic));
        Self(
            topics
                .map(|(topic, count)| (*topic, (0..*count).collect()))
                .collect(),
        )
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    fn take(&mut self, topic: TopicId, partition: PartitionIndex) -> bool {
        self.0
            .get_mut(&topic)
            .is_some_and(|free| free.remove(&partition))
    }

    fn into_partitions(self) -> impl Iterator<Item = (TopicId, PartitionIndex)> {
        let topics = self.0.into_iter();
        topics.flat_map(|(topic, free)| free.into_iter().map(move |partition| (topic, partition)))
    }
}

/// All want the same topics: each gets the same number, or one more.
fn among_equals(subscribers: &[Subscriber<'_>], counts: &Counts) -> Vec<Partitions> {
    let Some(first) = subscribers.first() else {
        return Vec::new();
    };
    let mut free = Free::all(counts, |topic| first.topics.contains(&topic));
    let each = free.len() / subscribers.len();
    let mut one_more = free.len() % subscribers.len();
    let mut targets = vec![Partitions::new(); subscribers.len()];
    let mut sizes = vec![0; subscribers.len()];
    for (at, subscriber) in subscribers.iter().enumerate() {
        let had = subscriber.had.iter();
        for (topic, partition) in had.flat_map(|(topic, of)| of.iter().map(|it| (*topic, *it))) {
            let is_extra = sizes[at] == each && one_more > 0;
            if (sizes[at] < each || is_extra) && free.take(topic, partition) {
                one_more -= usize::from(is_extra);
                give(&mut targets[at], topic, partition);
                sizes[at] += 1;
            }
        }
    }
    let mut free = free.into_partitions();
    for at in 0..subscribers.len() {
        if sizes[at] < each {
            for (topic, partition) in free.by_ref().take(each - sizes[at]) {
                give(&mut targets[at], topic, partition);
                sizes[at] += 1;
            }
        }
    }
    // What is left is less than one for each.
    let not_full = (0..subscribers.len()).filter(|at| sizes[*at] == each);
    for (at, (topic, partition)) in not_full.zip(free) {
        give(&mut targets[at], topic, partition);
    }
    targets
}

/// What members want differs: everybody keeps what it had, the rest goes to whoever has least of those who
/// want it, and then partitions move for as long as that makes numbers more even.
fn among_unequals(subscribers: &[Subscriber<'_>], counts: &Counts) -> Vec<Partitions> {
    let mut readers: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
    for (at, subscriber) in subscribers.iter().enumerate() {
        for topic in &subscriber.topics {
            readers.entry(*topic).or_default().push(at);
        }
    }
    let mut free = Free::all(counts, |topic| readers.contains_key(&topic));
    let mut sizes = vec![0_usize; subscribers.len()];
    let mut owners: BTreeMap<(TopicId, PartitionIndex), usize> = BTreeMap::new();
    for (at, subscriber) in subscribers.iter().enumerate() {
        for (topic, partitions) in subscriber.had {
            if !subscriber.topics.contains(topic) {
                continue;
            }
            for partition in partitions {
                if free.take(*topic, *partition) {
                    owners.insert((*topic, *partition), at);
                    sizes[at] += 1;
                }
            }
        }
    }
    let least = |topic: &TopicId, sizes: &[usize]| {
        let of = readers.get(topic)?;
        of.iter().copied().min_by_key(|at| (sizes[*at], *at))
    };
    // Those first that few can read.
    let mut free: Vec<_> = free.into_partitions().collect();
    free.sort_by_key(|(topic, partition)| (readers[topic].len(), *topic, *partition));
    for (topic, partition) in free {
        if let Some(at) = least(&topic, &sizes) {
            owners.insert((topic, partition), at);
            sizes[at] += 1;
        }
    }
    // Each move makes the sum of squares smaller, so this ends.
    loop {
        let mut has_moved = false;
        for ((topic, _), owner) in &mut owners {
            let Some(at) = least(topic, &sizes) else {
                continue;
            };
            if sizes[*owner] > sizes[at] + 1 {
                sizes[*owner] -= 1;
                sizes[at] += 1;
                *owner = at;
                has_moved = true;
            }
        }
        if !has_moved {
            break;
        }
    }
    let mut targets = vec![Partitions::new(); subscribers.len()];
    for ((topic, partition), owner) in owners {
        give(&mut targets[owner], topic, partition);
    }
    targets
}
