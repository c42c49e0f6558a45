//! What the Prometheus operator is told: where the metrics are, and alerts that do what they say.

use serde_json::{Value, json};

use super::rendered::{ALL, find, objects};
use crate::support::helm::Helm;
use crate::support::promtool;

#[tokio::test]
async fn the_monitor_reads_a_port_that_there_is() {
    let Some(helm) = Helm::offline() else { return };
    let rendered = objects(&helm.template(&ALL).await);
    let names = |ports: &Value| -> Vec<Value> {
        ports.as_array().unwrap().iter().map(|port| port["name"].clone()).collect()
    };
    let pod = &find(&rendered, "Deployment", "fother")["spec"]["template"]["spec"];
    let of_pod = names(&pod["containers"][0]["ports"]);
    for service in ["fother-metrics", "fother-webhooks"] {
        let ports = &find(&rendered, "Service", service)["spec"]["ports"];
        for port in ports.as_array().unwrap() {
            assert!(of_pod.contains(&port["targetPort"]), "{service}: {port} is none of {of_pod:?}");
        }
    }
    let service = &find(&rendered, "Service", "fother-metrics")["spec"];
    let endpoints = find(&rendered, "ServiceMonitor", "fother")["spec"]["endpoints"].clone();
    let read: Vec<_> =
        endpoints.as_array().unwrap().iter().map(|endpoint| endpoint["port"].clone()).collect();
    assert_eq!(read, names(&service["ports"]));
    // The series carries the Service's selector: without `namespaceSelector` it looks in its own namespace.
    let namespace = |kind: &str, name: &str| find(&rendered, kind, name)["metadata"]["namespace"].clone();
    assert_eq!(namespace("ServiceMonitor", "fother"), namespace("Service", "fother-metrics"));
}

/// How many targets of the Rule web/crash a guard holds at each minute, as a replica says.
fn held(guard: &str, replica: &str, values: &str) -> Value {
    let labels = format!("namespace=\"web\",rule=\"crash\",guard=\"{guard}\",pod=\"{replica}\"");
    json!({"series": format!("fother_rule_held{{{labels}}}"), "values": values})
}

/// That the alert calls somebody at a minute about so many targets that these guards hold, and about nothing else.
fn calls(minute: usize, held: &[(&str, usize)]) -> Value {
    let expected: Vec<_> = held
        .iter()
        .map(|(guard, targets)| {
            let summary = format!(
                "Rule web/crash matches {targets} targets and does nothing about them: a limit ({guard}) holds it."
            );
            let description = "status.held of the Rule says which targets, and until when. \
                               Who decides that it is right to act all the same runs the Action by hand.";
            json!({
                "exp_labels": {"namespace": "web", "rule": "crash", "guard": guard, "severity": "page"},
                "exp_annotations": {"summary": summary, "description": description},
            })
        })
        .collect();
    json!({"eval_time": format!("{minute}m"), "alertname": "FotherHeldByLimit", "exp_alerts": expected})
}

fn case(name: &str, series: &[Value], expected: &[Value]) -> Value {
    json!({"name": name, "interval": "1m", "input_series": series, "alert_rule_test": expected})
}

/// The chart's alerts, in a file and as they read.
async fn alerts(helm: &Helm) -> (tempfile::NamedTempFile, Vec<Value>) {
    let values = ["--set", "prometheusRule.heldFor=3m,prometheusRule.alertLabels.severity=page"];
    let rendered = objects(&helm.template(&[&ALL[..2], &values].concat()).await);
    let groups = &find(&rendered, "PrometheusRule", "fother")["spec"]["groups"];
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), json!({"groups": groups}).to_string()).unwrap();
    (rules, groups[0]["rules"].as_array().unwrap().clone())
}

#[tokio::test]
async fn a_person_is_called_for_what_a_limit_holds_longer_than_said() {
    let Some(helm) = Helm::offline() else { return };
    let (rules, _) = alerts(&helm).await;
    let (idle, standby) = (held("cooldown", "a", "0x40"), held("cooldown", "b", "0x40"));
    let cases = [
        case("nothing is held", &[idle.clone(), standby.clone()], &[calls(30, &[])]),
        case(
            "two targets are held from 10 to 20, as the replica that leads says",
            &[held("cooldown", "a", "0x9 2x10 0x20"), standby.clone()],
            &[
                calls(9, &[]),
                calls(12, &[]),
                calls(13, &[("cooldown", 2)]),
                calls(20, &[("cooldown", 2)]),
                calls(21, &[]),
            ],
        ),
        case(
            "for a moment",
            &[held("rate", "a", "0x9 5x1 0x20"), standby.clone()],
            &[calls(11, &[]), calls(14, &[])],
        ),
        case(
            "another replica leads meanwhile",
            &[held("rate", "a", "0x9 1x5 0x20"), held("rate", "b", "0x15 1x20")],
            &[calls(14, &[("rate", 1)]), calls(20, &[("rate", 1)])],
        ),
        // These end by themselves.
        case("what is no limit", &[held("for", "a", "3x40"), held("unless", "a", "3x40")], &[calls(30, &[])]),
    ];
    promtool::passes(rules.path(), &cases);
}

/// That one of the alerts calls somebody at a minute, once for each of these sets of labels.
fn tells(alerts: &[Value], name: &str, minute: usize, all: &[Value]) -> Value {
    let alert = alerts.iter().find(|alert| alert["alert"] == name).unwrap();
    let expected: Vec<_> = all
        .iter()
        .map(|labels| {
            let (mut said, mut expected) = (alert["annotations"].to_string(), json!({"severity": "page"}));
            for (label, value) in labels.as_object().unwrap() {
                let value = value.as_str().unwrap();
                said = said.replace(&format!("{{{{ $labels.{label} }}}}"), value);
                expected[label] = json!(value);
            }
            let annotations: Value = serde_json::from_str(&said).unwrap();
            json!({"exp_labels": expected, "exp_annotations": annotations})
        })
        .collect();
    json!({"eval_time": format!("{minute}m"), "alertname": name, "exp_alerts": expected})
}

fn series(text: &str, values: &str) -> Value {
    json!({"series": text, "values": values})
}

#[tokio::test]
async fn a_person_is_called_where_fother_itself_does_not_work() {
    let Some(helm) = Helm::offline() else { return };
    let (rules, alerts) = alerts(&helm).await;
    let tells = |name, minute, all: &[Value]| tells(&alerts, name, minute, all);
    let once = [json!({})];
    let nobody = |minute, is: bool| tells("FotherNobodyLeads", minute, &once[..usize::from(is)]);
    let leads = |pod: &str, values| {
        series(&format!("leader_election_master_status{{name=\"fother\",pod=\"{pod}\"}}"), values)
    };
    let failed = |namespace: &str, controller: &str, values| {
        let labels = format!("namespace=\"{namespace}\",controller=\"{controller}\"");
        series(&format!("controller_runtime_reconcile_errors_total{{{labels}}}"), values)
    };
    let info = |ready: &str, revision: &str, values| {
        let labels = format!("namespace=\"web\",rule=\"crash\",ready=\"{ready}\",revision=\"{revision}\"");
        series(&format!("fother_rule_info{{{labels}}}"), values)
    };
    let journal = |pod: &str, values| series(&format!("fother_journal_failing{{pod=\"{pod}\"}}"), values);
    let other = series("leader_election_master_status{name=\"other\"}", "1x60");
    let (pack, crash) = ([json!({"controller": "pack"})], [json!({"namespace": "web", "rule": "crash"})]);
    let errors = |minute, all: &[Value]| tells("FotherReconcileErrors", minute, all);
    let unready = |minute, all: &[Value]| tells("FotherRuleNotReady", minute, all);
    let unwritten = |minute, is: bool| tells("FotherJournalFailing", minute, &once[..usize::from(is)]);
    let cases = [
        case("fother says nothing", &[other], &[nobody(4, false), nobody(5, true)]),
        case(
            "one leads, then nobody, then the other one",
            &[leads("a", "1x9 0x50"), leads("b", "0x29 1x30")],
            &[nobody(9, false), nobody(14, false), nobody(15, true), nobody(29, true), nobody(30, false)],
        ),
        case(
            "nobody leads, and then they are gone",
            &[leads("a", "1x9 0x1 stale")],
            &[nobody(14, false), nobody(15, true), nobody(50, true)],
        ),
        case(
            "a Pack fails again and again, until it is mended, and others that are not fother's",
            &[
                failed("fother", "pack", "0x10 1+1x29 30x30"),
                failed("fother", "cluster", "0+1x70"),
                failed("other", "rule", "0+1x70"),
            ],
            &[errors(25, &[]), errors(30, &pack), errors(40, &pack), errors(60, &[])],
        ),
        case(
            "a Pack fails once",
            &[failed("fother", "pack", "0x10 1x50")],
            &[errors(20, &[]), errors(26, &[])],
        ),
        case(
            "a Rule is not ready, at one revision and the next",
            &[
                info("True", "1", "1x9 stale"),
                info("False", "1", "_x10 1x9 stale"),
                info("Unknown", "2", "_x20 1x9 stale"),
                info("True", "2", "_x30 1x20"),
            ],
            &[unready(24, &[]), unready(25, &crash), unready(29, &crash), unready(30, &[])],
        ),
        case(
            "the journal fails, and is mended",
            &[journal("a", "0x9 1x9 0x40"), journal("b", "0x60")],
            &[unwritten(14, false), unwritten(15, true), unwritten(20, false)],
        ),
    ];
    promtool::passes(rules.path(), &cases);
}

#[tokio::test]
async fn a_person_is_called_where_nothing_comes_from_git_or_from_outside() {
    let Some(helm) = Helm::offline() else { return };
    let (rules, alerts) = alerts(&helm).await;
    let tells = |name, minute, all: &[Value]| tells(&alerts, name, minute, all);
    let pack = |ready: &str, suspended: &str, revision: &str, values| {
        let labels = format!("namespace=\"web\",pack=\"site\",ready=\"{ready}\",revision=\"{revision}\"");
        series(&format!("fother_pack_info{{{labels},suspended=\"{suspended}\"}}"), values)
    };
    let webhook = |ready: &str, revision: &str, values| {
        let labels = format!("namespace=\"web\",webhook=\"am\",ready=\"{ready}\",revision=\"{revision}\"");
        series(&format!("fother_webhook_info{{{labels}}}"), values)
    };
    let (site, am) =
        ([json!({"namespace": "web", "pack": "site"})], [json!({"namespace": "web", "webhook": "am"})]);
    let unsynced = |minute, all: &[Value]| tells("FotherPackNotReady", minute, all);
    let deaf = |minute, all: &[Value]| tells("FotherWebhookNotReady", minute, all);
    let cases = [
        case(
            "a Pack cannot be synced, at one revision and the next",
            &[
                pack("True", "false", "1", "1x9 stale"),
                pack("False", "false", "1", "_x10 1x9 stale"),
                pack("Unknown", "false", "2", "_x20 1x9 stale"),
                pack("True", "false", "2", "_x30 1x20"),
            ],
            &[unsynced(24, &[]), unsynced(25, &site), unsynced(29, &site), unsynced(30, &[]), deaf(29, &[])],
        ),
        case(
            "a Pack cannot be synced until a person has it rest",
            &[pack("False", "false", "1", "1x19 stale"), pack("False", "true", "1", "_x20 1x40")],
            &[unsynced(14, &[]), unsynced(15, &site), unsynced(20, &[]), unsynced(50, &[])],
        ),
        case(
            "a Webhook does not receive, at one revision and the next",
            &[
                webhook("True", "1", "1x9 stale"),
                webhook("False", "1", "_x10 1x9 stale"),
                webhook("Unknown", "2", "_x20 1x9 stale"),
                webhook("True", "2", "_x30 1x20"),
            ],
            &[deaf(24, &[]), deaf(25, &am), deaf(29, &am), deaf(30, &[]), unsynced(29, &[])],
        ),
        case(
            "a Pack and a Webhook are deleted",
            &[pack("False", "false", "1", "1x19 stale"), webhook("False", "1", "1x19 stale")],
            &[unsynced(19, &site), deaf(19, &am), unsynced(20, &[]), deaf(20, &[])],
        ),
    ];
    promtool::passes(rules.path(), &cases);
}
