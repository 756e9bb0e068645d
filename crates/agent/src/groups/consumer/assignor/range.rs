//! The range assignor.

use alluvium_metadata::Partitions;

use super::{Counts, Subscriber, give};

pub(super) fn assign(subscribers: &[Subscriber<'_>], counts: &Counts) -> Vec<Partitions> {
    let mut targets = vec![Partitions::new(); subscribers.len()];
    for (topic, count) in counts {
        let mut readers: Vec<usize> = (0..subscribers.len())
            .filter(|reader| subscribers[*reader].topics.contains(topic))
            .collect();
        if readers.is_empty() {
            continue;
        }
        readers.sort_by_key(|reader| subscribers[*reader].name);
        let count = usize::try_from(*count).unwrap_or(0);
        let (each, one_more) = (count / readers.len(), count % readers.len());
        let lengths = (0..readers.len()).map(|place| each + usize::from(place < one_more));
        let mut partitions = 0..i32::try_from(count).unwrap_or(0);
        for (reader, length) in readers.into_iter().zip(lengths) {
            for partition in partitions.by_ref().take(length) {
                give(&mut targets[reader], *topic, partition);
            }
        }
    }
    targets
}
