//! What must hold in every state. Tests check it after every command, and a snapshot that fails it
//! is refused.

use std::collections::{BTreeMap, BTreeSet};

use crate::runs::RunLocation;
use crate::sequence::Expiries;
use crate::state::{IDLE_GROUPS, Named, RULES, State};

/// Checks all of it; says what does not hold, and of which thing. Costs a pass over the state.
pub(crate) fn check(state: &State) -> Result<(), String> {
    state.names.check(&state.topics)?;
    state.deleted_names.check(&state.names)?;
    partitions(state)?;
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
    groups(state)
}

/// Manifests tile their offsets, and what is counted of them is counted right.
fn partitions(state: &State) -> Result<(), String> {
    let mut named: BTreeMap<_, Named> = BTreeMap::new();
    let mut inline_partitions = BTreeSet::new();
    let mut inline_bytes = 0u64;
    for (place, partition) in state.topics.values().flat_map(|topic| topic.places()) {
        let blame = |error: String| format!("partition {place:?}: {error}");
        partition.check().map_err(blame)?;
        if partition.has_inline() {
            inline_partitions.insert(place);
        }
        for run in partition.runs() {
            match &run.location {
                RunLocation::Inline(_) => inline_bytes = inline_bytes.saturating_add(run.length),
                RunLocation::Object { object, position } => {
                    let end = position.checked_add(run.length);
                    let end = end.ok_or_else(|| blame("position overflows".to_owned()))?;
                    let object = named.entry(*object).or_default();
                    object.runs += 1;
                    object.end = object.end.max(end);
                }
                _ => {}
            }
        }
    }
    state.objects.check(&named)?;
    if inline_bytes != state.inline_bytes || inline_partitions != state.inline_partitions {
        return Err(format!(
            "{} inline bytes, found {inline_bytes}",
            state.inline_bytes
        ));
    }
    Ok(())
}

/// Every remembered producer will be looked at once more.
fn producers(state: &State) -> Result<(), String> {
    let places = state.topics.values().flat_map(|topic| topic.places());
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
        if let Some(place) = group
            .offsets
            .keys()
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
