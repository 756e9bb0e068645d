//! Random histories: invariants, replay, snapshots, retries.

use alluvium_types::{ChunkNumber, Offset, TopicPartition};
use proptest::prelude::*;

use super::commands::command;
use crate::testing::{ORIGIN, register};
use crate::*;

/// Gives most chunks the number that is expected, and most settlements something to settle.
fn aim(state: &State, command: Command, pick: u64) -> Command {
    match command {
        Command::Sequence(mut sequence) if sequence.origin == ORIGIN && pick % 8 > 0 => {
            let next = (1..).find(|number| {
                let log = state.agents.get(&ORIGIN.agent).map(|agent| &agent.chunks);
                log.is_none_or(|log| {
                    let place = log.place(ChunkNumber(*number));
                    matches!(place, crate::state::Place::Next)
                })
            });
            sequence.chunk = ChunkNumber(next.unwrap());
            Command::Sequence(sequence)
        }
        Command::Settle(mut settle) if pick % 4 > 0 => {
            settle.bytes = 4000;
            settle.runs = state
                .inline_partitions()
                .flat_map(|place| {
                    let runs: Vec<_> = state.partition(place).unwrap().runs().collect();
                    runs.into_iter()
                        .filter(|run| run.inline().is_some())
                        .map(move |run| SettleRun {
                            partition: place,
                            base_offset: run.base_offset,
                            end_offset: run.end_offset,
                            position: pick % 100,
                            length: run.length,
                        })
                })
                .filter(|run| run.base_offset.unsigned_abs() % 3 != pick % 3)
                .collect();
            Command::Settle(settle)
        }
        other => other,
    }
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
    for (place, high_watermark, log_start) in marks(before) {
        let Some(partition) = after.partition(place) else {
            continue;
        };
        assert!(partition.high_watermark() >= high_watermark, "{place:?}");
        assert!(partition.log_start() >= log_start, "{place:?}");
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
    ) {
        let mut state = State::default();
        let mut log = vec![register(1)];
        state.apply(register(1), &mut Vec::new());
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
        let mut replayed = State::default();
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
