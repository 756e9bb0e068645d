//! Deadlines of all groups in one ordered set. Each timer is there once at most, so memory is bounded
//! by groups and members, however often they are set again.

use std::collections::BTreeSet;
use std::sync::Arc;

use alluvium_types::Millis;
use alluvium_types::hash::HashMap;

/// What a deadline is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A member must give a sign of life.
    Session {
        /// Whose.
        group: Arc<str>,
        /// Which.
        member: Arc<str>,
    },
    /// The join phase ends.
    Join(Arc<str>),
    /// Members must have asked for their assignment.
    Sync(Arc<str>),
    /// A record that could not be written is to be tried again.
    Write(Arc<str>),
    /// A member must have given partitions up.
    Revocation {
        /// Whose.
        group: Arc<str>,
        /// Which.
        member: Arc<str>,
    },
}

impl Timer {
    /// The group it belongs to.
    pub(crate) fn group(&self) -> &Arc<str> {
        match self {
            Self::Session { group, .. }
            | Self::Revocation { group, .. }
            | Self::Join(group)
            | Self::Sync(group)
            | Self::Write(group) => group,
        }
    }
}

/// All timers.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    by_time: BTreeSet<(Millis, Timer)>,
    deadlines: HashMap<Timer, Millis>,
}

impl Timers {
    /// Sets a timer, or moves it.
    pub(crate) fn set(&mut self, timer: Timer, at: Millis) {
        if let Some(before) = self.deadlines.insert(timer.clone(), at) {
            self.by_time.remove(&(before, timer.clone()));
        }
        self.by_time.insert((at, timer));
    }

    /// Forgets a timer.
    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.deadlines.remove(timer) {
            self.by_time.remove(&(at, timer.clone()));
        }
    }

    /// Whether a timer is set.
    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.deadlines.contains_key(timer)
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Option<Millis> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes one that is due.
    pub(crate) fn pop_due(&mut self, now: Millis) -> Option<Timer> {
        if self.next()? > now {
            return None;
        }
        let (_, timer) = self.by_time.pop_first()?;
        self.deadlines.remove(&timer);
        Some(timer)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        assert_eq!(self.by_time.len(), self.deadlines.len());
        self.by_time.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_set_again_is_due_once_at_its_last_deadline() {
        let mut timers = Timers::default();
        let join = Timer::Join("g".into());
        timers.set(join.clone(), 10);
        timers.set(join.clone(), 30);
        timers.set(Timer::Sync("g".into()), 20);
        assert_eq!(timers.len(), 2);
        assert_eq!(timers.pop_due(15), None);
        assert_eq!(timers.pop_due(30), Some(Timer::Sync("g".into())));
        assert_eq!(timers.pop_due(30), Some(join.clone()));
        assert_eq!(timers.pop_due(i64::MAX), None);
        timers.set(join.clone(), 5);
        timers.cancel(&join);
        assert_eq!(timers.next(), None);
    }
}
