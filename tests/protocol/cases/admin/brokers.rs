//! UpdateFeatures, UnregisterBroker.

use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::{
    BrokerId, UnregisterBrokerRequest, UnregisterBrokerResponse, UpdateFeaturesRequest,
    UpdateFeaturesResponse,
};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::text;
use crate::world::World;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = feature_cases();
    cases.extend(unregister_cases());
    cases
}

fn update(features: &[(&str, i16)]) -> UpdateFeaturesRequest {
    let updates = features.iter().map(|(name, level)| {
        FeatureUpdateKey::default()
            .with_feature(text(name))
            .with_max_version_level(*level)
    });
    UpdateFeaturesRequest::default().with_feature_updates(updates.collect())
}

fn feature_cases() -> Vec<Case> {
    let refused = |name, level: (&'static str, i16), code| {
        case(
            name,
            move |_, _| update(&[("transaction.version", 2), level]),
            move |_, _, _, answer: UpdateFeaturesResponse| {
                assert_eq!(answer.error_code, code);
                let message = answer.error_message.unwrap().to_string();
                assert!(message.contains(level.0), "{message}");
                assert!(answer.results.is_empty());
            },
        )
    };
    vec![
        case(
            "to the levels that there are",
            |_, _| update(&[("transaction.version", 2), ("share.version", 1)]),
            |_, version, _, answer| {
                assert_eq!(answer.error_code, NONE);
                let codes: Vec<_> = answer.results.iter().map(|it| it.error_code).collect();
                assert_eq!(codes, if version < 2 { vec![NONE; 2] } else { vec![] });
            },
        ),
        refused(
            "a feature down",
            ("share.version", 0),
            FEATURE_UPDATE_FAILED,
        ),
        refused("a feature up", ("share.version", 9), INVALID_UPDATE_VERSION),
        refused(
            "an unknown feature",
            ("no.version", 1),
            INVALID_UPDATE_VERSION,
        ),
    ]
}

fn unregister_cases() -> Vec<Case> {
    let refused = |name, which: fn(&World) -> i32, code| {
        case(
            name,
            move |world, _| {
                UnregisterBrokerRequest::default().with_broker_id(BrokerId(which(world)))
            },
            move |_, _, _, answer: UnregisterBrokerResponse| {
                assert_eq!(answer.error_code, code);
                assert!(answer.error_message.is_some());
            },
        )
    };
    vec![
        refused("one that runs", |world| world.broker, INVALID_REQUEST),
        refused("one that never was", |_| 4711, BROKER_ID_NOT_REGISTERED),
    ]
}
