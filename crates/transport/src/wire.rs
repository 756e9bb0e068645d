//! What stands in a request and an answer.
//!
//! `POST /call/LANE` and `POST /open/LANE` carry the request as their body and say which versions of this
//! page the caller speaks, `alluvium-transport: OLDEST-NEWEST`; the answer says which one it is in, the
//! newest that both speak. `GET /hello` asks nothing: any answer shows that the other side lives.
//!
//! | answer | means |
//! | --- | --- |
//! | 200 | a call's answer, or a stream: pieces, each after its length (4 bytes, big-endian) |
//! | 422 | refused; the body says why, in words |
//! | 413, 429 | too large; too many at once: refused, too |

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use crate::Lane;

/// Names versions of this page.
pub(crate) const VERSION_HEADER: &str = "alluvium-transport";
/// The oldest that is spoken here, and the newest.
const OLDEST: u16 = 1;
const NEWEST: u16 = 1;

/// What a caller says of itself.
pub(crate) fn versions() -> String {
    format!("{OLDEST}-{NEWEST}")
}

/// The newest version that both sides speak, of what a caller said.
pub(crate) fn common_version(said: &str) -> Option<u16> {
    let (oldest, newest) = said.split_once('-')?;
    let (oldest, newest) = (oldest.parse::<u16>().ok()?, newest.parse::<u16>().ok()?);
    let common = newest.min(NEWEST);
    (oldest <= common && common >= OLDEST).then_some(common)
}

/// Where a new connection is tried.
pub(crate) const HELLO: &str = "/hello";

/// Most bytes of a request, and of a call's answer.
pub(crate) const BODY_BYTES: usize = 64 << 20;
/// Most bytes of one piece of a stream.
pub(crate) const PIECE_BYTES: usize = 8 << 20;
/// Most bytes of a refusal's words.
pub(crate) const REASON_BYTES: usize = 16 << 10;

/// How often a connection is asked whether it is alive,
pub(crate) const PING_INTERVAL: Duration = Duration::from_millis(500);
/// and how long it may take to say so.
pub(crate) const PING_TIMEOUT: Duration = Duration::from_millis(1000);

/// Bytes that one stream may have under way unread, and all of an accepted connection.
pub(crate) const STREAM_WINDOW: u32 = 1 << 20;
pub(crate) const CONNECTION_WINDOW: u32 = 4 << 20;
/// All of a connection made from here: streams that are read slowly hold up no answer beside them.
pub(crate) const CALLER_WINDOW: u32 = 16 << 20;

impl Lane {
    pub(crate) const ALL: [Self; 5] = [
        Self::Control,
        Self::Log,
        Self::Commands,
        Self::Bulk,
        Self::Peers,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Log => "log",
            Self::Commands => "commands",
            Self::Bulk => "bulk",
            Self::Peers => "peers",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| lane.name() == name)
    }
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Call(Lane),
    Open(Lane),
}

impl Ask {
    pub(crate) fn path(self) -> String {
        match self {
            Self::Call(lane) => format!("/call/{}", lane.name()),
            Self::Open(lane) => format!("/open/{}", lane.name()),
        }
    }

    pub(crate) fn parse(path: &str) -> Option<Self> {
        if let Some(lane) = path.strip_prefix("/call/") {
            return Lane::named(lane).map(Self::Call);
        }
        Lane::named(path.strip_prefix("/open/")?).map(Self::Open)
    }
}

/// A piece's length and the piece.
pub(crate) fn piece(bytes: &Bytes) -> Option<Bytes> {
    if bytes.len() > PIECE_BYTES {
        return None;
    }
    let length = u32::try_from(bytes.len()).ok()?;
    let mut framed = BytesMut::with_capacity(4 + bytes.len());
    framed.put_u32(length);
    framed.put_slice(bytes);
    Some(framed.freeze())
}

/// Takes a stream of bytes apart again.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    buffer: BytesMut,
}

impl Pieces {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece, if all of it has come.
    ///
    /// # Errors
    /// It claims to be longer than pieces are.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, String> {
        let Some(length) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > PIECE_BYTES {
            return Err(format!("a piece of {length} bytes was announced"));
        }
        if self.buffer.len() < 4 + length {
            return Ok(None);
        }
        self.buffer.advance(4);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Whether a piece has begun and not ended.
    pub(crate) fn is_torn(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip_and_others_are_nothing() {
        for lane in Lane::ALL {
            for ask in [Ask::Call(lane), Ask::Open(lane)] {
                assert_eq!(Ask::parse(&ask.path()), Some(ask));
            }
        }
        for path in ["", "/", "/call/", "/call/votes", "/call/log/", "/shut/log"] {
            assert_eq!(Ask::parse(path), None, "{path}");
        }
    }

    #[test]
    fn neighbouring_releases_find_a_version_that_both_speak() {
        assert_eq!(common_version(&versions()), Some(NEWEST));
        assert_eq!(
            common_version(&format!("{OLDEST}-{}", NEWEST + 1)),
            Some(NEWEST)
        );
        assert_eq!(common_version(&format!("0-{OLDEST}")), Some(OLDEST));
        let newer = format!("{}-{}", NEWEST + 1, NEWEST + 2);
        for said in [
            newer.as_str(),
            "0-0",
            "",
            "1",
            "-",
            "1-",
            "9-1",
            "1-99999",
            "one-two",
        ] {
            assert_eq!(common_version(said), None, "{said}");
        }
    }

    #[test]
    fn pieces_come_out_as_they_went_in_however_they_are_cut() {
        let sent = [&b"one"[..], b"", b"three is longer"].map(Bytes::from_static);
        let stream: Vec<u8> = sent.iter().flat_map(|part| piece(part).unwrap()).collect();
        for step in 1..stream.len() {
            let mut pieces = Pieces::default();
            let mut got = Vec::new();
            for part in stream.chunks(step) {
                pieces.push(part);
                while let Some(piece) = pieces.next().unwrap() {
                    got.push(piece);
                }
            }
            assert_eq!(got, sent);
            assert!(!pieces.is_torn());
        }
    }

    #[test]
    fn a_lying_length_is_an_error_and_costs_nothing() {
        let mut pieces = Pieces::default();
        pieces.push(&[0xff, 0xff, 0xff, 0xff, 1]);
        assert!(pieces.next().is_err());
        assert!(piece(&Bytes::from(vec![0; PIECE_BYTES + 1])).is_none());
    }
}
