//! `[log]`.

use super::section;
use super::value::Value;

section! {
    /// What is logged, to standard error.
    pub struct Log in "log." {
        /// `"text"` or `"json"`.
        format: LogFormat = LogFormat::Text,
        /// A level (`"info"`) or directives (`"info,alluvium_agent=debug"`). The variable
        /// `RUST_LOG` goes before it.
        level: String = "info".to_owned(),
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Value for LogFormat {
    fn read(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("{text:?} is neither \"text\" nor \"json\"")),
        }
    }

    fn write(&self) -> String {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
        .to_owned()
    }
}
