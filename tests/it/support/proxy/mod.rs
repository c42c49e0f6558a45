//! A reverse proxy in front of an API server that misbehaves on demand.
//!
//! The program under test gets [`Proxy::access`]; the test arms faults, waits until one has struck, and kills
//! the program exactly there.

mod fault;
mod kind;
mod stream;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::{Stream, StreamExt as _, TryStreamExt as _};
use http::{HeaderMap, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use regex::Regex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub use fault::{Deed, Fault, Moment, Requests};
pub use kind::Kind;
pub use stream::Order;

use super::access::Access;
use super::pki::Authority;
use fault::Armed;
use stream::Watches;

type Body = UnsyncBoxBody<Bytes, io::Error>;

/// The proxy; it works as long as the runtime of the test that started it.
pub struct Proxy {
    server: String,
    authority: Authority,
    state: Arc<State>,
}

struct State {
    upstream: kube::Client,
    faults: Mutex<Vec<Arc<Armed>>>,
    watches: Watches,
}

/// The connection is to break instead of carrying an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut by the test")]
struct Cut;

impl Proxy {
    /// Starts a proxy in front of the server that `upstream` names; whoever asks brings a token.
    pub async fn start(upstream: &Access) -> Self {
        let authority = Authority::new("test proxy");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let upstream = upstream.anonymous_client().await;
        let state = Arc::new(State { upstream, faults: Mutex::default(), watches: Watches::default() });
        tokio::spawn(accept(listener, acceptor(&authority), Arc::clone(&state)));
        Self { server, authority, state }
    }

    /// The same identity as `access` has, through this proxy.
    pub fn access(&self, access: &Access) -> Access {
        access.through(&self.server, &self.authority.pem)
    }

    /// From now on `deed` is done to `requests` at `moment`, until the fault is dropped or released.
    pub fn arm(&self, requests: Requests, moment: Moment, deed: Deed) -> Fault {
        let armed = Arc::new(Armed::new(requests, moment, deed));
        let mut faults = self.state.faults.lock();
        faults.retain(|fault| !fault.is_released());
        faults.push(Arc::clone(&armed));
        Fault(armed)
    }

    /// Gives `order` to the watches that are open and whose path and query match `pattern`; says how many.
    pub fn order_watches(&self, pattern: &str, order: Order) -> usize {
        let pattern = Regex::new(pattern).unwrap();
        self.state.watches.order(order, |uri| pattern.is_match(&fault::path_and_query(uri)))
    }
}

impl State {
    /// The way of one request, from the client's bytes to the answer's, over a connection of `since`.
    async fn handle(&self, request: Request<Bytes>, since: Instant) -> Result<Response<Body>, Cut> {
        self.pass_gates(since).await?;
        let faults = self.claim(&request);
        let at = |moment| faults.iter().filter(move |fault| fault.moment == moment);
        for fault in at(Moment::BeforeSent) {
            if let Some(answer) = strike(fault, since).await? {
                return Ok(answer);
            }
        }
        let uri = request.uri().clone();
        let response = self.forward(request).await?;
        let last: Vec<_> = at(Moment::Answered).cloned().collect();
        let (parts, body) = response.into_parts();
        if is_watch(&uri) {
            let events = self.watches.pass_on(&uri, Box::pin(body.into_data_stream()));
            let body = StreamBody::new(struck(last).map_ok(http_body::Frame::data).chain(events));
            return Ok(Response::from_parts(parts, body.boxed_unsync()));
        }
        let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
        at(Moment::BeforeSent).for_each(|fault| fault.arrived());
        for fault in at(Moment::Committed) {
            if let Some(answer) = strike(fault, since).await? {
                return Ok(answer);
            }
        }
        Ok(Response::from_parts(parts, answer_then(body, last)))
    }

    /// The faults that are for this request.
    fn claim(&self, request: &Request<Bytes>) -> Vec<Arc<Armed>> {
        let is_for_it = |fault: &&Arc<Armed>| fault.claims(request.method(), request.uri());
        self.faults.lock().iter().filter(is_for_it).cloned().collect()
    }

    /// Waits while everything is held because what was to be the last request has been answered.
    async fn pass_gates(&self, since: Instant) -> Result<(), Cut> {
        let gates: Vec<_> = self.faults.lock().iter().filter(|fault| fault.is_gate()).cloned().collect();
        for gate in gates {
            if !gate.lets_pass(since).await {
                return Err(Cut);
            }
        }
        Ok(())
    }

    async fn forward(&self, request: Request<Bytes>) -> Result<Response<Body>, Cut> {
        let (mut parts, body) = request.into_parts();
        drop_connection_headers(&mut parts.headers);
        let path = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        parts.uri = path.parse().expect("the path of a URI is a URI");
        parts.version = http::Version::HTTP_11;
        let request = Request::from_parts(parts, kube::client::Body::from(body));
        let response = self.upstream.send(request).await.map_err(|_| Cut)?;
        let (mut parts, body) = response.into_parts();
        drop_connection_headers(&mut parts.headers);
        parts.version = http::Version::default();
        Ok(Response::from_parts(parts, body.map_err(io::Error::other).boxed_unsync()))
    }
}

/// Does what `fault` says; an answer replaces everything that would follow.
async fn strike(fault: &Armed, since: Instant) -> Result<Option<Response<Body>>, Cut> {
    fault.hit();
    match fault.deed {
        Deed::Answer(status) => Ok(Some(answer(status))),
        Deed::Hold if fault.lets_pass(since).await => Ok(None),
        Deed::Cut | Deed::Hold => Err(Cut),
    }
}

/// `body`, and when the last of it has been taken, the faults of that moment.
fn answer_then(body: Bytes, faults: Vec<Arc<Armed>>) -> Body {
    if faults.is_empty() {
        return full(body);
    }
    let last = struck(faults);
    let whole = futures::stream::iter([Ok(body)]).chain(last);
    StreamBody::new(whole.map_ok(http_body::Frame::data)).boxed_unsync()
}

/// Nothing, and when it is asked for, the faults.
fn struck(faults: Vec<Arc<Armed>>) -> impl Stream<Item = io::Result<Bytes>> {
    futures::stream::once(async move {
        for fault in &faults {
            fault.hit();
        }
        let is_cut = faults.iter().any(|fault| fault.deed == Deed::Cut);
        if is_cut { Err(io::Error::other(Cut)) } else { Ok(Bytes::new()) }
    })
}

fn full(body: Bytes) -> Body {
    Full::new(body).map_err(|never: Infallible| match never {}).boxed_unsync()
}

fn answer(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(status_of(status).to_string().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    response
}

/// The `Status` object that an API server sends with `code`.
fn status_of(code: StatusCode) -> serde_json::Value {
    let (reason, message) = match code {
        StatusCode::FORBIDDEN => ("Forbidden", "forbidden by the test"),
        StatusCode::CONFLICT => {
            ("Conflict", "the object has been modified; please apply your changes to the latest version")
        }
        StatusCode::GONE => ("Expired", "too old resource version: 1 (2)"),
        StatusCode::TOO_MANY_REQUESTS => ("TooManyRequests", "too many requests, please try again later"),
        StatusCode::SERVICE_UNAVAILABLE => {
            ("ServiceUnavailable", "the server is currently unable to handle the request")
        }
        StatusCode::GATEWAY_TIMEOUT => {
            ("Timeout", "the server was unable to return a response in the time allotted")
        }
        _ => ("InternalError", "an error on the server has prevented the request from succeeding"),
    };
    serde_json::json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16(),
    })
}

fn is_watch(uri: &Uri) -> bool {
    let is_set = |pair: &str| matches!(pair, "watch=1" | "watch=true" | "watch");
    uri.query().is_some_and(|query| query.split('&').any(is_set))
}

/// Headers that speak of one connection and not of the message.
fn drop_connection_headers(headers: &mut HeaderMap) {
    for name in
        [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::HOST, header::CONTENT_LENGTH]
    {
        headers.remove(name);
    }
}

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let serving = authority.serving(&[]);
    let certificate = CertificateDer::from_pem_slice(serving.certificate.as_bytes()).unwrap();
    let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).unwrap();
    let mut config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<State>) {
    while let Ok((connection, _)) = listener.accept().await {
        tokio::spawn(serve(connection, acceptor.clone(), Arc::clone(&state)));
    }
}

/// Serves one connection. Its errors are the client's affair: it went away, or was cut.
async fn serve(connection: TcpStream, acceptor: TlsAcceptor, state: Arc<State>) {
    let since = Instant::now();
    let Ok(connection) = acceptor.accept(connection).await else { return };
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
            // A task of its own: what the client sent is on its way, also when the client dies meanwhile.
            let handled =
                tokio::spawn(async move { state.handle(Request::from_parts(parts, body), since).await });
            handled.await.map_err(|_| Cut)?
        }
    });
    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
    let _ = builder.serve_connection(TokioIo::new(connection), service).await;
}
