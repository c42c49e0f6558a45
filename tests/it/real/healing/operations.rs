//! The operations on a target, each as a run by hand: what they leave is what the API server has then.

use fother::api::{Action, Execution};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, PostParams};
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use super::scenario::{Scenario, healer_rights};
use crate::support::wait::{DEADLINE, eventually};

/// A target, its operation, and what of it is then where.
type Case = (&'static str, (&'static str, &'static str), Value, &'static [(&'static str, &'static str)]);

const BOAT: (&str, &str) = ("ConfigMap", "ark");
const CREW: (&str, &str) = ("Deployment", "crew");

fn cases() -> Vec<Case> {
    let second = json!({"name": "mate", "image": "mate:2"});
    vec![
        (
            "label",
            BOAT,
            json!({"label": {"values": {"example.com/hull": "${{ target.data.hull }}"}}}),
            &[("/metadata/labels/example.com~1hull", "leaking"), ("/metadata/labels/kind", "boat")],
        ),
        (
            "annotate",
            BOAT,
            json!({"annotate": {"values": {"example.com/paint": "red"}}}),
            &[("/metadata/annotations/example.com~1paint", "red")],
        ),
        (
            "patch-json",
            BOAT,
            json!({"patch": {"json": [{"op": "add", "path": "/data/sail", "value": "${{ target.metadata.name }}"}]}}),
            &[("/data/sail", "ark"), ("/data/hull", "leaking")],
        ),
        (
            "patch-merge",
            BOAT,
            json!({"patch": {"merge": {"data": {"sail": null, "hull": "patched"}}}}),
            &[("/data/hull", "patched"), ("/data/sail", "")],
        ),
        (
            "recreate",
            BOAT,
            json!({"recreate": {"merge": {"data": {"hull": "new"}}}}),
            &[("/data/hull", "new"), ("/metadata/labels/kind", "boat")],
        ),
        ("delete", BOAT, json!({"delete": {}}), &[("/metadata/name", "")]),
        (
            "patch-strategic",
            CREW,
            json!({"patch": {"strategic": {"spec": {"template": {"spec": {"containers": [second]}}}}}}),
            &[
                ("/spec/template/spec/containers/0/image", "captain:1"),
                ("/spec/template/spec/containers/1/image", "mate:2"),
            ],
        ),
        (
            "scale",
            CREW,
            json!({"scale": {"replicas": "${{ size(target.spec.template.spec.containers) }}"}}),
            &[("/spec/replicas", "2")],
        ),
        (
            "restart",
            CREW,
            json!({"restart": {}}),
            &[("/spec/template/spec/containers/1/image", "mate:2"), ("/spec/replicas", "2")],
        ),
    ]
}

#[tokio::test]
async fn each_operation_does_what_it_says() {
    let Some(scenario) = Scenario::new("operations").await else { return };
    scenario.boat("ark", "leaking").await;
    scenario.stage.create::<Deployment>(crew()).await;
    for (name, _, operation, _) in cases() {
        scenario.action(name, json!({"kubernetes": operation})).await;
    }
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "action", "--all", "--timeout=60s"]).await;
    for (name, target, _, expected) in cases() {
        let before = found(&scenario, target).await;
        let execution = run(&scenario, name, target, &before["metadata"]["uid"]).await;
        assert_eq!(execution.reason(), Some("Completed"), "{name}: {execution:#?}");
        let after = found(&scenario, target).await;
        for (path, text) in expected {
            let seen = after.pointer(path).unwrap_or(&Value::Null);
            let seen = seen.as_str().map_or_else(|| seen.to_string().replace("null", ""), str::to_owned);
            assert_eq!(&seen, text, "{name}: {path} of {after:#}");
        }
        assert_eq!(
            name == "recreate" || name == "delete",
            before["metadata"]["uid"] != after["metadata"]["uid"]
        );
        let restarted = "/spec/template/metadata/annotations/kubectl.kubernetes.io~1restartedAt";
        assert_eq!(name == "restart", after.pointer(restarted).is_some());
    }
}

#[tokio::test]
async fn an_operation_spares_what_has_taken_its_targets_place() {
    let Some(scenario) = Scenario::new("replaced").await else { return };
    scenario.action("sink", json!({"kubernetes": {"delete": {}}})).await;
    scenario.action("name", json!({"kubernetes": {"label": {"values": {"example.com/name": "Ark"}}}})).await;
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "action", "--all", "--timeout=60s"]).await;
    scenario.boat("ark", "leaking").await;
    let another = json!("00000000-0000-0000-0000-000000000000");
    for (action, reason, said) in [("sink", "Completed", "it is gone"), ("name", "ActionFailed", "uid")] {
        let execution = run(&scenario, action, BOAT, &another).await;
        assert_eq!(execution.reason(), Some(reason), "{execution:#?}");
        let message = &execution.status.as_ref().unwrap().rungs[0].message;
        assert!(message.to_lowercase().contains(said), "{message}");
    }
    let boat = scenario.stage.api::<ConfigMap>().get("ark").await.unwrap().metadata;
    let labels: Vec<_> = boat.labels.unwrap().into_keys().collect();
    assert_eq!((boat.deletion_timestamp, labels), (None, vec!["kind".to_owned()]));
}

#[tokio::test]
async fn what_has_no_replicas_is_not_scaled() {
    let Some(scenario) = Scenario::memory("unscalable").await else { return };
    scenario.action("grow", json!({"kubernetes": {"scale": {"replicas": 3}}})).await;
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "action/grow", "--timeout=60s"]).await;
    scenario.boat("ark", "leaking").await;
    let before = found(&scenario, BOAT).await;
    let execution = run(&scenario, "grow", BOAT, &before["metadata"]["uid"]).await;
    assert_eq!(execution.reason(), Some("ActionFailed"), "{execution:#?}");
    let message = &execution.status.as_ref().unwrap().rungs[0].message;
    assert!(message.ends_with("; the target is a ConfigMap"), "{message}");
    assert_eq!(found(&scenario, BOAT).await, before);
}

#[tokio::test]
async fn what_comes_of_a_replacement_is_told_of_the_new_object() {
    let Some(scenario) = Scenario::memory("replacement").await else { return };
    scenario.action("rebuild", json!({"kubernetes": {"recreate": {}}})).await;
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "action/rebuild", "--timeout=60s"]).await;
    scenario.boat("ark", "leaking").await;
    let before = found(&scenario, BOAT).await;
    run(&scenario, "rebuild", BOAT, &before["metadata"]["uid"]).await;
    let after = found(&scenario, BOAT).await;
    assert_ne!(after["metadata"]["uid"], before["metadata"]["uid"]);
    let uid = after["metadata"]["uid"].as_str().map(str::to_owned);
    let note = "run by hand: all rungs were done (Execution rebuild)".to_owned();
    let expected = Some((uid, Some(note)));
    eventually("it is told of the new object", DEADLINE, async || {
        let events = scenario.stage.api::<Event>().list(&ListParams::default()).await.unwrap().items;
        let told = events.into_iter().find(|event| event.reason.as_deref() == Some("RemediationCompleted"));
        let seen = told.map(|event| (event.regarding.unwrap_or_default().uid, event.note));
        if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_created_again_is_not_deleted() {
    let Some(scenario) = Scenario::new("irreplaceable").await else { return };
    refuses_without_loss(&scenario).await;
}

#[tokio::test]
async fn in_the_sandbox_what_could_not_be_created_again_is_not_deleted() {
    let Some(scenario) = Scenario::memory("irreplaceable").await else { return };
    refuses_without_loss(&scenario).await;
}

/// By the schema, and for want of a right.
async fn refuses_without_loss(scenario: &Scenario) {
    let recreate = |data: Value| json!({"kubernetes": {"recreate": {"merge": {"data": data}}}});
    scenario.action("misspell", recreate(json!({"no such key": "x"}))).await;
    scenario.action("rebuild", recreate(json!({"hull": "new"}))).await;
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "action", "--all", "--timeout=60s"]).await;
    scenario.boat("ark", "leaking").await;
    let before = found(scenario, BOAT).await;
    let cases = [
        ("misspell", "no such key", &["*"][..]),
        ("rebuild", "cannot create resource", &["get", "list", "watch", "delete"]),
    ];
    for (action, said, verbs) in cases {
        may(scenario, verbs).await;
        let execution = run(scenario, action, BOAT, &before["metadata"]["uid"]).await;
        assert_eq!(execution.reason(), Some("ActionFailed"), "{execution:#?}");
        let message = &execution.status.as_ref().unwrap().rungs[0].message;
        assert!(message.contains("nothing was deleted") && message.contains(said), "{message}");
        let after = found(scenario, BOAT).await;
        assert_eq!(after["metadata"]["resourceVersion"], before["metadata"]["resourceVersion"], "{action}");
    }
}

#[tokio::test]
async fn a_replacement_that_is_refused_when_the_old_one_is_gone_is_tried_again() {
    let Some(scenario) = Scenario::new("replacing").await else { return };
    scenario
        .action("rebuild", json!({"kubernetes": {"recreate": {"merge": {"data": {"hull": "new"}}}}}))
        .await;
    scenario.stage.kubectl(&["wait", "--for=condition=Ready", "action", "--all", "--timeout=60s"]).await;
    scenario.boat("ark", "leaking").await;
    let held = json!({"metadata": {"finalizers": ["example.com/held"]}}).to_string();
    scenario.stage.kubectl(&["patch", "configmap/ark", "--type=merge", "-p", &held]).await;
    let before = found(&scenario, BOAT).await;
    begin(&scenario, "rebuild", BOAT, &before["metadata"]["uid"]).await;
    said(&scenario, "rebuild", "waits until the old object is gone").await;
    // The right to create is gone before the old one is.
    may(&scenario, &["get", "list", "watch", "delete"]).await;
    let free = json!({"metadata": {"finalizers": null}}).to_string();
    scenario.stage.kubectl(&["patch", "configmap/ark", "--type=merge", "-p", &free]).await;
    said(&scenario, "rebuild", "ConfigMap/ark IS DELETED; to create it again is tried until").await;
    may(&scenario, &["*"]).await;
    assert_eq!(ended(&scenario, "rebuild").await.reason(), Some("Completed"));
    assert_eq!(found(&scenario, BOAT).await["data"]["hull"], "new");
}

/// What the account may do with boats from now on.
async fn may(scenario: &Scenario, verbs: &[&str]) {
    let mut rules = healer_rights();
    rules[0]["verbs"] = json!(verbs);
    let rules = json!({"rules": rules}).to_string();
    scenario.stage.kubectl(&["patch", "role/healer", "--type=merge", "-p", &rules]).await;
    let namespace = &scenario.stage.namespace;
    let creates = json!({"namespace": namespace, "verb": "create", "resource": "configmaps"});
    let user = format!("system:serviceaccount:{namespace}:healer");
    let asked = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": creates}});
    let asked: SubjectAccessReview = serde_json::from_value(asked).unwrap();
    let reviews = Api::<SubjectAccessReview>::all(scenario.stage.client.clone());
    eventually("the right is known", DEADLINE, async || {
        let review = reviews.create(&PostParams::default(), &asked).await.unwrap();
        let allowed = review.status.unwrap().allowed;
        if allowed == (verbs == ["*"]) { Ok(()) } else { Err(format!("allowed: {allowed}")) }
    })
    .await;
}

/// Waits until the only rung of an Execution says so.
async fn said(scenario: &Scenario, execution: &str, message: &str) {
    let api = scenario.stage.api::<Execution>();
    eventually(message, DEADLINE, async || {
        let found = api.get(execution).await.unwrap();
        let rungs = found.status.as_ref().map_or(&[][..], |status| status.rungs.as_slice());
        if rungs.iter().any(|rung| rung.message.contains(message)) {
            Ok(())
        } else {
            Err(format!("{rungs:#?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn an_action_that_cannot_be_run_says_why() {
    let Some(scenario) = Scenario::new("unusable").await else { return };
    let script = json!({"image": "debian", "file": "scripts/scrub.sh"});
    scenario.action("scrub", json!({"script": script})).await;
    let is = async |condition: &str| {
        let wait = ["wait", &format!("--for=condition={condition}"), "action/scrub", "--timeout=60s"];
        scenario.stage.kubectl(&wait).await;
        let status = scenario.stage.api::<Action>().get("scrub").await.unwrap().status.unwrap();
        let accepted = status.conditions.into_iter().find(|c| c.type_ == "Accepted").unwrap();
        (accepted.status, accepted.reason, accepted.message)
    };
    let (status, reason, message) = is("Ready=False").await;
    assert_eq!((status.as_str(), reason.as_str()), ("False", "UnsupportedValue"));
    assert!(message.contains("spec.script.file") && message.contains("Pack"), "{message}");

    let mended = json!({"spec": {"script": {"file": null, "inline": "true"}}}).to_string();
    scenario.stage.kubectl(&["patch", "action/scrub", "--type=merge", "-p", &mended]).await;
    let (status, reason, _) = is("Ready").await;
    assert_eq!((status.as_str(), reason.as_str()), ("True", "Accepted"));
}

#[tokio::test]
async fn a_rule_says_which_action_it_misses_until_it_is_there() {
    let Some(scenario) = Scenario::new("missing-action").await else { return };
    scenario.rule("scrubs", json!({"ladder": [{"run": "scrub"}]})).await;
    let missing = scenario.condition("scrubs", "ResolvedRefs", "False").await;
    assert_eq!(missing.reason, "ActionNotFound");
    assert!(missing.message.contains("Action \"scrub\" not found"), "{}", missing.message);
    assert_eq!(scenario.condition("scrubs", "Ready", "False").await.reason, "ActionNotFound");
    scenario.action("scrub", json!({"kubernetes": {"delete": {}}})).await;
    scenario.condition("scrubs", "ResolvedRefs", "True").await;
    scenario.watching("scrubs").await;
}

/// Nobody, and two containers.
fn crew() -> Value {
    let containers = json!([{"name": "captain", "image": "captain:1"}, {"name": "mate", "image": "mate:1"}]);
    json!({"metadata": {"name": "crew"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"app": "crew"}},
        "template": {"metadata": {"labels": {"app": "crew"}}, "spec": {"containers": containers}},
    }})
}

fn api_version(kind: &str) -> &'static str {
    if kind == "Deployment" { "apps/v1" } else { "v1" }
}

/// The object as it is now; null where there is none.
async fn found(scenario: &Scenario, (kind, name): (&str, &str)) -> Value {
    let (group, version) = api_version(kind).rsplit_once('/').unwrap_or(("", "v1"));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let (client, namespace) = (scenario.stage.client.clone(), &scenario.stage.namespace);
    let api = Api::<DynamicObject>::namespaced_with(client, namespace, &resource);
    json!(api.get_opt(name).await.unwrap())
}

/// Runs the Action on the target of that UID, by hand, and waits until it has ended.
async fn run(scenario: &Scenario, action: &str, target: (&str, &str), uid: &Value) -> Execution {
    begin(scenario, action, target, uid).await;
    ended(scenario, action).await
}

async fn begin(scenario: &Scenario, action: &str, (kind, name): (&str, &str), uid: &Value) {
    let namespace = &scenario.stage.namespace;
    let target = json!({
        "apiVersion": api_version(kind), "kind": kind, "namespace": namespace, "name": name, "uid": uid,
    });
    let spec = json!({"serviceAccountName": "healer", "run": action, "target": target});
    scenario.stage.create::<Execution>(json!({"metadata": {"name": action}, "spec": spec})).await;
}

async fn ended(scenario: &Scenario, execution: &str) -> Execution {
    let wait = ["wait", "--for=condition=Finished", &format!("execution/{execution}"), "--timeout=60s"];
    scenario.stage.kubectl(&wait).await;
    scenario.stage.api::<Execution>().get(execution).await.unwrap()
}
