//! One command, for whoever is told Kafka's codes.

use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{Command, Outcome};
use alluvium_types::ErrorCode;
use tokio::time::timeout;

/// Proposes a command and waits for its outcome; a refusal is told by its code.
///
/// # Errors
/// The refusal's code; `COORDINATOR_NOT_AVAILABLE` when the quorum does not answer in time: then it may have
/// been done all the same, and whoever asks again is told what it was told then.
pub(crate) async fn outcome(
    metadata: &Metadata,
    command: Command,
    within: Duration,
) -> Result<Outcome, ErrorCode> {
    match timeout(within, metadata.propose(command)).await {
        Ok(Ok(applied)) => match applied.outcome {
            Outcome::Refused(refusal) => Err(refusal.code),
            outcome => Ok(outcome),
        },
        Ok(Err(error)) => {
            tracing::debug!(%error, "a command was not done, or it is not known");
            Err(ErrorCode::CoordinatorNotAvailable)
        }
        Err(_) => Err(ErrorCode::CoordinatorNotAvailable),
    }
}
