use alluvium_metadata::State;
use alluvium_transport::TransportError;
use alluvium_types::{TopicId, random};

use super::*;
use crate::testing::{Cluster, address, one_thread, topic};

const WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn hostile_requests_are_refused_and_change_nothing() {
    let _seeded = one_thread();
    let cluster = Cluster::of(1).await;
    let before = cluster.metadata(1).read(State::clone);
    let service = cluster.node(1).service();
    for _ in 0..2_000 {
        let length = random::range(0..64);
        let mut bytes: Vec<u8> = (0..length).map(|_| random::value()).collect();
        if random::value() {
            // Something that looks like a request.
            bytes.splice(0..0, [1, 0, random::range(0..15)]);
        }
        let bytes = Bytes::from(bytes);
        // What happens to be a request is answered: with nothing done.
        let _ = service.call(Lane::Commands, bytes.clone()).await;
        let _ = service.open(Lane::Commands, bytes).await;
    }
    let commands = vec![Bytes::from_static(b"\xff\xff")];
    let propose = Envelope::new(None, Request::Propose { commands }).encode();
    let answer = service.call(Lane::Commands, propose).await.unwrap();
    let answer = Answer::decode(&answer).unwrap();
    assert!(matches!(answer, Answer::Unavailable(_)), "{answer:?}");
    assert_eq!(cluster.metadata(1).read(State::clone), before);
    cluster.metadata(1).propose(topic(1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_request_for_another_cluster_or_history_is_refused_by_name() {
    let _seeded = one_thread();
    let cluster = Cluster::of(1).await;
    let own = cluster
        .metadata(1)
        .read(|state| Identity::of(state).unwrap());
    let transport = cluster.net.transport("stranger");
    for stranger in [
        Identity {
            cluster: TopicId([66; 16]),
            restores: 0,
        },
        Identity { restores: 1, ..own },
    ] {
        let request = Envelope::new(Some(stranger), Request::ReadIndex).encode();
        let refused = transport
            .call(&address(1), Lane::Control, request, WITHIN)
            .await
            .unwrap_err();
        let TransportError::Refused { reason, .. } = refused else {
            panic!("{refused:?}")
        };
        assert!(reason.contains(&own.cluster.to_string()), "{reason}");
    }
    let request = Envelope::new(Some(own), Request::ReadIndex).encode();
    transport
        .call(&address(1), Lane::Control, request, WITHIN)
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_takes_proposals_and_the_others_say_who_leads() {
    let _seeded = one_thread();
    let cluster = Cluster::of(3).await;
    let (leader, follower) = (cluster.leader().await, cluster.follower().await);
    let command = postcard::to_stdvec(&topic(1)).unwrap();
    let commands = vec![Bytes::from(command)];
    let request = Envelope::new(None, Request::Propose { commands }).encode();
    let ask = async |number: u32| {
        let service = cluster.node(number).service();
        let answer = service.call(Lane::Commands, request.clone()).await.unwrap();
        Answer::decode(&answer).unwrap()
    };
    let Answer::NotLeader { leader: Some(hint) } = ask(follower).await else {
        panic!("a follower took a proposal")
    };
    assert_eq!(hint.address, address(leader));
    let answer = ask(leader).await;
    assert!(
        matches!(answer, Answer::Proposed(ref all) if all.len() == 1),
        "{answer:?}"
    );
}
