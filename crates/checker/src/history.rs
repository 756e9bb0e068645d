//! A history as a file: JSON lines, so that it can be cut, searched and read by anything.
//!
//! The first line is `{"alluvium_history":1}`. Every other line is one [`Entry`]: `at` (microseconds
//! since the beginning), `client` (a number), `event` (the name of one of [`crate::Event`] in snake
//! case) and that event's fields side by side, with a partition as `topic` and `partition`:
//!
//! ```text
//! {"alluvium_history":1}
//! {"at":10,"client":1,"event":"produce_invoked","op":1,"topic":"t","partition":0,"writer":1,"first":0,"count":2,"producer":7,"sequence":0}
//! {"at":250,"client":1,"event":"produce_acked","op":1,"offset":0}
//! {"at":300,"client":2,"event":"fetched","topic":"t","partition":0,"session":1,"from":0,"high_watermark":2,"log_start":0,"records":[{"offset":0,"record":[1,0]},{"offset":1,"record":[1,1]}],"last":false}
//! ```
//!
//! Entries stand in the order in which the observer noted them.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::event::Entry;

/// The format's version.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Header {
    alluvium_history: u32,
}

/// Why a file is no history.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It cannot be read.
    #[error("cannot read the history: {0}")]
    Io(#[from] io::Error),
    /// A line is not what it should be.
    #[error("line {line} is no entry of a history: {reason}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
}

/// Writes the first line.
///
/// # Errors
/// The writer's.
pub fn begin(out: &mut impl Write) -> io::Result<()> {
    let header = Header {
        alluvium_history: VERSION,
    };
    line(out, &header)
}

/// Writes an entry.
///
/// # Errors
/// The writer's.
pub fn append(out: &mut impl Write, entry: &Entry) -> io::Result<()> {
    line(out, entry)
}

fn line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

/// Reads a history, entry by entry.
pub fn read(input: impl BufRead) -> impl Iterator<Item = Result<Entry, HistoryError>> {
    (1..).zip(input.lines()).filter_map(|(number, text)| {
        let wrong = |reason: String| HistoryError::Line {
            line: number,
            reason,
        };
        let text = match text {
            Ok(text) => text,
            Err(error) => return Some(Err(error.into())),
        };
        if number == 1 {
            return match serde_json::from_str::<Header>(&text) {
                Ok(header) if header.alluvium_history == VERSION => None,
                Ok(header) => {
                    let version = header.alluvium_history;
                    Some(Err(wrong(format!("version {version} is not known"))))
                }
                Err(error) => Some(Err(wrong(error.to_string()))),
            };
        }
        let entry = serde_json::from_str(&text);
        Some(entry.map_err(|error| wrong(error.to_string())))
    })
}
