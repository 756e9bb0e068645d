//! Starting order must not matter: what is not there yet is waited for, and that is said.

use std::time::Duration;

use crate::readiness::Readiness;

/// How often a wait is told in the log.
const TELL: Duration = Duration::from_secs(5);

/// Waits for `done`, and says every few seconds what for.
pub(crate) async fn wait_for<T>(
    readiness: &Readiness,
    what: &str,
    done: impl Future<Output = T>,
) -> T {
    readiness.starting(format!("waiting for {what}"));
    let mut done = std::pin::pin!(done);
    let begun = tokio::time::Instant::now();
    loop {
        tokio::select! {
            biased;
            result = &mut done => return result,
            () = tokio::time::sleep(TELL) => {
                tracing::info!(seconds = begun.elapsed().as_secs(), "still waiting for {what}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_waited_for_is_told_until_it_is_there() {
        let readiness = Readiness::new();
        let there = tokio::time::sleep(TELL * 3 + TELL / 2);
        let begun = tokio::time::Instant::now();
        let mut waiting = std::pin::pin!(wait_for(&readiness, "the others", there));
        assert!(tokio::time::timeout(TELL, &mut waiting).await.is_err());
        let told = readiness.state();
        assert_eq!(told.reason.as_deref(), Some("waiting for the others"));
        waiting.await;
        assert_eq!(begun.elapsed(), TELL * 3 + TELL / 2);
    }
}
