//! Requests: header and body.

use bytes::{Bytes, BytesMut};

use crate::api::{self, is_flexible};
use crate::messages::{
    ApiVersion, DecodeLimits, Decoder, KafkaRequest, OutboundFrameLimits, StrBytes, encode_request,
};
use crate::response::EncodeError;
use crate::wire::{Malformed, Reader};

/// What one request may ask of us. The length of a frame is bounded before it is read
/// (`socket.request.max.bytes`); these bound what is made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest frame, in bytes: what `socket.request.max.bytes` may at most be set to.
    pub frame_bytes: usize,
    /// Longest body of a request outside the hot path, in bytes. An element of an array takes up
    /// to some thirty times its bytes on the wire once it is decoded.
    pub body_bytes: usize,
    /// The same for the APIs whose bodies carry opaque bytes or long names: Metadata, JoinGroup
    /// and SyncGroup.
    pub large_body_bytes: usize,
    /// Longest string, in bytes.
    pub string_bytes: usize,
    /// Most elements of one array, and most partitions of one Produce or Fetch.
    pub elements: usize,
    /// Most unknown tagged fields of one structure.
    pub tagged_fields: usize,
    /// Bytes of all unknown tagged fields of one structure.
    pub tagged_bytes: usize,
}

/// The limits of every request.
pub const LIMITS: Limits = Limits {
    frame_bytes: 100 << 20,
    body_bytes: 4 << 20,
    large_body_bytes: 16 << 20,
    string_bytes: 64 << 10,
    elements: 250_000,
    tagged_fields: 64,
    tagged_bytes: 64 << 10,
};

impl Limits {
    fn for_api(&self, key: i16) -> DecodeLimits {
        const METADATA: i16 = 3;
        const JOIN_GROUP: i16 = 11;
        const SYNC_GROUP: i16 = 14;
        let body = match key {
            api::PRODUCE | api::FETCH => self.frame_bytes,
            METADATA | JOIN_GROUP | SYNC_GROUP => self.large_body_bytes,
            _ => self.body_bytes,
        };
        let mut limits = DecodeLimits::default();
        limits.max_frame_bytes = body;
        limits.max_bytes_bytes = body;
        limits.max_string_bytes = self.string_bytes;
        limits.max_array_elements = self.elements;
        limits.max_tagged_fields = self.tagged_fields;
        limits.max_tag_bytes = self.tagged_bytes;
        limits.max_total_tag_bytes = self.tagged_bytes;
        limits
    }
}

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
    /// The body is cut short, malformed or too long.
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
    /// API's version is flexible. Where the key or the version is not one we serve, nothing after
    /// the correlation id can be relied on: it is read as far as it makes sense and never an
    /// error, so that ApiVersions can be answered (KIP-511) and the rest be named in a log line.
    ///
    /// # Errors
    /// [`RequestError::Header`].
    pub fn parse(frame: Bytes) -> Result<Self, RequestError> {
        let header = |malformed: Malformed| RequestError::Header(malformed.to_string());
        // Client ids have a two-byte length in every header version.
        let mut reader = Reader::new(frame.clone(), false);
        let api_key = reader.i16().map_err(header)?;
        let api_version = reader.i16().map_err(header)?;
        let correlation_id = reader.i32().map_err(header)?;
        let rest = read_rest(&frame, &mut reader, is_flexible(api_key, api_version));
        let (client_id, at) = match rest {
            Ok(rest) => rest,
            Err(malformed) if is_known(api_key, api_version) => return Err(header(malformed)),
            Err(_) => (None, frame.len()),
        };
        let body = frame.slice(at..);
        Ok(Self {
            api_key,
            api_version,
            correlation_id,
            client_id,
            body,
        })
    }

    /// Decodes the body as a message of the cold path, within the limits. Bytes after the message
    /// are ignored, as Kafka does: librdkafka (up to 2.16 at least, its issue 5049) asks for the
    /// metadata of all topics with the null array four bytes long instead of one. Strings
    /// and bytes are slices that keep the whole frame in memory: copy what outlives the request.
    ///
    /// # Errors
    /// [`RequestError::Body`].
    pub fn decode<M: KafkaRequest>(&self) -> Result<M, RequestError> {
        let body = |reason: String| RequestError::Body {
            api: M::API_DESCRIPTOR.request.name,
            version: self.api_version,
            reason,
        };
        if M::API_KEY.value() != self.api_key {
            return Err(body(format!("the request's key is {}", self.api_key)));
        }
        let read = || {
            let mut decoder = Decoder::new(self.body.clone(), LIMITS.for_api(self.api_key))?;
            let message = M::decode(&mut decoder, ApiVersion::new(self.api_version))?;
            Ok(message)
        };
        read().map_err(|error: crate::messages::DecodeError| body(error.to_string()))
    }
}

/// The client id, and where the body begins.
fn read_rest(
    frame: &Bytes,
    reader: &mut Reader,
    flexible: bool,
) -> Result<(Option<StrBytes>, usize), Malformed> {
    let client_id = reader.nullable_string()?;
    let mut at = reader.position();
    if flexible {
        let mut tags = Reader::new(frame.slice(at..), true);
        tags.skip_tags()?;
        at += tags.position();
    }
    Ok((client_id, at))
}

fn is_known(key: i16, version: i16) -> bool {
    api::served(key).is_some_and(|api| api.serves(version))
}

/// Encodes a request as one whole frame, length prefix included: for the client.
///
/// # Errors
/// The message has a field that the version cannot carry, or is longer than [`Limits::frame_bytes`].
pub fn encode<M: KafkaRequest>(
    correlation_id: i32,
    version: i16,
    client_id: Option<&str>,
    message: &M,
) -> Result<Bytes, EncodeError> {
    let mut buffer = BytesMut::new();
    let limits = OutboundFrameLimits::new(LIMITS.frame_bytes);
    let client_id = client_id.map(StrBytes::from);
    encode_request(
        &mut buffer,
        correlation_id,
        client_id,
        message,
        ApiVersion::new(version),
        limits,
    )
    .map_err(|error| EncodeError {
        message: M::NAME,
        version,
        reason: error.to_string(),
    })?;
    Ok(buffer.freeze())
}

#[cfg(test)]
mod tests;
