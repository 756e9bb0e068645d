//! Kafka's tiered storage.

use crate::topics::definition::{Definition, Rule, boolean, double, int, long, string};
use crate::topics::reasons::REMOTE;

const MAX: &str = "9223372036854775807";

pub(super) const CONFIGS: &[Definition] = &[
    boolean("remote.log.storage.system.enable", "false").refused(REMOTE),
    int("remote.fetch.max.wait.ms", "500")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    long("remote.list.offsets.request.timeout.ms", "30000")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    long("remote.log.index.file.cache.total.size.bytes", "1073741824")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    long("remote.log.index.file.cache.ttl.ms", "900000")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.manager.copier.thread.pool.size", "10")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    long("remote.log.manager.copy.max.bytes.per.second", MAX)
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    int("remote.log.manager.copy.quota.window.num", "11")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.manager.copy.quota.window.size.seconds", "1")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.manager.expiration.thread.pool.size", "10")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    long("remote.log.manager.fetch.max.bytes.per.second", MAX)
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    int("remote.log.manager.fetch.quota.window.num", "11")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.manager.fetch.quota.window.size.seconds", "1")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.manager.follower.thread.pool.size", "2")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    long("remote.log.manager.task.interval.ms", "30000")
        .at_least(1.0)
        .no_effect(REMOTE),
    long("remote.log.manager.task.retry.backoff.max.ms", "30000")
        .at_least(1.0)
        .no_effect(REMOTE),
    long("remote.log.manager.task.retry.backoff.ms", "500")
        .at_least(1.0)
        .no_effect(REMOTE),
    double("remote.log.manager.task.retry.jitter", "0.2")
        .rule(Rule::Between(0.0, 0.5))
        .no_effect(REMOTE),
    int("remote.log.manager.thread.pool.size", "2")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.metadata.custom.metadata.max.bytes", "128")
        .at_least(0.0)
        .no_effect(REMOTE),
    string(
        "remote.log.metadata.manager.class.name",
        "org.apache.kafka.server.log.remote.metadata.storage.TopicBasedRemoteLogMetadataManager",
    )
    .no_effect(REMOTE),
    string("remote.log.metadata.manager.class.path", "")
        .null()
        .no_effect(REMOTE),
    string("remote.log.metadata.manager.impl.prefix", "rlmm.config.").no_effect(REMOTE),
    string("remote.log.metadata.manager.listener.name", "")
        .null()
        .no_effect(REMOTE),
    int("remote.log.reader.max.pending.tasks", "100")
        .at_least(1.0)
        .no_effect(REMOTE),
    int("remote.log.reader.threads", "10")
        .at_least(1.0)
        .dynamic()
        .no_effect(REMOTE),
    string("remote.log.storage.manager.class.name", "")
        .null()
        .no_effect(REMOTE),
    string("remote.log.storage.manager.class.path", "")
        .null()
        .no_effect(REMOTE),
    string("remote.log.storage.manager.impl.prefix", "rsm.config.").no_effect(REMOTE),
];
