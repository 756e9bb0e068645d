//! AddRaftVoter: a node is taken into the metadata quorum (KIP-853).

use std::time::Duration;

use alluvium_cluster::{MembershipChange, VoterStatus};
use alluvium_protocol::message;
use alluvium_protocol::messages::{AddRaftVoterRequest, AddRaftVoterResponse, Uuid};
use alluvium_types::ErrorCode;

use super::RequestContext;
use super::voters::{Failed, LISTENER, change, check_cluster, log, voter_of};

/// Bounds of the time that a client may have us wait.
const WAIT: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

pub(crate) async fn handle(
    context: &RequestContext,
    request: AddRaftVoterRequest,
) -> AddRaftVoterResponse {
    let millis = u64::try_from(request.timeout_ms).unwrap_or(0);
    let within = Duration::from_millis(millis).clamp(WAIT.0, WAIT.1);
    let result = tokio::time::timeout(within, add(context, &request))
        .await
        .unwrap_or_else(|_| {
            Err(Failed {
                code: ErrorCode::RequestTimedOut,
                reason: format!(
                    "the node was not taken in within {} ms; it may yet be",
                    within.as_millis()
                ),
            })
        });
    let failed = result.err();
    log(context, "AddRaftVoter", request.voter_id, failed.as_ref());
    message!(AddRaftVoterResponse {
        error_code: failed.as_ref().map_or(0, |failed| failed.code.code()),
        error_message: failed.map(|failed| failed.reason.into()),
    })
}

async fn add(context: &RequestContext, request: &AddRaftVoterRequest) -> Result<(), Failed> {
    check_cluster(context, request.cluster_id.as_deref())?;
    // Without a directory id it is whoever answers at the address.
    let voter = match request.voter_directory_id {
        directory if directory == Uuid::from_bytes([0; 16]) => None,
        directory => Some(voter_of(request.voter_id, directory)?),
    };
    let listeners = &request.listeners;
    let named = listeners
        .iter()
        .find(|listener| &*listener.name == LISTENER);
    let Some(listener) = named.or(listeners.first()) else {
        return Err(Failed {
            code: ErrorCode::InvalidRequest,
            reason: "the request names no listener of the node".to_owned(),
        });
    };
    let status = context.agent.metadata.status().await?;
    let present = |known: &&VoterStatus| known.votes && Some(known.id) == voter;
    if let Some(known) = status.voters.iter().find(present) {
        return Err(Failed {
            code: ErrorCode::DuplicateVoter,
            reason: format!("node {} is a voter already", known.id),
        });
    }
    let address = if listener.host.contains(':') {
        format!("[{}]:{}", listener.host, listener.port)
    } else {
        format!("{}:{}", listener.host, listener.port)
    };
    change(context, MembershipChange::Add { address, voter }).await
}
