//! `[compaction]`.

use std::num::NonZeroUsize;
use std::time::Duration;

use alluvium_compaction::CompactionConfig;

use super::errors::ConfigError;
use super::memory::Budgets;
use super::section;
use super::value::ByteSize;

section! {
    /// How the bucket is kept small: objects are merged, logs compacted, old records let go, unused
    /// objects deleted. Each agent does its share.
    pub struct Compaction in "compaction." {
        /// How often small objects are looked for, from 10ms to 1h.
        interval: Duration = Duration::from_secs(5),
        /// Small runs are merged when a partition has so many of them, from 2 to 10000,
        merge_runs: u32 = 64,
        /// or when they have waited so long, from 1s.
        merge_age: Duration = Duration::from_secs(600),
        /// Runs of this size are not small, from 4KiB to 64MiB.
        large_run_bytes: ByteSize = ByteSize(4 << 20),
        /// Objects get about this large where there is so much to merge, from 64KiB to 2GiB.
        target_bytes: ByteSize = ByteSize(576 << 20),
        /// Bytes a second that each agent may read for it, and as many that it may write.
        bytes_per_second: ByteSize = ByteSize(256 << 20),
        /// Objects that each agent reads at once for it, up to 64.
        concurrent_objects: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3),
        /// Memory for objects that are merged, from 1MiB. An object is never larger than this allows.
        /// Unset, it is 12% of `memory.limit`, up to 768MiB, which is enough for `target_bytes`.
        memory: Option<ByteSize> = None,
        /// How often records past their topic's retention are looked for, from 10ms to 1h.
        retention_interval: Duration = Duration::from_secs(30),
        /// How often logs are looked for whose keys are to be compacted, from 10ms to 1h.
        clean_interval: Duration = Duration::from_secs(15),
        /// Memory for the keys of logs that are compacted, from 1MiB. Unset, it is 8% of
        /// `memory.limit`, up to 128MiB.
        clean_memory: Option<ByteSize> = None,
        /// How often unused objects are looked for, from 10ms to 1h.
        sweep_interval: Duration = Duration::from_secs(30),
        /// How old an object must be, by the store's clock, that was never used, from 1h to 30d: what
        /// an upload left that was given up.
        orphan_age: Duration = Duration::from_secs(3600),
        /// How often the whole bucket is listed for such objects, from 1m to 7d. Costs a request per
        /// 1000 objects.
        list_interval: Duration = Duration::from_secs(900),
        /// Most objects that are deleted a second.
        deletes_per_second: NonZeroUsize = NonZeroUsize::MIN.saturating_add(99),
    }
}

impl Compaction {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        for (key, interval) in [
            ("compaction.interval", self.interval),
            ("compaction.retention_interval", self.retention_interval),
            ("compaction.clean_interval", self.clean_interval),
            ("compaction.sweep_interval", self.sweep_interval),
        ] {
            if !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&interval) {
                errors.push(ConfigError::of(key, "is not between 10ms and 1h"));
            }
        }
        if !(2..=10_000).contains(&self.merge_runs) {
            errors.push(ConfigError::of(
                "compaction.merge_runs",
                "is not between 2 and 10000",
            ));
        }
        if self.merge_age < Duration::from_secs(1) {
            errors.push(ConfigError::of("compaction.merge_age", "is less than 1s"));
        }
        self.check_sizes(errors);
    }

    fn check_sizes(&self, errors: &mut Vec<ConfigError>) {
        if !(4 << 10..=64 << 20).contains(&self.large_run_bytes.0) {
            errors.push(ConfigError::of(
                "compaction.large_run_bytes",
                "is not between 4KiB and 64MiB",
            ));
        }
        if !(64 << 10..=2 << 30).contains(&self.target_bytes.0) {
            errors.push(ConfigError::of(
                "compaction.target_bytes",
                "is not between 64KiB and 2GiB",
            ));
        }
        for (key, size) in [
            ("compaction.bytes_per_second", Some(self.bytes_per_second)),
            ("compaction.memory", self.memory),
            ("compaction.clean_memory", self.clean_memory),
        ] {
            if size.is_some_and(|size| size.0 < 1 << 20) {
                errors.push(ConfigError::of(key, "is less than 1MiB"));
            }
        }
        let (minute, hour, day) = (
            Duration::from_secs(60),
            Duration::from_secs(3600),
            Duration::from_secs(24 * 3600),
        );
        for (key, span, least, most, range) in [
            (
                "compaction.orphan_age",
                self.orphan_age,
                hour,
                30 * day,
                "1h and 30d",
            ),
            (
                "compaction.list_interval",
                self.list_interval,
                minute,
                7 * day,
                "1m and 7d",
            ),
        ] {
            if !(least..=most).contains(&span) {
                errors.push(ConfigError::of(key, format!("is not between {range}")));
            }
        }
        if self.concurrent_objects.get() > 64 {
            errors.push(ConfigError::of(
                "compaction.concurrent_objects",
                "is more than 64",
            ));
        }
    }

    /// What an agent takes it as.
    pub(crate) fn config(&self, budgets: &Budgets) -> CompactionConfig {
        CompactionConfig {
            interval: self.interval,
            large_run_bytes: self.large_run_bytes.0,
            merge_runs: usize::try_from(self.merge_runs).unwrap_or(usize::MAX),
            merge_age: self.merge_age,
            target_bytes: self.target_bytes.0,
            bytes_per_second: self.bytes_per_second.0,
            concurrent_objects: self.concurrent_objects.get(),
            memory_bytes: budgets.merge,
            retention_interval: self.retention_interval,
            clean_interval: self.clean_interval,
            clean_memory_bytes: budgets.clean,
            sweep_interval: self.sweep_interval,
            orphan_age: self.orphan_age,
            list_interval: self.list_interval,
            deletes_per_second: u32::try_from(self.deletes_per_second.get()).unwrap_or(u32::MAX),
            ..CompactionConfig::default()
        }
    }
}
