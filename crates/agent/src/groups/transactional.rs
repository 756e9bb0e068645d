//! Offsets that a transaction commits (TxnOffsetCommit).

use std::time::Duration;

use alluvium_metadata::{Command, CommitTransactionOffsets, Outcome, ProducerEpoch, State};
use alluvium_types::ErrorCode;
use tokio::time::timeout;
use tracing::debug;

use super::request::{CommitTopic, Committer};
use super::settings::Settings;
use super::{Groups, offsets};

/// How long the quorum may take.
const COMMIT_DEADLINE: Duration = Duration::from_secs(20);

/// The transaction that offsets are committed with.
#[derive(Clone, Debug)]
pub struct InTransactionOf {
    /// Whose.
    pub transactional_id: String,
    /// Which producer.
    pub producer: ProducerEpoch,
    /// Whether the group joins the transaction by this (KIP-890), or was added before.
    pub joins: bool,
}

impl Groups {
    /// Commits offsets with a transaction: they show when it is committed. One code for every
    /// partition of every topic.
    pub async fn commit_with(
        &self,
        committer: &Committer,
        topics: Vec<CommitTopic>,
        transaction: InTransactionOf,
    ) -> Vec<Vec<ErrorCode>> {
        let shared = &self.shared;
        let is_known = |state: &State| offsets::are_known(state, &topics);
        if !shared.metadata.read(is_known)
            && let Err(error) = shared.freshness.catch_up().await
        {
            debug!(%error, "a commit names topics that are not known here (yet)");
        }
        let (mut codes, offsets) = shared.metadata.read(|state| {
            let settings = Settings::read(&shared.topics, state);
            offsets::sort_commit(state, topics, settings.offset_metadata_bytes)
        });
        if offsets.is_empty() {
            return codes;
        }
        let _lease = shared.commits.lease(offsets::commit_bytes(&offsets)).await;
        let checked = shared.on(&committer.group, true, |coordinator, at| {
            coordinator.check_commit(at, committer, &shared.metadata)
        });
        let checked = checked.await.and_then(|checked| checked);
        let code = match checked {
            Ok(()) => {
                let command = Command::CommitTransactionOffsets(CommitTransactionOffsets {
                    origin: shared.registration.origin(),
                    transactional_id: transaction.transactional_id,
                    producer: transaction.producer,
                    group: committer.group.clone(),
                    joins: transaction.joins,
                    offsets,
                    at: shared.clock.now(),
                });
                match timeout(COMMIT_DEADLINE, shared.metadata.propose(command)).await {
                    Ok(Ok(applied)) => match applied.outcome {
                        Outcome::Refused(refusal) => refusal.code,
                        _ => ErrorCode::None,
                    },
                    Ok(Err(error)) => {
                        debug!(%error, "offsets of a transaction are not noted, or it is not known");
                        ErrorCode::CoordinatorNotAvailable
                    }
                    Err(_) => ErrorCode::CoordinatorNotAvailable,
                }
            }
            Err(code) => code,
        };
        for of_partition in codes.iter_mut().flatten() {
            if *of_partition == ErrorCode::None {
                *of_partition = code;
            }
        }
        codes
    }
}
