//! Commands drawn at random: some that mean something, some with any number in any field.

use alluvium_types::{AgentEpoch, AgentId, ChunkNumber, ObjectId, TopicId, TopicPartition};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::select;

use crate::testing::NOW;
use crate::*;

fn int() -> impl Strategy<Value = i64> {
    prop_oneof![4 => 0i64..8, 2 => -2i64..100, 1 => any::<i64>(), 1 => select(vec![i64::MIN, i64::MAX])]
}

fn int32() -> impl Strategy<Value = i32> {
    prop_oneof![6 => 0i32..4, 1 => any::<i32>(), 1 => select(vec![i32::MIN, i32::MAX])]
}

fn uint() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..300, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![8 => NOW..NOW + 5, 2 => NOW..NOW + 200_000_000, 1 => any::<i64>()]
}

fn topic() -> impl Strategy<Value = TopicId> {
    (1u8..4).prop_map(|byte| TopicId([byte; 16]))
}

fn place() -> impl Strategy<Value = TopicPartition> {
    (topic(), int32()).prop_map(|(topic, partition)| TopicPartition::new(topic, partition))
}

fn origin() -> impl Strategy<Value = AgentOrigin> {
    let epoch = prop_oneof![8 => Just(1u64), 1 => uint()];
    (prop_oneof![8 => Just(1i32), 1 => int32()], epoch).prop_map(|(agent, epoch)| AgentOrigin {
        agent: AgentId(agent),
        epoch: AgentEpoch(epoch),
    })
}

fn name() -> impl Strategy<Value = String> {
    select(vec![
        "a",
        "a.b",
        "a_b",
        "c",
        "producer.id.expiration.ms",
        "",
    ])
    .prop_map(str::to_owned)
}

fn stamp() -> impl Strategy<Value = BatchStamp> {
    let transaction = select(vec![
        InTransaction::No,
        InTransaction::No,
        InTransaction::Added,
        InTransaction::Joins,
    ]);
    let epoch = prop_oneof![8 => 0i16..2, 1 => any::<i16>()];
    let producer =
        (int(), epoch, int32(), transaction).prop_map(|(id, epoch, base_sequence, transaction)| {
            ProducerStamp {
                id,
                epoch,
                base_sequence,
                transaction,
            }
        });
    let bytes = prop_oneof![8 => 1u32..20, 1 => any::<u32>(), 1 => Just(0)];
    let records = prop_oneof![8 => 1u32..4, 1 => any::<u32>(), 1 => Just(0)];
    (bytes, records, time(), prop::option::of(producer)).prop_map(
        |(bytes, records, max_timestamp, producer)| BatchStamp {
            bytes,
            records,
            max_timestamp,
            producer,
        },
    )
}

fn chunk_runs() -> impl Strategy<Value = Vec<ChunkRun>> {
    let run = (place(), uint(), prop::collection::vec(stamp(), 0..4)).prop_map(
        |(partition, position, batches)| ChunkRun {
            partition,
            position,
            batches,
        },
    );
    (prop::collection::vec(run, 0..4), prop::bool::weighted(0.9)).prop_map(|(mut runs, tidy)| {
        if tidy {
            runs.sort_by_key(|run| run.partition);
            runs.dedup_by_key(|run| run.partition);
        }
        runs
    })
}

fn location() -> impl Strategy<Value = Location> {
    let bytes = prop_oneof![6 => Just(400u64), 1 => uint()];
    prop_oneof![
        (0u128..60, bytes).prop_map(|(object, bytes)| Location::Object {
            object: ObjectId(object),
            bytes
        }),
        prop_oneof![4 => Just(400usize), 1 => 0usize..50]
            .prop_map(|length| Location::Inline(Bytes::from(vec![7; length]))),
        journal(),
    ]
}

fn journal() -> impl Strategy<Value = Location> {
    let bytes = prop_oneof![6 => Just(400u64), 1 => uint()];
    let copy = (0i32..3, 0u128..3).prop_map(|(agent, journal)| JournalCopy {
        agent: AgentId(agent),
        journal,
    });
    let copies = prop_oneof![
        4 => prop::collection::vec(copy.clone(), 1),
        1 => prop::collection::vec(copy, 0..3),
    ];
    let chunk = (origin(), uint()).prop_map(|(origin, chunk)| JournalChunkId {
        agent: origin.agent,
        epoch: origin.epoch,
        chunk: ChunkNumber(chunk),
    });
    (chunk, copies, bytes, any::<bool>()).prop_map(|(chunk, copies, bytes, stable)| {
        Location::Journal {
            chunk,
            copies,
            bytes,
            stable,
        }
    })
}

fn sequence() -> impl Strategy<Value = Command> {
    (origin(), uint(), location(), chunk_runs(), time(), time()).prop_map(
        |(origin, chunk, location, runs, sealed_at, at)| {
            let chunk = ChunkNumber(chunk);
            Command::Sequence(Sequence {
                origin,
                chunk,
                location,
                runs,
                sealed_at,
                at,
            })
        },
    )
}

fn settle() -> impl Strategy<Value = Command> {
    let run = (place(), int(), int(), uint(), uint()).prop_map(
        |(partition, base_offset, end_offset, position, length)| SettleRun {
            partition,
            base_offset,
            end_offset,
            position,
            length,
        },
    );
    (origin(), 0u128..6, uint(), prop::collection::vec(run, 0..4)).prop_map(
        |(origin, object, bytes, runs)| {
            Command::Settle(Settle {
                origin,
                object: ObjectId(object),
                bytes,
                runs,
            })
        },
    )
}

fn compact() -> impl Strategy<Value = Command> {
    let object = (0u128..60, uint(), any::<u8>()).prop_map(|(object, bytes, level)| {
        let object = ObjectId(object);
        CompactedObject {
            object,
            bytes,
            level,
        }
    });
    let place =
        (0u32..3, uint(), uint(), any::<bool>()).prop_map(|(object, position, length, sparse)| {
            CompactedPlace {
                object,
                position,
                length,
                sparse,
            }
        });
    let run = (int(), int(), time(), prop::option::of(place)).prop_map(
        |(base_offset, end_offset, max_timestamp, place)| CompactedRun {
            base_offset,
            end_offset,
            max_timestamp,
            place,
        },
    );
    let sources = prop::collection::vec((0u128..60).prop_map(ObjectId), 0..3);
    let runs = prop::collection::vec(run, 0..3);
    let clean_to = prop::option::of(int());
    let stretch = (self::place(), int(), int(), sources, runs, clean_to).prop_map(
        |(partition, base_offset, end_offset, sources, runs, clean_to)| CompactStretch {
            partition,
            base_offset,
            end_offset,
            sources,
            runs,
            clean_to,
        },
    );
    (
        origin(),
        prop::collection::vec(object, 0..3),
        prop::collection::vec(stretch, 0..4),
        time(),
    )
        .prop_map(|(origin, objects, stretches, at)| {
            Command::Compact(Compact {
                origin,
                objects,
                stretches,
                at,
            })
        })
}

fn start() -> impl Strategy<Value = AdvanceLogStart> {
    (place(), int()).prop_map(|(partition, offset)| AdvanceLogStart { partition, offset })
}

fn housekeeping() -> impl Strategy<Value = Command> {
    prop_oneof![
        2 => prop::collection::vec(start(), 0..4).prop_map(Command::AdvanceLogStarts),
        2 => (0u32..20).prop_map(|most| Command::Purge { most }),
        1 => prop::collection::vec((0u128..60).prop_map(ObjectId), 0..4)
            .prop_map(|objects| Command::ForgetObjects { objects }),
        1 => (origin(), prop::option::of(name()), prop::option::of(0u128..3)).prop_map(
            |(origin, peer, journal)| {
                Command::AnnounceAgent(AnnounceAgent {
                    origin,
                    peer,
                    journal,
                })
            }
        ),
    ]
}

fn create() -> impl Strategy<Value = Command> {
    (name(), topic(), int32(), time()).prop_map(|(name, id, partitions, at)| {
        let (replication_factor, configs) = (1, Vec::new());
        // As many partitions as are allowed would only make the test slow.
        let partitions = if partitions > 100 {
            i32::MAX
        } else {
            partitions
        };
        Command::CreateTopic(CreateTopic {
            name,
            id,
            partitions,
            replication_factor,
            configs,
            at,
        })
    })
}

fn configs() -> impl Strategy<Value = Command> {
    let text = || select(vec!["1", "a,b", "b", "x,,y", ""]).prop_map(str::to_owned);
    let op = prop_oneof![
        text().prop_map(ConfigOp::Set),
        Just(ConfigOp::Delete),
        (text(), text()).prop_map(|(default, value)| ConfigOp::Append { default, value }),
        (text(), text()).prop_map(|(default, value)| ConfigOp::Subtract { default, value }),
    ];
    let change = (name(), op).prop_map(|(name, op)| ConfigChange { name, op });
    let target = prop_oneof![
        topic().prop_map(ConfigTarget::Topic),
        Just(ConfigTarget::Cluster),
        name().prop_map(ConfigTarget::Group),
        name().prop_map(ConfigTarget::ClientMetrics),
    ];
    (target, any::<bool>(), prop::collection::vec(change, 0..3)).prop_map(
        |(target, replace, changes)| Command::AlterConfigs {
            target,
            replace,
            changes,
        },
    )
}

fn groups() -> impl Strategy<Value = Command> {
    let commit = (place(), int()).prop_map(|(partition, offset)| OffsetCommit {
        partition,
        offset,
        leader_epoch: -1,
        metadata: "m".to_owned(),
    });
    let record = int32().prop_map(|generation| GroupRecord {
        generation,
        ..GroupRecord::default()
    });
    prop_oneof![
        (
            origin(),
            name(),
            prop::collection::vec(commit, 0..4),
            time()
        )
            .prop_map(|(origin, group, offsets, at)| {
                Command::CommitOffsets(CommitOffsets {
                    origin,
                    group,
                    offsets,
                    at,
                })
            }),
        (name(), prop::collection::vec(place(), 0..4))
            .prop_map(|(group, partitions)| Command::DeleteOffsets { group, partitions }),
        (origin(), name(), record).prop_map(|(origin, group, record)| {
            Command::PutGroup(PutGroup {
                origin,
                group,
                record,
            })
        }),
        name().prop_map(|group| Command::DeleteGroup { group }),
        consumers(),
        quotas(),
    ]
}

fn quotas() -> impl Strategy<Value = Command> {
    let change = (name(), proptest::option::of(0..9u8))
        .prop_map(|(kind, value)| (kind, value.map(|value| QuotaValue::new(f64::from(value)))));
    let entity =
        proptest::option::of(proptest::option::of(name())).prop_map(|client_id| QuotaEntity {
            client_id,
            ..QuotaEntity::default()
        });
    (entity, prop::collection::vec(change, 0..3))
        .prop_map(|(entity, changes)| Command::AlterQuotas(vec![AlterQuota { entity, changes }]))
}

fn consumers() -> impl Strategy<Value = Command> {
    let member = || select(vec!["m1", "m2", "m3"]).prop_map(str::to_owned);
    let changed = (member(), 0..9i32, place()).prop_map(|(member_id, epoch, place)| {
        let partitions = [(place.topic, [place.partition].into())];
        ConsumerMember {
            member_id,
            epoch,
            assigned: partitions.into(),
            ..ConsumerMember::default()
        }
    });
    (
        origin(),
        name(),
        0..9i32,
        prop::collection::vec(member(), 0..2),
        prop::collection::vec(changed, 0..3),
        time(),
    )
        .prop_map(|(origin, group, epoch, removed, changed, at)| {
            Command::ChangeConsumerGroup(ChangeConsumerGroup {
                origin,
                group,
                epoch,
                removed,
                changed,
                at,
            })
        })
}

fn agents() -> impl Strategy<Value = Command> {
    prop_oneof![
        (prop::collection::vec(origin(), 0..3), time())
            .prop_map(|(agents, at)| Command::EndAgents { agents, at }),
        origin().prop_map(|origin| Command::DrainAgent { origin }),
        time().prop_map(|ended_before| Command::ForgetAgents { ended_before }),
        topic().prop_map(|id| Command::FormCluster { id }),
    ]
}

fn claims() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => (origin(), name()).prop_map(|(origin, group)| Command::ClaimGroup { origin, group }),
        1 => (origin(), name()).prop_map(|(origin, group)| Command::RemoveGroup { origin, group }),
        1 => (origin(), name(), prop::collection::vec(place(), 0..4)).prop_map(
            |(origin, group, partitions)| Command::RemoveOffsets { origin, group, partitions }
        ),
    ]
}

fn transactions() -> impl Strategy<Value = Command> {
    let producer = || (0i64..6, 0i16..3).prop_map(|(id, epoch)| ProducerEpoch { id, epoch });
    let by = select(vec![
        EndedBy::Producer,
        EndedBy::BumpingProducer,
        EndedBy::Server,
    ]);
    let commit = (place(), int()).prop_map(|(partition, offset)| OffsetCommit {
        partition,
        offset,
        leader_epoch: -1,
        metadata: String::new(),
    });
    let commits = prop::collection::vec(commit, 0..3);
    prop_oneof![
        4 => (name(), prop_oneof![8 => Just(60_000), 1 => int32()], prop::option::weighted(0.2, producer()), time())
            .prop_map(|(transactional_id, timeout, expected, at)| {
                Command::InitTransactions(InitTransactions { transactional_id, timeout, expected, at })
            }),
        6 => (name(), producer(), prop::collection::vec(place(), 0..4), prop::collection::vec(name(), 0..2), time())
            .prop_map(|(transactional_id, producer, partitions, groups, at)| {
                Command::AddToTransaction(AddToTransaction { transactional_id, producer, partitions, groups, at })
            }),
        4 => (origin(), name(), producer(), name(), any::<bool>(), commits, time())
            .prop_map(|(origin, transactional_id, producer, group, joins, offsets, at)| {
                Command::CommitTransactionOffsets(CommitTransactionOffsets {
                    origin, transactional_id, producer, group, joins, offsets, at,
                })
            }),
        6 => (name(), producer(), any::<bool>(), by, time())
            .prop_map(|(transactional_id, producer, commit, by, at)| {
                Command::EndTransaction(EndTransaction { transactional_id, producer, commit, by, at })
            }),
        1 => (name(), producer(), time()).prop_map(|(transactional_id, producer, used_at)| {
            Command::ForgetTransactionalIds(vec![IdleTransactionalId { transactional_id, producer, used_at }])
        }),
    ]
}

fn shares() -> impl Strategy<Value = Command> {
    let terms = || {
        (0i32..2000, 1u16..4, 1u32..20).prop_map(|(lock, deliveries, in_flight)| ShareTerms {
            lock,
            deliveries,
            in_flight,
        })
    };
    let kind = select(vec![
        AcknowledgeKind::Gap,
        AcknowledgeKind::Accept,
        AcknowledgeKind::Release,
        AcknowledgeKind::Reject,
        AcknowledgeKind::Renew,
    ]);
    let batch =
        (0i64..20, 0i64..4, prop::collection::vec(kind, 1..3)).prop_map(|(first, more, kinds)| {
            Acknowledgements {
                first,
                last: first + more,
                kinds,
            }
        });
    let batches = prop::collection::vec(batch, 0..3);
    prop_oneof![
        2 => (name(), prop::collection::vec((place(), int()), 0..3))
            .prop_map(|(group, starts)| Command::ShareBegin(ShareBegin { group, starts })),
        6 => ((name(), place(), name()), any::<u32>(), int(), terms(), time()).prop_map(
            |((group, partition, member), most, end, terms, at)| {
                Command::ShareAcquire(ShareAcquire { group, partition, member, most, end, terms, at })
            }
        ),
        6 => ((name(), place(), name()), batches, terms(), time()).prop_map(
            |((group, partition, member), batches, terms, at)| {
                Command::ShareAcknowledge(ShareAcknowledge { group, partition, member, batches, terms, at })
            }
        ),
        1 => (name(), name(), prop::collection::vec(place(), 0..2), terms()).prop_map(
            |(group, member, partitions, terms)| {
                let members = vec![member];
                Command::ShareRelease(ShareRelease { group, members, partitions, terms })
            }
        ),
        1 => (name(), prop::collection::vec((place(), prop::option::of(int())), 0..3))
            .prop_map(|(group, starts)| Command::ShareReset(ShareReset { group, starts })),
    ]
}

fn register() -> impl Strategy<Value = Command> {
    (1u128..4).prop_map(crate::testing::register)
}

pub(super) fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => register(),
        2 => create(),
        1 => topic().prop_map(|topic| Command::DeleteTopic { topic }),
        1 => (topic(), -1i32..6).prop_map(|(topic, count)| Command::CreatePartitions { topic, count }),
        1 => configs(),
        30 => sequence(),
        15 => transactions(),
        8 => shares(),
        8 => settle(),
        1 => any::<u32>().prop_map(|count| Command::AllocateProducerIds { count }),
        3 => start().prop_map(Command::AdvanceLogStart),
        8 => compact(),
        3 => housekeeping(),
        4 => groups(),
        3 => claims(),
        1 => agents(),
    ]
}
