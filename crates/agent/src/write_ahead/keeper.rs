//! The task that tends the buffer: trims what the state does not name any more, and has produced again
//! what was voided.

use std::sync::{Mutex, PoisonError};

use tokio::sync::broadcast::error::RecvError;
use tokio::task::JoinHandle;
use tokio::time::{Duration, Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use alluvium_cluster::Metadata;
use alluvium_metadata::Change;
use alluvium_storage::write_ahead::{ChunkName, WriteAheadError};
use alluvium_types::{AgentId, ErrorCode};

use super::AgentJournal;
use super::keep::sort;
use super::reclaim::voided;
use crate::produce::ProducerConnection;
use crate::task::ended;

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(500);

/// How long the answer to what was produced again is waited for; then it is looked at anew.
const ANSWER: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Keeper {
    pub(crate) fn start(
        journal: AgentJournal,
        me: AgentId,
        metadata: Metadata,
        producer: ProducerConnection,
    ) -> Self {
        let stop = CancellationToken::new();
        let keeping = Keeping {
            journal,
            me,
            metadata,
            producer,
        };
        let task = tokio::spawn(keeping.run(stop.clone()));
        Self {
            stop,
            task: Mutex::new(Some(task)),
        }
    }

    pub(crate) async fn shutdown(&self) {
        self.stop.cancel();
        ended(&self.task, "tends the write-ahead buffer").await;
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop.cancel();
        let task = self
            .task
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(task) = task {
            task.abort();
        }
    }
}

struct Keeping {
    journal: AgentJournal,
    me: AgentId,
    metadata: Metadata,
    producer: ProducerConnection,
}

impl Keeping {
    async fn run(self, stop: CancellationToken) {
        let mut changes = self.metadata.subscribe();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.look() => {}
            }
            let agents_changed = async {
                loop {
                    match changes.recv().await {
                        Ok(changes) if !changes.contains(&Change::Agents) => {}
                        Ok(_) | Err(RecvError::Lagged(_)) => return,
                        Err(RecvError::Closed) => std::future::pending().await,
                    }
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = agents_changed => {}
                () = sleep(PAUSE) => {}
            }
        }
        // The settler has ended before: what it moved last need not be looked at by the next process.
        self.trim();
    }

    fn trim(&self) -> Vec<ChunkName> {
        let now = Instant::now();
        let sorted = sort(&self.journal, &self.metadata, self.me, now);
        self.journal.buffer().trim(&sorted.useless);
        sorted.in_doubt
    }

    async fn look(&self) {
        for name in self.trim() {
            match self.reclaim(name).await {
                Ok(true) => self.journal.buffer().trim(&[name]),
                Ok(false) => return,
                Err(error) => {
                    tracing::error!(%error, "acks=1 records that lost their offsets cannot be produced again");
                    self.journal.buffer().trim(&[name]);
                }
            }
        }
    }

    /// Produces again what a chunk has lost. False when it is to be tried later.
    async fn reclaim(&self, name: ChunkName) -> Result<bool, WriteAheadError> {
        let lost = voided(&self.journal, &self.metadata, name).await?;
        if lost.is_empty() {
            return Ok(true);
        }
        let batches = lost.len();
        let answered = timeout(ANSWER, self.producer.submit_again(lost)).await;
        let Ok(Ok(results)) = answered else {
            return Ok(false);
        };
        let is_done = results.iter().all(|result| {
            matches!(
                result.error,
                ErrorCode::None | ErrorCode::UnknownTopicOrPartition
            )
        });
        if is_done {
            tracing::info!(
                chunk = %name, batches,
                "acks=1 records that lost their offsets with the registration are stored again"
            );
            metrics::counter!("alluvium_write_ahead_reclaimed_batches_total")
                .increment(u64::try_from(batches).unwrap_or(u64::MAX));
        }
        Ok(is_done)
    }
}
