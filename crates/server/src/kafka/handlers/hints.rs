//! Which agents a client is told of: hints, since any agent serves everything.

use std::borrow::Cow;

use alluvium_agent::topics::{Placement, zone_of_client};
use alluvium_metadata::{Standing, State, Topic};
use alluvium_types::{AgentId, ErrorCode, PartitionIndex};

use super::RequestContext;

/// The agents to name to one client for partitions.
pub(super) struct Hints<'a> {
    placement: Placement,
    zone: Option<Cow<'a, str>>,
    is_empty: bool,
}

impl<'a> Hints<'a> {
    pub(super) fn of(state: &State, context: &'a RequestContext) -> Self {
        Self {
            placement: Placement::of(state),
            zone: zone_of_client(&context.client_id, None),
            is_empty: state.live_agents().next().is_none(),
        }
    }

    /// Node ids of the agents to show as replicas, the leader first.
    pub(super) fn replicas(&self, topic: &Topic, partition: PartitionIndex) -> Vec<i32> {
        let (factor, zone) = (topic.replication_factor, self.zone.as_deref());
        let replicas = self.placement.replicas(topic.id, partition, factor, zone);
        replicas.into_iter().map(|agent| agent.0).collect()
    }

    /// What is told of every partition: when no agent is live there is no leader to be named.
    pub(super) const fn error(&self) -> ErrorCode {
        if self.is_empty {
            ErrorCode::LeaderNotAvailable
        } else {
            ErrorCode::None
        }
    }
}

/// The node that is to be asked to alter the cluster: any may be, so this one, unless it is about to
/// leave.
pub(super) fn controller(state: &State, context: &RequestContext) -> i32 {
    let this = context.agent.id();
    let is_live = |id: AgentId| {
        let agent = state.agent(id);
        agent.is_some_and(|agent| agent.standing == Standing::Live)
    };
    if is_live(this) {
        return this.0;
    }
    state.live_agents().next().map_or(-1, |agent| agent.id.0)
}
