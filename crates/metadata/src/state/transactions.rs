//! Transactional producers and their transactions (KIP-98, KIP-890).
//!
//! A transaction is open from its first partition or group on. It ends in one command, which gives its
//! markers their offsets in all partitions where it has records and commits the offsets of its groups:
//! no reader sees half of it, and there is nothing that a coordinator could leave undone. So there are
//! no prepared states, and who asks while a transaction ends never meets `CONCURRENT_TRANSACTIONS`.
//!
//! The epoch of a transactional id fences: every batch, addition, commit and end must bear it.

use std::collections::{BTreeMap, BTreeSet};

use alluvium_types::{ErrorCode, Millis, ProducerId, TopicPartition};
use serde::{Deserialize, Serialize};

use super::{State, groups, refusal};
use crate::command::{
    AddToTransaction, Change, CommitTransactionOffsets, EndTransaction, EndedBy,
    IdleTransactionalId, InTransaction, InitTransactions, Outcome, ProducerEpoch, ProducerStamp,
    Refusal,
};
use crate::control;

/// The last epoch that a producer id is given: Kafka keeps the greatest for fencing.
const LAST_EPOCH: i16 = i16::MAX - 1;

/// A transactional id, and its transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// The producer that may use it now.
    pub producer: ProducerEpoch,
    /// What that producer had before the epoch was last raised for it, if it was.
    pub(crate) before: Option<ProducerEpoch>,
    /// After how many milliseconds an open transaction is aborted.
    pub timeout: i32,
    /// How it stands.
    pub status: TransactionStatus,
    /// The partitions of the open transaction.
    pub partitions: BTreeSet<TopicPartition>,
    /// The groups of the open transaction.
    pub groups: BTreeSet<String>,
    /// When the open transaction began; else when it was last used.
    pub at: Millis,
}

/// How a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TransactionStatus {
    /// Its producer has begun no transaction yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// Its last transaction was committed.
    Committed,
    /// Its last transaction was aborted.
    Aborted,
}

/// Transactional ids, and whose producer ids are whose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transactions {
    by_id: BTreeMap<String, Transaction>,
    /// Found again when a snapshot is read.
    #[serde(skip)]
    by_producer: BTreeMap<ProducerId, String>,
}

impl Transactions {
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Transaction)> {
        self.by_id.iter().map(|(id, known)| (id.as_str(), known))
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Transaction> {
        self.by_id.get(id)
    }

    pub(crate) fn of_producer(&self, producer: ProducerId) -> Option<(&str, &Transaction)> {
        let id = self.by_producer.get(&producer)?;
        Some((id, self.by_id.get(id)?))
    }

    fn of_producer_mut(&mut self, producer: ProducerId) -> Option<&mut Transaction> {
        self.by_id.get_mut(self.by_producer.get(&producer)?)
    }

    /// A snapshot was read.
    pub(super) fn index(&mut self) {
        let producers = self.by_id.iter();
        self.by_producer = producers
            .map(|(id, known)| (known.producer.id, id.clone()))
            .collect();
    }

    /// What becomes of a batch, as far as transactions go.
    pub(crate) fn admit(
        &self,
        stamp: &ProducerStamp,
        place: TopicPartition,
    ) -> Result<(), ErrorCode> {
        if stamp.transaction == InTransaction::No {
            return Ok(());
        }
        let (_, known) = self
            .of_producer(stamp.id)
            .ok_or(ErrorCode::InvalidProducerIdMapping)?;
        if stamp.epoch != known.producer.epoch {
            return Err(ErrorCode::InvalidProducerEpoch);
        }
        let was_added =
            known.status == TransactionStatus::Ongoing && known.partitions.contains(&place);
        if was_added || stamp.transaction == InTransaction::Joins {
            Ok(())
        } else {
            Err(ErrorCode::InvalidTxnState)
        }
    }

    /// A batch of a transaction was appended.
    pub(crate) fn joined(&mut self, producer: ProducerId, place: TopicPartition, at: Millis) {
        if let Some(known) = self.of_producer_mut(producer) {
            known.go_on(at);
            known.partitions.insert(place);
        }
    }

    pub(crate) fn check(&self) -> Result<(), String> {
        for (id, known) in &self.by_id {
            let is_open = known.status == TransactionStatus::Ongoing;
            let holds_nothing = known.partitions.is_empty() && known.groups.is_empty();
            let owns = self.by_producer.get(&known.producer.id) == Some(id);
            if known.producer.id < 0
                || !(0..=LAST_EPOCH).contains(&known.producer.epoch)
                || known.timeout <= 0
                || !is_open && !holds_nothing
                || !owns
            {
                return Err(format!("transactional id {id:?} is {known:?}"));
            }
        }
        if self.by_producer.len() != self.by_id.len() {
            return Err("producers and transactional ids do not match".to_owned());
        }
        Ok(())
    }
}

impl Transaction {
    /// Opens a transaction unless one is open.
    fn go_on(&mut self, at: Millis) {
        if self.status != TransactionStatus::Ongoing {
            self.status = TransactionStatus::Ongoing;
            self.at = at;
        }
    }

    fn is_open(&self) -> bool {
        self.status == TransactionStatus::Ongoing
    }
}

fn unknown(id: &str, producer: ProducerEpoch) -> Refusal {
    refusal(
        ErrorCode::InvalidProducerIdMapping,
        format!(
            "Transactional id '{id}' is not known, or does not belong to producer {}.",
            producer.id
        ),
    )
}

fn fenced(id: &str, producer: ProducerEpoch) -> Refusal {
    refusal(
        ErrorCode::ProducerFenced,
        format!(
            "Another producer has taken over transactional id '{id}' from producer {} with epoch {}.",
            producer.id, producer.epoch
        ),
    )
}

/// A transactional id as long as this producer has it.
fn held<'a>(
    state: &'a mut State,
    id: &str,
    producer: ProducerEpoch,
) -> Result<&'a mut Transaction, Refusal> {
    let known = state.transactions.by_id.get_mut(id);
    match known.filter(|known| known.producer.id == producer.id) {
        None => Err(unknown(id, producer)),
        Some(known) if known.producer.epoch != producer.epoch => Err(fenced(id, producer)),
        Some(known) => Ok(known),
    }
}

pub(super) fn init(
    state: &mut State,
    command: InitTransactions,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let InitTransactions {
        transactional_id: id,
        timeout,
        expected,
        at,
    } = command;
    if timeout <= 0 {
        return Err(refusal(
            ErrorCode::InvalidTransactionTimeout,
            format!("A transaction timeout of {timeout} ms is not positive."),
        ));
    }
    let Some(known) = state.transactions.by_id.get_mut(&id) else {
        let producer = new_producer(state)?;
        let transaction = Transaction {
            producer,
            before: None,
            timeout,
            status: TransactionStatus::Empty,
            partitions: BTreeSet::new(),
            groups: BTreeSet::new(),
            at,
        };
        state
            .transactions
            .by_producer
            .insert(producer.id, id.clone());
        state.transactions.by_id.insert(id, transaction);
        return Ok(Outcome::Producer(producer));
    };
    match expected {
        None => {}
        Some(expected) if expected == known.producer => {}
        // It was done, and the answer was lost.
        Some(expected) if known.before == Some(expected) && !known.is_open() => {
            known.timeout = timeout;
            known.at = at;
            return Ok(Outcome::Producer(known.producer));
        }
        Some(expected) => return Err(fenced(&id, expected)),
    }
    let (held, is_open) = (known.producer, known.is_open());
    can_raise(state, held)?;
    if is_open {
        close(state, &id, false, at, changes);
    }
    let producer = raise(state, &id)?;
    if let Some(known) = state.transactions.by_id.get_mut(&id) {
        known.timeout = timeout;
        known.before = expected;
        known.status = TransactionStatus::Empty;
        known.at = at;
    }
    Ok(Outcome::Producer(producer))
}

/// Whether there will be an epoch after this one: asked before anything is changed.
fn can_raise(state: &State, producer: ProducerEpoch) -> Result<(), Refusal> {
    if producer.epoch < LAST_EPOCH || state.next_producer_id < ProducerId::MAX {
        return Ok(());
    }
    Err(no_ids_left())
}

fn no_ids_left() -> Refusal {
    refusal(ErrorCode::UnknownServerError, "No producer ids are left.")
}

/// The first epoch of a producer id that nobody has had.
fn new_producer(state: &mut State) -> Result<ProducerEpoch, Refusal> {
    let id = state.next_producer_id;
    state.next_producer_id = id.checked_add(1).ok_or_else(no_ids_left)?;
    Ok(ProducerEpoch { id, epoch: 0 })
}

/// Raises the epoch of a transactional id; after the last one it gets a new producer id.
fn raise(state: &mut State, id: &str) -> Result<ProducerEpoch, Refusal> {
    let is_spent = |known: &Transaction| known.producer.epoch >= LAST_EPOCH;
    let spent = state.transactions.get(id).is_some_and(is_spent);
    let fresh = spent.then(|| new_producer(state)).transpose()?;
    let Transactions { by_id, by_producer } = &mut state.transactions;
    let Some(known) = by_id.get_mut(id) else {
        return Err(refusal(
            ErrorCode::TransactionalIdNotFound,
            format!("Transactional id '{id}' is not known."),
        ));
    };
    match fresh {
        Some(fresh) => {
            by_producer.remove(&known.producer.id);
            by_producer.insert(fresh.id, id.to_owned());
            known.producer = fresh;
        }
        None => known.producer.epoch += 1,
    }
    Ok(known.producer)
}

pub(super) fn add(state: &mut State, command: AddToTransaction) -> Result<Outcome, Refusal> {
    let AddToTransaction {
        transactional_id: id,
        producer,
        mut partitions,
        groups,
        at,
    } = command;
    held(state, &id, producer)?;
    partitions.retain(|place| state.partition(*place).is_some());
    let known = held(state, &id, producer)?;
    if !partitions.is_empty() || !groups.is_empty() {
        known.go_on(at);
        known.partitions.extend(partitions);
        known.groups.extend(groups);
    }
    Ok(Outcome::Done)
}

pub(super) fn commit_offsets(
    state: &mut State,
    command: CommitTransactionOffsets,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let CommitTransactionOffsets {
        origin,
        transactional_id: id,
        producer,
        group,
        joins,
        mut offsets,
        at,
    } = command;
    groups::admit(state, origin, &group)?;
    let known = held(state, &id, producer)?;
    if !(joins || known.is_open() && known.groups.contains(&group)) {
        return Err(refusal(
            ErrorCode::InvalidTxnState,
            format!("Group '{group}' was not added to the transaction of '{id}'."),
        ));
    }
    known.go_on(at);
    known.groups.insert(group.clone());
    offsets.retain(|commit| state.partition(commit.partition).is_some());
    groups::hold_back(state, group, producer.id, offsets, at);
    changes.push(Change::Groups);
    Ok(Outcome::Done)
}

pub(super) fn end(
    state: &mut State,
    command: EndTransaction,
    changes: &mut Vec<Change>,
) -> Result<Outcome, Refusal> {
    let EndTransaction {
        transactional_id: id,
        producer,
        commit,
        by,
        at,
    } = command;
    let bumps = by == EndedBy::BumpingProducer;
    let ended_as = if commit {
        TransactionStatus::Committed
    } else {
        TransactionStatus::Aborted
    };
    if let Some(known) = state.transactions.get(&id)
        && bumps
        && known.before == Some(producer)
        && known.status == ended_as
    {
        // It was done, and the answer was lost.
        return Ok(Outcome::Producer(known.producer));
    }
    let known = held(state, &id, producer)?;
    let status = known.status;
    match status {
        TransactionStatus::Ongoing => {}
        // Kafka takes the abort of nothing from a producer that cannot know whether it began.
        _ if bumps && !commit => {}
        _ if by == EndedBy::Producer && status == ended_as => {
            return Ok(Outcome::Producer(known.producer));
        }
        _ => {
            return Err(refusal(
                ErrorCode::InvalidTxnState,
                format!("Transactional id '{id}' has no open transaction that could be ended so."),
            ));
        }
    }
    let raises = by != EndedBy::Producer;
    if raises {
        can_raise(state, producer)?;
    }
    close(state, &id, commit, at, changes);
    if raises {
        raise(state, &id)?;
    }
    let Some(known) = state.transactions.by_id.get_mut(&id) else {
        return Ok(Outcome::Done);
    };
    known.before = bumps.then_some(producer);
    known.status = ended_as;
    known.at = at;
    Ok(Outcome::Producer(known.producer))
}

/// Writes the markers of an open transaction, and commits or forgets the offsets of its groups.
fn close(state: &mut State, id: &str, commit: bool, at: Millis, changes: &mut Vec<Change>) {
    let Some(known) = state.transactions.by_id.get_mut(id) else {
        return;
    };
    let producer = known.producer;
    let partitions = std::mem::take(&mut known.partitions);
    let groups = std::mem::take(&mut known.groups);
    known.status = TransactionStatus::Aborted;
    let marker = control::marker(producer.id, producer.epoch, commit, at);
    for place in partitions {
        let Some(partition) = state.partition_mut(place) else {
            continue;
        };
        if let Some(run) = partition.end_transaction(producer.id, &marker, commit, at) {
            state.count_rows(place, 1);
            state.waiting.add(place, &run);
            changes.push(Change::Partition(place));
        }
    }
    if !groups.is_empty() {
        changes.push(Change::Groups);
    }
    for group in groups {
        groups::release(state, group, producer.id, commit);
    }
}

pub(super) fn forget(state: &mut State, idle: Vec<IdleTransactionalId>) -> Outcome {
    for IdleTransactionalId {
        transactional_id: id,
        producer,
        used_at,
    } in idle
    {
        let is_idle = |known: &Transaction| {
            known.producer == producer && known.at == used_at && !known.is_open()
        };
        if state.transactions.get(&id).is_some_and(is_idle) {
            state.transactions.by_id.remove(&id);
            state.transactions.by_producer.remove(&producer.id);
        }
    }
    Outcome::Done
}

/// The cluster was rebuilt, and batches or ends of open transactions may be missing: they are aborted,
/// and their producers fenced.
pub(super) fn abort_all(state: &mut State, at: Millis) {
    let open: Vec<String> = state
        .transactions
        .iter()
        .filter(|(_, known)| known.is_open())
        .map(|(id, _)| id.to_owned())
        .collect();
    for id in open {
        close(state, &id, false, at, &mut Vec::new());
        // Without a producer id left the epoch stays: then nobody is given one either.
        _ = raise(state, &id);
    }
}

#[cfg(test)]
mod tests;
