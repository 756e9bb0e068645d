//! Retention, timestamps, and what Kafka does with segment files.

use crate::topics::definition::{Definition, Rule, boolean, double, int, list, long, string};
use crate::topics::reasons::{
    CLEANER, PLACES, REMOTE, RETENTION_CHECK, SEGMENTS, STORE_SYNC, THREADS,
};
use crate::topics::topic_configs::{CLEANUP_POLICIES, TIMESTAMP_TYPES};

const MAX: &str = "9223372036854775807";

pub(super) const CONFIGS: &[Definition] = &[
    list("log.cleanup.policy", "delete")
        .rule(Rule::ElementsOf(CLEANUP_POLICIES))
        .dynamic()
        .doc("cleanup.policy of topics that do not set it."),
    long("log.retention.ms", "")
        .null()
        .dynamic()
        .doc("retention.ms of topics that do not set it, in milliseconds."),
    int("log.retention.minutes", "")
        .null()
        .doc("The same in minutes, where log.retention.ms is not set."),
    int("log.retention.hours", "168").doc("The same in hours, where neither of the others is set."),
    long("log.retention.bytes", "-1")
        .dynamic()
        .doc("retention.bytes of topics that do not set it."),
    long("log.retention.check.interval.ms", "300000")
        .at_least(1.0)
        .no_effect(RETENTION_CHECK),
    string("log.message.timestamp.type", "CreateTime")
        .one_of(TIMESTAMP_TYPES)
        .dynamic()
        .doc("message.timestamp.type of topics that do not set it."),
    long("log.message.timestamp.before.max.ms", MAX)
        .at_least(0.0)
        .dynamic()
        .doc("message.timestamp.before.max.ms of topics that do not set it."),
    long("log.message.timestamp.after.max.ms", "3600000")
        .at_least(0.0)
        .dynamic()
        .doc("message.timestamp.after.max.ms of topics that do not set it."),
    // Compaction.
    long("log.cleaner.delete.retention.ms", "86400000")
        .at_least(0.0)
        .dynamic()
        .doc("delete.retention.ms of topics that do not set it."),
    long("log.cleaner.max.compaction.lag.ms", MAX)
        .at_least(1.0)
        .dynamic()
        .doc("max.compaction.lag.ms of topics that do not set it."),
    long("log.cleaner.min.compaction.lag.ms", "0")
        .at_least(0.0)
        .dynamic()
        .doc("min.compaction.lag.ms of topics that do not set it."),
    double("log.cleaner.min.cleanable.ratio", "0.5")
        .rule(Rule::Between(0.0, 1.0))
        .dynamic()
        .doc("min.cleanable.dirty.ratio of topics that do not set it."),
    boolean("log.cleaner.enable", "true").no_effect(CLEANER),
    long("log.cleaner.backoff.ms", "15000")
        .at_least(0.0)
        .dynamic()
        .no_effect(CLEANER),
    long("log.cleaner.dedupe.buffer.size", "134217728")
        .dynamic()
        .no_effect(CLEANER),
    double("log.cleaner.io.buffer.load.factor", "0.9")
        .dynamic()
        .no_effect(CLEANER),
    int("log.cleaner.io.buffer.size", "524288")
        .at_least(0.0)
        .dynamic()
        .no_effect(CLEANER),
    double(
        "log.cleaner.io.max.bytes.per.second",
        "1.7976931348623157E308",
    )
    .dynamic()
    .no_effect(CLEANER),
    int("log.cleaner.threads", "1")
        .at_least(0.0)
        .dynamic()
        .no_effect(CLEANER),
    // Files.
    list("cordoned.log.dirs", "").refused(PLACES),
    list("log.dir", "/tmp/kafka-logs").refused(PLACES),
    list("log.dirs", "").null().refused(PLACES),
    long("log.dir.failure.timeout.ms", "30000")
        .at_least(1.0)
        .no_effect(SEGMENTS),
    long("log.flush.interval.messages", MAX)
        .at_least(1.0)
        .dynamic()
        .no_effect(STORE_SYNC),
    long("log.flush.interval.ms", "")
        .null()
        .dynamic()
        .no_effect(STORE_SYNC),
    int("log.flush.offset.checkpoint.interval.ms", "60000")
        .at_least(0.0)
        .no_effect(STORE_SYNC),
    long("log.flush.scheduler.interval.ms", MAX).no_effect(STORE_SYNC),
    int("log.flush.start.offset.checkpoint.interval.ms", "60000")
        .at_least(0.0)
        .no_effect(STORE_SYNC),
    int("log.index.interval.bytes", "4096")
        .at_least(0.0)
        .dynamic()
        .no_effect(SEGMENTS),
    int("log.index.size.max.bytes", "10485760")
        .at_least(4.0)
        .dynamic()
        .no_effect(SEGMENTS),
    long("log.initial.task.delay.ms", "30000")
        .at_least(0.0)
        .no_effect(SEGMENTS),
    long("log.local.retention.bytes", "-2")
        .at_least(-2.0)
        .dynamic()
        .no_effect(REMOTE),
    long("log.local.retention.ms", "-2")
        .at_least(-2.0)
        .dynamic()
        .no_effect(REMOTE),
    boolean("log.preallocate", "false")
        .dynamic()
        .no_effect(SEGMENTS),
    int("log.roll.hours", "168")
        .at_least(1.0)
        .no_effect(SEGMENTS),
    long("log.roll.ms", "")
        .null()
        .at_least(1.0)
        .dynamic()
        .no_effect(SEGMENTS),
    int("log.roll.jitter.hours", "0")
        .at_least(0.0)
        .no_effect(SEGMENTS),
    long("log.roll.jitter.ms", "")
        .null()
        .at_least(0.0)
        .dynamic()
        .no_effect(SEGMENTS),
    int("log.segment.bytes", "1073741824")
        .at_least(1_048_576.0)
        .dynamic()
        .no_effect(SEGMENTS),
    long("log.segment.delete.delay.ms", "60000")
        .at_least(0.0)
        .dynamic()
        .no_effect(SEGMENTS),
    int("num.recovery.threads.per.data.dir", "2")
        .at_least(1.0)
        .dynamic()
        .no_effect(THREADS),
];
