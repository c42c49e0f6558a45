//! The Job of a rung: its Pod may do nothing that the restricted Pod security standard forbids, has no token unless
//! the Action asks for it, and gets parameters as environment and file only.

use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

use super::expansion::{literal, pasted};
use super::identity::job_name;
use super::outcome::JOB_FINALIZER;
use super::parameters::{Inputs, environment_name, text};
use super::pod::{self, CONTAINER, PodPolicy};
use crate::api::{ActionSpec, Execution, LABEL, Runner, SecretMount, VolumeMount};

/// Where parameters and script are found in the container.
const ACTION_FOLDER: &str = "/fother/action";
/// Where the container writes its outputs: the kubelet reads it when the container ends.
const OUTPUT_FILE: &str = "/dev/termination-log";
/// How long what is told to stop may take. A shell that is the first process of its container does not heed SIGTERM, so
/// that with the default each Job at its deadline, and each that is canceled, would go on for half a minute. An overlay
/// can give more to a container that makes use of it.
const GRACE_SECONDS: i64 = 5;
/// The user that the container runs as, `nobody`: images of everyday tools would run as root.
const USER: i64 = 65534;
/// Annotations of the Pod that become files in the container.
const PARAMETERS: &str = "fother.dev/parameters";
const SCRIPT: &str = "fother.dev/script";
/// Which rung the Job belongs to.
pub const RUNG: &str = "fother.dev/rung";

/// The parts of a runner that a container needs.
struct Parts<'a> {
    image: &'a str,
    command: Vec<String>,
    args: &'a [String],
    script: Option<Value>,
    inline: Option<&'a str>,
    secrets: &'a [SecretMount],
    volumes: &'a [VolumeMount],
    token: bool,
}

/// The Job of one rung; none if its Action does not run in a Job. An error if it asks for a Pod that the policy refuses.
pub fn build(
    execution: &Execution,
    rung: usize,
    (action, inputs): (&ActionSpec, &Inputs),
    policy: PodPolicy,
) -> Result<Option<Job>, String> {
    let Some(parts) = parts(action) else { return Ok(None) };
    let meta = metadata(execution, rung);
    let pod = pod::apply(pod_spec(execution, &parts, inputs), action, policy)?;
    let job = json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": meta,
        "spec": {
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "activeDeadlineSeconds": action.timeout.as_secs().max(1),
            "template": {
                "metadata": {"labels": labels(execution), "annotations": annotations(&parts, inputs)},
                "spec": pod,
            },
        },
    });
    Ok(Some(serde_json::from_value(job).expect("the literal above is a Job")))
}

/// The same name with a Job that starts no Pod, so that a create that is still on its way comes too late. It asks for the
/// Pod of the Action without its parameters: whoever admits the Job that is late has to admit this one. None if the Action
/// does not run in a Job.
pub fn placeholder(
    execution: &Execution,
    rung: usize,
    action: &ActionSpec,
    policy: PodPolicy,
) -> Option<Job> {
    let inputs = Inputs::new();
    let built = build(execution, rung, (action, &inputs), policy).or_else(|_| {
        // What the policy refuses no Job has.
        build(execution, rung, (&without_overlay(action), &inputs), PodPolicy::default())
    });
    let mut job = built.ok().flatten()?;
    job.metadata.finalizers = None;
    let spec = job.spec.as_mut()?;
    spec.suspend = Some(true);
    // Where somebody resumes it, as queues of Jobs do, no Pod starts either.
    spec.parallelism = Some(0);
    Some(job)
}

fn without_overlay(action: &ActionSpec) -> ActionSpec {
    let mut plain = action.clone();
    let script = plain.script.as_mut().and_then(|script| script.pod.as_mut());
    let container = plain.container.as_mut().and_then(|container| container.pod.as_mut());
    for settings in script.into_iter().chain(container) {
        settings.overlay = None;
    }
    plain
}

/// The name of the Job of the rung that comes at `rung`.
pub fn name(execution: &Execution, rung: usize) -> String {
    let uid = execution.metadata.uid.as_deref().unwrap_or_default();
    let rule = execution.spec.decision.as_ref().map(|d| d.rule.name.as_str());
    job_name(rule.or(execution.spec.run.as_deref()).unwrap_or("fother"), uid, rung)
}

fn parts(action: &ActionSpec) -> Option<Parts<'_>> {
    match action.runner()? {
        Runner::Script(script) => {
            let mut command = script.interpreter.clone();
            command.push(format!("{ACTION_FOLDER}/script"));
            let source = script.config_map.as_ref().map(
                |from| json!({"configMap": {"name": from.name, "items": [{"key": from.key, "path": "script", "mode": 0o555}]}}),
            );
            Some(Parts {
                image: &script.image,
                command,
                args: &[],
                script: source,
                inline: script.inline.as_deref(),
                secrets: &script.secrets,
                volumes: &script.volumes,
                token: script.automount_service_account_token,
            })
        }
        Runner::Container(container) => Some(Parts {
            image: &container.image,
            command: container.command.clone(),
            args: &container.args,
            script: None,
            inline: None,
            secrets: &container.secrets,
            volumes: &container.volumes,
            token: container.automount_service_account_token,
        }),
        Runner::Kubernetes(_) | Runner::Collect(_) => None,
    }
}

fn metadata(execution: &Execution, rung: usize) -> Value {
    json!({
        "name": name(execution, rung),
        "namespace": execution.metadata.namespace,
        "labels": labels(execution),
        "annotations": {RUNG: rung.to_string()},
        "finalizers": [JOB_FINALIZER],
        "ownerReferences": [owner(execution)],
    })
}

/// The owner reference of whatever is created for an Execution.
pub fn owner(execution: &Execution) -> Value {
    json!({
        "apiVersion": "fother.dev/v1alpha1",
        "kind": "Execution",
        "name": execution.metadata.name,
        "uid": execution.metadata.uid,
        "controller": true,
    })
}

/// The labels of whatever is created for an Execution.
pub fn labels(execution: &Execution) -> Value {
    let mut labels = json!({
        "app.kubernetes.io/managed-by": "fother",
        LABEL.execution: execution.metadata.name,
    });
    if let Some(decision) = &execution.spec.decision {
        labels[LABEL.rule] = json!(decision.rule.name);
        labels[LABEL.event_id] = json!(decision.id);
    }
    labels
}

fn annotations(parts: &Parts<'_>, inputs: &Inputs) -> Value {
    let mut annotations = json!({PARAMETERS: json!(inputs).to_string()});
    if let Some(inline) = parts.inline {
        annotations[SCRIPT] = json!(inline);
    }
    annotations
}

fn pod_spec(execution: &Execution, parts: &Parts<'_>, inputs: &Inputs) -> Value {
    let (volumes, mounts) = volumes(parts);
    let mut container = json!({
        "name": CONTAINER,
        "image": parts.image,
        "env": environment(execution, inputs),
        "volumeMounts": mounts,
        "terminationMessagePath": OUTPUT_FILE,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": true,
        },
    });
    if !parts.command.is_empty() {
        container["command"] = words(&parts.command);
    }
    if !parts.args.is_empty() {
        container["args"] = words(parts.args);
    }
    json!({
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "serviceAccountName": execution.spec.service_account_name,
        "automountServiceAccountToken": parts.token,
        "enableServiceLinks": false,
        "securityContext": {
            "runAsNonRoot": true,
            "runAsUser": USER,
            "runAsGroup": USER,
            "fsGroup": USER,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": volumes,
    })
}

/// Words of a command. One that would have an event's words pasted into it is refused with the Action; where it runs
/// all the same, nothing is pasted.
fn words(words: &[String]) -> Value {
    words.iter().map(|word| pasted(word).map_or_else(|| word.clone(), |_| literal(word))).collect()
}

fn environment(execution: &Execution, inputs: &Inputs) -> Value {
    let variable = |name: &str, value: &str| json!({"name": name, "value": literal(value)});
    let mut variables = vec![
        variable("FOTHER_OUTPUT", OUTPUT_FILE),
        variable("FOTHER_PARAMETERS", &format!("{ACTION_FOLDER}/parameters.json")),
        variable("FOTHER_EXECUTION", execution.metadata.name.as_deref().unwrap_or_default()),
    ];
    if let Some(target) = &execution.spec.target {
        variables.push(variable("FOTHER_TARGET_KIND", &target.kind));
        variables.push(variable("FOTHER_TARGET_NAMESPACE", target.namespace.as_deref().unwrap_or_default()));
        variables.push(variable("FOTHER_TARGET_NAME", &target.name));
    }
    variables.extend(inputs.iter().map(|(name, value)| variable(&environment_name(name), &text(value))));
    Value::Array(variables)
}

fn volumes(parts: &Parts<'_>) -> (Vec<Value>, Vec<Value>) {
    let annotation = |key: &str, path: &str, mode: i32| json!({"path": path, "mode": mode, "fieldRef": {"fieldPath": format!("metadata.annotations['{key}']")}});
    let mut items = vec![annotation(PARAMETERS, "parameters.json", 0o444)];
    if parts.inline.is_some() {
        items.push(annotation(SCRIPT, "script", 0o555));
    }
    let sources: Vec<Value> =
        [json!({"downwardAPI": {"items": items}})].into_iter().chain(parts.script.clone()).collect();
    let mut volumes = vec![
        json!({"name": "action", "projected": {"sources": sources}}),
        json!({"name": "tmp", "emptyDir": {}}),
    ];
    let mut mounts = vec![
        json!({"name": "action", "mountPath": ACTION_FOLDER, "readOnly": true}),
        json!({"name": "tmp", "mountPath": "/tmp"}),
    ];
    for (index, secret) in parts.secrets.iter().enumerate() {
        let name = format!("secret-{index}");
        volumes.push(json!({"name": name, "secret": {"secretName": secret.name, "defaultMode": 0o440}}));
        mounts.push(
            json!({"name": name, "mountPath": format!("/fother/secrets/{}", secret.name), "readOnly": true}),
        );
    }
    for (index, mount) in parts.volumes.iter().enumerate() {
        let name = format!("volume-{index}");
        let Some((mut volume, writable)) = volume(mount) else { continue };
        volume["name"] = json!(name);
        volumes.push(volume);
        let mut mounted = json!({"name": name, "mountPath": mount.mount_path});
        if mount.read_only || !writable {
            mounted["readOnly"] = json!(true);
        }
        mounts.push(mounted);
    }
    (volumes, mounts)
}

/// A volume without its name, and whether it can be written.
fn volume(mount: &VolumeMount) -> Option<(Value, bool)> {
    if let Some(claim) = &mount.claim_name {
        return Some((json!({"persistentVolumeClaim": {"claimName": claim}}), true));
    }
    if let Some(map) = &mount.config_map {
        return Some((json!({"configMap": {"name": map.name}}), false));
    }
    if let Some(secret) = &mount.secret {
        return Some((json!({"secret": {"secretName": secret.name, "defaultMode": 0o440}}), false));
    }
    mount.empty_dir.as_ref().map(|folder| (json!({"emptyDir": folder}), true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ExecutionSpec, ObjectReference};
    use crate::decide::outcome::JobSeen;

    fn execution() -> Execution {
        let mut execution = Execution::new(
            "crashloop-1",
            ExecutionSpec {
                service_account_name: "healer".into(),
                run: Some("clean".into()),
                target: Some(ObjectReference {
                    kind: "Deployment".into(),
                    name: "web".into(),
                    ..Default::default()
                }),
                ..Default::default()
            },
        );
        execution.metadata.uid = Some("u".into());
        execution.metadata.namespace = Some("a".into());
        execution
    }

    fn action(spec: Value) -> ActionSpec {
        serde_json::from_value(spec).expect("an Action")
    }

    fn built(spec: Value, inputs: Value) -> Value {
        let inputs = serde_json::from_value(inputs).expect("inputs");
        let job = build(&execution(), 1, (&action(spec), &inputs), PodPolicy::default());
        let job = job.expect("no overlay").expect("a Job");
        serde_json::to_value(job).expect("JSON")
    }

    #[test]
    fn a_script_gets_its_parameters_as_environment_and_file_only() {
        let evil = "$(FOTHER_OUTPUT) pa$$word `id`; rm -rf / #";
        let job = built(json!({"script": {"image": "i", "inline": "echo hello"}}), json!({"path": evil}));
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["containers"][0]["command"], json!(["sh", "-eu", "/fother/action/script"]));
        assert!(!pod["containers"][0]["command"].to_string().contains("rm -rf"));
        let env = pod["containers"][0]["env"].as_array().expect("a list");
        let path = env.iter().find(|e| e["name"] == "FOTHER_PARAM_PATH").expect("there");
        assert_eq!(
            path["value"], "$$(FOTHER_OUTPUT) pa$$$$word `id`; rm -rf / #",
            "not expanded by the kubelet"
        );
        let annotations = &job["spec"]["template"]["metadata"]["annotations"];
        assert_eq!(annotations["fother.dev/script"], "echo hello");
        let file: Value =
            serde_json::from_str(annotations["fother.dev/parameters"].as_str().expect("text")).expect("JSON");
        assert_eq!(file, json!({"path": evil}));
    }

    #[test]
    fn the_kubelet_pastes_nothing_into_a_command() {
        let words = ["clean", "--path=$(FOTHER_PARAM_PATH)", "$(FOTHER_OUTPUT)"];
        let job = built(
            json!({"container": {"image": "i", "command": words, "args": words}}),
            json!({"path": "/"}),
        );
        let container = &job["spec"]["template"]["spec"]["containers"][0];
        let kept = json!(["clean", "--path=$$(FOTHER_PARAM_PATH)", "$(FOTHER_OUTPUT)"]);
        assert_eq!((&container["command"], &container["args"]), (&kept, &kept));
    }

    #[test]
    fn what_an_action_says_of_its_interpreter_and_its_token_holds() {
        let script = json!({"image": "i", "inline": "true", "interpreter": ["bash", "-euo", "pipefail"],
            "automountServiceAccountToken": true});
        let container = json!({"image": "i", "automountServiceAccountToken": true});
        let pod = |spec: Value| built(spec, json!({}))["spec"]["template"]["spec"].clone();
        let (script, container) = (pod(json!({"script": script})), pod(json!({"container": container})));
        let command = json!(["bash", "-euo", "pipefail", "/fother/action/script"]);
        assert_eq!(script["containers"][0]["command"], command);
        assert_eq!(
            (&script["automountServiceAccountToken"], &container["automountServiceAccountToken"]),
            (&json!(true), &json!(true))
        );
        assert_eq!(script["serviceAccountName"], "healer", "whose token it is");
    }

    #[test]
    fn a_pod_is_restricted_and_has_no_token() {
        let job = built(json!({"container": {"image": "i", "args": ["x"]}, "timeout": "30s"}), json!({}));
        assert_eq!(job["spec"]["activeDeadlineSeconds"], 30);
        assert_eq!(job["spec"]["backoffLimit"], 0);
        assert_eq!(job["metadata"]["finalizers"], json!([JOB_FINALIZER]));
        let pod = &job["spec"]["template"]["spec"];
        assert_eq!(pod["automountServiceAccountToken"], false);
        assert_eq!(pod["restartPolicy"], "Never");
        assert_eq!(pod["terminationGracePeriodSeconds"], 5, "a shell as first process is deaf to SIGTERM");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        let container = &pod["containers"][0]["securityContext"];
        assert_eq!(container["allowPrivilegeEscalation"], false);
        assert_eq!(container["capabilities"]["drop"], json!(["ALL"]));
    }

    #[test]
    fn a_script_of_a_pack_comes_from_its_config_map() {
        let script = json!({"image": "i", "configMap": {"name": "s-1", "key": "clean.sh"}, "secrets": [{"name": "db"}]});
        let job = built(json!({"script": script}), json!({}));
        let pod = &job["spec"]["template"]["spec"];
        let source = &pod["volumes"][0]["projected"]["sources"][1]["configMap"];
        assert_eq!(
            *source,
            json!({"name": "s-1", "items": [{"key": "clean.sh", "path": "script", "mode": 0o555}]})
        );
        assert_eq!(pod["containers"][0]["volumeMounts"][2]["mountPath"], "/fother/secrets/db");
    }

    #[test]
    fn a_placeholder_is_admitted_where_the_job_is_and_starts_no_pod() {
        let settings = json!({"resources": {"limits": {"memory": "64Mi"}}});
        let script = json!({"image": "registry.example/i", "inline": "true", "pod": settings});
        for spec in [json!({"script": script}), json!({"container": {"image": "i"}})] {
            let spec = action(spec);
            let real = build(&execution(), 1, (&spec, &Inputs::new()), PodPolicy::default());
            let real = real.expect("no overlay").expect("a Job");
            let placeholder = placeholder(&execution(), 1, &spec, PodPolicy::default()).expect("a Job");
            assert_eq!(placeholder.metadata.name, real.metadata.name);
            assert_ne!(real.metadata.name.as_deref(), Some(name(&execution(), 2).as_str()));
            let is_placeholder = |job: &Job| JobSeen::of(job, &[]).placeholder;
            assert!(is_placeholder(&placeholder) && !is_placeholder(&real), "each is known for what it is");
            let (taken, real) = (placeholder.spec.expect("a spec"), real.spec.expect("a spec"));
            assert_eq!((taken.suspend, taken.parallelism), (Some(true), Some(0)));
            assert_eq!(taken.template, real.template);
        }
        let operation = action(json!({"kubernetes": {"restart": {}}}));
        assert_eq!(placeholder(&execution(), 1, &operation, PodPolicy::default()), None);
    }

    #[test]
    fn a_placeholder_asks_for_no_more_than_the_policy_allows() {
        let pod = json!({"overlay": {"hostNetwork": true}});
        let spec = action(json!({"container": {"image": "i", "pod": pod}}));
        for (overlays, digests, expected) in
            [(true, false, Some(true)), (false, false, None), (true, true, None)]
        {
            let job = placeholder(&execution(), 1, &spec, PodPolicy { overlays, digests }).expect("a Job");
            let pod = job.spec.and_then(|spec| spec.template.spec).expect("a Pod");
            assert_eq!(pod.host_network, expected, "{overlays} {digests}");
            assert_eq!(pod.security_context.and_then(|context| context.run_as_non_root), Some(true));
            assert!(pod.containers[0].resources.as_ref().is_some_and(|given| given.limits.is_some()));
        }
    }
}
