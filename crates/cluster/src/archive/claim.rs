//! Whose bucket it is.

use alluvium_storage::bucket::Bucket;

use super::file::{self, Kind};
use super::{keys, listing};

/// Refuses to form a new cluster over a bucket that holds one. Asked before the first entry of a new
/// quorum is written; an archive that was begun meanwhile is found by the first leader.
///
/// # Errors
/// The bucket holds a cluster, or cannot be read; says what to do.
pub(crate) async fn refuse_claimed(bucket: &Bucket) -> Result<(), String> {
    let url = bucket.url();
    let unread = |error: &dyn std::fmt::Display| {
        format!("cannot see whether {url} holds a cluster already: {error}; try again")
    };
    let markers = bucket
        .list(keys::MARKERS, None, 1)
        .await
        .map_err(|error| unread(&error))?;
    let Some(marker) = markers.first() else {
        return Ok(());
    };
    let bytes = listing::read(bucket, &marker.key)
        .await
        .map_err(|error| unread(&error))?;
    let cluster = match file::decode(&marker.key, &bytes, Kind::Marker) {
        Ok((head, _)) => format!("cluster {}", head.cluster),
        Err(error) => format!("a cluster ({error})"),
    };
    Err(format!(
        "{url} holds {cluster} already, and this node's data directory is empty. To bring that \
         cluster back, run `alluvium restore --store {url} --data-dir DIR` and start on DIR; to join \
         its quorum, list its nodes in cluster.nodes; for a new cluster choose another bucket or prefix"
    ))
}
