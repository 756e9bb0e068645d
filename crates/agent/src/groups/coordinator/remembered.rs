//! What the quorum remembers of groups, as far as a coordinator asks.

use alluvium_metadata::{ConsumerGroupRecord, GroupRecord, State};

/// What the quorum remembers of a group.
#[derive(Clone, Debug, Default)]
pub(crate) struct Remembered {
    /// Membership in the classic protocol.
    pub(crate) classic: Option<GroupRecord>,
    /// Membership in the newer protocol.
    pub(crate) consumer: Option<ConsumerGroupRecord>,
}

/// What the quorum remembers of groups.
pub(crate) trait Durable {
    /// `None` when there is no such group at all.
    fn group(&self, id: &str) -> Option<Remembered>;
}

impl Durable for State {
    fn group(&self, id: &str) -> Option<Remembered> {
        let group = Self::group(self, id)?;
        Some(Remembered {
            classic: group.record.clone(),
            consumer: group.consumer.clone(),
        })
    }
}

impl Remembered {
    pub(super) fn has_members(&self) -> bool {
        let classic = self.classic.as_ref();
        let consumer = self.consumer.as_ref();
        classic.is_some_and(|record| !record.members.is_empty())
            || consumer.is_some_and(|record| !record.members.is_empty())
    }

    /// The group as a classic one, its generations going on.
    pub(super) fn into_classic(self) -> GroupRecord {
        let epoch = self.consumer.map_or(0, |record| record.epoch);
        self.classic.unwrap_or_else(|| GroupRecord {
            generation: epoch,
            ..GroupRecord::default()
        })
    }
}
