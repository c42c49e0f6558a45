//! What a Rule's status and Events say: who waits and for what, and why the Rule cannot be used.

use fother::api::{Guard, RuleStatus};
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Home, NAMESPACE};

#[tokio::test]
async fn who_waits_is_listed_with_reason_and_time() {
    let home = Home::furnished().await;
    let controller = home.controller(&[]);
    controller.leads().await;
    let began = Timestamp::now();
    home.boat("ark", "leaking").await;
    home.boat("brig", "leaking").await;
    home.rule("waits", json!({"for": "1h"})).await;
    let status: RuleStatus = home
        .about("waits", "two wait", |rule| rule.status.clone().filter(|status| status.held.len() == 2))
        .await;
    let names: Vec<_> = status.held.iter().map(|held| held.target.name.as_str()).collect();
    assert_eq!(names, ["ark", "brig"]);
    for held in &status.held {
        assert_eq!(held.reason, Guard::For);
        assert!(held.since.0 >= began - SignedDuration::from_secs(1) && held.since.0 <= Timestamp::now());
        let until = held.until.as_ref().unwrap().0.duration_since(began);
        assert!((3590..3700).contains(&until.as_secs()), "{until:?}");
    }
    assert_eq!((status.held_count.as_deref(), status.trigger.as_deref()), (Some("2"), Some("ConfigMap")));

    home.boat("ark", "tight").await;
    let left = home
        .about("waits", "one waits", |rule| rule.status.clone().filter(|status| status.held.len() == 1))
        .await;
    assert_eq!(left.held[0], status.held[1], "the other waits as before");
    home.boat("brig", "tight").await;
    let none = home
        .about("waits", "none waits", |rule| rule.status.clone().filter(|status| status.held.is_empty()))
        .await;
    assert_eq!(none.held_count, None);
}

#[tokio::test]
async fn a_decision_names_the_guards_that_it_passed() {
    let home = Home::furnished().await;
    let controller = home.controller(&[]);
    controller.leads().await;
    home.boat("ark", "leaking").await;
    home.rule("observes", json!({"for": "1s"})).await;
    home.rule("acts", json!({"mode": "Enforce", "limits": {"cooldown": "1h"}})).await;
    for (rule, expected) in [
        ("observes", &[Guard::For, Guard::ObservedLimit][..]),
        ("acts", &[Guard::Cooldown, Guard::TargetBusy, Guard::Concurrency]),
    ] {
        let decision = home.execution(rule).await.spec.decision.unwrap();
        assert_eq!(decision.passed, expected, "{rule}");
    }
}

#[tokio::test]
async fn a_rule_that_cannot_be_used_is_told_of_on_itself() {
    let home = Home::furnished().await;
    let controller = home.controller(&[]);
    controller.leads().await;
    home.rule("a", json!({"when": "objekt.x"})).await;
    home.rule("b", json!({"ladder": [{"run": "nothing"}]})).await;
    home.rule("c", json!({"serviceAccountName": "stranger"})).await;
    home.rule("d", json!({"trigger": {"resource": {"apiVersion": "example.com/v1", "kind": "Kraken"}}}))
        .await;
    for (rule, reason, note) in [
        ("a", "RuleExpressionInvalid", "unknown variable \"objekt\""),
        ("b", "RuleReferenceMissing", "Action \"nothing\" not found"),
        ("c", "RulePermissionMissing", "stranger"),
        ("d", "SourceDisconnected", "kind Kraken of example.com/v1 is not served here"),
    ] {
        let event = home.event(reason, rule, |_| true).await;
        assert_eq!(event.type_.as_deref(), Some("Warning"));
        assert!(event.note.as_deref().unwrap_or_default().contains(note), "{event:#?}");
        assert_eq!(event.regarding.unwrap().kind.as_deref(), Some("Rule"));
        assert!(event.series.is_none(), "once");
    }
    // The same trouble again is counted.
    home.rule("a", json!({"when": "object.data.hull == 'leaking'"})).await;
    home.ready("a", "Active").await;
    home.rule("a", json!({"when": "objekt.x"})).await;
    home.event("RuleExpressionInvalid", "a", |event| event.series.as_ref().is_some_and(|s| s.count == 2))
        .await;
}

/// 5 of the list of bad inputs: only an object shows what its condition costs.
#[tokio::test]
async fn a_condition_over_its_budget_is_told_of_on_the_rule() {
    let home = Home::furnished().await;
    let controller = home.controller(&[]);
    controller.leads().await;
    home.boat("ark", "leaking").await;
    let dear =
        "lists.range(1000000).exists(n, string(n) == object.data.hull) || object.data.hull == 'leaking'";
    home.rule("dear", json!({"when": dear})).await;
    home.rule("cheap", json!({})).await;
    let message = home
        .about("dear", "it says what is wrong", |rule| {
            let conditions = &rule.status.as_ref()?.conditions;
            conditions.iter().map(|one| one.message.clone()).find(|message| message.contains("exceeded"))
        })
        .await;
    assert!(message.contains("not decided: ark: evaluation exceeded 10,000 steps"), "{message}");
    // Only itself: the same object is answered by others.
    home.execution("cheap").await;
    let of_dear = ListParams::default().labels("fother.dev/rule=dear");
    let executions: Api<fother::api::Execution> = Api::namespaced(home.admin.clone(), NAMESPACE);
    assert!(executions.list(&of_dear).await.unwrap().items.is_empty());
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_told_of_again() {
    let home = Home::furnished().await;
    let controller = home.controller(&[]);
    controller.leads().await;
    home.rule("watches", json!({})).await;
    home.ready("watches", "Active").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(home.admin.clone(), NAMESPACE);
    let unmarked = json!({"metadata": {"annotations": {"fother.dev/allow": null}}});
    accounts.patch("healer", &PatchParams::default(), &Patch::Merge(unmarked)).await.unwrap();
    // A change of the rule has its account read anew.
    home.rule("watches", json!({"description": "x"})).await;
    home.event("RulePermissionMissing", "watches", |_| true).await;
}

/// An Event of this moment.
pub fn leak(name: &str) -> Value {
    let at = Timestamp::now();
    json!({
        "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name, "namespace": NAMESPACE},
        "eventTime": format!("{at:.6}"), "type": "Warning", "reason": "Leak", "action": "Sail", "note": "water",
        "reportingController": "example.com/bilge", "reportingInstance": "one",
        "regarding": {"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": "ark"},
    })
}

#[tokio::test]
async fn what_is_suppressed_again_and_again_is_one_event_that_counts() {
    let home = Home::furnished().await;
    let mut controller = home.controller(&[]);
    controller.leads().await;
    home.boat("ark", "leaking").await;
    let trigger = json!({"resource": null, "event": {"reasons": ["Leak"]}});
    let limits = json!({"cooldown": "1h"});
    home.rule("mends", json!({"mode": "Enforce", "trigger": trigger, "when": null, "limits": limits})).await;
    home.answers("mends").await;
    home.apply(&leak("first")).await;
    home.execution("mends").await;
    for name in ["second", "third", "fourth"] {
        home.apply(&leak(name)).await;
    }
    let counted = |event: &k8s_openapi::api::events::v1::Event| {
        event.series.as_ref().is_some_and(|series| series.count == 3)
    };
    let event = home.event("RuleFireSuppressed", "ark", counted).await;
    assert_eq!(event.note.as_deref(), Some("Rule mends did not fire: Cooldown"));

    // Whoever sees them anew has told of them already.
    controller.process.kill();
    let controller = home.controller(&[]);
    controller.leads().await;
    home.apply(&leak("fifth")).await;
    let four = |event: &k8s_openapi::api::events::v1::Event| {
        event.series.as_ref().is_some_and(|series| series.count >= 4)
    };
    let event = home.event("RuleFireSuppressed", "ark", four).await;
    assert_eq!(event.series.unwrap().count, 4);
    let all: Api<fother::api::Execution> = Api::namespaced(home.admin.clone(), NAMESPACE);
    assert_eq!(all.list(&ListParams::default()).await.unwrap().items.len(), 1);
}
