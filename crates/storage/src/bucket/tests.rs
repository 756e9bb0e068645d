mod faults;

use std::time::Duration;

use super::*;
use crate::conformance;
use crate::disk::{ForgetfulDisk, LocalDisk};

const ROOT: &str = "/data/objects";

async fn open(disk: &ForgetfulDisk) -> Bucket {
    Bucket::open(&format!("file://{ROOT}"), disk.shared())
        .await
        .unwrap()
}

fn bytes(text: &'static str) -> Vec<Bytes> {
    vec![Bytes::from_static(text.as_bytes())]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_on_the_machines_disk_conforms() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/deep/objects", folder.path().display());
    let bucket = Bucket::open(&url, LocalDisk::shared()).await.unwrap();
    conformance::run(&bucket).await.unwrap();
    assert_eq!(bucket.url(), url);
    let staging = folder.path().join("deep/objects/.staging");
    assert_eq!(
        std::fs::read_dir(staging).unwrap().count(),
        0,
        "staging files stay behind"
    );
}

#[tokio::test]
async fn a_forgetful_folder_conforms() {
    conformance::run(&open(&ForgetfulDisk::default()).await)
        .await
        .unwrap();
}

#[tokio::test]
async fn memory_conforms() {
    let bucket = Bucket::open("memory://", LocalDisk::shared())
        .await
        .unwrap();
    conformance::run(&bucket).await.unwrap();
}

#[tokio::test]
async fn a_created_object_survives_a_power_cut() {
    let disk = ForgetfulDisk::default();
    let bucket = open(&disk).await;
    bucket
        .create("new/folder/key", bytes("kept"))
        .await
        .unwrap();
    bucket
        .create("new/folder/other", bytes("kept too"))
        .await
        .unwrap();
    let bucket = open(&disk.crash()).await;
    assert_eq!(bucket.read("new/folder/key", 0..4).await.unwrap(), "kept");
    assert_eq!(
        bucket.read("new/folder/other", 0..8).await.unwrap(),
        "kept too"
    );
    assert_eq!(bucket.list("", None, 10).await.unwrap().len(), 2);
}

/// Shows that the test above sees a missing sync, of the file or of the folder.
#[tokio::test]
async fn without_a_sync_a_created_object_is_lost() {
    for file in [true, false] {
        let disk = ForgetfulDisk::default();
        let bucket = open(&disk).await;
        disk.ignore_file_syncs(file);
        disk.ignore_dir_syncs(!file);
        bucket.create("key", bytes("lost")).await.unwrap();
        let bucket = open(&disk.crash()).await;
        let found = bucket.head("key").await.map(|head| head.bytes);
        if file {
            assert_eq!(found.unwrap(), 0);
        } else {
            assert!(matches!(found, Err(BucketError::NotFound { .. })));
        }
    }
}

/// The name was made but its sync failed; whoever finds it there must make it durable.
#[tokio::test]
async fn a_repeated_create_makes_durable_what_it_finds() {
    let disk = ForgetfulDisk::default();
    let bucket = open(&disk).await;
    disk.ignore_dir_syncs(true);
    bucket.create("folder/key", bytes("kept")).await.unwrap();
    disk.ignore_dir_syncs(false);
    drop(bucket);
    let bucket = open(&disk).await;
    bucket.create("folder/key", bytes("kept")).await.unwrap();
    let bucket = open(&disk.crash()).await;
    assert_eq!(bucket.read("folder/key", 0..4).await.unwrap(), "kept");
}

#[tokio::test]
async fn a_failing_disk_is_an_error_and_leaves_no_object() {
    let disk = ForgetfulDisk::default();
    let bucket = open(&disk).await;
    disk.fail_writes(100);
    let full = bucket.create("key", bytes("x")).await.unwrap_err();
    assert!(
        matches!(
            full,
            BucketError::Unavailable {
                operation: "PUT",
                ..
            }
        ),
        "{full}"
    );
    disk.fail_writes(0);
    assert!(matches!(
        bucket.head("key").await,
        Err(BucketError::NotFound { .. })
    ));
    disk.fail_writes(1);
    bucket.create("key", bytes("x")).await.unwrap();
}

#[tokio::test]
async fn old_staging_files_are_swept_and_new_ones_left() {
    let folder = tempfile::tempdir().unwrap();
    let staging = folder.path().join(".staging");
    std::fs::create_dir(&staging).unwrap();
    let old = std::fs::File::create(staging.join("old")).unwrap();
    old.set_modified(std::time::SystemTime::now() - Duration::from_secs(3600))
        .unwrap();
    std::fs::write(staging.join("new"), "x").unwrap();
    let url = format!("file://{}", folder.path().display());
    Bucket::open(&url, LocalDisk::shared()).await.unwrap();
    assert!(!staging.join("old").exists() && staging.join("new").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let url = format!("file://{}/objects", file.path().display());
    let error = Bucket::open(&url, LocalDisk::shared())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(file.path().to_str().unwrap()), "{error}");
    assert!(
        error.contains("check that this user may write there"),
        "{error}"
    );
}

#[tokio::test]
async fn requests_are_counted() {
    let bucket = Bucket::open("memory://", LocalDisk::shared())
        .await
        .unwrap();
    assert_eq!(bucket.requests(), Requests::default());
    bucket.create("a", bytes("12345")).await.unwrap();
    bucket.read("a", 1..3).await.unwrap();
    bucket.delete("a").await.unwrap();
    let _ = bucket.head("a").await;
    let counted = Requests {
        put: 1,
        get: 1,
        delete: 1,
        head: 1,
        bytes_written: 5,
        bytes_read: 2,
        ..Requests::default()
    };
    assert_eq!(bucket.clone().requests(), counted);
}

#[tokio::test]
async fn requests_are_counted_by_cause() {
    let bucket = Bucket::open("memory://", LocalDisk::shared())
        .await
        .unwrap();
    let flush = bucket.for_cause(Cause::Flush);
    flush.create("a", bytes("12345")).await.unwrap();
    let miss = flush.for_cause(Cause::CacheMiss);
    miss.read("a", 0..5).await.unwrap();
    let mut all = Requests::default();
    for (cause, requests) in bucket.requests_by_cause() {
        let expected = match cause {
            Cause::Flush => (1, 0, 5, 0),
            Cause::CacheMiss => (0, 1, 0, 5),
            _ => (0, 0, 0, 0),
        };
        let Requests {
            put,
            get,
            bytes_written,
            bytes_read,
            ..
        } = requests;
        assert_eq!((put, get, bytes_written, bytes_read), expected, "{cause:?}");
        all += requests;
    }
    assert_eq!(all, bucket.requests());
}

#[tokio::test]
async fn a_large_object_arrives_whole() {
    let bucket = Bucket::open("memory://", LocalDisk::shared())
        .await
        .unwrap();
    let parts: Vec<Bytes> = (0..20).map(|n| Bytes::from(vec![n; 1 << 20])).collect();
    bucket.create("large", parts.clone()).await.unwrap();
    bucket.create("large", parts.clone()).await.unwrap();
    let whole = bucket.read("large", 0..20 << 20).await.unwrap();
    assert_eq!(whole, parts.concat());
}
