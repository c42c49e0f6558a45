//! The listener for Webhooks: strangers can reach it, so every wait has an end and everything has a bound.
//!
//! Bounds: connections (`doors`) × 16 KiB of head, plus bodies (`places`) × 1 MiB, whatever is sent and however slowly.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::doors::Doors;
use super::places::{Places, Taker};
use crate::controller::receiver::{Answer, Open, Receiver, Refusal};

/// How long a head and a body may take; a connection without a request is closed after the same time.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head, and the most headers.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;
/// How long an answer may take to leave.
const FAREWELL: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Hooks {
    receiver: Arc<Receiver>,
    bodies: Arc<Places>,
}

/// Serves `/hooks/NAMESPACE/NAME`.
pub async fn serve(
    address: SocketAddr,
    receiver: Arc<Receiver>,
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    let bound = listener.local_addr()?;
    let hooks = Hooks { receiver: receiver.clone(), bodies: Arc::default() };
    let router = Router::new().route("/hooks/{namespace}/{name}", post(take)).with_state(hooks);
    Ok((bound, tokio::spawn(accept(listener, router, receiver))))
}

async fn accept(listener: TcpListener, router: Router, receiver: Arc<Receiver>) {
    let doors = Doors::default();
    loop {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, perhaps: some are given back in a moment.
                tracing::warn!(%error, "no connection accepted");
                let _ = tokio::time::timeout(FAREWELL, std::future::pending::<()>()).await;
                continue;
            }
        };
        let Some(door) = doors.open(peer.ip()) else {
            receiver.turned_away(Refusal::Overloaded);
            turn_away(stream).await;
            continue;
        };
        let router = router.clone().layer(Extension(peer.ip()));
        tokio::spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .max_buf_size(HEAD)
                .max_headers(HEADERS)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            // What strangers do to a connection is no news.
            if let Err(error) = served.await {
                tracing::debug!(%error, "connection ended");
            }
            drop(door);
        });
    }
}

/// Tells a connection that there is no room, without reading from it.
async fn turn_away(mut stream: TcpStream) {
    let answer = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 5\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let _ = tokio::time::timeout(FAREWELL, stream.write_all(answer)).await;
}

async fn take(
    State(hooks): State<Hooks>,
    Extension(sender): Extension<IpAddr>,
    Path((namespace, name)): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let open = match hooks.receiver.open((&namespace, &name), &headers, sender).await {
        Ok(open) => open,
        Err(answer) => return respond(&answer, true),
    };
    match read(&hooks, &open, &headers, body).await {
        Ok(body) => respond(&hooks.receiver.accept(&open, &headers, &body).await, false),
        Err((refusal, text)) => respond(&hooks.receiver.refuse_body(&open, refusal, &text), true),
    }
}

/// Reads a body within its bounds.
async fn read(
    hooks: &Hooks,
    open: &Open,
    headers: &HeaderMap,
    body: Body,
) -> Result<bytes::Bytes, (Refusal, String)> {
    let most = open.max_body();
    let too_large = || (Refusal::TooLarge, format!("body exceeds {}", in_words(most)));
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let taker = Taker { webhook: open.webhook(), address: open.sender(), is_proven: open.is_proven() };
    let Some(_place) = hooks.bodies.take(taker).await else {
        return Err((Refusal::Overloaded, "queue full; retry".to_owned()));
    };
    match tokio::time::timeout(READ_TIMEOUT, Limited::new(body, most).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err((Refusal::TooSlow, "the body broke off; retry".to_owned())),
        Err(_) => {
            Err((Refusal::TooSlow, format!("body not received within {} s; retry", READ_TIMEOUT.as_secs())))
        }
    }
}

fn in_words(bytes: usize) -> String {
    if bytes.is_multiple_of(1024 * 1024) {
        format!("{} MiB", bytes / 1024 / 1024)
    } else {
        format!("{bytes} bytes")
    }
}

/// Writes an answer. After one that was given before the body was read, the connection is of no more use.
fn respond(answer: &Answer, close: bool) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, format!("{}\n", answer.text)).into_response();
    if let Some(pause) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, pause.as_secs().into());
    }
    if close {
        response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    }
    response
}
