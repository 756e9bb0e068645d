//! What must hold in every state. Tests check it after every command, and a snapshot that fails it
//! is refused.

use std::collections::BTreeMap;

use alluvium_types::{ObjectId, Offset, TopicPartition};

use crate::runs::{JournalChunkId, Run, RunLocation};
use crate::sequence::Expiries;
use crate::state::{IDLE_GROUPS, Named, Places, RULES, State, Topic, Waiting};

/// Checks all of it; says what does not hold, and of which thing. Costs a pass over the state.
pub(crate) fn check(state: &State) -> Result<(), String> {
    state.names.check(&state.topics)?;
    state.deleted_names.check(&state.names)?;
    state.graveyard.check(&state.topics)?;
    partitions(state)?;
    unstable_chunks(state)?;
    producers(state)?;
    agents(state)?;
    if state.rules > RULES {
        return Err(format!("commands are judged by rules {}", state.rules));
    }
    if state.next_producer_id < 0 {
        return Err(format!("next producer id is {}", state.next_producer_id));
    }
    let given = 0..=state.next_producer_id;
    let mut topics = state.topics.values();
    if let Some(topic) = topics.find(|topic| !given.contains(&topic.producers_before)) {
        return Err(format!(
            "topic {} was made after producer {}, the next is {}",
            topic.id, topic.producers_before, state.next_producer_id
        ));
    }
    let mut named = state.group_configs.iter().chain(&state.client_metrics);
    if let Some((name, _)) = named.find(|(_, configs)| configs.is_empty()) {
        return Err(format!("'{name}' is kept without any settings"));
    }
    state.transactions.check()?;
    transactions(state)?;
    groups(state)
}

/// Manifests tile their offsets, and what is counted of them is counted right.
fn partitions(state: &State) -> Result<(), String> {
    let mut found = Found::default();
    for topic in state.topics.values() {
        found.topic(state, topic, false)?;
    }
    for topic in state.graveyard.topics() {
        found.topic(state, topic, true)?;
    }
    state.objects.check(&found.objects, state.clock)?;
    state.journal.check(&found.chunks)?;
    if found.waiting != state.waiting {
        return Err(format!(
            "{:?} waits to be settled, found {:?}",
            state.waiting, found.waiting
        ));
    }
    Ok(())
}

/// What the manifests say.
#[derive(Default)]
struct Found {
    objects: BTreeMap<ObjectId, Named>,
    chunks: BTreeMap<JournalChunkId, Places>,
    waiting: Waiting,
}

impl Found {
    fn topic(&mut self, state: &State, topic: &Topic, is_deleted: bool) -> Result<(), String> {
        let mut runs = 0;
        for (place, partition) in topic.places() {
            let blame = |error: String| format!("partition {place:?}: {error}");
            partition.check(is_deleted).map_err(blame)?;
            let mut unstable = Vec::new();
            for run in partition.runs() {
                runs += 1;
                self.run(state, place, run, &mut unstable).map_err(blame)?;
                if !is_deleted {
                    self.waiting.add(place, run);
                }
            }
            if !partition.unstable().eq(unstable.iter().copied()) {
                return Err(blame(format!("unstable at {unstable:?}")));
            }
        }
        if runs != topic.runs {
            return Err(format!(
                "topic {} has {runs} runs, not {}",
                topic.id, topic.runs
            ));
        }
        Ok(())
    }

    fn run(
        &mut self,
        state: &State,
        place: TopicPartition,
        run: &Run,
        unstable: &mut Vec<Offset>,
    ) -> Result<(), String> {
        if let Some((object, position)) = run.object() {
            let end = position.checked_add(run.length);
            let object = self.objects.entry(object).or_default();
            object.runs += 1;
            object.end = object.end.max(end.ok_or("position overflows")?);
        }
        if let RunLocation::Journal { chunk, position } = run.location {
            let known = state.journal.get(chunk).ok_or("its chunk is not known")?;
            if !known.stable {
                unstable.push(run.base_offset);
            }
            let end = position.checked_add(run.length);
            if end.is_none_or(|end| end > known.bytes) {
                return Err(format!("run {} lies outside of its chunk", run.base_offset));
            }
            self.chunks
                .entry(chunk)
                .or_default()
                .insert((place, run.base_offset));
        }
        Ok(())
    }
}

/// Chunks that may yet vanish are those of registrations that last.
fn unstable_chunks(state: &State) -> Result<(), String> {
    for (id, chunk) in state.journal.iter() {
        let agent = state.agent(id.agent);
        let lasts = agent.is_some_and(|agent| agent.ended_at().is_none());
        if !chunk.stable && !lasts {
            return Err(format!("{id:?} is unstable, and its registration over"));
        }
    }
    Ok(())
}

/// Every remembered producer will be looked at once more.
fn producers(state: &State) -> Result<(), String> {
    let topics = state.topics.values().chain(state.graveyard.topics());
    let places = topics.flat_map(|topic| topic.places());
    let expected: Expiries = places
        .flat_map(|(place, partition)| {
            partition
                .producer_states()
                .map(move |(id, known)| (known.due(), place, id))
        })
        .collect();
    match expected.symmetric_difference(&state.expiries).next() {
        Some((due, place, id)) => Err(format!("producer {id} of {place:?}, due at {due}")),
        None => Ok(()),
    }
}

fn agents(state: &State) -> Result<(), String> {
    for (id, registration) in &state.agents {
        let agent = &registration.agent;
        if agent.id != *id || id.0 < 1 || state.identities.get(&agent.identity) != Some(id) {
            return Err(format!("agent {id} is {agent:?}"));
        }
        for chunks in [&registration.chunks, &registration.before] {
            chunks
                .check()
                .map_err(|error| format!("agent {id}: {error}"))?;
        }
    }
    let last = state.agents.keys().next_back().map_or(0, |id| id.0);
    if state.identities.len() != state.agents.len()
        || state.last_agent < last
        || state.cluster_id.is_none() && last > 0
    {
        return Err("identities, agents and the cluster id do not match".to_owned());
    }
    Ok(())
}

/// What partitions and groups hold of transactions is of those that are open.
fn transactions(state: &State) -> Result<(), String> {
    let holds = |producer, place: TopicPartition| {
        let known = state.transactions.of_producer(producer);
        known.is_some_and(|(_, known)| known.partitions.contains(&place))
    };
    let places = state.topics.values().flat_map(Topic::places);
    for (place, partition) in places {
        let mut open = partition.open_transactions();
        if let Some((producer, _)) = open.find(|(producer, _)| !holds(*producer, place)) {
            return Err(format!(
                "producer {producer} has no transaction in {place:?}"
            ));
        }
    }
    for (id, group) in &state.groups {
        for producer in group.pending.keys() {
            let known = state.transactions.of_producer(*producer);
            if !known.is_some_and(|(_, known)| known.groups.contains(id)) {
                return Err(format!(
                    "producer {producer} has no transaction in group {id:?}"
                ));
            }
        }
    }
    Ok(())
}

fn groups(state: &State) -> Result<(), String> {
    let mut idle = BTreeMap::new();
    for (id, group) in &state.groups {
        let claimed = group.coordinator.is_some();
        if claimed != (group.claim > 0) || group.claim > state.claims {
            return Err(format!("group {id:?} has claim {}", group.claim));
        }
        if group.is_empty() {
            if !group
                .coordinator
                .is_some_and(|origin| state.is_current(origin))
            {
                return Err(format!("group {id:?} is empty"));
            }
            if idle.insert(group.claim, id.clone()).is_some() {
                return Err(format!("group {id:?} has another's claim"));
            }
        }
        for (place, share) in &group.shares {
            let blame = |error: String| format!("share group {id:?}, {place:?}: {error}");
            share.check().map_err(blame)?;
        }
        if let Some(place) = group
            .offsets
            .keys()
            .chain(group.shares.keys())
            .find(|place| state.partition(**place).is_none())
        {
            return Err(format!(
                "group {id:?} has an offset for {place:?}, which is gone"
            ));
        }
    }
    if idle != state.idle_groups || idle.len() > IDLE_GROUPS {
        return Err(format!(
            "{} groups are claimed and hold nothing",
            idle.len()
        ));
    }
    Ok(())
}
