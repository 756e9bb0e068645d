//! Version 4: transactions, share groups, consumer groups of the newer protocol.

use super::*;

/// One command of each kind that transactions brought, and batches within one. The producer ids are
/// those of [`of_version_3`].
fn transaction_commands() -> Vec<Command> {
    let origin = origin(1, 2);
    let text = |text: &str| text.to_owned();
    let (one, two) = (1000, 1001);
    let producer = |id, epoch| ProducerEpoch { id, epoch };
    let init = |id: &str, expected| {
        Command::InitTransactions(InitTransactions {
            transactional_id: text(id),
            timeout: 60_000,
            expected,
            at: NOW + 4,
        })
    };
    let end = |id: &str, producer, commit, by| {
        Command::EndTransaction(EndTransaction {
            transactional_id: text(id),
            producer,
            commit,
            by,
            at: NOW + 6,
        })
    };
    let sequence = |chunk, batches: &[BatchStamp]| {
        Command::Sequence(Sequence {
            origin,
            chunk: alluvium_types::ChunkNumber(chunk),
            location: object(400 + u128::from(chunk)),
            runs: vec![run(1, 0, batches)],
            sealed_at: NOW + 5,
            at: NOW + 5,
        })
    };
    let commit = OffsetCommit {
        partition: part(1),
        offset: 9,
        leader_epoch: -1,
        metadata: text("note"),
    };
    let idle = IdleTransactionalId {
        transactional_id: text("three"),
        producer: producer(1002, 0),
        used_at: NOW + 4,
    };
    vec![
        init("one", None),
        init("two", None),
        init("three", None),
        init("two", Some(producer(two, 0))),
        Command::AddToTransaction(AddToTransaction {
            transactional_id: text("one"),
            producer: producer(one, 0),
            partitions: vec![part(1)],
            groups: vec![text("idle")],
            at: NOW + 5,
        }),
        sequence(
            3,
            &[
                within(producer(one, 0), 0, 2, InTransaction::Added),
                within(producer(two, 1), 0, 3, InTransaction::Joins),
            ],
        ),
        Command::CommitTransactionOffsets(CommitTransactionOffsets {
            origin,
            transactional_id: text("two"),
            producer: producer(two, 1),
            group: text("idle"),
            joins: true,
            offsets: vec![commit],
            at: NOW + 5,
        }),
        end("one", producer(one, 0), false, EndedBy::BumpingProducer),
        sequence(4, &[within(producer(one, 1), 0, 1, InTransaction::Joins)]),
        end("one", producer(one, 1), true, EndedBy::Server),
        init("four", None),
        end("four", producer(1003, 0), false, EndedBy::BumpingProducer),
        Command::ForgetTransactionalIds(vec![idle]),
    ]
}

/// One command of each kind that share groups and newer consumer groups brought.
fn share_commands() -> Vec<Command> {
    let text = |text: &str| text.to_owned();
    let terms = ShareTerms {
        lock: 30_000,
        deliveries: 5,
        in_flight: 2000,
    };
    let acquire = |member: &str, most| {
        Command::ShareAcquire(ShareAcquire {
            group: text("queue"),
            partition: part(1),
            member: text(member),
            most,
            end: 10,
            terms,
            at: NOW + 7,
        })
    };
    let batch = Acknowledgements {
        first: 1,
        last: 2,
        kinds: vec![AcknowledgeKind::Accept, AcknowledgeKind::Release],
    };
    vec![
        Command::ShareBegin(ShareBegin {
            group: text("queue"),
            starts: vec![(part(1), 0), (part(2), 4)],
        }),
        acquire("a", 3),
        acquire("b", 2),
        Command::ShareAcknowledge(ShareAcknowledge {
            group: text("queue"),
            partition: part(1),
            member: text("a"),
            batches: vec![batch],
            terms,
            at: NOW + 8,
        }),
        Command::ShareRelease(ShareRelease {
            group: text("queue"),
            members: vec![text("b")],
            partitions: vec![part(1)],
            terms,
        }),
        Command::ShareReset(ShareReset {
            group: text("queue"),
            starts: vec![(part(2), None)],
        }),
        claim(origin(1, 2), "modern"),
        Command::ChangeConsumerGroup(ChangeConsumerGroup {
            origin: origin(1, 2),
            group: text("modern"),
            epoch: 7,
            removed: vec![text("gone")],
            changed: vec![consumer_member()],
            at: NOW,
        }),
        Command::AlterQuotas(vec![AlterQuota {
            entity: QuotaEntity {
                user: Some(None),
                client_id: Some(Some(text("c"))),
                ip: None,
            },
            changes: vec![(text("producer_byte_rate"), Some(QuotaValue::new(1.5e6)))],
        }]),
    ]
}

fn consumer_member() -> ConsumerMember {
    let text = |text: &str| text.to_owned();
    ConsumerMember {
        member_id: text("m"),
        instance_id: Some(text("i")),
        rack: Some(text("r")),
        client_id: text("c"),
        client_host: text("/h"),
        rebalance_timeout: 45_000,
        topics: [text("events.raw")].into(),
        pattern: Some(text("events.*")),
        assignor: Some(text("uniform")),
        epoch: 7,
        previous_epoch: 6,
        assigned: [(part(1).topic, [1].into())].into(),
        revoking: [(part(2).topic, [2].into())].into(),
        waits: true,
        classic: Some(ClassicProtocol {
            session_timeout: 30_000,
            protocols: vec![(text("range"), Bytes::from_static(b"s"))],
        }),
    }
}

#[test]
fn golden_commands_of_version_4_are_read_and_written_as_ever() {
    let mut commands = transaction_commands();
    commands.extend(share_commands());
    let bytes = postcard::to_allocvec(&commands).unwrap();
    let golden = golden("commands-v4.postcard", &bytes);
    assert_eq!(
        postcard::from_bytes::<Vec<Command>>(&golden).unwrap(),
        commands
    );
    assert_eq!(bytes, golden);
}

#[test]
fn a_golden_snapshot_is_read_and_written_as_ever() {
    let mut cluster = of_version_3();
    let outcomes: Vec<Outcome> = transaction_commands()
        .into_iter()
        .chain(share_commands())
        .map(|command| cluster.apply(command))
        .collect();
    let refused = |outcome: &&Outcome| matches!(outcome, Outcome::Refused(_));
    assert_eq!(outcomes.iter().find(refused), None);
    let written = postcard::to_allocvec(&outcomes).unwrap();
    assert_eq!(written, golden("outcomes-v4.postcard", &written));
    let state = &cluster.state;
    assert_eq!((state.rules, state.transactions().count()), (3, 3));
    let partition = cluster.partition(1);
    assert_eq!(partition.aborted_within(0, i64::MAX).count(), 1);
    assert_eq!(partition.open_transactions().count(), 1);
    assert!(state.group("idle").is_some_and(Group::has_pending));
    let queue = &state.group("queue").unwrap().shares;
    assert_eq!((queue.len(), queue[&part(1)].start()), (1, 0));
    let bytes = state.to_snapshot();
    let golden = golden("state-v4.snapshot", &bytes);
    assert_eq!(&State::from_snapshot(&golden).unwrap(), state);
    assert_eq!(bytes, golden);
}
