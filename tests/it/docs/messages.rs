//! The tables of mistakes say what is really said: for each message of theirs there is a pack here of which just that is found.

use fother::decide::pack::{self, Source, Surroundings};
use fother::decide::problem::Severity;
use fother::expr::Schemas;
use regex::Regex;
use serde_json::{Value, json};

use super::read;

const DIGEST: &str = "a@sha256:1111111111111111111111111111111111111111111111111111111111111111";

/// A Rule and the Actions that it may name, with one of them changed.
fn pack(kind: &str, name: &str, changes: &Value) -> Vec<Value> {
    let script = json!({"image": DIGEST, "inline": "true"});
    let parameter = json!({"name": "olderThanDays", "type": "integer", "minimum": 1});
    let mut specs = [
        ("Action", "restart-workload", json!({"kubernetes": {"restart": {}}})),
        ("Action", "collect-evidence", json!({"collect": {}})),
        ("Action", "clean-disk", json!({"script": script, "parameters": [parameter]})),
        (
            "Rule",
            "crashloop",
            json!({
                "serviceAccountName": "healer", "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}},
                "when": "crashLooping(object, 3, duration('10m'))", "ladder": [{"run": "restart-workload"}],
            }),
        ),
    ];
    let changed = specs.iter_mut().find(|(of, called, _)| (*of, *called) == (kind, name)).unwrap();
    json_patch::merge(&mut changed.2, changes);
    specs.into_iter().map(|(kind, name, spec)| manifest(kind, name, &spec)).collect()
}

fn manifest(kind: &str, name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

fn rule(changes: Value) -> Vec<Value> {
    pack("Rule", "crashloop", &changes)
}

fn action(changes: Value) -> Vec<Value> {
    pack("Action", "clean-disk", &changes)
}

/// A Rule over another trigger, which has no condition.
fn triggered(trigger: Value, changes: Value) -> Vec<Value> {
    let mut spec = json!({"trigger": {"resource": null}, "when": null});
    json_patch::merge(&mut spec, &json!({"trigger": trigger}));
    json_patch::merge(&mut spec, &changes);
    rule(spec)
}

/// A Rule about Jobs that runs this Action.
fn on_a_job(changes: Value) -> Vec<Value> {
    let mut pack = pack("Action", "restart-workload", &changes);
    let trigger = json!({"resource": {"apiVersion": "batch/v1", "kind": "Job"}});
    let rule = json!({"spec": {"trigger": trigger, "when": "object.status.failed > 0"}});
    json_patch::merge(pack.last_mut().expect("the Rule is the last"), &rule);
    pack
}

/// Rules that follow each other.
fn circle() -> Vec<Value> {
    let follows = |other: &str| {
        let trigger = json!({"execution": {"rules": [other]}});
        json!({"trigger": trigger, "serviceAccountName": "healer", "ladder": [{"run": "restart-workload"}]})
    };
    let [a, b] = [("a", "b"), ("b", "a")].map(|(name, other)| manifest("Rule", name, &follows(other)));
    [rule(json!({})), vec![a, b]].concat()
}

/// What is wrong with a pack, each as `error` or `warning` and the message.
fn found(manifests: &[Value]) -> Vec<String> {
    let text: Vec<_> = manifests.iter().map(ToString::to_string).collect();
    let text = text.join("\n---\n");
    let sources = [Source { path: "pack.yaml", content: text.as_bytes() }];
    let surroundings = Surroundings { namespace: Some("payments"), ..Surroundings::default() };
    let findings = pack::read(&sources, &surroundings).check(&Schemas::built_in()).findings;
    let say = |severity: Severity| if severity == Severity::Warning { "warning" } else { "error" };
    findings
        .iter()
        .map(|found| format!("{} {}", say(found.problem.severity), found.problem.message))
        .collect()
}

/// The rows of a page's table of mistakes: whether it is a warning, and what is said, where `…` stands for anything.
fn rows(page: &str) -> Vec<(String, String)> {
    let page = read(page);
    let (_, table) = page.split_once("## Mistakes that are refused\n").expect("a table of mistakes");
    let table = table.split("\n## ").next().unwrap();
    let row = Regex::new(r"(?m)^\| (warning )?`(.+?)`[^|]* \|").unwrap();
    let rows = row.captures_iter(table).map(|row| {
        let severity = if row.get(1).is_some() { "warning" } else { "error" };
        (severity.to_owned(), row[2].to_owned())
    });
    rows.collect()
}

/// Holds a page's table against packs that make each mistake, in the table's order.
fn holds(page: &str, packs: &[Vec<Value>]) {
    assert_eq!(found(&rule(json!({}))), [""; 0], "the pack without a mistake");
    let rows = rows(page);
    assert_eq!(rows.len(), packs.len(), "{page}: each row has a pack here, and each pack a row");
    for ((severity, message), pack) in rows.iter().zip(packs) {
        let message: Vec<_> = message.split('…').map(regex::escape).collect();
        let wanted = Regex::new(&format!("^{severity} .*{}", message.join(".*"))).unwrap();
        let found = found(pack);
        assert!(found.iter().any(|found| wanted.is_match(found)), "{page}: no {wanted} in {found:#?}");
    }
}

#[expect(clippy::too_many_lines, reason = "one table")]
#[test]
fn what_the_page_on_rules_quotes_is_said() {
    let schedule = |cron: &str, zone: &str| json!({"schedule": {"cron": cron, "timeZone": zone}});
    let template = json!({"olderThanDays": "${{ ladder[1].outputs.x }}"});
    let verified = json!({"run": "clean-disk", "with": {"olderThanDays": 3}, "verify": {"within": "5m"}});
    let deleted = |changes: Value| {
        let mut spec =
            json!({"when": null, "trigger": {"resource": {"kind": "Service", "lifecycle": ["Deleted"]}}});
        json_patch::merge(&mut spec, &changes);
        rule(spec)
    };
    let proven = json!({"run": "clean-disk", "with": {"olderThanDays": 3}, "verify": {}});
    let member = |name: &str, given: Option<&str>| json!({"name": name, "when": "true", "given": given});
    let together = |sequence: Value| {
        triggered(json!({"event": {}}), json!({"correlate": {"within": "10m", "sequence": sequence}}))
    };
    let (rest, key) = (json!({"webhook": {"name": "w", "unmatched": true}}), json!({"key": "event.id"}));
    let absent = json!({"after": member("began", None), "expected": member("ended", None)});
    let read = json!({"run": "clean-disk", "with": {"olderThanDays": "${{ target.spec.days }}"}});
    let owner = json!({"owner": {"apiVersion": "apps/v1", "kind": "Deployment"}});
    let spared = json!({"run": "restart-workload", "verify": {"when": "!oomKilled(target)"}});
    let crashes = "object.status.containerStatuses.exists(c, c.restartCount > 5)";
    holds(
        "docs/reference/rule.md",
        &[
            rule(json!({"when": null})),
            triggered(json!({"alert": {"webhook": "am"}}), json!({"since": "alert.startsAt"})),
            triggered(json!({"event": {"type": "Warning"}}), json!({"for": "2m"})),
            deleted(json!({"for": "2m"})),
            deleted(json!({})),
            deleted(json!({"ladder": [proven]})),
            deleted(json!({"ladder": [{"run": "collect-evidence"}]})),
            rule(json!({"trigger": {"event": {"type": "Warning"}}})),
            triggered(schedule("0 0 31 2 *", "UTC"), json!({})),
            triggered(schedule("0 3 L * *", "UTC"), json!({})),
            triggered(schedule("0 3 * * *", "Europe/Londno"), json!({})),
            triggered(json!({"schedule": {"cron": "@dialy"}}), json!({})),
            triggered(json!({"schedule": {"cron": "@daily", "every": "1h"}}), json!({})),
            triggered(json!({"schedule": {"every": "24h", "timeZone": "Europe/London"}}), json!({})),
            triggered(json!({"schedule": {"every": "5s"}}), json!({})),
            triggered(json!({"schedule": {"at": ["2026-12-31 18:00"]}}), json!({})),
            triggered(json!({"alert": {"webhook": "am", "state": "Resolved"}}), json!({"for": "2m"})),
            triggered(
                json!({"alert": {"webhook": "am", "state": "Resolved"}}),
                json!({"correlate": {"within": "1m", "count": 3}}),
            ),
            rule(json!({"limits": {"perTarget": "3 per hour"}})),
            rule(json!({"limits": {"perTarget": "0/1h"}})),
            triggered(schedule("0 3 * * *", "UTC"), json!({"target": "workload"})),
            triggered(schedule("0 3 * * *", "UTC"), json!({"ladder": [read]})),
            triggered(rest, json!({"target": key, "correlate": {"within": "10m", "absent": absent}})),
            together(json!([
                member("first", None),
                member("second", Some("captured.third.id == ''")),
                member("third", None)
            ])),
            together(json!([member("first", Some("true")), member("second", None)])),
            rule(json!({"limits": {"perTarget": "2/1h", "cooldown": "30m"}})),
            triggered(json!({"alert": {"webhook": "am"}}), json!({"when": "alert.status == 'resolved'"})),
            circle(),
            rule(json!({"trigger": {"resource": {"labelSelector": {}}}})),
            rule(json!({"ladder": [{"run": "x"}]})),
            rule(json!({"ladder": [{"run": "web/x"}]})),
            rule(
                json!({"trigger": {"resource": {"apiVersion": "fother.dev/v1alpha1", "kind": "Execution"}}}),
            ),
            on_a_job(json!({"kubernetes": {"restart": {}}})),
            on_a_job(json!({"kubernetes": {"restart": null, "scale": {"replicas": 0}}})),
            rule(json!({"ladder": [{"run": "clean-disk", "with": {"x": "{{ object.metadata.name }}"}}]})),
            rule(json!({"ladder": [{"run": "clean-disk", "with": {"x": 1}}]})),
            rule(json!({"ladder": [{"run": "restart-workload"}, {"run": "clean-disk", "with": template}]})),
            rule(json!({"ladder": [{"run": "clean-disk"}, {"run": "collect-evidence"}]})),
            rule(json!({"ladder": [verified]})),
            rule(json!({"when": crashes})),
            rule(json!({"target": owner, "ladder": [spared]})),
            rule(json!({"ladder": [spared]})),
            rule(json!({
                "trigger": {"resource": {"apiVersion": "apps/v1", "kind": "Deployment"}},
                "when": "object.status.availableReplicas == 0",
            })),
        ],
    );
}

#[test]
fn what_the_page_on_actions_quotes_is_said() {
    let script = |changes: Value| action(json!({"script": changes}));
    let container = |changes: Value| {
        let mut container = json!({"image": DIGEST});
        json_patch::merge(&mut container, &changes);
        action(json!({"script": null, "container": container}))
    };
    let given = json!({"ladder": [{"run": "clean-disk", "with": {"olderThanDays": 0}}]});
    holds(
        "docs/reference/action.md",
        &[
            action(json!({"collect": {}})),
            script(json!({"file": "x.sh"})),
            action(json!({"parameters": [{"name": "olderThanDays", "required": true, "default": "3"}]})),
            script(json!({"inline": "rm ${{ inputs.path }}"})),
            script(json!({"inline": null, "file": "scripts/x.sh"})),
            container(json!({"securityContext": {"privileged": true}})),
            container(
                json!({"volumes": [{"mountPath": "/data", "claimName": "a", "secret": {"name": "b"}}]}),
            ),
            container(json!({"volumes": [{"mountPath": "/fother/x", "claimName": "a"}]})),
            action(json!({"script": null, "collect": {}, "outputs": [{"name": "freed"}]})),
            action(json!({"script": null, "kubernetes": {"scale": {"replicas": "three"}}})),
            rule(given),
            script(json!({"image": "debian:12"})),
        ],
    );
}
