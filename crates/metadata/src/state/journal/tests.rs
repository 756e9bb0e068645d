use super::*;
use crate::testing::{
    Cluster, NOW, ORIGIN, appended, batch, chunk_id, duplicate, end, from, journal, object, origin,
    part, refused, register, run,
};
use crate::{
    AdvanceLogStart, AnnounceAgent, Command, Outcome, RunLocation, Settle, SettleRun, State,
};
use alluvium_types::{ErrorCode, ObjectId};

fn settle(object: u128, base_offset: Offset, end_offset: Offset, length: u64) -> Command {
    Command::Settle(Settle {
        origin: ORIGIN,
        object: ObjectId(object),
        bytes: 10_000,
        runs: vec![SettleRun {
            partition: part(0),
            base_offset,
            end_offset,
            position: 0,
            length,
        }],
    })
}

fn kinds(cluster: &Cluster) -> Vec<(Offset, Offset, char)> {
    let runs = cluster.partition(0).runs();
    runs.map(|run| {
        let kind = match run.location {
            RunLocation::Object { .. } => 'o',
            RunLocation::Inline(_) => 'i',
            RunLocation::Journal { .. } => 'j',
            RunLocation::Sparse { .. } => 's',
            RunLocation::Gap => ' ',
        };
        (run.base_offset, run.end_offset, kind)
    })
    .collect()
}

/// 0..2 stable, 2..5 unstable, 5..6 in an object.
fn waiting() -> Cluster {
    let mut cluster = Cluster::new(2);
    cluster.sequence(journal(1, true), vec![run(0, 0, &[batch(2)])]);
    assert_eq!(cluster.changes, [Change::Partition(part(0))]);
    let runs = vec![run(0, 0, &[batch(3)]), run(1, 100, &[batch(1)])];
    cluster.sequence(journal(2, false), runs);
    assert_eq!(cluster.changes, []);
    cluster.sequence(object(9), vec![run(0, 0, &[batch(1)])]);
    assert_eq!(cluster.changes, []);
    cluster
}

#[test]
fn nobody_reads_past_a_chunk_that_may_yet_vanish() {
    let mut cluster = waiting();
    let marks = |cluster: &Cluster| {
        let partition = cluster.partition(0);
        (partition.high_watermark(), partition.next_offset())
    };
    assert_eq!(marks(&cluster), (2, 6));
    assert_eq!(cluster.partition(0).last_stable_offset(), 2);
    let state = &cluster.state;
    assert_eq!(state.journal_bytes(), 300);
    let places: Vec<_> = state.journal_partitions().collect();
    assert_eq!(places, [part(0), part(1)]);
    let chunk = state.journal_chunk(chunk_id(1, 2)).unwrap();
    assert_eq!((chunk.stable, chunk.bytes, chunk.at), (false, 1000, NOW));
    assert_eq!(state.journal_chunks().count(), 2);
    // DeleteRecords stops there too.
    let cut = |offset| {
        Command::AdvanceLogStart(AdvanceLogStart {
            partition: part(0),
            offset,
        })
    };
    assert_eq!(cluster.refused(cut(3)), ErrorCode::OffsetOutOfRange);
    assert_eq!(cluster.apply(cut(-1)), Outcome::LogStart(2));
    // The stable chunk is let go of, and nobody needs its copies.
    assert!(cluster.state.journal_chunk(chunk_id(1, 1)).is_none());
    // Settling lets readers on.
    assert_eq!(
        cluster.apply(settle(5, 2, 5, 100)),
        Outcome::Settled(vec![true])
    );
    assert_eq!(cluster.changes, [Change::Partition(part(0))]);
    assert_eq!(marks(&cluster), (6, 6));
    assert_eq!(cluster.state.journal_bytes(), 100);
    // The other partition's run still waits.
    assert!(cluster.state.journal_chunk(chunk_id(1, 2)).is_some());
}

#[test]
fn what_is_inline_and_what_is_in_a_buffer_settle_together() {
    let mut cluster = waiting();
    cluster.append_inline(0, b"abc", 4);
    assert_eq!(
        cluster.apply(settle(5, 0, 5, 200)),
        Outcome::Settled(vec![true])
    );
    // A run in an object lies between.
    let outcome = cluster.apply(settle(6, 5, 10, 103));
    assert_eq!(outcome, Outcome::Settled(vec![false]));
    assert_eq!(cluster.state.object_bytes(ObjectId(6)), None);
    cluster.sequence(journal(3, true), vec![run(0, 0, &[batch(1)])]);
    let outcome = cluster.apply(settle(6, 6, 11, 103));
    assert_eq!(outcome, Outcome::Settled(vec![true]));
    assert_eq!(kinds(&cluster), [(0, 5, 'o'), (5, 6, 'o'), (6, 11, 'o')]);
    assert_eq!(cluster.state.inline_bytes(), 0);
}

#[test]
fn what_was_unstable_is_void_when_its_registration_ends_or_is_replaced() {
    for command in [end(&[ORIGIN]), register(1)] {
        let mut cluster = waiting();
        cluster.apply(command);
        let agents = [Change::Agents, Change::Partition(part(0))];
        for change in agents {
            assert!(cluster.changes.contains(&change), "{change:?}");
        }
        assert_eq!(kinds(&cluster), [(0, 2, 'j'), (2, 5, ' '), (5, 6, 'o')]);
        assert_eq!(cluster.partition(0).high_watermark(), 6);
        assert_eq!(cluster.partition(1).high_watermark(), 1);
        assert_eq!(cluster.state.journal_bytes(), 100);
        assert!(cluster.state.journal_chunk(chunk_id(1, 1)).is_some());
        assert!(cluster.state.journal_chunk(chunk_id(1, 2)).is_none());
        // A snapshot knows it too, and what was settled or is safe was not voided.
        let read = State::from_snapshot(&cluster.state.to_snapshot()).unwrap();
        assert_eq!(read, cluster.state);
        assert!(read.was_voided(chunk_id(1, 2)));
        assert!(!read.was_voided(chunk_id(1, 1)));
        // A time finds records, never a gap.
        let found = cluster.partition(0).run_at_time(NOW);
        assert_eq!(found.map(|run| run.base_offset), Some(0));
        assert!(cluster.partition(1).run_at_time(0).is_none());
        assert!(cluster.partition(1).run_of_max_timestamp().is_none());
        // The offsets are not given again.
        if !cluster.state.is_current(origin(1, 2)) {
            cluster.apply(register(1));
        }
        let origin = origin(1, 2);
        let again = cluster.next(journal(2, false), vec![run(0, 0, &[batch(3)])]);
        let Command::Sequence(again) = again else {
            panic!("{again:?}")
        };
        let chunk = ChunkNumber(1);
        let outcome = cluster.apply(Command::Sequence(crate::Sequence {
            origin,
            chunk,
            ..again
        }));
        let Outcome::Sequenced(runs) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(runs[0].batches, [appended(6)]);
        assert_eq!(cluster.partition(0).high_watermark(), 6);
        // It bears the name of the registration before, and is void with the one that sequenced it.
        cluster.apply(end(&[origin]));
        assert_eq!(cluster.partition(0).high_watermark(), 9);
    }
}

#[test]
fn neighbouring_gaps_are_one() {
    let mut cluster = Cluster::new(1);
    for number in 1..=3 {
        cluster.sequence(journal(number, false), vec![run(0, 0, &[batch(2)])]);
    }
    cluster.apply(settle(1, 2, 4, 100));
    cluster.apply(end(&[ORIGIN]));
    assert_eq!(kinds(&cluster), [(0, 2, ' '), (2, 4, 'o'), (4, 6, ' ')]);
    let mut cluster = Cluster::new(1);
    for number in 1..=3 {
        cluster.sequence(journal(number, false), vec![run(0, 0, &[batch(2)])]);
    }
    cluster.apply(end(&[ORIGIN]));
    assert_eq!(kinds(&cluster), [(0, 6, ' ')]);
}

#[test]
fn producers_go_on_from_what_is_left_of_them() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[from(1, 0, 0, 2), from(3, 0, 0, 1)]);
    let unstable = [from(1, 0, 2, 3), from(2, 0, 0, 1), from(3, 0, 1, 1)];
    cluster.sequence(journal(1, false), vec![run(0, 0, &unstable)]);
    cluster.append(&[from(3, 0, 2, 1)]);
    cluster.apply(register(2));
    cluster.apply(end(&[ORIGIN]));
    cluster.apply(register(1));
    let sent = [
        // Acknowledged and there: still known.
        from(1, 0, 0, 2),
        // Lost, and sent again; then once more.
        from(1, 0, 2, 3),
        from(1, 0, 2, 3),
        from(2, 0, 0, 1),
        // Lost in the middle: it may go on from anywhere.
        from(3, 0, 1, 1),
        // What never came is still out of order.
        from(1, 0, 9, 1),
    ];
    let command = cluster.next(object(50), vec![run(0, 0, &sent)]);
    let Command::Sequence(command) = command else {
        panic!("{command:?}")
    };
    let outcome = cluster.apply(Command::Sequence(crate::Sequence {
        origin: origin(1, 2),
        chunk: ChunkNumber(1),
        ..command
    }));
    let Outcome::Sequenced(runs) = outcome else {
        panic!("{outcome:?}")
    };
    let out_of_order = refused(ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(
        runs[0].batches,
        [
            duplicate(0),
            appended(9),
            duplicate(9),
            appended(12),
            appended(13),
            out_of_order
        ]
    );
}

#[test]
fn an_agent_whose_disk_may_hold_records_is_not_forgotten() {
    let mut cluster = waiting();
    cluster.apply(register(2));
    cluster.apply(end(&[ORIGIN, origin(2, 1)]));
    let forget = || Command::ForgetAgents {
        ended_before: NOW + 1,
    };
    cluster.apply(forget());
    assert_eq!(cluster.state.agents().count(), 2);
    cluster.delete_topic(crate::testing::TOPIC);
    cluster.apply(forget());
    assert_eq!(cluster.state.agents().count(), 0);
}

#[test]
fn what_an_agent_announces_lasts_as_long_as_its_registration() {
    let mut cluster = Cluster::new(1);
    let announce = |origin| {
        Command::AnnounceAgent(AnnounceAgent {
            origin,
            peer: Some("agent-1:9095".to_owned()),
            journal: Some(7),
        })
    };
    let said = |cluster: &Cluster| {
        let agent = cluster.state.agent(ORIGIN.agent).unwrap();
        (agent.peer.clone(), agent.journal)
    };
    let all = (Some("agent-1:9095".to_owned()), Some(7));
    assert_eq!(cluster.apply(announce(ORIGIN)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Agents]);
    assert_eq!(said(&cluster), all);
    cluster.apply(announce(ORIGIN));
    assert_eq!(cluster.changes, []);
    let read = State::from_snapshot(&cluster.state.to_snapshot()).unwrap();
    assert_eq!(read, cluster.state);
    cluster.apply(register(1));
    assert_eq!(said(&cluster), (None, None));
    assert_eq!(
        cluster.refused(announce(ORIGIN)),
        ErrorCode::StaleBrokerEpoch
    );
    cluster.apply(announce(origin(1, 2)));
    assert_eq!(said(&cluster), all);
    cluster.apply(end(&[origin(1, 2)]));
    assert_eq!(said(&cluster), (None, None));
}

#[test]
fn a_restore_keeps_the_names_of_stable_chunks_and_voids_the_others() {
    let mut cluster = waiting();
    cluster.state.mark_restored(1, NOW + 5);
    cluster.state.check().unwrap();
    assert_eq!(cluster.state.clock(), NOW + 5);
    assert_eq!(kinds(&cluster), [(0, 2, 'j'), (2, 5, ' '), (5, 6, 'o')]);
    assert_eq!(cluster.partition(0).high_watermark(), 6);
    assert!(cluster.state.journal_chunk(chunk_id(1, 1)).is_some());
}
