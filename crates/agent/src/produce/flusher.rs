//! The task that moves chunks: seals what is due, uploads, proposes in order, answers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use alluvium_metadata::{ChunkRun, Location, Outcome, State};
use alluvium_protocol::produce::ProduceResult;
use alluvium_types::ErrorCode;

use super::Shared;
use super::buffer::{Sealed, Way};
use super::chunk::Batches;
use super::commit::{self, Sequencer};
use super::durable::{UploadError, Uploader};
use super::flight::{Flight, Flights};
use super::submission::unanswered;

type Uploaded = (u64, Result<(Location, Vec<ChunkRun>), UploadError>);
type Proposing = Pin<Box<dyn Future<Output = Vec<(u64, Outcome)>> + Send>>;

/// Owns every chunk from its sealing to its answer. When it is dropped, its uploads end and whoever
/// still waits is told that the outcome is not known.
pub(super) struct Flusher {
    shared: Arc<Shared>,
    uploader: Uploader,
    sequencer: Sequencer,
    flights: Flights,
    uploads: JoinSet<Uploaded>,
    proposing: Option<Proposing>,
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
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        // Both ends are looked at anew in every round: cancelling a wait loses nothing.
        loop {
            let next = self.seal();
            self.propose();
            if self.shared.is_drained() {
                self.shared.drained.notify_one();
            }
            let overdue = self.shared.buffer().next_overdue();
            let next = [next, self.flights.next_deadline(), overdue]
                .into_iter()
                .flatten()
                .min();
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.shared.wake.notified() => {}
                () = wait_until(next) => self.tell_late(),
                Some(uploaded) = self.uploads.join_next() => match uploaded {
                    Ok(uploaded) => self.uploaded(uploaded),
                    // The chunk of a task that panicked is answered when it is late.
                    Err(error) => {
                        tracing::error!(%error, "an upload failed");
                        self.shared.buffer().put_ended();
                    }
                },
                outcomes = settled(&mut self.proposing) => self.answer(outcomes),
            }
        }
    }

    /// Seals what is due and sends it on its way. Returns when to look again.
    fn seal(&mut self) -> Option<Instant> {
        let now = Instant::now();
        let inline_bytes = self.sequencer.metadata.read(State::inline_bytes);
        let (sealed, next) = {
            let mut buffer = self.shared.buffer();
            buffer.set_inline_room(inline_bytes < self.shared.inline_most);
            buffer.take_due(now)
        };
        for sealed in sealed {
            self.depart(sealed, now);
        }
        next
    }

    fn depart(&mut self, sealed: Sealed, now: Instant) {
        let Sealed {
            entries,
            bytes,
            way,
            reason,
        } = sealed;
        let lane = if way == Way::Object {
            "object"
        } else {
            "inline"
        };
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
        let holds = (batches.partitions(), batches.producers());
        let id = self
            .flights
            .depart(holds, waiting, (bytes, way), (sealed_at, now));
        if way == Way::Object {
            let uploader = self.uploader.clone();
            self.uploads
                .spawn(async move { (id, uploader.upload(batches).await) });
        } else {
            let (location, runs) = batches.inline();
            self.flights.durable(id, location, runs);
        }
    }

    fn uploaded(&mut self, (id, result): Uploaded) {
        self.shared.buffer().put_ended();
        match result {
            Ok((location, runs)) => self.flights.durable(id, location, runs),
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
        if self.proposing.is_some() {
            return;
        }
        let ready = self.flights.take_ready();
        if !ready.is_empty() {
            self.proposing = Some(Box::pin(self.sequencer.propose(ready)));
        }
    }

    fn answer(&mut self, outcomes: Vec<(u64, Outcome)>) {
        for (id, outcome) in outcomes {
            let Some(flight) = self.flights.land(id) else {
                continue;
            };
            match commit::refusal(&outcome) {
                Some(refused) => self.lose(flight, &refused),
                None => {
                    self.shared.buffer().landed(flight.bytes, flight.way);
                    commit::answer(flight, outcome);
                }
            }
        }
    }

    /// Tells the producers of a chunk that it was not stored, and with it all that follows it for
    /// some idempotent producer, on its way or in the buffer.
    fn lose(&mut self, flight: Flight, result: &ProduceResult) {
        let (lost, behind) = loop {
            // What was sealed ahead of its time must be among the chunks to be looked at.
            self.seal();
            let mut buffer = self.shared.buffer();
            if buffer.has_forced() {
                continue;
            }
            let mut lost = self.flights.land_followers(&flight);
            lost.insert(0, flight);
            for flight in &lost {
                buffer.landed(flight.bytes, flight.way);
            }
            let producers = lost.iter().flat_map(|flight| &flight.producers);
            let behind = buffer.lose(producers, Instant::now());
            drop(buffer);
            break (lost, behind);
        };
        for flight in lost {
            commit::fail(flight, result);
        }
        for entry in behind {
            entry.waiting.failed(result.clone());
        }
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

async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Waits for the round under way; for ever when there is none.
async fn settled(proposing: &mut Option<Proposing>) -> Vec<(u64, Outcome)> {
    let Some(round) = proposing else {
        return std::future::pending().await;
    };
    let outcomes = round.await;
    *proposing = None;
    outcomes
}
