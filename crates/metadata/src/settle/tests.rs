use super::*;
use crate::testing::{Cluster, ORIGIN, TOPIC, batch, code, object, part, register, run};
use crate::{Command, RunLocation};
use alluvium_types::{ObjectId, Offset};

const WHOLE: u64 = 1_000_000;

fn stretch(index: i32, base_offset: Offset, end_offset: Offset, at: u64, length: u64) -> SettleRun {
    SettleRun {
        partition: part(index),
        base_offset,
        end_offset,
        position: at,
        length,
    }
}

fn settle(object: u128, runs: &[SettleRun]) -> Command {
    let object = ObjectId(object);
    Command::Settle(Settle {
        origin: ORIGIN,
        object,
        bytes: WHOLE,
        runs: runs.to_vec(),
    })
}

/// Partition 0 holds three inline runs: 0..2 (3 bytes), 2..3 (4 bytes), 3..6 (5 bytes).
fn inline() -> Cluster {
    let mut cluster = Cluster::new(2);
    cluster.append_inline(0, b"abc", 2);
    cluster.append_inline(0, b"defg", 1);
    cluster.append_inline(0, b"hijkl", 3);
    cluster
}

#[test]
fn inline_runs_become_one_run_of_the_object() {
    let mut cluster = inline();
    let outcome = cluster.apply(settle(1, &[stretch(0, 0, 3, 10, 7)]));
    assert_eq!(outcome, Outcome::Settled(vec![true]));
    assert_eq!(cluster.changes, []);
    assert_eq!(cluster.rows(0), [(0, 3), (3, 6)]);
    let first = cluster.partition(0).runs().next().unwrap();
    assert_eq!(
        first.location,
        RunLocation::Object {
            object: ObjectId(1),
            position: 10
        }
    );
    assert_eq!((first.length, cluster.state.inline_bytes()), (7, 5));
    assert_eq!(cluster.state.inline_partitions().count(), 1);
    cluster.apply(settle(2, &[stretch(0, 3, 6, 0, 5)]));
    assert_eq!(
        (
            cluster.state.inline_bytes(),
            cluster.state.inline_partitions().count()
        ),
        (0, 0)
    );
    assert_eq!(
        (
            cluster.partition(0).bytes(),
            cluster.partition(0).next_offset()
        ),
        (12, 6)
    );
}

#[test]
fn what_does_not_fit_exactly_is_left_alone() {
    for wrong in [
        stretch(0, 0, 1, 0, 3),
        stretch(0, 1, 3, 0, 7),
        stretch(0, 0, 5, 0, 12),
        stretch(0, 0, 7, 0, 12),
        stretch(0, 0, 3, 0, 8),
        stretch(0, 0, 0, 0, 0),
        stretch(0, 3, 0, 0, 7),
        stretch(0, 0, 3, WHOLE - 6, 7),
        stretch(0, 0, 3, u64::MAX, 7),
        stretch(1, 0, 3, 0, 7),
        stretch(5, 0, 3, 0, 7),
        stretch(0, Offset::MIN, Offset::MAX, 0, 7),
    ] {
        let mut cluster = inline();
        let before = cluster.state.clone();
        assert_eq!(
            cluster.apply(settle(1, &[wrong])),
            Outcome::Settled(vec![false]),
            "{wrong:?}"
        );
        assert_eq!(cluster.state, before);
        assert_eq!(cluster.state.object_bytes(ObjectId(1)), None);
    }
}

#[test]
fn what_lies_in_an_object_already_stays_there() {
    let mut cluster = Cluster::new(1);
    cluster.sequence(object(9), vec![run(0, 0, &[batch(1)])]);
    cluster.append_inline(0, b"abc", 1);
    let runs = [
        stretch(0, 0, 1, 0, 100),
        stretch(0, 0, 2, 0, 103),
        stretch(0, 1, 2, 0, 3),
    ];
    assert_eq!(
        cluster.apply(settle(1, &runs)),
        Outcome::Settled(vec![false, false, true])
    );
    assert_eq!(
        cluster.apply(settle(2, &runs)),
        Outcome::Settled(vec![false; 3])
    );
    assert_eq!(cluster.state.object_bytes(ObjectId(2)), None);
}

#[test]
fn settled_runs_that_touch_become_one() {
    let mut cluster = inline();
    let runs = [
        stretch(0, 0, 2, 0, 3),
        stretch(0, 3, 6, 7, 5),
        stretch(0, 2, 3, 3, 4),
    ];
    assert_eq!(
        cluster.apply(settle(1, &runs)),
        Outcome::Settled(vec![true; 3])
    );
    assert_eq!(cluster.rows(0), [(0, 6)]);
    cluster.delete_topic(TOPIC);
    assert_eq!(cluster.dead(), [1]);
}

#[test]
fn a_fenced_agent_or_an_object_let_go_settles_nothing() {
    let mut cluster = inline();
    cluster.apply(settle(1, &[stretch(0, 0, 3, 0, 7)]));
    let advance = crate::AdvanceLogStart {
        partition: part(0),
        offset: 4,
    };
    cluster.apply(Command::AdvanceLogStart(advance));
    assert_eq!(cluster.dead(), [1]);
    let again = settle(1, &[stretch(0, 3, 6, 0, 5)]);
    assert_eq!(cluster.refused(again), ErrorCode::InvalidRequest);
    cluster.apply(register(1));
    let stale = cluster.apply(settle(2, &[stretch(0, 3, 6, 0, 5)]));
    assert_eq!(code(&stale), ErrorCode::StaleBrokerEpoch);
}
