//! A namespace with boats, an account, Actions that need no Job, and a controller whose requests can be met with.

use std::sync::Arc;

use fother::api::{Execution, Rule};
use fother::cluster::discovery::Kinds;
use fother::cluster::objects::Objects;
use fother::cluster::rights;
use fother::controller::{self, Settings};
use fother::decide::episode::Caps;
use fother::decide::pod::PodPolicy;
use fother::git::FetcherOptions;
use fother::sandbox::apiserver::{ApiServer, User};
use fother::source::watch::now;
use fother::telemetry::Metrics;
use http::{Request, Response};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::wait::{DEADLINE, eventually};

/// Where everything happens.
/// Events about Nodes may be nowhere else.
pub const NAMESPACE: &str = "default";

/// Makes a boat well.
pub const MEND: &str = "mend";
/// Does something that does not help.
pub const PAINT: &str = "paint";

/// What happens to requests whose method and path begin so.
pub struct Fault {
    request: &'static str,
    deed: Deed,
    struck: usize,
}

enum Deed {
    /// They go on, and are counted.
    Count,
    /// They are answered with this status.
    Refuse(u16),
    /// They wait until the fault is lifted.
    Hold(watch::Sender<()>),
}

type Faults = Arc<Mutex<Vec<Fault>>>;

/// The cluster and its controller.
pub struct Bay {
    pub admin: Client,
    server: ApiServer,
    faults: Faults,
    metrics: Arc<Metrics>,
    controller: Option<JoinHandle<()>>,
}

impl Bay {
    /// With a controller that leads.
    pub async fn new() -> Self {
        Self::on(ApiServer::new()).await
    }

    /// The same where the API server, by its clock, makes everything so long ago.
    pub async fn of_old(age: SignedDuration) -> Self {
        Self::on(ApiServer::with_seed(now() - age, 7)).await
    }

    async fn on(server: ApiServer) -> Self {
        let admin = server.client(&User::admin());
        let mut bay =
            Self { admin, server, faults: Arc::default(), metrics: Arc::default(), controller: None };
        for crd in fother::api::crds() {
            bay.apply(serde_json::to_value(crd).unwrap()).await;
        }
        for name in ["fother", NAMESPACE] {
            bay.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        }
        for object in rights::installation("fother", "fother").unwrap() {
            bay.apply(object).await;
        }
        for object in rights::enroll(NAMESPACE, &["healer".to_owned()], ("fother", "fother")).unwrap() {
            bay.apply(object).await;
        }
        bay.apply(json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": "healer"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "healer", "namespace": NAMESPACE}]}))
            .await;
        bay.action(MEND, json!({"patch": {"merge": {"data": {"hull": "tight"}}}})).await;
        bay.action(PAINT, json!({"annotate": {"values": {"example.com/paint": "red"}}})).await;
        bay.start();
        bay
    }

    pub async fn apply(&self, object: Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let served = Kinds::default().find(&self.admin, text("/apiVersion"), text("/kind")).await.unwrap();
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let objects = Objects::of(self.admin.clone(), &served, namespace);
        objects.apply(text("/metadata/name"), &object).await.unwrap();
    }

    /// Deletes an object, and waits until it is gone.
    pub async fn delete(&self, api_version: &str, kind: &str, name: &str) {
        let served = Kinds::default().find(&self.admin, api_version, kind).await.unwrap();
        let api = Api::<DynamicObject>::namespaced_with(self.admin.clone(), NAMESPACE, &served.resource);
        api.delete(name, &DeleteParams::default().grace_period(0)).await.unwrap();
        eventually(&format!("{kind} {name} is gone"), DEADLINE, async || {
            match api.get_opt(name).await.unwrap() {
                None => Ok(()),
                Some(found) => Err(format!("{found:#?}")),
            }
        })
        .await;
    }

    /// What an object is known by.
    pub async fn uid(&self, api_version: &str, kind: &str, name: &str) -> String {
        self.read(api_version, kind, name).await["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    /// An object, as it is now.
    pub async fn read(&self, api_version: &str, kind: &str, name: &str) -> Value {
        let served = Kinds::default().find(&self.admin, api_version, kind).await.unwrap();
        let found = Objects::of(self.admin.clone(), &served, Some(NAMESPACE)).get(name).await.unwrap();
        (*found.unwrap()).clone()
    }

    async fn own(&self, kind: &str, name: &str, spec: Value) {
        self.apply(json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": NAMESPACE}, "spec": spec}))
            .await;
    }

    /// An Action that is done without a Job.
    pub async fn action(&self, name: &str, kubernetes: Value) {
        self.own("Action", name, json!({"kubernetes": kubernetes})).await;
    }

    /// A run by hand.
    pub async fn run(&self, name: &str, action: &str, target: Value) {
        let spec = json!({"serviceAccountName": "healer", "run": action, "target": target});
        self.own("Execution", name, spec).await;
    }

    /// A rule that has boats painted which leak, if they are called as it is; `changes` are merged into its spec.
    pub async fn rule(&self, name: &str, changes: Value) {
        let verify = json!({"when": "target.data.hull == 'tight'", "within": "2s", "stableFor": "1s"});
        let mut spec = json!({
            "serviceAccountName": "healer",
            "mode": "Enforce",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}},
            "when": format!("object.data.hull == 'leaking' && object.metadata.name.startsWith('{name}')"),
            "ladder": [{"run": PAINT, "verify": verify}],
        });
        json_patch::merge(&mut spec, &changes);
        self.own("Rule", name, spec).await;
    }

    /// A rule that answers Events with the reason `Sprung`.
    pub async fn event_rule(&self, name: &str, changes: Value) {
        let mut spec = json!({"when": null, "trigger": {"resource": null, "event": {"reasons": ["Sprung"]}}});
        json_patch::merge(&mut spec, &changes);
        self.rule(name, spec).await;
    }

    /// A boat, or a change of its hull.
    pub async fn boat(&self, name: &str, hull: &str) {
        self.apply(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": NAMESPACE}, "data": {"hull": hull}}))
            .await;
    }

    /// An Event about an object.
    pub async fn event(&self, name: &str, regarding: Value) {
        let now = now();
        self.apply(json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
            "metadata": {"name": name, "namespace": NAMESPACE}, "eventTime": format!("{now:.6}"),
            "reason": "Sprung", "type": "Warning", "action": "Look", "note": name, "regarding": regarding,
            "reportingController": "example.com/watch", "reportingInstance": "watch-1"}))
            .await;
    }

    /// An Action that is done by a Job.
    pub async fn script(&self, name: &str) {
        self.own("Action", name, json!({"script": {"image": "debian:12", "inline": "true"}})).await;
    }

    /// An Action that keeps what is to be seen of its target.
    pub async fn evidence(&self, name: &str) {
        self.own("Action", name, json!({"collect": {}})).await;
    }

    /// A Webhook to which nobody sends.
    pub async fn webhook(&self, name: &str) {
        let authentication = json!({"bearer": {"secretRef": {"name": name, "key": "token"}}});
        let spec = json!({"serviceAccountName": "healer", "authentication": authentication,
            "generic": {"id": "body.id", "type": "body.kind"}});
        self.own("Webhook", name, spec).await;
    }

    /// Starts a controller.
    pub fn start(&mut self) {
        let account = self.server.client(&User::service_account("fother", "fother"));
        let faults = self.faults.clone();
        let service =
            tower::service_fn(move |request: Request<Body>| meet(faults.clone(), account.clone(), request));
        let settings = Settings {
            namespace: "fother".into(),
            identity: "test".into(),
            caps: Caps::default(),
            pods: PodPolicy::default(),
            receives: false,
            git: FetcherOptions::new(env!("CARGO_BIN_EXE_fother"), std::env::temp_dir()),
            journal: None,
        };
        let (client, stop) = (Client::new(service, "fother"), CancellationToken::new());
        self.metrics = Arc::default();
        let metrics = self.metrics.clone();
        self.controller = Some(tokio::spawn(async move {
            Box::pin(controller::run(client, settings, metrics, |_| {}, stop)).await.unwrap();
        }));
    }

    /// Ends the controller without a chance to tidy up.
    pub async fn kill(&mut self) {
        if let Some(controller) = self.controller.take() {
            controller.abort();
            let _ = controller.await;
        }
    }

    /// Ends the controller without a chance to tidy up, and starts another.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.start();
    }

    fn fault(&self, request: &'static str, deed: Deed) {
        self.faults.lock().push(Fault { request, deed, struck: 0 });
    }

    /// Counts the requests that begin so.
    pub fn count(&self, request: &'static str) {
        self.fault(request, Deed::Count);
    }

    /// Answers requests with a status.
    pub fn refuse(&self, request: &'static str, status: u16) {
        self.fault(request, Deed::Refuse(status));
    }

    /// Holds requests.
    pub fn hold(&self, request: &'static str) {
        self.fault(request, Deed::Hold(watch::Sender::new(())));
    }

    /// Ends a fault; what it held goes on.
    pub fn lift(&self, request: &'static str) {
        self.faults.lock().retain(|fault| fault.request != request);
    }

    /// How many requests a fault has met.
    pub fn struck(&self, request: &'static str) -> usize {
        self.faults.lock().iter().find(|fault| fault.request == request).map_or(0, |fault| fault.struck)
    }

    pub async fn until_struck(&self, request: &'static str, times: usize) {
        self.until(&format!("{times} times {request}"), || {
            let struck = self.struck(request);
            if struck >= times { Ok(()) } else { Err(struck.to_string()) }
        })
        .await;
    }

    /// Waits until something holds that can be seen at once.
    pub async fn until(&self, what: &str, holds: impl Fn() -> Result<(), String>) {
        eventually(what, DEADLINE, async || holds()).await;
    }

    /// The value of a metric, as the text says it: `name{labels}`.
    pub fn metric(&self, series: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix(series));
        line.and_then(|value| value.trim().parse().ok()).unwrap_or_default()
    }

    /// Waits until a rule watches.
    pub async fn watching(&self, rule: &str) {
        let rules: Api<Rule> = Api::namespaced(self.admin.clone(), NAMESPACE);
        eventually(&format!("{rule} watches"), DEADLINE, async || {
            let found = rules.get(rule).await.map_err(|error| error.to_string())?;
            let conditions = found.status.unwrap_or_default().conditions;
            let ready = conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True");
            if ready { Ok(()) } else { Err(format!("{conditions:#?}")) }
        })
        .await;
    }

    /// Waits until an event rule answers what happens: all from the second after its creation on.
    pub async fn answers(&self, rule: &str) {
        self.watching(rule).await;
        let created = self.created(rule).await;
        self.until("it is later than the rule", || {
            let age = now().duration_since(created).as_millis();
            if age > 2000 { Ok(()) } else { Err(age.to_string()) }
        })
        .await;
    }

    /// A rule that answers no object.
    pub async fn told_rule(&self, name: &str, trigger: Value, changes: Value) {
        let mut spec = json!({"when": null, "trigger": {"resource": null}, "ladder": [{"run": PAINT}]});
        json_patch::merge(&mut spec["trigger"], &trigger);
        json_patch::merge(&mut spec, &changes);
        self.rule(name, spec).await;
    }

    /// Waits until what has ended by now has ended for certain: ends are kept in whole seconds.
    pub async fn later(&self) {
        let ended = now();
        self.until("it is later than what has ended", || {
            let age = now().duration_since(ended).as_millis();
            if age > 1100 { Ok(()) } else { Err(age.to_string()) }
        })
        .await;
    }

    /// How often something stopped a rule since the controller began.
    pub fn stopped(&self, rule: &str, guard: &str) -> u64 {
        let labels = format!("{{namespace=\"{NAMESPACE}\",rule=\"{rule}\",guard=\"{guard}\"}}");
        self.metric(&format!("fother_rule_suppressed_total{labels}"))
    }

    /// Waits until something has stopped a rule so often.
    pub async fn until_stopped(&self, rule: &str, guard: &str, times: u64) {
        self.until(&format!("{rule} is stopped by {guard}"), || {
            let stopped = self.stopped(rule, guard);
            if stopped >= times { Ok(()) } else { Err(stopped.to_string()) }
        })
        .await;
    }

    /// Waits until something holds of all Executions.
    pub async fn all(&self, what: &str, holds: impl Fn(&[Execution]) -> bool) -> Vec<Execution> {
        eventually(what, DEADLINE, async || {
            let found = self.executions().await;
            if holds(&found) { Ok(found) } else { Err(format!("{found:#?}")) }
        })
        .await
    }

    /// Waits until something holds of a rule.
    pub async fn until_rule(&self, rule: &str, what: &str, holds: impl Fn(&Rule) -> bool) -> Rule {
        let rules: Api<Rule> = Api::namespaced(self.admin.clone(), NAMESPACE);
        eventually(what, DEADLINE, async || {
            let found = rules.get(rule).await.map_err(|error| error.to_string())?;
            if holds(&found) { Ok(found) } else { Err(format!("{:#?}", found.status)) }
        })
        .await
    }

    async fn created(&self, rule: &str) -> Timestamp {
        let rules: Api<Rule> = Api::namespaced(self.admin.clone(), NAMESPACE);
        rules.get(rule).await.unwrap().metadata.creation_timestamp.unwrap().0
    }

    pub async fn executions(&self) -> Vec<Execution> {
        let api: Api<Execution> = Api::namespaced(self.admin.clone(), NAMESPACE);
        api.list(&ListParams::default()).await.unwrap().items
    }

    /// Waits until something holds of the only Execution.
    pub async fn only(&self, what: &str, holds: impl Fn(&Execution) -> bool) -> Execution {
        eventually(what, DEADLINE, async || {
            let found = self.executions().await;
            match found.as_slice() {
                [execution] if holds(execution) => Ok(execution.clone()),
                _ => Err(format!("{found:#?}")),
            }
        })
        .await
    }
}

impl Drop for Bay {
    fn drop(&mut self) {
        if let Some(controller) = &self.controller {
            controller.abort();
        }
    }
}

/// One request on its way to the API server.
async fn meet(faults: Faults, account: Client, request: Request<Body>) -> kube::Result<Response<Body>> {
    let line = format!("{} {}", request.method(), request.uri());
    let mut held = None;
    let refused = faults.lock().iter_mut().find(|fault| line.starts_with(fault.request)).and_then(|fault| {
        fault.struck += 1;
        match &fault.deed {
            Deed::Count => None,
            Deed::Refuse(status) => Some(*status),
            Deed::Hold(gate) => {
                held = Some(gate.subscribe());
                None
            }
        }
    });
    if let Some(status) = refused {
        let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
            "reason": "Refused", "message": "refused by the test"});
        let body = Body::from(body.to_string().into_bytes());
        return Ok(Response::builder().status(status).body(body).unwrap());
    }
    if let Some(mut gate) = held {
        // The sender goes with the fault.
        let _ = gate.changed().await;
    }
    account.send(request).await
}
