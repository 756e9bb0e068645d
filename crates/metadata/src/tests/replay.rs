//! Random histories: invariants, replay, snapshots, retries.

use alluvium_types::{AgentEpoch, ChunkNumber, ObjectId, Offset, TopicId, TopicPartition};
use proptest::prelude::*;

use super::commands::command;
use crate::state::Place;
use crate::testing::{NOW, ORIGIN, create, register};
use crate::*;

/// A cluster with something in it for random commands to meet.
fn prepared() -> Vec<Command> {
    let mut commands = vec![register(1)];
    for (id, name) in [(1, "a"), (2, "b"), (3, "a_b")] {
        commands.push(create(name, TopicId([id; 16]), 3));
    }
    commands
}

/// Gives most commands the agent, number, sequences and stretches that are expected.
fn aim(state: &State, command: Command, pick: u64) -> Command {
    let known = state
        .agents
        .get(&ORIGIN.agent)
        .map_or(0, |known| known.agent.epoch.0);
    let aimed = !pick.is_multiple_of(8);
    let origin = AgentOrigin {
        epoch: AgentEpoch(known),
        ..ORIGIN
    };
    match command {
        Command::Sequence(sequence) if aimed => {
            let mut sequence = Sequence {
                origin,
                sealed_at: sequence.at,
                ..sequence
            };
            let log = state.agents.get(&ORIGIN.agent).map(|known| &known.chunks);
            let is_next =
                |number: &u64| matches!(log.unwrap().place(ChunkNumber(*number)), Place::Next);
            let next = log.and_then(|_| (1..).find(is_next));
            sequence.chunk = ChunkNumber(next.unwrap_or(1));
            if !pick.is_multiple_of(5) {
                sequence = tame(sequence);
            }
            if let Location::Journal { chunk, .. } = &mut sequence.location {
                (chunk.agent, chunk.chunk) = (origin.agent, sequence.chunk);
                chunk.epoch = AgentEpoch(chunk.epoch.0.min(known));
            }
            for run in &mut sequence.runs {
                run.batches
                    .iter_mut()
                    .for_each(|batch| follow(state, run.partition, batch, pick));
            }
            Command::Sequence(sequence)
        }
        Command::Settle(settle) if aimed => {
            let mut places: Vec<_> = state.inline_partitions().collect();
            places.extend(state.journal_partitions());
            places.sort_unstable();
            places.dedup();
            let runs = places
                .into_iter()
                .flat_map(|place| stretches(state, place, pick));
            let runs = runs.collect();
            Command::Settle(Settle {
                origin,
                bytes: 4000,
                runs,
                ..settle
            })
        }
        Command::Compact(compact) if aimed => {
            let compact = Compact { origin, ..compact };
            Command::Compact(compactions(state, compact, pick))
        }
        Command::CommitOffsets(commit) if aimed => {
            let origin = state.claimed_by(&commit.group).unwrap_or(origin);
            Command::CommitOffsets(CommitOffsets { origin, ..commit })
        }
        Command::PutGroup(put) if aimed => {
            let origin = state.claimed_by(&put.group).unwrap_or(origin);
            Command::PutGroup(PutGroup { origin, ..put })
        }
        Command::ChangeConsumerGroup(step) if aimed => {
            let origin = state.claimed_by(&step.group).unwrap_or(origin);
            Command::ChangeConsumerGroup(ChangeConsumerGroup { origin, ..step })
        }
        Command::ClaimGroup { group, .. } if aimed => {
            let chosen = state.coordinator_of(&group).and_then(|id| state.agent(id));
            let origin = chosen.map_or(origin, Agent::origin);
            Command::ClaimGroup { origin, group }
        }
        Command::RemoveGroup { group, .. } if aimed => {
            let origin = state.claimed_by(&group).unwrap_or(origin);
            Command::RemoveGroup { origin, group }
        }
        other => other,
    }
}

/// Brings a chunk's numbers to where they can be true.
fn tame(mut sequence: Sequence) -> Sequence {
    sequence.at = NOW + sequence.at.rem_euclid(1000);
    sequence.sealed_at = sequence.at;
    for run in &mut sequence.runs {
        run.partition.partition = run.partition.partition.rem_euclid(3);
        run.position %= 300;
        run.batches
            .retain(|batch| batch.bytes <= 20 && batch.records <= 4);
    }
    sequence.runs.sort_by_key(|run| run.partition);
    sequence.runs.dedup_by_key(|run| run.partition);
    sequence
}

/// Lets many batches follow what their producer appended last, or repeat it.
fn follow(state: &State, place: TopicPartition, batch: &mut BatchStamp, pick: u64) {
    let Some(stamp) = &mut batch.producer else {
        return;
    };
    let partition = state.partition(place);
    let found = partition.and_then(|partition| {
        partition
            .producer_states()
            .find(|(id, _)| *id == stamp.id)
            .map(|(_, found)| found)
    });
    let Some(found) = found else { return };
    let last = *found.batches().last().unwrap();
    match pick % 3 {
        0 => stamp.base_sequence = last.last_sequence.checked_add(1).unwrap_or(0),
        1 => {
            stamp.base_sequence = last.first_sequence;
            let records = i64::from(last.last_sequence) - i64::from(last.first_sequence) + 1;
            batch.records = u32::try_from(records).unwrap_or(1);
        }
        _ => return,
    }
    stamp.epoch = found.epoch();
}

/// Replaces runs that lie in objects, some by sparse ones and some by nothing.
fn compactions(state: &State, compact: Compact, pick: u64) -> Compact {
    let object = CompactedObject {
        object: ObjectId(100 + u128::from(pick % 1000)),
        bytes: 1_000_000,
        level: 1,
    };
    let mut position = 0;
    let mut stretches = Vec::new();
    for (place, partition) in state.topics.values().flat_map(|topic| topic.places()) {
        let runs: Vec<&Run> = partition.runs().collect();
        let wide = usize::try_from(pick % 3).unwrap() + 1;
        for runs in runs.chunks(wide) {
            stretches.push(compaction(place, runs, pick, &mut position));
        }
    }
    // Not two versions of one command that names an object.
    let objects = vec![object];
    Compact {
        objects,
        stretches,
        at: NOW + 1000,
        ..compact
    }
}

fn compaction(
    place: TopicPartition,
    runs: &[&Run],
    pick: u64,
    position: &mut u64,
) -> CompactStretch {
    let sources = runs.iter().filter_map(|run| run.object());
    let new = runs.iter().map(|run| {
        let is_dense = matches!(run.location, RunLocation::Object { .. });
        let sparse = !is_dense || pick.is_multiple_of(7);
        let length = run.length.clamp(1, 1000);
        let place = CompactedPlace {
            object: 0,
            position: *position,
            length,
            sparse,
        };
        let is_left = run.base_offset.unsigned_abs() % 4 != pick % 4;
        *position += length;
        CompactedRun {
            base_offset: run.base_offset,
            end_offset: run.end_offset,
            max_timestamp: run.max_timestamp,
            place: is_left.then_some(place),
        }
    });
    CompactStretch {
        partition: place,
        base_offset: runs[0].base_offset,
        end_offset: runs[runs.len() - 1].end_offset,
        runs: new.collect(),
        sources: sources.map(|(object, _)| object).collect(),
        clean_to: pick.is_multiple_of(2).then_some(runs[0].base_offset),
    }
}

/// The waiting runs of a partition, each alone or two together.
fn stretches(state: &State, place: TopicPartition, pick: u64) -> Vec<SettleRun> {
    let runs: Vec<&Run> = state.partition(place).unwrap().runs().collect();
    let wide = if pick.is_multiple_of(2) { 1 } else { 2 };
    let whole = |runs: &&[&Run]| runs.iter().all(|run| run.is_unsettled());
    let settled = |runs: &[&Run]| SettleRun {
        partition: place,
        base_offset: runs[0].base_offset,
        end_offset: runs[runs.len() - 1].end_offset,
        position: runs[0].base_offset.unsigned_abs() % 500,
        length: runs.iter().map(|run| run.length).sum(),
    };
    runs.chunks(wide).filter(whole).map(settled).collect()
}

/// High watermark and log start of every partition.
fn marks(state: &State) -> Vec<(TopicPartition, Offset, Offset)> {
    let places = state.topics.values().flat_map(|topic| topic.places());
    places
        .map(|(place, known)| (place, known.high_watermark(), known.log_start()))
        .collect()
}

/// What readers are told must be all that they would see.
fn check_marks(before: &State, after: &State, changes: &[Change]) {
    assert!(after.clock() >= before.clock());
    for (place, high_watermark, log_start) in marks(before) {
        let Some(partition) = after.partition(place) else {
            continue;
        };
        assert!(partition.high_watermark() >= high_watermark, "{place:?}");
        assert!(partition.log_start() >= log_start, "{place:?}");
        let next_offset = before.partition(place).map(Partition::next_offset);
        assert!(Some(partition.next_offset()) >= next_offset, "{place:?}");
        let moved =
            (partition.high_watermark(), partition.log_start()) != (high_watermark, log_start);
        assert_eq!(
            moved,
            changes.contains(&Change::Partition(place)),
            "{place:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn any_history_keeps_what_must_hold_and_replays_the_same(
        history in prop::collection::vec((command(), any::<u64>()), 1..60),
        of_0_1 in any::<bool>(),
    ) {
        let empty = || if of_0_1 { State::default() } else { State::new() };
        let mut state = empty();
        let mut log = prepared();
        for command in log.clone() {
            state.apply(command, &mut Vec::new());
        }
        for (command, pick) in history {
            let command = aim(&state, command, pick);
            let before = state.clone();
            let mut changes = Vec::new();
            let outcome = state.apply(command.clone(), &mut changes);
            if let Err(error) = state.check() {
                panic!("{error} after {command:?}");
            }
            check_marks(&before, &state, &changes);
            let chunk = matches!(command, Command::Sequence(_));
            if let (Outcome::Refused(_), false) = (&outcome, chunk) {
                prop_assert_eq!(&state, &before);
                prop_assert_eq!(&changes, &[]);
            }
            if chunk {
                let answered = state.clone();
                prop_assert_eq!(state.apply(command.clone(), &mut Vec::new()), outcome);
                prop_assert_eq!(&state, &answered);
            }
            let bytes = postcard::to_allocvec(&command).unwrap();
            log.push(postcard::from_bytes(&bytes).unwrap());
        }
        let snapshot = state.to_snapshot();
        prop_assert_eq!(&State::from_snapshot(&snapshot).unwrap(), &state);

        // Replayed on another node, which restarts from a snapshot half-way.
        let mut replayed = empty();
        let half = log.len() / 2;
        for (index, command) in log.into_iter().enumerate() {
            if index == half {
                replayed = State::from_snapshot(&replayed.to_snapshot()).unwrap();
            }
            replayed.apply(command, &mut Vec::new());
        }
        prop_assert_eq!(&replayed, &state);
        prop_assert_eq!(replayed.to_snapshot(), snapshot);
    }

    #[test]
    fn bytes_from_anywhere_are_no_snapshot(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(State::from_snapshot(&bytes).is_err());
    }
}
