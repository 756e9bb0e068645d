//! The write path: check, buffer, seal, make durable, sequence, answer.
//!
//! A request is checked partition by partition on the task of its connection (`check`) and what is
//! good goes into the `buffer`, in the order in which it came. One task, the `flusher`, owns all
//! that follows: it seals what is due (`seal`), sorts it into a `chunk`, has it uploaded
//! (`durable`) or puts it into a command, proposes chunks in the order in which they were sealed
//! wherever they share a partition (`flight`, `commit`), and answers each request when the last
//! of its batches is known (`submission`).
//!
//! # Lanes
//!
//! `auto` goes inline while what has gathered is at most 64 KiB and the agent's inline bytes per
//! second last, else to an object; while the store browns out, to write-ahead buffers with as many
//! copies as the cluster asks for, as long as they have room, and a chunk whose upload fails or hangs
//! turns there. `object` never goes inline; `low-latency` has a queue and four times the inline budget
//! of its own, and goes inline in several chunks of 64 KiB, up to a MiB, and beyond that to write-ahead
//! buffers (`journal`), or where they cannot be had to an object. What is sent with acks=1 or 0 by a
//! producer that is not idempotent goes to this agent's write-ahead buffer, whatever the lane, and is
//! settled at once if that is too few copies; its producers are answered when its offsets are noted
//! beside it. When the buffer is full, all goes as with acks=all.
//!
//! # Failure
//!
//! A PUT that takes longer than most is made a second time, and the first of the two counts. An
//! upload is tried under fresh names for 25 seconds; then its producers get
//! `KAFKA_STORAGE_ERROR`, as do those of a batch that waited 28 seconds to be sealed. A proposed chunk is proposed again, unchanged, until its outcome is known,
//! for the order of all that follows depends on it; its producers are told `REQUEST_TIMED_OUT` after
//! 28 seconds. Both codes make Kafka's clients try again.
//!
//! When a chunk is lost, what follows it for some idempotent producer must not be stored before it
//! comes again. Nobody here remembers that, for it may come again through another agent: the quorum
//! refuses what does not continue the producer's sequence in its partition (a producer that is not
//! known there begins with 0) as `OUT_OF_ORDER_SEQUENCE_NUMBER`, which clients take for what it is,
//! since the batch is not the next one that they wait for, and send again behind the one before.
//!
//! # Registrations
//!
//! Chunks are numbered under the agent's registration. When that has ended, what was proposed under
//! it is asked for until it is known: the quorum still knows what was sequenced, and refuses the
//! rest for good, whose producers are told `NOT_LEADER_OR_FOLLOWER`. What was not proposed yet goes
//! under the next registration. An agent that hears nothing of the quorum tells its producers to go
//! elsewhere, and those whose chunks were proposed that it is not known what became of them.

mod budget;
mod buffer;
mod check;
mod chunk;
mod commit;
mod durable;
mod flight;
mod flusher;
mod journal;
mod refusals;
mod seal;
mod seat;
mod settings;
mod submission;
mod visible;

#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::Metadata;
use alluvium_metadata::{BatchStamp, InTransaction};
use alluvium_protocol::produce::ProduceResult;
use alluvium_storage::bucket::Bucket;
use alluvium_storage::hedge::Hedges;
use alluvium_types::{Clock, ErrorCode, TopicPartition};

use crate::AgentConfig;
use crate::fetch::Recent;
use crate::peers::Peers;
use crate::registration::Registration;
use crate::store_health::StoreHealth;
use crate::task::ended;
use crate::topics::{TopicSettings, Topics};
use crate::write_ahead::AgentJournal;
use crate::write_ahead::reclaim::Voided;

use buffer::{Buffer, Entry, Line, Rejected};
use commit::Sequencer;
use durable::Uploader;
use flusher::Flusher;
use journal::Journaler;
use refusals::RefusalLog;
use seal::SealRules;
use seat::Seat;
use settings::SettingsCache;
use submission::{Submission, Waiting};

/// How long a shutdown waits for what is in flight.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(10);

/// Inline bytes lie in the metadata's memory until they are settled. While the store takes nothing
/// they are not, so beyond four times the bytes at which they should be, within these bounds, chunks go
/// elsewhere and fail or wait with the store.
const INLINE_LEAST: u64 = 4 << 20;
const INLINE_MOST: u64 = 16 << 20;

/// The write path of an agent.
#[derive(Debug)]
pub struct Produce {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What connections and the flusher share.
#[derive(Debug)]
struct Shared {
    settings: SettingsCache,
    registration: Registration,
    clock: Arc<dyn Clock>,
    refusals: RefusalLog,
    /// With this many inline bytes in the metadata no more go there.
    inline_most: u64,
    chunk_bytes: usize,
    /// A producer may be content with this agent's copy.
    has_journal: bool,
    buffer: Mutex<Buffer>,
    /// Something in the buffer changed.
    wake: Notify,
    /// The buffer is closed and everything was answered.
    drained: Notify,
    next_seat: AtomicU64,
}

/// Where chunks may become durable beside the bucket, and how that fares.
#[derive(Clone, Debug)]
pub(crate) struct WritePaths {
    pub(crate) journal: Option<AgentJournal>,
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) health: StoreHealth,
    /// For readers of the tail.
    pub(crate) recent: Recent,
}

/// What a producer waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Records that no failure of one machine can lose (acks=all).
    #[default]
    All,
    /// This agent has them on its disk (acks=1), or nothing at all (acks=0).
    One,
}

/// A record set for one partition.
#[derive(Clone, Debug)]
pub struct PartitionRecords {
    /// For which partition.
    pub partition: TopicPartition,
    /// One batch, as the client sent it.
    pub records: Bytes,
}

/// A connection that produces. Dropping it tells the buffer that nothing more comes.
#[derive(Debug)]
pub struct ProducerConnection {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
    /// A producer here has waited for all: from then on everything does, or what waits for less
    /// would overtake it.
    waits_for_all: AtomicBool,
}

/// The answers to one submission, in its order, once they are known.
pub type Pending = oneshot::Receiver<Vec<ProduceResult>>;

impl Produce {
    /// Starts the write path.
    pub(crate) fn start(
        config: &AgentConfig,
        registration: Registration,
        metadata: Metadata,
        bucket: Bucket,
        clock: Arc<dyn Clock>,
        topics: Topics,
        paths: WritePaths,
    ) -> Self {
        let rules = SealRules {
            interval: config.flush_interval,
            chunk_bytes: config.chunk_bytes.max(1),
            concurrent_puts: config.concurrent_puts.max(1),
        };
        let (inline, early) = (config.inline_bytes_per_second, config.early_puts_per_second);
        let shared = Arc::new(Shared {
            settings: SettingsCache::new(metadata.clone(), topics),
            registration: registration.clone(),
            clock: Arc::clone(&clock),
            refusals: RefusalLog::new(),
            inline_most: config
                .settle_bytes
                .saturating_mul(4)
                .clamp(INLINE_LEAST, INLINE_MOST),
            chunk_bytes: rules.chunk_bytes,
            has_journal: paths.journal.is_some(),
            buffer: Mutex::new(Buffer::new(rules, inline, early, Instant::now())),
            wake: Notify::new(),
            drained: Notify::new(),
            next_seat: AtomicU64::new(0),
        });
        let journaler = paths.journal.map(|journal| Journaler {
            journal,
            peers: paths.peers,
            metadata: metadata.clone(),
            registration: registration.clone(),
            zone: config.zone.clone(),
            recent: paths.recent.clone(),
            min_copies: config.journal_min_copies.max(1),
        });
        let uploader = Uploader {
            bucket,
            hedges: Arc::new(Hedges::new(
                metrics::counter!("alluvium_produce_hedged_puts_total", "result" => "started"),
                metrics::counter!("alluvium_produce_hedged_puts_total", "result" => "won"),
            )),
            recent: paths.recent,
            clock: Arc::clone(&clock),
            health: paths.health,
            journaler,
        };
        let sequencer = Sequencer::new(registration, metadata, clock);
        let stop = CancellationToken::new();
        let flusher = Flusher::new(Arc::clone(&shared), uploader, sequencer);
        let task = tokio::spawn(flusher.run(stop.clone()));
        Self {
            shared,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// A new connection's seat at the buffer.
    #[must_use]
    pub fn connect(&self) -> ProducerConnection {
        let id = self.shared.next_seat.fetch_add(1, Ordering::Relaxed);
        ProducerConnection {
            shared: Arc::clone(&self.shared),
            seat: Arc::new(Seat::new(id)),
            waits_for_all: AtomicBool::new(false),
        }
    }

    /// Bytes that were taken and not answered yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.shared.buffer().held()
    }

    /// Seals and commits what is buffered, answers everybody, stops. Later submissions are answered
    /// with a retriable error.
    pub async fn shutdown(&self) {
        self.shared.buffer().close();
        self.shared.wake.notify_one();
        // Taken out at the end only: whoever gives up waiting here can come again.
        let has_ended = {
            let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
            task.is_none()
        };
        if has_ended {
            return;
        }
        if timeout(SHUTDOWN_DEADLINE, self.shared.drained.notified())
            .await
            .is_err()
        {
            let bytes = self.held_bytes();
            tracing::warn!(
                bytes,
                "shutting down with produces unanswered; clients will retry"
            );
        }
        self.stop.cancel();
        ended(&self.task, "moves chunks").await;
    }
}

impl Drop for Produce {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn buffer(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_drained(&self) -> bool {
        self.buffer().is_drained()
    }

    fn refuse(
        &self,
        submission: &Submission,
        (index, partition): (usize, TopicPartition),
        code: ErrorCode,
        reason: String,
    ) {
        self.refusals.refused(partition, code, &reason);
        submission.answer(index, ProduceResult::refused(code, reason));
    }
}

impl ProducerConnection {
    /// Checks a request's record sets and puts what is good into the buffer, synchronously, so that
    /// requests of one connection keep their order. Partitions that fail are answered with their
    /// error and do not hold up the others.
    #[must_use]
    pub fn submit(&self, request: Vec<PartitionRecords>) -> Pending {
        self.submit_with(request, Acks::All)
    }

    /// As [`Self::submit`], for a producer that waits for this.
    #[must_use]
    pub fn submit_with(&self, request: Vec<PartitionRecords>, acks: Acks) -> Pending {
        self.submit_in(request, acks, InTransaction::No)
    }

    /// As [`Self::submit_with`], for a producer whose transactional batches are part of a transaction as
    /// `transaction` says. Without one they are refused.
    #[must_use]
    pub fn submit_in(
        &self,
        request: Vec<PartitionRecords>,
        acks: Acks,
        transaction: InTransaction,
    ) -> Pending {
        if acks == Acks::All {
            self.waits_for_all.store(true, Ordering::Relaxed);
        }
        let (sender, pending) = oneshot::channel();
        let submission = Submission::new(request.len(), sender, Arc::clone(&self.seat));
        let lookup = self
            .shared
            .settings
            .look_up(request.iter().map(|records| records.partition));
        let now = self.shared.clock.now();
        let came = Instant::now();
        let offered: usize = request.iter().map(|records| records.records.len()).sum();
        let mut entries = Vec::with_capacity(request.len());
        for (index, (asked, settings)) in request.into_iter().zip(lookup.settings).enumerate() {
            let PartitionRecords { partition, records } = asked;
            let Some(settings) = settings else {
                let reason = "There is no such topic or partition.".to_owned();
                let code = ErrorCode::UnknownTopicOrPartition;
                self.shared
                    .refuse(&submission, (index, partition), code, reason);
                continue;
            };
            match check::check(&records, &settings, transaction, now) {
                Ok(accepted) => entries.push(Entry {
                    partition,
                    line: self.line(&settings, acks, &accepted.stamp),
                    bytes: accepted.bytes,
                    stamp: accepted.stamp,
                    waiting: Waiting::new(
                        Arc::clone(&submission),
                        index,
                        accepted.log_append_time,
                        acks == Acks::All,
                    ),
                    came,
                }),
                Err(error) => {
                    self.shared
                        .refuse(&submission, (index, partition), error.code, error.reason);
                }
            }
        }
        free_frame(&mut entries, offered);
        self.push(entries, lookup.generation, came);
        pending
    }

    /// Which queue a batch goes to. Those of idempotent producers are never unstable: what such a
    /// producer sent could not lose its place in the producer's sequence without a trace.
    fn line(&self, settings: &TopicSettings, acks: Acks, stamp: &BatchStamp) -> Line {
        let is_weak = acks == Acks::One
            && stamp.producer.is_none()
            && self.shared.has_journal
            && !self.waits_for_all.load(Ordering::Relaxed);
        Line::of(settings.lane, is_weak)
    }

    /// Stores batches that were accepted once already, in objects, whatever the topics say by now.
    pub(crate) fn submit_again(&self, batches: Vec<Voided>) -> Pending {
        let (sender, pending) = oneshot::channel();
        let submission = Submission::new(batches.len(), sender, Arc::clone(&self.seat));
        let came = Instant::now();
        let entries = batches
            .into_iter()
            .enumerate()
            .map(|(index, voided)| Entry {
                partition: voided.partition,
                line: Line::Object,
                bytes: voided.bytes,
                stamp: voided.stamp,
                waiting: Waiting::new(Arc::clone(&submission), index, -1, false),
                came,
            });
        let entries = entries.collect();
        let generation = self.shared.settings.look_up(std::iter::empty()).generation;
        self.push(entries, generation, came);
        pending
    }

    fn push(&self, entries: Vec<Entry>, generation: u64, now: Instant) {
        if entries.is_empty() {
            return;
        }
        let pushed = self.shared.buffer().push(entries, generation, now);
        match pushed {
            Ok(()) => self.shared.wake.notify_one(),
            Err((rejected, entries)) => {
                for entry in entries {
                    entry.waiting.failed(rejection(rejected));
                }
            }
        }
    }
}

fn rejection(rejected: Rejected) -> ProduceResult {
    let (code, text) = match rejected {
        Rejected::Closing => (
            ErrorCode::NotLeaderOrFollower,
            "This agent is shutting down; another one takes the records.",
        ),
        Rejected::Overflow => {
            metrics::counter!("alluvium_produce_overflow_total").increment(1);
            let text = "Too many records wait for the object store; send them again later.";
            (ErrorCode::ThrottlingQuotaExceeded, text)
        }
    };
    ProduceResult::refused(code, text)
}

/// A batch is a slice of the frame it came in and keeps all of it alive. Where most of the frame
/// was refused, the rest is copied out.
fn free_frame(entries: &mut [Entry], offered: usize) {
    let accepted: usize = entries.iter().map(|entry| entry.bytes.len()).sum();
    if accepted < offered / 2 {
        for entry in entries {
            entry.bytes = Bytes::copy_from_slice(&entry.bytes);
        }
    }
}

impl Drop for ProducerConnection {
    fn drop(&mut self) {
        self.seat.close();
        self.shared.wake.notify_one();
    }
}
