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
