//! Replaying what a test archived.

use std::sync::Arc;

use super::report::Replayed;
use super::{history, replay};
use crate::archive::marker::Marker;
use crate::archive::testing::Shelf;
use crate::view::Current;

/// The newest state that the bucket holds.
pub(crate) async fn replayed(shelf: &Arc<Shelf>) -> (Current, Replayed) {
    let bucket = shelf.bucket();
    let markers = Marker::all(&bucket).await.unwrap();
    let base = history::choose(&bucket, &markers, None).await.unwrap();
    replay::replay(&bucket, base, None, &|_| ()).await.unwrap()
}
