//! Transactions: AddPartitionsToTxn, AddOffsetsToTxn, EndTxn, TxnOffsetCommit, DescribeProducers,
//! DescribeTransactions, ListTransactions.

use alluvium_protocol::message;
use alluvium_protocol::messages as own;
use kafka_protocol::messages::InitProducerIdRequest;
use kafka_protocol::messages::ProducerId;
use own::add_partitions_to_txn_request::{AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction};
use own::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};

use crate::codes::*;
use crate::table::{Case, newest};
use crate::wire::transactional;
use crate::world::{NOWHERE, READERS, TOPIC, World};

pub(super) const KEYS: &[i16] = &[24, 25, 26, 28, 61, 65, 66];

pub(super) fn cases() -> Vec<Case> {
    [
        partition_cases(),
        group_cases(),
        end_cases(),
        commit_cases(),
        describe_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The producer of a transactional id, anew.
pub(super) fn begin(world: &mut World, id: &str) -> (i64, i16) {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(Some(transactional(id)))
        .with_transaction_timeout_ms(60_000);
    let begun = world.client.ask(4, &request);
    assert_eq!(begun.error_code, NONE);
    let ProducerId(producer) = begun.producer_id;
    (producer, begun.producer_epoch)
}

pub(super) fn add(
    id: &str,
    (producer, epoch): (i64, i16),
    topics: &[(&str, &[i32])],
) -> own::AddPartitionsToTxnRequest {
    let topics: Vec<_> = topics
        .iter()
        .map(|(name, partitions)| {
            message!(AddPartitionsToTxnTopic {
                name: (*name).into(),
                partitions: partitions.to_vec(),
            })
        })
        .collect();
    // The fields of one form are not written in the other.
    message!(own::AddPartitionsToTxnRequest {
        v3_and_below_transactional_id: id.into(),
        v3_and_below_producer_id: producer,
        v3_and_below_producer_epoch: epoch,
        v3_and_below_topics: topics.clone(),
        transactions: vec![message!(AddPartitionsToTxnTransaction {
            transactional_id: id.into(),
            producer_id: producer,
            producer_epoch: epoch,
            topics,
        })],
    })
}

/// A form for each of the two: what is not of a version must not be set in it.
pub(super) fn single(
    mut request: own::AddPartitionsToTxnRequest,
) -> own::AddPartitionsToTxnRequest {
    request.transactions.clear();
    request
}

fn batched(request: own::AddPartitionsToTxnRequest) -> own::AddPartitionsToTxnRequest {
    message!(own::AddPartitionsToTxnRequest {
        transactions: request.transactions
    })
}

fn codes(answer: &own::AddPartitionsToTxnResponse) -> Vec<i16> {
    let batched = answer.results_by_transaction.iter();
    let topics = batched
        .flat_map(|transaction| &transaction.topic_results)
        .chain(&answer.results_by_topic_v3_and_below);
    let partitions = topics.flat_map(|topic| &topic.results_by_partition);
    partitions
        .map(|partition| partition.partition_error_code)
        .collect()
}

fn partition_cases() -> Vec<Case> {
    type Answer = own::AddPartitionsToTxnResponse;
    let mut cases = Vec::new();
    for (since, until, form) in [
        (
            0,
            3,
            single as fn(own::AddPartitionsToTxnRequest) -> own::AddPartitionsToTxnRequest,
        ),
        (4, i16::MAX, batched),
    ] {
        let added = newest(
            "partitions",
            since,
            move |world| {
                let producer = begin(world, "adder");
                form(add("adder", producer, &[(TOPIC, &[0, 2])]))
            },
            |_, answer: Answer| assert_eq!(codes(&answer), [NONE, NONE]),
        );
        let unknown = newest(
            "one that is not there holds up the others",
            since,
            move |world| {
                let producer = begin(world, "adder");
                form(add("adder", producer, &[(TOPIC, &[0, 9]), (NOWHERE, &[0])]))
            },
            |_, answer: Answer| {
                let unknown = UNKNOWN_TOPIC_OR_PARTITION;
                assert_eq!(codes(&answer), [OPERATION_NOT_ATTEMPTED, unknown, unknown]);
            },
        );
        let stranger = newest(
            "of nobody",
            since,
            move |_| form(add("stranger", (77, 0), &[(TOPIC, &[0])])),
            |_, answer: Answer| assert_eq!(codes(&answer), [INVALID_PRODUCER_ID_MAPPING]),
        );
        let fenced = newest(
            "of one that was fenced",
            since,
            move |world| {
                let old = begin(world, "fenced");
                begin(world, "fenced");
                form(add("fenced", old, &[(TOPIC, &[0])]))
            },
            |_, answer: Answer| {
                let code = codes(&answer)[0];
                assert!(
                    [INVALID_PRODUCER_EPOCH, PRODUCER_FENCED].contains(&code),
                    "{code}"
                );
            },
        );
        let of_form = [added, unknown, stranger, fenced];
        cases.extend(of_form.into_iter().map(|case| case.until(until)));
    }
    cases
}

fn group_cases() -> Vec<Case> {
    let request = |id: &str, (producer_id, producer_epoch): (i64, i16), group: &str| {
        message!(own::AddOffsetsToTxnRequest {
            transactional_id: id.into(),
            producer_id,
            producer_epoch,
            group_id: group.into(),
        })
    };
    vec![
        newest(
            "offsets of a group",
            0,
            move |world| {
                let producer = begin(world, "grouper");
                request("grouper", producer, READERS)
            },
            |_, answer: own::AddOffsetsToTxnResponse| assert_eq!(answer.error_code, NONE),
        ),
        newest(
            "of nobody",
            0,
            move |_| request("stranger", (77, 0), READERS),
            |_, answer: own::AddOffsetsToTxnResponse| {
                assert_eq!(answer.error_code, INVALID_PRODUCER_ID_MAPPING);
            },
        ),
        newest(
            "of no group",
            0,
            move |_| request("grouper", (1, 0), ""),
            |_, answer: own::AddOffsetsToTxnResponse| {
                assert_eq!(answer.error_code, INVALID_GROUP_ID)
            },
        ),
    ]
}

fn end(id: &str, (producer_id, producer_epoch): (i64, i16), committed: bool) -> own::EndTxnRequest {
    message!(own::EndTxnRequest {
        transactional_id: id.into(),
        producer_id,
        producer_epoch,
        committed,
    })
}

fn end_cases() -> Vec<Case> {
    vec![
        newest(
            "a transaction is committed",
            0,
            |world| {
                let producer = begin(world, "ender");
                let added: own::AddPartitionsToTxnResponse = world
                    .client
                    .ask_own(3, &single(add("ender", producer, &[(TOPIC, &[0])])));
                assert_eq!(codes(&added), [NONE]);
                end("ender", producer, true)
            },
            |_, answer: own::EndTxnResponse| assert_eq!(answer.error_code, NONE),
        ),
        newest(
            "nothing is open to be committed",
            0,
            |world| {
                let producer = begin(world, "idle");
                end("idle", producer, true)
            },
            |_, answer: own::EndTxnResponse| assert_eq!(answer.error_code, INVALID_TXN_STATE),
        ),
        newest(
            "of nobody",
            0,
            |_| end("stranger", (77, 0), false),
            |_, answer: own::EndTxnResponse| {
                assert_eq!(answer.error_code, INVALID_PRODUCER_ID_MAPPING);
            },
        ),
        newest(
            "without an id",
            0,
            |_| end("", (77, 0), false),
            |_, answer: own::EndTxnResponse| assert_eq!(answer.error_code, INVALID_REQUEST),
        ),
    ]
}

fn commit_cases() -> Vec<Case> {
    let request =
        |id: &str, (producer_id, producer_epoch): (i64, i16), member: &str, generation| {
            let partition = message!(TxnOffsetCommitRequestPartition {
                partition_index: 0,
                committed_offset: 3,
                committed_metadata: Some("note".into()),
            });
            let topic = message!(TxnOffsetCommitRequestTopic {
                name: TOPIC.into(),
                partitions: vec![partition]
            });
            message!(own::TxnOffsetCommitRequest {
                transactional_id: id.into(),
                group_id: "moved".into(),
                producer_id,
                producer_epoch,
                generation_id_or_member_epoch: generation,
                member_id: member.into(),
                topics: vec![topic],
            })
        };
    let code = |answer: &own::TxnOffsetCommitResponse| answer.topics[0].partitions[0].error_code;
    vec![
        newest(
            "offsets with a transaction",
            0,
            move |world| {
                let producer = begin(world, "committer");
                let added = message!(own::AddOffsetsToTxnRequest {
                    transactional_id: "committer".into(),
                    producer_id: producer.0,
                    producer_epoch: producer.1,
                    group_id: "moved".into(),
                });
                let added: own::AddOffsetsToTxnResponse = world.client.ask_own(3, &added);
                assert_eq!(added.error_code, NONE);
                request("committer", producer, "", -1)
            },
            move |_, answer| assert_eq!(code(&answer), NONE),
        ),
        newest(
            "by a member that the group does not have",
            3,
            move |world| {
                let producer = begin(world, "committer");
                request("committer", producer, "nobody", 7)
            },
            move |_, answer| {
                let code = code(&answer);
                assert!(
                    [UNKNOWN_MEMBER_ID, ILLEGAL_GENERATION].contains(&code),
                    "{code}"
                );
            },
        ),
        newest(
            "of nobody",
            0,
            move |_| request("stranger", (77, 0), "", -1),
            move |_, answer| assert_eq!(code(&answer), INVALID_PRODUCER_ID_MAPPING),
        ),
    ]
}

fn describe_cases() -> Vec<Case> {
    vec![
        newest(
            "a transaction, and none",
            0,
            |world| {
                let producer = begin(world, "described");
                let added: own::AddPartitionsToTxnResponse = world
                    .client
                    .ask_own(3, &single(add("described", producer, &[(TOPIC, &[0, 1])])));
                assert_eq!(codes(&added), [NONE, NONE]);
                message!(own::DescribeTransactionsRequest {
                    transactional_ids: vec!["described".into(), "none".into()],
                })
            },
            |_, answer: own::DescribeTransactionsResponse| {
                let [known, none] = &answer.transaction_states[..] else {
                    panic!("{answer:?}");
                };
                assert_eq!(
                    (known.error_code, &*known.transaction_state),
                    (NONE, "Ongoing")
                );
                assert_eq!(known.topics[0].partitions, [0, 1]);
                assert!(known.transaction_start_time_ms > 0);
                assert_eq!(none.error_code, TRANSACTIONAL_ID_NOT_FOUND);
            },
        ),
        newest(
            "transactions by how they stand",
            0,
            |world| {
                begin(world, "listed");
                message!(own::ListTransactionsRequest {
                    state_filters: vec!["Empty".into(), "Asleep".into()],
                })
            },
            |_, answer: own::ListTransactionsResponse| {
                let is_listed = |id: &str| {
                    let mut states = answer.transaction_states.iter();
                    states.any(|known| *known.transactional_id == *id)
                };
                assert!(is_listed("listed") && !is_listed("described"));
                assert_eq!(&*answer.unknown_state_filters[0], "Asleep");
            },
        ),
        newest(
            "transactions whose ids match",
            2,
            |world| {
                begin(world, "orders-1");
                begin(world, "old-orders-1");
                message!(own::ListTransactionsRequest {
                    transactional_id_pattern: Some("orders-[0-9]".into()),
                })
            },
            |world, answer: own::ListTransactionsResponse| {
                let ids: Vec<_> = answer.transaction_states.iter().collect();
                let ids: Vec<_> = ids.iter().map(|it| &*it.transactional_id).collect();
                assert_eq!(ids, ["orders-1"]);
                let broken = message!(own::ListTransactionsRequest {
                    transactional_id_pattern: Some("orders-[0".into()),
                });
                let refused: own::ListTransactionsResponse = world.client.ask_own(2, &broken);
                assert_eq!(refused.error_code, INVALID_REGULAR_EXPRESSION);
            },
        ),
        newest(
            "producers of partitions",
            0,
            |_| {
                let topic = |name: &str| {
                    message!(own::describe_producers_request::TopicRequest {
                        name: name.into(),
                        partition_indexes: vec![0],
                    })
                };
                message!(own::DescribeProducersRequest {
                    topics: vec![topic(TOPIC), topic(NOWHERE)]
                })
            },
            |_, answer: own::DescribeProducersResponse| {
                assert_eq!(answer.topics[0].partitions[0].error_code, NONE);
                let code = answer.topics[1].partitions[0].error_code;
                assert_eq!(code, UNKNOWN_TOPIC_OR_PARTITION);
            },
        ),
    ]
}
