//! Groups and committed offsets.

use crate::topics::definition::{Definition, Rule, boolean, int, list, long, short, string};
use crate::topics::reasons::{NEW_GROUPS, OFFSETS_IN_METADATA, PURGATORY, SHARE_GROUPS, THREADS};

const MAX: &str = "2147483647";

pub(super) const CONFIGS: &[Definition] = &[
    int("group.initial.rebalance.delay.ms", "3000")
        .doc("How long the first join of an empty group waits for others, in milliseconds."),
    int("group.min.session.timeout.ms", "6000")
        .doc("Shortest session timeout that a member may ask for, in milliseconds."),
    int("group.max.session.timeout.ms", "1800000")
        .doc("Longest session timeout that a member may ask for, in milliseconds."),
    int("group.max.size", MAX)
        .at_least(1.0)
        .doc("Most members of one group."),
    int("offset.metadata.max.bytes", "4096")
        .doc("Longest text that may be committed beside an offset, in bytes."),
    int("offsets.retention.minutes", "10080")
        .at_least(1.0)
        .doc("How long offsets are kept that nobody commits any more, once their group has no members or these do not read the topic, in minutes."),
    long("offsets.retention.check.interval.ms", "600000")
        .at_least(1.0)
        .doc("How often it is looked for such offsets, in milliseconds."),
    int("offsets.commit.timeout.ms", "5000")
        .at_least(1.0)
        .no_effect(OFFSETS_IN_METADATA),
    int("offsets.load.buffer.size", "5242880")
        .at_least(1.0)
        .no_effect(OFFSETS_IN_METADATA),
    int("offsets.topic.compression.codec", "0").no_effect(OFFSETS_IN_METADATA),
    int("offsets.topic.num.partitions", "50")
        .at_least(1.0)
        .no_effect(OFFSETS_IN_METADATA),
    short("offsets.topic.replication.factor", "3")
        .at_least(1.0)
        .no_effect(OFFSETS_IN_METADATA),
    int("offsets.topic.segment.bytes", "104857600")
        .at_least(1.0)
        .no_effect(OFFSETS_IN_METADATA),
    int("group.coordinator.append.linger.ms", "-1")
        .at_least(-1.0)
        .no_effect(OFFSETS_IN_METADATA),
    int("group.coordinator.cached.buffer.max.bytes", "1048588")
        .at_least(524_288.0)
        .dynamic()
        .no_effect(OFFSETS_IN_METADATA),
    int("group.coordinator.background.threads", "2")
        .at_least(1.0)
        .no_effect(THREADS),
    int("group.coordinator.threads", "4")
        .at_least(1.0)
        .no_effect(THREADS),
    list(
        "group.coordinator.rebalance.protocols",
        "classic,consumer,streams",
    )
    .rule(Rule::ElementsOf(&[
        "consumer", "classic", "share", "streams",
    ]))
    .no_effect(NEW_GROUPS),
    // The consumer protocol of KIP-848.
    int("group.consumer.assignment.interval.ms", "1000")
        .at_least(0.0)
        .dynamic()
        .no_effect(NEW_GROUPS),
    list("group.consumer.assignors", "uniform,range")
        .rule(Rule::Distinct)
        .doc("The server-side assignors that consumer groups may ask for, the default first: uniform, range."),
    boolean("group.consumer.assignor.offload.enable", "true")
        .dynamic()
        .no_effect(NEW_GROUPS),
    int("group.consumer.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .doc("How often members of consumer groups give a sign of life, in milliseconds."),
    int("group.consumer.max.assignment.interval.ms", "15000")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.consumer.max.heartbeat.interval.ms", "15000")
        .at_least(1.0)
        .doc("Greatest heartbeat interval that may be set for a single consumer group."),
    int("group.consumer.max.session.timeout.ms", "60000")
        .at_least(1.0)
        .doc("Greatest session timeout that may be set for a single consumer group."),
    int("group.consumer.max.size", MAX)
        .at_least(1.0)
        .doc("Most members of one consumer group; 10,000 at most."),
    string("group.consumer.migration.policy", "bidirectional")
        .doc("In which directions a group with members may change between the classic protocol and the newer one: bidirectional, upgrade, downgrade, disabled."),
    int("group.consumer.min.assignment.interval.ms", "0")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.consumer.min.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .doc("Least heartbeat interval that may be set for a single consumer group."),
    int("group.consumer.min.session.timeout.ms", "45000")
        .at_least(1.0)
        .doc("Least session timeout that may be set for a single consumer group."),
    int("group.consumer.regex.refresh.interval.ms", "600000")
        .at_least(10_000.0)
        .no_effect(NEW_GROUPS),
    int("group.consumer.session.timeout.ms", "45000")
        .at_least(1.0)
        .doc("Without a sign of life for this long a member of a consumer group is out, in milliseconds."),
    // Share groups of KIP-932.
    int("group.share.assignment.interval.ms", "1000")
        .at_least(0.0)
        .dynamic()
        .no_effect(SHARE_GROUPS),
    list("group.share.assignors", "simple")
        .rule(Rule::Distinct)
        .no_effect(SHARE_GROUPS),
    boolean("group.share.assignor.offload.enable", "true")
        .dynamic()
        .no_effect(SHARE_GROUPS),
    int("group.share.delivery.count.limit", "5")
        .rule(Rule::Between(2.0, 10.0))
        .doc("How often a record of a share group is delivered at most."),
    int("group.share.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .doc("How often members of share groups give a sign of life, in milliseconds."),
    int("group.share.initialize.retry.interval.ms", "30000")
        .at_least(1.0)
        .no_effect(SHARE_GROUPS),
    int("group.share.max.assignment.interval.ms", "15000")
        .at_least(0.0)
        .no_effect(SHARE_GROUPS),
    int("group.share.max.delivery.count.limit", "10")
        .rule(Rule::Between(5.0, 25.0))
        .doc("Greatest number of deliveries that may be set for a single share group."),
    int("group.share.max.heartbeat.interval.ms", "15000")
        .at_least(1.0)
        .doc("Greatest heartbeat interval that may be set for a single share group."),
    int("group.share.max.partition.max.record.locks", "4000")
        .rule(Rule::Between(2_000.0, 10_000.0))
        .doc("Greatest number of record locks that may be set for a single share group."),
    int("group.share.max.record.lock.duration.ms", "60000")
        .rule(Rule::Between(30_000.0, 3_600_000.0))
        .doc("Greatest lock duration that may be set for a single share group."),
    int("group.share.max.session.timeout.ms", "60000")
        .at_least(1.0)
        .doc("Greatest session timeout that may be set for a single share group."),
    int("group.share.max.share.sessions", "2000")
        .at_least(1.0)
        .no_effect(SHARE_GROUPS),
    int("group.share.max.size", "200")
        .rule(Rule::Between(1.0, 1000.0))
        .doc("Most members of one share group."),
    int("group.share.min.assignment.interval.ms", "0")
        .at_least(0.0)
        .no_effect(SHARE_GROUPS),
    int("group.share.min.delivery.count.limit", "2")
        .rule(Rule::Between(2.0, 5.0))
        .doc("Least number of deliveries that may be set for a single share group."),
    int("group.share.min.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .doc("Least heartbeat interval that may be set for a single share group."),
    int("group.share.min.partition.max.record.locks", "100")
        .rule(Rule::Between(100.0, 2_000.0))
        .doc("Least number of record locks that may be set for a single share group."),
    int("group.share.min.record.lock.duration.ms", "15000")
        .rule(Rule::Between(1_000.0, 30_000.0))
        .doc("Least lock duration that may be set for a single share group."),
    int("group.share.min.session.timeout.ms", "45000")
        .at_least(1.0)
        .doc("Least session timeout that may be set for a single share group."),
    int("group.share.partition.max.record.locks", "2000")
        .rule(Rule::Between(100.0, 10_000.0))
        .doc("Records of a partition between the first that is not done and the last that was acquired, most."),
    string(
        "group.share.persister.class.name",
        "org.apache.kafka.server.share.persister.DefaultStatePersister",
    )
    .no_effect(SHARE_GROUPS),
    int("group.share.record.lock.duration.ms", "30000")
        .rule(Rule::Between(1_000.0, 3_600_000.0))
        .doc("For how long a record belongs to the member that acquired it, in milliseconds."),
    int("group.share.session.timeout.ms", "45000")
        .at_least(1.0)
        .doc("After how long without a sign a member of a share group has left, in milliseconds."),
    int("share.coordinator.append.linger.ms", "-1")
        .at_least(-1.0)
        .no_effect(NEW_GROUPS),
    int("share.coordinator.cached.buffer.max.bytes", "1048588")
        .at_least(524_288.0)
        .dynamic()
        .no_effect(NEW_GROUPS),
    int(
        "share.coordinator.cold.partition.snapshot.interval.ms",
        "300000",
    )
    .no_effect(NEW_GROUPS),
    int("share.coordinator.load.buffer.size", "5242880")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int(
        "share.coordinator.snapshot.update.records.per.snapshot",
        "500",
    )
    .rule(Rule::Between(0.0, 500.0))
    .no_effect(NEW_GROUPS),
    int("share.coordinator.state.topic.compression.codec", "0").no_effect(NEW_GROUPS),
    short("share.coordinator.state.topic.min.isr", "2")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("share.coordinator.state.topic.num.partitions", "50")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("share.coordinator.state.topic.prune.interval.ms", "300000").no_effect(NEW_GROUPS),
    short("share.coordinator.state.topic.replication.factor", "3")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("share.coordinator.state.topic.segment.bytes", "104857600")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("share.coordinator.threads", "1")
        .at_least(1.0)
        .no_effect(THREADS),
    int("share.coordinator.write.timeout.ms", "5000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("share.fetch.purgatory.purge.interval.requests", "1000").no_effect(PURGATORY),
    // Streams groups of KIP-1071.
    int("group.streams.assignment.interval.ms", "1000")
        .at_least(0.0)
        .dynamic()
        .no_effect(NEW_GROUPS),
    boolean("group.streams.assignor.offload.enable", "true")
        .dynamic()
        .no_effect(NEW_GROUPS),
    int("group.streams.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.initial.rebalance.delay.ms", "3000")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.max.assignment.interval.ms", "15000")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.max.heartbeat.interval.ms", "15000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.max.session.timeout.ms", "60000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.max.size", MAX)
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.max.standby.replicas", "2")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.min.assignment.interval.ms", "0")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.min.heartbeat.interval.ms", "5000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.min.session.timeout.ms", "45000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.min.task.offset.interval.ms", "15000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.num.standby.replicas", "0")
        .at_least(0.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.session.timeout.ms", "45000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
    int("group.streams.task.offset.interval.ms", "60000")
        .at_least(1.0)
        .no_effect(NEW_GROUPS),
];
