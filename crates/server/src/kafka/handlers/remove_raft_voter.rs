//! RemoveRaftVoter: a voter leaves the metadata quorum (KIP-853).

use alluvium_cluster::MembershipChange;
use alluvium_protocol::message;
use alluvium_protocol::messages::{RemoveRaftVoterRequest, RemoveRaftVoterResponse};
use alluvium_types::ErrorCode;

use super::RequestContext;
use super::voters::{Failed, change, check_cluster, log, voter_of};

pub(crate) async fn handle(
    context: &RequestContext,
    request: RemoveRaftVoterRequest,
) -> RemoveRaftVoterResponse {
    let failed = remove(context, &request).await.err();
    log(
        context,
        "RemoveRaftVoter",
        request.voter_id,
        failed.as_ref(),
    );
    message!(RemoveRaftVoterResponse {
        error_code: failed.as_ref().map_or(0, |failed| failed.code.code()),
        error_message: failed.map(|failed| failed.reason.into()),
    })
}

async fn remove(context: &RequestContext, request: &RemoveRaftVoterRequest) -> Result<(), Failed> {
    check_cluster(context, request.cluster_id.as_deref())?;
    let voter = voter_of(request.voter_id, request.voter_directory_id)?;
    let status = context.agent.metadata.status().await?;
    if !status.voters.iter().any(|known| known.id == voter) {
        return Err(Failed {
            code: ErrorCode::VoterNotFound,
            reason: format!("node {voter} is no voter"),
        });
    }
    change(context, MembershipChange::Remove { voter }).await
}
