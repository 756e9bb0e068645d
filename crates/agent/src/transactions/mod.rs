//! Transactional producers (KIP-98, KIP-890).
//!
//! Transactions live in the quorum ([`alluvium_metadata::Transaction`]): each step is one command, fenced by the
//! producer's epoch, and the end is atomic. So any agent serves any producer, and the coordinator that
//! clients are told of is there only to spread them. What is left to do here is to make the commands, and
//! to look after what nobody ends: each agent aborts transactions whose time is over and forgets ids that
//! are not used, for the ids of which it is the coordinator.
//!
//! The time of a transaction is measured by this agent from when it first saw it open, by a clock that
//! nobody can set. A hand-over begins anew: no transaction is cut short by clocks that differ.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{
    AddToTransaction, Command, EndTransaction, EndedBy, IdleTransactionalId, InitTransactions,
    Outcome, ProducerEpoch, State, Transaction, TransactionStatus,
};
use alluvium_types::{Clock, ErrorCode, Millis, TopicPartition};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::proposal;
use crate::registration::Registration;
use crate::task::ended;
use crate::topics::Topics;

/// How long the quorum may take for one command.
const COMMAND_DEADLINE: Duration = Duration::from_secs(20);

/// How often open transactions are looked at,
const LOOK: Duration = Duration::from_secs(1);

/// and ids that nobody uses, in looks.
const LOOKS_FOR_IDLE: u32 = 60;

/// Most ids that are forgotten at once.
const IDLE_AT_ONCE: usize = 1000;

/// `transaction.max.timeout.ms`
const MAX_TIMEOUT: i32 = 900_000;

/// `transactional.id.expiration.ms`
const EXPIRATION: Millis = 7 * 86_400_000;

/// The transactional producers of an agent.
#[derive(Debug)]
pub struct Transactions {
    shared: Arc<Shared>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    metadata: Metadata,
    registration: Registration,
    topics: Topics,
    clock: Arc<dyn Clock>,
}

/// An open transaction as it was first seen: its producer and when it began.
type Seen = (ProducerEpoch, Millis);

impl Transactions {
    pub(crate) fn start(
        registration: Registration,
        metadata: Metadata,
        clock: Arc<dyn Clock>,
        topics: Topics,
    ) -> Self {
        let shared = Arc::new(Shared {
            metadata,
            registration,
            topics,
            clock,
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&shared).look_after(stop.clone()));
        Self {
            shared,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// A producer begins: whoever used the id before is fenced, and what it left open is aborted.
    /// `expected` is what the producer has, when it goes on after an error (KIP-360).
    ///
    /// # Errors
    /// `INVALID_TRANSACTION_TIMEOUT`, `PRODUCER_FENCED`, or the quorum does not answer.
    pub async fn init(
        &self,
        id: &str,
        timeout: i32,
        expected: Option<ProducerEpoch>,
    ) -> Result<ProducerEpoch, ErrorCode> {
        let shared = &self.shared;
        if timeout <= 0 || timeout > shared.setting("transaction.max.timeout.ms", MAX_TIMEOUT) {
            return Err(ErrorCode::InvalidTransactionTimeout);
        }
        shared
            .producer(Command::InitTransactions(InitTransactions {
                transactional_id: id.to_owned(),
                timeout,
                expected,
                at: shared.clock.now(),
            }))
            .await
    }

    /// The transaction is about to write to partitions and to offsets of groups.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, or the quorum does not answer.
    pub async fn add(
        &self,
        id: &str,
        producer: ProducerEpoch,
        partitions: Vec<TopicPartition>,
        groups: Vec<String>,
    ) -> Result<(), ErrorCode> {
        let shared = &self.shared;
        let command = Command::AddToTransaction(AddToTransaction {
            transactional_id: id.to_owned(),
            producer,
            partitions,
            groups,
            at: shared.clock.now(),
        });
        shared.propose(command).await.map(|_| ())
    }

    /// Ends a transaction. Returns what the producer has from now on.
    ///
    /// # Errors
    /// `INVALID_PRODUCER_ID_MAPPING`, `PRODUCER_FENCED`, `INVALID_TXN_STATE`, or the quorum does not
    /// answer.
    pub async fn end(
        &self,
        id: &str,
        producer: ProducerEpoch,
        commit: bool,
        by: EndedBy,
    ) -> Result<ProducerEpoch, ErrorCode> {
        let shared = &self.shared;
        shared
            .producer(Command::EndTransaction(EndTransaction {
                transactional_id: id.to_owned(),
                producer,
                commit,
                by,
                at: shared.clock.now(),
            }))
            .await
    }

    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.task, "looks after transactions").await;
    }
}

impl Drop for Transactions {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Shared {
    fn setting<T: std::str::FromStr>(&self, name: &str, default: T) -> T {
        let text = self.metadata.read(|state| self.topics.broker(state, name));
        text.and_then(|text| text.trim().parse().ok())
            .unwrap_or(default)
    }

    async fn producer(&self, command: Command) -> Result<ProducerEpoch, ErrorCode> {
        match self.propose(command).await? {
            Outcome::Producer(producer) => Ok(producer),
            _ => Err(ErrorCode::UnknownServerError),
        }
    }

    async fn propose(&self, command: Command) -> Result<Outcome, ErrorCode> {
        proposal::outcome(&self.metadata, command, COMMAND_DEADLINE).await
    }

    /// Ids of which this agent is the coordinator.
    fn is_mine(&self, state: &State, id: &str) -> bool {
        state.coordinator_of(id) == Some(self.registration.id())
    }

    async fn look_after(self: Arc<Self>, stop: CancellationToken) {
        let mut seen: BTreeMap<String, (Seen, Instant)> = BTreeMap::new();
        let mut looks = 0;
        while stop.run_until_cancelled(sleep(LOOK)).await.is_some() {
            if !self.registration.lease_valid() {
                seen.clear();
                continue;
            }
            let over = self.over(&mut seen);
            looks += 1;
            let idle = if looks % LOOKS_FOR_IDLE == 0 {
                self.idle()
            } else {
                Vec::new()
            };
            let ends = async {
                for (id, (producer, _)) in over {
                    self.abort(&id, producer).await;
                }
                if !idle.is_empty() {
                    let command = Command::ForgetTransactionalIds(idle);
                    _ = self.propose(command).await;
                }
            };
            if stop.run_until_cancelled(ends).await.is_none() {
                return;
            }
        }
    }

    /// Transactions whose time is over. Those that are open are remembered until they are not.
    fn over(&self, seen: &mut BTreeMap<String, (Seen, Instant)>) -> Vec<(String, Seen)> {
        let now = Instant::now();
        self.metadata.read(|state| {
            let still = |id: &str, (producer, at): Seen| {
                state.transaction(id).is_some_and(|known| {
                    known.status == TransactionStatus::Ongoing
                        && (known.producer, known.at) == (producer, at)
                })
            };
            seen.retain(|id, (what, _)| still(id, *what) && self.is_mine(state, id));
            let mut over = Vec::new();
            for (id, known) in state.open_transactions() {
                if !self.is_mine(state, id) {
                    continue;
                }
                let what = (known.producer, known.at);
                let (_, since) = seen.entry(id.to_owned()).or_insert((what, now));
                let time = Duration::from_millis(u64::try_from(known.timeout).unwrap_or(0));
                if now.duration_since(*since) >= time {
                    over.push((id.to_owned(), what));
                }
            }
            over
        })
    }

    async fn abort(&self, id: &str, producer: ProducerEpoch) {
        let command = Command::EndTransaction(EndTransaction {
            transactional_id: id.to_owned(),
            producer,
            commit: false,
            by: EndedBy::Server,
            at: self.clock.now(),
        });
        match self.propose(command).await {
            Ok(_) => {
                metrics::counter!("alluvium_transactions_timed_out_total").increment(1);
                tracing::info!(
                    id,
                    producer = producer.id,
                    "a transaction's time is over; it is aborted"
                );
            }
            Err(code) => {
                tracing::debug!(id, %code, "a transaction whose time is over is not aborted yet")
            }
        }
    }

    /// Ids that nobody has used for long.
    fn idle(&self) -> Vec<IdleTransactionalId> {
        let expiration = self
            .setting("transactional.id.expiration.ms", EXPIRATION)
            .max(1);
        let before = self.clock.now().saturating_sub(expiration);
        self.metadata.read(|state| {
            let is_idle = |known: &Transaction| {
                known.status != TransactionStatus::Ongoing && known.at < before
            };
            let idle = state
                .transactions()
                .filter(|(id, known)| is_idle(known) && self.is_mine(state, id));
            let idle = idle.map(|(id, known)| IdleTransactionalId {
                transactional_id: id.to_owned(),
                producer: known.producer,
                used_at: known.at,
            });
            idle.take(IDLE_AT_ONCE).collect()
        })
    }
}

#[cfg(test)]
mod tests;
