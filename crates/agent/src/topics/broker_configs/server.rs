//! Topics' defaults, transactions, quotas, metrics and the process itself.

use crate::topics::definition::{Definition, Kind, Rule, boolean, int, list, long, short, string};
use crate::topics::reasons::{
    IDENTITY, LEVELS, METRICS, PLUGINS, QUOTAS, REPLICATION, ROLES, THREADS, TRANSACTIONS,
};
use crate::topics::topic_configs::{COMPRESSION_TYPES, LANES};

const MAX: &str = "9223372036854775807";

pub(super) const CONFIGS: &[Definition] = &[
    string("alluvium.lane", "auto")
        .one_of(LANES)
        .dynamic()
        .doc("alluvium.lane of topics that do not set it."),
    boolean("auto.create.topics.enable", "true")
        .doc("Whether a topic is made when a client first names it."),
    int("num.partitions", "1")
        .rule(Rule::Between(1.0, 100_000.0))
        .doc("Partitions of a topic whose maker does not say how many."),
    int("default.replication.factor", "1")
        .rule(Rule::Between(1.0, 32_767.0))
        .doc("Replication factor of a topic whose maker does not give one; it is only shown."),
    boolean("delete.topic.enable", "true").doc("Whether clients may delete topics."),
    int("message.max.bytes", "1048588")
        .at_least(0.0)
        .dynamic()
        .doc("max.message.bytes of topics that do not set it."),
    string("compression.type", "producer")
        .one_of(COMPRESSION_TYPES)
        .dynamic()
        .doc("compression.type of topics that do not set it."),
    int("compression.gzip.level", "-1")
        .rule(Rule::GzipLevel)
        .dynamic()
        .no_effect(LEVELS),
    int("compression.lz4.level", "9")
        .rule(Rule::Between(1.0, 17.0))
        .dynamic()
        .no_effect(LEVELS),
    int("compression.zstd.level", "3")
        .rule(Rule::Between(-131_072.0, 22.0))
        .dynamic()
        .no_effect(LEVELS),
    int("min.insync.replicas", "1")
        .at_least(1.0)
        .dynamic()
        .doc("min.insync.replicas of topics that do not set it.")
        .no_effect(REPLICATION),
    int("max.incremental.fetch.session.cache.slots", "1000")
        .at_least(0.0)
        .doc("Incremental fetch sessions (KIP-227) that are kept."),
    int("fetch.max.bytes", "57671680")
        .at_least(1024.0)
        .doc("Most bytes of records in one Fetch answer."),
    int("max.request.partition.size.limit", "2000")
        .at_least(1.0)
        .doc("Most partitions in one DescribeTopicPartitions answer."),
    // Replication between brokers.
    boolean("unclean.leader.election.enable", "false")
        .dynamic()
        .no_effect(REPLICATION),
    long("unclean.leader.election.interval.ms", "300000")
        .at_least(1.0)
        .no_effect(REPLICATION),
    boolean("auto.leader.rebalance.enable", "true").no_effect(REPLICATION),
    long("leader.imbalance.check.interval.seconds", "300")
        .at_least(1.0)
        .no_effect(REPLICATION),
    int("leader.imbalance.per.broker.percentage", "10").no_effect(REPLICATION),
    int("controller.socket.timeout.ms", "30000").no_effect(REPLICATION),
    int("num.replica.fetchers", "1")
        .dynamic()
        .at_least(1.0)
        .no_effect(REPLICATION),
    int("num.replica.alter.log.dirs.threads", "")
        .null()
        .no_effect(REPLICATION),
    int("replica.fetch.backoff.ms", "1000")
        .at_least(0.0)
        .no_effect(REPLICATION),
    int("replica.fetch.max.bytes", "1048576")
        .at_least(0.0)
        .no_effect(REPLICATION),
    int("replica.fetch.min.bytes", "1").no_effect(REPLICATION),
    int("replica.fetch.response.max.bytes", "10485760")
        .at_least(0.0)
        .no_effect(REPLICATION),
    int("replica.fetch.wait.max.ms", "500").no_effect(REPLICATION),
    long("replica.high.watermark.checkpoint.interval.ms", "5000").no_effect(REPLICATION),
    long("replica.lag.time.max.ms", "30000").no_effect(REPLICATION),
    string("replica.selector.class", "")
        .null()
        .no_effect(REPLICATION),
    int("replica.socket.receive.buffer.bytes", "65536").no_effect(REPLICATION),
    int("replica.socket.timeout.ms", "30000").no_effect(REPLICATION),
    boolean("follower.fetch.last.tiered.offset.enable", "false")
        .dynamic()
        .no_effect(REPLICATION),
    // Transactions and idempotent producers.
    int("add.partitions.to.txn.retry.backoff.ms", "20")
        .at_least(1.0)
        .no_effect(TRANSACTIONS),
    int("add.partitions.to.txn.retry.backoff.max.ms", "100")
        .at_least(0.0)
        .no_effect(TRANSACTIONS),
    int("producer.id.expiration.ms", "86400000")
        .at_least(1.0)
        .dynamic()
        .not_yet("idle producers are kept until their topic is deleted"),
    int("producer.id.expiration.check.interval.ms", "600000")
        .at_least(1.0)
        .not_yet("idle producers are kept until their topic is deleted"),
    int(
        "transaction.abort.timed.out.transaction.cleanup.interval.ms",
        "10000",
    )
    .at_least(1.0)
    .no_effect(TRANSACTIONS),
    int("transaction.max.timeout.ms", "900000")
        .at_least(1.0)
        .doc("Longest time-out that a transactional producer may ask for, in milliseconds."),
    boolean("transaction.partition.verification.enable", "true")
        .dynamic()
        .no_effect(TRANSACTIONS),
    int(
        "transaction.remove.expired.transaction.cleanup.interval.ms",
        "3600000",
    )
    .at_least(1.0)
    .no_effect(TRANSACTIONS),
    int("transaction.state.log.load.buffer.size", "5242880")
        .at_least(1.0)
        .no_effect(TRANSACTIONS),
    int("transaction.state.log.min.isr", "2")
        .at_least(1.0)
        .no_effect(TRANSACTIONS),
    int("transaction.state.log.num.partitions", "50")
        .at_least(1.0)
        .no_effect(TRANSACTIONS),
    short("transaction.state.log.replication.factor", "3")
        .at_least(1.0)
        .no_effect(TRANSACTIONS),
    int("transaction.state.log.segment.bytes", "104857600")
        .at_least(1.0)
        .no_effect(TRANSACTIONS),
    boolean("transaction.two.phase.commit.enable", "false")
        .not_yet("two-phase commit is not served"),
    int("transactional.id.expiration.ms", "604800000")
        .at_least(1.0)
        .doc("When a transactional id that is not used is forgotten, in milliseconds."),
    // Quotas.
    int("quota.window.num", "11")
        .at_least(1.0)
        .doc("How many windows of `quota.window.size.seconds` a client may save up before it is held to its quota."),
    int("quota.window.size.seconds", "1")
        .at_least(1.0)
        .doc("How long such a window is, in seconds."),
    int("controller.quota.window.num", "11")
        .at_least(1.0)
        .not_yet(QUOTAS),
    int("controller.quota.window.size.seconds", "1")
        .at_least(1.0)
        .not_yet(QUOTAS),
    int("replication.quota.window.num", "11")
        .at_least(1.0)
        .no_effect(REPLICATION),
    int("replication.quota.window.size.seconds", "1")
        .at_least(1.0)
        .no_effect(REPLICATION),
    int("alter.log.dirs.replication.quota.window.num", "11")
        .at_least(1.0)
        .no_effect(REPLICATION),
    int("alter.log.dirs.replication.quota.window.size.seconds", "1")
        .at_least(1.0)
        .no_effect(REPLICATION),
    long("leader.replication.throttled.rate", MAX)
        .at_least(0.0)
        .dynamic()
        .no_effect(REPLICATION),
    long("follower.replication.throttled.rate", MAX)
        .at_least(0.0)
        .dynamic()
        .no_effect(REPLICATION),
    long("replica.alter.log.dirs.io.max.bytes.per.second", MAX)
        .at_least(0.0)
        .dynamic()
        .no_effect(REPLICATION),
    string("client.quota.callback.class", "")
        .of(Kind::Class)
        .null()
        .refused(PLUGINS),
    // Metrics.
    int("kafka.metrics.polling.interval.secs", "10")
        .at_least(1.0)
        .no_effect(METRICS),
    list("kafka.metrics.reporters", "").no_effect(METRICS),
    list(
        "metric.reporters",
        "org.apache.kafka.common.metrics.JmxReporter",
    )
    .rule(Rule::Distinct)
    .dynamic()
    .no_effect(METRICS),
    int("metrics.num.samples", "2")
        .at_least(1.0)
        .no_effect(METRICS),
    string("metrics.recording.level", "INFO")
        .one_of(&["INFO", "DEBUG", "TRACE"])
        .no_effect(METRICS),
    long("metrics.sample.window.ms", "30000")
        .at_least(1.0)
        .no_effect(METRICS),
    int("telemetry.max.bytes", "1048576")
        .at_least(1.0)
        .no_effect(METRICS),
    // The process.
    int("background.threads", "10")
        .at_least(1.0)
        .dynamic()
        .no_effect(THREADS),
    int("num.io.threads", "8")
        .at_least(1.0)
        .dynamic()
        .no_effect(THREADS),
    boolean("controlled.shutdown.enable", "true")
        .no_effect("a shutdown always flushes and answers what is in flight"),
    int("broker.id", "-1").refused(IDENTITY),
    int("node.id", "").at_least(0.0).null().refused(IDENTITY),
    string("broker.rack", "").null().refused("use agent.zone"),
    list("process.roles", "").null().refused(ROLES),
    list("config.providers", "").refused(PLUGINS),
    string("alter.config.policy.class.name", "")
        .of(Kind::Class)
        .null()
        .refused(PLUGINS),
    string("create.topic.policy.class.name", "")
        .of(Kind::Class)
        .null()
        .refused(PLUGINS),
    boolean("unstable.api.versions.enable", "false").refused("only stable APIs are served"),
    boolean("unstable.feature.versions.enable", "false").refused("only stable APIs are served"),
];
