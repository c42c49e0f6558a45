//! Packs, from a git server over https to objects in the cluster: the controller in this process on the in-memory API.

mod credentials;
mod drift;
mod history;
mod partly;
mod refused;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fother::api::{Action, Condition, ConditionType, Execution, Pack, Rule, condition};
use fother::cluster::discovery::Kinds;
use fother::cluster::objects::Objects;
use fother::cluster::{rights, status};
use fother::controller::{self, Settings};
use fother::decide::episode::Caps;
use fother::decide::pod::PodPolicy;
use fother::git::{FetcherOptions, Limits};
use fother::sandbox::apiserver::{ApiServer, User};
use fother::telemetry::Metrics;
use futures::future::join_all;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::client::Body;
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::git_server::{Behavior, GitServer, Origin};
use crate::support::ssh_server::{ED25519, KeyPair, SshServer};
use crate::support::wait::{DEADLINE, eventually};

const NAMESPACE: &str = "ops";

const ACTION: &str = "apiVersion: fother.dev/v1alpha1\nkind: Action\nmetadata: {name: clean}\nspec:\n  script: {image: 'busybox@sha256:1111111111111111111111111111111111111111111111111111111111111111', file: scripts/clean.sh}\n";

fn rule(name: &str, hold_for: &str) -> String {
    format!(
        "apiVersion: fother.dev/v1alpha1\nkind: Rule\nmetadata: {{name: {name}}}\nspec:\n  serviceAccountName: packs\n  trigger: {{resource: {{apiVersion: v1, kind: Pod}}}}\n  when: crashLooping(object, 3, duration('10m'))\n  for: {hold_for}\n  ladder: [{{run: clean}}]\n"
    )
}

/// A cluster, a git server with one repository, and a Pack that follows it.
struct Scene {
    admin: Client,
    server: ApiServer,
    git: GitServer,
    origin: Origin,
    cache: TempDir,
    /// How much may be transferred in one fetch.
    transfer_bytes: u64,
    controller: Option<(CancellationToken, JoinHandle<()>)>,
    writes: Arc<AtomicUsize>,
    refusing: partly::Refusing,
}

impl Scene {
    async fn new() -> Self {
        let server = ApiServer::new();
        let admin = server.client(&User::admin());
        let git = GitServer::start().await;
        let origin = git.create("ops").await;
        let scene = Self {
            admin,
            server,
            git,
            origin,
            cache: tempfile::tempdir().unwrap(),
            transfer_bytes: Limits::default().transfer_bytes,
            controller: None,
            writes: Arc::default(),
            refusing: Arc::default(),
        };
        for crd in fother::api::crds() {
            scene.apply(&serde_json::to_value(crd).unwrap()).await;
        }
        for name in ["fother", NAMESPACE] {
            scene.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        }
        for object in rights::installation("fother", "fother").unwrap() {
            scene.apply(&object).await;
        }
        scene.bind("fother", rights::ENROLMENT_ROLE, ("fother", "fother")).await;
        scene.bind("packs", "cluster-admin", ("packs", NAMESPACE)).await;
        scene.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "packs", "namespace": NAMESPACE, "annotations": {"fother.dev/allow": "true"}}})).await;
        scene.trust(scene.git.ca_pem()).await;
        scene
    }

    /// Has the Pack trust servers of an authority.
    async fn trust(&self, authority: &str) {
        self.apply(
            &json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git", "namespace": NAMESPACE},
            "stringData": {"ca.crt": authority}}),
        )
        .await;
    }

    async fn apply(&self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let served = Kinds::default().find(&self.admin, text("/apiVersion"), text("/kind")).await.unwrap();
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        Objects::of(self.admin.clone(), &served, namespace)
            .apply(text("/metadata/name"), object)
            .await
            .unwrap();
    }

    async fn bind(&self, name: &str, role: &str, (account, namespace): (&str, &str)) {
        self.apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": namespace}]}))
            .await;
    }

    /// Starts the controller; the API server refuses its writes to `ops` from the `fails_from`th on.
    fn start(&mut self, fails_from: usize) {
        let user = User::service_account("fother", "fother");
        let (service, writes, refusing) =
            (self.server.client(&user), self.writes.clone(), self.refusing.clone());
        writes.store(0, Ordering::SeqCst);
        let counting = tower::service_fn(move |request: http::Request<Body>| {
            let (service, writes) = (service.clone(), writes.clone());
            let refused = partly::refused(&refusing, &request);
            async move {
                if let Some(answer) = refused {
                    return Ok(answer);
                }
                let path = request.uri().path();
                let counts = path.contains(NAMESPACE) && request.method() != http::Method::GET;
                if counts && writes.fetch_add(1, Ordering::SeqCst) >= fails_from {
                    return Err(kube::Error::Service("the connection is gone".into()));
                }
                service.send(request).await
            }
        });
        let mut git = FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), self.cache.path());
        git.limits.transfer_bytes = self.transfer_bytes;
        let settings = Settings {
            namespace: "fother".into(),
            identity: "test".into(),
            caps: Caps::default(),
            pods: PodPolicy::default(),
            receives: false,
            git,
            journal: None,
        };
        let (client, stop) = (Client::new(counting, "fother"), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move {
            Box::pin(controller::run(client, settings, Arc::new(Metrics::default()), |_| {}, stopped))
                .await
                .unwrap();
        });
        self.controller = Some((stop, task));
    }

    /// Ends it without a chance to tidy up.
    async fn kill(&mut self) {
        if let Some((_, task)) = self.controller.take() {
            task.abort();
            let _ = task.await;
        }
    }

    async fn follow(&self, extra: Value) {
        let mut pack = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Pack",
            "metadata": {"name": "ops", "namespace": NAMESPACE},
            "spec": {"url": self.git.url("ops"), "interval": "1s", "serviceAccountName": "packs", "secretRef": {"name": "git"}}});
        json_patch::merge(&mut pack, &extra);
        self.apply(&pack).await;
    }

    async fn pack(&self) -> Pack {
        Api::<Pack>::namespaced(self.admin.clone(), NAMESPACE).get("ops").await.unwrap()
    }

    async fn patch(&self, patch: Value) {
        let api: Api<Pack> = Api::namespaced(self.admin.clone(), NAMESPACE);
        api.patch("ops", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    /// Waits until the Pack's Ready condition has this reason, and speaks of this commit if one is given.
    async fn ready(&self, reason: &str, commit: &str) -> Condition {
        eventually(&format!("Ready because {reason}"), DEADLINE, async || {
            let status = self.pack().await.status.unwrap_or_default();
            let attempted = status.attempted_revision.clone().unwrap_or_default();
            match condition(&status.conditions, ConditionType::Ready) {
                Some(ready) if ready.reason == reason && attempted.ends_with(commit) => Ok(ready.clone()),
                other => Err(format!("{other:?} {attempted}")),
            }
        })
        .await
    }

    /// Which of the conditions are set that are there only while they are true.
    async fn progress(&self) -> Vec<String> {
        let conditions = self.pack().await.status.unwrap_or_default().conditions;
        let transient =
            |condition: &Condition| ["Reconciling", "Stalled"].contains(&condition.type_.as_str());
        conditions.into_iter().filter(transient).map(|condition| condition.type_).collect()
    }

    async fn rules(&self) -> Vec<Rule> {
        Api::namespaced(self.admin.clone(), NAMESPACE).list(&ListParams::default()).await.unwrap().items
    }

    async fn rule_names(&self) -> Vec<String> {
        self.rules().await.iter().map(ResourceExt::name_any).collect()
    }

    /// Waits until the same revision has been fetched again, and more than once.
    async fn looks_again(&self) {
        let looked = self.git.seen().len();
        eventually("another look at the same revision", DEADLINE, async || {
            let looks = self.git.seen().len() - looked;
            if looks >= 4 { Ok(()) } else { Err(looks.to_string()) }
        })
        .await;
    }

    /// Waits until what only an old revision named is gone, from the inventory too.
    async fn one_script_is_left(&self) {
        eventually("the old script is gone", DEADLINE, async || {
            let inventory = self.pack().await.status.unwrap_or_default().inventory;
            let known = inventory.iter().filter(|entry| entry.kind == "ConfigMap").count();
            let left = (self.scripts().await, known);
            if left == (1, 1) { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }

    async fn scripts(&self) -> usize {
        let api: Api<ConfigMap> = Api::namespaced(self.admin.clone(), NAMESPACE);
        api.list(&ListParams::default().labels("fother.dev/pack=ops")).await.unwrap().items.len()
    }
}

/// A scene with one revision in force, of which the commit is given.
async fn serving() -> (Scene, String) {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &*rule("a", "1m"))];
    let good = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &good).await;
    (scene, good)
}

#[tokio::test]
async fn commits_become_objects_and_what_leaves_is_pruned() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n")];
    let first = scene
        .origin
        .push(&[&files[..], &[("a.yaml", &rule("a", "1m")), ("b.yaml", &rule("b", "1m"))]].concat())
        .await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &first).await;
    assert_eq!(scene.rule_names().await, ["a", "b"]);
    let action = Api::<Action>::namespaced(scene.admin.clone(), NAMESPACE).get("clean").await.unwrap();
    let script = action.spec.script.and_then(|s| s.config_map).expect("the script became a ConfigMap");
    let map = Api::<ConfigMap>::namespaced(scene.admin.clone(), NAMESPACE).get(&script.name).await.unwrap();
    assert_eq!((map.immutable, map.data.unwrap()["clean.sh"].as_str()), (Some(true), "true\n"));

    eventually("the Rules are watched", DEADLINE, async || {
        let settled = |rule: &Rule| {
            let status = rule.status.clone().unwrap_or_default();
            condition(&status.conditions, ConditionType::Ready).is_some_and(|ready| ready.status == "True")
        };
        if scene.rules().await.iter().all(settled) { Ok(()) } else { Err("not yet") }
    })
    .await;
    let quiet = scene.writes.load(Ordering::SeqCst);
    scene.looks_again().await;
    assert_eq!(scene.writes.load(Ordering::SeqCst), quiet, "what is unchanged is not written");

    scene.origin.git(&["rm", "-q", "b.yaml"]).await;
    let second = scene.origin.push(&[("a.yaml", &rule("a", "2m")), ("scripts/clean.sh", "echo two\n")]).await;
    scene.ready("Synced", &second).await;
    assert_eq!(scene.rule_names().await, ["a"]);
    let rule = &scene.rules().await[0];
    assert!(rule.annotations()["fother.dev/revision"].ends_with(&second));
    assert_eq!(rule.annotations()["fother.dev/source"], "a.yaml:1");
    assert_eq!(rule.spec.hold_for.map(fother::api::Duration::as_secs), Some(120));
    scene.one_script_is_left().await;
    assert!(scene.progress().await.is_empty());
}

#[tokio::test]
async fn a_script_stays_as_long_as_something_may_mount_it() {
    let mut scene = Scene::new().await;
    let first = scene.origin.push(&[("action.yaml", ACTION), ("scripts/clean.sh", "true\n")]).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &first).await;
    let executions: Api<Execution> = Api::namespaced(scene.admin.clone(), NAMESPACE);
    let spec = json!({"run": "clean", "serviceAccountName": "packs"});
    scene
        .apply(&json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": "by-hand", "namespace": NAMESPACE}, "spec": spec}))
        .await;
    eventually("its Job runs", DEADLINE, async || {
        let execution = executions.get("by-hand").await.unwrap();
        if execution.has_jobs() { Ok(()) } else { Err(format!("{:?}", execution.status)) }
    })
    .await;

    let second = scene.origin.push(&[("scripts/clean.sh", "echo two\n")]).await;
    scene.ready("Synced", &second).await;
    scene.looks_again().await;
    assert_eq!(scene.scripts().await, 2, "the Job's Pod has still to mount it");
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    executions.patch("by-hand", &PatchParams::default(), &cancel).await.unwrap();
    scene.one_script_is_left().await;
}

#[tokio::test]
async fn the_last_good_revision_serves_through_any_failure() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let good = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &good).await;

    let bad = scene.origin.push(&[("a.yaml", &rule("a", "5 minutes"))]).await;
    let ready = scene.ready("InvalidRevision", &bad).await;
    assert!(ready.message.contains("a.yaml:8:"), "{}", ready.message);
    assert!(ready.message.contains("use \"5m\""), "{}", ready.message);
    assert!(ready.message.contains(&format!("serving main@sha1:{good}")), "{}", ready.message);
    assert_eq!(scene.rules().await[0].spec.hold_for.map(fother::api::Duration::as_secs), Some(60));

    scene.git.behave(Behavior::Answer(http::StatusCode::BAD_GATEWAY));
    let ready = scene.ready("FetchFailed", "").await;
    assert!(ready.message.contains("serving main@sha1:"), "{}", ready.message);
    assert_eq!(scene.rule_names().await, ["a"]);

    scene.git.behave(Behavior::Serve);
    let mended = scene.origin.push(&[("a.yaml", &rule("a", "5m"))]).await;
    scene.ready("Synced", &mended).await;
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let good = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({"spec": {"timeout": "10s"}})).await;
    scene.ready("Synced", &good).await;

    scene.git.behave(Behavior::Hang);
    scene.patch(json!({"spec": {"timeout": "1s"}})).await;
    let failed = scene.ready("FetchFailed", "").await;
    let serving = format!("fetch timed out after 1s; serving main@sha1:{good}, applied at 20");
    assert!(failed.message.starts_with(&serving), "{}", failed.message);
    assert_eq!(scene.progress().await, ["Reconciling"], "it is tried again");
    assert_eq!(scene.rule_names().await, ["a"]);
}

#[tokio::test]
async fn a_mass_deletion_waits_for_a_person() {
    let mut scene = Scene::new().await;
    let rules: Vec<String> = ["a", "b", "c"].iter().map(|name| rule(name, "1m")).collect();
    let files = [
        ("action.yaml", ACTION),
        ("scripts/clean.sh", "true\n"),
        ("a.yaml", &rules[0]),
        ("b.yaml", &rules[1]),
        ("c.yaml", &rules[2]),
    ];
    let first = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &first).await;

    scene.origin.git(&["rm", "-q", "a.yaml", "b.yaml", "c.yaml"]).await;
    let second = scene.origin.push(&[("README.md", "nothing left")]).await;
    let held = scene.ready("PruneHeld", &second).await;
    assert_eq!(scene.progress().await, ["Stalled"], "only a person can go on");
    let expected = format!(
        "revision deletes 75% of what is there (limit 50%); held: annotate fother.dev/allow-prune: main@sha1:{second}; \
         serving main@sha1:{first}, applied at 20"
    );
    assert!(held.message.starts_with(&expected), "{}", held.message);
    assert_eq!(scene.rule_names().await, ["a", "b", "c"]);

    scene
        .patch(
            json!({"metadata": {"annotations": {"fother.dev/allow-prune": format!("main@sha1:{second}")}}}),
        )
        .await;
    scene.ready("Synced", &second).await;
    assert!(scene.rules().await.is_empty());
}

#[tokio::test]
async fn a_suspended_pack_rests_and_a_request_is_heard_at_once() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let first = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({"spec": {"interval": "1h"}})).await;
    scene.ready("Synced", &first).await;

    let second = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    scene.patch(json!({"spec": {"suspend": true}})).await;
    scene.ready("Suspended", &first).await;
    scene.patch(json!({"metadata": {"annotations": {"fother.dev/reconcile-requested-at": "1"}}})).await;
    eventually("the request is answered", DEADLINE, async || {
        let handled = scene.pack().await.status.unwrap_or_default().last_handled_reconcile_at;
        if handled.as_deref() == Some("1") { Ok(()) } else { Err(format!("{handled:?}")) }
    })
    .await;
    assert_eq!(scene.pack().await.status.unwrap().applied_revision, Some(format!("main@sha1:{first}")));

    scene.patch(json!({"spec": {"suspend": false}})).await;
    scene.ready("Synced", &second).await;
    let third = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    scene.patch(json!({"metadata": {"annotations": {"fother.dev/reconcile-requested-at": "2"}}})).await;
    scene.ready("Synced", &third).await;
}

#[tokio::test]
async fn a_pack_whose_account_lacks_a_right_changes_nothing_and_names_it() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    scene.origin.push(&files).await;
    // It may do all but create Rules, which come last.
    let almost = json!([
        {"apiGroups": ["", "fother.dev"], "resources": ["configmaps", "actions"], "verbs": ["*"]},
        {"apiGroups": ["fother.dev"], "resources": ["rules"], "verbs": ["get", "list", "patch"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]},
    ]);
    scene
        .apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": "almost"}, "rules": almost}))
        .await;
    scene.bind("almost", "almost", ("almost", NAMESPACE)).await;
    scene
        .apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "almost", "namespace": NAMESPACE, "annotations": {"fother.dev/allow": "true"}}}))
        .await;
    scene.start(usize::MAX);
    scene.follow(json!({"spec": {"serviceAccountName": "almost"}})).await;
    let refused = scene.ready("Forbidden", "").await;
    assert_eq!(
        refused.message,
        "ServiceAccount ops/almost cannot create rules in namespace ops; add a Role that allows it"
    );
    let authorized = scene.pack().await.status.unwrap().conditions;
    let authorized = condition(&authorized, ConditionType::Authorized).unwrap();
    assert_eq!((authorized.status.as_str(), authorized.reason.as_str()), ("False", "MissingPermissions"));
    let actions = Api::<Action>::namespaced(scene.admin.clone(), NAMESPACE);
    let actions = actions.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!((scene.rules().await.len(), actions, scene.scripts().await), (0, 0, 0));
}

#[tokio::test]
async fn killed_at_any_write_it_converges() {
    join_all((0..8).map(killed_at_write)).await;
}

async fn killed_at_write(fails_from: usize) {
    let mut scene = Scene::new().await;
    let files = [
        ("action.yaml", ACTION),
        ("scripts/clean.sh", "true\n"),
        ("a.yaml", &rule("a", "1m")),
        ("b.yaml", &rule("b", "1m")),
    ];
    scene.origin.push(&files).await;
    scene.start(fails_from);
    scene.follow(json!({})).await;
    eventually("a write that fails", DEADLINE, async || {
        let writes = scene.writes.load(Ordering::SeqCst);
        if writes > fails_from { Ok(()) } else { Err(writes.to_string()) }
    })
    .await;
    scene.kill().await;
    scene.origin.git(&["rm", "-q", "b.yaml"]).await;
    let second = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    scene.start(usize::MAX);
    scene.ready("Synced", &second).await;
    assert_eq!(scene.rule_names().await, ["a"], "killed at write {fails_from}");
    let inventory = scene.pack().await.status.unwrap().inventory;
    let kinds: Vec<_> = inventory.iter().map(|entry| entry.kind.as_str()).collect();
    assert_eq!(kinds, ["Action", "ConfigMap", "Rule"], "killed at write {fails_from}");
    scene.kill().await;
}

#[tokio::test]
async fn a_status_for_an_old_version_is_a_conflict() {
    let scene = Scene::new().await;
    scene.follow(json!({})).await;
    let old = scene.pack().await;
    scene.patch(json!({"metadata": {"annotations": {"a": "b"}}})).await;
    let status = fother::api::PackStatus { applied_revision: Some("x".into()), ..Default::default() };
    let error = status::write(&scene.admin, &old, None, &status).await.expect_err("refused");
    assert!(error.is_conflict(), "{error}");
    let new = scene.pack().await;
    let written = status::write(&scene.admin, &new, None, &status).await.unwrap().expect("written");
    assert_eq!(written.status, Some(status));
}

#[tokio::test]
async fn a_rewritten_branch_waits_for_a_person() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let first = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &first).await;
    let second = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    scene.ready("Synced", &second).await;

    scene.origin.git(&["reset", "--quiet", "--hard", &first]).await;
    let other = scene.origin.push(&[("a.yaml", &rule("a", "9m"))]).await;
    let held = scene.ready("HistoryRewritten", &other).await;
    let expected = format!(
        "history rewritten; approve with annotation fother.dev/allow-rewrite: main@sha1:{other}; keeping main@sha1:{second}"
    );
    assert!(held.message.starts_with(&expected), "{}", held.message);
    assert_eq!(scene.rules().await[0].spec.hold_for.map(fother::api::Duration::as_secs), Some(120));

    scene.patch(json!({"metadata": {"annotations": {"fother.dev/allow-rewrite": other}}})).await;
    scene.ready("Synced", &other).await;
    assert_eq!(scene.rules().await[0].spec.hold_for.map(fother::api::Duration::as_secs), Some(540));
    let third = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    scene.ready("Synced", &third).await;

    // Another branch is somebody's intent, whatever it descends from.
    scene.origin.git(&["checkout", "--quiet", "-b", "next", &first]).await;
    let next = scene.origin.push(&[("a.yaml", &rule("a", "4m"))]).await;
    scene.patch(json!({"spec": {"ref": {"branch": "next"}}})).await;
    scene.ready("Synced", &next).await;
    let from = scene.pack().await.status.unwrap().applied_from.unwrap();
    assert_eq!(from.reference.unwrap().branch.as_deref(), Some("next"));
}

#[tokio::test]
async fn only_signed_revisions_are_let_in() {
    let mut scene = Scene::new().await;
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate(folder.path(), "alice", ED25519).await;
    scene.origin.sign_with(key.path()).await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let signed = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    let signers = json!([{"name": "alice", "publicKey": key.public()}]);
    scene.follow(json!({"spec": {"verify": {"signers": signers}}})).await;
    let ready = scene.ready("Synced", &signed).await;
    assert!(ready.message.ends_with("are in force, signed by alice"), "{}", ready.message);

    scene.origin.git(&["config", "commit.gpgsign", "false"]).await;
    let unsigned = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    let ready = scene.ready("SignatureInvalid", "").await;
    let expected = format!("commit {unsigned} unsigned; keeping main@sha1:{signed}, applied at ");
    assert!(ready.message.starts_with(&expected), "{}", ready.message);
    assert_eq!(scene.rules().await[0].spec.hold_for.map(fother::api::Duration::as_secs), Some(60));

    scene.origin.git(&["config", "commit.gpgsign", "true"]).await;
    let mended = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    scene.ready("Synced", &mended).await;
}

#[tokio::test]
async fn a_pack_comes_over_ssh_too() {
    let mut scene = Scene::new().await;
    let ssh = SshServer::start(&[ED25519]).await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let commit = ssh.create("ops").await.push(&files).await;
    let key = ssh.authorize("key", ED25519).await;
    let secret = |known_hosts: String| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git-ssh", "namespace": NAMESPACE},
            "stringData": {"identity": key.private(), "identity.pub": key.public(), "known_hosts": known_hosts}})
    };
    let other = KeyPair::generate(ssh.root(), "other", ED25519).await.public();
    scene.apply(&secret(format!("{} {other}", ssh.host()))).await;
    scene.start(usize::MAX);
    scene.follow(json!({"spec": {"url": ssh.url("ops"), "secretRef": {"name": "git-ssh"}}})).await;
    let ready = scene.ready("FetchFailed", "").await;
    assert!(ready.message.contains("host key mismatch; refusing"), "{}", ready.message);
    scene.apply(&secret(ssh.known_hosts())).await;
    scene.ready("Synced", &commit).await;
    assert_eq!(scene.rule_names().await, ["a"]);
}
