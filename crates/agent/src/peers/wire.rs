//! What agents say to one another, on [`Lane::Peers`](alluvium_transport::Lane::Peers).
//!
//! A request is a [`Head`] in postcard, with the bytes of a chunk behind it where it brings some; an
//! answer is an [`Answer`] likewise. The first field of both is the speaker's version. A new request
//! goes to the end of [`Request`] and a variant's fields never change, so that neighbouring releases
//! understand what both know; what one does not know it refuses by name.
//!
//! What comes in is hostile: a head is read from a few bytes, nothing is allocated by a length field,
//! and the bytes behind it must be as many as it says and have the checksum that it says.

use std::ops::Range;

use alluvium_metadata::{AgentOrigin, JournalChunkId, State};
use alluvium_types::{AgentId, ObjectId, TopicId};
use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Serialize};

/// The version of this protocol that this release speaks.
const PROTOCOL: u16 = 1;
/// The oldest that it understands.
const OLDEST: u16 = 1;

/// A head is never longer.
const HEAD_BYTES: usize = 512;

/// Most bytes of a chunk that is sent: what the transport takes, less the head.
pub const APPEND_BYTES: usize = (64 << 20) - HEAD_BYTES;

/// Most bytes that one read is answered with: the longest segment of an object that is fetched at once.
pub const READ_BYTES: u64 = 32 << 20;

/// Which cluster, and which of its histories.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    cluster: TopicId,
    restores: u32,
}

impl Identity {
    /// `None` before the cluster was formed.
    pub(super) fn of(state: &State) -> Option<Self> {
        let restores = state.restores();
        let cluster = state.cluster_id()?;
        Some(Self { cluster, restores })
    }
}

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// [`PROTOCOL`] of the sender.
    version: u16,
    /// Who the sender believes to speak to: an address may have come to belong to somebody else.
    pub(super) identity: Option<Identity>,
    pub(super) to: AgentId,
    /// The sender's registration.
    pub(super) from: AgentOrigin,
    pub(super) request: Request,
}

/// What an agent can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// Sync the bytes behind this to the write-ahead buffer. Answered by [`Answer::Appended`].
    Append { chunk: JournalChunkId, sum: Sum },
    /// Read from a copy in the write-ahead buffer. Answered by [`Answer::Bytes`].
    ReadChunk {
        chunk: JournalChunkId,
        range: Range<u64>,
    },
    /// Read from an object through the cache. Answered by [`Answer::Bytes`].
    ReadObject {
        object: ObjectId,
        object_bytes: u64,
        range: Range<u64>,
    },
}

impl Request {
    /// For metrics.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Append { .. } => "append",
            Self::ReadChunk { .. } => "read-chunk",
            Self::ReadObject { .. } => "read-object",
        }
    }
}

/// What an agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// The copy is durable in this incarnation of the buffer.
    Appended { journal: u128 },
    /// They follow.
    Bytes(Sum),
}

/// What is said of the bytes behind a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sum {
    pub(super) bytes: u64,
    /// CRC-32C of them all.
    crc: u64,
}

impl Sum {
    pub(super) fn of(parts: &[Bytes]) -> Self {
        let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        parts.iter().for_each(|part| digest.update(part));
        Self {
            bytes: total(parts),
            crc: digest.finalize(),
        }
    }

    /// # Errors
    /// It is not of these bytes.
    fn check(self, body: &Bytes) -> Result<(), String> {
        let found = Self::of(std::slice::from_ref(body));
        if found.bytes != self.bytes {
            return Err(format!(
                "{} bytes were announced and {} came",
                self.bytes, found.bytes
            ));
        }
        if found.crc != self.crc {
            return Err(format!("{} bytes were damaged on the way", self.bytes));
        }
        Ok(())
    }
}

pub(super) fn total(parts: &[Bytes]) -> u64 {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

impl Head {
    pub(super) const fn new(
        identity: Option<Identity>,
        to: AgentId,
        from: AgentOrigin,
        request: Request,
    ) -> Self {
        Self {
            version: PROTOCOL,
            identity,
            to,
            from,
            request,
        }
    }

    /// The request with the bytes that it brings.
    pub(super) fn encode(&self, body: &[Bytes]) -> Bytes {
        join(self, body)
    }

    /// Reads what came from the network. The bytes behind the head are a slice of it.
    ///
    /// # Errors
    /// It is no request, damaged, or of a release that is not understood.
    pub(super) fn decode(bytes: &Bytes) -> Result<(Self, Bytes), String> {
        let unreadable = || "not a request of an agent".to_owned();
        let start = bytes.get(..bytes.len().min(HEAD_BYTES)).unwrap_or_default();
        let (version, _) = postcard::take_from_bytes::<u16>(start).map_err(|_| unreadable())?;
        if version < OLDEST {
            return Err(format!(
                "request of version {version}, this release understands {OLDEST} and later; \
                 upgrade the agent that asks"
            ));
        }
        let (head, rest) = postcard::take_from_bytes::<Self>(start).map_err(|error| {
            if version > PROTOCOL {
                return format!(
                    "request of version {version} that version {PROTOCOL} does not know; upgrade \
                     this agent"
                );
            }
            format!("not a request of an agent: {error}")
        })?;
        let body = bytes.slice(start.len() - rest.len()..);
        match &head.request {
            Request::Append { sum, .. } => sum.check(&body)?,
            Request::ReadChunk { range, .. } | Request::ReadObject { range, .. } => {
                check_range(range)?;
                if !body.is_empty() {
                    return Err(format!("{} bytes follow a request", body.len()));
                }
            }
        }
        Ok((head, body))
    }
}

/// # Errors
/// Nobody reads such a range at once.
pub(super) fn check_range(range: &Range<u64>) -> Result<(), String> {
    match range.end.checked_sub(range.start) {
        None | Some(0) => Err(format!("bytes {range:?} are none")),
        Some(length) if length > READ_BYTES => Err(format!(
            "{length} bytes are asked for at once; at most {READ_BYTES} are given"
        )),
        Some(_) => Ok(()),
    }
}

/// The head and what follows it.
#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u16,
    answer: T,
}

impl Answer {
    pub(super) fn encode(&self, body: &[Bytes]) -> Bytes {
        let versioned = Versioned {
            version: PROTOCOL,
            answer: self,
        };
        join(&versioned, body)
    }

    /// # Errors
    /// It is no answer, or damaged.
    pub(super) fn decode(bytes: &Bytes) -> Result<(Self, Bytes), String> {
        let start = bytes.get(..bytes.len().min(HEAD_BYTES)).unwrap_or_default();
        let (head, rest) = postcard::take_from_bytes::<Versioned<Self>>(start)
            .map_err(|error| format!("an answer that cannot be read: {error}"))?;
        let body = bytes.slice(start.len() - rest.len()..);
        match &head.answer {
            Self::Appended { .. } if !body.is_empty() => {
                return Err(format!("{} bytes follow an answer", body.len()));
            }
            Self::Appended { .. } => {}
            Self::Bytes(sum) => sum.check(&body)?,
        }
        Ok((head.answer, body))
    }
}

/// Plain data into a vector cannot fail; were it to, the missing head would be refused by the reader.
fn join<T: Serialize>(head: &T, body: &[Bytes]) -> Bytes {
    let head = postcard::to_stdvec(head).unwrap_or_default();
    let length = body.iter().map(Bytes::len).sum::<usize>();
    let mut joined = BytesMut::with_capacity(head.len() + length);
    joined.extend_from_slice(&head);
    body.iter().for_each(|part| joined.extend_from_slice(part));
    joined.freeze()
}
