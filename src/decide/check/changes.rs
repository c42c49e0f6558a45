//! Rules about changes: what they cannot have, and what they cannot see.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::api::RuleSpec;
use crate::decide::change::{OLD, is_about_changes};
use crate::decide::execution::rung;
use crate::decide::matching::CompiledRule;
use crate::decide::problem::Problem;
use crate::expr::{Expression, Scope, TemplateTree};

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
    if spec.correlate.as_ref().is_some_and(|correlate| correlate.absent.is_some()) {
        let message = "that a change is not seen does not mean that it stays away";
        let problem = Problem::error("spec.correlate.absent", message);
        problems.push(problem.help("ask for how the objects are, or take their Events"));
    }
    problems.extend(secrets(spec));
    let message = format!(
        "{OLD} is known of a change that is seen live: what changes while no controller watches, as in a restart, does not match"
    );
    problems.push(
        Problem::warning("spec.when", message).help("where nothing may be missed, ask for how the object is"),
    );
    problems
}

/// What is read of what happened is written into the Execution, for all to see who may see that.
pub(super) fn secrets(spec: &RuleSpec) -> Option<Problem> {
    spec.trigger.resource.as_ref().filter(|kind| kind.api_version == "v1" && kind.kind == "Secret")?;
    let rule = CompiledRule::of(spec, "", "", Timestamp::UNIX_EPOCH).ok()?;
    let tells = |path: &[String]| match path {
        [variable, field, below @ ..] if variable == "object" || variable == OLD => match field.as_str() {
            "data" | "stringData" => true,
            "metadata" => below.first().is_none_or(|field| field == "annotations"),
            _ => false,
        },
        [variable] => variable == "object" || variable == OLD,
        _ => false,
    };
    let is_told = rule.over_change().flat_map(Expression::paths).any(tells);
    let message =
        "what is read of it is kept in the Execution: a Secret's values and annotations are not to be read";
    let problem = Problem::error("spec.when", message);
    // Nothing else tells that they have changed.
    let help = "compare metadata.resourceVersion, which changes with the values";
    is_told.then(|| if is_about_changes(spec) { problem.help(help) } else { problem })
}

/// Whoever does not ask for a change does not know of one.
fn elsewhere(spec: &RuleSpec) -> Option<Problem> {
    // There the variable is unknown, which is said already.
    if !spec.trigger.lifecycle().is_empty() {
        return None;
    }
    let scope = Scope::of(rung::VARIABLES);
    let reads = |text: &str| {
        text.contains(OLD)
            && Expression::compile(text, &scope).is_ok_and(|it| it.variables().any(|v| v == OLD))
    };
    let renders =
        |with: Value| TemplateTree::compile(&with, &scope).is_ok_and(|tree| tree.variables().contains(OLD));
    let in_unless = spec.unless.iter().position(|unless| reads(&unless.condition));
    let in_with = spec.ladder.iter().position(|rung| renders(rung.with.to_value()));
    let path = match (&spec.since, in_unless, in_with) {
        (Some(since), ..) if reads(since) => "spec.since".to_owned(),
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
        let twice = json!({"correlate": {"within": "10m", "count": 2}});
        assert_eq!(told(twice), ["Warning spec.when"]);
        let member = |name: &str| json!({"name": name, "when": "object.b"});
        let absent = json!({"after": member("a"), "expected": member("b")});
        let absent = json!({"correlate": {"within": "10m", "absent": absent}});
        assert_eq!(told(absent), ["Error spec.correlate.absent", "Warning spec.when"]);
        assert_eq!(told(json!({"when": "object.a > 1"})), [""; 0]);
        let with = json!([{"run": "x", "with": {"was": "${{ oldObject.a }}"}}]);
        assert_eq!(told(json!({"when": "object.a > 1", "ladder": with})), ["Error spec.ladder[0].with"]);
        assert_eq!(told(json!({"ladder": with})), ["Warning spec.when"]);
        let text = json!([{"run": "x", "with": {"filter": ".request.oldObject.a"}}]);
        assert_eq!(told(json!({"when": "object.a == 'oldObject'", "ladder": text})), [""; 0], "only a text");
    }

    #[test]
    fn what_a_secret_holds_is_not_to_be_kept() {
        for (when, refused) in [
            ("object.data != oldObject.data", true),
            ("object != oldObject", true),
            ("object.metadata != oldObject.metadata", true),
            ("object.metadata.annotations != oldObject.metadata.annotations", true),
            ("object.metadata.resourceVersion != oldObject.metadata.resourceVersion", false),
            ("object.type != oldObject.type", false),
        ] {
            let secret = json!({"resource": {"apiVersion": "v1", "kind": "Secret"}});
            let told = told(json!({"trigger": secret, "when": when}));
            assert_eq!(told.contains(&"Error spec.when".to_owned()), refused, "{when}: {told:?}");
        }
    }
}
