//! Connections, sockets and waiting requests.

use crate::topics::definition::{Definition, Rule, int, list, long, string};
use crate::topics::reasons::{LISTEN, PURGATORY, QUORUM, THREADS};

const MAX: &str = "2147483647";
const KERNEL: &str = "the operating system's default is used";
const QUEUE: &str = "waiting requests are bounded by bytes, connection by connection";
const RATES: &str = "connections are not limited by address or by rate yet";

pub(super) const CONFIGS: &[Definition] = &[
    int("socket.request.max.bytes", "104857600")
        .rule(Rule::Between(1.0, 104_857_600.0))
        .doc("Longest request, in bytes; a longer one ends its connection."),
    long("connections.max.idle.ms", "600000")
        .doc("A connection that is idle for longer is closed, in milliseconds."),
    int("max.connections", MAX)
        .at_least(0.0)
        .doc("Most connections that are open at once."),
    int("max.connections.per.ip", MAX)
        .at_least(0.0)
        .dynamic()
        .not_yet(RATES),
    string("max.connections.per.ip.overrides", "")
        .dynamic()
        .not_yet(RATES),
    int("max.connection.creation.rate", MAX)
        .at_least(0.0)
        .dynamic()
        .not_yet(RATES),
    int("queued.max.requests", "500")
        .at_least(1.0)
        .no_effect(QUEUE),
    long("queued.max.request.bytes", "-1").no_effect(QUEUE),
    int("num.network.threads", "3")
        .at_least(1.0)
        .dynamic()
        .no_effect(THREADS),
    int("socket.listen.backlog.size", "50")
        .at_least(1.0)
        .no_effect(KERNEL),
    int("socket.receive.buffer.bytes", "102400").no_effect(KERNEL),
    int("socket.send.buffer.bytes", "102400").no_effect(KERNEL),
    long("socket.connection.setup.timeout.ms", "10000").no_effect(QUORUM),
    long("socket.connection.setup.timeout.max.ms", "30000").no_effect(QUORUM),
    int("request.timeout.ms", "30000").no_effect(QUORUM),
    int("fetch.purgatory.purge.interval.requests", "1000").no_effect(PURGATORY),
    int("producer.purgatory.purge.interval.requests", "1000").no_effect(PURGATORY),
    int("delete.records.purgatory.purge.interval.requests", "1").no_effect(PURGATORY),
    list("listeners", "PLAINTEXT://:9092").refused(LISTEN),
    list("advertised.listeners", "").null().refused(LISTEN),
    string("listener.security.protocol.map", PROTOCOLS).refused(LISTEN),
    list("early.start.listeners", "").null().refused(LISTEN),
    string("inter.broker.listener.name", "")
        .null()
        .refused(LISTEN),
    list("controller.listener.names", "").null().refused(LISTEN),
];

const PROTOCOLS: &str =
    "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT";
