use super::*;
use crate::Command;
use crate::testing::{
    Cluster, NOW, ORIGIN, TOPIC, batch, chunk_id, create, end, from, journal, object, run,
};

const OTHER: TopicId = TopicId([8; 16]);

/// Two partitions: five runs with a producer, one in a write-ahead buffer.
fn deleted() -> Cluster {
    let mut cluster = Cluster::new(2);
    for number in 0..5 {
        cluster.append(&[from(1, 0, number, 1)]);
    }
    cluster.append_inline(1, b"abc", 1);
    cluster.sequence(journal(1, true), vec![run(1, 0, &[batch(1)])]);
    cluster.sequence(journal(2, false), vec![run(1, 0, &[batch(1)])]);
    let delete = Command::DeleteTopic { topic: TOPIC };
    assert_eq!(cluster.apply(delete), Outcome::Done);
    cluster
}

fn purge(cluster: &mut Cluster, most: u32) -> u64 {
    match cluster.apply(Command::Purge { most }) {
        Outcome::Purged(left) => left,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_deleted_topic_is_gone_at_once_and_let_go_of_piece_by_piece() {
    let mut cluster = deleted();
    let state = &cluster.state;
    assert!(state.topic(TOPIC).is_none() && state.topics().count() == 0);
    assert!(state.partition(crate::testing::part(0)).is_none());
    assert_eq!((state.inline_bytes(), state.journal_bytes()), (0, 0));
    assert_eq!(state.journal_partitions().count(), 0);
    assert_eq!((state.purgeable_runs(), cluster.dead()), (10, vec![]));
    assert_eq!(state.deleted_topics().count(), 1);
    assert_eq!(state.live_objects().count(), 5);
    // From the end on: three runs of partition 1, then the partition.
    assert_eq!(purge(&mut cluster, 2), 8);
    assert!(cluster.state.journal_chunk(chunk_id(1, 2)).is_none());
    assert_eq!(purge(&mut cluster, 2), 6);
    assert_eq!(cluster.state.journal_chunks().count(), 0);
    let read = State::from_snapshot(&cluster.state.to_snapshot()).unwrap();
    assert_eq!(read, cluster.state);
    assert_eq!(purge(&mut cluster, 3), 3);
    assert_eq!(cluster.dead().len(), 3);
    assert_eq!(purge(&mut cluster, 0), 3);
    // Two runs, a producer, the partition.
    assert_eq!(purge(&mut cluster, 3), 1);
    assert_eq!(purge(&mut cluster, 1), 0);
    assert_eq!(cluster.dead().len(), 5);
    assert_eq!(cluster.state.deleted_topics().count(), 0);
    assert!(cluster.state.expiries.is_empty());
    assert_eq!(purge(&mut cluster, 9), 0);
}

#[test]
fn a_topic_of_the_same_name_shows_nothing_of_it() {
    let mut cluster = deleted();
    // The id is not free before all of it is gone.
    let again = || create("topic", TOPIC, 1);
    assert!(matches!(cluster.apply(again()), Outcome::Refused(_)));
    assert_eq!(cluster.apply(create("topic", OTHER, 1)), Outcome::Done);
    let topic = cluster.state.topic_by_name("topic").unwrap();
    assert_eq!((topic.id, topic.partitions[0].next_offset()), (OTHER, 0));
    purge(&mut cluster, 100);
    let topic = cluster.state.topic_by_name("topic").unwrap();
    assert_eq!((topic.id, topic.partitions[0].runs().len()), (OTHER, 0));
}

#[test]
fn what_ends_meanwhile_ends_there_too() {
    let mut cluster = deleted();
    cluster.apply(end(&[ORIGIN]));
    assert!(cluster.state.journal_chunk(chunk_id(1, 2)).is_none());
    assert_eq!(cluster.state.purgeable_runs(), 10);
    // A producer that expires there does not come between those that are left.
    cluster.apply(crate::testing::register(1));
    let mut cluster = deleted();
    cluster.apply(create("other", OTHER, 1));
    cluster.at = NOW + 100_000_000;
    cluster.sequence(object(60), vec![]);
    assert!(cluster.state.expiries.is_empty());
    assert_eq!(purge(&mut cluster, 100), 0);
}

#[test]
fn older_rules_let_go_of_everything_at_once() {
    let mut cluster = Cluster::of_0_1(1);
    cluster.append(&[from(1, 0, 0, 1)]);
    cluster.apply(Command::DeleteTopic { topic: TOPIC });
    assert_eq!(cluster.state.purgeable_runs(), 0);
    assert_eq!(cluster.dead().len(), 1);
    assert_eq!(cluster.apply(create("topic", TOPIC, 1)), Outcome::Done);
}
