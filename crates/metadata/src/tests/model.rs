//! One partition against a naive model of its offsets: appended to in every kind of location,
//! settled, compacted, voided and cut, in any order.

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber, ObjectId, Offset};
use bytes::Bytes;
use proptest::prelude::*;

use crate::testing::{Cluster, NOW, batch, part, register, run};
use crate::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Appends batches of so many records each.
    Append {
        agent: usize,
        lane: Lane,
        batches: [u32; 2],
    },
    /// Settles so many runs from one on.
    Settle { first: usize, count: usize },
    /// Compacts so many runs from one on; of every fourth nothing is left.
    Compact {
        first: usize,
        count: usize,
        empty: usize,
    },
    /// Raises the log start to so many percent of the high watermark.
    Cut { percent: Offset },
    /// Ends an agent's registration, or lets it register again.
    Restart { agent: usize, at_once: bool },
    /// The state is written and read.
    Snapshot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lane {
    Object,
    Inline,
    Journal { stable: bool },
}

/// What an offset holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Dense,
    /// May have a record.
    Sparse,
    Nothing,
    Waiting,
    /// May vanish with this agent's registration.
    Unstable(usize),
}

fn step() -> impl Strategy<Value = Step> {
    let lane = prop_oneof![
        Just(Lane::Object),
        Just(Lane::Inline),
        any::<bool>().prop_map(|stable| Lane::Journal { stable }),
    ];
    let some = || (0usize..12, 1usize..5);
    prop_oneof![
        6 => (0usize..2, lane, [1u32..4, 1u32..4])
            .prop_map(|(agent, lane, batches)| Step::Append { agent, lane, batches }),
        4 => some().prop_map(|(first, count)| Step::Settle { first, count }),
        4 => (some(), 0usize..4)
            .prop_map(|((first, count), empty)| Step::Compact { first, count, empty }),
        1 => (0i64..=100).prop_map(|percent| Step::Cut { percent }),
        1 => (0usize..2, any::<bool>())
            .prop_map(|(agent, at_once)| Step::Restart { agent, at_once }),
        1 => Just(Step::Snapshot),
    ]
}

/// The cluster, and what it should be.
struct World {
    cluster: Cluster,
    slots: Vec<Slot>,
    log_start: Offset,
    /// Registrations and last chunks, if they last.
    agents: [Option<(AgentOrigin, u64)>; 2],
    ids: u128,
}

fn index(offset: Offset) -> usize {
    usize::try_from(offset).unwrap()
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            cluster: Cluster::new(1),
            slots: Vec::new(),
            log_start: 0,
            agents: [None, None],
            ids: 0,
        };
        world.register(0);
        world.register(1);
        world
    }

    fn register(&mut self, agent: usize) {
        let identity = u128::try_from(agent).unwrap() + 1;
        match self.cluster.apply(register(identity)) {
            Outcome::AgentRegistered(origin) => self.agents[agent] = Some((origin, 0)),
            other => panic!("{other:?}"),
        }
    }

    fn object(&mut self) -> ObjectId {
        self.ids += 1;
        ObjectId(self.ids)
    }

    fn partition(&self) -> &Partition {
        self.cluster.partition(0)
    }

    fn high_watermark(&self) -> Offset {
        let unstable = |slot: &Slot| matches!(slot, Slot::Unstable(_));
        let first = self.slots.iter().position(unstable);
        Offset::try_from(first.unwrap_or(self.slots.len())).unwrap()
    }

    fn set(&mut self, base: Offset, end: Offset, slot: Slot) {
        self.slots[index(base)..index(end)].fill(slot);
    }

    /// Some neighbouring runs.
    fn runs(&self, first: usize, count: usize) -> Vec<Run> {
        let runs: Vec<Run> = self.partition().runs().cloned().collect();
        let first = first % runs.len().max(1);
        runs.into_iter().skip(first).take(count).collect()
    }

    fn all(&self, runs: &[Run], are: impl Fn(Slot) -> bool) -> bool {
        runs.iter().all(|run| {
            let slots = &self.slots[index(run.base_offset)..index(run.end_offset)];
            slots.iter().copied().all(&are)
        })
    }

    fn append(&mut self, agent: usize, lane: Lane, batches: [u32; 2]) {
        let object = self.object();
        let Some((origin, chunk)) = &mut self.agents[agent] else {
            return;
        };
        *chunk += 1;
        let (origin, chunk) = (*origin, ChunkNumber(*chunk));
        let bytes = 200;
        let (location, slot) = match lane {
            Lane::Object => (Location::Object { object, bytes }, Slot::Dense),
            Lane::Inline => (Location::Inline(Bytes::from(vec![1; 200])), Slot::Waiting),
            Lane::Journal { stable } => {
                let location = Location::Journal {
                    chunk: JournalChunkId {
                        agent: origin.agent,
                        epoch: origin.epoch,
                        chunk: ChunkNumber(u64::try_from(object.0).unwrap()),
                    },
                    copies: vec![JournalCopy {
                        agent: origin.agent,
                        journal: 7,
                    }],
                    bytes,
                    stable,
                };
                let unstable = Slot::Unstable(agent);
                (location, if stable { Slot::Waiting } else { unstable })
            }
        };
        let outcome = self.cluster.apply(Command::Sequence(Sequence {
            origin,
            chunk,
            location,
            runs: vec![run(0, 0, &batches.map(batch))],
            sealed_at: NOW,
            at: NOW,
        }));
        let Outcome::Sequenced(runs) = outcome else {
            panic!("{outcome:?}")
        };
        for (outcome, records) in runs[0].batches.iter().zip(batches) {
            let base_offset = Offset::try_from(self.slots.len()).unwrap();
            assert_eq!(*outcome, BatchOutcome::Appended { base_offset });
            let records = usize::try_from(records).unwrap();
            self.slots.resize(self.slots.len() + records, slot);
        }
    }

    /// The first agent that lasts.
    fn origin(&self) -> Option<AgentOrigin> {
        self.agents
            .iter()
            .flatten()
            .map(|(origin, _)| *origin)
            .next()
    }

    fn settle(&mut self, first: usize, count: usize) {
        let runs = self.runs(first, count);
        let (Some(origin), Some(begin), Some(end)) = (self.origin(), runs.first(), runs.last())
        else {
            return;
        };
        let settled = SettleRun {
            partition: part(0),
            base_offset: begin.base_offset,
            end_offset: end.end_offset,
            position: 10,
            length: runs.iter().map(|run| run.length).sum(),
        };
        let object = self.object();
        let outcome = self.cluster.apply(Command::Settle(Settle {
            origin,
            object,
            bytes: 100_000,
            runs: vec![settled],
        }));
        let waits = |slot| matches!(slot, Slot::Waiting | Slot::Unstable(_));
        let done = self.all(&runs, waits);
        assert_eq!(outcome, Outcome::Settled(vec![done]));
        if done {
            self.set(settled.base_offset, settled.end_offset, Slot::Dense);
        }
    }

    fn compact(&mut self, first: usize, count: usize, empty: usize) {
        let runs = self.runs(first, count);
        let (Some(origin), Some(begin), Some(end)) = (self.origin(), runs.first(), runs.last())
        else {
            return;
        };
        let object = self.object();
        let mut position = 0;
        let mut compacted = Vec::new();
        for (number, run) in runs.iter().enumerate() {
            let place = CompactedPlace {
                object: 0,
                position,
                length: 50,
                sparse: !matches!(run.location, RunLocation::Object { .. }),
            };
            position += 50;
            compacted.push(CompactedRun {
                base_offset: run.base_offset,
                end_offset: run.end_offset,
                max_timestamp: run.max_timestamp,
                place: (number % 4 != empty).then_some(place),
            });
        }
        let (partition, clean_to) = (part(0), self.log_start.max(self.partition().clean_to()));
        let stretch = CompactStretch {
            partition,
            base_offset: begin.base_offset,
            end_offset: end.end_offset,
            sources: runs.iter().filter_map(Run::object).map(|it| it.0).collect(),
            runs: compacted.clone(),
            clean_to: Some(clean_to),
        };
        let outcome = self.cluster.apply(Command::Compact(Compact {
            origin,
            objects: vec![CompactedObject {
                object,
                bytes: 1000,
                level: 1,
            }],
            stretches: vec![stretch],
            at: NOW,
        }));
        let waits = |slot| matches!(slot, Slot::Waiting | Slot::Unstable(_));
        let done = self.all(&runs, |slot| !waits(slot));
        assert_eq!(outcome, Outcome::Compacted(vec![done]));
        if done {
            assert_eq!(self.partition().clean_to(), clean_to);
            for run in compacted {
                let slot = match run.place {
                    None => Slot::Nothing,
                    Some(place) if place.sparse => Slot::Sparse,
                    Some(_) => Slot::Dense,
                };
                self.set(run.base_offset, run.end_offset, slot);
            }
        }
    }

    fn cut(&mut self, percent: Offset) {
        let offset = self.high_watermark() * percent / 100;
        self.log_start = self.log_start.max(offset);
        let (partition, expected) = (part(0), Outcome::LogStarts(vec![self.log_start, -1]));
        let nowhere = part(9);
        let starts = [partition, nowhere].map(|partition| AdvanceLogStart { partition, offset });
        let outcome = self
            .cluster
            .apply(Command::AdvanceLogStarts(starts.to_vec()));
        assert_eq!(outcome, expected);
    }

    fn restart(&mut self, agent: usize, at_once: bool) {
        match self.agents[agent].take() {
            Some((origin, _)) if !at_once => {
                self.cluster.apply(crate::testing::end(&[origin]));
            }
            _ => self.register(agent),
        }
        for slot in &mut self.slots {
            if *slot == Slot::Unstable(agent) {
                *slot = Slot::Nothing;
            }
        }
    }

    fn check(&self) {
        let partition = self.partition();
        assert_eq!(partition.high_watermark(), self.high_watermark());
        assert_eq!(partition.last_stable_offset(), self.high_watermark());
        assert_eq!(partition.log_start(), self.log_start);
        assert_eq!(index(partition.next_offset()), self.slots.len());
        for run in partition.runs() {
            let found = match &run.location {
                RunLocation::Object { .. } => Slot::Dense,
                RunLocation::Sparse { .. } => Slot::Sparse,
                RunLocation::Gap => Slot::Nothing,
                RunLocation::Inline(_) => Slot::Waiting,
                RunLocation::Journal { chunk, .. } => {
                    let known = self.cluster.state.journal_chunk(*chunk).unwrap();
                    match known.stable {
                        true => Slot::Waiting,
                        false => Slot::Unstable(index(i64::from(chunk.agent.0 - 1))),
                    }
                }
            };
            let slots = &self.slots[index(run.base_offset)..index(run.end_offset)];
            assert!(slots.iter().all(|slot| *slot == found), "{run:?} {slots:?}");
        }
        self.check_objects();
    }

    /// An object is live while a run names it, dead afterwards, and never live again.
    fn check_objects(&self) {
        let state = &self.cluster.state;
        let mut named: Vec<_> = self.partition().runs().filter_map(Run::object).collect();
        named.sort_unstable();
        named.dedup_by_key(|(object, _)| *object);
        let named = named.into_iter().map(|(object, _)| object);
        assert!(state.live_objects().map(|(object, _)| object).eq(named));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_partition_is_what_a_naive_model_says(steps in prop::collection::vec(step(), 1..60)) {
        let mut world = World::new();
        let (mut high_watermark, mut dead) = (0, Vec::new());
        for step in steps {
            match step {
                Step::Append { agent, lane, batches } => world.append(agent, lane, batches),
                Step::Settle { first, count } => world.settle(first, count),
                Step::Compact { first, count, empty } => world.compact(first, count, empty),
                Step::Cut { percent } => world.cut(percent),
                Step::Restart { agent, at_once } => world.restart(agent, at_once),
                Step::Snapshot => {
                    let bytes = world.cluster.state.to_snapshot();
                    let read = State::from_snapshot(&bytes).unwrap();
                    prop_assert_eq!(&read, &world.cluster.state);
                    world.cluster.state = read;
                }
            }
            world.check();
            let now = world.high_watermark();
            prop_assert!(now >= high_watermark);
            high_watermark = now;
            let now = world.cluster.dead();
            prop_assert!(dead.iter().all(|object| now.contains(object)));
            dead = now;
        }
    }
}

#[test]
fn chunks_that_cannot_be_in_a_buffer_are_refused() {
    let mut cluster = Cluster::new(1);
    let copy = |agent| JournalCopy {
        agent: AgentId(agent),
        journal: 1,
    };
    let location = |agent: i32, epoch: u64, copies: &[JournalCopy]| Location::Journal {
        chunk: JournalChunkId {
            agent: AgentId(agent),
            epoch: AgentEpoch(epoch),
            chunk: ChunkNumber(1),
        },
        copies: copies.to_vec(),
        bytes: 1000,
        stable: true,
    };
    let twice = [copy(1), copy(1)];
    let many: Vec<_> = (1..=17).map(copy).collect();
    for wrong in [
        location(2, 1, &[copy(1)]),
        location(1, 2, &[copy(1)]),
        location(1, 1, &[]),
        location(1, 1, &twice),
        location(1, 1, &many),
    ] {
        let command = cluster.next(wrong, vec![run(0, 0, &[batch(1)])]);
        let outcome = cluster.apply(command);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
        assert_eq!(cluster.partition(0).next_offset(), 0);
    }
    let right = location(1, 1, &[copy(1), copy(4)]);
    cluster.sequence(right.clone(), vec![run(0, 0, &[batch(1)])]);
    let again = cluster.next(right, vec![run(0, 0, &[batch(1)])]);
    assert!(matches!(cluster.apply(again), Outcome::Refused(_)));
    assert_eq!(cluster.partition(0).high_watermark(), 1);
}
