//! Commands of client quotas.

use serde::{Deserialize, Serialize};

/// To whom quotas apply (KIP-546): a user, a client id, both, or an address. A name that is empty stands
/// for everybody of whom nothing else is said ("default").
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct QuotaEntity {
    /// A user.
    pub user: Option<QuotaName>,
    /// A client id.
    pub client_id: Option<QuotaName>,
    /// An address.
    pub ip: Option<QuotaName>,
}

/// A name in a [`QuotaEntity`]; none stands for the default.
pub type QuotaName = Option<String>;

/// How much, in the unit of its kind. Kept by its bits, so that states compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaValue(u64);

impl QuotaValue {
    /// A number as a quota.
    #[must_use]
    pub const fn new(value: f64) -> Self {
        Self(value.to_bits())
    }

    /// The quota as a number.
    #[must_use]
    pub const fn get(self) -> f64 {
        f64::from_bits(self.0)
    }
}

/// See [`Command::AlterQuotas`](super::Command::AlterQuotas): one entity's changes, by kind. None takes a
/// quota back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterQuota {
    /// Whose.
    pub entity: QuotaEntity,
    /// What.
    pub changes: Vec<(String, Option<QuotaValue>)>,
}
