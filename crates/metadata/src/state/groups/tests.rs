use super::*;
use crate::testing::{Cluster, NOW, ORIGIN, part, register};
use crate::{Command, OffsetCommit};

fn commit(partitions: &[(i32, Offset)]) -> Command {
    let offset = |(index, offset): &(i32, Offset)| OffsetCommit {
        partition: part(*index),
        offset: *offset,
        leader_epoch: 0,
        metadata: "note".to_owned(),
    };
    let offsets = partitions.iter().map(offset).collect();
    Command::CommitOffsets(CommitOffsets {
        origin: ORIGIN,
        group: "g".to_owned(),
        offsets,
        at: NOW,
    })
}

fn put(generation: i32) -> Command {
    let record = GroupRecord {
        generation,
        ..GroupRecord::default()
    };
    Command::PutGroup(PutGroup {
        origin: ORIGIN,
        group: "g".to_owned(),
        record,
    })
}

fn forget(indexes: &[i32]) -> Command {
    let partitions = indexes.iter().map(|index| part(*index)).collect();
    Command::DeleteOffsets {
        group: "g".to_owned(),
        partitions,
    }
}

#[test]
fn offsets_are_kept_until_they_are_replaced() {
    let mut cluster = Cluster::new(2);
    assert_eq!(
        cluster.apply(commit(&[(0, 5), (1, 6), (9, 7)])),
        Outcome::Done
    );
    assert_eq!(cluster.changes, [Change::Groups]);
    cluster.apply(commit(&[(1, 3)]));
    let group = cluster.state.group("g").unwrap();
    let offsets: Vec<_> = group.offsets.values().map(|offset| offset.offset).collect();
    assert_eq!(offsets, [5, 3]);
    let first = &group.offsets[&part(0)];
    assert_eq!((first.metadata.as_str(), first.committed_at), ("note", NOW));
}

#[test]
fn a_commit_for_what_is_gone_makes_no_group() {
    let mut cluster = Cluster::new(1);
    assert_eq!(cluster.apply(commit(&[(4, 5)])), Outcome::Done);
    assert_eq!(
        (cluster.state.groups().count(), cluster.changes.len()),
        (0, 0)
    );
}

#[test]
fn a_group_without_record_goes_with_its_last_offset() {
    let mut cluster = Cluster::new(2);
    assert_eq!(cluster.refused(forget(&[0])), ErrorCode::GroupIdNotFound);
    cluster.apply(commit(&[(0, 5), (1, 6)]));
    assert_eq!(cluster.apply(forget(&[0, 7])), Outcome::Done);
    assert_eq!(cluster.state.group("g").unwrap().offsets.len(), 1);
    cluster.apply(forget(&[1]));
    assert_eq!(cluster.state.group("g"), None);
    cluster.apply(put(1));
    cluster.apply(commit(&[(0, 5)]));
    cluster.apply(forget(&[0]));
    assert!(cluster.state.group("g").unwrap().record.is_some());
}

#[test]
fn generations_never_go_back() {
    let mut cluster = Cluster::new(1);
    assert_eq!(cluster.apply(put(4)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Groups]);
    assert_eq!(cluster.apply(put(4)), Outcome::Done);
    assert_eq!(cluster.refused(put(3)), ErrorCode::IllegalGeneration);
    assert_eq!(
        cluster.apply(Command::DeleteGroup {
            group: "g".to_owned()
        }),
        Outcome::Done
    );
    let again = Command::DeleteGroup {
        group: "g".to_owned(),
    };
    assert_eq!(cluster.refused(again), ErrorCode::GroupIdNotFound);
}

#[test]
fn a_coordinator_that_was_replaced_is_fenced() {
    let mut cluster = Cluster::new(1);
    cluster.apply(register(1));
    assert_eq!(
        cluster.refused(commit(&[(0, 1)])),
        ErrorCode::StaleBrokerEpoch
    );
    assert_eq!(cluster.refused(put(1)), ErrorCode::StaleBrokerEpoch);
}
