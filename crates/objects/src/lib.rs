//! The one format of what lies in the bucket, and its names. No I/O.
//!
//! An object holds record batches of any number of partitions, sorted by (topic id, partition, base
//! offset), between a fixed header and a footer that says what lies where. [`ObjectWriter`] turns
//! batches into the parts of an object without copying them; [`Footer`] reads an object back from
//! its last bytes; [`key`] names it. The layout is described in docs/formats.md.

mod error;
mod fields;
mod footer;
mod layout;
mod name;
mod writer;

#[cfg(test)]
mod tests;

pub use error::FormatError;
pub use footer::{Footer, IndexEntry, RunEntry};
pub use layout::{ChunkOrigin, HEADER_BYTES, Header, INDEX_STRIDE_BYTES, Level, TRAILER_BYTES};
pub use name::{KEY_SUFFIX, key, parse_key};
pub use writer::{BuiltObject, ObjectWriter, WrittenRun};
