//! What an Execution waits for, and for how long.

use fother::api::Execution;
use fother::decide::definition::canonical;
use fother::decide::identity::{digest, readable};
use fother::source::watch::now;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::SignedDuration;
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::bay::{Bay, MEND, NAMESPACE};
use crate::support::wait::{DEADLINE, eventually};

fn ark() -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": "ark"})
}

#[tokio::test]
async fn a_right_that_is_missing_for_a_moment_ends_nothing() {
    const ACCOUNT: &str = "GET /api/v1/namespaces/default/serviceaccounts/healer";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.refuse(ACCOUNT, 403);
    bay.run("hand", MEND, ark()).await;
    let stands = bay.only("it says what it waits for", |e| e.reason() == Some("MissingPermissions")).await;
    assert!(!stands.is_finished(), "{stands:#?}");
    bay.lift(ACCOUNT);
    let ended = bay.only("it goes on", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn an_account_that_is_not_allowed_ends_what_has_not_begun_at_once() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.apply(json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "healer", "namespace": NAMESPACE, "annotations": {"fother.dev/allow": "false"}}}))
        .await;
    bay.run("hand", MEND, ark()).await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("MissingPermissions"), "{ended:#?}");
}

/// Keeps what a later version would of a Rule with a trigger, and an Execution that runs it; gives the name of the definition.
async fn of_a_later_version(bay: &Bay, name: &str, trigger: Value) -> String {
    let rule = json!({"serviceAccountName": "healer", "mode": "Enforce", "trigger": trigger, "ladder": [{"run": MEND}]});
    let actions = json!({MEND: {"kubernetes": {"patch": {"merge": {"data": {"hull": "tight"}}}}}});
    let data = json!({"rule": rule, "ladder": [{"run": MEND}], "actions": actions});
    let definition = readable(name, &digest(&[&canonical(&data)])[..32]);
    bay.apply(json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "revision": 1, "data": data,
        "metadata": {"name": definition, "namespace": NAMESPACE}}))
        .await;
    let id = &digest(&[name])[..32];
    let decision = json!({"id": id, "time": format!("{:.0}", now()), "rule": {"name": name}, "mode": "Enforce",
        "occurrence": name, "matched": {"object": ark()}, "definition": definition});
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "healer", "target": ark(), "decision": decision}}))
        .await;
    definition
}

#[tokio::test]
async fn what_a_later_version_decided_by_a_trigger_that_only_it_knows_waits_for_it() {
    let mut bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let resource = json!({"apiVersion": "v1", "kind": "ConfigMap", "lifecycle": ["Renamed"]});
    let triggers = [
        ("renamed", json!({"resource": resource}), "rule.trigger.resource.lifecycle"),
        ("queued", json!({"queue": {"name": "harbor"}}), "rule.trigger.queue"),
    ];
    let mut expected = Vec::new();
    for (name, trigger, field) in triggers {
        let definition = of_a_later_version(&bay, name, trigger).await;
        let why = format!("definition {definition} has {field}, which this version of fother does not know");
        expected.push((name.to_owned(), format!("stands still: {why}")));
    }
    expected.sort();
    let say_so = |executions: &[Execution]| {
        let said = |one: &Execution| {
            let conditions = &one.status.as_ref()?.conditions;
            let succeeded = conditions.iter().find(|condition| condition.type_ == "Succeeded")?;
            Some((one.name_any(), succeeded.message.clone()))
        };
        executions.iter().filter_map(said).collect::<Vec<_>>() == expected
    };
    bay.all("both say what is not known", say_so).await;
    bay.restart().await;
    // One that is understood is done meanwhile.
    bay.boat("brig", "leaking").await;
    let brig = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": NAMESPACE, "name": "brig"});
    bay.run("hand", MEND, brig).await;
    let all = bay.all("another is done", |all| all.iter().any(Execution::is_finished)).await;
    let (done, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(Execution::is_finished);
    assert_eq!((done.len(), waiting.len()), (1, 2), "{waiting:#?}");
    assert!(say_so(&waiting) && waiting.iter().all(|one| one.reason() == Some("UnsupportedValue")));
}

/// All Executions are held in memory: what is too large for that is not.
#[tokio::test]
async fn a_run_that_is_too_large_is_left_alone_and_says_so() {
    let bay = Bay::new().await;
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
        "metadata": {"name": "hand", "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "healer", "run": MEND, "with": {"words": "x".repeat(300 * 1024)}}}))
        .await;
    let stands = bay.only("it says why", |e| e.reason() == Some("UnsupportedValue")).await;
    let message = &stands.status.unwrap().conditions[0].message;
    let why = "it has more than 256 KiB beside its status";
    assert_eq!(*message, format!("cannot be read by this version of fother, and is left alone: {why}"));
}

#[tokio::test]
async fn an_action_that_is_too_large_stops_only_the_rule_that_runs_it() {
    let bay = Bay::new().await;
    let annotations = json!({"example.com/words": "x".repeat(256 * 1024 - 32)});
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action",
        "metadata": {"name": "large", "namespace": NAMESPACE, "annotations": annotations},
        "spec": {"kubernetes": {"patch": {"merge": {"data": {"hull": "tight"}}}}}}))
        .await;
    let why = "cannot be read by this version of fother, and is left alone: it has more than 256 KiB beside its status";
    eventually("it says why", DEADLINE, async || {
        let action = bay.read("fother.dev/v1alpha1", "Action", "large").await;
        let told = action["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let says = |one: &Value| {
            let is_not_ready = one["type"] == "Ready" && one["status"] == "False";
            is_not_ready && one["reason"] == "UnsupportedValue" && one["message"] == why
        };
        if told.iter().any(says) { Ok(()) } else { Err(format!("{told:?}")) }
    })
    .await;
    for (rule, action) in [("ark", MEND), ("brig", "large")] {
        bay.rule(rule, json!({"ladder": [{"run": action}]})).await;
        bay.boat(rule, "leaking").await;
    }
    bay.watching("ark").await;
    bay.until_rule("brig", "it has nothing to run", |rule| {
        let told = rule.status.iter().flat_map(|status| &status.conditions);
        let mut ready = told.filter(|one| one.type_ == "Ready");
        ready.any(|one| (&*one.status, &*one.reason) == ("False", "ActionNotFound"))
    })
    .await;
    let ended = bay.only("the other one runs what it can", Execution::is_finished).await;
    let target = ended.spec.target.as_ref().map(|target| target.name.as_str());
    assert_eq!((ended.reason(), target), (Some("Completed"), Some("ark")), "{ended:#?}");
}

#[tokio::test]
async fn an_action_may_come_a_moment_after_the_run_of_it() {
    const ACCOUNT: &str = "GET /api/v1/namespaces/default/serviceaccounts/healer";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.count(ACCOUNT);
    bay.run("hand", "caulk", ark()).await;
    bay.until_struck(ACCOUNT, 1).await;
    bay.action("caulk", json!({"patch": {"merge": {"data": {"hull": "tight"}}}})).await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn a_run_of_an_action_that_does_not_come_says_so_and_ends_after_ten_seconds() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.run("hand", "nosuch", ark()).await;
    let waits = bay.only("it says what it waits for", |e| e.reason() == Some("ActionNotFound")).await;
    assert!(!waits.is_finished(), "{waits:#?}");
    let ended = bay.only("it ends", Execution::is_finished).await;
    let finished = ended.status.as_ref().and_then(|status| status.finished_at.as_ref()).unwrap().0;
    let lasted = finished.duration_since(ended.metadata.creation_timestamp.unwrap().0).as_secs();
    assert!((9..=12).contains(&lasted), "it took {lasted} s");
}

#[tokio::test]
async fn a_target_outside_the_rights_of_the_account_is_told_at_once() {
    const TARGET: &str = "GET /api/v1/namespaces/default/configmaps/ark";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.refuse(TARGET, 403);
    bay.run("hand", MEND, ark()).await;
    let stands = bay.only("it says what is missing", |e| e.reason() == Some("MissingPermissions")).await;
    assert!(!stands.is_finished(), "{stands:#?}");
    bay.lift(TARGET);
    let ended = bay.only("it goes on", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
}

#[tokio::test]
async fn a_run_that_could_not_be_proven_does_nothing() {
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    let verify = json!({"when": "target.dat.hull == 'tight'"});
    bay.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
        "metadata": {"name": "hand", "namespace": NAMESPACE},
        "spec": {"serviceAccountName": "healer", "run": MEND, "target": ark(), "verify": verify}}))
        .await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("InvalidExpression"), "{ended:#?}");
    let said = ended.status.as_ref().map(|status| status.conditions[0].message.clone()).unwrap_or_default();
    assert_eq!(said, "spec.verify.when: ConfigMap has no field \"dat\"; did you mean \"data\"?");
    assert!(ended.status.unwrap().rungs.is_empty());
}

#[tokio::test]
async fn an_api_that_answers_nothing_but_errors_keeps_nobody_from_canceling() {
    const TARGET: &str = "GET /api/v1/namespaces/default/configmaps/ark";
    let bay = Bay::new().await;
    bay.boat("ark", "leaking").await;
    bay.refuse(TARGET, 500);
    bay.run("hand", MEND, ark()).await;
    bay.until_struck(TARGET, 2).await;
    assert!(!bay.only("it waits", |_| true).await.is_finished());
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    let executions: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    executions.patch("hand", &PatchParams::default(), &cancel).await.unwrap();
    let ended = bay.only("it ends", |e| e.is_finished() && e.metadata.finalizers.is_none()).await;
    assert_eq!(ended.reason(), Some("Canceled"), "{ended:#?}");
}

/// Takes the cluster back to a backup that was made right after a decision, eleven minutes ago: no Job, no status.
async fn put_back(bay: &Bay, decided: &Execution) {
    let executions: Api<Execution> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let jobs: Api<Job> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let name = decided.name_any();
    let let_go = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    for job in jobs.list(&ListParams::default()).await.unwrap() {
        let job = job.name_any();
        jobs.patch(&job, &PatchParams::default(), &let_go).await.unwrap();
        jobs.delete(&job, &DeleteParams::default()).await.unwrap();
    }
    executions.patch(&name, &PatchParams::default(), &let_go).await.unwrap();
    executions.delete(&name, &DeleteParams::default()).await.unwrap();
    let mut backup = Execution { status: None, ..decided.clone() };
    let ObjectMeta { name, namespace, labels, annotations, finalizers, .. } = decided.metadata.clone();
    backup.metadata =
        ObjectMeta { name, namespace, labels, annotations, finalizers, ..ObjectMeta::default() };
    let decision = backup.spec.decision.as_mut().unwrap();
    decision.time = Time(decision.time.0 - SignedDuration::from_mins(11));
    executions.create(&PostParams::default(), &backup).await.unwrap();
}

#[tokio::test]
async fn what_was_put_back_from_a_backup_is_not_run_and_holds_its_episode() {
    let mut bay = Bay::new().await;
    bay.script("caulk").await;
    bay.boat("ark", "leaking").await;
    bay.rule("ark", json!({"ladder": [{"run": "caulk"}]})).await;
    let decided = bay.only("its Job runs", Execution::has_jobs).await;
    bay.kill().await;
    put_back(&bay, &decided).await;
    bay.restart().await;
    let ended = bay.only("it ends", Execution::is_finished).await;
    assert_eq!(ended.reason(), Some("Superseded"), "{ended:#?}");

    // The ark is looked at again and still leaks. By the time another boat is answered, so is she, or not at all.
    let boats: Api<ConfigMap> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let tide = Patch::Merge(json!({"data": {"tide": "low"}}));
    boats.patch("ark", &PatchParams::default(), &tide).await.unwrap();
    bay.boat("ark-two", "leaking").await;
    let both = bay.all("another boat is answered", |found| found.len() > 1).await;
    let of = |boat: &str| {
        let about = |e: &&Execution| e.spec.target.as_ref().is_some_and(|target| target.name == boat);
        both.iter().filter(about).collect::<Vec<_>>()
    };
    let [held] = of("ark")[..] else { panic!("{both:#?}") };
    assert_eq!(held.uid(), ended.uid());
    assert_eq!(held.status.as_ref().unwrap().episode_closed_at, None, "she matches");
    let jobs: Api<Job> = Api::namespaced(bay.admin.clone(), NAMESPACE);
    let of_ark = ListParams::default().labels(&format!("fother.dev/execution={}", held.name_any()));
    assert!(jobs.list(&of_ark).await.unwrap().items.is_empty(), "it was never run");

    // What ends the episode is that nothing matches, as ever.
    bay.boat("ark", "tight").await;
    let closed =
        |e: &Execution| e.uid() == ended.uid() && e.status.as_ref().unwrap().episode_closed_at.is_some();
    let all = bay.all("its episode is over", |found| found.iter().any(closed)).await;
    assert_eq!(all.len(), 2, "{all:#?}");
}
