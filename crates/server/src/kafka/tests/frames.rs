//! What is not a request costs its own connection and no other.

use std::time::Duration;

use alluvium_protocol::messages::{HeartbeatRequest, MetadataRequest};
use alluvium_protocol::request;
use tokio::io::AsyncWriteExt;

use super::client::TestServer;

#[tokio::test(flavor = "multi_thread")]
async fn garbage_closes_one_connection() {
    let server = TestServer::start().await;
    let mut bystander = server.connect().await;
    let metadata = |topics: [u8; 4]| {
        let header = [0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff];
        let body = [&header[..], &topics].concat();
        [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    };
    let inputs = [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        vec![0xff; 64],
        0u32.to_be_bytes().to_vec(),
        0x7fff_ffffu32.to_be_bytes().to_vec(),
        0x8000_0000u32.to_be_bytes().to_vec(),
        // A frame too short for a header.
        vec![0, 0, 0, 1, 7],
        // An array of 2^31 - 1 topics.
        metadata([0x7f, 0xff, 0xff, 0xff]),
        // One more topic than there are bytes for.
        metadata([0, 0, 0, 1]),
    ];
    for input in inputs {
        let mut client = server.connect().await;
        client.stream.write_all(&input).await.unwrap();
        client.closed().await;
        assert!(bystander.is_served().await, "after {input:?}");
    }
    assert_eq!(server.services.requests.used(), 0);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_cut_short_is_refused_and_answers_before_it_arrive() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    let good = client.send(1, &MetadataRequest::default()).await;
    let mut bad = request::encode(9, 0, None, &HeartbeatRequest::default())
        .unwrap()
        .to_vec();
    bad.pop();
    let length = u32::try_from(bad.len() - 4).unwrap();
    bad[..4].copy_from_slice(&length.to_be_bytes());
    client.stream.write_all(&bad).await.unwrap();
    let frame = client.receive_frame().await;
    assert_eq!(frame[..4], good.to_be_bytes());
    client.closed().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_over_the_limit_is_refused_by_its_length() {
    let server = TestServer::start_with(|services| services.limits.request_bytes = 1000).await;
    let mut client = server.connect().await;
    client
        .stream
        .write_all(&1001u32.to_be_bytes())
        .await
        .unwrap();
    client.closed().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_closed() {
    let idle = Duration::from_millis(50);
    let server = TestServer::start_with(|services| services.limits.idle = idle).await;
    server.connect().await.closed().await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_past_the_limit_wait_for_their_turn() {
    let server = TestServer::start_with(|services| services.limits.connections = 1).await;
    let mut first = server.connect().await;
    assert!(first.is_served().await);
    let mut second = server.connect().await;
    let early = tokio::time::timeout(Duration::from_millis(100), second.is_served()).await;
    assert!(
        early.is_err(),
        "the second connection was served beside the first"
    );
    drop(first);
    let frame = second.receive_frame().await;
    assert_eq!(frame[..4], 1i32.to_be_bytes());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_is_forgotten_at_shutdown() {
    let server = TestServer::start().await;
    let mut client = server.connect().await;
    assert!(client.is_served().await);
    client.stream.write_all(&[0, 0, 1, 0, 0, 3]).await.unwrap();
    server.shutdown().await;
    client.closed().await;
}
