//! Groups that nobody uses lose their offsets, and in the end are forgotten (`offsets.retention.minutes`,
//! KIP-211).
//!
//! An offset is past its time when it was committed, and its group lost its last member, longer ago than
//! that. Members keep the offsets of the topics that they read. A group without members and offsets goes.

use std::sync::Arc;
use std::time::Duration;

use alluvium_metadata::{Group, State};
use alluvium_types::{AgentId, Millis, TopicPartition};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::Shared;
use super::coordinator::Forgotten;
use super::member::Waiter;
use crate::topics::Topics;

/// Kafka's defaults.
const RETENTION_MINUTES: i64 = 10_080;
const CHECK_INTERVAL: u64 = 600_000;

const MINUTE: Millis = 60_000;

/// What of a group is past its time.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    Nothing,
    /// Unless members read the topic.
    Offsets(Vec<Forgotten>),
    /// The whole group.
    Group,
}

fn due(state: &State, group: &Group, now: Millis, retention: Millis) -> Due {
    if !group.shares.is_empty() || group.has_pending() {
        return Due::Nothing;
    }
    let is_over = |since: Millis| since.saturating_add(retention) <= now;
    let has_members = group.has_members();
    let written = group.record.as_ref().map(|record| record.at);
    let written = written.or(group.consumer.as_ref().map(|record| record.at));
    if !has_members && !written.is_none_or(is_over) {
        return Due::Nothing;
    }
    let old: Vec<TopicPartition> = group
        .offsets
        .iter()
        .filter(|(_, committed)| is_over(committed.committed_at))
        .map(|(place, _)| *place)
        .collect();
    if !has_members && old.len() == group.offsets.len() {
        return Due::Group;
    }
    let mut topics: Vec<Forgotten> = Vec::new();
    for place in old {
        let Some(topic) = state.topic(place.topic) else {
            continue;
        };
        match topics.last_mut() {
            Some(last) if last.topic == topic.name => last.partitions.push(place),
            _ => topics.push(Forgotten {
                topic: topic.name.clone(),
                partitions: vec![place],
            }),
        }
    }
    if topics.is_empty() {
        Due::Nothing
    } else {
        Due::Offsets(topics)
    }
}

fn setting<T: std::str::FromStr>(topics: &Topics, state: &State, name: &str, default: T) -> T {
    let text = topics.broker(state, name);
    text.and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Looks every `offsets.retention.check.interval.ms`.
pub(super) async fn run(shared: Arc<Shared>, stop: CancellationToken) {
    loop {
        let interval = shared.metadata.read(|state| {
            let name = "offsets.retention.check.interval.ms";
            setting(&shared.topics, state, name, CHECK_INTERVAL)
        });
        let rest = tokio::time::sleep(Duration::from_millis(interval.max(1)));
        if stop.run_until_cancelled(rest).await.is_none() {
            return;
        }
        let look = shared.forget_what_is_due();
        if stop.run_until_cancelled(look).await.is_none() {
            return;
        }
    }
}

impl Shared {
    /// Forgets what is past its time in the groups that this agent coordinates.
    async fn forget_what_is_due(&self) {
        if self.check_lease().is_err() {
            return;
        }
        let (me, now) = (self.registration.id(), self.clock.now());
        for (id, found) in self.metadata.read(|state| self.all_due(state, me, now)) {
            match found {
                Due::Nothing => {}
                Due::Group => {
                    let (waiter, answer) = Waiter::new();
                    // Whoever has come meanwhile is not sent away.
                    let queued = self.on(&id, false, |coordinator, at| {
                        coordinator.delete(at, &id, waiter, &self.metadata);
                    });
                    let code = match queued.await {
                        Ok(()) => answer.await.unwrap_or_default(),
                        Err(code) => code,
                    };
                    info!(group = id, %code, "a group that nobody uses is forgotten");
                }
                Due::Offsets(topics) => {
                    let count: usize = topics.iter().map(|it| it.partitions.len()).sum();
                    let (waiter, answer) = Waiter::new();
                    let queued = self.on(&id, false, |coordinator, _| {
                        if coordinator.is_emptied(&id) {
                            // Its last member has just left: its time begins now.
                            return Ok(Vec::new());
                        }
                        coordinator.forget_offsets(&id, topics, waiter, &self.metadata)
                    });
                    if matches!(queued.await, Ok(Ok(_))) {
                        let _ = answer.await;
                    }
                    debug!(group = id, count, "old offsets of a group were looked at");
                }
            }
        }
    }

    fn all_due(&self, state: &State, me: AgentId, now: Millis) -> Vec<(String, Due)> {
        let minutes = setting(
            &self.topics,
            state,
            "offsets.retention.minutes",
            RETENTION_MINUTES,
        );
        let retention = minutes.saturating_mul(MINUTE);
        let mine = state
            .groups()
            .filter(|(id, _)| state.coordinator_of(id) == Some(me));
        mine.map(|(id, group)| (id.to_owned(), due(state, group, now, retention)))
            .filter(|(_, due)| *due != Due::Nothing)
            .collect()
    }
}
