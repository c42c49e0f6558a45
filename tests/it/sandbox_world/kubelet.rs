//! What a node does with processes: Jobs, and pods that ask for it.

use std::path::Path;

use fother::sandbox::kubelet::{KubeletOptions, Runner};
use futures::{AsyncBufReadExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, ContainerStatus, PersistentVolumeClaim, Pod, Secret};
use kube::api::{DeleteParams, LogParams};
use serde_json::{Value, json};

use crate::support::wait::{DEADLINE, eventually};

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

/// A Deployment's process crash-loops on a broken file of its claim, and is Ready once the file is repaired.
pub async fn a_process_recovers_when_its_file_is_repaired(stage: &Stage) {
    let claim = json!({
        "metadata": {"name": "cache"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    stage.create::<PersistentVolumeClaim>(claim).await;
    let file = stage.claim("cache").join("index");
    std::fs::create_dir_all(stage.claim("cache")).unwrap();
    std::fs::write(&file, "corrupted").unwrap();
    stage.create::<Deployment>(reader()).await;

    let looping = stage.one_pod("app=reader", "crash-looping", |pod| {
        let status = container(pod);
        let waiting = status.state.as_ref().and_then(|state| state.waiting.as_ref());
        waiting.and_then(|waiting| waiting.reason.as_deref()) == Some("CrashLoopBackOff")
            && status.restart_count >= 2
    });
    let pod = looping.await;
    let name = pod.metadata.name.clone().unwrap();
    let last = container(&pod).last_state.unwrap().terminated.unwrap();
    assert_eq!((last.exit_code, last.reason.as_deref()), (1, Some("Error")));
    assert_eq!(stage.kubectl(&["logs", &name, "--previous"]).await, "index is corrupted\n");
    assert!(
        stage.kubectl(&["get", "events"]).await.contains("Back-off restarting failed container main in pod")
    );

    std::fs::write(&file, "good").unwrap();
    stage.kubectl(&["wait", "--for=condition=Available", "deployment/reader", "--timeout=60s"]).await;
    assert!(stage.kubectl(&["logs", &name]).await.contains("serving"));
    // The probe sees the file break again, although the process lives on.
    std::fs::write(&file, "corrupted").unwrap();
    let unready = stage.one_pod("app=reader", "not ready", |pod| !container(pod).ready).await;
    assert!(container(&unready).state.unwrap().running.is_some());
}

fn reader() -> Value {
    let main = json!({
        "name": "main", "image": "debian",
        "env": [{"name": "INDEX", "value": "/cache/index"}],
        "command": ["sh", "-c", "grep -q good $INDEX || { echo index is corrupted; exit 1; }; echo serving; exec sleep 600"],
        "readinessProbe": {"exec": {"command": ["grep", "-q", "good", "/cache/index"]}, "periodSeconds": 1, "failureThreshold": 1},
        "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
    });
    json!({
        "metadata": {"name": "reader"},
        "spec": {
            "selector": {"matchLabels": {"app": "reader"}},
            "template": {
                "metadata": {"labels": {"app": "reader"}, "annotations": {"sandbox.local/run": "process"}},
                "spec": {
                    "containers": [main],
                    "terminationGracePeriodSeconds": 1,
                    "volumes": [{"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}}],
                },
            },
        },
    })
}

/// The status of the pod's only container.
pub fn container(pod: &Pod) -> ContainerStatus {
    pod.status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten())
        .next()
        .cloned()
        .unwrap_or_default()
}

fn process_pod(name: &str, spec: &Value) -> Value {
    json!({"metadata": {"name": name, "annotations": {"sandbox.local/run": "process"}}, "spec": spec})
}

/// What a pod refers to may come late: until then it says what is missing.
pub async fn a_missing_config_map_is_awaited(stage: &Stage) {
    let mut main = script("cat $FILE");
    main["env"] = json!([{"name": "FILE", "value": "/config/text"}]);
    main["volumeMounts"] = json!([{"name": "config", "mountPath": "/config", "readOnly": true}]);
    let volumes =
        json!([{"name": "config", "configMap": {"name": "late", "items": [{"key": "a", "path": "text"}]}}]);
    let spec = json!({"restartPolicy": "Never", "containers": [main], "volumes": volumes});
    stage.create::<Pod>(process_pod("waits", &spec)).await;
    eventually("an event about the missing ConfigMap", DEADLINE, || async {
        let events = stage.kubectl(&["get", "events", "--field-selector=reason=FailedMount"]).await;
        let text = r#"MountVolume.SetUp failed for volume "config" : configmap "late" not found"#;
        if events.contains(text) { Ok(()) } else { Err(events) }
    })
    .await;
    let pod = stage.api::<Pod>().get("waits").await.unwrap();
    let waiting = container(&pod).state.unwrap().waiting.unwrap();
    assert_eq!(waiting.reason.as_deref(), Some("ContainerCreating"));

    stage.create::<ConfigMap>(json!({"metadata": {"name": "late"}, "data": {"a": "at last"}})).await;
    stage.until::<Pod>("succeeded", "waits", |pod| phase(pod) == "Succeeded").await;
    assert_eq!(stage.kubectl(&["logs", "waits"]).await, "at last");
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
}

/// Init containers run one after the other, before the others.
pub async fn init_containers_run_in_order(stage: &Stage) {
    let say = |name: &str, text: &str| {
        let mut container = script(&format!("{text} >>$OUT"));
        container["name"] = json!(name);
        container["env"] = json!([{"name": "OUT", "value": "/out/log"}]);
        container["volumeMounts"] = json!([{"name": "out", "mountPath": "/out"}]);
        container
    };
    let spec = json!({
        "restartPolicy": "OnFailure",
        // The first one fails once, and is tried again before the second one.
        "initContainers": [say("one", "test -e $OUT || { echo zero >$OUT; exit 1; }; echo one"), say("two", "echo two")],
        "containers": [say("main", "cat $OUT; echo three")],
        "volumes": [{"name": "out", "emptyDir": {}}],
    });
    stage.create::<Pod>(process_pod("ordered", &spec)).await;
    let pod = stage.until::<Pod>("succeeded", "ordered", |pod| phase(pod) == "Succeeded").await;
    let init = pod.status.unwrap().init_container_statuses.unwrap();
    assert_eq!(
        init.iter().map(|status| (status.restart_count, status.ready)).collect::<Vec<_>>(),
        [(1, true), (0, true)]
    );
}

/// A deadline ends a pod as a whole, and everything that it started.
pub async fn a_deadline_ends_everything(stage: &Stage) {
    let here = tempfile::tempdir().unwrap();
    let child = here.path().join("child");
    let text = format!("trap '' TERM; sleep 600 & echo $! >{}; wait", child.display());
    // Long enough for a shell on a busy machine to come to its trap.
    let spec = json!({
        "restartPolicy": "Never", "activeDeadlineSeconds": 4, "terminationGracePeriodSeconds": 1, "containers": [script(&text)],
    });
    stage.create::<Pod>(process_pod("late", &spec)).await;
    let pod = stage.until::<Pod>("failed", "late", |pod| phase(pod) == "Failed").await;
    let status = pod.status.clone().unwrap();
    assert_eq!(status.reason.as_deref(), Some("DeadlineExceeded"));
    assert_eq!(container(&pod).state.unwrap().terminated.unwrap().exit_code, 137);
    assert_dead(&child).await;
}

/// The process whose id `file` holds has ended, whether or not anybody collected it.
async fn assert_dead(file: &Path) {
    let id = std::fs::read_to_string(file).unwrap();
    eventually("the background process is dead", DEADLINE, || async {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") { Ok(()) } else { Err(stat) }
    })
    .await;
}

/// A deleted pod is asked to end, may say goodbye, and is gone.
pub async fn a_deleted_pod_ends_gracefully(stage: &Stage) {
    let here = tempfile::tempdir().unwrap();
    let goodbye = here.path().join("goodbye");
    let text =
        format!("trap 'echo bye >{}; exit 0' TERM; echo up; while :; do sleep 0.05; done", goodbye.display());
    let spec = json!({"containers": [script(&text)]});
    stage.create::<Pod>(process_pod("polite", &spec)).await;
    eventually("the process is up", DEADLINE, || async {
        let log = stage.kubectl(&["logs", "polite", "--tail=1"]).await;
        if log == "up\n" { Ok(()) } else { Err(log) }
    })
    .await;
    stage.api::<Pod>().delete("polite", &DeleteParams::default()).await.unwrap();
    stage.kubectl(&["wait", "--for=delete", "pod/polite", "--timeout=20s"]).await;
    assert_eq!(std::fs::read_to_string(goodbye).unwrap(), "bye\n");
}

/// A process that holds more memory than its limit is killed, and the status says why.
pub async fn a_memory_limit_is_enforced(stage: &Stage) {
    let hog = "x=$(head -c 100000000 /dev/zero | tr '\\0' x); sleep 60; echo ${#x}";
    let mut main = script(hog);
    main["resources"] = json!({"limits": {"memory": "32Mi"}});
    stage.create::<Job>(job("hog", json!({"containers": [main]}))).await;
    stage.kubectl(&["wait", "--for=condition=Failed", "job/hog", "--timeout=60s"]).await;
    let ended = container(&pod_of(stage, "hog").await).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("OOMKilled")));
}

/// A liveness probe that fails restarts the container; what its pod cannot start is said.
pub async fn an_unhealthy_container_is_restarted(stage: &Stage) {
    let mut main = script("touch alive; sleep 0.5; rm alive; exec sleep 600");
    main["livenessProbe"] =
        json!({"exec": {"command": ["test", "-e", "alive"]}, "periodSeconds": 1, "failureThreshold": 1});
    let spec = json!({"terminationGracePeriodSeconds": 1, "containers": [main]});
    stage.create::<Pod>(process_pod("sick", &spec)).await;
    let pod = stage.until::<Pod>("restarted", "sick", |pod| container(pod).restart_count > 0).await;
    assert_eq!(container(&pod).last_state.unwrap().terminated.unwrap().exit_code, 143);
    let events = stage.kubectl(&["get", "events"]).await;
    assert!(events.contains("Container main failed liveness probe, will be restarted"), "{events}");

    let spec = json!({"containers": [{"name": "main", "image": "x", "command": ["no-such-program"]}], "restartPolicy": "Never"});
    stage.create::<Pod>(process_pod("absent", &spec)).await;
    let pod = stage.until::<Pod>("failed", "absent", |pod| phase(pod) == "Failed").await;
    let ended = container(&pod).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (128, Some("StartError")));
    assert!(ended.message.unwrap().contains("executable file not found"));
}

/// Who follows a log sees what comes, until the container ends.
pub async fn a_log_can_be_followed(stage: &Stage) {
    let here = tempfile::tempdir().unwrap();
    let go = here.path().join("go");
    let text = format!("echo before; while ! test -e {}; do sleep 0.05; done; echo after", go.display());
    let spec = json!({"restartPolicy": "Never", "containers": [script(&text)]});
    stage.create::<Pod>(process_pod("talks", &spec)).await;
    stage.until::<Pod>("running", "talks", |pod| phase(pod) == "Running").await;
    let follow = LogParams { follow: true, ..LogParams::default() };
    let mut lines = stage.api::<Pod>().log_stream("talks", &follow).await.unwrap().lines();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("before"));
    std::fs::write(go, "").unwrap();
    assert_eq!(lines.try_next().await.unwrap().as_deref(), Some("after"));
    assert_eq!(lines.try_next().await.unwrap(), None);
    let stamped =
        LogParams { timestamps: true, since_seconds: Some(600), tail_lines: Some(1), ..LogParams::default() };
    let stamped = stage.api::<Pod>().logs("talks", &stamped).await.unwrap();
    assert!(stamped.ends_with("Z after\n") && stamped.lines().count() == 1, "{stamped}");
}

/// A node that stops ends its processes; when it comes back a Job's pod has failed, and anything else starts again.
pub async fn a_node_that_comes_back_runs_no_job_twice(stage: &Stage) {
    let here = tempfile::tempdir().unwrap();
    let started = here.path().join("started");
    let text = format!("echo $$ >>{}; exec sleep 600", started.display());
    stage.create::<Job>(job("once", json!({"containers": [script(&text)]}))).await;
    let spec = json!({"containers": [script("exec sleep 600")]});
    stage.create::<Pod>(process_pod("serves", &spec)).await;
    let runs = |pod: &Pod| container(pod).state.is_some_and(|state| state.running.is_some());
    stage.one_pod("job-name=once", "running", runs).await;
    stage.until::<Pod>("running", "serves", runs).await;
    eventually("the process has begun", DEADLINE, || async { std::fs::read_to_string(&started) }).await;
    stage.stop_node().await;
    assert_dead(&started).await;

    stage.start_node(|options| options);
    stage.kubectl(&["wait", "--for=condition=Failed", "job/once", "--timeout=60s"]).await;
    let ended = container(&pod_of(stage, "once").await).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, ended.reason.as_deref()), (137, Some("ContainerStatusUnknown")));
    assert_eq!(std::fs::read_to_string(&started).unwrap().lines().count(), 1);
    stage.until::<Pod>("restarted", "serves", |pod| runs(pod) && container(pod).restart_count == 1).await;
}

/// A node that only prints leaves a Job's pod Pending and says what it would run; make-believe goes on.
pub async fn a_node_that_prints_runs_nothing(stage: &Stage) {
    stage.stop_node().await;
    stage.start_node(|options| KubeletOptions { runner: Runner::Print, ..options });
    stage.create::<Job>(job("printed", json!({"containers": [script("echo $HOME")]}))).await;
    let printed = |pod: &Pod| {
        let waiting = container(pod).state.and_then(|state| state.waiting);
        phase(pod) == "Pending"
            && waiting.is_some_and(|waiting| waiting.reason.as_deref() == Some("PrintOnly"))
    };
    stage.one_pod("job-name=printed", "pending", printed).await;
    eventually("an event says what would run", DEADLINE, || async {
        let events = stage.kubectl(&["get", "events", "--field-selector=reason=PrintOnly"]).await;
        if events.contains(r#"it would run: ["sh", "-c", "echo $HOME"]"#) { Ok(()) } else { Err(events) }
    })
    .await;
    let spec = json!({"containers": [{"name": "main", "image": "web"}]});
    stage.create::<Pod>(json!({"metadata": {"name": "pretends"}, "spec": spec})).await;
    stage.until::<Pod>("ready", "pretends", |pod| container(pod).ready).await;
}
