//! What members and administrators ask of consumer groups of the newer protocol (KIP-848).

use alluvium_types::ErrorCode;

use super::Groups;
use super::consumer::request::JOINS;
use super::coordinator::Durable;
use super::join::uuid_text;
use super::member::Waiter;
use super::request::GroupState;
use super::{ConsumerAnswer, ConsumerDescription, ConsumerHeartbeat};

/// A new member's id, for clients that draw none themselves.
#[must_use]
pub fn drawn_member_id() -> String {
    uuid_text(alluvium_types::random::value())
}

impl Groups {
    /// A sign of life, a joining or a leaving. Waits until what it changes is durable.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub async fn consumer_heartbeat(&self, beat: ConsumerHeartbeat) -> ConsumerAnswer {
        let shared = &self.shared;
        if beat.epoch == JOINS {
            // It may name topics of which it has learned from another agent.
            let _ = shared.freshness.catch_up().await;
        }
        let settings = shared.settings_of(&beat.group);
        beat.check(&settings.offered())?;
        let (waiter, answer) = Waiter::new();
        let beaten = shared.on(&beat.group, beat.epoch == JOINS, |coordinator, now| {
            coordinator.configure(settings);
            shared.metadata.read(|state| {
                coordinator.consumer_heartbeat(now, &beat, waiter, state, state);
            });
        });
        beaten.await?;
        let lost = ErrorCode::CoordinatorNotAvailable;
        answer.await.unwrap_or_else(|_| Err(lost.into()))
    }

    /// A group of the newer protocol as it is; `None` when there is none.
    ///
    /// # Errors
    /// Another agent coordinates the group, or the quorum is not available.
    pub async fn describe_consumers(
        &self,
        group: &str,
    ) -> Result<Option<ConsumerDescription>, ErrorCode> {
        let metadata = &self.shared.metadata;
        let described = self.shared.on(group, false, |coordinator, _| {
            if let Some(described) = coordinator.describe_consumers(group) {
                return Some(described);
            }
            let known = Durable::group(metadata, group).filter(|_| !coordinator.holds(group))?;
            let record = known.consumer?;
            Some(ConsumerDescription {
                state: GroupState::Empty,
                epoch: record.epoch,
                target_epoch: record.epoch,
                assignor: "uniform",
                members: Vec::new(),
            })
        });
        described.await
    }
}
