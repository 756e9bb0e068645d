//! DescribeTopicPartitions (KIP-966): topics in pages of bounded size.

use alluvium_agent::topics::{check_name, is_internal};
use alluvium_metadata::{Partition, State, Topic};
use alluvium_protocol::message;
use alluvium_protocol::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use alluvium_protocol::messages::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, uuid,
};
use alluvium_types::{ErrorCode, PartitionIndex};

use super::RequestContext;
use super::authorized_operations::TOPIC;
use super::hints::Hints;

/// An answer under construction.
struct Page<'a> {
    hints: Hints<'a>,
    /// Partitions that still fit.
    room: PartitionIndex,
    topics: Vec<DescribeTopicPartitionsResponseTopic>,
    next: Option<Cursor>,
}

pub(crate) async fn handle(
    context: &RequestContext,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let agent = &context.agent;
    let (start, first) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_str(), cursor.partition_index.max(0)),
        None => ("", 0),
    };
    let mut names: Vec<&str> = request
        .topics
        .iter()
        .map(|topic| topic.name.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    names.retain(|name| *name >= start);
    let is_unknown = |state: &State| names.iter().any(|name| find(state, name).is_none());
    if request.topics.is_empty() || agent.metadata.read(is_unknown) {
        // Made through another agent just now, perhaps.
        let _ = agent.catch_up().await;
    }
    let page = agent.metadata.read(|state| {
        let most = agent
            .topics
            .broker_int(state, "max.request.partition.size.limit");
        let most = PartitionIndex::try_from(most).unwrap_or(PartitionIndex::MAX);
        let room = match request.response_partition_limit {
            limit if limit > 0 => limit.min(most),
            _ => most,
        };
        let mut page = Page {
            hints: Hints::of(state, context),
            room,
            topics: Vec::new(),
            next: None,
        };
        if request.topics.is_empty() {
            // A topic that was deleted between two pages is passed over.
            let topics = state.topics().filter(|topic| topic.name.as_str() >= start);
            page.fill(
                topics.map(|topic| (topic.name.as_str(), Some(topic))),
                start,
                first,
            );
        } else {
            let topics = names.iter().map(|name| (*name, find(state, name)));
            page.fill(topics, start, first);
        }
        page
    });
    message!(DescribeTopicPartitionsResponse {
        topics: page.topics,
        next_cursor: page.next
    })
}

fn find<'a>(state: &'a State, name: &str) -> Option<&'a Topic> {
    state.topic_by_name(name)
}

impl Page<'_> {
    fn fill<'a>(
        &mut self,
        topics: impl Iterator<Item = (&'a str, Option<&'a Topic>)>,
        start: &str,
        first: PartitionIndex,
    ) {
        for (name, topic) in topics {
            let from = if name == start { first } else { 0 };
            if self.room == 0 {
                self.next = Some(cursor(name, from));
                return;
            }
            match topic {
                Some(topic) => self.add(topic, from),
                None => self.topics.push(missing(name)),
            }
            if self.next.is_some() {
                return;
            }
        }
    }

    fn add(&mut self, topic: &Topic, from: PartitionIndex) {
        let count = Partition::count(&topic.partitions);
        let until = count.min(from.saturating_add(self.room));
        let partitions = (from..until)
            .map(|partition| self.partition(topic, partition))
            .collect();
        self.topics
            .push(message!(DescribeTopicPartitionsResponseTopic {
                name: Some(topic.name.as_str().into()),
                topic_id: uuid(topic.id),
                is_internal: is_internal(&topic.name),
                partitions,
                topic_authorized_operations: TOPIC,
            }));
        self.room -= (until - from).max(0);
        if until < count {
            self.next = Some(cursor(&topic.name, until));
        }
    }

    fn partition(
        &self,
        topic: &Topic,
        partition: PartitionIndex,
    ) -> DescribeTopicPartitionsResponsePartition {
        let replicas = self.hints.replicas(topic, partition);
        message!(DescribeTopicPartitionsResponsePartition {
            error_code: self.hints.error().code(),
            partition_index: partition,
            leader_id: replicas.first().copied().unwrap_or(-1),
            leader_epoch: 0,
            isr_nodes: replicas.clone(),
            replica_nodes: replicas,
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
        })
    }
}

fn cursor(name: &str, partition: PartitionIndex) -> Cursor {
    message!(Cursor {
        topic_name: name.into(),
        partition_index: partition
    })
}

fn missing(name: &str) -> DescribeTopicPartitionsResponseTopic {
    let code = match check_name(name) {
        Ok(()) => ErrorCode::UnknownTopicOrPartition,
        Err(refusal) => refusal.code,
    };
    message!(DescribeTopicPartitionsResponseTopic {
        error_code: code.code(),
        name: Some(name.into()),
    })
}
