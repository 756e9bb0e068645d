//! One suite of store behaviour on every store: a folder, memory, MinIO.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a failure here is a failed test"
)]

#[path = "../support/mod.rs"]
mod support;

use std::process::Command;

use alluvium_storage::bucket::Bucket;
use alluvium_storage::conformance;
use alluvium_storage::disk::LocalDisk;

use support::Minio;

async fn conforms(url: &str) {
    let bucket = Bucket::open(url, LocalDisk::shared()).await.unwrap();
    conformance::run(&bucket).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder() {
    let dir = tempfile::tempdir().unwrap();
    conforms(&format!(
        "file://{}",
        dir.path().join("deep/objects").display()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    conforms("memory://").await;
}

/// The store's settings come from the process's environment, so each test against MinIO runs this
/// test program again with its own.
fn with_env(minio: &Minio, test: &str, extra: &[(&str, &str)]) {
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--include-ignored"])
        .env("ALLUVIUM_TEST_INNER", "1")
        .envs(minio.env())
        .envs(extra.iter().copied())
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed against MinIO");
}

fn is_inner() -> bool {
    std::env::var_os("ALLUVIUM_TEST_INNER").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn minio_behaves_as_the_others() {
    if is_inner() {
        return conforms("s3://alluvium-conformance/a/prefix").await;
    }
    let Some(minio) = Minio::start() else { return };
    with_env(&minio, "minio_behaves_as_the_others", &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_named() {
    if is_inner() {
        let error = Bucket::open("s3://alluvium-denied", LocalDisk::shared())
            .await
            .unwrap_err();
        let text = error.to_string();
        assert!(text.contains("alluvium-denied"), "{text}");
        assert!(
            text.contains("AWS_SECRET_ACCESS_KEY"),
            "says what to look at: {text}"
        );
        return;
    }
    let Some(minio) = Minio::start() else { return };
    with_env(
        &minio,
        "a_wrong_secret_is_named",
        &[("AWS_SECRET_ACCESS_KEY", "not-the-secret")],
    );
}
