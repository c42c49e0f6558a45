//! Rules about the creation and deletion of objects: what they cannot see, and what cannot be done about what is gone.

use super::Known;
use super::changes::secrets;
use crate::api::{Moment, RuleSpec};
use crate::decide::execution::rung;
use crate::decide::lifecycle::has_lost_target;
use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::{Expression, Scope, TemplateTree};

/// The variable that is what is to be remedied.
const TARGET: &str = "target";
/// What there is to do about a target that is gone.
const REMEDY: &str = "use workload, owner, ref or key, for something that is still there";

/// What is wrong with a Rule about moments of objects' lives.
pub(super) fn check(spec: &RuleSpec, known: &Known<'_>) -> Vec<Problem> {
    if spec.trigger.lifecycle().is_empty() {
        return Vec::new();
    }
    let mut problems: Vec<_> = secrets(spec).into_iter().collect();
    if !spec.trigger.lifecycle().contains(&Moment::Deleted) {
        return problems;
    }
    if has_lost_target(spec) {
        problems.extend(lost(spec, known));
    }
    let message = "a deletion is known if it is seen: what is deleted while no controller watches, as in a restart, does not match";
    let help = "where nothing may be missed, ask for how that is which the object belonged to";
    problems.push(Problem::warning("spec.trigger.resource.lifecycle", message).help(help));
    problems
}

/// What needs a target that is there.
fn lost(spec: &RuleSpec, known: &Known<'_>) -> Vec<Problem> {
    let scope = Scope::of(rung::VARIABLES);
    let reads = |text: &str| {
        text.contains(TARGET)
            && Expression::compile(text, &scope).is_ok_and(|it| it.variables().any(|name| name == TARGET))
    };
    let gone = |path: &Path, what: String| {
        Problem::error(path.to_string(), format!("the target is what was deleted: {what}")).help(REMEDY)
    };
    let root = Path::default().member("spec");
    let mut problems = Vec::new();
    for (index, unless) in spec.unless.iter().enumerate().filter(|(_, unless)| reads(&unless.condition)) {
        let path = root.member("unless").item(index).member("if");
        problems.push(gone(&path, format!("{} has no {TARGET} to look at", unless.reason)));
    }
    for (index, rung) in spec.ladder.iter().enumerate() {
        let path = root.member("ladder").item(index);
        let action = known.actions.get(rung.run.as_str()).copied().flatten();
        if action.is_some_and(|action| action.kubernetes.is_some()) {
            problems
                .push(gone(&path.member("run"), format!("Action {:?} has no object to change", rung.run)));
        }
        let with = TemplateTree::compile(&rung.with.to_value(), &scope);
        if with.is_ok_and(|with| with.variables().contains(TARGET)) {
            problems.push(gone(&path.member("with"), format!("there is no {TARGET} to read")));
        }
        if rung.verify.is_some() {
            problems.push(gone(&path.member("verify"), "nothing proves that it worked".to_owned()));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn told(changes: Value) -> Vec<String> {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "script"}],
            "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap", "lifecycle": ["Deleted"]}}});
        json_patch::merge(&mut spec, &changes);
        let annotate = serde_json::from_value(json!({"kubernetes": {"annotate": {"values": {"a": "b"}}}}))
            .expect("an Action");
        let script =
            serde_json::from_value(json!({"script": {"image": "x", "inline": "y"}})).expect("an Action");
        let actions = [("annotate", Some(&annotate)), ("script", Some(&script))];
        let known = Known { actions: actions.into(), ..Known::default() };
        let problems = check(&serde_json::from_value(spec).expect("a spec"), &known);
        problems.iter().map(|problem| format!("{:?} {}", problem.severity, problem.message)).collect()
    }

    #[test]
    fn about_what_is_gone_nothing_is_done_that_needs_it() {
        let unseen = "Warning a deletion is known if it is seen: what is deleted while no controller watches, as in a restart, \
                      does not match";
        let gone = |what: &str| format!("Error the target is what was deleted: {what}");
        let ladder = |rung: Value| json!({"ladder": [rung]});
        for (changes, expected) in [
            (json!({}), None),
            (ladder(json!({"run": "annotate"})), Some("Action \"annotate\" has no object to change")),
            (ladder(json!({"run": "script", "verify": {}})), Some("nothing proves that it worked")),
            (
                ladder(json!({"run": "script", "verify": {"when": "target.a == 1"}})),
                Some("nothing proves that it worked"),
            ),
            (
                ladder(json!({"run": "script", "with": {"x": "${{ target.metadata.name }}"}})),
                Some("there is no target to read"),
            ),
            (ladder(json!({"run": "script", "with": {"x": "the target ${{ object.metadata.name }}"}})), None),
            (
                json!({"unless": [{"if": "target.spec.paused", "reason": "Paused"}]}),
                Some("Paused has no target to look at"),
            ),
        ] {
            let expected: Vec<_> = expected.map(gone).into_iter().chain([unseen.to_owned()]).collect();
            assert_eq!(told(changes.clone()), expected, "{changes}");
        }
        let elsewhere = json!({"key": "object.metadata.labels.app"});
        let rung = json!([{"run": "annotate", "verify": {}}]);
        assert_eq!(told(json!({"ladder": rung, "target": elsewhere})), [unseen], "that is for others to say");
    }

    #[test]
    fn a_creation_has_its_object() {
        let created = |changes: Value| {
            let mut all = json!({"trigger": {"resource": {"lifecycle": ["Created"]}}});
            json_patch::merge(&mut all, &changes);
            told(all)
        };
        let rung = json!([{"run": "annotate", "verify": {"when": "target.a == 1"}}]);
        assert_eq!(created(json!({"ladder": rung})), [""; 0]);
        let secret = json!({"trigger": {"resource": {"kind": "Secret"}}, "when": "object.data.x == 'eA=='"});
        assert_eq!(
            created(secret),
            [
                "Error what is read of it is kept in the Execution: a Secret's values and annotations are not to be read"
            ]
        );
        let labels = json!({"trigger": {"resource": {"kind": "Secret"}}, "when": "object.type == 'Opaque'"});
        assert_eq!(created(labels), [""; 0]);
    }
}
