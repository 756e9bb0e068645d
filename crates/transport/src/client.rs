//! Calls over HTTP/2.

use std::collections::HashMap;
use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt, Shared};
use futures::stream;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming as Body;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper::header::HOST;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;

use crate::tls::{TlsError, TlsOptions};
use crate::wire::{
    Ask, BODY_BYTES, CALLER_WINDOW, HELLO, PING_INTERVAL, PING_TIMEOUT, Pieces, REASON_BYTES,
    STREAM_WINDOW, VERSION_HEADER, versions,
};
use crate::{Incoming, Lane, Transport, TransportError};

/// Longest that a connection may take to be made and to say a first word.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// The first pause after a failure, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection that carried nothing for so long is closed.
const IDLE: Duration = Duration::from_secs(60);
/// Connections looked through for idle ones at most so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

type Sender = SendRequest<Full<Bytes>>;

/// A [`Transport`] over TCP, HTTP/2 and, if asked for, TLS.
pub struct Http2Transport {
    tls: Option<TlsConnector>,
    pool: Mutex<Pool>,
}

#[derive(Debug)]
struct Pool {
    slots: HashMap<(String, Lane), Arc<Slot>>,
    swept: Instant,
}

/// The one connection to an address on a lane, if there is one now.
#[derive(Debug, Default)]
struct Slot {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connection>,
    used: Option<Instant>,
    /// One is being made, for all who wait for it.
    dialling: Option<Dialling>,
    trouble: Option<Trouble>,
}

/// An attempt goes on when the caller who began it gives up: the next one profits.
type Dialling = Shared<BoxFuture<'static, Result<Connection, String>>>;

/// Whoever holds one keeps the connection alive.
#[derive(Clone, Debug)]
struct Connection {
    sender: Sender,
    /// Drives the connection; ends with this value.
    driver: Arc<AbortOnDropHandle<()>>,
}

/// The last attempt failed.
#[derive(Debug)]
struct Trouble {
    reason: String,
    until: Instant,
    pause: Duration,
}

impl std::fmt::Debug for Http2Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2Transport")
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// A request before it is sent somewhere.
struct Outgoing<'a> {
    address: &'a str,
    ask: Ask,
    body: Bytes,
    within: Duration,
    deadline: Instant,
    /// Whether the other side may have got it.
    sent: AtomicBool,
}

impl Outgoing<'_> {
    fn unreachable(&self, reason: impl ToString) -> TransportError {
        TransportError::Unreachable {
            address: self.address.to_owned(),
            reason: reason.to_string(),
        }
    }

    fn broken(&self, error: &(dyn Error + 'static)) -> TransportError {
        TransportError::Broken {
            address: self.address.to_owned(),
            reason: with_causes(error),
        }
    }

    fn timed_out(&self) -> TransportError {
        if !self.sent.load(Ordering::Relaxed) {
            let millis = self.within.as_millis();
            return self.unreachable(format!("no connection within {millis} ms"));
        }
        TransportError::TimedOut {
            address: self.address.to_owned(),
            within: self.within,
        }
    }

    fn request(&self) -> Result<Request<Full<Bytes>>, TransportError> {
        Request::builder()
            .method(Method::POST)
            .uri(self.ask.path())
            .header(HOST, self.address)
            .header(VERSION_HEADER, versions())
            .body(Full::new(self.body.clone()))
            .map_err(|error| self.unreachable(error))
    }
}

impl Http2Transport {
    /// A transport that calls with TLS or, without options, in the clear.
    ///
    /// # Errors
    /// The files cannot be read or do not fit together.
    pub fn new(tls: Option<TlsOptions>) -> Result<Arc<Self>, TlsError> {
        let tls = tls.as_ref().map(TlsOptions::connector).transpose()?;
        Ok(Arc::new(Self {
            tls,
            pool: Mutex::new(Pool {
                slots: HashMap::new(),
                swept: Instant::now(),
            }),
        }))
    }

    fn slot(&self, address: &str, lane: Lane) -> Arc<Slot> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.duration_since(pool.swept) > SWEEP_INTERVAL {
            pool.swept = now;
            pool.slots.retain(|_, slot| !is_idle(slot, now));
        }
        let slot = pool.slots.entry((address.to_owned(), lane)).or_default();
        Arc::clone(slot)
    }

    /// The connection of a slot, made now if there is none.
    async fn connection(
        &self,
        slot: &Arc<Slot>,
        outgoing: &Outgoing<'_>,
    ) -> Result<Connection, TransportError> {
        let dialling = {
            let mut state = slot.lock();
            let now = Instant::now();
            state.used = Some(now);
            if let Some(connection) = &state.connection
                && !connection.sender.is_closed()
            {
                return Ok(connection.clone());
            }
            state.connection = None;
            if let Some(trouble) = state.trouble.as_ref().filter(|trouble| now < trouble.until) {
                return Err(outgoing.unreachable(&trouble.reason));
            }
            state
                .dialling
                .get_or_insert_with(|| {
                    dial(
                        Arc::clone(slot),
                        self.tls.clone(),
                        outgoing.address.to_owned(),
                    )
                })
                .clone()
        };
        dialling
            .await
            .map_err(|reason| outgoing.unreachable(reason))
    }

    /// Sends a request and waits until the answer begins.
    async fn send(
        &self,
        outgoing: &Outgoing<'_>,
        lane: Lane,
    ) -> Result<(Response<Body>, Connection), TransportError> {
        let slot = self.slot(outgoing.address, lane);
        let mut is_second = false;
        loop {
            let mut connection = self.connection(&slot, outgoing).await?;
            if let Err(error) = connection.sender.ready().await {
                // It had died unnoticed; one made anew tells whether the other side lives.
                if std::mem::replace(&mut is_second, true) {
                    return Err(outgoing.unreachable(with_causes(&error)));
                }
                continue;
            }
            let request = outgoing.request()?;
            outgoing.sent.store(true, Ordering::Relaxed);
            match connection.sender.send_request(request).await {
                Ok(response) => return Ok((response, connection)),
                Err(error) if error.is_canceled() => {
                    return Err(outgoing.unreachable(with_causes(&error)));
                }
                Err(error) => return Err(outgoing.broken(&error)),
            }
        }
    }

    async fn exchange(
        &self,
        outgoing: &Outgoing<'_>,
        lane: Lane,
    ) -> Result<(Body, Connection), TransportError> {
        let (response, connection) = self.send(outgoing, lane).await?;
        if response.status() == StatusCode::OK {
            return Ok((response.into_body(), connection));
        }
        let status = response.status();
        let words = Limited::new(response.into_body(), REASON_BYTES)
            .collect()
            .await
            .map(http_body_util::Collected::to_bytes)
            .unwrap_or_default();
        let words = String::from_utf8_lossy(&words);
        Err(TransportError::Refused {
            address: outgoing.address.to_owned(),
            reason: if words.is_empty() {
                status.to_string()
            } else {
                words.into_owned()
            },
        })
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What came of an attempt.
    fn dialled(&mut self, result: &Result<Connection, String>) {
        self.dialling = None;
        match result {
            Ok(connection) => {
                self.trouble = None;
                self.connection = Some(connection.clone());
            }
            Err(reason) => {
                let pause = self.trouble.as_ref().map_or(FIRST_PAUSE, |trouble| {
                    LONGEST_PAUSE.min(trouble.pause.saturating_mul(2))
                });
                self.trouble = Some(Trouble {
                    reason: reason.clone(),
                    until: Instant::now() + pause.mul_f64(rand::random_range(0.5..1.0)),
                    pause,
                });
            }
        }
    }
}

/// A slot that nobody uses and that holds no connection worth keeping.
fn is_idle(slot: &Arc<Slot>, now: Instant) -> bool {
    if Arc::strong_count(slot) > 1 {
        return false;
    }
    let state = slot.lock();
    let is_unused = state
        .used
        .is_none_or(|used| now.saturating_duration_since(used) > IDLE);
    match (&state.connection, &state.dialling) {
        (_, Some(_)) => false,
        (Some(connection), _) if connection.sender.is_closed() => true,
        (Some(connection), _) => is_unused && Arc::strong_count(&connection.driver) == 1,
        (None, None) => is_unused,
    }
}

/// Makes a connection for a slot, in a task that ends by itself.
fn dial(slot: Arc<Slot>, tls: Option<TlsConnector>, address: String) -> Dialling {
    let task = tokio::spawn(async move {
        let connected = timeout(CONNECT_TIMEOUT, connect(tls, &address)).await;
        let connected = connected.unwrap_or_else(|_| {
            let within = CONNECT_TIMEOUT.as_millis();
            Err(format!("no answer within {within} ms"))
        });
        let result = if connected.is_ok() { "made" } else { "failed" };
        metrics::counter!("alluvium_transport_connects_total", "result" => result).increment(1);
        slot.lock().dialled(&connected);
        connected
    });
    async move {
        let ended = task.await;
        ended.unwrap_or_else(|error| Err(format!("the attempt was given up: {error}")))
    }
    .boxed()
    .shared()
}

async fn connect(tls: Option<TlsConnector>, address: &str) -> Result<Connection, String> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|error| error.to_string())?;
    stream
        .set_nodelay(true)
        .map_err(|error| error.to_string())?;
    let Some(tls) = tls else {
        return shake_hands(stream, address).await;
    };
    let name = ServerName::try_from(host(address).to_owned())
        .map_err(|_| format!("{address:?} names no host"))?;
    let stream = tls
        .connect(name, stream)
        .await
        .map_err(|error| format!("TLS: {error}"))?;
    shake_hands(stream, address).await
}

async fn shake_hands<S>(stream: S, address: &str) -> Result<Connection, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) = Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CALLER_WINDOW)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| with_causes(&error))?;
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(error = with_causes(&error), "a connection ended");
        }
    }));
    // A process that hangs has its connections accepted by the system. Only what answers gets requests:
    // of those it gets, nobody could say whether they were acted on.
    let hello = Request::builder()
        .method(Method::GET)
        .uri(HELLO)
        .header(HOST, address)
        .body(Full::default())
        .map_err(|error| error.to_string())?;
    let answer = async {
        sender.ready().await?;
        sender.send_request(hello).await
    };
    answer.await.map_err(|error| with_causes(&error))?;
    Ok(Connection {
        sender,
        driver: Arc::new(driver),
    })
}

/// The host of `host:port`, without the brackets of IPv6.
fn host(address: &str) -> &str {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

const fn result(result: &Result<Bytes, TransportError>) -> &'static str {
    match result {
        Ok(_) => "answered",
        Err(TransportError::Unreachable { .. }) => "unreachable",
        Err(TransportError::Broken { .. }) => "broken",
        Err(TransportError::TimedOut { .. }) => "timed out",
        Err(TransportError::Refused { .. }) => "refused",
    }
}

#[async_trait]
impl Transport for Http2Transport {
    async fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        let begun = Instant::now();
        let outgoing = Outgoing {
            address,
            ask: Ask::Call(lane),
            body: request,
            within,
            deadline: begun + within,
            sent: AtomicBool::new(false),
        };
        let answer = timeout_at(outgoing.deadline, async {
            let (body, _connection) = self.exchange(&outgoing, lane).await?;
            let body = Limited::new(body, BODY_BYTES).collect().await;
            body.map(http_body_util::Collected::to_bytes)
                .map_err(|error| outgoing.broken(error.as_ref()))
        });
        let answer = answer.await.unwrap_or_else(|_| Err(outgoing.timed_out()));
        let labels = [("lane", lane.name()), ("result", result(&answer))];
        metrics::counter!("alluvium_transport_calls_total", &labels).increment(1);
        metrics::histogram!("alluvium_transport_call_seconds", "lane" => lane.name())
            .record(begun.elapsed().as_secs_f64());
        answer
    }

    async fn open(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Incoming, TransportError> {
        let outgoing = Outgoing {
            address,
            ask: Ask::Open(lane),
            body: request,
            within,
            deadline: Instant::now() + within,
            sent: AtomicBool::new(false),
        };
        let opened = timeout_at(outgoing.deadline, self.exchange(&outgoing, lane)).await;
        let (body, connection) = opened.unwrap_or_else(|_| Err(outgoing.timed_out()))?;
        let reading = Reading {
            address: address.to_owned(),
            body,
            pieces: Pieces::default(),
            over: false,
            _connection: connection,
        };
        Ok(Box::pin(stream::unfold(reading, Reading::next)))
    }
}

/// A stream that is being read.
struct Reading {
    address: String,
    body: Body,
    pieces: Pieces,
    over: bool,
    _connection: Connection,
}

impl Reading {
    async fn next(mut self) -> Option<(Result<Bytes, TransportError>, Self)> {
        if self.over {
            return None;
        }
        loop {
            match self.pieces.next() {
                Ok(Some(piece)) => return Some((Ok(piece), self)),
                Ok(None) => {}
                Err(reason) => return self.fail(reason),
            }
            match self.body.frame().await {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.pieces.push(data);
                    }
                }
                Some(Err(error)) => return self.fail(with_causes(&error)),
                None if self.pieces.is_torn() => {
                    return self.fail("it ended within a piece".to_owned());
                }
                None => return None,
            }
        }
    }

    fn fail(mut self, reason: String) -> Option<(Result<Bytes, TransportError>, Self)> {
        self.over = true;
        let address = self.address.clone();
        Some((Err(TransportError::Broken { address, reason }), self))
    }
}
