//! Idempotent producers that send until they know.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;

use alluvium_checker::{Event, RecordId};
use alluvium_client::{Client, ClientError, Target, TopicInfo, new_producer_id, produce};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_types::{Clock, ErrorCode, SystemClock};

use super::run::{PATIENCE, Run};

/// A batch is given up after this long, as Kafka's `delivery.timeout.ms` does.
const DELIVERY: Duration = Duration::from_secs(120);

/// How a producer loads the cluster.
#[derive(Clone, Copy)]
pub(super) struct Load {
    pub(super) batch_records: u32,
    pub(super) record_bytes: usize,
    pub(super) pause: Duration,
}

/// What became of a batch.
enum Fate {
    Acked(i64),
    Unknown,
}

struct Identity {
    producer: (i64, i16),
    writer: u32,
    number: u64,
    sequences: BTreeMap<i32, i32>,
}

/// Produces until told to stop. A producer that gave up a batch goes on under a new identity.
pub(super) async fn run(run: Run, load: Load) {
    let client_number = run.recorder.next_client();
    let Some(client) = run.connect(PATIENCE).await else {
        return;
    };
    let mut topic = None;
    let mut partition = i32::try_from(client_number).unwrap_or(0);
    while !run.stopping() {
        let producer = match new_producer_id(&client).await {
            Ok(producer) => producer,
            Err(error) => {
                run.failed("producer id", &error).await;
                continue;
            }
        };
        let mut identity = Identity {
            producer,
            writer: run.recorder.next_writer(),
            number: 0,
            sequences: BTreeMap::new(),
        };
        while !run.stopping() {
            partition = (partition + 1) % run.partitions;
            let sent = send(
                &run,
                &client,
                client_number,
                &mut topic,
                &mut identity,
                partition,
                load,
            );
            if matches!(sent.await, Fate::Unknown) {
                break;
            }
            if !load.pause.is_zero() {
                run.pause(load.pause).await;
            }
        }
    }
}

/// Sends the next batch of a partition until its fate is known or its time is up.
async fn send(
    run: &Run,
    client: &Client,
    client_number: u32,
    topic: &mut Option<TopicInfo>,
    identity: &mut Identity,
    partition: i32,
    load: Load,
) -> Fate {
    let count = load.batch_records;
    let first = identity.number;
    identity.number += u64::from(count);
    let sequence = identity.sequences.get(&partition).copied().unwrap_or(0);
    let (id, epoch) = identity.producer;
    let Ok(batch) = encode(run, identity.writer, first, load, (id, epoch, sequence)) else {
        return Fate::Unknown;
    };
    let op = run.recorder.next_op();
    let invoked = Event::ProduceInvoked {
        op,
        place: run.place(partition),
        writer: identity.writer,
        first,
        count,
        producer: id,
        sequence,
    };
    run.recorder.note(client_number, invoked);
    let fate = until_known(run, client, topic, partition, &batch).await;
    let event = match fate {
        Fate::Acked(offset) => Event::ProduceAcked { op, offset },
        Fate::Unknown => Event::ProduceUnknown { op },
    };
    run.recorder.note(client_number, event);
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    identity
        .sequences
        .insert(partition, sequence.wrapping_add(count) & i32::MAX);
    fate
}

async fn until_known(
    run: &Run,
    client: &Client,
    topic: &mut Option<TopicInfo>,
    partition: i32,
    batch: &Bytes,
) -> Fate {
    let begun = Instant::now();
    while begun.elapsed() < DELIVERY {
        let leader = leader(run, client, topic, partition).await;
        let answer = match leader {
            Ok(leader) => {
                let target = Target::Node(leader);
                produce(client, &target, &run.topic, partition, batch, -1).await
            }
            Err(error) => Err(error),
        };
        match answer {
            Ok(offset) if offset >= 0 => return Fate::Acked(offset),
            // Known as a duplicate, and nobody remembers of what.
            Ok(_) => return Fate::Unknown,
            Err(error) => {
                run.recorder.refused("produce", &error);
                if is_final(&error) {
                    return Fate::Unknown;
                }
                *topic = None;
                // Not cut short at the end: what is in flight is waited for.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    Fate::Unknown
}

async fn leader(
    run: &Run,
    client: &Client,
    topic: &mut Option<TopicInfo>,
    partition: i32,
) -> Result<i32, ClientError> {
    if topic.is_none() {
        *topic = client.topics(Some(&[&*run.topic])).await?.pop();
    }
    let leader = topic.as_ref().and_then(|topic| {
        let known = topic.partitions.iter().find(|p| p.partition == partition)?;
        Some(known.leader).filter(|leader| *leader >= 0)
    });
    leader.ok_or_else(|| {
        let code = ErrorCode::LeaderNotAvailable.code();
        ClientError::refused(format!("partition {partition}"), code, None)
    })
}

/// Whether sending the same batch again makes no sense.
fn is_final(error: &ClientError) -> bool {
    let ClientError::Refused { code, .. } = error else {
        return matches!(
            error,
            ClientError::Unsupported { .. } | ClientError::Usage(_)
        );
    };
    matches!(
        code,
        ErrorCode::OutOfOrderSequenceNumber
            | ErrorCode::DuplicateSequenceNumber
            | ErrorCode::UnknownProducerId
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::ProducerFenced
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge
            | ErrorCode::InvalidRecord
            | ErrorCode::TopicAuthorizationFailed
            | ErrorCode::ClusterAuthorizationFailed
            | ErrorCode::InvalidTopic
            | ErrorCode::InvalidTimestamp
    )
}

fn encode(
    run: &Run,
    writer: u32,
    first: u64,
    load: Load,
    producer: (i64, i16, i32),
) -> Result<Bytes, alluvium_protocol::batch::BatchError> {
    let now = SystemClock.now();
    let records: Vec<Record> = (0..load.batch_records)
        .map(|step| {
            let id = RecordId(writer, first + u64::from(step));
            let mut value = run.value(id);
            if value.len() < load.record_bytes {
                value.push(' ');
                value.extend(std::iter::repeat_n('.', load.record_bytes - value.len()));
            }
            Record {
                timestamp: now,
                key: None,
                value: Some(value.into()),
                ..Record::default()
            }
        })
        .collect();
    let options = BatchOptions {
        codec: Codec::None,
        producer: Some(producer),
        transactional: false,
    };
    records::encode(&records, options)
}
