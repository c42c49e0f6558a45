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
/// What is said at the end.
const STOPPING: &str = "stopping";

/// Whether the controller works, and what it does.
#[derive(Clone, Debug)]
pub struct Health {
    report: Arc<Mutex<Report>>,
}

#[derive(Clone, Debug)]
struct Report {
    /// As what it works, or why it does not.
    said: Result<&'static str, String>,
    /// Whether that is the last word.
    is_last: bool,
}

impl Default for Health {
    fn default() -> Self {
        let report = Report { said: Err(STARTING.to_owned()), is_last: false };
        Self { report: Arc::new(Mutex::new(report)) }
    }
}

impl Health {
    /// Says as what it works.
    pub fn works_as(&self, what: &'static str) {
        self.say(Ok(what));
    }

    /// Says that it does not work yet.
    pub fn starts(&self) {
        self.lacks(STARTING.to_owned());
    }

    /// Says why it does not work.
    pub fn lacks(&self, what: String) {
        self.say(Err(what));
    }

    /// Says that it stops. That is the last word: what it was about to become it does not become any more.
    pub fn stops(&self) {
        *self.report.lock() = Report { said: Err(STOPPING.to_owned()), is_last: true };
    }

    fn say(&self, what: Result<&'static str, String>) {
        let mut report = self.report.lock();
        if !report.is_last {
            report.said = what;
        }
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
    let said = health.report.lock().said.clone();
    match said {
        Ok(what) => (StatusCode::OK, what.to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

async fn exposition(State(metrics): State<Arc<Metrics>>) -> impl IntoResponse {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_stops_does_not_become_ready_any_more() {
        let health = Health::default();
        let status = async || readiness(State(health.clone())).await.into_response().status();
        assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
        health.works_as("leading");
        assert_eq!(status().await, StatusCode::OK);
        health.stops();
        health.works_as("standing by");
        assert_eq!(status().await, StatusCode::SERVICE_UNAVAILABLE);
    }
}
