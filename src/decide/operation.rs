//! Operations on the target, resolved to absolute requests with a UID precondition, so that they may be repeated.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::api::{KubernetesRunner, ObjectReference, PatchOperation, Recreate};
use crate::expr::{Bindings, Scope, TemplateTree};

/// The variables of templates in an operation.
pub const VARIABLES: [&str; 3] = ["inputs", "target", "now"];

/// Marks an object that was created to take another's place.
pub const RECREATED_BY: &str = "fother.dev/recreated-by";

/// More replicas nobody has, so that more of them are a slip.
const MOST_REPLICAS: i64 = 100_000;

/// The API groups of Kubernetes itself, whose kinds are known. Others that end with `.k8s.io` are custom kinds.
const BUILT_IN: [&str; 23] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// A request that says all by itself.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    /// Patch an object.
    Patch {
        /// The object, with the UID that it must have.
        target: ObjectReference,
        /// How the patch is read.
        format: PatchFormat,
        /// The patch.
        body: Value,
    },
    /// Delete an object; it may be gone already.
    Delete {
        /// The object, with the UID that it must have.
        target: ObjectReference,
        /// Seconds to stop.
        grace_period_seconds: Option<i64>,
    },
    /// Delete an object and create another in its place.
    Recreate {
        /// The object, with the UID of the old one.
        target: ObjectReference,
        /// The new object.
        manifest: Value,
    },
}

/// How a patch is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PatchFormat {
    /// RFC 7386.
    Merge,
    /// Kubernetes' own.
    Strategic,
    /// RFC 6902.
    Json,
}

/// What an operation is resolved against.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The live target.
    pub live: &'a Value,
    /// Which it is, with its UID.
    pub target: &'a ObjectReference,
    /// Values for templates.
    pub bindings: &'a Bindings,
    /// When the rung began.
    pub began: Timestamp,
    /// UID of the Execution.
    pub execution: &'a str,
}

/// Whether what an operation sends hangs on what the target, or what was given, is at that moment.
pub fn is_template(runner: &KubernetesRunner) -> bool {
    json!(runner).to_string().contains("${{")
}

/// A patch that was resolved before.
pub fn resolved_before(runner: &KubernetesRunner, target: ObjectReference, body: Value) -> Operation {
    let format = match &runner.patch {
        Some(patch) if patch.json.is_some() => PatchFormat::Json,
        Some(patch) if patch.strategic.is_some() => PatchFormat::Strategic,
        _ => PatchFormat::Merge,
    };
    Operation::Patch { target, format, body }
}

/// Resolves an operation; the error says what cannot be done.
pub fn resolve(runner: &KubernetesRunner, context: Context<'_>) -> Result<Operation, String> {
    if runner.restart.is_some() {
        return restart(context);
    }
    if let Some(scale) = &runner.scale {
        return scaled(&scale.replicas, context);
    }
    if let Some(patch) = &runner.patch {
        let (format, body) = match (&patch.merge, &patch.strategic, &patch.json) {
            (Some(body), None, None) => (PatchFormat::Merge, render(&body.to_value(), context)?),
            (None, Some(body), None) => (PatchFormat::Strategic, render(&body.to_value(), context)?),
            (None, None, Some(operations)) => {
                (PatchFormat::Json, render(&operations_value(operations), context)?)
            }
            _ => return Err("patch wants exactly one of merge, strategic and json".to_owned()),
        };
        return Ok(Operation::Patch {
            target: context.target.clone(),
            format,
            body: guarded(body, format, context),
        });
    }
    if let Some(delete) = &runner.delete {
        let grace_period_seconds = delete.grace_period_seconds.map(i64::from);
        return Ok(Operation::Delete { target: context.target.clone(), grace_period_seconds });
    }
    if let Some(recreate) = &runner.recreate {
        let manifest = replacement(recreate, context)?;
        return Ok(Operation::Recreate { target: context.target.clone(), manifest });
    }
    for (change, field) in [(&runner.annotate, "annotations"), (&runner.label, "labels")] {
        if let Some(change) = change {
            let values = render(&json!(change.values), context)?;
            return Ok(merge(context, json!({"metadata": {field: texts(&values)}})));
        }
    }
    Err("the Action names no operation".to_owned())
}

fn restart(context: Context<'_>) -> Result<Operation, String> {
    if let Some(refused) = refuses_restart(context.target.group(), &context.target.kind) {
        return Err(refused);
    }
    let at = json!({"kubectl.kubernetes.io/restartedAt": context.began.to_string()});
    Ok(merge(context, json!({"spec": {"template": {"metadata": {"annotations": at}}}})))
}

/// Why what is of a kind is not restarted, if it is not.
pub fn refuses_restart(group: &str, kind: &str) -> Option<String> {
    let is_restarted = group == "apps" && matches!(kind, "Deployment" | "StatefulSet" | "DaemonSet");
    (!is_restarted)
        .then(|| format!("restart wants a Deployment, StatefulSet or DaemonSet; the target is a {kind}"))
}

/// The API server drops a field that a kind does not have, and says that all is well: so what has no replicas is refused
/// here. A custom kind that has them says so in the live object, by its own default at the least; one of which only its
/// controller knows how many there are has to be patched.
fn scaled(wanted: &IntOrString, context: Context<'_>) -> Result<Operation, String> {
    let (group, kind) = (context.target.group(), &context.target.kind);
    if let Some(refused) = refuses_scale(group, kind) {
        return Err(refused);
    }
    let known = context.live.pointer("/spec/replicas");
    if !BUILT_IN.contains(&group) && known.is_none_or(Value::is_null) {
        return Err(format!(
            "scale wants a target with spec.replicas, and the {kind} has none; if its kind knows the field, use patch.merge"
        ));
    }
    let replicas = replicas(wanted, context)?;
    Ok(merge(context, json!({"spec": {"replicas": replicas}})))
}

/// Why what is of a kind of Kubernetes' own has no replicas, if it has none. Of a custom kind only an object says that.
pub fn refuses_scale(group: &str, kind: &str) -> Option<String> {
    let is_scaled = matches!(
        (group, kind),
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet") | ("", "ReplicationController")
    );
    (!is_scaled && BUILT_IN.contains(&group)).then(|| {
        format!(
            "scale wants a Deployment, ReplicaSet, StatefulSet or ReplicationController, or a custom kind with \
             spec.replicas; the target is a {kind}"
        )
    })
}

fn replicas(value: &IntOrString, context: Context<'_>) -> Result<i64, String> {
    let rendered = match value {
        IntOrString::Int(number) => json!(number),
        IntOrString::String(template) => render(&json!(template), context)?,
    };
    as_replicas(&rendered)
}

/// A number of replicas, as a manifest or a template gives it; an error says what was given.
pub fn as_replicas(given: &Value) -> Result<i64, String> {
    let number = given.as_i64().or_else(|| given.as_str().and_then(|text| text.parse().ok()));
    number
        .filter(|number| (0..=MOST_REPLICAS).contains(number))
        .ok_or_else(|| format!("replicas {given}: want a whole number from 0 to {MOST_REPLICAS}"))
}

/// A merge patch that only fits the object of the recorded UID.
fn merge(context: Context<'_>, body: Value) -> Operation {
    let body = guarded(body, PatchFormat::Merge, context);
    Operation::Patch { target: context.target.clone(), format: PatchFormat::Merge, body }
}

/// Adds the UID precondition: the API server refuses a patch that names another UID than the object has.
fn guarded(mut body: Value, format: PatchFormat, context: Context<'_>) -> Value {
    let Some(uid) = &context.target.uid else { return body };
    match (format, &mut body) {
        (PatchFormat::Json, Value::Array(operations)) => {
            operations.insert(0, json!({"op": "test", "path": "/metadata/uid", "value": uid}));
        }
        (_, Value::Object(members)) => {
            let metadata = members.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
            if let Some(metadata) = metadata.as_object_mut() {
                metadata.insert("uid".to_owned(), json!(uid));
            }
        }
        _ => {}
    }
    body
}

fn operations_value(operations: &[PatchOperation]) -> Value {
    serde_json::to_value(operations).expect("plain data structures always become JSON")
}

fn render(value: &Value, context: Context<'_>) -> Result<Value, String> {
    let tree = TemplateTree::compile(value, &Scope::of(VARIABLES))
        .map_err(|errors| errors.first().map(ToString::to_string).unwrap_or_default())?;
    tree.render(context.bindings).map_err(|error| error.to_string())
}

/// Labels and annotations are texts, whatever a template gives.
fn texts(values: &Value) -> Value {
    let members = values.as_object().into_iter().flatten();
    members.map(|(key, value)| (key.clone(), Value::String(super::parameters::text(value)))).collect()
}

/// The manifest of the object that takes the target's place.
fn replacement(recreate: &Recreate, context: Context<'_>) -> Result<Value, String> {
    if (context.target.group(), context.target.kind.as_str()) == ("", "Secret") {
        return Err("a Secret cannot be recreated: its values would be kept in the Execution's status; patch or delete it".to_owned());
    }
    let mut manifest = portable(context.live);
    match (&recreate.merge, &recreate.json) {
        (Some(patch), _) => json_patch::merge(&mut manifest, &render(&patch.to_value(), context)?),
        (None, Some(operations)) => {
            let rendered = render(&operations_value(operations), context)?;
            let patch: json_patch::Patch =
                serde_json::from_value(rendered).map_err(|e| format!("json patch: {e}"))?;
            json_patch::patch(&mut manifest, &patch).map_err(|e| format!("json patch: {e}"))?;
        }
        (None, None) => {}
    }
    let metadata = manifest.get_mut("metadata").and_then(Value::as_object_mut);
    let annotations = metadata.ok_or("the new object has no metadata")?.entry("annotations");
    let annotations = annotations.or_insert_with(|| json!({})).as_object_mut();
    let annotations = annotations.ok_or("the annotations of the new object are no map")?;
    annotations.insert(RECREATED_BY.to_owned(), json!(context.execution));
    Ok(manifest)
}

/// A manifest to be tried while the object that it replaces is still there: without the addresses and ports that the
/// other still holds.
pub fn rehearsal(manifest: &Value) -> Value {
    let mut tried = manifest.clone();
    if manifest["apiVersion"] == "v1"
        && manifest["kind"] == "Service"
        && let Some(spec) = tried.get_mut("spec").and_then(Value::as_object_mut)
    {
        if spec.get("clusterIP").is_some_and(|address| address != "None") {
            spec.retain(|field, _| !matches!(field.as_str(), "clusterIP" | "clusterIPs"));
        }
        spec.remove("healthCheckNodePort");
        for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
            port.as_object_mut().map(|port| port.remove("nodePort"));
        }
    }
    tried
}

/// An object without what the API server and controllers put into it.
fn portable(live: &Value) -> Value {
    let mut manifest = live.clone();
    if let Some(members) = manifest.as_object_mut() {
        members.remove("status");
    }
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| {
            matches!(
                key.as_str(),
                "name" | "namespace" | "labels" | "annotations" | "ownerReferences" | "finalizers"
            )
        });
    }
    let is_job = manifest["kind"] == "Job" && manifest.pointer("/spec/manualSelector") != Some(&json!(true));
    if is_job && let Some(spec) = manifest.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("selector");
        for labels in ["/spec/template/metadata/labels", "/metadata/labels"] {
            if let Some(labels) = manifest.pointer_mut(labels).and_then(Value::as_object_mut) {
                labels.retain(|key, _| {
                    !matches!(key.trim_start_matches("batch.kubernetes.io/"), "controller-uid" | "job-name")
                });
            }
        }
    }
    manifest
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn resolved(runner: Value, target: &ObjectReference, live: Value) -> Result<Operation, String> {
        let runner: KubernetesRunner = serde_json::from_value(runner).expect("an operation");
        let live = Arc::new(live);
        let bindings = Bindings::at(Timestamp::UNIX_EPOCH)
            .with("target", live.clone())
            .with("inputs", json!({"replicas": 3}));
        let context = Context {
            live: &live,
            target,
            bindings: &bindings,
            began: Timestamp::UNIX_EPOCH,
            execution: "x",
        };
        resolve(&runner, context)
    }

    fn deployment() -> ObjectReference {
        ObjectReference {
            api_version: "apps/v1".into(),
            kind: "Deployment".into(),
            namespace: Some("a".into()),
            name: "web".into(),
            uid: Some("u".into()),
        }
    }

    fn body(runner: Value) -> Value {
        match resolved(runner, &deployment(), json!({"spec": {"replicas": 1}})).expect("resolves") {
            Operation::Patch { body, .. } => body,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn patches_name_the_uid_and_absolute_values() {
        assert_eq!(
            body(json!({"restart": {}})),
            json!({"metadata": {"uid": "u"}, "spec": {"template": {"metadata": {"annotations":
                {"kubectl.kubernetes.io/restartedAt": "1970-01-01T00:00:00Z"}}}}})
        );
        let scaled = json!({"metadata": {"uid": "u"}, "spec": {"replicas": 3}});
        assert_eq!(body(json!({"scale": {"replicas": 3}})), scaled);
        assert_eq!(body(json!({"scale": {"replicas": "${{ inputs.replicas }}"}})), scaled);
        assert_eq!(
            body(json!({"annotate": {"values": {"n": "${{ inputs.replicas }}"}}})),
            json!({"metadata": {"uid": "u", "annotations": {"n": "3"}}})
        );
        assert_eq!(
            body(
                json!({"patch": {"json": [{"op": "replace", "path": "/spec/replicas", "value": "${{ inputs.replicas }}"}]}})
            ),
            json!([{"op": "test", "path": "/metadata/uid", "value": "u"}, {"op": "replace", "path": "/spec/replicas", "value": 3}])
        );
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let pod = ObjectReference { api_version: "v1".into(), kind: "Pod".into(), ..deployment() };
        assert_eq!(
            resolved(json!({"restart": {}}), &pod, json!({})).expect_err("refused"),
            "restart wants a Deployment, StatefulSet or DaemonSet; the target is a Pod"
        );
        let secret = ObjectReference { api_version: "v1".into(), kind: "Secret".into(), ..deployment() };
        let error = resolved(json!({"recreate": {}}), &secret, json!({"metadata": {}})).expect_err("refused");
        assert!(error.starts_with("a Secret cannot be recreated"), "{error}");
        let error =
            resolved(json!({"scale": {"replicas": -1}}), &deployment(), json!({})).expect_err("refused");
        assert_eq!(error, "replicas -1: want a whole number from 0 to 100000");
    }

    #[test]
    fn only_what_has_replicas_is_scaled() {
        let scaled = |api_version: &str, kind: &str, live: Value| {
            let target =
                ObjectReference { api_version: api_version.into(), kind: kind.into(), ..deployment() };
            resolved(json!({"scale": {"replicas": 3}}), &target, live)
        };
        for (api_version, kind) in [
            ("apps/v1", "Deployment"),
            ("apps/v1", "ReplicaSet"),
            ("apps/v1", "StatefulSet"),
            ("v1", "ReplicationController"),
        ] {
            assert!(scaled(api_version, kind, json!({})).is_ok(), "{kind}");
        }
        for (api_version, kind) in [
            ("batch/v1", "CronJob"),
            ("v1", "ConfigMap"),
            ("apps/v1", "DaemonSet"),
            ("autoscaling/v2", "HorizontalPodAutoscaler"),
            ("networking.k8s.io/v1", "Ingress"),
        ] {
            let refused = scaled(api_version, kind, json!({"spec": {"replicas": 1}})).expect_err("refused");
            assert_eq!(
                refused,
                format!(
                    "scale wants a Deployment, ReplicaSet, StatefulSet or ReplicationController, or a custom kind \
                     with spec.replicas; the target is a {kind}"
                )
            );
        }
        for version in ["example.com/v1", "gateway.networking.k8s.io/v1"] {
            assert!(scaled(version, "Dock", json!({"spec": {"replicas": 0}})).is_ok(), "{version}");
            for live in [json!({}), json!({"spec": {}}), json!({"spec": {"replicas": null}})] {
                assert_eq!(
                    scaled(version, "Dock", live).expect_err("refused"),
                    "scale wants a target with spec.replicas, and the Dock has none; if its kind knows the field, \
                     use patch.merge"
                );
            }
        }
    }

    #[test]
    fn a_service_is_tried_without_what_the_old_one_holds() {
        let service = |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "spec": spec});
        let full = service(json!({"type": "NodePort", "clusterIP": "10.0.0.7", "clusterIPs": ["10.0.0.7"],
            "ports": [{"port": 80, "nodePort": 30080}]}));
        assert_eq!(rehearsal(&full), service(json!({"type": "NodePort", "ports": [{"port": 80}]})));
        let headless = service(json!({"clusterIP": "None", "clusterIPs": ["None"]}));
        assert_eq!(rehearsal(&headless), headless);
    }

    #[test]
    fn a_job_is_recreated_without_what_bound_it_to_its_pods() {
        let live = json!({
            "apiVersion": "batch/v1", "kind": "Job",
            "metadata": {"name": "report", "namespace": "a", "uid": "u", "resourceVersion": "7",
                "labels": {"app": "report", "batch.kubernetes.io/job-name": "report"}},
            "spec": {"selector": {"matchLabels": {"batch.kubernetes.io/controller-uid": "u"}},
                "template": {"metadata": {"labels": {"app": "report", "controller-uid": "u", "job-name": "report"}},
                    "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "256Mi"}}}]}}},
            "status": {"failed": 1},
        });
        let runner = json!({"recreate": {"json": [{"op": "replace",
            "path": "/spec/template/spec/containers/0/resources/limits/memory", "value": "512Mi"}]}});
        let Operation::Recreate { manifest, .. } = resolved(runner, &deployment(), live).expect("resolves")
        else {
            panic!("a recreation");
        };
        assert_eq!(
            manifest,
            json!({
                "apiVersion": "batch/v1", "kind": "Job",
                "metadata": {"name": "report", "namespace": "a", "labels": {"app": "report"}, "annotations": {RECREATED_BY: "x"}},
                "spec": {"template": {"metadata": {"labels": {"app": "report"}},
                    "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "512Mi"}}}]}}},
            })
        );
    }

    #[test]
    fn a_recreation_keeps_the_shape_of_an_object() {
        let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c", "namespace": "a"}, "data": {}});
        for (merge, refused) in [
            (json!({"metadata": {"annotations": "x"}}), "the annotations of the new object are no map"),
            (json!({"metadata": null}), "the new object has no metadata"),
            (json!({"metadata": 1}), "the new object has no metadata"),
        ] {
            let target = ObjectReference { kind: "ConfigMap".into(), ..deployment() };
            let answer = resolved(json!({"recreate": {"merge": merge}}), &target, live.clone());
            assert_eq!(answer.err().as_deref(), Some(refused));
        }
    }
}
