//! ApiVersions, and versions that nobody serves.

use alluvium_protocol::api::SERVED;
use alluvium_protocol::message;
use alluvium_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use alluvium_protocol::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use alluvium_protocol::messages::{
    ApiVersionsRequest, ApiVersionsResponse, InitProducerIdRequest, InitProducerIdResponse,
    ListOffsetsRequest, ListOffsetsResponse, OffsetForLeaderEpochRequest,
    OffsetForLeaderEpochResponse, ProduceResponse, StrBytes,
};
use alluvium_protocol::response;
use alluvium_types::ErrorCode;
use tokio::io::AsyncWriteExt;

use super::client::{TestServer, batch, outcomes, produce};

/// A request header (version 1 or 2 look alike so far) with `body` behind it.
fn raw(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(correlation.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    frame.extend(body);
    [
        &u32::try_from(frame.len()).unwrap().to_be_bytes()[..],
        &frame,
    ]
    .concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_api_versions_lists_what_is_served() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    for version in 0..=4 {
        let asked = message!(ApiVersionsRequest {
            client_software_name: StrBytes::from(if version >= 3 { "test" } else { "" }),
            client_software_version: StrBytes::from(if version >= 3 { "1.0" } else { "" }),
        });
        let answer: ApiVersionsResponse = client.call(version, &asked).await;
        assert_eq!(answer.error_code, 0);
        assert_eq!(answer.api_keys.len(), SERVED.len());
        assert_eq!(
            (answer.api_keys[0].api_key, answer.api_keys[0].min_version),
            (0, 0)
        );
    }
    let impossible = message!(ApiVersionsRequest {
        client_software_name: StrBytes::from("not a name!"),
        client_software_version: StrBytes::from("1.0"),
    });
    let answer: ApiVersionsResponse = client.call(4, &impossible).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn api_versions_from_the_future_is_answered_in_version_0() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    for version in [5, 99, i16::MAX, -1] {
        let body = [0, 1, 2, 3, 4, 5, 6, 7];
        client
            .stream
            .write_all(&raw(18, version, 77, &body))
            .await
            .unwrap();
        let frame = client.receive_frame().await;
        let (correlation, answer): (_, ApiVersionsResponse) = response::decode(frame, 0).unwrap();
        assert_eq!(correlation, 77);
        assert_eq!(answer.error_code, ErrorCode::UnsupportedVersion.code());
        let range = &answer.api_keys[..];
        assert_eq!(range.len(), 1, "version {version}");
        assert_eq!(
            (range[0].api_key, range[0].min_version, range[0].max_version),
            (18, 0, 4)
        );
    }
    // And the connection goes on.
    assert!(client.is_served().await);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_served_is_closed() {
    let server = TestServer::start().await;
    // An unknown key, one that Kafka has and we have not, versions too old and too new.
    for (key, version) in [
        (1234, 0),
        (-1, 0),
        (68, 0),
        (0, 2),
        (1, 3),
        (1, 19),
        (3, 99),
    ] {
        let mut client = server.connect().await;
        client
            .stream
            .write_all(&raw(key, version, 1, &[0; 8]))
            .await
            .unwrap();
        client.closed().await;
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_offsets_in_every_version() {
    let server = TestServer::start().await;
    server.topic("t", 2).await;
    let mut client = server.connect().await;
    let sent: ProduceResponse = client
        .call(9, &produce("t", -1, vec![(0, Some(batch(b"x")))]))
        .await;
    assert_eq!(outcomes(&sent), [(0, 0, 0)]);
    for version in 1..=11 {
        let ask = |partition, timestamp, epoch| {
            message!(ListOffsetsPartition {
                partition_index: partition,
                timestamp,
                current_leader_epoch: if version >= 4 { epoch } else { -1 },
            })
        };
        let partitions = vec![
            ask(0, -1, 0),
            ask(0, -2, 0),
            ask(1, -1, -1),
            ask(1, 5, -1),
            ask(2, -1, -1),
            ask(1, -99, -1),
        ];
        for asked in partitions {
            let topic = message!(ListOffsetsTopic {
                name: StrBytes::from("t"),
                partitions: vec![asked.clone()],
            });
            let asked_all = message!(ListOffsetsRequest {
                replica_id: -1,
                topics: vec![topic]
            });
            let answer: ListOffsetsResponse = client.call(version, &asked_all).await;
            let got = &answer.topics[0].partitions[0];
            let expected = match (asked.partition_index, asked.timestamp) {
                (0, -1) => (ErrorCode::None, 1),
                (0, -2) | (1, -1) => (ErrorCode::None, 0),
                (1, 5) => (ErrorCode::None, -1),
                (1, -99) => (ErrorCode::UnsupportedVersion, -1),
                _ => (ErrorCode::UnknownTopicOrPartition, -1),
            };
            assert_eq!(
                (got.error_code, got.offset),
                (expected.0.code(), expected.1),
                "{asked:?}"
            );
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn list_offsets_refuses_twins_and_wrong_epochs() {
    let server = TestServer::start().await;
    server.topic("t", 2).await;
    let mut client = server.connect().await;
    let ask = |partition_index, current_leader_epoch| {
        message!(ListOffsetsPartition {
            partition_index,
            timestamp: -1,
            current_leader_epoch
        })
    };
    let topic = message!(ListOffsetsTopic {
        name: StrBytes::from("t"),
        partitions: vec![ask(0, -1), ask(0, -1), ask(1, 3)],
    });
    let asked = message!(ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic]
    });
    let answer: ListOffsetsResponse = client.call(7, &asked).await;
    let codes: Vec<i16> = answer.topics[0]
        .partitions
        .iter()
        .map(|p| p.error_code)
        .collect();
    let twin = ErrorCode::InvalidRequest.code();
    assert_eq!(codes, [twin, twin, ErrorCode::UnknownLeaderEpoch.code()]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_epoch_ends_at_the_high_watermark() {
    let server = TestServer::start().await;
    server.topic("t", 1).await;
    let mut client = server.connect().await;
    let _: ProduceResponse = client
        .call(9, &produce("t", -1, vec![(0, Some(batch(b"x")))]))
        .await;
    for version in 2..=4 {
        let ask = |partition, leader_epoch| {
            message!(OffsetForLeaderPartition {
                partition,
                leader_epoch,
                current_leader_epoch: -1
            })
        };
        let topic = message!(OffsetForLeaderTopic {
            topic: StrBytes::from("t"),
            partitions: vec![ask(0, 0), ask(0, 1), ask(5, 0)],
        });
        let asked = message!(OffsetForLeaderEpochRequest {
            replica_id: -1,
            topics: vec![topic]
        });
        let answer: OffsetForLeaderEpochResponse = client.call(version, &asked).await;
        let ends: Vec<_> = answer.topics[0]
            .partitions
            .iter()
            .map(|end| (end.error_code, end.leader_epoch, end.end_offset))
            .collect();
        let unknown = ErrorCode::UnknownTopicOrPartition.code();
        assert_eq!(
            ends,
            [(0, 0, 1), (0, -1, -1), (unknown, -1, -1)],
            "version {version}"
        );
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn producer_ids_are_new_each_time_and_those_of_transactions_stay() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let mut seen = std::collections::HashSet::new();
    for version in 0..=5 {
        let asked = message!(InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 1000,
        });
        let answer: InitProducerIdResponse = client.call(version, &asked).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, 0));
        assert!(answer.producer_id >= 0 && seen.insert(answer.producer_id));
        let asked = message!(InitProducerIdRequest {
            transactional_id: Some(StrBytes::from("tx")),
            transaction_timeout_ms: 1000,
        });
        let answer: InitProducerIdResponse = client.call(version, &asked).await;
        assert_eq!((answer.error_code, answer.producer_epoch), (0, version));
    }
    server.shutdown().await;
}
