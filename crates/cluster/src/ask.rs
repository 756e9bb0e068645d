//! Questions to the leader that change nothing, or that an operator asks.

use std::time::Duration;

use alluvium_metadata::AgentOrigin;
use alluvium_transport::Lane;

use crate::applied::{Line, ProposeError, Renewal};
use crate::leader::{Asking, LeaderClient};
use crate::members::{ChangeError, MembershipChange};
use crate::rpc::{Answer, Envelope, Request};
use crate::status::ClusterStatus;

/// A few bytes there and back.
const QUICK: Asking = Asking {
    lane: Lane::Control,
    within: Duration::from_secs(1),
    offers: Duration::from_secs(5),
    repeat: true,
};
/// A change of the membership waits until a node has caught up; the leader ends it in time.
const CHANGE: Asking = Asking {
    lane: Lane::Control,
    within: Duration::from_secs(610),
    offers: Duration::from_secs(5),
    repeat: false,
};

/// Everything that was committed when it was asked lies below.
pub(crate) async fn read_index(leader: &LeaderClient) -> Result<u64, ProposeError> {
    match leader.ask(Request::ReadIndex, QUICK).await? {
        Answer::ReadIndex { next_index } => Ok(next_index),
        _ => Err(unexpected()),
    }
}

/// Renews a lease; also says what is committed at least.
pub(crate) async fn renew(
    leader: &LeaderClient,
    origin: AgentOrigin,
    view: u64,
) -> Result<(Renewal, u64), ProposeError> {
    match leader.ask(Request::Renew { origin, view }, QUICK).await? {
        Answer::Renewed {
            lease_millis,
            next_index,
        } => {
            let lease = Duration::from_millis(lease_millis);
            Ok((Renewal::Renewed { lease }, next_index))
        }
        Answer::Ended => Ok((Renewal::Ended, 0)),
        _ => Err(unexpected()),
    }
}

/// Opens an agent's line to the leader, which has just renewed its lease, unless `line` is one. `None`
/// where none can be had now, or none is needed.
pub(crate) async fn attend(
    leader: &LeaderClient,
    origin: AgentOrigin,
    line: Option<Line>,
) -> Option<Line> {
    let address = leader.answered()?;
    if line.as_ref().is_some_and(|line| line.leader == address) {
        return line;
    }
    let request = Envelope::new(leader.identity(), Request::Attend { origin }).encode();
    let opened = leader
        .transport()
        .open(&address, QUICK.lane, request, QUICK.within);
    match opened.await {
        Ok(stream) => Some(Line {
            leader: address,
            stream,
        }),
        Err(error) => {
            tracing::debug!(%error, "no line to the leader");
            // It ends by itself when it is none any more.
            line
        }
    }
}

pub(crate) async fn status(leader: &LeaderClient) -> Result<ClusterStatus, ProposeError> {
    match leader.ask(Request::Status, QUICK).await? {
        Answer::Status(status) => Ok(status),
        _ => Err(unexpected()),
    }
}

pub(crate) async fn change(
    leader: &LeaderClient,
    change: MembershipChange,
) -> Result<(), ChangeError> {
    match leader.ask(Request::Change(change), CHANGE).await {
        Ok(Answer::Changed(result)) => result,
        Ok(_) => Err(ChangeError::Unknown(unexpected().to_string())),
        Err(ProposeError::Unavailable(reason)) => Err(ChangeError::Refused(reason)),
        Err(error @ ProposeError::TimedOut) => Err(ChangeError::Unknown(error.to_string())),
    }
}

fn unexpected() -> ProposeError {
    ProposeError::Unavailable(
        "the leader answered another question than was asked; are the releases neighbours?"
            .to_owned(),
    )
}
