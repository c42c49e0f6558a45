//! Rules about changes: what they cannot have, and what they cannot see.

use serde_json::Value;

use crate::api::RuleSpec;
use crate::decide::change::{OLD, is_about_changes};
use crate::decide::problem::Problem;

/// What is wrong with how a Rule uses `oldObject`.
pub(super) fn check(spec: &RuleSpec) -> Vec<Problem> {
    if !is_about_changes(spec) {
        return elsewhere(spec).into_iter().collect();
    }
    let over = |field: &str, remedy: &str| {
        let message = format!("a change, which `when` asks for by {OLD}, is over when it is seen");
        Problem::error(format!("spec.{field}"), message).help(remedy.to_owned())
    };
    let mut problems = Vec::new();
    if spec.hold_for.is_some() {
        problems.push(over("for", "leave `for` out, or ask for how the object is"));
    }
    if spec.since.is_some() {
        problems.push(over("since", "leave it out"));
    }
    let message = format!(
        "{OLD} is known of a change that is seen live: what changes while no controller watches, as in a restart, does not match"
    );
    problems.push(
        Problem::warning("spec.when", message).help("where nothing may be missed, ask for how the object is"),
    );
    problems
}

/// Whoever does not ask for a change does not know of one.
fn elsewhere(spec: &RuleSpec) -> Option<Problem> {
    let in_unless = spec.unless.iter().position(|unless| unless.condition.contains(OLD));
    let in_with =
        spec.ladder.iter().position(|rung| Value::Object(rung.with.0.clone()).to_string().contains(OLD));
    let path = match (&spec.since, in_unless, in_with) {
        (Some(since), ..) if since.contains(OLD) => "spec.since".to_owned(),
        (_, Some(index), _) => format!("spec.unless[{index}].if"),
        (.., Some(index)) => format!("spec.ladder[{index}].with"),
        _ => return None,
    };
    spec.trigger.resource.as_ref()?;
    let message = format!("{OLD} is known to Rules alone whose `when` reads it");
    Some(Problem::error(path, message).help("read it in `when`, too"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(changes: Value) -> Vec<String> {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": "object.a > oldObject.a",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}});
        json_patch::merge(&mut spec, &changes);
        let problems = check(&serde_json::from_value(spec).expect("a spec"));
        problems.iter().map(|problem| format!("{:?} {}", problem.severity, problem.path)).collect()
    }

    #[test]
    fn a_rule_about_changes_is_told_what_it_cannot_see_and_have() {
        assert_eq!(told(json!({})), ["Warning spec.when"]);
        assert_eq!(told(json!({"for": "2m"})), ["Error spec.for", "Warning spec.when"]);
        assert_eq!(told(json!({"since": "object.since"})), ["Error spec.since", "Warning spec.when"]);
        assert_eq!(told(json!({"when": "object.a > 1"})), [""; 0]);
        let with = json!([{"run": "x", "with": {"was": "${{ oldObject.a }}"}}]);
        assert_eq!(told(json!({"when": "object.a > 1", "ladder": with})), ["Error spec.ladder[0].with"]);
        assert_eq!(told(json!({"ladder": with})), ["Warning spec.when"]);
    }
}
