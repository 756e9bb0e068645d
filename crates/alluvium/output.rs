//! Data goes to standard output, everything else to standard error. A reader that went away is no
//! failure.

use std::io::{self, ErrorKind, IsTerminal, Write};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;

/// Standard output, buffered; lines of data.
pub(crate) struct Output {
    out: io::BufWriter<io::Stdout>,
}

impl Output {
    pub(crate) fn new() -> Self {
        Self {
            out: io::BufWriter::new(io::stdout()),
        }
    }

    /// Writes a line.
    pub(crate) fn line(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.write(bytes)?;
        self.write(b"\n")
    }

    /// Writes rows with their columns one below the other.
    pub(crate) fn table<const N: usize>(&mut self, rows: &[[String; N]]) -> Result<(), Failure> {
        let mut widths = [0; N];
        for row in rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = cell.chars().count().max(*width);
            }
        }
        for row in rows {
            let cells = row.iter().zip(widths);
            let cells: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            self.line(cells.join("  ").trim_end().as_bytes())?;
        }
        Ok(())
    }

    /// Writes bytes as they are.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.out.write_all(bytes).or_else(gone)
    }

    /// Shows what was written so far.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.out.flush().or_else(gone)
    }
}

/// A closed pipe ends the process as if all had been read, as `head` expects.
#[allow(clippy::exit, reason = "there is nobody left to write to")]
fn gone(error: io::Error) -> Result<(), Failure> {
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Err(Failure::Failed(format!(
        "cannot write to standard output: {error}"
    )))
}

/// A line for the person, not for the data.
pub(crate) fn say(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Asks the person before something that cannot be undone; a script has to say `--yes`.
pub(crate) fn confirmed(question: &str) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        let text = format!("{question} Say --yes to do it unasked");
        return Err(Failure::Usage(text));
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{question} [y/N] ");
    let _ = stderr.flush();
    let mut answer = String::new();
    io::stdin()
        .read_line(&mut answer)
        .map_err(|error| Failure::Failed(format!("cannot read the answer: {error}")))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A bar on standard error for work of known length in bytes; hidden when nobody looks.
pub(crate) fn progress(bytes: u64) -> ProgressBar {
    bar(
        bytes,
        "{bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}",
    )
}

/// A bar on standard error that counts things; hidden when nobody looks.
pub(crate) fn counter() -> ProgressBar {
    bar(0, "{bar:40} {pos}/{len} {msg}")
}

fn bar(length: u64, style: &str) -> ProgressBar {
    let target = if io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    match ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
