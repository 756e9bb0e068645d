use super::*;
use crate::testing::{Cluster, NOW, ORIGIN, TOPIC, batch, code, create, object, part, run};
use crate::{Command, CommitOffsets, OffsetCommit};

const OTHER: TopicId = TopicId([8; 16]);

fn message(outcome: Outcome) -> String {
    match outcome {
        Outcome::Refused(refusal) => refusal.message,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_topic_is_found_by_id_and_by_name() {
    let mut cluster = Cluster::new(2);
    assert_eq!(cluster.apply(create("a", OTHER, 1)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Topics]);
    let names: Vec<_> = cluster
        .state
        .topics()
        .map(|topic| topic.name.as_str())
        .collect();
    assert_eq!(names, ["a", "topic"]);
    let topic = cluster.state.topic_by_name("topic").unwrap();
    assert_eq!(
        (topic.id, topic.partitions.len(), topic.replication_factor),
        (TOPIC, 2, 3)
    );
    assert_eq!(
        (topic.configs["retention.ms"].as_str(), topic.created_at),
        ("1000", NOW)
    );
    assert_eq!(
        cluster.state.topic(OTHER).map(|topic| topic.name.as_str()),
        Some("a")
    );
    assert!(cluster.state.partition(part(2)).is_none());
    assert!(cluster.state.partition(part(-1)).is_none());
}

#[test]
fn names_and_ids_are_taken_once() {
    let mut cluster = Cluster::new(1);
    assert_eq!(
        cluster.refused(create("topic", OTHER, 1)),
        ErrorCode::TopicAlreadyExists
    );
    assert_eq!(
        message(cluster.apply(create("topic", OTHER, 1))),
        "Topic 'topic' already exists."
    );
    assert_eq!(
        cluster.refused(create("other", TOPIC, 1)),
        ErrorCode::InvalidRequest
    );
    assert_eq!(
        cluster.refused(create("other", TopicId::ZERO, 1)),
        ErrorCode::InvalidRequest
    );
    for partitions in [0, -1, PARTITIONS_PER_TOPIC + 1, i32::MAX] {
        assert_eq!(
            cluster.refused(create("p", OTHER, partitions)),
            ErrorCode::InvalidPartitions
        );
    }
}

#[test]
fn names_that_metrics_cannot_tell_apart_collide() {
    let mut cluster = Cluster::new(1);
    cluster.apply(create("a.b_c", OTHER, 1));
    for name in ["a_b_c", "a.b.c", "a_b.c"] {
        let outcome = cluster.apply(create(name, TopicId([5; 16]), 1));
        assert_eq!(code(&outcome), ErrorCode::InvalidTopic);
        assert_eq!(
            message(outcome),
            format!("Topic '{name}' collides with existing topic: a.b_c")
        );
    }
    cluster.apply(Command::DeleteTopic { topic: OTHER });
    assert_eq!(
        cluster.apply(create("a_b_c", TopicId([5; 16]), 1)),
        Outcome::Done
    );
}

#[test]
fn partitions_are_added_and_never_taken() {
    let mut cluster = Cluster::new(3);
    let grow = |count| Command::CreatePartitions {
        topic: TOPIC,
        count,
    };
    assert_eq!(
        message(cluster.apply(grow(3))),
        "Topic already has 3 partitions."
    );
    assert_eq!(
        message(cluster.apply(grow(2))),
        "Topic currently has 3 partitions, which is higher than the requested 2."
    );
    assert_eq!(
        cluster.refused(grow(i32::MAX)),
        ErrorCode::InvalidPartitions
    );
    cluster.append(&[batch(4)]);
    assert_eq!(cluster.apply(grow(5)), Outcome::Done);
    assert_eq!(cluster.changes, [Change::Topics]);
    assert_eq!(cluster.state.topic(TOPIC).unwrap().partitions.len(), 5);
    assert_eq!(cluster.partition(0).next_offset(), 4);
    let unknown = Command::CreatePartitions {
        topic: OTHER,
        count: 5,
    };
    assert_eq!(cluster.refused(unknown), ErrorCode::UnknownTopicId);
}

#[test]
fn a_deleted_topic_takes_its_offsets_objects_and_inline_bytes_with_it() {
    let mut cluster = Cluster::new(2);
    cluster.apply(create("other", OTHER, 1));
    cluster.sequence(
        object(1),
        vec![run(0, 0, &[batch(1)]), run(1, 100, &[batch(1)])],
    );
    cluster.append_inline(1, b"abc", 1);
    let commit = |group: &str, topics: &[TopicId]| {
        let offset = |topic: &TopicId| OffsetCommit {
            partition: TopicPartition::new(*topic, 0),
            offset: 1,
            leader_epoch: -1,
            metadata: String::new(),
        };
        let offsets = topics.iter().map(offset).collect();
        Command::CommitOffsets(CommitOffsets {
            origin: ORIGIN,
            group: group.to_owned(),
            offsets,
            at: NOW,
        })
    };
    for group in ["both", "one"] {
        cluster.apply(crate::testing::claim(ORIGIN, group));
    }
    cluster.apply(commit("both", &[TOPIC, OTHER]));
    cluster.apply(commit("one", &[TOPIC]));
    assert_eq!(
        cluster.apply(Command::DeleteTopic { topic: TOPIC }),
        Outcome::Done
    );
    assert_eq!(cluster.changes, [Change::Groups, Change::Topics]);
    assert!(cluster.state.topic_by_name("topic").is_none());
    assert_eq!(cluster.state.inline_partitions().count(), 0);
    assert_eq!((cluster.state.inline_bytes(), cluster.dead()), (0, vec![]));
    let purge = Command::Purge { most: 10 };
    assert_eq!(cluster.apply(purge), Outcome::Purged(0));
    assert_eq!(cluster.dead(), [1]);
    assert_eq!(
        cluster.state.groups().map(|(id, _)| id).collect::<Vec<_>>(),
        ["both"]
    );
    assert_eq!(cluster.state.group("both").unwrap().offsets.len(), 1);
    let again = Command::DeleteTopic { topic: TOPIC };
    assert_eq!(cluster.refused(again), ErrorCode::UnknownTopicId);
}

#[test]
fn the_log_start_goes_up_and_lets_whole_runs_go() {
    let mut cluster = Cluster::new(1);
    for id in 1..=3 {
        cluster.sequence(object(id), vec![run(0, 0, &[batch(10)])]);
    }
    let advance = |offset| {
        Command::AdvanceLogStart(AdvanceLogStart {
            partition: part(0),
            offset,
        })
    };
    assert_eq!(cluster.apply(advance(15)), Outcome::LogStart(15));
    assert_eq!(cluster.changes, [Change::Partition(part(0))]);
    assert_eq!(
        (cluster.rows(0), cluster.dead()),
        (vec![(10, 20), (20, 30)], vec![1])
    );
    assert_eq!(
        (
            cluster.partition(0).log_start(),
            cluster.partition(0).bytes()
        ),
        (15, 200)
    );
    assert_eq!(cluster.apply(advance(3)), Outcome::LogStart(15));
    assert_eq!(cluster.changes, []);
    for wrong in [31, -2, Offset::MAX, Offset::MIN] {
        assert_eq!(cluster.refused(advance(wrong)), ErrorCode::OffsetOutOfRange);
    }
    assert_eq!(cluster.apply(advance(-1)), Outcome::LogStart(30));
    assert_eq!((cluster.rows(0), cluster.dead()), (vec![], vec![1, 2, 3]));
    assert_eq!(cluster.partition(0).high_watermark(), 30);
    let elsewhere = AdvanceLogStart {
        partition: part(1),
        offset: 0,
    };
    let outcome = cluster.refused(Command::AdvanceLogStart(elsewhere));
    assert_eq!(outcome, ErrorCode::UnknownTopicOrPartition);
}

#[test]
fn a_topic_made_again_takes_what_running_producers_send_next() {
    use crate::testing::{appended, from, refused};
    let out_of_order = refused(ErrorCode::OutOfOrderSequenceNumber);
    let mut cluster = Cluster::new(1);
    cluster.apply(Command::AllocateProducerIds { count: 3 });
    cluster.append(&[from(1, 0, 0, 5)]);
    cluster.apply(create("new", OTHER, 1));
    assert_eq!(cluster.state.topic(OTHER).unwrap().producers_before, 0);
    cluster.delete_topic(TOPIC);
    cluster.state = State::from_snapshot(&cluster.state.to_snapshot()).unwrap();
    // What is refused makes no topic, and leaves the name as it was.
    cluster.refused(create("topic", TOPIC, 0));
    cluster.apply(create("topic", TOPIC, 1));
    cluster.apply(Command::AllocateProducerIds { count: 3 });
    assert_eq!(cluster.state.topic(TOPIC).unwrap().producers_before, 3);
    // Ids that were given out later cannot have been here.
    assert_eq!(
        cluster.append(&[from(1, 0, 5, 2), from(3, 0, 2, 1), from(3, 0, 0, 2)]),
        [appended(0), out_of_order, appended(2)]
    );
    // Once they are known the sequences must follow.
    assert_eq!(
        cluster.append(&[from(1, 0, 8, 1), from(1, 0, 7, 1), from(3, 0, 2, 1)]),
        [out_of_order, appended(4), appended(5)]
    );
    // So it is for the partitions that it is given later, and when it is made once more.
    cluster.apply(Command::CreatePartitions {
        topic: TOPIC,
        count: 2,
    });
    let batches = [from(2, 0, 7, 1), from(4, 0, 7, 1)];
    let outcomes = cluster.sequence(object(7), vec![run(1, 0, &batches)]);
    assert_eq!(outcomes, [[appended(0), out_of_order]]);
    cluster.delete_topic(TOPIC);
    cluster.apply(create("topic", TOPIC, 1));
    assert_eq!(
        cluster.append(&[from(4, 0, 9, 1), from(6, 0, 9, 1)]),
        [appended(0), out_of_order]
    );
}

#[test]
fn a_topic_made_again_under_its_old_id_knows_no_producers() {
    let mut cluster = Cluster::new(1);
    cluster.append(&[crate::testing::from(1, 5, 0, 1)]);
    cluster.delete_topic(TOPIC);
    assert_eq!(cluster.state.producers(), 0);
    cluster.apply(create("topic", TOPIC, 1));
    let outcome = cluster.append(&[crate::testing::from(1, 0, 0, 1)]);
    assert_eq!(outcome, [crate::testing::appended(0)]);
}
