//! Committed offsets that an administrator takes from a group.

use std::collections::BTreeSet;

use alluvium_metadata::State;
use alluvium_types::{ErrorCode, TopicPartition};

use super::{CONSUMER, Coordinator, Durable};
use crate::groups::consumer::classic::subscription;
use crate::groups::group::{Group, Phase};
use crate::groups::member::{Member, Waiter};
use crate::groups::work::Work;

/// Offsets of one topic that a group is to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Forgotten {
    /// Its name.
    pub(crate) topic: String,
    /// Its partitions.
    pub(crate) partitions: Vec<TopicPartition>,
}

/// The topics that the members of a group read.
#[derive(Debug, PartialEq, Eq)]
enum Subscribed {
    To(BTreeSet<String>),
    /// The members have not said it, or not so that it can be understood.
    Unknown,
}

impl Subscribed {
    fn to(&self, topic: &str) -> bool {
        match self {
            Self::To(topics) => topics.contains(topic),
            Self::Unknown => true,
        }
    }
}

impl Coordinator {
    /// Queues that a group forgets offsets, but for topics that its members read. Says of each topic
    /// whether they do.
    ///
    /// # Errors
    /// What is wrong with the whole request.
    pub(crate) fn forget_offsets(
        &mut self,
        id: &str,
        topics: Vec<Forgotten>,
        waiter: Waiter<ErrorCode>,
        durable: &impl Durable,
    ) -> Result<Vec<bool>, ErrorCode> {
        self.check(id)?;
        let subscribed = if let Some(group) = self.consumers.get(id) {
            let wanted = topics.iter().map(|forgotten| &forgotten.topic);
            Subscribed::To(wanted.filter(|topic| group.wants(topic)).cloned().collect())
        } else if let Some(group) = self.groups.get(id) {
            subscriptions(group)?
        } else if durable.group(id).is_none() {
            return Err(ErrorCode::GroupIdNotFound);
        } else {
            // Those with members are in memory.
            Subscribed::To(BTreeSet::new())
        };
        let are_read: Vec<bool> = topics
            .iter()
            .map(|forgotten| subscribed.to(&forgotten.topic))
            .collect();
        let free = topics.into_iter().zip(&are_read);
        let partitions: Vec<TopicPartition> = free
            .filter(|(_, is_read)| !**is_read)
            .flat_map(|(forgotten, _)| forgotten.partitions)
            .collect();
        if partitions.is_empty() {
            waiter.answer(ErrorCode::None);
        } else {
            self.queue.push_back(Work::Forget {
                group: id.into(),
                partitions,
                waiter,
            });
        }
        Ok(are_read)
    }

    /// Whether a group in memory has no members. What the quorum remembers may still have them: that
    /// they have left is being written.
    pub(crate) fn is_emptied(&self, id: &str) -> bool {
        let classic = self.groups.get(id);
        let consumers = self.consumers.get(id);
        classic.is_some_and(|group| group.members.is_empty())
            || consumers.is_some_and(|group| !group.has_members())
    }
}

/// What a group's members read, if offsets may be taken from the group at all.
fn subscriptions(group: &Group) -> Result<Subscribed, ErrorCode> {
    match group.phase {
        Phase::Dead => return Err(ErrorCode::GroupIdNotFound),
        Phase::Empty => return Ok(Subscribed::To(BTreeSet::new())),
        Phase::Preparing(_) | Phase::Completing(_) | Phase::Stable => {}
    }
    if group.protocol_type.as_deref() != Some(CONSUMER) {
        return Err(ErrorCode::NonEmptyGroup);
    }
    let mut topics = BTreeSet::new();
    for member in group.members.values() {
        let Some(read) = topics_of(group, member) else {
            return Ok(Subscribed::Unknown);
        };
        topics.extend(read);
    }
    Ok(Subscribed::To(topics))
}

/// The topics of a member's subscription: that for the group's assignor, else the first one.
fn topics_of(group: &Group, member: &Member) -> Option<BTreeSet<String>> {
    let chosen = member
        .protocols
        .iter()
        .find(|(name, _)| Some(name) == group.protocol.as_ref());
    let (_, said) = chosen.or_else(|| member.protocols.first())?;
    subscription(said).map(|said| said.topics)
}

/// What of a request can be forgotten, with its place in the request, and a code for every topic:
/// that of one that is not there is told for all of its partitions.
pub(crate) fn sort(
    state: &State,
    asked: Vec<(String, Vec<i32>)>,
) -> (Vec<ErrorCode>, Vec<(usize, Forgotten)>) {
    let mut codes = Vec::with_capacity(asked.len());
    let mut known = Vec::new();
    for (index, (topic, partitions)) in asked.into_iter().enumerate() {
        match state.topic_by_name(&topic) {
            None => codes.push(ErrorCode::UnknownTopicOrPartition),
            Some(found) => {
                codes.push(ErrorCode::None);
                let partitions = partitions.into_iter();
                let partitions = partitions.map(|index| TopicPartition::new(found.id, index));
                let partitions = partitions.collect();
                known.push((index, Forgotten { topic, partitions }));
            }
        }
    }
    (codes, known)
}
