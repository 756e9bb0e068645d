//! Producer ids, taken from the quorum in blocks (as KIP-730 does).

use std::ops::Range;

use tokio::sync::Mutex;

use alluvium_cluster::{Metadata, ProposeError};
use alluvium_metadata::{Command, Outcome};
use alluvium_types::ProducerId;

/// Ids of one block, as many as Kafka's brokers take.
const BLOCK: u32 = 1000;

/// This agent's block of producer ids.
#[derive(Debug)]
pub struct ProducerIds {
    metadata: Metadata,
    /// Held while a block is fetched, so that many who ask at once fetch one.
    block: Mutex<Range<ProducerId>>,
}

impl ProducerIds {
    pub(crate) fn new(metadata: Metadata) -> Self {
        Self {
            metadata,
            block: Mutex::new(0..0),
        }
    }

    /// An id that nobody had before.
    ///
    /// # Errors
    /// The quorum is not available.
    pub async fn next(&self) -> Result<ProducerId, ProposeError> {
        let mut block = self.block.lock().await;
        if let Some(id) = block.next() {
            return Ok(id);
        }
        let command = Command::AllocateProducerIds { count: BLOCK };
        match self.metadata.propose(command).await?.outcome {
            Outcome::ProducerIds(first) => {
                *block = first..first.saturating_add(ProducerId::from(BLOCK));
                block
                    .next()
                    .ok_or_else(|| unavailable("producer ids are used up".to_owned()))
            }
            other => Err(unavailable(format!(
                "no producer ids were given: {other:?}"
            ))),
        }
    }
}

fn unavailable(reason: String) -> ProposeError {
    tracing::error!("{reason}");
    ProposeError::Unavailable(reason)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[tokio::test]
    async fn no_id_is_given_twice_within_a_block_or_across_agents() {
        let metadata = Metadata::in_memory();
        let agents = [
            ProducerIds::new(metadata.clone()),
            ProducerIds::new(metadata),
        ];
        let mut given = BTreeSet::new();
        for _ in 0..1500 {
            for agent in &agents {
                assert!(given.insert(agent.next().await.unwrap()));
            }
        }
        assert!(given.first().unwrap() >= &0);
    }
}
