//! What the process has asked of its store, and for how many bytes of its clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use alluvium_storage::bucket::{Bucket, Requests};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

/// Bytes of records that clients sent and got, as they are on the wire.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    produced: AtomicU64,
    fetched: AtomicU64,
}

impl Traffic {
    /// Clients sent so many more.
    pub(crate) fn produced(&self, bytes: u64) {
        self.produced.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Clients got so many more.
    pub(crate) fn fetched(&self, bytes: u64) {
        self.fetched.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The books of one process. They begin when it starts.
#[derive(Clone, Debug)]
pub(crate) struct Costs {
    bucket: Bucket,
    /// `None` where no clients are served.
    traffic: Option<Arc<Traffic>>,
    began: Instant,
}

impl Costs {
    pub(crate) fn new(bucket: Bucket, traffic: Option<Arc<Traffic>>) -> Self {
        Self {
            bucket,
            traffic,
            began: Instant::now(),
        }
    }

    /// Everything, as `/cost` tells it.
    pub(crate) fn json(&self) -> Value {
        let read = |count: Option<&AtomicU64>| count.map_or(0, |it| it.load(Ordering::Relaxed));
        let traffic = self.traffic.as_deref();
        let causes = self.bucket.requests_by_cause().into_iter();
        let causes = causes.map(|(cause, requests)| (cause.name().to_owned(), of(requests)));
        json!({
            "seconds": self.began.elapsed().as_secs(),
            "produced_bytes": read(traffic.map(|it| &it.produced)),
            "fetched_bytes": read(traffic.map(|it| &it.fetched)),
            "causes": causes.collect::<Map<String, Value>>(),
        })
    }
}

fn of(requests: Requests) -> Value {
    let Requests {
        put,
        put_parts,
        get,
        head,
        list,
        delete,
        failed,
        bytes_written,
        bytes_read,
    } = requests;
    json!({
        "put": put,
        "put_parts": put_parts,
        "get": get,
        "head": head,
        "list": list,
        "delete": delete,
        "failed": failed,
        "bytes_written": bytes_written,
        "bytes_read": bytes_read,
    })
}

#[cfg(test)]
mod tests {
    use alluvium_storage::bucket::Cause;

    use super::*;

    #[tokio::test]
    async fn the_books_name_every_cause() {
        let bucket = Bucket::over("test", Bucket::memory());
        let flush = bucket.for_cause(Cause::Flush);
        flush.create("key", vec!["12345".into()]).await.unwrap();
        let traffic = Arc::new(Traffic::default());
        traffic.produced(7);
        let told = Costs::new(bucket, Some(traffic)).json();
        assert_eq!(told["produced_bytes"], 7);
        assert_eq!(told["causes"]["flush"]["put"], 1);
        assert_eq!(told["causes"]["flush"]["bytes_written"], 5);
        let causes = told["causes"].as_object().unwrap();
        assert_eq!(causes.len(), Cause::ALL.len());
    }
}
