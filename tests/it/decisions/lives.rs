//! Objects that are created and deleted: each is answered once, through restarts and gaps in the watch, and nothing else is
//! taken for it.

use fother::api::{Execution, Rule};
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};

use super::bay::{Bay, NAMESPACE, PAINT};

/// A list of boats.
const LIST: &str = "GET /api/v1/namespaces/default/configmaps?&limit=";
/// A watch of boats.
const WATCH: &str = "GET /api/v1/namespaces/default/configmaps?&watch=";

/// A boat of a kind, at the northern pier.
async fn boat(bay: &Bay, name: &str, kind: &str) {
    moored(bay, name, (kind, "north")).await;
}

async fn moored(bay: &Bay, name: &str, (kind, pier): (&str, &str)) {
    bay.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"pier": pier, "hull": "tight"},
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kind": kind}}}))
        .await;
}

/// The pier of a boat.
fn pier() -> Value {
    json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "${{ object.data.pier }}"}})
}

/// The names of the objects that led to an Execution together.
fn captured(execution: &Execution) -> Vec<String> {
    let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
    captured.map(|one| one.data.0["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

async fn gone(bay: &Bay, name: &str) {
    bay.delete("v1", "ConfigMap", name).await;
}

/// A rule about what comes and goes among the rafts.
async fn rule(bay: &Bay, lifecycle: &[&str], changes: Value) {
    let resource = json!({"lifecycle": lifecycle, "labelSelector": {"matchLabels": {"kind": "raft"}}});
    let mut spec = json!({"trigger": {"resource": resource}, "when": null, "ladder": [{"run": PAINT}]});
    json_patch::merge(&mut spec, &changes);
    bay.count(WATCH);
    bay.rule("rafts", spec).await;
    bay.answers("rafts").await;
    // Whoever comes to a watch has it list again, and so does the first: from then on all is told as it happens.
    bay.until_struck(WATCH, 2).await;
    bay.lift(WATCH);
}

/// The same, which observes, and for which each object is a target of its own.
async fn each(bay: &Bay, lifecycle: &[&str]) {
    let changes = json!({"mode": "Observe", "target": {"key": "event.type + '-' + object.metadata.uid"}, "ladder": [{"run": "look"}]});
    bay.script("look").await;
    rule(bay, lifecycle, changes).await;
}

/// What was answered: what happened, and to which object.
fn answered(executions: &[Execution]) -> Vec<String> {
    let of = |execution: &Execution| {
        let decision = execution.spec.decision.clone().expect("a decision");
        let event = decision.event.expect("nobody else keeps what happened");
        format!("{} {}", event.event_type, decision.matched.object.name)
    };
    let mut all: Vec<_> = executions.iter().map(of).collect();
    all.sort();
    all
}

async fn until_answered(bay: &Bay, expected: &[&str]) -> Vec<Execution> {
    bay.all(&format!("{expected:?} is answered"), |all| {
        answered(all) == expected && all.iter().all(Execution::is_finished)
    })
    .await
}

#[tokio::test]
async fn what_is_created_is_answered_once_also_if_nobody_watched() {
    let mut bay = Bay::new().await;
    boat(&bay, "early", "raft").await;
    rule(&bay, &["Created"], json!({})).await;
    boat(&bay, "ark", "raft").await;
    let ended = until_answered(&bay, &["Created ark"]).await.remove(0);
    assert_eq!(ended.reason(), Some("Completed"), "{ended:#?}");
    // One at a time: what is created while another is answered is dropped.
    bay.later().await;
    bay.kill().await;
    boat(&bay, "brig", "raft").await;
    bay.start();
    until_answered(&bay, &["Created ark", "Created brig"]).await;
    bay.later().await;
    boat(&bay, "cog", "raft").await;
    until_answered(&bay, &["Created ark", "Created brig", "Created cog"]).await;
    bay.later().await;
    bay.restart().await;
    boat(&bay, "dhow", "raft").await;
    until_answered(&bay, &["Created ark", "Created brig", "Created cog", "Created dhow"]).await;
}

/// It would take for new what is younger than the Rule, wherever that looked until then.
#[tokio::test]
async fn a_rule_that_comes_to_watch_objects_does_not_make_up_for_what_came_before() {
    for elsewhere in
        [json!({"schedule": {"at": ["2200-01-01T00:00:00Z"]}}), json!({"webhook": {"name": "harbor"}})]
    {
        let bay = Bay::of_old(SignedDuration::from_mins(10)).await;
        bay.boat("north", "tight").await;
        bay.webhook("harbor").await;
        let target = json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "north"}});
        bay.told_rule("rafts", elsewhere, json!({"target": target})).await;
        bay.watching("rafts").await;
        // What is of the same second as the Rule is not new to it in any case.
        bay.later().await;
        boat(&bay, "early", "raft").await;
        rule(&bay, &["Created"], json!({})).await;
        boat(&bay, "ark", "raft").await;
        until_answered(&bay, &["Created ark"]).await;
    }
}

/// Whether a Rule that works says something.
fn says(rule: &Rule, text: &str) -> bool {
    let conditions = rule.status.as_ref().map(|status| &status.conditions[..]).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    ready.is_some_and(|ready| ready.status == "True" && ready.message.contains(text))
}

#[tokio::test]
async fn a_text_that_leads_nowhere_is_said_on_the_rule() {
    let named = |name: &str| json!({"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": name}});
    let together = json!({"groupBy": "object.data.pier", "within": "10m", "count": 2});
    for (changes, why, is_target, answers) in [
        (json!({"target": {"key": "object.data.pier"}}), "pier", true, 1),
        (json!({"target": pier()}), "pier", true, 1),
        (json!({"target": named("south")}), "ConfigMap/south does not exist", true, 0),
        (json!({"target": named("north"), "correlate": together}), "pier", false, 0),
    ] {
        let bay = Bay::new().await;
        bay.boat("north", "tight").await;
        bay.script("look").await;
        let mut observes = json!({"mode": "Observe", "ladder": [{"run": "look"}]});
        json_patch::merge(&mut observes, &changes);
        rule(&bay, &["Created"], observes).await;
        bay.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"hull": "tight"},
            "metadata": {"name": "ark", "namespace": NAMESPACE, "labels": {"kind": "raft"}}}))
            .await;
        bay.until_rule("rafts", &format!("it says what leads nowhere by {changes}"), |rule| {
            says(rule, "watching; not decided: ark: ") && says(rule, why)
        })
        .await;
        assert_eq!(bay.stopped("rafts", "notarget"), u64::from(is_target), "{changes}");
        boat(&bay, "brig", "raft").await;
        until_answered(&bay, &["Created brig"][..answers]).await;
    }
}

#[tokio::test]
async fn what_gets_labels_or_is_changed_so_that_it_matches_is_not_created() {
    let bay = Bay::new().await;
    rule(&bay, &["Created"], json!({"when": "object.data.hull == 'tight'"})).await;
    boat(&bay, "ship", "ship").await;
    boat(&bay, "ship", "raft").await;
    bay.boat("brig", "leaking").await;
    boat(&bay, "brig", "raft").await;
    boat(&bay, "ark", "raft").await;
    until_answered(&bay, &["Created ark"]).await;
    bay.later().await;
    bay.hold(LIST);
    bay.rule("other", json!({})).await;
    bay.until_struck(LIST, 1).await;
    boat(&bay, "cog", "raft").await;
    bay.lift(LIST);
    until_answered(&bay, &["Created ark", "Created cog"]).await;
}

#[tokio::test]
async fn a_creation_is_answered_once_wherever_it_would_lead_by_now() {
    let mut bay = Bay::new().await;
    for pier in ["north", "south"] {
        bay.boat(pier, "tight").await;
    }
    let target = pier();
    rule(&bay, &["Created"], json!({"target": target})).await;
    boat(&bay, "ark", "raft").await;
    until_answered(&bay, &["Created ark"]).await;
    bay.later().await;
    bay.kill().await;
    bay.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"pier": "south"},
        "metadata": {"name": "ark", "namespace": NAMESPACE, "labels": {"kind": "raft"}}}))
        .await;
    bay.start();
    boat(&bay, "brig", "raft").await;
    let all = until_answered(&bay, &["Created ark", "Created brig"]).await;
    assert!(all.iter().all(|one| one.spec.target.as_ref().is_some_and(|target| target.name == "north")));
}

#[tokio::test]
async fn what_leaves_the_selector_is_not_deleted() {
    let bay = Bay::new().await;
    bay.boat("north", "tight").await;
    for name in ["ark", "brig", "cog"] {
        boat(&bay, name, "raft").await;
    }
    let target = pier();
    rule(&bay, &["Deleted"], json!({"when": "object.data.hull == 'tight'", "target": target})).await;
    boat(&bay, "brig", "ship").await;
    gone(&bay, "ark").await;
    let ended = until_answered(&bay, &["Deleted ark"]).await.remove(0);
    assert_eq!(
        (ended.reason(), ended.spec.target.as_ref().map(|target| target.name.as_str())),
        (Some("Completed"), Some("north"))
    );
    let event = ended.spec.decision.and_then(|decision| decision.event).expect("an event");
    assert_eq!(event.data.0["object"]["data"], json!({"hull": "tight"}), "what it was, as far as it is read");
    bay.later().await;
    gone(&bay, "brig").await;
    gone(&bay, "cog").await;
    until_answered(&bay, &["Deleted ark", "Deleted cog"]).await;
}

#[tokio::test]
async fn what_takes_a_name_again_is_created_after_the_other_was_deleted() {
    let bay = Bay::new().await;
    each(&bay, &["Created", "Deleted"]).await;
    boat(&bay, "ark", "raft").await;
    gone(&bay, "ark").await;
    boat(&bay, "ark", "raft").await;
    until_answered(&bay, &["Created ark", "Created ark", "Deleted ark"]).await;
}

#[tokio::test]
async fn a_list_tells_what_came_and_went_while_the_watch_was_interrupted() {
    let bay = Bay::new().await;
    for name in ["ark", "brig", "ship", "stays"] {
        boat(&bay, name, if name == "ship" { "ship" } else { "raft" }).await;
    }
    each(&bay, &["Created", "Deleted"]).await;
    bay.hold(LIST);
    // Whoever comes to a watch has it list again.
    bay.rule("other", json!({})).await;
    bay.until_struck(LIST, 1).await;
    gone(&bay, "ark").await;
    boat(&bay, "cog", "raft").await;
    gone(&bay, "brig").await;
    boat(&bay, "brig", "raft").await;
    // It is not new, and what came and went in between nobody has seen.
    boat(&bay, "ship", "raft").await;
    boat(&bay, "dhow", "raft").await;
    gone(&bay, "dhow").await;
    bay.lift(LIST);
    let all = ["Created brig", "Created cog", "Deleted ark", "Deleted brig"];
    until_answered(&bay, &all).await;
    gone(&bay, "stays").await;
    until_answered(&bay, &[&all[..], &["Deleted stays"]].concat()).await;
}

#[tokio::test]
async fn that_nobody_watched_is_said_where_deletions_are_missed() {
    let mut bay = Bay::new().await;
    boat(&bay, "ark", "raft").await;
    boat(&bay, "brig", "raft").await;
    each(&bay, &["Deleted"]).await;
    bay.kill().await;
    gone(&bay, "ark").await;
    bay.start();
    bay.until_rule("rafts", "it says what it cannot know", |rule| {
        says(rule, "nobody knows what was deleted meanwhile")
    })
    .await;
    gone(&bay, "brig").await;
    until_answered(&bay, &["Deleted brig"]).await;
}

#[tokio::test]
async fn evidence_about_what_is_gone_is_not_that_of_its_successor() {
    let bay = Bay::new().await;
    boat(&bay, "ark", "raft").await;
    bay.evidence("evidence").await;
    bay.action("mark", json!({"annotate": {"values": {"example.com/mark": "x"}}})).await;
    // The text cannot know that a Pod's topmost controller is the Pod.
    rule(&bay, &["Deleted"], json!({"target": "workload", "ladder": [{"run": "evidence"}, {"run": "mark"}]}))
        .await;
    bay.hold("POST /apis/fother.dev/v1alpha1/namespaces/default/executions");
    gone(&bay, "ark").await;
    bay.until_struck("POST /apis/fother.dev/v1alpha1/namespaces/default/executions", 1).await;
    boat(&bay, "ark", "raft").await;
    bay.lift("POST /apis/fother.dev/v1alpha1/namespaces/default/executions");
    let ended = until_answered(&bay, &["Deleted ark"]).await.remove(0);
    let rungs = ended.status.expect("a status").rungs;
    assert_eq!(rungs[1].message, "ConfigMap/ark does not exist", "{rungs:#?}");
    let kept = rungs[0].outputs.0.get("configMap").and_then(Value::as_str).expect("evidence").to_owned();
    let kept = bay.read("v1", "ConfigMap", &kept).await;
    assert_eq!(
        kept["data"].as_object().map(|files| files.keys().cloned().collect::<Vec<_>>()),
        Some(vec!["events.txt".to_owned()])
    );
}

#[tokio::test]
async fn what_goes_with_its_owner_leads_nowhere_and_is_counted() {
    let bay = Bay::new().await;
    boat(&bay, "fleet", "fleet").await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "fleet", "controller": true,
        "uid": bay.uid("v1", "ConfigMap", "fleet").await});
    for name in ["ark", "brig"] {
        bay.apply(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"kind": "raft"}, "ownerReferences": [owner]}}))
            .await;
    }
    rule(&bay, &["Deleted"], json!({"target": "workload"})).await;
    gone(&bay, "ark").await;
    let ended = until_answered(&bay, &["Deleted ark"]).await.remove(0);
    assert_eq!(
        (ended.reason(), ended.spec.target.as_ref().map(|target| target.name.as_str())),
        (Some("Completed"), Some("fleet"))
    );
    bay.later().await;
    // The garbage collector takes the other with it.
    gone(&bay, "fleet").await;
    bay.until_stopped("rafts", "notarget", 1).await;
    assert_eq!(answered(&bay.executions().await), ["Deleted ark"]);
}

#[tokio::test]
async fn of_a_flood_those_are_dropped_that_the_limits_say() {
    let mut bay = Bay::new().await;
    bay.boat("north", "tight").await;
    let target = pier();
    let once = json!({"once": {"take": "First", "within": "1h"}});
    rule(&bay, &["Created"], json!({"target": target, "limits": once})).await;
    for name in ["ark", "brig", "cog"] {
        boat(&bay, name, "raft").await;
    }
    bay.until_stopped("rafts", "superseded", 2).await;
    bay.only("one is answered", Execution::is_finished).await;
    bay.restart().await;
    bay.until_stopped("rafts", "superseded", 2).await;
    bay.only("a restart decides none anew", |_| true).await;
}

#[tokio::test]
async fn so_many_that_lead_to_one_target_are_answered_together() {
    let bay = Bay::new().await;
    for pier in ["north", "south"] {
        bay.boat(pier, "tight").await;
    }
    for name in ["ark", "brig", "cog"] {
        moored(&bay, name, ("raft", "north")).await;
    }
    for name in ["dhow", "elba"] {
        moored(&bay, name, ("raft", "south")).await;
    }
    let correlate = json!({"within": "10m", "count": 3});
    let with = json!({"target": pier(), "correlate": correlate});
    rule(&bay, &["Deleted"], with).await;
    for name in ["ark", "dhow", "brig", "elba"] {
        gone(&bay, name).await;
    }
    bay.later().await;
    assert_eq!(bay.executions().await.len(), 0);
    gone(&bay, "cog").await;
    let ended = until_answered(&bay, &["Deleted cog"]).await.remove(0);
    let target = ended.spec.target.as_ref().map(|target| target.name.as_str());
    assert_eq!((ended.reason(), target), (Some("Completed"), Some("north")));
    assert_eq!(captured(&ended), ["ark", "brig", "cog"]);
}

#[tokio::test]
async fn what_is_created_waits_for_others_through_a_restart() {
    let mut bay = Bay::new().await;
    bay.boat("north", "tight").await;
    let with = json!({"target": pier(), "correlate": {"within": "10m", "count": 2}});
    rule(&bay, &["Created"], with).await;
    for (number, names) in [["ark", "brig"], ["cog", "dhow"]].into_iter().enumerate() {
        boat(&bay, names[0], "raft").await;
        bay.later().await;
        bay.restart().await;
        bay.watching("rafts").await;
        assert_eq!(bay.executions().await.len(), number);
        boat(&bay, names[1], "raft").await;
        let all = bay
            .all("two are enough", |all| all.len() > number && all.iter().all(Execution::is_finished))
            .await;
        let mut together: Vec<_> = all.iter().map(captured).collect();
        together.sort();
        assert_eq!(together, [["ark", "brig"], ["cog", "dhow"]][..=number], "each counts once");
        bay.later().await;
    }
}

#[tokio::test]
async fn changes_are_answered_together_too() {
    let bay = Bay::new().await;
    let changes = json!({"when": "object.data.hull != oldObject.data.hull", "ladder": [{"run": PAINT}],
        "correlate": {"within": "10m", "count": 2}});
    bay.count(WATCH);
    bay.rule("rafts", changes).await;
    bay.until_struck(WATCH, 2).await;
    boat(&bay, "ark", "raft").await;
    boat(&bay, "brig", "raft").await;
    for (name, hull) in [("ark", "leaking"), ("brig", "leaking"), ("ark", "tight")] {
        bay.later().await;
        assert_eq!(bay.executions().await.len(), 0);
        bay.boat(name, hull).await;
    }
    let ended = bay.only("the ark has changed twice", Execution::is_finished).await;
    assert_eq!(
        (ended.reason(), captured(&ended)),
        (Some("Completed"), vec!["ark".to_owned(), "ark".to_owned()])
    );
}
