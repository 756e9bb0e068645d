//! Every setting that Kafka 4's broker documentation lists, and ours, by area.

mod groups;
mod logs;
mod network;
mod quorum;
mod security;
mod server;
mod tiering;

use super::definition::Definition;

const AREAS: &[&[Definition]] = &[
    server::CONFIGS,
    logs::CONFIGS,
    network::CONFIGS,
    groups::CONFIGS,
    quorum::CONFIGS,
    tiering::CONFIGS,
    security::CONFIGS,
];

/// Every broker setting, area by area.
pub fn broker_configs() -> impl Iterator<Item = &'static Definition> + Clone {
    AREAS.iter().copied().flatten()
}

/// A broker setting by name.
#[must_use]
pub fn broker_config(name: &str) -> Option<&'static Definition> {
    broker_configs().find(|definition| definition.name == name)
}
