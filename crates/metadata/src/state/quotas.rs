//! Client quotas: who may have how much.

use std::collections::BTreeMap;

use super::State;
use crate::command::{AlterQuota, Outcome, QuotaEntity, QuotaValue};

/// Quotas by entity and kind.
pub(crate) type Quotas = BTreeMap<QuotaEntity, BTreeMap<String, QuotaValue>>;

pub(super) fn alter(state: &mut State, alterations: Vec<AlterQuota>) -> Outcome {
    for AlterQuota {
        entity,
        changes: steps,
    } in alterations
    {
        let of_entity = state.quotas.entry(entity.clone()).or_default();
        for (kind, value) in steps {
            match value {
                Some(value) => of_entity.insert(kind, value),
                None => of_entity.remove(&kind),
            };
        }
        if of_entity.is_empty() {
            state.quotas.remove(&entity);
        }
    }
    Outcome::Done
}

impl State {
    /// All quotas, by entity.
    pub fn quotas(&self) -> impl Iterator<Item = (&QuotaEntity, &BTreeMap<String, QuotaValue>)> {
        self.quotas.iter()
    }

    /// Whether nobody has a quota.
    #[must_use]
    pub fn has_quotas(&self) -> bool {
        !self.quotas.is_empty()
    }

    /// The quota of a kind that binds a client: that of the most precise entity that has one, as Kafka
    /// orders them, and which entity that is.
    #[must_use]
    pub fn quota_of(&self, kind: &str, user: &str, client_id: &str) -> Option<(QuotaEntity, f64)> {
        let named = |name: &str| Some(Some(name.to_owned()));
        let (user, client) = (named(user), named(client_id));
        let default = Some(None);
        let order = [
            (user.clone(), client.clone()),
            (user.clone(), default.clone()),
            (user, None),
            (default.clone(), client.clone()),
            (default.clone(), default.clone()),
            (default.clone(), None),
            (None, client),
            (None, default),
        ];
        order.into_iter().find_map(|(user, client_id)| {
            let ip = None;
            let entity = QuotaEntity {
                user,
                client_id,
                ip,
            };
            let value = self.quotas.get(&entity)?.get(kind)?.get();
            Some((entity, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Command;
    use crate::testing::Cluster;

    fn entity(user: Option<&str>, client: Option<&str>) -> QuotaEntity {
        let name = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
        QuotaEntity {
            user: user.map(name),
            client_id: client.map(name),
            ip: None,
        }
    }

    fn set(entity: QuotaEntity, value: Option<f64>) -> Command {
        let changes = vec![("rate".to_owned(), value.map(QuotaValue::new))];
        Command::AlterQuotas(vec![AlterQuota { entity, changes }])
    }

    #[test]
    fn the_most_precise_quota_binds() {
        let mut cluster = Cluster::new(1);
        let all = [
            (entity(None, Some("")), 8.0),
            (entity(None, Some("c")), 7.0),
            (entity(Some(""), None), 6.0),
            (entity(Some(""), Some("")), 5.0),
            (entity(Some(""), Some("c")), 4.0),
            (entity(Some("u"), None), 3.0),
            (entity(Some("u"), Some("")), 2.0),
            (entity(Some("u"), Some("c")), 1.0),
        ];
        let of = |cluster: &Cluster, user, client| {
            let found = cluster.state.quota_of("rate", user, client);
            found.map(|(_, value)| value)
        };
        assert_eq!(of(&cluster, "u", "c"), None);
        for (entity, value) in &all {
            cluster.apply(set(entity.clone(), Some(*value)));
            assert_eq!(of(&cluster, "u", "c"), Some(*value));
        }
        assert_eq!(of(&cluster, "u", "x"), Some(2.0));
        assert_eq!(of(&cluster, "x", "c"), Some(4.0));
        assert_eq!(of(&cluster, "x", "x"), Some(5.0));
        for (entity, _) in all {
            cluster.apply(set(entity, None));
        }
        assert!(!cluster.state.has_quotas());
    }
}
