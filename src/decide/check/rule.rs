//! Checks one Rule.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::{Known, expression, has_template, templates, webhook};
use crate::api::{ActionSpec, GROUP, Rule, RuleSpec, Rung, Target};
use crate::decide::execution::rung;
use crate::decide::matching::CompiledRule;
use crate::decide::parameters::{resolve, undeclared};
use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::decide::verify;

/// An earlier rung, and the output that is read of it if the path goes so far.
static LADDER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\bladder\[\s*(?<index>[0-9]+)\s*\](?:\.outputs\.(?<output>[A-Za-z_][A-Za-z0-9_]*))?")
        .expect("a constant that a test compiles")
});

/// Everything that is wrong with a Rule, in the order of its fields.
pub fn check(spec: &RuleSpec, known: &Known<'_>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let root = Path::default().member("spec");
    check_trigger(spec, &root.member("trigger"), &mut problems);
    problems.extend(webhook::named_by(spec, known));
    // The very compilation that the controller will use.
    problems.extend(CompiledRule::compile(&Rule::new("", spec.clone())).err().unwrap_or_default());
    problems.extend(spec.when.as_deref().and_then(|when| never_falls(when, &root.member("when"))));
    for (index, rung) in spec.ladder.iter().enumerate() {
        check_rung(spec, index, rung, known, &mut problems);
    }
    problems.extend(late_evidence(spec, known));
    problems
}

/// Evidence of what was wrong is gone once something was changed, and a person will look for it then.
fn late_evidence(spec: &RuleSpec, known: &Known<'_>) -> Option<Problem> {
    let collects = |rung: &Rung| Some(known.actions.get(rung.run.as_str()).copied()??.collect.is_some());
    let first = spec.ladder.iter().position(|rung| collects(rung) == Some(true))?;
    let changed = spec.ladder[..first].iter().position(|rung| collects(rung) == Some(false))?;
    let path = Path::default().member("spec").member("ladder").item(first).member("run");
    let message =
        format!("the first evidence is collected after {} has changed things", spec.ladder[changed].run);
    Some(Problem::warning(path.to_string(), message).help("make it the first rung"))
}

/// fother's own objects change because of fother: a rule over them answers itself.
fn check_trigger(spec: &RuleSpec, path: &Path, problems: &mut Vec<Problem>) {
    let own = "rule reacts to its own Executions";
    if let Some(resource) = &spec.trigger.resource
        && resource.api_version.split('/').next() == Some(GROUP)
    {
        problems.push(Problem::error(path.member("resource").member("kind").to_string(), own));
    }
    if let Some(event) = &spec.trigger.event
        && event.regarding_kind.as_deref() == Some("Execution")
    {
        problems.push(Problem::error(path.member("event").member("regardingKind").to_string(), own));
    }
}

/// `restartCount` only grows: a condition on it stays true after the remedy worked.
fn never_falls(when: &str, path: &Path) -> Option<Problem> {
    let at = when.find("restartCount")?;
    let problem = Problem::warning(
        path.to_string(),
        "restartCount never falls, so that this stays true of a healthy Pod",
    );
    let help = "crashLooping(object, 3, duration('10m')) also looks at when it last crashed";
    Some(problem.at(at..at + "restartCount".len()).help(help))
}

fn check_rung(spec: &RuleSpec, index: usize, rung: &Rung, known: &Known<'_>, problems: &mut Vec<Problem>) {
    let path = Path::default().member("spec").member("ladder").item(index);
    problems.extend(known.missing(&path.member("run"), &rung.run));
    if let Some(tree) = templates(&rung.with.to_value(), &path.member("with"), &rung::VARIABLES, problems) {
        for part in tree.expressions() {
            check_ladder(spec, index, part.source(), known, problems);
        }
    }
    if let Some(action) = known.actions.get(rung.run.as_str()).copied().flatten() {
        check_values(action, rung, &path, problems);
        if action.kubernetes.is_some() && is_key(spec) {
            let message = format!("target.key names no object that Action {:?} could change", rung.run);
            problems.push(Problem::error(path.member("run").to_string(), message).help("use target.ref"));
        }
    }
    problems.extend(unprovable(spec, rung, &path));
    if let Some(when) = rung.verify.as_ref().and_then(|verify| verify.when.as_deref()) {
        problems.extend(expression(when, &path.member("verify").member("when"), &verify::VARIABLES));
    }
}

fn is_key(spec: &RuleSpec) -> bool {
    matches!(spec.target, Some(Target::Key(_)))
}

/// A verification that has nothing to look at.
fn unprovable(spec: &RuleSpec, rung: &Rung, path: &Path) -> Option<Problem> {
    let verify = rung.verify.as_ref().filter(|_| is_key(spec))?;
    let path = path.member("verify");
    if verify.when.is_some() {
        let message = "target.key names no object: an expression over it proves nothing";
        let problem = Problem::error(path.member("when").to_string(), message);
        return Some(problem.help("leave it out to wait until the alert is resolved, or use target.ref"));
    }
    let message = "an event is over at once and target.key names no object: nothing proves that it worked";
    spec.trigger.webhook.as_ref().map(|_| Problem::error(path.to_string(), message))
}

/// A template reads outputs of rungs that came before, which their Actions declare.
fn check_ladder(spec: &RuleSpec, index: usize, source: &str, known: &Known<'_>, problems: &mut Vec<Problem>) {
    let path = Path::default().member("spec").member("ladder").item(index).member("with").to_string();
    for found in LADDER.captures_iter(source) {
        let named = found["index"].parse().unwrap_or(usize::MAX);
        if named >= index {
            let message = format!("ladder[{named}] is not an earlier rung; this is ladder[{index}]");
            problems.push(Problem::error(path.clone(), message));
            continue;
        }
        let action =
            spec.ladder.get(named).and_then(|rung| known.actions.get(rung.run.as_str()).copied().flatten());
        if let (Some(action), Some(output)) = (action, found.name("output")) {
            problems.extend(
                missing_output(action, named, output.as_str()).map(|text| Problem::error(path.clone(), text)),
            );
        }
    }
}

fn missing_output(action: &ActionSpec, rung: usize, name: &str) -> Option<String> {
    let mut declared: Vec<&str> = action.outputs.iter().map(|output| output.name.as_str()).collect();
    if action.collect.is_some() {
        declared.push("configMap");
    }
    if declared.contains(&name) {
        return None;
    }
    let names = if declared.is_empty() { "none".to_owned() } else { declared.join(", ") };
    Some(format!("output {name:?} of ladder[{rung}] undeclared; declared: {names}"))
}

/// The values that can be judged without an incident: those without templates.
fn check_values(action: &ActionSpec, rung: &Rung, path: &Path, problems: &mut Vec<Problem>) {
    let given = &rung.with.0;
    let with = path.member("with");
    for name in given.keys() {
        let single: Map<String, Value> = given.iter().filter(|(key, _)| *key == name).map(owned).collect();
        let at = with.member(name).to_string();
        problems.extend(
            undeclared(&action.parameters, &single).map(|mistake| Problem::error(at.clone(), mistake)),
        );
        let Some(parameter) = action.parameters.iter().find(|parameter| parameter.name == *name) else {
            continue;
        };
        if !given[name].as_str().is_some_and(has_template) {
            let mistakes = resolve(std::slice::from_ref(parameter), &single).err().unwrap_or_default();
            problems.extend(mistakes.into_iter().map(|mistake| Problem::error(at.clone(), mistake)));
        }
    }
    for parameter in action.parameters.iter().filter(|parameter| parameter.required) {
        if !given.contains_key(&parameter.name) {
            let message = format!("Action {:?} needs the parameter {:?}", rung.run, parameter.name);
            problems.push(Problem::error(path.to_string(), message));
        }
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn action(spec: Value) -> ActionSpec {
        serde_json::from_value(spec).unwrap()
    }

    fn check_with(rule: &Value, partial: bool, expected: &[&str]) {
        let mut base = json!({
            "serviceAccountName": "healer",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}},
            "when": "true",
            "ladder": [],
        });
        json_patch::merge(&mut base, rule);
        let spec: RuleSpec = serde_json::from_value(base).unwrap();
        let clean = action(json!({
            "parameters": [{"name": "host", "required": true}, {"name": "port", "type": "integer", "maximum": 9}],
            "outputs": [{"name": "freedBytes"}],
            "script": {"image": "x", "inline": "y"},
        }));
        let evidence = action(json!({"collect": {}}));
        let actions = [("clean-disk", Some(&clean)), ("evidence", Some(&evidence)), ("elsewhere", None)];
        let known = Known { namespace: Some("a"), actions: actions.into(), partial, ..Known::default() };
        let found: Vec<String> = check(&spec, &known).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn expressions_compile_in_their_scope() {
        check_with(
            &json!({"when": "crashLooping(object, 3, duration('10m')) && now > timestamp('2026-01-01T00:00:00Z')"}),
            false,
            &[],
        );
        check_with(
            &json!({"when": "objekt.x == 1", "since": "event.time", "ladder": [{"run": "elsewhere", "verify": {"when": "rolloutComplet(target)"}}]}),
            false,
            &[
                "spec.when: unknown variable \"objekt\"; did you mean \"object\"?",
                "spec.since: unknown variable \"event\"",
                "spec.ladder[0].verify.when: unknown function \"rolloutComplet\"; did you mean \"rolloutComplete\"?",
            ],
        );
        check_with(
            &json!({"trigger": {"resource": null, "event": {}}, "when": "event.data.reason == 'x'"}),
            false,
            &[],
        );
    }

    #[test]
    fn references_lead_to_actions() {
        let ladder = json!({"ladder": [{"run": "clean-dsik"}, {"run": "b/restart"}, {"run": "elsewhere", "with": {"x": 1}}]});
        let expected = [
            "spec.ladder[0].run: Action \"clean-dsik\" not found in namespace \"a\"; did you mean \"clean-disk\"?",
            "spec.ladder[1].run: \"b/restart\": refs must stay in \"a\"",
        ];
        check_with(&ladder, false, &expected);
        check_with(&ladder, true, &expected);
    }

    #[test]
    fn parameters_match_declarations() {
        check_with(
            &json!({"ladder": [
                {"run": "clean-disk", "with": {"hots": "x", "port": "abc"}},
                {"run": "clean-disk", "with": {"host": "${{ object.metadata.name }}", "port": 12}},
                {"run": "clean-disk", "with": {"host": "h", "port": "${{ 1 + 1 }}"}},
            ]}),
            false,
            &[
                "spec.ladder[0].with.hots: param \"hots\" undeclared; declared: host, port",
                "spec.ladder[0].with.port: param port=\"abc\": want integer",
                "spec.ladder[0]: Action \"clean-disk\" needs the parameter \"host\"",
                "spec.ladder[1].with.port: param port=12: must be <= 9",
            ],
        );
    }

    #[test]
    fn rungs_read_outputs_of_earlier_ones() {
        let host = |template: &str| json!({"host": template});
        check_with(
            &json!({"ladder": [
                {"run": "evidence"},
                {"run": "clean-disk", "with": host("${{ ladder[0].outputs.configMap }}")},
                {"run": "clean-disk", "with": host("${{ ladder[1].outputs.freed }} ${{ ladder[0].outputs.url }}")},
                {"run": "clean-disk", "with": host("${{ ladder[3].outputs.x }}")},
            ]}),
            false,
            &[
                "spec.ladder[2].with: output \"freed\" of ladder[1] undeclared; declared: freedBytes",
                "spec.ladder[2].with: output \"url\" of ladder[0] undeclared; declared: configMap",
                "spec.ladder[3].with: ladder[3] is not an earlier rung; this is ladder[3]",
            ],
        );
    }

    #[test]
    fn evidence_comes_first() {
        let clean = json!({"run": "clean-disk", "with": {"host": "h"}});
        let evidence = json!({"run": "evidence"});
        check_with(&json!({"ladder": [evidence, clean, evidence]}), false, &[]);
        check_with(&json!({"ladder": [{"run": "elsewhere"}, evidence]}), false, &[]);
        check_with(
            &json!({"ladder": [clean, evidence]}),
            false,
            &["spec.ladder[1].run: the first evidence is collected after clean-disk has changed things; \
               make it the first rung"],
        );
    }

    #[test]
    fn selectors_make_sense() {
        let selector = json!({"matchExpressions": [{"key": "a", "operator": "Near", "values": ["b"]}]});
        let spec =
            json!({"trigger": {"resource": {"labelSelector": selector}}, "ladder": [{"run": "evidence"}]});
        check_with(
            &spec,
            false,
            &[
                "spec.trigger.resource.labelSelector: failed to parse value as expression: Invalid expression operator",
            ],
        );
    }

    #[test]
    fn warns_and_refuses_what_cannot_work() {
        check_with(
            &json!({
                "trigger": {"resource": {"apiVersion": "fother.dev/v1alpha1", "kind": "Execution"}},
                "when": "object.status.containerStatuses.exists(c, c.restartCount > 5)",
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &[
                "spec.trigger.resource.kind: rule reacts to its own Executions",
                "spec.when: restartCount never falls, so that this stays true of a healthy Pod; crashLooping(object, 3, duration('10m')) also looks at when it last crashed",
            ],
        );
    }
}
