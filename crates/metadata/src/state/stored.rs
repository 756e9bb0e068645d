//! The state as a snapshot holds it, and what is counted when it is read.

use std::collections::BTreeMap;

use alluvium_types::{AgentId, Millis, ProducerId, TopicId, TopicPartition};
use serde::Deserialize;

use super::{
    DeletedNames, Graveyard, Group, Journal, NamedConfigs, Objects, Quotas, Registration, State,
    Topic, Transactions,
};
use crate::invariants;

/// What a snapshot holds; the fields are those of [`State`], in the same order.
#[derive(Deserialize)]
pub(crate) struct StoredState {
    pub(crate) cluster_id: Option<TopicId>,
    pub(crate) restores: u32,
    pub(crate) rules: u16,
    pub(crate) cluster_configs: BTreeMap<String, String>,
    pub(crate) last_agent: i32,
    pub(crate) agents: BTreeMap<AgentId, Registration>,
    pub(crate) claims: u64,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) objects: Objects,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) deleted_names: DeletedNames,
    pub(crate) clock: Millis,
    pub(crate) journal: Journal,
    pub(crate) graveyard: Graveyard,
    pub(crate) transactions: Transactions,
    pub(crate) group_configs: NamedConfigs,
    pub(crate) client_metrics: NamedConfigs,
    pub(crate) quotas: Quotas,
}

impl TryFrom<StoredState> for State {
    type Error = String;

    fn try_from(stored: StoredState) -> Result<Self, String> {
        let mut state = Self {
            cluster_id: stored.cluster_id,
            restores: stored.restores,
            rules: stored.rules,
            cluster_configs: stored.cluster_configs,
            last_agent: stored.last_agent,
            agents: stored.agents,
            claims: stored.claims,
            groups: stored.groups,
            objects: stored.objects,
            next_producer_id: stored.next_producer_id,
            deleted_names: stored.deleted_names,
            clock: stored.clock,
            journal: stored.journal,
            transactions: stored.transactions,
            group_configs: stored.group_configs,
            client_metrics: stored.client_metrics,
            quotas: stored.quotas,
            ..Self::default()
        };
        for (id, mut topic) in stored.topics {
            state.count_topic(id, &mut topic, true);
            state.names.insert(&topic.name, id);
            state.topics.insert(id, topic);
        }
        for (id, mut topic) in stored.graveyard.into_topics() {
            state.count_topic(id, &mut topic, false);
            state.graveyard.insert(topic);
        }
        for (id, registration) in &state.agents {
            state.identities.insert(registration.agent.identity, *id);
        }
        for (id, group) in &state.groups {
            if group.is_empty() {
                state.idle_groups.insert(group.claim, id.clone());
            }
        }
        state.transactions.index();
        invariants::check(&state)?;
        Ok(state)
    }
}

impl State {
    /// Counts the runs and the producers of a topic that was read.
    fn count_topic(&mut self, id: TopicId, topic: &mut Topic, is_there: bool) {
        topic.runs = 0;
        for (index, partition) in (0..).zip(&mut topic.partitions) {
            let place = TopicPartition::new(id, index);
            let mut unstable = Vec::new();
            for run in partition.runs() {
                topic.runs += 1;
                if let Some((object, _)) = run.object() {
                    self.objects.add(object, 1);
                }
                if let Some(chunk) = run.journal() {
                    self.journal.add_run(chunk, place, run.base_offset);
                    let known = self.journal.get(chunk);
                    if known.is_some_and(|chunk| !chunk.stable) {
                        unstable.push(run.base_offset);
                    }
                }
                if is_there {
                    self.waiting.add(place, run);
                }
            }
            unstable
                .into_iter()
                .for_each(|offset| partition.hold(offset));
            let producers = partition.producer_states();
            self.expiries
                .extend(producers.map(|(id, known)| (known.due(), place, id)));
        }
    }
}
