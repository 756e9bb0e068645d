//! The read path: plan, read, assemble; and waiting at the tail.
//!
//! A fetch is planned in one glance at this node's view of the metadata (`plan`): which runs hold
//! the offsets, and about how many bytes there are. When that is less than the client wants, it
//! waits until one of its partitions changes (`tail`); nothing is read before it can be answered.
//! Then the runs are read (`read`) from the metadata itself (inline), from recent chunks
//! (`recent`), through the cache or from write-ahead buffers, this agent's or another's (`source`),
//! beginning where the last fetch ended (`readers`) or the footer's index says (`seek`), batch by batch
//! (`run_reader`); bytes that come from outside this process are checked on the way, and read once more
//! when they are bad. Each batch gets its offset and goes out as the slices it was read in
//! (`assemble`).
//!
//! A read_committed reader is given nothing past the last stable offset, and is told which transactions in
//! what it is given were aborted: as the view says that the read was planned on, for a later one may have
//! let go of transactions whose records it still reads.
//!
//! Whoever reads on and on through old data has the cache fetch ahead (`readers`); agents of one zone
//! fetch for one another (`zone`).

mod assemble;
mod chain;
mod list_offsets;
mod plan;
mod read;
mod readers;
mod recent;
mod run_reader;
mod seek;
mod source;
mod tail;
mod zone;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::Metadata;
use alluvium_storage::cache::Cache;
use alluvium_types::{ErrorCode, Millis, Offset, ProducerId, TopicPartition};

use crate::AgentConfig;
use crate::freshness::Freshness;
use crate::peers::{Copies, Peers};
use crate::registration::Registration;
use crate::task::ended;

use plan::Plan;
use source::Source;
use tail::{Tail, Waiter};
use zone::{Company, Zone};

pub use recent::Recent;

/// The read path of an agent.
#[derive(Debug)]
pub struct Fetch {
    metadata: Metadata,
    freshness: Freshness,
    source: Source,
    tail: Tail,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadPartition {
    /// Which.
    pub partition: TopicPartition,
    /// From where.
    pub offset: Offset,
    /// Bytes of this partition; the first batch may exceed it.
    pub max_bytes: usize,
}

/// How much, and how long to wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Longest wait for `min_bytes`.
    pub max_wait: Duration,
    /// Answer at once when there are this many bytes.
    pub min_bytes: usize,
    /// Bytes over all partitions; the first batch of the first partition that has one may exceed it.
    pub max_bytes: usize,
    /// Stop at the last stable offset.
    pub read_committed: bool,
}

/// What was read of one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct ReadResult {
    /// Success is [`ErrorCode::None`].
    pub error: ErrorCode,
    /// -1 when the partition is unknown.
    pub high_watermark: Offset,
    /// -1 when the partition is unknown.
    pub last_stable_offset: Offset,
    /// -1 when the partition is unknown.
    pub log_start: Offset,
    /// The aborted transactions that have offsets in what was read, as producer and first offset, by first
    /// offset. None unless read_committed.
    pub aborted: Vec<(ProducerId, Offset)>,
    /// Whole batches, base offset and leader epoch in place, as a chain of buffers.
    pub records: Vec<Bytes>,
}

/// What ListOffsets asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The log start offset (-2, and -4: earliest local).
    Earliest,
    /// The high watermark, or the last stable offset (-1).
    Latest,
    /// The record with the greatest timestamp (-3, KIP-734).
    MaxTimestamp,
    /// The first record at or after a time.
    Timestamp(Millis),
}

impl Fetch {
    /// Starts the read path.
    pub(crate) fn start(
        config: &AgentConfig,
        metadata: Metadata,
        freshness: Freshness,
        cache: Cache,
    ) -> Self {
        let tail = Tail::default();
        let stop = CancellationToken::new();
        // Subscribed before anybody can wait.
        let changes = metadata.subscribe();
        let task = tokio::spawn(tail.clone().run(changes, metadata.clone(), stop.clone()));
        let source = Source::new(Recent::new(config.recent_bytes), cache);
        Self {
            metadata,
            freshness,
            source,
            tail,
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    /// Has it read from others as well: blocks of objects through the agents of its `zone`, chunks that
    /// are in no object yet from this agent's write-ahead buffer (`copies`) and from those of others.
    /// Only the first call counts.
    pub(crate) fn join(
        &self,
        registration: Registration,
        zone: Option<String>,
        peers: Arc<dyn Peers>,
        copies: Option<Arc<dyn Copies>>,
    ) {
        let company = Company {
            registration,
            peers,
            copies,
        };
        let zone = Zone::new(company.clone(), zone, self.metadata.clone());
        self.source.cache().share(Arc::new(zone));
        self.source.join(company);
    }

    /// Takes a seat at the tail of some partitions, for those who wait for more than records.
    pub(crate) fn seat(&self, partitions: impl Iterator<Item = TopicPartition>) -> Waiter {
        self.tail.wait_for(partitions)
    }

    /// The chunks that producers just wrote.
    pub(crate) fn recent(&self) -> Recent {
        self.source.recent().clone()
    }

    /// Reads, waiting at the tail as `limits` say. Answers in the order of `partitions`.
    ///
    /// Whole batches only; an offset inside a batch gives the whole batch. The first partition that
    /// has records gives at least one batch, however large. An offset below the log start or past
    /// the high watermark is answered `OffsetOutOfRange`; errors answer at once. What the view does
    /// not know is looked for behind a barrier first; when there is none to be had, an offset past
    /// what is known is answered `NotLeaderOrFollower`. Bytes that cannot be
    /// read now, or are not what was written, are answered `KafkaStorageError`, for their partition
    /// only.
    pub async fn read(&self, partitions: &[ReadPartition], limits: ReadLimits) -> Vec<ReadResult> {
        let begun = Instant::now();
        let plans = self.wait(partitions, &limits).await;
        let ends: Vec<_> = plans.iter().map(|plan| plan.end).collect();
        let results = self.read_planned(partitions, plans, &limits).await;
        let is_empty =
            |result: &ReadResult| result.error == ErrorCode::None && result.records.is_empty();
        let waits = !limits.max_wait.is_zero() && limits.min_bytes > 0;
        if !waits || partitions.is_empty() || !results.iter().all(is_empty) {
            return results;
        }
        // What was planned may hold no record at or behind the offset: some offsets have none. A client
        // that was told so at once would ask again at once.
        let deadline = begun.checked_add(limits.max_wait);
        let waiter = self
            .tail
            .wait_for(partitions.iter().map(|asked| asked.partition));
        let mut plans = self.plan(partitions, &limits);
        // Unless there is news since.
        if plans.iter().map(|plan| plan.end).eq(ends) {
            self.changed(&waiter, deadline).await;
            plans = self.plan(partitions, &limits);
        }
        self.read_planned(partitions, plans, &limits).await
    }

    /// Reads; and once more where bytes could not be had and lie somewhere else by now.
    async fn read_planned(
        &self,
        partitions: &[ReadPartition],
        plans: Vec<Plan>,
        limits: &ReadLimits,
    ) -> Vec<ReadResult> {
        let places: Vec<_> = plans
            .iter()
            .map(|plan| plan.runs.first().cloned())
            .collect();
        let results = read::read_all(&self.source, plans, limits.max_bytes).await;
        if !results.iter().any(ReadResult::is_unreadable) {
            return results;
        }
        let again = self.plan(partitions, limits);
        let moved = |((result, old), new): ((&ReadResult, &Option<_>), &Plan)| {
            result.is_unreadable() && new.runs.first() != old.as_ref()
        };
        if results.iter().zip(&places).zip(&again).any(moved) {
            return read::read_all(&self.source, again, limits.max_bytes).await;
        }
        results
    }

    async fn wait(&self, partitions: &[ReadPartition], limits: &ReadLimits) -> Vec<Plan> {
        let mut plans = self.plan(partitions, limits);
        if plans.iter().any(Plan::is_miss) {
            let is_fresh = self.freshness.catch_up().await.is_ok();
            plans = self.plan(partitions, limits);
            if !is_fresh {
                plans.iter_mut().for_each(Plan::doubt);
            }
        }
        if limits.max_wait.is_zero() || is_enough(&plans, limits) {
            return plans;
        }
        // A wait beyond what the clock can count is one without end.
        let deadline = Instant::now().checked_add(limits.max_wait);
        let waiter = self
            .tail
            .wait_for(partitions.iter().map(|asked| asked.partition));
        loop {
            // Planned anew after the seat was taken: nothing is missed in between.
            let plans = self.plan(partitions, limits);
            if is_enough(&plans, limits) || !self.changed(&waiter, deadline).await {
                return plans;
            }
        }
    }

    fn plan(&self, partitions: &[ReadPartition], limits: &ReadLimits) -> Vec<Plan> {
        self.metadata
            .read(|state| plan::plan(state, partitions, limits))
    }

    /// Waits for a change; false when the wait is over.
    async fn changed(&self, waiter: &Waiter, deadline: Option<Instant>) -> bool {
        let over = async {
            match deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = waiter.changed() => true,
            () = over => false,
            () = self.stop.cancelled() => false,
        }
    }

    /// Answers ListOffsets: (offset, timestamp), (-1, -1) when no record qualifies. The earliest and
    /// latest offsets come without a timestamp (-1). With `read_committed` nothing from the last stable
    /// offset on counts. As this agent's view says: linearizable behind
    /// [`Agent::current`](crate::Agent::current), which serves for many partitions.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`; `KafkaStorageError` when the bytes cannot be read now.
    pub async fn list_offset(
        &self,
        partition: TopicPartition,
        spec: OffsetSpec,
        read_committed: bool,
    ) -> Result<(Offset, Millis), ErrorCode> {
        let (source, metadata) = (&self.source, &self.metadata);
        list_offsets::list_offset(source, metadata, partition, spec, read_committed).await
    }

    /// Ends every wait and stops. Reads go on to work, without waiting and without a disk tier.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.task, "wakes readers").await;
        self.source.cache().close().await;
    }
}

impl ReadResult {
    fn is_unreadable(&self) -> bool {
        self.error == ErrorCode::KafkaStorageError
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Whether a fetch can be answered without waiting.
fn is_enough(plans: &[Plan], limits: &ReadLimits) -> bool {
    if plans.is_empty() || plans.iter().any(|plan| plan.error != ErrorCode::None) {
        return true;
    }
    let available = plans.iter().fold(0usize, |sum, plan| {
        sum.saturating_add(plan.available.min(plan.max_bytes.max(1)))
    });
    // Where more runs are waiting than one fetch reads, waiting longer cannot bring more.
    plans.iter().any(|plan| plan.is_cut) || available >= limits.min_bytes.min(limits.max_bytes)
}
