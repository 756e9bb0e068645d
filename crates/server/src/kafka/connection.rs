//! One client: requests in, answers out, in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use alluvium_agent::budget::{ByteBudget, Lease};
use alluvium_agent::produce::ProducerConnection;
use alluvium_agent::quotas::QuotaKind;
use alluvium_protocol::api;
use alluvium_protocol::request::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::dispatch::{self, Rejection};
use super::handlers::{RequestContext, produce};
use super::reader::{FrameError, FrameReader, Hold, OVERHEAD_BYTES};
use super::services::{InFlight, Services};
use super::throttle::{Spent, Throttle};
use super::writer::{Answer, AnswerWriter};

/// Requests of one connection that are read ahead: librdkafka sends one for each partition and linger,
/// and does not wait for answers unless it is idempotent.
const QUEUE_REQUESTS: usize = 1024;
/// and their bytes.
const QUEUE_BYTES: usize = 32 << 20;

/// Who a client is that has not said it: nobody can yet.
const ANONYMOUS: &str = "ANONYMOUS";

/// When the client has gone, what it asked for is still carried out for this long.
const GONE: Duration = Duration::from_secs(30);

/// What the two halves of a connection share.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) services: Arc<Services>,
    peer: SocketAddr,
    /// As Kafka's tools show it: `/127.0.0.1`.
    client_host: String,
    /// Cancelled when no more is to be read.
    over: CancellationToken,
    /// Cancelled when nothing more will be read: a request that waits for data answers now.
    pub(crate) waits: CancellationToken,
    /// Requests read and not answered.
    in_hand: AtomicUsize,
    queued: ByteBudget,
    barrier: Barrier,
    throttle: Throttle,
}

/// A request on its way to its answer.
struct Work {
    request: Request,
    todo: Todo,
    read_at: Instant,
    _in_flight: InFlight,
    _queued: Lease,
    _hold: Hold,
}

enum Todo {
    /// Given to the write path already.
    Produce(produce::Submitted),
    /// To be carried out when its turn comes; whether a later Produce must wait for it.
    Other { is_barrier: bool },
}

/// Serves a client until it goes, breaks the protocol, or the process stops.
pub(crate) async fn serve(stream: TcpStream, peer: SocketAddr, services: Arc<Services>) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "cannot set TCP_NODELAY");
    }
    let (read, write) = stream.into_split();
    run(read, write, peer, services).await;
}

/// The same on any pair of streams.
pub(crate) async fn run<R, W>(read: R, write: W, peer: SocketAddr, services: Arc<Services>)
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let session = Session::new(peer, services);
    let limits = session.services.limits;
    let memory = session.services.requests.clone();
    let frames = FrameReader::new(
        read,
        memory,
        limits.request_bytes,
        limits.idle,
        limits.stall,
    );
    let writer = AnswerWriter::new(write, limits.idle);
    let (queue, work) = mpsc::channel(QUEUE_REQUESTS);
    tokio::join!(session.read_ahead(frames, queue), async {
        tokio::select! {
            () = session.answer_in_order(writer, work) => {}
            () = session.gone() => tracing::debug!(%peer, "gave up requests of a client that left"),
        }
        session.over.cancel();
    });
}

impl Session {
    fn new(peer: SocketAddr, services: Arc<Services>) -> Self {
        Self {
            client_host: format!("/{}", peer.ip().to_canonical()),
            peer,
            over: services.stopping.child_token(),
            waits: services.stopping.child_token(),
            in_hand: AtomicUsize::new(0),
            queued: ByteBudget::new(QUEUE_BYTES),
            barrier: Barrier::default(),
            throttle: Throttle::default(),
            services,
        }
    }

    /// Reads requests and starts what can be started, until the end of the stream.
    async fn read_ahead<R: AsyncRead + Unpin>(
        &self,
        mut frames: FrameReader<R>,
        queue: mpsc::Sender<Box<Work>>,
    ) {
        let producer = self.services.agent.produce.connect();
        let reading = async {
            while let Ok(place) = queue.reserve().await {
                match self.next(&mut frames, &producer).await {
                    Ok(work) => {
                        self.in_hand.fetch_add(1, Ordering::Relaxed);
                        place.send(Box::new(work));
                    }
                    Err(rejection) => return self.report(&rejection),
                }
            }
        };
        self.over.run_until_cancelled(reading).await;
        self.waits.cancel();
    }

    async fn next<R: AsyncRead + Unpin>(
        &self,
        frames: &mut FrameReader<R>,
        producer: &ProducerConnection,
    ) -> Result<Work, Rejection> {
        self.throttle.passed().await;
        let length = frames.length().await?;
        let queued = self
            .queued
            .lease(length.saturating_add(OVERHEAD_BYTES))
            .await;
        let alone = self.in_hand.load(Ordering::Relaxed) == 0;
        let frame = frames.body(length, alone).await?;
        self.services.metrics.received.increment(4 + length as u64);
        let read_at = Instant::now();
        let request = Request::parse(frame.bytes)?;
        dispatch::check_served(&request)?;
        let todo = if request.api_key == api::PRODUCE {
            self.barrier.passed().await;
            let submitted = produce::submit(&self.services.agent, producer, &request).await?;
            self.services.traffic.produced(submitted.bytes);
            self.charge_bytes(&request, QuotaKind::ProducerByteRate, length);
            Todo::Produce(submitted)
        } else {
            let is_barrier = dispatch::is_barrier(request.api_key);
            if is_barrier {
                self.barrier.raise();
            }
            Todo::Other { is_barrier }
        };
        let in_flight = InFlight::begin(&self.services);
        Ok(Work {
            request,
            todo,
            read_at,
            _in_flight: in_flight,
            _queued: queued,
            _hold: frame.hold,
        })
    }

    /// Carries out what was read and sends the answers.
    async fn answer_in_order<W: AsyncWrite + Unpin>(
        &self,
        mut writer: AnswerWriter<W>,
        mut queue: mpsc::Receiver<Box<Work>>,
    ) {
        let mut connected = true;
        while let Some(mut work) = self.take(&mut writer, &mut queue, &mut connected).await {
            let (answer, spent) = Spent::of(self.carry_out(&mut work)).await;
            self.charge(&work.request, QuotaKind::RequestPercentage, spent);
            self.services
                .metrics
                .answered(work.request.api_key, work.read_at.elapsed());
            drop(work);
            self.in_hand.fetch_sub(1, Ordering::Relaxed);
            match answer {
                // A client that has gone may still have asked for something to be done.
                _ if !connected => {}
                Ok(None) => {}
                Ok(Some(answer)) => {
                    let bytes: usize = answer.parts.iter().map(bytes::Bytes::len).sum();
                    self.services.metrics.sent.increment(bytes as u64);
                    connected = self.check_sent(writer.push(answer).await);
                }
                Err(rejection) => {
                    self.report(&rejection);
                    break;
                }
            }
        }
        if connected {
            self.check_sent(writer.flush().await);
        }
    }

    /// The next request. Answers that are ready go out before anything is waited for.
    async fn take<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut AnswerWriter<W>,
        queue: &mut mpsc::Receiver<Box<Work>>,
        connected: &mut bool,
    ) -> Option<Box<Work>> {
        let mut next = queue.try_recv();
        let is_ready = next.as_mut().is_ok_and(|work| match &mut work.todo {
            Todo::Produce(submitted) => submitted.is_ready(),
            Todo::Other { .. } => false,
        });
        if *connected && !is_ready {
            *connected = self.check_sent(writer.flush().await);
        }
        match next {
            Ok(work) => Some(work),
            Err(_) => queue.recv().await,
        }
    }

    async fn carry_out(&self, work: &mut Work) -> Result<Option<Answer>, Rejection> {
        match &mut work.todo {
            Todo::Produce(submitted) => {
                submitted
                    .answer(&work.request, &|| self.throttle.millis())
                    .await
            }
            Todo::Other { is_barrier } => {
                let answer = dispatch::answer(self, &work.request).await;
                if *is_barrier {
                    self.barrier.lower();
                }
                answer.map(Some)
            }
        }
    }

    /// Charges the client with what a request took; beyond its quota it is not read for a while (KIP-219).
    pub(crate) fn charge(&self, request: &Request, kind: QuotaKind, taken: f64) {
        let client_id = request.client_id.as_deref().unwrap_or_default();
        let quotas = &self.services.agent.quotas;
        let wait = quotas.charge(kind, ANONYMOUS, client_id, taken);
        if !wait.is_zero() {
            self.throttle.extend(wait);
            super::metrics::throttled(kind.name(), wait);
        }
    }

    /// The same for bytes.
    pub(crate) fn charge_bytes(&self, request: &Request, kind: QuotaKind, bytes: usize) {
        let bytes = f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        self.charge(request, kind, bytes);
    }

    /// For how long the client is to send nothing, in milliseconds, as its answers tell it.
    pub(crate) fn throttle_millis(&self) -> i32 {
        self.throttle.millis()
    }

    /// What a cold handler is told of the request.
    pub(crate) fn context(&self, request: &Request) -> RequestContext {
        RequestContext {
            agent: Arc::clone(&self.services.agent),
            client_id: request
                .client_id
                .as_ref()
                .map_or_else(String::new, ToString::to_string),
            client_host: self.client_host.clone(),
            version: request.api_version,
        }
    }

    fn check_sent(&self, sent: std::io::Result<()>) -> bool {
        if let Err(error) = sent {
            tracing::debug!(peer = %self.peer, %error, "cannot send answers");
            self.over.cancel();
            self.waits.cancel();
            return false;
        }
        true
    }

    /// Resolves some time after the client has gone; never while the process drains.
    async fn gone(&self) {
        self.waits.cancelled().await;
        if self.services.stopping.is_cancelled() {
            return std::future::pending().await;
        }
        tokio::time::sleep(GONE).await;
    }

    /// One log line for why a connection is closed.
    fn report(&self, rejection: &Rejection) {
        let peer = self.peer;
        if let Rejection::Frame(error) = rejection
            && !error.is_violation()
        {
            match error {
                FrameError::NoMemory(_) => tracing::warn!(%peer, %error, "connection closed"),
                _ => tracing::debug!(%peer, %error, "connection closed"),
            }
            return;
        }
        self.services.metrics.violations.increment(1);
        let now = self.services.agent.clock.now();
        match self.services.complaints.allow(now) {
            Some(0) => tracing::warn!(%peer, reason = %rejection, "connection closed"),
            Some(silenced) => {
                tracing::warn!(%peer, reason = %rejection, silenced, "connection closed");
            }
            None => tracing::debug!(%peer, reason = %rejection, "connection closed"),
        }
    }
}

/// Holds Produce requests back while earlier requests change what they depend on.
#[derive(Debug, Default)]
struct Barrier {
    raised: AtomicUsize,
    lowered: Notify,
}

impl Barrier {
    fn raise(&self) {
        self.raised.fetch_add(1, Ordering::AcqRel);
    }

    fn lower(&self) {
        if self.raised.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.lowered.notify_waiters();
        }
    }

    async fn passed(&self) {
        loop {
            // Made before the check, so that a `lower` between the two is not missed.
            let lowered = self.lowered.notified();
            if self.raised.load(Ordering::Acquire) == 0 {
                return;
            }
            lowered.await;
        }
    }
}
