//! SyncGroup: the leader brings what it assigned, every member takes its share.

use alluvium_agent::groups::{SyncAnswer, SyncGroup};
use alluvium_protocol::message;
use alluvium_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use alluvium_types::ErrorCode;
use bytes::Bytes;
use tracing::{debug, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: SyncGroupRequest,
) -> SyncGroupResponse {
    let (group, member) = (request.group_id.clone(), request.member_id.clone());
    let answer = if names_protocol(context.version, &request) {
        context.agent.groups.sync(read(&request)).await
    } else {
        Err(ErrorCode::InconsistentGroupProtocol)
    };
    match answer {
        Err(code @ (ErrorCode::RebalanceInProgress | ErrorCode::NotCoordinator)) => {
            debug!(%group, %member, %code, "SyncGroup is in vain");
        }
        Err(code) => {
            warn!(%group, %member, %code, client = context.client_host, "SyncGroup refused");
        }
        Ok(_) => {}
    }
    respond(answer)
}

/// Since version 5 a member must say which protocol it takes the group to have (KIP-559).
fn names_protocol(version: i16, request: &SyncGroupRequest) -> bool {
    version < 5 || (request.protocol_type.is_some() && request.protocol_name.is_some())
}

fn read(request: &SyncGroupRequest) -> SyncGroup {
    // Copied, so that a group does not keep whole request frames alive.
    let assignments = request
        .assignments
        .iter()
        .map(|given| {
            (
                given.member_id.to_string(),
                Bytes::copy_from_slice(&given.assignment),
            )
        })
        .collect();
    SyncGroup {
        group: request.group_id.to_string(),
        generation: request.generation_id,
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        protocol_type: request.protocol_type.as_deref().map(str::to_owned),
        protocol: request.protocol_name.as_deref().map(str::to_owned),
        assignments,
    }
}

fn respond(answer: SyncAnswer) -> SyncGroupResponse {
    match answer {
        Err(code) => message!(SyncGroupResponse {
            error_code: code.code()
        }),
        Ok(synced) => message!(SyncGroupResponse {
            protocol_type: synced.protocol_type.map(Into::into),
            protocol_name: synced.protocol.map(Into::into),
            assignment: synced.assignment,
        }),
    }
}

#[cfg(test)]
mod tests {
    use alluvium_agent::groups::Synced;
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn every_answer_can_be_written_in_every_version() {
        let synced = Synced {
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            assignment: Bytes::from_static(b"a"),
        };
        for version in 0..=5 {
            encode(1, version, &respond(Ok(synced.clone()))).unwrap();
            encode(1, version, &respond(Err(ErrorCode::IllegalGeneration))).unwrap();
        }
    }
}
