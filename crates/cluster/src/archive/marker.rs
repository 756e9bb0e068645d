//! The marker of a history: whoever creates it, begins the history.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use alluvium_storage::bucket::{Bucket, BucketError};
use alluvium_types::{Millis, TopicId, random};

use super::file::{self, FileError, Head, Kind, Place};
use super::{keys, listing};

/// The beginning of a history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub(crate) history: u32,
    pub(crate) cluster: TopicId,
    /// When it began.
    pub(crate) at: Millis,
    body: Body,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Body {
    /// Tells two that are created at once apart.
    draw: u128,
    /// The history that was restored, and the first of its entries that were not.
    from: Option<(u32, u64)>,
}

/// Why a marker is not there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkerError {
    #[error("{0}")]
    Bucket(#[from] BucketError),
    #[error("{0}")]
    File(#[from] FileError),
    #[error("{0}")]
    Encode(#[from] io::Error),
}

impl Marker {
    pub(crate) fn new(
        history: u32,
        cluster: TopicId,
        from: Option<(u32, u64)>,
        at: Millis,
    ) -> Self {
        Self {
            history,
            cluster,
            at,
            body: Body {
                draw: random::value(),
                from,
            },
        }
    }

    pub(crate) fn encode(&self) -> io::Result<Bytes> {
        let next_index = self.body.from.map_or(0, |(_, next_index)| next_index);
        let place = Place {
            term: 0,
            index: next_index,
        };
        let head = Head {
            kind: Kind::Marker,
            history: self.history,
            cluster: self.cluster,
            first: place,
            last: place,
            at: self.at,
        };
        let body = postcard::to_stdvec(&self.body).map_err(io::Error::other)?;
        file::encode(&head, &body)
    }

    pub(crate) fn decode(key: &str, bytes: &Bytes) -> Result<Self, FileError> {
        let (head, body) = file::decode(key, bytes, Kind::Marker)?;
        let body = postcard::from_bytes(&body).map_err(|error| FileError::damaged(key, error))?;
        Ok(Self {
            history: head.history,
            cluster: head.cluster,
            at: head.at,
            body,
        })
    }

    /// Creates it. False when the history was begun by someone else.
    pub(crate) async fn create(&self, bucket: &Bucket) -> Result<bool, MarkerError> {
        let bytes = self.encode()?;
        match bucket
            .create(&keys::marker(self.history), vec![bytes])
            .await
        {
            Ok(()) => Ok(true),
            Err(BucketError::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads it; `None` when the history was never begun.
    pub(crate) async fn read(bucket: &Bucket, history: u32) -> Result<Option<Self>, MarkerError> {
        let key = keys::marker(history);
        match listing::read(bucket, &key).await {
            Ok(bytes) => Ok(Some(Self::decode(&key, &bytes)?)),
            Err(BucketError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// All of them, by history.
    pub(crate) async fn all(bucket: &Bucket) -> Result<Vec<Self>, MarkerError> {
        let mut markers = Vec::new();
        for listed in listing::list(bucket, keys::MARKERS, None).await? {
            let bytes = listing::read(bucket, &listed.key).await?;
            markers.push(Self::decode(&listed.key, &bytes)?);
        }
        Ok(markers)
    }
}
