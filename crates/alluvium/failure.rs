//! How a command fails.

use std::fmt;
use std::process::ExitCode;

use alluvium_client::ClientError;

/// Why a command did not do what it was asked to. The text says what happened, to which thing, and
/// what to do next.
#[derive(Debug)]
pub(crate) enum Failure {
    /// It was tried and failed: exit code 1.
    Failed(String),
    /// It was asked for in a way that makes no sense: exit code 2.
    Usage(String),
}

impl Failure {
    /// What failed of many things, each in a line; no failure where nothing did.
    pub(crate) fn unless_none(failures: &[String]) -> Result<(), Self> {
        if failures.is_empty() {
            Ok(())
        } else {
            Err(Self::Failed(failures.join("\n")))
        }
    }

    /// Prints it; the code to exit with.
    #[allow(clippy::print_stderr, reason = "this is where a command's errors go")]
    pub(crate) fn report(&self) -> ExitCode {
        for (index, line) in self.to_string().lines().enumerate() {
            eprintln!("{}{line}", if index == 0 { "error: " } else { "       " });
        }
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(message) | Self::Usage(message) => f.write_str(message),
        }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Failed(error.to_string())
    }
}
