//! fother itself at work on a real control plane: remedies from the first match to the proof, identity through every
//! crash, and rights.
//!
//! Most scenarios share one control plane and one controller, each in a namespace of its own. Those that kill, restart
//! or count the controller take turns on a second one, where theirs is the only controller.

/// Scenarios that are written once, against a [`scenario::Scenario`], wherever that plays.
macro_rules! scenarios {
    ($stage:ident: $($module:ident :: $name:ident in $namespace:literal,)*) => {$(
        #[tokio::test]
        async fn $name() {
            let scenario = crate::real::healing::scenario::Scenario::$stage($namespace).await;
            let Some(scenario) = scenario else { return };
            crate::real::healing::$module::$name(&scenario).await;
        }
    )*};
}
pub(crate) use scenarios;

mod alertmanager;
pub mod by_hand;
pub mod changes;
pub mod conditions;
pub mod controller;
mod crashes;
mod earlier;
mod episodes;
mod every_request;
mod every_sync;
pub mod fields;
mod flood;
mod hooks;
pub mod lives;
pub mod main_path;
mod operations;
mod outages;
pub mod overlays;
mod packs;
mod points;
mod received;
mod rights;
pub mod scenario;
pub mod scripts;
mod second_look;
pub mod sweep;
mod takeover;
mod triggers;
mod upgrade;

mod shared {
    super::scenarios! { new:
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
}

mod alone {
    super::scenarios! { alone:
        overlays::an_overlay_needs_the_controllers_flag in "overlays",
    }
}
