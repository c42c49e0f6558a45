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

/// What is said of an image that can come to mean another one.
pub const UNPINNED: &str = "image is not pinned by sha256 digest";

/// What Actions may say about their Pods: the controller's flags. The default is nothing that loosens them, and any image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PodPolicy {
    /// `--allow-pod-overlays`: whether they may say anything.
    pub overlays: bool,
    /// `--require-image-digests`: whether every image has to be pinned.
    pub digests: bool,
}

impl PodPolicy {
    /// What is wrong with an image: nothing, a warning, or an error where digests are required.
    pub fn image(self, path: String, image: &str) -> Option<Problem> {
        if is_pinned(image) {
            return None;
        }
        let (problem, help) = match self.digests {
            true => (Problem::error(path, UNPINNED), "the controller requires name@sha256:…"),
            false => (Problem::warning(path, UNPINNED), "a tag can come to mean another image"),
        };
        Some(problem.help(help))
    }
}

/// Whether an image is named by what is in it.
fn is_pinned(image: &str) -> bool {
    let digest = image.split_once("@sha256:").map_or("", |(_, digest)| digest);
    digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
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
        match parse(overlay, policy) {
            Err((field, problem)) => problems.push(Problem::error(format!("{path}{field}"), problem)),
            Ok(pod) => problems.extend(
                images(&pod)
                    .into_iter()
                    .filter_map(|(field, image)| policy.image(format!("{path}{field}"), image)),
            ),
        }
    }
    problems
}

/// Lays an Action's settings over the Pod that every Action gets.
pub fn apply(pod: Value, action: &ActionSpec, policy: PodPolicy) -> Result<PodSpec, String> {
    let settings = settings(action).and_then(|(_, settings, _)| settings);
    let base: PodSpec = serde_json::from_value(with_settings(pod, settings)).expect("the literals are a Pod");
    let pod = match settings.and_then(|settings| settings.overlay.as_ref()) {
        Some(overlay) => overlaid(base, overlay, policy)?,
        None => base,
    };
    // The whole Pod is what runs, whatever its parts come from.
    let unpinned = images(&pod).into_iter().find(|(_, image)| policy.digests && !is_pinned(image));
    unpinned.map_or(Ok(()), |(_, image)| Err(format!("{image}: {UNPINNED}; the controller requires one")))?;
    Ok(pod)
}

fn overlaid(base: PodSpec, overlay: &FreeForm, policy: PodPolicy) -> Result<PodSpec, String> {
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

/// All images that a Pod names, with their fields.
fn images(pod: &PodSpec) -> Vec<(String, &str)> {
    let initial = pod.init_containers.iter().flatten().enumerate();
    let initial = initial.map(|(at, container)| (format!(".initContainers[{at}].image"), &container.image));
    let others = pod.containers.iter().enumerate();
    let others = others.map(|(at, container)| (format!(".containers[{at}].image"), &container.image));
    let volumes = pod.volumes.iter().flatten().enumerate();
    let volumes = volumes.filter_map(|(at, volume)| {
        Some((format!(".volumes[{at}].image.reference"), &volume.image.as_ref()?.reference))
    });
    let named = initial.chain(others).chain(volumes);
    named.filter_map(|(field, image)| Some((field, image.as_deref()?))).collect()
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
    if !policy.overlays {
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
