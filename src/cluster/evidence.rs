//! Evidence: what a person would look at, read before anything is changed and saved in a `ConfigMap`.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt, StreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::Client;
use kube::api::{Api, ListParams, LogParams, PostParams};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::error::{Error, Result, optional};
use super::objects::MANAGER;
use crate::api::{CollectRunner, Evidence, ObjectReference};

/// The most that one `ConfigMap` may hold, with room for its keys: etcd takes 1.5 MiB.
const LIMIT: usize = 900 * 1024;
/// The most that one entry may hold.
const ENTRY_LIMIT: usize = 100 * 1024;
/// The most that is read of a log, to come to its end: an API server that limits bytes leaves out the end.
const READ_LIMIT: i64 = 32 * 1024 * 1024;
/// What of that is more than one entry holds: the line is in it that the reading cut in two, unless it is very long.
const CUT_LINE: usize = 8 * 1024;
/// Pods that are looked at, at the most.
const PODS: usize = 10;
/// How long one request may take. That a node is dead the API server says after half a minute.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests at a time.
const AT_A_TIME: usize = 4;
/// The longest key that a `ConfigMap` may have.
const LONGEST_KEY: usize = 253;
/// What `kubectl apply` notes: the whole object once more, with the values of a Secret, or those that are left out of it.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// What stands for a value that is left out by its name.
const LEFT_OUT: &str = "(redacted)";
/// Why something is missing.
const LATE: &str = "it was not read in time";
const CANCELED: &str = "the Execution was canceled before it was read";

/// What evidence is about.
pub struct Subject<'a> {
    /// The target.
    pub target: &'a ObjectReference,
    /// The live target, if it exists.
    pub live: Option<&'a Value>,
    /// The target's Pods.
    pub pods: &'a [Pod],
}

/// Leaves out of a text what looks like a secret.
pub type Clean = fn(&str) -> Cow<'_, str>;

/// Within what evidence is read, and what of it is kept.
#[derive(Clone, Copy)]
pub struct Bounds<'a> {
    /// When the reading ends.
    pub until: Instant,
    /// Whether it is still wanted.
    pub is_wanted: &'a (dyn Fn() -> bool + Sync),
    /// What is not kept. It is left out before anything is cut: what is cut in two is not recognized.
    pub clean: Clean,
}

impl Bounds<'_> {
    /// When a request has to be over that begins now; or why none begins any more.
    fn by(self) -> std::result::Result<Instant, &'static str> {
        let now = Instant::now();
        match (self.is_wanted)() {
            false => Err(CANCELED),
            true if now >= self.until => Err(LATE),
            true => Ok(self.until.min(now + PATIENCE)),
        }
    }
}

/// One file of the evidence.
struct File {
    /// What it is about, which is its name.
    of: Vec<String>,
    ending: &'static str,
    text: String,
}

impl File {
    fn new(of: &[&str], ending: &'static str, text: String) -> Self {
        Self { of: of.iter().map(|&part| part.to_owned()).collect(), ending, text }
    }

    /// A key that a `ConfigMap` may have; another for each number.
    fn key(&self, number: usize) -> String {
        let ending = match number {
            1 => format!(".{}", self.ending),
            _ => format!("-{number}.{}", self.ending),
        };
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        let name = self.of.join("-").to_lowercase();
        let name: String = name.chars().map(|c| if is_allowed(c) { c } else { '-' }).collect();
        // The end of a name tells most: a Pod's own part, the container.
        let name = &name[name.len().saturating_sub(LONGEST_KEY - ending.len())..];
        // A key may not begin with two of them.
        format!("{}{ending}", name.trim_start_matches('.'))
    }
}

/// The files by their keys. The later of two that are about the same takes the other's place; where only the keys are the
/// same, the later gets a number.
fn by_key(files: Vec<File>) -> BTreeMap<String, String> {
    let mut found: BTreeMap<String, File> = BTreeMap::new();
    for file in files {
        let (mut number, mut key) = (1, file.key(1));
        while found.get(&key).is_some_and(|other| other.of != file.of) {
            number += 1;
            key = file.key(number);
        }
        found.insert(key, file);
    }
    found.into_iter().map(|(key, file)| (key, file.text)).collect()
}

/// Reads the evidence. What cannot be read, or not in time, is said in its place.
pub async fn collect(
    client: &Client,
    runner: &CollectRunner,
    subject: &Subject<'_>,
    bounds: Bounds<'_>,
) -> BTreeMap<String, String> {
    let mut files = Vec::new();
    let wants = |evidence| runner.include.contains(&evidence);
    if wants(Evidence::Describe) {
        if let Some(live) = subject.live {
            let of = [subject.target.kind.as_str(), &subject.target.name];
            files.push(File::new(&of, "yaml", yaml(live, bounds.clean)));
        }
        for pod in subject.pods.iter().take(PODS) {
            files.push(File::new(&["Pod", name(pod)], "yaml", yaml(pod, bounds.clean)));
        }
    }
    if wants(Evidence::Events) {
        files.push(File::new(&["events"], "txt", events(client, subject, bounds).await));
    }
    if wants(Evidence::Logs) {
        let logs: Vec<Log> = subject.pods.iter().take(PODS).flat_map(logs_of).collect();
        let asked: Vec<_> = logs.iter().map(|log| log.read(client, runner.tail_lines, bounds)).collect();
        let read: Vec<File> = stream::iter(asked).buffered(AT_A_TIME).collect().await;
        files.extend(read);
    }
    bounded(by_key(files))
}

/// The log of one instance of a container.
struct Log {
    namespace: String,
    pod: String,
    container: String,
    previous: bool,
}

fn logs_of(pod: &Pod) -> Vec<Log> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let mut logs = Vec::new();
    for container in statuses.into_iter().flatten() {
        for previous in [false, true] {
            if previous && container.restart_count == 0 {
                continue;
            }
            logs.push(Log {
                namespace: pod.metadata.namespace.clone().unwrap_or_default(),
                pod: name(pod).to_owned(),
                container: container.name.clone(),
                previous,
            });
        }
    }
    logs
}

impl Log {
    async fn read(&self, client: &Client, tail_lines: i32, bounds: Bounds<'_>) -> File {
        let text = match bounds.by() {
            Ok(until) => self.text(client, tail_lines, until).await,
            Err(why) => format!("not readable: {why}"),
        };
        let which = if self.previous { "previous" } else { "current" };
        let text = (bounds.clean)(&with_begin(&text)).into_owned();
        File::new(&[&self.pod, &self.container, which], "log", text)
    }

    async fn text(&self, client: &Client, tail_lines: i32, until: Instant) -> String {
        let api: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let params = LogParams {
            container: Some(self.container.clone()),
            previous: self.previous,
            tail_lines: Some(i64::from(tail_lines)),
            limit_bytes: Some(READ_LIMIT),
            ..LogParams::default()
        };
        match timeout_at(until, api.log_stream(&self.pod, &params)).await {
            Ok(Ok(log)) => end_of(log, until).await,
            Ok(Err(error)) => format!("not readable: {error}"),
            Err(_) => format!("not readable: {LATE}"),
        }
    }
}

/// The same text; where it begins in the middle of a private key, with a line that says so. A log is read from its end, and
/// without the beginning nothing says what the rest is.
fn with_begin(text: &str) -> Cow<'_, str> {
    let (before, _) = text.split_once("PRIVATE KEY-----").unwrap_or_default();
    let is_rest = before.rfind("-----").is_some_and(|mark| before[mark..].starts_with("-----END "));
    match is_rest {
        true => Cow::Owned(format!("-----BEGIN PRIVATE KEY-----\n{text}")),
        false => Cow::Borrowed(text),
    }
}

/// The end of a log, whatever bytes are in it. No more of it is in memory at any time than twice what is kept.
async fn end_of(log: impl AsyncRead, until: Instant) -> String {
    let mut log = std::pin::pin!(log);
    let (mut end, mut chunk, mut is_cut) = (Vec::new(), vec![0; 16 * 1024], false);
    let broken = loop {
        match timeout_at(until, log.read(&mut chunk)).await {
            Ok(Ok(0)) => break None,
            Ok(Ok(read)) => end.extend_from_slice(&chunk[..read]),
            Ok(Err(error)) => break Some(error.to_string()),
            Err(_) => break Some(LATE.to_owned()),
        }
        if end.len() > 2 * ENTRY_LIMIT {
            end.drain(..end.len() - ENTRY_LIMIT - CUT_LINE);
            is_cut = true;
        }
    };
    // What is left of a line that was cut in two, in which a secret would not be recognized; or at least of a character.
    let line = end.iter().take(CUT_LINE).position(|byte| is_cut && *byte == b'\n').map(|at| at + 1);
    let character = end.iter().take(3).take_while(|byte| is_cut && **byte & 0xc0 == 0x80).count();
    let begin = line.unwrap_or(character);
    let text = String::from_utf8_lossy(&end[begin..]);
    match broken {
        None => text.into_owned(),
        Some(error) => format!("{text}\nnot readable further: {error}"),
    }
}

async fn events(client: &Client, subject: &Subject<'_>, bounds: Bounds<'_>) -> String {
    let api: Api<Event> = match &subject.target.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let names = std::iter::once((subject.target.kind.as_str(), subject.target.name.as_str()))
        .chain(subject.pods.iter().take(PODS).map(|pod| ("Pod", name(pod))));
    let asked: Vec<_> = names.map(|of| events_of(&api, of, bounds)).collect();
    let read: Vec<Vec<String>> = stream::iter(asked).buffered(AT_A_TIME).collect().await;
    let mut lines = read.concat();
    lines.sort();
    lines.join("\n")
}

async fn events_of(api: &Api<Event>, (kind, name): (&str, &str), bounds: Bounds<'_>) -> Vec<String> {
    let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
    let params = ListParams::default().fields(&selector).limit(100);
    let answer = match bounds.by() {
        Ok(until) => timeout_at(until, api.list(&params)).await.map_err(|_| LATE),
        Err(why) => Err(why),
    };
    let lines = match answer {
        Ok(Ok(events)) => events.items.iter().map(line).collect(),
        Ok(Err(error)) => vec![format!("events of {kind}/{name} are not readable: {error}")],
        Err(why) => vec![format!("events of {kind}/{name} are not readable: {why}")],
    };
    lines.iter().map(|line| (bounds.clean)(line).into_owned()).collect()
}

fn line(event: &Event) -> String {
    let time = event
        .last_timestamp
        .as_ref()
        .map(|t| t.0)
        .or_else(|| event.event_time.as_ref().map(|t| t.0))
        .or_else(|| event.metadata.creation_timestamp.as_ref().map(|t| t.0));
    format!(
        "{} {} {} {}/{} {}",
        time.map(|t| t.to_string()).unwrap_or_default(),
        event.type_.as_deref().unwrap_or_default(),
        event.reason.as_deref().unwrap_or_default(),
        event.involved_object.kind.as_deref().unwrap_or_default(),
        event.involved_object.name.as_deref().unwrap_or_default(),
        event.message.as_deref().unwrap_or_default(),
    )
}

/// Writes the evidence of an Execution of this UID, once: a second attempt finds the first one's.
pub async fn save(client: &Client, map: &ConfigMap, uid: &str) -> Result<()> {
    let namespace = map.metadata.namespace.as_deref().unwrap_or_default();
    let name = map.metadata.name.as_deref().unwrap_or_default();
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
    let created = api.create(&params, map).await;
    if matches!(&created, Err(kube::Error::Api(status)) if status.code == 409)
        && is_saved(client, (namespace, name), uid).await?
    {
        return Ok(());
    }
    created.map(drop).map_err(Error::request(format!("create ConfigMap {name}")))
}

/// Whether the evidence of an Execution of this UID is saved.
///
/// # Errors
/// [`Error::Unexpected`], if its place was taken by somebody: whoever knows the UID knows the name.
pub async fn is_saved(client: &Client, (namespace, name): (&str, &str), uid: &str) -> Result<bool> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found =
        optional(api.get_metadata(name).await).map_err(Error::request(format!("read ConfigMap {name}")))?;
    let Some(found) = found else { return Ok(false) };
    match found.metadata.owner_references.iter().flatten().any(|owner| owner.uid == uid) {
        true => Ok(true),
        false => Err(Error::Unexpected(format!("a ConfigMap {name} exists that belongs to someone else"))),
    }
}

/// The Pods of a target: those that its selector finds, or the Pod itself; not those that are being deleted.
pub async fn pods_of(client: &Client, target: &ObjectReference, live: Option<&Value>) -> Result<Vec<Pod>> {
    let Some(namespace) = &target.namespace else { return Ok(Vec::new()) };
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let action = || format!("read the Pods of {target}");
    if target.kind == "Pod" && target.group().is_empty() {
        let found = optional(api.get(&target.name).await).map_err(Error::request(action()))?;
        return Ok(found.into_iter().filter(is_current).collect());
    }
    let Some(selector) = live.and_then(selector_of) else { return Ok(Vec::new()) };
    let pods = api.list(&ListParams::default().labels(&selector)).await.map_err(Error::request(action()))?;
    Ok(pods.items.into_iter().filter(is_current).collect())
}

/// Whether an object is a Pod or selects Pods.
pub fn has_pods(target: &ObjectReference, live: Option<&Value>) -> bool {
    let is_pod = target.kind == "Pod" && target.group().is_empty();
    is_pod || live.and_then(selector_of).is_some()
}

fn is_current(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none()
}

fn selector_of(live: &Value) -> Option<String> {
    let selector = serde_json::from_value::<k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector>(
        live.pointer("/spec/selector")?.clone(),
    );
    let selector: kube::core::Selector = selector.ok()?.try_into().ok()?;
    (!selector.selects_all()).then(|| selector.to_string())
}

fn yaml(object: &impl serde::Serialize, clean: Clean) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let is_secret = value["kind"] == "Secret" && value["apiVersion"] == "v1";
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if is_secret {
            metadata.remove("annotations");
        }
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(LAST_APPLIED);
        }
    }
    // Evidence is a ConfigMap, which more people may read than Secrets.
    if let Some(members) = value.as_object_mut().filter(|_| is_secret) {
        members.retain(|key, _| !matches!(key.as_str(), "data" | "stringData"));
    }
    leave_out_secrets(&mut value, "", clean);
    serde_saphyr::to_string(&value).unwrap_or_else(|error| error.to_string())
}

/// Leaves out of an object what looks like a secret, by itself or by its name. The object's text would not do: what is below
/// `secret:` in it, in the next line, is the name of a volume's Secret.
fn leave_out_secrets(value: &mut Value, name: &str, clean: Clean) {
    match value {
        Value::Object(fields) => {
            // What lists of variables are made of.
            let pair = ["name", "key"].iter().find_map(|field| fields.get(*field)?.as_str());
            let pair = pair.map(str::to_owned);
            for (field, value) in fields.iter_mut() {
                let name = pair.as_deref().filter(|_| field == "value").unwrap_or(field);
                leave_out_secrets(value, name, clean);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| leave_out_secrets(item, "", clean)),
        Value::String(text) if text.is_empty() => {}
        Value::String(_) | Value::Number(_) if names_secret(name, clean) => *value = LEFT_OUT.into(),
        Value::String(text) => *text = clean(text).into_owned(),
        Value::Number(_) | Value::Bool(_) | Value::Null => {}
    }
}

/// Whether something of this name is left out of a text, whatever it is.
fn names_secret(name: &str, clean: Clean) -> bool {
    let line = format!("{name}: x");
    *clean(&line) != *line
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

/// Cuts what is too long at its front: the end of a log tells most.
fn bounded(found: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut left = LIMIT;
    let cut = |text: String, limit: usize| {
        let from = text.len().saturating_sub(limit);
        let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
        text[from..].to_owned()
    };
    found
        .into_iter()
        .map(|(name, text)| {
            let text = cut(text, ENTRY_LIMIT.min(left));
            left -= text.len();
            (name, text)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll};

    use futures::FutureExt as _;
    use http::{Request, Response};
    use kube::client::Body;
    use parking_lot::Mutex;
    use serde_json::json;

    use super::*;
    use crate::text::without_secrets;

    /// An API server that gives every log but those of Pods whose node is dead, and the Events. It notes what it is asked.
    fn server(log: &'static str) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let noted = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let path = request.uri().path();
            noted.lock().push(path.to_owned());
            if path.contains("/pods/dead") {
                return std::future::pending().right_future();
            }
            let events = json!({"metadata": {}, "items": [{"metadata": {"name": "e", "namespace": "a"},
                "involvedObject": {"kind": "Crawler", "name": "c"}, "reason": "Refused",
                "message": "401 for token=canary"}]});
            let answer = if path.ends_with("/log") { log.to_owned() } else { events.to_string() };
            let answer = Response::new(Body::from(answer.into_bytes()));
            std::future::ready(Ok::<_, kube::Error>(answer)).left_future()
        });
        (Client::new(service, "a"), asked)
    }

    fn pod(name: &str) -> Pod {
        let status = json!({"name": "main", "ready": true, "restartCount": 1, "image": "i", "imageID": "i"});
        let pod =
            json!({"metadata": {"name": name, "namespace": "a"}, "status": {"containerStatuses": [status]}});
        serde_json::from_value(pod).expect("a Pod")
    }

    fn later(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    /// What is collected of so many Pods on a dead node and one on a node that lives, for how long it took, and the number
    /// of logs that were asked for.
    async fn logs(dead: usize, bounds: Bounds<'_>) -> (BTreeMap<String, String>, u64, usize) {
        let (client, asked) = server("alive");
        let pods: Vec<_> = (0..dead).map(|n| pod(&format!("dead-{n}"))).chain([pod("well")]).collect();
        let target = ObjectReference::default();
        let subject = Subject { target: &target, live: None, pods: &pods };
        let runner = CollectRunner { include: vec![Evidence::Logs], tail_lines: 9 };
        let began = Instant::now();
        let found = collect(&client, &runner, &subject, bounds).await;
        let asked = asked.lock().len();
        (found, began.elapsed().as_secs(), asked)
    }

    #[tokio::test(start_paused = true)]
    async fn a_dead_node_does_not_hold_up_the_remedy() {
        for (left, expected) in [(3600, (40, 18)), (15, (15, 8)), (0, (0, 0))] {
            let bounds = Bounds { until: later(left), is_wanted: &|| true, clean: without_secrets };
            let (found, took, asked) = logs(8, bounds).await;
            assert_eq!((took, asked), expected, "{left} seconds are left");
            assert_eq!(found.len(), 18, "all of them are told of: {:?}", found.keys());
            let late = "not readable: it was not read in time";
            for (name, text) in &found {
                let is_read = left == 3600 && name.starts_with("well");
                assert_eq!(text, if is_read { "alive" } else { late }, "{name}, {left} seconds are left");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_canceled_is_read_no_further() {
        let began = Instant::now();
        let is_wanted = || began.elapsed() < Duration::from_secs(5);
        let bounds = Bounds { until: later(3600), is_wanted: &is_wanted, clean: without_secrets };
        let (found, took, asked) = logs(8, bounds).await;
        assert_eq!((found.len(), took, asked), (18, 10, 4));
        assert!(found["well-main-current.log"].contains("was canceled before it was read"), "{found:?}");
    }

    struct Stuck;

    impl AsyncRead for Stuck {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut [u8],
        ) -> Poll<std::io::Result<usize>> {
            Poll::Pending
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_read_of_a_log_in_time_is_kept() {
        let log = AsyncReadExt::chain(&b"before"[..], Stuck);
        assert_eq!(end_of(log, later(10)).await, "before\nnot readable further: it was not read in time");
    }

    #[tokio::test(start_paused = true)]
    async fn what_looks_like_a_secret_is_no_evidence() {
        let live = json!({"apiVersion": "example.com/v1", "kind": "Crawler",
            "metadata": {"name": "c", "annotations": {LAST_APPLIED: "{canary}", "team": "a"}},
            "spec": {"password": "canary canary", "pin": {"token": 31_415_926}, "args": ["--api-key=canary"],
                "env": [{"name": "DB_PASSWORD", "value": "canary"}, {"name": "MODE", "value": "fast"}],
                "volumes": [{"secret": {"secretName": "db"}},
                    {"projected": {"sources": [{"serviceAccountToken": {"expirationSeconds": 3607}}]}}]}});
        let (client, _) = server("canary\n-----END RSA PRIVATE KEY-----\nready, password=canary\n");
        let target =
            ObjectReference { kind: "Crawler".into(), name: "c".into(), ..ObjectReference::default() };
        let pods = [pod("web")];
        let subject = Subject { target: &target, live: Some(&live), pods: &pods };
        let include = vec![Evidence::Describe, Evidence::Events, Evidence::Logs];
        let bounds = Bounds { until: later(60), is_wanted: &|| true, clean: without_secrets };
        let runner = CollectRunner { include, tail_lines: 9 };
        let found = collect(&client, &runner, &subject, bounds).await;
        for (name, text) in &found {
            assert!(!text.contains("canary") && !text.contains("31415926"), "{name}: {text}");
        }
        for (file, stays) in [
            ("crawler-c.yaml", &["team: a", "fast", "secretName: db", "expirationSeconds: 3607"][..]),
            ("events.txt", &["Refused Crawler/c 401 for token=(redacted)"]),
            ("web-main-current.log", &["ready, password=(redacted)"]),
        ] {
            let text = &found[file];
            assert!(stays.iter().all(|part| text.contains(part)), "{file}: {text}");
        }
    }

    #[test]
    fn every_name_becomes_a_key_and_no_two_the_same() {
        let of = [
            &["ClusterRole", "system:x"][..],
            &["ClusterRole", "system-x"],
            &["ClusterRole", "system/x"],
            &["web", "1-app", "current"],
            &["web-1", "app", "current"],
            &["ClusterRole", "system:x"],
            &["..", "ü"],
        ];
        let files = of.iter().enumerate().map(|(at, of)| File::new(of, "yaml", at.to_string())).collect();
        let found: Vec<_> = by_key(files).into_iter().collect();
        let expected = [
            ("--.yaml", "6"),
            ("clusterrole-system-x-2.yaml", "1"),
            ("clusterrole-system-x-3.yaml", "2"),
            ("clusterrole-system-x.yaml", "5"),
            ("web-1-app-current-2.yaml", "4"),
            ("web-1-app-current.yaml", "3"),
        ];
        assert_eq!(found, expected.map(|(key, text)| (key.to_owned(), text.to_owned())));
        let (pod, container) = ("p".repeat(253), "c".repeat(63));
        for number in [1, 100] {
            let key = File::new(&[&pod, &container, "current"], "log", String::new()).key(number);
            assert!(key.len() == LONGEST_KEY && key.contains(&format!("{container}-current")), "{key}");
        }
    }

    #[tokio::test]
    async fn the_end_of_a_long_log_is_kept() {
        let lines: Vec<String> = (0..4000).map(|number| format!("{number} €€€€€€€€€€€€€€€€")).collect();
        let log = format!("{}\nthe reason why it died\n", lines.join("\n"));
        assert!(log.len() > 200_000, "{}", log.len());
        let text = end_of(log.as_bytes(), later(60)).await;
        assert!(log.ends_with(&text) && text.len() >= ENTRY_LIMIT, "{} of {}", text.len(), log.len());
        let found = bounded(BTreeMap::from([("a.log".to_owned(), text)]));
        assert!(
            found["a.log"].len() > ENTRY_LIMIT - 4 && found["a.log"].ends_with("the reason why it died\n")
        );
    }

    #[tokio::test]
    async fn a_byte_that_is_no_text_is_no_reason_to_lose_the_rest() {
        assert_eq!(
            end_of(&b"before\n\xff\xfe\nafter"[..], later(60)).await,
            "before\n\u{fffd}\u{fffd}\nafter"
        );
        assert_eq!(end_of(&b""[..], later(60)).await, "");
    }

    #[test]
    fn the_values_of_a_secret_are_no_evidence() {
        let applied = json!({LAST_APPLIED: "{data: {a: aHVzaA==}}"});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "aHVzaA=="},
            "metadata": {"name": "s", "annotations": applied}});
        let text = yaml(&secret, without_secrets);
        assert!(text.contains("Opaque") && !text.contains("aHVzaA=="), "{text}");
    }
}
