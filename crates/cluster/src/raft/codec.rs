//! Entries, votes and positions as bytes in the journal. Integers are little-endian.
//!
//! An entry is an envelope of 26 bytes and a body:
//!
//! | bytes | field |
//! | --- | --- |
//! | 1 | version, 1 |
//! | 1 | kind: 0 blank, 1 command, 2 membership |
//! | 8 | term of the leader that wrote it |
//! | 8 | that leader's node id |
//! | 8 | index |
//! | … | blank: nothing; command: postcard of `alluvium_metadata::Command`; membership: postcard of the voter sets and a map from node id to address |
//!
//! The journal numbers its entries from 1 (Raft's index plus one), so that "before the first" has a
//! number too. It keeps three notes: 0 the vote (version 1, term, node id, 1 if committed else 0),
//! 1 the committed and 2 the last purged position (version 1, term, leader, index). Checksums are the
//! journal's.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;

use crate::checkpoint::LogPosition;
use crate::raft::types::{Entry, LeaderId, Proposal, Vote, log_id, members, membership, position};

const VERSION: u8 = 1;
const ENVELOPE_BYTES: usize = 26;
const POSITION_BYTES: usize = 25;
const VOTE_BYTES: usize = 18;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// The envelope and the body, ready to be written one after another.
pub(crate) fn encode_entry(entry: &Entry) -> io::Result<Vec<Bytes>> {
    let (kind, body) = match &entry.payload {
        EntryPayload::Blank => (BLANK, None),
        EntryPayload::Normal(proposal) => (COMMAND, Some(proposal.encoded().clone())),
        EntryPayload::Membership(membership) => {
            let body = postcard::to_stdvec(&members(membership)).map_err(io::Error::other)?;
            (MEMBERSHIP, Some(body.into()))
        }
    };
    let mut envelope = BytesMut::with_capacity(ENVELOPE_BYTES);
    envelope.put_u8(VERSION);
    envelope.put_u8(kind);
    put_position(&mut envelope, position(&entry.log_id));
    Ok(std::iter::once(envelope.freeze()).chain(body).collect())
}

/// Reads an entry that the journal gave back.
pub(crate) fn decode_entry(mut bytes: Bytes) -> io::Result<Entry> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(damaged("log entry is cut short"));
    }
    check_version(bytes.get_u8(), "log entry")?;
    let kind = bytes.get_u8();
    let position = get_position(&mut bytes);
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(
            Proposal::decode(bytes)
                .map_err(|error| damaged(&format!("log entry {}: {error}", position.index)))?,
        ),
        MEMBERSHIP => {
            let members = postcard::from_bytes(&bytes)
                .map_err(|error| damaged(&format!("log entry {}: {error}", position.index)))?;
            EntryPayload::Membership(membership(&members).ok_or_else(|| {
                damaged(&format!(
                    "log entry {}: a voter has no address",
                    position.index
                ))
            })?)
        }
        other => {
            return Err(damaged(&format!(
                "log entry {} is of kind {other}, which a later release wrote; start that release",
                position.index
            )));
        }
    };
    Ok(Entry {
        log_id: log_id(position),
        payload,
    })
}

/// Only where it stands.
pub(crate) fn decode_entry_position(bytes: &Bytes) -> io::Result<LogPosition> {
    if bytes.len() < ENVELOPE_BYTES {
        return Err(damaged("log entry is cut short"));
    }
    let mut bytes = bytes.slice(..ENVELOPE_BYTES);
    check_version(bytes.get_u8(), "log entry")?;
    bytes.advance(1);
    Ok(get_position(&mut bytes))
}

pub(crate) fn encode_position(position: LogPosition) -> Bytes {
    let mut bytes = BytesMut::with_capacity(POSITION_BYTES);
    bytes.put_u8(VERSION);
    put_position(&mut bytes, position);
    bytes.freeze()
}

pub(crate) fn decode_position(mut bytes: Bytes) -> io::Result<LogPosition> {
    if bytes.len() != POSITION_BYTES {
        return Err(damaged("log position has a wrong length"));
    }
    check_version(bytes.get_u8(), "log position")?;
    Ok(get_position(&mut bytes))
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    let mut bytes = BytesMut::with_capacity(VOTE_BYTES);
    bytes.put_u8(VERSION);
    bytes.put_u64_le(vote.leader_id.term);
    bytes.put_u64_le(vote.leader_id.node_id);
    bytes.put_u8(u8::from(vote.committed));
    bytes.freeze()
}

pub(crate) fn decode_vote(mut bytes: Bytes) -> io::Result<Vote> {
    if bytes.len() != VOTE_BYTES {
        return Err(damaged("vote has a wrong length"));
    }
    check_version(bytes.get_u8(), "vote")?;
    let leader_id = LeaderId::new(bytes.get_u64_le(), bytes.get_u64_le());
    Ok(Vote {
        leader_id,
        committed: bytes.get_u8() != 0,
    })
}

fn put_position(bytes: &mut BytesMut, position: LogPosition) {
    bytes.put_u64_le(position.term);
    bytes.put_u64_le(position.leader);
    bytes.put_u64_le(position.index);
}

/// The caller has checked that 24 bytes are left.
fn get_position(bytes: &mut Bytes) -> LogPosition {
    LogPosition {
        term: bytes.get_u64_le(),
        leader: bytes.get_u64_le(),
        index: bytes.get_u64_le(),
    }
}

fn check_version(found: u8, what: &str) -> io::Result<()> {
    if found == VERSION {
        return Ok(());
    }
    Err(damaged(&format!(
        "{what} has version {found}, this release reads version {VERSION}; start the release that \
         wrote it"
    )))
}

fn damaged(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
