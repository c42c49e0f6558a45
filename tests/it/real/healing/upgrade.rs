//! The controller meets what a later version has left: its kinds, with fields and values that this one does not know. It
//! neither drops them nor acts as if they were not there, and whatever else runs is neither lost nor doubled.
//!
//! Of the later version only the writes are needed, and those the test plays; a build that is another one is in `earlier`.

use fother::api::{Action, AttemptState, Execution, Rule};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt as _};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::controller::{Build, Controller};
use super::scenario::{CAULK, MEND, Scenario};
use crate::support::wait::{DEADLINE, eventually};

/// The kinds as a later version would have them.
struct LaterKinds {
    api: Api<CustomResourceDefinition>,
    before: Vec<CustomResourceDefinition>,
}

impl LaterKinds {
    async fn install(scenario: &Scenario) -> Self {
        let api = Api::all(scenario.stage.client.clone());
        let kinds = Self { before: fother::api::crds(), api };
        for kind in &kinds.before {
            kinds.replace(later(kind)).await;
        }
        scenario.until_known("the later kinds are served", |known| known).await;
        kinds
    }

    async fn take_back(&self, scenario: &Scenario) {
        for kind in &self.before {
            self.replace(kind.clone()).await;
        }
        scenario.until_known("the earlier kinds are served", |known| !known).await;
    }

    async fn replace(&self, mut kind: CustomResourceDefinition) {
        let name = kind.name_any();
        kind.metadata.resource_version = self.api.get(&name).await.unwrap().metadata.resource_version;
        self.api.replace(&name, &PostParams::default(), &kind).await.unwrap();
    }
}

/// One more field here and there, one more value of what is chosen among several, one more column.
fn later(kind: &CustomResourceDefinition) -> CustomResourceDefinition {
    let mut kind = serde_json::to_value(kind).unwrap();
    let version = &mut kind["spec"]["versions"][0];
    let column = json!({"name": "Pace", "type": "string", "jsonPath": ".status.pace"});
    version["additionalPrinterColumns"].as_array_mut().unwrap().push(column);
    let fields = &mut version["schema"]["openAPIV3Schema"]["properties"];
    fields["spec"]["properties"]["pace"] = json!({"type": "string"});
    fields["status"]["properties"]["pace"] = json!({"type": "string"});
    if let Some(rungs) = fields["status"]["properties"].get_mut("rungs") {
        rungs["items"]["properties"]["pace"] = json!({"type": "string"});
        rungs["items"]["properties"]["state"]["enum"].as_array_mut().unwrap().push(json!("Resting"));
    }
    if let Some(cooldown) = fields["spec"]["properties"].pointer_mut("/limits/properties/cooldown") {
        *cooldown = json!({"x-kubernetes-preserve-unknown-fields": true});
    }
    if let Some(modes) = fields["spec"]["properties"].pointer_mut("/mode/enum") {
        modes.as_array_mut().unwrap().push(json!("Suggest"));
    }
    serde_json::from_value(kind).unwrap()
}

impl Scenario {
    /// Waits until the API server knows, or does not know, what the later kinds have.
    async fn until_known(&self, what: &str, wanted: impl Fn(bool) -> bool) {
        for kind in [ApiResource::erase::<Rule>(&()), ApiResource::erase::<Execution>(&())] {
            let api = Api::<DynamicObject>::namespaced_with(
                self.stage.client.clone(),
                &self.stage.namespace,
                &kind,
            );
            let probe = probe(&kind.kind);
            let dry = PostParams { dry_run: true, ..PostParams::default() };
            eventually(what, DEADLINE, || async {
                let kept = api.create(&dry, &probe).await.map_err(|error| error.to_string())?;
                if wanted(kept.data["spec"]["pace"] == "slow") { Ok(()) } else { Err(format!("{kept:?}")) }
            })
            .await;
        }
    }

    /// Writes into the status of a rule's only Execution, as a later version would.
    async fn later_writes(&self, rule: &str, changes: Value) {
        let execution = self.only(rule, "an Execution", |_| true).await;
        let patch: json_patch::Patch = serde_json::from_value(changes).unwrap();
        let api = self.stage.api::<Execution>();
        api.patch_status(&execution.name_any(), &PatchParams::default(), &Patch::<()>::Json(patch))
            .await
            .unwrap();
    }

    /// What is in a rule's only Execution that this version does not know.
    async fn paces(&self, rule: &str) -> String {
        let of_rule = format!("fother.dev/rule={rule}");
        let path = "jsonpath={.items[*].status.pace} {.items[*].status.rungs[0].pace}";
        self.stage.kubectl(&["get", "executions", "-l", &of_rule, "-o", path]).await
    }
}

/// An object that is only asked about.
fn probe(kind: &str) -> DynamicObject {
    let mut spec = match kind {
        "Rule" => super::scenario::rule_spec(json!({})),
        _ => json!({"serviceAccountName": "healer", "run": MEND}),
    };
    spec["pace"] = json!("slow");
    let object = json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": {"name": "probe"}, "spec": spec});
    serde_json::from_value(object).unwrap()
}

/// One waits for its `for`, one has a Job that runs, one is watched after it was mended.
async fn underway(scenario: &Scenario, controller: &Controller) {
    let proven = json!({"when": "'proven' in target.data", "within": "2m", "stableFor": "1s"});
    scenario.rule_for("ark", MEND, json!({"for": "6s"})).await;
    scenario.rule_for("brig", CAULK, json!({})).await;
    for boat in ["cog", "dory"] {
        scenario.rule_for(boat, MEND, json!({"ladder": [{"run": MEND, "verify": proven}]})).await;
    }
    for rule in ["ark", "brig", "cog", "dory"] {
        scenario.watching(rule).await;
    }
    for boat in ["brig", "cog", "dory"] {
        scenario.boat(boat, "leaking").await;
    }
    scenario.until_caulking(1).await;
    let stands = |wanted| {
        move |e: &Execution| {
            e.status.as_ref().is_some_and(|s| s.rungs.first().is_some_and(|r| r.state == wanted))
        }
    };
    scenario.only("brig", "its Job is recorded", stands(AttemptState::Running)).await;
    for boat in ["cog", "dory"] {
        scenario.only(boat, "it is watched", stands(AttemptState::Succeeded)).await;
    }
    scenario.boat("ark", "leaking").await;
    scenario.is_held(controller, "ark").await;
}

/// Has one be followed by another, as a rollout does: the other stands by before the one is stopped.
pub async fn replaced(scenario: &Scenario, mut one: Controller, build: Build, name: &str) -> Controller {
    let mut other = Controller::of_build(build, scenario.controller_access(), name);
    other.says("standing by").await;
    one.signal(Signal::TERM);
    assert!(one.ends().await.success());
    other.ready().await;
    other
}

/// What a later version does while it leads.
async fn later_version_works(scenario: &Scenario) {
    for rule in ["brig", "cog"] {
        let changes = json!([
            {"op": "add", "path": "/status/pace", "value": "slow"},
            {"op": "add", "path": "/status/rungs/0/pace", "value": "slow"},
        ]);
        scenario.later_writes(rule, changes).await;
    }
    let resting = json!([{"op": "replace", "path": "/status/rungs/0/state", "value": "Resting"}]);
    scenario.later_writes("dory", resting).await;
}

/// What only the later version understands stands still under this one, and says so.
async fn stands_still(scenario: &Scenario) {
    let ready = scenario.condition("eel", "Ready", "False").await;
    assert_eq!(ready.reason, "UnsupportedValue", "{ready:?}");
    assert!(ready.message.starts_with("spec.pace is not known to this version of fother"), "{ready:?}");
    scenario.stage.kubectl(&["wait", "--for=condition=Ready=false", "rule/gig", "--timeout=60s"]).await;
    let of_ready = "jsonpath={.status.conditions[?(@.type=='Ready')].message}";
    let message = scenario.stage.kubectl(&["get", "rule", "gig", "-o", of_ready]).await;
    assert!(
        message.starts_with("cannot be read by this version of fother, and is left alone: "),
        "{message}"
    );
    let ready = scenario.condition("fid", "Ready", "False").await;
    assert!(ready.message.starts_with("spec.mode is not known"), "{ready:?}");
    let stands = |e: &Execution| e.reason() == Some("UnsupportedValue") && !e.is_finished();
    scenario.stage.until("it is not run without what it does not know", "by-hand", stands).await;
    let dory = scenario.only("dory", "it stands still and says why", stands).await;
    let conditions = dory.status.unwrap().conditions;
    let message = &conditions.iter().find(|c| c.type_ == "Succeeded").unwrap().message;
    assert!(message.starts_with("stands still: status.rungs[0].state is not known"), "{message}");
}

/// A rule that only a later version understands: nothing is done as if what it says were not there.
async fn later_rule(scenario: &Scenario, boat: &str, changes: Value) {
    let kind = ApiResource::erase::<Rule>(&());
    let api = Api::<DynamicObject>::namespaced_with(
        scenario.stage.client.clone(),
        &scenario.stage.namespace,
        &kind,
    );
    let when = format!("object.metadata.name == '{boat}' && object.data.hull == 'leaking'");
    let mut spec = super::scenario::rule_spec(json!({"when": when, "ladder": [{"run": MEND}]}));
    json_patch::merge(&mut spec, &changes);
    let rule = json!({"apiVersion": "fother.dev/v1alpha1", "kind": Rule::kind(&()), "metadata": {"name": boat}, "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(rule).unwrap()).await.unwrap();
    scenario.boat(boat, "leaking").await;
}

/// An Action that only a later version understands, and somebody who runs it.
async fn later_action(scenario: &Scenario) {
    let kind = ApiResource::erase::<Action>(&());
    let api = Api::<DynamicObject>::namespaced_with(
        scenario.stage.client.clone(),
        &scenario.stage.namespace,
        &kind,
    );
    let spec = json!({"pace": "slow", "kubernetes": {"annotate": {"values": {"example.com/paint": "tar"}}}});
    let action = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Action", "metadata": {"name": "tar"}, "spec": spec});
    api.create(&PostParams::default(), &serde_json::from_value(action).unwrap()).await.unwrap();
    scenario.stage.kubectl(&["wait", "--for=condition=Ready=false", "action/tar", "--timeout=60s"]).await;
    scenario.boat("tub", "tight").await;
    let target = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": scenario.stage.namespace, "name": "tub"});
    let spec = json!({"serviceAccountName": "healer", "run": "tar", "target": target});
    scenario.stage.create::<Execution>(json!({"metadata": {"name": "by-hand"}, "spec": spec})).await;
}

#[tokio::test]
async fn what_a_later_version_has_left_is_kept_and_not_acted_upon() {
    let Some(scenario) = Scenario::alone("upgrade").await else { return };
    let one = scenario.controller().await;
    underway(&scenario, &one).await;
    let kinds = LaterKinds::install(&scenario).await;
    let other = replaced(&scenario, one, Build::This, "two").await;
    later_version_works(&scenario).await;
    let _one = replaced(&scenario, other, Build::This, "one").await;
    later_rule(&scenario, "eel", json!({"pace": "slow"})).await;
    later_rule(&scenario, "fid", json!({"mode": "Suggest"})).await;
    later_rule(&scenario, "gig", json!({"limits": {"cooldown": {"of": "5m"}}})).await;
    later_action(&scenario).await;
    stands_still(&scenario).await;

    scenario.let_caulk_end();
    scenario.set_hull("brig", "tight").await;
    for boat in ["cog", "dory"] {
        scenario.stage.kubectl(&["patch", "configmap", boat, "-p", r#"{"data":{"proven":"yes"}}"#]).await;
    }
    scenario.all_recover(&["ark", "brig", "cog"]).await;
    assert_eq!(
        (scenario.paces("brig").await, scenario.paces("cog").await),
        ("slow slow".into(), "slow slow".into())
    );
    scenario.controller_catches_up().await;
    assert!(!scenario.executions("dory").await[0].is_finished(), "it is the later version's");
    assert_eq!((scenario.targets("eel").await.len(), scenario.targets("fid").await.len()), (0, 0));

    let rested = json!([{"op": "replace", "path": "/status/rungs/0/state", "value": "Succeeded"}]);
    scenario.later_writes("dory", rested).await;
    scenario.all_recover(&["dory"]).await;
    scenario.change_rule("eel", json!({"pace": null})).await;
    scenario.change_rule("fid", json!({"mode": "Enforce"})).await;
    for rule in ["eel", "fid"] {
        scenario.ends(rule, "Completed").await;
    }
    scenario.delete_rule("gig").await;
    let patch = Patch::Merge(json!({"spec": {"pace": null}}));
    scenario.stage.api::<Action>().patch("tar", &PatchParams::default(), &patch).await.unwrap();
    let done = |e: &Execution| e.reason() == Some("Completed");
    scenario.stage.until("it is run after all", "by-hand", done).await;
    kinds.take_back(&scenario).await;
    scenario.controller_catches_up().await;
    scenario.has_run_one_job().await;
    for rule in ["ark", "brig", "cog", "dory", "eel", "fid"] {
        assert_eq!(scenario.targets(rule).await, [rule], "once");
    }
}
