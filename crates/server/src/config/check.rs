//! What sections say about each other.

use alluvium_storage::bucket::plain_url;

use super::errors::ConfigError;
use super::{Config, Mode, Role};

impl Config {
    /// Whether this process has a role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.process.roles.contains(&role)
    }

    /// Whether other processes may belong to the cluster, as far as this configuration says.
    #[must_use]
    pub fn has_peers(&self) -> bool {
        self.cluster.peers().next().is_some()
            || self.cluster.listen.is_some()
            || !(self.has(Role::Agent) && self.has(Role::Metadata))
    }

    /// What a single value cannot tell.
    pub(super) fn check(
        &self,
        mode: Mode,
        errors: &mut Vec<ConfigError>,
        warnings: &mut Vec<String>,
    ) {
        if self.process.roles.is_empty() {
            errors.push(ConfigError::of(
                "roles",
                "is empty; there are \"agent\" and \"metadata\"",
            ));
        }
        if self.has(Role::Agent) {
            self.kafka.check(mode, errors);
            self.flush.check(errors);
            self.journal.check(self.flush.chunk_bytes, errors);
            self.settle.check(errors);
            self.compaction.check(errors);
            self.check_memory(errors);
        }
        self.agent.check(errors);
        self.metadata.check(errors);
        self.cluster.check(errors);
        if !self.process.roles.is_empty() {
            self.check_quorum(errors, warnings);
            self.check_store(errors, warnings);
        }
        if let Err(reasons) = alluvium_agent::topics::Topics::new(self.broker.clone()) {
            let reasons = reasons
                .lines()
                .map(str::trim)
                .filter(|reason| !reason.is_empty());
            errors.extend(reasons.map(ConfigError::plain));
        }
    }

    /// Who finds whom.
    fn check_quorum(&self, errors: &mut Vec<ConfigError>, warnings: &mut Vec<String>) {
        let has_peers = self.cluster.peers().next().is_some();
        if !self.has(Role::Metadata) {
            if self.cluster.nodes.is_empty() {
                errors.push(ConfigError::of(
                    "cluster.nodes",
                    "is missing: an agent without the role \"metadata\" must know where the \
                     metadata nodes are; list their addresses (their cluster.listen)",
                ));
            }
            self.check_agent_address(errors, warnings);
            return;
        }
        if self.cluster.listen.is_none() {
            let reason = match (has_peers, self.has(Role::Agent)) {
                (true, _) => "cluster.nodes names other metadata nodes, which must reach this one",
                (false, false) => "a metadata node without the role \"agent\" serves others only",
                (false, true) => return,
            };
            errors.push(ConfigError::of(
                "cluster.listen",
                format!("is missing: {reason}; write host:port, for example 0.0.0.0:9094"),
            ));
        }
        let waits_to_be_named = self.cluster.listen.is_some() && self.cluster.nodes.is_empty();
        if (has_peers || waits_to_be_named) && self.metadata.node_id.is_none() {
            errors.push(ConfigError::of(
                "metadata.node_id",
                "is missing: each of several metadata nodes has a number of its own, from 1",
            ));
        }
    }

    /// How other agents reach an agent that is no metadata node.
    fn check_agent_address(&self, errors: &mut Vec<ConfigError>, warnings: &mut Vec<String>) {
        let cluster = &self.cluster;
        if cluster.peers().count() < cluster.nodes.len() {
            errors.push(ConfigError::of(
                "cluster.nodes",
                "names this process itself, which is no metadata node; list the metadata nodes, or \
                 add \"metadata\" to roles",
            ));
        }
        if cluster.listen.is_none() && cluster.advertised.is_some() {
            warnings.push(
                "cluster.advertised has no effect without cluster.listen: other agents do not reach \
                 this one"
                    .to_owned(),
            );
        }
    }

    /// Whether all processes mean the same bytes.
    fn check_store(&self, errors: &mut Vec<ConfigError>, warnings: &mut Vec<String>) {
        if !self.has_peers() {
            return;
        }
        match self.store.url.as_deref().map(plain_url) {
            None => errors.push(ConfigError::of(
                "store.url",
                "is missing: the processes of a cluster share one store; unset, it would be a \
                 folder of this process's own",
            )),
            Some(url) if url.starts_with("memory:") => errors.push(ConfigError::of(
                "store.url",
                "memory:// is this process's own memory, and the processes of a cluster share one \
                 store; name a bucket",
            )),
            Some(url) if url.starts_with("file:") => warnings.push(format!(
                "store.url = {url:?}: every process of the cluster must see this very folder \
                 (the same machine, or a shared file system)"
            )),
            Some(_) => {}
        }
    }
}
