//! Calls to other nodes by their address.

use std::sync::Arc;
use std::time::Duration;

use alluvium_transport::{Lane, Transport, TransportError};

use crate::rpc::{Answer, Envelope, Identity, Request};
use crate::view::View;

/// The way to other nodes, for whoever belongs to the cluster of a view. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Peers {
    transport: Arc<dyn Transport>,
    view: Arc<View>,
}

impl Peers {
    pub(crate) fn new(transport: Arc<dyn Transport>, view: Arc<View>) -> Self {
        Self { transport, view }
    }

    /// Which cluster this node believes to be of.
    pub(crate) fn identity(&self) -> Option<Identity> {
        self.view.read(|current| Identity::of(&current.state))
    }

    /// Asks once. What the other side does not understand, or answers so that it is not understood
    /// here, counts as refused.
    pub(crate) async fn ask(
        &self,
        address: &str,
        lane: Lane,
        request: Request,
        within: Duration,
    ) -> Result<Answer, TransportError> {
        let request = Envelope::new(self.identity(), request).encode();
        let answer = self.transport.call(address, lane, request, within).await?;
        Answer::decode(&answer).map_err(|reason| TransportError::Refused {
            address: address.to_owned(),
            reason: format!("answered what is not understood: {reason}"),
        })
    }
}

/// What to say of an answer to another question.
pub(crate) fn unexpected(address: &str) -> TransportError {
    TransportError::Refused {
        address: address.to_owned(),
        reason: "answered another question than was asked".to_owned(),
    }
}
