//! One namespace with everything that a remediation needs: an account, its rights, an enrolment, and boats.
//!
//! A boat is a ConfigMap whose hull is `tight` or `leaking`: the smallest thing that can break and be mended.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use fother::api::{Action, Condition, EventBatch, Execution, Rule};
use fother::decide::identity::{TargetKey, decision_id, execution_name};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};

use super::controller::{Controller, HOME, install};
use crate::sandbox_world::stage::Stage;
use crate::support::access::Access;
use crate::support::audit::AuditLog;
use crate::support::control_plane::ControlPlane;
use crate::support::proxy::Proxy;
use crate::support::wait::{DEADLINE, eventually};

/// A namespace that is enrolled, with the account `healer` that may do all that the Actions here need.
pub struct Scenario {
    pub stage: Stage,
    access: Access,
    turn: Option<Turn>,
    /// What the controller logs that is always there.
    log: Option<PathBuf>,
    _controller: Option<Controller>,
}

/// A control plane where fother is installed.
struct Harbor {
    plane: &'static ControlPlane,
    access: Access,
    controller: Option<Controller>,
}

/// A harbor whose scenarios take turns.
struct Dock {
    plane: OnceCell<Option<ControlPlane>>,
    harbor: OnceCell<Option<Harbor>>,
    taken: AtomicBool,
}

impl Dock {
    const fn new() -> Self {
        Self { plane: OnceCell::const_new(), harbor: OnceCell::const_new(), taken: AtomicBool::new(false) }
    }

    async fn open(&'static self) -> Option<&'static Harbor> {
        let open = || async {
            let plane = self.plane.get_or_init(ControlPlane::private).await.as_ref()?;
            let access = install(plane).await?;
            Some(Harbor { plane, access, controller: None })
        };
        self.harbor.get_or_init(open).await.as_ref()
    }
}

/// A scenario's stay at a dock.
struct Turn {
    dock: &'static Dock,
    _permit: SemaphorePermit<'static>,
}

impl Turn {
    /// Waits for a free dock; one that is open already comes first.
    async fn next() -> Self {
        static DOCKS: [Dock; Scenario::LANES] = [const { Dock::new() }; Scenario::LANES];
        static FREE: Semaphore = Semaphore::const_new(Scenario::LANES);
        let permit = FREE.acquire().await.unwrap();
        let free = DOCKS.iter().find(|dock| !dock.taken.swap(true, Ordering::SeqCst));
        Self { dock: free.expect("as many as there are permits"), _permit: permit }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.dock.taken.store(false, Ordering::SeqCst);
    }
}

/// What most rules here run: a script that notes that it ran and ends when it is told to.
pub const CAULK: &str = "caulk";
/// Mends the boat by itself.
pub const MEND: &str = "mend";
/// Does something that does not help.
pub const PAINT: &str = "paint";

impl Scenario {
    /// On the control plane whose controller is always there.
    pub async fn new(name: &str) -> Option<Self> {
        static HARBOR: OnceCell<Option<Harbor>> = OnceCell::const_new();
        let harbor = HARBOR
            .get_or_init(|| async {
                let plane = ControlPlane::shared().await?;
                let access = install(plane).await?;
                let controller = Controller::start(&access).await;
                Some(Harbor { plane, access, controller: Some(controller) })
            })
            .await;
        Self::at(harbor.as_ref()?, name, None).await
    }

    /// How many scenarios can be alone at a time.
    pub const LANES: usize = 6;

    /// On a control plane where nothing runs but what the scenario starts. There are a few; on each it is one at a time.
    pub async fn alone(name: &str) -> Option<Self> {
        let turn = Turn::next().await;
        let harbor = turn.dock.open().await?;
        let scenario = Self::at(harbor, name, Some(turn)).await?;
        scenario.clear_the_dock().await;
        Some(scenario)
    }

    /// Whoever led here before is gone and need not be waited for; what was watched is watched no more, and what was received
    /// takes no room.
    async fn clear_the_dock(&self) {
        let _ = self.leases().delete("fother", &DeleteParams::default()).await;
        self.clear_of::<Rule>().await;
        self.clear_of::<EventBatch>().await;
    }

    /// Deletes all of a kind, wherever they are.
    async fn clear_of<K>(&self)
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
    {
        let (client, all) = (&self.stage.client, ListParams::default());
        let everywhere = Api::<K>::all(client.clone());
        // A kind that was installed a moment ago is not listed at once.
        for one in eventually("they are listed", DEADLINE, || everywhere.list_metadata(&all)).await {
            let beside = Api::<K>::namespaced(client.clone(), &one.namespace().unwrap());
            beside.delete(&one.name_any(), &DeleteParams::default()).await.unwrap();
        }
    }

    /// The control plane, for whoever is alone there.
    pub fn plane(&self) -> &'static ControlPlane {
        let dock = self.turn.as_ref().map(|turn| turn.dock);
        let plane = dock.and_then(|dock| dock.plane.get()).and_then(Option::as_ref);
        plane.expect("a scenario that is alone on a control plane of the tests' own")
    }

    /// In the sandbox, with a controller of its own.
    pub async fn memory(name: &str) -> Option<Self> {
        let scenario = Self::quiet(Stage::memory(name).await?).await;
        let controller = scenario.controller().await;
        Some(Self { _controller: Some(controller), ..scenario })
    }

    /// In a sandbox where nothing runs but what the scenario starts.
    pub async fn quiet(stage: Stage) -> Self {
        let access = stage.install(HOME, "fother").await;
        let scenario = Self { stage, access, turn: None, log: None, _controller: None };
        scenario.set_up().await;
        scenario
    }

    async fn at(harbor: &Harbor, name: &str, turn: Option<Turn>) -> Option<Self> {
        let (stage, access) = (Stage::on(harbor.plane, name).await, harbor.access.clone());
        let log = harbor.controller.as_ref().map(Controller::log_file);
        let scenario = Self { stage, access, turn, log, _controller: None };
        scenario.set_up().await;
        Some(scenario)
    }

    async fn set_up(&self) {
        self.account("healer", &healer_rights()).await;
        self.claim("hold").await;
        self.actions().await;
    }

    /// An account with rights of its own, which an administrator has enrolled.
    pub async fn account(&self, name: &str, rules: &Value) {
        self.stage.create::<ServiceAccount>(json!({"metadata": {"name": name}})).await;
        self.stage.create::<Role>(json!({"metadata": {"name": name}, "rules": rules})).await;
        let binding = json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.stage.namespace}],
        });
        self.stage.create::<RoleBinding>(binding).await;
        self.stage.admin().enroll(&self.stage.namespace, name).await;
    }

    /// A claim, and its folder on the node.
    pub async fn claim(&self, name: &str) {
        let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}});
        self.stage.create::<PersistentVolumeClaim>(json!({"metadata": {"name": name}, "spec": spec})).await;
        std::fs::create_dir_all(self.stage.claim(name)).unwrap();
    }

    async fn actions(&self) {
        let script = json!({
            "image": "debian", "inline": CAULK_SCRIPT, "volumes": [{"claimName": "hold", "mountPath": "/hold"}],
        });
        let parameter = json!([{"name": "hold", "default": "/hold"}]);
        let outputs = json!([{"name": "planks", "type": "integer"}]);
        self.action(CAULK, json!({"script": script, "parameters": parameter, "outputs": outputs})).await;
        self.action(MEND, json!({"kubernetes": {"patch": {"merge": {"data": {"hull": "tight"}}}}})).await;
        self.action(PAINT, json!({"kubernetes": {"annotate": {"values": {"example.com/paint": "red"}}}}))
            .await;
    }

    pub async fn action(&self, name: &str, spec: Value) -> Action {
        self.stage.create(json!({"metadata": {"name": name}, "spec": spec})).await
    }

    /// A controller with the rights that fother claims, and no others.
    pub async fn controller(&self) -> Controller {
        Controller::start(&self.access).await
    }

    /// The same, through a proxy.
    pub async fn controller_through(&self, proxy: &Proxy) -> Controller {
        Controller::start(&proxy.access(&self.access)).await
    }

    /// The access of the controller's account.
    pub fn controller_access(&self) -> &Access {
        &self.access
    }

    pub async fn proxy(&self) -> Proxy {
        Proxy::start(self.stage.admin()).await
    }

    /// A rule that has leaking boats caulked; `changes` are merged into its spec.
    pub async fn rule(&self, name: &str, changes: Value) -> Rule {
        self.stage.create(json!({"metadata": {"name": name}, "spec": rule_spec(changes)})).await
    }

    /// A rule that has one boat mended at the first rung, which is `run`; `changes` are merged into its spec.
    pub async fn rule_for(&self, boat: &str, run: &str, changes: Value) {
        let verify = json!({"when": "target.data.hull == 'tight'", "within": "1m", "stableFor": "1s"});
        let when = format!("object.metadata.name == '{boat}' && object.data.hull == 'leaking'");
        let mut spec = json!({"when": when, "ladder": [{"run": run, "verify": verify}]});
        json_patch::merge(&mut spec, &changes);
        self.rule(boat, spec).await;
    }

    /// Merges `changes` into the spec of a rule.
    pub async fn change_rule(&self, name: &str, changes: Value) {
        let patch = json!({"spec": changes});
        self.stage.api::<Rule>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn delete_rule(&self, name: &str) {
        self.stage.api::<Rule>().delete(name, &DeleteParams::default()).await.unwrap();
    }

    /// A boat.
    pub async fn boat(&self, name: &str, hull: &str) {
        let boat = json!({"metadata": {"name": name, "labels": {"kind": "boat"}}, "data": {"hull": hull}});
        self.stage.create::<ConfigMap>(boat).await;
    }

    /// Breaks or mends a boat.
    pub async fn set_hull(&self, name: &str, hull: &str) {
        let patch = Patch::Merge(json!({"data": {"hull": hull}}));
        self.stage.api::<ConfigMap>().patch(name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Lets the script of [`CAULK`] come to its end, now and from now on.
    pub fn let_caulk_end(&self) {
        std::fs::write(self.stage.claim("hold").join("enough"), "").unwrap();
    }

    /// How often the script of [`CAULK`] has really run.
    pub fn caulked(&self) -> usize {
        std::fs::read_to_string(self.stage.claim("hold").join("log")).unwrap_or_default().lines().count()
    }

    /// Waits until the script of [`CAULK`] runs for the `nth` time.
    pub async fn until_caulking(&self, nth: usize) {
        let runs = eventually("the script runs", DEADLINE * 2, || async {
            let count = self.caulked();
            if count == nth { Ok(()) } else { Err(format!("{count} runs")) }
        });
        let in_time = tokio::time::timeout(DEADLINE, runs).await.is_ok();
        assert!(in_time, "{} runs and not {nth}:\n{}", self.caulked(), self.situation().await);
    }

    /// All that there is of what leads from a rule to its Job's Pod, for whoever has to find out where it went wrong.
    async fn situation(&self) -> String {
        let stage = &self.stage;
        let objects = [
            all::<Rule>(stage).await,
            all::<Event>(stage).await,
            all::<Execution>(stage).await,
            all::<Job>(stage).await,
            all::<Pod>(stage).await,
        ];
        let logged = self.log.iter().flat_map(std::fs::read_to_string).collect::<String>();
        let about: Vec<_> = logged.lines().filter(|line| line.contains(&stage.namespace)).collect();
        format!("{}\nlog of the controller:\n{}", objects.join("\n"), about.join("\n"))
    }

    /// The Executions of a rule.
    pub async fn executions(&self, rule: &str) -> Vec<Execution> {
        let of_rule = ListParams::default().labels(&format!("fother.dev/rule={rule}"));
        let executions = self.stage.api::<Execution>();
        // The API server may have been restarted a moment ago, and tell nothing of what is not built in.
        eventually("Executions are listed", DEADLINE, || executions.list(&of_rule)).await.items
    }

    /// The names of the targets of a rule's Executions, sorted.
    pub async fn targets(&self, rule: &str) -> Vec<String> {
        let executions = self.executions(rule).await.into_iter();
        let mut names: Vec<_> = executions.filter_map(|e| Some(e.spec.target?.name)).collect();
        names.sort();
        names
    }

    pub async fn jobs(&self) -> Vec<Job> {
        self.stage.api::<Job>().list(&ListParams::default()).await.unwrap().items
    }

    /// Waits until `holds` of the only Execution of a rule.
    pub async fn only(&self, rule: &str, what: &str, holds: impl Fn(&Execution) -> bool) -> Execution {
        eventually(what, DEADLINE, || async {
            let mut found = self.executions(rule).await;
            match found.pop().filter(|execution| found.is_empty() && holds(execution)) {
                Some(execution) => Ok(execution),
                None => Err(format!("{found:#?}")),
            }
        })
        .await
    }

    /// Waits until the only Execution of a rule has ended for `reason`.
    pub async fn ends(&self, rule: &str, reason: &str) -> Execution {
        let what = format!("the Execution ends as {reason}");
        let execution = self.only(rule, &what, Execution::is_finished).await;
        assert_eq!(execution.reason(), Some(reason), "{execution:#?}");
        execution
    }

    /// Waits until a rule's condition is as it should be, and returns it.
    pub async fn condition(&self, rule: &str, condition: &str, status: &str) -> Condition {
        eventually(&format!("{condition} of {rule} is {status}"), DEADLINE, || async {
            let rule = self.stage.api::<Rule>().get(rule).await.map_err(|error| error.to_string())?;
            let current = rule.metadata.generation;
            let seen = rule.status.unwrap_or_default().conditions;
            let found = seen.iter().find(|c| c.type_ == condition && c.observed_generation == current);
            found.filter(|c| c.status == status).cloned().ok_or(format!("{seen:#?}"))
        })
        .await
    }

    /// Waits until a rule watches.
    pub async fn watching(&self, rule: &str) {
        self.condition(rule, "Ready", "True").await;
    }

    /// Waits until a rule is a second old: its creation is kept in whole seconds, and of what happened in that second nobody
    /// knows whether it was before.
    pub async fn answers_events(&self, rule: &str) {
        let created = self.stage.api::<Rule>().get(rule).await.unwrap().creation_timestamp().unwrap().0;
        eventually("the rule is a second old", DEADLINE, || async {
            let age = Timestamp::now().duration_since(created);
            if age > SignedDuration::from_secs(1) { Ok(()) } else { Err(format!("{age:#}")) }
        })
        .await;
    }

    /// Has the controller notice all that has happened so far: a rule of its own answers a boat that leaks from now on.
    /// Reconciles take turns, so that whatever else would have been decided by then has been.
    pub async fn controller_catches_up(&self) {
        static CANARIES: AtomicUsize = AtomicUsize::new(0);
        let count = CANARIES.fetch_add(1, Ordering::Relaxed);
        let (rule, boat) = (format!("canary-{count}"), format!("canary-{count}"));
        let when = format!("object.metadata.name == '{boat}' && object.data.hull == 'leaking'");
        self.rule(&rule, json!({"when": when, "mode": "Observe"})).await;
        self.watching(&rule).await;
        self.boat(&boat, "leaking").await;
        self.ends(&rule, "Observed").await;
        self.delete_rule(&rule).await;
    }

    /// Waits until the Executions of these rules, one each, have ended well and are done with.
    pub async fn all_recover(&self, rules: &[&str]) {
        for rule in rules {
            let execution = self.ends(rule, "TargetRecovered").await;
            assert_eq!(execution.status.unwrap().rungs.len(), 1, "{rule}");
            let done = |e: &Execution| {
                let closed = e.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
                closed && e.metadata.finalizers.is_none()
            };
            self.only(rule, "it is let go, and its episode is over", done).await;
        }
    }

    /// The one Job that there is has run once, in one Pod, and is let go.
    pub async fn has_run_one_job(&self) {
        let (jobs, pods) = (self.jobs().await, self.stage.api::<Pod>());
        let pods = pods.list(&ListParams::default()).await.unwrap().items.len();
        assert_eq!((jobs.len(), pods, self.caulked()), (1, 1, 1), "{jobs:#?}");
        assert!(jobs[0].metadata.finalizers.is_none(), "{jobs:#?}");
    }

    /// Has whoever leads be followed by another at once, and not after the Lease's time.
    pub async fn give_up_the_lease(&self) {
        self.leases().delete("fother", &DeleteParams::default()).await.unwrap();
    }

    /// Where who leads is written.
    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.stage.client.clone(), HOME)
    }

    /// The audit log; there is one wherever a scenario plays on a real control plane.
    pub fn audit(&self) -> AuditLog {
        self.stage.audit().expect("a control plane of the tests' own")
    }

    /// The name of the Execution that a rule's next decision about a boat leads to.
    pub fn name_of(&self, rule: &str, boat: &str, occurrence: &str) -> String {
        let namespace = &self.stage.namespace;
        let target = TargetKey {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: namespace.clone(),
            name: boat.to_owned(),
        };
        execution_name(rule, &decision_id(namespace, rule, &target, occurrence))
    }

    /// Another decision takes that name; returns it.
    pub async fn takes_name(&self, rule: &str, boat: &str, occurrence: &str) -> String {
        let (namespace, name) = (self.stage.namespace.clone(), self.name_of(rule, boat, occurrence));
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": namespace, "name": "another"});
        let decision = json!({
            "id": "0123456789abcdef0123456789abcdef", "time": "2026-01-01T00:00:00Z", "rule": {"name": "another"}, "mode": "Observe",
            "definition": "another", "matched": {"object": object},
        });
        let spec = json!({"serviceAccountName": "healer", "target": object, "decision": decision});
        let execution = json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": name}, "spec": spec,
        });
        let execution: Execution = serde_json::from_value(execution).unwrap();
        // The schema and the policies let nobody else have such a name.
        let api = Api::<Execution>::namespaced(self.controller_access().client().await, &namespace);
        api.create(&PostParams::default(), &execution).await.unwrap();
        name
    }

    /// Waits until the Events about an object have these reasons, sorted. They are written after what they tell about.
    pub async fn is_told(&self, kind: &str, name: &str, expected: &[&str]) {
        eventually("the Events tell what happened", DEADLINE, || async {
            let told = self.told(kind, name).await;
            if told == expected { Ok(()) } else { Err(format!("{told:?}")) }
        })
        .await;
    }

    /// The reasons of the Events about an object, sorted.
    async fn told(&self, kind: &str, name: &str) -> Vec<String> {
        let selector = format!("regarding.kind={kind},regarding.name={name}");
        let api = self.stage.api::<Event>();
        let found = api.list(&ListParams::default().fields(&selector)).await.unwrap().items;
        let ours =
            found.into_iter().filter(|e| e.reporting_controller.as_deref() == Some("fother.dev/controller"));
        let mut reasons: Vec<_> = ours.filter_map(|event| event.reason).collect();
        reasons.sort();
        reasons
    }
}

async fn all<K>(stage: &Stage) -> String
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + Debug
        + Serialize,
{
    let found = stage.api::<K>().list(&ListParams::default()).await.map(|list| list.items);
    let shown = found.map_err(|error| error.to_string()).map(|found| json!(found).to_string());
    format!("{}s: {}", K::kind(&()), shown.unwrap_or_else(|error| error))
}

/// Notes each run, and ends when it is told to. What it is told by is a file, so that the test says when.
const CAULK_SCRIPT: &str = r#"
echo "$FOTHER_EXECUTION" >>"$FOTHER_PARAM_HOLD/log"
while ! test -e "$FOTHER_PARAM_HOLD/enough"; do sleep 0.1; done
echo planks=3 >"$FOTHER_OUTPUT"
"#;

/// The spec of a rule that has leaking boats caulked.
pub fn rule_spec(changes: Value) -> Value {
    let verify = json!({"when": "target.data.hull == 'tight'", "within": "2s", "stableFor": "1s"});
    let mut spec = json!({
        "serviceAccountName": "healer",
        "mode": "Enforce",
        "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}},
        "when": "object.data.hull == 'leaking' && !object.metadata.name.startsWith('canary')",
        "ladder": [{"run": CAULK, "verify": verify}],
    });
    json_patch::merge(&mut spec, &changes);
    spec
}

/// What `healer` may do: see boats, change them, run Jobs, keep evidence.
pub fn healer_rights() -> Value {
    json!([
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch", "delete", "deletecollection"]},
        {"apiGroups": [""], "resources": ["pods/log", "events"], "verbs": ["get", "list"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["*"]},
        {"apiGroups": ["apps"], "resources": ["deployments", "replicasets"], "verbs": ["get", "list", "watch", "patch"]},
    ])
}
