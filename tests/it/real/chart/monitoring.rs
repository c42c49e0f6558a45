//! What the Prometheus operator is told: where the metrics are, and an alert that does what it says.

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

#[tokio::test]
async fn a_person_is_called_for_what_a_limit_holds_longer_than_said() {
    let Some(helm) = Helm::offline() else { return };
    let values = ["--set", "prometheusRule.heldFor=3m,prometheusRule.alertLabels.severity=page"];
    let rendered = objects(&helm.template(&[&ALL[..2], &values].concat()).await);
    let groups = &find(&rendered, "PrometheusRule", "fother")["spec"]["groups"];
    let rules = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(rules.path(), json!({"groups": groups}).to_string()).unwrap();
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
