//! Errors by what the caller can do about them; every store's errors are translated here.

use std::error::Error;
use std::io;
use std::sync::Arc;

/// What can go wrong with one request, by what the caller can do about it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BucketError {
    /// There is no such object.
    #[error("{key}: no such object in {store}")]
    NotFound {
        /// Which store.
        store: Arc<str>,
        /// Which object.
        key: String,
    },
    /// The key is taken by other bytes.
    #[error("{key}: exists already in {store}")]
    AlreadyExists {
        /// Which store.
        store: Arc<str>,
        /// Which object.
        key: String,
    },
    /// The store will not do this however often it is asked: the credentials do not allow it, the key
    /// is malformed, the object is shorter than the range.
    #[error("{store} refused {operation} of {key}: {reason}")]
    Denied {
        /// Which store.
        store: Arc<str>,
        /// PUT, GET, LIST, DELETE, HEAD.
        operation: &'static str,
        /// Which object.
        key: String,
        /// In the store's words.
        reason: String,
    },
    /// It may work later; the retries inside were spent.
    #[error("{store} failed {operation} of {key}: {reason}")]
    Unavailable {
        /// Which store.
        store: Arc<str>,
        /// PUT, GET, LIST, DELETE, HEAD.
        operation: &'static str,
        /// Which object.
        key: String,
        /// In the store's words.
        reason: String,
    },
}

/// Why a store cannot be used at all. The text names the store, what is missing and what to do.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct OpenError(pub String);

/// A failed request, before it is told which store, operation and key it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There is no such object.
    NotFound,
    /// The key is taken.
    Exists,
    /// Never, however often it is asked, in the store's words.
    Denied(String),
    /// Perhaps later, in the store's words. A write may have happened all the same.
    Unavailable(String),
    /// Later, and with fewer requests, in the store's words (S3: 503 SlowDown).
    SlowDown(String),
}

/// Longest text of a store that is passed on.
const REASON_BYTES: usize = 400;

impl Failure {
    /// In words, for messages about opening.
    pub(super) fn reason(&self) -> &str {
        match self {
            Self::NotFound => "not found",
            Self::Exists => "it exists already",
            Self::Denied(reason) | Self::Unavailable(reason) | Self::SlowDown(reason) => reason,
        }
    }

    /// Whether it may be gone when the request is repeated.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::SlowDown(_))
    }

    /// One that may pass, told apart by the store's words.
    pub(super) fn passing(reason: String) -> Self {
        const FEWER: [&str; 5] = [
            "SlowDown",
            "503 Service Unavailable",
            "429 Too Many Requests",
            "TooManyRequests",
            "RequestLimitExceeded",
        ];
        if FEWER.iter().any(|word| reason.contains(word)) {
            Self::SlowDown(reason)
        } else {
            Self::Unavailable(reason)
        }
    }

    pub(super) fn of_disk(error: &io::Error) -> Self {
        use io::ErrorKind::{
            AlreadyExists, IsADirectory, NotADirectory, NotFound, PermissionDenied,
            ReadOnlyFilesystem, Unsupported,
        };
        match error.kind() {
            NotFound => Self::NotFound,
            AlreadyExists => Self::Exists,
            IsADirectory | NotADirectory => {
                Self::Denied(format!("one key is another key's folder ({error})"))
            }
            PermissionDenied | ReadOnlyFilesystem | Unsupported => Self::Denied(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }

    pub(super) fn of_store(error: &object_store::Error) -> Self {
        use object_store::Error as Store;
        match error {
            Store::NotFound { .. } => Self::NotFound,
            // A conditional write that lost: 412, or 409 where another one was under way.
            Store::AlreadyExists { .. } | Store::Precondition { .. } => Self::Exists,
            Store::PermissionDenied { .. }
            | Store::Unauthenticated { .. }
            | Store::InvalidPath { .. }
            | Store::NotSupported { .. }
            | Store::NotImplemented { .. }
            | Store::UnknownConfigurationKey { .. } => Self::Denied(words(error)),
            _ => Self::passing(words(error)),
        }
    }
}

/// An error and its causes, without those that repeat what was said, on one line.
pub(super) fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = next.source();
    }
    let mut text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.len() > REASON_BYTES {
        let end = (0..=REASON_BYTES)
            .rev()
            .find(|at| text.is_char_boundary(*at))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
