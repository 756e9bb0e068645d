//! Counters, one set for each API, looked up once.

use std::time::Duration;

use alluvium_protocol::api::SERVED;
use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

/// The listener's metrics:
///
/// - `alluvium_kafka_requests_total{api}`, `alluvium_kafka_request_seconds{api}` (from read to
///   answered),
/// - `alluvium_kafka_connections`, `alluvium_kafka_violations_total`: requests or frames that cost
///   their connection,
/// - `alluvium_kafka_throttled_total{quota}`, `alluvium_kafka_throttle_seconds{quota}`: clients beyond
///   their quotas, and how long they were told to wait,
/// - `alluvium_kafka_received_bytes_total`, `alluvium_kafka_sent_bytes_total`.
pub(crate) struct Metrics {
    apis: Vec<(i16, Api)>,
    pub(crate) connections: Gauge,
    pub(crate) violations: Counter,
    pub(crate) received: Counter,
    pub(crate) sent: Counter,
}

struct Api {
    requests: Counter,
    seconds: Histogram,
}

/// A client has taken more than its quota of a kind, and is to wait.
pub(crate) fn throttled(quota: &'static str, wait: Duration) {
    counter!("alluvium_kafka_throttled_total", "quota" => quota).increment(1);
    histogram!("alluvium_kafka_throttle_seconds", "quota" => quota).record(wait.as_secs_f64());
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let api = |name: &'static str| Api {
            requests: counter!("alluvium_kafka_requests_total", "api" => name),
            seconds: histogram!("alluvium_kafka_request_seconds", "api" => name),
        };
        Self {
            apis: SERVED
                .iter()
                .map(|served| (served.key, api(served.name)))
                .collect(),
            connections: gauge!("alluvium_kafka_connections"),
            violations: counter!("alluvium_kafka_violations_total"),
            received: counter!("alluvium_kafka_received_bytes_total"),
            sent: counter!("alluvium_kafka_sent_bytes_total"),
        }
    }

    pub(crate) fn answered(&self, key: i16, took: Duration) {
        if let Some((_, api)) = self.apis.iter().find(|(served, _)| *served == key) {
            api.requests.increment(1);
            api.seconds.record(took.as_secs_f64());
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}
