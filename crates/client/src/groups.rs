//! Groups as tools see them: listed, described, their offsets moved, deleted.

use std::collections::BTreeMap;

use bytes::Bytes;

use alluvium_protocol::message;
use alluvium_protocol::messages::{
    ConsumerGroupDescribeRequest, DecodeLimits, DeleteGroupsRequest, DescribeGroupsRequest,
    DescribeShareGroupOffsetsRequest, ListGroupsRequest, ListOffsetsRequest, OffsetCommitRequest,
    OffsetDeleteRequest, OffsetFetchRequest, ShareGroupDescribeRequest,
    decode_consumer_protocol_assignment,
    describe_share_group_offsets_request::DescribeShareGroupOffsetsRequestGroup,
    list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic},
    offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic},
    offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    offset_fetch_request::OffsetFetchRequestGroup,
};
use alluvium_types::{ErrorCode, Millis, Offset};

use crate::client::{Client, Target};
use crate::error::ClientError;
use crate::group::{COMMIT_BY_NAME, FETCH_BY_NAME};

/// A partition of a topic.
pub type TopicPartition = (String, i32);

/// A group as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedGroup {
    /// Its id.
    pub group: String,
    /// `consumer`, `connect`, `share`; empty for a group that only keeps offsets.
    pub protocol: String,
    /// `Stable`, `Empty` and so on; empty where the server is too old to say.
    pub state: String,
    /// `classic`, `consumer`, `share` or `streams`, in small letters.
    pub kind: String,
}

/// A group with its members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupInfo {
    /// Its id.
    pub group: String,
    /// `classic`, `consumer`, `share` or `streams`.
    pub kind: String,
    /// `Stable`, `Empty` and so on.
    pub state: String,
    /// Who divides the partitions.
    pub assignor: String,
    /// The newest epoch, in the protocols that have one.
    pub epoch: Option<i32>,
    /// Who is in it.
    pub members: Vec<MemberInfo>,
}

/// A member of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its id.
    pub member: String,
    /// Its own name, when it is a static member.
    pub instance: Option<String>,
    /// What it calls itself.
    pub client: String,
    /// Where it comes from.
    pub host: String,
    /// The partitions that it reads, by topic.
    pub assigned: BTreeMap<String, Vec<i32>>,
}

/// Every group of the cluster, by id. Each node is asked, for each names the groups that it
/// coordinates.
///
/// # Errors
/// A node cannot be reached or refuses.
pub async fn list_groups(client: &Client) -> Result<Vec<ListedGroup>, ClientError> {
    client.topics(Some(&[])).await?;
    let mut groups = BTreeMap::new();
    for node in client.nodes().await.into_keys() {
        let ask = message!(ListGroupsRequest {});
        let answer = client.call(&Target::Node(node), &ask).await?;
        ClientError::check(
            &format!("groups of node {node}"),
            answer.error_code,
            reason(answer.error_code),
        )?;
        for listed in answer.groups {
            let group = ListedGroup {
                group: listed.group_id.to_string(),
                protocol: listed.protocol_type.to_string(),
                state: listed.group_state.to_string(),
                // Before version 5 there was but one type.
                kind: match listed.group_type.as_str() {
                    "" => "classic".to_owned(),
                    kind => kind.to_lowercase(),
                },
            };
            groups.insert(group.group.clone(), group);
        }
    }
    Ok(groups.into_values().collect())
}

/// A group with its members; without them when it is neither classic nor a consumer or share group.
///
/// # Errors
/// It does not exist.
pub async fn describe_group(
    client: &Client,
    listed: &ListedGroup,
) -> Result<GroupInfo, ClientError> {
    match listed.kind.as_str() {
        "classic" => describe_classic(client, &listed.group).await,
        "consumer" => describe_consumer(client, &listed.group).await,
        "share" => describe_share(client, &listed.group).await,
        // Of another type only what the list says is known here.
        _ => Ok(GroupInfo {
            group: listed.group.clone(),
            kind: listed.kind.clone(),
            state: listed.state.clone(),
            ..GroupInfo::default()
        }),
    }
}

async fn describe_classic(client: &Client, group: &str) -> Result<GroupInfo, ClientError> {
    let ask = message!(DescribeGroupsRequest {
        groups: vec![group.into()]
    });
    let answer = client.call(&of(group), &ask).await?;
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| silent(group))?;
    check(group, found.error_code, found.error_message.as_deref())?;
    let consumers = found.protocol_type.as_str() == "consumer";
    let mut members = Vec::with_capacity(found.members.len());
    for member in found.members {
        // Only consumers' assignments are written in a way that is known here.
        let assigned = match consumers {
            true => assigned(&member.member_assignment)?,
            false => BTreeMap::new(),
        };
        members.push(MemberInfo {
            member: member.member_id.to_string(),
            instance: member.group_instance_id.map(|id| id.to_string()),
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned,
        });
    }
    Ok(GroupInfo {
        group: group.to_owned(),
        kind: "classic".to_owned(),
        state: found.group_state.to_string(),
        assignor: found.protocol_data.to_string(),
        epoch: None,
        members,
    })
}

fn assigned(assignment: &Bytes) -> Result<BTreeMap<String, Vec<i32>>, ClientError> {
    if assignment.is_empty() {
        return Ok(BTreeMap::new());
    }
    let (_, decoded) =
        decode_consumer_protocol_assignment(assignment.clone(), DecodeLimits::default())
            .map_err(|error| ClientError::Usage(format!("a member's assignment: {error}")))?;
    let topics = decoded.assigned_partitions.into_iter();
    Ok(topics
        .map(|topic| (topic.topic.to_string(), topic.partitions))
        .collect())
}

async fn describe_consumer(client: &Client, group: &str) -> Result<GroupInfo, ClientError> {
    let ask = message!(ConsumerGroupDescribeRequest {
        group_ids: vec![group.into()]
    });
    let answer = client.call(&of(group), &ask).await?;
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| silent(group))?;
    check(group, found.error_code, found.error_message.as_deref())?;
    let members = found.members.into_iter().map(|member| MemberInfo {
        member: member.member_id.to_string(),
        instance: member.instance_id.map(|id| id.to_string()),
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: member
            .assignment
            .topic_partitions
            .into_iter()
            .map(|topic| (topic.topic_name.to_string(), topic.partitions))
            .collect(),
    });
    Ok(GroupInfo {
        group: group.to_owned(),
        kind: "consumer".to_owned(),
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epoch: Some(found.group_epoch),
        members: members.collect(),
    })
}

async fn describe_share(client: &Client, group: &str) -> Result<GroupInfo, ClientError> {
    let ask = message!(ShareGroupDescribeRequest {
        group_ids: vec![group.into()]
    });
    let answer = client.call(&of(group), &ask).await?;
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| silent(group))?;
    check(group, found.error_code, found.error_message.as_deref())?;
    let members = found.members.into_iter().map(|member| MemberInfo {
        member: member.member_id.to_string(),
        instance: None,
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: member
            .assignment
            .topic_partitions
            .into_iter()
            .map(|topic| (topic.topic_name.to_string(), topic.partitions))
            .collect(),
    });
    Ok(GroupInfo {
        group: group.to_owned(),
        kind: "share".to_owned(),
        state: found.group_state.to_string(),
        assignor: found.assignor_name.to_string(),
        epoch: Some(found.group_epoch),
        members: members.collect(),
    })
}

/// All that a group has committed.
///
/// # Errors
/// See [`ClientError`].
pub async fn group_offsets(
    client: &Client,
    group: &str,
) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
    let asked = message!(OffsetFetchRequestGroup {
        group_id: group.into(),
        topics: None,
    });
    let ask = message!(OffsetFetchRequest {
        groups: vec![asked]
    });
    let answer = client.call_up_to(&of(group), &ask, FETCH_BY_NAME).await?;
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| silent(group))?;
    if found.error_code == ErrorCode::GroupIdNotFound.code() {
        return Ok(BTreeMap::new());
    }
    check(group, found.error_code, None)?;
    let mut offsets = BTreeMap::new();
    for topic in found.topics {
        for partition in topic.partitions {
            check(group, partition.error_code, None)?;
            if partition.committed_offset >= 0 {
                let of = (topic.name.to_string(), partition.partition_index);
                offsets.insert(of, partition.committed_offset);
            }
        }
    }
    Ok(offsets)
}

/// Where a share group begins in its partitions, as far as it has begun.
///
/// # Errors
/// See [`ClientError`].
pub async fn share_group_offsets(
    client: &Client,
    group: &str,
) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
    let asked = message!(DescribeShareGroupOffsetsRequestGroup {
        group_id: group.into(),
        topics: None,
    });
    let ask = message!(DescribeShareGroupOffsetsRequest {
        groups: vec![asked]
    });
    let answer = client.call(&of(group), &ask).await?;
    let found = answer.groups.into_iter().next();
    let found = found.ok_or_else(|| silent(group))?;
    check(group, found.error_code, found.error_message.as_deref())?;
    let mut offsets = BTreeMap::new();
    for topic in found.topics {
        for partition in topic.partitions {
            let message = partition.error_message.as_deref();
            check(group, partition.error_code, message)?;
            if partition.start_offset >= 0 {
                let of = (topic.topic_name.to_string(), partition.partition_index);
                offsets.insert(of, partition.start_offset);
            }
        }
    }
    Ok(offsets)
}

/// Offsets of many partitions at a time, of their ends (-1) or of their starts (-2), in one request
/// to each leader. Partitions that no topic has are left out; negative where there is no such record.
///
/// # Errors
/// See [`ClientError`].
pub async fn list_offsets(
    client: &Client,
    partitions: &[TopicPartition],
    timestamp: Millis,
) -> Result<BTreeMap<TopicPartition, Offset>, ClientError> {
    let all = client.topics(None).await?;
    let mut leaders: BTreeMap<i32, BTreeMap<&str, Vec<i32>>> = BTreeMap::new();
    for (name, partition) in partitions {
        let topic = all.iter().find(|topic| topic.name == *name);
        let found = topic.and_then(|topic| {
            let mut known = topic.partitions.iter();
            known.find(|known| known.partition == *partition)
        });
        if let Some(found) = found {
            let topics = leaders.entry(found.leader).or_default();
            topics.entry(name).or_default().push(*partition);
        }
    }
    let mut offsets = BTreeMap::new();
    for (leader, topics) in leaders {
        let topics = topics.into_iter().map(|(name, partitions)| {
            let partitions = partitions.into_iter().map(|partition_index| {
                message!(ListOffsetsPartition {
                    partition_index,
                    current_leader_epoch: -1,
                    timestamp,
                })
            });
            message!(ListOffsetsTopic {
                name: name.into(),
                partitions: partitions.collect(),
            })
        });
        let ask = message!(ListOffsetsRequest {
            replica_id: -1,
            isolation_level: client.isolation().level(),
            topics: topics.collect(),
        });
        let answer = client.call(&Target::Node(leader), &ask).await?;
        for topic in answer.topics {
            for partition in topic.partitions {
                let (name, index) = (topic.name.to_string(), partition.partition_index);
                let subject = format!("topic {name} partition {index}");
                ClientError::check(&subject, partition.error_code, None)?;
                offsets.insert((name, index), partition.offset);
            }
        }
    }
    Ok(offsets)
}

/// Commits offsets for a group without members.
///
/// # Errors
/// The group has members, or the server refuses a partition.
pub async fn commit_for(
    client: &Client,
    group: &str,
    offsets: &BTreeMap<TopicPartition, Offset>,
) -> Result<(), ClientError> {
    let mut topics: BTreeMap<&str, Vec<OffsetCommitRequestPartition>> = BTreeMap::new();
    for ((topic, partition), offset) in offsets {
        let wanted = message!(OffsetCommitRequestPartition {
            partition_index: *partition,
            committed_offset: *offset,
            committed_leader_epoch: -1,
            committed_metadata: Some("".into()),
        });
        topics.entry(topic).or_default().push(wanted);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        message!(OffsetCommitRequestTopic {
            name: name.into(),
            partitions
        })
    });
    let ask = message!(OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: -1,
        topics: topics.collect(),
    });
    let answer = client.call_up_to(&of(group), &ask, COMMIT_BY_NAME).await?;
    for topic in answer.topics {
        for partition in topic.partitions {
            let (code, name) = (partition.error_code, topic.name.as_str());
            let subject = format!("group {group}, {name}:{}", partition.partition_index);
            ClientError::check(&subject, code, reason(code))?;
        }
    }
    Ok(())
}

/// Deletes a group with all that it has committed.
///
/// # Errors
/// It has members, or does not exist.
pub async fn delete_group(client: &Client, group: &str) -> Result<(), ClientError> {
    let ask = message!(DeleteGroupsRequest {
        groups_names: vec![group.into()]
    });
    let answer = client.call(&of(group), &ask).await?;
    let found = answer.results.into_iter().next();
    let found = found.ok_or_else(|| silent(group))?;
    check(group, found.error_code, found.error_message.as_deref())
}

/// Has a group forget what it has committed for partitions.
///
/// # Errors
/// A member is subscribed to one of the topics, or the group does not exist.
pub async fn delete_offsets(
    client: &Client,
    group: &str,
    partitions: &[TopicPartition],
) -> Result<(), ClientError> {
    let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
    for (topic, partition) in partitions {
        let wanted = message!(OffsetDeleteRequestPartition {
            partition_index: *partition
        });
        topics.entry(topic).or_default().push(wanted);
    }
    let topics = topics.into_iter().map(|(name, partitions)| {
        message!(OffsetDeleteRequestTopic {
            name: name.into(),
            partitions
        })
    });
    let ask = message!(OffsetDeleteRequest {
        group_id: group.into(),
        topics: topics.collect(),
    });
    let answer = client.call(&of(group), &ask).await?;
    check(group, answer.error_code, None)?;
    for topic in answer.topics {
        for partition in topic.partitions {
            let (code, name) = (partition.error_code, topic.name.as_str());
            let subject = format!("group {group}, {name}:{}", partition.partition_index);
            ClientError::check(&subject, code, reason(code))?;
        }
    }
    Ok(())
}

fn of(group: &str) -> Target {
    Target::Coordinator(group.to_owned())
}

fn silent(group: &str) -> ClientError {
    let text = Some("the answer does not mention it");
    ClientError::refused(format!("group {group}"), -1, text)
}

fn check(group: &str, code: i16, message: Option<&str>) -> Result<(), ClientError> {
    let message = message.filter(|text| !text.is_empty()).or(reason(code));
    ClientError::check(&format!("group {group}"), code, message)
}

/// What a code means to the person who asked, and what to do next.
fn reason(code: i16) -> Option<&'static str> {
    let text = match ErrorCode::from_code(code)? {
        ErrorCode::GroupIdNotFound => {
            "there is no such group; `alluvium group list` shows which there are"
        }
        ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId => {
            "it has members; stop them and wait until it is empty"
        }
        ErrorCode::GroupSubscribedToTopic => "a member is subscribed to the topic; stop it first",
        ErrorCode::UnknownTopicOrPartition => "there is no such topic or partition",
        _ => return None,
    };
    Some(text)
}
