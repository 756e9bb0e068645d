use super::*;
use crate::testing::{Cluster, TOPIC, appended, create, duplicate, from, part, refused};
use crate::{BatchOutcome, Command, ConfigChange, ConfigOp, ConfigTarget};
use proptest::prelude::*;

const OUT_OF_ORDER: BatchOutcome = refused(ErrorCode::OutOfOrderSequenceNumber);

#[test]
fn sequences_must_follow_one_another() {
    let mut cluster = Cluster::new(1);
    assert_eq!(
        cluster.append(&[from(1, 0, 0, 10), from(1, 0, 10, 5)]),
        [appended(0), appended(10)]
    );
    assert_eq!(cluster.append(&[from(1, 0, 16, 1)]), [OUT_OF_ORDER]);
    assert_eq!(cluster.append(&[from(1, 0, 5, 10)]), [OUT_OF_ORDER]);
    assert_eq!(cluster.append(&[from(1, 0, 15, 1)]), [appended(15)]);
    assert_eq!(cluster.partition(0).next_offset(), 16);
}

#[test]
fn a_batch_sent_again_is_answered_with_its_first_offset() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[from(1, 0, 0, 10), from(2, 0, 0, 1), from(1, 0, 10, 5)]);
    assert_eq!(
        cluster.append(&[from(1, 0, 10, 5), from(1, 0, 0, 10), from(1, 0, 15, 1)]),
        [duplicate(11), duplicate(0), appended(16)]
    );
    // Another length is not the same batch.
    assert_eq!(cluster.append(&[from(1, 0, 10, 4)]), [OUT_OF_ORDER]);
}

#[test]
fn five_batches_are_remembered_and_older_ones_known_to_be_there() {
    let mut cluster = Cluster::new(1);
    for batch in 0..7 {
        cluster.append(&[from(1, 0, batch * 10, 10)]);
    }
    assert_eq!(cluster.append(&[from(1, 0, 20, 10)]), [duplicate(20)]);
    let older = refused(ErrorCode::DuplicateSequenceNumber);
    assert_eq!(
        cluster.append(&[from(1, 0, 10, 10), from(1, 0, 0, 10)]),
        [older, older]
    );
    assert_eq!(cluster.append(&[from(1, 0, 15, 10)]), [OUT_OF_ORDER]);
}

#[test]
fn what_was_never_seen_is_not_called_a_duplicate() {
    let mut cluster = Cluster::of_0_1(1);
    // Release 0.1 let a producer of which nothing is known begin anywhere.
    for batch in 10..17 {
        cluster.append(&[from(1, 0, batch * 10, 10)]);
    }
    assert_eq!(cluster.append(&[from(1, 0, 90, 10)]), [OUT_OF_ORDER]);
    assert_eq!(
        cluster.append(&[from(1, 0, 100, 10)]),
        [refused(ErrorCode::DuplicateSequenceNumber)]
    );
}

#[test]
fn epochs_go_up_only_and_begin_at_zero() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[from(1, 3, 0, 1)]);
    assert_eq!(
        cluster.append(&[from(1, 2, 1, 1)]),
        [refused(ErrorCode::InvalidProducerEpoch)]
    );
    assert_eq!(cluster.append(&[from(1, 4, 1, 1)]), [OUT_OF_ORDER]);
    assert_eq!(
        cluster.append(&[from(1, 4, 0, 1), from(1, 4, 1, 1)]),
        [appended(1), appended(2)]
    );
    assert_eq!(
        cluster.append(&[from(1, 3, 0, 1)]),
        [refused(ErrorCode::InvalidProducerEpoch)]
    );
}

#[test]
fn after_the_greatest_sequence_comes_zero() {
    let mut cluster = Cluster::of_0_1(1);
    assert_eq!(
        cluster.append(&[from(1, 0, i32::MAX - 1, 2)]),
        [appended(0)]
    );
    assert_eq!(cluster.append(&[from(1, 0, 0, 1)]), [appended(2)]);
    let mut cluster = Cluster::of_0_1(1);
    assert_eq!(
        cluster.append(&[from(1, 0, i32::MAX - 1, 5)]),
        [appended(0)]
    );
    assert_eq!(
        cluster.append(&[from(1, 0, i32::MAX - 1, 5)]),
        [duplicate(0)]
    );
    assert_eq!(cluster.append(&[from(1, 0, 3, 1)]), [appended(5)]);
    let (_, state) = cluster.partition(0).producer_states().next().unwrap();
    assert_eq!(
        (state.epoch(), state.last_sequence(), state.batches().len()),
        (0, 3, 2)
    );
}

#[test]
fn a_new_producer_begins_with_sequence_zero() {
    let mut cluster = Cluster::new(1);
    // Its first batch was lost or is still on its way: this one must not stand before it.
    assert_eq!(
        cluster.append(&[from(1, 0, 4, 1), from(2, 0, 0, 1)]),
        [OUT_OF_ORDER, appended(0)]
    );
    assert_eq!(
        cluster.append(&[from(1, 0, 0, 4), from(1, 0, 4, 1)]),
        [appended(1), appended(5)]
    );
}

#[test]
fn once_a_producer_has_expired_an_unknown_one_up_to_it_may_be_that_one() {
    let mut cluster = Cluster::new(2);
    cluster.append(&[from(1, 0, 0, 1)]);
    cluster.at += EXPIRATION_MILLIS;
    assert_eq!(cluster.append(&[from(1, 0, 1, 1)]), [appended(1)]);
    // Ids only grow: one that is greater came later and has not been here.
    assert_eq!(
        cluster.append(&[from(0, 0, 8, 1), from(2, 0, 8, 1)]),
        [appended(2), OUT_OF_ORDER]
    );
    // Also when the memory of it was given back, and in the next process.
    cluster.at += EXPIRATION_MILLIS;
    cluster.append(&[]);
    assert_eq!(cluster.state.producers(), 0);
    cluster.state = crate::State::from_snapshot(&cluster.state.to_snapshot()).unwrap();
    assert_eq!(cluster.append(&[from(1, 0, 2, 1)]), [appended(3)]);
    // Partitions are judged each by itself.
    let location = crate::testing::object(5);
    let run = crate::testing::run(1, 0, &[from(1, 0, 3, 1)]);
    assert_eq!(cluster.sequence(location, vec![run]), [vec![OUT_OF_ORDER]]);
}

#[test]
fn an_idle_producer_is_forgotten_and_the_memory_given_back() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[from(1, 5, 0, 1), from(2, 0, 0, 1)]);
    cluster.at += EXPIRATION_MILLIS - 1;
    assert_eq!(
        cluster.append(&[from(1, 4, 0, 1)]),
        [refused(ErrorCode::InvalidProducerEpoch)]
    );
    assert_eq!(cluster.append(&[from(2, 0, 1, 1)]), [appended(2)]);
    cluster.at += 1;
    assert_eq!(cluster.append(&[from(1, 4, 9, 1)]), [appended(3)]);
    assert_eq!(cluster.append(&[from(2, 0, 5, 1)]), [OUT_OF_ORDER]);
    assert_eq!(cluster.state.producers(), 2);
    cluster.at += EXPIRATION_MILLIS;
    cluster.append(&[]);
    assert_eq!(cluster.state.producers(), 0);
    assert_eq!(cluster.state.expiries.len(), 0);
}

#[test]
fn the_cluster_may_set_when_producers_expire() {
    let mut cluster = Cluster::new(1);
    let name = "producer.id.expiration.ms".to_owned();
    let changes = vec![ConfigChange {
        name,
        op: ConfigOp::Set("10".to_owned()),
    }];
    let target = ConfigTarget::Cluster;
    cluster.apply(Command::AlterConfigs {
        target,
        replace: false,
        changes,
    });
    cluster.append(&[from(1, 5, 0, 1)]);
    cluster.at += 10;
    assert_eq!(cluster.append(&[from(1, 0, 3, 1)]), [appended(1)]);
}

#[test]
fn one_command_clears_a_bounded_number_of_producers_and_answers_as_if_all() {
    let mut cluster = Cluster::new(1);
    let many: Vec<_> = (0..200).map(|id| from(id, 5, 0, 1)).collect();
    cluster.append(&many);
    cluster.at += EXPIRATION_MILLIS;
    assert_eq!(cluster.append(&[from(199, 0, 3, 1)]), [appended(200)]);
    assert_eq!(cluster.state.producers(), 200 - 64);
    for _ in 0..3 {
        cluster.append(&[]);
    }
    assert_eq!(cluster.state.producers(), 1);
    assert_eq!(
        cluster
            .state
            .partition(part(0))
            .unwrap()
            .producer_states()
            .count(),
        1
    );
}

/// Idempotent producers written down naively: a list of everything appended.
#[derive(Default)]
struct Model {
    appended: Vec<(i64, i16, Vec<i32>, Offset)>,
    next: Offset,
    begins_at_zero: bool,
    /// When each appended last.
    last: BTreeMap<i64, Millis>,
    forgotten: Vec<i64>,
    /// How many ids were given out, and by the time the topic was made again.
    given: i64,
    given_before: i64,
}

impl Model {
    fn expire(&mut self, now: Millis) {
        let idle = |at: Millis| at + EXPIRATION_MILLIS <= now;
        let gone: Vec<i64> = self
            .last
            .keys()
            .copied()
            .filter(|id| idle(self.last[id]))
            .collect();
        for id in gone {
            self.last.remove(&id);
            self.appended.retain(|batch| batch.0 != id);
            self.forgotten.push(id);
        }
    }

    fn make_again(&mut self) {
        *self = Self {
            begins_at_zero: self.begins_at_zero,
            given: self.given,
            given_before: self.given,
            ..Self::default()
        };
    }

    fn was_never_here(&self, id: i64) -> bool {
        id >= self.given_before && self.forgotten.iter().all(|forgotten| *forgotten < id)
    }

    fn append(&mut self, id: i64, epoch: i16, first: i32, records: u32) -> BatchOutcome {
        let sequences: Vec<i32> = (0..i64::from(records))
            .map(|step| i32::try_from((i64::from(first) + step) % (1 << 31)).unwrap())
            .collect();
        let of_id: Vec<_> = self.appended.iter().filter(|batch| batch.0 == id).collect();
        let current = of_id.iter().map(|batch| batch.1).max();
        let of_epoch: Vec<_> = of_id
            .iter()
            .filter(|batch| Some(batch.1) == current && batch.1 == epoch)
            .collect();
        let remembered = &of_epoch[of_epoch.len().saturating_sub(5)..];
        let last = of_epoch.last().and_then(|batch| batch.2.last().copied());
        let next = last.map(|last| if last == i32::MAX { 0 } else { last + 1 });
        match current {
            Some(current) if epoch < current => {
                return refused(ErrorCode::InvalidProducerEpoch);
            }
            Some(current) if epoch > current && first != 0 => return OUT_OF_ORDER,
            Some(current) if epoch > current => {}
            Some(_) => {
                if let Some(same) = remembered.iter().find(|batch| batch.2 == sequences) {
                    return duplicate(same.3);
                }
                if next != Some(first) {
                    let older = &of_epoch[..of_epoch.len().saturating_sub(5)];
                    let seen: Vec<i32> = older
                        .iter()
                        .flat_map(|batch| batch.2.iter().copied())
                        .collect();
                    let known = sequences.iter().all(|sequence| seen.contains(sequence));
                    return if known {
                        refused(ErrorCode::DuplicateSequenceNumber)
                    } else {
                        OUT_OF_ORDER
                    };
                }
            }
            None if self.begins_at_zero && first != 0 && self.was_never_here(id) => {
                return OUT_OF_ORDER;
            }
            None => {}
        }
        let base_offset = self.next;
        self.next += Offset::from(records);
        self.appended.push((id, epoch, sequences, base_offset));
        appended(base_offset)
    }
}

/// Which sequence a batch begins with, seen from the producer's last one.
fn step() -> impl Strategy<Value = (i64, i16, i64, u32)> {
    let distance = prop_oneof![6 => Just(0i64), 3 => -30i64..5, 1 => Just(i64::MIN)];
    (
        0i64..3,
        prop_oneof![8 => Just(1i16), 1 => 0i16..3],
        distance,
        1u32..4,
    )
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(i64, i16, i64, u32)>),
    Wait(Millis),
    GiveId,
    MakeAgain,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let one = prop_oneof![
        20 => prop::collection::vec(step(), 1..4).prop_map(Step::Append),
        2 => (0..EXPIRATION_MILLIS * 3 / 2).prop_map(Step::Wait),
        1 => Just(Step::GiveId),
        1 => Just(Step::MakeAgain),
    ];
    prop::collection::vec(one, 1..40)
}

proptest! {
    #[test]
    fn producers_are_judged_as_by_a_naive_model(
        start in prop_oneof![Just(0i32), Just(i32::MAX - 20), 0i32..1000],
        begins_at_zero in any::<bool>(),
        steps in steps(),
    ) {
        let mut cluster = if begins_at_zero { Cluster::new(1) } else { Cluster::of_0_1(1) };
        let mut model = Model { begins_at_zero, ..Model::default() };
        let start = if begins_at_zero { 0 } else { i64::from(start) };
        let mut expected = [start; 3];
        for step in steps {
            let chunk = match step {
                Step::Append(chunk) => chunk,
                Step::Wait(millis) => {
                    cluster.at += millis;
                    continue;
                }
                Step::GiveId => {
                    cluster.apply(Command::AllocateProducerIds { count: 1 });
                    model.given += 1;
                    continue;
                }
                Step::MakeAgain => {
                    cluster.delete_topic(TOPIC);
                    cluster.apply(create("topic", TOPIC, 1));
                    model.make_again();
                    continue;
                }
            };
            model.expire(cluster.at);
            let (mut batches, mut outcomes) = (Vec::new(), Vec::new());
            for (id, epoch, distance, records) in chunk {
                let next = &mut expected[usize::try_from(id).unwrap()];
                let first = if distance == i64::MIN { 0 } else { (*next + distance).rem_euclid(1 << 31) };
                let sequence = i32::try_from(first).unwrap();
                batches.push(from(id, epoch, sequence, records));
                let outcome = model.append(id, epoch, sequence, records);
                if matches!(outcome, BatchOutcome::Appended { .. }) {
                    *next = first + i64::from(records);
                    model.last.insert(id, cluster.at);
                }
                outcomes.push(outcome);
            }
            prop_assert_eq!(cluster.append(&batches), outcomes);
        }
        prop_assert_eq!(cluster.partition(0).next_offset(), model.next);
    }
}
