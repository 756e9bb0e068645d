//! The network: delays, loses, cuts and breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alluvium_transport::{Incoming, Lane, Service, Transport, TransportError};
use alluvium_types::random;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::host::{Host, Port};
use crate::stream;
use crate::trace::{Trace, digest};

/// Shared by all machines.
pub(crate) struct Network {
    state: Mutex<State>,
    pub(crate) trace: Arc<Trace>,
}

struct State {
    services: BTreeMap<String, (Port, Arc<dyn Service>)>,
    /// Nothing goes this way.
    cut: BTreeSet<(Host, Host)>,
    /// Nothing leaves or reaches these before.
    paused: BTreeMap<Host, Instant>,
    /// Proposals that these send before the first instant arrive at the second, whatever is cut.
    held: BTreeMap<Host, (Instant, Instant)>,
    /// Messages of a thousand that are lost.
    loss: u32,
    /// Longest delay of most messages, in milliseconds.
    delay: u64,
}

/// A message that does not arrive.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost;

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").finish_non_exhaustive()
    }
}

impl Network {
    pub(crate) fn new(trace: Arc<Trace>) -> Self {
        let state = State {
            services: BTreeMap::new(),
            cut: BTreeSet::new(),
            paused: BTreeMap::new(),
            held: BTreeMap::new(),
            loss: 0,
            delay: 3,
        };
        Self {
            state: Mutex::new(state),
            trace,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn serve(&self, address: &str, port: Port, service: Arc<dyn Service>) {
        self.lock()
            .services
            .insert(address.to_owned(), (port, service));
    }

    pub(crate) fn unserve(&self, address: &str) {
        self.lock().services.remove(address);
    }

    /// Lets go of everybody: they hold the network, and it holds them.
    pub(crate) fn close(&self) {
        let services = std::mem::take(&mut self.lock().services);
        drop(services);
    }

    pub(crate) fn cut(&self, from: Host, to: Host) {
        self.lock().cut.insert((from, to));
    }

    pub(crate) fn mend(&self, from: Host, to: Host) {
        self.lock().cut.remove(&(from, to));
    }

    pub(crate) fn pause(&self, host: Host, until: Instant) {
        self.lock().paused.insert(host, until);
    }

    pub(crate) fn hold(&self, host: Host, caught: Instant, arrive: Instant) {
        self.lock().held.insert(host, (caught, arrive));
    }

    /// When a request arrives that is being held.
    fn held_until(&self, from: Host, lane: Lane) -> Option<Instant> {
        let (caught, arrive) = *self.lock().held.get(&from)?;
        (lane == Lane::Commands && Instant::now() < caught).then_some(arrive)
    }

    pub(crate) fn weather(&self, loss: u32, delay: u64) {
        let mut state = self.lock();
        state.loss = loss;
        state.delay = delay;
    }

    pub(crate) fn heal(&self) {
        let mut state = self.lock();
        state.cut.clear();
        state.paused.clear();
        state.held.clear();
        state.loss = 0;
        state.delay = 3;
    }

    pub(crate) fn is_cut(&self, from: Host, to: Host) -> bool {
        self.lock().cut.contains(&(from, to))
    }

    fn paused_until(&self, from: Host, to: Host) -> Option<Instant> {
        let state = self.lock();
        let until = [from, to]
            .into_iter()
            .filter_map(|host| state.paused.get(&host));
        until.max().copied().filter(|until| *until > Instant::now())
    }

    /// One message's way; returns when it has arrived.
    pub(crate) async fn pass(&self, from: Host, to: Host) -> Result<(), Lost> {
        let (lost, delay) = {
            let state = self.lock();
            let lost = state.cut.contains(&(from, to)) || random::range(0..1000) < state.loss;
            // A few take much longer, so that they overtake one another.
            let rare = random::range(0..100) == 0;
            let most = if rare { state.delay * 30 } else { state.delay };
            (lost, random::range(0..=most))
        };
        if lost {
            return Err(Lost);
        }
        sleep(Duration::from_millis(delay)).await;
        while let Some(until) = self.paused_until(from, to) {
            sleep_until(until).await;
        }
        Ok(())
    }

    pub(crate) fn service(&self, address: &str) -> Option<(Port, Arc<dyn Service>)> {
        self.lock().services.get(address).cloned()
    }

    /// The machine behind an address, whether or not anybody serves there.
    fn host_of(address: &str) -> Option<Host> {
        let name = address.split(':').next()?;
        if let Some(number) = name.strip_prefix('a') {
            return number.parse().ok().map(Host::Agent);
        }
        name.strip_prefix('m')?.parse().ok().map(Host::Metadata)
    }
}

/// A process's way to the others.
#[derive(Debug)]
pub(crate) struct SimTransport {
    pub(crate) port: Port,
    pub(crate) network: Arc<Network>,
}

impl SimTransport {
    fn unreachable(address: &str) -> TransportError {
        TransportError::Unreachable {
            address: address.to_owned(),
            reason: "nobody listens there".to_owned(),
        }
    }

    pub(crate) fn broken(address: &str) -> TransportError {
        TransportError::Broken {
            address: address.to_owned(),
            reason: "the connection broke".to_owned(),
        }
    }

    /// What a lost message looks like to its sender: sooner or later.
    async fn lost(address: &str, within: Duration) -> TransportError {
        if random::range(0..3) == 0 {
            sleep(within / 4).await;
            return Self::broken(address);
        }
        sleep(within).await;
        Self::broken(address)
    }
}

async fn exchange(
    network: Arc<Network>,
    from: Port,
    address: String,
    lane: Lane,
    request: Bytes,
    within: Duration,
) -> Result<Bytes, TransportError> {
    let Some(to) = Network::host_of(&address) else {
        return Err(SimTransport::unreachable(&address));
    };
    let name = (request.len(), digest(&request));
    network
        .trace
        .note(format_args!("{} > {to} {lane:?} {name:?}", from.host));
    if let Some(arrive) = network.held_until(from.host, lane) {
        sleep_until(arrive).await;
    } else if network.pass(from.host, to).await.is_err() {
        return Err(SimTransport::lost(&address, within).await);
    }
    let Some((port, service)) = network.service(&address) else {
        return Err(SimTransport::unreachable(&address));
    };
    let Some(answer) = port.living(service.call(lane, request)).await else {
        return Err(SimTransport::broken(&address));
    };
    let size = answer.as_ref().map_or(0, Bytes::len);
    // What arrives is not what was sent, which its sender may count for as long as it is there.
    let answer = answer.map(|answer| Bytes::copy_from_slice(&answer));
    let answer = answer.map_err(|refused| TransportError::Refused {
        address: address.clone(),
        reason: refused.to_string(),
    });
    network
        .trace
        .note(format_args!("{to} > {} answer {size} {name:?}", from.host));
    if network.pass(to, from.host).await.is_err() {
        return Err(SimTransport::lost(&address, within).await);
    }
    answer
}

#[async_trait]
impl Transport for SimTransport {
    async fn call(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Bytes, TransportError> {
        self.port.check().await;
        let timed_out = || TransportError::TimedOut {
            address: address.to_owned(),
            within,
        };
        // A task of its own: what was sent arrives whether or not the sender still waits.
        let exchange = tokio::spawn(exchange(
            Arc::clone(&self.network),
            self.port.clone(),
            address.to_owned(),
            lane,
            request,
            within,
        ));
        let answer = timeout(within, exchange).await;
        self.port.check().await;
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Self::broken(address)),
            Err(_) => Err(timed_out()),
        }
    }

    async fn open(
        &self,
        address: &str,
        lane: Lane,
        request: Bytes,
        within: Duration,
    ) -> Result<Incoming, TransportError> {
        self.port.check().await;
        let to = Network::host_of(address).ok_or_else(|| Self::unreachable(address))?;
        let here = self.port.host;
        self.network.trace.note(format_args!(
            "{here} > {to} open {lane:?} {}",
            request.len()
        ));
        let opening = async {
            if self.network.pass(here, to).await.is_err() {
                return Err(Self::lost(address, within).await);
            }
            let Some((port, service)) = self.network.service(address) else {
                return Err(Self::unreachable(address));
            };
            let Some(answers) = port.living(service.open(lane, request)).await else {
                return Err(Self::broken(address));
            };
            let answers = answers.map_err(|refused| TransportError::Refused {
                address: address.to_owned(),
                reason: refused.to_string(),
            })?;
            if self.network.pass(to, here).await.is_err() {
                return Err(Self::lost(address, within).await);
            }
            Ok(stream::carry(
                Arc::clone(&self.network),
                port,
                self.port.clone(),
                address.to_owned(),
                answers,
            ))
        };
        let opened = timeout(within, opening).await;
        self.port.check().await;
        opened.unwrap_or_else(|_| {
            Err(TransportError::TimedOut {
                address: address.to_owned(),
                within,
            })
        })
    }
}
