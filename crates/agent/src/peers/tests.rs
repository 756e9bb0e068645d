//! Agents that call one another: over a switchboard in memory, and over sockets.

mod sockets;
mod world;

use alluvium_metadata::{AgentOrigin, Command, JournalCopy};
use alluvium_transport::Lane;
use alluvium_types::{AgentEpoch, ChunkNumber};
use proptest::prelude::*;
use tokio::time::{Duration, Instant};

use super::wire::{Head, Identity, Request, Sum};
use super::*;
use world::{JOURNAL, World, bytes};

fn chunk(of: AgentOrigin, number: u64) -> JournalChunkId {
    JournalChunkId {
        agent: of.agent,
        epoch: of.epoch,
        chunk: ChunkNumber(number),
    }
}

fn refused<T: Debug>(answer: Result<T, PeerError>, why: &str) {
    match answer {
        Err(PeerError::Refused { reason, .. }) if reason.contains(why) => {}
        other => panic!("{other:?} is no refusal because of {why:?}"),
    }
}

fn unreachable<T: Debug>(answer: Result<T, PeerError>, why: &str) {
    match answer {
        Err(PeerError::Unreachable { reason, .. }) if reason.contains(why) => {}
        other => panic!("{other:?} is not out of reach because of {why:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_is_kept_and_read_back_from_any_byte() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let parts = [bytes(0..1000), Bytes::new(), bytes(1000..5000)];
    let id = chunk(one.origin(), 7);
    let copy = one.client.append(other.id(), id, &parts).await.unwrap();
    let expected = JournalCopy {
        agent: other.id(),
        journal: JOURNAL + 1,
    };
    assert_eq!(copy, expected);
    // As after an answer that was lost.
    one.client.append(other.id(), id, &parts).await.unwrap();
    for range in [0..5000, 0..1, 999..1001, 4999..5000] {
        let read = one.client.read_chunk(other.id(), id, range.clone()).await;
        assert_eq!(read.unwrap(), bytes(range));
    }
    let beyond = one.client.read_chunk(other.id(), id, 4999..5001).await;
    refused(beyond, "bytes 4999..5001 are 1 bytes here");
    let absent = chunk(one.origin(), 8);
    let absent = one.client.read_chunk(other.id(), absent, 0..1).await;
    refused(absent, "not here");
}

#[tokio::test(start_paused = true)]
async fn a_block_is_read_through_the_other_ones_cache() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let object = ObjectId(7);
    let read = one.client.read_object(other.id(), object, 10_000, 17..4000);
    assert_eq!(read.await.unwrap(), bytes(17..4000));
    let beyond = one
        .client
        .read_object(other.id(), object, 10_000, 9999..10_001);
    refused(beyond.await, "not within object");
}

#[tokio::test(start_paused = true)]
async fn only_registrations_that_live_are_served() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let before = one.origin();
    let id = chunk(before, 1);
    let append = async || one.client.append(other.id(), id, &[bytes(0..9)]).await;
    append().await.unwrap();
    let read = async || one.client.read_chunk(other.id(), id, 0..9).await;

    // Chunks of others, and of registrations that it never had, are not its own.
    let nine = [bytes(0..9)];
    let foreign = one
        .client
        .append(other.id(), chunk(other.origin(), 1), &nine);
    refused(foreign.await, "only its own");
    let later = AgentOrigin {
        epoch: AgentEpoch(before.epoch.0 + 1),
        ..before
    };
    let foreign = one.client.append(other.id(), chunk(later, 1), &nine);
    refused(foreign.await, "only its own");

    // Replaced, and it does not know yet.
    let after = world.register(0).await;
    refused(append().await, "is over");
    refused(read().await, "is over");
    // What was written under the registration before may be copied under the next.
    one.registered(after);
    append().await.unwrap();
    read().await.unwrap();

    let agents = vec![after];
    world.propose(Command::EndAgents { agents, at: 5 }).await;
    refused(append().await, "is over");
    one.registered(AgentOrigin {
        agent: AgentId(99),
        epoch: AgentEpoch(1),
    });
    refused(read().await, "is not known here");
}

#[tokio::test(start_paused = true)]
async fn who_leaves_takes_no_more_copies_and_still_gives_what_it_has() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let id = chunk(one.origin(), 1);
    let append = async || one.client.append(other.id(), id, &[bytes(0..9)]).await;
    append().await.unwrap();
    other.registration.leave();
    refused(append().await, "about to leave");
    let read = one.client.read_chunk(other.id(), id, 0..9).await;
    assert_eq!(read.unwrap(), bytes(0..9));
}

#[tokio::test(start_paused = true)]
async fn an_address_that_belongs_to_somebody_else_is_noticed() {
    let world = World::new(3).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    world
        .network
        .serve("a1:9094", world.agents[2].service.clone());
    let id = chunk(one.origin(), 1);
    let append = one.client.append(other.id(), id, &[bytes(0..9)]).await;
    refused(append, "this is agent 3, not 2");
}

#[tokio::test(start_paused = true)]
async fn a_dead_peer_fails_fast_and_is_tried_again_later() {
    let world = World::new(3).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let id = chunk(one.origin(), 1);
    let append = async || one.client.append(other.id(), id, &[bytes(0..9)]).await;
    append().await.unwrap();
    assert!(one.client.seems_alive(other.id()));
    world.network.hang("a1:9094");
    let begun = Instant::now();
    unreachable(append().await, "did not answer");
    assert!(begun.elapsed() < Duration::from_secs(3));
    // Nobody waits for it again so soon.
    let begun = Instant::now();
    assert!(!one.client.seems_alive(other.id()));
    for _ in 0..100 {
        unreachable(append().await, "failed a moment ago");
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // The others are not held up.
    let third = &world.agents[2];
    let copied = one.client.append(third.id(), id, &[bytes(0..9)]).await;
    copied.unwrap();
    // It is back.
    world.network.serve("a1:9094", other.service.clone());
    tokio::time::sleep(Duration::from_secs(5)).await;
    append().await.unwrap();
    // It died again, and comes back under another registration: no reason to wait.
    world.network.hang("a1:9094");
    unreachable(append().await, "did not answer");
    world.network.serve("a1:9094", other.service.clone());
    let origin = world.register(1).await;
    other.registered(origin);
    world.announce(1, origin).await;
    append().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_has_left_or_said_no_address_is_not_called() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let id = chunk(one.origin(), 1);
    let append = async |peer| one.client.append(peer, id, &[bytes(0..9)]).await;
    unreachable(append(AgentId(77)).await, "announced no address");
    let agents = vec![other.origin()];
    world.propose(Command::EndAgents { agents, at: 5 }).await;
    unreachable(append(other.id()).await, "announced no address");
    assert!(!one.client.seems_alive(other.id()));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_ends_nobody_and_what_is_too_large_is_refused() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let id = chunk(one.origin(), 1);
    let large = vec![Bytes::from(vec![0; 1 << 20]); 65];
    let too_large = one.client.append(other.id(), id, &large).await;
    refused(too_large, "at most");
    let read = one.client.read_chunk(other.id(), id, 0..READ_BYTES + 1);
    refused(read.await, "at most");
    let none = one.client.read_chunk(other.id(), id, 5..5).await;
    refused(none, "are none");
    other.copies.hang();
    let begun = Instant::now();
    unreachable(
        one.client.append(other.id(), id, &[bytes(0..9)]).await,
        "did not answer",
    );
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn many_readers_wait_for_room_and_all_are_served() {
    let world = World::new(2).await;
    let (one, other) = (&world.agents[0], &world.agents[1]);
    let object_bytes = 64 << 20;
    let reads = (0..24u64).map(|number| {
        let start = number << 20;
        one.client.read_object(
            other.id(),
            ObjectId(7),
            object_bytes,
            start..start + (8 << 20),
        )
    });
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.unwrap().len(), 8 << 20);
    }
}

/// A request as agent 1 sends it to agent 2.
fn request(world: &World, request: Request, body: &[Bytes]) -> Bytes {
    let identity = world.metadata.read(Identity::of);
    let (from, to) = (world.agents[0].origin(), world.agents[1].id());
    Head::new(identity, to, from, request).encode(body)
}

#[tokio::test(start_paused = true)]
async fn hostile_requests_are_refused() {
    let world = World::new(2).await;
    let service = &world.agents[1].service;
    let body = [bytes(0..100)];
    let append = Request::Append {
        chunk: chunk(world.agents[0].origin(), 1),
        sum: Sum::of(&body),
    };
    let good = request(&world, append.clone(), &body);
    service.call(Lane::Peers, good.clone()).await.unwrap();
    let ask = async |bytes: Bytes| {
        let refused = service.call(Lane::Peers, bytes).await.unwrap_err();
        refused.to_string()
    };
    // Cut anywhere, with something behind it, or with a bit turned within the bytes.
    for end in 0..good.len() {
        ask(good.slice(..end)).await;
    }
    let longer = [&good[..], b"x"].concat();
    assert!(ask(longer.into()).await.contains("101 came"));
    for at in good.len() - 100..good.len() {
        let mut turned = good.to_vec();
        turned[at] ^= 0x10;
        assert!(ask(turned.into()).await.contains("damaged on the way"));
    }
    // An empty chunk, another cluster, another lane, another version.
    let empty = Request::Append {
        chunk: chunk(world.agents[0].origin(), 2),
        sum: Sum::of(&[]),
    };
    assert!(ask(request(&world, empty, &[])).await.contains("has bytes"));
    let (from, to) = (world.agents[0].origin(), world.agents[1].id());
    let nowhere = Head::new(None, to, from, append).encode(&body);
    assert!(ask(nowhere).await.contains("another cluster"));
    let other_lane = service.call(Lane::Control, good.clone()).await;
    other_lane.unwrap_err();
    let mut old = good.to_vec();
    old[0] = 0;
    assert!(ask(old.into()).await.contains("version 0"));
    let unknown = [9, 0, 4, 4, 1, 99, 0, 0, 0, 0];
    let refusal = ask(Bytes::copy_from_slice(&unknown)).await;
    assert!(refusal.contains("upgrade this agent"), "{refusal}");
    // Nothing of it was kept.
    assert_eq!(world.agents[1].copies.count(), 1);
}

proptest! {
    /// Whatever comes in, it is read or refused.
    #[test]
    fn no_bytes_panic(mut noise in proptest::collection::vec(any::<u8>(), 0..300), start in 0..3u8) {
        if let Some(version) = noise.first_mut() {
            *version = start;
        }
        let noise = Bytes::from(noise);
        let _ = Head::decode(&noise);
        let _ = wire::Answer::decode(&noise);
    }
}
