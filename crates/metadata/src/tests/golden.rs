//! Bytes of every version, as they were written first. They must be read for ever: when one of these
//! tests fails, the format was changed, and a new version is needed that still reads the old one.
//!
//! `ALLUVIUM_WRITE_GOLDEN=1 cargo test -p alluvium-metadata golden` writes files that are missing;
//! it never replaces one.

use std::fs;
use std::path::PathBuf;

use alluvium_types::{ErrorCode, ObjectId};
use bytes::Bytes;

use crate::testing::{
    Cluster, NOW, ORIGIN, TOPIC, batch, claim, from, object, origin, part, register, run, within,
};
use crate::*;

mod named_configs;
mod version_4;

fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests-data")
        .join(name);
    if !path.exists() && std::env::var_os("ALLUVIUM_WRITE_GOLDEN").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, written).unwrap();
    }
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn group_record() -> Command {
    let member = GroupMember {
        member_id: "m-1".to_owned(),
        instance_id: Some("static".to_owned()),
        client_id: "client".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout: 45_000,
        rebalance_timeout: 300_000,
        protocols: vec![("range".to_owned(), Bytes::from_static(b"subscription"))],
        assignment: Bytes::from_static(b"assignment"),
    };
    let record = GroupRecord {
        protocol_type: "consumer".to_owned(),
        protocol: Some("range".to_owned()),
        generation: 3,
        leader: Some("m-1".to_owned()),
        members: vec![member],
        at: NOW,
    };
    Command::PutGroup(PutGroup {
        origin: ORIGIN,
        group: "g".to_owned(),
        record,
    })
}

fn set(name: &str, op: ConfigOp) -> ConfigChange {
    ConfigChange {
        name: name.to_owned(),
        op,
    }
}

/// One command of each kind.
fn commands(cluster: &mut Cluster) -> Vec<Command> {
    let text = |text: &str| text.to_owned();
    let inline = Location::Inline(Bytes::from(vec![5; 200]));
    let partition = part(0);
    let offsets = vec![OffsetCommit {
        partition,
        offset: 3,
        leader_epoch: 1,
        metadata: text("note"),
    }];
    let settled = SettleRun {
        partition: part(1),
        base_offset: 0,
        end_offset: 2,
        position: 64,
        length: 100,
    };
    vec![
        register(2),
        crate::testing::create("events.raw", alluvium_types::TopicId([8; 16]), 2),
        Command::CreatePartitions {
            topic: TOPIC,
            count: 4,
        },
        Command::AlterConfigs {
            target: ConfigTarget::Topic(TOPIC),
            replace: false,
            changes: vec![
                set("segment.ms", ConfigOp::Set(text("5"))),
                set("retention.ms", ConfigOp::Delete),
                set(
                    "cleanup.policy",
                    ConfigOp::Append {
                        default: text("delete"),
                        value: text("compact"),
                    },
                ),
                set(
                    "x",
                    ConfigOp::Subtract {
                        default: text("a,b"),
                        value: text("b"),
                    },
                ),
            ],
        },
        Command::AlterConfigs {
            target: ConfigTarget::Cluster,
            replace: true,
            changes: vec![set("num.partitions", ConfigOp::Set(text("3")))],
        },
        cluster.next(
            object(1),
            vec![run(0, 0, &[from(0, 0, 0, 3), from(0, 0, 3, 1), batch(2)])],
        ),
        cluster.next(
            inline,
            vec![run(1, 0, &[batch(2)]), run(2, 100, &[from(4, 1, 7, 1)])],
        ),
        Command::Settle(Settle {
            origin: ORIGIN,
            object: ObjectId(2),
            bytes: 500,
            runs: vec![settled],
        }),
        Command::AllocateProducerIds { count: 1000 },
        cluster.next(
            object(u128::MAX),
            vec![run(0, 900, &[batch(9), from(0, 0, 9, 1)])],
        ),
        Command::AdvanceLogStart(AdvanceLogStart {
            partition,
            offset: 7,
        }),
        Command::CommitOffsets(CommitOffsets {
            origin: ORIGIN,
            group: text("g"),
            offsets,
            at: NOW,
        }),
        group_record(),
        Command::DeleteOffsets {
            group: text("g"),
            partitions: vec![part(3)],
        },
        Command::DeleteGroup {
            group: text("gone"),
        },
        Command::DeleteTopic {
            topic: alluvium_types::TopicId([8; 16]),
        },
    ]
}

#[test]
fn golden_commands_are_read_and_written_as_ever() {
    let commands = commands(&mut Cluster::of_0_1(3));
    let bytes = postcard::to_allocvec(&commands).unwrap();
    let golden = golden("commands-v1.postcard", &bytes);
    assert_eq!(
        postcard::from_bytes::<Vec<Command>>(&golden).unwrap(),
        commands
    );
    assert_eq!(bytes, golden);
}

#[test]
fn golden_outcomes_are_read_and_written_as_ever() {
    let mut cluster = Cluster::of_0_1(3);
    let mut outcomes: Vec<Outcome> = Vec::new();
    for command in commands(&mut cluster) {
        outcomes.push(cluster.apply(command));
    }
    let last = outcomes
        .iter()
        .filter(|outcome| matches!(outcome, Outcome::Refused(_)))
        .count();
    assert_eq!(last, 1, "{outcomes:?}");
    let bytes = postcard::to_allocvec(&outcomes).unwrap();
    let golden = golden("outcomes-v1.postcard", &bytes);
    assert_eq!(
        postcard::from_bytes::<Vec<Outcome>>(&golden).unwrap(),
        outcomes
    );
    assert_eq!(bytes, golden);
    // Error codes are written by Kafka's numbers (zigzag), whatever their order in the list.
    let codes = [
        ErrorCode::None,
        ErrorCode::UnknownServerError,
        ErrorCode::GroupIdNotFound,
    ];
    assert_eq!(postcard::to_allocvec(&codes).unwrap(), [0, 1, 138, 1]);
}

/// Of version 1: read only, since the release after it writes version 2.
#[test]
fn the_golden_snapshot_of_release_0_1_is_read() {
    let mut cluster = Cluster::of_0_1(3);
    for command in commands(&mut cluster) {
        cluster.apply(command);
    }
    let golden = golden("state-v1.snapshot", &[]);
    let read = State::from_snapshot(&golden).unwrap();
    assert!(read.agents().all(|agent| agent.standing == Standing::Live));
    let written_anew = State::from_snapshot(&read.to_snapshot()).unwrap();
    assert_eq!(written_anew, read);
    // It is the state that its commands give. Only which producers have expired was not written
    // down, and may be any wherever there are records; nor which topics were deleted.
    let strip = |state: &State, expired: Option<i64>| {
        let mut state = state.clone();
        for index in 0..3 {
            let producers = state.partition_mut(part(index)).unwrap().producers_mut();
            assert_eq!(producers.forget_who_expired(), expired);
        }
        state.deleted_names = crate::state::DeletedNames::default();
        state
    };
    assert_eq!(strip(&read, Some(999)), strip(&cluster.state, None));
}

/// One command of each kind that version 2 brought.
fn newer_commands() -> Vec<Command> {
    let partitions = vec![part(0), part(2)];
    let group = || "g".to_owned();
    vec![
        Command::FormCluster {
            id: alluvium_types::TopicId([9; 16]),
        },
        register(3),
        Command::EndAgents {
            agents: vec![origin(2, 1), origin(3, 9)],
            at: NOW + 1,
        },
        Command::DrainAgent {
            origin: origin(3, 1),
        },
        claim(ORIGIN, "g"),
        claim(ORIGIN, "idle"),
        Command::RemoveOffsets {
            origin: ORIGIN,
            group: group(),
            partitions,
        },
        Command::RemoveGroup {
            origin: ORIGIN,
            group: group(),
        },
        group_record(),
        register(1),
        claim(origin(1, 2), "idle"),
        Command::ForgetAgents { ended_before: NOW },
    ]
}

#[test]
fn golden_commands_of_version_2_are_read_and_written_as_ever() {
    let commands = newer_commands();
    let bytes = postcard::to_allocvec(&commands).unwrap();
    let golden = golden("commands-v2.postcard", &bytes);
    assert_eq!(
        postcard::from_bytes::<Vec<Command>>(&golden).unwrap(),
        commands
    );
    assert_eq!(bytes, golden);
}

/// A state in which all of version 2 is found.
fn of_version_2() -> Cluster {
    let mut cluster = Cluster::of_0_1(3);
    let before = commands(&mut cluster);
    let again = crate::testing::create("events.raw", alluvium_types::TopicId([6; 16]), 1);
    let topic = alluvium_types::TopicId([5; 16]);
    let gone = crate::testing::create("gone", topic, 1);
    let topics = [again, gone, Command::DeleteTopic { topic }];
    let after = newer_commands().into_iter().chain(topics);
    for command in before.into_iter().chain(after) {
        cluster.apply(command);
    }
    cluster.state.forget_producer(part(2), 4);
    cluster
}

/// Of version 2: read only, since the release after it writes version 3.
#[test]
fn the_golden_snapshot_of_version_2_is_read() {
    let mut cluster = of_version_2();
    let again = cluster.state.topic_by_name("events.raw").unwrap();
    assert_eq!(again.producers_before, 1000);
    let golden = golden("state-v2.snapshot", &[]);
    let read = State::from_snapshot(&golden).unwrap();
    assert_eq!(State::from_snapshot(&read.to_snapshot()).unwrap(), read);
    // When objects died was not written down, and is as late as can be.
    let clock = cluster.state.clock();
    for dead in cluster.state.objects.dead.values_mut() {
        assert_eq!((clock, dead.died_at), (NOW + 1, NOW));
        dead.died_at = clock;
    }
    assert_eq!(read, cluster.state);
}

/// One command of each kind that version 3 brought, and chunks in write-ahead buffers.
fn newest_commands() -> Vec<Command> {
    let origin = origin(1, 2);
    let partition = part(1);
    let sequence = |chunk: u64, location: Location, index: i32| {
        Command::Sequence(Sequence {
            origin,
            chunk: alluvium_types::ChunkNumber(chunk),
            location,
            runs: vec![run(index, 0, &[batch(5)])],
            sealed_at: NOW + 2,
            at: NOW + 2,
        })
    };
    let compacted = |base_offset, end_offset, place| CompactedRun {
        base_offset,
        end_offset,
        max_timestamp: NOW,
        place,
    };
    let place = CompactedPlace {
        object: 0,
        position: 40,
        length: 70,
        sparse: true,
    };
    let stretch = CompactStretch {
        partition,
        base_offset: 0,
        end_offset: 2,
        sources: vec![ObjectId(2)],
        runs: vec![compacted(0, 1, Some(place)), compacted(1, 2, None)],
        clean_to: Some(2),
    };
    let start = AdvanceLogStart {
        partition: part(0),
        offset: 8,
    };
    vec![
        Command::AnnounceAgent(AnnounceAgent {
            origin,
            peer: Some("agent.example:9095".to_owned()),
            journal: Some(u128::MAX),
        }),
        sequence(1, crate::testing::journal(300, true), 1),
        sequence(2, crate::testing::journal(301, false), 3),
        Command::Compact(Compact {
            origin,
            objects: vec![CompactedObject {
                object: ObjectId(7),
                bytes: 200,
                level: 1,
            }],
            stretches: vec![stretch],
            at: NOW + 3,
        }),
        Command::AdvanceLogStarts(vec![start]),
        Command::DeleteTopic {
            topic: alluvium_types::TopicId([6; 16]),
        },
        Command::Purge { most: 0 },
        Command::ForgetObjects {
            objects: vec![ObjectId(1)],
        },
    ]
}

#[test]
fn golden_commands_of_version_3_are_read_and_written_as_ever() {
    let commands = newest_commands();
    let bytes = postcard::to_allocvec(&commands).unwrap();
    let golden = golden("commands-v3.postcard", &bytes);
    assert_eq!(
        postcard::from_bytes::<Vec<Command>>(&golden).unwrap(),
        commands
    );
    assert_eq!(bytes, golden);
}

/// A state in which all of version 3 is found.
fn of_version_3() -> Cluster {
    let mut cluster = of_version_2();
    let outcomes: Vec<Outcome> = newest_commands()
        .into_iter()
        .map(|command| cluster.apply(command))
        .collect();
    let refused = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(_));
    assert_eq!(outcomes.iter().find(refused), None);
    let written = postcard::to_allocvec(&outcomes).unwrap();
    assert_eq!(written, golden("outcomes-v3.postcard", &written));
    let state = &cluster.state;
    assert_eq!((state.rules, state.journal_chunks().count()), (2, 2));
    assert_eq!((state.purgeable_runs(), cluster.dead()), (1, vec![2]));
    cluster
}

/// Of version 3: read only, since version 4 came with transactions.
#[test]
fn the_golden_snapshot_of_version_3_is_read() {
    let cluster = of_version_3();
    let golden = golden("state-v3.snapshot", &[]);
    let read = State::from_snapshot(&golden).unwrap();
    assert_eq!(read, cluster.state);
    assert_eq!(State::from_snapshot(&read.to_snapshot()).unwrap(), read);
}
