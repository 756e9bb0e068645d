//! Every topic setting that Kafka 4 documents, and ours.

use super::definition::{Definition, Rule, boolean, double, int, list, long, string};
use super::reasons::{LEVELS, REMOTE, REPLICATION, SEGMENTS, STORE_SYNC};

const MAX: &str = "9223372036854775807";

/// The codecs of `compression.type`, in the order of Kafka's message.
pub(super) const COMPRESSION_TYPES: &[&str] =
    &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
pub(super) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];
pub(super) const CLEANUP_POLICIES: &[&str] = &["compact", "delete"];
pub(super) const LANES: &[&str] = &["auto", "object", "low-latency"];

/// The table, by name.
pub const TOPIC_CONFIGS: &[Definition] = &[
    string("alluvium.lane", "auto").one_of(LANES).doc(
        "How records become durable: object, always in objects of the store; low-latency, inside \
         the metadata log while its budget lasts; auto, by size and budget.",
    ),
    list("cleanup.policy", "delete")
        .rule(Rule::ElementsOf(CLEANUP_POLICIES))
        .doc("Whether old records are deleted, compacted by key, or both; neither when empty."),
    int("compression.gzip.level", "-1")
        .rule(Rule::GzipLevel)
        .doc("Level used where compression.type asks for gzip.")
        .no_effect(LEVELS),
    int("compression.lz4.level", "9")
        .rule(Rule::Between(1.0, 17.0))
        .doc("Level used where compression.type asks for lz4.")
        .no_effect(LEVELS),
    string("compression.type", "producer").one_of(COMPRESSION_TYPES).doc(
        "Codec of stored batches. 'producer' keeps what the producer chose; another value \
         recompresses batches that come in another codec.",
    ),
    int("compression.zstd.level", "3")
        .rule(Rule::Between(-131_072.0, 22.0))
        .doc("Level used where compression.type asks for zstd.")
        .no_effect(LEVELS),
    long("delete.retention.ms", "86400000")
        .at_least(0.0)
        .doc(
            "How long tombstones stay in a compacted topic after it was compacted with them, in \
             milliseconds.",
        ),
    long("file.delete.delay.ms", "60000")
        .at_least(0.0)
        .doc("Time between marking a file as deleted and deleting it, in milliseconds.")
        .no_effect(SEGMENTS),
    long("flush.messages", MAX)
        .at_least(1.0)
        .doc("Records after which a partition is synced to disk.")
        .no_effect(STORE_SYNC),
    long("flush.ms", MAX)
        .at_least(0.0)
        .doc("Time after which a partition is synced to disk, in milliseconds.")
        .no_effect(STORE_SYNC),
    list("follower.replication.throttled.replicas", "")
        .rule(Rule::ThrottledReplicas)
        .doc("Replicas whose copying is throttled at the follower.")
        .no_effect(REPLICATION),
    int("index.interval.bytes", "4096")
        .at_least(0.0)
        .doc("Bytes between two entries of an offset index.")
        .no_effect(SEGMENTS),
    list("leader.replication.throttled.replicas", "")
        .rule(Rule::ThrottledReplicas)
        .doc("Replicas whose copying is throttled at the leader.")
        .no_effect(REPLICATION),
    long("local.retention.bytes", "-2")
        .at_least(-2.0)
        .doc("Bytes of a tiered partition that stay on local disk.")
        .no_effect(REMOTE),
    long("local.retention.ms", "-2")
        .at_least(-2.0)
        .doc("How long records of a tiered topic stay on local disk, in milliseconds.")
        .no_effect(REMOTE),
    long("max.compaction.lag.ms", MAX)
        .at_least(1.0)
        .doc("Longest time that a record may wait to be compacted, in milliseconds."),
    int("max.message.bytes", "1048588")
        .at_least(0.0)
        .doc("Largest record batch that is taken, in bytes, compressed."),
    long("message.timestamp.after.max.ms", "3600000").at_least(0.0).doc(
        "How far a record's timestamp may lie in the future, in milliseconds; with CreateTime only.",
    ),
    long("message.timestamp.before.max.ms", MAX).at_least(0.0).doc(
        "How far a record's timestamp may lie in the past, in milliseconds; with CreateTime only.",
    ),
    string("message.timestamp.type", "CreateTime")
        .one_of(TIMESTAMP_TYPES)
        .doc("Whether records keep the producer's timestamp or get the time of their append."),
    double("min.cleanable.dirty.ratio", "0.5")
        .rule(Rule::Between(0.0, 1.0))
        .doc("Share of a log that must be uncompacted before it is compacted."),
    long("min.compaction.lag.ms", "0")
        .at_least(0.0)
        .doc("Shortest time that a record stays uncompacted, in milliseconds."),
    int("min.insync.replicas", "1")
        .at_least(1.0)
        .doc("Replicas that must have a record before acks=all is answered.")
        .no_effect(REPLICATION),
    boolean("preallocate", "false")
        .doc("Whether segment files are allocated at full size.")
        .no_effect(SEGMENTS),
    long("remote.copy.lag.bytes", "0")
        .at_least(-1.0)
        .doc("Bytes that a segment waits before it is copied to remote storage.")
        .no_effect(REMOTE),
    long("remote.copy.lag.ms", "0")
        .at_least(-1.0)
        .doc("Time that a segment waits before it is copied to remote storage, in milliseconds.")
        .no_effect(REMOTE),
    boolean("remote.log.copy.disable", "false")
        .doc("Makes a tiered topic's remote part read-only.")
        .no_effect(REMOTE),
    boolean("remote.log.delete.on.disable", "false")
        .doc("Whether remote records are deleted when tiering is switched off.")
        .no_effect(REMOTE),
    boolean("remote.storage.enable", "false")
        .doc("Kafka's tiered storage.")
        .refused("Tiered Storage functionality is disabled in the broker. All records are in the object store already"),
    long("retention.bytes", "-1")
        .doc(
            "Bytes that a partition may grow to before its oldest records go; -1 is no limit. Records \
             go in runs, and at least so many bytes stay.",
        ),
    long("retention.ms", "604800000")
        .at_least(-1.0)
        .doc(
            "How long records are kept, in milliseconds; -1 is for ever. Records go in runs, when the \
             newest of a run is so old.",
        ),
    int("segment.bytes", "1073741824")
        .at_least(1_048_576.0)
        .doc("Size of a segment file, in bytes.")
        .no_effect(SEGMENTS),
    int("segment.index.bytes", "10485760")
        .at_least(4.0)
        .doc("Size of an index file, in bytes.")
        .no_effect(SEGMENTS),
    long("segment.jitter.ms", "0")
        .at_least(0.0)
        .doc("Most that is randomly taken from segment.ms, in milliseconds.")
        .no_effect(SEGMENTS),
    long("segment.ms", "604800000")
        .at_least(1.0)
        .doc("Age at which a segment file is closed, in milliseconds.")
        .no_effect(SEGMENTS),
    boolean("unclean.leader.election.enable", "false")
        .doc("Whether a replica that is behind may become leader.")
        .no_effect(REPLICATION),
];

/// How a broker setting becomes a topic's default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Convert {
    Same,
    Minutes,
    Hours,
}

/// Broker settings that give a topic setting its default, the strongest first.
pub(super) fn synonyms(name: &str) -> &'static [(&'static str, Convert)] {
    use Convert::{Hours, Minutes, Same};
    match name {
        "alluvium.lane" => &[("alluvium.lane", Same)],
        "cleanup.policy" => &[("log.cleanup.policy", Same)],
        "compression.gzip.level" => &[("compression.gzip.level", Same)],
        "compression.lz4.level" => &[("compression.lz4.level", Same)],
        "compression.type" => &[("compression.type", Same)],
        "compression.zstd.level" => &[("compression.zstd.level", Same)],
        "delete.retention.ms" => &[("log.cleaner.delete.retention.ms", Same)],
        "file.delete.delay.ms" => &[("log.segment.delete.delay.ms", Same)],
        "flush.messages" => &[("log.flush.interval.messages", Same)],
        "flush.ms" => &[
            ("log.flush.interval.ms", Same),
            ("log.flush.scheduler.interval.ms", Same),
        ],
        "index.interval.bytes" => &[("log.index.interval.bytes", Same)],
        "local.retention.bytes" => &[("log.local.retention.bytes", Same)],
        "local.retention.ms" => &[("log.local.retention.ms", Same)],
        "max.compaction.lag.ms" => &[("log.cleaner.max.compaction.lag.ms", Same)],
        "max.message.bytes" => &[("message.max.bytes", Same)],
        "message.timestamp.after.max.ms" => &[("log.message.timestamp.after.max.ms", Same)],
        "message.timestamp.before.max.ms" => &[("log.message.timestamp.before.max.ms", Same)],
        "message.timestamp.type" => &[("log.message.timestamp.type", Same)],
        "min.cleanable.dirty.ratio" => &[("log.cleaner.min.cleanable.ratio", Same)],
        "min.compaction.lag.ms" => &[("log.cleaner.min.compaction.lag.ms", Same)],
        "min.insync.replicas" => &[("min.insync.replicas", Same)],
        "preallocate" => &[("log.preallocate", Same)],
        "retention.bytes" => &[("log.retention.bytes", Same)],
        "retention.ms" => &[
            ("log.retention.ms", Same),
            ("log.retention.minutes", Minutes),
            ("log.retention.hours", Hours),
        ],
        "segment.bytes" => &[("log.segment.bytes", Same)],
        "segment.index.bytes" => &[("log.index.size.max.bytes", Same)],
        "segment.jitter.ms" => &[
            ("log.roll.jitter.ms", Same),
            ("log.roll.jitter.hours", Hours),
        ],
        "segment.ms" => &[("log.roll.ms", Same), ("log.roll.hours", Hours)],
        "unclean.leader.election.enable" => &[("unclean.leader.election.enable", Same)],
        _ => &[],
    }
}

/// A topic setting by name.
#[must_use]
pub fn topic_config(name: &str) -> Option<&'static Definition> {
    TOPIC_CONFIGS
        .iter()
        .find(|definition| definition.name == name)
}
