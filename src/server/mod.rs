//! HTTP: health, readiness and metrics; and, on a listener of their own, Webhooks ([`hooks`]).

mod doors;
pub mod hooks;
mod places;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve as serve_http};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::telemetry::Metrics;

/// What is said before anything is known.
const STARTING: &str = "not in sync yet";

/// Whether the controller works, and what it does.
#[derive(Clone, Debug)]
pub struct Health {
    /// As what it works, or why it does not.
    state: Arc<Mutex<Result<&'static str, String>>>,
}

impl Default for Health {
    fn default() -> Self {
        Self { state: Arc::new(Mutex::new(Err(STARTING.to_owned()))) }
    }
}

impl Health {
    /// Says as what it works.
    pub fn works_as(&self, what: &'static str) {
        *self.state.lock() = Ok(what);
    }

    /// Says that it does not work yet.
    pub fn starts(&self) {
        self.lacks(STARTING.to_owned());
    }

    /// Says why it does not work.
    pub fn lacks(&self, what: String) {
        *self.state.lock() = Err(what);
    }
}

/// Serves `/healthz`, `/readyz` and `/metrics`.
pub async fn serve(
    address: SocketAddr,
    health: Health,
    metrics: Arc<Metrics>,
) -> anyhow::Result<JoinHandle<()>> {
    let router = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(readiness).with_state(health))
        .route("/metrics", get(exposition).with_state(metrics));
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    Ok(tokio::spawn(async move {
        if let Err(error) = serve_http(listener, router).await {
            tracing::error!(%error, "health and metrics are not served any more");
        }
    }))
}

async fn readiness(State(health): State<Health>) -> impl IntoResponse {
    let state = health.state.lock().clone();
    match state {
        Ok(what) => (StatusCode::OK, what.to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}
