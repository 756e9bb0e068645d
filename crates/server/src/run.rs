//! Start and stop (skeleton).

/// Why the process could not start or had to stop.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// Runs until told to stop.
///
/// # Errors
/// See [`RunError`].
pub async fn run() -> Result<(), RunError> {
    Ok(())
}
