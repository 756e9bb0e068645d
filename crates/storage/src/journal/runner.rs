//! What drives a journal's writer: a thread of its own, or in a simulation a task that takes as long
//! as a disk would.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use alluvium_types::random;

use super::JournalError;
use super::state::Shared;
use super::writer::Writer;

/// How long a simulated sync takes, in milliseconds.
const SYNC_MILLIS: std::ops::Range<u64> = 0..4;

/// Ends when the journal is closed.
pub(super) enum Runner {
    Thread(Mutex<Option<JoinHandle<()>>>),
    /// The task holds it too.
    Task(Arc<Mutex<Writer>>),
}

impl Runner {
    pub(super) fn start(
        shared: &Arc<Shared>,
        writer: Writer,
        dir: &Path,
    ) -> Result<Self, JournalError> {
        if random::is_seeded()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let writer = Arc::new(Mutex::new(writer));
            runtime.spawn(run(Arc::clone(shared), Arc::clone(&writer)));
            return Ok(Self::Task(writer));
        }
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| JournalError::io(dir, &error))?;
        Ok(Self::Thread(Mutex::new(Some(thread))))
    }

    /// Waits until what is queued is written out, after the journal was closed.
    pub(super) fn join(&self) {
        match self {
            Self::Task(writer) => drain(writer),
            Self::Thread(thread) => {
                let thread = thread.lock().unwrap_or_else(PoisonError::into_inner).take();
                if let Some(thread) = thread
                    && thread.thread().id() != std::thread::current().id()
                {
                    // A panic in a callback has been reported by the panic hook; the queue was failed.
                    let _ = thread.join();
                }
            }
        }
    }
}

async fn run(shared: Arc<Shared>, writer: Arc<Mutex<Writer>>) {
    while shared.queued().await {
        tokio::time::sleep(Duration::from_millis(random::range(SYNC_MILLIS))).await;
        drain(&writer);
    }
}

/// Writes out what is queued; called from a callback of its own it leaves that to the caller.
fn drain(writer: &Mutex<Writer>) {
    if let Ok(mut writer) = writer.try_lock() {
        writer.drain();
    }
}
