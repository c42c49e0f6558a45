//! A thousand new Rules from one commit, and the same commit again.

use std::path::Path;
use std::time::{Duration, Instant};

use fother::api::{Pack, Rule};
use futures::{StreamExt as _, stream};
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::harbor::{Berth, Harbor, USER, WAYS};
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::support::wait::eventually;

const REQUESTED: &str = "fother.dev/reconcile-requested-at";
/// How long the controller may take over the new Rules after it has applied them.
const LONG: Duration = Duration::from_mins(2);

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let rules = rules(scale.rules);
    let repository = tempfile::tempdir().unwrap();
    commit(repository.path(), &rules);
    let mut columns: [Samples; 4] = Default::default();
    let mut writes = Samples::default();
    for _ in 0..scale.repetitions {
        let floor = floor(harbor, &rules).await;
        let fother = fother(harbor, repository.path(), scale).await;
        for (column, value) in columns.iter_mut().zip([floor.0, fother.0, floor.1, fother.1]) {
            column.push(value.as_secs_f64() * 1000.0);
        }
        #[expect(clippy::cast_precision_loss, reason = "few")]
        writes.push(fother.2 as f64);
    }
    let [floor_new, fother_new, floor_same, fother_same] = columns;
    let row =
        |what: &str, floor, fother, goal| Row { what: what.to_owned(), unit: "ms", floor, fother, goal };
    let rows = vec![
        row("all are new", floor_new, fother_new, Goal::TimesFloor(1.3)),
        row("nothing has changed", floor_same, fother_same, Goal::TimesFloor(2.0)),
        Row::plain("writes when nothing has changed", "writes", writes, Goal::AtMost(0.0)),
    ];
    let method = format!(
        "A Pack with {} Rules in as many files, in a git repository on the same machine: from the creation of the Pack to its status that \
         says the revision is applied; and from the annotation that asks for another sync to the status that says it is done (that status \
         is the one write that is not counted). The floors: server-side apply of the same manifests, {WAYS} at a time; a list of what there \
         is, compared with them. fother's time includes the fetch, the check of every file, and whatever the controller does with the new \
         Rules meanwhile.",
        scale.rules
    );
    Section { title: "Sync", method, rows }
}

/// Rules that differ in their names and conditions.
pub fn rules(count: usize) -> Vec<Value> {
    let rule = |n: usize| {
        json!({
            "apiVersion": "fother.dev/v1alpha1",
            "kind": "Rule",
            "metadata": {"name": format!("rule-{n:04}")},
            "spec": {
                "description": format!("Restarts what fails of application {n}."),
                "serviceAccountName": "healer",
                "mode": "Enforce",
                "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}},
                "when": format!("object.metadata.labels.app == 'app-{n}' && object.status.phase == 'Failed'"),
                "for": "2m",
                "limits": {"cooldown": "30m"},
                "ladder": [{"run": "caulk"}],
            },
        })
    };
    (0..count).map(rule).collect()
}

/// Server-side apply, many at a time.
pub async fn apply_all(berth: &Berth, manifests: &[Value]) {
    let api = &berth.api::<Rule>();
    stream::iter(manifests)
        .for_each_concurrent(WAYS, |manifest| async move {
            let name = manifest["metadata"]["name"].as_str().unwrap();
            api.patch(name, &PatchParams::apply("bench").force(), &Patch::Apply(manifest)).await.unwrap();
        })
        .await;
}

async fn floor(harbor: &Harbor, rules: &[Value]) -> (Duration, Duration) {
    let berth = harbor.berth("floor").await;
    let started = Instant::now();
    apply_all(&berth, rules).await;
    let new = started.elapsed();
    let started = Instant::now();
    let found = berth.api::<Rule>().list(&ListParams::default()).await.unwrap().items;
    let live = found.iter().map(|rule| serde_json::to_value(&rule.spec).unwrap());
    let same = live.zip(rules).filter(|(live, rule)| *live == rule["spec"]).count();
    assert_eq!(same, rules.len(), "what was applied is there, in the order of names");
    let unchanged = started.elapsed();
    berth.leave().await;
    (new, unchanged)
}

/// New, unchanged, and the writes of the latter.
async fn fother(harbor: &Harbor, repository: &Path, scale: &Scale) -> (Duration, Duration, usize) {
    let berth = harbor.berth("sync").await;
    let controller = harbor.controller().await;
    let started = Instant::now();
    let spec = json!({
        "url": repository, "ref": {"branch": "main"}, "interval": "1h", "serviceAccountName": "healer",
    });
    berth.create::<Pack>(json!({"metadata": {"name": "many"}, "spec": spec})).await;
    becomes(&berth, |pack| pack.status.as_ref().is_some_and(|status| status.applied_revision.is_some()))
        .await;
    let new = started.elapsed();
    berth.rules_are_ready(scale.rules).await;

    let log = harbor.plane.audit().expect("the control plane is our own");
    let mark = log.mark().await;
    let asked = json!({"metadata": {"annotations": {REQUESTED: "once"}}});
    let started = Instant::now();
    berth.api::<Pack>().patch("many", &PatchParams::default(), &Patch::Merge(asked)).await.unwrap();
    becomes(&berth, |pack| {
        pack.status.as_ref().is_some_and(|status| status.last_handled_reconcile_at.as_deref() == Some("once"))
    })
    .await;
    let unchanged = started.elapsed();
    let written =
        log.since(mark).await.into_iter().filter(|request| request.user == USER && request.is_write());
    let writes = written
        .filter(|request| !["leases", "packs/status"].iter().any(|end| request.resource.ends_with(end)));
    let writes = writes.count();
    drop(controller);
    berth.api::<Pack>().delete("many", &kube::api::DeleteParams::default()).await.unwrap();
    berth.leave().await;
    (new, unchanged, writes)
}

/// Waits for a state of the Pack, in a watch, so that the moment is exact.
async fn becomes(berth: &Berth, is: impl Fn(&Pack) -> bool) {
    let api = berth.api::<Pack>();
    let wait = async {
        loop {
            let mut events = api.watch(&kube::api::WatchParams::default(), "0").await.unwrap().boxed();
            while let Some(Ok(event)) = events.next().await {
                if let kube::api::WatchEvent::Added(pack) | kube::api::WatchEvent::Modified(pack) = event
                    && is(&pack)
                {
                    return;
                }
            }
        }
    };
    if tokio::time::timeout(LONG, wait).await.is_err() {
        let pack = eventually("the Pack is there", LONG, || api.get("many")).await;
        panic!("the Pack was not synced within {LONG:?}: {pack:#?}");
    }
}

/// A repository with the rules, one a file, and the Action that they name.
fn commit(folder: &Path, rules: &[Value]) {
    let mut options = git2::RepositoryInitOptions::new();
    let repository = git2::Repository::init_opts(folder, options.initial_head("main")).unwrap();
    let mut tree = repository.treebuilder(None).unwrap();
    for rule in rules {
        let name = format!("{}.yaml", rule["metadata"]["name"].as_str().unwrap());
        // Every JSON document is a YAML document.
        let blob = repository.blob(serde_json::to_string_pretty(rule).unwrap().as_bytes()).unwrap();
        tree.insert(name, blob, 0o100_644).unwrap();
    }
    let tree = repository.find_tree(tree.write().unwrap()).unwrap();
    let somebody = git2::Signature::now("somebody", "somebody@example.com").unwrap();
    repository.commit(Some("HEAD"), &somebody, &somebody, "Many rules", &tree, &[]).unwrap();
}
