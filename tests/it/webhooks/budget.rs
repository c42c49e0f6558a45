//! What costs more than it may is stopped and says so; whoever stands beside it does not notice. (Over objects: `controller::told`.)

use fother::api::Rule;
use serde_json::{Value, json};

use super::stage::{Scene, alert, at, notification};
use crate::support::wait::{DEADLINE, eventually};

/// More than may be evaluated.
const DEAR: &str = "lists.range(1000000).exists(n, string(n) == alert.labels.disk)";

#[tokio::test]
async fn an_expression_over_its_budget_stops_its_own_rule_alone() {
    let scene = Scene::new().await;
    scene.webhook("am", json!({"alertmanager": {}})).await;
    scene.disk("sda").await;
    let dear = [
        ("when", json!({"when": DEAR})),
        ("unless", json!({"unless": [{"if": DEAR, "reason": "Dear"}]})),
        (
            "group",
            json!({"correlate": {"groupBy": format!("{DEAR} ? 'a' : 'b'"), "within": "10m", "count": 2}}),
        ),
        (
            "member",
            json!({"correlate": {"groupBy": "alert.labels.disk", "within": "10m", "any": [{"name": "x", "when": DEAR}, {"name": "y", "when": "false"}]}}),
        ),
    ];
    let rules = dear.iter().cloned().chain([("cheap", json!({}))]);
    for (rule, changes) in rules {
        let mut spec = json!({"trigger": {"alert": {"webhook": "am"}}, "mode": "Observe"});
        json_patch::merge(&mut spec, &changes);
        scene.rule(rule, spec).await;
    }
    let running = scene.start("one").await;
    scene.ready("Webhook", "am").await;
    for (rule, _) in &dear {
        scene.ready("Rule", rule).await;
    }
    scene.ready("Rule", "cheap").await;
    let answer = running.post("am", &notification(&[alert("sda", &at(-5), None)])).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    for (rule, _) in &dear {
        eventually(&format!("the Rule {rule} says so"), DEADLINE, || async {
            let rule = scene.api::<Rule>().get(rule).await.map_err(|error| error.to_string())?;
            let said = format!("{:?}", rule.status.map(|status| status.conditions));
            if said.contains("evaluation exceeded 10,000 steps") { Ok(()) } else { Err(said) }
        })
        .await;
    }
    let found = scene.executions().await;
    let of: Vec<_> = found.iter().filter_map(|execution| execution.rule()).collect();
    assert_eq!(of, ["cheap"], "{:?}", scene.outcomes().await);
    running.stop().await;
}

/// The sender is told, as it is his body that costs so much.
#[tokio::test]
async fn a_mapping_over_its_budget_refuses_its_own_request_alone() {
    let scene = Scene::new().await;
    let dear = "lists.range(body.size).exists(n, string(n) == body.id) ? 'known' : body.id";
    scene.webhook("disks", json!({"generic": {"id": dear, "type": "'full'"}})).await;
    scene.action("note", json!({"collect": {}})).await;
    let rule = json!({"trigger": {"webhook": {"name": "disks"}}, "mode": "Observe",
        "target": {"ref": null, "key": "event.id"}, "ladder": [{"run": "note"}]});
    scene.rule("heard", rule).await;
    let running = scene.start("one").await;
    scene.ready("Webhook", "disks").await;
    scene.ready("Rule", "heard").await;
    let event = |size: i64| -> Value { json!({"id": "sda", "size": size}) };
    let refused = running.post("disks", &event(1_000_000)).await;
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text.contains("evaluation exceeded 10,000 steps"), "{refused:?}");
    let taken = running.post("disks", &event(3)).await;
    assert_eq!(taken.status, 202, "{taken:?}");
    running.stop().await;
}
