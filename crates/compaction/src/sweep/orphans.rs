//! Objects that no manifest ever named.

use std::time::Duration;

use alluvium_objects::{key, parse_key};
use alluvium_storage::bucket::ObjectMeta;
use alluvium_types::{ObjectId, limits};
use tokio::time::{Instant, sleep};

use super::candidates::Candidates;
use super::pace::is_known;
use super::{Pauses, Sweep, Trouble, gauge};

/// Data objects' keys begin with hexadecimal digits; all other keys of ours come behind this one.
const BEHIND_ALL: &str = "g";

/// Where the listing is.
#[derive(Debug)]
struct Listing {
    candidates: Candidates,
    /// The last key that was seen in this pass.
    after: Option<String>,
}

pub(super) async fn run(sweep: &Sweep) {
    let age = orphan_age(sweep.config.orphan_age);
    let begin = || Listing {
        candidates: Candidates::new(age),
        after: None,
    };
    let mut listing = begin();
    let mut next_page = Pauses::new(sweep.config.list_pause);
    loop {
        let page = page(sweep, &mut listing).await;
        let candidates = u64::try_from(listing.candidates.len()).unwrap_or(u64::MAX);
        gauge("alluvium_sweep_orphan_candidates", candidates);
        let pause = match page {
            Ok(true) => {
                next_page.after(Ok(()), "");
                sweep.config.list_interval
            }
            Err(Trouble::NotMine) => {
                listing = begin();
                sweep.config.sweep_interval
            }
            other => next_page.after(other.map(|_| ()), "listing the bucket for orphans"),
        };
        sleep(pause).await;
    }
}

/// What a chunk may still be sequenced for, twice, is the least.
fn orphan_age(configured: Duration) -> Duration {
    let least = u64::try_from(limits::CHUNK_AGE_MILLIS).unwrap_or(0) * 2;
    configured.max(Duration::from_millis(least))
}

/// Looks at one page, the next one after a failure the same again. True when it was the last.
async fn page(sweep: &Sweep, listing: &mut Listing) -> Result<bool, Trouble> {
    sweep.still_mine()?;
    let bucket = &sweep.context.bucket;
    let limit = sweep.config.list_page.max(1);
    let page = bucket.list("", listing.after.as_deref(), limit).await?;
    let last = page.last().map(|meta| meta.key.clone());
    let is_last = page.len() < limit || last.as_deref().is_some_and(|key| key >= BEHIND_ALL);
    let unnamed = unnamed(sweep, listing, page).await?;
    let ripe = note(&mut listing.candidates, unnamed);
    if !ripe.is_empty() {
        delete(sweep, &mut listing.candidates, ripe).await?;
    }
    if is_last {
        listing.after = None;
        listing.candidates.end_pass();
    } else {
        listing.after = last;
    }
    Ok(is_last)
}

/// Those of a page that a view does not name which holds all that was committed after the listing.
async fn unnamed(
    sweep: &Sweep,
    listing: &mut Listing,
    page: Vec<ObjectMeta>,
) -> Result<Vec<(ObjectId, ObjectMeta)>, Trouble> {
    let mut objects = Vec::new();
    for meta in page {
        listing.candidates.store_showed(meta.modified);
        // Only what has the very name of an object: a copy that somebody put elsewhere is not ours.
        if let Some(object) = parse_key(&meta.key).filter(|object| key(*object) == meta.key) {
            objects.push((object, meta));
        }
    }
    let metadata = &sweep.context.metadata;
    let is_unnamed = |objects: &mut Vec<(ObjectId, ObjectMeta)>| {
        metadata.read(|state| objects.retain(|(object, _)| !is_known(state, *object)));
    };
    is_unnamed(&mut objects);
    if !objects.is_empty() {
        metadata.barrier().await?;
        is_unnamed(&mut objects);
    }
    Ok(objects)
}

/// Keeps them in mind; those that are old enough come back.
fn note(candidates: &mut Candidates, unnamed: Vec<(ObjectId, ObjectMeta)>) -> Vec<(ObjectId, u64)> {
    let now = Instant::now();
    let mut ripe = Vec::new();
    for (object, meta) in unnamed {
        if candidates.note(object, now) {
            metrics::counter!("alluvium_sweep_orphans_found_total").increment(1);
        }
        if candidates.is_ripe(object, meta.modified, now) {
            ripe.push((object, meta.bytes));
        }
    }
    ripe
}

async fn delete(
    sweep: &Sweep,
    candidates: &mut Candidates,
    mut ripe: Vec<(ObjectId, u64)>,
) -> Result<(), Trouble> {
    sweep.clearance().await?;
    let metadata = &sweep.context.metadata;
    metadata.read(|state| ripe.retain(|(object, _)| !is_known(state, *object)));
    let bucket = &sweep.context.bucket;
    let (gone, trouble) = sweep.pace.delete(bucket, ripe, "orphan").await;
    if !gone.is_empty() {
        let objects = gone.len();
        tracing::info!(objects, "deleted objects that no manifest ever named");
    }
    for object in gone {
        candidates.remove(object);
    }
    trouble
}
