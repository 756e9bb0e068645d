//! Every API in every version. Several tests, so that they run side by side.

mod admin;
mod cluster;
mod configs;
mod consumers;
mod data;
mod group_configs;
mod groups;
mod membership;
mod offsets;
mod offsets_by_id;
mod quorum;
mod quotas;
mod shares;
mod topics;
mod transactions;

use alluvium_protocol::api::SERVED;

use crate::table::{Case, run};

/// Which keys a test covers, and its cases.
type Suite = (&'static [i16], fn() -> Vec<Case>);

const SUITES: [Suite; 12] = [
    (admin::KEYS, admin::cases),
    (data::KEYS, data::cases),
    (topics::KEYS, topics::cases),
    (configs::KEYS, configs::cases),
    (offsets::KEYS, offsets::cases),
    (membership::KEYS, membership::cases),
    (cluster::KEYS, cluster::cases),
    (quorum::KEYS, quorum::cases),
    (consumers::KEYS, consumers::cases),
    (quotas::KEYS, quotas::cases),
    (shares::KEYS, shares::cases),
    (transactions::KEYS, transactions::cases),
];

#[test]
fn every_served_api_is_in_one_of_the_tables() {
    let mut keys: Vec<i16> = SUITES.iter().flat_map(|(keys, _)| *keys).copied().collect();
    keys.extend(groups::KEYS);
    keys.sort_unstable();
    let served: Vec<i16> = SERVED.iter().map(|api| api.key).collect();
    assert_eq!(keys, served);
}

#[test]
fn data_in_every_version() {
    run(&data::cases(), data::KEYS);
}

#[test]
fn topics_in_every_version() {
    run(&topics::cases(), topics::KEYS);
}

#[test]
fn configs_in_every_version() {
    run(&configs::cases(), configs::KEYS);
}

#[test]
fn offsets_in_every_version() {
    run(&offsets::cases(), offsets::KEYS);
}

#[test]
fn group_membership_in_every_version() {
    run(&membership::cases(), membership::KEYS);
}

#[test]
fn group_administration_in_every_version() {
    run(&groups::cases(), groups::KEYS);
}

#[test]
fn cluster_in_every_version() {
    run(&cluster::cases(), cluster::KEYS);
}

#[test]
fn quorum_in_every_version() {
    run(&quorum::cases(), quorum::KEYS);
}

#[test]
fn administration_in_every_version() {
    run(&admin::cases(), admin::KEYS);
}

#[test]
fn transactions_in_every_version() {
    run(&transactions::cases(), transactions::KEYS);
}

#[test]
fn consumer_groups_of_the_newer_protocol_in_every_version() {
    run(&consumers::cases(), consumers::KEYS);
}

#[test]
fn share_groups_in_every_version() {
    run(&shares::cases(), shares::KEYS);
}

#[test]
fn client_quotas_in_every_version() {
    run(&quotas::cases(), quotas::KEYS);
}
