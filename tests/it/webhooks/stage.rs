//! A cluster with one namespace, an account, secrets and disks; controllers that can be started, killed and doubled.
//!
//! A disk is a ConfigMap: what is done about it is an annotation.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use fother::api::{EventBatch, Execution, Rule, Webhook};
use fother::cluster::discovery::Kinds;
use fother::cluster::objects::Objects;
use fother::cluster::rights;
use fother::controller::receiver::Receiver;
use fother::controller::{self, Settings, Standing};
use fother::decide::episode::Caps;
use fother::decide::pod::PodPolicy;
use fother::git::FetcherOptions;
use fother::journal::{Keeping, Limits, Place};
use fother::sandbox::apiserver::{ApiServer, User};
use fother::server::hooks::{self, Ending};
use fother::telemetry::Metrics;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::jiff::SignedDuration;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{AbortHandle, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::support::http::{Answer, post};
use crate::support::wait::{DEADLINE, eventually};

pub const NAMESPACE: &str = "shop";
pub const TOKEN: &str = "open-sesame";
/// The end of a listener that waits for nobody.
const AT_ONCE: Ending = Ending { grace: Duration::ZERO, rest: Duration::ZERO };
/// What is said of an alert that no Rule may match.
pub const UNMATCHED: &str = "no Rule of the Webhook matched it, as they read then";

/// A cluster.
pub struct Scene {
    pub admin: Client,
    /// Fother's own account.
    connection: Client,
    namespace: &'static str,
    files: TempDir,
    /// How long whoever sends has to come again, if nobody heard him: what stays away is awaited so long.
    pub comes_again: SignedDuration,
    /// How long what is received may be under way: so long what stays away is awaited, too.
    pub under_way: SignedDuration,
    /// How listeners end.
    pub ending: Ending,
}

/// A running controller, and where it receives.
pub struct Running {
    pub address: SocketAddr,
    pub metrics: Arc<Metrics>,
    namespace: &'static str,
    pub standing: Arc<parking_lot::Mutex<Standing>>,
    stop: CancellationToken,
    work: JoinHandle<()>,
    listener: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.work.abort();
        self.listener.abort();
    }
}

impl Running {
    /// Asks it to stop.
    pub fn tell_to_stop(&self) {
        self.stop.cancel();
    }

    /// Asks it to stop, and waits: its Lease is free then, and nobody is served any more.
    pub async fn stop(mut self) {
        self.tell_to_stop();
        tokio::time::timeout(DEADLINE, &mut self.work).await.unwrap().unwrap();
    }

    pub async fn post(&self, webhook: &str, body: &Value) -> Answer {
        self.post_as(webhook, &[("authorization", &format!("Bearer {TOKEN}"))], body.to_string().as_bytes())
            .await
    }

    pub async fn post_as(&self, webhook: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        post(self.address, &format!("/hooks/{}/{webhook}", self.namespace), headers, body).await
    }
}

impl Scene {
    /// With fother installed, and the namespace bare.
    pub async fn bare(namespace: &'static str) -> Self {
        let server = ApiServer::new();
        let fother = server.client(&User::service_account("fother", "fother"));
        Self::on((server.client(&User::admin()), fother), namespace).await
    }

    /// The same on any API server, as who may do everything there and as fother's account.
    async fn on((admin, connection): (Client, Client), namespace: &'static str) -> Self {
        let (files, none) = (tempfile::tempdir().unwrap(), SignedDuration::ZERO);
        let (comes_again, under_way, ending) = (none, none, AT_ONCE);
        let scene = Self { admin, connection, namespace, files, comes_again, under_way, ending };
        for crd in fother::api::crds() {
            let kind = crd.spec.names.kind.clone();
            scene.apply(&serde_json::to_value(crd).unwrap()).await;
            eventually(&format!("{kind} is served"), DEADLINE, || async {
                Kinds::default().find(&scene.admin, "fother.dev/v1alpha1", &kind).await
            })
            .await;
        }
        for name in ["fother", namespace] {
            scene.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        }
        for object in rights::installation("fother", "fother").unwrap() {
            scene.apply(&object).await;
        }
        scene
    }

    /// The same where fother is installed, as who may do everything there and as fother's account.
    pub fn prepared((admin, connection): (Client, Client), namespace: &'static str) -> Self {
        let (files, none) = (tempfile::tempdir().unwrap(), SignedDuration::ZERO);
        let (comes_again, under_way, ending) = (none, none, AT_ONCE);
        Self { admin, connection, namespace, files, comes_again, under_way, ending }
    }

    pub async fn new() -> Self {
        Self::furnished(&ApiServer::new()).await
    }

    /// One whose API server, by its clock, makes everything so long ago.
    pub async fn of_old(age: SignedDuration) -> Self {
        let began = k8s_openapi::jiff::Timestamp::now() - age;
        Self::furnished(&ApiServer::with_seed(began, 7)).await
    }

    async fn furnished(server: &ApiServer) -> Self {
        let fother = server.client(&User::service_account("fother", "fother"));
        let scene = Self::on((server.client(&User::admin()), fother), NAMESPACE).await;
        for object in rights::enroll(NAMESPACE, &["healer".to_owned()], ("fother", "fother")).unwrap() {
            scene.apply(&object).await;
        }
        scene
            .apply(&json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": "healer", "namespace": NAMESPACE},
                "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
                "subjects": [{"kind": "ServiceAccount", "name": "healer", "namespace": NAMESPACE}]}))
            .await;
        scene
            .own(
                "v1",
                "Secret",
                "receiver",
                json!({"stringData": {"token": TOKEN, "key": "It's a Secret to Everybody"}}),
            )
            .await;
        scene
            .action(
                "mark",
                json!({"kubernetes": {"annotate": {"values": {"example.com/cleaned": "${{ inputs.by }}"}}},
            "parameters": [{"name": "by", "default": "nobody"}]}),
            )
            .await;
        scene
    }

    pub async fn apply(&self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let served = Kinds::default().find(&self.admin, text("/apiVersion"), text("/kind")).await.unwrap();
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let objects = Objects::of(self.admin.clone(), &served, namespace);
        objects.apply(text("/metadata/name"), object).await.unwrap();
    }

    /// Applies an object of the namespace.
    pub async fn own(&self, api_version: &str, kind: &str, name: &str, rest: Value) {
        let mut object = json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": self.namespace}});
        json_patch::merge(&mut object, &rest);
        self.apply(&object).await;
    }

    pub async fn action(&self, name: &str, spec: Value) {
        self.own("fother.dev/v1alpha1", "Action", name, json!({"spec": spec})).await;
    }

    /// A Webhook with the token, or with what `authentication` says.
    pub async fn webhook(&self, name: &str, changes: Value) {
        let mut spec = json!({"serviceAccountName": "healer",
            "authentication": {"bearer": {"secretRef": {"name": "receiver", "key": "token"}}}});
        json_patch::merge(&mut spec, &changes);
        self.own("fother.dev/v1alpha1", "Webhook", name, json!({"spec": spec})).await;
    }

    /// A Rule that marks disks.
    pub async fn rule(&self, name: &str, changes: Value) {
        let mut spec = json!({"serviceAccountName": "healer", "mode": "Enforce",
            "target": {"ref": {"apiVersion": "v1", "kind": "ConfigMap", "name": "${{ event.data.labels.disk }}"}},
            "ladder": [{"run": "mark", "with": {"by": "${{ event.data.labels.disk }}"}, "verify": {"within": "5m", "stableFor": "0s"}}]});
        json_patch::merge(&mut spec, &changes);
        self.own("fother.dev/v1alpha1", "Rule", name, json!({"spec": spec})).await;
    }

    pub async fn disk(&self, name: &str) {
        self.own("v1", "ConfigMap", name, json!({"data": {}})).await;
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.admin.clone(), self.namespace)
    }

    /// A controller; one that leads already keeps its Lease.
    pub async fn start(&self, identity: &str) -> Running {
        self.start_over(self.connection.clone(), identity).await
    }

    /// The same, once the Rule `full` and the Webhook `am` are ready.
    pub async fn start_listening(&self, identity: &str) -> Running {
        let running = self.start(identity).await;
        self.ready("Rule", "full").await;
        self.ready("Webhook", "am").await;
        running
    }

    /// The same over a connection that brings no news of objects of a kind: a watch that is late.
    pub async fn start_late(&self, identity: &str, plural: &str) -> Running {
        let watched = format!("/{plural}");
        let is_watch = move |request: &http::Request<kube::client::Body>| {
            let uri = request.uri();
            let watches = uri.query().is_some_and(|query| query.contains("watch=true"));
            watches && uri.path().ends_with(&watched)
        };
        self.start_unanswered(identity, is_watch).await
    }

    /// The same over a connection on which some requests have no answer, ever.
    pub async fn start_unanswered(
        &self,
        identity: &str,
        is_unanswered: impl Fn(&http::Request<kube::client::Body>) -> bool + Send + 'static,
    ) -> Running {
        let connection = self.connection.clone();
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            let (connection, is_unanswered) = (connection.clone(), is_unanswered(&request));
            async move {
                if is_unanswered {
                    std::future::pending::<()>().await;
                }
                connection.send(request).await
            }
        });
        self.start_over(Client::new(service, "default"), identity).await
    }

    /// The same over a connection that notes the address of each request.
    pub async fn start_noted(&self, identity: &str) -> (Running, Arc<parking_lot::Mutex<Vec<String>>>) {
        let noted = Arc::<parking_lot::Mutex<Vec<String>>>::default();
        let (connection, notes) = (self.connection.clone(), noted.clone());
        let service = tower::service_fn(move |request: http::Request<kube::client::Body>| {
            notes.lock().push(request.uri().to_string());
            let connection = connection.clone();
            async move { connection.send(request).await }
        });
        (self.start_over(Client::new(service, "default"), identity).await, noted)
    }

    async fn start_over(&self, connection: Client, identity: &str) -> Running {
        let (metrics, stop) = (Arc::new(Metrics::default()), CancellationToken::new());
        let receiver =
            Receiver::with(connection.clone(), metrics.clone(), (self.comes_again, self.under_way));
        let ends = (stop.clone(), self.ending);
        let (address, serving) =
            hooks::serve(([127, 0, 0, 1], 0).into(), receiver.clone(), ends).await.unwrap();
        let listener = serving.abort_handle();
        let settings = Settings {
            namespace: "fother".to_owned(),
            identity: identity.to_owned(),
            caps: Caps { rule: 10, ..Caps::default() },
            pods: PodPolicy::default(),
            receives: true,
            git: FetcherOptions::new("fother", std::env::temp_dir()),
            journal: Some(Keeping { place: Place::File(self.journal()), limits: Limits::default() }),
        };
        let (standing, kept) = (Arc::new(parking_lot::Mutex::new(Standing::default())), metrics.clone());
        let (told, stopped) = (standing.clone(), stop.clone());
        let work = tokio::spawn(async move {
            let tell = move |standing| *told.lock() = standing;
            let closed = async move { drop(serving.await) };
            let end = (stopped, closed);
            let work = controller::run_with(&receiver, connection, (settings, metrics), tell, end);
            let ended = Box::pin(work).await;
            if let Err(error) = ended {
                tracing::warn!(%error, "controller ended");
            }
        });
        Running { address, metrics: kept, namespace: self.namespace, standing, stop, work, listener }
    }

    /// Where whoever leads keeps its journal.
    pub fn journal(&self) -> PathBuf {
        self.files.path().join("journal.db")
    }

    /// Waits until a Webhook or Rule is Ready.
    pub async fn ready(&self, kind: &str, name: &str) {
        let served = Kinds::default().find(&self.admin, "fother.dev/v1alpha1", kind).await.unwrap();
        let objects = Objects::of(self.admin.clone(), &served, Some(self.namespace));
        eventually(&format!("{kind} {name} is ready"), DEADLINE, || async {
            let object = objects.get(name).await.map_err(|error| error.to_string())?.ok_or("missing")?;
            let conditions =
                object.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
            let ready = conditions.iter().any(|c| c["type"] == "Ready" && c["status"] == "True");
            ready.then_some(()).ok_or_else(|| format!("{conditions:?}"))
        })
        .await;
    }

    /// Waits until what happens now happens after a Rule was created: that is kept in whole seconds.
    pub async fn aged(&self, rule: &str) {
        eventually("the Rule is a second old", DEADLINE, || async {
            let rule = self.api::<Rule>().get(rule).await.map_err(|error| error.to_string())?;
            let age =
                k8s_openapi::jiff::Timestamp::now().duration_since(rule.creation_timestamp().unwrap().0);
            if age.as_secs() >= 2 { Ok(()) } else { Err(format!("{age:?}")) }
        })
        .await;
    }

    /// Has the Lease be that of a leader who died: nobody leads until it is free.
    pub async fn lease_to_nobody(&self) {
        let now = k8s_openapi::jiff::Timestamp::now();
        self.apply(&json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "fother", "namespace": "fother"},
            "spec": {"holderIdentity": "dead", "leaseDurationSeconds": 3600, "renewTime": format!("{now:.6}")}}))
            .await;
    }

    /// Has whoever comes next lead.
    pub async fn free_lease(&self) {
        let leases: Api<Lease> = Api::namespaced(self.admin.clone(), "fother");
        leases.delete("fother", &DeleteParams::default()).await.unwrap();
    }

    pub async fn executions(&self) -> Vec<Execution> {
        let mut found = self.api::<Execution>().list(&ListParams::default()).await.unwrap().items;
        found.sort_by_key(|execution| execution.spec.decision.as_ref().map(|decision| decision.time.clone()));
        found
    }

    /// Waits until there are so many Executions, each of which is over for this reason.
    pub async fn ended(&self, reasons: &[&str]) -> Vec<Execution> {
        eventually(&format!("Executions end: {reasons:?}"), DEADLINE, || async {
            let found = self.executions().await;
            let said: Vec<_> = found.iter().map(|e| e.reason().unwrap_or_default().to_owned()).collect();
            if said == reasons { Ok(found) } else { Err(format!("{said:?}")) }
        })
        .await
    }

    /// What a Webhook for alerts would have kept of one for a Rule.
    pub async fn batch_of(&self, name: &str, webhook: &str, rule: &str, alert: &Value) {
        self.batch_for(name, webhook, (&[rule], &at(0)), alert).await;
    }

    /// The same for some Rules, or none, when it was received.
    pub async fn batch_for(
        &self,
        name: &str,
        webhook: &str,
        (rules, received): (&[&str], &str),
        alert: &Value,
    ) {
        let text = |field: &str| alert[field].as_str().unwrap();
        let id = format!("{}/{}/{}", text("fingerprint"), text("startsAt"), text("status"));
        let kind = format!("alert.{}", text("status"));
        let event = json!({"id": id, "source": "alertmanager", "type": kind, "time": alert["startsAt"], "data": alert});
        // As it is kept of what is received.
        let kept =
            |field: &str| format!("{:.6}", text(field).parse::<k8s_openapi::jiff::Timestamp>().unwrap());
        let mut state = json!({"fingerprint": alert["fingerprint"], "startsAt": kept("startsAt")});
        if text("status") == "resolved" {
            state["endsAt"] = kept("endsAt").into();
        }
        let events = json!([{"event": event, "rules": rules, "alert": state}]);
        let spec = json!({"webhook": webhook, "receivedAt": received, "events": events});
        let metadata = json!({"labels": {"fother.dev/webhook": webhook}});
        self.own("fother.dev/v1alpha1", "EventBatch", name, json!({"metadata": metadata, "spec": spec}))
            .await;
    }

    pub async fn batches(&self) -> Vec<EventBatch> {
        self.api::<EventBatch>().list(&ListParams::default()).await.unwrap().items
    }

    /// Those of one Webhook: where there are very many of another, it takes long to look at all.
    pub async fn batches_of(&self, webhook: &str) -> Vec<EventBatch> {
        let of_it = ListParams::default().labels(&format!("fother.dev/webhook={webhook}"));
        self.api::<EventBatch>().list(&of_it).await.unwrap().items
    }

    /// All outcomes that are recorded, as `event rule Outcome reason`.
    pub async fn outcomes(&self) -> Vec<String> {
        outcomes_in(&self.batches().await)
    }

    /// Waits until these are the outcomes.
    pub async fn came_to(&self, expected: &[&str]) {
        eventually(&format!("outcomes {expected:?}"), DEADLINE, || async {
            let found = self.outcomes().await;
            if found == expected { Ok(()) } else { Err(format!("{found:#?}")) }
        })
        .await;
    }

    pub async fn patch<K>(&self, name: &str, patch: Value)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        self.api::<K>().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    pub async fn mark_of(&self, disk: &str) -> Option<String> {
        let disk = self.api::<ConfigMap>().get(disk).await.unwrap();
        disk.annotations().get("example.com/cleaned").cloned()
    }

    pub async fn webhook_status(&self, name: &str) -> fother::api::WebhookStatus {
        self.api::<Webhook>().get(name).await.unwrap().status.unwrap_or_default()
    }

    pub async fn delete_rule(&self, name: &str) {
        self.api::<Rule>().delete(name, &DeleteParams::default()).await.unwrap();
    }
}

/// The outcomes that these batches have, as `event rule Outcome reason`.
pub fn outcomes_in(batches: &[EventBatch]) -> Vec<String> {
    let mut found = Vec::new();
    for batch in batches {
        for outcome in batch.status.iter().flat_map(|status| &status.outcomes) {
            let id = &batch.spec.events[usize::try_from(outcome.event).unwrap()].event.id;
            let text = format!("{id} {} {:?} {}", outcome.rule, outcome.outcome, outcome.reason);
            found.push(text.trim_end().to_owned());
        }
    }
    found.sort();
    found
}

/// Sends a notification to the Webhook `am`, which takes it in.
pub async fn say(running: &Running, alerts: &[Value]) {
    let answer = running.post("am", &notification(alerts)).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

/// Sends an event to the Webhook `am` until it is taken in.
pub async fn until_taken(running: &Running, body: &Value) {
    eventually("it is accepted", DEADLINE, || async {
        let answer = running.post("am", body).await;
        if answer.status == 202 { Ok(()) } else { Err(answer.text) }
    })
    .await;
}

/// Waits until there are so many Executions, and says which.
pub async fn count(scene: &Scene, count: usize) -> Vec<Execution> {
    eventually(&format!("{count} Executions"), DEADLINE, || async {
        let found = scene.executions().await;
        if found.len() == count { Ok(found) } else { Err(format!("{} Executions", found.len())) }
    })
    .await
}

/// An alert about a disk; it fires, or is resolved at `ends`.
pub fn alert(disk: &str, starts: &str, ends: Option<&str>) -> Value {
    json!({"status": if ends.is_some() { "resolved" } else { "firing" }, "fingerprint": format!("f-{disk}"),
        "labels": {"alertname": "DiskFull", "disk": disk}, "annotations": {"summary": "full"},
        "startsAt": starts, "endsAt": ends.unwrap_or("0001-01-01T00:00:00Z"), "generatorURL": ""})
}

/// A notification of Alertmanager.
pub fn notification(alerts: &[Value]) -> Value {
    json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "fother",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am", "alerts": alerts})
}

/// A moment so many seconds from now.
pub fn at(seconds: i64) -> String {
    let now = k8s_openapi::jiff::Timestamp::now();
    (now + k8s_openapi::jiff::SignedDuration::from_secs(seconds)).to_string()
}
