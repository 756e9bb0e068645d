//! Client quotas: how much a client may produce, read and have done, over the whole fleet (KIP-13, KIP-124,
//! KIP-219, KIP-546).
//!
//! Quotas lie in the quorum. Each agent lets through its share of one: as many agents as are live, as many
//! equal shares, for clients are spread over agents by partition. What a client takes is charged to a bucket
//! that fills at its rate; one that is overdrawn says how long the client is to wait. The bucket holds what
//! comes in over `quota.window.num` times `quota.window.size.seconds`, so that a client that was quiet may
//! catch up, as in Kafka.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use alluvium_cluster::Metadata;
use alluvium_metadata::{AlterQuota, Command, QuotaEntity, QuotaName, State};
use alluvium_types::ErrorCode;
use tokio::time::Instant;

use crate::proposal;
use crate::topics::Topics;

/// How long the quorum may take.
const ALTER_DEADLINE: Duration = Duration::from_secs(20);

/// Longest time that a client is told to wait for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// Most clients whose use is remembered; beyond them those that are owed nothing are forgotten.
const BUCKETS: usize = 10_000;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum QuotaKind {
    /// Bytes a second that are produced.
    ProducerByteRate,
    /// Bytes a second that are read.
    ConsumerByteRate,
    /// Hundredths of a processor's time.
    RequestPercentage,
}

impl QuotaKind {
    /// Those there are.
    pub const ALL: [Self; 3] = [
        Self::ProducerByteRate,
        Self::ConsumerByteRate,
        Self::RequestPercentage,
    ];

    /// Kafka's name for it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProducerByteRate => "producer_byte_rate",
            Self::ConsumerByteRate => "consumer_byte_rate",
            Self::RequestPercentage => "request_percentage",
        }
    }
}

/// Whose use is counted together: a quota of a default is everybody's own.
type Account = (QuotaKind, Option<String>, Option<String>);

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// What may be taken at once; below zero it is overdrawn.
    left: f64,
    at: Instant,
}

/// The quotas of an agent.
#[derive(Debug)]
pub struct Quotas {
    metadata: Metadata,
    topics: Topics,
    buckets: Mutex<BTreeMap<Account, Bucket>>,
}

/// A client's quota at this agent.
struct Limit {
    account: Account,
    /// A second.
    rate: f64,
    /// Most that is saved up.
    most: f64,
}

impl Quotas {
    pub(crate) fn new(metadata: Metadata, topics: Topics) -> Self {
        Self {
            metadata,
            topics,
            buckets: Mutex::default(),
        }
    }

    /// Charges a client with what it has taken: bytes, or seconds of a processor. Says how long it is to
    /// wait before it takes more.
    #[must_use]
    pub fn charge(&self, kind: QuotaKind, user: &str, client_id: &str, taken: f64) -> Duration {
        let limit = self.metadata.read(|state| {
            let has_quotas = state.has_quotas();
            has_quotas.then(|| self.limit(state, kind, user, client_id))?
        });
        let Some(limit) = limit else {
            return Duration::ZERO;
        };
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= BUCKETS && !buckets.contains_key(&limit.account) {
            buckets.retain(|_, bucket| bucket.left < 0.0);
        }
        let bucket = buckets.entry(limit.account).or_insert(Bucket {
            left: limit.most,
            at: now,
        });
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = passed.mul_add(limit.rate, bucket.left).min(limit.most) - taken;
        bucket.at = now;
        if bucket.left >= 0.0 {
            return Duration::ZERO;
        }
        let wait = -bucket.left / limit.rate;
        Duration::try_from_secs_f64(wait).map_or(LONGEST_WAIT, |wait| wait.min(LONGEST_WAIT))
    }

    fn limit(&self, state: &State, kind: QuotaKind, user: &str, client_id: &str) -> Option<Limit> {
        let (entity, quota) = state.quota_of(kind.name(), user, client_id)?;
        let agents = u32::try_from(state.live_agents().count()).unwrap_or(1);
        let unit = match kind {
            QuotaKind::RequestPercentage => 0.01,
            QuotaKind::ProducerByteRate | QuotaKind::ConsumerByteRate => 1.0,
        };
        let rate = (quota * unit / f64::from(agents.max(1))).max(f64::MIN_POSITIVE);
        let setting = |name, default| {
            let text = self.topics.broker(state, name);
            text.and_then(|text| text.parse().ok()).unwrap_or(default)
        };
        let window = setting("quota.window.num", 11.0) * setting("quota.window.size.seconds", 1.0);
        let whose = |part: &Option<QuotaName>, name: &str| part.as_ref().map(|_| name.to_owned());
        let account = (
            kind,
            whose(&entity.user, user),
            whose(&entity.client_id, client_id),
        );
        Some(Limit {
            account,
            rate,
            most: rate * window,
        })
    }

    /// All quotas, by entity.
    #[must_use]
    pub fn all(&self) -> Vec<(QuotaEntity, Vec<(String, f64)>)> {
        self.metadata.read(|state| {
            let quotas = state.quotas();
            let all = quotas.map(|(entity, of)| {
                let of = of.iter().map(|(kind, value)| (kind.clone(), value.get()));
                (entity.clone(), of.collect())
            });
            all.collect()
        })
    }

    /// Alters quotas, all or none.
    ///
    /// # Errors
    /// The quorum is not available.
    pub async fn alter(&self, alterations: Vec<AlterQuota>) -> Result<(), ErrorCode> {
        let command = Command::AlterQuotas(alterations);
        let outcome = proposal::outcome(&self.metadata, command, ALTER_DEADLINE);
        outcome.await.map(|_| ())
    }
}

#[cfg(test)]
mod tests {
    use alluvium_metadata::QuotaValue;

    use super::*;

    async fn quotas(rate: f64) -> Quotas {
        let topics = [("quota.window.num".to_owned(), "2".to_owned())];
        let topics = Topics::new(BTreeMap::from(topics)).unwrap();
        let quotas = Quotas::new(Metadata::in_memory(), topics);
        let entity = QuotaEntity {
            client_id: Some(None),
            ..QuotaEntity::default()
        };
        let kind = QuotaKind::ProducerByteRate.name().to_owned();
        let changes = vec![(kind, Some(QuotaValue::new(rate)))];
        quotas
            .alter(vec![AlterQuota { entity, changes }])
            .await
            .unwrap();
        quotas
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_too_much_waits_and_others_do_not() {
        let quotas = quotas(1000.0).await;
        let take = |client: &str, bytes| {
            let kind = QuotaKind::ProducerByteRate;
            quotas.charge(kind, "u", client, bytes).as_millis()
        };
        assert_eq!(take("a", 2000.0), 0, "two windows are saved up");
        assert_eq!(take("a", 500.0), 500);
        assert_eq!(take("b", 500.0), 0);
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert_eq!(take("a", 1000.0), 1000);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(take("a", 2000.0), 0);
        assert_eq!(take("a", 1e12), LONGEST_WAIT.as_millis());
        let other = quotas.charge(QuotaKind::ConsumerByteRate, "u", "a", 1e12);
        assert_eq!(other, Duration::ZERO);
    }
}
