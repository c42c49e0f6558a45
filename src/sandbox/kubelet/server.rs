//! The kubelet's own HTTPS server, as far as a real API server needs it: container logs.

use std::io;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jiff::{SignedDuration, Timestamp};
use rustls::pki_types::PrivateKeyDer;
use serde::Deserialize;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::debug;

use crate::sandbox::clock::Clock;
use crate::sandbox::logs::{LogQuery, LogSource};

/// Serves logs over HTTPS with a certificate of its own.
pub struct Server {
    listener: TcpListener,
    tls: TlsAcceptor,
    router: Router,
}

#[derive(Clone)]
struct Logs {
    source: Arc<dyn LogSource>,
    clock: Clock,
}

/// The query of `/containerLogs`, as the API server sends it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Wanted {
    previous: bool,
    follow: bool,
    timestamps: bool,
    tail_lines: Option<usize>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    limit_bytes: Option<usize>,
}

impl Server {
    /// Binds to a free port of `address`.
    ///
    /// # Errors
    /// When no port is free or no certificate can be made.
    pub async fn bind(address: &str, source: Arc<dyn LogSource>, clock: Clock) -> io::Result<Self> {
        let router = Router::new()
            .route("/containerLogs/{namespace}/{pod}/{container}", get(container_logs))
            .with_state(Logs { source, clock });
        Ok(Self { listener: TcpListener::bind((address, 0)).await?, tls: tls(address)?, router })
    }

    /// The port.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// Serves for as long as it is polled.
    pub async fn run(self) {
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            // A connection that was lost before it was accepted concerns nobody else.
            let Ok((stream, _)) = accepted else { continue };
            let (tls, service) = (self.tls.clone(), TowerToHyperService::new(self.router.clone()));
            connections.spawn(async move {
                let served = async {
                    let stream = TokioIo::new(tls.accept(stream).await?);
                    auto::Builder::new(TokioExecutor::new()).serve_connection(stream, service).await
                };
                if let Err(error) = served.await {
                    debug!(%error, "a connection to the kubelet failed");
                }
            });
        }
    }
}

fn tls(address: &str) -> io::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed([address.to_owned()]).map_err(io::Error::other)?;
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)
        })
        .map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn container_logs(
    State(logs): State<Logs>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    Query(wanted): Query<Wanted>,
) -> Response {
    let ago = wanted.since_seconds.map(|seconds| logs.clock.now() - SignedDuration::from_secs(seconds));
    let query = LogQuery {
        namespace,
        pod,
        container,
        previous: wanted.previous,
        follow: wanted.follow,
        timestamps: wanted.timestamps,
        tail_lines: wanted.tail_lines,
        since: wanted.since_time.or(ago),
        limit_bytes: wanted.limit_bytes,
    };
    match logs.source.open(&query) {
        Ok(stream) => ([("content-type", "text/plain")], Body::from_stream(stream)).into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    }
}
