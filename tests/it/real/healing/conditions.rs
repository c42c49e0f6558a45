//! Conditions are known by their type: whoever applies one leaves the others alone. Written once, for the real control plane
//! and the sandbox.

use fother::api::Rule;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use super::scenario::Scenario;

pub async fn what_another_says_of_a_rule_stays(scenario: &Scenario) {
    scenario.rule("leak", json!({})).await;
    scenario.watching("leak").await;
    let reviewed = json!({
        "type": "Reviewed", "status": "True", "reason": "ByTheCrew", "message": "looks good", "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let applied = json!({
        "apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "leak"}, "status": {"conditions": [reviewed]},
    });
    let rules = scenario.stage.api::<Rule>();
    let params = PatchParams::apply("crew");
    rules
        .patch_status("leak", &params, &Patch::Apply(&applied))
        .await
        .expect("no conflict with fother's own");
    scenario.change_rule("leak", json!({"for": "1s"})).await;
    scenario.watching("leak").await;
    let found = rules.get("leak").await.unwrap().status.unwrap().conditions;
    let types: Vec<_> = found.iter().map(|condition| condition.type_.as_str()).collect();
    for expected in ["Ready", "Accepted", "Reviewed"] {
        assert_eq!(types.iter().filter(|seen| **seen == expected).count(), 1, "{types:?}");
    }
    // Saying it again changes nothing of fother's either.
    rules.patch_status("leak", &params, &Patch::Apply(&applied)).await.unwrap();
    scenario.condition("leak", "Ready", "True").await;
}
