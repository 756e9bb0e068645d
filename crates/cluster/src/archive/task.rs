//! When the archiver works, and what becomes of its errors.

use std::sync::Arc;
use std::time::Duration;

use alluvium_storage::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use alluvium_types::{Clock, random};

use super::ArchiveConfig;
use super::archiver::{Archiver, RoundError};
use super::progress::ArchiveProgress;
use super::source::Source;
use crate::status::ArchiveTrouble;
use crate::view::View;

/// The longest pause after failures; there is no last attempt.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long a shutdown waits for the last piece.
const LAST_ROUND: Duration = Duration::from_secs(3);
/// Failures in a row after which it is told.
const TOLD_AFTER: u32 = 3;

/// A running archiver. Ends with [`Self::shutdown`] or when it is dropped.
#[derive(Debug)]
pub(crate) struct ArchiveTask {
    stop: watch::Sender<bool>,
    fenced: watch::Receiver<Option<String>>,
    progress: ArchiveProgress,
    running: Option<JoinHandle<()>>,
}

impl ArchiveTask {
    pub(crate) fn start(
        config: ArchiveConfig,
        view: Arc<View>,
        source: Arc<dyn Source>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (fence, fenced) = watch::channel(None);
        let progress = ArchiveProgress::default();
        let archiver = Archiver {
            config,
            view,
            source,
            clock,
            progress: progress.clone(),
            office: None,
        };
        let running = tokio::spawn(run(archiver, stopped, fence));
        Self {
            stop,
            fenced,
            progress,
            running: Some(running),
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> ArchiveProgress {
        self.progress.clone()
    }

    /// Resolves when this cluster goes on elsewhere, with the reason: the node must stop.
    pub(crate) async fn fenced(&self) -> String {
        let mut fenced = self.fenced.clone();
        loop {
            if let Some(reason) = fenced.borrow_and_update().clone() {
                return reason;
            }
            if fenced.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Archives what is left, if that is quick, and stops. Call while the voter still runs.
    pub(crate) async fn shutdown(mut self) {
        // An error says that it has ended.
        let _ = self.stop.send(true);
        if let Some(running) = self.running.take()
            && let Err(error) = running.await
        {
            tracing::warn!(%error, "the archiver failed");
        }
    }
}

impl Drop for ArchiveTask {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

async fn run(
    mut archiver: Archiver,
    mut stop: watch::Receiver<bool>,
    fence: watch::Sender<Option<String>>,
) {
    let interval = archiver.config.interval;
    let mut failures = 0;
    // At once: a leader that was fenced while it was down must not serve for long.
    let mut pause = Duration::ZERO;
    loop {
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            () = sleep(pause) => {}
        }
        let round = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            round = archiver.round() => round,
        };
        pause = match round {
            Ok(more) => {
                if failures >= TOLD_AFTER {
                    tracing::info!("the archive in the bucket goes on");
                }
                failures = 0;
                archiver.progress.trouble(None);
                if more { Duration::ZERO } else { interval }
            }
            Err(RoundError::Fenced(reason)) => {
                archiver.progress.trouble(Some(ArchiveTrouble::Fenced));
                tracing::error!(reason, "fenced");
                // An error says that nobody asks any more.
                let _ = fence.send(Some(reason));
                return;
            }
            Err(error) => {
                failures += 1;
                archiver.progress.trouble(Some(ArchiveTrouble::Store));
                metrics::counter!("alluvium_archive_failures_total").increment(1);
                // One failure is the store's everyday life; several are news.
                if failures == TOLD_AFTER {
                    tracing::warn!(
                        %error,
                        "the metadata log is not archived; should all metadata disks be lost now, \
                         what follows could not be restored. Trying on"
                    );
                } else {
                    tracing::debug!(%error, failures, "archiving failed; trying again");
                }
                back_off(interval, failures)
            }
        };
    }
    // What was acknowledged just now had better be in the bucket too.
    match timeout(LAST_ROUND, archiver.round()).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the last of the metadata log is not archived"),
        Err(_) => tracing::warn!("no time to archive the last of the metadata log"),
    }
}

/// Doubles, with jitter, up to half a minute.
fn back_off(interval: Duration, failures: u32) -> Duration {
    let doubled = interval
        .saturating_mul(1 << failures.min(8))
        .min(LONGEST_PAUSE.max(interval));
    doubled.mul_f64(random::range(0.5..1.0))
}
