//! The same over HTTP/2, plain and under TLS.

use std::path::Path;

use alluvium_transport::{Http2Transport, TlsOptions, TransportListener};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::net::TcpListener;

use super::world::Peer;
use super::*;

struct Sockets {
    world: World,
    _listeners: Vec<TransportListener>,
}

/// As many agents as there are ways to be encrypted.
async fn sockets(tls: &[Option<TlsOptions>]) -> Sockets {
    let mut world = World::over(Arc::default());
    let mut listeners = Vec::new();
    for (number, tls) in (0u16..).zip(tls) {
        let origin = world.register(number).await;
        let transport = Http2Transport::new(tls.clone()).unwrap();
        let peer: Peer = world.peer(origin, transport);
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let service = Arc::clone(&peer.service);
        let listener = TransportListener::start(socket, service, tls.clone()).unwrap();
        let address = format!("localhost:{}", listener.address().port());
        world.announce_at(address, origin).await;
        listeners.push(listener);
        world.agents.push(peer);
    }
    Sockets {
        world,
        _listeners: listeners,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_and_blocks_go_over_sockets() {
    let sockets = sockets(&[None, None]).await;
    let (one, other) = (&sockets.world.agents[0], &sockets.world.agents[1]);
    let id = chunk(one.origin(), 1);
    let large = [bytes(0..3 << 20), bytes(3 << 20..6 << 20)];
    one.client.append(other.id(), id, &large).await.unwrap();
    let read = one.client.read_chunk(other.id(), id, 5..6 << 20).await;
    assert_eq!(read.unwrap(), bytes(5..6 << 20));
    let reads = (0..16u64).map(|number| {
        let range = number * 1000..number * 1000 + (512 << 10);
        one.client
            .read_object(other.id(), ObjectId(7), 64 << 20, range)
    });
    for read in futures::future::join_all(reads).await {
        assert_eq!(read.unwrap().len(), 512 << 10);
    }
    refused(
        one.client.append(other.id(), id, &[Bytes::new()]).await,
        "a chunk has bytes",
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listener_that_is_gone_fails_at_once() {
    let mut sockets = sockets(&[None, None]).await;
    for listener in sockets._listeners.drain(..) {
        listener.shutdown().await;
    }
    let (one, other) = (&sockets.world.agents[0], &sockets.world.agents[1]);
    let begun = Instant::now();
    let id = chunk(one.origin(), 1);
    let append = one.client.append(other.id(), id, &[bytes(0..9)]).await;
    unreachable(append, "cannot be reached");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

fn node(issuer: &CertifiedIssuer<'static, KeyPair>, dir: &Path, name: &str) -> TlsOptions {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let file = |suffix: &str, text: String| {
        let path = dir.join(format!("{name}-{suffix}.pem"));
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsOptions {
        ca: file("ca", issuer.pem()),
        certificate: file("certificate", certificate.pem()),
        key: file("key", key.serialize_pem()),
    }
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_tls_an_agent_without_a_certificate_gets_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let ours = authority();
    let node = |issuer, name| Some(node(issuer, dir.path(), name));
    let sockets = sockets(&[
        node(&ours, "one"),
        node(&ours, "two"),
        None,
        node(&authority(), "stranger"),
    ])
    .await;
    let agents = &sockets.world.agents;
    let append = async |from: &Peer| {
        let id = chunk(from.origin(), 1);
        from.client.append(agents[1].id(), id, &[bytes(0..9)]).await
    };
    append(&agents[0]).await.unwrap();
    unreachable(append(&agents[2]).await, "");
    unreachable(append(&agents[3]).await, "");
    assert_eq!(agents[1].copies.count(), 1);
}
