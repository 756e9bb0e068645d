//! Bytes at rest: the bucket, the read cache and the journal, over one small disk interface.
//!
//! - [`disk`]: the file operations that durability depends on, so that tests can forget what was not
//!   synced.
//! - [`bucket`]: one narrow interface to S3, a folder or memory.
//! - [`cache`]: blocks of immutable objects, in memory.
//! - [`hedge`]: second requests for slow first ones.
//! - [`journal`]: an append-only log on the local disk; the Raft log lives in one.
//! - [`write_ahead`]: chunks on the local disk until they are in the bucket, over a journal.
//! - [`blocking`]: work that waits for a disk, kept off the async threads.
//! - [`watch`]: a value that others wait for, for what a simulation must be able to repeat.
//! - [`sick`]: a store that misbehaves on purpose, for tests and benchmarks.
//! - [`conformance`]: what every store must do, for tests.
//!
//! Objects flow from a caller's buffers to [`bucket::Bucket::create`] uncopied, and back through
//! [`cache::Cache::read`] as slices of cached blocks. Journal entries flow from
//! [`journal::Journal::submit`] to one I/O thread, which calls back when they are durable.

mod blocking;
pub mod bucket;
pub mod cache;
pub mod conformance;
pub mod disk;
pub mod hedge;
pub mod journal;
pub mod sick;
pub mod watch;
pub mod write_ahead;

pub use blocking::{Blocked, blocking};
