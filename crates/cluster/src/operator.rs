//! What a person asks of metadata nodes, from outside the cluster.

use std::sync::Arc;
use std::time::Duration;

use alluvium_transport::{Lane, Transport, TransportError};

use crate::applied::ProposeError;
use crate::ask;
use crate::forming::{FormError, Hello, HelloAnswer};
use crate::leader::LeaderClient;
use crate::members::{ChangeError, MembershipChange};
use crate::peers::{Peers, unexpected};
use crate::rpc::{Answer, Request};
use crate::status::ClusterStatus;
use crate::view::{Current, View};
use crate::voter_id::{Peer, VoterId};

/// A quorum is formed when all of its nodes have met.
const FORM: Duration = Duration::from_secs(60);

/// Somebody who belongs to no cluster and knows the cluster addresses of some metadata nodes.
#[derive(Debug)]
pub struct Operator {
    peers: Peers,
    leader: LeaderClient,
}

impl Operator {
    /// Knows these nodes, `host:port` each.
    #[must_use]
    pub fn new(nodes: Vec<String>, transport: Arc<dyn Transport>) -> Self {
        let view = Arc::new(View::new(Current::default()));
        let peers = Peers::new(Arc::clone(&transport), Arc::clone(&view));
        Self {
            peers,
            leader: LeaderClient::new(transport, view, nodes, None),
        }
    }

    /// Asks one node who it is and which quorum it belongs to.
    ///
    /// # Errors
    /// It does not answer within `within`.
    pub async fn hello(
        &self,
        address: &str,
        within: Duration,
    ) -> Result<HelloAnswer, TransportError> {
        let nobody = Peer {
            voter: VoterId(0),
            address: String::new(),
        };
        let hello = Request::Hello(Hello {
            peer: nobody,
            nodes: Vec::new(),
        });
        match self
            .peers
            .ask(address, Lane::Control, hello, within)
            .await?
        {
            Answer::Hello(answer) => Ok(answer),
            _ => Err(unexpected(address)),
        }
    }

    /// Has a new node form a quorum of `nodes`, itself among them, and waits until it is done.
    ///
    /// # Errors
    /// It refuses, or does not answer.
    pub async fn form(&self, address: &str, nodes: Vec<String>) -> Result<(), FormError> {
        let form = Request::Form { nodes };
        match self.peers.ask(address, Lane::Control, form, FORM).await {
            Ok(Answer::Formed(result)) => result,
            Ok(_) => Err(FormError(unexpected(address).to_string())),
            Err(error) => Err(FormError(error.to_string())),
        }
    }

    /// How the cluster does, as its leader sees it.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn status(&self) -> Result<ClusterStatus, ProposeError> {
        ask::status(&self.leader).await
    }

    /// Changes who votes or leads, and waits until it is done.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change(&self, change: MembershipChange) -> Result<(), ChangeError> {
        ask::change(&self.leader, change).await
    }
}
