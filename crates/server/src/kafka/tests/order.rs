//! Answers in order, neighbours unharmed, records read back.

use std::time::Duration;

use alluvium_protocol::compression::Codec;
use alluvium_protocol::messages::create_topics_request::CreatableTopic;
use alluvium_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use alluvium_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, MetadataRequest, ProduceResponse, StrBytes,
    uuid,
};
use alluvium_protocol::{message, response};
use alluvium_types::{ErrorCode, TopicId};
use tokio::time::{Instant, timeout};

use super::client::{TestServer, batch, batch_in, outcomes, produce};

fn fetch(topic: TopicId, partition: i32, offset: i64, max_wait_ms: i32) -> FetchRequest {
    let partition = message!(FetchPartition {
        partition,
        current_leader_epoch: -1,
        fetch_offset: offset,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: 1 << 20,
    });
    let topic = message!(FetchTopic {
        topic_id: uuid(topic),
        partitions: vec![partition]
    });
    message!(FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        session_id: 0,
        session_epoch: -1,
        topics: vec![topic],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn pipelined_requests_are_answered_in_order() {
    let server = TestServer::start().await;
    server.topic("t", 1).await;
    let mut client = server.connect().await;
    let mut sent = Vec::new();
    for round in 0..50u8 {
        sent.push((
            client
                .send(9, &produce("t", -1, vec![(0, Some(batch(&[round])))]))
                .await,
            true,
        ));
        if round % 7 == 0 {
            sent.push((client.send(1, &MetadataRequest::default()).await, false));
        }
    }
    let mut next_offset = 0;
    for (correlation, is_produce) in sent {
        let frame = client.receive_frame().await;
        assert_eq!(frame[..4], correlation.to_be_bytes());
        if is_produce {
            let (_, answer): (_, ProduceResponse) = response::decode(frame, 9).unwrap();
            assert_eq!(outcomes(&answer), [(0, 0, next_offset)]);
            next_offset += 1;
        }
    }
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_produce_behind_a_create_finds_the_topic() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let topic = message!(CreatableTopic {
        name: StrBytes::from("new"),
        num_partitions: 1,
        replication_factor: 1,
    });
    client
        .send(
            7,
            &message!(CreateTopicsRequest {
                topics: vec![topic],
                timeout_ms: 5000
            }),
        )
        .await;
    client
        .send(9, &produce("new", -1, vec![(0, Some(batch(b"x")))]))
        .await;
    client.receive_frame().await;
    let (_, answer): (_, ProduceResponse) = client.receive(9).await;
    assert_eq!(outcomes(&answer), [(0, 0, 0)]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_fails_does_not_fail_its_neighbours() {
    let server = TestServer::start().await;
    server.topic("t", 2).await;
    let mut client = server.connect().await;
    let mut corrupt = batch(b"y").to_vec();
    *corrupt.last_mut().unwrap() ^= 1;
    let sets = vec![
        (0, Some(batch(b"x"))),
        (1, Some(corrupt.into())),
        (7, Some(batch(b"z"))),
        (1, None),
        (1, Some(batch(b"w"))),
    ];
    let answer: ProduceResponse = client.call(9, &produce("t", -1, sets)).await;
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    let (corrupt, invalid) = (
        ErrorCode::CorruptMessage.code(),
        ErrorCode::InvalidRecord.code(),
    );
    assert_eq!(
        outcomes(&answer),
        [
            (0, 0, 0),
            (1, corrupt, -1),
            (7, unknown, -1),
            (1, invalid, -1),
            (1, 0, 0)
        ]
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_whole_request_got_wrong_is_told_for_each_partition() {
    let server = TestServer::start().await;
    server.topic("t", 2).await;
    let mut client = server.connect().await;
    let sets = || vec![(0, Some(batch(b"x"))), (1, Some(batch(b"y")))];
    let answer: ProduceResponse = client.call(9, &produce("t", 2, sets())).await;
    let code = ErrorCode::InvalidRequiredAcks.code();
    assert_eq!(outcomes(&answer), [(0, code, -1), (1, code, -1)]);

    let mut transactional = produce("t", -1, sets());
    transactional.transactional_id = Some(StrBytes::from("tx"));
    let answer: ProduceResponse = client.call(9, &transactional).await;
    // What is not of a transaction is taken in such a request, too.
    assert_eq!(outcomes(&answer), [(0, 0, 0), (1, 0, 0)]);

    let zstd = || vec![(0, Some(batch_in(b"compressed", Codec::Zstd)))];
    let answer: ProduceResponse = client.call(6, &produce("t", -1, zstd())).await;
    assert_eq!(
        outcomes(&answer),
        [(0, ErrorCode::UnsupportedCompressionType.code(), -1)]
    );
    let answer: ProduceResponse = client.call(7, &produce("t", -1, zstd())).await;
    assert_eq!(outcomes(&answer), [(0, 0, 1)]);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acks_0_has_no_answer_and_an_error_closes() {
    let server = TestServer::start().await;
    server.topic("t", 1).await;
    let mut client = server.connect().await;
    client
        .send(9, &produce("t", 0, vec![(0, Some(batch(b"x")))]))
        .await;
    let answer: ProduceResponse = client
        .call(9, &produce("t", -1, vec![(0, Some(batch(b"y")))]))
        .await;
    assert_eq!(
        outcomes(&answer),
        [(0, 0, 1)],
        "the first one was taken and not answered"
    );
    client
        .send(9, &produce("t", 0, vec![(9, Some(batch(b"x")))]))
        .await;
    client.closed().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_come_back_and_a_waiting_fetch_sees_new_ones() {
    let server = TestServer::start().await;
    let topic = server.topic("t", 1).await;
    let (mut reader, mut writer) = (server.connect().await, server.connect().await);
    let first = batch(b"first");
    let _: ProduceResponse = writer
        .call(9, &produce("t", -1, vec![(0, Some(first.clone()))]))
        .await;
    let answer: FetchResponse = reader.call(17, &fetch(topic, 0, 0, 0)).await;
    let partition = &answer.responses[0].partitions[0];
    assert_eq!((partition.error_code, partition.high_watermark), (0, 1));
    // All but base offset and leader epoch, which the server writes, is as it was sent.
    let records = partition.records.clone().unwrap();
    assert_eq!(records[16..], first[16..]);

    let asked = Instant::now();
    reader.send(17, &fetch(topic, 0, 1, 15_000)).await;
    let _: ProduceResponse = writer
        .call(9, &produce("t", -1, vec![(0, Some(batch(b"second")))]))
        .await;
    let (_, answer): (_, FetchResponse) = reader.receive(17).await;
    assert_eq!(
        answer.responses[0].partitions[0].records.as_ref().unwrap()[..8],
        1i64.to_be_bytes()
    );
    assert!(
        asked.elapsed() < Duration::from_secs(10),
        "it waited for its time to be over"
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetch_errors_are_per_partition_and_come_at_once() {
    let server = TestServer::start().await;
    let topic = server.topic("t", 1).await;
    let mut client = server.connect().await;
    let mut asked = fetch(topic, 0, 0, 15_000);
    asked.topics.extend(fetch(TopicId([9; 16]), 0, 0, 0).topics);
    asked.topics.extend(fetch(topic, 5, 0, 0).topics);
    let mut epoch = fetch(topic, 0, 0, 0).topics;
    epoch[0].partitions[0].current_leader_epoch = 4;
    asked.topics.extend(epoch);
    let begun = Instant::now();
    let answer: FetchResponse = client.call(17, &asked).await;
    assert!(begun.elapsed() < Duration::from_secs(10));
    let partitions = answer.responses.iter().flat_map(|topic| &topic.partitions);
    let codes: Vec<i16> = partitions.map(|partition| partition.error_code).collect();
    assert_eq!(
        codes,
        [
            0,
            ErrorCode::UnknownTopicId.code(),
            ErrorCode::UnknownTopicOrPartition.code(),
            ErrorCode::UnknownLeaderEpoch.code(),
        ]
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_answers_what_waits_without_waiting() {
    let server = TestServer::start().await;
    let topic = server.topic("t", 1).await;
    let mut reader = server.connect().await;
    reader.send(17, &fetch(topic, 0, 0, 600_000)).await;
    reader.send(1, &MetadataRequest::default()).await;
    while server.in_flight() < 2 {
        tokio::task::yield_now().await;
    }
    let answered = async {
        let (_, answer): (_, FetchResponse) = reader.receive(17).await;
        assert_eq!(answer.responses[0].partitions[0].error_code, 0);
        reader.receive_frame().await;
        reader.closed().await;
    };
    timeout(Duration::from_secs(20), async {
        tokio::join!(answered, server.shutdown())
    })
    .await
    .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_session_is_kept_between_requests() {
    let server = TestServer::start().await;
    let topic = server.topic("t", 1).await;
    let mut client = server.connect().await;
    let mut asked = fetch(topic, 0, 0, 0);
    asked.session_epoch = 0;
    let answer: FetchResponse = client.call(17, &asked).await;
    let session_id = answer.session_id;
    assert!(session_id != 0 && answer.responses.len() == 1);
    let mut next = message!(FetchRequest {
        session_id,
        session_epoch: 1,
        min_bytes: 1
    });
    next.max_bytes = 1 << 20;
    let answer: FetchResponse = client.call(17, &next).await;
    assert_eq!(
        (answer.error_code, answer.session_id, answer.responses.len()),
        (0, session_id, 0)
    );
    let answer: FetchResponse = client.call(17, &next).await;
    assert_eq!(
        answer.error_code,
        ErrorCode::InvalidFetchSessionEpoch.code()
    );
    server.shutdown().await;
}
