//! The whole state: dispatch of commands, and the queries.

mod agents;
mod chunks;
mod consumers;
mod counts;
mod deleted_names;
mod graveyard;
mod groups;
mod journal;
mod objects;
mod queries;
mod quotas;
mod shares;
mod stored;
mod topics;
mod transactions;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use alluvium_types::{AgentId, ErrorCode, Millis, ProducerId, TopicId, TopicPartition};

use crate::command::{Change, Command, ConfigTarget, Outcome, Refusal};
use crate::partition::Partition;
use crate::sequence::{self, Expiries};
use crate::{compact, configs, settle};

pub use agents::{Agent, Standing};
pub use groups::{CommittedOffset, Group};
pub use journal::JournalChunk;
pub use topics::Topic;
pub use transactions::{Transaction, TransactionStatus};

pub(crate) use agents::Registration;
pub(crate) use chunks::ChunkLog;
#[cfg(test)]
pub(crate) use chunks::Place;
pub(crate) use counts::Waiting;
pub(crate) use deleted_names::DeletedNames;
pub(crate) use graveyard::Graveyard;
pub(crate) use groups::IDLE_GROUPS;
pub(crate) use journal::{COPIES, Journal, Places};
pub(crate) use objects::{Dead, Live, Named, Objects};
pub(crate) use quotas::Quotas;
pub(crate) use stored::StoredState;
pub(crate) use topics::unknown_topic;
pub(crate) use transactions::Transactions;

/// The rules by which commands are judged. 0: those of release 0.1, whose logs must give the offsets
/// that they gave then. 1: groups are written by the coordinator that claimed them, and a new
/// producer begins with sequence 0. 2: a deleted topic's runs wait for [`Command::Purge`]. 3: there are
/// transactions, share groups and consumer groups of the newer protocol. The first command that came with newer rules brings them.
pub(crate) const RULES: u16 = 3;

/// From these rules on deleted topics wait to be purged.
const GRAVEYARD: u16 = 2;

/// How many producer ids a restored cluster leaves out.
const RESTORED_PRODUCER_IDS: ProducerId = 1 << 32;

/// Configurations by the name of what they are of. None of them is empty.
pub(crate) type NamedConfigs = BTreeMap<String, BTreeMap<String, String>>;

/// The whole metadata of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredState")]
pub struct State {
    pub(crate) cluster_id: Option<TopicId>,
    pub(crate) restores: u32,
    pub(crate) rules: u16,
    pub(crate) cluster_configs: BTreeMap<String, String>,
    pub(crate) last_agent: i32,
    pub(crate) agents: BTreeMap<AgentId, Registration>,
    /// How many claims on groups were accepted.
    pub(crate) claims: u64,
    pub(crate) topics: BTreeMap<TopicId, Topic>,
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) objects: Objects,
    pub(crate) next_producer_id: ProducerId,
    pub(crate) deleted_names: DeletedNames,
    /// The greatest time that a command bore.
    pub(crate) clock: Millis,
    pub(crate) journal: Journal,
    pub(crate) graveyard: Graveyard,
    pub(crate) transactions: Transactions,
    pub(crate) group_configs: NamedConfigs,
    pub(crate) client_metrics: NamedConfigs,
    pub(crate) quotas: Quotas,
    // What follows can be told from the above and is not stored.
    #[serde(skip_serializing)]
    pub(crate) names: topics::Names,
    #[serde(skip_serializing)]
    pub(crate) identities: BTreeMap<u128, AgentId>,
    /// Groups that are claimed and hold nothing yet, by the number of their claim.
    #[serde(skip_serializing)]
    pub(crate) idle_groups: BTreeMap<u64, String>,
    #[serde(skip_serializing)]
    pub(crate) expiries: Expiries,
    #[serde(skip_serializing)]
    pub(crate) waiting: Waiting,
}

/// An answer that says why nothing was changed.
pub(crate) fn refuse(code: ErrorCode, message: impl Into<String>) -> Outcome {
    Outcome::Refused(refusal(code, message))
}

pub(crate) fn refusal(code: ErrorCode, message: impl Into<String>) -> Refusal {
    Refusal {
        code,
        message: message.into(),
    }
}

impl State {
    /// Applies a command. Pushes what readers wait for to `changes`.
    ///
    /// Never fails and never panics, whatever the command holds: what cannot be done is answered
    /// with [`Outcome::Refused`].
    pub fn apply(&mut self, command: Command, changes: &mut Vec<Change>) -> Outcome {
        let rules = rules_of(&command);
        let clock = self.clock;
        self.clock = clock.max(time_of(&command));
        let outcome = self.dispatch(command, changes);
        if matches!(outcome, Outcome::Refused(_)) {
            self.clock = clock;
        } else {
            self.rules = self.rules.max(rules);
        }
        outcome
    }

    fn dispatch(&mut self, command: Command, changes: &mut Vec<Change>) -> Outcome {
        let done = match command {
            Command::RegisterAgent(command) => agents::register(self, command, changes),
            Command::CreateTopic(command) => topics::create(self, command, changes),
            Command::DeleteTopic { topic } => topics::delete(self, topic, changes),
            Command::CreatePartitions { topic, count } => {
                topics::create_partitions(self, topic, count, changes)
            }
            Command::AlterConfigs {
                target,
                replace,
                changes: steps,
            } => configs::alter(self, &target, replace, steps, changes),
            Command::Sequence(command) => return sequence::apply(self, command, changes),
            Command::Settle(command) => settle::apply(self, &command, changes),
            Command::AllocateProducerIds { count } => agents::allocate_producer_ids(self, count),
            Command::AdvanceLogStart(command) => topics::advance_log_start(self, command, changes),
            Command::CommitOffsets(command) => groups::commit(self, command, changes),
            Command::DeleteOffsets { group, partitions } => {
                groups::delete_offsets(self, &group, &partitions, changes)
            }
            Command::PutGroup(command) => groups::put(self, command, changes),
            Command::DeleteGroup { group } => groups::delete(self, &group, changes),
            Command::FormCluster { id } => self.form(id),
            Command::EndAgents { agents, at } => Ok(agents::end(self, &agents, at, changes)),
            Command::DrainAgent { origin } => agents::drain(self, origin, changes),
            Command::ClaimGroup { origin, group } => groups::claim(self, origin, group, changes),
            Command::ForgetAgents { ended_before } => {
                Ok(agents::forget(self, ended_before, changes))
            }
            Command::RemoveGroup { origin, group } => groups::remove(self, origin, &group, changes),
            Command::RemoveOffsets {
                origin,
                group,
                partitions,
            } => groups::remove_offsets(self, origin, &group, &partitions, changes),
            Command::AnnounceAgent(command) => agents::announce(self, command, changes),
            Command::Compact(command) => compact::apply(self, &command),
            Command::AdvanceLogStarts(starts) => {
                Ok(topics::advance_log_starts(self, starts, changes))
            }
            Command::Purge { most } => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                Ok(graveyard::purge(self, most))
            }
            Command::ForgetObjects { objects } => {
                for object in objects {
                    self.objects.forget(object);
                }
                Ok(Outcome::Done)
            }
            Command::InitTransactions(command) => transactions::init(self, command, changes),
            Command::AddToTransaction(command) => transactions::add(self, command),
            Command::CommitTransactionOffsets(command) => {
                transactions::commit_offsets(self, command, changes)
            }
            Command::EndTransaction(command) => transactions::end(self, command, changes),
            Command::ForgetTransactionalIds(idle) => Ok(transactions::forget(self, idle)),
            Command::ShareBegin(command) => Ok(shares::begin(self, command, changes)),
            Command::ShareAcquire(command) => shares::acquire(self, &command, changes),
            Command::ShareAcknowledge(command) => shares::acknowledge(self, &command, changes),
            Command::ShareRelease(command) => Ok(shares::release(self, &command, changes)),
            Command::ShareReset(command) => shares::reset(self, command, changes),
            Command::ChangeConsumerGroup(command) => consumers::change(self, command, changes),
            Command::AlterQuotas(alterations) => Ok(quotas::alter(self, alterations)),
        };
        done.unwrap_or_else(Outcome::Refused)
    }

    fn form(&mut self, id: TopicId) -> Result<Outcome, Refusal> {
        match self.cluster_id {
            Some(known) if known != id => Err(refusal(
                ErrorCode::InconsistentClusterId,
                format!("The cluster is formed already; its id is {known}, not {id}."),
            )),
            _ => {
                self.cluster_id = Some(id);
                Ok(Outcome::Done)
            }
        }
    }

    /// Nothing yet, judged by the rules of this release from the first command on. A log that may
    /// have been written by release 0.1 is replayed onto [`Self::default`] instead.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rules: RULES,
            ..Self::default()
        }
    }

    /// How often the cluster was rebuilt from its bucket. Part of who it is: what knows another
    /// count knows another history.
    #[must_use]
    pub const fn restores(&self) -> u32 {
        self.restores
    }

    /// Marks a state that was rebuilt from the bucket, of which the last commands may be missing.
    /// All agents are ended, and whatever is counted out to somebody goes on well beyond what the
    /// missing commands can have given: epochs, agent ids, producer ids. Chunks in write-ahead buffers
    /// stay named where they are stable, since the disks may be there; the others are lost as ever when
    /// a registration ends.
    ///
    /// `restores` is its count from now on, more than any history of the cluster has had.
    pub fn mark_restored(&mut self, restores: u32, at: Millis) {
        self.restores = restores.max(self.restores.saturating_add(1));
        self.rules = RULES;
        self.clock = self.clock.max(at);
        agents::skip_ahead(self, at);
        transactions::abort_all(self, at);
        self.next_producer_id = self.next_producer_id.saturating_add(RESTORED_PRODUCER_IDS);
    }

    /// Forgets what is known of an idempotent producer in a partition, as if it had expired there: its
    /// next batch may begin with any sequence. For a restore that lacks some of its batches.
    pub fn forget_producer(&mut self, place: TopicPartition, producer: ProducerId) {
        let Some(partition) = self.partition_mut(place) else {
            return;
        };
        let due = partition.producers_mut().forget(producer);
        if let Some(due) = due {
            self.expiries.remove(&(due, place, producer));
        }
    }

    pub(crate) fn partition_mut(&mut self, partition: TopicPartition) -> Option<&mut Partition> {
        let index = usize::try_from(partition.partition).ok()?;
        self.topics
            .get_mut(&partition.topic)?
            .partitions
            .get_mut(index)
    }

    /// A partition, of a deleted topic too.
    pub(crate) fn any_partition_mut(&mut self, place: TopicPartition) -> Option<&mut Partition> {
        if self.topics.contains_key(&place.topic) {
            self.partition_mut(place)
        } else {
            self.graveyard.partition_mut(place)
        }
    }

    /// From which id on producers that a topic's partitions do not know must begin with sequence 0;
    /// none must otherwise.
    pub(crate) fn zero_from(&self, topic: TopicId) -> Option<ProducerId> {
        let topic = (self.rules > 0).then(|| self.topics.get(&topic))?;
        topic.map(|topic| topic.producers_before)
    }
}

/// By which rules a state judges that has done this command, at the least.
const fn rules_of(command: &Command) -> u16 {
    match command {
        Command::FormCluster { .. }
        | Command::EndAgents { .. }
        | Command::DrainAgent { .. }
        | Command::ClaimGroup { .. }
        | Command::ForgetAgents { .. }
        | Command::RemoveGroup { .. }
        | Command::RemoveOffsets { .. } => 1,
        Command::AnnounceAgent(_)
        | Command::Compact(_)
        | Command::AdvanceLogStarts(_)
        | Command::Purge { .. }
        | Command::ForgetObjects { .. } => 2,
        Command::InitTransactions(_)
        | Command::AddToTransaction(_)
        | Command::CommitTransactionOffsets(_)
        | Command::EndTransaction(_)
        | Command::ForgetTransactionalIds(_)
        | Command::ShareBegin(_)
        | Command::ShareAcquire(_)
        | Command::ShareAcknowledge(_)
        | Command::ShareRelease(_)
        | Command::ShareReset(_)
        | Command::ChangeConsumerGroup(_)
        | Command::AlterQuotas(_)
        | Command::AlterConfigs {
            target: ConfigTarget::Group(_) | ConfigTarget::ClientMetrics(_),
            ..
        } => 3,
        _ => 0,
    }
}

/// When a command was made, if it says so.
const fn time_of(command: &Command) -> Millis {
    match command {
        Command::RegisterAgent(command) => command.at,
        Command::CreateTopic(command) => command.at,
        Command::Sequence(command) => command.at,
        Command::CommitOffsets(command) => command.at,
        Command::PutGroup(command) => command.record.at,
        Command::EndAgents { at, .. } => *at,
        Command::Compact(command) => command.at,
        Command::InitTransactions(command) => command.at,
        Command::AddToTransaction(command) => command.at,
        Command::CommitTransactionOffsets(command) => command.at,
        Command::EndTransaction(command) => command.at,
        Command::ShareAcquire(command) => command.at,
        Command::ShareAcknowledge(command) => command.at,
        Command::ChangeConsumerGroup(command) => command.at,
        _ => Millis::MIN,
    }
}
