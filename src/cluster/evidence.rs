//! Evidence: what a person would look at, read before anything is changed and saved in a `ConfigMap`.

use std::collections::BTreeMap;

use futures::{AsyncRead, AsyncReadExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use kube::Client;
use kube::api::{Api, ListParams, LogParams, PostParams};
use serde_json::Value;

use super::error::{Error, Result, optional};
use super::objects::MANAGER;
use crate::api::{CollectRunner, Evidence, ObjectReference};

/// The most that one `ConfigMap` may hold, with room for its keys: etcd takes 1.5 MiB.
const LIMIT: usize = 900 * 1024;
/// The most that one entry may hold.
const ENTRY_LIMIT: usize = 100 * 1024;
/// The most that is read of a log, to come to its end: an API server that limits bytes leaves out the end.
const READ_LIMIT: i64 = 32 * 1024 * 1024;
/// Pods that are looked at, at the most.
const PODS: usize = 10;

/// What evidence is about.
pub struct Subject<'a> {
    /// The target.
    pub target: &'a ObjectReference,
    /// The live target, if it exists.
    pub live: Option<&'a Value>,
    /// The target's Pods.
    pub pods: &'a [Pod],
}

/// Reads the evidence. What cannot be read is said in its place.
pub async fn collect(
    client: &Client,
    runner: &CollectRunner,
    subject: &Subject<'_>,
) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let wants = |evidence| runner.include.contains(&evidence);
    if wants(Evidence::Describe) {
        if let Some(live) = subject.live {
            found.insert(
                format!("{}.yaml", file_name(&[&subject.target.kind, &subject.target.name])),
                yaml(live),
            );
        }
        for pod in subject.pods.iter().take(PODS) {
            found.insert(format!("{}.yaml", file_name(&["Pod", name(pod)])), yaml(pod));
        }
    }
    if wants(Evidence::Events) {
        found.insert("events.txt".to_owned(), events(client, subject).await);
    }
    if wants(Evidence::Logs) {
        for pod in subject.pods.iter().take(PODS) {
            found.append(&mut logs(client, pod, runner.tail_lines).await);
        }
    }
    bounded(found)
}

async fn logs(client: &Client, pod: &Pod, tail_lines: i32) -> BTreeMap<String, String> {
    let api: Api<Pod> =
        Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let mut found = BTreeMap::new();
    for container in statuses.into_iter().flatten() {
        for previous in [false, true] {
            if previous && container.restart_count == 0 {
                continue;
            }
            let params = LogParams {
                container: Some(container.name.clone()),
                previous,
                tail_lines: Some(i64::from(tail_lines)),
                limit_bytes: Some(READ_LIMIT),
                ..LogParams::default()
            };
            let text = match api.log_stream(name(pod), &params).await {
                Ok(log) => end_of(log).await,
                Err(error) => format!("not readable: {error}"),
            };
            let which = if previous { "previous" } else { "current" };
            found.insert(format!("{}.log", file_name(&[name(pod), &container.name, which])), text);
        }
    }
    found
}

/// The end of a log, whatever bytes are in it. No more of it is in memory at any time than twice what is kept.
async fn end_of(log: impl AsyncRead) -> String {
    let mut log = std::pin::pin!(log);
    let (mut end, mut chunk, mut is_cut) = (Vec::new(), vec![0; 16 * 1024], false);
    let broken = loop {
        match log.read(&mut chunk).await {
            Ok(0) => break None,
            Ok(read) => end.extend_from_slice(&chunk[..read]),
            Err(error) => break Some(error),
        }
        if end.len() > 2 * ENTRY_LIMIT {
            end.drain(..end.len() - ENTRY_LIMIT);
            is_cut = true;
        }
    };
    // What is left of a character that was cut in two.
    let begin = end.iter().take(3).take_while(|byte| is_cut && **byte & 0xc0 == 0x80).count();
    let text = String::from_utf8_lossy(&end[begin..]);
    match broken {
        None => text.into_owned(),
        Some(error) => format!("{text}\nnot readable further: {error}"),
    }
}

async fn events(client: &Client, subject: &Subject<'_>) -> String {
    let api: Api<Event> = match &subject.target.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let names = std::iter::once((subject.target.kind.as_str(), subject.target.name.as_str()))
        .chain(subject.pods.iter().take(PODS).map(|pod| ("Pod", name(pod))));
    let mut lines = Vec::new();
    for (kind, name) in names {
        let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        match api.list(&ListParams::default().fields(&selector).limit(100)).await {
            Ok(events) => lines.extend(events.items.iter().map(line)),
            Err(error) => lines.push(format!("events of {kind}/{name} are not readable: {error}")),
        }
    }
    lines.sort();
    lines.join("\n")
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

fn yaml(object: &impl serde::Serialize) -> String {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    let is_secret = value["kind"] == "Secret" && value["apiVersion"] == "v1";
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        // What `kubectl apply` notes here has the values of a Secret once more.
        if is_secret {
            metadata.remove("annotations");
        }
    }
    // Evidence is a ConfigMap, which more people may read than Secrets.
    if let Some(members) = value.as_object_mut().filter(|_| is_secret) {
        members.retain(|key, _| !matches!(key.as_str(), "data" | "stringData"));
    }
    serde_saphyr::to_string(&value).unwrap_or_else(|error| error.to_string())
}

fn name(pod: &Pod) -> &str {
    pod.metadata.name.as_deref().unwrap_or_default()
}

fn file_name(parts: &[&str]) -> String {
    parts.join("-").to_lowercase()
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
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn the_end_of_a_long_log_is_kept() {
        let lines: Vec<String> = (0..4000).map(|number| format!("{number} €€€€€€€€€€€€€€€€")).collect();
        let log = format!("{}\nthe reason why it died\n", lines.join("\n"));
        assert!(log.len() > 200_000, "{}", log.len());
        let text = end_of(log.as_bytes()).await;
        assert!(log.ends_with(&text) && text.len() >= ENTRY_LIMIT, "{} of {}", text.len(), log.len());
        let found = bounded(BTreeMap::from([("a.log".to_owned(), text)]));
        assert!(
            found["a.log"].len() > ENTRY_LIMIT - 4 && found["a.log"].ends_with("the reason why it died\n")
        );
    }

    #[tokio::test]
    async fn a_byte_that_is_no_text_is_no_reason_to_lose_the_rest() {
        assert_eq!(end_of(&b"before\n\xff\xfe\nafter"[..]).await, "before\n\u{fffd}\u{fffd}\nafter");
        assert_eq!(end_of(&b""[..]).await, "");
    }

    #[test]
    fn the_values_of_a_secret_are_no_evidence() {
        let applied = json!({"kubectl.kubernetes.io/last-applied-configuration": "{data: {a: aHVzaA==}}"});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": "aHVzaA=="},
            "metadata": {"name": "s", "annotations": applied}});
        let text = yaml(&secret);
        assert!(text.contains("Opaque") && !text.contains("aHVzaA=="), "{text}");
    }
}
