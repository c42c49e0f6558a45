//! What was done half when somebody was stopped: names that were taken, objects that are being replaced.

use super::*;

#[test]
fn a_rung_that_fails_before_its_job_is_seen_takes_the_jobs_name() {
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    let action = world.definition.actions.get_mut(CLEAN).expect("there");
    action.parameters =
        serde_json::from_value(json!([{"name": "host", "required": true}])).expect("parameters");
    world.step();
    assert_eq!(
        world.states(),
        [AttemptState::Failed, AttemptState::Succeeded],
        "the next rung is not hindered"
    );
    assert_eq!((world.created, world.jobs.values().any(|job| job.held)), (1, false), "only a placeholder");
}

#[test]
fn a_delete_that_was_done_already_is_done() {
    for uid in [Value::Null, json!("another")] {
        let mut world = World::new(&[("delete", true)]);
        world.live_uid = uid;
        world.step();
        assert_eq!((world.states(), world.operations.len()), (vec![AttemptState::Succeeded], 0));
    }
    let mut world = World::new(&[("delete", true)]);
    world.step();
    assert_eq!((world.states(), world.operations.len()), (vec![AttemptState::Succeeded], 1));
}

#[test]
fn a_replacement_that_has_begun_is_brought_to_its_end() {
    for hurry in
        [|world: &mut World| world.now = 100_000, |world: &mut World| world.execution.spec.cancel = true]
    {
        let mut world = World::new(&[("recreate", false)]);
        world.steps_to_come = 9;
        world.step();
        assert!(world.status().rungs[0].replacement.is_some());
        world.live_uid = Value::Null;
        hurry(&mut world);
        world.step();
        assert_eq!(
            (world.states(), world.outcome()),
            (vec![AttemptState::Launching], ""),
            "the object is missing"
        );
        world.steps_to_come = 0;
        world.step();
        assert_eq!(world.states(), [AttemptState::Succeeded]);
        assert!(["Completed", "Canceled"].contains(&world.outcome()));
    }
    let mut world = World::new(&[("recreate", false)]);
    world.steps_to_come = 9;
    world.step();
    world.now = 100_000;
    world.step();
    assert_eq!(world.outcome(), "DeadlineExceeded", "the old object is still there: nothing is lost");
}

#[test]
fn who_cancels_while_the_old_object_is_going_gets_the_new_one() {
    let mut world = World::new(&[("recreate", false)]);
    world.steps_to_come = 9;
    world.step();
    (world.deleted_at, world.execution.spec.cancel) = (Some("1970-01-01T00:00:00Z"), true);
    world.step();
    assert_eq!((world.states(), world.outcome()), (vec![AttemptState::Launching], ""), "it will be missing");
    let mut held = World { execution: world.execution.clone(), ..World::new(&[("recreate", false)]) };
    (held.deleted_at, held.now, held.steps_to_come) = (world.deleted_at, 100_000, 9);
    held.step();
    assert_eq!(held.outcome(), "Canceled", "a finalizer that nobody takes off holds nobody else up for ever");
    let said = condition(&held.status().conditions, ConditionType::Succeeded).expect("set");
    assert!(said.message.contains("its manifest is in status.rungs[0].replacement"), "{}", said.message);
    (world.live_uid, world.steps_to_come) = (Value::Null, 0);
    world.step();
    assert_eq!(world.states(), [AttemptState::Succeeded]);
}

#[test]
fn what_a_template_made_of_the_target_is_sent_again_as_it_was() {
    let mut world = World::new(&[(RESTART, false)]);
    let double = json!({"kubernetes": {"scale": {"replicas": "${{ target.spec.replicas * 2 }}"}}});
    world.definition.actions.insert(RESTART.into(), serde_json::from_value(double).expect("an Action"));
    // Its answer is lost, and the target is as it left it.
    world.steps_to_come = 1;
    world.step();
    let sent: Vec<_> = world.operations.iter().map(replicas).collect();
    assert_eq!((sent, world.outcome()), (vec![json!(4), json!(4)], "Completed"));
}

#[test]
fn what_is_made_of_a_secret_is_not_kept() {
    let mut world = World::new(&[(RESTART, false)]);
    let target = world.execution.spec.target.as_mut().expect("a target");
    (target.api_version, target.kind) = ("v1".into(), "Secret".into());
    let copied = json!({"kubernetes": {"annotate": {"values": {"seen": "${{ target.kind }}"}}}});
    world.definition.actions.insert(RESTART.into(), serde_json::from_value(copied).expect("an Action"));
    world.step();
    assert_eq!((world.outcome(), world.status().rungs[0].change.as_ref()), ("Completed", None));
}

fn replicas(operation: &Operation) -> Value {
    let Operation::Patch { body, .. } = operation else { panic!("a patch: {operation:?}") };
    body["spec"]["replicas"].clone()
}

#[test]
fn what_a_script_and_a_server_say_too_much_of_is_cut() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    let many: Vec<_> = (0..120).map(|number| format!("k{number}=1")).collect();
    world.end_job(true, &many.join("\n"));
    world.step();
    let said = &world.status().rungs[0].message;
    assert_eq!((world.states(), said.chars().count()), (vec![AttemptState::Succeeded], LONGEST_MESSAGE));
    let mut status = world.status().clone();
    status.rungs[0].verify.as_mut().expect("verified").message = "é".repeat(5000);
    status.cut_messages();
    assert_eq!(status.rungs[0].verify.as_ref().expect("verified").message, "é".repeat(1024));
}

#[test]
fn a_placeholder_is_not_taken_for_the_job() {
    // Superseded, and killed between the placeholder and the status.
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    world.matches = false;
    world.step_at_most(1);
    assert_eq!((world.created, world.execution.status.is_none()), (1, true));
    let mut matches_again =
        World { matches: true, jobs: world.jobs.clone(), ..World::new(&[(CLEAN, true), (RESTART, true)]) };
    world.step();
    assert_eq!((world.outcome(), world.created), ("Superseded", 1));
    matches_again.step();
    assert_eq!(
        matches_again.states(),
        [AttemptState::Failed, AttemptState::Succeeded],
        "its name is taken for good"
    );
}

#[test]
fn an_end_does_not_wait_for_a_placeholder_that_is_refused() {
    let mut world = World::new(&[(CLEAN, true)]);
    (world.refuses_jobs, world.matches) = (true, false);
    world.step();
    assert_eq!((world.outcome(), world.created), ("Superseded", 0));
}

#[test]
fn a_replacement_is_saved_before_the_old_object_is_deleted() {
    let mut world = World::new(&[("recreate", true), (RESTART, true)]);
    world.result = Ok(Done { replaced_by: Some("d2".into()), ..Done::default() });
    world.step_at_most(2);
    let saved = world.status().rungs[0].replacement.clone().expect("saved");
    assert_eq!(world.operations, []);
    world.step();
    let Operation::Recreate { manifest, target } = &world.operations[0] else { panic!("a recreation") };
    assert_eq!((manifest, target.uid.as_deref()), (&saved.to_value(), Some("d")));
    world.now = 62;
    world.step();
    let Operation::Patch { target, .. } = &world.operations[1] else { panic!("a patch") };
    assert_eq!(target.uid.as_deref(), Some("d2"), "later rungs act on the object that took its place");
}

#[test]
fn a_job_is_held_only_until_it_is_recorded() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step_at_most(2);
    assert_eq!(world.states(), [AttemptState::Running]);
    assert!(world.jobs.values().all(|job| job.held), "killed between the record and letting go");
    world.step();
    assert!(world.jobs.values().all(|job| !job.held), "a namespace that is deleted takes it along");
    assert_eq!(world.released.len(), 0, "it does not expire before its outcome is recorded");
    world.jobs.clear();
    world.step();
    assert_eq!((world.states(), world.created), (vec![AttemptState::Lost], 1), "and is never created again");
}

#[test]
fn a_job_that_cannot_be_let_go_does_not_keep_its_rung_from_ending() {
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    world.step_at_most(2);
    assert!(world.jobs.values().all(|job| job.held), "its finalizer could not be taken off");
    world.now = 1 + 300 + DEADLINE_GRACE.as_secs();
    world.step_at_most(1);
    assert_eq!(world.states(), [AttemptState::DeadlineExceeded], "recorded before anything is refused again");
}

#[test]
fn what_still_runs_is_stopped_before_any_job_is_let_go() {
    let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
        "metadata": {"name": "x", "namespace": "a", "uid": "u", "finalizers": [EXECUTION_FINALIZER]},
        "spec": {"serviceAccountName": "h"}, "status": {"rungs": [], "finishedAt": "1970-01-01T00:00:00Z"}});
    let execution = serde_json::from_value(execution).expect("an Execution");
    let left = |name: &str, is_live| LeftJob { name: name.into(), uid: format!("uid-{name}"), is_live };
    let seen = Seen { left_jobs: vec![left("ended", false), left("live", true)], ..Seen::default() };
    let [ended, live] = ["ended", "live"].map(|name| (name.to_owned(), format!("uid-{name}")));
    let expected = [
        Effect::DeleteJob(live.0.clone(), live.1.clone()),
        Effect::ReleaseJob(ended.0, ended.1),
        Effect::ReleaseJob(live.0, live.1),
        Effect::RemoveFinalizer,
    ];
    assert_eq!(next(&execution, &Definition::default(), &seen, at(1)).effects, expected);
}

#[test]
fn nothing_is_begun_beside_the_pods_of_a_job_that_is_gone() {
    let mut world = World::new(&[(CLEAN, true), (RESTART, true)]);
    world.step();
    world.strays = (1, world.jobs.values().next().expect("a Job").uid.clone());
    world.jobs.clear();
    assert_eq!(world.step(), Again::At(at(1) + FIRST_LOOK));
    assert_eq!(world.states(), [AttemptState::Running]);
    let mut canceled =
        World { execution: world.execution.clone(), strays: world.strays.clone(), ..World::new(&[]) };
    canceled.definition = world.definition.clone();
    canceled.execution.spec.cancel = true;
    canceled.step();
    assert_eq!((canceled.outcome(), canceled.stopped.len()), ("", 1), "they are stopped, and waited for");
    for world in [&mut world, &mut canceled] {
        world.strays.0 = 0;
        world.step();
    }
    assert_eq!(world.states(), [AttemptState::Lost, AttemptState::Succeeded]);
    assert_eq!(canceled.outcome(), "Canceled");
}

#[test]
fn canceling_waits_no_longer_for_pods_than_the_action_may_take() {
    for job_is_there in [true, false] {
        let mut world = World::new(&[(CLEAN, true)]);
        world.step();
        world.execution.spec.cancel = true;
        if job_is_there {
            // Somebody's finalizer keeps it.
            world.jobs.values_mut().for_each(|job| (job.held, job.live_pods) = (true, 1));
        } else {
            world.strays = (1, world.jobs.values().next().expect("a Job").uid.clone());
            world.jobs.clear();
        }
        let deadline = 1 + 300 + DEADLINE_GRACE.as_secs();
        for (now, outcome) in [(2, ""), (deadline - 1, ""), (deadline, "Canceled")] {
            world.now = now;
            world.step();
            assert_eq!(world.outcome(), outcome, "at {now}");
        }
        let succeeded = condition(&world.status().conditions, ConditionType::Succeeded).expect("set").clone();
        assert!(succeeded.message.contains("may run still"), "{}", succeeded.message);
    }
}

#[test]
fn canceling_stops_the_job_that_was_recorded_and_no_other_of_its_name() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    world.jobs.values_mut().for_each(|job| "another".clone_into(&mut job.uid));
    world.execution.spec.cancel = true;
    let next = next(&world.execution, &world.definition, &world.seen(), at(world.now));
    assert!(!next.effects.iter().any(|effect| matches!(effect, Effect::DeleteJob(..))), "{next:?}");
    let is_over = next.effects.iter().any(|effect| match effect {
        Effect::Status(status) => status.finished_at.is_some(),
        _ => false,
    });
    assert!(is_over, "{next:?}");
}

#[test]
fn a_run_by_hand_deletes_the_object_that_it_began_with_and_no_other() {
    let mut world = World::new(&[("delete", false)]);
    world.execution.spec.target.as_mut().expect("a target").uid = None;
    world.step_at_most(1);
    assert_eq!(world.status().rungs[0].target_uid.as_deref(), Some("d"));
    let mut again = World { execution: world.execution.clone(), ..World::new(&[("delete", false)]) };
    world.step();
    let Operation::Delete { target, .. } = &world.operations[0] else { panic!("a deletion") };
    assert_eq!(target.uid.as_deref(), Some("d"));
    // Killed after the deletion; a controller has put another object of the name there meanwhile.
    again.live_uid = json!("another");
    again.step();
    assert_eq!((again.states(), again.operations.len()), (vec![AttemptState::Succeeded], 0));
}

#[test]
fn a_replacement_that_is_refused_is_tried_until_the_deadline_and_its_loss_is_told() {
    let mut world = World::new(&[("recreate", true), (CLEAN, false)]);
    world.steps_to_come = 1;
    world.step();
    (world.live_uid, world.matches) = (Value::Null, false);
    world.result = Err("exceeded quota".to_owned());
    for now in [2, 4] {
        world.now = now;
        assert_eq!(world.step(), Again::At(at(now + 2)));
        assert_eq!(world.states(), [AttemptState::Launching], "{now}");
    }
    let message = &world.status().rungs[0].message;
    assert!(message.starts_with("Deployment/web IS DELETED; to create it again is tried until"), "{message}");
    let mut recovers = World { execution: world.execution.clone(), ..World::new(&[("recreate", false)]) };
    recovers.live_uid = Value::Null;
    recovers.step();
    assert_eq!(recovers.states()[0], AttemptState::Succeeded, "the quota has let go of the old one");

    world.now = 100_000;
    world.step();
    assert_eq!(world.states(), [AttemptState::Failed, AttemptState::Running], "the next rung is needed");
    let message = world.status().rungs[0].message.clone();
    assert!(
        message.starts_with("Deployment/web IS DELETED and was not created again within")
            && message.contains("status.rungs[0].replacement of the Execution crashloop-1: exceeded quota"),
        "{message}"
    );
    assert!(world.notices.contains(&"ExecutionStepFailed"));
    world.end_job(true, "");
    world.step();
    assert_eq!(world.outcome(), "Quarantined");
    let succeeded = condition(&world.status().conditions, ConditionType::Succeeded).expect("set");
    assert!(succeeded.message.contains("IS DELETED"), "{}", succeeded.message);
}

#[test]
fn a_replacement_that_is_refused_before_the_deletion_fails_at_once() {
    let mut world = World::new(&[("recreate", false)]);
    world.result = Err("denied by policy".to_owned());
    world.step();
    assert_eq!((world.states(), world.outcome()), (vec![AttemptState::Failed], "ActionFailed"));
    assert_eq!(world.status().rungs[0].message, "denied by policy");
}
