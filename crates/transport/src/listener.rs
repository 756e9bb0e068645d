//! Answers calls over HTTP/2.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
use hyper::header::HeaderValue;
use hyper::server::conn::http2::Builder;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::tls::{TlsError, TlsOptions};
use crate::traffic::{Busy, Traffic};
use crate::wire::{
    Ask, BODY_BYTES, CONNECTION_WINDOW, HELLO, PIECE_BYTES, PING_INTERVAL, PING_TIMEOUT,
    REASON_BYTES, STREAM_WINDOW, VERSION_HEADER, common_version, piece, versions,
};
use crate::{Answers, Lane, Refused, Service};

/// Most connections at once.
const CONNECTIONS: usize = 1024;
/// Most requests of one connection that are answered at once.
const STREAMS: u32 = 1024;
/// Most bytes of one request's headers.
const HEADER_BYTES: u32 = 16 << 10;
/// Bytes of requests held at once, in KiB, by lane: what is large holds up nothing that is small.
const fn requests_kib(lane: Lane) -> usize {
    match lane {
        Lane::Control => 16 << 10,
        Lane::Log | Lane::Commands | Lane::Bulk | Lane::Peers => 128 << 10,
    }
}
/// How long a request may take to come in whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long TLS may take, and then the first request.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without a request for so long is closed; callers close theirs sooner.
const IDLE: Duration = Duration::from_secs(150);
/// How long requests under way are waited for at the end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Payload = UnsyncBoxBody<Bytes, io::Error>;
type Answer = Response<Payload>;

/// Listens for calls and has a [`Service`] answer them.
#[derive(Debug)]
pub struct TransportListener {
    address: SocketAddr,
    stop: CancellationToken,
    task: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    service: Arc<dyn Service>,
    /// By lane.
    memory: [Semaphore; Lane::ALL.len()],
    stop: CancellationToken,
}

impl TransportListener {
    /// Begins to accept connections.
    ///
    /// # Errors
    /// The TLS files cannot be used, or the socket has no address.
    pub fn start(
        listener: TcpListener,
        service: Arc<dyn Service>,
        tls: Option<TlsOptions>,
    ) -> Result<Self, TlsError> {
        let tls = tls.as_ref().map(TlsOptions::acceptor).transpose()?;
        let address = listener
            .local_addr()
            .unwrap_or_else(|_| SocketAddr::from(([0, 0, 0, 0], 0)));
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            service,
            memory: Lane::ALL.map(|lane| Semaphore::new(requests_kib(lane))),
            stop: stop.clone(),
        });
        let task = tokio::spawn(accept(listener, shared, tls));
        Ok(Self {
            address,
            stop,
            task: Some(task),
        })
    }

    /// Where it really listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more calls, gives those under way a moment, and closes every connection.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        if let Some(task) = self.task.take()
            && let Err(error) = task.await
        {
            tracing::warn!(%error, "the listener for other nodes did not stop cleanly");
        }
    }
}

impl Drop for TransportListener {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>, tls: Option<TlsAcceptor>) {
    let open = metrics::gauge!("alluvium_transport_connections");
    let mut connections = JoinSet::new();
    loop {
        open.set(f64::from(
            u32::try_from(connections.len()).unwrap_or(u32::MAX),
        ));
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                connections.spawn(async move {
                    if let Err(reason) = serve(stream, shared, tls).await {
                        tracing::debug!(%peer, reason, "a node's connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a node's connection");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let ended = timeout(SHUTDOWN_WAIT, async {
        while connections.join_next().await.is_some() {}
    });
    if ended.await.is_err() {
        connections.shutdown().await;
    }
}

async fn serve(
    stream: TcpStream,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
) -> Result<(), String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return converse(stream, shared).await;
    };
    let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream))
        .await
        .map_err(|_| "TLS took too long".to_owned())?
        .map_err(|error| format!("TLS: {error}"))?;
    converse(stream, shared).await
}

async fn converse<S>(stream: S, shared: Arc<Shared>) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let stop = shared.stop.clone();
    let traffic = Arc::new(Traffic::default());
    let service = {
        let traffic = Arc::clone(&traffic);
        service_fn(move |request| {
            let shared = Arc::clone(&shared);
            let busy = traffic.enter();
            async move { Ok::<_, Infallible>(shared.answer(request, busy).await) }
        })
    };
    let connection = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEADER_BYTES)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = traffic.silence(HANDSHAKE_TIMEOUT, IDLE) => {
            return Err("no request came".to_owned());
        }
    };
    ended.map_err(|error| error.to_string())
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>, busy: Busy) -> Answer {
        if request.uri().path() == HELLO {
            return with(StatusCode::OK, words(Bytes::new()));
        }
        match self.act(request, busy).await {
            Ok(answer) => answer,
            Err((status, Refused(reason))) => {
                tracing::debug!(%status, reason, "a node's request was refused");
                let end = reason.floor_char_boundary(REASON_BYTES.min(reason.len()));
                with(
                    status,
                    words(Bytes::copy_from_slice(&reason.as_bytes()[..end])),
                )
            }
        }
    }

    async fn act(
        &self,
        request: Request<Incoming>,
        busy: Busy,
    ) -> Result<Answer, (StatusCode, Refused)> {
        let refuse = |reason: String| (StatusCode::UNPROCESSABLE_ENTITY, Refused(reason));
        let path = request.uri().path();
        let ask = Ask::parse(path)
            .filter(|_| request.method() == Method::POST)
            .ok_or_else(|| refuse(format!("{} {path} is not known here", request.method())))?;
        let said = request.headers().get(VERSION_HEADER);
        let said = said.and_then(|said| said.to_str().ok()).unwrap_or("none");
        let version = common_version(said).ok_or_else(|| {
            refuse(format!(
                "transport versions {said} are not spoken here, {} are; upgrade one release at a time",
                versions()
            ))
        })?;
        let (Ask::Call(lane) | Ask::Open(lane)) = ask;
        // Held until the request was answered; a request says its length before it sends it.
        let length = request.body().size_hint().exact().unwrap_or(u64::MAX);
        let kib = u32::try_from(length.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        let most = most_bytes(lane);
        if length > most as u64 {
            let name = lane.name();
            let reason =
                format!("a request on lane {name} has at most {most} bytes and says its length");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, Refused(reason)));
        }
        let reading = timeout(REQUEST_TIMEOUT, async {
            let room = match Lane::ALL
                .iter()
                .zip(&self.memory)
                .find(|(of, _)| **of == lane)
            {
                Some((_, memory)) => memory.acquire_many(kib).await.ok(),
                None => None,
            };
            let body = Limited::new(request.into_body(), most);
            (room, body.collect().await)
        });
        let (_room, body) = reading.await.map_err(|_| {
            let reason = "the request took too long to come in".to_owned();
            (StatusCode::TOO_MANY_REQUESTS, Refused(reason))
        })?;
        let body = body
            .map_err(|error| refuse(format!("the request did not come in whole: {error}")))?
            .to_bytes();
        let payload = match ask {
            Ask::Call(lane) => words(self.service.call(lane, body).await.map_err(refused)?),
            Ask::Open(lane) => {
                let answers = self.service.open(lane, body).await.map_err(refused)?;
                stream_of(answers, self.stop.clone(), busy)
            }
        };
        let mut answer = with(StatusCode::OK, payload);
        let headers = answer.headers_mut();
        headers.insert(VERSION_HEADER, HeaderValue::from(version));
        Ok(answer)
    }
}

/// Most bytes of a request.
const fn most_bytes(lane: Lane) -> usize {
    match lane {
        Lane::Control => 4 << 20,
        Lane::Log | Lane::Commands | Lane::Bulk | Lane::Peers => BODY_BYTES,
    }
}

/// Pieces one after another. An error tears the stream off, so that nobody takes it for its end.
fn stream_of(answers: Answers, stop: CancellationToken, busy: Busy) -> Payload {
    let torn = futures::stream::once(async move {
        stop.cancelled_owned().await;
        Err(io::Error::other("this node stops"))
    });
    let pieces = answers
        .map(move |bytes| {
            let _busy = &busy;
            piece(&bytes).map(Frame::data).ok_or_else(|| {
                tracing::error!(bytes = bytes.len(), "a piece of a stream is too large");
                io::Error::other(format!("a piece has at most {PIECE_BYTES} bytes"))
            })
        })
        .map(Some)
        // Says that the answers are over, which `torn` alone never is.
        .chain(futures::stream::iter([None]));
    let both = futures::stream::select(pieces, torn.map(Some));
    let until_over = both
        .take_while(|piece| std::future::ready(piece.is_some()))
        .filter_map(std::future::ready);
    StreamBody::new(until_over).boxed_unsync()
}

fn refused(refused: Refused) -> (StatusCode, Refused) {
    (StatusCode::UNPROCESSABLE_ENTITY, refused)
}

fn words(bytes: Bytes) -> Payload {
    Full::new(bytes)
        .map_err(|never| match never {})
        .boxed_unsync()
}

fn with(status: StatusCode, body: Payload) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
