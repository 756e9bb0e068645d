//! What can go wrong with an agent as a whole.

use alluvium_cluster::ProposeError;
use alluvium_metadata::Outcome;

/// Why an agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The quorum did not take its registration.
    #[error("the agent could not register: {0}")]
    Register(#[from] ProposeError),
    /// The quorum refused its registration.
    #[error("the agent's registration was refused: {0:?}")]
    Refused(Outcome),
}
