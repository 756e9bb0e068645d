//! Responses of the cold path as frames.

use bytes::{BufMut, Bytes, BytesMut};

use crate::messages::{
    ApiVersion, DecodeLimits, Decoder, Encoder, KafkaResponse, response_header_version,
};

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

/// An answer could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed {message}, version {version}: {reason}")]
pub struct ResponseError {
    /// Which message.
    pub message: &'static str,
    /// In which version.
    pub version: i16,
    /// What was wrong.
    pub reason: String,
}

fn has_tagged_header<M: KafkaResponse>(version: ApiVersion) -> bool {
    response_header_version(M::API_KEY, version, M::is_flexible(version)) >= 1
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
    let fault = |reason: String| EncodeError {
        message: M::NAME,
        version,
        reason,
    };
    let api_version = ApiVersion::new(version);
    let tagged = has_tagged_header::<M>(api_version);
    let body = message
        .encoded_len(api_version)
        .map_err(|error| fault(error.to_string()))?;
    let length = body + 4 + usize::from(tagged);
    let prefix = i32::try_from(length)
        .map_err(|_| fault(format!("{length} bytes do not fit into a frame")))?;

    let mut buffer = BytesMut::with_capacity(length + 4);
    buffer.put_i32(prefix);
    buffer.put_i32(correlation_id);
    if tagged {
        buffer.put_u8(0);
    }
    message
        .encode(&mut Encoder::new(&mut buffer), api_version)
        .map_err(|error| fault(error.to_string()))?;
    Ok(buffer.freeze())
}

/// Decodes an answer (a frame without its length prefix) into its correlation id and message: for
/// the client. Strings and bytes of the message are slices of the frame.
///
/// # Errors
/// Cut short, malformed, beyond the codec's own limits, or bytes left over.
pub fn decode<M: KafkaResponse>(frame: Bytes, version: i16) -> Result<(i32, M), ResponseError> {
    let api_version = ApiVersion::new(version);
    let read = || {
        let mut decoder = Decoder::new(frame, DecodeLimits::default())?;
        let correlation_id = decoder.read_i32()?;
        if has_tagged_header::<M>(api_version) {
            decoder.read_tagged_fields()?;
        }
        let message = M::decode(&mut decoder, api_version)?;
        decoder.finish()?;
        Ok((correlation_id, message))
    };
    read().map_err(|error: crate::messages::DecodeError| ResponseError {
        message: M::NAME,
        version,
        reason: error.to_string(),
    })
}
