use bytes::BufMut;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Message, StrBytes as TheirString};
use proptest::prelude::*;

use super::*;
use crate::api::SERVED;
use crate::messages as ours;
use crate::messages::RequestResponsePair;
use crate::{oracle, response};

/// Runs `$each!(our name, their request, their response)` for every API outside the hot path.
macro_rules! cold_path {
    ($each:ident) => {
        $each!(ListOffsetsRequest, ListOffsetsResponse);
        $each!(MetadataRequest, MetadataResponse);
        $each!(OffsetCommitRequest, OffsetCommitResponse);
        $each!(OffsetFetchRequest, OffsetFetchResponse);
        $each!(FindCoordinatorRequest, FindCoordinatorResponse);
        $each!(JoinGroupRequest, JoinGroupResponse);
        $each!(HeartbeatRequest, HeartbeatResponse);
        $each!(LeaveGroupRequest, LeaveGroupResponse);
        $each!(SyncGroupRequest, SyncGroupResponse);
        $each!(DescribeGroupsRequest, DescribeGroupsResponse);
        $each!(ListGroupsRequest, ListGroupsResponse);
        $each!(ApiVersionsRequest, ApiVersionsResponse);
        $each!(CreateTopicsRequest, CreateTopicsResponse);
        $each!(DeleteTopicsRequest, DeleteTopicsResponse);
        $each!(DeleteRecordsRequest, DeleteRecordsResponse);
        $each!(InitProducerIdRequest, InitProducerIdResponse);
        $each!(OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse);
        $each!(AddPartitionsToTxnRequest, AddPartitionsToTxnResponse);
        $each!(AddOffsetsToTxnRequest, AddOffsetsToTxnResponse);
        $each!(EndTxnRequest, EndTxnResponse);
        $each!(TxnOffsetCommitRequest, TxnOffsetCommitResponse);
        $each!(DescribeProducersRequest, DescribeProducersResponse);
        $each!(DescribeTransactionsRequest, DescribeTransactionsResponse);
        $each!(ListTransactionsRequest, ListTransactionsResponse);
        $each!(DescribeConfigsRequest, DescribeConfigsResponse);
        $each!(AlterConfigsRequest, AlterConfigsResponse);
        $each!(CreatePartitionsRequest, CreatePartitionsResponse);
        $each!(DeleteGroupsRequest, DeleteGroupsResponse);
        $each!(
            IncrementalAlterConfigsRequest,
            IncrementalAlterConfigsResponse
        );
        $each!(DescribeClusterRequest, DescribeClusterResponse);
        $each!(
            DescribeTopicPartitionsRequest,
            DescribeTopicPartitionsResponse
        );
        $each!(DescribeQuorumRequest, DescribeQuorumResponse);
        $each!(
            ConsumerGroupHeartbeatRequest,
            ConsumerGroupHeartbeatResponse
        );
        $each!(ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse);
        $each!(DescribeClientQuotasRequest, DescribeClientQuotasResponse);
        $each!(AlterClientQuotasRequest, AlterClientQuotasResponse);
        $each!(ShareGroupHeartbeatRequest, ShareGroupHeartbeatResponse);
        $each!(ShareGroupDescribeRequest, ShareGroupDescribeResponse);
        $each!(ShareFetchRequest, ShareFetchResponse);
        $each!(ShareAcknowledgeRequest, ShareAcknowledgeResponse);
        $each!(
            DescribeShareGroupOffsetsRequest,
            DescribeShareGroupOffsetsResponse
        );
        $each!(
            AlterShareGroupOffsetsRequest,
            AlterShareGroupOffsetsResponse
        );
        $each!(
            DeleteShareGroupOffsetsRequest,
            DeleteShareGroupOffsetsResponse
        );
        $each!(OffsetDeleteRequest, OffsetDeleteResponse);
        $each!(ListConfigResourcesRequest, ListConfigResourcesResponse);
        $each!(DescribeLogDirsRequest, DescribeLogDirsResponse);
        $each!(AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse);
        $each!(ElectLeadersRequest, ElectLeadersResponse);
        $each!(
            AlterPartitionReassignmentsRequest,
            AlterPartitionReassignmentsResponse
        );
        $each!(
            ListPartitionReassignmentsRequest,
            ListPartitionReassignmentsResponse
        );
        $each!(UpdateFeaturesRequest, UpdateFeaturesResponse);
        $each!(UnregisterBrokerRequest, UnregisterBrokerResponse);
        $each!(WriteTxnMarkersRequest, WriteTxnMarkersResponse);
        $each!(AddRaftVoterRequest, AddRaftVoterResponse);
        $each!(RemoveRaftVoterRequest, RemoveRaftVoterResponse);
    };
}

fn served_versions<M: RequestResponsePair>() -> std::ops::RangeInclusive<i16> {
    let api = api::served(M::API_KEY.value()).unwrap();
    api.min..=api.max
}

/// A request of ours as the server would see it.
fn our_request<M: RequestResponsePair>(message: &M, version: i16) -> Request {
    let frame = encode(77, version, Some("ours"), message).unwrap();
    Request::parse(frame.slice(4..)).unwrap()
}

#[test]
fn every_served_request_of_another_implementation_is_read() {
    let mut seen = 2; // Produce and Fetch have tests of their own.
    macro_rules! check {
        ($request:ident, $response:ident) => {
            seen += 1;
            for version in served_versions::<ours::$request>() {
                let key = ours::$request::API_KEY.value();
                if version <= theirs::$request::VERSIONS.max {
                    let frame = oracle::request(&theirs::$request::default(), version, 5);
                    let request = Request::parse(frame).unwrap();
                    assert_eq!(
                        (request.api_key, request.api_version, request.correlation_id),
                        (key, version, 5)
                    );
                    assert_eq!(request.client_id.as_deref(), Some("oracle"));
                    request.decode::<ours::$request>().unwrap();
                }
                let message = ours::$request::default();
                assert_eq!(
                    our_request(&message, version).decode::<ours::$request>(),
                    Ok(message)
                );
            }
        };
    }
    cold_path!(check);
    assert_eq!(seen, SERVED.len());
}

#[test]
fn every_answer_is_read_by_another_implementation() {
    macro_rules! check {
        ($request:ident, $response:ident) => {
            for version in served_versions::<ours::$request>() {
                let message = ours::$response::default();
                let frame = response::encode(31, version, &message).unwrap();
                if version <= theirs::$response::VERSIONS.max {
                    let (id, _) = oracle::response::<theirs::$response>(&frame, version);
                    assert_eq!(id, 31);
                }
                let read = response::decode::<ours::$response>(frame.slice(4..), version);
                assert_eq!(read, Ok((31, message)));
            }
        };
    }
    cold_path!(check);
}

#[test]
fn answers_of_another_implementation_are_read() {
    let cluster = theirs::MetadataResponse::default()
        .with_cluster_id(Some(TheirString::from_static_str("a cluster")));
    for version in 2..=13 {
        let frame = oracle::encode_response(&cluster, version);
        let (id, read) = response::decode::<ours::MetadataResponse>(frame, version).unwrap();
        assert_eq!((id, read.cluster_id.as_deref()), (7, Some("a cluster")));
    }
}

#[test]
fn api_versions_of_the_future_still_have_a_correlation_id() {
    for body in [&b""[..], &[0xff; 40], b"\0\0\x05"] {
        let mut frame = BytesMut::new();
        frame.put_i16(api::API_VERSIONS);
        frame.put_i16(i16::MAX);
        frame.put_i32(1234);
        frame.put_slice(body);
        let request = Request::parse(frame.freeze()).unwrap();
        assert_eq!(
            (request.api_version, request.correlation_id),
            (i16::MAX, 1234)
        );
        assert!(request.decode::<ours::ApiVersionsRequest>().is_err());
    }
    let error = ours::ApiVersionsResponse::default();
    let frame = response::encode(1234, 0, &error).unwrap();
    assert_eq!(
        oracle::response::<theirs::ApiVersionsResponse>(&frame, 0).0,
        1234
    );
}

#[test]
fn unknown_keys_are_named_not_refused() {
    let request = Request::parse(oracle::raw_request(999, 3, false, b"whatever")).unwrap();
    assert_eq!((request.api_key, request.correlation_id), (999, 9));
}

#[test]
fn headers_cut_short_are_refused() {
    for length in 0..8 {
        let error = Request::parse(Bytes::from(vec![0; length])).unwrap_err();
        assert!(matches!(error, RequestError::Header(_)), "{error}");
    }
}

#[test]
fn a_count_of_four_bytes_does_not_make_us_allocate() {
    let request =
        Request::parse(oracle::raw_request(3, 0, false, &[0x7f, 0xff, 0xff, 0xff])).unwrap();
    let error = request.decode::<ours::MetadataRequest>().unwrap_err();
    assert!(error.to_string().contains("Metadata"), "{error}");
    // Within the limit of elements, but with nothing behind it.
    let request = Request::parse(oracle::raw_request(3, 0, false, &[0, 2, 0, 0])).unwrap();
    assert!(request.decode::<ours::MetadataRequest>().is_err());
}

#[test]
fn bodies_beyond_their_limit_are_refused() {
    let body = vec![0; LIMITS.body_bytes + 1];
    let request = Request::parse(oracle::raw_request(20, 1, false, &body)).unwrap();
    let error = request.decode::<ours::DeleteTopicsRequest>().unwrap_err();
    assert!(error.to_string().contains("limit"), "{error}");
}

#[test]
fn other_keys_are_refused() {
    let request = Request::parse(oracle::raw_request(3, 0, false, &[0, 0, 0, 0])).unwrap();
    assert!(request.decode::<ours::ApiVersionsRequest>().is_err());
}

/// What librdkafka sends for the metadata of all topics: a null array of four bytes, not of one.
#[test]
fn bytes_after_the_message_are_ignored() {
    let body = [0, 0, 0, 0, 1, 0, 0];
    let request = Request::parse(oracle::raw_request(3, 13, true, &body)).unwrap();
    let metadata = request.decode::<ours::MetadataRequest>().unwrap();
    assert!(metadata.topics.is_none());
}

fn create_topics() -> theirs::CreateTopicsRequest {
    use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
    let config = CreatableTopicConfig::default()
        .with_name(TheirString::from_static_str("cleanup.policy"))
        .with_value(Some(TheirString::from_static_str("compact")));
    let topic = CreatableTopic::default()
        .with_name(TheirString::from_static_str("user_clicks").into())
        .with_num_partitions(3)
        .with_configs(vec![config]);
    theirs::CreateTopicsRequest::default().with_topics(vec![topic])
}

#[test]
fn every_truncation_is_refused() {
    for version in 2..=7 {
        let frame = oracle::request(&create_topics(), version, 1);
        let whole = Request::parse(frame.clone()).unwrap();
        let read = whole.decode::<ours::CreateTopicsRequest>().unwrap();
        assert_eq!(&*read.topics[0].name, "user_clicks");
        assert_eq!(read.topics[0].configs[0].value.as_deref(), Some("compact"));
        for length in 0..frame.len() {
            let read = Request::parse(frame.slice(..length))
                .and_then(|request| request.decode::<ours::CreateTopicsRequest>());
            assert!(
                read.is_err(),
                "version {version}, {length} of {} bytes",
                frame.len()
            );
        }
    }
}

fn decode_any(request: &Request) {
    macro_rules! check {
        ($request:ident, $response:ident) => {
            if request.api_key == ours::$request::API_KEY.value() {
                let _ = request.decode::<ours::$request>();
            }
        };
    }
    cold_path!(check);
}

proptest! {
    #[test]
    fn arbitrary_frames_never_panic(frame in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(request) = Request::parse(Bytes::from(frame)) {
            decode_any(&request);
        }
    }

    #[test]
    fn arbitrary_bodies_never_panic(
        api in 0..SERVED.len(),
        version in 0i16..14,
        body in proptest::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200),
    ) {
        let key = SERVED[api].key;
        let frame = oracle::raw_request(key, version, is_flexible(key, version), &body);
        decode_any(&Request::parse(frame).unwrap());
    }
}
