//! FindCoordinator, ApiVersions, DescribeCluster.

use alluvium_protocol::api::SERVED;
use kafka_protocol::messages::{
    ApiVersionsRequest, DescribeClusterRequest, FindCoordinatorRequest, FindCoordinatorResponse,
};

use crate::codes::*;
use crate::table::{Case, case};
use crate::wire::text;
use crate::world::{READERS, TEAM, World};

pub(super) const KEYS: &[i16] = &[10, 18, 60];

pub(super) fn cases() -> Vec<Case> {
    [coordinator_cases(), version_cases(), describe_cases()]
        .into_iter()
        .flatten()
        .collect()
}

fn find(version: i16, kind: i8, key: &str) -> FindCoordinatorRequest {
    let request = FindCoordinatorRequest::default().with_key_type(kind);
    if version >= 4 {
        request.with_coordinator_keys(vec![text(key)])
    } else {
        request.with_key(text(key))
    }
}

/// (error, node, host, port) of the only key.
fn found(version: i16, answer: &FindCoordinatorResponse) -> (i16, i32, String, i32) {
    if version < 4 {
        let FindCoordinatorResponse {
            error_code,
            node_id,
            host,
            port,
            ..
        } = answer;
        return (*error_code, node_id.0, host.to_string(), *port);
    }
    assert_eq!(answer.coordinators.len(), 1);
    let one = &answer.coordinators[0];
    (
        one.error_code,
        one.node_id.0,
        one.host.to_string(),
        one.port,
    )
}

fn coordinator_cases() -> Vec<Case> {
    vec![
        case(
            "of a group",
            |_, version| find(version, 0, TEAM),
            |world, version, _, answer| {
                let port = i32::from(world.server.options.port);
                let expected = (NONE, world.broker, "127.0.0.1".to_owned(), port);
                assert_eq!(found(version, &answer), expected);
            },
        ),
        case(
            "of a transactional id",
            |_, version| find(version, 1, "mover"),
            |world, version, _, answer| {
                let (code, node, ..) = found(version, &answer);
                assert_eq!((code, node), (NONE, world.broker));
            },
        )
        .since(1),
        case(
            "of what there is not",
            |_, version| find(version, 99, "what"),
            |_, version, _, answer| assert_eq!(found(version, &answer).0, INVALID_REQUEST),
        )
        .since(1),
        case(
            "of several groups",
            |_, _| {
                let keys = vec![text(TEAM), text(READERS), text("no-group")];
                FindCoordinatorRequest::default().with_coordinator_keys(keys)
            },
            |world, _, request, answer| {
                let keys: Vec<_> = answer
                    .coordinators
                    .iter()
                    .map(|one| one.key.clone())
                    .collect();
                assert_eq!(keys, request.coordinator_keys);
                assert!(
                    answer
                        .coordinators
                        .iter()
                        .all(|one| one.node_id.0 == world.broker)
                );
            },
        )
        .since(4),
        case(
            "of nothing",
            |_, _| FindCoordinatorRequest::default(),
            |_, _, _, answer| assert!(answer.coordinators.is_empty()),
        )
        .since(4),
    ]
}

fn versions(version: i16, name: &str) -> ApiVersionsRequest {
    if version < 3 {
        return ApiVersionsRequest::default();
    }
    ApiVersionsRequest::default()
        .with_client_software_name(text(name))
        .with_client_software_version(text("1.0"))
}

fn version_cases() -> Vec<Case> {
    vec![
        case(
            "what is served",
            |_, version| versions(version, "protocol-test"),
            |_, _, _, answer| {
                assert_eq!(answer.error_code, NONE);
                let told: Vec<_> = answer
                    .api_keys
                    .iter()
                    .map(|one| (one.api_key, one.min_version, one.max_version))
                    .collect();
                // librdkafka takes a Produce without version 0 for one without compression.
                let min = |key, min| if key == 0 { 0 } else { min };
                let served: Vec<_> = SERVED
                    .iter()
                    .map(|api| (api.key, min(api.key, api.min), api.max))
                    .collect();
                assert_eq!(told, served);
            },
        ),
        case(
            "an impossible name",
            |_, version| versions(version, "no name!"),
            |_, _, _, answer| assert_eq!(answer.error_code, INVALID_REQUEST),
        )
        .since(3),
    ]
}

fn describe_cases() -> Vec<Case> {
    vec![
        case(
            "brokers",
            |_, _| {
                DescribeClusterRequest::default().with_include_cluster_authorized_operations(true)
            },
            |world: &mut World, _, _, answer| {
                assert_eq!((answer.error_code, answer.endpoint_type), (NONE, 1));
                assert!(!answer.cluster_id.is_empty());
                assert_eq!(answer.controller_id.0, world.broker);
                assert!(answer.cluster_authorized_operations > 0);
                let broker = &answer.brokers[0];
                assert_eq!(broker.broker_id.0, world.broker);
                assert_eq!(broker.host.as_str(), "127.0.0.1");
                assert_eq!(broker.port, i32::from(world.server.options.port));
                assert!(!broker.is_fenced);
            },
        ),
        case(
            "controllers, which a broker does not know",
            |_, _| DescribeClusterRequest::default().with_endpoint_type(2),
            |_, _, _, answer| assert_eq!(answer.error_code, MISMATCHED_ENDPOINT_TYPE),
        )
        .since(1),
        case(
            "what there is not",
            |_, _| DescribeClusterRequest::default().with_endpoint_type(9),
            |_, _, _, answer| assert_eq!(answer.error_code, UNSUPPORTED_ENDPOINT_TYPE),
        )
        .since(1),
        case(
            "fenced brokers, too",
            |_, _| DescribeClusterRequest::default().with_include_fenced_brokers(true),
            |_, _, _, answer| assert_eq!(answer.brokers.len(), 1),
        )
        .since(2),
    ]
}
