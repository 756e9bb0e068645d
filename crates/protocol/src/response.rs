//! Responses of the cold path as frames.

use bytes::Bytes;

use crate::messages::KafkaResponse;

/// A message could not be written in the version asked for: a fault of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot encode {message}, version {version}: {reason}")]
pub struct EncodeError {
    /// Which message.
    pub message: &'static str,
    /// In which version.
    pub version: i16,
    /// Why.
    pub reason: String,
}

/// Encodes an answer as one whole frame: length prefix, response header, body.
///
/// # Errors
/// The message has a field that the version cannot carry.
pub fn encode<M: KafkaResponse>(
    correlation_id: i32,
    version: i16,
    message: &M,
) -> Result<Bytes, EncodeError> {
    let _ = (correlation_id, version, message);
    todo!()
}
