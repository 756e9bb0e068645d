//! Counts of requests by cause, for metrics, for bills and for tests.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Histogram};
use tokio::time::Instant;

use super::cause::Cause;
use super::error::Failure;

/// What is asked of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Put,
    Get,
    Head,
    List,
    Delete,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Put, Self::Get, Self::Head, Self::List, Self::Delete];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Put => "PUT",
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::List => "LIST",
            Self::Delete => "DELETE",
        }
    }
}

const RESULTS: [&str; 6] = [
    "ok",
    "not_found",
    "exists",
    "denied",
    "unavailable",
    "slow_down",
];

/// Requests made through a bucket since it was opened, whatever came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects created or tried to.
    pub put: u64,
    /// Requests beyond one for each of those, where objects went up in parts.
    pub put_parts: u64,
    /// Ranges read.
    pub get: u64,
    /// Objects looked up.
    pub head: u64,
    /// Listings.
    pub list: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Requests that the store failed, of any kind.
    pub failed: u64,
    /// Bytes of objects created.
    pub bytes_written: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

impl std::ops::AddAssign for Requests {
    fn add_assign(&mut self, more: Self) {
        let Self {
            put,
            put_parts,
            get,
            head,
            list,
            delete,
            failed,
            bytes_written,
            bytes_read,
        } = more;
        self.put += put;
        self.put_parts += put_parts;
        self.get += get;
        self.head += head;
        self.list += list;
        self.delete += delete;
        self.failed += failed;
        self.bytes_written += bytes_written;
        self.bytes_read += bytes_read;
    }
}

#[derive(Debug)]
struct Counts {
    count: AtomicU64,
    parts: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
    results: [Counter; 6],
    bytes_total: Counter,
    parts_total: Counter,
    seconds: Histogram,
}

/// Counts requests. Metric handles are taken once, so the recorder must be installed before.
#[derive(Debug)]
pub(super) struct Meter {
    causes: [[Counts; 5]; Cause::ALL.len()],
}

impl Counts {
    fn new(cause: Cause, operation: Operation) -> Self {
        let (cause, operation) = (cause.name(), operation.name());
        Self {
            count: AtomicU64::new(0),
            parts: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            results: RESULTS.map(|result| {
                metrics::counter!(
                    "alluvium_store_requests_total",
                    "cause" => cause, "operation" => operation, "result" => result
                )
            }),
            bytes_total: metrics::counter!(
                "alluvium_store_bytes_total", "cause" => cause, "operation" => operation
            ),
            parts_total: metrics::counter!(
                "alluvium_store_part_requests_total", "cause" => cause, "operation" => operation
            ),
            seconds: metrics::histogram!(
                "alluvium_store_request_seconds", "cause" => cause, "operation" => operation
            ),
        }
    }
}

impl Meter {
    pub(super) fn new() -> Self {
        let counts = |cause| Operation::ALL.map(|operation| Counts::new(cause, operation));
        Self {
            causes: Cause::ALL.map(counts),
        }
    }

    fn of(&self, cause: Cause, operation: Operation) -> &Counts {
        let [flush, settle, compaction, cache_miss, archive, sweep, other] = &self.causes;
        let [put, get, head, list, delete] = match cause {
            Cause::Flush => flush,
            Cause::Settle => settle,
            Cause::Compaction => compaction,
            Cause::CacheMiss => cache_miss,
            Cause::Archive => archive,
            Cause::Sweep => sweep,
            Cause::Other => other,
        };
        match operation {
            Operation::Put => put,
            Operation::Get => get,
            Operation::Head => head,
            Operation::List => list,
            Operation::Delete => delete,
        }
    }

    /// Runs a request that the store bills as `billed`; `bytes` says how many bytes its answer
    /// stands for.
    pub(super) async fn measure<T>(
        &self,
        cause: Cause,
        operation: Operation,
        billed: u64,
        request: impl Future<Output = Result<T, Failure>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, Failure> {
        let counts = self.of(cause, operation);
        counts.count.fetch_add(1, Ordering::Relaxed);
        let parts = billed.saturating_sub(1);
        counts.parts.fetch_add(parts, Ordering::Relaxed);
        counts.parts_total.increment(parts);
        let started = Instant::now();
        let answer = request.await;
        counts.seconds.record(started.elapsed());
        let result = match &answer {
            Ok(_) => 0,
            Err(Failure::NotFound) => 1,
            Err(Failure::Exists) => 2,
            Err(Failure::Denied(_)) => 3,
            Err(Failure::Unavailable(_)) => 4,
            Err(Failure::SlowDown(_)) => 5,
        };
        if let Some(counter) = counts.results.get(result) {
            counter.increment(1);
        }
        match &answer {
            Ok(answer) => {
                let bytes = bytes(answer);
                counts.bytes.fetch_add(bytes, Ordering::Relaxed);
                counts.bytes_total.increment(bytes);
            }
            Err(failure) if failure.is_passing() => {
                counts.failed.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        answer
    }

    /// What was asked for one cause.
    pub(super) fn of_cause(&self, cause: Cause) -> Requests {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let of = |operation| self.of(cause, operation);
        let count = |operation| read(&of(operation).count);
        Requests {
            put: count(Operation::Put),
            put_parts: read(&of(Operation::Put).parts),
            get: count(Operation::Get),
            head: count(Operation::Head),
            list: count(Operation::List),
            delete: count(Operation::Delete),
            failed: Operation::ALL.map(|it| read(&of(it).failed)).iter().sum(),
            bytes_written: read(&of(Operation::Put).bytes),
            bytes_read: read(&of(Operation::Get).bytes),
        }
    }

    pub(super) fn snapshot(&self) -> Requests {
        let mut all = Requests::default();
        for cause in Cause::ALL {
            all += self.of_cause(cause);
        }
        all
    }
}
