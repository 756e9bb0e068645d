//! Accepts connections, as many as the limit allows, and ends them.

use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection;
use super::services::{InFlight, Services};

/// A running Kafka listener.
#[derive(Debug)]
pub(crate) struct KafkaListener {
    address: SocketAddr,
    services: Arc<Services>,
    connections: TaskTracker,
    abort: CancellationToken,
    accepting: JoinHandle<()>,
}

impl KafkaListener {
    /// Serves what connects to `listener`, which listens on `address`.
    pub(crate) fn start(
        listener: TcpListener,
        address: SocketAddr,
        services: Arc<Services>,
    ) -> Self {
        let connections = TaskTracker::new();
        let abort = CancellationToken::new();
        let acceptor = Acceptor {
            services: Arc::clone(&services),
            connections: connections.clone(),
            abort: abort.clone(),
            permits: Arc::new(Semaphore::new(services.limits.connections)),
        };
        let accepting = tokio::spawn(acceptor.run(listener));
        Self {
            address,
            services,
            connections,
            abort,
            accepting,
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections and reads no more requests; those that were read are answered.
    pub(crate) fn stop_reading(&self) {
        self.services.stopping.cancel();
        self.connections.close();
    }

    /// Waits until every connection has ended.
    pub(crate) async fn drained(&self) {
        self.connections.wait().await;
    }

    /// Requests that were read and not answered yet.
    pub(crate) fn in_flight(&self) -> usize {
        InFlight::count(&self.services)
    }

    /// Ends what still runs.
    pub(crate) async fn abort(self) {
        self.abort.cancel();
        self.connections.close();
        self.connections.wait().await;
        // It stopped with `stopping`; waiting makes sure that the port is free.
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

struct Acceptor {
    services: Arc<Services>,
    connections: TaskTracker,
    abort: CancellationToken,
    permits: Arc<Semaphore>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let stopping = self.services.stopping.clone();
        // Dropping the listener at the end closes the port.
        stopping
            .run_until_cancelled_owned(self.accept(listener))
            .await;
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            // Past the limit newcomers wait in the backlog.
            let Ok(permit) = Arc::clone(&self.permits).acquire_owned().await else {
                return;
            };
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let serving = self.serve(stream, peer);
                    self.connections.spawn(async move {
                        serving.await;
                        drop(permit);
                    });
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    // Out of file descriptors, most likely: time is what helps.
                    tracing::warn!(%error, "cannot accept connections now");
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        }
    }

    /// Serves one connection.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> impl Future<Output = ()> + Send + 'static {
        let services = Arc::clone(&self.services);
        let abort = self.abort.clone();
        async move {
            services.metrics.connections.increment(1);
            // On the heap once, not once in each of the wrappers: most connections are idle.
            let serving = Box::pin(connection::serve(stream, peer, Arc::clone(&services)));
            abort
                .run_until_cancelled_owned(contain(peer, serving))
                .await;
            services.metrics.connections.decrement(1);
        }
    }
}

/// A panic in a handler costs its connection only.
async fn contain(peer: SocketAddr, serving: impl Future<Output = ()>) {
    if let Err(panic) = AssertUnwindSafe(serving).catch_unwind().await {
        let reason = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("unknown");
        tracing::error!(%peer, reason, "a request handler panicked; connection closed");
    }
}

/// Errors of `accept` that only say that one client has gone already.
fn is_of_one_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_what_panicked_and_nothing_else() {
        let peer = SocketAddr::from(([127, 0, 0, 1], 1));
        contain(peer, async { panic!("a fault of ours") }).await;
        contain(peer, async { panic!("with {}", "arguments") }).await;
    }
}
