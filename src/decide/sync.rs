//! What a Pack's sync changes in the cluster: desired against live, and what may be deleted.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::identity::digest;
use super::pack::{Object, Source, Written, resolve_scripts};
use crate::api::{
    ANNOTATION, Action, GROUP, InventoryEntry, LABEL, MANAGER, Pack, Rule, RuleSpec, VERSION, Webhook,
};

/// An object that a revision wants.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    /// Kind and name.
    pub entry: InventoryEntry,
    /// The whole object, to be applied.
    pub manifest: Value,
}

impl Desired {
    /// Whether an object says anything else than the revision wants. Specs are read and written again, so that defaults do
    /// not make a difference.
    pub fn is_contradicted_by(&self, live: &Value) -> bool {
        let kind = self.entry.kind.as_str();
        content(kind, &self.manifest) != content(kind, live)
    }
}

/// What is in the cluster under a name.
#[derive(Clone, Debug, PartialEq)]
pub struct Live {
    /// The Pack that it belongs to, by its label.
    pub pack: Option<String>,
    /// The object itself.
    pub object: Value,
}

impl Live {
    /// An object, and the Pack that its label names.
    pub fn of(object: Value) -> Self {
        let pack = object["metadata"]["labels"][LABEL.pack].as_str().map(str::to_owned);
        Self { pack, object }
    }
}

/// An object that is to be deleted: the one that was seen, and none that took its name since.
#[derive(Clone, Debug, PartialEq)]
pub struct Deletion {
    /// Kind and name.
    pub entry: InventoryEntry,
    /// Its UID.
    pub uid: Option<String>,
}

/// What a sync does.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// What somebody put in the place of scripts, to be deleted before they are applied: the API server lets nobody change it
    /// back.
    pub displace: Vec<Deletion>,
    /// Objects to apply, in order: what is named before what names it.
    pub apply: Vec<Desired>,
    /// Objects to delete, in order: what names before what is named.
    pub delete: Vec<Deletion>,
    /// All that may exist while it goes on.
    pub inventory_during: Vec<InventoryEntry>,
    /// All that exists after it.
    pub inventory_after: Vec<InventoryEntry>,
    /// How many Rules, Actions and Webhooks the revision has.
    pub objects: usize,
}

impl Plan {
    /// How many changes it makes.
    pub fn changes(&self) -> usize {
        self.apply.len() + self.delete.len()
    }

    /// Whether something is deleted before this is applied.
    pub fn displaces(&self, entry: &InventoryEntry) -> bool {
        self.displace.iter().any(|displaced| displaced.entry == *entry)
    }

    /// All that is applied, as it is tried before. First what names an account or Actions, of those that name the same one:
    /// they are refused together, for a right that admission policies alone ask for. Then the others.
    pub fn rehearsal(&self) -> [Vec<&Desired>; 2] {
        let mut seen = BTreeSet::new();
        let (first, others) = self.apply.iter().partition(|desired| {
            let spec = &desired.manifest["spec"];
            let ladder = spec["ladder"].as_array().into_iter().flatten();
            let actions: BTreeSet<_> = ladder.filter_map(|rung| rung["run"].as_str()).collect();
            let account = spec["serviceAccountName"].as_str();
            account.is_some() && seen.insert((&desired.entry.kind, account, actions))
        });
        [first, others]
    }
}

/// Why a revision is not applied.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// It deletes too much for nobody to have looked at it.
    Held(String),
    /// Objects of these names belong to somebody else.
    Taken(String),
}

/// Changes that a message names.
const NAMED: usize = 8;

/// What of a plan has been done when it stopped.
pub fn so_far(written: &BTreeSet<InventoryEntry>, of: usize) -> String {
    let first = written.iter().take(NAMED).map(|entry| format!("{} {}", entry.kind, entry.name));
    let mut names: Vec<_> = first.collect();
    if let Some(more @ 1..) = written.len().checked_sub(NAMED) {
        names.push(format!("{more} more"));
    }
    let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
    let (count, verb) = (written.len(), if written.len() == 1 { "was" } else { "were" });
    format!("{count} of {of} changes {verb} made{names}, the rest follows at the next try")
}

/// The objects of a revision that has no mistakes.
pub fn desired(
    pack: &str,
    namespace: &str,
    revision: &str,
    objects: &[Written],
    files: &[Source<'_>],
) -> Vec<Desired> {
    let mut objects = objects.to_vec();
    let scripts = resolve_scripts(&mut objects, files);
    let labels = json!({LABEL.pack: pack, "app.kubernetes.io/managed-by": "fother"});
    let mut found = Vec::new();
    for (name, script) in scripts {
        let manifest = json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
            "data": script.data,
            "immutable": true,
        });
        found.push(Desired { entry: InventoryEntry { kind: "ConfigMap".to_owned(), name }, manifest });
    }
    let actions = hashes(&objects);
    for Written { object, file, line } in &objects {
        let (kind, metadata, spec) = match object {
            Object::Action(action) => ("Action", &action.metadata, json!(action.spec)),
            Object::Webhook(webhook) => ("Webhook", &webhook.metadata, json!(webhook.spec)),
            Object::Rule(rule) => ("Rule", &rule.metadata, json!(rule.spec)),
        };
        let name = metadata.name.clone().unwrap_or_default();
        let mut own = json!({"name": name, "namespace": namespace});
        own["labels"] = with(json!(metadata.labels.clone().unwrap_or_default()), &labels);
        let mut place = json!({ANNOTATION.revision: revision, ANNOTATION.source: format!("{file}:{line}")});
        if let Object::Rule(rule) = object {
            place[ANNOTATION.actions] = json!(what_it_runs(&rule.spec, &actions));
        }
        own["annotations"] = with(json!(metadata.annotations.clone().unwrap_or_default()), &place);
        let manifest =
            json!({"apiVersion": format!("{GROUP}/{VERSION}"), "kind": kind, "metadata": own, "spec": spec});
        found.push(Desired { entry: InventoryEntry { kind: kind.to_owned(), name }, manifest });
    }
    found.sort_by_key(|desired| order(&desired.entry));
    found
}

/// A hash of each Action, by name: of its spec, in which the name of a script says what is in it.
fn hashes(objects: &[Written]) -> BTreeMap<&str, String> {
    let actions = objects.iter().filter_map(|written| match &written.object {
        Object::Action(action) => {
            Some((action.metadata.name.as_deref()?, digest(&[&json!(action.spec).to_string()])))
        }
        Object::Rule(_) | Object::Webhook(_) => None,
    });
    actions.collect()
}

/// A hash of the Actions that a Rule runs, of those that its Pack has.
fn what_it_runs(rule: &RuleSpec, actions: &BTreeMap<&str, String>) -> String {
    let runs: BTreeSet<_> = rule.ladder.iter().map(|rung| rung.run.as_str()).collect();
    let hashes: Vec<_> = runs.iter().filter_map(|name| actions.get(name)).map(String::as_str).collect();
    digest(&hashes)[..16].to_owned()
}

fn with(mut members: Value, more: &Value) -> Value {
    json_patch::merge(&mut members, more);
    members
}

/// What is named comes before what names it.
fn order(entry: &InventoryEntry) -> (u8, String) {
    let rank = match entry.kind.as_str() {
        "ConfigMap" => 0,
        "Action" | "Webhook" => 1,
        _ => 2,
    };
    (rank, entry.name.clone())
}

/// Whether an object is not what a revision wants. Labels and annotations of others make no difference, nor does the
/// revision: a commit that does not touch an object does not write it. Those that an earlier revision put there go with it.
fn differs(desired: &Desired, live: &Value) -> bool {
    let has = |pointer: &str| {
        let members =
            |object: &Value| object.pointer(pointer).and_then(Value::as_object).cloned().unwrap_or_default();
        let (wanted, there) = (members(&desired.manifest), members(live));
        wanted.iter().all(|(key, value)| key == ANNOTATION.revision || there.get(key) == Some(value))
    };
    let left = |field: &str| {
        let wanted = &desired.manifest["metadata"][field];
        applied(live, field).any(|key| wanted.get(key).is_none())
    };
    let has_all = has("/metadata/labels") && has("/metadata/annotations");
    desired.is_contradicted_by(live) || !has_all || left("labels") || left("annotations")
}

/// The labels or annotations that an object has from being applied.
fn applied<'a>(live: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let entries = live["metadata"]["managedFields"].as_array().into_iter().flatten();
    let own = entries.filter(|entry| entry["manager"] == MANAGER && entry["operation"] == "Apply");
    let pointer = format!("/fieldsV1/f:metadata/f:{field}");
    let fields = own.filter_map(move |entry| entry.pointer(&pointer)?.as_object());
    fields.flat_map(|fields| fields.keys().filter_map(|key| key.strip_prefix("f:")))
}

fn content(kind: &str, object: &Value) -> Value {
    let read = match kind {
        "Rule" => serde_json::from_value::<Rule>(object.clone()).ok().map(|rule| json!(rule.spec)),
        "Action" => serde_json::from_value::<Action>(object.clone()).ok().map(|action| json!(action.spec)),
        "Webhook" => {
            serde_json::from_value::<Webhook>(object.clone()).ok().map(|webhook| json!(webhook.spec))
        }
        _ => Some(json!({"data": object["data"], "immutable": object["immutable"]})),
    };
    read.unwrap_or_else(|| object["spec"].clone())
}

/// Compares what a revision wants with what there is.
pub fn plan(
    pack: &Pack,
    revision: (&str, &str),
    desired: Vec<Desired>,
    live: &BTreeMap<InventoryEntry, Live>,
) -> Result<Plan, Refusal> {
    let name = pack.metadata.name.as_deref().unwrap_or_default();
    refuse_taken(name, &desired, live)?;
    let wanted: BTreeSet<InventoryEntry> = desired.iter().map(|d| d.entry.clone()).collect();
    let known: BTreeSet<InventoryEntry> =
        pack.status.as_ref().map(|s| s.inventory.iter().cloned().collect()).unwrap_or_default();
    let left: Vec<InventoryEntry> = known.difference(&wanted).cloned().collect();
    if pack.spec.prune {
        hold_mass_deletion(pack, revision, &known, &left)?;
    }
    let displace = desired.iter().filter(|d| is_displaced(d, live)).map(|d| deletion(d.entry.clone(), live));
    let displace = displace.collect();
    let ours = |entry: &InventoryEntry| live.get(entry).is_some_and(|l| l.pack.as_deref() == Some(name));
    let left = left.into_iter().filter(|entry| ours(entry));
    // What may stay is still the Pack's: it goes when pruning is turned on.
    let (mut delete, kept): (Vec<_>, Vec<_>) = left.partition(|_| pack.spec.prune);
    delete.sort_by_key(|entry| std::cmp::Reverse(order(entry)));
    let counts = |desired: &&Desired| !is_script(&desired.entry);
    let objects = desired.iter().filter(counts).count();
    let after: BTreeSet<_> = wanted.into_iter().chain(kept).collect();
    let during: BTreeSet<_> = after.iter().chain(&delete).cloned().collect();
    Ok(Plan {
        displace,
        inventory_during: during.into_iter().collect(),
        inventory_after: after.into_iter().collect(),
        objects,
        apply: desired
            .into_iter()
            .filter(|d| live.get(&d.entry).is_none_or(|l| differs(d, &l.object)))
            .collect(),
        delete: delete.into_iter().map(|entry| deletion(entry, live)).collect(),
    })
}

fn deletion(entry: InventoryEntry, live: &BTreeMap<InventoryEntry, Live>) -> Deletion {
    let uid = live.get(&entry).and_then(|live| live.object["metadata"]["uid"].as_str()).map(str::to_owned);
    Deletion { entry, uid }
}

/// Whether something else is in the place of a script, whose name says what is in it: that is nobody's.
fn is_displaced(desired: &Desired, live: &BTreeMap<InventoryEntry, Live>) -> bool {
    let there = live.get(&desired.entry);
    is_script(&desired.entry) && there.is_some_and(|live| desired.is_contradicted_by(&live.object))
}

/// Whether it is a script, which belongs to the Actions that name it.
pub fn is_script(entry: &InventoryEntry) -> bool {
    entry.kind == "ConfigMap"
}

/// What exists and is not the Pack's is not taken over.
fn refuse_taken(
    name: &str,
    desired: &[Desired],
    live: &BTreeMap<InventoryEntry, Live>,
) -> Result<(), Refusal> {
    let foreign = desired.iter().filter_map(|desired| {
        let owner = &live.get(&desired.entry)?.pack;
        let owner = match owner {
            _ if is_displaced(desired, live) => return None,
            Some(owner) if owner == name => return None,
            // Somebody took the label away.
            None if is_script(&desired.entry) => return None,
            Some(owner) => format!("belongs to Pack {owner:?}"),
            None => "was not created by a Pack".to_owned(),
        };
        Some(format!(
            "{} {:?} exists and {owner}; delete or rename one of them",
            desired.entry.kind, desired.entry.name
        ))
    });
    let texts: Vec<_> = foreign.collect();
    if texts.is_empty() { Ok(()) } else { Err(Refusal::Taken(texts.join("; "))) }
}

/// A revision that deletes more than half of what there is waits for a person.
fn hold_mass_deletion(
    pack: &Pack,
    (revision, commit): (&str, &str),
    known: &BTreeSet<InventoryEntry>,
    delete: &[InventoryEntry],
) -> Result<(), Refusal> {
    let counts = |entry: &&InventoryEntry| !is_script(entry);
    let (all, gone) = (known.iter().filter(counts).count(), delete.iter().filter(counts).count());
    let agreed = pack.metadata.annotations.as_ref().and_then(|a| a.get(ANNOTATION.allow_prune));
    if gone * 2 <= all || agreed.is_some_and(|agreed| agreed == revision || agreed == commit) {
        return Ok(());
    }
    Err(Refusal::Held(format!(
        "revision deletes {}% of what is there (limit 50%); held: annotate {}: {revision}",
        gone * 100 / all,
        ANNOTATION.allow_prune
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::pack::{Surroundings, read};

    const ACTION: &str = "apiVersion: fother.dev/v1alpha1\nkind: Action\nmetadata: {name: clean}\nspec: {script: {image: 'a@sha256:1111111111111111111111111111111111111111111111111111111111111111', file: clean.sh}}\n";
    const RULE: &str = "apiVersion: fother.dev/v1alpha1\nkind: Rule\nmetadata: {name: crash}\nspec:\n  serviceAccountName: h\n  trigger: {resource: {apiVersion: v1, kind: Pod}}\n  when: 'true'\n  ladder: [{run: clean}]\n";

    fn wanted(files: &[(&str, &str)]) -> Vec<Desired> {
        let files: Vec<_> =
            files.iter().map(|(path, text)| Source { path, content: text.as_bytes() }).collect();
        let reading = read(&files, &Surroundings::default()).check(&crate::expr::Schemas::default());
        desired("p", "a", "main@sha1:1", &reading.objects, &files)
    }

    fn files() -> Vec<Desired> {
        wanted(&[("a.yaml", ACTION), ("r.yaml", RULE), ("clean.sh", "true")])
    }

    fn pack(inventory: &[InventoryEntry], annotations: Value) -> Pack {
        serde_json::from_value(json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Pack", "metadata": {"name": "p", "annotations": annotations},
            "spec": {"url": "https://git.example.com/p", "serviceAccountName": "s"}, "status": {"inventory": inventory},
        }))
        .expect("a Pack")
    }

    fn live_of(desired: &[Desired]) -> BTreeMap<InventoryEntry, Live> {
        let live = |d: &Desired| Live { pack: Some("p".into()), object: d.manifest.clone() };
        desired.iter().map(|d| (d.entry.clone(), live(d))).collect()
    }

    fn kinds(entries: impl IntoIterator<Item = InventoryEntry>) -> Vec<String> {
        entries.into_iter().map(|entry| entry.kind).collect()
    }

    fn deleted(plan: Plan) -> Vec<String> {
        kinds(plan.delete.into_iter().map(|deletion| deletion.entry))
    }

    const REVISION: (&str, &str) = ("main@sha1:1", "1");

    #[test]
    fn what_is_named_is_applied_first() {
        let plan = plan(&pack(&[], json!({})), REVISION, files(), &BTreeMap::new()).expect("a plan");
        assert_eq!(kinds(plan.apply.iter().map(|d| d.entry.clone())), ["ConfigMap", "Action", "Rule"]);
        assert_eq!(plan.apply[2].manifest["metadata"]["annotations"]["fother.dev/source"], "r.yaml:1");
        let script = &plan.apply[1].manifest["spec"]["script"];
        assert_eq!(script["configMap"], json!({"name": plan.apply[0].entry.name, "key": "clean.sh"}));
        assert_eq!(script.get("file"), None);
    }

    #[test]
    fn a_label_that_left_the_repository_goes() {
        let before = RULE.replace("{name: crash}", "{name: crash, labels: {team: a}}");
        let mut live = live_of(&wanted(&[("r.yaml", &before)]));
        let changes = |live: &BTreeMap<_, _>| {
            let wanted = wanted(&[("r.yaml", RULE)]);
            plan(&pack(&[], json!({})), REVISION, wanted, live).expect("a plan").apply.len()
        };
        assert_eq!(changes(&live), 0, "somebody put it there");
        let rule = live.values_mut().next().expect("the Rule");
        rule.object["metadata"]["managedFields"] = json!([
            {"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:annotations": {"f:x": {}}}}},
            {"manager": "fother", "operation": "Apply", "fieldsV1": {"f:metadata": {"f:labels": {"f:team": {}}}}},
        ]);
        assert_eq!(changes(&live), 1);
    }

    #[test]
    fn all_is_tried_and_of_what_names_the_same_one_first() {
        let rule = |name: &str, from: &str, to: &str| {
            RULE.replace("name: crash", &format!("name: {name}")).replace(from, to)
        };
        let names = |files: &[(&str, &str)]| -> [Vec<_>; 2] {
            let plan =
                plan(&pack(&[], json!({})), REVISION, wanted(files), &BTreeMap::new()).expect("a plan");
            let kind_and_name = |of: &Desired| match of.entry.kind.as_str() {
                "Rule" => of.entry.name.clone(),
                kind => kind.to_owned(),
            };
            plan.rehearsal().map(|tried| tried.into_iter().map(kind_and_name).collect())
        };
        let (same, account) = (rule("b", "", ""), rule("c", "Name: h", "Name: other"));
        let (action, both) =
            (rule("d", "run: clean", "run: other"), rule("e", "clean}", "other}, {run: clean}"));
        let files = [("a.yaml", ACTION), ("clean.sh", "true"), ("r.yaml", RULE), ("b.yaml", &same)];
        let others = [("c.yaml", &*account), ("d.yaml", &action), ("e.yaml", &both)];
        let [first, then] = names(&[&files[..], &others].concat());
        assert_eq!(first, ["b", "c", "d", "e"]);
        assert_eq!(then, ["ConfigMap", "Action", "crash"]);
    }

    #[test]
    fn what_is_there_already_is_not_written() {
        let files = files();
        let inventory: Vec<_> = files.iter().map(|d| d.entry.clone()).collect();
        let again = plan(&pack(&inventory, json!({})), ("main@sha1:2", "2"), files.clone(), &live_of(&files));
        assert_eq!(again.map(|p| (p.apply.len(), p.delete.len())), Ok((0, 0)));
    }

    #[test]
    fn a_script_that_changes_is_a_new_revision_of_the_rules_that_run_it() {
        let other = RULE.replace("name: crash", "name: other").replace("run: clean", "run: elsewhere");
        let pack_of = |script| {
            wanted(&[("a.yaml", ACTION), ("r.yaml", RULE), ("o.yaml", &other), ("clean.sh", script)])
        };
        let (before, after) = (pack_of("true"), pack_of("false"));
        let (pack, mut live) = (pack(&[], json!({})), live_of(&before));
        let names = |live: &_| -> Vec<_> {
            let plan = plan(&pack, ("main@sha1:2", "2"), after.clone(), live).expect("a plan");
            plan.apply.into_iter().map(|desired| (desired.entry.kind, desired.entry.name)).collect()
        };
        let applied = names(&live);
        let rule = ("Rule".to_owned(), "crash".to_owned());
        assert_eq!((applied.len(), applied.last()), (3, Some(&rule)), "after the script and its Action");
        // Killed before the Rule.
        let without_rules = after.iter().filter(|desired| desired.entry.kind != "Rule").cloned();
        live.extend(live_of(&without_rules.collect::<Vec<_>>()));
        assert_eq!(names(&live), [rule]);
    }

    #[test]
    fn what_others_add_makes_no_difference_and_what_they_change_does() {
        let files = files();
        let mut live = live_of(&files);
        let rule = &mut live.get_mut(&files[2].entry).expect("there").object;
        rule["metadata"]["labels"]["team"] = json!("ops");
        rule["metadata"]["annotations"][ANNOTATION.revision] = json!("main@sha1:0");
        rule["spec"]["mode"] = json!("Observe");
        let applied = |live: &_| {
            plan(&pack(&[], json!({})), REVISION, files.clone(), live).expect("a plan").apply.len()
        };
        assert_eq!(applied(&live), 0);
        live.get_mut(&files[2].entry).expect("there").object["spec"]["mode"] = json!("Enforce");
        assert_eq!(applied(&live), 1);
    }

    #[test]
    fn what_left_the_repository_is_deleted_if_the_pack_made_it() {
        let (before, after) = (files(), wanted(&[("a.yaml", ACTION), ("clean.sh", "true")]));
        let inventory: Vec<_> = before.iter().map(|d| d.entry.clone()).collect();
        let mut live = live_of(&before);
        let pack = pack(&inventory, json!({}));
        let plan_of = |live: &_| plan(&pack, REVISION, after.clone(), live).expect("a plan");
        assert_eq!(deleted(plan_of(&live)), ["Rule"]);
        live.get_mut(&before[2].entry).expect("there").pack = None;
        assert_eq!(plan_of(&live).delete, [], "somebody took it over");
    }

    #[test]
    fn what_took_the_place_of_a_script_is_deleted_and_the_script_created() {
        let files = files();
        let live_with = |data: Value, pack: Option<&str>| {
            let mut live = live_of(&files);
            let script = live.get_mut(&files[0].entry).expect("the script");
            script.object["data"] = data;
            script.object["metadata"]["uid"] = json!("u-1");
            script.pack = pack.map(str::to_owned);
            live
        };
        let plan_of = |live: &_| plan(&pack(&[], json!({})), REVISION, files.clone(), live);
        for owner in [Some("p"), Some("other"), None] {
            let plan = plan_of(&live_with(json!({"clean.sh": "false"}), owner)).expect("a plan");
            let gone = Deletion { entry: files[0].entry.clone(), uid: Some("u-1".to_owned()) };
            assert_eq!(plan.displace, [gone]);
            assert_eq!(kinds(plan.apply.iter().map(|d| d.entry.clone())), ["ConfigMap"]);
            assert_eq!((plan.changes(), plan.displaces(&files[0].entry)), (1, true));
        }
        let same = || json!({"clean.sh": "true"});
        assert_eq!(plan_of(&live_with(same(), None)).expect("a plan").displace, []);
        assert!(matches!(plan_of(&live_with(same(), Some("other"))), Err(Refusal::Taken(_))));
    }

    #[test]
    fn what_may_stay_is_known_until_pruning_is_turned_on() {
        let (before, after) = (files(), wanted(&[("a.yaml", ACTION), ("clean.sh", "true")]));
        let inventory: Vec<_> = before.iter().map(|d| d.entry.clone()).collect();
        let mut live = live_of(&before);
        let of = |prune: bool, wanted: &[Desired], live: &_| {
            let mut pack = pack(&inventory, json!({}));
            pack.spec.prune = prune;
            plan(&pack, REVISION, wanted.to_vec(), live)
        };
        let stays = of(false, &after, &live).expect("a plan");
        assert_eq!((stays.delete, stays.objects), (vec![], 1));
        assert_eq!(kinds(stays.inventory_after.clone()), ["Action", "ConfigMap", "Rule"]);
        assert_eq!(stays.inventory_during, stays.inventory_after);
        let goes = of(true, &after, &live).expect("a plan");
        assert_eq!((goes.inventory_after.len(), deleted(goes)), (2, vec!["Rule".to_owned()]));
        assert!(of(false, &[], &live).is_ok(), "nothing is deleted");
        assert!(matches!(of(true, &[], &live), Err(Refusal::Held(_))), "all of it would be, at once");
        live.get_mut(&before[2].entry).expect("there").pack = Some("other".into());
        let taken = of(false, &after, &live).expect("a plan");
        assert_eq!(kinds(taken.inventory_after), ["Action", "ConfigMap"], "it is another's now");
        live.remove(&before[2].entry);
        let gone = of(false, &after, &live).expect("a plan");
        assert_eq!(kinds(gone.inventory_after), ["Action", "ConfigMap"], "somebody deleted it");
    }

    #[test]
    fn a_mass_deletion_is_held_until_a_person_agrees() {
        let before = files();
        let inventory: Vec<_> = before.iter().map(|d| d.entry.clone()).collect();
        let live = live_of(&before);
        let held = plan(&pack(&inventory, json!({})), REVISION, Vec::new(), &live).expect_err("held");
        let text = "revision deletes 100% of what is there (limit 50%); held: annotate fother.dev/allow-prune: main@sha1:1";
        assert_eq!(held, Refusal::Held(text.to_owned()));
        for agreed in ["main@sha1:1", "1"] {
            let pack = pack(&inventory, json!({"fother.dev/allow-prune": agreed}));
            let plan = plan(&pack, REVISION, Vec::new(), &live).expect("agreed");
            assert_eq!(deleted(plan), ["Rule", "Action", "ConfigMap"]);
        }
        let other = pack(&inventory, json!({"fother.dev/allow-prune": "main@sha1:0"}));
        assert!(plan(&other, REVISION, Vec::new(), &live).is_err(), "another revision was agreed to");
    }

    #[test]
    fn what_was_done_is_counted_and_the_first_of_it_named() {
        let rule = |nth: usize| InventoryEntry { kind: "Rule".into(), name: format!("r{nth}") };
        let so_far = |count: usize| so_far(&(0..count).map(rule).collect(), 12);
        assert_eq!(so_far(0), "0 of 12 changes were made, the rest follows at the next try");
        assert_eq!(so_far(1), "1 of 12 changes was made (Rule r0), the rest follows at the next try");
        let names = "Rule r0, Rule r1, Rule r2, Rule r3, Rule r4, Rule r5, Rule r6, Rule r7";
        let rest = "the rest follows at the next try";
        assert_eq!(so_far(8), format!("8 of 12 changes were made ({names}), {rest}"));
        assert_eq!(so_far(9), format!("9 of 12 changes were made ({names}, 1 more), {rest}"));
    }

    #[test]
    fn what_belongs_to_somebody_else_is_not_taken_over() {
        let mut live = live_of(&files());
        for theirs in live.values_mut() {
            theirs.pack = Some("other".into());
        }
        let refused = plan(&pack(&[], json!({})), REVISION, files(), &live).expect_err("refused");
        let Refusal::Taken(text) = refused else { panic!("taken") };
        assert!(
            text.contains(
                "Rule \"crash\" exists and belongs to Pack \"other\"; delete or rename one of them"
            )
        );
    }
}
