//! What Prometheus makes of nodes that are not Ready: the conditions of `examples/setup/node-not-ready/alerts.yaml` decide whether
//! one node is acted on, or none is. `promtool` evaluates them as Prometheus does, over a made-up hour of five nodes.

use serde_json::{Value, json};

use crate::support::examples::folder;
use crate::support::promtool;

const NODES: usize = 5;

/// What kube-state-metrics says of node `index` each minute, of which it is Ready in the first `ready`, for an hour.
fn node(index: usize, ready: usize) -> Vec<Value> {
    let series = |status: &str, during: u8, after: u8| {
        let labels = format!("condition=\"Ready\",status=\"{status}\",node=\"node-{index}\"");
        let values = match ready {
            0 => format!("{after}x60"),
            ready => format!("{during}x{} {after}x{}", ready - 1, 60 - ready),
        };
        json!({"series": format!("kube_node_status_condition{{{labels}}}"), "values": values})
    };
    vec![series("true", 1, 0), series("false", 0, 0), series("unknown", 0, 1)]
}

/// Nodes of which those that are named are not Ready from a minute on.
fn nodes(lost: &[(usize, usize)]) -> Vec<Value> {
    let until = |index| lost.iter().find(|(node, _)| *node == index).map_or(60, |(_, from)| *from);
    (0..NODES).flat_map(|index| node(index, until(index))).collect()
}

/// That an alert of a name fires at a minute for these nodes alone.
fn fires(minute: usize, lost: &[usize]) -> Value {
    let expected: Vec<_> = lost
        .iter()
        .map(|node| {
            json!({
                "exp_labels": {"node": format!("node-{node}"), "condition": "Ready", "status": "true", "remedy": "yes"},
                "exp_annotations": {"summary": format!("node-{node} is not Ready")},
            })
        })
        .collect();
    json!({"eval_time": format!("{minute}m"), "alertname": "NodeNotReady", "exp_alerts": expected})
}

/// That the one about all nodes fires at a minute with this share, or that it does not.
fn outage(minute: usize, share: Option<&str>) -> Value {
    let expected: Vec<_> = share
        .iter()
        .map(|share| {
            let summary =
                format!("only {share} of the nodes are Ready: none of them is rebooted or replaced");
            json!({"exp_labels": {"remedy": "yes"}, "exp_annotations": {"summary": summary}})
        })
        .collect();
    json!({"eval_time": format!("{minute}m"), "alertname": "NodeOutage", "exp_alerts": expected})
}

fn case(name: &str, lost: &[(usize, usize)], expected: &[Value]) -> Value {
    json!({"name": name, "interval": "1m", "input_series": nodes(lost), "alert_rule_test": expected})
}

#[test]
fn alerts_name_single_nodes_only_while_most_are_ready() {
    let cases = [
        case("all are Ready", &[], &[fires(30, &[]), outage(30, None)]),
        case(
            "two of five are lost",
            &[(1, 10), (3, 10)],
            &[fires(14, &[]), fires(16, &[1, 3]), fires(50, &[1, 3]), outage(50, None)],
        ),
        case(
            "three of five are lost",
            &[(0, 10), (1, 10), (3, 10)],
            &[
                fires(16, &[]),
                fires(50, &[]),
                outage(10, None),
                outage(12, Some("40%")),
                outage(50, Some("40%")),
            ],
        ),
        case(
            "a third is lost while two are acted on",
            &[(0, 30), (1, 10), (3, 10)],
            &[fires(29, &[1, 3]), outage(29, None), fires(30, &[]), outage(32, Some("40%"))],
        ),
    ];
    promtool::passes(&folder("setup").join("node-not-ready/alerts.yaml"), &cases);
}
