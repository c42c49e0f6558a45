//! The container of an Action's Job: what it is given, what it may do, and how it is stopped.

use std::time::Duration;

use serde_json::{Value, json};

use super::harbor::Harbor;
use crate::support::wait::{DEADLINE, eventually};

/// The deadline, the kubelet's grace, and what a busy machine adds.
const STOPPED: Duration = Duration::from_mins(2);
const IMAGE: &str = "docker.io/library/debian:12-slim";

async fn run(harbor: &Harbor, namespace: &str, action: Value, with: Value) {
    for (kind, name, spec) in [
        ("Action", "act", action),
        ("Execution", "by-hand", json!({"serviceAccountName": "healer", "run": "act", "with": with})),
    ] {
        let object = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        harbor.kubectl.apply(&object.to_string(), &[]).await;
    }
}

/// Writes down where it finds itself.
const LOOK_AROUND: &str = r#"
status() { grep "^$1:" /proc/self/status | tr -d '[:space:]' | cut -d: -f2; }
attempt() { if "$@" 2>/dev/null; then echo done; else echo refused; fi; }
cat >"$FOTHER_OUTPUT" <<EOF
greeting=$FOTHER_PARAM_GREETING
parameters=$(cat "$FOTHER_PARAMETERS")
password=$(cat /fother/secrets/db/password)
execution=$FOTHER_EXECUTION
user=$(id -u):$(id -g)
capabilities=$(status CapEff)
seccomp=$(status Seccomp)
newPrivileges=$(status NoNewPrivs)
root=$(attempt touch /file)
temporary=$(attempt touch /tmp/file)
token=$(attempt test -e /var/run/secrets/kubernetes.io)
EOF
"#;

#[tokio::test]
async fn a_script_gets_parameters_secrets_and_nothing_else() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace("jobs-look").await;
    let secret = ["-n", "jobs-look", "create", "secret", "generic", "db", "--from-literal=password=s3cret"];
    harbor.kubectl.run(&secret).await;
    let greeting = "$(FOTHER_OUTPUT) $$(FOTHER_EXECUTION) pa$$word $ö `id` ; $HOME";
    let names = [
        "greeting",
        "parameters",
        "password",
        "execution",
        "user",
        "capabilities",
        "seccomp",
        "newPrivileges",
        "root",
        "temporary",
        "token",
    ];
    let action = json!({
        "parameters": [{"name": "greeting", "required": true}],
        "outputs": names.map(|name| json!({"name": name})),
        "script": {"image": IMAGE, "inline": LOOK_AROUND, "secrets": [{"name": "db"}]},
    });
    run(harbor, "jobs-look", action, json!({"greeting": greeting})).await;
    let execution = harbor.ended("jobs-look", DEADLINE).await;
    assert_eq!(execution.reason(), Some("Completed"), "{:#?}", execution.status);
    let outputs = execution.status.unwrap().rungs[0].outputs.to_value();
    let expected = json!({
        "greeting": greeting, "parameters": json!({"greeting": greeting}).to_string(), "password": "s3cret",
        "execution": "by-hand", "user": "65534:65534", "capabilities": "0000000000000000", "seccomp": "2",
        "newPrivileges": "1", "root": "refused", "temporary": "done", "token": "refused",
    });
    assert_eq!(outputs, expected);
}

/// How many processes of this machine have `argument`: those in the node's PID namespace are among them.
fn processes(argument: &str) -> usize {
    let has = |entry: &std::fs::DirEntry| {
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        command.split(|byte| *byte == 0).any(|found| found == argument.as_bytes())
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(has).count()
}

#[tokio::test]
async fn a_script_that_overruns_is_killed() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace("jobs-overrun").await;
    let forever = format!("54321{}", std::process::id());
    let script = format!("echo still at it\nexec sleep {forever}");
    let action = json!({"timeout": "10s", "script": {"image": IMAGE, "inline": script}});
    run(harbor, "jobs-overrun", action, json!({})).await;
    let count = |wanted: usize| {
        let found = processes(&forever);
        async move { if found == wanted { Ok(()) } else { Err(format!("{found} processes")) } }
    };
    eventually("the script runs", DEADLINE, || count(1)).await;
    let execution = harbor.ended("jobs-overrun", STOPPED).await;
    assert_eq!(execution.reason(), Some("DeadlineExceeded"), "{:#?}", execution.status);
    let status = execution.status.unwrap();
    assert!(status.rungs[0].message.starts_with("killed after 10s"), "{:#?}", status.rungs);
    eventually("the script is gone", STOPPED, || count(0)).await;
}

/// Writes down what it is held to, and what it finds where its volumes are.
const FIND_OUT: &str = r#"
first() { cat "$@" 2>/dev/null | head -n 1; }
cat >"$FOTHER_OUTPUT" <<EOF
memory=$(first /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes)
color=$(cat /settings/color)
scratch=$(touch /scratch/file && echo done)
EOF
"#;

/// Where the Pod of a namespace's only Execution runs, and its spec.
async fn pod(harbor: &Harbor, namespace: &str) -> Value {
    let pods = harbor.kubectl.run(&["-n", namespace, "get", "pods", "-o", "json"]).await;
    let mut pods: Value = serde_json::from_str(&pods).unwrap();
    assert_eq!(pods["items"].as_array().map(Vec::len), Some(1), "{pods:#}");
    pods["items"][0]["spec"].take()
}

/// Another node than this one is not there for Jobs; a Pod that asks for what no node has would wait for ever.
#[tokio::test]
async fn an_action_has_its_pod_placed_limited_and_given_volumes() {
    let Some(harbor) = Harbor::shared().await else { return };
    let namespace = "jobs-placed";
    harbor.namespace(namespace).await;
    harbor.kubectl.run(&["label", "node", "node-1", "example.com/disk=fast"]).await;
    let settings = ["-n", namespace, "create", "configmap", "settings", "--from-literal=color=red"];
    harbor.kubectl.run(&settings).await;
    let toleration =
        json!({"key": "example.com/dedicated", "operator": "Equal", "value": "ops", "effect": "NoSchedule"});
    let pod_settings = json!({
        "nodeSelector": {"example.com/disk": "fast"},
        "tolerations": [toleration],
        "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": "48Mi"}},
        // There is none: the image is there already.
        "imagePullSecrets": [{"name": "registry"}],
    });
    let volumes = json!([
        {"mountPath": "/settings", "configMap": {"name": "settings"}},
        {"mountPath": "/scratch", "emptyDir": {"sizeLimit": "1Mi"}},
    ]);
    let action = json!({
        "outputs": [{"name": "memory", "type": "integer"}, {"name": "color"}, {"name": "scratch"}],
        "script": {"image": IMAGE, "inline": FIND_OUT, "pod": pod_settings, "volumes": volumes},
    });
    run(harbor, namespace, action, json!({})).await;
    let execution = harbor.ended(namespace, STOPPED).await;
    assert_eq!(execution.reason(), Some("Completed"), "{:#?}", execution.status);
    let outputs = execution.status.unwrap().rungs[0].outputs.to_value();
    assert_eq!(outputs, json!({"memory": 48 << 20, "color": "red", "scratch": "done"}), "of the kernel");

    let pod = pod(harbor, namespace).await;
    assert_eq!((&pod["nodeName"], &pod["nodeSelector"]), (&json!("node-1"), &pod_settings["nodeSelector"]));
    assert!(pod["tolerations"].as_array().unwrap().contains(&toleration), "{pod:#}");
    assert_eq!(pod["imagePullSecrets"], pod_settings["imagePullSecrets"]);
    let resources = &pod["containers"][0]["resources"];
    assert_eq!(
        (&resources["limits"]["memory"], &resources["requests"]["memory"]),
        (&json!("48Mi"), &json!("16Mi"))
    );
}

#[tokio::test]
async fn the_namespaces_refuse_what_is_not_restricted() {
    let Some(harbor) = Harbor::shared().await else { return };
    harbor.namespace("jobs-refused").await;
    let image = format!("--image={IMAGE}");
    let refused = harbor.kubectl.try_run(&["-n", "jobs-refused", "run", "root", &image], "").await;
    assert!(refused.stderr.contains("violates PodSecurity \"restricted"), "{refused:?}");
}
