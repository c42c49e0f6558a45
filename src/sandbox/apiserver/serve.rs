//! The API over HTTPS: each connection its own task, all ended when asked to stop.

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::ApiServer;
use super::http::ApiService;

/// A client that does not finish its handshake does not hold a task for longer.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Between attempts to accept while the system refuses.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

impl ApiServer {
    /// Serves until `stop`. Requests authenticate by bearer token; watches end with the server.
    pub async fn serve(self, listener: TcpListener, tls: Arc<rustls::ServerConfig>, stop: CancellationToken) {
        let acceptor = TlsAcceptor::from(tls);
        let service = ApiService::by_token(self);
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, acceptor.clone(), service.clone(), stop.clone()));
                }
                // Out of file descriptors, for example: others may be closed in a moment.
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a connection");
                    if tokio::time::timeout(ACCEPT_AGAIN, stop.cancelled()).await.is_ok() {
                        break;
                    }
                }
            }
        }
        connections.close();
        connections.wait().await;
    }
}

async fn connection(stream: TcpStream, acceptor: TlsAcceptor, service: ApiService, stop: CancellationToken) {
    // Small answers must not wait for more data to be sent.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "failed to set nodelay");
    }
    let stream = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "failed the TLS handshake"),
        Err(_) => return tracing::debug!("gave up on a TLS handshake"),
    };
    let builder = auto::Builder::new(TokioExecutor::new());
    let serving =
        builder.serve_connection_with_upgrades(TokioIo::new(stream), TowerToHyperService::new(service));
    tokio::select! {
        () = stop.cancelled() => {}
        ended = serving => {
            if let Err(error) = ended {
                tracing::debug!(error, "a connection ended with an error");
            }
        }
    }
}
