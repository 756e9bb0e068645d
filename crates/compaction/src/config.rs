//! How the work here is done: sizes, budgets, intervals.

use std::time::Duration;

/// How an agent compacts, cleans, retains and sweeps. Sizes are bytes.
#[derive(Clone, Debug)]
pub struct CompactionConfig {
    /// How often it looks for objects to merge.
    pub interval: Duration,
    /// What was flushed or settled is merged when there is so much of it,
    pub merge_bytes: u64,
    /// or so many runs of one partition,
    pub merge_runs: usize,
    /// or when it is as old as this.
    pub merge_age: Duration,
    /// Objects made of what was flushed or settled are about this large.
    pub target_bytes: u64,
    /// Objects made of those once more are about this large.
    pub large_bytes: u64,
    /// Bytes per second that may be read and written for it, each.
    pub bytes_per_second: u64,
    /// Objects that may be read and written at once.
    pub concurrent_objects: usize,
    /// Memory that all jobs under way may take.
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
    /// Objects that no run ever named are deleted when they are so old.
    pub orphan_age: Duration,
}

impl Default for CompactionConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            merge_bytes: 16 << 20,
            merge_runs: 32,
            merge_age: Duration::from_secs(600),
            target_bytes: 64 << 20,
            large_bytes: 256 << 20,
            bytes_per_second: 256 << 20,
            concurrent_objects: 4,
            memory_bytes: 192 << 20,
            retention_interval: Duration::from_secs(30),
            clean_interval: Duration::from_secs(15),
            clean_memory_bytes: 128 << 20,
            sweep_interval: Duration::from_secs(30),
            grace: Duration::from_secs(600),
            orphan_age: Duration::from_secs(3600),
        }
    }
}
