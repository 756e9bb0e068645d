//! Transactional producers that write to several partitions, commit, abort, die in the midst of it, and
//! take each other's id over.

use std::collections::BTreeMap;
use std::time::Duration;

use alluvium_agent::produce::{Acks, PartitionRecords};
use alluvium_checker::{Event, Place};
use alluvium_metadata::{
    Command, EndTransaction, EndedBy, InitTransactions, Outcome, ProducerEpoch,
};
use alluvium_types::{ErrorCode, TopicPartition, random};
use tokio::time::{Instant, timeout};

use super::producer::encode_in;
use super::session::Session;
use super::{Client, TOPICS};

/// Transactional ids; producers share them.
const IDS: u32 = 2;

/// Longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(8);

/// A transaction is given up after this many seconds at most.
const DELIVERY: std::ops::Range<u64> = 4..30;

/// Time, virtual, in which what is open can be ended once everything works.
const CLOSING: Duration = Duration::from_secs(60);

type Lane = (&'static str, i32);

struct Producer<'a> {
    client: &'a Client,
    id: String,
    held: ProducerEpoch,
    writer: u32,
    number: u64,
    sequences: BTreeMap<Lane, i32>,
}

/// The producer's id is another's now, or it died.
struct Gone;

/// A batch on its way.
struct Batch {
    op: u64,
    lane: Lane,
    records: PartitionRecords,
}

/// Makes transactions until told to stop.
pub(crate) async fn transact(client: Client) {
    while !client.stopping() {
        let id = name(random::range(0..IDS));
        let Some(held) = init(&client, &id).await else {
            client.pause(100).await;
            continue;
        };
        let mut producer = Producer {
            writer: client.cluster.recorder.next_writer(),
            client: &client,
            id,
            held,
            number: 0,
            sequences: BTreeMap::new(),
        };
        while !client.stopping() {
            if producer.transaction().await.is_err() {
                break;
            }
            client.pause(100).await;
        }
        client.pause(2000).await;
    }
}

fn name(number: u32) -> String {
    format!("transactions-{number}")
}

/// Aborts what is open, by taking each id over.
pub(crate) async fn close_all(client: &Client) {
    for number in 0..IDS {
        let close = async {
            while init(client, &name(number)).await.is_none() {
                client.wait(200).await;
            }
        };
        if timeout(CLOSING, close).await.is_err() {
            let what = "no transaction can be ended although everything works".to_owned();
            client.cluster.recorder.failed(what);
        }
    }
}

async fn propose(client: &Client, command: Command) -> Option<Outcome> {
    let agent = client.any_agent();
    let asked = client
        .cluster
        .ask(client.host, agent, ANSWER, |agent| async move {
            agent.metadata.propose(command).await
        });
    Some(asked.await.ok()?.ok()?.outcome)
}

async fn init(client: &Client, id: &str) -> Option<ProducerEpoch> {
    let command = Command::InitTransactions(InitTransactions {
        transactional_id: id.to_owned(),
        timeout: 60_000,
        expected: None,
        at: super::producer::NOW,
    });
    match propose(client, command).await? {
        Outcome::Producer(held) => Some(held),
        _ => None,
    }
}

impl Producer<'_> {
    async fn transaction(&mut self) -> Result<(), Gone> {
        let recorder = &self.client.cluster.recorder;
        let transaction = recorder.next();
        let deadline = Instant::now() + Duration::from_secs(random::range(DELIVERY));
        let mut session = None;
        let mut is_whole = true;
        for _ in 0..random::range(1..=4) {
            let mut batches = Vec::new();
            for _ in 0..random::range(1..=3) {
                let (topic, partitions, _) = TOPICS[random::range(0..TOPICS.len())];
                let lane = (topic, random::range(0..partitions));
                if batches.iter().all(|batch: &Batch| batch.lane != lane) {
                    batches.extend(self.begin(transaction, lane));
                }
            }
            match self.deliver(batches, &mut session, deadline).await {
                Ok(acked) => is_whole &= acked,
                Err(Gone) => {
                    // It was not committed, and only this producer could have done so.
                    self.note_end(transaction, false);
                    return Err(Gone);
                }
            }
            self.client.wait(100).await;
            if !is_whole {
                break;
            }
        }
        if random::range(0..8) == 0 {
            // It dies, and commits nothing.
            self.note_end(transaction, false);
            return Err(Gone);
        }
        let commit = is_whole && random::range(0..4) > 0;
        self.end(transaction, commit).await
    }

    fn note_end(&self, transaction: u64, committed: bool) {
        let event = Event::Ended {
            transaction,
            committed,
        };
        self.client.cluster.recorder.note(self.client.number, event);
    }

    fn begin(&mut self, transaction: u64, lane: Lane) -> Option<Batch> {
        let cluster = &self.client.cluster;
        let partition = TopicPartition::new(cluster.topic(lane.0)?, lane.1);
        let count: u32 = random::range(1..=3);
        let size = if random::range(0..20) == 0 {
            40_000
        } else {
            random::range(0..200)
        };
        let sequence = self.sequences.entry(lane).or_default();
        let stamp = (self.held.id, self.held.epoch, *sequence);
        let records = encode_in(self.writer, self.number, count, size, stamp)?;
        let op = cluster.recorder.next();
        let invoked = Event::ProduceInvoked {
            op,
            place: Place::new(lane.0, lane.1),
            writer: self.writer,
            first: self.number,
            count,
            producer: self.held.id,
            sequence: *sequence,
        };
        cluster.recorder.note(self.client.number, invoked);
        let joined = Event::Joined { transaction, op };
        cluster.recorder.note(self.client.number, joined);
        self.number += u64::from(count);
        *sequence += i32::try_from(count).unwrap_or(0);
        Some(Batch {
            op,
            lane,
            records: PartitionRecords { partition, records },
        })
    }

    /// Sends batches until all are acknowledged; false when that takes too long.
    async fn deliver(
        &mut self,
        mut batches: Vec<Batch>,
        session: &mut Option<Session>,
        deadline: Instant,
    ) -> Result<bool, Gone> {
        let recorder = &self.client.cluster.recorder;
        let mut is_fenced = false;
        while !batches.is_empty() && !is_fenced && Instant::now() < deadline {
            if session.is_none() {
                let (cluster, host) = (&self.client.cluster, self.client.host);
                *session = Session::open(cluster, host, self.client.any_agent(), Acks::All);
            }
            let Some(open) = session.as_ref() else {
                self.client.wait(100).await;
                continue;
            };
            let records = batches.iter().map(|batch| PartitionRecords {
                partition: batch.records.partition,
                records: batch.records.records.clone(),
            });
            let answer = open.send(records.collect());
            let Ok(Ok(results)) = timeout(ANSWER, answer).await else {
                *session = None;
                continue;
            };
            let mut left = Vec::new();
            for (batch, result) in batches.into_iter().zip(results) {
                match result.error {
                    ErrorCode::None => recorder.note(
                        self.client.number,
                        Event::ProduceAcked {
                            op: batch.op,
                            offset: result.base_offset,
                        },
                    ),
                    ErrorCode::InvalidProducerEpoch
                    | ErrorCode::ProducerFenced
                    | ErrorCode::InvalidProducerIdMapping
                    | ErrorCode::InvalidTxnState => {
                        is_fenced = true;
                        left.push(batch);
                    }
                    other => {
                        recorder.refused(&format!("transaction: {other}"));
                        left.push(batch);
                    }
                }
            }
            batches = left;
            self.client.wait(100).await;
        }
        for batch in &batches {
            recorder.note(self.client.number, Event::ProduceUnknown { op: batch.op });
        }
        if is_fenced {
            recorder.refused("transaction: fenced");
            return Err(Gone);
        }
        Ok(batches.is_empty())
    }

    /// Ends the transaction; asked again until it is known how.
    async fn end(&mut self, transaction: u64, commit: bool) -> Result<(), Gone> {
        let by = if random::range(0..2) == 0 {
            EndedBy::Producer
        } else {
            EndedBy::BumpingProducer
        };
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut is_first = true;
        while Instant::now() < deadline {
            let command = Command::EndTransaction(EndTransaction {
                transactional_id: self.id.clone(),
                producer: self.held,
                commit,
                by,
                at: super::producer::NOW,
            });
            match propose(self.client, command).await {
                Some(Outcome::Producer(next)) => {
                    self.note_end(transaction, commit);
                    // One that is still on its way must not end the next transaction.
                    if !is_first && next == self.held {
                        return Err(Gone);
                    }
                    if next != self.held {
                        self.sequences.clear();
                        self.held = next;
                    }
                    return Ok(());
                }
                Some(Outcome::Refused(_)) => {
                    // Asked for the first time: nothing was ended by this producer.
                    if is_first || !commit {
                        self.note_end(transaction, false);
                    }
                    self.client
                        .cluster
                        .recorder
                        .refused("transaction: not ended");
                    return Err(Gone);
                }
                _ => {
                    is_first = false;
                    self.client.wait(300).await;
                }
            }
        }
        if !commit {
            self.note_end(transaction, false);
        }
        Err(Gone)
    }
}
