//! ApiVersions: which APIs are served in which versions.

use alluvium_protocol::api::{API_VERSIONS, SERVED, ServedApi, served};
use alluvium_protocol::message;
use alluvium_protocol::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use alluvium_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use alluvium_protocol::request::Request;
use alluvium_protocol::response;
use alluvium_types::ErrorCode;

use crate::kafka::dispatch::Rejection;
use crate::kafka::writer::Answer;

/// What clients ask for by level and not by API (KIP-584): consumer groups of the newer protocol (KIP-848),
/// share groups (KIP-932), transactions with a new epoch after each end (KIP-890).
pub(super) const FEATURES: &[(&str, i16)] = &[
    ("group.version", 1),
    ("share.version", 1),
    ("transaction.version", 2),
];

/// Answers in the request's version; one from the future is answered in version 0 with
/// UNSUPPORTED_VERSION and the versions of ApiVersions itself, so that the client can ask again
/// (KIP-511).
pub(crate) fn answer(request: &Request) -> Result<Answer, Rejection> {
    let version = request.api_version;
    let (version, answer) = if served(API_VERSIONS).is_some_and(|api| api.serves(version)) {
        (version, handle(version, &request.decode()?))
    } else {
        let own = served(API_VERSIONS).map(range);
        let answer = message!(ApiVersionsResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            api_keys: own.into_iter().collect(),
        });
        (0, answer)
    };
    Ok(response::encode(request.correlation_id, version, &answer)?.into())
}

fn handle(version: i16, request: &ApiVersionsRequest) -> ApiVersionsResponse {
    let is_valid = version < 3
        || (is_software_id(&request.client_software_name)
            && is_software_id(&request.client_software_version));
    if !is_valid {
        tracing::debug!(
            name = request.client_software_name.as_str(),
            version = request.client_software_version.as_str(),
            "ApiVersions refused: impossible client software name or version"
        );
        return message!(ApiVersionsResponse {
            error_code: ErrorCode::InvalidRequest.code()
        });
    }
    message!(ApiVersionsResponse {
        api_keys: SERVED.iter().map(range).collect(),
        supported_features: FEATURES.iter().map(|it| supported(version, it)).collect(),
        finalized_features_epoch: 0,
        finalized_features: FEATURES.iter().map(finalized).collect(),
    })
}

fn supported(version: i16, (name, level): &(&str, i16)) -> SupportedFeatureKey {
    message!(SupportedFeatureKey {
        name: (*name).into(),
        // Clients of version 3 cannot read a 0 here (KAFKA-17011).
        min_version: if version < 4 { 1 } else { 0 },
        max_version: *level,
    })
}

fn finalized((name, level): &(&str, i16)) -> FinalizedFeatureKey {
    message!(FinalizedFeatureKey {
        name: (*name).into(),
        max_version_level: *level,
        min_version_level: *level,
    })
}

fn range(api: &ServedApi) -> ApiVersion {
    message!(ApiVersion {
        api_key: api.key,
        min_version: api.advertised_min(),
        max_version: api.max,
    })
}

/// Letters, digits, dots and hyphens, beginning and ending with a letter or digit.
fn is_software_id(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    let ends_well = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    ends_well(bytes.first()) && ends_well(bytes.last()) && bytes.iter().copied().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_names_are_checked_as_kafka_does() {
        for good in ["a", "apache-kafka-java", "4.3.1", "0"] {
            assert!(is_software_id(good), "{good}");
        }
        for bad in ["", "-", "a-", ".a", "a b", "ä", "a_b"] {
            assert!(!is_software_id(bad), "{bad}");
        }
    }
}
