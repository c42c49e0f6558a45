//! Example packs, most of which listen to alerts, played in the sandbox: the packs' own files, the rights in their `rbac.yaml` and no
//! others, make-believe workloads, and a node that runs their Jobs. `real::examples` plays them on a real control plane, and
//! `real_node::examples` on a real node.

pub mod alert_job;
pub mod alerting_pod;
pub mod disk_alert;
pub mod hpa_at_max;
mod node_alerts;
pub mod node_not_ready;
pub mod node_restart;
pub mod oom_job;
pub mod stage;
mod taker;

macro_rules! scenarios {
    ($($module:ident :: $name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            $module::$name(&stage::Place::Memory).await;
        }
    )*};
}

scenarios! {
    alert_job::an_alert_opens_a_ticket_and_its_number_is_recorded,
    alert_job::what_does_not_fit_the_parameters_starts_nothing,
    alerting_pod::an_alerting_pod_is_deleted_once_and_nothing_is_when_it_is_resolved,
    alerting_pod::a_pod_that_is_ready_newer_or_another_is_left_alone,
    disk_alert::two_hosts_are_cleaned_and_a_repeat_and_a_third_wait,
    disk_alert::what_is_no_name_of_a_host_is_nothing_to_clean,
    node_restart::a_crash_loop_on_a_node_that_came_back_is_told_only_if_it_goes_on,
    node_restart::a_crash_loop_that_ends_with_the_restart_is_told_to_nobody,
    node_restart::a_crash_loop_is_told_when_the_span_has_passed_and_nothing_else_happens,
    hpa_at_max::a_person_decides_about_an_autoscaler_that_stays_at_its_maximum,
    node_not_ready::a_node_is_rebooted_then_replaced_then_a_person_is_paged,
    node_not_ready::in_an_outage_no_node_is_touched_and_a_person_is_told,
    oom_job::a_job_completes_with_more_memory,
    oom_job::a_job_that_needs_more_than_the_cap_is_reported,
    oom_job::a_job_at_the_cap_is_reported_and_not_touched,
}

#[test]
fn the_alerts_are_those_that_the_rules_name() {
    node_not_ready::the_alerts_are_those_that_the_rules_name();
}
