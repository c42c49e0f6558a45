//! Limits of a Rule that contradict each other: one of them can never be felt.

use crate::api::{Limits, RuleSpec};
use crate::decide::problem::Problem;

/// What is wrong with a Rule's limits.
pub fn check(spec: &RuleSpec) -> Vec<Problem> {
    let Some(limits) = &spec.limits else { return Vec::new() };
    [unreached(limits), overtaken(limits), doubled(limits)].into_iter().flatten().collect()
}

/// So many cooldowns are longer than the span in which so many are allowed.
fn unreached(limits: &Limits) -> Option<Problem> {
    let (rate, cooldown) = (limits.per_target?, limits.cooldown?);
    let fastest = u64::from(rate.count) * u64::from(cooldown.as_secs());
    let message = format!("a cooldown of {cooldown} never lets it come to {rate}");
    let problem = Problem::warning("spec.limits.perTarget", message);
    (fastest >= u64::from(rate.within.as_secs())).then(|| problem.help("leave one of them out"))
}

/// The whole Rule may do less than each of its targets.
fn overtaken(limits: &Limits) -> Option<Problem> {
    let (target, rule) = (limits.per_target?, limits.per_rule?);
    let message = format!("the whole Rule may act only {rule}, so that no target comes to {target}");
    let problem = Problem::warning("spec.limits.perTarget", message);
    let is_more = target.count >= rule.count && target.within.as_secs() <= rule.within.as_secs();
    is_more.then(|| problem.help("allow more per Rule than per target"))
}

/// What `once` would drop falls into the cooldown anyway.
fn doubled(limits: &Limits) -> Option<Problem> {
    let (once, cooldown) = (limits.once.as_ref()?, limits.cooldown?);
    let message = format!("a cooldown of {cooldown} drops all that once would drop within {}", once.within);
    let problem = Problem::warning("spec.limits.once", message);
    (cooldown.as_secs() >= once.within.as_secs()).then(|| problem.help("leave one of them out"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn problems(limits: Value) -> Vec<String> {
        let spec = json!({"serviceAccountName": "h", "trigger": {}, "ladder": [], "limits": limits});
        check(&serde_json::from_value(spec).expect("a Rule")).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn limits_that_are_never_felt_are_told() {
        for (limits, expected) in [
            (json!({"cooldown": "30m", "perTarget": "2/6h", "perRule": "20/1h"}), vec![]),
            (
                json!({"cooldown": "30m", "perTarget": "2/1h"}),
                vec![
                    "spec.limits.perTarget: a cooldown of 30m never lets it come to 2/1h; leave one of them out",
                ],
            ),
            (
                json!({"perTarget": "3/1h", "perRule": "2/1h"}),
                vec![
                    "spec.limits.perTarget: the whole Rule may act only 2/1h, so that no target comes to 3/1h; \
                      allow more per Rule than per target",
                ],
            ),
            (
                json!({"cooldown": "10m", "once": {"take": "First", "within": "5m"}}),
                vec![
                    "spec.limits.once: a cooldown of 10m drops all that once would drop within 5m; \
                      leave one of them out",
                ],
            ),
            (json!({"cooldown": "10m", "once": {"take": "Last", "within": "15m"}}), vec![]),
        ] {
            assert_eq!(problems(limits.clone()), expected, "{limits}");
        }
    }
}
