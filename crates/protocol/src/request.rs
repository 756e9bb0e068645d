//! Requests: header and body.

use bytes::Bytes;

use crate::messages::{KafkaRequest, StrBytes};

/// A request's header with the body that follows it.
#[derive(Clone, Debug)]
pub struct Request {
    /// API key.
    pub api_key: i16,
    /// Version of the API that the body is in.
    pub api_version: i16,
    /// Comes back in the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<StrBytes>,
    /// The bytes after the header.
    pub body: Bytes,
}

/// Why bytes are not a request. The connection they came from has lost its framing or lies; it is
/// closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The header is cut short or malformed.
    #[error("malformed request header: {0}")]
    Header(String),
    /// The body is cut short, malformed, too long, or has bytes left over.
    #[error("malformed {api} request, version {version}: {reason}")]
    Body {
        /// Which API.
        api: &'static str,
        /// In which version.
        version: i16,
        /// What was wrong.
        reason: String,
    },
}

impl Request {
    /// Reads the header of a frame (without its length prefix). Header version 2 is read when the
    /// API's version is flexible; unknown keys are read as far as the correlation id and client id.
    ///
    /// # Errors
    /// [`RequestError::Header`].
    pub fn parse(frame: Bytes) -> Result<Self, RequestError> {
        let _ = frame;
        todo!()
    }

    /// Decodes the body as a message of the cold path, all of it, within the limits.
    ///
    /// # Errors
    /// [`RequestError::Body`].
    pub fn decode<M: KafkaRequest>(&self) -> Result<M, RequestError> {
        todo!()
    }
}
