//! Stores that lie, lose answers or collide.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::*;

/// What happens to one create.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The condition is ignored.
    Overwritten,
    /// It lands, and the answer is that the key is taken: the request was repeated on the way.
    LandsAsTaken,
    /// It does not land, and the answer is that the key is taken: two writes collided (409).
    CollidesWithNothing,
    /// It lands and the answer is lost.
    LandsUnheard,
    /// It does not land.
    Down,
    Forbidden,
}

/// Memory in which each create meets the next fault, and none when there are no more.
#[derive(Debug)]
struct Faulty {
    store: InMemory,
    faults: Mutex<VecDeque<Fault>>,
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, bytes: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.faults.lock().unwrap().pop_front();
        let path = at.to_string();
        let source = "the test wants it".into();
        match fault {
            None => return self.store.put_opts(at, bytes, opts).await,
            Some(Fault::Overwritten) => {
                return self
                    .store
                    .put_opts(at, bytes, PutMode::Overwrite.into())
                    .await;
            }
            Some(Fault::LandsAsTaken | Fault::LandsUnheard) => {
                self.store.put_opts(at, bytes, opts).await?;
            }
            Some(_) => {}
        }
        Err(match fault {
            Some(Fault::LandsAsTaken | Fault::CollidesWithNothing) => {
                Error::AlreadyExists { path, source }
            }
            Some(Fault::Forbidden) => Error::PermissionDenied { path, source },
            _ => Error::Generic {
                store: "faulty",
                source,
            },
        })
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.store.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<object_store::ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

fn faulty(faults: &[Fault]) -> Backend {
    let faults = Mutex::new(faults.iter().copied().collect());
    Backend::Objects(Objects::over(Arc::new(Faulty {
        store: InMemory::new(),
        faults,
    })))
}

fn bucket(faults: &[Fault]) -> Bucket {
    Bucket::of("s3://faulty", faulty(faults))
}

#[tokio::test]
async fn a_store_that_ignores_conditions_is_refused() {
    let backend = faulty(&[Fault::Overwritten; 2]);
    let error = prove::prove(&backend, "s3://careless/x")
        .await
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("s3://careless/x does not honour conditional writes"),
        "{error}"
    );
    assert!(error.contains("MinIO"), "{error}");
    assert!(
        backend.list("", None, 10).await.unwrap().is_empty(),
        "the proof stays behind"
    );
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let error = prove::prove(&faulty(&[Fault::Forbidden]), "s3://b")
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("grant them s3:PutObject"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn creates_whose_answers_are_wrong_or_lost_succeed_once() {
    for faults in [
        &[Fault::LandsAsTaken][..],
        &[Fault::CollidesWithNothing],
        &[Fault::LandsUnheard],
        &[Fault::Down, Fault::CollidesWithNothing, Fault::LandsUnheard],
    ] {
        let bucket = bucket(faults);
        bucket.create("key", bytes("mine")).await.unwrap();
        assert_eq!(
            bucket.read("key", 0..4).await.unwrap(),
            "mine",
            "{faults:?}"
        );
        let other = bucket.create("key", bytes("hers")).await.unwrap_err();
        assert!(
            matches!(other, BucketError::AlreadyExists { .. }),
            "{faults:?}: {other}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_down_is_unavailable_in_bounded_time() {
    let bucket = bucket(&[Fault::Down; 100]);
    let error = bucket.create("key", bytes("x")).await.unwrap_err();
    assert!(
        matches!(
            error,
            BucketError::Unavailable {
                operation: "PUT",
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(bucket.requests().put, u64::from(retry::ATTEMPTS));
}

#[tokio::test]
async fn what_is_forbidden_is_not_tried_again() {
    let bucket = bucket(&[Fault::Forbidden]);
    let error = bucket.create("key", bytes("x")).await.unwrap_err();
    assert!(matches!(error, BucketError::Denied { .. }), "{error}");
    assert_eq!(bucket.requests().put, 1);
}
