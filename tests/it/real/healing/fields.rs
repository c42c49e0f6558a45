//! Expressions are checked against the fields that this very cluster publishes, of built-in and of custom kinds.

use fother::api::Rule;
use http::Request;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::scenario::{PAINT, Scenario, healer_rights};
use crate::support::wait::{DEADLINE, eventually};

/// Boats of a namespace's own, whose fields are `fields`.
fn boats(group: &str, fields: &Value) -> CustomResourceDefinition {
    let schema = json!({
        "type": "object",
        "properties": {"spec": {"type": "object", "properties": fields}},
    });
    serde_json::from_value(json!({
        "metadata": {"name": format!("boats.{group}")},
        "spec": {
            "group": group, "scope": "Namespaced", "names": {"kind": "Boat", "plural": "boats", "singular": "boat"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    }))
    .unwrap()
}

/// Waits until the API server publishes a field, which it does a moment after it has the definition.
async fn publishes(scenario: &Scenario, group: &str, field: &str) {
    let path = format!("/openapi/v3/apis/{group}/v1");
    eventually(&format!("{field} is published"), DEADLINE, || async {
        let request = Request::get(&path).body(Vec::new()).unwrap();
        let document =
            scenario.stage.client.request::<Value>(request).await.map_err(|error| error.to_string())?;
        document.to_string().contains(&format!("\"{field}\"")).then_some(()).ok_or("not yet".to_owned())
    })
    .await;
}

/// Waits until the condition `Accepted` of a rule says so.
async fn is_told(scenario: &Scenario, rule: &str, expected: &str) {
    let api = scenario.stage.api::<Rule>();
    eventually(&format!("{rule}: {expected}"), DEADLINE * 2, || async {
        let conditions = api.get(rule).await.unwrap().status.unwrap_or_default().conditions;
        let accepted = conditions.iter().find(|condition| condition.type_ == "Accepted");
        let told = accepted.map(|condition| format!("{} {}", condition.reason, condition.message));
        told.clone().filter(|told| told.contains(expected)).ok_or(format!("{told:?}"))
    })
    .await;
}

pub async fn a_rule_is_checked_against_the_fields_that_its_cluster_has(scenario: &Scenario) {
    let reads = |when: &str| json!({"when": when});
    scenario.rule("misspelled", reads("object.data.hull == 'leaking' && object.metdata.name == 'ark'")).await;
    is_told(scenario, "misspelled", r#"ConfigMap has no field "metdata""#).await;
    scenario.rule("mistaken", reads("object.immutable == 'yes'")).await;
    is_told(scenario, "mistaken", "InvalidExpression").await;
    scenario
        .rule(
            "right",
            reads("object.data.hull == 'leaking' && !has(object.binaryData) && !has(object.brandNew)"),
        )
        .await;
    scenario.watching("right").await;
}

pub async fn a_rule_follows_the_fields_of_a_custom_kind(scenario: &Scenario) {
    let group = format!("{}.example.com", scenario.stage.namespace);
    let kinds = Api::<CustomResourceDefinition>::all(scenario.stage.client.clone());
    let hull = json!({"hull": {"type": "string"}});
    kinds.create(&PostParams::default(), &boats(&group, &hull)).await.unwrap();
    let mut rights = healer_rights();
    rights
        .as_array_mut()
        .unwrap()
        .push(json!({"apiGroups": [group], "resources": ["boats"], "verbs": ["*"]}));
    scenario.account("bosun", &rights).await;
    publishes(scenario, &group, "hull").await;
    let boat = json!({"resource": {"apiVersion": format!("{group}/v1"), "kind": "Boat"}});
    let when = "object.spec.hull == 'leaking' && object.spec.crew < 2";
    let ladder = json!([{"run": PAINT}]);
    let changes = json!({"serviceAccountName": "bosun", "trigger": boat, "when": when, "ladder": ladder});
    scenario.rule("sails", changes).await;
    is_told(scenario, "sails", r#"Boat.spec has no field "crew""#).await;

    let with_crew = json!({"hull": {"type": "string"}, "crew": {"type": "integer"}});
    let patch = json!({"spec": boats(&group, &with_crew).spec});
    kinds.patch(&format!("boats.{group}"), &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    publishes(scenario, &group, "crew").await;
    scenario.change_rule("sails", json!({"description": "Looked at again."})).await;
    is_told(scenario, "sails", "the text is valid").await;
    kinds.delete(&format!("boats.{group}"), &DeleteParams::default()).await.unwrap();
}
