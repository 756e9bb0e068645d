//! How the work here is done: sizes, budgets, intervals.

use std::time::Duration;

/// How an agent compacts, cleans, retains and sweeps. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct CompactionConfig {
    /// How often it looks for objects to merge.
    pub interval: Duration,
    /// Runs from this size on are large enough and stay where they are.
    pub large_run_bytes: u64,
    /// Small runs are merged when a partition has so many of them,
    pub merge_runs: usize,
    /// or when they wait so long.
    pub merge_age: Duration,
    /// Objects get about this large, if the memory allows, when there is so much to merge.
    pub target_bytes: u64,
    /// Bytes per second that may be read and written for it, each.
    pub bytes_per_second: u64,
    /// Objects that may be read and written at once.
    pub concurrent_objects: usize,
    /// Memory that a merge may take; an object is never larger.
    pub memory_bytes: u64,
    /// How often it looks for records that are past their retention.
    pub retention_interval: Duration,
    /// How often it looks for partitions to clean.
    pub clean_interval: Duration,
    /// Memory for the keys of the partition that is cleaned.
    pub clean_memory_bytes: u64,
    /// How often it looks for objects to delete.
    pub sweep_interval: Duration,
    /// Objects stay so long after the last run that named them has gone.
    pub grace: Duration,
    /// Objects that no run ever named are deleted when they are so old. Never less than twice
    /// [`CHUNK_AGE_MILLIS`](alluvium_types::limits::CHUNK_AGE_MILLIS), whatever it says.
    pub orphan_age: Duration,
    /// How often the bucket is listed for such objects.
    pub list_interval: Duration,
    /// Between two pages of such a listing.
    pub list_pause: Duration,
    /// Objects on a page.
    pub list_page: usize,
    /// Most objects deleted a second.
    pub deletes_per_second: u32,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            large_run_bytes: 4 << 20,
            merge_runs: 64,
            merge_age: Duration::from_secs(600),
            target_bytes: 576 << 20,
            bytes_per_second: 256 << 20,
            concurrent_objects: 4,
            memory_bytes: 256 << 20,
            retention_interval: Duration::from_secs(30),
            clean_interval: Duration::from_secs(15),
            clean_memory_bytes: 128 << 20,
            sweep_interval: Duration::from_secs(30),
            grace: Duration::from_secs(600),
            orphan_age: Duration::from_secs(3600),
            list_interval: Duration::from_secs(900),
            list_pause: Duration::from_secs(1),
            list_page: 1000,
            deletes_per_second: 100,
        }
    }
}

impl CompactionConfig {
    /// How large an object may get: what is read for it is in memory until it is written.
    pub(crate) fn object_bytes(&self) -> u64 {
        self.target_bytes.min(self.memory_bytes / 4 * 3).max(1)
    }
}
