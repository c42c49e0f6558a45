//! What is told of the target, and under which names.

use std::collections::BTreeSet;

use super::*;

/// The texts by the names of their Events: of those with one name only the first is written.
fn written(world: &World) -> BTreeMap<String, String> {
    let told = world.told.iter().rev();
    told.map(|notice| (notice.name("crashloop-1"), notice.note.clone())).collect()
}

#[test]
fn that_the_only_rung_did_not_help_is_told_beside_that_a_person_is_needed() {
    let mut world = World::new(&[(RESTART, true)]);
    world.step();
    world.now = 62;
    world.step();
    assert_eq!(world.notices, ["RemediationIneffective", "RemediationIneffective"]);
    let written = written(&world);
    let said = |name: &str| written.get(name).map_or("", String::as_str);
    let of_rung = said("crashloop-1-0-remediationineffective");
    assert!(of_rung.starts_with("restart did not help within 1m: "), "{written:?}");
    let of_end = said("crashloop-1-end-remediationineffective");
    assert!(of_end.starts_with("no rung of the ladder helped; left alone until it clears: "), "{written:?}");
}

#[test]
fn whatever_is_told_has_a_name_of_its_own_and_the_same_if_it_is_told_again() {
    let climbed = || {
        let mut world = World::new(&[(CLEAN, true), (RESTART, true), (RESTART, true)]);
        world.step();
        world.end_job(false, "disk is read-only");
        for now in [2, 63, 124] {
            world.now = now;
            world.step();
        }
        assert_eq!(world.outcome(), "Quarantined");
        world.told.iter().map(|notice| notice.name("crashloop-1")).collect::<Vec<_>>()
    };
    let names = climbed();
    assert_eq!(names.len(), 7, "{names:?}");
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    assert_eq!(names, climbed());
}

#[test]
fn what_follows_a_replacement_is_told_of_the_new_object() {
    for verified in [false, true] {
        let mut world = World::new(&[(CLEAN, false), ("recreate", verified)]);
        world.step();
        world.end_job(true, "freed=1");
        world.result = Ok(Done { replaced_by: Some("d2".into()), ..Done::default() });
        world.step();
        world.now = 62;
        world.step();
        let told: Vec<_> = world.told.iter().map(|told| (told.reason, told.target_uid.as_deref())).collect();
        let expected = match verified {
            true => vec![("RemediationIneffective", Some("d2")); 2],
            false => vec![("RemediationCompleted", Some("d2"))],
        };
        assert_eq!(told[0], ("ExecutionJobCreated", None), "the target as it was decided about");
        assert_eq!(told[1..], expected);
    }
}
