//! The HTTP listener: is the process alive, does it serve.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A running HTTP listener. Its errors are logged and stop nothing else.
#[derive(Debug)]
pub(crate) struct HttpListener {
    address: SocketAddr,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl HttpListener {
    /// Serves; `/ready` says no until [`Self::set_ready`].
    pub(crate) fn start(listener: TcpListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let ready = Arc::new(AtomicBool::new(false));
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/health", get(|| async { "ok\n" }))
            .route("/ready", get(is_ready))
            .with_state(Arc::clone(&ready));
        let stopped = stop.clone().cancelled_owned();
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router)
                .with_graceful_shutdown(stopped)
                .await
            {
                tracing::error!(%error, "the HTTP listener ended");
            }
        });
        Ok(Self {
            address,
            ready,
            stop,
            task,
        })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What `/ready` says.
    pub(crate) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Release);
    }

    /// Stops. A client that keeps its connection open is cut off: every answer is instant.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        let mut task = self.task;
        let grace = std::time::Duration::from_millis(200);
        if tokio::time::timeout(grace, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn is_ready(State(ready): State<Arc<AtomicBool>>) -> (StatusCode, &'static str) {
    if ready.load(Ordering::Acquire) {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not ready\n")
    }
}
