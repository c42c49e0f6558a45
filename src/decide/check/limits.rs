//! Limits of a Rule that contradict each other: one of them can never be felt.

use crate::api::{Limits, RuleSpec, Take};
use crate::decide::problem::Problem;

/// What is wrong with a Rule's limits.
pub fn check(spec: &RuleSpec) -> Vec<Problem> {
    let Some(limits) = &spec.limits else { return Vec::new() };
    [unreached(limits), spaced(limits), overtaken(limits), doubled(limits), empty(limits)]
        .into_iter()
        .flatten()
        .collect()
}

/// So many cooldowns are longer than the span in which so many are allowed.
fn unreached(limits: &Limits) -> Option<Problem> {
    let (rate, cooldown) = (limits.per_target?, limits.cooldown?);
    let fastest = u64::from(rate.count) * u64::from(cooldown.as_secs());
    let message = format!("a cooldown of {cooldown} never lets it come to {rate}");
    let problem = Problem::warning("spec.limits.perTarget", message);
    (fastest >= u64::from(rate.within.as_secs())).then(|| problem.help("leave one of them out"))
}

/// So many times of `once` are longer than the span in which so many are allowed. Of `Last` two may follow each other
/// closely: the end of one time, and an event alone after it.
fn spaced(limits: &Limits) -> Option<Problem> {
    let (rate, once) = (limits.per_target?, limits.once.as_ref().filter(|once| once.take == Take::First)?);
    let fastest = u64::from(rate.count) * u64::from(once.within.as_secs());
    let message = format!("once acts on one event in {}, and so never comes to {rate}", once.within);
    let problem = Problem::warning("spec.limits.perTarget", message);
    (fastest >= u64::from(rate.within.as_secs())).then(|| problem.help("leave one of them out"))
}

/// Nothing falls into no time.
fn empty(limits: &Limits) -> Option<Problem> {
    let once = limits.once.as_ref().filter(|once| once.within.as_secs() == 0)?;
    let message = format!("within {} no event follows another, so that once drops none", once.within);
    Some(Problem::warning("spec.limits.once", message).help("use a time such as \"10m\""))
}

/// The whole Rule may do less than each of its targets.
fn overtaken(limits: &Limits) -> Option<Problem> {
    let (target, rule) = (limits.per_target?, limits.per_rule?);
    let message = format!("the whole Rule may act only {rule}, so that no target comes to {target}");
    let problem = Problem::warning("spec.limits.perTarget", message);
    let is_more = target.count >= rule.count && target.within.as_secs() <= rule.within.as_secs();
    is_more.then(|| problem.help("allow more per Rule than per target"))
}

/// What `once` would drop falls into the cooldown anyway. That of several it takes the last is another matter.
fn doubled(limits: &Limits) -> Option<Problem> {
    let once = limits.once.as_ref().filter(|once| once.take == Take::First && once.within.as_secs() > 0)?;
    let cooldown = limits.cooldown?;
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
            (json!({"cooldown": "10m", "once": {"take": "Last", "within": "5m"}}), vec![]),
            (
                json!({"perTarget": "2/10m", "once": {"take": "First", "within": "5m"}}),
                vec![
                    "spec.limits.perTarget: once acts on one event in 5m, and so never comes to 2/10m; \
                      leave one of them out",
                ],
            ),
            (json!({"perTarget": "2/11m", "once": {"take": "First", "within": "5m"}}), vec![]),
            (json!({"perTarget": "2/10m", "once": {"take": "Last", "within": "5m"}}), vec![]),
            (
                json!({"once": {"take": "Last", "within": "0s"}}),
                vec![
                    "spec.limits.once: within 0s no event follows another, so that once drops none; \
                      use a time such as \"10m\"",
                ],
            ),
        ] {
            assert_eq!(problems(limits.clone()), expected, "{limits}");
        }
    }
}
