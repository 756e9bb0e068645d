//! Idempotent producers that pipeline, try again, and change agents.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alluvium_agent::produce::{Acks, PartitionRecords};
use alluvium_checker::{Event, Place, RecordId};
use alluvium_protocol::compression::Codec;
use alluvium_protocol::produce::ProduceResult;
use alluvium_protocol::records::{self, BatchOptions, Record};
use alluvium_types::{ErrorCode, ProducerId, TopicPartition, random};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

use super::session::Session;
use super::{Client, TOPICS};

/// As many batches of a producer as a partition remembers.
const WINDOW: usize = 5;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(8);

/// A batch is given up after this many seconds at most. Not once everything is healed.
const DELIVERY: std::ops::Range<u64> = 4..40;

/// When everything works, nobody waits for this long.
const HANGING: Duration = Duration::from_secs(60);

/// Timestamps of records.
pub(super) const NOW: i64 = 1_700_000_000_000;

struct Batch {
    op: u64,
    bytes: Bytes,
    begun: Instant,
    acked: bool,
}

#[derive(Default)]
struct Lane {
    sequence: i32,
    /// In the order of their sequences. Those acknowledged out of order stay until they are first.
    window: VecDeque<Batch>,
}

struct Producer {
    client: Client,
    id: ProducerId,
    writer: u32,
    number: u64,
    lanes: BTreeMap<(&'static str, i32), Lane>,
    session: Option<Session>,
    delivery: Duration,
}

/// Why an identity is of no use any more.
struct Spent;

/// Produces until told to stop and everything is answered.
pub(crate) async fn produce(client: Client) {
    while !client.stopping() {
        let agent = client.any_agent();
        let ask = client
            .cluster
            .ask(client.host, agent, ANSWER, |agent| async move {
                agent.producer_ids.next().await
            });
        let Ok(Ok(id)) = ask.await else {
            client.pause(100).await;
            continue;
        };
        let mut producer = Producer {
            writer: client.cluster.recorder.next_writer(),
            client: client.clone(),
            id,
            number: 0,
            lanes: lanes(),
            session: None,
            delivery: Duration::from_secs(random::range(DELIVERY)),
        };
        if producer.run().await.is_err() {
            producer.give_up();
        }
    }
}

/// The partitions that a producer writes to: one to three.
fn lanes() -> BTreeMap<(&'static str, i32), Lane> {
    (0..random::range(1..=3))
        .map(|_| {
            let (topic, partitions, _) = TOPICS[random::range(0..TOPICS.len())];
            ((topic, random::range(0..partitions)), Lane::default())
        })
        .collect()
}

impl Producer {
    async fn run(&mut self) -> Result<(), Spent> {
        loop {
            if !self.client.stopping() {
                self.fill();
            }
            let idle = self.lanes.values().all(|lane| lane.window.is_empty());
            if idle && self.client.stopping() {
                return Ok(());
            }
            self.round().await?;
            let most = match random::range(0..20) {
                0 => 1500,
                1..4 => 200,
                _ => 30,
            };
            self.client.wait(most).await;
        }
    }

    /// Begins some batches.
    fn fill(&mut self) {
        let places: Vec<_> = self.lanes.keys().copied().collect();
        for place in places {
            for _ in 0..random::range(0..=3) {
                let full = |lane: &Lane| lane.window.len() >= WINDOW;
                if self.lanes.get(&place).is_none_or(full) {
                    break;
                }
                self.begin(place);
            }
        }
    }

    fn begin(&mut self, (topic, partition): (&'static str, i32)) {
        let count: u32 = random::range(1..=4);
        let first = self.number;
        // Some larger than what travels inline.
        let size = if random::range(0..30) == 0 {
            40_000
        } else {
            random::range(0..200)
        };
        let recorder = &self.client.cluster.recorder;
        let op = recorder.next();
        let Some(lane) = self.lanes.get_mut(&(topic, partition)) else {
            return;
        };
        let stamp = Some((self.id, 0, lane.sequence));
        let Some(bytes) = encode(self.writer, first, count, size, stamp) else {
            return recorder.failed("a batch cannot be encoded".to_owned());
        };
        recorder.note(
            self.client.number,
            Event::ProduceInvoked {
                op,
                place: Place::new(topic, partition),
                writer: self.writer,
                first,
                count,
                producer: self.id,
                sequence: lane.sequence,
            },
        );
        self.number += u64::from(count);
        lane.sequence += i32::try_from(count).unwrap_or(0);
        lane.window.push_back(Batch {
            op,
            bytes,
            begun: Instant::now(),
            acked: false,
        });
    }

    /// Sends everything that is not acknowledged, in order, and takes the answers.
    async fn round(&mut self) -> Result<(), Spent> {
        if self.session.is_none() || random::range(0..40) == 0 {
            let agent = self.client.any_agent();
            self.session = Session::open(&self.client.cluster, self.client.host, agent, Acks::All);
        }
        let Some(session) = &self.session else {
            self.client.wait(50).await;
            return self.judge_time();
        };
        let mut sent = Vec::new();
        for turn in 0..WINDOW {
            let mut records = Vec::new();
            let mut names = Vec::new();
            for (place, lane) in &self.lanes {
                let open = lane.window.iter().filter(|batch| !batch.acked).nth(turn);
                let topic = self.client.cluster.topic(place.0);
                if let (Some(batch), Some(topic)) = (open, topic) {
                    records.push(PartitionRecords {
                        partition: TopicPartition::new(topic, place.1),
                        records: batch.bytes.clone(),
                    });
                    names.push((*place, batch.op));
                }
            }
            if !names.is_empty() {
                sent.push((names, session.send(records)));
            }
        }
        let mut broken = false;
        for (names, answer) in sent {
            let Ok(Ok(results)) = timeout(ANSWER, answer).await else {
                broken = true;
                continue;
            };
            for ((place, op), result) in names.into_iter().zip(results) {
                broken |= self.answered(place, op, &result)?;
            }
        }
        if broken {
            self.session = None;
        }
        self.judge_time()
    }

    /// Takes an answer. Says whether it is better to go to another agent.
    fn answered(
        &mut self,
        place: (&'static str, i32),
        op: u64,
        result: &ProduceResult,
    ) -> Result<bool, Spent> {
        let recorder = &self.client.cluster.recorder;
        let Some(lane) = self.lanes.get_mut(&place) else {
            return Ok(false);
        };
        match result.error {
            ErrorCode::None => {
                let offset = result.base_offset;
                recorder.note(self.client.number, Event::ProduceAcked { op, offset });
                for batch in lane.window.iter_mut().filter(|batch| batch.op == op) {
                    batch.acked = true;
                }
                while lane.window.front().is_some_and(|batch| batch.acked) {
                    lane.window.pop_front();
                }
                Ok(false)
            }
            // What was before it did not get through; together they will.
            ErrorCode::OutOfOrderSequenceNumber => {
                recorder.refused("produce: out of order");
                let is_first = lane.window.front().is_some_and(|batch| batch.op == op);
                Ok(is_first && random::range(0..3) == 0)
            }
            ErrorCode::DuplicateSequenceNumber
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::UnknownProducerId
            | ErrorCode::CorruptMessage
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidTimestamp
            | ErrorCode::MessageTooLarge => {
                let (name, partition) = place;
                let (error, message) = (result.error, &result.message);
                recorder.failed(format!(
                    "producer {} was refused in {name}-{partition}: {error} {message:?}",
                    self.id
                ));
                Err(Spent)
            }
            other => {
                recorder.refused(&format!("produce: {other}"));
                Ok(random::range(0..4) == 0)
            }
        }
    }

    /// Gives up what waits for too long; where everything works that is a failure.
    fn judge_time(&self) -> Result<(), Spent> {
        let mut first = self.lanes.values().filter_map(|lane| lane.window.front());
        let healed = self.client.cluster.is_healed();
        let limit = if healed {
            HANGING + self.delivery
        } else {
            self.delivery
        };
        if first.any(|batch| batch.begun.elapsed() > limit) {
            if healed {
                let what = format!("producer {} hangs although everything works", self.id);
                self.client.cluster.recorder.failed(what);
            }
            return Err(Spent);
        }
        Ok(())
    }

    fn give_up(&mut self) {
        let recorder = &self.client.cluster.recorder;
        recorder.refused("produce: given up");
        for lane in self.lanes.values_mut() {
            for batch in lane.window.drain(..).filter(|batch| !batch.acked) {
                recorder.note(self.client.number, Event::ProduceUnknown { op: batch.op });
            }
        }
    }
}

pub(super) fn encode(
    writer: u32,
    first: u64,
    count: u32,
    size: usize,
    producer: Option<(ProducerId, i16, i32)>,
) -> Option<Bytes> {
    let options = BatchOptions {
        codec: Codec::None,
        producer,
        transactional: false,
    };
    build(writer, first, count, size, options)
}

/// A batch of a transaction.
pub(super) fn encode_in(
    writer: u32,
    first: u64,
    count: u32,
    size: usize,
    producer: (ProducerId, i16, i32),
) -> Option<Bytes> {
    let options = BatchOptions {
        codec: Codec::None,
        producer: Some(producer),
        transactional: true,
    };
    build(writer, first, count, size, options)
}

fn build(writer: u32, first: u64, count: u32, size: usize, options: BatchOptions) -> Option<Bytes> {
    let records: Vec<Record> = (0..count)
        .map(|step| {
            let mut value = RecordId(writer, first + u64::from(step)).to_string();
            value.push(' ');
            value.extend(std::iter::repeat_n('.', size));
            Record {
                timestamp: NOW,
                value: Some(Bytes::from(value)),
                ..Record::default()
            }
        })
        .collect();
    records::encode(&records, options).ok()
}
