//! A client that speaks through kafka-protocol, which shares no code with the server.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use alluvium_protocol::messages::{KafkaRequest, KafkaResponse};
use alluvium_protocol::{request as wire_request, response as wire_response};
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{
    GroupId, ProduceRequest, RequestHeader, ResponseHeader, TopicName, TransactionalId,
};
use kafka_protocol::protocol::{
    Decodable, HeaderVersion, Request, StrBytes, encode_request_header_into_buffer,
};

use crate::support::Server;

pub(crate) const CLIENT: &str = "protocol-test";

pub(crate) fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

pub(crate) fn topic(name: &str) -> TopicName {
    TopicName(text(name))
}

pub(crate) fn group(name: &str) -> GroupId {
    GroupId(text(name))
}

pub(crate) fn transactional(id: &str) -> TransactionalId {
    TransactionalId(text(id))
}

/// A request's whole frame, length prefix included.
pub(crate) fn frame<R: Request>(version: i16, correlation: i32, request: &R) -> Bytes {
    let header = RequestHeader::default()
        .with_request_api_key(R::KEY)
        .with_request_api_version(version)
        .with_correlation_id(correlation)
        .with_client_id(Some(text(CLIENT)));
    let mut body = BytesMut::new();
    encode_request_header_into_buffer(&mut body, &header).unwrap();
    request
        .encode(&mut body, version)
        .unwrap_or_else(|error| panic!("this test cannot encode version {version}: {error}"));
    prefixed(&body)
}

/// A header of any version (1, or 2 as far as it is the same) with bytes behind it, as a frame.
pub(crate) fn raw_frame(key: i16, version: i16, correlation: i32, rest: &[u8]) -> Bytes {
    let mut body = BytesMut::new();
    body.put_i16(key);
    body.put_i16(version);
    body.put_i32(correlation);
    body.put_i16(-1);
    body.put_slice(rest);
    prefixed(&body)
}

fn prefixed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(body.len() + 4);
    frame.put_u32(body.len().try_into().unwrap());
    frame.put_slice(body);
    frame.freeze()
}

/// Reads an answer: the correlation id and the message, which is to fill the frame.
pub(crate) fn read<M: Decodable + HeaderVersion>(frame: &Bytes, version: i16) -> (i32, M) {
    let mut rest = frame.clone();
    let header = ResponseHeader::decode(&mut rest, M::header_version(version)).unwrap();
    let message = M::decode(&mut rest, version)
        .unwrap_or_else(|error| panic!("answer in version {version}: {error}: {frame:x?}"));
    assert!(
        rest.is_empty(),
        "version {version}: bytes left over: {frame:x?}"
    );
    (header.correlation_id, message)
}

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    correlation: i32,
}

impl Client {
    pub(crate) fn of(server: &Server) -> Self {
        Self {
            socket: server.socket(),
            correlation: 0,
        }
    }

    fn correlation(&mut self) -> i32 {
        self.correlation += 1;
        self.correlation
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).unwrap();
    }

    /// Sends a request without waiting for its answer; the correlation id.
    pub(crate) fn request<R: Request>(&mut self, version: i16, request: &R) -> i32 {
        let correlation = self.correlation();
        self.send(&frame(version, correlation, request));
        correlation
    }

    /// The next frame, without its length prefix.
    ///
    /// # Errors
    /// The connection is closed.
    pub(crate) fn frame(&mut self) -> io::Result<Bytes> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let length = i32::from_be_bytes(length);
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.socket.read_exact(&mut frame)?;
        Ok(frame.into())
    }

    /// Whether the server closes the connection without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        match self.socket.read(&mut byte) {
            Ok(read) => read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// The answer to a request that was sent.
    pub(crate) fn answer<R: Request>(&mut self, version: i16, correlation: i32) -> R::Response {
        let frame = self
            .frame()
            .unwrap_or_else(|error| panic!("API {} version {version}: no answer: {error}", R::KEY));
        let (answered, message) = read(&frame, version);
        assert_eq!(answered, correlation, "correlation id");
        message
    }

    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> R::Response {
        let correlation = self.request(version, request);
        self.answer::<R>(version, correlation)
    }

    /// The same in the server's own codec, for the versions that the other one lacks.
    pub(crate) fn ask_own<R: KafkaRequest, A: KafkaResponse>(
        &mut self,
        version: i16,
        request: &R,
    ) -> A {
        let correlation = self.correlation();
        let bytes = wire_request::encode(correlation, version, Some(CLIENT), request).unwrap();
        self.send(&bytes);
        let frame = self
            .frame()
            .unwrap_or_else(|error| panic!("{} version {version}: no answer: {error}", R::NAME));
        let (answered, message) = wire_response::decode(frame, version).unwrap();
        assert_eq!(answered, correlation, "correlation id");
        message
    }

    /// A produce with acks=0, which is never answered.
    pub(crate) fn produce_unanswered(&mut self, version: i16, request: &ProduceRequest) {
        assert_eq!(request.acks, 0);
        self.request(version, request);
    }
}
