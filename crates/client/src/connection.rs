//! One connection: requests go out and answers come back, one at a time.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use alluvium_protocol::api;
use alluvium_protocol::message;
use alluvium_protocol::messages::{ApiVersionsRequest, KafkaRequest, RequestResponsePair};
use alluvium_protocol::{request, response};

use crate::error::ClientError;

/// How long a connection and its answers may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Until there is a connection.
    pub connect: Duration,
    /// Until there is an answer, with what the request itself asks the server to wait.
    pub answer: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(60),
        }
    }
}

/// Longest answer that is read.
const ANSWER_BYTES: usize = 256 << 20;

/// A connection to one server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    address: String,
    versions: BTreeMap<i16, (i16, i16)>,
    correlation: i32,
    patience: Patience,
}

impl Connection {
    /// Connects to `host:port` and asks which versions it serves.
    ///
    /// # Errors
    /// Nobody answers there, or not in Kafka's protocol.
    pub async fn open(address: &str) -> Result<Self, ClientError> {
        Self::open_within(address, Patience::default()).await
    }

    /// As [`Self::open`], with less patience or more.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_within(address: &str, patience: Patience) -> Result<Self, ClientError> {
        let unreachable = |reason: String| ClientError::Unreachable {
            address: address.to_owned(),
            reason,
        };
        let stream = timeout(patience.connect, TcpStream::connect(address))
            .await
            .map_err(|_| unreachable(format!("no connection within {:?}", patience.connect)))?
            .map_err(|error| unreachable(error.to_string()))?;
        stream
            .set_nodelay(true)
            .map_err(|error| unreachable(error.to_string()))?;
        let mut connection = Self {
            stream,
            address: address.to_owned(),
            versions: BTreeMap::new(),
            correlation: 0,
            patience,
        };
        connection.learn_versions().await?;
        Ok(connection)
    }

    /// Whom it reaches, as `host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    async fn learn_versions(&mut self) -> Result<(), ClientError> {
        let ask = message!(ApiVersionsRequest {
            client_software_name: "alluvium".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
        });
        // Version 3 first; a server that does not know it answers in version 0 (KIP-511).
        for version in [3, 0] {
            let frame = self.exchange(&ask, version).await?;
            let answer = self
                .read_answer::<ApiVersionsRequest>(frame.clone(), version)
                .or_else(|_| self.read_answer::<ApiVersionsRequest>(frame, 0))?;
            if answer.error_code == 0 {
                self.versions = answer
                    .api_keys
                    .iter()
                    .map(|range| (range.api_key, (range.min_version, range.max_version)))
                    .collect();
                return Ok(());
            }
        }
        Err(self.unsupported::<ApiVersionsRequest>())
    }

    /// The newest version of an API that both sides know.
    ///
    /// # Errors
    /// [`ClientError::Unsupported`].
    pub fn version<R: KafkaRequest>(&self) -> Result<i16, ClientError> {
        let key = R::API_KEY.value();
        let ours = R::SUPPORTED_VERSIONS;
        let (min, max) = self
            .versions
            .get(&key)
            .copied()
            .ok_or_else(|| self.unsupported::<R>())?;
        // What this project serves is what it was tested with.
        let newest = api::served(key).map_or(ours.max().value(), |served| served.max);
        let version = newest.min(max);
        let oldest = ours.min().value().max(min);
        if version < oldest {
            Err(self.unsupported::<R>())
        } else {
            Ok(version)
        }
    }

    fn unsupported<R: KafkaRequest>(&self) -> ClientError {
        ClientError::Unsupported {
            address: self.address.clone(),
            api: R::NAME,
        }
    }

    /// Sends a request in the newest version that both sides know and waits for its answer.
    ///
    /// # Errors
    /// See [`ClientError`]; error codes in the answer are the caller's to read.
    pub async fn call<R: RequestResponsePair>(
        &mut self,
        ask: &R,
    ) -> Result<R::Response, ClientError> {
        self.call_up_to(ask, i16::MAX).await
    }

    /// As [`Self::call`], in no version above `newest`.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub async fn call_up_to<R: RequestResponsePair>(
        &mut self,
        ask: &R,
        newest: i16,
    ) -> Result<R::Response, ClientError> {
        let version = self.version::<R>()?.min(newest);
        let frame = self.exchange(ask, version).await?;
        self.read_answer::<R>(frame, version)
    }

    fn read_answer<R: RequestResponsePair>(
        &self,
        frame: Bytes,
        version: i16,
    ) -> Result<R::Response, ClientError> {
        let (correlation, answer) = response::decode::<R::Response>(frame, version)
            .map_err(|error| self.broken::<R>(error.to_string()))?;
        if correlation == self.correlation {
            Ok(answer)
        } else {
            Err(self.broken::<R>("it answered another request".to_owned()))
        }
    }

    fn broken<R: KafkaRequest>(&self, reason: String) -> ClientError {
        ClientError::Broken {
            address: self.address.clone(),
            api: R::NAME,
            reason,
        }
    }

    async fn exchange<R: KafkaRequest>(
        &mut self,
        ask: &R,
        version: i16,
    ) -> Result<Bytes, ClientError> {
        self.correlation = self.correlation.wrapping_add(1);
        let frame = request::encode(self.correlation, version, Some("alluvium"), ask)
            .map_err(|error| self.broken::<R>(error.to_string()))?;
        match timeout(
            self.patience.answer,
            Self::round_trip(&mut self.stream, &frame),
        )
        .await
        {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => Err(self.broken::<R>(error.to_string())),
            Err(_) => Err(ClientError::TimedOut {
                address: self.address.clone(),
                api: R::NAME,
                seconds: self.patience.answer.as_secs(),
            }),
        }
    }

    async fn round_trip(stream: &mut TcpStream, frame: &[u8]) -> std::io::Result<Bytes> {
        stream.write_all(frame).await?;
        let length = usize::try_from(stream.read_i32().await?).unwrap_or(usize::MAX);
        if length > ANSWER_BYTES {
            let reason = format!("an answer of {length} bytes is not to be believed");
            return Err(std::io::Error::other(reason));
        }
        let mut answer = BytesMut::new();
        let mut rest = stream.take(length as u64);
        while answer.len() < length {
            if rest.read_buf(&mut answer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(answer.freeze())
    }
}
