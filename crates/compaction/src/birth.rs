//! How old an object is that a command is to name.
//!
//! What nothing names may be swept once it is old, so the quorum refuses a command whose objects may
//! be. It knows the time from commands only: its clock is that of whoever is ahead of the others, and
//! stands still while nobody says anything. So a birth is told by that clock, or one agent whose clock
//! is ahead would have everybody refused, and its age is measured here besides.

use std::time::Duration;

use alluvium_metadata::State;
use alluvium_types::{Millis, limits};
use tokio::time::Instant;

use crate::Context;

/// When the first object of a command was begun.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Birth {
    at: Millis,
    since: Instant,
}

impl Birth {
    pub(crate) fn now(context: &Context) -> Self {
        Self {
            at: context.metadata.read(State::clock).max(context.clock.now()),
            since: Instant::now(),
        }
    }

    /// What the command says of it.
    pub(crate) const fn at(&self) -> Millis {
        self.at
    }

    /// Whether a command may name the object still.
    pub(crate) fn is_recent(&self) -> bool {
        self.since.elapsed() <= Duration::from_millis(limits::CHUNK_AGE_MILLIS.unsigned_abs())
    }
}
