//! Clients over one connection pool: the controller's own, guarded by its lease, and those that act as an account.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, header::HeaderName};
use kube::client::Body;
use kube::{Client, Config};

use super::lease::Guard;
use crate::telemetry::Metrics;

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");

/// Without a byte for so long a connection is taken for dead.
const SILENCE: Duration = Duration::from_secs(110);

/// A request that was not sent.
#[derive(Debug, thiserror::Error)]
#[error("not sent: the lease was not renewed in time, another controller may have taken over")]
struct NotLeader;

/// The client of a configuration. It repeats nothing by itself: what may be repeated is decided where it is known.
pub fn connect(mut config: Config) -> kube::Result<Client> {
    config.default_retry = false;
    // A connection that is half open would hold whoever reads from it for ever. Watches bring a bookmark every minute.
    config.read_timeout = Some(SILENCE);
    Client::try_from(config)
}

/// The same client, whose requests are counted by method and code.
pub fn counted(client: Client, metrics: Arc<Metrics>) -> Client {
    observed(client, metrics, None)
}

/// The same, which sends no request that changes something once the lease is too old. Both in one: a client is a queue
/// with a task of its own, and each that a request goes through costs it a wait.
pub fn guarded(client: Client, metrics: Arc<Metrics>, guard: Arc<Guard>) -> Client {
    observed(client, metrics, Some(guard))
}

fn observed(client: Client, metrics: Arc<Metrics>, guard: Option<Arc<Guard>>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let (client, metrics, guard) = (client.clone(), metrics.clone(), guard.clone());
        async move {
            let method = request.method().clone();
            let reads = matches!(method, Method::GET | Method::HEAD | Method::OPTIONS);
            if !reads && guard.is_some_and(|guard| !guard.holds()) {
                return Err(kube::Error::Service(Box::new(NotLeader)));
            }
            let answer = client.send(request).await;
            metrics.requested(method.as_str(), answer.as_ref().ok().map(|answer| answer.status().as_u16()));
            answer
        }
    });
    Client::new(service, namespace)
}

/// The same client, acting as a user. The API server adds the groups of a `ServiceAccount` by itself.
pub fn acting_as(client: Client, user: HeaderValue, namespace: &str) -> Client {
    let service = tower::service_fn(move |mut request: Request<Body>| {
        request.headers_mut().insert(IMPERSONATE_USER, user.clone());
        let client = client.clone();
        async move { client.send(request).await }
    });
    Client::new(service, namespace.to_owned())
}
