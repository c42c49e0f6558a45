//! What the built-in kinds add on create and update: defaults, a first status, generated selectors, and the
//! few checks that the sandbox makes of them.

use serde_json::{Value, json};

use super::error::Cause;
use super::meta::{self, NameRule};
use super::registry::Resource;

/// Whether the kind counts generations of its desired state.
pub fn has_generation(resource: &Resource) -> bool {
    const WITH: &[&str] = &[
        "pods.",
        "deployments.apps",
        "replicasets.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "jobs.batch",
        "cronjobs.batch",
        "poddisruptionbudgets.policy",
        "ingresses.networking.k8s.io",
        "networkpolicies.networking.k8s.io",
        "customresourcedefinitions.apiextensions.k8s.io",
        "priorityclasses.scheduling.k8s.io",
        "endpointslices.discovery.k8s.io",
    ];
    resource.custom.is_some() || WITH.contains(&resource.storage.as_str())
}

/// Whether an annotation, too, is something the kind's objects ask for.
pub fn counts_annotations(resource: &Resource) -> bool {
    resource.is("deployments", "apps")
}

/// The metadata that a write of the status may change.
pub fn status_metadata(resource: &Resource) -> &'static [&'static str] {
    if resource.is("deployments", "apps") {
        &["annotations", "finalizers"]
    } else {
        &["labels", "annotations", "finalizers"]
    }
}

/// How the kind's objects are named.
pub fn name_rule(resource: &Resource) -> NameRule {
    match resource.storage.as_str() {
        "namespaces." | "services." => NameRule::Label,
        storage if storage.ends_with(".rbac.authorization.k8s.io") => NameRule::PathSegment,
        _ => NameRule::Subdomain,
    }
}

/// Kinds whose first status may come with the object; a kubelet creates its Node with one.
pub fn keeps_status_on_create(resource: &Resource) -> bool {
    resource.is("nodes", "")
}

fn default(value: &mut Value, path: &[&str], fallback: Value) {
    let Some((last, parents)) = path.split_last() else { return };
    let mut place = value;
    for name in parents {
        if place.get(*name).is_none_or(Value::is_null) {
            place[*name] = json!({});
        }
        place = &mut place[*name];
    }
    if place.is_object() && place.get(*last).is_none_or(Value::is_null) {
        place[*last] = fallback;
    }
}

/// The items of a list field, without making the field.
fn items_mut<'a>(value: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    value.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// Fills in the defaults that controllers and people rely on.
pub fn apply_defaults(resource: &Resource, object: &mut Value) {
    match resource.storage.as_str() {
        "pods." => {
            default(object, &["spec", "enableServiceLinks"], true.into());
            pod_spec(&mut object["spec"]);
        }
        "namespaces." => {
            let name = object["metadata"]["name"].clone();
            default(object, &["metadata", "labels", "kubernetes.io/metadata.name"], name);
        }
        "deployments.apps" => {
            default(object, &["spec", "replicas"], 1.into());
            default(object, &["spec", "revisionHistoryLimit"], 10.into());
            default(object, &["spec", "progressDeadlineSeconds"], 600.into());
            default(object, &["spec", "strategy", "type"], "RollingUpdate".into());
            if object["spec"]["strategy"]["type"] == "RollingUpdate" {
                default(object, &["spec", "strategy", "rollingUpdate", "maxSurge"], "25%".into());
                default(object, &["spec", "strategy", "rollingUpdate", "maxUnavailable"], "25%".into());
            }
            template(object);
        }
        "replicasets.apps" => {
            default(object, &["spec", "replicas"], 1.into());
            template(object);
        }
        "statefulsets.apps" => {
            default(object, &["spec", "replicas"], 1.into());
            default(object, &["spec", "revisionHistoryLimit"], 10.into());
            default(object, &["spec", "podManagementPolicy"], "OrderedReady".into());
            default(object, &["spec", "updateStrategy", "type"], "RollingUpdate".into());
            template(object);
        }
        "daemonsets.apps" => {
            default(object, &["spec", "revisionHistoryLimit"], 10.into());
            default(object, &["spec", "updateStrategy", "type"], "RollingUpdate".into());
            template(object);
        }
        "jobs.batch" => job_spec(&mut object["spec"]),
        "cronjobs.batch" => {
            default(object, &["spec", "concurrencyPolicy"], "Allow".into());
            default(object, &["spec", "suspend"], false.into());
            default(object, &["spec", "successfulJobsHistoryLimit"], 3.into());
            default(object, &["spec", "failedJobsHistoryLimit"], 1.into());
        }
        "services." => {
            default(object, &["spec", "type"], "ClusterIP".into());
            default(object, &["spec", "sessionAffinity"], "None".into());
            for port in items_mut(&mut object["spec"], "ports") {
                default(port, &["protocol"], "TCP".into());
                let target = port["port"].clone();
                default(port, &["targetPort"], target);
            }
        }
        "secrets." => secret(object),
        "networkpolicies.networking.k8s.io" => {
            let has_egress = object["spec"].get("egress").is_some_and(|egress| !egress.is_null());
            let types = if has_egress { json!(["Ingress", "Egress"]) } else { json!(["Ingress"]) };
            default(object, &["spec", "policyTypes"], types);
        }
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io" => {
            default(object, &["roleRef", "apiGroup"], "rbac.authorization.k8s.io".into());
            for subject in items_mut(object, "subjects") {
                let group =
                    if subject["kind"] == "ServiceAccount" { "" } else { "rbac.authorization.k8s.io" };
                if !group.is_empty() {
                    default(subject, &["apiGroup"], group.into());
                }
            }
        }
        _ => {}
    }
}

fn secret(object: &mut Value) {
    use base64::Engine;
    default(object, &["type"], "Opaque".into());
    if let Some(Value::Object(texts)) = meta::remove(object, "stringData") {
        for (name, text) in texts {
            let bytes = text.as_str().unwrap_or_default().as_bytes().to_owned();
            object["data"][name] = base64::engine::general_purpose::STANDARD.encode(bytes).into();
        }
    }
}

fn template(object: &mut Value) {
    if object["spec"]["template"].is_object() {
        default(object, &["spec", "template", "spec"], json!({}));
        pod_spec(&mut object["spec"]["template"]["spec"]);
    }
}

fn job_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, &["backoffLimit"], 6.into());
    default(spec, &["completionMode"], "NonIndexed".into());
    default(spec, &["suspend"], false.into());
    default(spec, &["manualSelector"], false.into());
    if spec.get("completions").is_none() && spec.get("parallelism").is_none() {
        default(spec, &["completions"], 1.into());
    }
    default(spec, &["parallelism"], 1.into());
    let policy = if spec["podFailurePolicy"].is_object() { "Failed" } else { "TerminatingOrFailed" };
    default(spec, &["podReplacementPolicy"], policy.into());
    if spec["template"].is_object() {
        default(spec, &["template", "spec"], json!({}));
        pod_spec(&mut spec["template"]["spec"]);
    }
}

fn pod_spec(spec: &mut Value) {
    if !spec.is_object() {
        return;
    }
    default(spec, &["restartPolicy"], "Always".into());
    default(spec, &["terminationGracePeriodSeconds"], 30.into());
    default(spec, &["dnsPolicy"], "ClusterFirst".into());
    default(spec, &["schedulerName"], "default-scheduler".into());
    default(spec, &["securityContext"], json!({}));
    if let Some(account) = spec.get("serviceAccountName").cloned() {
        default(spec, &["serviceAccount"], account);
    }
    for list in ["containers", "initContainers"] {
        for container in items_mut(spec, list) {
            let image = container["image"].as_str().unwrap_or_default();
            let name = image.rsplit('/').next().unwrap_or_default();
            let is_latest = !image.contains('@') && (!name.contains(':') || name.ends_with(":latest"));
            let policy = if is_latest { "Always" } else { "IfNotPresent" };
            default(container, &["imagePullPolicy"], policy.into());
            default(container, &["terminationMessagePath"], "/dev/termination-log".into());
            default(container, &["terminationMessagePolicy"], "File".into());
            default(container, &["resources"], json!({}));
            for port in items_mut(container, "ports") {
                default(port, &["protocol"], "TCP".into());
            }
        }
    }
    for volume in items_mut(spec, "volumes") {
        for source in ["configMap", "secret", "projected", "downwardAPI"] {
            if volume.get(source).is_some_and(Value::is_object) {
                default(volume, &[source, "defaultMode"], 420.into());
            }
        }
    }
}

/// What a create sets beyond defaults: the first status, a Job's selector, a pod's account.
pub fn prepare_create(resource: &Resource, object: &mut Value) {
    match resource.storage.as_str() {
        "pods." => {
            object["status"] = json!({"phase": "Pending", "qosClass": "BestEffort"});
            default(object, &["spec", "serviceAccountName"], "default".into());
            let account = object["spec"]["serviceAccountName"].clone();
            default(object, &["spec", "serviceAccount"], account);
        }
        "namespaces." => {
            object["status"] = json!({"phase": "Active"});
            object["spec"] = json!({"finalizers": ["kubernetes"]});
        }
        "poddisruptionbudgets.policy" => {
            object["status"] =
                json!({"disruptionsAllowed": 0, "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0});
        }
        "persistentvolumeclaims." => object["status"] = json!({"phase": "Pending"}),
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" | "daemonsets.apps"
        | "cronjobs.batch" | "services." => object["status"] = json!({}),
        "jobs.batch" => {
            object["status"] = json!({});
            select_own_pods(object);
        }
        _ => {}
    }
}

/// The API server itself gives a Job its selector, so that no two Jobs adopt each other's pods.
fn select_own_pods(job: &mut Value) {
    if job["spec"]["manualSelector"] == true {
        return;
    }
    let (uid, name) = (job["metadata"]["uid"].clone(), job["metadata"]["name"].clone());
    let labels = [
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
        ("controller-uid", &uid),
        ("job-name", &name),
    ];
    for (label, value) in labels {
        default(job, &["spec", "template", "metadata", "labels", label], value.clone());
    }
    job["spec"]["selector"] = json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}});
    let labels = job["spec"]["template"]["metadata"]["labels"].clone();
    default(job, &["metadata", "labels"], labels);
}

/// The checks made of built-in kinds; everything else of the real server's validation is not modelled.
pub fn validate(resource: &Resource, new: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut causes = Vec::new();
    match resource.storage.as_str() {
        "pods." => {
            check_pod_spec(&new["spec"], "spec", &mut causes);
            check_pod_update(new, old, &mut causes);
        }
        "deployments.apps" | "replicasets.apps" | "statefulsets.apps" | "daemonsets.apps" => {
            check_not_negative(&new["spec"]["replicas"], "spec.replicas", &mut causes);
            check_selector(new, &mut causes);
            check_pod_spec(&new["spec"]["template"]["spec"], "spec.template.spec", &mut causes);
            immutable(new, old, &["spec", "selector"], &mut causes);
        }
        "jobs.batch" => {
            check_pod_spec(&new["spec"]["template"]["spec"], "spec.template.spec", &mut causes);
            check_job(new, old, &mut causes);
        }
        "configmaps." | "secrets." => {
            check_keys(new, &mut causes);
            if resource.plural == "secrets" {
                immutable(new, old, &["type"], &mut causes);
            }
            check_immutable_content(new, old, &mut causes);
        }
        "controllerrevisions.apps" => immutable(new, old, &["data"], &mut causes),
        "leases.coordination.k8s.io" => {
            let duration = &new["spec"]["leaseDurationSeconds"];
            if duration.as_i64().is_some_and(|seconds| seconds <= 0) {
                causes.push(Cause::invalid("spec.leaseDurationSeconds", duration, "must be greater than 0"));
            }
        }
        "events." => check_event(new, &mut causes),
        "rolebindings.rbac.authorization.k8s.io" | "clusterrolebindings.rbac.authorization.k8s.io"
            if old.is_some_and(|old| old["roleRef"] != new["roleRef"]) =>
        {
            causes.push(Cause::invalid("roleRef", &new["roleRef"], "cannot change roleRef"));
        }
        _ => {}
    }
    causes
}

fn check_not_negative(value: &Value, field: &str, causes: &mut Vec<Cause>) {
    if value.as_i64().is_some_and(|number| number < 0) {
        causes.push(Cause::invalid(field, value, "must be greater than or equal to 0"));
    }
}

/// Content becomes files, so its keys are names of files.
fn check_keys(object: &Value, causes: &mut Vec<Cause>) {
    const DETAIL: &str = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  \
                          or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
    for field in ["data", "binaryData"] {
        for key in object[field].as_object().into_iter().flat_map(serde_json::Map::keys) {
            let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            if key.is_empty() || !key.chars().all(is_valid) {
                causes.push(Cause::invalid(&format!("{field}[{key}]"), &key.as_str().into(), DETAIL));
            }
        }
    }
}

fn check_immutable_content(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let Some(old) = old.filter(|old| old["immutable"] == true) else { return };
    let detail = "field is immutable when `immutable` is set";
    for field in ["data", "binaryData"] {
        if old[field] != new[field] {
            causes.push(Cause::forbidden(field, detail));
        }
    }
    if new["immutable"] != true {
        causes.push(Cause::forbidden("immutable", detail));
    }
}

/// An Event is where the object is that it tells of, or in `default`.
fn check_event(event: &Value, causes: &mut Vec<Cause>) {
    // It comes in either form.
    let subject = event.get("involvedObject").unwrap_or(&event["regarding"]);
    let about = subject["namespace"].as_str().unwrap_or_default();
    let expected = if about.is_empty() { "default" } else { about };
    if meta::text(event, "namespace") != expected {
        let detail = "does not match event.namespace";
        causes.push(Cause::invalid("involvedObject.namespace", &about.into(), detail));
    }
}

/// A pod is made once: of its spec only a few fields may change.
fn check_pod_update(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let fixed = |pod: &Value| {
        let mut spec = pod["spec"].clone();
        for field in ["activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds"] {
            meta::remove(&mut spec, field);
        }
        // A scheduler says once where it runs.
        if old.is_some_and(|old| old["spec"]["nodeName"].is_null()) {
            meta::remove(&mut spec, "nodeName");
        }
        for list in ["containers", "initContainers"] {
            items_mut(&mut spec, list).for_each(|container| {
                meta::remove(container, "image");
            });
        }
        spec
    };
    if old.is_some_and(|old| fixed(old) != fixed(new)) {
        let detail = "pod updates may not change fields other than \
                      `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                      `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds`";
        causes.push(Cause::forbidden("spec", detail));
    }
}

fn immutable(new: &Value, old: Option<&Value>, path: &[&str], causes: &mut Vec<Cause>) {
    let at = |object: &Value| path.iter().fold(object.clone(), |value, part| value[*part].clone());
    if old.is_some_and(|old| at(old) != at(new)) {
        causes.push(Cause::invalid(&path.join("."), &at(new), "field is immutable"));
    }
}

fn check_selector(object: &Value, causes: &mut Vec<Cause>) {
    let selector = &object["spec"]["selector"];
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
    }
    let labels = &object["spec"]["template"]["metadata"]["labels"];
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    if selector.is_null() || wanted.clone().any(|(name, value)| labels.get(name) != Some(value)) {
        let detail = "`selector` does not match template `labels`";
        causes.push(Cause::invalid("spec.template.metadata.labels", labels, detail));
    }
}

fn check_pod_spec(spec: &Value, path: &str, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().map(Vec::as_slice).unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required(&format!("{path}.containers"), ""));
    }
    let policy = &spec["restartPolicy"];
    if !policy.is_null() && !matches!(policy.as_str(), Some("Always" | "OnFailure" | "Never")) {
        let allowed: Vec<Value> = ["Always", "OnFailure", "Never"].map(Value::from).to_vec();
        causes.push(Cause::unsupported(&format!("{path}.restartPolicy"), policy, &allowed));
    }
    for (index, container) in containers.iter().enumerate() {
        let here = format!("{path}.containers[{index}]");
        for field in ["name", "image"] {
            if container[field].as_str().unwrap_or_default().is_empty() {
                causes.push(Cause::required(&format!("{here}.{field}"), ""));
            }
        }
        let same_name = |other: &Value| !other["name"].is_null() && other["name"] == container["name"];
        if containers[..index].iter().any(same_name) {
            causes.push(Cause::duplicate(&format!("{here}.name"), &container["name"]));
        }
        for (mount, entry) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
            let volumes = spec["volumes"].as_array().map(Vec::as_slice).unwrap_or_default();
            if !volumes.iter().any(|volume| volume["name"] == entry["name"]) {
                let field = format!("{here}.volumeMounts[{mount}].name");
                causes.push(Cause {
                    reason: "FieldValueNotFound",
                    message: format!("Not found: {}", entry["name"]),
                    field,
                });
            }
        }
    }
}

fn check_job(new: &Value, old: Option<&Value>, causes: &mut Vec<Cause>) {
    let policy = &new["spec"]["template"]["spec"]["restartPolicy"];
    if policy == "Always" {
        let field = "spec.template.spec.restartPolicy";
        causes.push(Cause::required(field, "valid values: \"OnFailure\", \"Never\""));
    }
    immutable(new, old, &["spec", "selector"], causes);
    immutable(new, old, &["spec", "completions"], causes);
    // Scheduling directives of a suspended Job may still change, so only its containers are compared.
    let containers = |job: &Value| job["spec"]["template"]["spec"]["containers"].clone();
    if old.is_some_and(|old| containers(old) != containers(new)) {
        causes.push(Cause::invalid("spec.template", &new["spec"]["template"], "field is immutable"));
    }
    immutable(new, old, &["spec", "podFailurePolicy"], causes);
}

#[cfg(test)]
mod tests {
    use super::super::registry::Registry;
    use super::*;

    #[test]
    fn jobs_get_defaults_and_their_own_selector() {
        let registry = Registry::default();
        let jobs = registry.find("batch", "v1", "jobs").unwrap();
        let mut job = json!({"metadata": {"name": "j", "uid": "u"}, "spec": {"template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "a", "image": "x:1"}]}}}});
        apply_defaults(jobs, &mut job);
        prepare_create(jobs, &mut job);
        assert_eq!(job["spec"]["backoffLimit"], 6);
        assert_eq!(job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"], "u");
        assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "j");
        assert_eq!(job["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"], "IfNotPresent");
        assert_eq!(validate(jobs, &job, None), []);
        let mut other = job.clone();
        other["spec"]["template"]["spec"]["containers"][0]["image"] = "y".into();
        assert_eq!(validate(jobs, &other, Some(&job)).len(), 1);
        let deployments = registry.find("apps", "v1", "deployments").unwrap();
        assert_eq!(validate(deployments, &json!({"spec": {}}), None).len(), 3);
    }
}
