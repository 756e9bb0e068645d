//! A voter's id as Kafka's tools show it.

use crate::voter_id::VoterId;

/// The first half of every directory id of ours; the voter's id is the other.
const MARK: [u8; 8] = *b"alluvium";

impl VoterId {
    /// The directory id that stands for this voter in Kafka's protocol (KIP-853): there, too, a node
    /// whose disk is new has another.
    #[must_use]
    pub fn directory(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        let (mark, id) = bytes.split_at_mut(MARK.len());
        mark.copy_from_slice(&MARK);
        id.copy_from_slice(&self.0.to_be_bytes());
        bytes
    }

    /// The voter that a directory id stands for; `None` when it is not one of ours.
    #[must_use]
    pub fn of_directory(directory: [u8; 16]) -> Option<Self> {
        let id = directory.strip_prefix(MARK.as_slice())?;
        Some(Self(u64::from_be_bytes(id.try_into().ok()?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_id_names_one_voter() {
        for voter in [VoterId(1), VoterId::new(u32::MAX, 7), VoterId::new(5, 1)] {
            assert_eq!(VoterId::of_directory(voter.directory()), Some(voter));
        }
        assert_ne!(
            VoterId::new(1, 1).directory(),
            VoterId::new(2, 1).directory()
        );
        assert_eq!(VoterId::of_directory([0; 16]), None);
        assert_eq!(VoterId::of_directory([7; 16]), None);
    }
}
