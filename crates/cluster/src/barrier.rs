//! Many wait, one asks.

use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::applied::ProposeError;

/// Shares the question what is committed among those who wait for its answer at the same moment. A
/// caller never gets the answer to a question that was asked before it came: something may have been
/// committed in between.
#[derive(Debug, Default)]
pub(crate) struct Barriers {
    /// The round that has not been asked for yet.
    next: Mutex<Option<Arc<Round>>>,
    /// Whoever holds it asks.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Round {
    answer: OnceLock<Result<u64, ProposeError>>,
}

impl Barriers {
    /// Everything that is committed now lies below the answer.
    pub(crate) async fn join<F>(&self, ask: impl FnOnce() -> F) -> Result<u64, ProposeError>
    where
        F: Future<Output = Result<u64, ProposeError>>,
    {
        let round = Arc::clone(self.next().get_or_insert_default());
        let _turn = self.turn.lock().await;
        if let Some(answer) = round.answer.get() {
            return answer.clone();
        }
        // Whoever comes from here on waits for the next question.
        self.next().take_if(|next| Arc::ptr_eq(next, &round));
        let answer = ask().await;
        round.answer.get_or_init(|| answer).clone()
    }

    fn next(&self) -> std::sync::MutexGuard<'_, Option<Arc<Round>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_together_share_one_question_and_latecomers_do_not() {
        let barriers = Barriers::default();
        let asked = AtomicU64::new(0);
        let open = Semaphore::new(0);
        let ask = || async {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            let permit = open.acquire().await;
            permit.map(tokio::sync::SemaphorePermit::forget).unwrap();
            Ok(number)
        };
        let first = join_all((0..10).map(|_| barriers.join(ask)));
        let late = async {
            while asked.load(Ordering::SeqCst) == 0 {
                tokio::task::yield_now().await;
            }
            let late = join_all((0..10).map(|_| barriers.join(ask)));
            open.add_permits(2);
            late.await
        };
        let (first, late) = tokio::join!(first, late);
        // The first asks at once, and all others come after its question.
        assert_eq!(first[0], Ok(0));
        let others = first[1..].iter().chain(&late);
        assert!(
            others.into_iter().all(|answer| *answer == Ok(1)),
            "{first:?} {late:?}"
        );
        assert_eq!(asked.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn whoever_leaves_while_asking_does_not_hold_up_the_others() {
        let barriers = Barriers::default();
        let never = || std::future::pending::<Result<u64, ProposeError>>();
        let mut gone = Box::pin(barriers.join(never));
        assert!(futures::poll!(gone.as_mut()).is_pending());
        drop(gone);
        assert_eq!(barriers.join(|| async { Ok(5) }).await, Ok(5));
    }
}
