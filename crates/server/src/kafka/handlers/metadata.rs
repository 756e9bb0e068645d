//! Metadata: agents, topics and partitions; topics are made on first use. Clients are sent to agents
//! of their own zone where there are any.

use std::collections::HashMap;

use alluvium_agent::topics::{NewTopic, check_name, is_internal};
use alluvium_metadata::{Partition, Refusal, State, Topic};
use alluvium_protocol::message;
use alluvium_protocol::messages::metadata_request::MetadataRequestTopic;
use alluvium_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use alluvium_protocol::messages::{MetadataRequest, MetadataResponse, StrBytes, topic_id, uuid};
use alluvium_types::limits::PARTITIONS_PER_REQUEST;
use alluvium_types::{ErrorCode, TopicId};
use futures::StreamExt;

use super::authorized_operations::{CLUSTER, NOT_ASKED, TOPIC};
use super::hints::{Hints, controller};
use super::{RequestContext, refusal};

/// Topics of one request that are made at once.
const CONCURRENT: usize = 64;
/// The version in which "no topics" ceased to mean "all topics".
const FIRST_WITH_NONE: i16 = 1;
/// The version in which an answer may leave out a topic's name.
const FIRST_WITHOUT_NAME: i16 = 12;

pub(crate) async fn handle(context: &RequestContext, request: MetadataRequest) -> MetadataResponse {
    let wanted = match request.topics {
        Some(topics) if topics.is_empty() && context.version < FIRST_WITH_NONE => None,
        topics => topics,
    };
    // Made through another agent just now, perhaps.
    let is_certain =
        !is_unknown(context, wanted.as_deref()) || context.agent.catch_up().await.is_ok();
    let refusals = match &wanted {
        Some(topics) if request.allow_auto_topic_creation => create_missing(context, topics).await,
        _ => HashMap::new(),
    };
    let agent = &context.agent;
    let mut response = message!(MetadataResponse {
        cluster_authorized_operations: NOT_ASKED,
    });
    if request.include_cluster_authorized_operations {
        response.cluster_authorized_operations = CLUSTER;
    }
    let operations = if request.include_topic_authorized_operations {
        TOPIC
    } else {
        NOT_ASKED
    };
    agent.metadata.read(|state| {
        let hints = Hints::of(state, context);
        response.controller_id = controller(state, context);
        response.cluster_id = state.cluster_id().map(|id| id.to_string().into());
        response.brokers = state.live_agents().map(broker).collect();
        response.topics = match &wanted {
            None => state
                .topics()
                .map(|topic| known(topic, &hints, operations))
                .collect(),
            Some(topics) => topics
                .iter()
                .map(|wanted| one(state, &hints, wanted, operations, &refusals))
                .map(|topic| if is_certain { topic } else { unasked(topic) })
                .collect(),
        };
    });
    if context.version < FIRST_WITHOUT_NAME {
        for topic in &mut response.topics {
            topic.name.get_or_insert_default();
        }
    }
    response
}

/// Whether the view lacks a topic that is asked for. When all are, nobody can tell.
fn is_unknown(context: &RequestContext, topics: Option<&[MetadataRequestTopic]>) -> bool {
    let Some(topics) = topics else { return true };
    context
        .agent
        .metadata
        .read(|state| topics.iter().any(|topic| find(state, topic).is_none()))
}

fn find<'a>(state: &'a State, wanted: &MetadataRequestTopic) -> Option<&'a Topic> {
    match &wanted.name {
        Some(name) => state.topic_by_name(name),
        None => state.topic(topic_id(wanted.topic_id)),
    }
}

/// Makes topics that are named and missing; what was refused, by name.
async fn create_missing(
    context: &RequestContext,
    topics: &[MetadataRequestTopic],
) -> HashMap<StrBytes, Refusal> {
    let agent = &context.agent;
    let (missing, room) = agent.metadata.read(|state| {
        if !agent.topics.broker_bool(state, "auto.create.topics.enable") {
            return (Vec::new(), 0);
        }
        let mut missing: Vec<StrBytes> = topics
            .iter()
            .filter_map(|topic| topic.name.clone())
            .filter(|name| !is_internal(name) && check_name(name).is_ok())
            .filter(|name| state.topic_by_name(name).is_none())
            .collect();
        missing.sort_unstable();
        missing.dedup();
        // One request does not fill the cluster; clients ask again for the rest.
        let each = agent
            .topics
            .partitions_wanted(state, &NewTopic::named(""))
            .max(1);
        (
            missing,
            usize::try_from(PARTITIONS_PER_REQUEST / each)
                .unwrap_or(0)
                .max(1),
        )
    });
    futures::stream::iter(missing)
        .take(room)
        .map(|name| async move {
            let created = agent
                .topics
                .auto_create(&agent.metadata, agent.clock.now(), &name)
                .await;
            let refused = created.err()?;
            refusal::log(context, "Metadata", &name, &refused);
            Some((name, refused))
        })
        .buffer_unordered(CONCURRENT)
        .filter_map(std::future::ready)
        .collect()
        .await
}

fn broker(agent: &alluvium_metadata::Agent) -> MetadataResponseBroker {
    message!(MetadataResponseBroker {
        node_id: agent.id.0,
        host: agent.host.as_str().into(),
        port: i32::from(agent.port),
        rack: agent.zone.as_deref().map(StrBytes::from),
    })
}

fn one(
    state: &State,
    hints: &Hints,
    wanted: &MetadataRequestTopic,
    operations: i32,
    refusals: &HashMap<StrBytes, Refusal>,
) -> MetadataResponseTopic {
    if let Some(topic) = find(state, wanted) {
        return known(topic, hints, operations);
    }
    let code = match &wanted.name {
        None => ErrorCode::UnknownTopicId,
        Some(name) => match refusals.get(name) {
            Some(refusal) => shown(refusal.code),
            None if check_name(name).is_err() => ErrorCode::InvalidTopic,
            None => ErrorCode::UnknownTopicOrPartition,
        },
    };
    message!(MetadataResponseTopic {
        error_code: code.code(),
        name: wanted.name.clone(),
        topic_id: uuid(if wanted.name.is_some() {
            TopicId::ZERO
        } else {
            topic_id(wanted.topic_id)
        }),
        is_internal: wanted.name.as_deref().is_some_and(is_internal),
        topic_authorized_operations: NOT_ASKED,
    })
}

/// The quorum did not say whether there is such a topic: the client asks again.
fn unasked(mut topic: MetadataResponseTopic) -> MetadataResponseTopic {
    let missing = [
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::UnknownTopicId,
    ];
    if missing.iter().any(|code| code.code() == topic.error_code) {
        topic.error_code = ErrorCode::LeaderNotAvailable.code();
    }
    topic
}

/// The quorum's troubles are told in the code that clients expect of a metadata answer.
fn shown(code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::NotController | ErrorCode::RequestTimedOut => ErrorCode::LeaderNotAvailable,
        code => code,
    }
}

fn known(topic: &Topic, hints: &Hints, operations: i32) -> MetadataResponseTopic {
    let partitions = (0..Partition::count(&topic.partitions)).map(|partition| {
        let replicas = hints.replicas(topic, partition);
        message!(MetadataResponsePartition {
            error_code: hints.error().code(),
            partition_index: partition,
            leader_id: replicas.first().copied().unwrap_or(-1),
            leader_epoch: 0,
            isr_nodes: replicas.clone(),
            replica_nodes: replicas,
        })
    });
    message!(MetadataResponseTopic {
        name: Some(topic.name.as_str().into()),
        topic_id: uuid(topic.id),
        is_internal: is_internal(&topic.name),
        partitions: partitions.collect(),
        topic_authorized_operations: operations,
    })
}
