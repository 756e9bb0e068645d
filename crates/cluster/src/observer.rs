//! The view of a process without a voter.

use std::sync::Arc;

use alluvium_storage::watch;
use tokio::task::JoinHandle;

use alluvium_transport::Transport;

use crate::client::Metadata;
use crate::leader::LeaderClient;
use crate::node::StartError;
use crate::view::{Current, View};

mod arriving;
mod follow;

use follow::Follower;

/// Where an observer finds the quorum.
#[derive(Clone, Debug)]
pub struct ObserverConfig {
    /// Cluster addresses of metadata nodes, `host:port`: some that are reachable when it starts. It
    /// hears of the others.
    pub nodes: Vec<String>,
}

/// Follows the quorum's log and holds the whole state, as voters do, in memory only. Dropped, it
/// stops.
#[derive(Debug)]
pub struct Observer {
    metadata: Metadata,
    stopped: watch::Receiver<Option<String>>,
    following: JoinHandle<()>,
}

impl Observer {
    /// Subscribes and waits until the view is as fresh as the node's that serves it. Waits for a
    /// quorum as long as it takes: bound it, or drop it.
    ///
    /// # Errors
    /// No node is configured, or what the quorum says cannot be read by this release.
    pub async fn start(
        config: ObserverConfig,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, StartError> {
        if config.nodes.is_empty() {
            return Err(StartError(
                "no metadata node is configured: set cluster.nodes".to_owned(),
            ));
        }
        let view = Arc::new(View::new(Current::default()));
        let leader = Arc::new(LeaderClient::new(
            transport,
            Arc::clone(&view),
            config.nodes,
            None,
        ));
        let (stopping, stopped) = watch::channel(None);
        let (fresh, mut is_fresh) = watch::channel(false);
        let follower = Follower::new(Arc::clone(&view), Arc::clone(&leader), fresh);
        let following = tokio::spawn(async move {
            let reason = follower.run().await;
            stopping.send_replace(Some(reason));
        });
        let observer = Self {
            metadata: Metadata::with_leader(view, leader),
            stopped,
            following,
        };
        tokio::select! {
            biased;
            _ = is_fresh.wait_for(|fresh| *fresh) => {}
            _ = observer.stopped() => {}
        }
        let reason = observer.stopped.borrow().clone();
        match reason {
            None => Ok(observer),
            Some(reason) => Err(StartError(reason)),
        }
    }

    /// The interface to the metadata.
    #[must_use]
    pub fn metadata(&self) -> Metadata {
        self.metadata.clone()
    }

    /// Resolves when the observer stops by itself, with the reason: the cluster was restored from its
    /// bucket or is another one, or a later release writes what this one cannot read. The view is as
    /// it was; the process has to start anew.
    pub async fn stopped(&self) -> String {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the observer was shut down".to_owned(),
        }
    }

    /// Ends the subscription. The view stays as it is; proposals still go to the leader.
    pub async fn shutdown(mut self) {
        self.following.abort();
        // It was cut off, which is what was wanted.
        let _ = (&mut self.following).await;
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.following.abort();
    }
}

#[cfg(test)]
mod tests;
