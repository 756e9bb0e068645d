//! Answers calls over HTTP/2.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use hyper::body::{Body, Frame, Incoming};
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
use crate::wire::{
    Ask, BODY_BYTES, CONNECTION_WINDOW, PING_INTERVAL, PING_TIMEOUT, REASON_BYTES, STREAM_WINDOW,
    VERSION, VERSION_HEADER, piece,
};
use crate::{Refused, Service};

/// Most connections at once.
const CONNECTIONS: usize = 1024;
/// Most requests of one connection that are answered at once.
const STREAMS: u32 = 1024;
/// Most bytes of one request's headers.
const HEADER_BYTES: u32 = 16 << 10;
/// Bytes of requests held at once, in KiB.
const REQUESTS_KIB: u32 = 256 << 10;
/// How long a request may take to come in whole.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long TLS may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long requests under way are waited for at the end.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(2);
/// How long to wait when the system has no room for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

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
    memory: Semaphore,
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
        let shared = Arc::new(Shared {
            service,
            memory: Semaphore::new(usize::try_from(REQUESTS_KIB).unwrap_or(usize::MAX)),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(accept(listener, shared, tls, stop.clone()));
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

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    tls: Option<TlsAcceptor>,
    stop: CancellationToken,
) {
    let open = metrics::gauge!("alluvium_transport_connections");
    let mut connections = JoinSet::new();
    loop {
        open.set(f64::from(
            u32::try_from(connections.len()).unwrap_or(u32::MAX),
        ));
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept(), if connections.len() < CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                let stop = stop.clone();
                connections.spawn(async move {
                    if let Err(reason) = serve(stream, shared, tls, stop).await {
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
    stop: CancellationToken,
) -> Result<(), String> {
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return converse(stream, shared, stop).await;
    };
    let stream = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream))
        .await
        .map_err(|_| "TLS took too long".to_owned())?
        .map_err(|error| format!("TLS: {error}"))?;
    converse(stream, shared, stop).await
}

async fn converse<S>(stream: S, shared: Arc<Shared>, stop: CancellationToken) -> Result<(), String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
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
    };
    ended.map_err(|error| error.to_string())
}

impl Shared {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        match self.act(request).await {
            Ok(answer) => answer,
            Err((status, Refused(reason))) => {
                tracing::debug!(%status, reason, "a node's request was refused");
                let end = reason.floor_char_boundary(REASON_BYTES.min(reason.len()));
                let words = Bytes::copy_from_slice(&reason.as_bytes()[..end]);
                with(status, Full::new(words).boxed_unsync())
            }
        }
    }

    async fn act(&self, request: Request<Incoming>) -> Result<Answer, (StatusCode, Refused)> {
        let refuse = |reason: String| (StatusCode::UNPROCESSABLE_ENTITY, Refused(reason));
        let path = request.uri().path();
        let ask = Ask::parse(path)
            .filter(|_| request.method() == Method::POST)
            .ok_or_else(|| refuse(format!("{} {path} is not known here", request.method())))?;
        let version = request.headers().get(VERSION_HEADER);
        if version.is_none_or(|version| version.as_bytes() != VERSION.as_bytes()) {
            let said = version.and_then(|version| version.to_str().ok());
            return Err(refuse(format!(
                "transport version {} is not spoken here, version {VERSION} is; upgrade one release at a time",
                said.unwrap_or("unknown")
            )));
        }
        // Held until the request was answered; a request says its length before it sends it.
        let length = request.body().size_hint().exact().unwrap_or(u64::MAX);
        let kib = u32::try_from(length.div_ceil(1024).max(1)).unwrap_or(u32::MAX);
        if length > BODY_BYTES as u64 {
            let reason = format!("a request has at most {BODY_BYTES} bytes and says its length");
            return Err((StatusCode::PAYLOAD_TOO_LARGE, Refused(reason)));
        }
        let reading = timeout(REQUEST_TIMEOUT, async {
            let room = self.memory.acquire_many(kib).await;
            let body = Limited::new(request.into_body(), BODY_BYTES);
            (room, body.collect().await)
        });
        let (_room, body) = reading.await.map_err(|_| {
            let reason = "the request took too long to come in".to_owned();
            (StatusCode::TOO_MANY_REQUESTS, Refused(reason))
        })?;
        let body = body
            .map_err(|error| refuse(format!("the request did not come in whole: {error}")))?
            .to_bytes();
        let body = match ask {
            Ask::Call(lane) => {
                Full::new(self.service.call(lane, body).await.map_err(refused)?).boxed_unsync()
            }
            Ask::Open(lane) => {
                let answers = self.service.open(lane, body).await.map_err(refused)?;
                let frames = answers
                    .map(|bytes| piece(&bytes))
                    // A piece that is too large ends the stream; the reader sees it torn off.
                    .take_while(|piece| std::future::ready(piece.is_some()))
                    .filter_map(std::future::ready)
                    .map(|piece| Ok(Frame::data(piece)));
                StreamBody::new(frames).boxed_unsync()
            }
        };
        Ok(with(StatusCode::OK, body))
    }
}

fn refused(refused: Refused) -> (StatusCode, Refused) {
    (StatusCode::UNPROCESSABLE_ENTITY, refused)
}

fn with(status: StatusCode, body: UnsyncBoxBody<Bytes, Infallible>) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer
}
