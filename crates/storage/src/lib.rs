//! Bytes at rest: the bucket, the read cache and the journal, over one small disk interface.
//!
//! - [`disk`]: the file operations that durability depends on, so that tests can forget what was not
//!   synced.
//! - [`bucket`]: one narrow interface to S3, a folder or memory.
//! - [`cache`]: blocks of immutable objects, in memory.
//! - [`journal`]: an append-only log on the local disk; the Raft log lives in one.

pub mod bucket;
pub mod cache;
pub mod disk;
pub mod journal;
