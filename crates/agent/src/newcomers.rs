//! Agents that have come lately. Clients ask where to go only when they are told that they are wrong,
//! so a new agent would stand idle for minutes: for a moment after one has come, the others send
//! producers of its share on to it. After that whoever still comes is served again: the agent named
//! for a partition is a hint, and somebody may not be able to reach the new one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::broadcast::{self, error::TryRecvError};
use tokio::time::{Duration, Instant};

use alluvium_cluster::Metadata;
use alluvium_metadata::{Change, State};
use alluvium_types::AgentId;

/// When all agents have heard of a new one and name it,
const HEARD: Duration = Duration::from_millis(500);

/// and how long clients are sent on to it from then on: one round of metadata is enough.
const SENT_ON: Duration = Duration::from_secs(3);

/// Who has come lately, as this agent's view says.
#[derive(Debug)]
pub(crate) struct Newcomers {
    metadata: Metadata,
    seen: Mutex<Seen>,
}

#[derive(Debug)]
struct Seen {
    live: BTreeSet<AgentId>,
    /// Those that have come, and when.
    lately: BTreeMap<AgentId, Instant>,
    changes: broadcast::Receiver<Arc<[Change]>>,
}

impl Newcomers {
    /// Whoever is there now is no newcomer.
    pub(crate) fn new(metadata: Metadata) -> Self {
        let changes = metadata.subscribe();
        let seen = Seen {
            live: metadata.read(live),
            lately: BTreeMap::new(),
            changes,
        };
        Self {
            metadata,
            seen: Mutex::new(seen),
        }
    }

    /// The agents that clients are to be sent on to now.
    pub(crate) fn lately(&self) -> Vec<AgentId> {
        let now = Instant::now();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.has_changed() {
            let live = self.metadata.read(live);
            let come: Vec<AgentId> = live.difference(&seen.live).copied().collect();
            seen.lately
                .extend(come.into_iter().map(|agent| (agent, now)));
            seen.lately.retain(|agent, _| live.contains(agent));
            seen.live = live;
        }
        if seen.lately.is_empty() {
            return Vec::new();
        }
        seen.lately
            .retain(|_, since| now < *since + HEARD + SENT_ON);
        let heard = seen
            .lately
            .iter()
            .filter(|(_, since)| now >= **since + HEARD);
        heard.map(|(agent, _)| *agent).collect()
    }
}

impl Seen {
    /// Whether the agents may have changed since the last call.
    fn has_changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.changes.try_recv() {
                Ok(changes) => changed |= changes.contains(&Change::Agents),
                Err(TryRecvError::Lagged(_)) => changed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return changed,
            }
        }
    }
}

fn live(state: &State) -> BTreeSet<AgentId> {
    state.live_agents().map(|agent| agent.id).collect()
}

#[cfg(test)]
mod tests {
    use alluvium_metadata::{Command, Outcome, RegisterAgent};
    use alluvium_types::TopicId;

    use super::*;

    async fn register(metadata: &Metadata, identity: u128) -> AgentId {
        let register = Command::RegisterAgent(RegisterAgent {
            identity,
            host: "localhost".into(),
            port: 9092,
            zone: None,
            at: 1,
            cluster_id: TopicId([9; 16]),
        });
        match metadata.propose(register).await.unwrap().outcome {
            Outcome::AgentRegistered(origin) => origin.agent,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn clients_are_sent_on_to_a_new_agent_for_a_moment() {
        let metadata = Metadata::in_memory();
        register(&metadata, 1).await;
        let newcomers = Newcomers::new(metadata.clone());
        assert_eq!(newcomers.lately(), []);
        let new = register(&metadata, 2).await;
        assert_eq!(newcomers.lately(), [], "not all have heard of it");
        tokio::time::advance(HEARD).await;
        assert_eq!(newcomers.lately(), [new]);
        // One that lives and registers again is where its clients are.
        register(&metadata, 1).await;
        tokio::time::advance(HEARD).await;
        assert_eq!(newcomers.lately(), [new]);
        tokio::time::advance(SENT_ON).await;
        assert_eq!(newcomers.lately(), []);
        // One that was away comes as a new one.
        let origin = metadata.read(|state| state.agent(new).unwrap().origin());
        let agents = vec![origin];
        let end = Command::EndAgents { agents, at: 2 };
        metadata.propose(end).await.unwrap();
        assert_eq!(newcomers.lately(), []);
        register(&metadata, 2).await;
        newcomers.lately();
        tokio::time::advance(HEARD).await;
        assert_eq!(newcomers.lately(), [new]);
    }
}
