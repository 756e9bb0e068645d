use super::*;
use crate::command::{CompactedObject, CompactedPlace};
use crate::testing::{Cluster, NOW, ORIGIN, batch, code, end, journal, object, origin, part, run};
use crate::{AdvanceLogStart, Command, State};
use alluvium_types::Millis;

const NEW: u128 = 90;

/// Partition 0: 0..10, 10..20 and 20..30 in objects 1, 2 and 3.
fn objects() -> Cluster {
    let mut cluster = Cluster::new(2);
    for id in 1..=3 {
        cluster.sequence(object(id), vec![run(0, 0, &[batch(10)])]);
    }
    cluster
}

fn at(position: u64, length: u64) -> Option<CompactedPlace> {
    Some(CompactedPlace {
        object: 0,
        position,
        length,
        sparse: false,
    })
}

fn sparse(position: u64, length: u64) -> Option<CompactedPlace> {
    at(position, length).map(|place| CompactedPlace {
        sparse: true,
        ..place
    })
}

fn new(base_offset: Offset, end_offset: Offset, place: Option<CompactedPlace>) -> CompactedRun {
    CompactedRun {
        base_offset,
        end_offset,
        max_timestamp: NOW,
        place,
    }
}

fn stretch(sources: &[u128], runs: &[CompactedRun]) -> CompactStretch {
    CompactStretch {
        partition: part(0),
        base_offset: runs.first().map_or(0, |run| run.base_offset),
        end_offset: runs.last().map_or(0, |run| run.end_offset),
        sources: sources.iter().copied().map(ObjectId).collect(),
        runs: runs.to_vec(),
        clean_to: None,
    }
}

fn command(stretches: &[CompactStretch]) -> Compact {
    let object = CompactedObject {
        object: ObjectId(NEW),
        bytes: 1000,
        level: 1,
    };
    Compact {
        origin: ORIGIN,
        objects: vec![object],
        stretches: stretches.to_vec(),
        at: NOW,
    }
}

fn compact(cluster: &mut Cluster, stretches: &[CompactStretch]) -> Vec<bool> {
    match cluster.apply(Command::Compact(command(stretches))) {
        Outcome::Compacted(replaced) => replaced,
        other => panic!("{other:?}"),
    }
}

fn places(cluster: &Cluster) -> Vec<(Offset, Offset, RunLocation)> {
    let runs = cluster.partition(0).runs();
    runs.map(|run| (run.base_offset, run.end_offset, run.location.clone()))
        .collect()
}

const fn dense_at(position: u64) -> RunLocation {
    RunLocation::Object {
        object: ObjectId(NEW),
        position,
    }
}

const fn sparse_at(position: u64) -> RunLocation {
    RunLocation::Sparse {
        object: ObjectId(NEW),
        position,
    }
}

#[test]
fn small_objects_become_one_and_die_with_their_time() {
    let mut cluster = objects();
    let merged = stretch(
        &[1, 2, 3],
        &[
            new(0, 10, at(0, 100)),
            new(10, 20, at(100, 100)),
            new(20, 30, at(200, 100)),
        ],
    );
    let mut late = command(std::slice::from_ref(&merged));
    late.at = NOW + 7;
    let outcome = cluster.apply(Command::Compact(late.clone()));
    assert_eq!(outcome, Outcome::Compacted(vec![true]));
    assert_eq!(cluster.changes, []);
    assert_eq!(places(&cluster), [(0, 30, dense_at(0))]);
    let state = &cluster.state;
    assert_eq!(state.object_level(ObjectId(NEW)), Some(1));
    let dead: Vec<(u128, u64, Millis)> = state
        .dead_objects()
        .map(|(object, bytes, at)| (object.0, bytes, at))
        .collect();
    assert_eq!(dead, [1, 2, 3].map(|object| (object, 1_000_000, NOW + 7)));
    assert_eq!(state.clock(), NOW + 7);
    // Done twice, it does nothing, and the object stays what it is.
    let outcome = cluster.apply(Command::Compact(late));
    assert_eq!(outcome, Outcome::Compacted(vec![false]));
    assert_eq!(cluster.state.live_objects().count(), 1);
    let forget = Command::ForgetObjects {
        objects: vec![ObjectId(1), ObjectId(NEW), ObjectId(55)],
    };
    cluster.apply(forget);
    assert_eq!(cluster.dead(), [2, 3]);
    assert_eq!(cluster.state.live_objects().count(), 1);
}

#[test]
fn keys_leave_gaps_that_no_time_finds() {
    let mut cluster = objects();
    let mut keyed = stretch(
        &[1, 2, 3],
        &[
            new(0, 10, sparse(0, 30)),
            new(10, 12, None),
            new(12, 20, None),
            new(20, 30, None),
        ],
    );
    keyed.clean_to = Some(30);
    assert_eq!(compact(&mut cluster, &[keyed]), [true]);
    let partition = cluster.partition(0);
    assert_eq!(
        places(&cluster),
        [(0, 10, sparse_at(0)), (10, 30, RunLocation::Gap)]
    );
    assert_eq!((partition.bytes(), partition.clean_to()), (30, 30));
    assert_eq!(partition.high_watermark(), 30);
    let read = State::from_snapshot(&cluster.state.to_snapshot()).unwrap();
    assert_eq!(read, cluster.state);
    let found = |cluster: &Cluster, time| {
        let run = cluster.partition(0).run_at_time(time);
        run.map(|run| run.base_offset)
    };
    assert_eq!(
        (found(&cluster, NOW), found(&cluster, NOW + 1)),
        (Some(0), None)
    );
    let late = crate::BatchStamp {
        max_timestamp: NOW + 5,
        ..batch(1)
    };
    cluster.append(&[late]);
    assert_eq!(found(&cluster, NOW + 1), Some(30));
    let greatest = cluster.partition(0).run_of_max_timestamp();
    assert_eq!(greatest.map(|run| run.base_offset), Some(30));
    // A mark alone, which never goes back.
    for (to, expected) in [(31, 31), (4, 31)] {
        let mut mark = stretch(&[], &[]);
        mark.clean_to = Some(to);
        assert_eq!(compact(&mut cluster, &[mark]), [true]);
        assert_eq!(cluster.partition(0).clean_to(), expected);
    }
}

#[test]
fn sparse_runs_that_touch_become_one_and_gaps_meet_across_stretches() {
    let mut cluster = objects();
    let first = stretch(&[1], &[new(0, 5, sparse(0, 10)), new(5, 10, None)]);
    let second = stretch(&[2], &[new(10, 15, None), new(15, 20, sparse(10, 10))]);
    let third = stretch(&[3], &[new(20, 30, sparse(20, 10))]);
    assert_eq!(compact(&mut cluster, &[third, first, second]), [true; 3]);
    assert_eq!(
        places(&cluster),
        [
            (0, 5, sparse_at(0)),
            (5, 15, RunLocation::Gap),
            (15, 30, sparse_at(10))
        ]
    );
}

#[test]
fn a_stretch_is_replaced_whole_or_not_at_all() {
    let whole = [new(0, 10, at(0, 100)), new(10, 20, at(100, 100))];
    let right = stretch(&[1, 2], &whole);
    let mut elsewhere = right.clone();
    elsewhere.partition = part(1);
    let mut nowhere = right.clone();
    nowhere.partition = part(7);
    let mut cleaner = right.clone();
    cleaner.clean_to = Some(31);
    let mut negative = right.clone();
    negative.clean_to = Some(-1);
    let mut longer = right.clone();
    longer.end_offset = 30;
    let mut shorter = right.clone();
    shorter.end_offset = 10;
    let mut other = right.clone();
    other.runs[1].place = Some(CompactedPlace {
        object: 1,
        ..whole[1].place.unwrap()
    });
    for wrong in [
        elsewhere,
        nowhere,
        cleaner,
        negative,
        longer,
        shorter,
        other,
        stretch(&[], &[]),
        stretch(&[1], &whole),
        stretch(&[2, 1], &whole),
        stretch(&[1, 2, 3], &whole),
        stretch(&[1], &[new(0, 11, at(0, 100))]),
        stretch(&[1], &[new(1, 10, at(0, 100))]),
        stretch(&[1], &[new(0, 5, at(0, 50)), new(6, 10, at(50, 50))]),
        stretch(&[1], &[new(0, 6, at(0, 50)), new(5, 10, at(50, 50))]),
        stretch(&[1], &[new(0, 0, at(0, 50)), new(0, 10, at(50, 50))]),
        stretch(&[1], &[new(0, 10, at(901, 100))]),
        stretch(&[1], &[new(0, 10, at(u64::MAX, 100))]),
        stretch(&[1], &[new(0, 10, at(0, 0))]),
        stretch(&[1], &[new(Offset::MIN, Offset::MAX, at(0, 1))]),
    ] {
        let mut cluster = objects();
        let before = cluster.state.clone();
        assert_eq!(
            compact(&mut cluster, std::slice::from_ref(&wrong)),
            [false],
            "{wrong:?}"
        );
        assert_eq!(cluster.state, before, "{wrong:?}");
        // What is wrong with one does not hinder another.
        assert_eq!(
            compact(&mut cluster, &[wrong, right.clone()]),
            [false, true]
        );
        assert_eq!(cluster.dead(), [1, 2]);
    }
}

#[test]
fn only_settled_runs_are_compacted() {
    let mut cluster = Cluster::new(1);
    cluster.append_inline(0, b"abc", 10);
    assert_eq!(
        compact(&mut cluster, &[stretch(&[], &[new(0, 10, None)])]),
        [false]
    );
    let mut cluster = Cluster::new(1);
    cluster.sequence(journal(1, false), vec![run(0, 0, &[batch(10)])]);
    assert_eq!(
        compact(&mut cluster, &[stretch(&[], &[new(0, 10, None)])]),
        [false]
    );
    // What became a gap is.
    cluster.apply(end(&[ORIGIN]));
    cluster.apply(crate::testing::register(2));
    let mut by_another = command(&[stretch(&[], &[new(0, 10, None)])]);
    by_another.origin = origin(2, 1);
    let outcome = cluster.apply(Command::Compact(by_another));
    assert_eq!(outcome, Outcome::Compacted(vec![true]));
}

#[test]
fn records_are_not_said_to_be_where_offsets_have_none() {
    let mut cluster = objects();
    compact(
        &mut cluster,
        &[stretch(&[2], &[new(10, 20, sparse(0, 50))])],
    );
    let all = |place| stretch(&[1, NEW, 3], &[new(0, 30, place)]);
    let mut again = command(&[all(at(0, 250))]);
    again.objects[0].object = ObjectId(91);
    let outcome = cluster.apply(Command::Compact(again.clone()));
    assert_eq!(outcome, Outcome::Compacted(vec![false]));
    again.stretches = vec![all(sparse(0, 250))];
    let outcome = cluster.apply(Command::Compact(again));
    assert_eq!(outcome, Outcome::Compacted(vec![true]));
    assert_eq!(cluster.dead(), [1, 2, 3, NEW]);
}

#[test]
fn what_retention_has_overtaken_is_let_go_of_at_once() {
    let mut cluster = objects();
    cluster.apply(Command::AdvanceLogStart(AdvanceLogStart {
        partition: part(0),
        offset: 7,
    }));
    let mut two = command(&[stretch(
        &[1],
        &[new(0, 5, at(0, 50)), new(5, 10, at(50, 50))],
    )]);
    two.objects.push(CompactedObject {
        object: ObjectId(91),
        ..two.objects[0]
    });
    two.stretches[0].runs[1].place = Some(CompactedPlace {
        object: 1,
        ..at(0, 50).unwrap()
    });
    let outcome = cluster.apply(Command::Compact(two));
    assert_eq!(outcome, Outcome::Compacted(vec![true]));
    assert_eq!(cluster.rows(0), [(5, 10), (10, 20), (20, 30)]);
    assert_eq!(cluster.dead(), [1, NEW]);
    // The first run is not there any more.
    let stale = stretch(&[1], &[new(0, 10, at(0, 100))]);
    let mut stale = command(&[stale]);
    stale.objects[0].object = ObjectId(92);
    let outcome = cluster.apply(Command::Compact(stale));
    assert_eq!(outcome, Outcome::Compacted(vec![false]));
    assert_eq!(cluster.state.object_bytes(ObjectId(92)), None);
}

#[test]
fn what_is_late_or_names_dead_objects_is_refused_whole() {
    let mut cluster = objects();
    let right = stretch(&[1], &[new(0, 10, at(0, 100))]);
    let mut late = command(std::slice::from_ref(&right));
    late.at = NOW - limits::CHUNK_AGE_MILLIS - 1;
    assert_eq!(
        cluster.refused(Command::Compact(late)),
        ErrorCode::InvalidRequest
    );
    let mut twice = command(std::slice::from_ref(&right));
    twice.objects.push(twice.objects[0]);
    assert_eq!(
        cluster.refused(Command::Compact(twice)),
        ErrorCode::InvalidRequest
    );
    let mut stale = command(std::slice::from_ref(&right));
    stale.origin = origin(1, 2);
    assert_eq!(
        cluster.refused(Command::Compact(stale)),
        ErrorCode::StaleBrokerEpoch
    );
    cluster.apply(Command::AdvanceLogStart(AdvanceLogStart {
        partition: part(0),
        offset: 10,
    }));
    let mut dead = command(&[stretch(&[2], &[new(10, 20, at(0, 100))])]);
    dead.objects[0].object = ObjectId(1);
    let outcome = cluster.apply(Command::Compact(dead));
    assert_eq!(code(&outcome), ErrorCode::InvalidRequest);
}

#[test]
fn a_compaction_of_nothing_moves_the_clock() {
    let mut cluster = objects();
    let mut nothing = command(&[]);
    (nothing.objects, nothing.at) = (Vec::new(), NOW + 9);
    assert_eq!(
        cluster.apply(Command::Compact(nothing)),
        Outcome::Compacted(vec![])
    );
    assert_eq!(cluster.state.clock(), NOW + 9);
    cluster.apply(Command::Compact(command(&[])));
    assert_eq!(cluster.state.clock(), NOW + 9);
    assert_eq!(cluster.state.object_bytes(ObjectId(NEW)), None);
}

#[test]
fn an_object_that_loses_its_last_run_to_itself_is_dead_not_forgotten() {
    let mut cluster = objects();
    compact(&mut cluster, &[stretch(&[1], &[new(0, 10, at(0, 100))])]);
    let replaced = compact(&mut cluster, &[stretch(&[NEW], &[new(0, 10, None)])]);
    assert_eq!(replaced, [true]);
    assert_eq!(cluster.dead(), [1, NEW]);
}
