//! The scenarios on real API servers: with the real controllers, and with the make-believe ones in their place.

mod real_controllers {
    scenarios! { real:
        kubelet::a_job_runs_as_a_process,
        kubelet::a_failing_job_says_why,
        kubelet::a_process_recovers_when_its_file_is_repaired,
        kubelet::a_missing_config_map_is_awaited,
        kubelet::init_containers_run_in_order,
        kubelet::a_deadline_ends_everything,
        kubelet::a_deleted_pod_ends_gracefully,
        kubelet::a_memory_limit_is_enforced,
        kubelet::an_unhealthy_container_is_restarted,
        kubelet::a_log_can_be_followed,
        kubelet::a_node_that_comes_back_runs_no_job_twice,
        kubelet::a_node_that_prints_runs_nothing,
        world::a_deployment_rolls_out,
        world::a_broken_pod_recovers_by_replacement,
        world::a_bad_rollout_is_late,
        world::a_stateful_set_keeps_its_names,
        world::jobs_count_their_pods,
        world::jobs_end_with_their_pods,
    }
}

mod make_believe_controllers {
    scenarios! { world:
        kubelet::a_job_runs_as_a_process,
        kubelet::a_process_recovers_when_its_file_is_repaired,
        world::a_deployment_rolls_out,
        world::a_broken_pod_recovers_by_replacement,
        world::a_bad_rollout_is_late,
        world::a_stateful_set_keeps_its_names,
        world::jobs_count_their_pods,
        world::jobs_end_with_their_pods,
        world::pods_of_a_deleted_job_go,
        world::a_settled_world_writes_nothing,
    }
}
