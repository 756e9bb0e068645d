//! The judge of histories: what clients saw of a log, and whether a log may behave so.
//!
//! A history is what clients did and what they were answered, in the order in which one observer
//! noted it ([`Entry`]). [`Checker::observe`] takes it entry by entry; [`Checker::finish`] gives the
//! [`Verdict`] once everything was read a last time. The crate knows nothing of how the log works, does
//! no I/O, and judges any Kafka-compatible cluster: the simulation and `alluvium check` share it.
//!
//! # What is checked
//!
//! Writers number their records; a record is `(writer, number)`, and a writer is one idempotent
//! producer identity. [`Kind`] lists the anomalies.
//!
//! Of transactions: readers of committed records are shown all of one or nothing, in every partition, never
//! a record of one that was aborted, always those of one that was committed, and nothing at or above the
//! last stable offset, which never goes back. What is part of no transaction is shown to everybody.
//!
//! # Memory
//!
//! About 16 bytes per record (where it was claimed to be, and where it is in the end), 16 bytes per
//! rise of a partition's known end, plus what is in flight, plus some 100 bytes for each batch of a
//! transaction and each record that a reader of committed ones was given. Anomalies are kept up to a
//! hundred.
//!
//! # The file
//!
//! JSON lines; see [`history`].

mod anomaly;
mod checker;
mod ends;
mod event;
mod figures;
mod groups;
pub mod history;
mod pages;
mod partition;
mod transactions;

pub use anomaly::{Anomaly, Counts, Kind, Verdict};
pub use checker::Checker;
pub use event::{Entry, Event, Micros, Place, Read, RecordId};
pub use figures::{Figures, Observer};

#[cfg(test)]
mod tests;
