//! UpdateFeatures: features come with the release, at one level each; only that can be asked for
//! (KIP-584).

use alluvium_metadata::Refusal;
use alluvium_protocol::message;
use alluvium_protocol::messages::update_features_request::FeatureUpdateKey;
use alluvium_protocol::messages::update_features_response::UpdatableFeatureResult;
use alluvium_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use alluvium_types::ErrorCode;

use super::api_versions::FEATURES;
use super::{RequestContext, refusal};

pub(crate) async fn handle(
    context: &RequestContext,
    request: UpdateFeaturesRequest,
) -> UpdateFeaturesResponse {
    for update in &request.feature_updates {
        if let Err(refused) = check(update) {
            refusal::log(context, "UpdateFeatures", &update.feature, &refused);
            let message = format!(
                "The update failed for all features since the following feature had an error: {}",
                refused.message
            );
            return message!(UpdateFeaturesResponse {
                error_code: refused.code.code(),
                error_message: Some(message.into()),
            });
        }
    }
    let results = request.feature_updates.into_iter().map(|update| {
        message!(UpdatableFeatureResult {
            feature: update.feature,
            error_message: None,
        })
    });
    message!(UpdateFeaturesResponse {
        error_message: None,
        // From version 2 on, no errors say that all are as they shall be.
        results: if context.version < 2 {
            results.collect()
        } else {
            Vec::new()
        },
    })
}

/// Whether a feature is at the level that it shall have.
fn check(update: &FeatureUpdateKey) -> Result<(), Refusal> {
    let FeatureUpdateKey {
        feature,
        max_version_level: wanted,
        ..
    } = update;
    let refuse = |code, why: &str| {
        let message = format!("Invalid update version {wanted} for feature {feature}. {why}");
        Err(Refusal { code, message })
    };
    let Some((_, level)) = FEATURES.iter().find(|(name, _)| *name == feature.as_str()) else {
        return refuse(ErrorCode::InvalidUpdateVersion, "It is not supported.");
    };
    if wanted == level {
        return Ok(());
    }
    if !(0..=*level).contains(wanted) {
        let why = format!("Versions 0 to {level} are supported.");
        return refuse(ErrorCode::InvalidUpdateVersion, &why);
    }
    let why = format!("It is served at {level}; levels change with the release only.");
    refuse(ErrorCode::FeatureUpdateFailed, &why)
}
