//! One listener for the other processes of the cluster, two that answer there: the metadata node and
//! the agent of this process. Each has its own lanes.

use std::fmt;
use std::sync::{Arc, OnceLock};

use alluvium_transport::{Answers, Lane, Refused, Service};
use async_trait::async_trait;
use bytes::Bytes;

/// Passes each call to whom it is for. The agent comes later than the metadata node, which it needs
/// to register; until then its callers are refused and go elsewhere.
#[derive(Default)]
pub(crate) struct Switchboard {
    metadata: OnceLock<Arc<dyn Service>>,
    agent: OnceLock<Arc<dyn Service>>,
}

impl fmt::Debug for Switchboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switchboard")
            .field("metadata", &self.metadata.get().is_some())
            .field("agent", &self.agent.get().is_some())
            .finish()
    }
}

impl Switchboard {
    /// From now on the metadata node answers. The first one stays.
    pub(crate) fn mount_metadata(&self, service: Arc<dyn Service>) {
        let _ = self.metadata.set(service);
    }

    /// From now on the agent answers. The first one stays.
    pub(crate) fn mount_agent(&self, service: Arc<dyn Service>) {
        let _ = self.agent.set(service);
    }

    fn service(&self, lane: Lane) -> Result<&Arc<dyn Service>, Refused> {
        let (service, missing) = match lane {
            Lane::Peers => (&self.agent, "no agent serves here (yet)"),
            Lane::Control | Lane::Log | Lane::Commands | Lane::Bulk => {
                (&self.metadata, "this is an agent, not a metadata node")
            }
        };
        service.get().ok_or_else(|| Refused(missing.to_owned()))
    }
}

#[async_trait]
impl Service for Switchboard {
    async fn call(&self, lane: Lane, request: Bytes) -> Result<Bytes, Refused> {
        self.service(lane)?.call(lane, request).await
    }

    async fn open(&self, lane: Lane, request: Bytes) -> Result<Answers, Refused> {
        self.service(lane)?.open(lane, request).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Named(&'static str);

    #[async_trait]
    impl Service for Named {
        async fn call(&self, _lane: Lane, _request: Bytes) -> Result<Bytes, Refused> {
            Ok(Bytes::from_static(self.0.as_bytes()))
        }

        async fn open(&self, _lane: Lane, _request: Bytes) -> Result<Answers, Refused> {
            Err(Refused(self.0.to_owned()))
        }
    }

    #[tokio::test]
    async fn each_lane_finds_its_own_and_who_is_not_there_refuses() {
        let board = Switchboard::default();
        let ask = async |lane| board.call(lane, Bytes::new()).await;
        for lane in [Lane::Control, Lane::Peers] {
            ask(lane).await.unwrap_err();
        }
        board.mount_metadata(Arc::new(Named("metadata")));
        assert_eq!(ask(Lane::Bulk).await.unwrap(), "metadata");
        let refused = ask(Lane::Peers).await.unwrap_err().to_string();
        assert!(refused.contains("no agent"), "{refused}");
        board.mount_agent(Arc::new(Named("agent")));
        assert_eq!(ask(Lane::Peers).await.unwrap(), "agent");
        assert_eq!(ask(Lane::Commands).await.unwrap(), "metadata");
    }
}
