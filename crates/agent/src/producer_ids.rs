//! Producer ids, taken from the quorum in blocks (as KIP-730 does).

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_types::ProducerId;

/// This agent's block of producer ids.
#[derive(Debug)]
pub struct ProducerIds {}

impl ProducerIds {
    pub(crate) fn new(metadata: Metadata) -> Self {
        let _ = metadata;
        todo!()
    }

    /// An id that nobody had before.
    ///
    /// # Errors
    /// The quorum is not available.
    pub async fn next(&self) -> Result<ProducerId, ProposeError> {
        todo!()
    }
}
