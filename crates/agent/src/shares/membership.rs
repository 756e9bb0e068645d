//! The members of share groups: plain data, the time as an argument.
//!
//! They live in the memory of the group's coordinator and nowhere else: nothing that a member owns
//! depends on who the members are, so a new coordinator lets them join anew. Records that they have acquired
//! stay theirs in the quorum meanwhile.
//!
//! Partitions are dealt out in turn. Where there are more members than partitions, several share one.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_types::{ErrorCode, Millis, PartitionIndex, TopicId};

/// Most topics that a member subscribes to, and bytes of their names.
const TOPICS: usize = 1000;

/// Most members that this agent keeps, over all groups.
const MEMBERS: usize = 100_000;

/// What each member has to read, by topic.
pub type Assignment = BTreeMap<TopicId, Vec<PartitionIndex>>;

/// A sign of life, a joining or a leaving.
#[derive(Clone, Debug)]
pub struct ShareHeartbeat {
    /// Which group.
    pub group: String,
    /// Who; the member draws its own id.
    pub member: String,
    /// 0 to join, -1 to leave, else what it was told last.
    pub epoch: i32,
    /// Topics by name, when they changed.
    pub subscribed: Option<Vec<String>>,
    /// Its rack, if it says so.
    pub rack: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
}

/// What a member is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMembership {
    /// Its epoch now.
    pub epoch: i32,
    /// What it has to read, when that changed or it has just joined.
    pub assignment: Option<Assignment>,
}

/// A member of a share group, as tools see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareMember {
    /// Its id.
    pub member: String,
    /// Its rack.
    pub rack: Option<String>,
    /// Its epoch.
    pub epoch: i32,
    /// What the client calls itself.
    pub client_id: String,
    /// Its address.
    pub client_host: String,
    /// The topics that it wants.
    pub subscribed: Vec<String>,
    /// What it has to read.
    pub assignment: Assignment,
}

/// A topic that there is: its id and how many partitions it has.
pub(crate) type Known<'a> = &'a dyn Fn(&str) -> Option<(TopicId, PartitionIndex)>;

#[derive(Debug, Default)]
pub(crate) struct Memberships {
    groups: BTreeMap<String, Group>,
    members: usize,
}

#[derive(Debug, Default)]
struct Group {
    epoch: i32,
    members: BTreeMap<String, Member>,
    /// Topics as they were when partitions were dealt out.
    topics: BTreeMap<TopicId, PartitionIndex>,
}

#[derive(Debug)]
struct Member {
    epoch: i32,
    rack: Option<String>,
    client_id: String,
    client_host: String,
    subscribed: BTreeSet<String>,
    assignment: Assignment,
    /// The assignment that it was told.
    told: Option<Assignment>,
    expires: Millis,
}

impl Memberships {
    /// A member joins, lives on or leaves.
    ///
    /// # Errors
    /// What a Kafka client is told.
    pub(crate) fn heartbeat(
        &mut self,
        beat: ShareHeartbeat,
        (session, max_size): (i32, usize),
        known: Known<'_>,
        now: Millis,
    ) -> Result<ShareMembership, ErrorCode> {
        if beat.epoch < -1 || beat.member.is_empty() {
            return Err(ErrorCode::InvalidRequest);
        }
        if beat
            .subscribed
            .as_ref()
            .is_some_and(|topics| topics.len() > TOPICS)
        {
            return Err(ErrorCode::InvalidRequest);
        }
        if beat.epoch == -1 {
            self.leave(&beat.group, &beat.member);
            return Ok(ShareMembership {
                epoch: -1,
                assignment: None,
            });
        }
        let is_full = self.members >= MEMBERS;
        let group = match self.groups.get_mut(&beat.group) {
            Some(group) => group,
            None if beat.epoch > 0 => return Err(ErrorCode::UnknownMemberId),
            None => self.groups.entry(beat.group.clone()).or_default(),
        };
        let size = group.members.len();
        let member = match group.members.get_mut(&beat.member) {
            Some(member) if beat.epoch > 0 && beat.epoch != member.epoch => {
                return Err(ErrorCode::FencedMemberEpoch);
            }
            Some(member) => member,
            None if beat.epoch > 0 => return Err(ErrorCode::UnknownMemberId),
            None if beat.subscribed.as_ref().is_none_or(Vec::is_empty) => {
                return Err(ErrorCode::InvalidRequest);
            }
            None if size >= max_size || is_full => return Err(ErrorCode::GroupMaxSizeReached),
            None => {
                self.members += 1;
                group.members.entry(beat.member.clone()).or_insert(Member {
                    epoch: 0,
                    rack: None,
                    client_id: String::new(),
                    client_host: String::new(),
                    subscribed: BTreeSet::new(),
                    assignment: Assignment::new(),
                    told: None,
                    expires: 0,
                })
            }
        };
        member.expires = now.saturating_add(Millis::from(session));
        member.client_id = beat.client_id;
        member.client_host = beat.client_host;
        if beat.rack.is_some() {
            member.rack = beat.rack;
        }
        let mut has_changed = member.epoch == 0;
        if let Some(subscribed) = beat.subscribed {
            let subscribed: BTreeSet<String> = subscribed.into_iter().collect();
            has_changed |= subscribed != member.subscribed;
            member.subscribed = subscribed;
        }
        if beat.epoch == 0 {
            member.told = None;
        }
        group.deal(known, has_changed);
        let Some(member) = group.members.get_mut(&beat.member) else {
            return Err(ErrorCode::UnknownMemberId);
        };
        member.epoch = group.epoch;
        let news = member.told.as_ref() != Some(&member.assignment);
        let assignment = news.then(|| member.assignment.clone());
        member.told = Some(member.assignment.clone());
        Ok(ShareMembership {
            epoch: member.epoch,
            assignment,
        })
    }

    fn leave(&mut self, group: &str, member: &str) {
        let Some(of) = self.groups.get_mut(group) else {
            return;
        };
        if of.members.remove(member).is_some() {
            self.members = self.members.saturating_sub(1);
            of.deal_again();
        }
        if of.members.is_empty() {
            self.groups.remove(group);
        }
    }

    /// Members whose sessions are over leave; by group.
    pub(crate) fn expire(&mut self, now: Millis) -> BTreeMap<String, Vec<String>> {
        let mut gone: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (id, group) in &self.groups {
            let over = group
                .members
                .iter()
                .filter(|(_, member)| member.expires <= now);
            let members: Vec<String> = over.map(|(member, _)| member.clone()).collect();
            if !members.is_empty() {
                gone.insert(id.clone(), members);
            }
        }
        for (group, members) in &gone {
            members.iter().for_each(|member| self.leave(group, member));
        }
        gone
    }

    /// Forgets the groups that others coordinate by now.
    pub(crate) fn retain(&mut self, is_mine: impl Fn(&str) -> bool) {
        self.groups.retain(|id, _| is_mine(id));
        self.members = self.groups.values().map(|group| group.members.len()).sum();
    }

    /// A group's epoch and members, if it has any.
    pub(crate) fn describe(&self, group: &str) -> Option<(i32, Vec<ShareMember>)> {
        let group = self.groups.get(group)?;
        let members = group.members.iter().map(|(id, member)| ShareMember {
            member: id.clone(),
            rack: member.rack.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            subscribed: member.subscribed.iter().cloned().collect(),
            assignment: member.assignment.clone(),
        });
        Some((group.epoch, members.collect()))
    }

    pub(crate) fn has_members(&self, group: &str) -> bool {
        self.groups.contains_key(group)
    }

    /// Groups that have members.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &str> {
        self.groups.keys().map(String::as_str)
    }
}

impl Group {
    /// Deals the partitions out, when anything has changed.
    fn deal(&mut self, known: Known<'_>, has_changed: bool) {
        let wanted: BTreeSet<&String> = self
            .members
            .values()
            .flat_map(|it| &it.subscribed)
            .collect();
        let topics: BTreeMap<TopicId, PartitionIndex> =
            wanted.iter().filter_map(|name| known(name)).collect();
        if !has_changed && topics == self.topics {
            return;
        }
        let ids: BTreeMap<String, TopicId> = wanted
            .into_iter()
            .filter_map(|name| Some((name.clone(), known(name)?.0)))
            .collect();
        self.topics = topics;
        self.epoch = self.epoch.saturating_add(1);
        for member in self.members.values_mut() {
            member.assignment.clear();
        }
        for (name, topic) in ids {
            let partitions = self.topics.get(&topic).copied().unwrap_or_default();
            let mut subscribers: Vec<&mut Member> = self
                .members
                .values_mut()
                .filter(|member| member.subscribed.contains(&name))
                .collect();
            let shares = usize::try_from(partitions)
                .unwrap_or(0)
                .max(subscribers.len());
            let members = subscribers.len();
            for share in 0..shares {
                let partition = PartitionIndex::try_from(share).unwrap_or(0) % partitions.max(1);
                if let Some(member) = subscribers.get_mut(share % members.max(1))
                    && partitions > 0
                {
                    member.assignment.entry(topic).or_default().push(partition);
                }
            }
        }
    }

    /// Somebody has left: the topics are as they were.
    fn deal_again(&mut self) {
        // The next heartbeat deals them out.
        self.topics.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: (i32, usize) = (1000, 3);

    fn known(name: &str) -> Option<(TopicId, PartitionIndex)> {
        match name {
            "one" => Some((TopicId([1; 16]), 1)),
            "four" => Some((TopicId([4; 16]), 4)),
            _ => None,
        }
    }

    fn beat(member: &str, epoch: i32, topics: Option<&[&str]>) -> ShareHeartbeat {
        ShareHeartbeat {
            group: "g".to_owned(),
            member: member.to_owned(),
            epoch,
            subscribed: topics.map(|topics| topics.iter().map(|it| (*it).to_owned()).collect()),
            rack: None,
            client_id: "c".to_owned(),
            client_host: "/h".to_owned(),
        }
    }

    fn assigned(membership: &ShareMembership, topic: u8) -> Vec<PartitionIndex> {
        let assignment = membership.assignment.as_ref().unwrap();
        assignment
            .get(&TopicId([topic; 16]))
            .cloned()
            .unwrap_or_default()
    }

    #[test]
    fn partitions_are_dealt_out_in_turn_and_shared_where_there_are_too_few() {
        let mut groups = Memberships::default();
        let mut join =
            |member, topics| groups.heartbeat(beat(member, 0, Some(topics)), SESSION, &known, 0);
        let first = join("a", &["four", "one", "none"]).unwrap();
        assert_eq!(
            (assigned(&first, 4), assigned(&first, 1)),
            (vec![0, 1, 2, 3], vec![0])
        );
        let second = join("b", &["four", "one"]).unwrap();
        assert_eq!(
            (assigned(&second, 4), assigned(&second, 1)),
            (vec![1, 3], vec![0])
        );
        let told = groups
            .heartbeat(beat("a", first.epoch, None), SESSION, &known, 1)
            .unwrap();
        assert_eq!(
            (assigned(&told, 4), assigned(&told, 1)),
            (vec![0, 2], vec![0])
        );
        let quiet = groups
            .heartbeat(beat("a", told.epoch, None), SESSION, &known, 2)
            .unwrap();
        assert_eq!(quiet.assignment, None);
    }

    #[test]
    fn who_is_silent_leaves_and_the_others_take_over() {
        let mut groups = Memberships::default();
        let join = |groups: &mut Memberships, member, at| {
            groups.heartbeat(beat(member, 0, Some(&["four"])), SESSION, &known, at)
        };
        join(&mut groups, "a", 0).unwrap();
        let b = join(&mut groups, "b", 500).unwrap();
        let gone = groups.expire(1000);
        assert_eq!(
            gone,
            BTreeMap::from([("g".to_owned(), vec!["a".to_owned()])])
        );
        let told = groups
            .heartbeat(beat("b", b.epoch, None), SESSION, &known, 1001)
            .unwrap();
        assert_eq!(assigned(&told, 4), [0, 1, 2, 3]);
        let late = groups.heartbeat(beat("a", 1, None), SESSION, &known, 1001);
        assert_eq!(late, Err(ErrorCode::UnknownMemberId));
        groups
            .heartbeat(beat("b", -1, None), SESSION, &known, 1002)
            .unwrap();
        assert_eq!(groups.describe("g"), None);
        assert_eq!(groups.members, 0);
    }

    #[test]
    fn what_is_wrong_is_told_as_kafka_tells_it() {
        let mut groups = Memberships::default();
        let mut ask = |member, epoch, topics| {
            groups.heartbeat(beat(member, epoch, topics), SESSION, &known, 0)
        };
        assert_eq!(ask("a", 3, None), Err(ErrorCode::UnknownMemberId));
        assert_eq!(ask("a", 0, None), Err(ErrorCode::InvalidRequest));
        assert_eq!(ask("", 0, Some(&["one"])), Err(ErrorCode::InvalidRequest));
        assert_eq!(ask("a", -2, None), Err(ErrorCode::InvalidRequest));
        for member in ["a", "b", "c"] {
            ask(member, 0, Some(&["one"])).unwrap();
        }
        assert_eq!(
            ask("d", 0, Some(&["one"])),
            Err(ErrorCode::GroupMaxSizeReached)
        );
        assert_eq!(ask("a", 99, None), Err(ErrorCode::FencedMemberEpoch));
    }
}
