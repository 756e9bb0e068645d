//! `[agent]`.

use std::time::Duration;

use super::errors::ConfigError;
use super::section;

section! {
    /// Who this agent is.
    pub struct Agent in "agent." {
        /// The availability zone it runs in (Kafka's `broker.rack`).
        zone: Option<String> = None,
        /// Its identity, 32 hexadecimal digits. Unset, one is drawn at the first start and kept in
        /// the data directory; the same identity keeps the same node id.
        identity: Option<u128> = None,
        /// How long an agent that is not heard of counts as alive, from 500ms to 1m; half of it once
        /// its connection to the leader has closed, as it does when a process dies, or is silent for a
        /// second and a half. The metadata nodes decide: it is read there, and told to agents.
        lease: Duration = Duration::from_secs(2),
        /// Longest that an agent takes to leave when it is told to stop (SIGTERM), up to 10m. What is
        /// not done by then is left to the other agents.
        drain_timeout: Duration = Duration::from_secs(20),
    }
}

impl Agent {
    pub(super) fn check(&self, errors: &mut Vec<ConfigError>) {
        if !(Duration::from_millis(500)..=Duration::from_secs(60)).contains(&self.lease) {
            errors.push(ConfigError::of(
                "agent.lease",
                "is not between 500ms and 1m",
            ));
        }
        if self.drain_timeout > Duration::from_secs(600) {
            errors.push(ConfigError::of("agent.drain_timeout", "is longer than 10m"));
        }
    }
}

impl super::value::Value for u128 {
    fn read(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if text.len() != 32 {
            return Err(format!("{text:?} is not 32 hexadecimal digits"));
        }
        Self::from_str_radix(text, 16).map_err(|_| format!("{text:?} is not 32 hexadecimal digits"))
    }

    fn write(&self) -> String {
        format!("{self:032x}")
    }
}
