//! Sends records in batches.

use std::collections::BTreeMap;

use bytes::Bytes;

use alluvium_protocol::compression::Codec;
use alluvium_protocol::message;
use alluvium_protocol::messages::{
    InitProducerIdRequest, ProduceRequest,
    produce_request::{PartitionProduceData, TopicProduceData},
};
use alluvium_protocol::records::{self, BatchOptions, Record};

use alluvium_types::Offset;

use crate::client::{Client, Target, TopicInfo};
use crate::error::ClientError;
use crate::partitioner::partition_of_key;

/// The newest version of Produce that names topics.
const BY_NAME: i16 = 12;

/// Tries at a batch whose refusal may pass.
const TRIES: u32 = 10;

/// How records are sent.
#[derive(Clone, Copy, Debug)]
pub struct ProducerOptions {
    /// Codec of the batches.
    pub codec: Codec,
    /// 0, 1 or -1 (all).
    pub acks: i16,
    /// A batch is sent when its records reach this many bytes.
    pub batch_bytes: usize,
    /// Send everything to this partition.
    pub partition: Option<i32>,
}

impl Default for ProducerOptions {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            acks: -1,
            batch_bytes: 512 << 10,
            partition: None,
        }
    }
}

/// What became of the records so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Records acknowledged (or sent, without acknowledgements).
    pub records: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

/// Records on their way to one topic. Idempotent whenever acks is "all".
#[derive(Debug)]
pub struct Producer<'a> {
    client: &'a Client,
    topic: TopicInfo,
    options: ProducerOptions,
    identity: Option<(i64, i16)>,
    waiting: BTreeMap<usize, Waiting>,
    sequences: BTreeMap<usize, i32>,
    next_keyless: usize,
    sent: Sent,
}

#[derive(Debug, Default)]
struct Waiting {
    records: Vec<Record>,
    bytes: usize,
}

impl<'a> Producer<'a> {
    /// A producer to a topic, which the server makes now if it makes topics on first use.
    ///
    /// # Errors
    /// No such topic, or the server gives no producer id.
    pub async fn new(
        client: &'a Client,
        topic: &str,
        options: ProducerOptions,
    ) -> Result<Self, ClientError> {
        let topic = client.topic_on_first_use(topic).await?;
        let identity = if options.acks == -1 {
            Some(new_producer_id(client).await?)
        } else {
            None
        };
        Ok(Self {
            client,
            topic,
            options,
            identity,
            waiting: BTreeMap::new(),
            sequences: BTreeMap::new(),
            next_keyless: 0,
            sent: Sent::default(),
        })
    }

    /// Takes a record; its offset is ignored. Sends the batch that it fills.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn send(&mut self, record: Record) -> Result<(), ClientError> {
        let partition = self.place(&record)?;
        let bytes = record.key.as_ref().map_or(0, Bytes::len)
            + record.value.as_ref().map_or(0, Bytes::len)
            + 32;
        let waiting = self.waiting.entry(partition).or_default();
        waiting.records.push(record);
        waiting.bytes += bytes;
        if waiting.bytes >= self.options.batch_bytes {
            // Keyless records go on to the next partition with the next batch.
            self.next_keyless = self.next_keyless.wrapping_add(1);
            self.send_partition(partition).await?;
        }
        Ok(())
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn flush(&mut self) -> Result<Sent, ClientError> {
        while let Some((partition, _)) = self.waiting.iter().next() {
            let partition = *partition;
            self.send_partition(partition).await?;
        }
        Ok(self.sent)
    }

    /// What was sent so far.
    #[must_use]
    pub const fn sent(&self) -> Sent {
        self.sent
    }

    fn place(&self, record: &Record) -> Result<usize, ClientError> {
        let count = self.topic.partitions.len();
        if let Some(wanted) = self.options.partition {
            return self
                .topic
                .partitions
                .iter()
                .position(|known| known.partition == wanted)
                .ok_or_else(|| {
                    let name = &self.topic.name;
                    ClientError::Usage(format!("topic {name} has {count} partitions, no {wanted}"))
                });
        }
        if count == 0 {
            return Err(ClientError::Usage(format!(
                "topic {} has no partitions",
                self.topic.name
            )));
        }
        Ok(match &record.key {
            Some(key) => partition_of_key(key, count),
            None => self.next_keyless % count,
        })
    }

    async fn send_partition(&mut self, partition: usize) -> Result<(), ClientError> {
        let Some(waiting) = self.waiting.remove(&partition) else {
            return Ok(());
        };
        let sequence = self.sequences.get(&partition).copied().unwrap_or(0);
        let options = BatchOptions {
            codec: self.options.codec,
            producer: self.identity.map(|(id, epoch)| (id, epoch, sequence)),
            transactional: false,
        };
        let batch = records::encode(&waiting.records, options)
            .map_err(|error| ClientError::Usage(error.to_string()))?;
        let mut tries = 0;
        loop {
            match self.send_batch(partition, &batch).await {
                Ok(()) => break,
                // An idempotent batch may be sent again: the server knows it by its sequence.
                Err(error) if error.is_retriable() && self.identity.is_some() && tries < TRIES => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
                }
                Err(error) => return Err(error),
            }
        }
        let count = i32::try_from(waiting.records.len()).unwrap_or(i32::MAX);
        self.sequences
            .insert(partition, sequence.wrapping_add(count) & i32::MAX);
        self.sent.records += waiting.records.len() as u64;
        self.sent.bytes += batch.len() as u64;
        Ok(())
    }

    async fn send_batch(&self, partition: usize, batch: &Bytes) -> Result<(), ClientError> {
        let Some(place) = self.topic.partitions.get(partition) else {
            return Ok(());
        };
        let target = Target::Node(place.leader);
        let (name, partition, acks) = (&self.topic.name, place.partition, self.options.acks);
        produce(self.client, &target, name, partition, batch, acks)
            .await
            .map(drop)
    }
}

/// Sends one encoded batch once; the offset of its first record. Nothing is tried again: after an
/// error of the connection it may or may not be stored.
///
/// # Errors
/// See [`ClientError`].
pub async fn produce(
    client: &Client,
    target: &Target,
    topic: &str,
    partition: i32,
    batch: &Bytes,
    acks: i16,
) -> Result<Offset, ClientError> {
    let data = message!(PartitionProduceData {
        index: partition,
        records: Some(batch.clone()),
    });
    let data = message!(TopicProduceData {
        name: topic.into(),
        partition_data: vec![data],
    });
    let ask = message!(ProduceRequest {
        acks,
        timeout_ms: 30_000,
        topic_data: vec![data],
    });
    let answer = client.call_up_to(target, &ask, BY_NAME).await?;
    let result = answer
        .responses
        .first()
        .and_then(|topic| topic.partition_responses.first());
    let subject = format!("topic {topic} partition {partition}");
    let Some(result) = result else {
        return Err(ClientError::refused(
            subject,
            -1,
            Some("the answer does not mention it"),
        ));
    };
    ClientError::check(&subject, result.error_code, result.error_message.as_deref())?;
    Ok(result.base_offset)
}

/// An identity for an idempotent producer: its id and epoch.
///
/// # Errors
/// See [`ClientError`].
pub async fn new_producer_id(client: &Client) -> Result<(i64, i16), ClientError> {
    let ask = message!(InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
    });
    let answer = client.call(&Target::Any, &ask).await?;
    ClientError::check("producer id", answer.error_code, None)?;
    Ok((answer.producer_id, answer.producer_epoch))
}
