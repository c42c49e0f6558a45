//! Rules that follow from each other's Executions: one that follows itself, and circles.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::RuleSpec;
use crate::decide::ends::DEEPEST;
use crate::decide::problem::Problem;

/// What is wrong with how Rules follow each other, each with the place of its Rule among them.
pub fn check(rules: &[(&str, &RuleSpec)]) -> Vec<(usize, Problem)> {
    let leaders: BTreeMap<&str, &[String]> =
        rules.iter().map(|(name, spec)| (*name, leaders(spec))).collect();
    let mut problems = Vec::new();
    for (place, (name, spec)) in rules.iter().enumerate() {
        for (index, leader) in self::leaders(spec).iter().enumerate() {
            let path = format!("spec.trigger.execution.rules[{index}]");
            if leader == name {
                problems.push((place, Problem::error(path, "rule reacts to its own Executions")));
            } else if let Some(way) = way(leader, name, &leaders) {
                let message =
                    format!("{name} follows {way}: a circle, which ends after {DEEPEST} Executions");
                problems.push((place, Problem::warning(path, message)));
            }
        }
    }
    problems
}

fn leaders(spec: &RuleSpec) -> &[String] {
    spec.trigger.execution.as_ref().map_or(&[], |trigger| trigger.rules.as_slice())
}

/// How one rule follows another, if it does.
fn way(from: &str, to: &str, leaders: &BTreeMap<&str, &[String]>) -> Option<String> {
    let (mut known, mut open) = (BTreeSet::new(), vec![vec![from.to_owned()]]);
    while let Some(path) = open.pop() {
        let last = path.last()?;
        if last == to {
            return Some(path.join(", which follows "));
        }
        if known.insert(last.clone()) {
            let next = leaders.get(last.as_str()).copied().unwrap_or_default();
            open.extend(next.iter().map(|next| path.iter().chain([next]).cloned().collect()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn circles_are_told_and_loops_refused() {
        let spec = |rules: &[&str]| -> RuleSpec {
            let spec =
                json!({"serviceAccountName": "h", "trigger": {"execution": {"rules": rules}}, "ladder": []});
            serde_json::from_value(spec).expect("a Rule")
        };
        let rules =
            [("a", spec(&["b", "x"])), ("b", spec(&["c"])), ("c", spec(&["a"])), ("d", spec(&["a", "d"]))];
        let rules: Vec<_> = rules.iter().map(|(name, spec)| (*name, spec)).collect();
        let told: Vec<_> =
            check(&rules).iter().map(|(place, problem)| format!("{place} {problem}")).collect();
        assert_eq!(
            told,
            [
                "0 spec.trigger.execution.rules[0]: a follows b, which follows c, which follows a: a circle, which ends after 3 Executions",
                "1 spec.trigger.execution.rules[0]: b follows c, which follows a, which follows b: a circle, which ends after 3 Executions",
                "2 spec.trigger.execution.rules[0]: c follows a, which follows b, which follows c: a circle, which ends after 3 Executions",
                "3 spec.trigger.execution.rules[1]: rule reacts to its own Executions",
            ]
        );
    }
}
