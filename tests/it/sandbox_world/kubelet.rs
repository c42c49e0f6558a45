//! What a node does with the pods of Jobs.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use serde_json::{Value, json};

use super::stage::Stage;

fn job(name: &str, pod: Value) -> Value {
    let mut pod = pod;
    pod["restartPolicy"] = json!("Never");
    json!({"metadata": {"name": name}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}})
}

fn script(text: &str) -> Value {
    json!({"name": "main", "image": "debian", "command": ["sh", "-c", text]})
}

async fn pod_of(stage: &Stage, job: &str) -> Pod {
    let selected = kube::api::ListParams::default().labels(&format!("batch.kubernetes.io/job-name={job}"));
    let mut pods = stage.api::<Pod>().list(&selected).await.unwrap().items;
    assert_eq!(pods.len(), 1);
    pods.remove(0)
}

/// A Job's pod runs as a process: environment, files, output, termination message, completion.
pub async fn a_job_runs_as_a_process(stage: &Stage) {
    stage
        .create::<ConfigMap>(
            json!({"metadata": {"name": "scripts"}, "data": {"run.sh": RUN, "greeting": "hello"}}),
        )
        .await;
    stage.create::<Secret>(json!({"metadata": {"name": "key"}, "stringData": {"token": "s3cret"}})).await;
    let container = json!({
        "name": "main", "image": "debian", "command": ["sh", "/scripts/run.sh"], "args": ["$(GREETING), $(WHO)"],
        "env": [
            {"name": "GREETING", "valueFrom": {"configMapKeyRef": {"name": "scripts", "key": "greeting"}}},
            {"name": "WHO", "value": "world"},
            {"name": "OUTPUT", "value": "/dev/termination-log"},
            {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
        ],
        "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}],
    });
    let volumes = json!([{"name": "scripts", "configMap": {"name": "scripts"}}]);
    stage.create::<Job>(job("hello", json!({"containers": [container], "volumes": volumes}))).await;

    stage.kubectl(&["wait", "--for=condition=Complete", "job/hello", "--timeout=60s"]).await;
    let pod = pod_of(stage, "hello").await;
    let name = pod.metadata.name.unwrap();
    assert_eq!(stage.kubectl(&["logs", "job/hello"]).await, format!("hello, world {name} s3cret\n"));
    let ended = pod.status.unwrap().container_statuses.unwrap().remove(0).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (0, Some("Completed")));
    assert_eq!(ended.message.as_deref(), Some("done=yes"));
    let events = stage.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).await;
    for reason in ["Scheduled", "Pulled", "Created", "Started"] {
        assert!(events.contains(reason), "{reason}: {events}");
    }
}

const RUN: &str = r#"echo "$1 $POD $TOKEN"; printf done=yes >"$OUTPUT""#;

/// A Job whose process fails is Failed, with the exit code, and the end of its log as its message.
pub async fn a_failing_job_says_why(stage: &Stage) {
    let mut container = script("echo no luck >&2; exit 3");
    container["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    stage.create::<Job>(job("fails", json!({"containers": [container]}))).await;
    stage.kubectl(&["wait", "--for=condition=Failed", "job/fails", "--timeout=60s"]).await;
    let ended = pod_of(stage, "fails").await.status.unwrap().container_statuses.unwrap().remove(0);
    let ended = ended.state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (3, Some("Error")));
    assert_eq!(ended.message.as_deref(), Some("no luck\n"));
}
