//! The tower service: authenticates a request, finds out what it is for, has it answered, and writes the
//! answer. Failures become `Status` bodies here and nowhere else.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::Stream;
use http::{HeaderMap, Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited, StreamBody};
use serde_json::Value;

use super::access::{attributes, authorize};
use super::error::{ApiError, ApiResult};
use super::handler;
use super::impersonate;
use super::list::Selection;
use super::media::Accept;
use super::nonresource;
use super::query::{ListOptions, Query};
use super::rbac::Attributes;
use super::registry::Registry;
use super::route::{Asked, Target, read, resolve};
use super::user::User;
use super::{ApiServer, Shared};

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

/// The real server's limit of a request's body.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// The API as a service, with or without a known user.
#[derive(Clone)]
pub struct ApiService {
    server: ApiServer,
    user: Option<User>,
}

/// A request whose body has been read.
pub struct Call {
    /// Who asks, after impersonation.
    pub user: User,
    /// How.
    pub method: Method,
    /// For what path.
    pub path: String,
    /// With which parameters.
    pub query: Query,
    /// With which headers.
    pub headers: HeaderMap,
    /// With which body.
    pub body: Bytes,
    /// In which form to answer.
    pub accept: Accept,
}

/// An answer before it is written.
pub enum Answer {
    /// A JSON document.
    Json(u16, Value),
    /// A JSON document in another media type.
    Typed(Value, &'static str),
    /// A plain text.
    Text(u16, String),
    /// Bytes in a media type, perhaps compressed with gzip.
    Raw(Vec<u8>, &'static str, bool),
    /// A stream of bytes in a media type.
    Stream(Pin<Box<dyn Stream<Item = Bytes> + Send>>, &'static str),
}

/// An answer with the warnings that go with it.
pub struct Reply {
    /// The answer.
    pub answer: Answer,
    /// Texts for `Warning` headers.
    pub warnings: Vec<String>,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, warnings: Vec::new() }
    }
}

impl ApiService {
    /// A service whose requests all come from one user.
    pub(super) fn authenticated(server: ApiServer, user: User) -> Self {
        Self { server, user: Some(user) }
    }

    /// A service whose requests authenticate by bearer token.
    pub(super) fn by_token(server: ApiServer) -> Self {
        Self { server, user: None }
    }

    async fn respond<B>(self, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        match self.answer(request).await {
            Ok(reply) => write(reply),
            Err(error) if error.reason.is_empty() && error.code == 404 => {
                write(Answer::Text(error.code, error.message).into())
            }
            Err(error) => {
                let mut response = write(Answer::Json(error.code, error.status()).into());
                if matches!(error.code, 429 | 504) {
                    response.headers_mut().insert(header::RETRY_AFTER, http::HeaderValue::from_static("1"));
                }
                response
            }
        }
    }

    async fn answer<B>(self, request: Request<B>) -> ApiResult<Reply>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let (parts, body) = request.into_parts();
        let body = Limited::new(body, BODY_LIMIT).collect().await;
        let body = body
            .map_err(|error| ApiError::bad_request(format!("failed to read the body: {error}")))?
            .to_bytes();
        let user = self.authenticate(&parts.headers)?;
        let shared = &self.server.shared;
        let user = impersonate::effective(&shared.state.lock(), user, &parts.headers)?;
        let query = Query::parse(parts.uri.query().unwrap_or_default());
        let path = parts.uri.path().to_owned();
        let target = route_and_authorize(shared, &user, &parts.method, &path, &query)?;
        let accept = Accept::parse(&parts.headers, matches!(target, Target::Path))?;
        let call = Call { user, method: parts.method, path, query, headers: parts.headers, body, accept };
        match target {
            Target::Path => nonresource::answer(shared, &call),
            Target::Resource(request) => handler::answer(shared, &call, &request),
        }
    }

    fn authenticate(&self, headers: &HeaderMap) -> ApiResult<User> {
        if let Some(user) = &self.user {
            return Ok(user.clone());
        }
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let groups = vec!["system:unauthenticated".to_owned()];
            return Ok(User { name: "system:anonymous".into(), groups });
        };
        let token = value.to_str().ok().and_then(|text| text.strip_prefix("Bearer ")).map(str::trim);
        let user = token.and_then(|token| self.server.shared.tokens.lock().get(token).cloned());
        user.ok_or_else(ApiError::unauthorized)
    }
}

/// Unknown resources are only told to those who may ask for them, as in the real server.
fn route_and_authorize(
    shared: &Shared,
    user: &User,
    method: &Method,
    path: &str,
    query: &Query,
) -> ApiResult<Target> {
    let state = shared.state.lock();
    let Some(asked) = read(method, path, query) else {
        let verb = if method == Method::GET { "get".to_owned() } else { method.as_str().to_lowercase() };
        let attributes = Attributes { verb, path: path.to_owned(), ..Attributes::default() };
        authorize(&state, user, &attributes)?;
        return Ok(Target::Path);
    };
    let name = selected_name(&state.registry, &asked, query);
    authorize(&state, user, &attributes(&asked, name.as_deref()))?;
    resolve(&state.registry, asked).map(Target::Resource)
}

fn selected_name(registry: &Registry, asked: &Asked, query: &Query) -> Option<String> {
    if !matches!(asked.verb, "list" | "watch" | "deletecollection") {
        return None;
    }
    let resource = registry.find(&asked.group, &asked.version, &asked.plural)?;
    let field_selector = query.get("fieldSelector").map(str::to_owned);
    let options = ListOptions { field_selector, ..ListOptions::default() };
    let selection = Selection::parse(resource, None, &options).ok()?;
    selection.name().map(str::to_owned)
}

fn write(reply: Reply) -> Response<Body> {
    let (code, media, gzip, body) = match reply.answer {
        Answer::Json(code, value) => (code, "application/json", false, full(value.to_string().into_bytes())),
        Answer::Text(code, text) => (code, "text/plain; charset=utf-8", false, full(text.into_bytes())),
        Answer::Typed(value, media) => (200, media, false, full(value.to_string().into_bytes())),
        Answer::Raw(bytes, media, gzip) => (200, media, gzip, full(bytes)),
        Answer::Stream(stream, media) => {
            use futures::StreamExt;
            let frames = stream.map(|bytes| Ok(http_body::Frame::data(bytes)));
            (200, media, false, StreamBody::new(frames).boxed_unsync())
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() =
        http::StatusCode::from_u16(code).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    if gzip {
        headers.insert(header::CONTENT_ENCODING, http::HeaderValue::from_static("gzip"));
    }
    for warning in reply.warnings {
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = http::HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            headers.append(header::WARNING, value);
        }
    }
    response
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).boxed_unsync()
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move { Ok(service.respond(request).await) })
    }
}

impl Shared {
    /// The log source, when there is one.
    pub(super) fn log_source(&self) -> Option<Arc<dyn crate::sandbox::logs::LogSource>> {
        self.logs.lock().clone()
    }
}
