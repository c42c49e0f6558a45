//! When a rung has nothing to do any more: at once, as long as nothing was done; later only by proof.

use super::*;

/// A world whose first rung has acted and could not prove within its minute that it helped.
fn not_verified(ladder: &[(&str, bool)]) -> World {
    let mut world = World::new(ladder);
    world.step();
    world.now = 62;
    world
}

#[test]
fn a_rung_that_was_not_verified_is_followed_by_the_next_though_nothing_matches() {
    // Fresh Pods, which have not crashed often enough yet to match.
    let mut world = not_verified(&[(RESTART, true), (CLEAN, true)]);
    (world.matches, world.ready) = (false, false);
    world.step();
    assert_eq!(world.states(), [AttemptState::Succeeded, AttemptState::Running]);
    // The object is gone.
    let mut world = not_verified(&[(RESTART, true), (CLEAN, true)]);
    (world.matches, world.ready, world.live_uid) = (false, false, Value::Null);
    world.step();
    assert_eq!(world.states(), [AttemptState::Succeeded, AttemptState::Running]);
}

#[test]
fn what_holds_in_the_end_supersedes_the_next_rung_and_the_verification_stays_failed() {
    let mut world = not_verified(&[(RESTART, true), (CLEAN, true)]);
    world.step_at_most(1);
    assert_eq!(world.status().rungs[0].verify.as_ref().and_then(|verify| verify.held), Some(false));
    (world.matches, world.ready) = (false, true);
    world.step();
    assert_eq!((world.outcome(), world.status().rungs.len()), ("Superseded", 1));
    let said = |which| condition(&world.status().conditions, which).expect("set");
    let succeeded = said(ConditionType::Succeeded);
    assert_eq!(
        succeeded.message,
        "by now nothing matches and 1 of 1 Pods are Ready: clean has nothing left to do"
    );
    let verified = said(ConditionType::Verified);
    assert_eq!((verified.status.as_str(), verified.reason.as_str()), ("False", "StillUnhealthy"));
    assert_eq!(verified.message, "restart was not verified: the target still matches the rule");
}

#[test]
fn an_expression_that_asks_for_more_than_no_match_is_asked_again() {
    for (uid, outcome) in [("d", "Superseded"), ("other", "")] {
        let mut world = World::new(&[(RESTART, true), (CLEAN, true)]);
        let verify = world.definition.ladder[0].verify.as_mut().expect("asked");
        verify.when = Some("target.metadata.uid == 'd'".to_owned());
        world.live_uid = json!("other");
        world.step();
        world.now = 62;
        world.step_at_most(1);
        (world.matches, world.live_uid) = (false, json!(uid));
        world.step();
        assert_eq!(world.outcome(), outcome, "{:?}", world.status());
    }
}

#[test]
fn a_failed_action_has_to_be_disproved_and_one_that_was_refused_has_not() {
    for (refused, outcome) in [(false, ""), (true, "Superseded")] {
        let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
        world.refuses_jobs = refused;
        if refused {
            // The Job that is refused, its name, and the status that says so.
            world.step_at_most(3);
        } else {
            world.step();
            world.end_job(false, "half of it is deleted");
            world.step_at_most(1);
        }
        assert_eq!(world.states(), [AttemptState::Failed]);
        world.matches = false;
        world.step();
        assert_eq!(world.outcome(), outcome, "{refused}: {:?}", world.status());
    }
}

#[test]
fn a_step_that_asks_for_no_proof_leaves_it_at_that_nothing_matches() {
    let mut world = World::new(&[(CLEAN, false), (RESTART, true)]);
    world.step();
    world.end_job(true, "");
    world.matches = false;
    world.step();
    assert_eq!(world.outcome(), "Superseded");
    let verified = condition(&world.status().conditions, ConditionType::Verified).expect("set");
    assert_eq!(verified.reason, "NotConfigured");
}

#[test]
fn of_alerts_it_is_enough_that_they_are_resolved() {
    let mut world = World::new(&[(RESTART, true), (CLEAN, true)]);
    let rule = world.definition.rule.as_mut().expect("a rule");
    rule.trigger = serde_json::from_value(json!({"alert": {"webhook": "w"}})).expect("a trigger");
    world.step();
    world.now = 62;
    world.step_at_most(1);
    (world.matches, world.ready) = (false, false);
    world.step();
    assert_eq!(world.outcome(), "Superseded", "an outage may be why they are");
    let verified = condition(&world.status().conditions, ConditionType::Verified).expect("set");
    assert_eq!(verified.reason, "StillUnhealthy");
}

#[test]
fn the_end_of_an_alert_is_no_reason_to_act_any_more_when_it_fires_again() {
    for (fires_again, acted, outcome, rungs) in [
        (false, false, "", 1),
        (true, false, "Superseded", 0),
        (false, true, "", 2),
        (true, true, "Superseded", 1),
    ] {
        let mut world = World::new(&[(RESTART, true), (CLEAN, true)]);
        let rule = world.definition.rule.as_mut().expect("a rule");
        rule.trigger = serde_json::from_value(json!({"alert": {"webhook": "w", "state": "Resolved"}}))
            .expect("a trigger");
        // The Pods are not Ready, and so the first rung does not help.
        world.matches = false;
        if acted {
            world.step();
            world.now = 62;
            world.step_at_most(1);
        }
        world.matches = fires_again;
        world.step();
        assert_eq!((world.outcome(), world.status().rungs.len()), (outcome, rungs), "{fires_again} {acted}");
    }
}

#[test]
fn what_was_put_back_from_a_backup_is_not_run() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.execution.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(601)));
    world.now = 602;
    // Its account came back before its rights.
    let waits = (ConditionType::Succeeded, ConditionStatus::Unknown, Reason::MissingPermissions);
    let status = world.execution.status.get_or_insert_default();
    set_condition(&mut status.conditions, waits, "pods is forbidden", Some(1), at(601));
    world.step();
    assert_eq!((world.outcome(), world.created), ("Superseded", 0));
    assert_eq!(world.status().episode_closed_at, None, "it holds its episode while the target matches");
}
