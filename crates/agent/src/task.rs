//! How a part of the agent sees its task off.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinHandle;

/// Waits for a task that was told to stop; a second call finds nothing to wait for. `task` is what to
/// call it in the log, should it have panicked.
pub(crate) async fn ended(handle: &Mutex<Option<JoinHandle<()>>>, task: &'static str) {
    let handle = handle.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(handle) = handle
        && let Err(error) = handle.await
    {
        tracing::error!(%error, task, "a task did not stop cleanly");
    }
}
