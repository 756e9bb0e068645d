//! Reads through a view that lags behind what clients have heard elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use alluvium_cluster::ProposeError;
use alluvium_storage::cache::Cache;
use alluvium_types::TopicId;

use super::*;
use crate::fetch::{Fetch, ReadResult};
use crate::freshness::Freshness;
use crate::testing::send;

/// A read path over the rig's view, which "catches up" by taking one more record into `at`; or not.
fn lagging(rig: &Arc<Rig>, at: TopicPartition, is_well: bool) -> (Fetch, Arc<AtomicUsize>) {
    let barriers = Arc::new(AtomicUsize::new(0));
    let freshness = Freshness::over(Box::new({
        let (rig, barriers) = (Arc::clone(rig), Arc::clone(&barriers));
        move || {
            barriers.fetch_add(1, Ordering::SeqCst);
            let rig = Arc::clone(&rig);
            Box::pin(async move {
                if !is_well {
                    return Err(ProposeError::TimedOut);
                }
                send(&rig.produce.connect(), at, batch(&["elsewhere"])).await;
                Ok(())
            })
        }
    }));
    let cache = Cache::new(rig.bucket.clone(), rig.config.cache_bytes);
    let fetch = Fetch::start(&rig.config, rig.metadata.clone(), freshness, cache);
    (fetch, barriers)
}

async fn read(fetch: &Fetch, at: TopicPartition, offset: i64) -> ReadResult {
    let asked = [ask(at, offset, usize::MAX)];
    fetch.read(&asked, NO_WAIT).await.remove(0)
}

#[tokio::test]
async fn what_a_client_heard_of_elsewhere_is_looked_for_before_it_is_denied() {
    let rig = Arc::new(Rig::new().await);
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    let (fetch, barriers) = lagging(&rig, at, true);
    // The tail is no miss: one waits there.
    assert_eq!(read(&fetch, at, 0).await.error, ErrorCode::None);
    assert_eq!(barriers.load(Ordering::SeqCst), 0);
    let found = read(&fetch, at, 1).await;
    assert_eq!((found.error, found.high_watermark), (ErrorCode::None, 1));
    assert_eq!(barriers.load(Ordering::SeqCst), 1);
    let beyond = read(&fetch, at, 7).await;
    assert_eq!(
        (beyond.error, beyond.high_watermark),
        (ErrorCode::OffsetOutOfRange, 2)
    );
    // Below the log start nothing comes back, however fresh the view.
    assert_eq!(
        read(&fetch, at, -1).await.error,
        ErrorCode::OffsetOutOfRange
    );
    assert_eq!(barriers.load(Ordering::SeqCst), 2);
    let unknown = TopicPartition::new(TopicId([3; 16]), 0);
    let unknown = read(&fetch, unknown, 0).await;
    assert_eq!(unknown.error, ErrorCode::UnknownTopicOrPartition);
    assert_eq!(barriers.load(Ordering::SeqCst), 3);
    fetch.shutdown().await;
}

#[tokio::test]
async fn while_the_quorum_is_away_what_is_known_is_served_and_the_rest_is_to_be_asked_again() {
    let rig = Arc::new(Rig::new().await);
    let topic = rig.topic("t", 1, &[]).await;
    let at = TopicPartition::new(topic, 0);
    rig.append(at, batch(&["known"])).await;
    let (fetch, _) = lagging(&rig, at, false);
    assert_eq!(values(&decode(&read(&fetch, at, 0).await)), ["known"]);
    // OFFSET_OUT_OF_RANGE would send the client back to the beginning, or past the end.
    let ahead = read(&fetch, at, 2).await;
    assert_eq!(ahead.error, ErrorCode::NotLeaderOrFollower);
    fetch.shutdown().await;
}
