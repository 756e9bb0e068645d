//! Share sessions: which partitions a member reads through this agent (KIP-932, as KIP-227 for Fetch).

use std::collections::BTreeMap;

use alluvium_types::{ErrorCode, Millis, TopicPartition};

/// Most sessions of an agent. The one that was silent longest makes room, if it was for long enough.
const SESSIONS: usize = 20_000;

/// So long a session lasts at least without a sign.
const LEAST: Millis = 120_000;

/// Most partitions of one session.
const PARTITIONS: usize = 10_000;

/// Opens a session.
pub(crate) const FIRST: i32 = 0;
/// Ends one.
pub(crate) const LAST: i32 = -1;

#[derive(Debug, Default)]
pub(crate) struct Sessions {
    by_member: BTreeMap<(String, String), Session>,
}

#[derive(Debug)]
struct Session {
    /// What the next request must bear.
    next: i32,
    partitions: BTreeMap<TopicPartition, usize>,
    /// Where the last answer ended: the next one begins behind it, so that no partition starves.
    turn: Option<TopicPartition>,
    used: Millis,
}

/// What a request reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// Partitions with the bytes that each may give, in the order in which they are to be looked at.
    pub(crate) partitions: Vec<(TopicPartition, usize)>,
    /// The session ends with it.
    pub(crate) ends: bool,
}

impl Sessions {
    /// Takes a request of a member: partitions that it adds, and those that it forgets.
    ///
    /// # Errors
    /// `SHARE_SESSION_NOT_FOUND`, `INVALID_SHARE_SESSION_EPOCH`, `SHARE_SESSION_LIMIT_REACHED`,
    /// `INVALID_REQUEST`.
    pub(crate) fn request(
        &mut self,
        (group, member): (&str, &str),
        epoch: i32,
        added: &[(TopicPartition, usize)],
        forgotten: &[TopicPartition],
        now: Millis,
    ) -> Result<Reading, ErrorCode> {
        let key = (group.to_owned(), member.to_owned());
        if epoch == FIRST {
            if !self.by_member.contains_key(&key) {
                self.make_room(now)?;
            }
            let partitions = added.iter().copied().collect();
            let session = Session {
                next: 1,
                partitions,
                turn: None,
                used: now,
            };
            self.by_member.insert(key.clone(), session);
        }
        let session = self
            .by_member
            .get_mut(&key)
            .ok_or(ErrorCode::ShareSessionNotFound)?;
        if epoch == LAST {
            let partitions = session.reading();
            self.by_member.remove(&key);
            return Ok(Reading {
                partitions,
                ends: true,
            });
        }
        if epoch != FIRST {
            if epoch != session.next {
                return Err(ErrorCode::InvalidShareSessionEpoch);
            }
            session.next = epoch.checked_add(1).unwrap_or(1);
            session.partitions.extend(added.iter().copied());
            for partition in forgotten {
                session.partitions.remove(partition);
            }
        }
        if session.partitions.len() > PARTITIONS {
            self.by_member.remove(&key);
            return Err(ErrorCode::InvalidRequest);
        }
        session.used = now;
        Ok(Reading {
            partitions: session.reading(),
            ends: false,
        })
    }

    /// The next request looks at what comes behind this partition first.
    pub(crate) fn served(&mut self, (group, member): (&str, &str), last: TopicPartition) {
        let key = (group.to_owned(), member.to_owned());
        if let Some(session) = self.by_member.get_mut(&key) {
            session.turn = Some(last);
        }
    }

    fn make_room(&mut self, now: Millis) -> Result<(), ErrorCode> {
        if self.by_member.len() < SESSIONS {
            return Ok(());
        }
        let oldest = self
            .by_member
            .iter()
            .min_by_key(|(_, session)| session.used);
        match oldest.map(|(key, session)| (key.clone(), session.used)) {
            Some((key, used)) if used.saturating_add(LEAST) <= now => {
                self.by_member.remove(&key);
                Ok(())
            }
            _ => Err(ErrorCode::ShareSessionLimitReached),
        }
    }
}

impl Session {
    fn reading(&self) -> Vec<(TopicPartition, usize)> {
        let whole = || {
            self.partitions
                .iter()
                .map(|(place, bytes)| (*place, *bytes))
        };
        match self.turn {
            None => whole().collect(),
            Some(turn) => {
                let behind = whole().filter(|(place, _)| *place > turn);
                behind
                    .chain(whole().filter(|(place, _)| *place <= turn))
                    .collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alluvium_types::TopicId;

    use super::*;

    const ME: (&str, &str) = ("g", "m");

    fn place(index: i32) -> TopicPartition {
        TopicPartition::new(TopicId([1; 16]), index)
    }

    fn indexes(reading: &Reading) -> Vec<i32> {
        reading
            .partitions
            .iter()
            .map(|(place, _)| place.partition)
            .collect()
    }

    #[test]
    fn a_session_remembers_its_partitions_and_takes_them_in_turn() {
        let mut sessions = Sessions::default();
        let add = |indexes: &[i32]| -> Vec<_> {
            indexes.iter().map(|index| (place(*index), 100)).collect()
        };
        let nothing: [TopicPartition; 0] = [];
        let mut ask = |epoch, added: &[i32], forgotten: &[TopicPartition]| {
            sessions.request(ME, epoch, &add(added), forgotten, 0)
        };
        assert_eq!(ask(1, &[], &nothing), Err(ErrorCode::ShareSessionNotFound));
        assert_eq!(indexes(&ask(0, &[0, 1], &nothing).unwrap()), [0, 1]);
        assert_eq!(indexes(&ask(1, &[2], &[place(0)]).unwrap()), [1, 2]);
        assert_eq!(
            ask(1, &[], &nothing),
            Err(ErrorCode::InvalidShareSessionEpoch)
        );
        sessions.served(ME, place(1));
        let mut ask = |epoch| sessions.request(ME, epoch, &[], &nothing, 0);
        assert_eq!(indexes(&ask(2).unwrap()), [2, 1]);
        let last = ask(-1).unwrap();
        assert!(last.ends);
        assert_eq!(ask(3), Err(ErrorCode::ShareSessionNotFound));
    }

    #[test]
    fn sessions_are_bounded_and_old_ones_make_room() {
        let mut sessions = Sessions::default();
        for member in 0..SESSIONS {
            let member = member.to_string();
            sessions.request(("g", &member), 0, &[], &[], 0).unwrap();
        }
        let full = sessions.request(ME, 0, &[], &[], LEAST - 1);
        assert_eq!(full, Err(ErrorCode::ShareSessionLimitReached));
        sessions.request(ME, 0, &[], &[], LEAST).unwrap();
        assert_eq!(sessions.by_member.len(), SESSIONS);
    }
}
