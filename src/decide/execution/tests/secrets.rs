//! What a script printed is told in the status and in the Event, which have more readers than its log.

use super::*;

#[test]
fn what_a_failed_script_printed_is_told_without_secrets() {
    let mut world = World::new(&[(CLEAN, false)]);
    world.step();
    world.end_job(false, "login with token=canary at https://bot:canary@git.example/x refused");
    let next = next(&world.execution, &world.definition, &world.seen(), at(world.now));
    let said = format!("{:?}", next.effects);
    let told = "login with token=(redacted) at https://(redacted)git.example/x refused";
    assert!(said.matches(told).count() > 1 && !said.contains("canary"), "{said}");
}
