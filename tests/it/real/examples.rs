//! The examples heal their incidents on a real control plane, where a helper plays the kubelet.

use std::time::Duration;

use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use tokio_util::sync::CancellationToken;

use crate::examples::stage::Place;
use crate::examples::{
    alert_job, alerting_pod, disk_alert, hpa_at_max, node_not_ready, node_restart, oom_job,
};
use crate::real::healing::controller::{Controller, install};
use crate::support::access::Access;
use crate::support::control_plane::ControlPlane;
use crate::support::examples::{self, Stage};
use crate::support::wait::DEADLINE;

/// On a busy machine.
const HEALED: Duration = Duration::from_mins(3);

/// A control plane with the chart, and the access of the controller's account: its rights, and the policies.
async fn installed() -> Option<(ControlPlane, Access)> {
    let plane = ControlPlane::private().await?;
    let access = install(&plane).await?;
    Some((plane, access))
}

/// The controller in this process, whose clock the examples tell, as who the chart makes it.
async fn place((plane, access): &(ControlPlane, Access)) -> Place {
    Place::Real(plane.admin().client().await, access.client().await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_heal_their_incidents() {
    let Some((plane, access)) = installed().await else { return };
    let directory = tempfile::tempdir().unwrap();
    let (client, kubectl) = (plane.admin().client().await, plane.kubectl());
    let _controller = Controller::start(&access).await;

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
    let Some(installed) = installed().await else { return };
    let place = place(&installed).await;
    // One after the other: each has the controller to itself.
    alerting_pod::an_alerting_pod_is_deleted_once_and_nothing_is_when_it_is_resolved(&place).await;
    disk_alert::two_hosts_are_cleaned_and_a_repeat_and_a_third_wait(&place).await;
    alert_job::an_alert_opens_a_ticket_and_its_number_is_recorded(&place).await;
    node_restart::a_crash_loop_on_a_node_that_came_back_is_told_only_if_it_goes_on(&place).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_leave_to_people_what_is_theirs() {
    let Some(installed) = installed().await else { return };
    let place = place(&installed).await;
    hpa_at_max::a_person_decides_about_an_autoscaler_that_stays_at_its_maximum(&place).await;
    node_not_ready::a_node_is_rebooted_then_replaced_then_a_person_is_paged(&place).await;
    oom_job::a_job_that_needs_more_than_the_cap_is_reported(&place).await;
}

/// On a control plane of its own, as the pack has a namespace of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_touch_no_node_in_an_outage() {
    let Some(installed) = installed().await else { return };
    let place = place(&installed).await;
    node_not_ready::in_an_outage_no_node_is_touched_and_a_person_is_told(&place).await;
}
