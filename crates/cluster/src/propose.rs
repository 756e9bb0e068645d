//! Commands on their way to the leader.

use std::time::Duration;

use bytes::Bytes;

use alluvium_metadata::Command;
use alluvium_transport::Lane;

use crate::applied::{Applied, ProposeError};
use crate::leader::{Asking, Attempts, LeaderClient, Reply, Target};
use crate::raft::OfferError;
use crate::rpc::{Answer, MAX_COMMANDS, MAX_PROPOSAL_BYTES, Request};

/// How long commands that nobody takes are offered.
const OFFERS: Duration = Duration::from_secs(5);
/// How long another may take. It may be cut off, and then nobody says so.
const PROPOSE: Asking = Asking {
    lane: Lane::Commands,
    within: Duration::from_secs(5),
    offers: OFFERS,
    repeat: false,
};

/// Offers commands to the leader until they are taken, and waits until all are applied there. Never
/// offers again what may have been taken.
pub(crate) async fn propose(
    leader: &LeaderClient,
    commands: Vec<Command>,
) -> Result<Vec<Applied>, ProposeError> {
    let encoded = encode(commands)?;
    let count = encoded.len();
    let mut attempts = Attempts::new(OFFERS);
    loop {
        let reply = match leader.target() {
            Target::Here(service) => match service.voter().offer(&encoded).await {
                Ok(applied) => return Ok(applied),
                Err(OfferError::NotLeader(error)) => Reply::NotTaken(error.reason),
                Err(OfferError::Unavailable(reason)) => {
                    return Err(ProposeError::Unavailable(reason));
                }
                Err(OfferError::Unknown(reason)) => Reply::Unknown(reason),
            },
            Target::At(address) => {
                let commands = encoded.clone();
                leader
                    .attempt(&address, Request::Propose { commands }, PROPOSE)
                    .await
            }
            Target::Nobody => Reply::NotTaken("no node is known".to_owned()),
        };
        match reply {
            Reply::Answer(Answer::Proposed(proposed)) if proposed.len() == count => {
                return Ok(proposed
                    .into_iter()
                    .map(|proposed| Applied {
                        index: proposed.index,
                        outcome: proposed.outcome,
                    })
                    .collect());
            }
            Reply::NotTaken(reason) => leader.pause(&mut attempts, reason).await?,
            Reply::Unknown(reason) => {
                tracing::debug!(reason, "it is not known what became of a proposal");
                return Err(ProposeError::TimedOut);
            }
            Reply::Answer(_) => {
                tracing::warn!("a proposal was answered by something else");
                return Err(ProposeError::TimedOut);
            }
        }
    }
}

fn encode(commands: Vec<Command>) -> Result<Vec<Bytes>, ProposeError> {
    let encoded = commands
        .into_iter()
        .map(|command| postcard::to_stdvec(&command).map(Bytes::from))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ProposeError::Unavailable(format!("cannot encode: {error}")))?;
    let bytes: usize = encoded.iter().map(Bytes::len).sum();
    if encoded.len() > MAX_COMMANDS || bytes > MAX_PROPOSAL_BYTES {
        return Err(ProposeError::Unavailable(format!(
            "{} commands of {bytes} bytes are too many at once; at most {MAX_COMMANDS} of \
             {MAX_PROPOSAL_BYTES} bytes are taken",
            encoded.len()
        )));
    }
    Ok(encoded)
}
