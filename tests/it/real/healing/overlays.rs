//! What an Action may say about its Pod, and what only the controller's flag allows: what is said of the Action, how its Execution ends, and the
//! Job that there is. Written once, and runs on the real control plane and in the sandbox.

use fother::api::{Action, ConditionType, Execution, condition};
use fother::decide::pod::REFUSED;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::PodSpec;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::controller::Controller;
use super::scenario::Scenario;
use crate::support::wait::{DEADLINE, eventually};

/// Settings that loosen nothing.
fn settings() -> Value {
    json!({
        "nodeSelector": {"disktype": "ssd"},
        "tolerations": [{"key": "dedicated", "operator": "Equal", "value": "ops", "effect": "NoSchedule"}],
        "resources": {"limits": {"memory": "64Mi"}},
        "imagePullSecrets": [{"name": "registry"}],
    })
}

/// An Action whose script ends well, with these settings of its Pod.
async fn action(scenario: &Scenario, name: &str, settings: Value) {
    let volumes = json!([{"mountPath": "/scratch", "emptyDir": {"sizeLimit": "1Mi"}}]);
    let script = json!({"image": "debian", "inline": "true", "pod": settings, "volumes": volumes});
    scenario.action(name, json!({"script": script})).await;
}

/// What is said of an Action, as `Accepted`, once `status` is.
async fn accepted(scenario: &Scenario, name: &str, status: &str) -> (String, String) {
    eventually(&format!("{name} is accepted: {status}"), DEADLINE, || async {
        let conditions =
            scenario.stage.api::<Action>().get(name).await.unwrap().status.unwrap_or_default().conditions;
        let found = condition(&conditions, ConditionType::Accepted).filter(|found| found.status == status);
        found.map(|found| (found.reason.clone(), found.message.clone())).ok_or(format!("{conditions:?}"))
    })
    .await
}

/// Runs an Action by hand, as an Execution called `name`, and returns it when it has ended.
async fn run(scenario: &Scenario, action: &str, name: &str) -> Execution {
    let spec = json!({"serviceAccountName": "healer", "run": action});
    scenario.stage.create::<Execution>(json!({"metadata": {"name": name}, "spec": spec})).await;
    scenario.stage.until("it ends", name, Execution::is_finished).await
}

/// The Pod of the Job that an Execution has run. (One that was refused leaves a suspended Job, so that its name is taken.)
fn pod(jobs: &[Job], execution: &str) -> Option<PodSpec> {
    let is_its = |job: &&Job| job.labels().get("fother.dev/execution").is_some_and(|of| of == execution);
    let job = jobs.iter().find(is_its)?.spec.clone()?;
    (job.suspend != Some(true)).then_some(job.template.spec?)
}

pub async fn an_overlay_needs_the_controllers_flag(scenario: &Scenario) {
    let mut loosened = settings();
    loosened["overlay"] = json!({
        "hostNetwork": true, "serviceAccountName": "default",
        "containers": [{"name": "action", "securityContext": {"readOnlyRootFilesystem": false}}],
    });
    action(scenario, "tidy", settings()).await;
    action(scenario, "loose", loosened).await;

    let controller = Controller::start(scenario.controller_access()).await;
    accepted(scenario, "tidy", "True").await;
    let told = accepted(scenario, "loose", "False").await;
    assert_eq!(told, ("UnsupportedValue".to_owned(), format!("spec.script.pod.overlay: {REFUSED}")));
    assert_eq!(run(scenario, "tidy", "tidy-strict").await.reason(), Some("Completed"));
    let refused = run(scenario, "loose", "loose-strict").await;
    assert_eq!(refused.reason(), Some("ActionFailed"), "{refused:#?}");
    let rung = &refused.status.unwrap().rungs[0];
    assert!(rung.message.contains(&format!("pod.overlay: {REFUSED}")), "{}", rung.message);
    let jobs = scenario.jobs().await;
    is_as_it_says(&pod(&jobs, "tidy-strict").unwrap());
    assert_eq!(pod(&jobs, "loose-strict"), None, "nothing of it has run");
    drop(controller);

    let _controller = Controller::with_flags(scenario.controller_access(), &["--allow-pod-overlays"]).await;
    accepted(scenario, "tidy", "True").await;
    accepted(scenario, "loose", "True").await;
    let allowed = run(scenario, "loose", "loose-allowed").await;
    assert_eq!(allowed.reason(), Some("Completed"), "{allowed:#?}");
    let pod = pod(&scenario.jobs().await, "loose-allowed").unwrap();
    assert_eq!((pod.host_network, pod.service_account_name.as_deref()), (Some(true), Some("healer")));
    assert_eq!(read_only_root(&pod), Some(false));
    assert_eq!(json!(pod.node_selector), settings()["nodeSelector"], "what else it says still holds");
}

/// A Pod has all of [`settings`] and the volume, and is as restricted as without them.
fn is_as_it_says(pod: &PodSpec) {
    let container = &pod.containers[0];
    assert_eq!(json!(pod.node_selector), settings()["nodeSelector"]);
    assert_eq!(json!(pod.tolerations), settings()["tolerations"]);
    assert_eq!(json!(pod.image_pull_secrets), settings()["imagePullSecrets"]);
    let limits = container.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    assert_eq!(json!(limits), json!({"memory": "64Mi"}));
    let mount =
        container.volume_mounts.iter().flatten().find(|mount| mount.mount_path == "/scratch").unwrap();
    let volume = pod.volumes.iter().flatten().find(|volume| volume.name == mount.name).unwrap();
    assert_eq!(json!(volume.empty_dir), json!({"sizeLimit": "1Mi"}));
    assert_eq!((pod.host_network, read_only_root(pod)), (None, Some(true)));
    let context = pod.security_context.as_ref().unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    assert_eq!(pod.automount_service_account_token, Some(false));
}

fn read_only_root(pod: &PodSpec) -> Option<bool> {
    pod.containers[0].security_context.as_ref()?.read_only_root_filesystem
}
