//! What a case is written with: requests to one API server, and the transcript of what it answered.

use bytes::Bytes;
use fother::sandbox::apiserver::{ApiServer, User};
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::api::{Api, PostParams};
use kube::client::Body;
use serde_json::{Value, json};

use crate::support::control_plane::ControlPlane;
use crate::support::wait::{DEADLINE, eventually};

use super::normal::{self, Names};

pub const JSON: &str = "application/json";

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: u16,
    /// JSON, a list of the events of a watch, or a text.
    pub body: Value,
    warnings: Vec<String>,
}

impl Answer {
    /// The object's version.
    pub fn version(&self) -> &str {
        self.body["metadata"]["resourceVersion"].as_str().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.body["metadata"]["uid"].as_str().unwrap_or_default()
    }

    /// Where the list goes on.
    pub fn token(&self) -> &str {
        self.body["metadata"]["continue"].as_str().unwrap_or_default()
    }
}

/// One request and its answer, without what differs from run to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    pub request: String,
    pub code: u16,
    pub answer: Value,
}

/// What is behind an API server.
enum Store {
    Sandbox(ApiServer),
    Etcd(&'static ControlPlane),
}

/// A conversation with one API server in a namespace of its own.
pub struct Exchange {
    client: Client,
    store: Store,
    /// Where the case is at home; in texts it is NAMESPACE.
    pub namespace: String,
    names: Names,
    /// Headers of every request: who is impersonated, which form is wanted.
    headers: Vec<(String, String)>,
    /// Whether bookmarks count that only say how far a watch has come.
    with_bookmarks: bool,
    pub steps: Vec<Step>,
}

impl Exchange {
    /// With a fresh in-memory API.
    pub async fn sandbox() -> Self {
        let server = ApiServer::new();
        let client = server.client(&User::admin());
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": "conformance-sandbox"}})).unwrap();
        Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
        Self::new(client, Store::Sandbox(server), "conformance-sandbox".into())
    }

    /// With a real one.
    pub async fn real(plane: &'static ControlPlane) -> Self {
        let namespace = plane.namespace("conformance").await;
        Self::new(plane.admin().client().await, Store::Etcd(plane), namespace)
    }

    fn new(client: Client, store: Store, namespace: String) -> Self {
        let names = Names::new(&namespace);
        Self {
            client,
            store,
            namespace,
            names,
            headers: Vec::new(),
            with_bookmarks: false,
            steps: Vec::new(),
        }
    }

    /// The path of something in the namespace: `configmaps/a`, or `apps/v1/deployments`.
    pub fn path(&self, resource: &str) -> String {
        if resource.starts_with('/') {
            return resource.replace("{ns}", &self.namespace);
        }
        let (base, rest) = match resource.split_once("/v1/") {
            Some((group, rest)) => (format!("/apis/{}/v1", group.replace("{ns}", &self.namespace)), rest),
            None => ("/api/v1".to_owned(), resource),
        };
        format!("{base}/namespaces/{}/{rest}", self.namespace)
    }

    /// From now on, every request carries these headers instead of those set before.
    pub fn with(&mut self, headers: &[(&str, &str)]) {
        let header =
            |(name, value): &(&str, &str)| ((*name).to_owned(), value.replace("{ns}", &self.namespace));
        self.headers = headers.iter().map(header).collect();
    }

    /// From now on, bookmarks are part of what a watch answers, also those that only say how far it has come.
    pub fn with_bookmarks(&mut self) {
        self.with_bookmarks = true;
    }

    pub async fn get(&mut self, resource: &str) -> Answer {
        self.send("GET", resource, JSON, &Value::Null).await
    }

    /// Watches, and creates something once the watch is open, for the ground; what the watch brings is recorded.
    pub async fn watch_while(&mut self, watch: &str, (resource, body): (&str, &Value)) -> Answer {
        let opened = self.open("GET", watch, JSON, &Value::Null).await;
        let headers = std::mem::take(&mut self.headers);
        self.prepare("POST", resource, body).await;
        self.headers = headers;
        let answer = self.heard(opened, true).await;
        self.record(("GET", watch, JSON), &Value::Null, &answer);
        answer
    }

    pub async fn post(&mut self, resource: &str, body: &Value) -> Answer {
        self.send("POST", resource, JSON, body).await
    }

    pub async fn put(&mut self, resource: &str, body: &Value) -> Answer {
        self.send("PUT", resource, JSON, body).await
    }

    pub async fn delete(&mut self, resource: &str, options: &Value) -> Answer {
        self.send("DELETE", resource, JSON, options).await
    }

    pub async fn merge(&mut self, resource: &str, patch: &Value) -> Answer {
        self.send("PATCH", resource, "application/merge-patch+json", patch).await
    }

    /// The next one finds what this one left: an API server tries a patch on what it has in its cache, and though it tries it
    /// again on what is stored, what it warned of stays.
    pub async fn strategic(&mut self, resource: &str, patch: &Value) -> Answer {
        let answer = self.send("PATCH", resource, "application/strategic-merge-patch+json", patch).await;
        // Answered when the cache has it.
        let path = resource.split('?').next().unwrap();
        let cached = format!("{path}?resourceVersion={}", answer.version());
        self.ask("GET", &cached, JSON, &Value::Null).await;
        answer
    }

    pub async fn json_patch(&mut self, resource: &str, patch: &Value) -> Answer {
        self.send("PATCH", resource, "application/json-patch+json", patch).await
    }

    /// Server-side apply by a manager, which may carry further parameters: `alice&force=true`.
    pub async fn apply(&mut self, resource: &str, manager: &str, config: &Value) -> Answer {
        let path = format!("{resource}?fieldManager={manager}");
        self.send("PATCH", &path, "application/apply-patch+yaml", config).await
    }

    /// One request, recorded. A string is sent as it is, anything else as JSON, null as nothing.
    pub async fn send(&mut self, method: &str, resource: &str, media: &str, body: &Value) -> Answer {
        let answer = self.ask(method, resource, media, body).await;
        self.record((method, resource, media), body, &answer);
        answer
    }

    /// One request that only prepares the ground; it must succeed.
    pub async fn prepare(&mut self, method: &str, resource: &str, body: &Value) -> Answer {
        self.quietly(method, resource, JSON, body).await
    }

    /// A merge patch that only prepares the ground.
    pub async fn merge_quietly(&mut self, resource: &str, patch: &Value) -> Answer {
        self.quietly("PATCH", resource, "application/merge-patch+json", patch).await
    }

    /// Such a request of any media type.
    pub async fn quietly(&mut self, method: &str, resource: &str, media: &str, body: &Value) -> Answer {
        let answer = self.ask(method, resource, media, body).await;
        assert!(answer.code < 300, "{method} {resource}: {answer:?}");
        self.names.learn(&answer.body);
        answer
    }

    /// Repeats a POST until the answer is as wanted, for the ground: what a server learns, it may learn late.
    pub async fn until(&self, resource: &str, body: &Value, wanted: impl Fn(&Answer) -> bool) {
        eventually(resource, DEADLINE, || async {
            let answer = self.ask("POST", resource, JSON, body).await;
            if wanted(&answer) { Ok(()) } else { Err(format!("{} {}", answer.code, answer.body)) }
        })
        .await;
    }

    /// Makes the server forget its oldest versions.
    pub async fn forget(&self) {
        match &self.store {
            Store::Sandbox(server) => server.compact(),
            Store::Etcd(plane) => plane.compact().await,
        }
    }

    /// Asks until the answer is as wanted, and records that one.
    pub async fn settled(&mut self, resource: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let answer = self.reached(resource, wanted).await;
        self.record(("GET", resource, JSON), &Value::Null, &answer);
        answer
    }

    /// Asks until the answer is as wanted, for the ground.
    pub async fn reached(&mut self, resource: &str, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let this = &*self;
        eventually(resource, DEADLINE, || async {
            let answer = this.ask("GET", resource, JSON, &Value::Null).await;
            if wanted(&answer) { Ok(answer) } else { Err(format!("{} {}", answer.code, answer.body)) }
        })
        .await
    }

    /// Waits for the end of an object.
    pub async fn gone(&mut self, resource: &str) {
        self.settled(resource, |answer| answer.code == 404).await;
    }

    async fn ask(&self, method: &str, resource: &str, media: &str, body: &Value) -> Answer {
        let response = self.open(method, resource, media, body).await;
        self.heard(response, resource.contains("watch=")).await
    }

    async fn open(&self, method: &str, resource: &str, media: &str, body: &Value) -> Response<Body> {
        let body = match body {
            Value::Null => Vec::new(),
            Value::String(text) => text.clone().into_bytes(),
            other => other.to_string().into_bytes(),
        };
        let text = String::from_utf8(body).unwrap().replace("{ns}", &self.namespace);
        let mut request =
            Request::builder().method(method).uri(self.path(resource)).header("content-type", media);
        request = request.header("user-agent", "conformance/1");
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Body::from(text.into_bytes())).unwrap();
        self.client.send(request).await.unwrap()
    }

    async fn heard(&self, response: Response<Body>, is_watch: bool) -> Answer {
        let (code, warnings) = (response.status().as_u16(), warnings(response.headers()));
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        Answer { code, body: self.read(&bytes, is_watch), warnings }
    }

    fn read(&self, bytes: &Bytes, is_watch: bool) -> Value {
        let text = String::from_utf8_lossy(bytes);
        let lines = || text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>();
        let counts = |event: &Value| self.with_bookmarks || !is_idle(event);
        match lines() {
            // A watch that is refused answers with one Status.
            Ok(events) if is_watch && events.iter().all(|event| event["type"].is_string()) => {
                without_overtaken(events.into_iter().filter(counts))
            }
            _ => serde_json::from_str(&text).unwrap_or_else(|_| Value::String(text.into_owned())),
        }
    }

    fn record(&mut self, (method, resource, media): (&str, &str, &str), body: &Value, answer: &Answer) {
        self.names.learn(&answer.body);
        let kind = media.trim_start_matches("application/").split(['-', '+']).next().unwrap_or_default();
        let headers: Vec<String> =
            self.headers.iter().map(|(name, value)| format!(" [{name}: {value}]")).collect();
        let shown = match (method, body) {
            (_, Value::Null) => String::new(),
            (_, Value::String(text)) => format!(" {text:?}"),
            (_, other) => format!(" {}", normal::with_sorted_managers(other)),
        };
        let method = if method == "PATCH" { format!("PATCH({kind})") } else { method.to_owned() };
        let resource = resource.replace("{ns}", "NAMESPACE");
        let request = format!("{method} {resource}{}{shown}", headers.concat());
        let mut normal = self.names.normal(&answer.body);
        if !answer.warnings.is_empty() {
            let warnings: Vec<String> = answer.warnings.iter().map(|text| self.names.text(text)).collect();
            normal = json!({"warnings": warnings, "body": normal});
        }
        let request = self.names.text(&request);
        self.steps.push(Step { request, code: answer.code, answer: normal });
    }
}

fn warnings(headers: &HeaderMap) -> Vec<String> {
    headers.get_all("warning").iter().map(|value| value.to_str().unwrap_or_default().to_owned()).collect()
}

/// Without the bookmarks after which more was told: how many of them there are, and between which events, hangs on when a
/// real server counts its seconds. Of those at the end it sends one or two.
fn without_overtaken(events: impl Iterator<Item = Value>) -> Value {
    let mut told: Vec<Value> = Vec::new();
    for event in events {
        if told.last().is_some_and(is_idle) {
            told.pop();
        }
        told.push(event);
    }
    Value::Array(told)
}

/// A bookmark that only says how far the watch has come may be sent at any time.
fn is_idle(event: &Value) -> bool {
    event["type"] == "BOOKMARK"
        && event["object"]["metadata"]["annotations"].is_null()
        && event["object"]["rows"][0]["object"]["metadata"]["annotations"].is_null()
}
