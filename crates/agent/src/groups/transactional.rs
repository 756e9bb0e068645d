//! Offsets that a transaction commits (TxnOffsetCommit).

use std::time::Duration;

use alluvium_metadata::{Command, CommitTransactionOffsets, ProducerEpoch};
use alluvium_types::ErrorCode;

use crate::proposal;

use super::request::{CommitTopic, Committer};
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
        let (mut codes, offsets) = shared.sort(topics).await;
        if offsets.is_empty() {
            return codes;
        }
        let _lease = shared.commits.lease(offsets::commit_bytes(&offsets)).await;
        let checked = shared.on(&committer.group, true, |coordinator, at| {
            coordinator.check_commit(at, committer, &shared.metadata)
        });
        let checked = checked.await.and_then(|checked| checked);
        // Within a transaction Kafka tells it by the older name.
        let checked = checked.map_err(|code| match code {
            ErrorCode::StaleMemberEpoch => ErrorCode::IllegalGeneration,
            other => other,
        });
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
                let noted = proposal::outcome(&shared.metadata, command, COMMIT_DEADLINE);
                noted.await.err().unwrap_or(ErrorCode::None)
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
