//! Voters of the metadata quorum in Kafka's words: a number and a directory id.

use alluvium_cluster::{ChangeError, MembershipChange, ProposeError, VoterId};
use alluvium_protocol::messages::{Uuid, topic_id};
use alluvium_types::ErrorCode;

use super::RequestContext;

/// KRaft's name for the log of the metadata.
pub(super) const METADATA_TOPIC: &str = "__cluster_metadata";
/// KRaft's usual name for the listener of a controller.
pub(super) const LISTENER: &str = "CONTROLLER";

/// A voter's number.
pub(super) fn node_of(voter: VoterId) -> i32 {
    i32::try_from(voter.node()).unwrap_or(i32::MAX)
}

/// The directory id that stands for a voter: a node whose disk is new has another, as in KRaft.
pub(super) fn directory_of(voter: VoterId) -> Uuid {
    Uuid::from_bytes(voter.directory())
}

/// The voter that a request names.
///
/// # Errors
/// The directory id is not one of ours, or not of a node with this number.
pub(super) fn voter_of(node: i32, directory: Uuid) -> Result<VoterId, Failed> {
    match VoterId::of_directory(directory.to_bytes()) {
        Some(voter) if node_of(voter) == node => Ok(voter),
        _ => Err(Failed {
            code: ErrorCode::InvalidRequest,
            reason: format!(
                "node {node} has no directory {}; take the directory id from \
                 `kafka-metadata-quorum.sh describe --replication`, or use `alluvium cluster`",
                topic_id(directory)
            ),
        }),
    }
}

/// Parts of `host:port`, an address of version 6 without its brackets.
pub(super) fn host_and_port(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some((host, port.parse().ok()?))
}

/// Why a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failed {
    pub(super) code: ErrorCode,
    pub(super) reason: String,
}

impl From<ProposeError> for Failed {
    fn from(error: ProposeError) -> Self {
        Self {
            code: ErrorCode::RequestTimedOut,
            reason: error.to_string(),
        }
    }
}

/// Refuses a request that was meant for another cluster.
pub(super) fn check_cluster(context: &RequestContext, asked: Option<&str>) -> Result<(), Failed> {
    let own = context
        .agent
        .metadata
        .read(|state| state.cluster_id().map(|id| id.to_string()));
    match (asked, own) {
        (Some(asked), Some(own)) if asked != own => Err(Failed {
            code: ErrorCode::InconsistentClusterId,
            reason: format!("this is cluster {own}, not {asked}"),
        }),
        _ => Ok(()),
    }
}

/// Asks the quorum for a change and waits until it is made.
pub(super) async fn change(
    context: &RequestContext,
    change: MembershipChange,
) -> Result<(), Failed> {
    let changed = context.agent.metadata.change(change).await;
    changed.map_err(|error| Failed {
        code: match error {
            ChangeError::Refused(_) => ErrorCode::InvalidRequest,
            ChangeError::Unknown(_) => ErrorCode::RequestTimedOut,
        },
        reason: error.to_string(),
    })
}

/// One line for whoever looks at the log.
pub(super) fn log(context: &RequestContext, api: &'static str, node: i32, result: Option<&Failed>) {
    match result {
        None => tracing::info!(
            api,
            node,
            client_host = context.client_host,
            "quorum changed"
        ),
        Some(failed) => tracing::info!(
            api,
            node,
            code = failed.code.name(),
            reason = failed.reason,
            client_host = context.client_host,
            "refused"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_id_names_one_voter() {
        for voter in [VoterId(1), VoterId::new(u32::MAX, 7), VoterId::new(5, 1)] {
            let directory = directory_of(voter);
            assert_eq!(voter_of(node_of(voter), directory), Ok(voter));
            let other = voter_of(node_of(voter) + 1, directory).unwrap_err();
            assert_eq!(other.code, ErrorCode::InvalidRequest);
        }
        assert!(voter_of(1, Uuid::from_bytes([0; 16])).is_err());
    }

    #[test]
    fn addresses_are_parted() {
        assert_eq!(
            host_and_port("m1.example.org:9094"),
            Some(("m1.example.org", 9094))
        );
        assert_eq!(host_and_port("[::1]:9094"), Some(("::1", 9094)));
        assert_eq!(host_and_port("nowhere"), None);
    }
}
