//! The task that moves chunks: seals what is due, uploads, proposes in order, answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, sleep_until, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use alluvium_metadata::{Outcome, State};
use alluvium_objects::ChunkOrigin;
use alluvium_protocol::produce::ProduceResult;
use alluvium_types::{ErrorCode, Millis};

use crate::write_ahead::{name_of, reclaim};

use super::Shared;
use super::buffer::{Journals, Line, Sealed, Way};
use super::chunk::Batches;
use super::commit::{self, Answer, Answered, Sequencer};
use super::durable::{Durable, UploadError, Uploader};
use super::flight::{Flight, Flights};
use super::submission::unanswered;
use super::visible;

type Uploaded = (u64, Way, Result<Durable, UploadError>);
type Proposing = Pin<Box<dyn Future<Output = Answered> + Send>>;

/// How long the offsets of an unstable chunk may take to be durable.
const NOTE_DEADLINE: Duration = Duration::from_secs(10);

/// Chunks that the write-ahead buffer must have room for.
const JOURNAL_CHUNKS: u64 = 4;

/// How much longer proposed chunks wait for the quorum once this agent is cut off.
const CUT_OFF_WAIT: Duration = Duration::from_secs(2);

/// Owns every chunk from its sealing to its answer. When it is dropped, its uploads end and whoever
/// still waits is told that the outcome is not known.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    uploader: Uploader,
    sequencer: Sequencer,
    flights: Flights,
    uploads: JoinSet<Uploaded>,
    proposing: Option<Proposing>,
    /// Sequenced chunks that are not answered yet: unstable ones whose offsets are being noted, others
    /// that lie behind such.
    answering: JoinSet<()>,
    /// This agent was found cut off, and what could be given up was.
    cut_off: bool,
}

impl Flusher {
    pub(super) fn new(shared: Arc<Shared>, uploader: Uploader, sequencer: Sequencer) -> Self {
        Self {
            shared,
            uploader,
            sequencer,
            flights: Flights::default(),
            uploads: JoinSet::new(),
            proposing: None,
            answering: JoinSet::new(),
            cut_off: false,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut following = self.shared.registration.follow();
        // Both ends are looked at anew in every round: cancelling a wait loses nothing.
        loop {
            let cut_off = self.look_for_quorum();
            let next = self.seal();
            self.propose();
            if self.shared.is_drained() {
                self.shared.drained.notify_one();
            }
            let overdue = self.shared.buffer().next_overdue();
            let has_ended = self.shared.registration.held().has_ended();
            let next = [next, self.flights.next_deadline(), overdue, cut_off]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                biased;
                () = stop.cancelled() => return self.flights.outlive_proposed(),
                answered = settled(&mut self.proposing) => self.answer(answered),
                Some(uploaded) = self.uploads.join_next() => match uploaded {
                    Ok(uploaded) => self.uploaded(uploaded),
                    // The chunk of a task that panicked is answered when it is late.
                    Err(error) => {
                        tracing::error!(%error, "an upload failed");
                        self.shared.buffer().put_ended();
                    }
                },
                Some(answered) = self.answering.join_next() => if let Err(error) = answered {
                    tracing::error!(%error, "answering a chunk failed");
                },
                () = wait_until(next) => self.tell_late(),
                _ = following.changed(), if has_ended => {}
                () = self.shared.wake.notified() => {}
            }
        }
    }

    /// Gives up what others can take once this agent is cut off from the quorum. Returns when to look
    /// again, while there is anything to give up.
    fn look_for_quorum(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let at = self.shared.registration.held().cut_off_at();
        if now < at {
            self.cut_off = false;
            let is_idle = self.flights.is_empty() && self.shared.buffer().is_empty();
            return (!is_idle).then_some(at);
        }
        let buffered = self.shared.buffer().take_all();
        for entry in buffered {
            entry.waiting.failed(cut_off());
        }
        if !self.cut_off {
            self.cut_off = true;
            tracing::warn!("no word from the metadata quorum: producers are sent to other agents");
            for flight in self.flights.cut_short(now + CUT_OFF_WAIT) {
                self.lose(flight, &cut_off());
            }
        }
        None
    }

    /// Seals what is due and sends it on its way. Returns when to look again.
    fn seal(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let inline_bytes = self.sequencer.metadata.read(State::inline_bytes);
        let journals = self.journals();
        let (sealed, next) = {
            let mut buffer = self.shared.buffer();
            buffer.set_inline_room(inline_bytes < self.shared.inline_most);
            buffer.set_journals(journals);
            buffer.take_due(now)
        };
        for sealed in sealed {
            self.depart(sealed, now);
        }
        next
    }

    fn journals(&self) -> Journals {
        let Some(journaler) = &self.uploader.journaler else {
            return Journals::default();
        };
        let most = u64::try_from(self.shared.chunk_bytes).unwrap_or(u64::MAX);
        // Together with what is under way already.
        let own = journaler
            .journal
            .has_room(most.saturating_mul(JOURNAL_CHUNKS));
        Journals {
            own,
            enough: own && journaler.has_enough(),
            instead_of_store: self.uploader.health.is_brown(),
        }
    }

    fn depart(&mut self, sealed: Sealed, now: Instant) {
        let Sealed {
            entries,
            bytes,
            way,
            reason,
        } = sealed;
        let lane = match way {
            Way::Object => "object",
            Way::Inline(_) => "inline",
            Way::Journal(_) => "journal",
        };
        let may_turn = entries.iter().all(|entry| entry.line != Line::Object);
        metrics::counter!("alluvium_produce_chunks_total", "lane" => lane, "reason" => reason.name())
            .increment(1);
        metrics::counter!("alluvium_produce_bytes_total", "lane" => lane)
            .increment(u64::try_from(bytes).unwrap_or(u64::MAX));
        if let Some(oldest) = entries.first() {
            metrics::histogram!("alluvium_produce_buffer_seconds")
                .record(now.saturating_duration_since(oldest.came).as_secs_f64());
        }
        let (batches, waiting) = Batches::sort(entries);
        let sealed_at = self.sequencer.clock.now();
        let partitions = batches.partitions();
        let id = self
            .flights
            .depart(partitions, waiting, (bytes, way), (sealed_at, now));
        let origin = self.chunk_origin(id, sealed_at);
        let uploader = self.uploader.clone();
        match way {
            Way::Object => {
                _ = self.uploads.spawn(async move {
                    (id, way, uploader.upload(batches, origin, may_turn).await)
                })
            }
            Way::Journal(line) => {
                _ = self.uploads.spawn(async move {
                    let is_weak = line == Line::Weak;
                    (id, way, uploader.keep(batches, origin, is_weak).await)
                })
            }
            Way::Inline(_) => {
                let (location, runs) = batches.inline();
                let under_way = None;
                let durable = Durable {
                    location,
                    runs,
                    under_way,
                };
                self.flights.durable(id, durable);
            }
        }
    }

    /// What the object of a chunk says of it.
    fn chunk_origin(&self, seal: u64, sealed_at: Millis) -> ChunkOrigin {
        let origin = self.shared.registration.origin();
        ChunkOrigin {
            agent: origin.agent,
            epoch: origin.epoch,
            seal,
            sealed_at,
        }
    }

    fn uploaded(&mut self, (id, way, result): Uploaded) {
        if way == Way::Object {
            self.shared.buffer().put_ended();
        }
        match result {
            Ok(durable) => self.flights.durable(id, durable),
            Err(error) => {
                tracing::error!(%error, "a chunk could not be written; its producers are told");
                if let Some(flight) = self.flights.land(id) {
                    self.lose(flight, &store_is_away());
                }
            }
        }
    }

    /// Proposes what is ready, one round at a time: what becomes ready meanwhile goes together.
    fn propose(&mut self) {
        // What was not proposed under a registration that has ended goes under the next one.
        if self.proposing.is_some() || self.shared.registration.held().has_ended() {
            return;
        }
        let epoch = self.shared.registration.origin().epoch;
        for flight in self.flights.take_uncopied(epoch) {
            self.lose(flight, &copies_are_gone());
        }
        let ready = self.flights.take_ready();
        if !ready.is_empty() {
            self.proposing = Some(Box::pin(self.sequencer.propose(ready)));
        }
    }

    fn answer(&mut self, answered: Answered) {
        for (id, outcome) in answered.outcomes {
            if commit::says_stale(&outcome) {
                self.shared.registration.lost(answered.origin);
            }
            let Some(flight) = self.flights.land(id) else {
                continue;
            };
            match commit::refusal(&outcome) {
                Some(refused) => self.lose(flight, &refused),
                None if flight.is_unstable => self.answer_unstable(flight, outcome),
                None => self.answer_stable(flight, outcome),
            }
        }
    }

    /// Answers the producers of a chunk that has its offsets, those with acks=all once what they sent
    /// can be read.
    fn answer_stable(&mut self, flight: Flight, outcome: Outcome) {
        let (bytes, way, deadline) = (flight.bytes, flight.way, flight.deadline);
        let metadata = self.sequencer.metadata.clone();
        let (mut hidden, shown) = visible::split(&metadata, commit::answers(flight, outcome));
        self.shared.buffer().sequenced(way);
        if hidden.is_empty() {
            self.shared.buffer().answered(bytes);
        }
        shown.into_iter().for_each(Answer::give);
        if hidden.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.shared);
        self.answering.spawn(async move {
            // Cancelling it leaves those that are left behind.
            let given = timeout_at(deadline, visible::give(&metadata, &mut hidden)).await;
            if given.is_err() {
                for answer in hidden {
                    answer.waiting.failed(unanswered());
                }
            }
            shared.buffer().answered(bytes);
            shared.wake.notify_one();
        });
    }

    /// Answers the producers of an unstable chunk once its offsets are noted beside it: without them
    /// nobody could tell, after a crash, that it was acknowledged.
    fn answer_unstable(&mut self, flight: Flight, outcome: Outcome) {
        let (Some(journaler), Some(under_way)) = (&self.uploader.journaler, &flight.under_way)
        else {
            return self.lose(flight, &unanswered());
        };
        let mark = match &outcome {
            Outcome::Sequenced(sequenced) => reclaim::mark(sequenced),
            _ => Bytes::new(),
        };
        let journal = journaler.journal.clone();
        let name = name_of(under_way.chunk);
        let shared = Arc::clone(&self.shared);
        journal.unstable_sequenced();
        self.answering.spawn(async move {
            let noted = timeout(NOTE_DEADLINE, journal.buffer().mark(name, mark)).await;
            let (bytes, way) = (flight.bytes, flight.way);
            match noted {
                Ok(Ok(())) => {
                    let answers = commit::answers(flight, outcome);
                    answers.into_iter().for_each(Answer::give);
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the offsets of an acks=1 chunk are not noted; its producers are told");
                    commit::fail(flight, &unanswered());
                }
                Err(_) => commit::fail(flight, &unanswered()),
            }
            shared.buffer().landed(bytes, way);
            shared.wake.notify_one();
        });
    }

    /// Tells the producers of a chunk that it was not stored. What follows it for some idempotent
    /// producer is not stored either before it is sent again: the quorum refuses what does not
    /// continue a producer's sequence, whichever agent it comes through.
    fn lose(&mut self, flight: Flight, result: &ProduceResult) {
        self.shared.buffer().landed(flight.bytes, flight.way);
        commit::fail(flight, result);
    }

    fn tell_late(&mut self) {
        let now = Instant::now();
        let overdue = self.shared.buffer().take_overdue(now);
        for entry in overdue {
            entry.waiting.failed(store_is_away());
        }
        let (waiting, given_up) = self.flights.take_late(now);
        for waiting in waiting {
            waiting.failed(unanswered());
        }
        for flight in given_up {
            self.lose(flight, &unanswered());
        }
    }
}

fn store_is_away() -> ProduceResult {
    let text = "The object store takes no data now; send the records again.";
    ProduceResult::refused(ErrorCode::KafkaStorageError, text)
}

fn copies_are_gone() -> ProduceResult {
    let text =
        "The registration under which copies of the records were made has ended; send them again.";
    ProduceResult::refused(ErrorCode::NotLeaderOrFollower, text)
}

fn cut_off() -> ProduceResult {
    let text = "This agent has no word from the metadata quorum; another one takes the records.";
    ProduceResult::refused(ErrorCode::NotLeaderOrFollower, text)
}

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for the round under way; for ever when there is none.
async fn settled(proposing: &mut Option<Proposing>) -> Answered {
    let Some(round) = proposing else {
        return std::future::pending().await;
    };
    let answered = round.await;
    *proposing = None;
    answered
}
