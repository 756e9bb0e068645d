//! A snapshot in the archive.
//!
//! The body is the length of the checkpoint (4 bytes, little-endian), the checkpoint and the state,
//! as a snapshot file on disk holds them.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use alluvium_metadata::State;
use alluvium_types::{Millis, TopicId};

use super::file::{self, FileError, Head, Kind, Place};
use crate::view::Current;

/// A snapshot's bytes. Costs time with the state's size.
pub(crate) fn encode(
    (history, cluster): (u32, TopicId),
    current: &Current,
    at: Millis,
) -> io::Result<Bytes> {
    let checkpoint = postcard::to_stdvec(&current.checkpoint).map_err(io::Error::other)?;
    let state = current.state.to_snapshot();
    let mut body = BytesMut::with_capacity(4 + checkpoint.len() + state.len());
    body.put_u32_le(u32::try_from(checkpoint.len()).map_err(io::Error::other)?);
    body.put_slice(&checkpoint);
    body.put_slice(&state);
    let place = current
        .checkpoint
        .last
        .map_or_else(Place::default, |last| Place {
            term: last.term,
            index: last.index,
        });
    let head = Head {
        kind: Kind::Snapshot,
        history,
        cluster,
        first: place,
        last: place,
        at,
    };
    file::encode(&head, &body)
}

pub(crate) fn decode(key: &str, bytes: &Bytes) -> Result<(Head, Current), FileError> {
    let (head, mut body) = file::decode(key, bytes, Kind::Snapshot)?;
    let damaged = |reason: &dyn ToString| FileError::damaged(key, reason.to_string());
    let length = (body.len() >= 4)
        .then(|| body.get_u32_le())
        .and_then(|length| usize::try_from(length).ok())
        .filter(|length| *length <= body.len())
        .ok_or_else(|| FileError::damaged(key, "its checkpoint is cut short"))?;
    let checkpoint =
        postcard::from_bytes(&body.split_to(length)).map_err(|error| damaged(&error))?;
    let state = State::from_snapshot(&body).map_err(|error| damaged(&error))?;
    Ok((head, Current { state, checkpoint }))
}
