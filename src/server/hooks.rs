//! The listener for Webhooks: strangers can reach it, so every wait has an end and everything has a bound.
//!
//! Bounds: connections (`doors`) × 16 KiB of head, plus bodies (`places`) × 2 MiB (1 MiB each, and what holds one grows by
//! doubling), whatever is sent, in whatever pieces and however slowly. A body has its place from before its first byte until
//! its answer: it has ten seconds to come, and the answer as many.
//!
//! Its end has bounds too ([`Ending`]): whoever is told to stop takes in what comes for a while, and answers what has begun. Where
//! the receiver takes in nothing any more, as when the Lease is lost, all who wait are told to come again, at once.

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::body::Body;
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{BoxError, Router};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::doors::{Door, Doors};
use super::places::{Place, Places, Taker};
use crate::controller::receiver::{Answer, Open, Receiver, Refusal};

/// How long a head and a body may take; a connection without a request is closed after the same time.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The largest head, and the most headers.
const HEAD: usize = 16 * 1024;
const HEADERS: usize = 64;
/// How long an answer may take to leave.
const FAREWELL: Duration = Duration::from_millis(200);
/// How long a listener that is told to stop goes on to take in what comes. Whoever routes requests, kube-proxy or an ingress,
/// hears some seconds late that a replica stops, and some senders, GitHub among them, do not send again.
const GRACE: Duration = Duration::from_secs(5);
/// How long a request has after that which has begun: as long as a body may take. With the grace it has to be over before
/// the kubelet's patience is (`terminationGracePeriodSeconds` in the chart).
const REST: Duration = READ_TIMEOUT;

/// How a listener ends that is told to stop.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Ending {
    /// How long it goes on to take in whoever comes. Its answers ask senders to connect anew, which leads them elsewhere.
    pub grace: Duration,
    /// How long after that a request has which has begun.
    pub rest: Duration,
}

impl Default for Ending {
    fn default() -> Self {
        Self { grace: GRACE, rest: REST }
    }
}

#[derive(Clone)]
struct Hooks {
    receiver: Arc<Receiver>,
    bodies: Arc<Places>,
    /// Cancelled when it is told to stop.
    stop: CancellationToken,
}

/// Serves `/hooks/NAMESPACE/NAME` until `stop`, and then to the end, or until the receiver is closed; the task is over when nobody is
/// served any more.
pub async fn serve(
    address: SocketAddr,
    receiver: Arc<Receiver>,
    (stop, ending): (CancellationToken, Ending),
) -> anyhow::Result<(SocketAddr, JoinHandle<()>)> {
    let listener =
        TcpListener::bind(address).await.with_context(|| format!("failed to listen on {address}"))?;
    let bound = listener.local_addr()?;
    let hooks = Hooks { receiver: receiver.clone(), bodies: Arc::default(), stop: stop.clone() };
    let entrance = Entrance {
        listener,
        router: Router::new().route("/hooks/{namespace}/{name}", post(take)).with_state(hooks),
        receiver,
        connections: TaskTracker::new(),
        closing: CancellationToken::new(),
        rest: ending.rest,
    };
    Ok((bound, tokio::spawn(entrance.run(stop, ending.grace))))
}

/// Where connections come in, and those that have.
struct Entrance {
    listener: TcpListener,
    router: Router,
    receiver: Arc<Receiver>,
    connections: TaskTracker,
    /// Cancelled when no more are let in.
    closing: CancellationToken,
    rest: Duration,
}

impl Entrance {
    /// Lets connections in until some time after `stop`, or until nothing is taken in any more, and waits for their ends.
    async fn run(self, stop: CancellationToken, grace: Duration) {
        tokio::select! {
            () = self.accept_until(&stop, grace) => {}
            _ = self.receiver.closed() => {}
        }
        let Self { listener, connections, closing, .. } = self;
        drop(listener);
        closing.cancel();
        connections.close();
        connections.wait().await;
    }

    async fn accept_until(&self, stop: &CancellationToken, grace: Duration) {
        let mut accepting = pin!(self.accept());
        tokio::select! {
            () = accepting.as_mut() => {}
            () = stop.cancelled() => {
                let _ = tokio::time::timeout(grace, accepting).await;
            }
        }
    }

    /// Lets connections in, for ever.
    async fn accept(&self) {
        let doors = Doors::default();
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, perhaps: some are given back in a moment.
                    tracing::warn!(%error, "no connection accepted");
                    let _ = tokio::time::timeout(FAREWELL, std::future::pending::<()>()).await;
                    continue;
                }
            };
            let Some(door) = doors.open(peer.ip()) else {
                self.receiver.turned_away(Refusal::Overloaded);
                turn_away(stream).await;
                continue;
            };
            self.let_in(stream, peer.ip(), door);
        }
    }

    /// Serves a connection until it ends, or for so long as it may take after no more are let in.
    fn let_in(&self, stream: TcpStream, peer: IpAddr, door: Door) {
        let router = self.router.clone().layer(Extension(peer));
        let (closing, rest) = (self.closing.clone(), self.rest);
        self.connections.spawn(async move {
            let served = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(READ_TIMEOUT)
                .max_buf_size(HEAD)
                .max_headers(HEADERS)
                .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
            let mut served = pin!(served);
            let ended = tokio::select! {
                // What has arrived is read first: then the connection is not taken for an idle one.
                biased;
                ended = served.as_mut() => ended,
                () = closing.cancelled() => {
                    served.as_mut().graceful_shutdown();
                    tokio::time::timeout(rest, served).await.unwrap_or(Ok(()))
                }
            };
            // What strangers do to a connection is no news.
            if let Err(error) = ended {
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
    Path(webhook): Path<(String, String)>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let answer = pin!(answer(&hooks, (sender, webhook), &headers, body));
    unless_closed(&hooks.receiver, answer).await
}

/// An answer, or, as soon as nothing is taken in any more, that one has to come again.
async fn unless_closed(receiver: &Receiver, answer: impl Future<Output = Response>) -> Response {
    tokio::select! {
        // Asked first: what waits to be written is not written after that.
        biased;
        closed = receiver.closed() => respond(&closed, true),
        answer = answer => answer,
    }
}

/// Takes a request in, and gives the answer to it.
async fn answer(
    hooks: &Hooks,
    (sender, (namespace, name)): (IpAddr, (String, String)),
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let open = match hooks.receiver.open((&namespace, &name), headers, sender).await {
        Ok(open) => open,
        Err(answer) => return respond(&answer, true),
    };
    match read(hooks, &open, headers, body).await {
        // The place is free again when the body is gone, and that is after the answer.
        Ok((_place, body)) => {
            let answer = hooks.receiver.accept(&open, headers, &body).await;
            respond(&answer, hooks.stop.is_cancelled())
        }
        Err((refusal, text)) => respond(&hooks.receiver.refuse_body(&open, refusal, &text), true),
    }
}

/// Reads a body within its bounds, and says what place it has.
async fn read<'h>(
    hooks: &'h Hooks,
    open: &Open,
    headers: &HeaderMap,
    body: Body,
) -> Result<(Place<'h>, Vec<u8>), (Refusal, String)> {
    let most = open.max_body();
    let too_large = || (Refusal::TooLarge, format!("body exceeds {}", in_words(most)));
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > most as u64) {
        return Err(too_large());
    }
    let taker = Taker { webhook: open.webhook(), address: open.sender(), is_proven: open.is_proven() };
    let Some(place) = hooks.bodies.take(taker).await else {
        // Who is still sending when the connection is closed loses the answer with it.
        let _ = tokio::time::timeout(READ_TIMEOUT, drain(body, most)).await;
        return Err((Refusal::Overloaded, "queue full; retry".to_owned()));
    };
    match tokio::time::timeout(READ_TIMEOUT, whole(body, most)).await {
        Ok(Ok(body)) => Ok((place, body)),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(_)) => Err((Refusal::TooSlow, "the body broke off; retry".to_owned())),
        Err(_) => {
            Err((Refusal::TooSlow, format!("body not received within {} s; retry", READ_TIMEOUT.as_secs())))
        }
    }
}

/// Reads a body, as far as it may be long, and keeps nothing of it.
async fn drain(body: Body, most: usize) {
    let mut body = Limited::new(body, most);
    while let Some(Ok(_)) = body.frame().await {}
}

/// A body in one piece. None that it comes in is kept: one of a single byte takes many, and holds on to all that was read from the
/// connection with it.
async fn whole(body: Body, most: usize) -> Result<Vec<u8>, BoxError> {
    let (mut body, mut whole) = (Limited::new(body, most), Vec::new());
    while let Some(frame) = body.frame().await {
        if let Ok(piece) = frame?.into_data() {
            whole.extend_from_slice(&piece);
        }
    }
    Ok(whole)
}

fn in_words(bytes: usize) -> String {
    if bytes.is_multiple_of(1024 * 1024) {
        format!("{} MiB", bytes / 1024 / 1024)
    } else {
        format!("{bytes} bytes")
    }
}

/// Writes an answer. After one that was given before the body was read, the connection is of no more use; and none is when
/// this replica stops.
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use futures::stream;
    use http::{Request, Response as Answered};
    use kube::client::Body as Sent;

    /// One whose API server never answers.
    fn receiver() -> Arc<Receiver> {
        type Never = std::future::Pending<Result<Answered<Sent>, Infallible>>;
        let service = tower::service_fn(|_: Request<Sent>| -> Never { std::future::pending() });
        Receiver::new(kube::Client::new(service, "default"), Arc::default())
    }

    /// A byte, and how many of its kind there are.
    struct Piece(Arc<AtomicUsize>);

    impl AsRef<[u8]> for Piece {
        fn as_ref(&self) -> &[u8] {
            b"x"
        }
    }

    impl Drop for Piece {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn who_waits_when_nothing_is_taken_in_any_more_is_told_to_come_again() {
        let (receiver, kept) = (receiver(), AtomicUsize::default());
        let keeps = async {
            kept.fetch_add(1, Ordering::SeqCst);
            StatusCode::ACCEPTED.into_response()
        };
        assert_eq!(unless_closed(&receiver, keeps).await.status(), StatusCode::ACCEPTED);
        let waits = unless_closed(&receiver, std::future::pending());
        let (told, ()) = tokio::join!(waits, async { receiver.close() });
        assert_eq!(told.status(), StatusCode::SERVICE_UNAVAILABLE);
        let said = [header::RETRY_AFTER, header::CONNECTION].map(|name| told.headers().get(name).cloned());
        assert_eq!(said.map(|value| value.expect("a header")), ["5", "close"]);
        let keeps = async {
            kept.fetch_add(1, Ordering::SeqCst);
            StatusCode::ACCEPTED.into_response()
        };
        assert_eq!(unless_closed(&receiver, keeps).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(kept.load(Ordering::SeqCst), 1, "nothing is kept after that");
    }

    #[tokio::test]
    async fn a_listener_ends_when_nothing_is_taken_in_any_more() {
        let (receiver, stop) = (receiver(), CancellationToken::new());
        let served = serve(([127, 0, 0, 1], 0).into(), receiver.clone(), (stop, Ending::default()));
        let (address, task) = served.await.expect("it listens");
        let _idle = TcpStream::connect(address).await.expect("a connection");
        receiver.close();
        tokio::time::timeout(2 * READ_TIMEOUT, task).await.expect("it ends").expect("well");
    }

    #[tokio::test]
    async fn a_body_is_held_once_however_small_its_pieces_are() {
        let held = Arc::<AtomicUsize>::default();
        let pieces = (0..100).map(move |_| {
            assert_eq!(held.fetch_add(1, Ordering::SeqCst), 0, "the one before is gone");
            Ok::<_, Infallible>(Bytes::from_owner(Piece(held.clone())))
        });
        let read = whole(Body::from_stream(stream::iter(pieces)), 100).await.expect("a body");
        assert_eq!(read, [b'x'; 100]);
        let broken = whole(Body::from("xxx"), 2).await.expect_err("too large");
        assert!(broken.is::<LengthLimitError>());
    }
}
