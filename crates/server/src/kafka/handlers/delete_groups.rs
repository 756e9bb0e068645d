//! DeleteGroups: groups without members are forgotten, with their offsets.

use alluvium_protocol::message;
use alluvium_protocol::messages::delete_groups_response::DeletableGroupResult;
use alluvium_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse, StrBytes};
use alluvium_types::ErrorCode;
use futures::future::join_all;
use tracing::{info, warn};

use super::RequestContext;

pub(crate) async fn handle(
    context: &RequestContext,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    // Together, so that many groups are one write.
    let mut deletions = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        deletions.push(delete(context, group));
    }
    message!(DeleteGroupsResponse {
        results: join_all(deletions).await
    })
}

async fn delete(context: &RequestContext, group: StrBytes) -> DeletableGroupResult {
    let code = if context.agent.shares.has_members(&group) {
        ErrorCode::NonEmptyGroup
    } else {
        context.agent.groups.delete(&group).await
    };
    let client = &context.client_host;
    match code {
        ErrorCode::None => info!(%group, client, "group is deleted"),
        _ => warn!(%group, %code, client, "DeleteGroups refused for a group"),
    }
    message!(DeletableGroupResult {
        group_id: group,
        error_code: code.code()
    })
}

#[cfg(test)]
mod tests {
    use alluvium_protocol::response::encode;

    use super::*;

    #[test]
    fn the_answer_can_be_written_in_every_version() {
        let result = message!(DeletableGroupResult {
            group_id: "g".into(),
            error_code: ErrorCode::NonEmptyGroup.code(),
        });
        for version in 0..=2 {
            let results = vec![result.clone()];
            encode(1, version, &message!(DeleteGroupsResponse { results })).unwrap();
        }
    }
}
