//! Reads partitions from given positions.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alluvium_protocol::batch::{self, BatchHeader};
use alluvium_protocol::message;
use alluvium_protocol::messages::{
    FetchRequest, ListOffsetsRequest,
    fetch_request::{FetchPartition, FetchTopic},
    fetch_response::AbortedTransaction,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
};
use alluvium_protocol::records::{self, Marker, Record};
use alluvium_types::limits::DECOMPRESSED_BATCH_BYTES;
use alluvium_types::{Millis, Offset, ProducerId};

use crate::client::{Client, Target, TopicInfo};
use crate::error::ClientError;

/// The newest version of Fetch that names topics.
const BY_NAME: i16 = 12;

/// Bytes of one answer.
const FETCH_BYTES: i32 = 16 << 20;

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the first record there is.
    Beginning,
    /// At what comes next.
    End,
    /// At an offset.
    Offset(Offset),
    /// At the first record of this time or later.
    Time(Millis),
}

/// Which records of transactions are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All, of open and aborted ones too.
    #[default]
    Uncommitted,
    /// Those of committed ones; nothing behind the first open one.
    Committed,
}

/// A record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRecord {
    /// Its partition.
    pub partition: i32,
    /// The record.
    pub record: Record,
}

/// What one fetch brought of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Which partition.
    pub partition: i32,
    /// The node that answered.
    pub node: i32,
    /// The offset asked for.
    pub from: Offset,
    /// The end of what may be read.
    pub high_watermark: Offset,
    /// The first offset there is.
    pub log_start: Offset,
    /// What came, from the offset asked for on.
    pub records: Vec<Record>,
}

/// Asks `target` once for an offset of a partition: of a time, of the end (-1) or of the start (-2).
/// Negative where there is none.
///
/// # Errors
/// See [`ClientError`].
pub async fn list_offset(
    client: &Client,
    target: &Target,
    topic: &str,
    partition: i32,
    timestamp: Millis,
) -> Result<Offset, ClientError> {
    let wanted = message!(ListOffsetsPartition {
        partition_index: partition,
        timestamp,
    });
    let wanted = message!(ListOffsetsTopic {
        name: topic.into(),
        partitions: vec![wanted],
    });
    let ask = message!(ListOffsetsRequest {
        replica_id: -1,
        isolation_level: client.isolation().level(),
        topics: vec![wanted]
    });
    let answer = client.call(target, &ask).await?;
    let found = answer
        .topics
        .first()
        .and_then(|topic| topic.partitions.first());
    let subject = format!("topic {topic} partition {partition}");
    let Some(found) = found else {
        return Err(ClientError::refused(
            subject,
            -1,
            Some("the answer does not mention it"),
        ));
    };
    ClientError::check(&subject, found.error_code, None)?;
    Ok(found.offset)
}

/// Reads partitions of one topic.
#[derive(Debug)]
pub struct Consumer<'a> {
    client: &'a Client,
    topic: TopicInfo,
    positions: BTreeMap<i32, Offset>,
    /// A leader failed or denied being one: ask again who leads.
    stale: bool,
}

impl<'a> Consumer<'a> {
    /// A reader of `partitions` (all, when `None`) from `start` on.
    ///
    /// # Errors
    /// No such topic or partition.
    pub async fn new(
        client: &'a Client,
        topic: &str,
        partitions: Option<&[i32]>,
        start: Start,
    ) -> Result<Self, ClientError> {
        let mut topics = client.topics(Some(&[topic])).await?;
        if topics.is_empty() {
            return Err(ClientError::refused(format!("topic {topic}"), 3, None));
        }
        let topic = topics.swap_remove(0);
        let all: Vec<i32> = topic
            .partitions
            .iter()
            .map(|known| known.partition)
            .collect();
        let chosen = partitions.map_or_else(|| all.clone(), <[i32]>::to_vec);
        if let Some(missing) = chosen.iter().find(|wanted| !all.contains(wanted)) {
            let (name, count) = (&topic.name, all.len());
            let reason = format!("topic {name} has {count} partitions, no {missing}");
            return Err(ClientError::Usage(reason));
        }
        let mut consumer = Self {
            client,
            topic,
            positions: BTreeMap::new(),
            stale: false,
        };
        for partition in chosen {
            let offset = consumer.resolve(partition, start).await?;
            consumer.positions.insert(partition, offset);
        }
        Ok(consumer)
    }

    /// The next offset of every partition that is read.
    #[must_use]
    pub const fn positions(&self) -> &BTreeMap<i32, Offset> {
        &self.positions
    }

    /// Moves to another offset of a partition that is read.
    pub fn seek(&mut self, partition: i32, offset: Offset) {
        self.positions.insert(partition, offset);
    }

    /// The ends of the partitions as they are now.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn ends(&self) -> Result<BTreeMap<i32, Offset>, ClientError> {
        let mut ends = BTreeMap::new();
        for partition in self.positions.keys() {
            ends.insert(*partition, self.resolve(*partition, Start::End).await?);
        }
        Ok(ends)
    }

    async fn resolve(&self, partition: i32, start: Start) -> Result<Offset, ClientError> {
        let timestamp = match start {
            Start::Offset(offset) => return Ok(offset),
            Start::Beginning => -2,
            Start::End => -1,
            Start::Time(time) => time,
        };
        let offset = self.list_offset(partition, timestamp).await?;
        // No record of that time or later: what comes next is.
        if offset < 0 {
            self.list_offset(partition, -1).await
        } else {
            Ok(offset)
        }
    }

    async fn list_offset(&self, partition: i32, timestamp: i64) -> Result<Offset, ClientError> {
        let target = self.leader(partition);
        list_offset(self.client, &target, &self.topic.name, partition, timestamp).await
    }

    fn subject(&self, partition: i32) -> String {
        format!("topic {} partition {partition}", self.topic.name)
    }

    fn leader(&self, partition: i32) -> Target {
        self.topic
            .partitions
            .iter()
            .find(|known| known.partition == partition)
            .map_or(Target::Any, |known| Target::Node(known.leader))
    }

    /// Reads what there is, waiting up to `wait` for the first record.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll(&mut self, wait: Duration) -> Result<Vec<ReadRecord>, ClientError> {
        let answers = self.poll_answers(wait).await?;
        let named = answers.into_iter().flat_map(|answer| {
            let partition = answer.partition;
            let records = answer.records.into_iter();
            records.map(move |record| ReadRecord { partition, record })
        });
        Ok(named.collect())
    }

    /// As [`Self::poll`], with all that the answers say. After an error of the connection or of the
    /// leader the next call asks anew who leads.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn poll_answers(&mut self, wait: Duration) -> Result<Vec<Answer>, ClientError> {
        if self.stale {
            self.refresh().await?;
        }
        let polled = self.poll_leaders(wait).await;
        self.stale = polled.is_err();
        polled
    }

    async fn refresh(&mut self) -> Result<(), ClientError> {
        let name = self.topic.name.clone();
        let mut topics = self.client.topics(Some(&[name.as_str()])).await?;
        if let Some(topic) = topics.pop() {
            self.topic = topic;
            self.stale = false;
        }
        Ok(())
    }

    async fn poll_leaders(&mut self, wait: Duration) -> Result<Vec<Answer>, ClientError> {
        let mut by_leader: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
        for partition in self.positions.keys() {
            if let Target::Node(leader) = self.leader(*partition) {
                by_leader.entry(leader).or_default().push(*partition);
            }
        }
        let mut read = Vec::new();
        let wait = wait / u32::try_from(by_leader.len().max(1)).unwrap_or(1);
        for (leader, partitions) in by_leader {
            self.fetch(leader, &partitions, wait, &mut read).await?;
        }
        Ok(read)
    }

    async fn fetch(
        &mut self,
        leader: i32,
        partitions: &[i32],
        wait: Duration,
        read: &mut Vec<Answer>,
    ) -> Result<(), ClientError> {
        let wanted = partitions
            .iter()
            .map(|partition| {
                message!(FetchPartition {
                    partition: *partition,
                    fetch_offset: self.positions.get(partition).copied().unwrap_or(0),
                    partition_max_bytes: FETCH_BYTES,
                })
            })
            .collect();
        let topic = message!(FetchTopic {
            topic: self.topic.name.as_str().into(),
            partitions: wanted
        });
        let ask = message!(FetchRequest {
            max_wait_ms: i32::try_from(wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            session_epoch: -1,
            isolation_level: self.client.isolation().level(),
            topics: vec![topic],
        });
        let answer = self
            .client
            .call_up_to(&Target::Node(leader), &ask, BY_NAME)
            .await?;
        ClientError::check(
            &format!("topic {}", self.topic.name),
            answer.error_code,
            None,
        )?;
        for data in answer.responses.iter().flat_map(|topic| &topic.partitions) {
            let subject = self.subject(data.partition_index);
            ClientError::check(&subject, data.error_code, None)?;
            let from = self.positions.get(&data.partition_index).copied();
            let records = match &data.records {
                Some(set) => {
                    let aborted = data.aborted_transactions.as_deref().unwrap_or_default();
                    self.take(data.partition_index, set, Aborted::new(aborted))?
                }
                None => Vec::new(),
            };
            read.push(Answer {
                partition: data.partition_index,
                node: leader,
                from: from.unwrap_or(0),
                high_watermark: data.high_watermark,
                log_start: data.log_start_offset,
                records,
            });
        }
        Ok(())
    }

    fn take(
        &mut self,
        partition: i32,
        set: &bytes::Bytes,
        mut aborted: Aborted,
    ) -> Result<Vec<Record>, ClientError> {
        let mut read = Vec::new();
        let subject = self.subject(partition);
        let damaged = |error: batch::BatchError| {
            ClientError::refused(subject.clone(), error.code.code(), Some(&error.reason))
        };
        let position = self.positions.entry(partition).or_insert(0);
        for batch in batch::split(set).map_err(damaged)? {
            let header = batch::BatchHeader::parse(&batch).map_err(damaged)?;
            // Markers are of no interest to anybody else.
            if !aborted.hold(&batch, &header) && !header.is_control() {
                for record in records::decode(&batch, DECOMPRESSED_BATCH_BYTES).map_err(damaged)? {
                    if record.offset >= *position {
                        read.push(record);
                    }
                }
            }
            *position =
                (*position).max(header.base_offset + i64::from(header.last_offset_delta) + 1);
        }
        Ok(read)
    }
}

impl Isolation {
    pub(crate) const fn level(self) -> i8 {
        match self {
            Self::Uncommitted => 0,
            Self::Committed => 1,
        }
    }
}

/// The aborted transactions of one answer: each begins with its first offset and ends with its marker.
#[derive(Debug)]
struct Aborted {
    /// Those that are still to come, the first one last.
    to_come: Vec<(Offset, ProducerId)>,
    begun: BTreeSet<ProducerId>,
}

impl Aborted {
    fn new(told: &[AbortedTransaction]) -> Self {
        let mut to_come: Vec<_> = told
            .iter()
            .map(|one| (one.first_offset, one.producer_id))
            .collect();
        to_come.sort_unstable_by(|one, other| other.cmp(one));
        Self {
            to_come,
            begun: BTreeSet::new(),
        }
    }

    /// Whether a batch, the next one, is part of an aborted transaction.
    fn hold(&mut self, batch: &bytes::Bytes, header: &BatchHeader) -> bool {
        let begins = |(first, _): &mut (Offset, ProducerId)| *first <= header.last_offset();
        while let Some((_, producer)) = self.to_come.pop_if(begins) {
            self.begun.insert(producer);
        }
        if !header.is_transactional() {
            return false;
        }
        if Marker::of(batch) == Some(Marker::Abort) {
            self.begun.remove(&header.producer_id);
        }
        self.begun.contains(&header.producer_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_aborted_transactions_are_told_by_their_producers() {
        let told = |producer: i64, first_offset| {
            message!(AbortedTransaction {
                producer_id: producer,
                first_offset,
            })
        };
        let mut aborted = Aborted::new(&[told(1, 20), told(2, 5), told(1, 3)]);
        let header = |producer_id, base_offset, attributes| BatchHeader {
            base_offset,
            bytes: 0,
            leader_epoch: 0,
            crc: 0,
            attributes,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp: 0,
            producer_id,
            producer_epoch: 0,
            base_sequence: 0,
            record_count: 1,
        };
        let mut is_aborted = |header: &BatchHeader| aborted.hold(&bytes::Bytes::new(), header);
        assert!(!is_aborted(&header(1, 2, 0x10)));
        assert!(is_aborted(&header(1, 3, 0x10)));
        assert!(!is_aborted(&header(1, 4, 0)), "outside of the transaction");
        assert!(!is_aborted(&header(2, 4, 0x10)));
        assert!(is_aborted(&header(2, 6, 0x10)));
        assert!(!is_aborted(&header(3, 7, 0x10)));
        aborted.begun.remove(&1);
        let mut is_aborted = |header: &BatchHeader| aborted.hold(&bytes::Bytes::new(), header);
        assert!(!is_aborted(&header(1, 9, 0x10)));
        assert!(is_aborted(&header(1, 20, 0x10)));
    }
}
