//! The way out over https: a reverse proxy on loopback that reaches one origin, and no other.
//!
//! libgit2 asks the gate over plain HTTP; the gate asks the server over TLS and adds the credentials. libgit2 so
//! never has the credentials, cannot send them elsewhere whatever a server answers, and has no TLS to misconfigure. The
//! gate also knows exactly what went wrong, which libgit2's errors tell only roughly.

use std::error::Error as StdError;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use futures::StreamExt;
use http::header::{
    ACCEPT, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, USER_AGENT,
};
use http::{HeaderValue, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use parking_lot::Mutex;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::runtime::Runtime;
use url::Url;

use super::budget::Budget;
use super::{REQUEST_BYTES, Trouble, innermost, random_token};

/// What libgit2 may tell the server.
const REQUEST_HEADERS: [HeaderName; 4] = [ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT];

/// An open gate; dropping it closes it.
pub(in crate::git) struct Gate {
    address: SocketAddr,
    passage: Arc<Passage>,
    _runtime: Runtime,
}

/// What every request needs to pass.
struct Passage {
    origin: Url,
    /// The first part of every path: without it another user of the machine could borrow the credentials.
    token: String,
    authorization: Option<HeaderValue>,
    client: Client<HttpsConnector<HttpConnector>, Full<bytes::Bytes>>,
    budget: Budget,
    trouble: Mutex<Option<Trouble>>,
}

/// What a gate is opened for.
pub(in crate::git) struct Opening<'a> {
    /// Only its scheme, host and port count.
    pub origin: &'a Url,
    /// The `Authorization` header to add.
    pub authorization: Option<String>,
    /// PEM certificates to trust instead of the system's.
    pub ca_bundle: Option<&'a str>,
    /// Bytes that all answers together may have.
    pub transfer_bytes: u64,
}

impl Gate {
    /// Opens a gate.
    pub(in crate::git) fn open(opening: Opening<'_>) -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let authorization =
            opening.authorization.map(HeaderValue::try_from).transpose().map_err(io::Error::other)?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(trust(opening.ca_bundle)?)
            .https_only()
            .enable_http1()
            .build();
        let passage = Arc::new(Passage {
            origin: opening.origin.clone(),
            token: random_token()?,
            authorization,
            client: Client::builder(TokioExecutor::new()).build(connector),
            budget: Budget::new(opening.transfer_bytes),
            trouble: Mutex::new(None),
        });
        let listener = runtime.block_on(tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let router = Router::new().fallback(pass).with_state(Arc::clone(&passage));
        runtime.spawn(async move { axum::serve(listener, router).await });
        Ok(Self { address, passage, _runtime: runtime })
    }

    /// Where libgit2 finds the repository.
    pub(in crate::git) fn url(&self, path: &str) -> String {
        format!("http://{}/{}{path}", self.address, self.passage.token)
    }

    /// What went wrong since this was asked last.
    pub(in crate::git) fn take_trouble(&self) -> Option<Trouble> {
        self.passage.trouble.lock().take()
    }
}

async fn pass(State(passage): State<Arc<Passage>>, request: Request) -> Response<Body> {
    match Arc::clone(&passage).forward(request).await {
        Ok(response) => response,
        Err(trouble) => {
            *passage.trouble.lock() = Some(trouble);
            empty(StatusCode::BAD_GATEWAY)
        }
    }
}

impl Passage {
    async fn forward(self: Arc<Self>, request: Request) -> Result<Response<Body>, Trouble> {
        let (head, body) = request.into_parts();
        let path = head.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
        let Some(path) = path.strip_prefix('/').and_then(|path| path.strip_prefix(self.token.as_str()))
        else {
            return Ok(empty(StatusCode::NOT_FOUND));
        };
        let body = Limited::new(body, REQUEST_BYTES).collect().await.map_err(|error| unreachable(&*error))?;
        let mut onward = http::Request::new(Full::new(body.to_bytes()));
        *onward.method_mut() = head.method;
        *onward.uri_mut() = self.uri(path).map_err(|error| unreachable(&error))?;
        copy_headers(&head.headers, onward.headers_mut());
        if let Some(authorization) = &self.authorization {
            onward.headers_mut().insert(AUTHORIZATION, authorization.clone());
        }
        let answer = self.client.request(onward).await.map_err(|error| classify(&error))?;
        self.back(path, answer)
    }

    /// Lets an answer through: content, or a redirect that stays within the origin.
    fn back(
        self: Arc<Self>,
        path: &str,
        answer: Response<hyper::body::Incoming>,
    ) -> Result<Response<Body>, Trouble> {
        let status = answer.status();
        if status.is_redirection() {
            let location =
                answer.headers().get(LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let mut response = empty(status);
            response.headers_mut().insert(LOCATION, self.redirect(path, location)?);
            return Ok(response);
        }
        if !status.is_success() {
            return Err(Trouble::Status(status));
        }
        let content_type = answer.headers().get(CONTENT_TYPE).cloned();
        let pieces = answer.into_body().into_data_stream().map(move |piece| self.count(piece));
        let mut response = Response::new(Body::from_stream(pieces));
        if let Some(value) = content_type {
            response.headers_mut().insert(CONTENT_TYPE, value);
        }
        Ok(response)
    }

    /// Lets a piece of an answer through, if there is room for it. What breaks the answer off is noted first.
    fn count(&self, piece: hyper::Result<bytes::Bytes>) -> io::Result<bytes::Bytes> {
        let counted = match piece {
            Ok(bytes) => self.budget.take(bytes.len()).map(|()| bytes),
            Err(error) => Err(unreachable(&error)),
        };
        counted.map_err(|trouble| {
            *self.trouble.lock() = Some(trouble);
            io::ErrorKind::ConnectionAborted.into()
        })
    }

    fn uri(&self, path: &str) -> Result<Uri, http::Error> {
        let (host, port) = (self.origin.host_str().unwrap_or_default(), self.origin.port_or_known_default());
        let authority = port.map_or(host.to_owned(), |port| format!("{host}:{port}"));
        Uri::builder().scheme("https").authority(authority).path_and_query(path).build()
    }

    /// The path behind the gate for a redirect within the origin.
    fn redirect(&self, path: &str, location: &str) -> Result<HeaderValue, Trouble> {
        let target = self.origin.join(path).and_then(|here| here.join(location));
        let target = target.map_err(|error| Trouble::Unreachable(format!("redirect: {error}")))?;
        let origin = target.origin();
        if origin != self.origin.origin() {
            return Err(Trouble::Elsewhere(origin.ascii_serialization()));
        }
        let query = target.query().map(|query| format!("?{query}")).unwrap_or_default();
        HeaderValue::try_from(format!("/{}{}{query}", self.token, target.path()))
            .map_err(|error| unreachable(&error))
    }
}

fn trust(ca_bundle: Option<&str>) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificates = match ca_bundle {
        Some(pem) => CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| io::Error::other(format!("ca bundle: {error}")))?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    roots.add_parsable_certificates(certificates);
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn copy_headers(from: &HeaderMap, to: &mut HeaderMap) {
    for name in REQUEST_HEADERS {
        if let Some(value) = from.get(&name) {
            to.insert(name, value.clone());
        }
    }
}

/// The innermost cause says most: `connection refused` rather than `client error`.
fn classify(error: &legacy::Error) -> Trouble {
    let cause = innermost(error);
    match cause.downcast_ref() {
        Some(rustls::Error::InvalidCertificate(problem)) => Trouble::Untrusted(distrust(problem)),
        _ => Trouble::Unreachable(cause.to_string()),
    }
}

/// What is wrong with a certificate, with what mends it where that is not at the server.
fn distrust(problem: &CertificateError) -> String {
    match problem {
        // The second if there is another of the same name.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "it is not signed by an authority that is trusted here; put the one that signed it into ca.crt of the Secret"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { .. } => format!("{problem}; use such a name in the url"),
        other => other.to_string(),
    }
}

fn unreachable(error: &(dyn StdError + 'static)) -> Trouble {
    Trouble::Unreachable(innermost(error).to_string())
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;

    /// A gate to a port where nobody listens.
    fn gate(origin: &str) -> Gate {
        let origin = &Url::parse(origin).unwrap();
        Gate::open(Opening { origin, authorization: None, ca_bundle: Some(""), transfer_bytes: 10 }).unwrap()
    }

    fn status(gate: &Gate, path: &str) -> String {
        let mut stream = TcpStream::connect(gate.address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.lines().next().unwrap().to_owned()
    }

    #[test]
    fn opens_only_with_its_token() {
        let gate = gate("https://127.0.0.1:1/x");
        assert_eq!(status(&gate, "/x"), "HTTP/1.1 404 Not Found");
        assert_eq!(gate.take_trouble(), None, "nothing was tried");
        let with_token =
            gate.url("/x").split_once("127.0.0.1:").unwrap().1.split_once('/').unwrap().1.to_owned();
        assert_eq!(status(&gate, &format!("/{with_token}")), "HTTP/1.1 502 Bad Gateway");
        assert!(matches!(gate.take_trouble(), Some(Trouble::Unreachable(_))));
    }

    #[test]
    fn all_answers_together_are_bounded() {
        let gate = gate("https://127.0.0.1:1/x");
        let piece = |length: usize| gate.passage.count(Ok(bytes::Bytes::from(vec![0; length])));
        assert_eq!(piece(6).unwrap().len(), 6);
        assert_eq!(gate.take_trouble(), None);
        assert!(piece(5).is_err(), "of another answer");
        assert_eq!(gate.take_trouble(), Some(Trouble::TooLarge(10)));
        assert!(piece(1).is_err(), "it stays so");
        assert_eq!(gate.take_trouble(), Some(Trouble::TooLarge(10)));
    }

    #[test]
    fn keeps_redirects_within_the_origin() {
        let gate = gate("https://git.example.com/old.git");
        let passage = &gate.passage;
        let redirect = |location| passage.redirect("/old.git/info/refs?service=x", location);
        let inside =
            HeaderValue::try_from(format!("/{}/new.git/info/refs?service=x", passage.token)).unwrap();
        for location in [
            "/new.git/info/refs?service=x",
            "../../new.git/info/refs?service=x",
            "https://git.example.com/new.git/info/refs?service=x",
            "https://git.example.com:443/new.git/info/refs?service=x",
        ] {
            assert_eq!(redirect(location), Ok(inside.clone()), "{location}");
        }
        for (location, origin) in [
            ("https://git.example.com:8443/x", "https://git.example.com:8443"),
            ("http://git.example.com/x", "http://git.example.com"),
            ("//evil.example/x", "https://evil.example"),
            ("https://git.example.com@evil.example/x", "https://evil.example"),
            ("https://git.example.com.evil.example/x", "https://git.example.com.evil.example"),
        ] {
            assert_eq!(redirect(location), Err(Trouble::Elsewhere(origin.into())), "{location}");
        }
    }
}
