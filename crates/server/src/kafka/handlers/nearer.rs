//! Consumers that tell their `client.rack` are sent to the agent of their zone (KIP-392).

use std::borrow::Cow;

use alluvium_agent::topics::{Placement, zone_of_client};
use alluvium_metadata::{State, Topic};
use alluvium_types::{AgentId, PartitionIndex};

/// The agents of a zone that is the client's and not this agent's.
pub(super) struct Nearer<'a> {
    placement: Placement,
    rack: &'a str,
    /// The zone by which the client was told of replicas.
    zone: Option<Cow<'a, str>>,
}

impl<'a> Nearer<'a> {
    /// None when the client says nothing, is in this agent's zone, or has no live agent in its own.
    pub(super) fn of(
        state: &State,
        this: AgentId,
        client_id: &'a str,
        rack: &'a str,
    ) -> Option<Self> {
        if rack.is_empty() || state.agent(this)?.zone.as_deref() == Some(rack) {
            return None;
        }
        let is_near = |zone: &Option<String>| zone.as_deref() == Some(rack);
        state
            .live_agents()
            .any(|agent| is_near(&agent.zone))
            .then(|| Self {
                placement: Placement::of(state),
                rack,
                zone: zone_of_client(client_id, None),
            })
    }

    /// The agent to fetch a partition from. Clients only go to a replica that they were told of, and
    /// how many these are depends on the topic's replication factor.
    pub(super) fn agent(&self, topic: &Topic, partition: PartitionIndex) -> Option<AgentId> {
        let (factor, zone) = (topic.replication_factor, self.zone.as_deref());
        let replicas = self.placement.replicas(topic.id, partition, factor, zone);
        self.placement.nearest(&replicas, self.rack)
    }
}
