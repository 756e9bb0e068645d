//! A request's answers while they come in.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use alluvium_protocol::produce::ProduceResult;
use alluvium_types::{ErrorCode, Millis};

use super::seat::Seat;

/// Answers exactly once: when the last partition's result is there, or when everybody who could
/// give one has let go of it.
#[derive(Debug)]
pub(super) struct Submission {
    answers: Mutex<Answers>,
    seat: Arc<Seat>,
}

#[derive(Debug)]
struct Answers {
    results: Vec<Option<ProduceResult>>,
    missing: usize,
    sender: Option<oneshot::Sender<Vec<ProduceResult>>>,
}

impl Submission {
    pub(super) fn new(
        partitions: usize,
        sender: oneshot::Sender<Vec<ProduceResult>>,
        seat: Arc<Seat>,
    ) -> Arc<Self> {
        seat.submitted();
        let results = vec![None; partitions];
        let answers = Answers {
            results,
            missing: partitions,
            sender: Some(sender),
        };
        Arc::new(Self {
            answers: Mutex::new(answers),
            seat,
        })
    }

    pub(super) const fn seat(&self) -> &Arc<Seat> {
        &self.seat
    }

    /// The result for the partition at `index` of the request. The first one counts.
    pub(super) fn answer(&self, index: usize, result: ProduceResult) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = answers.results.get_mut(index).filter(|slot| slot.is_none()) else {
            return;
        };
        *slot = Some(result);
        answers.missing = answers.missing.saturating_sub(1);
        if answers.missing == 0 {
            // The client may send more from here on.
            self.seat.answered();
            answers.send();
        }
    }
}

impl Answers {
    fn send(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        let results = std::mem::take(&mut self.results).into_iter();
        let results = results
            .map(|result| result.unwrap_or_else(unanswered))
            .collect();
        // An error says that nobody wants to know: acks=0, or the connection is gone.
        let _ = sender.send(results);
    }
}

/// Whether it was stored is not known.
pub(super) fn unanswered() -> ProduceResult {
    ProduceResult::refused(
        ErrorCode::RequestTimedOut,
        "It is not known yet whether the records were stored; send them again.",
    )
}

impl Drop for Submission {
    fn drop(&mut self) {
        let answers = self
            .answers
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if answers.sender.is_some() {
            self.seat.answered();
            answers.send();
        }
    }
}

/// A stored batch's place in its submission. While it lives, the batch is on its way.
#[derive(Debug)]
pub(super) struct Waiting {
    submission: Arc<Submission>,
    index: usize,
    log_append_time: Millis,
    /// It is answered when the batch can be read (acks=all), not when it has its offsets.
    until_visible: bool,
}

impl Waiting {
    pub(super) fn new(
        submission: Arc<Submission>,
        index: usize,
        log_append_time: Millis,
        until_visible: bool,
    ) -> Self {
        submission.seat.batch_taken();
        Self {
            submission,
            index,
            log_append_time,
            until_visible,
        }
    }

    pub(super) const fn until_visible(&self) -> bool {
        self.until_visible
    }

    pub(super) fn seat(&self) -> &Arc<Seat> {
        self.submission.seat()
    }

    pub(super) fn stored(&self, base_offset: i64, log_start: i64) {
        let result = ProduceResult {
            error: ErrorCode::None,
            message: None,
            base_offset,
            log_append_time: self.log_append_time,
            log_start,
        };
        self.submission.answer(self.index, result);
    }

    pub(super) fn failed(&self, result: ProduceResult) {
        self.submission.answer(self.index, result);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.submission.seat.batch_done();
    }
}
