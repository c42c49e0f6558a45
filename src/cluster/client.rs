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

#[cfg(test)]
mod tests {
    use http::Response;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;

    /// An API server that notes what it is asked.
    fn server() -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            log.lock().push(request.method().to_string());
            let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ark"}});
            let answer = Response::new(Body::from(map.to_string().into_bytes()));
            async move { Ok::<_, std::convert::Infallible>(answer) }
        });
        (Client::new(service, "a"), asked)
    }

    /// Asks for one of everything; gives the errors.
    async fn ask_all(client: Client) -> Vec<String> {
        let maps: Api<ConfigMap> = Api::namespaced(client, "a");
        let (create, patch) = (PostParams::default(), PatchParams::default());
        let map = ConfigMap::default();
        let answers = [
            maps.get("ark").await.err(),
            maps.create(&create, &map).await.err(),
            maps.patch("ark", &patch, &Patch::Merge(json!({}))).await.err(),
            maps.replace("ark", &create, &ConfigMap { metadata: named("ark"), ..map }).await.err(),
            maps.delete("ark", &DeleteParams::default()).await.err(),
        ];
        answers.into_iter().flatten().map(|error| error.to_string()).collect()
    }

    fn named(name: &str) -> kube::core::ObjectMeta {
        kube::core::ObjectMeta { name: Some(name.into()), ..kube::core::ObjectMeta::default() }
    }

    #[tokio::test]
    async fn nothing_is_changed_once_the_lease_is_too_old() {
        for (age, asked) in [
            (Some(Duration::from_secs(9)), &["GET", "POST", "PATCH", "PUT", "DELETE"][..]),
            (Some(Duration::from_secs(10)), &["GET"]),
            (None, &["GET"]),
        ] {
            let (client, log) = server();
            let guard = Arc::new(age.map_or_else(Guard::default, Guard::aged));
            let refused = ask_all(guarded(client, Arc::default(), guard)).await;
            assert_eq!(*log.lock(), asked, "renewed {age:?} ago");
            assert_eq!(refused.len(), 5 - asked.len(), "{refused:?}");
            assert!(
                refused.iter().all(|error| error.contains("the lease was not renewed in time")),
                "{refused:?}"
            );
        }
    }

    #[tokio::test]
    async fn without_a_guard_all_is_sent() {
        let (client, log) = server();
        assert_eq!(ask_all(counted(client, Arc::default())).await, [""; 0]);
        assert_eq!(log.lock().len(), 5);
    }
}
