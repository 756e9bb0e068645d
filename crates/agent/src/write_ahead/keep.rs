//! Which chunks of the buffer may go.

use tokio::time::{Duration, Instant};

use alluvium_cluster::Metadata;
use alluvium_metadata::{JournalChunkId, State};
use alluvium_storage::write_ahead::ChunkName;
use alluvium_types::{AgentId, limits};

use super::{AgentJournal, Copied, id_of};

/// A copy that the state never named goes after this: the quorum takes no chunk that is so old.
const NEVER_NAMED: Duration = Duration::from_millis(2 * limits::CHUNK_AGE_MILLIS.unsigned_abs());

/// What is to be done with the chunks that are not needed here any more.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sorted {
    /// Trim these.
    pub(crate) useless: Vec<ChunkName>,
    /// These had their offsets under a registration that is over: look what became of them.
    pub(crate) in_doubt: Vec<ChunkName>,
}

/// Whether nothing can be sequenced any more under the registration that a chunk bears. The log is
/// one: a state that says so knows everything that was.
pub(crate) fn is_over(state: &State, chunk: JournalChunkId) -> bool {
    state.agent(chunk.agent).is_none_or(|agent| {
        agent.epoch > chunk.epoch || (agent.epoch == chunk.epoch && agent.ended_at().is_some())
    })
}

/// Looks through the buffer of agent `me`.
pub(crate) fn sort(
    journal: &AgentJournal,
    metadata: &Metadata,
    me: AgentId,
    now: Instant,
) -> Sorted {
    // In this order: a chunk that is here and not under way was applied in the view, if it ever was.
    let names = journal.buffer().names();
    let under_way = journal.under_way().clone();
    let mut copies = journal.copies();
    copies.retain(|name, _| names.binary_search(name).is_ok());
    metadata.read(|state| {
        let mut sorted = Sorted::default();
        for name in names {
            let id = id_of(name);
            let is_named = state.journal_chunk(id).is_some();
            if name.agent == me {
                if is_named || under_way.contains(&name) {
                    continue;
                }
                // One that was settled is not in doubt, whatever became of its offsets since.
                if is_over(state, id)
                    && state.was_voided(id)
                    && journal.buffer().marked(name).is_some()
                {
                    sorted.in_doubt.push(name);
                } else {
                    sorted.useless.push(name);
                }
                continue;
            }
            let copied = copies.entry(name).or_insert(Copied {
                was_named: false,
                since: now,
            });
            copied.was_named |= is_named;
            let is_late = now.saturating_duration_since(copied.since) > NEVER_NAMED;
            if !is_named && (copied.was_named || is_late || is_over(state, id)) {
                sorted.useless.push(name);
            }
        }
        sorted
    })
}
