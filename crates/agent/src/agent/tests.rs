//! Agents over one metadata state: what clients see while agents come, go, and come back.

mod drains;
mod groups;
mod registrations;
mod shares;

use std::collections::BTreeMap;

use alluvium_protocol::produce::TopicRef;
use alluvium_storage::disk::LocalDisk;
use alluvium_types::{ErrorCode, SystemClock, TopicPartition};
use bytes::Bytes;

use tokio::time::Instant;

use super::*;
use crate::fetch::ReadPartition;
use crate::groups::{
    CommitPartition, CommitTopic, Committer, Heartbeat, JoinGroup, Joined, SyncGroup,
};
use crate::testing::{NO_WAIT, batch, decode, idempotent, send, values};

/// A quorum, a bucket, and the topic "clicks" of 8 partitions.
struct Cluster {
    metadata: Metadata,
    bucket: Bucket,
    topics: Topics,
    clicks: TopicId,
}

impl Cluster {
    async fn new() -> Self {
        let bucket = Bucket::open("memory://", LocalDisk::shared())
            .await
            .unwrap();
        Self::over(bucket).await
    }

    async fn over(bucket: Bucket) -> Self {
        let settings = [
            ("group.initial.rebalance.delay.ms", "0"),
            ("num.partitions", "8"),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let topics = Topics::new(BTreeMap::from(settings)).unwrap();
        let metadata = Metadata::in_memory();
        let clicks = topics.auto_create(&metadata, 1, "clicks").await.unwrap();
        Self {
            metadata,
            bucket,
            topics,
            clicks,
        }
    }

    async fn agent(&self, identity: u16) -> Arc<Agent> {
        let config = AgentConfig {
            identity: identity.into(),
            port: 9000 + identity,
            settle_interval: Duration::from_millis(200),
            ..AgentConfig::default()
        };
        self.start(config).await
    }

    async fn start(&self, config: AgentConfig) -> Arc<Agent> {
        let (metadata, bucket) = (self.metadata.clone(), self.bucket.clone());
        let (clock, topics) = (Arc::new(SystemClock), self.topics.clone());
        Agent::start(config, metadata, bucket, clock, topics, TopicId([1; 16]))
            .await
            .unwrap()
    }

    async fn agents<const COUNT: usize>(&self) -> [Arc<Agent>; COUNT] {
        let mut agents = Vec::new();
        for identity in 1..=u16::try_from(COUNT).unwrap() {
            agents.push(self.agent(identity).await);
        }
        agents.try_into().unwrap()
    }

    fn at(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.clicks, partition)
    }

    /// The agent stops renewing its lease, and the quorum ends it. Its process goes on.
    async fn cut_off(&self, agent: &Agent) {
        agent.lease.shutdown().await;
        self.end(agent).await;
    }

    async fn end(&self, agent: &Agent) {
        let agents = vec![agent.origin()];
        let end = Command::EndAgents { agents, at: 9 };
        self.metadata.propose(end).await.unwrap();
    }

    /// The agent that is to coordinate a group.
    fn coordinator<'a>(&self, agents: &'a [Arc<Agent>], group: &str) -> &'a Arc<Agent> {
        let id = agents[0].groups.coordinator(group).unwrap();
        agents.iter().find(|agent| agent.id() == id).unwrap()
    }

    async fn read_all(&self, agent: &Agent, partition: i32) -> Vec<String> {
        let asked = [ReadPartition {
            partition: self.at(partition),
            offset: 0,
            max_bytes: 1 << 20,
        }];
        let result = agent.fetch.read(&asked, NO_WAIT).await;
        values(&decode(&result[0]))
    }
}

async fn shut_down(agents: &[Arc<Agent>]) {
    for agent in agents {
        agent.shutdown().await;
    }
}

fn joining(group: &str, member_id: &str) -> JoinGroup {
    JoinGroup {
        group: group.into(),
        member_id: member_id.into(),
        client_id: "client".into(),
        session_timeout: 10_000,
        rebalance_timeout: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), Bytes::from_static(b"clicks"))],
        takes_member_id: true,
        ..JoinGroup::default()
    }
}

/// A member of a group of its own, with its share.
async fn member(agent: &Agent, group: &str) -> Joined {
    let refused = agent.groups.join(joining(group, "")).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::MemberIdRequired);
    let joined = agent.groups.join(joining(group, &refused.member_id)).await;
    let joined = joined.unwrap();
    assert_eq!(share(agent, group, &joined).await, Ok("all".into()));
    joined
}

async fn share(agent: &Agent, group: &str, joined: &Joined) -> Result<Bytes, ErrorCode> {
    let sync = SyncGroup {
        group: group.into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        assignments: vec![(joined.member_id.clone(), Bytes::from_static(b"all"))],
        ..SyncGroup::default()
    };
    agent
        .groups
        .sync(sync)
        .await
        .map(|synced| synced.assignment)
}

async fn beat(agent: &Agent, group: &str, joined: &Joined) -> Result<(), ErrorCode> {
    let heartbeat = Heartbeat {
        group: group.into(),
        generation: joined.generation,
        member_id: joined.member_id.clone(),
        instance_id: None,
    };
    agent.groups.heartbeat(&heartbeat).await
}

/// Commits for a member, or for one who assigns partitions to itself.
async fn commit(agent: &Agent, group: &str, joined: Option<&Joined>, offset: i64) -> ErrorCode {
    let committer = Committer {
        group: group.into(),
        generation: joined.map_or(-1, |joined| joined.generation),
        member_id: joined
            .map(|joined| joined.member_id.clone())
            .unwrap_or_default(),
        instance_id: None,
        takes_group_not_found: true,
        takes_epochs: true,
    };
    let partition = CommitPartition {
        partition: 0,
        offset,
        leader_epoch: 0,
        metadata: String::new(),
    };
    let topic = CommitTopic {
        topic: TopicRef::Name("clicks".into()),
        partitions: vec![partition],
    };
    agent.groups.commit(&committer, vec![topic]).await[0][0]
}

async fn committed(agent: &Agent, group: &str) -> Result<Option<i64>, ErrorCode> {
    let fetched = agent.groups.fetch_offsets(group, None, None).await?;
    Ok(fetched.first().map(|topic| topic.partitions[0].offset))
}

#[tokio::test]
async fn an_agent_that_starts_again_goes_on_where_it_stopped() {
    let cluster = Cluster::new().await;
    let inline = || cluster.metadata.read(State::inline_bytes);
    let config = || AgentConfig {
        identity: 4,
        ..AgentConfig::default()
    };
    let first = cluster.start(config()).await;
    let at = cluster.at(0);
    let id = first.producer_ids.next().await.unwrap();
    let produced = send(&first.produce.connect(), at, idempotent(&["a"], id, 0)).await;
    assert_eq!((produced.error, produced.base_offset), (ErrorCode::None, 0));
    assert!(inline() > 0);
    first.shutdown().await;
    assert_eq!(inline(), 0);

    let second = cluster.start(config()).await;
    assert_eq!(second.id(), first.id());
    assert!(second.origin().epoch > first.origin().epoch);
    let connection = second.produce.connect();
    // A retry of what the first one answered, then the next.
    for (value, sequence) in [("a", 0), ("b", 1)] {
        let sent = send(&connection, at, idempotent(&[value], id, sequence)).await;
        assert_eq!(sent.base_offset, i64::from(sequence));
    }
    assert_eq!(cluster.read_all(&second, 0).await, ["a", "b"]);
    second.shutdown().await;
}
