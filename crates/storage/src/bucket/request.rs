//! The way of every request: its turn, a deadline, the counts, what it says about the store, and
//! whether it is made again.

use std::future::Future;

use tokio::time::timeout;

use super::cause::Cause;
use super::deadline;
use super::error::Failure;
use super::meter::{Meter, Operation};
use super::pace::Pace;
use super::retry::{Attempts, RetryBudget};
use super::vitals::{Health, Vitals};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) cause: Cause,
    pub(super) operation: Operation,
    /// Bytes to transfer, for the deadline.
    pub(super) bytes: u64,
    /// Requests that the store bills it as.
    pub(super) billed: u64,
}

/// Makes requests for all clones of a bucket.
#[derive(Debug)]
pub(super) struct Requester {
    pub(super) meter: Meter,
    pub(super) vitals: Vitals,
    pub(super) retries: RetryBudget,
    pace: Pace,
}

impl Requester {
    pub(super) fn new() -> Self {
        Self {
            meter: Meter::new(),
            vitals: Vitals::new(),
            retries: RetryBudget::new(),
            pace: Pace::new(),
        }
    }

    pub(super) fn health(&self) -> Health {
        self.vitals.health(self.pace.rate())
    }

    /// Makes a request once.
    pub(super) async fn once<T>(
        &self,
        asked: Asked,
        request: impl Future<Output = Result<T, Failure>>,
        length: impl FnOnce(&T) -> u64,
    ) -> Result<T, Failure> {
        let Asked {
            cause,
            operation,
            bytes,
            billed,
        } = asked;
        self.pace.turn().await?;
        let limit = deadline::of(operation, bytes);
        let watch = self.vitals.watch(operation, bytes);
        let mut timed_out = false;
        let bounded = async {
            timeout(limit, request).await.unwrap_or_else(|_| {
                timed_out = true;
                let seconds = limit.as_secs();
                Err(Failure::Unavailable(format!("no answer in {seconds} s")))
            })
        };
        let answer = self
            .meter
            .measure(cause, operation, billed, bounded, length)
            .await;
        watch.ended(answer.as_ref().is_err_and(Failure::is_passing), timed_out);
        match &answer {
            Err(Failure::SlowDown(_)) => self.pace.slow_down(),
            Err(Failure::Unavailable(_)) => {}
            _ => self.retries.succeeded(),
        }
        answer
    }

    /// Makes a request, and makes it again while that may help.
    pub(super) async fn repeatedly<T, F: Future<Output = Result<T, Failure>>>(
        &self,
        asked: Asked,
        request: impl Fn() -> F,
        length: impl Fn(&T) -> u64,
    ) -> Result<T, Failure> {
        let mut attempts = Attempts::new();
        loop {
            let failure = match self.once(asked, request(), &length).await {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if !self.retries.again(&mut attempts, &failure).await {
                return Err(failure);
            }
        }
    }
}
