//! The example packs heal their incidents, each followed by a Pack in a git repository of its own: real crash loops, a real
//! kill for want of memory, Pods that are really not Ready, and scripts that really run.

use std::time::Duration;

use super::harbor::Harbor;
use crate::examples::stage::Place;
use crate::examples::{
    alert_job, alerting_pod, disk_alert, hpa_at_max, node_not_ready, node_restart, oom_job,
};
use crate::support::examples::{self, Stage};

/// A kubelet waits longer and longer before it starts a container again.
const HEALED: Duration = Duration::from_mins(4);

async fn stage(harbor: &Harbor) -> Stage {
    Stage {
        kubectl: harbor.node.kubectl(),
        client: harbor.client().await,
        cache: harbor.claim("shop", "cache"),
        host: Some(harbor.node.host().await),
        patience: HEALED,
    }
}

/// A pack has one namespace, and what was decided in it counts for an hour: the next that happens is in a new one.
async fn clear(harbor: &Harbor, namespace: &str) {
    harbor.kubectl.run(&["delete", "namespace", namespace, "--timeout=60s"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_heal_their_incidents() {
    let Some(harbor) = Harbor::shared().await else { return };
    let stage = stage(harbor).await;
    let jobs = async {
        examples::oom_job(&stage).await;
        clear(harbor, "reports").await;
        oom_job::a_job_that_needs_more_than_the_cap_is_reported(&Place::Node(harbor)).await;
    };
    tokio::join!(examples::corrupted_cache(&stage), examples::crash_loop(&stage), jobs);
}

/// The resolved alert, the repeat inside the cooldown, the secret, and the node that came back; and what they do not act on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_act_on_alerts() {
    let Some(harbor) = Harbor::shared().await else { return };
    let place = Place::Node(harbor);
    let pods = async {
        alerting_pod::an_alerting_pod_is_deleted_once_and_nothing_is_when_it_is_resolved(&place).await;
        clear(harbor, alerting_pod::PACK.1).await;
        alerting_pod::a_pod_that_is_ready_newer_or_another_is_left_alone(&place).await;
    };
    let jobs = async {
        alert_job::an_alert_opens_a_ticket_and_its_number_is_recorded(&place).await;
        clear(harbor, alert_job::PACK.1).await;
        alert_job::what_does_not_fit_the_parameters_starts_nothing(&place).await;
    };
    let restarts = async {
        node_restart::a_crash_loop_on_a_node_that_came_back_is_told_only_if_it_goes_on(&place).await;
        clear(harbor, node_restart::PACK.1).await;
        node_restart::a_crash_loop_is_told_when_the_span_has_passed_and_nothing_else_happens(&place).await;
        clear(harbor, node_restart::PACK.1).await;
        node_restart::a_crash_loop_that_ends_with_the_restart_is_told_to_nobody(&place).await;
    };
    let disks = disk_alert::two_hosts_are_cleaned_and_a_repeat_and_a_third_wait(&place);
    tokio::join!(pods, jobs, restarts, disks);
}

/// The nodes and the autoscaler are there in name only: what they say of themselves is played.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_leave_to_people_what_is_theirs() {
    let Some(harbor) = Harbor::shared().await else { return };
    let place = Place::Node(harbor);
    let nodes = async {
        node_not_ready::a_node_is_rebooted_then_replaced_then_a_person_is_paged(&place).await;
        clear(harbor, "fleet").await;
        node_not_ready::in_an_outage_no_node_is_touched_and_a_person_is_told(&place).await;
    };
    tokio::join!(nodes, hpa_at_max::a_person_decides_about_an_autoscaler_that_stays_at_its_maximum(&place));
}
