//! The HTTP listener: is the process alive, does it serve, what does it cost.
//!
//! `/health` answers 200 as long as the process lives, whatever it waits for. `/ready` answers 200
//! when it serves and 503 when it does not. Both answer JSON that says how far it has come and why
//! it is not ready. `/cost` tells what was asked of the store since the process started, by cause.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::costs::Costs;
use crate::readiness::{Readiness, Told};

/// A running HTTP listener. Its errors are logged and stop nothing else.
#[derive(Debug)]
pub(crate) struct HttpListener {
    address: SocketAddr,
    costs: Arc<OnceLock<Costs>>,
    stop: CancellationToken,
    /// Ends with the listener.
    task: AbortOnDropHandle<()>,
}

/// What the handlers know.
#[derive(Clone, Debug)]
struct Facts {
    readiness: Readiness,
    roles: Vec<&'static str>,
    /// Known once the process serves.
    costs: Arc<OnceLock<Costs>>,
}

impl HttpListener {
    /// Serves what `readiness` knows of a process with these roles.
    pub(crate) fn start(
        listener: TcpListener,
        readiness: Readiness,
        roles: Vec<&'static str>,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let stop = CancellationToken::new();
        let costs = Arc::new(OnceLock::new());
        let router = Router::new()
            .route("/health", get(health))
            .route("/ready", get(ready))
            .route("/cost", get(cost))
            .with_state(Facts {
                readiness,
                roles,
                costs: Arc::clone(&costs),
            });
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
            costs,
            stop,
            task: AbortOnDropHandle::new(task),
        })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Tells from now on what the process costs.
    pub(crate) fn tell_costs(&self, costs: Costs) {
        // There is one process and one set of books.
        let _ = self.costs.set(costs);
    }

    /// Stops. A client that keeps its connection open is cut off: every answer is quick.
    pub(crate) async fn shutdown(self) {
        self.stop.cancel();
        let grace = std::time::Duration::from_millis(200);
        // An error says that it was cut off.
        let _ = tokio::time::timeout(grace, self.task).await;
    }
}

async fn health(State(facts): State<Facts>) -> Json<Value> {
    let told = facts.readiness.state();
    Json(json!({
        "healthy": true,
        "state": told.state,
        "reason": told.reason,
        "roles": facts.roles,
        "version": env!("CARGO_PKG_VERSION"),
    }))
}

async fn ready(State(facts): State<Facts>) -> (StatusCode, Json<Value>) {
    let Told {
        ready,
        state,
        reason,
    } = facts.readiness.ask().await;
    let code = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({ "ready": ready, "state": state, "reason": reason, "roles": facts.roles });
    (code, Json(body))
}

async fn cost(State(facts): State<Facts>) -> (StatusCode, Json<Value>) {
    match facts.costs.get() {
        Some(costs) => {
            let mut told = costs.json();
            if let Some(told) = told.as_object_mut() {
                told.insert("roles".to_owned(), json!(facts.roles));
            }
            (StatusCode::OK, Json(told))
        }
        None => {
            let body = json!({ "reason": "the process does not serve yet" });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body))
        }
    }
}
