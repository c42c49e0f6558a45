//! HTTP: health, readiness and metrics; and, on a listener of their own, Webhooks ([`hooks`]).

pub mod hooks;

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

/// Whether the controller works, and what it does.
#[derive(Clone, Debug, Default)]
pub struct Health {
    works_as: Arc<Mutex<Option<&'static str>>>,
}

impl Health {
    /// Says as what it works; nothing while it does not.
    pub fn works_as(&self, what: Option<&'static str>) {
        *self.works_as.lock() = what;
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
    let what = *health.works_as.lock();
    match what {
        Some(what) => (StatusCode::OK, what),
        None => (StatusCode::SERVICE_UNAVAILABLE, "not in sync yet"),
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}
