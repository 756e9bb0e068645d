//! What every store must do, as one suite for tests.

use std::future::Future;

use bytes::Bytes;
use futures::future::join_all;

use crate::bucket::{Bucket, BucketError};

/// Runs every check on a bucket, under keys of its own, which it deletes.
///
/// # Errors
/// Which check failed, and how.
pub async fn run(bucket: &Bucket) -> Result<(), String> {
    let root = format!(
        "conformance/{:016x}",
        alluvium_types::random::value::<u64>()
    );
    named("create, read, head", create_read_head(bucket, &root)).await?;
    named("taken keys", taken_keys(bucket, &root)).await?;
    named("missing objects", missing_objects(bucket, &root)).await?;
    named("ranges", ranges(bucket, &root)).await?;
    named("empty object", empty_object(bucket, &root)).await?;
    named("listing", listing(bucket, &root)).await?;
    named("malformed keys", malformed_keys(bucket)).await?;
    named("race for one key", race(bucket, &root)).await?;
    named("multipart", multipart(bucket, &root)).await?;
    named("tidying up", tidy_up(bucket, &root)).await
}

async fn named(check: &str, run: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    run.await.map_err(|error| format!("{check}: {error}"))
}

/// Turns an unexpected answer into the failure's text.
fn expect<T: std::fmt::Debug>(
    what: &str,
    answer: Result<T, BucketError>,
    right: impl FnOnce(&Result<T, BucketError>) -> bool,
) -> Result<(), String> {
    if right(&answer) {
        Ok(())
    } else {
        Err(format!("{what}: got {answer:.300?}"))
    }
}

fn text(error: BucketError) -> String {
    error.to_string()
}

async fn create_read_head(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/simple");
    let parts = [&b"hello"[..], b"", b", ", b"world"].map(Bytes::from_static);
    bucket.create(&key, parts.to_vec()).await.map_err(text)?;
    let head = bucket.head(&key).await.map_err(text)?;
    if head.key != key || head.bytes != 12 || head.modified < 1_600_000_000_000 {
        return Err(format!("head says {head:?}"));
    }
    expect(
        "read",
        bucket.read(&key, 0..12).await,
        |r| matches!(r, Ok(b) if *b == "hello, world"),
    )
}

async fn taken_keys(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/simple");
    let create = |contents: &'static [u8]| {
        let bucket = bucket.clone();
        let key = key.clone();
        async move {
            bucket
                .create(&key, vec![Bytes::from_static(contents)])
                .await
        }
    };
    expect(
        "equal bytes in other parts",
        create(b"hello, world").await,
        Result::is_ok,
    )?;
    let taken = |r: &Result<(), BucketError>| matches!(r, Err(BucketError::AlreadyExists { .. }));
    expect(
        "other bytes of equal length",
        create(b"hello, WORLD").await,
        taken,
    )?;
    expect("a shorter object", create(b"hello").await, taken)?;
    expect(
        "a longer object",
        create(b"hello, world and all").await,
        taken,
    )?;
    let held = bucket.read(&key, 0..12).await;
    expect(
        "the first object stays",
        held,
        |r| matches!(r, Ok(b) if *b == "hello, world"),
    )
}

async fn missing_objects(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/none");
    let head = bucket.head(&key).await;
    expect("head", head, |r| {
        matches!(r, Err(BucketError::NotFound { .. }))
    })?;
    let read = bucket.read(&key, 0..1).await;
    expect("read", read, |r| {
        matches!(r, Err(BucketError::NotFound { .. }))
    })?;
    expect("delete", bucket.delete(&key).await, Result::is_ok)?;
    let contents = vec![Bytes::from_static(b"x")];
    bucket.create(&key, contents.clone()).await.map_err(text)?;
    bucket.delete(&key).await.map_err(text)?;
    bucket.delete(&key).await.map_err(text)?;
    let head = bucket.head(&key).await;
    expect("head after delete", head, |r| {
        matches!(r, Err(BucketError::NotFound { .. }))
    })?;
    bucket.create(&key, contents).await.map_err(text)
}

async fn ranges(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/ranges");
    let contents: Bytes = (0..=255).cycle().take(100_000).collect::<Vec<u8>>().into();
    bucket
        .create(&key, vec![contents.clone()])
        .await
        .map_err(text)?;
    for (start, end) in [
        (0, 1),
        (0, 100_000),
        (99_999, 100_000),
        (1000, 70_000),
        (50, 50),
    ] {
        let wanted = contents.slice(start..end);
        let read = bucket.read(&key, start as u64..end as u64).await;
        expect(
            &format!("{start}..{end}"),
            read,
            |r| matches!(r, Ok(b) if *b == wanted),
        )?;
    }
    for range in [
        99_999..100_001,
        100_000..100_001,
        200_000..200_010,
        0..u64::MAX / 2,
    ] {
        let read = bucket.read(&key, range.clone()).await;
        expect(&format!("{range:?}, past the end"), read, |r| {
            matches!(r, Err(BucketError::Denied { .. }))
        })?;
    }
    Ok(())
}

async fn empty_object(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/empty");
    bucket.create(&key, Vec::new()).await.map_err(text)?;
    bucket
        .create(&key, vec![Bytes::new()])
        .await
        .map_err(text)?;
    expect(
        "head",
        bucket.head(&key).await,
        |r| matches!(r, Ok(head) if head.bytes == 0),
    )?;
    expect(
        "read",
        bucket.read(&key, 0..0).await,
        |r| matches!(r, Ok(b) if b.is_empty()),
    )?;
    let other = bucket.create(&key, vec![Bytes::from_static(b"x")]).await;
    expect("other bytes", other, |r| {
        matches!(r, Err(BucketError::AlreadyExists { .. }))
    })
}

async fn listing(bucket: &Bucket, root: &str) -> Result<(), String> {
    // In the order of bytes: '-' and '.' come before '/', digits after it.
    let names = ["a-b", "a.b", "a/b", "a/c/d", "a0", "b", "ba/x", "c"];
    for name in names.iter().rev() {
        let key = format!("{root}/list/{name}");
        let contents = vec![Bytes::from(name.repeat(3))];
        bucket.create(&key, contents).await.map_err(text)?;
    }
    let base = format!("{root}/list/");
    for (prefix, after, limit, wanted) in [
        ("", None, 100, &names[..]),
        ("", None, 3, &names[..3]),
        ("", Some("a/b"), 100, &names[3..]),
        ("", Some("a/c"), 2, &names[3..5]),
        ("", Some("c"), 100, &[]),
        ("a", None, 100, &names[..5]),
        ("a/", None, 100, &names[2..4]),
        ("a/", Some("a/b"), 100, &names[3..4]),
        ("b", None, 100, &names[5..7]),
        ("b", Some("a"), 1, &names[5..6]),
        ("b", None, 0, &[]),
        ("zz", None, 100, &[]),
    ] {
        let after = after.map(|after| format!("{base}{after}"));
        let listed = bucket
            .list(&format!("{base}{prefix}"), after.as_deref(), limit)
            .await;
        let listed = listed.map_err(text)?;
        let keys: Vec<&str> = listed
            .iter()
            .filter_map(|o| o.key.strip_prefix(&base))
            .collect();
        if keys != wanted {
            return Err(format!(
                "{prefix:?} after {after:?}: {keys:?} instead of {wanted:?}"
            ));
        }
        let sizes = listed
            .iter()
            .zip(wanted)
            .all(|(o, name)| o.bytes == name.len() as u64 * 3);
        if !sizes
            || listed
                .iter()
                .any(|object| object.modified < 1_600_000_000_000)
        {
            return Err(format!("{prefix:?}: wrong sizes or times: {listed:?}"));
        }
    }
    Ok(())
}

async fn malformed_keys(bucket: &Bucket) -> Result<(), String> {
    for key in ["", "/a", "a//b", "a/../b", "../a", "a/", "a b", "\u{e4}"] {
        let denied = |r: &Result<(), BucketError>| matches!(r, Err(BucketError::Denied { .. }));
        expect(
            &format!("create {key:?}"),
            bucket.create(key, Vec::new()).await,
            denied,
        )?;
        expect(&format!("delete {key:?}"), bucket.delete(key).await, denied)?;
    }
    Ok(())
}

async fn race(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/race");
    let writers = (0..16_u8).map(|writer| {
        let contents = vec![Bytes::from(vec![writer; 1000 + usize::from(writer % 2)])];
        let (bucket, key) = (bucket.clone(), key.clone());
        async move { (writer, bucket.create(&key, contents).await) }
    });
    let mut winners = Vec::new();
    for (writer, answer) in join_all(writers).await {
        match answer {
            Ok(()) => winners.push(writer),
            Err(BucketError::AlreadyExists { .. }) => {}
            Err(error) => return Err(format!("writer {writer}: {error}")),
        }
    }
    let &[winner] = winners.as_slice() else {
        return Err(format!("{winners:?} all won"));
    };
    let held = bucket.read(&key, 0..1000).await;
    expect(
        "the winner's bytes",
        held,
        |r| matches!(r, Ok(b) if b.iter().all(|x| *x == winner)),
    )
}

async fn multipart(bucket: &Bucket, root: &str) -> Result<(), String> {
    let key = format!("{root}/large");
    let piece = |n: u8| Bytes::from(vec![n; 3 << 20]);
    let mut pieces: Vec<Bytes> = (0..7).map(piece).collect();
    pieces.push(Bytes::from_static(b"end"));
    let length = (21 << 20) + 3;
    bucket.create(&key, pieces.clone()).await.map_err(text)?;
    expect(
        "head",
        bucket.head(&key).await,
        |r| matches!(r, Ok(head) if head.bytes == length),
    )?;
    let tail = bucket.read(&key, length - 5..length).await;
    expect(
        "tail",
        tail,
        |r| matches!(r, Ok(b) if b[..] == *b"\x06\x06end"),
    )?;
    let seam = (8 << 20) - 1;
    let middle = bucket.read(&key, seam..seam + 2).await;
    expect("seam", middle, |r| matches!(r, Ok(b) if b[..] == [2, 2]))?;
    expect(
        "the same again",
        bucket.create(&key, pieces.clone()).await,
        Result::is_ok,
    )?;
    pieces[6] = piece(9);
    let other = bucket.create(&key, pieces).await;
    expect("other bytes", other, |r| {
        matches!(r, Err(BucketError::AlreadyExists { .. }))
    })
}

async fn tidy_up(bucket: &Bucket, root: &str) -> Result<(), String> {
    let prefix = format!("{root}/");
    for object in bucket.list(&prefix, None, 1000).await.map_err(text)? {
        bucket.delete(&object.key).await.map_err(text)?;
    }
    let left = bucket.list(&prefix, None, 1000).await;
    expect(
        "nothing is left",
        left,
        |r| matches!(r, Ok(left) if left.is_empty()),
    )
}
