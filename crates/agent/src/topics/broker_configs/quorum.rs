//! Kafka's controllers and their metadata log.

use crate::topics::definition::{Definition, boolean, int, list, long, string};
use crate::topics::reasons::{PLACES, QUORUM};

pub(super) const CONFIGS: &[Definition] = &[
    int("broker.heartbeat.interval.ms", "2000").no_effect(QUORUM),
    int("broker.session.timeout.ms", "9000").no_effect(QUORUM),
    int("initial.broker.registration.timeout.ms", "60000").no_effect(QUORUM),
    long("server.max.startup.time.ms", "9223372036854775807")
        .at_least(0.0)
        .no_effect(QUORUM),
    int("controller.max.records.per.batch", "10000")
        .at_least(1.0)
        .no_effect(QUORUM),
    long("controller.performance.always.log.threshold.ms", "2000")
        .at_least(0.0)
        .no_effect(QUORUM),
    long("controller.performance.sample.period.ms", "60000")
        .at_least(100.0)
        .no_effect(QUORUM),
    int("controller.quorum.append.linger.ms", "25")
        .at_least(0.0)
        .no_effect(QUORUM),
    boolean("controller.quorum.auto.join.enable", "false").no_effect(QUORUM),
    list("controller.quorum.bootstrap.servers", "").refused(QUORUM),
    int("controller.quorum.election.backoff.max.ms", "1000")
        .at_least(0.0)
        .no_effect(QUORUM),
    int("controller.quorum.election.timeout.ms", "1000")
        .at_least(0.0)
        .no_effect(QUORUM),
    int("controller.quorum.fetch.max.bytes", "1048576")
        .at_least(1.0)
        .no_effect(QUORUM),
    int("controller.quorum.fetch.snapshot.max.bytes", "1048576")
        .at_least(1.0)
        .no_effect(QUORUM),
    int("controller.quorum.fetch.timeout.ms", "2000")
        .at_least(0.0)
        .no_effect(QUORUM),
    int("controller.quorum.request.timeout.ms", "2000")
        .at_least(0.0)
        .no_effect(QUORUM),
    int("controller.quorum.retry.backoff.ms", "20")
        .at_least(0.0)
        .no_effect(QUORUM),
    list("controller.quorum.voters", "").refused(QUORUM),
    long("internal.metadata.delete.delay.millis", "60000").no_effect(QUORUM),
    int("internal.metadata.log.segment.bytes", "")
        .null()
        .no_effect(QUORUM),
    int("internal.metadata.max.batch.size.in.bytes", "8388608").no_effect(QUORUM),
    string("metadata.log.dir", "").null().refused(PLACES),
    long(
        "metadata.log.max.record.bytes.between.snapshots",
        "20971520",
    )
    .at_least(1.0)
    .no_effect(QUORUM),
    long("metadata.log.max.snapshot.interval.ms", "3600000")
        .at_least(0.0)
        .no_effect(QUORUM),
    int("metadata.log.segment.bytes", "1073741824")
        .at_least(8_388_608.0)
        .no_effect(QUORUM),
    long("metadata.log.segment.ms", "604800000").no_effect(QUORUM),
    int("metadata.max.idle.interval.ms", "500")
        .at_least(0.0)
        .no_effect(QUORUM),
    long("metadata.max.retention.bytes", "104857600").no_effect(QUORUM),
    long("metadata.max.retention.ms", "604800000").no_effect(QUORUM),
];
