//! What cannot be looked at: waited for, with an end, and never guessed.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;

impl World {
    /// The next step of somebody who has seen nothing since a moment.
    fn blind(&self, since: i64, now: i64) -> Next {
        let blind = Blind { why: "pods is forbidden".into(), since: at(since) };
        let seen = Seen { blind: Some(blind), ..Seen::default() };
        next(&self.execution, &self.definition, &seen, at(now))
    }

    /// Takes over the status that a step writes first.
    fn take(&mut self, next: Next) {
        let status = next.effects.into_iter().find_map(|effect| match effect {
            Effect::Status(status) => Some(*status),
            _ => None,
        });
        self.execution.status = Some(status.expect("a status"));
    }

    fn delete(&mut self, second: i64) {
        self.execution.metadata.deletion_timestamp = Some(Time(at(second)));
    }
}

#[test]
fn a_rung_waits_for_its_look_and_fails_in_the_end() {
    let mut world = World::new(&[(RESTART, true), (CLEAN, true)]);
    assert_eq!(world.blind(1000, 1030), Next::wait(Again::At(at(1035))), "however long it has waited before");
    let gave_up = world.blind(1000, 1060);
    world.take(gave_up);
    assert_eq!(world.states(), [AttemptState::Failed]);
    assert_eq!(world.status().rungs[0].message, "could not look: pods is forbidden");
}

#[test]
fn what_runs_or_is_watched_has_its_own_deadline_and_patience_too() {
    let mut verifying = World::new(&[(RESTART, true), (CLEAN, true)]);
    verifying.step();
    assert_eq!(verifying.blind(1, 59), Next::wait(Again::At(at(61))));
    assert_eq!(verifying.blind(61, 62), Next::wait(Again::At(at(67))), "it may have been well all the time");
    let unproven = verifying.blind(1, 62);
    verifying.take(unproven);
    assert_eq!(verifying.status().rungs[0].verify.as_ref().and_then(|verify| verify.held), Some(false));

    let mut running = World::new(&[(CLEAN, true)]);
    running.step();
    assert_eq!(running.blind(100_000, 100_001), Next::wait(Again::At(at(100_006))));
    let failed = running.blind(100_000, 100_060);
    running.take(failed);
    assert_eq!(running.states(), [AttemptState::Failed]);
}

#[test]
fn a_cancellation_waits_only_where_something_may_run() {
    let mut verifying = World::new(&[(RESTART, true)]);
    verifying.step();
    let mut launching = World::new(&[(RESTART, true)]);
    launching.step_at_most(1);
    let mut running = World::new(&[(CLEAN, true)]);
    running.step();
    let operation = World::new(&[(RESTART, true)]);
    let unseen = World::new(&[(CLEAN, true)]);
    for (mut world, waits) in
        [(verifying, false), (operation, false), (launching, true), (running, true), (unseen, true)]
    {
        world.execution.spec.cancel = true;
        if waits {
            assert_eq!(world.blind(5, 6), Next::wait(Again::At(at(11))), "{:?}", world.execution.status);
        }
        let end = world.blind(5, if waits { 65 } else { 6 });
        world.take(end);
        assert_eq!(world.outcome(), "Canceled");
    }
}

#[test]
fn a_job_that_was_left_to_itself_is_stopped_when_it_is_seen_again() {
    let mut recorded = World::new(&[(CLEAN, true)]);
    recorded.step();
    let mut unrecorded = World::new(&[(CLEAN, true)]);
    unrecorded.step_at_most(1);
    for mut world in [recorded, unrecorded] {
        assert_eq!(world.jobs.len(), 1);
        world.execution.spec.cancel = true;
        let end = world.blind(1, 61);
        world.take(end);
        assert_eq!(world.blind(61, 70).effects, [], "it may still be let go when the right comes back");
        world.step();
        assert_eq!((world.stopped.len(), world.jobs.len()), (1, 0), "nobody else would stop it");
        assert_eq!(world.execution.metadata.finalizers, None);
    }
}

#[test]
fn what_has_ended_and_is_to_be_deleted_is_let_go_in_the_end() {
    let mut world = World::new(&[(CLEAN, true)]);
    world.step();
    world.execution.spec.cancel = true;
    let end = world.blind(1, 61);
    world.take(end);
    world.delete(20);
    assert_eq!(world.blind(70, 71), Next::wait(Again::At(at(76))), "the right may come back in a moment");
    assert_eq!(world.blind(70, 130).effects, [Effect::RemoveFinalizer]);
}

#[test]
fn a_replacement_that_has_begun_is_not_given_up_unseen() {
    let mut world = World::new(&[("recreate", false)]);
    world.steps_to_come = 9;
    world.step();
    world.execution.spec.cancel = true;
    assert_eq!(world.blind(2, 100_000).effects, [], "the object may be missing, and nobody else creates it");
    world.delete(100_000);
    let end = world.blind(2, 100_000);
    world.take(end);
    assert_eq!(world.outcome(), "Canceled");
}
