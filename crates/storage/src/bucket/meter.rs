//! Counts of requests, for metrics and for tests.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metrics::{Counter, Histogram};

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

const RESULTS: [&str; 5] = ["ok", "not_found", "exists", "denied", "unavailable"];

/// Requests made through a bucket since it was opened, whatever came of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    /// Objects created or tried to.
    pub put: u64,
    /// Ranges read.
    pub get: u64,
    /// Objects looked up.
    pub head: u64,
    /// Listings.
    pub list: u64,
    /// Objects deleted.
    pub delete: u64,
    /// Bytes of objects created.
    pub bytes_written: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

#[derive(Debug)]
struct PerOperation {
    count: AtomicU64,
    bytes: AtomicU64,
    results: [Counter; 5],
    bytes_total: Counter,
    seconds: Histogram,
}

/// Counts requests. Metric handles are taken once, so the recorder must be installed before.
#[derive(Debug)]
pub(super) struct Meter {
    operations: [PerOperation; 5],
}

impl Meter {
    pub(super) fn new() -> Self {
        let operations = Operation::ALL.map(|operation| {
            let operation = operation.name();
            PerOperation {
                count: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                results: RESULTS.map(|result| {
                    metrics::counter!(
                        "alluvium_store_requests_total", "operation" => operation, "result" => result
                    )
                }),
                bytes_total: metrics::counter!("alluvium_store_bytes_total", "operation" => operation),
                seconds: metrics::histogram!(
                    "alluvium_store_request_seconds", "operation" => operation
                ),
            }
        });
        Self { operations }
    }

    fn of(&self, operation: Operation) -> &PerOperation {
        let [put, get, head, list, delete] = &self.operations;
        match operation {
            Operation::Put => put,
            Operation::Get => get,
            Operation::Head => head,
            Operation::List => list,
            Operation::Delete => delete,
        }
    }

    /// Runs a request; `bytes` says how many bytes its answer stands for.
    pub(super) async fn measure<T>(
        &self,
        operation: Operation,
        request: impl Future<Output = Result<T, Failure>>,
        bytes: impl FnOnce(&T) -> u64,
    ) -> Result<T, Failure> {
        let counts = self.of(operation);
        counts.count.fetch_add(1, Ordering::Relaxed);
        let started = Instant::now();
        let answer = request.await;
        counts.seconds.record(started.elapsed());
        let result = match &answer {
            Ok(_) => 0,
            Err(Failure::NotFound) => 1,
            Err(Failure::Exists) => 2,
            Err(Failure::Denied(_)) => 3,
            Err(Failure::Unavailable(_)) => 4,
        };
        if let Some(counter) = counts.results.get(result) {
            counter.increment(1);
        }
        if let Ok(answer) = &answer {
            let bytes = bytes(answer);
            counts.bytes.fetch_add(bytes, Ordering::Relaxed);
            counts.bytes_total.increment(bytes);
        }
        answer
    }

    pub(super) fn snapshot(&self) -> Requests {
        let count = |operation| self.of(operation).count.load(Ordering::Relaxed);
        let bytes = |operation| self.of(operation).bytes.load(Ordering::Relaxed);
        Requests {
            put: count(Operation::Put),
            get: count(Operation::Get),
            head: count(Operation::Head),
            list: count(Operation::List),
            delete: count(Operation::Delete),
            bytes_written: bytes(Operation::Put),
            bytes_read: bytes(Operation::Get),
        }
    }
}
