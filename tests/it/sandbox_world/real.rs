//! The scenarios on the real control plane, whose own controllers are at work.

use super::kubelet;
use super::stage::Stage;

macro_rules! scenarios {
    ($($module:ident :: $name:ident,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let Some(stage) = Stage::real(stringify!($name)).await else { return };
            $module::$name(&stage).await;
            stage.stop().await;
        }
    )*};
}

scenarios! {
    kubelet::a_job_runs_as_a_process,
    kubelet::a_failing_job_says_why,
    kubelet::a_process_recovers_when_its_file_is_repaired,
    kubelet::a_missing_config_map_is_awaited,
    kubelet::init_containers_run_in_order,
    kubelet::a_deadline_ends_everything,
    kubelet::a_deleted_pod_ends_gracefully,
    kubelet::a_memory_limit_is_enforced,
    kubelet::an_unhealthy_container_is_restarted,
}
