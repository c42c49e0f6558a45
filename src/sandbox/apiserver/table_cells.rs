//! The cells of the built-in kinds that people look at, as the real server prints them.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::meta;
use super::registry::Resource;

/// Whether a kind has cells of its own.
pub fn knows(storage: &str) -> bool {
    let probe = json!({"metadata": {}});
    cells_of(storage, &probe, Timestamp::UNIX_EPOCH).is_some()
}

/// The cells of an object.
pub fn cells(resource: &Resource, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    if resource.storage == "events." && !resource.group.is_empty() {
        return cells_of("events.", &super::events::to_involved(object), now);
    }
    cells_of(&resource.storage, object, now)
}

fn cells_of(storage: &str, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    workload_cells(storage, object, now).or_else(|| other_cells(storage, object, now))
}

fn name_and_age(object: &Value, now: Timestamp) -> (Value, Value) {
    (meta::text(object, "name").into(), age(&object["metadata"]["creationTimestamp"], now))
}

/// What runs containers.
fn workload_cells(storage: &str, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (name, old) = name_and_age(object, now);
    let (spec, status) = (&object["spec"], &object["status"]);
    let (names, images) = containers(&spec["template"]);
    let ready = || Value::from(format!("{}/{}", number(&status["readyReplicas"]), number(&spec["replicas"])));
    let counts =
        |fields: &[&str]| fields.iter().map(|field| number(&status[*field]).into()).collect::<Vec<Value>>();
    Some(match storage {
        "pods." => pod(object, name, old, now),
        "deployments.apps" => {
            let mut cells = vec![name, ready()];
            cells.extend(counts(&["updatedReplicas", "availableReplicas"]));
            cells.extend([old, names, images, selector(spec)]);
            cells
        }
        "replicasets.apps" => {
            let mut cells = vec![name, number(&spec["replicas"]).into()];
            cells.extend(counts(&["replicas", "readyReplicas"]));
            cells.extend([old, names, images, selector(spec)]);
            cells
        }
        "statefulsets.apps" => vec![name, ready(), old, names, images],
        "daemonsets.apps" => {
            let mut cells = vec![name];
            cells.extend(counts(&["desiredNumberScheduled", "currentNumberScheduled", "numberReady"]));
            cells.extend(counts(&["updatedNumberScheduled", "numberAvailable"]));
            cells.extend([
                labels(&spec["template"]["spec"]["nodeSelector"]),
                old,
                names,
                images,
                selector(spec),
            ]);
            cells
        }
        "jobs.batch" => job(object, name, old, now),
        "cronjobs.batch" => cron_job(object, name, old, now),
        _ => return None,
    })
}

/// Everything else.
fn other_cells(storage: &str, object: &Value, now: Timestamp) -> Option<Vec<Value>> {
    let (name, old) = name_and_age(object, now);
    let (spec, status) = (&object["spec"], &object["status"]);
    Some(match storage {
        "events." => event(object, name, now),
        "configmaps." => vec![name, (count(&object["data"]) + count(&object["binaryData"])).into(), old],
        "secrets." => vec![name, text_or(&object["type"], ""), count(&object["data"]).into(), old],
        "namespaces." => vec![name, status["phase"].clone(), old],
        "serviceaccounts." => vec![name, old],
        "leases.coordination.k8s.io" => vec![name, text_or(&spec["holderIdentity"], ""), old],
        "nodes." => node(object, name, old),
        "services." => service(object, name, old),
        "controllerrevisions.apps" => {
            let owners = object["metadata"]["ownerReferences"].as_array().into_iter().flatten();
            let owner = owners.into_iter().find(|owner| owner["controller"] == true).map(owner_text);
            vec![
                name,
                owner.unwrap_or_else(|| "<none>".into()).into(),
                number(&object["revision"]).into(),
                old,
            ]
        }
        "customresourcedefinitions.apiextensions.k8s.io"
        | "clusterroles.rbac.authorization.k8s.io"
        | "roles.rbac.authorization.k8s.io" => vec![name, object["metadata"]["creationTimestamp"].clone()],
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            binding(object, name, old)
        }
        "poddisruptionbudgets.policy" => {
            let [minimum, maximum] =
                ["minAvailable", "maxUnavailable"].map(|field| text_or(&spec[field], "N/A"));
            vec![name, minimum, maximum, number(&status["disruptionsAllowed"]).into(), old]
        }
        "persistentvolumeclaims." => claim(object, name, old),
        _ => return None,
    })
}

fn claim(object: &Value, name: Value, old: Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    vec![
        name,
        text_or(&status["phase"], ""),
        text_or(&spec["volumeName"], ""),
        text_or(&status["capacity"]["storage"], ""),
        joined(&status["accessModes"]).into(),
        text_or(&spec["storageClassName"], ""),
        text_or(&spec["volumeAttributesClassName"], "<unset>"),
        old,
        text_or(&spec["volumeMode"], "<unset>"),
    ]
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or(0)
}

fn count(value: &Value) -> usize {
    value.as_object().map_or(0, Map::len)
}

fn text_or(value: &Value, fallback: &str) -> Value {
    match value {
        Value::Null => fallback.into(),
        Value::String(text) if text.is_empty() => fallback.into(),
        Value::Number(number) => number.to_string().into(),
        other => other.clone(),
    }
}

fn joined(list: &Value) -> String {
    let items: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    items.join(",")
}

fn owner_text(owner: &Value) -> String {
    let text = |field: &str| owner[field].as_str().unwrap_or_default();
    let group = super::registry::split_api_version(text("apiVersion")).0;
    let kind = super::error::qualified(&text("kind").to_lowercase(), group);
    format!("{kind}/{}", text("name"))
}

fn labels(map: &Value) -> Value {
    let terms: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    if terms.is_empty() { "<none>".into() } else { terms.join(",").into() }
}

fn selector(spec: &Value) -> Value {
    labels(&spec["selector"]["matchLabels"])
}

/// The containers' names and images.
fn containers(template: &Value) -> (Value, Value) {
    let list = template["spec"]["containers"].as_array().cloned().unwrap_or_default();
    let all = |field: &str| {
        let items: Vec<&str> = list.iter().filter_map(|container| container[field].as_str()).collect();
        Value::from(items.join(","))
    };
    (all("name"), all("image"))
}

/// The time since, in kubectl's short form.
pub fn age(since: &Value, now: Timestamp) -> Value {
    let Some(since) = since.as_str().and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "<unknown>".into();
    };
    short_duration(now.duration_since(since)).into()
}

/// `HumanDuration`: fewer units the longer it is.
pub fn short_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs();
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let both = |big: i64, big_unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{big_unit}") } else { format!("{big}{big_unit}{small}{small_unit}") }
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => both(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => both(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => both(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 8 * 365 => both(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

fn pod(object: &Value, name: Value, old: Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let statuses = status["containerStatuses"].as_array().map(Vec::as_slice).unwrap_or_default();
    let total = spec["containers"].as_array().map_or(0, Vec::len);
    let ready = statuses.iter().filter(|container| container["ready"] == true).count();
    let restarts: i64 = statuses.iter().map(|container| number(&container["restartCount"])).sum();
    let last = statuses
        .iter()
        .filter_map(|container| container["lastState"]["terminated"]["finishedAt"].as_str())
        .filter_map(|text| text.parse::<Timestamp>().ok())
        .max();
    let restarts = match last.filter(|_| restarts > 0) {
        Some(last) => format!("{restarts} ({} ago)", short_duration(now.duration_since(last))),
        None => restarts.to_string(),
    };
    vec![
        name,
        format!("{ready}/{total}").into(),
        pod_status(object, statuses).into(),
        restarts.into(),
        old,
        text_or(&status["podIP"], "<none>"),
        text_or(&spec["nodeName"], "<none>"),
        text_or(&status["nominatedNodeName"], "<none>"),
        "<none>".into(),
    ]
}

fn pod_status(pod: &Value, statuses: &[Value]) -> String {
    let status = &pod["status"];
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let mut reason = text(&status["reason"]).or_else(|| text(&status["phase"])).unwrap_or_default();
    let mut is_running = false;
    for container in statuses.iter().rev() {
        let state = &container["state"];
        if let Some(waiting) = text(&state["waiting"]["reason"]) {
            reason = waiting;
        } else if state["terminated"].is_object() {
            let ended = &state["terminated"];
            reason = text(&ended["reason"]).unwrap_or_else(|| match number(&ended["signal"]) {
                0 => format!("ExitCode:{}", number(&ended["exitCode"])),
                signal => format!("Signal:{signal}"),
            });
        } else if container["ready"] == true && state["running"].is_object() {
            is_running = true;
        }
    }
    if reason == "Completed" && is_running {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let is_ready = conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
        reason = if is_ready { "Running".into() } else { "NotReady".into() };
    }
    let is_over = matches!(status["phase"].as_str(), Some("Succeeded" | "Failed"));
    if meta::is_deleting(pod) && !is_over { "Terminating".into() } else { reason }
}

fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind && condition["status"] == "True")
}

fn job(object: &Value, name: Value, old: Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let state = if condition(object, "Complete").is_some() {
        "Complete"
    } else if condition(object, "Failed").is_some() {
        "Failed"
    } else if meta::is_deleting(object) {
        "Terminating"
    } else if condition(object, "Suspended").is_some() {
        "Suspended"
    } else if condition(object, "FailureTarget").is_some() {
        "FailureTarget"
    } else if condition(object, "SuccessCriteriaMet").is_some() {
        "SuccessCriteriaMet"
    } else {
        "Running"
    };
    let done = number(&status["succeeded"]);
    let completions = match (spec["completions"].as_i64(), number(&spec["parallelism"])) {
        (Some(wanted), _) => format!("{done}/{wanted}"),
        (None, parallel) if parallel > 1 => format!("{done}/1 of {parallel}"),
        (None, _) => format!("{done}/1"),
    };
    let time = |field: &str| status[field].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let duration = time("startTime").map(|start| {
        let end = time("completionTime").unwrap_or(now);
        short_duration(end.duration_since(start))
    });
    let (names, images) = containers(&spec["template"]);
    vec![
        name,
        state.into(),
        completions.into(),
        duration.unwrap_or_default().into(),
        old,
        names,
        images,
        selector(spec),
    ]
}

fn cron_job(object: &Value, name: Value, old: Value, now: Timestamp) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let last = &status["lastScheduleTime"];
    let last = if last.is_null() { "<none>".into() } else { age(last, now) };
    let suspended = if spec["suspend"] == true { "True" } else { "False" };
    let (names, images) = containers(&spec["jobTemplate"]["spec"]["template"]);
    vec![
        name,
        spec["schedule"].clone(),
        text_or(&spec["timeZone"], "<none>"),
        suspended.into(),
        status["active"].as_array().map_or(0, Vec::len).into(),
        last,
        old,
        names,
        images,
        selector(&spec["jobTemplate"]["spec"]),
    ]
}

fn event(object: &Value, name: Value, now: Timestamp) -> Vec<Value> {
    let first = [&object["firstTimestamp"], &object["eventTime"]].into_iter().find(|time| time.is_string());
    let first = first.unwrap_or(&Value::Null);
    let series = &object["series"]["lastObservedTime"];
    let last = [series, &object["lastTimestamp"]].into_iter().find(|time| time.is_string()).unwrap_or(first);
    let regarding = &object["involvedObject"];
    let kind = regarding["kind"].as_str().unwrap_or_default().to_lowercase();
    let target = match regarding["name"].as_str().filter(|name| !name.is_empty()) {
        Some(name) => format!("{kind}/{name}"),
        None => kind,
    };
    let component =
        text_or(&object["source"]["component"], object["reportingComponent"].as_str().unwrap_or_default());
    let source = match object["source"]["host"].as_str() {
        Some(host) => format!("{}, {host}", component.as_str().unwrap_or_default()).into(),
        None => component,
    };
    let count = object["series"]["count"].as_i64().or(object["count"].as_i64()).unwrap_or(1).max(1);
    let message = object["message"].as_str().unwrap_or_default().trim().to_owned();
    vec![
        age(last, now),
        object["type"].clone(),
        object["reason"].clone(),
        target.into(),
        text_or(&regarding["fieldPath"], ""),
        source,
        message.into(),
        age(first, now),
        count.into(),
        name,
    ]
}

fn node(object: &Value, name: Value, old: Value) -> Vec<Value> {
    let conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
    let mut state = match ready.and_then(|ready| ready["status"].as_str()) {
        Some("True") => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let prefix = "node-role.kubernetes.io/";
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> = labels.filter_map(|(key, _)| key.strip_prefix(prefix)).collect();
    let address = |kind: &str| {
        let addresses = object["status"]["addresses"].as_array().into_iter().flatten();
        let found = addresses.into_iter().find(|address| address["type"] == kind);
        found.map_or_else(|| "<none>".into(), |address| address["address"].clone())
    };
    let info = &object["status"]["nodeInfo"];
    let roles = if roles.is_empty() { "<none>".to_owned() } else { roles.join(",") };
    vec![
        name,
        state.into(),
        roles.into(),
        old,
        text_or(&info["kubeletVersion"], ""),
        address("InternalIP"),
        address("ExternalIP"),
        text_or(&info["osImage"], "<unknown>"),
        text_or(&info["kernelVersion"], "<unknown>"),
        text_or(&info["containerRuntimeVersion"], "<unknown>"),
    ]
}

fn service(object: &Value, name: Value, old: Value) -> Vec<Value> {
    let spec = &object["spec"];
    let ports: Vec<String> = spec["ports"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|port| {
            let protocol = port["protocol"].as_str().unwrap_or("TCP");
            match port["nodePort"].as_i64().filter(|node| *node > 0) {
                Some(node) => format!("{}:{node}/{protocol}", number(&port["port"])),
                None => format!("{}/{protocol}", number(&port["port"])),
            }
        })
        .collect();
    let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
    vec![
        name,
        spec["type"].clone(),
        text_or(&spec["clusterIP"], "<none>"),
        "<none>".into(),
        ports.into(),
        old,
        labels(&spec["selector"]),
    ]
}

fn binding(object: &Value, name: Value, old: Value) -> Vec<Value> {
    let role = &object["roleRef"];
    let role = format!(
        "{}/{}",
        role["kind"].as_str().unwrap_or_default(),
        role["name"].as_str().unwrap_or_default()
    );
    let subjects = |kind: &str| {
        let all = object["subjects"].as_array().into_iter().flatten();
        let names: Vec<String> = all
            .filter(|subject| subject["kind"] == kind)
            .map(|subject| {
                let name = subject["name"].as_str().unwrap_or_default();
                match subject["namespace"].as_str() {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name.to_owned(),
                }
            })
            .collect();
        Value::from(names.join(", "))
    };
    vec![name, role.into(), old, subjects("User"), subjects("Group"), subjects("ServiceAccount")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let cases = [
            (5, "5s"),
            (119, "119s"),
            (120, "2m"),
            (125, "2m5s"),
            (600, "10m"),
            (3 * 3600, "3h"),
            (5 * 3600 + 120, "5h2m"),
            (50 * 3600, "2d2h"),
            (20 * 86_400, "20d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(short_duration(SignedDuration::from_secs(seconds)), expected);
        }
    }

    #[test]
    fn a_crashing_pod_looks_like_one() {
        let pod = json!({"metadata": {"name": "p", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}]},
            "status": {"phase": "Running", "containerStatuses": [{"ready": false, "restartCount": 3,
                "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:01:00Z"}}}]}});
        let now = "2026-01-01T00:01:30Z".parse().unwrap();
        let cells = cells_of("pods.", &pod, now).unwrap();
        assert_eq!(
            cells[1..5],
            [json!("0/1"), json!("CrashLoopBackOff"), json!("3 (30s ago)"), json!("90s")]
        );
    }
}
