//! Assignors: who is to read what, decided by the coordinator (KIP-848). An assignor sees all members with
//! what they subscribe to and had so far, and gives every partition to one subscriber.

mod range;
mod uniform;

use std::collections::{BTreeMap, BTreeSet};

use alluvium_metadata::Partitions;
use alluvium_types::{PartitionIndex, TopicId};

/// How many partitions each topic has.
pub(crate) type Counts = BTreeMap<TopicId, PartitionIndex>;

/// The assignors that Kafka's brokers have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Assignor {
    /// Even numbers of partitions, and as little change as possible.
    Uniform,
    /// Of each topic a stretch for each member, the same one of topics that look alike.
    Range,
}

impl Assignor {
    pub(crate) const ALL: [Self; 2] = [Self::Uniform, Self::Range];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// By its name, or that of Kafka's class.
    pub(crate) fn by_name(name: &str) -> Option<Self> {
        let short = name.rsplit('.').next().unwrap_or(name);
        Self::ALL.into_iter().find(|assignor| match assignor {
            Self::Uniform => name == "uniform" || short == "UniformAssignor",
            Self::Range => name == "range" || short == "RangeAssignor",
        })
    }

    /// Targets for all subscribers, in their order.
    pub(crate) fn assign(self, subscribers: &[Subscriber<'_>], counts: &Counts) -> Vec<Partitions> {
        match self {
            Self::Uniform => uniform::assign(subscribers, counts),
            Self::Range => range::assign(subscribers, counts),
        }
    }
}

/// What an assignor knows of a member.
#[derive(Debug)]
pub(crate) struct Subscriber<'a> {
    /// Its static id, or its id: what it is told by across restarts.
    pub(crate) name: &'a str,
    /// The topics that it wants, of those that there are.
    pub(crate) topics: BTreeSet<TopicId>,
    /// What it was to have so far.
    pub(crate) had: &'a Partitions,
}

pub(crate) fn give(to: &mut Partitions, topic: TopicId, partition: PartitionIndex) {
    to.entry(topic).or_default().insert(partition);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn topic(number: u8) -> TopicId {
        TopicId([number; 16])
    }

    fn size(target: &Partitions) -> usize {
        target.values().map(BTreeSet::len).sum()
    }

    fn run(
        assignor: Assignor,
        wants: &[BTreeSet<TopicId>],
        had: &[Partitions],
        counts: &Counts,
    ) -> Vec<Partitions> {
        let names: Vec<String> = (0..wants.len()).map(|n| format!("m{n:03}")).collect();
        let subscribers: Vec<Subscriber<'_>> = wants
            .iter()
            .zip(had)
            .zip(&names)
            .map(|((topics, had), name)| Subscriber {
                name,
                topics: topics.clone(),
                had,
            })
            .collect();
        assignor.assign(&subscribers, counts)
    }

    #[test]
    fn range_gives_topics_that_look_alike_the_same_stretches() {
        let counts = Counts::from([(topic(1), 5), (topic(2), 5)]);
        let wants = vec![counts.keys().copied().collect::<BTreeSet<_>>(); 2];
        let had = vec![Partitions::new(); 2];
        let targets = run(Assignor::Range, &wants, &had, &counts);
        for number in [1, 2] {
            assert_eq!(targets[0][&topic(number)], [0, 1, 2].into());
            assert_eq!(targets[1][&topic(number)], [3, 4].into());
        }
    }

    #[test]
    fn uniform_moves_no_more_than_it_must() {
        let counts = Counts::from([(topic(1), 6)]);
        let wants = |members| vec![BTreeSet::from([topic(1)]); members];
        let first = run(
            Assignor::Uniform,
            &wants(2),
            &vec![Partitions::new(); 2],
            &counts,
        );
        let mut had = first.clone();
        had.push(Partitions::new());
        let second = run(Assignor::Uniform, &wants(3), &had, &counts);
        for (before, after) in first.iter().zip(&second) {
            assert!(after[&topic(1)].is_subset(&before[&topic(1)]));
        }
        assert!(second.iter().all(|target| size(target) == 2));
    }

    #[test]
    fn assignors_are_known_by_their_names_and_those_of_kafkas_classes() {
        let class = "org.apache.kafka.coordinator.group.assignor.RangeAssignor";
        assert_eq!(Assignor::by_name(class), Some(Assignor::Range));
        assert_eq!(Assignor::by_name("uniform"), Some(Assignor::Uniform));
        assert_eq!(Assignor::by_name("Uniform"), None);
    }

    proptest! {
        #[test]
        fn every_partition_has_one_reader_who_wants_it_and_numbers_are_even(
            counts in prop::collection::btree_map((1u8..6).prop_map(topic), 1i32..9, 1..5),
            wants in prop::collection::vec(prop::collection::btree_set((1u8..6).prop_map(topic), 0..5), 1..7),
            had in prop::collection::vec((1u8..7, 0i32..10, 0usize..7), 0..20),
            alike in any::<bool>(),
            uniform in any::<bool>(),
        ) {
            let wants: Vec<BTreeSet<TopicId>> = wants
                .iter()
                .map(|topics| if alike { &wants[0] } else { topics })
                .map(|topics| topics.iter().filter(|it| counts.contains_key(it)).copied().collect())
                .collect();
            let mut owned = vec![Partitions::new(); wants.len()];
            for (number, partition, member) in had {
                let of = member % wants.len();
                give(&mut owned[of], topic(number), partition);
            }
            let assignor = if uniform { Assignor::Uniform } else { Assignor::Range };
            let targets = run(assignor, &wants, &owned, &counts);
            for (target, wanted) in targets.iter().zip(&wants) {
                prop_assert!(target.keys().all(|topic| wanted.contains(topic)));
            }
            for (topic, count) in &counts {
                let is_wanted = wants.iter().any(|topics| topics.contains(topic));
                for partition in 0..*count {
                    let readers = targets
                        .iter()
                        .filter(|target| target.get(topic).is_some_and(|it| it.contains(&partition)));
                    prop_assert_eq!(readers.count(), usize::from(is_wanted));
                }
            }
            let given: usize = targets.iter().map(size).sum();
            let there: usize = counts
                .iter()
                .filter(|(topic, _)| wants.iter().any(|topics| topics.contains(topic)))
                .map(|(_, count)| usize::try_from(*count).unwrap())
                .sum();
            prop_assert_eq!(given, there);
            if uniform {
                // Nobody could give a partition away and both be nearer to the mean.
                for (rich, target) in targets.iter().enumerate() {
                    for (poor, wanted) in wants.iter().enumerate() {
                        let could = target.keys().any(|topic| wanted.contains(topic));
                        prop_assert!(
                            !could || size(target) <= size(&targets[poor]) + 1,
                            "{} could give to {}: {:?}", rich, poor, targets
                        );
                    }
                }
            }
        }
    }
}
