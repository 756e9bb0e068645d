//! An acks=all answer says that the records can be read: it waits until the high watermark has passed
//! them. They have their offsets before that when a chunk that may yet vanish (acks=1) lies before them
//! in the same partition.

use tokio::sync::broadcast::error::RecvError;

use alluvium_cluster::Metadata;
use alluvium_metadata::{BatchOutcome, Change, State};

use super::commit::Answer;

/// Which answers must wait, and which not, as this node sees it.
pub(super) fn split(metadata: &Metadata, answers: Vec<Answer>) -> (Vec<Answer>, Vec<Answer>) {
    metadata.read(|state| {
        answers
            .into_iter()
            .partition(|answer| is_hidden(state, answer))
    })
}

/// The high watermark lies where a chunk's batches of the partition begin, or at the end: when it has
/// passed a batch's first offset, it has passed the batch. Nothing of a topic that is gone is waited for.
fn is_hidden(state: &State, answer: &Answer) -> bool {
    let (BatchOutcome::Appended { base_offset } | BatchOutcome::Duplicate { base_offset }) =
        answer.outcome
    else {
        return false;
    };
    let partition = state.partition(answer.partition);
    answer.waiting.until_visible()
        && partition.is_some_and(|partition| partition.high_watermark() <= base_offset)
}

/// Gives each answer as soon as what it is about can be read; ends when all are given. Whoever waits
/// bounds the time and says something else to those that are left.
pub(super) async fn give(metadata: &Metadata, hidden: &mut Vec<Answer>) {
    let mut changes = metadata.subscribe();
    loop {
        let (still, shown) = split(metadata, std::mem::take(hidden));
        *hidden = still;
        shown.into_iter().for_each(Answer::give);
        if hidden.is_empty() {
            return;
        }
        loop {
            match changes.recv().await {
                Ok(changes) if !changes.iter().any(|change| concerns(change, hidden)) => {}
                Ok(_) | Err(RecvError::Lagged(_)) => break,
                // This process ends; who waits is told when it does.
                Err(RecvError::Closed) => return std::future::pending().await,
            }
        }
    }
}

fn concerns(change: &Change, hidden: &[Answer]) -> bool {
    match change {
        Change::Partition(at) => hidden.iter().any(|answer| answer.partition == *at),
        Change::Topics => true,
        Change::Agents | Change::Groups | Change::Share(_) => false,
    }
}
