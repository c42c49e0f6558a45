//! Checks one Rule.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use super::{
    Known, aim, alerts, changes, expression, growing, has_template, kinds, lifecycle, limits, operations,
    templates, types, webhook,
};
use crate::api::{ActionSpec, Duration, GROUP, Rule, RuleSpec, Rung, Target};
use crate::decide::capture::members;
use crate::decide::change::{is_about_changes, is_state};
use crate::decide::given::givens;
use crate::decide::matching::{CompiledRule, RESOURCE_VARIABLES};
use crate::decide::parameters::{resolve, undeclared};
use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::{Expression, Scope, Type};

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
    problems.extend(kinds::check(spec, &known.schemas));
    problems.extend(webhook::named_by(spec, known));
    problems.extend(webhook::unmatched(spec));
    // The very compilation that the controller will use; and then once more with all that is known.
    match CompiledRule::compile(&Rule::new("", spec.clone())) {
        Ok(_) => problems.extend(check_conditions(spec, known, &root)),
        Err(mistakes) => problems.extend(mistakes),
    }
    problems.extend(changes::check(spec));
    problems.extend(lifecycle::check(spec, known));
    problems.extend(alerts::check(spec));
    problems.extend(apart(spec));
    problems.extend(limits::check(spec));
    for (index, rung) in spec.ladder.iter().enumerate() {
        check_rung(spec, index, rung, known, &mut problems);
    }
    problems.extend(late_evidence(spec, known));
    problems.extend(proven_too_late(spec, known));
    problems
}

/// Objects that are targets of their own never come together; what happens to one does.
fn apart(spec: &RuleSpec) -> Option<Problem> {
    let (resource, correlate) = (spec.trigger.resource.as_ref()?, spec.correlate.as_ref()?);
    if is_about_changes(spec) || resource.lifecycle.len() > 1 {
        return None;
    }
    let default = if resource.kind == "Pod" { Target::Workload } else { Target::Object };
    let is_apart = *spec.target.as_ref().unwrap_or(&default) == Target::Object && correlate.any.is_empty();
    let message = "each object is a target of its own here, so that none come together in `correlate`";
    let help = "use workload or owner, or name what they have in common by key or ref";
    is_apart.then(|| Problem::error("spec.target", message).help(help))
}

/// What a script mends in place goes on matching until its last crash is as long ago as `crashLooping` says.
fn proven_too_late(spec: &RuleSpec, known: &Known<'_>) -> Vec<Problem> {
    let when = spec.when.as_deref().filter(|_| spec.trigger.lifecycle().is_empty());
    let when = when.map(|when| Expression::compile(when, &Scope::of(RESOURCE_VARIABLES)));
    let Some(Ok(when)) = when else { return Vec::new() };
    let given = when.durations_given("crashLooping");
    let Some(longest) = given.filter_map(|text| text.parse::<Duration>().ok()).max() else {
        return Vec::new();
    };
    let in_place = |rung: &Rung| {
        let action = known.actions.get(rung.run.as_str()).copied().flatten();
        action.is_some_and(|action| action.script.is_some() || action.container.is_some())
    };
    let ladder = Path::default().member("spec").member("ladder");
    let mut problems = Vec::new();
    for (index, rung) in spec.ladder.iter().enumerate().filter(|(_, rung)| in_place(rung)) {
        if let Some(verify) = rung.verify.as_ref().filter(|v| v.when.is_none() && v.within < longest) {
            let message = format!(
                "within {} is shorter than the {longest} for which crashLooping stays true of what recovers in place",
                verify.within
            );
            let path = ladder.item(index).member("verify").member("within");
            let help = "make it longer, or verify.when: rolloutComplete(target)";
            problems.push(Problem::warning(path.to_string(), message).help(help));
        }
    }
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

/// The types of all conditions, and what cannot become false.
fn check_conditions(spec: &RuleSpec, known: &Known<'_>, root: &Path) -> Vec<Problem> {
    let scope = types::condition(spec, &known.schemas);
    let mut problems = Vec::new();
    if let Some(when) = &spec.when {
        problems.extend(expression(when, &root.member("when"), &scope, &Type::Bool));
        let kind = spec.trigger.resource.as_ref().map_or("Event", |resource| resource.kind.as_str());
        if spec.trigger.lifecycle().is_empty() {
            problems.extend(growing::problems(when, kind, &root.member("when"), &scope));
        }
    }
    if let Some(since) = &spec.since {
        let time = Type::OneOf(vec![Type::Timestamp, Type::String]);
        problems.extend(expression(since, &root.member("since"), &scope, &time));
    }
    if let Some(correlate) = &spec.correlate {
        let path = root.member("correlate");
        if let Some(group_by) = &correlate.group_by {
            problems.extend(expression(group_by, &path.member("groupBy"), &scope, &Type::Any));
        }
        for (place, member) in members(correlate) {
            let path = Path::parse(&format!("{path}.{place}.when"));
            problems.extend(expression(&member.when, &path, &scope, &Type::Bool));
        }
        for (field, place, source) in givens(correlate) {
            let scope = types::given(spec, correlate, place, &known.schemas);
            problems.extend(expression(
                source,
                &Path::parse(&format!("{path}.{field}")),
                &scope,
                &Type::Bool,
            ));
        }
    }
    problems.extend(aim::check(spec, known));
    let scope = types::unless(spec, &known.schemas);
    for (index, unless) in spec.unless.iter().enumerate() {
        let path = root.member("unless").item(index).member("if");
        problems.extend(expression(&unless.condition, &path, &scope, &Type::Bool));
    }
    problems
}

fn check_rung(spec: &RuleSpec, index: usize, rung: &Rung, known: &Known<'_>, problems: &mut Vec<Problem>) {
    let path = Path::default().member("spec").member("ladder").item(index);
    problems.extend(known.missing(&path.member("run"), &rung.run));
    if let Some(tree) =
        templates(&rung.with.to_value(), &path.member("with"), &types::with(spec, &known.schemas), problems)
    {
        for part in tree.expressions() {
            check_ladder(spec, index, part.source(), known, problems);
        }
    }
    if let Some(action) = known.actions.get(rung.run.as_str()).copied().flatten() {
        check_values(action, rung, &path, problems);
        problems.extend(operations::unsuited(spec, action, &path.member("run"), &known.schemas));
        if action.kubernetes.is_some() && aim::is_key(spec) {
            let message = format!("the target is only a name: Action {:?} has no object to change", rung.run);
            problems.push(Problem::error(path.member("run").to_string(), message).help("use target.ref"));
        }
    }
    problems.extend(unprovable(spec, rung, &path));
    if let Some(when) = rung.verify.as_ref().and_then(|verify| verify.when.as_deref()) {
        let scope = types::proof(spec, &known.schemas);
        problems.extend(expression(when, &path.member("verify").member("when"), &scope, &Type::Bool));
    }
}

/// A verification that has nothing to look at.
fn unprovable(spec: &RuleSpec, rung: &Rung, path: &Path) -> Option<Problem> {
    let verify = rung.verify.as_ref().filter(|_| aim::is_key(spec))?;
    let path = path.member("verify");
    let is_state = is_state(spec) || spec.trigger.is_about_ends();
    if is_state && verify.when.is_some() {
        let message = "the target is only a name: an expression over it proves nothing";
        let problem = Problem::error(path.member("when").to_string(), message);
        return Some(problem.help("leave it out to wait until nothing matches, or use target.ref"));
    }
    let message = "the target is only a name, and an event is over at once: nothing proves that it worked";
    (!is_state).then(|| Problem::error(path.to_string(), message).help("use target.ref"))
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
    use crate::expr::Schemas;
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
        let known = Known {
            namespace: Some("a"),
            actions: actions.into(),
            partial,
            schemas: Schemas::built_in(),
            ..Known::default()
        };
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
                "spec.since: unknown variable \"event\": it is for all triggers but resource, and for its lifecycle",
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
    fn only_what_can_come_together_is_correlated() {
        let apart = "spec.target: each object is a target of its own here, so that none come together in `correlate`; \
                     use workload or owner, or name what they have in common by key or ref";
        let rule = |kind: &str, lifecycle: Value, when: Value| {
            json!({"trigger": {"resource": {"kind": kind, "lifecycle": lifecycle}}, "when": when,
                "correlate": {"within": "10m", "count": 2}, "ladder": [{"run": "elsewhere"}]})
        };
        check_with(&rule("Pod", json!(["Created"]), Value::Null), false, &[]);
        check_with(&rule("Service", json!(["Created"]), Value::Null), false, &[apart]);
        let unseen = "spec.trigger.resource.lifecycle: a deletion is known if it is seen: what is deleted while no controller \
                      watches, as in a restart, does not match; \
                      where nothing may be missed, ask for how that is which the object belonged to";
        check_with(&rule("Service", json!(["Created", "Deleted"]), Value::Null), false, &[unseen]);
        let changes = rule("Service", Value::Null, json!("object.spec.type != oldObject.spec.type"));
        let unseen = "spec.when: oldObject is known of a change that is seen live: what changes while no controller watches, as \
                      in a restart, does not match; where nothing may be missed, ask for how the object is";
        check_with(&changes, false, &[unseen]);
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
    fn a_schedule_can_be_and_leads_to_something() {
        let schedule =
            |cron: &str, zone: &str| json!({"resource": null, "schedule": {"cron": cron, "timeZone": zone}});
        for (cron, zone, expected) in [
            ("0 0 31 2 *", "UTC", "spec.trigger.schedule.cron: \"0 0 31 2 *\" never fires"),
            (
                "0 3 * * *",
                "Europe/Londno",
                "spec.trigger.schedule.timeZone: \"Europe/Londno\" is not an IANA zone; did you mean \"Europe/London\"?",
            ),
        ] {
            check_with(&json!({"trigger": schedule(cron, zone), "when": null}), false, &[expected]);
        }
        let nightly =
            |target: Value| json!({"trigger": schedule("0 3 * * *", "UTC"), "when": null, "target": target});
        check_with(&nightly(Value::Null), false, &[]);
        check_with(
            &nightly(json!("workload")),
            false,
            &["spec.target: this trigger is about no object; use ref: {apiVersion, kind, name} or key"],
        );
        let named =
            |name: &str| json!({"ref": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}});
        for (name, expected) in [
            (
                "event.data.node",
                &[
                    "spec.target.ref.name: \"event.data.node\" is taken as a name; write ${{ event.data.node }} for what the expression gives",
                ][..],
            ),
            (
                "{{ event.id }}",
                &["spec.target.ref.name: \"{{ event.id }}\" is no name of an object; write ${{ event.id }}"],
            ),
            ("web/scale", &["spec.target.ref.name: \"web/scale\" is no name of an object"]),
            ("web.example.com", &[]),
        ] {
            check_with(&nightly(named(name)), false, expected);
        }
        let mut read = nightly(Value::Null);
        read["ladder"] =
            json!([{"run": "elsewhere", "with": {"x": 1, "size": "${{ target.spec.replicas }}"}}]);
        check_with(
            &read,
            false,
            &[
                "spec.ladder[0].with.size: unknown variable \"target\": the target of this Rule is only a name, of which there is nothing to read; use target.ref",
            ],
        );
        read["target"] = named("web");
        check_with(&read, false, &[]);
        let mut proven = nightly(Value::Null);
        proven["ladder"] = json!([{"run": "elsewhere", "verify": {}}]);
        check_with(
            &proven,
            false,
            &[
                "spec.ladder[0].verify: the target is only a name, and an event is over at once: nothing proves that it worked; use target.ref",
            ],
        );
    }

    #[test]
    fn a_recovery_in_place_has_time_to_be_seen() {
        let rule = |verify: Value, run: &str| {
            json!({"when": "object.spec.nodeName == 'n1' && crashLooping(object, 3, duration('10m'))",
                "ladder": [{"run": run, "with": if run == "evidence" { json!({}) } else { json!({"host": "h"}) },
                    "verify": verify}]})
        };
        check_with(
            &rule(json!({"within": "5m"}), "clean-disk"),
            false,
            &[
                "spec.ladder[0].verify.within: within 5m is shorter than the 10m for which crashLooping stays true of what \
               recovers in place; make it longer, or verify.when: rolloutComplete(target)",
            ],
        );
        check_with(&rule(json!({"within": "10m"}), "clean-disk"), false, &[]);
        check_with(&rule(json!({}), "clean-disk"), false, &[]);
        check_with(
            &rule(json!({"within": "5m", "when": "rolloutComplete(target)"}), "clean-disk"),
            false,
            &[],
        );
        check_with(&rule(json!({"within": "5m"}), "evidence"), false, &[]);
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
                "when": "has(object.status.finishedAt)",
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &["spec.trigger.resource.kind: rule reacts to its own Executions"],
        );
        check_with(
            &json!({
                "when": "object.status.containerStatuses.exists(c, c.restartCount > 5)",
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &["spec.when: restartCount never falls, so that this stays true after any remedy; \
               crashLooping(object, 3, duration('10m')) also looks at when it last crashed"],
        );
        check_with(
            &json!({
                "trigger": {"resource": {"apiVersion": "apps/v1", "kind": "Deployment"}},
                "when": "object.status.availableReplicas == 0",
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &[
                "spec.when: object.status.availableReplicas is left out while it is 0: this is not true then; \
               did you mean \"object.status.?availableReplicas.orValue(0)\"?",
            ],
        );
    }

    #[test]
    fn fields_and_types_are_those_of_the_kinds() {
        check_with(
            &json!({
                "when": "object.status.phse == 'Failed'",
                "since": "timestamp(object.metadata.creationTimestmp)",
                "unless": [{"if": "target.spec.replics > 1 || object.spec.nodeNam == 'x'", "reason": "Big"}],
                "target": {"owner": {"apiVersion": "apps/v1", "kind": "Deployment"}},
                "ladder": [
                    {"run": "elsewhere", "with": {"x": "${{ target.spec.replics }} ${{ ladder[0].stat }}"},
                     "verify": {"when": "target.status.readyReplicas > '3'"}},
                ],
            }),
            false,
            &[
                "spec.when: PodStatus has no field \"phse\"; did you mean \"phase\"?",
                "spec.since: ObjectMeta has no field \"creationTimestmp\"; did you mean \"creationTimestamp\"?",
                "spec.unless[0].if: DeploymentSpec has no field \"replics\"; did you mean \"replicas\"?",
                "spec.unless[0].if: PodSpec has no field \"nodeNam\"; did you mean \"nodeName\"?",
                "spec.ladder[0].with.x: DeploymentSpec has no field \"replics\"; did you mean \"replicas\"?",
                "spec.ladder[0].with.x: ladder[] has no field \"stat\"; did you mean \"state\"?",
                "spec.ladder[0].verify.when: target.status.readyReplicas is int, compared with string",
            ],
        );
        let asks = "has(object.spec.brandNew) && object.spec.brandNew == 'x'";
        let with = json!({"x": "a ${{ object.?spec.?brandNew.orValue('') }}"});
        check_with(
            &json!({"when": asks, "ladder": [{"run": "elsewhere", "with": with}]}),
            false,
            &[
                "spec.when: PodSpec has no field \"brandNew\"",
                "spec.when: PodSpec has no field \"brandNew\"",
                "spec.ladder[0].with.x: PodSpec has no field \"brandNew\"",
            ],
        );
        check_with(
            &json!({
                "trigger": {"resource": null, "event": {}},
                "when": "event.data.regarding.kind == 'Pod' && event.data.nte.contains('x') && event.tpye == 'y'",
                "correlate": {"groupBy": "event.data.regrding.name", "within": "10m", "count": 3},
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &[
                "spec.when: Event has no field \"nte\"; did you mean \"note\"?",
                "spec.when: event has no field \"tpye\"; did you mean \"type\"?",
                "spec.correlate.groupBy: Event has no field \"regrding\"; did you mean \"regarding\"?",
            ],
        );
        let any = json!([{"name": "x", "when": "event.data.nte == 'x'"}]);
        check_with(
            &json!({
                "trigger": {"resource": null, "event": {}},
                "when": null,
                "correlate": {"within": "10m", "any": any},
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &["spec.correlate.any[0].when: Event has no field \"nte\"; did you mean \"note\"?"],
        );
    }

    #[test]
    fn an_alert_has_fields_too() {
        let rule = |target: Value| {
            json!({
                "trigger": {"resource": null, "alert": {"webhook": "am"}},
                "when": "alert.lables.severity == 'critical' && event.data.annotations.summary != '' && event.kind == 'x'",
                "target": target,
                "unless": [{"if": "alert.labels.severity > 3", "reason": "Big"}],
                "ladder": [{"run": "elsewhere", "with": {"x": "${{ alert.anotations.x }} ${{ alert.values.A }}"}}],
            })
        };
        let rest = [
            "spec.unless[0].if: alert.labels.severity is string, compared with int",
            "spec.ladder[0].with.x: alert has no field \"anotations\"; did you mean \"annotations\"?",
        ];
        let when = [
            "spec.when: alert has no field \"lables\"; did you mean \"labels\"?",
            "spec.when: event has no field \"kind\"",
        ];
        let named = json!({"ref": {"apiVersion": "v1", "kind": "Pod", "namespace": "${{ alert.label.ns }}",
            "name": "a-${{ event.data.fingerprnt }}"}});
        let of_ref = [
            "spec.target.ref.namespace: alert has no field \"label\"; did you mean \"labels\"?",
            "spec.target.ref.name: alert has no field \"fingerprnt\"; did you mean \"fingerprint\"?",
        ];
        let of_key = ["spec.target.key: alert has no field \"lables\"; did you mean \"labels\"?"];
        for (target, of_target) in [(named, &of_ref[..]), (json!({"key": "alert.lables.x"}), &of_key)] {
            let mut expected = when.to_vec();
            expected.extend(of_target);
            expected.extend(rest);
            check_webhook(&rule(target), &expected);
        }
    }

    #[test]
    fn a_rule_about_alerts_asks_for_the_state_in_which_it_acts() {
        let never = |status: &str, other: &str| {
            format!(
                "spec.when: it never matches: where this Rule acts, the status of an alert is {status:?}; use trigger.alert.state: {other}"
            )
        };
        for (state, when, expected) in [
            ("Firing", "alert.status == 'firing' || alert.labels.x == 'y'", None),
            (
                "Firing",
                "alert.labels.x == 'y' && alert.status == 'resolved'",
                Some(never("firing", "Resolved")),
            ),
            ("Resolved", "event.type in ['alert.resolved', 'x']", None),
            ("Resolved", "event.type == 'alert.firing'", Some(never("resolved", "Firing"))),
        ] {
            let rule = json!({
                "trigger": {"alert": {"webhook": "am", "state": state}},
                "when": when,
                "target": {"key": "alert.labels.x"},
                // Of a name that it does not fire again proves it, and nothing else does.
                "ladder": [{"run": "elsewhere", "verify": {}}],
            });
            check_webhook(&rule, &expected.as_deref().into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_end_of_an_execution_has_fields_too() {
        check_with(
            &json!({
                "trigger": {"resource": null, "execution": {"rules": ["drain"]}},
                "when": "event.data.target.kind == 'Node' && event.data.outcom == 'Failed' && event.data.target.nam == 'x'",
                "ladder": [{"run": "evidence"}],
            }),
            false,
            &[
                "spec.when: event.data has no field \"outcom\"; did you mean \"outcome\"?",
                "spec.when: target has no field \"nam\"; did you mean \"name\"?",
            ],
        );
    }

    /// A rule that listens to a Webhook that is elsewhere.
    #[track_caller]
    fn check_webhook(rule: &Value, expected: &[&str]) {
        let mut base = json!({"serviceAccountName": "healer"});
        json_patch::merge(&mut base, rule);
        let spec: RuleSpec = serde_json::from_value(base).unwrap();
        let known = Known {
            actions: [("elsewhere", None)].into(),
            webhooks: [("am", None)].into(),
            schemas: Schemas::built_in(),
            ..Known::default()
        };
        let found: Vec<String> = check(&spec, &known).iter().map(ToString::to_string).collect();
        assert_eq!(found, expected);
    }
}
