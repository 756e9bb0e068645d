//! DeleteTopics, by name or (from version 6) by id.

use std::collections::HashSet;

use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::delete_topics_request::DeleteTopicState;
use alluvium_protocol::messages::delete_topics_response::DeletableTopicResult;
use alluvium_protocol::messages::{
    DeleteTopicsRequest, DeleteTopicsResponse, StrBytes, topic_id, uuid,
};
use alluvium_types::{ErrorCode, TopicId};
use futures::StreamExt;

use super::{RequestContext, refusal};

/// Topics of one request that are deleted at once.
const CONCURRENT: usize = 64;
/// Older clients do not know `TOPIC_DELETION_DISABLED`.
const FIRST_WITH_DISABLED: i16 = 3;

/// What a request names: a topic by either means, and the name as it was given.
struct Named {
    name: Option<StrBytes>,
    id: TopicId,
    fault: Option<Refusal>,
}

pub(crate) async fn handle(
    context: &RequestContext,
    request: DeleteTopicsRequest,
) -> DeleteTopicsResponse {
    let by_name = request.topic_names.into_iter().map(|name| Named {
        name: Some(name),
        id: TopicId::ZERO,
        fault: None,
    });
    let mut named: Vec<Named> = by_name.chain(request.topics.iter().map(by_state)).collect();
    let (mut names, mut ids) = (HashSet::new(), HashSet::new());
    for topic in &mut named {
        let (new, message) = match &topic.name {
            Some(name) => (names.insert(name.clone()), "Duplicate topic name."),
            None => (ids.insert(topic.id), "Duplicate topic id."),
        };
        if !new && topic.fault.is_none() {
            topic.fault = Some(refuse(ErrorCode::InvalidRequest, message));
        }
    }
    let responses = futures::stream::iter(named)
        .map(|topic| delete(context, topic))
        .buffered(CONCURRENT)
        .collect()
        .await;
    message!(DeleteTopicsResponse { responses })
}

fn by_state(state: &DeleteTopicState) -> Named {
    let id = topic_id(state.topic_id);
    let fault = match (&state.name, id) {
        (None, TopicId::ZERO) => Some("Neither topic name nor id were specified."),
        (Some(_), id) if id != TopicId::ZERO => {
            Some("You may not specify both topic name and topic id.")
        }
        _ => None,
    };
    let fault = fault.map(|message| refuse(ErrorCode::InvalidRequest, message));
    Named {
        name: state.name.clone(),
        id,
        fault,
    }
}

fn refuse(code: ErrorCode, message: &str) -> Refusal {
    Refusal {
        code,
        message: message.to_owned(),
    }
}

async fn delete(context: &RequestContext, named: Named) -> DeletableTopicResult {
    let mut result = message!(DeletableTopicResult {
        name: named.name.clone(),
        topic_id: uuid(named.id),
        error_message: None,
    });
    match find_and_delete(context, &named).await {
        Ok((name, id)) => {
            result.name = Some(name);
            result.topic_id = uuid(id);
        }
        Err(mut refused) => {
            if refused.code == ErrorCode::TopicDeletionDisabled
                && context.version < FIRST_WITH_DISABLED
            {
                refused.code = ErrorCode::InvalidRequest;
            }
            let thing = named
                .name
                .as_deref()
                .map_or_else(|| named.id.to_string(), str::to_owned);
            refusal::log(context, "DeleteTopics", &thing, &refused);
            result.error_code = refused.code.code();
            result.error_message = Some(refused.message.into());
        }
    }
    result
}

async fn find_and_delete(
    context: &RequestContext,
    named: &Named,
) -> Result<(StrBytes, TopicId), Refusal> {
    if let Some(fault) = &named.fault {
        return Err(fault.clone());
    }
    let agent = &context.agent;
    let found = agent.metadata.read(|state| {
        match &named.name {
            Some(name) => state.topic_by_name(name),
            None => state.topic(named.id),
        }
        .map(|topic| (StrBytes::from(topic.name.as_str()), topic.id))
    });
    let Some((name, id)) = found else {
        return Err(match named.name {
            Some(_) => refuse(
                ErrorCode::UnknownTopicOrPartition,
                "This server does not host this topic-partition.",
            ),
            None => refuse(
                ErrorCode::UnknownTopicId,
                "This server does not host this topic ID.",
            ),
        });
    };
    agent.topics.delete(&agent.metadata, id).await?;
    Ok((name, id))
}
