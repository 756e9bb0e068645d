//! What can go wrong, in words for the person at the keyboard.

use alluvium_types::ErrorCode;

/// Why a request was not answered, or not as hoped.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error(
        "cannot reach {address}: {reason}; is a server listening there? (--bootstrap names another)"
    )]
    Unreachable {
        /// Whom.
        address: String,
        /// In the system's words.
        reason: String,
    },
    /// The connection broke, or the answer was not readable.
    #[error("{address} did not answer {api}: {reason}")]
    Broken {
        /// Whom.
        address: String,
        /// What was asked.
        api: &'static str,
        /// Why.
        reason: String,
    },
    /// No answer in time.
    #[error("{address} did not answer {api} within {seconds} s")]
    TimedOut {
        /// Whom.
        address: String,
        /// What was asked.
        api: &'static str,
        /// How long it was waited.
        seconds: u64,
    },
    /// The server does not know this API in a version that this client knows.
    #[error("{address} does not support {api}")]
    Unsupported {
        /// Whom.
        address: String,
        /// What was asked.
        api: &'static str,
    },
    /// The server answered with an error.
    #[error("{subject}: {message} ({code})")]
    Refused {
        /// Which topic, partition or group.
        subject: String,
        /// The protocol's code.
        code: ErrorCode,
        /// In the server's words, or ours.
        message: String,
    },
    /// What was asked of this client makes no sense.
    #[error("{0}")]
    Usage(String),
}

impl ClientError {
    /// An error code of an answer as an error about `subject`.
    #[must_use]
    pub fn refused(subject: impl Into<String>, code: i16, message: Option<&str>) -> Self {
        let code = ErrorCode::from_code(code).unwrap_or(ErrorCode::UnknownServerError);
        let message = message
            .filter(|text| !text.is_empty())
            .unwrap_or("the server refused");
        Self::Refused {
            subject: subject.into(),
            code,
            message: message.to_owned(),
        }
    }

    /// Turns an answer's error code into a result.
    ///
    /// # Errors
    /// [`ClientError::Refused`] for any code but 0.
    pub fn check(subject: &str, code: i16, message: Option<&str>) -> Result<(), Self> {
        if code == 0 {
            Ok(())
        } else {
            Err(Self::refused(subject, code, message))
        }
    }

    /// Whether the same request may succeed a moment later.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Refused { code, .. } => matches!(
                code,
                ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::NotCoordinator
                    | ErrorCode::RequestTimedOut
                    | ErrorCode::NotEnoughReplicas
                    | ErrorCode::KafkaStorageError
            ),
            Self::Broken { .. } | Self::TimedOut { .. } => true,
            Self::Unreachable { .. } | Self::Unsupported { .. } | Self::Usage(_) => false,
        }
    }
}
