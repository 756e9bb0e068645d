//! Work that waits for a disk.

use alluvium_types::random;

/// Work that did not finish: it panicked, or the runtime is shutting down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work on another thread did not finish: {0}")]
pub struct Blocked(String);

impl From<Blocked> for std::io::Error {
    fn from(blocked: Blocked) -> Self {
        Self::other(blocked)
    }
}

/// Runs `work` on a thread that may block. In a simulation ([`random::is_seeded`]) it runs at once,
/// where it was asked for.
///
/// Dropping the future does not end work that has begun.
///
/// # Errors
/// See [`Blocked`].
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Blocked> {
    if random::is_seeded() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Blocked(error.to_string()))
}
