//! ListOffsets: offsets by time, earliest, latest, and of the greatest timestamp.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use alluvium_agent::fetch::OffsetSpec;
use alluvium_protocol::message;
use alluvium_protocol::messages::list_offsets_request::ListOffsetsPartition;
use alluvium_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use alluvium_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse, StrBytes};
use alluvium_types::{ErrorCode, Millis, Offset, PartitionIndex, TopicId, TopicPartition};
use futures::StreamExt as _;

use super::RequestContext;
use super::leader_epoch::{self, LEADER_EPOCH};

/// Partitions of one request that are looked up at once: a timestamp may cost a read of the bucket.
const AT_ONCE: usize = 16;

/// Longest that a lookup may take when the client does not say (before version 10).
const PATIENCE: Duration = Duration::from_secs(30);

/// Offset and timestamp, -1 for none.
type Found = (Offset, Millis);

struct Lookup<'a> {
    context: &'a RequestContext,
    read_committed: bool,
    patience: Duration,
    /// Whether the view is known not to lag.
    is_current: bool,
    duplicates: HashSet<(StrBytes, PartitionIndex)>,
}

/// Answers partition by partition; one that fails does not hold up the others.
pub(crate) async fn handle(
    context: &RequestContext,
    request: ListOffsetsRequest,
) -> ListOffsetsResponse {
    let patience = match u64::try_from(request.timeout_ms) {
        Ok(millis) if context.version >= 10 && millis > 0 => Duration::from_millis(millis),
        _ => PATIENCE,
    };
    // One for all of them: from here on the view holds what was acknowledged before, anywhere.
    let is_current = match context.agent.current().await {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, client_host = context.client_host, "offsets cannot be listed now");
            false
        }
    };
    let lookup = Lookup {
        context,
        read_committed: request.isolation_level == 1,
        patience: patience.min(Duration::from_secs(300)),
        is_current,
        duplicates: duplicates(&request),
    };
    let mut topics = Vec::new();
    for topic in request.topics {
        let id = context
            .agent
            .metadata
            .read(|state| state.topic_by_name(&topic.name).map(|topic| topic.id));
        let (lookup, name) = (&lookup, &topic.name);
        let partitions = futures::stream::iter(topic.partitions)
            .map(|asked| async move { lookup.answer(name, id, &asked).await })
            .buffered(AT_ONCE)
            .collect()
            .await;
        topics.push(message!(ListOffsetsTopicResponse {
            name: topic.name,
            partitions
        }));
    }
    message!(ListOffsetsResponse { topics })
}

/// Partitions that a request names twice; Kafka refuses both.
fn duplicates(request: &ListOffsetsRequest) -> HashSet<(StrBytes, PartitionIndex)> {
    let mut seen: HashMap<(&StrBytes, PartitionIndex), bool> = HashMap::new();
    for topic in &request.topics {
        for partition in &topic.partitions {
            seen.entry((&topic.name, partition.partition_index))
                .and_modify(|twice| *twice = true)
                .or_insert(false);
        }
    }
    let twice = seen.into_iter().filter(|(_, twice)| *twice);
    twice
        .map(|((name, partition), _)| (name.clone(), partition))
        .collect()
}

impl Lookup<'_> {
    async fn answer(
        &self,
        name: &StrBytes,
        topic: Option<TopicId>,
        asked: &ListOffsetsPartition,
    ) -> ListOffsetsPartitionResponse {
        let found = self.find(name, topic, asked).await;
        if let Err(error) = found {
            tracing::debug!(
                topic = name.as_str(),
                partition = asked.partition_index,
                timestamp = asked.timestamp,
                %error,
                client_host = self.context.client_host,
                "ListOffsets refused"
            );
        }
        let (error, (offset, timestamp)) = match found {
            Ok(found) => (ErrorCode::None, found),
            Err(error) => (error, (-1, -1)),
        };
        message!(ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            error_code: error.code(),
            offset,
            timestamp,
            // Version 4 brought the field.
            leader_epoch: if offset >= 0 && self.context.version >= 4 {
                LEADER_EPOCH
            } else {
                -1
            },
        })
    }

    async fn find(
        &self,
        name: &StrBytes,
        topic: Option<TopicId>,
        asked: &ListOffsetsPartition,
    ) -> Result<Found, ErrorCode> {
        if self
            .duplicates
            .contains(&(name.clone(), asked.partition_index))
        {
            return Err(ErrorCode::InvalidRequest);
        }
        let spec = self.spec(asked.timestamp)?;
        if !self.is_current {
            return Err(ErrorCode::LeaderNotAvailable);
        }
        let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let partition = TopicPartition::new(topic, asked.partition_index);
        let agent = &self.context.agent;
        if agent
            .metadata
            .read(|state| state.partition(partition).is_none())
        {
            return Err(ErrorCode::UnknownTopicOrPartition);
        }
        leader_epoch::check(asked.current_leader_epoch)?;
        let Some(spec) = spec else {
            return Ok((-1, -1));
        };
        let lookup = agent
            .fetch
            .list_offset(partition, spec, self.read_committed);
        match tokio::time::timeout(self.patience, lookup).await {
            Ok(found) => found,
            Err(_) => Err(ErrorCode::RequestTimedOut),
        }
    }

    /// What a timestamp stands for; `None` where there is never an offset: nothing is "tiered" here.
    fn spec(&self, timestamp: Millis) -> Result<Option<OffsetSpec>, ErrorCode> {
        // The version from which on a special timestamp is known.
        let since = |version: i16, spec| {
            if self.context.version >= version {
                Ok(spec)
            } else {
                Err(ErrorCode::UnsupportedVersion)
            }
        };
        match timestamp {
            0.. => Ok(Some(OffsetSpec::Timestamp(timestamp))),
            -1 => Ok(Some(OffsetSpec::Latest)),
            -2 => Ok(Some(OffsetSpec::Earliest)),
            -3 => since(7, Some(OffsetSpec::MaxTimestamp)),
            -4 => since(8, Some(OffsetSpec::Earliest)),
            -5 => since(9, None),
            -6 => since(11, None),
            _ => Err(ErrorCode::UnsupportedVersion),
        }
    }
}
