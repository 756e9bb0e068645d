use super::*;
use crate::testing::{
    Cluster, NOW, ORIGIN, TOPIC, appended, batch, code, duplicate, from, object, part, refused, run,
};
use crate::{AgentOrigin, Command};
use alluvium_types::{AgentEpoch, AgentId, ChunkNumber, TopicId};

const OBJECT: Location = object(1);

fn numbered(chunk: u64) -> Sequence {
    Sequence {
        origin: ORIGIN,
        chunk: ChunkNumber(chunk),
        location: OBJECT,
        runs: vec![run(0, 0, &[batch(1)])],
        sealed_at: NOW,
        at: NOW,
    }
}

#[test]
fn every_partition_of_a_chunk_gets_its_own_offsets() {
    let mut cluster = Cluster::new(3);
    let runs = vec![run(0, 0, &[batch(3), batch(2)]), run(2, 200, &[batch(1)])];
    let outcome = cluster.sequence(OBJECT, runs);
    assert_eq!(outcome, [vec![appended(0), appended(3)], vec![appended(0)]]);
    assert_eq!(
        cluster.changes,
        [Change::Partition(part(0)), Change::Partition(part(2))]
    );
    assert_eq!(cluster.rows(0), [(0, 5)]);
    let first = cluster.partition(0).runs().next().unwrap();
    assert_eq!(
        (first.length, &first.location),
        (200, &object_at(ObjectId(1), 0))
    );
    assert_eq!(cluster.partition(0).high_watermark(), 5);
    assert_eq!(cluster.partition(2).last_stable_offset(), 1);
    assert_eq!(cluster.state.object_bytes(ObjectId(1)), Some(1_000_000));
}

#[test]
fn a_chunk_asked_for_again_is_answered_as_before() {
    let mut cluster = Cluster::new(1);
    let command = cluster.next(OBJECT, vec![run(0, 0, &[batch(3)])]);
    let first = cluster.apply(command.clone());
    cluster.append(&[batch(5)]);
    let before = cluster.state.clone();
    assert_eq!(cluster.apply(command), first);
    assert_eq!((&cluster.state, &cluster.changes), (&before, &Vec::new()));
}

#[test]
fn chunks_are_taken_in_order_only() {
    let mut cluster = Cluster::new(1);
    let early = cluster
        .state
        .apply(Command::Sequence(numbered(2)), &mut Vec::new());
    let Outcome::Refused(refusal) = early else {
        panic!("{early:?}")
    };
    assert_eq!(refusal.code, ErrorCode::InvalidRequest);
    assert!(
        refusal.message.contains("expected chunk 1"),
        "{}",
        refusal.message
    );
    assert_eq!(
        cluster.refused(Command::Sequence(numbered(0))),
        ErrorCode::InvalidRequest
    );
    for _ in 0..65 {
        cluster.append(&[batch(1)]);
    }
    assert_eq!(
        cluster.refused(Command::Sequence(numbered(1))),
        ErrorCode::InvalidRequest
    );
    let known = cluster.apply(Command::Sequence(numbered(2)));
    let Outcome::Sequenced(runs) = known else {
        panic!("{known:?}")
    };
    assert_eq!(runs[0].batches, [appended(1)]);
    assert_eq!(cluster.partition(0).next_offset(), 65);
}

#[test]
fn only_the_current_registration_may_sequence() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[batch(1)]);
    cluster.apply(crate::testing::register(1));
    assert_eq!(
        cluster.refused(Command::Sequence(numbered(2))),
        ErrorCode::StaleBrokerEpoch
    );
    let unknown = AgentOrigin {
        agent: AgentId(5),
        epoch: AgentEpoch(1),
    };
    let command = Command::Sequence(Sequence {
        origin: unknown,
        ..numbered(1)
    });
    assert_eq!(cluster.refused(command), ErrorCode::BrokerIdNotRegistered);
    // Its chunks are counted from 1 again.
    let origin = AgentOrigin {
        epoch: AgentEpoch(2),
        ..ORIGIN
    };
    let outcome = cluster.apply(Command::Sequence(Sequence {
        origin,
        ..numbered(1)
    }));
    assert!(matches!(outcome, Outcome::Sequenced(_)));
}

#[test]
fn a_chunk_that_is_too_old_is_refused_and_the_next_is_taken() {
    let mut cluster = Cluster::new(1);
    let at = NOW + limits::CHUNK_AGE_MILLIS + 1;
    let old = Command::Sequence(Sequence { at, ..numbered(1) });
    let outcome = cluster.apply(old);
    assert_eq!(code(&outcome), ErrorCode::InvalidRequest);
    assert_eq!(cluster.partition(0).next_offset(), 0);
    assert_eq!(cluster.apply(Command::Sequence(numbered(1))), outcome);
    let at = NOW + limits::CHUNK_AGE_MILLIS;
    let next = cluster.apply(Command::Sequence(Sequence { at, ..numbered(2) }));
    assert!(matches!(next, Outcome::Sequenced(_)));
}

#[test]
fn a_partition_that_is_not_there_does_not_fail_its_neighbours() {
    let mut cluster = Cluster::new(1);
    let gone = ChunkRun {
        partition: TopicPartition::new(TopicId([8; 16]), 0),
        ..run(0, 100, &[batch(1), batch(1)])
    };
    let runs = vec![
        run(-1, 0, &[batch(1)]),
        run(0, 0, &[batch(1)]),
        run(1, 0, &[]),
        gone,
    ];
    let unknown = refused(ErrorCode::UnknownTopicOrPartition);
    let outcome = cluster.sequence(OBJECT, runs);
    assert_eq!(
        outcome,
        [vec![unknown], vec![appended(0)], vec![], vec![unknown; 2]]
    );
}

#[test]
fn partitions_come_in_order_and_once() {
    let mut cluster = Cluster::new(2);
    for (first, second) in [(1, 0), (0, 0)] {
        let runs = vec![run(first, 0, &[batch(1)]), run(second, 100, &[batch(1)])];
        let command = cluster.next(OBJECT, runs);
        assert_eq!(code(&cluster.apply(command)), ErrorCode::InvalidRequest);
    }
    assert_eq!(cluster.append(&[batch(1)]), [appended(0)]);
}

#[test]
fn batches_that_cannot_be_are_refused_alone() {
    let invalid = refused(ErrorCode::InvalidRecord);
    let mut cluster = Cluster::new(1);
    let empty = BatchStamp {
        bytes: 0,
        ..batch(1)
    };
    let outcome = cluster.append(&[batch(1), batch(0), empty, batch((1 << 31) + 1), batch(1)]);
    assert_eq!(
        outcome,
        [appended(0), invalid, invalid, invalid, appended(1)]
    );
    // They take their bytes all the same.
    assert_eq!(cluster.rows(0), [(0, 1), (1, 2)]);
    let last = cluster.partition(0).runs().last().unwrap();
    assert_eq!(last.location, object_at(ObjectId(1000), 300));
    for stamp in [from(-1, 0, 0, 1), from(1, -1, 0, 1), from(1, 0, -1, 1)] {
        assert_eq!(cluster.append(&[stamp]), [invalid]);
    }
}

#[test]
fn runs_outside_of_their_location_are_refused() {
    let invalid = refused(ErrorCode::InvalidRecord);
    let mut cluster = Cluster::new(1);
    for position in [999_901, u64::MAX] {
        let outcome = cluster.sequence(OBJECT, vec![run(0, position, &[batch(1)])]);
        assert_eq!(outcome, [[invalid]]);
    }
    let bytes = Location::Inline(Bytes::from_static(&[1; 150]));
    let outcome = cluster.sequence(bytes, vec![run(0, 0, &[batch(1), batch(1)])]);
    assert_eq!(outcome, [[invalid; 2]]);
    assert_eq!(cluster.state.live_objects().count(), 0);
    assert_eq!(cluster.state.inline_bytes(), 0);
}

#[test]
fn a_duplicate_in_the_middle_leaves_its_bytes_out() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[from(1, 0, 0, 1)]);
    let outcome = cluster.append(&[batch(2), batch(2), from(1, 0, 0, 1), batch(1)]);
    assert_eq!(
        outcome,
        [appended(1), appended(3), duplicate(0), appended(5)]
    );
    let positions: Vec<_> = cluster
        .partition(0)
        .runs()
        .map(|run| match run.location {
            RunLocation::Object { position, .. } => (run.base_offset, position, run.length),
            ref other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(positions, [(0, 0, 100), (1, 0, 200), (5, 300, 100)]);
}

#[test]
fn inline_bytes_are_kept_and_do_not_hold_on_to_the_chunk() {
    let mut cluster = Cluster::new(2);
    let chunk = Bytes::from((0..=255).collect::<Vec<u8>>());
    let small = BatchStamp {
        bytes: 20,
        ..batch(1)
    };
    let large = BatchStamp {
        bytes: 236,
        ..batch(1)
    };
    let runs = vec![run(0, 0, &[small]), run(1, 20, &[large])];
    cluster.sequence(Location::Inline(chunk.clone()), runs);
    let kept = |index: i32| {
        let run = cluster.partition(index).runs().next().unwrap();
        run.inline().unwrap().clone()
    };
    assert_eq!(kept(0), chunk[..20]);
    assert_eq!(kept(1), chunk[20..]);
    assert_ne!(kept(0).as_ptr(), chunk.as_ptr());
    assert_eq!(kept(1).as_ptr(), chunk[20..].as_ptr());
    assert_eq!(cluster.state.inline_bytes(), 256);
    assert_eq!(
        cluster.state.inline_partitions().collect::<Vec<_>>(),
        [part(0), part(1)]
    );
}

#[test]
fn an_object_has_one_length_and_one_life() {
    let mut cluster = Cluster::new(1);
    cluster.sequence(OBJECT, vec![run(0, 0, &[batch(1)])]);
    let other = Location::Object {
        object: ObjectId(1),
        bytes: 5,
    };
    let command = cluster.next(other, vec![run(0, 0, &[batch(1)])]);
    assert_eq!(code(&cluster.apply(command)), ErrorCode::InvalidRequest);
    cluster.delete_topic(TOPIC);
    assert_eq!(cluster.dead(), [1]);
    let command = cluster.next(OBJECT, vec![run(0, 0, &[batch(1)])]);
    assert_eq!(code(&cluster.apply(command)), ErrorCode::InvalidRequest);
}

#[test]
fn a_chunk_of_duplicates_names_no_object() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[from(1, 0, 0, 1)]);
    let outcome = cluster.sequence(object(77), vec![run(0, 0, &[from(1, 0, 0, 1)])]);
    assert_eq!(outcome, [[duplicate(0)]]);
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.state.object_bytes(ObjectId(77)), None);
}
