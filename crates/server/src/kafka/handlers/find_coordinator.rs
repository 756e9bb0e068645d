//! FindCoordinator: which agent looks after a group, or a transactional id.

use alluvium_metadata::State;
use alluvium_protocol::message;
use alluvium_protocol::messages::find_coordinator_response::Coordinator;
use alluvium_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};
use alluvium_types::ErrorCode;
use tracing::warn;

use super::RequestContext;

/// The first version that asks for several keys at once.
const BATCHED: i16 = 4;

const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;

/// Where clients find a node.
#[derive(Clone, Debug)]
struct Node {
    id: i32,
    host: String,
    port: u16,
}

/// Why there is no coordinator for a key.
type Refusal = (ErrorCode, String);

pub(crate) async fn handle(
    context: &RequestContext,
    request: FindCoordinatorRequest,
) -> FindCoordinatorResponse {
    let find = |key: StrBytes| {
        let node = |group: &str| {
            context
                .agent
                .metadata
                .read(|state| coordinator_of(state, group))
        };
        let found = find(&key, request.key_type, node);
        if let Err((code, reason)) = &found {
            let client = &context.client_host;
            warn!(%key, %code, client, reason, "FindCoordinator refused for a key");
        }
        (key, found)
    };
    if context.version >= BATCHED {
        let coordinators = request.coordinator_keys.into_iter().map(find);
        return message!(FindCoordinatorResponse {
            coordinators: coordinators
                .map(|(key, found)| coordinator(key, found))
                .collect(),
        });
    }
    single(find(request.key).1)
}

/// The agent that is to coordinate a group, as the view says. Should that be out of date, the agent
/// named sends the client back here.
fn coordinator_of(state: &State, group: &str) -> Option<Node> {
    let agent = state.agent(state.coordinator_of(group)?)?;
    Some(Node {
        id: agent.id.0,
        host: agent.host.clone(),
        port: agent.port,
    })
}

fn find(key: &str, key_type: i8, node: impl FnOnce(&str) -> Option<Node>) -> Result<Node, Refusal> {
    // A retriable code would keep clients waiting for what does not come.
    let unsupported = |what: &str| {
        Err((
            ErrorCode::UnsupportedVersion,
            format!("{what} are not supported yet"),
        ))
    };
    match key_type {
        GROUP if key.is_empty() => Err((
            ErrorCode::InvalidGroupId,
            "the group id is empty".to_owned(),
        )),
        TRANSACTION if key.is_empty() => Err((
            ErrorCode::InvalidRequest,
            "the transactional id is empty".to_owned(),
        )),
        GROUP | TRANSACTION => node(key).ok_or_else(|| {
            (
                ErrorCode::CoordinatorNotAvailable,
                "no agent is live".to_owned(),
            )
        }),
        SHARE => unsupported("share groups"),
        _ => Err((
            ErrorCode::InvalidRequest,
            format!("key type {key_type} is not known"),
        )),
    }
}

fn coordinator(key: StrBytes, found: Result<Node, Refusal>) -> Coordinator {
    match found {
        Ok(node) => message!(Coordinator {
            key,
            node_id: node.id,
            host: node.host.as_str().into(),
            port: i32::from(node.port),
            error_message: None,
        }),
        Err((code, reason)) => message!(Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: Some(reason.into()),
        }),
    }
}

fn single(found: Result<Node, Refusal>) -> FindCoordinatorResponse {
    match found {
        Ok(node) => message!(FindCoordinatorResponse {
            node_id: node.id,
            host: node.host.as_str().into(),
            port: i32::from(node.port),
            error_message: None,
        }),
        Err((code, reason)) => message!(FindCoordinatorResponse {
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: Some(reason.into()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn groups_and_transactional_ids_are_found_in_every_version() {
        let node = |_: &str| {
            Some(Node {
                id: 1,
                host: "h".into(),
                port: 9092,
            })
        };
        assert_eq!(find("g", GROUP, node).unwrap().port, 9092);
        let code = |key, key_type| find(key, key_type, node).unwrap_err().0;
        assert_eq!(find("t", TRANSACTION, node).unwrap().port, 9092);
        assert_eq!(code("", TRANSACTION), ErrorCode::InvalidRequest);
        assert_eq!(code("s", SHARE), ErrorCode::UnsupportedVersion);
        assert_eq!(code("t", 9), ErrorCode::InvalidRequest);
        assert_eq!(code("", GROUP), ErrorCode::InvalidGroupId);
        let nobody = find("g", GROUP, |_| None).unwrap_err();
        assert_eq!(nobody.0, ErrorCode::CoordinatorNotAvailable);
        for version in 0..=6 {
            for key_type in [GROUP, TRANSACTION, SHARE] {
                let found = find("g", key_type, node);
                let response = if version < BATCHED {
                    single(found)
                } else {
                    let coordinators = vec![coordinator("g".into(), found)];
                    message!(FindCoordinatorResponse { coordinators })
                };
                encode(1, version, &response).unwrap();
            }
        }
    }
}
