//! The kinds that this repository defines, as examples of what people really write.

use serde_json::{Value, json};

use super::exchange::Exchange;

const RULE: &str = "/apis/fother.dev/v1alpha1/namespaces/{ns}/rules/crash-loop";

fn rule(spec: Value) -> Value {
    json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "crash-loop"}, "spec": spec})
}

fn whole() -> Value {
    let text = include_str!("../../../../examples/crash-loop/rules/crash-loop.yaml");
    serde_saphyr::from_str(text).unwrap()
}

async fn define(x: &mut Exchange) {
    for definition in fother::api::crds() {
        let name = definition.metadata.name.clone().unwrap();
        let definition = serde_json::to_value(definition).unwrap();
        let path = format!("{}/{name}", super::custom::CRDS);
        // Other tests apply the same ones, and under the same name.
        x.quietly(
            "PATCH",
            &format!("{path}?fieldManager=kubectl&force=true"),
            "application/apply-patch+yaml",
            &definition,
        )
        .await;
        let established =
            |answer: &super::exchange::Answer| answer.body["status"].to_string().contains("Established");
        x.reached(&path, established).await;
    }
    x.reached("/apis/fother.dev/v1alpha1/namespaces/{ns}/rules", |answer| answer.code == 200).await;
}

/// Two managers and their conflicts, checks and rules of the schema, columns.
pub async fn rules(x: &mut Exchange) {
    define(x).await;
    x.apply(RULE, "alice", &whole()).await;
    x.apply(RULE, "alice", &whole()).await;
    for (manager, spec) in [
        ("bob", json!({"for": "5m"})),
        ("bob&force=true", json!({"for": "5m"})),
        ("bob", json!({"ladder": [{"run": "other"}]})),
        ("bob", json!({"mode": "Sometimes"})),
        ("bob", json!({"for": "soon"})),
        ("bob", json!({"limits": {"cooldown": "1h", "zzz": 1}})),
        ("bob", json!({"trigger": {}})),
        ("bob", json!({"ladder": []})),
        ("bob", json!({})),
    ] {
        x.apply(RULE, manager, &rule(spec)).await;
    }
    let mut less = whole();
    less["spec"].as_object_mut().unwrap().remove("limits");
    x.apply(RULE, "alice&force=true", &less).await;
    x.merge(RULE, &json!({"spec": {"when": null}})).await;
    x.merge(RULE, &json!({"spec": {"serviceAccountName": ""}})).await;
    x.merge(
        &format!("{RULE}/status"),
        &json!({"status": {"observedGeneration": 1, "conditions": [{"type": "Ready", "status": "True",
        "reason": "Watching", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}),
    )
    .await;
    x.with(&[("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")]);
    x.get(RULE).await;
}
