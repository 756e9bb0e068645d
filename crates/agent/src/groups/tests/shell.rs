//! The tasks around the state machine, on metadata in memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{CreateTopic, Outcome, RegisterAgent};
use alluvium_protocol::produce::TopicRef;
use alluvium_types::ManualClock;

use crate::freshness::Freshness;
use crate::groups::{
    CommitPartition, CommitTopic, FetchTopic, FetchedOffset, FetchedTopic, GroupState, Groups,
};
use crate::registration::Registration;
use crate::topics::Topics;

use super::*;

const TOPIC: TopicId = TopicId([7; 16]);

async fn cluster() -> (Metadata, AgentOrigin) {
    let metadata = Metadata::in_memory();
    let register = Command::RegisterAgent(RegisterAgent {
        identity: 1,
        host: "localhost".into(),
        port: 9092,
        zone: None,
        at: 1,
        cluster_id: TopicId([9; 16]),
    });
    let Outcome::AgentRegistered(origin) = metadata.propose(register).await.unwrap().outcome else {
        panic!("not registered");
    };
    let create = Command::CreateTopic(CreateTopic {
        name: "t".into(),
        id: TOPIC,
        partitions: 2,
        replication_factor: 1,
        configs: Vec::new(),
        at: 1,
    });
    assert_eq!(
        metadata.propose(create).await.unwrap().outcome,
        Outcome::Done
    );
    (metadata, origin)
}

fn start(metadata: &Metadata, origin: AgentOrigin) -> Groups {
    start_at(metadata, origin, Arc::new(ManualClock::new(1)))
}

fn start_at(metadata: &Metadata, origin: AgentOrigin, clock: Arc<ManualClock>) -> Groups {
    let settings = [
        ("group.initial.rebalance.delay.ms", "0"),
        ("offsets.retention.minutes", "5"),
        ("offsets.retention.check.interval.ms", "60000"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let topics = Topics::new(BTreeMap::from(settings)).unwrap();
    Groups::start(
        Registration::fixed(origin),
        Freshness::of(metadata),
        metadata.clone(),
        clock,
        topics,
    )
}

async fn member(groups: &Groups) -> Joined {
    let refused = groups.join(request("", None)).await.unwrap_err();
    groups
        .join(request(&refused.member_id, None))
        .await
        .unwrap()
}

async fn sync(groups: &Groups, joined: &Joined, share: &'static [u8]) -> SyncAnswer {
    let request = SyncGroup {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(share))],
        ..SyncGroup::default()
    };
    groups.sync(request).await
}

fn committer(joined: &Joined) -> Committer {
    Committer {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
        takes_group_not_found: true,
        takes_epochs: true,
    }
}

fn at(partition: i32, offset: i64, metadata: &str) -> CommitPartition {
    CommitPartition {
        partition,
        offset,
        leader_epoch: 0,
        metadata: metadata.into(),
    }
}

fn alive(joined: &Joined) -> Heartbeat {
    Heartbeat {
        group: "g".into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_member_commits_and_goes_on_after_a_restart_of_its_coordinator() {
    let (metadata, origin) = cluster().await;
    let groups = start(&metadata, origin);
    let joined = member(&groups).await;
    assert_eq!(
        sync(&groups, &joined, b"all").await.unwrap().assignment,
        "all"
    );

    let by_name = |name: &str, partitions| CommitTopic {
        topic: TopicRef::Name(name.into()),
        partitions,
    };
    let long = "x".repeat(4097);
    let topics = vec![
        by_name(
            "t",
            vec![at(0, 40, "note"), at(1, 50, &long), at(2, 60, "")],
        ),
        by_name("nowhere", vec![at(0, 1, "")]),
        CommitTopic {
            topic: TopicRef::Id(TopicId([3; 16])),
            partitions: vec![at(0, 1, "")],
        },
        CommitTopic {
            topic: TopicRef::Id(TOPIC),
            partitions: vec![at(1, 51, "")],
        },
    ];
    let codes = groups.commit(&committer(&joined), topics).await;
    let expected = [
        vec![
            ErrorCode::None,
            ErrorCode::OffsetMetadataTooLarge,
            ErrorCode::UnknownTopicOrPartition,
        ],
        vec![ErrorCode::UnknownTopicOrPartition],
        vec![ErrorCode::UnknownTopicId],
        vec![ErrorCode::None],
    ];
    assert_eq!(codes, expected);
    groups.shutdown().await;

    let groups = start(&metadata, origin);
    assert_eq!(groups.heartbeat(&alive(&joined)).await, Ok(()));
    assert_eq!(
        groups.describe("g").await.unwrap().unwrap().state,
        GroupState::Stable
    );
    let all = groups.fetch_offsets("g", None, None).await.unwrap();
    let found = |partition, offset, leader_epoch, metadata: &str, code| FetchedOffset {
        partition,
        offset,
        leader_epoch,
        metadata: metadata.into(),
        code,
    };
    let committed = vec![
        found(0, 40, 0, "note", ErrorCode::None),
        found(1, 51, 0, "", ErrorCode::None),
    ];
    assert_eq!(
        all,
        [FetchedTopic {
            name: "t".into(),
            id: TOPIC,
            partitions: committed
        }]
    );
    let asked = [
        FetchTopic {
            topic: TopicRef::Name("nowhere".into()),
            partitions: vec![0],
        },
        FetchTopic {
            topic: TopicRef::Id(TopicId([3; 16])),
            partitions: vec![0],
        },
    ];
    let none = groups.fetch_offsets("g", None, Some(&asked)).await.unwrap();
    assert_eq!(none[0].partitions, [found(0, -1, -1, "", ErrorCode::None)]);
    assert_eq!(
        none[1].partitions,
        [found(0, -1, -1, "", ErrorCode::UnknownTopicId)]
    );
    groups.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_is_missed_and_its_group_can_be_deleted() {
    let (metadata, origin) = cluster().await;
    let groups = start(&metadata, origin);
    let joined = member(&groups).await;
    sync(&groups, &joined, b"all").await.unwrap();
    assert_eq!(groups.delete("g").await, ErrorCode::NonEmptyGroup);
    // Time passes by itself when nothing else can happen; the group's timers do the rest.
    tokio::time::sleep(std::time::Duration::from_secs(11)).await;
    assert_eq!(
        groups.heartbeat(&alive(&joined)).await,
        Err(ErrorCode::UnknownMemberId)
    );
    let listed = groups.list().await.unwrap();
    assert_eq!((listed.len(), listed[0].state), (1, GroupState::Empty));
    assert_eq!(listed[0].protocol_type, "consumer");
    assert_eq!(groups.delete("g").await, ErrorCode::None);
    assert_eq!(groups.describe("g").await, Ok(None));
    assert_eq!(groups.delete("g").await, ErrorCode::GroupIdNotFound);
    groups.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_does_not_hold_up_the_others() {
    let (metadata, origin) = cluster().await;
    let groups = start(&metadata, origin);
    let joined = member(&groups).await;
    sync(&groups, &joined, b"all").await.unwrap();
    let lost = groups.join(request("", None)).await.unwrap_err().member_id;
    {
        let waiting = groups.join(request(&lost, None));
        tokio::pin!(waiting);
        assert!(futures::poll!(&mut waiting).is_pending());
    }
    let again = groups.join(request(&joined.member_id, None)).await.unwrap();
    assert_eq!((again.generation, again.members.len()), (2, 1));
    groups.shutdown().await;
}

/// Commits one partition of the topic for somebody who belongs to no group.
async fn commit_alone(groups: &Groups, group: &str, partition: i32) {
    let committer = Committer {
        group: group.into(),
        generation: -1,
        ..Committer::default()
    };
    let topic = CommitTopic {
        topic: TopicRef::Id(TOPIC),
        partitions: vec![at(partition, 5, "")],
    };
    let codes = groups.commit(&committer, vec![topic]).await;
    assert_eq!(codes, [[ErrorCode::None]]);
}

#[tokio::test(start_paused = true)]
async fn groups_that_nobody_uses_are_forgotten_offset_by_offset() {
    const MINUTE: i64 = 60_000;
    let (metadata, origin) = cluster().await;
    let clock = Arc::new(ManualClock::new(1));
    let groups = start_at(&metadata, origin, Arc::clone(&clock));
    commit_alone(&groups, "alone", 0).await;
    let joined = member(&groups).await;
    sync(&groups, &joined, b"all").await.unwrap();
    let topic = CommitTopic {
        topic: TopicRef::Id(TOPIC),
        partitions: vec![at(0, 5, "")],
    };
    groups.commit(&committer(&joined), vec![topic]).await;
    let pass = |minutes: i64| {
        let (groups, joined, clock) = (&groups, &joined, &clock);
        async move {
            for _ in 0..minutes * 10 {
                clock.advance(MINUTE / 10);
                tokio::time::sleep(Duration::from_secs(6)).await;
                let beat = Heartbeat {
                    group: "g".into(),
                    generation: joined.generation,
                    member_id: joined.member_id.clone(),
                    instance_id: None,
                };
                let _ = groups.heartbeat(&beat).await;
            }
        }
    };
    pass(3).await;
    commit_alone(&groups, "alone", 1).await;
    let kept = |group: &str| metadata.read(|state| state.group(group).map(|it| it.offsets.len()));
    assert_eq!((kept("alone"), kept("g")), (Some(2), Some(1)));
    pass(3).await;
    assert_eq!((kept("alone"), kept("g")), (Some(1), Some(1)));
    pass(3).await;
    assert_eq!(kept("alone"), None);
    assert_eq!(
        kept("g"),
        Some(1),
        "its member says nothing that is understood"
    );
    let leaver = Leaver {
        member_id: joined.member_id.clone(),
        ..Leaver::default()
    };
    groups.leave("g", &[leaver]).await.unwrap();
    pass(4).await;
    assert_eq!(kept("g"), Some(1), "it has been empty for four minutes");
    pass(3).await;
    assert_eq!(kept("g"), None);
}
