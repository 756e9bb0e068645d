//! For tests: frames made and read by another implementation of the protocol.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{
    Decodable, Encodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

/// A request's frame without its length prefix.
pub(crate) fn request<M: Request>(message: &M, version: i16, correlation_id: i32) -> Bytes {
    let mut frame = BytesMut::new();
    let header = RequestHeader::default()
        .with_request_api_key(M::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation_id)
        .with_client_id(Some(StrBytes::from_static_str("oracle")));
    encode_request_header_into_buffer(&mut frame, &header).unwrap();
    message.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// Reads an answer that is one whole frame, length prefix included.
pub(crate) fn response<M: Decodable + HeaderVersion>(frame: &[u8], version: i16) -> (i32, M) {
    let mut rest = Bytes::copy_from_slice(frame);
    let length = usize::try_from(rest.get_i32()).unwrap();
    assert_eq!(length, rest.len(), "length prefix");
    let header = ResponseHeader::decode(&mut rest, M::header_version(version)).unwrap();
    let message = M::decode(&mut rest, version).unwrap();
    assert!(rest.is_empty(), "bytes left over");
    (header.correlation_id, message)
}

/// The frame of an answer without its length prefix.
pub(crate) fn encode_response<M: Encodable + HeaderVersion>(message: &M, version: i16) -> Bytes {
    let mut frame = BytesMut::new();
    let header = ResponseHeader::default().with_correlation_id(7);
    header
        .encode(&mut frame, M::header_version(version))
        .unwrap();
    message.encode(&mut frame, version).unwrap();
    frame.freeze()
}

/// A header and a body put together by hand.
pub(crate) fn raw_request(key: i16, version: i16, flexible: bool, body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_i16(key);
    frame.put_i16(version);
    frame.put_i32(9);
    frame.put_i16(-1);
    if flexible {
        frame.put_u8(0);
    }
    frame.put_slice(body);
    frame.freeze()
}

/// Two records of an idempotent producer, made by a Python client.
const GOLDEN: &str = "0000000000000000000000480000000002880999ed0000000000010000018bcfe568000000018bc\
                      fe568050000000000000007000100000005000000021e000000026b027604026802310268010c00\
                      0a02010000";

/// The bytes of [`GOLDEN`].
pub(crate) fn golden_batch() -> Bytes {
    let hex: String = GOLDEN.split_whitespace().collect();
    let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
    (0..hex.len()).step_by(2).map(digit).collect()
}
