//! Through real sockets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, future, stream};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};

use super::*;

const SOON: Duration = Duration::from_secs(10);
const BRIEF: Duration = Duration::from_millis(200);

/// Answers by the first word of a request.
#[derive(Debug)]
struct Parrot {
    /// Told when a request that never ends was given up by its caller.
    given_up: mpsc::UnboundedSender<()>,
}

struct Tell(mpsc::UnboundedSender<()>);

impl Drop for Tell {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[async_trait]
impl Service for Parrot {
    async fn call(&self, lane: Lane, request: Bytes) -> Result<Bytes, Refused> {
        if request.starts_with(b"never") {
            let _tell = Tell(self.given_up.clone());
            return future::pending().await;
        }
        if request.starts_with(b"refuse") {
            return Err(Refused("node 7 is not of this cluster".to_owned()));
        }
        Ok([format!("{lane:?} ").as_bytes(), &request].concat().into())
    }

    async fn open(&self, _lane: Lane, request: Bytes) -> Result<Answers, Refused> {
        if request.starts_with(b"refuse") {
            return Err(Refused("no such stream".to_owned()));
        }
        if request.starts_with(b"quiet") {
            let first = stream::iter([Bytes::from_static(b"one")]);
            return Ok(Box::pin(first.chain(stream::pending())));
        }
        if request.starts_with(b"giant") {
            return Ok(Box::pin(stream::iter(
                [1, 9].map(|mib| vec![0; mib << 20].into()),
            )));
        }
        let endless = request.starts_with(b"endless");
        let tell = Tell(self.given_up.clone());
        let pieces = stream::iter(0..if endless { u32::MAX } else { 3 });
        Ok(Box::pin(pieces.map(move |number| {
            let _tell = &tell;
            let mut piece = number.to_be_bytes().to_vec();
            piece.resize(if endless { 1 << 20 } else { 4 }, 0);
            piece.into()
        })))
    }
}

struct World {
    listener: TransportListener,
    transport: Arc<Http2Transport>,
    given_up: mpsc::UnboundedReceiver<()>,
}

impl World {
    async fn new() -> Self {
        Self::with(None, None).await
    }

    async fn with(server: Option<TlsOptions>, client: Option<TlsOptions>) -> Self {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, given_up) = mpsc::unbounded_channel();
        let service = Arc::new(Parrot { given_up: sender });
        Self {
            listener: TransportListener::start(socket, service, server).unwrap(),
            transport: Http2Transport::new(client).unwrap(),
            given_up,
        }
    }

    fn address(&self) -> String {
        format!("localhost:{}", self.listener.address().port())
    }

    async fn call(&self, lane: Lane, request: &'static str) -> Result<Bytes, TransportError> {
        let request = Bytes::from_static(request.as_bytes());
        self.transport
            .call(&self.address(), lane, request, SOON)
            .await
    }

    async fn open(&self, request: &'static str) -> Result<Incoming, TransportError> {
        let request = Bytes::from_static(request.as_bytes());
        self.transport
            .open(&self.address(), Lane::Bulk, request, SOON)
            .await
    }
}

#[tokio::test]
async fn calls_are_answered_streams_are_read_refusals_say_why() {
    let world = World::new().await;
    assert_eq!(world.call(Lane::Log, "hi").await.unwrap(), "Log hi");
    assert_eq!(world.call(Lane::Control, "").await.unwrap(), "Control ");
    let pieces: Vec<_> = world.open("three").await.unwrap().collect().await;
    let pieces: Vec<_> = pieces.into_iter().map(Result::unwrap).collect();
    assert_eq!(
        pieces,
        [0u32, 1, 2].map(|number| Bytes::from(number.to_be_bytes().to_vec()))
    );
    let refused = world.call(Lane::Log, "refuse").await.unwrap_err();
    assert!(matches!(refused, TransportError::Refused { .. }));
    assert!(
        refused
            .to_string()
            .contains("node 7 is not of this cluster")
    );
    let Err(refused) = world.open("refuse").await else {
        panic!("a stream was opened");
    };
    assert!(refused.to_string().contains("no such stream"), "{refused}");
    // The same connection lives on.
    assert_eq!(world.call(Lane::Log, "hi").await.unwrap(), "Log hi");
}

#[tokio::test]
async fn a_large_request_comes_back_whole_and_one_too_large_is_refused() {
    let world = World::new().await;
    let large = Bytes::from(vec![7; 10 << 20]);
    let address = world.address();
    let answer = world
        .transport
        .call(&address, Lane::Bulk, large.clone(), SOON)
        .await
        .unwrap();
    assert_eq!(answer.len(), large.len() + "Bulk ".len());
    let larger = Bytes::from(vec![7; (64 << 20) + 1]);
    let error = world
        .transport
        .call(&address, Lane::Bulk, larger, SOON)
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            TransportError::Refused { .. } | TransportError::Broken { .. }
        ),
        "{error}"
    );
}

#[tokio::test]
async fn a_deadline_ends_the_wait_and_the_other_sides_work() {
    let mut world = World::new().await;
    let request = Bytes::from_static(b"never");
    let error = world
        .transport
        .call(&world.address(), Lane::Commands, request, BRIEF)
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::TimedOut { .. }), "{error}");
    world.given_up.recv().await.unwrap();
    // So does a reader that goes away.
    let mut endless = world.open("endless").await.unwrap();
    endless.next().await.unwrap().unwrap();
    drop(endless);
    world.given_up.recv().await.unwrap();
}

#[tokio::test]
async fn a_stream_that_nobody_reads_holds_up_no_call() {
    let world = World::new().await;
    let mut bulk = world.open("endless").await.unwrap();
    bulk.next().await.unwrap().unwrap();
    let calls = (0..100).map(|_| world.call(Lane::Control, "vote"));
    for answer in future::join_all(calls).await {
        assert_eq!(answer.unwrap(), "Control vote");
    }
}

#[tokio::test]
async fn a_node_that_went_away_is_told_at_once_and_found_again() {
    let world = World::new().await;
    let address = world.address();
    world.call(Lane::Log, "hi").await.unwrap();
    let World {
        listener,
        transport,
        ..
    } = world;
    let socket_address = listener.address();
    listener.shutdown().await;
    let call = || transport.call(&address, Lane::Log, Bytes::from_static(b"hi"), SOON);
    // The first may still have been sent on the old connection.
    let _ = call().await;
    let error = call().await.unwrap_err();
    assert!(
        matches!(error, TransportError::Unreachable { .. }),
        "{error}"
    );

    let socket = TcpListener::bind(socket_address).await.unwrap();
    let (given_up, _) = mpsc::unbounded_channel();
    let again = TransportListener::start(socket, Arc::new(Parrot { given_up }), None).unwrap();
    // Attempts are spaced, by at most a second.
    let found = tokio::time::timeout(SOON, async {
        while call().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    found.await.unwrap();
    again.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_never_said_a_word_got_nothing() {
    // Takes connections and never answers, as the system does for a process that hangs.
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let transport = Http2Transport::new(None).unwrap();
    let call = |within| transport.call(&address, Lane::Log, Bytes::from_static(b"hi"), within);
    let begun = std::time::Instant::now();
    for within in [BRIEF, BRIEF, SOON * 6] {
        let error = call(within).await.unwrap_err();
        assert!(
            matches!(error, TransportError::Unreachable { .. }),
            "{error}"
        );
    }
    assert!(begun.elapsed() < SOON);
    // The next fails at once, with the reason.
    let error = call(SOON).await.unwrap_err().to_string();
    assert!(error.contains("timed out"), "{error}");
    drop(socket);
}

/// Forwards one connection after another, until it is told to stand still.
async fn proxy(to: std::net::SocketAddr, cut: watch::Receiver<bool>) -> String {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((mut near, _)) = socket.accept().await {
            let mut cut = cut.clone();
            held.push(tokio::spawn(async move {
                let mut far = TcpStream::connect(to).await.unwrap();
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                    () = async { let _ = cut.wait_for(|cut| *cut).await.is_ok(); } => future::pending().await,
                }
            }));
        }
    });
    address
}

#[tokio::test]
async fn a_peer_that_is_cut_off_is_noticed_busy_or_idle() {
    let world = World::new().await;
    let (cutter, cut) = watch::channel(false);
    let address = proxy(world.listener.address(), cut).await;
    let call = |lane, request: &'static [u8]| {
        let request = Bytes::from_static(request);
        world.transport.call(&address, lane, request, SOON * 6)
    };
    for lane in [Lane::Log, Lane::Control] {
        call(lane, b"hi").await.unwrap();
    }
    let pending = call(Lane::Log, b"never");
    let cutting = async {
        tokio::time::sleep(BRIEF).await;
        cutter.send_replace(true);
        std::time::Instant::now()
    };
    let (error, since) = future::join(pending, cutting).await;
    let error = error.unwrap_err();
    assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    assert!(
        since.elapsed() < Duration::from_secs(5),
        "{:?}",
        since.elapsed()
    );
    // The idle connection dies as well, at about the same time; then nothing is sent into it.
    let mut error = call(Lane::Control, b"hi").await.unwrap_err();
    if matches!(error, TransportError::Broken { .. }) {
        error = call(Lane::Control, b"hi").await.unwrap_err();
    }
    assert!(
        matches!(error, TransportError::Unreachable { .. }),
        "{error}"
    );
}

#[tokio::test]
async fn a_listener_that_stops_tears_streams_off() {
    let world = World::new().await;
    let mut quiet = world.open("quiet").await.unwrap();
    quiet.next().await.unwrap().unwrap();
    let begun = std::time::Instant::now();
    let World { listener, .. } = world;
    let (torn, ()) = future::join(quiet.next(), listener.shutdown()).await;
    let error = torn.unwrap().unwrap_err();
    assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    assert!(quiet.next().await.is_none());
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_piece_that_is_too_large_is_no_end_of_the_stream() {
    let world = World::new().await;
    // The tear may overtake the beginning.
    let error = match world.open("giant").await {
        Ok(pieces) => pieces.collect::<Vec<_>>().await.pop().unwrap().unwrap_err(),
        Err(error) => error,
    };
    assert!(matches!(error, TransportError::Broken { .. }), "{error}");
}

#[tokio::test]
async fn what_a_newer_release_may_ask_is_refused_with_a_reason() {
    let world = World::new().await;
    let stream = TcpStream::connect(world.listener.address()).await.unwrap();
    let (mut sender, driver) = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(driver);
    let asked = [
        ("/call/gossip", "1-2", "/call/gossip is not known"),
        ("/shout/log", "1-2", "/shout/log is not known"),
        ("/call/log", "2-3", "transport versions 2-3"),
        ("/call/log", "what", "transport versions what"),
        ("/call/log", "1-9", ""),
    ];
    for (path, versions, reason) in asked {
        let request = hyper::Request::post(path)
            .header("alluvium-transport", versions)
            .body(Full::from("hi"))
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        let version = answer.headers().get("alluvium-transport").cloned();
        let status = answer.status();
        let said = answer.into_body().collect().await.unwrap().to_bytes();
        let said = String::from_utf8_lossy(&said);
        if reason.is_empty() {
            assert_eq!((status.as_u16(), &*said), (200, "Log hi"));
            assert_eq!(version.unwrap(), "1");
        } else {
            assert_eq!(status.as_u16(), 422);
            assert!(said.contains(reason), "{said}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_asks_nothing_is_closed() {
    let world = World::new().await;
    let mut idle = TcpStream::connect(world.listener.address()).await.unwrap();
    let mut end = Vec::new();
    let ended = idle.read_to_end(&mut end);
    let _ = tokio::time::timeout(SOON, ended).await.unwrap();
}

#[tokio::test]
async fn garbage_costs_its_own_connection_only() {
    let world = World::new().await;
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 4096],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        let mut stream = TcpStream::connect(world.listener.address()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let mut answer = Vec::new();
        // The connection ends; with an error or without does not matter.
        let _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer))
            .await
            .unwrap();
    }
    assert_eq!(world.call(Lane::Log, "hi").await.unwrap(), "Log hi");
}

/// A CA, and nodes that it signed.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
        }
    }

    fn node(&self, dir: &Path, name: &str) -> TlsOptions {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let file = |suffix: &str, text: String| {
            let path = dir.join(format!("{name}-{suffix}.pem"));
            std::fs::write(&path, text).unwrap();
            path
        };
        TlsOptions {
            ca: file("ca", self.issuer.pem()),
            certificate: file("certificate", certificate.pem()),
            key: file("key", key.serialize_pem()),
        }
    }
}

#[tokio::test]
async fn with_tls_both_sides_must_be_of_one_ca() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (Authority::new(), Authority::new());
    let node = |name| ours.node(dir.path(), name);
    let world = World::with(Some(node("server")), Some(node("client"))).await;
    assert_eq!(world.call(Lane::Log, "hi").await.unwrap(), "Log hi");

    let stranger = theirs.node(dir.path(), "stranger");
    // One who knows the CA but has no certificate of it.
    let liar = TlsOptions {
        ca: node("liar").ca,
        ..stranger.clone()
    };
    for client in [None, Some(stranger), Some(liar)] {
        let transport = Http2Transport::new(client).unwrap();
        let address = world.address();
        let call = transport.call(&address, Lane::Log, Bytes::from_static(b"hi"), SOON);
        let error = call.await.unwrap_err();
        assert!(
            matches!(
                error,
                TransportError::Unreachable { .. } | TransportError::Broken { .. }
            ),
            "{error}"
        );
    }
    assert_eq!(world.call(Lane::Log, "hi").await.unwrap(), "Log hi");
}

#[test]
fn tls_files_that_are_wrong_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Authority::new().node(dir.path(), "node");
    options.key = dir.path().join("missing.pem");
    let error = Http2Transport::new(Some(options)).unwrap_err().to_string();
    assert!(error.contains("missing.pem"), "{error}");
}
