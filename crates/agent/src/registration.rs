//! Who this agent is at the moment: its registration, and whether its lease holds.
//!
//! Everything that acts in the agent's name shares one [`Registration`]. The [lease
//! task](crate::lease) writes it; the others read it each time they act, and report it when the
//! quorum refuses them. The lease decides who is asked, never what is true: that is decided by the
//! quorum, which refuses what comes under an epoch that is over.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use alluvium_storage::watch;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant, sleep_until};

use alluvium_compaction::Owner;
use alluvium_metadata::AgentOrigin;
use alluvium_types::AgentId;

/// A registration that was lost is had again this fast, or not so soon.
const MOMENT: Duration = Duration::from_millis(500);

/// This agent's registration. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Registration {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: AgentId,
    held: watch::Sender<Held>,
    /// Somebody was refused: the lease task is to look at once.
    doubt: Notify,
    /// The agent goes away and does not register again.
    leaving: AtomicBool,
}

/// What is held of the quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) origin: AgentOrigin,
    /// By this node's own count the lease holds until then, counted from before it was asked for.
    until: Instant,
    /// It is known to be over, since `until`.
    has_ended: bool,
}

impl Held {
    /// Whether the lease holds.
    pub(crate) fn is_valid(&self) -> bool {
        !self.has_ended && Instant::now() < self.until
    }

    /// Whether the registration is known to be over.
    pub(crate) const fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// When this agent must take itself for cut off from the quorum, unless something changes: it
    /// has not become valid again in a moment.
    pub(crate) fn cut_off_at(&self) -> Instant {
        self.until + MOMENT
    }
}

impl Registration {
    pub(crate) fn new(origin: AgentOrigin, until: Instant) -> Self {
        let held = Held {
            origin,
            until,
            has_ended: false,
        };
        let shared = Shared {
            id: origin.agent,
            held: watch::Sender::new(held),
            doubt: Notify::new(),
            leaving: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// A registration that nobody renews and that does not run out.
    #[cfg(test)]
    pub(crate) fn fixed(origin: AgentOrigin) -> Self {
        let year = Duration::from_secs(365 * 86_400);
        Self::new(origin, Instant::now() + year)
    }

    /// The agent's id, which stays.
    pub(crate) fn id(&self) -> AgentId {
        self.shared.id
    }

    /// The agent and its epoch as they are now.
    pub(crate) fn origin(&self) -> AgentOrigin {
        self.shared.held.borrow().origin
    }

    pub(crate) fn held(&self) -> Held {
        *self.shared.held.borrow()
    }

    /// Whether this agent may still believe that it is the one that others are sent to.
    pub(crate) fn lease_valid(&self) -> bool {
        self.shared.held.borrow().is_valid()
    }

    /// The quorum took the lease on.
    pub(crate) fn renewed(&self, origin: AgentOrigin, until: Instant) {
        self.shared.held.send_if_modified(|held| {
            let is_current = held.origin == origin && !held.has_ended();
            if is_current {
                held.until = until;
            }
            is_current
        });
    }

    /// There is a new registration.
    pub(crate) fn registered(&self, origin: AgentOrigin, until: Instant) {
        self.shared.held.send_replace(Held {
            origin,
            until,
            has_ended: false,
        });
    }

    /// The quorum said that this registration is over.
    pub(crate) fn lost(&self, origin: AgentOrigin) {
        let is_news = self.shared.held.send_if_modified(|held| {
            let is_news = held.origin == origin && !held.has_ended();
            if is_news {
                held.has_ended = true;
                held.until = held.until.min(Instant::now());
            }
            is_news
        });
        if is_news {
            tracing::warn!(agent = %origin.agent, epoch = origin.epoch.0, "this agent's lease has ended");
            self.shared.doubt.notify_one();
        }
    }

    /// Resolves when somebody reported the registration as lost.
    pub(crate) async fn doubted(&self) {
        self.shared.doubt.notified().await;
    }

    /// From here on the agent does not register again.
    pub(crate) fn leave(&self) {
        self.shared.leaving.store(true, Ordering::Release);
    }

    pub(crate) fn is_leaving(&self) -> bool {
        self.shared.leaving.load(Ordering::Acquire)
    }

    /// Follows what becomes of the registration.
    pub(crate) fn follow(&self) -> Following {
        let held = self.shared.held.subscribe();
        let Held { origin, .. } = *held.borrow();
        Following {
            held,
            origin,
            was_valid: true,
        }
    }
}

impl Owner for Registration {
    fn origin(&self) -> Option<AgentOrigin> {
        let held = self.held();
        held.is_valid().then_some(held.origin)
    }
}

/// Somebody who must act when the lease runs out, or holds again.
#[derive(Debug)]
pub(crate) struct Following {
    held: watch::Receiver<Held>,
    origin: AgentOrigin,
    was_valid: bool,
}

impl Following {
    /// Resolves when there is another epoch, when the lease has run out, and when it holds again.
    /// Can be dropped and called again without missing any of these.
    pub(crate) async fn changed(&mut self) -> Held {
        loop {
            let held = *self.held.borrow_and_update();
            let is_valid = held.is_valid();
            if held.origin != self.origin || is_valid != self.was_valid {
                self.origin = held.origin;
                self.was_valid = is_valid;
                return held;
            }
            let runs_out = async {
                if is_valid {
                    sleep_until(held.until).await;
                } else {
                    pending::<()>().await;
                }
            };
            tokio::select! {
                biased;
                changed = self.held.changed() => if changed.is_err() {
                    return pending().await;
                },
                () = runs_out => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use alluvium_types::AgentEpoch;

    use super::*;

    fn origin(epoch: u64) -> AgentOrigin {
        AgentOrigin {
            agent: AgentId(3),
            epoch: AgentEpoch(epoch),
        }
    }

    const LEASE: Duration = Duration::from_secs(2);

    #[tokio::test(start_paused = true)]
    async fn a_lease_that_is_not_renewed_runs_out_and_one_that_ended_is_not_renewed() {
        let registration = Registration::new(origin(1), Instant::now() + LEASE);
        let mut following = registration.follow();
        tokio::time::advance(LEASE / 2).await;
        registration.renewed(origin(1), Instant::now() + LEASE);
        tokio::time::advance(LEASE / 2).await;
        assert!(registration.lease_valid());
        assert!(!following.changed().await.is_valid());
        assert!(!registration.lease_valid());
        registration.renewed(origin(1), Instant::now() + LEASE);
        assert!(following.changed().await.is_valid());

        registration.lost(origin(7));
        assert!(registration.lease_valid(), "that was another one");
        registration.lost(origin(1));
        registration.renewed(origin(1), Instant::now() + LEASE);
        assert!(!registration.lease_valid());
        assert!(following.changed().await.has_ended());
        registration.doubted().await;
        registration.registered(origin(2), Instant::now() + LEASE);
        assert_eq!(following.changed().await.origin, origin(2));
        registration.registered(origin(3), Instant::now() + LEASE);
        assert_eq!(following.changed().await.origin, origin(3));
    }
}
