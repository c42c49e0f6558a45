//! What the API server refuses of a good revision: before the first write nothing of it is applied, and after it the Pack
//! says how far it came.

use std::sync::Arc;

use fother::api::{Action, Condition, ConditionType, Duration, Rule, condition};
use http::{Request, Response, StatusCode};
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::client::Body;
use kube::core::Status;
use parking_lot::Mutex;
use serde_json::json;

use super::{ACTION, NAMESPACE, Scene, rule, serving};
use crate::support::wait::{DEADLINE, eventually};

/// What the API server says to writes of Rules of one name, and whether already to a dry run.
pub type Refusing = Arc<Mutex<Option<(&'static str, bool, Status)>>>;

/// The answer to a request, if it is refused.
pub fn refused(refusing: &Refusing, request: &Request<Body>) -> Option<Response<Body>> {
    let refusing = refusing.lock();
    let (name, tried_too, status) = refusing.as_ref()?;
    let is_try = request.uri().query().is_some_and(|query| query.contains("dryRun=All"));
    let is_meant =
        request.method() == http::Method::PATCH && request.uri().path().ends_with(&format!("/rules/{name}"));
    if !is_meant || (is_try && !tried_too) {
        return None;
    }
    let body = Body::from(serde_json::to_vec(status).unwrap());
    let answer = Response::builder().status(StatusCode::from_u16(status.code).unwrap());
    Some(answer.header("content-type", "application/json").body(body).unwrap())
}

fn status(message: &str, reason: &str, code: u16) -> Status {
    Status::failure(message, reason).with_code(code)
}

const QUOTA: &str = "rules.fother.dev \"b\" is forbidden: exceeded quota: few, requested: count/rules.fother.dev=1, used: \
                     count/rules.fother.dev=2, limited: count/rules.fother.dev=2";

fn seconds(rules: &[Rule], name: &str) -> Option<u32> {
    let rule = rules.iter().find(|rule| rule.metadata.name.as_deref() == Some(name))?;
    rule.spec.hold_for.map(Duration::as_secs)
}

/// Asks for a sync and waits until it is over: by itself the next try comes later after each failure.
async fn try_again(scene: &Scene, nth: &str) {
    scene.patch(json!({"metadata": {"annotations": {"fother.dev/reconcile-requested-at": nth}}})).await;
    eventually("it has been tried again", DEADLINE, async || {
        let handled = scene.pack().await.status.unwrap_or_default().last_handled_reconcile_at;
        if handled.as_deref() == Some(nth) { Ok(()) } else { Err(format!("{handled:?}")) }
    })
    .await;
}

/// Asserts that no right is said to be missing.
async fn is_authorized(scene: &Scene) {
    let conditions = scene.pack().await.status.unwrap().conditions;
    let authorized = condition(&conditions, ConditionType::Authorized).unwrap();
    assert_eq!(authorized.status, "True", "{}", authorized.message);
}

#[tokio::test]
async fn what_is_refused_in_a_dry_run_leaves_the_last_revision_in_force() {
    let (scene, good) = serving().await;
    let denied = "rules.fother.dev \"b\" is forbidden: ValidatingAdmissionPolicy 'site' with binding 'site' denied request: no b";
    *scene.refusing.lock() = Some(("b", true, status(denied, "Forbidden", 403)));
    let changed =
        [("a.yaml", &*rule("a", "2m")), ("b.yaml", &rule("b", "2m")), ("scripts/clean.sh", "false\n")];
    let newer = scene.origin.push(&changed).await;
    let Condition { message, .. } = scene.ready("ApplyFailed", &newer).await;
    let expected = format!(
        "failed to try Rule b, so nothing was written: {denied}; serving main@sha1:{good}, applied at 20"
    );
    assert!(message.starts_with(&expected), "{message}");
    is_authorized(&scene).await;
    try_again(&scene, "1").await;
    assert_eq!((scene.scripts().await, seconds(&scene.rules().await, "a")), (1, Some(60)));
    let status = scene.pack().await.status.unwrap();
    assert_eq!(status.applying_revision, None);
    assert!(status.applied_revision.unwrap().ends_with(&good));

    // An admission webhook that does not answer is no reason to be silent either.
    let broken = "Internal error occurred: failed calling webhook \"policy.example.com\": connection refused";
    *scene.refusing.lock() = Some(("b", true, Status::failure(broken, "InternalError").with_code(500)));
    let latest = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    try_again(&scene, "2").await;
    let Condition { message, .. } = scene.ready("ApplyFailed", &latest).await;
    assert!(message.contains(broken) && message.contains(&format!("serving main@sha1:{good}")), "{message}");

    *scene.refusing.lock() = None;
    try_again(&scene, "3").await;
    scene.ready("Synced", &latest).await;
    assert_eq!(scene.rule_names().await, ["a", "b"]);
}

/// Nobody knows then whether it would be applied.
#[tokio::test]
async fn what_gets_no_answer_is_said_to_be_tried_again_and_what_is_in_force_is_ready() {
    let (scene, good) = serving().await;
    let overloaded = "etcdserver: request timed out";
    *scene.refusing.lock() = Some(("b", true, status(overloaded, "Timeout", 504)));
    let newer = scene.origin.push(&[("b.yaml", &rule("b", "1m"))]).await;
    let trouble = eventually("the trouble is told", DEADLINE, async || {
        let conditions = scene.pack().await.status.unwrap_or_default().conditions;
        condition(&conditions, ConditionType::Reconciling).cloned().ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
    let said = format!("failed to try Rule b, so nothing was written: {overloaded}; it is tried again");
    assert_eq!((&*trouble.reason, &*trouble.message), ("ApplyFailed", &*said));
    scene.ready("Synced", &good).await;
    *scene.refusing.lock() = None;
    scene.ready("Synced", &newer).await;
    assert!(scene.progress().await.is_empty());
}

#[tokio::test]
async fn what_stops_midway_is_not_said_to_serve_the_last_revision() {
    let (scene, good) = serving().await;
    *scene.refusing.lock() = Some(("b", false, status(QUOTA, "Forbidden", 403)));
    let changed = [("a.yaml", &*rule("a", "2m")), ("b.yaml", &rule("b", "2m"))];
    let newer = scene.origin.push(&changed).await;
    let Condition { message, .. } = scene.ready("ApplyFailed", &newer).await;
    let said = format!("failed to apply Rule b: {QUOTA}; ");
    let stands = format!(
        "the rest follows at the next try; main@sha1:{newer} is in force in part; the last in force as a whole was main@sha1:{good}, \
         applied at 20"
    );
    assert!(message.starts_with(&said) && message.contains(&stands), "{message}");
    assert!(!message.contains("serving"), "{message}");
    is_authorized(&scene).await;
    assert_eq!(scene.progress().await, ["Reconciling"], "it is tried again");
    let status = scene.pack().await.status.unwrap();
    assert!(status.applying_revision.is_some_and(|applying| applying.ends_with(&newer)));
    assert!(status.applied_revision.unwrap().ends_with(&good));
    assert_eq!(seconds(&scene.rules().await, "a"), Some(120), "it was applied before");

    // Nor later, when something else is wrong.
    let bad = scene.origin.push(&[("a.yaml", &rule("a", "5 minutes"))]).await;
    let Condition { message, .. } = scene.ready("InvalidRevision", &bad).await;
    assert!(message.contains(&format!("; main@sha1:{newer} is in force in part; the last")), "{message}");

    *scene.refusing.lock() = None;
    let latest = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    scene.ready("Synced", &latest).await;
    assert_eq!(scene.rule_names().await, ["a", "b"]);
    assert_eq!(scene.pack().await.status.unwrap().applying_revision, None);
}

#[tokio::test]
async fn a_first_write_that_is_refused_changes_nothing() {
    let (scene, good) = serving().await;
    *scene.refusing.lock() = Some(("b", false, status(QUOTA, "Forbidden", 403)));
    let newer = scene.origin.push(&[("b.yaml", &rule("b", "1m"))]).await;
    let Condition { message, .. } = scene.ready("ApplyFailed", &newer).await;
    let expected = format!("failed to apply Rule b: {QUOTA}; serving main@sha1:{good}, applied at 20");
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(scene.pack().await.status.unwrap().applying_revision, None);
}

#[tokio::test]
async fn what_somebody_else_has_created_is_not_taken_over() {
    let (scene, good) = serving().await;
    let theirs = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "ports", "namespace": NAMESPACE}, "spec": {"kubernetes": {"restart": {}}}});
    scene.apply(&theirs).await;
    let ours = ACTION.replace("name: clean", "name: ports");
    let newer = scene.origin.push(&[("ports.yaml", &*ours), ("b.yaml", &rule("b", "1m"))]).await;
    let Condition { message, .. } = scene.ready("ApplyFailed", &newer).await;
    let expected = format!(
        "Action \"ports\" exists and was not created by a Pack; delete or rename one of them; serving main@sha1:{good}, \
         applied at 20"
    );
    assert!(message.starts_with(&expected), "{message}");
    assert_eq!(scene.progress().await, ["Stalled"], "somebody has to mend it");
    let actions: Api<Action> = Api::namespaced(scene.admin.clone(), NAMESPACE);
    assert!(actions.get("ports").await.unwrap().spec.kubernetes.is_some(), "it is as it was");
    assert_eq!(scene.rule_names().await, ["a"]);

    let of_other = Patch::Merge(json!({"metadata": {"labels": {"fother.dev/pack": "other"}}}));
    actions.patch("ports", &PatchParams::default(), &of_other).await.unwrap();
    let newest = scene.origin.push(&[("b.yaml", &rule("b", "2m"))]).await;
    let Condition { message, .. } = scene.ready("ApplyFailed", &newest).await;
    assert!(message.starts_with("Action \"ports\" exists and belongs to Pack \"other\";"), "{message}");

    actions.delete("ports", &DeleteParams::default()).await.unwrap();
    scene.ready("Synced", &newest).await;
    assert!(actions.get("ports").await.unwrap().spec.script.is_some());
}

/// What left while nothing was pruned is the Pack's as long as it is there, and goes when pruning is turned on.
#[tokio::test]
async fn without_prune_what_left_stays_and_is_known_until_it_may_go() {
    let mut scene = Scene::new().await;
    let files = [
        ("action.yaml", ACTION),
        ("scripts/clean.sh", "true\n"),
        ("a.yaml", &*rule("a", "1m")),
        ("b.yaml", &rule("b", "1m")),
        ("c.yaml", &rule("c", "1m")),
    ];
    let first = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({"spec": {"prune": false}})).await;
    scene.ready("Synced", &first).await;
    scene.origin.git(&["rm", "-q", "b.yaml", "c.yaml"]).await;
    let second = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    let ready = scene.ready("Synced", &second).await;
    assert_eq!(ready.message, format!("2 objects of main@sha1:{second} are in force"));
    assert_eq!(scene.rule_names().await, ["a", "b", "c"]);
    let rules: Api<Rule> = Api::namespaced(scene.admin.clone(), NAMESPACE);
    rules.delete("c", &DeleteParams::default()).await.unwrap();
    // A label alone makes nothing the Pack's to delete.
    let by_hand = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule",
        "metadata": {"name": "by-hand", "namespace": NAMESPACE, "labels": {"fother.dev/pack": "ops"}}, "spec": rules.get("b").await.unwrap().spec});
    scene.apply(&by_hand).await;
    scene.looks_again().await;
    let known = scene.pack().await.status.unwrap().inventory;
    let known: Vec<_> = known.iter().filter(|entry| entry.kind == "Rule").map(|entry| &entry.name).collect();
    assert_eq!(known, ["a", "b"]);

    scene.patch(json!({"spec": {"prune": true}})).await;
    eventually("b is gone", DEADLINE, async || {
        let names = scene.rule_names().await;
        if names == ["a", "by-hand"] { Ok(()) } else { Err(names.join(" ")) }
    })
    .await;
    let third = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    scene.ready("Synced", &third).await;
    scene.looks_again().await;
    assert_eq!(scene.rule_names().await, ["a", "by-hand"], "it is not in the inventory");
}
