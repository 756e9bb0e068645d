//! JoinGroup: a member asks to be part of the next generation of its group, and waits for it.

use alluvium_agent::groups::{JoinAnswer, JoinGroup};
use alluvium_protocol::message;
use alluvium_protocol::messages::join_group_response::JoinGroupResponseMember;
use alluvium_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use alluvium_types::ErrorCode;
use bytes::Bytes;
use tracing::{debug, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: JoinGroupRequest,
) -> JoinGroupResponse {
    let group = request.group_id.clone();
    let answer = context.agent.groups.join(read(context, request)).await;
    if let Err(refused) = &answer {
        let (code, member) = (refused.code, &refused.member_id);
        match code {
            ErrorCode::MemberIdRequired
            | ErrorCode::RebalanceInProgress
            | ErrorCode::NotCoordinator => {
                debug!(%group, member, %code, "JoinGroup is to be repeated");
            }
            _ => warn!(%group, member, %code, client = context.client_host, "JoinGroup refused"),
        }
    }
    respond(context.version, answer)
}

fn read(context: &RequestContext, request: JoinGroupRequest) -> JoinGroup {
    // Copied, so that a group does not keep whole request frames alive.
    let protocols = request
        .protocols
        .iter()
        .map(|known| {
            (
                known.name.to_string(),
                Bytes::copy_from_slice(&known.metadata),
            )
        })
        .collect();
    JoinGroup {
        group: request.group_id.to_string(),
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_deref().map(str::to_owned),
        client_id: context.client_id.clone(),
        client_host: context.client_host.clone(),
        session_timeout: request.session_timeout_ms,
        rebalance_timeout: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type.to_string(),
        protocols,
        takes_member_id: context.version >= 4,
        takes_skip_assignment: context.version >= 9,
        reason: request.reason.as_deref().map(str::to_owned),
    }
}

fn respond(version: i16, answer: JoinAnswer) -> JoinGroupResponse {
    // Before version 7 "none" was an empty name.
    let nothing = (version < 7).then(Default::default);
    let joined = match answer {
        Ok(joined) => joined,
        Err(refused) => {
            return message!(JoinGroupResponse {
                error_code: refused.code.code(),
                member_id: refused.member_id.into(),
                protocol_name: nothing,
            });
        }
    };
    let members = joined
        .members
        .into_iter()
        .map(|member| {
            message!(JoinGroupResponseMember {
                member_id: member.member_id.into(),
                group_instance_id: member.instance_id.map(Into::into),
                metadata: member.metadata,
            })
        })
        .collect();
    message!(JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: joined.protocol_type.map(Into::into),
        protocol_name: joined.protocol.map(Into::into).or(nothing),
        leader: joined.leader.into(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member_id.into(),
        members,
    })
}

#[cfg(test)]
mod tests {
    use alluvium_agent::groups::{JoinRefused, Joined, JoinedMember};
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn every_answer_can_be_written_in_every_version() {
        let code = ErrorCode::UnknownMemberId;
        let member = JoinedMember {
            member_id: "m".into(),
            instance_id: Some("i".into()),
            metadata: Bytes::from_static(b"s"),
        };
        let joined = Joined {
            generation: 3,
            protocol_type: Some("consumer".into()),
            protocol: Some("range".into()),
            leader: "m".into(),
            skip_assignment: false,
            member_id: "m".into(),
            members: vec![member],
        };
        for version in 0..=9 {
            let refused = Err(JoinRefused {
                code,
                member_id: "m".into(),
            });
            encode(1, version, &respond(version, refused)).unwrap();
            encode(1, version, &respond(version, Ok(joined.clone()))).unwrap();
            let bare = Joined {
                protocol: None,
                protocol_type: None,
                ..joined.clone()
            };
            encode(1, version, &respond(version, Ok(bare))).unwrap();
        }
    }
}
