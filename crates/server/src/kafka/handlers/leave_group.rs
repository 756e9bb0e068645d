//! LeaveGroup: members go, or are sent away by an administrator (KIP-345).

use alluvium_agent::groups::Leaver;
use alluvium_protocol::message;
use alluvium_protocol::messages::leave_group_response::MemberResponse;
use alluvium_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use alluvium_types::ErrorCode;
use tracing::warn;

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: LeaveGroupRequest,
) -> LeaveGroupResponse {
    let leavers = read(context.version, &request);
    let codes = context
        .agent
        .groups
        .leave(&request.group_id, &leavers)
        .await;
    let group = &request.group_id;
    let client = &context.client_host;
    match &codes {
        Err(code) => warn!(%group, %code, client, "LeaveGroup refused"),
        Ok(codes) => {
            let refused = leavers
                .iter()
                .zip(codes)
                .find(|(_, code)| **code != ErrorCode::None);
            if let Some((leaver, code)) = refused {
                let member = &leaver.member_id;
                warn!(%group, member, %code, client, "LeaveGroup refused for a member");
            }
        }
    }
    respond(context.version, &leavers, codes)
}

/// Before version 3 a member could only speak for itself.
fn read(version: i16, request: &LeaveGroupRequest) -> Vec<Leaver> {
    if version < 3 {
        return vec![Leaver {
            member_id: request.member_id.to_string(),
            ..Leaver::default()
        }];
    }
    request
        .members
        .iter()
        .map(|member| Leaver {
            member_id: member.member_id.to_string(),
            instance_id: member.group_instance_id.as_deref().map(str::to_owned),
            reason: member.reason.as_deref().map(str::to_owned),
        })
        .collect()
}

fn respond(
    version: i16,
    leavers: &[Leaver],
    codes: Result<Vec<ErrorCode>, ErrorCode>,
) -> LeaveGroupResponse {
    let codes = match codes {
        Err(code) => {
            return message!(LeaveGroupResponse {
                error_code: code.code()
            });
        }
        Ok(codes) if version < 3 => {
            let code = codes.first().copied().unwrap_or_default();
            return message!(LeaveGroupResponse {
                error_code: code.code()
            });
        }
        Ok(codes) => codes,
    };
    let members = leavers
        .iter()
        .zip(codes)
        .map(|(leaver, code)| {
            message!(MemberResponse {
                member_id: leaver.member_id.as_str().into(),
                group_instance_id: leaver.instance_id.as_deref().map(Into::into),
                error_code: code.code(),
            })
        })
        .collect();
    message!(LeaveGroupResponse { members })
}

#[cfg(test)]
mod tests {
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn every_answer_can_be_written_in_every_version() {
        let leavers = [Leaver {
            member_id: "m".into(),
            ..Leaver::default()
        }];
        for version in 0..=5 {
            let codes = Ok(vec![ErrorCode::UnknownMemberId]);
            let response = respond(version, &leavers, codes);
            assert_eq!(response.error_code != 0, version < 3);
            encode(1, version, &response).unwrap();
            encode(
                1,
                version,
                &respond(version, &leavers, Err(ErrorCode::InvalidGroupId)),
            )
            .unwrap();
        }
    }
}
