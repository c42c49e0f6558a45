//! The examples heal their incidents on a real control plane, where a helper plays the kubelet.

use std::path::Path;
use std::time::Duration;

use fother::cluster::rights;
use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::examples::stage::Place;
use crate::examples::{
    alert_job, alerting_pod, disk_alert, hpa_at_max, node_not_ready, node_restart, oom_job,
};
use crate::support::control_plane::ControlPlane;
use crate::support::examples::{self, Stage};
use crate::support::kubectl::Kubectl;
use crate::support::process::Process;
use crate::support::wait::DEADLINE;

/// On a busy machine.
const HEALED: Duration = Duration::from_mins(3);

/// The controller as a process that has its own rights and no others.
async fn controller(plane: &ControlPlane, kubectl: &Kubectl, folder: &Path) -> Process {
    for crd in fother::api::crds() {
        let answer = kubectl.try_run(&["create", "-f", "-"], &json!(crd).to_string()).await;
        assert!(answer.code == 0, "{answer:?}");
    }
    kubectl.run(&["wait", "crd", "--all", "--for=condition=Established"]).await;
    kubectl.run(&["create", "namespace", "fother"]).await;
    let access = plane.service_account("fother", "fother").await;
    for object in rights::installation("fother", "fother").unwrap() {
        let answer = kubectl.try_run(&["apply", "-f", "-"], &object.to_string()).await;
        assert!(answer.code == 0, "{answer:?}");
    }
    let kubeconfig = access.write(&folder.join("kubeconfig"));
    let arguments = ["controller", "--kubeconfig", kubeconfig.to_str().unwrap(), "--namespace", "fother"];
    let listen = ["--listen", "127.0.0.1:0"];
    Process::fother(&[&arguments[..], &listen].concat(), &[], &folder.join("controller.log"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_heal_their_incidents() {
    let Some(plane) = ControlPlane::private().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (client, kubectl) = (plane.admin().client().await, plane.kubectl());
    let _controller = controller(&plane, &kubectl, directory.path()).await;

    let root = directory.path().join("node");
    let options = KubeletOptions { serve_logs: true, ..KubeletOptions::new("node-1", root.clone()) };
    let stop = CancellationToken::new();
    let node = tokio::spawn(Kubelet::new(client.clone(), options).run(stop.clone()));

    let stage =
        Stage { kubectl, client, cache: root.join("volumes/shop/cache"), host: None, patience: HEALED };
    tokio::join!(examples::corrupted_cache(&stage), examples::crash_loop(&stage), examples::oom_job(&stage));

    stop.cancel();
    tokio::time::timeout(DEADLINE, node).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_act_on_alerts() {
    let Some(plane) = ControlPlane::private().await else { return };
    let place = Place::real(&plane).await;
    // One after the other: each has the controller to itself.
    alerting_pod::an_alerting_pod_is_deleted_once_and_nothing_is_when_it_is_resolved(&place).await;
    disk_alert::two_hosts_are_cleaned_and_a_repeat_and_a_third_wait(&place).await;
    alert_job::an_alert_opens_a_ticket_and_its_number_is_recorded(&place).await;
    node_restart::a_crash_loop_on_a_node_that_came_back_is_told_only_if_it_goes_on(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_leave_to_people_what_is_theirs() {
    let Some(plane) = ControlPlane::private().await else { return };
    let place = Place::real(&plane).await;
    hpa_at_max::a_person_decides_about_an_autoscaler_that_stays_at_its_maximum(&place).await;
    node_not_ready::a_node_is_rebooted_then_replaced_then_a_person_is_paged(&place).await;
    oom_job::a_job_that_needs_more_than_the_cap_is_reported(&place).await;
}

/// On a control plane of its own, as the pack has a namespace of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_touch_no_node_in_an_outage() {
    let Some(plane) = ControlPlane::private().await else { return };
    let place = Place::real(&plane).await;
    node_not_ready::in_an_outage_no_node_is_touched_and_a_person_is_told(&place).await;
}
