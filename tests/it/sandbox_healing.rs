//! The main path in the sandbox: the very scenarios that run on the real control plane, on the in-memory API server, with
//! the make-believe controllers and node of `fother dev`, and the controller as a process of its own.

use k8s_openapi::jiff::SignedDuration;

use crate::real::healing::scenario::Scenario;
use crate::real::healing::{overlays, sweep};
use crate::sandbox_world::stage::Stage;

crate::real::healing::scenarios! { memory:
    main_path::a_commit_mends_a_crash_loop_by_its_script_and_proves_it in "main-path",
    main_path::a_script_that_fails_leads_to_quarantine_and_ends_the_wait in "main-path-fails",
    main_path::a_rung_that_replaces_the_pods_and_does_not_help_leads_to_the_next in "replaced-pods",
    scripts::a_script_gets_values_as_they_were_given in "values",
    scripts::a_script_that_overruns_is_stopped_and_told_of in "overruns",
    scripts::a_script_that_says_too_much_fails_and_is_told_how in "says-much",
    by_hand::a_container_gets_parameters_and_gives_outputs in "container",
    by_hand::an_action_is_run_by_hand_as_the_document_says in "by-hand",
    by_hand::evidence_is_what_was_asked_for in "collected",
    conditions::what_another_says_of_a_rule_stays in "conditions",
    changes::a_change_is_answered_once_and_with_what_was in "changes",
    lives::what_comes_and_goes_is_answered_once in "lives",
    fields::a_rule_is_checked_against_the_fields_that_its_cluster_has in "fields",
    fields::a_rule_follows_the_fields_of_a_custom_kind in "custom-fields",
}

#[tokio::test]
async fn a_definition_that_nothing_names_goes_when_it_is_old() {
    let scenario = Scenario::quiet(Stage::of_old(SignedDuration::from_hours(1)).await).await;
    sweep::a_definition_that_nothing_names_goes_when_it_is_old(&scenario).await;
}

#[tokio::test]
async fn an_overlay_needs_the_controllers_flag() {
    let scenario = Scenario::quiet(Stage::memory("overlays").await.unwrap()).await;
    overlays::an_overlay_needs_the_controllers_flag(&scenario).await;
}
