//! How long what a rung was to prove has to hold.

use super::*;

#[test]
fn a_flap_starts_the_stability_again() {
    let mut world = World::new(&[(RESTART, true)]);
    world.step();
    for (now, ready) in [(10, true), (15, false), (18, true), (27, true)] {
        (world.now, world.ready, world.matches) = (now, ready, false);
        world.step();
        assert_eq!(world.outcome(), "");
    }
    world.now = 28;
    world.step();
    assert_eq!(world.outcome(), "TargetRecovered");
}

#[test]
fn a_flap_between_two_looks_starts_the_stability_again() {
    let mut world = World::new(&[(RESTART, true)]);
    world.step();
    (world.ready, world.matches) = (true, false);
    for (now, turned) in [(10, 9), (12, 9), (19, 17), (28, 17)] {
        (world.now, world.turned) = (now, Some(turned));
        world.step();
        assert_eq!(world.outcome(), "", "at {now}");
    }
    world.now = 29;
    world.step();
    assert_eq!(world.outcome(), "TargetRecovered");
}
