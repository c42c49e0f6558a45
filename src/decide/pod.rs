//! The Pod of a Job, beyond what every one has: an Action's own settings, and the overlay that can loosen it.
//!
//! The settings are few and closed: nothing that stands in them can give a Pod more than the restricted Pod security standard
//! allows. Everything else of a Pod's spec is the overlay, which the controller's flag allows or refuses as a whole; what a namespace
//! lets pass is then said by its own Pod Security admission.

use std::path::Component;

use k8s_openapi::DeepMerge;
use k8s_openapi::api::core::v1::PodSpec;
use serde_json::{Map, Value, json};

use super::path::Path;
use super::problem::Problem;
use crate::api::{ActionSpec, FreeForm, PodSettings, Resources, Runner, VolumeMount};

/// The container of an Action.
pub const CONTAINER: &str = "action";
/// What is said of a field of a Pod that an Action may not set.
pub const REFUSED: &str = "field not settable here; the controller's pod policy refuses it";
/// Folders that the Action's own files and the kernel's are in: what is mounted there would hide them.
const TAKEN: [&str; 4] = ["/fother", "/proc", "/sys", "/dev"];

/// What Actions may say about their Pods: the controller's flag.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PodPolicy {
    /// Nothing that loosens them.
    #[default]
    Restricted,
    /// Anything.
    Overlays,
}

impl PodPolicy {
    /// What `--allow-pod-overlays` says.
    pub const fn of_flag(allowed: bool) -> Self {
        if allowed { Self::Overlays } else { Self::Restricted }
    }
}

/// What is wrong with an Action's settings of its Pod.
pub fn problems(action: &ActionSpec, policy: PodPolicy) -> Vec<Problem> {
    let Some((runner, settings, volumes)) = settings(action) else { return Vec::new() };
    let runner = Path::default().member("spec").member(runner);
    let mut problems = Vec::new();
    for (index, volume) in volumes.iter().enumerate() {
        let path = runner.member("volumes").item(index).member("mountPath");
        problems.extend(taken(&volume.mount_path).map(|problem| Problem::error(path.to_string(), problem)));
    }
    if let Some(overlay) = settings.and_then(|settings| settings.overlay.as_ref()) {
        let path = runner.member("pod").member("overlay");
        problems.extend(
            parse(overlay, policy)
                .err()
                .map(|(field, problem)| Problem::error(format!("{path}{field}"), problem)),
        );
    }
    problems
}

/// Lays an Action's settings over the Pod that every Action gets.
pub fn apply(pod: Value, action: &ActionSpec, policy: PodPolicy) -> Result<PodSpec, String> {
    let settings = settings(action).and_then(|(_, settings, _)| settings);
    let base: PodSpec = serde_json::from_value(with_settings(pod, settings)).expect("the literals are a Pod");
    let Some(overlay) = settings.and_then(|settings| settings.overlay.as_ref()) else { return Ok(base) };
    let overlay =
        parse(overlay, policy).map_err(|(field, problem)| format!("pod.overlay{field}: {problem}"))?;
    let mut pod = base.clone();
    pod.merge_from(overlay);
    // Whose rights it has and that it ends are not the Action's to say.
    pod.service_account_name = base.service_account_name;
    pod.service_account = None;
    pod.restart_policy = base.restart_policy;
    Ok(pod)
}

/// The runner's name, what it says about its Pod, and what it mounts; none for an Action without a Pod.
fn settings(action: &ActionSpec) -> Option<(&'static str, Option<&PodSettings>, &[VolumeMount])> {
    match action.runner()? {
        Runner::Script(script) => Some(("script", script.pod.as_ref(), &script.volumes)),
        Runner::Container(container) => Some(("container", container.pod.as_ref(), &container.volumes)),
        Runner::Kubernetes(_) | Runner::Collect(_) => None,
    }
}

fn with_settings(mut pod: Value, settings: Option<&PodSettings>) -> Value {
    let nothing = PodSettings::default();
    let settings = settings.unwrap_or(&nothing);
    pod["containers"][0]["resources"] = resources(settings.resources.as_ref());
    if !settings.node_selector.is_empty() {
        pod["nodeSelector"] = json!(settings.node_selector);
    }
    if !settings.tolerations.is_empty() {
        pod["tolerations"] = json!(settings.tolerations);
    }
    if !settings.image_pull_secrets.is_empty() {
        pod["imagePullSecrets"] = json!(settings.image_pull_secrets);
    }
    pod
}

/// The defaults for what is not named; memory always has a limit.
fn resources(wanted: Option<&Resources>) -> Value {
    let nothing = Resources::default();
    let wanted = wanted.unwrap_or(&nothing);
    let (mut requests, mut limits) = (json!(wanted.requests), json!(wanted.limits));
    let is_named = |name: &str| wanted.requests.contains_key(name) || wanted.limits.contains_key(name);
    if !is_named("cpu") {
        requests["cpu"] = json!("10m");
    }
    if !is_named("memory") {
        requests["memory"] = json!("32Mi");
        limits["memory"] = json!("256Mi");
    } else if let (Some(request), None) = (wanted.requests.get("memory"), wanted.limits.get("memory")) {
        limits["memory"] = json!(request);
    }
    json!({"requests": requests, "limits": limits})
}

/// Reads an overlay; the error is the field below it and what is wrong there.
fn parse(overlay: &FreeForm, policy: PodPolicy) -> Result<PodSpec, (String, String)> {
    if policy == PodPolicy::Restricted {
        return Err((String::new(), REFUSED.to_owned()));
    }
    let pod: PodSpec =
        serde_json::from_value(overlay.to_value()).map_err(|error| (String::new(), error.to_string()))?;
    match lost(&overlay.0, &json!(pod)) {
        Some(field) => Err((field, "unknown field".to_owned())),
        None => Ok(pod),
    }
}

/// The first member that did not survive being read as a Pod: the types leave out what they do not know.
fn lost(members: &Map<String, Value>, read: &Value) -> Option<String> {
    members
        .iter()
        .find_map(|(name, value)| lost_value(value, read.get(name)).map(|rest| format!(".{name}{rest}")))
}

fn lost_value(value: &Value, read: Option<&Value>) -> Option<String> {
    match (value, read) {
        (_, None) => Some(String::new()),
        (Value::Object(members), Some(read)) => lost(members, read),
        (Value::Array(items), Some(read)) => items.iter().enumerate().find_map(|(index, item)| {
            lost_value(item, read.get(index)).map(|rest| format!("[{index}]{rest}"))
        }),
        _ => None,
    }
}

fn taken(mount_path: &str) -> Option<String> {
    let path = std::path::Path::new(mount_path);
    if path.components().any(|part| part == Component::ParentDir) {
        return Some(format!("{mount_path:?}: the path must not contain \"..\""));
    }
    let is_tmp = path == std::path::Path::new("/tmp");
    let folder = TAKEN.into_iter().find(|folder| path.starts_with(folder)).or(is_tmp.then_some("/tmp"))?;
    Some(format!("{mount_path:?}: {folder} is taken"))
}
