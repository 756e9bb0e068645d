//! A consumer's life through the handlers, as old clients and new ones speak.

use alluvium_protocol::message;
use alluvium_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use alluvium_protocol::messages::leave_group_request::MemberIdentity;
use alluvium_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use alluvium_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic,
};
use alluvium_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use alluvium_protocol::messages::{
    DeleteGroupsRequest, DescribeGroupsRequest, FindCoordinatorRequest, HeartbeatRequest,
    JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest, ListGroupsRequest, OffsetCommitRequest,
    OffsetFetchRequest, SyncGroupRequest, uuid,
};
use bytes::Bytes;

use super::super::{
    delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group,
    list_groups, offset_commit, offset_fetch, sync_group,
};
use super::*;

async fn a_topic(agent: &Arc<Agent>) -> TopicId {
    agent
        .topics
        .auto_create(&agent.metadata, NOW, "clicks")
        .await
        .unwrap()
}

async fn quick_agent() -> Arc<Agent> {
    agent(&[("group.initial.rebalance.delay.ms", "0")]).await
}

fn join_request(version: i16, member_id: &str) -> JoinGroupRequest {
    let range = message!(JoinGroupRequestProtocol {
        name: "range".into(),
        metadata: Bytes::from_static(b"subscription"),
    });
    message!(JoinGroupRequest {
        group_id: "g".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 60_000 },
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![range],
    })
}

async fn join(agent: &Arc<Agent>, version: i16) -> JoinGroupResponse {
    let context = context(agent, version);
    let first = join_group::handle(&context, join_request(version, "")).await;
    let first = sendable(version, first);
    if version < 4 {
        return first;
    }
    assert_eq!(code(first.error_code), ErrorCode::MemberIdRequired);
    let second = join_group::handle(&context, join_request(version, &first.member_id)).await;
    sendable(version, second)
}

async fn sync(agent: &Arc<Agent>, version: i16, joined: &JoinGroupResponse) -> Bytes {
    let share = message!(SyncGroupRequestAssignment {
        member_id: joined.member_id.clone(),
        assignment: Bytes::from_static(b"everything"),
    });
    let request = message!(SyncGroupRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
        protocol_type: joined.protocol_type.clone().filter(|_| version >= 5),
        protocol_name: joined.protocol_name.clone().filter(|_| version >= 5),
        assignments: vec![share],
    });
    let synced = sync_group::handle(&context(agent, version), request).await;
    let synced = sendable(version, synced);
    assert_eq!(code(synced.error_code), ErrorCode::None);
    synced.assignment
}

async fn commit(agent: &Arc<Agent>, version: i16, joined: &JoinGroupResponse, topic: TopicId) {
    let partition = |index: i32, offset| {
        message!(OffsetCommitRequestPartition {
            partition_index: index,
            committed_offset: offset,
            committed_metadata: None,
        })
    };
    let topic = message!(OffsetCommitRequestTopic {
        name: "clicks".into(),
        topic_id: uuid(topic),
        partitions: vec![partition(0, 42), partition(7, 1)],
    });
    let request = message!(OffsetCommitRequest {
        group_id: "g".into(),
        generation_id_or_member_epoch: joined.generation_id,
        member_id: joined.member_id.clone(),
        topics: vec![topic],
    });
    let committed = offset_commit::handle(&context(agent, version), request).await;
    let committed = sendable(version, committed);
    let codes = committed.topics[0].partitions.iter();
    let codes: Vec<_> = codes.map(|partition| code(partition.error_code)).collect();
    // There is no partition 7; its neighbour is committed all the same.
    assert_eq!(codes, [ErrorCode::None, ErrorCode::UnknownTopicOrPartition]);
}

/// The offset committed in partition 0.
async fn fetch(agent: &Arc<Agent>, version: i16) -> i64 {
    let request = if version < 8 {
        let topic = message!(OffsetFetchRequestTopic {
            name: "clicks".into(),
            partition_indexes: vec![0],
        });
        message!(OffsetFetchRequest {
            group_id: "g".into(),
            topics: Some(vec![topic]),
        })
    } else {
        let group = message!(OffsetFetchRequestGroup {
            group_id: "g".into(),
            topics: None,
        });
        message!(OffsetFetchRequest {
            groups: vec![group]
        })
    };
    let fetched = offset_fetch::handle(&context(agent, version), request).await;
    let fetched = sendable(version, fetched);
    if version < 8 {
        fetched.topics[0].partitions[0].committed_offset
    } else {
        fetched.groups[0].topics[0].partitions[0].committed_offset
    }
}

async fn beat(agent: &Arc<Agent>, joined: &JoinGroupResponse) -> ErrorCode {
    let request = message!(HeartbeatRequest {
        group_id: "g".into(),
        generation_id: joined.generation_id,
        member_id: joined.member_id.clone(),
    });
    let answer = heartbeat::handle(&context(agent, 4), request).await;
    code(sendable(4, answer).error_code)
}

async fn leave(agent: &Arc<Agent>, version: i16, member_id: &str) -> ErrorCode {
    let member = message!(MemberIdentity {
        member_id: member_id.into(),
    });
    let request = if version < 3 {
        message!(LeaveGroupRequest {
            group_id: "g".into(),
            member_id: member_id.into(),
        })
    } else {
        message!(LeaveGroupRequest {
            group_id: "g".into(),
            members: vec![member],
        })
    };
    let left = leave_group::handle(&context(agent, version), request).await;
    let left = sendable(version, left);
    let of_member = left.members.first().map(|member| member.error_code);
    code(of_member.unwrap_or(left.error_code))
}

/// State, as the tools see it.
async fn state(agent: &Arc<Agent>) -> String {
    let request = message!(DescribeGroupsRequest {
        groups: vec!["g".into()],
    });
    let described = describe_groups::handle(&context(agent, 5), request).await;
    sendable(5, described).groups[0].group_state.to_string()
}

#[tokio::test]
async fn old_clients_and_new_ones_join_commit_and_leave() {
    // JoinGroup, SyncGroup, OffsetCommit, OffsetFetch, LeaveGroup.
    let versions = [
        [0, 0, 2, 1, 0],
        [3, 2, 6, 5, 2],
        [5, 3, 7, 7, 3],
        [7, 5, 8, 8, 4],
        [9, 5, 10, 10, 5],
    ];
    let agent = quick_agent().await;
    let topic = a_topic(&agent).await;
    for (round, [v_join, v_sync, v_commit, v_fetch, v_leave]) in versions.into_iter().enumerate() {
        let joined = join(&agent, v_join).await;
        assert_eq!(code(joined.error_code), ErrorCode::None, "round {round}");
        assert_eq!(joined.leader, joined.member_id);
        assert_eq!(joined.members.len(), 1);
        assert_eq!(sync(&agent, v_sync, &joined).await, "everything");
        assert_eq!(state(&agent).await, "Stable");
        assert_eq!(beat(&agent, &joined).await, ErrorCode::None);
        commit(&agent, v_commit, &joined, topic).await;
        assert_eq!(fetch(&agent, v_fetch).await, 42);
        let left = leave(&agent, v_leave, &joined.member_id).await;
        assert_eq!(left, ErrorCode::None);
        assert_eq!(beat(&agent, &joined).await, ErrorCode::UnknownMemberId);
        assert_eq!(state(&agent).await, "Empty");
    }
    agent.shutdown().await;
}

#[tokio::test]
async fn tools_list_and_delete_groups_and_find_their_coordinator() {
    let agent = quick_agent().await;
    let topic = a_topic(&agent).await;
    let joined = join(&agent, 9).await;
    sync(&agent, 5, &joined).await;
    commit(&agent, 10, &joined, topic).await;

    let list = list_groups::handle(&context(&agent, 5), ListGroupsRequest::default()).await;
    let list = sendable(5, list);
    assert_eq!(list.groups[0].group_state.as_str(), "Stable");
    assert_eq!(list.groups[0].group_type.as_str(), "classic");

    let delete = || {
        let request = message!(DeleteGroupsRequest {
            groups_names: vec!["g".into(), "h".into()],
        });
        async {
            let deleted = delete_groups::handle(&context(&agent, 2), request).await;
            let results = sendable(2, deleted).results;
            [code(results[0].error_code), code(results[1].error_code)]
        }
    };
    let not_found = ErrorCode::GroupIdNotFound;
    assert_eq!(delete().await, [ErrorCode::NonEmptyGroup, not_found]);
    leave(&agent, 5, &joined.member_id).await;
    assert_eq!(delete().await, [ErrorCode::None, not_found]);
    assert_eq!(state(&agent).await, "Dead");

    let request = message!(FindCoordinatorRequest {
        coordinator_keys: vec!["g".into()],
    });
    let found = find_coordinator::handle(&context(&agent, 6), request).await;
    let found = &sendable(6, found).coordinators[0];
    assert_eq!(found.host.as_str(), "broker.test");
    assert_eq!(found.node_id, agent.id().0);
    agent.shutdown().await;
}
