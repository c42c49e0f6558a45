//! `fother controller` as a process on the in-memory API: what it serves and logs, how it stops, and what it says about Rules.

mod journal;
mod passed;
mod served;
mod told;

use std::path::{Path, PathBuf};

use fother::api::{Execution, Rule};
use fother::cluster::discovery::Kinds;
use fother::cluster::objects::Objects;
use fother::cluster::rights;
use fother::sandbox::apiserver::{ApiServer, User};
use fother::sandbox::pki::Pki;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::control_plane::free_port;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

const NAMESPACE: &str = "ops";

/// An API server with the controller's account, and a namespace where rules can act.
struct Home {
    admin: Client,
    url: String,
    pki: Pki,
    files: TempDir,
    _stop: DropGuard,
}

/// A running controller.
struct Controller {
    process: Process,
    port: u16,
}

impl Home {
    /// Without fother's kinds.
    async fn bare() -> Self {
        let (server, pki, stop) = (ApiServer::new(), Pki::generate().unwrap(), CancellationToken::new());
        server.add_token("controller", User::service_account("fother", "fother"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        tokio::spawn(server.clone().serve(listener, pki.tls.clone(), stop.clone()));
        let admin = server.client(&User::admin());
        let files = tempfile::tempdir().unwrap();
        let home = Self { admin, url, pki, files, _stop: stop.drop_guard() };
        for name in ["fother", NAMESPACE] {
            home.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})).await;
        }
        for object in rights::installation("fother", "fother").unwrap() {
            home.apply(&object).await;
        }
        home
    }

    /// With the kinds, an enrolled account `healer` that may do everything, and an Action.
    async fn furnished() -> Self {
        let home = Self::bare().await;
        for crd in fother::api::crds() {
            home.apply(&json!(crd)).await;
        }
        for object in rights::enroll(NAMESPACE, &["healer".to_owned()], ("fother", "fother")).unwrap() {
            home.apply(&object).await;
        }
        home.apply(&json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "healer", "namespace": NAMESPACE},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "healer", "namespace": NAMESPACE}],
        }))
        .await;
        home.own(
            "Action",
            "paint",
            json!({"kubernetes": {"annotate": {"values": {"example.com/paint": "red"}}}}),
        )
        .await;
        home
    }

    async fn apply(&self, object: &Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let served = Kinds::default().find(&self.admin, text("/apiVersion"), text("/kind")).await.unwrap();
        let namespace = object.pointer("/metadata/namespace").and_then(Value::as_str);
        let objects = Objects::of(self.admin.clone(), &served, namespace);
        objects.apply(text("/metadata/name"), object).await.unwrap();
    }

    /// Applies one of fother's own objects.
    async fn own(&self, kind: &str, name: &str, spec: Value) {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        self.apply(
            &json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec}),
        )
        .await;
    }

    /// Applies a rule that answers leaking boats; `changes` are merged into its spec.
    async fn rule(&self, name: &str, changes: Value) {
        let mut spec = json!({
            "serviceAccountName": "healer",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}},
            "when": "object.data.hull == 'leaking'",
            "ladder": [{"run": "paint"}],
        });
        json_patch::merge(&mut spec, &changes);
        self.own("Rule", name, spec).await;
    }

    async fn boat(&self, name: &str, hull: &str) {
        let metadata = json!({"name": name, "namespace": NAMESPACE});
        self.apply(
            &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"hull": hull}}),
        )
        .await;
    }

    fn kubeconfig(&self) -> PathBuf {
        let path = self.files.path().join("kubeconfig");
        self.pki.write_kubeconfig(&path, &self.url, "controller", "fother").unwrap();
        path
    }

    fn controller(&self, arguments: &[&str]) -> Controller {
        self.controller_with(|fixed, log| {
            Process::fother(&[fixed, arguments].concat(), &[("FOTHER_LOG", "info")], log)
        })
    }

    /// One that another program starts, which is given the arguments last.
    fn controller_behind(&self, program: &Path, ahead: &[&str]) -> Controller {
        self.controller_with(|fixed, log| {
            Process::start(program, [ahead, fixed].concat(), &[("FOTHER_LOG", "info")], log)
        })
    }

    fn controller_with(&self, start: impl Fn(&[&str], &Path) -> Process) -> Controller {
        let (port, kubeconfig) = (free_port(), self.kubeconfig());
        let listen = format!("127.0.0.1:{port}");
        let fixed = ["controller", "--kubeconfig", kubeconfig.to_str().unwrap(), "--listen", &listen];
        Controller { process: start(&fixed, &self.files.path().join(format!("log-{port}"))), port }
    }

    /// Waits until `of` says something about a rule.
    async fn about<T>(&self, rule: &str, what: &str, of: impl Fn(&Rule) -> Option<T>) -> T {
        let api: Api<Rule> = Api::namespaced(self.admin.clone(), NAMESPACE);
        eventually(what, DEADLINE, async || {
            let rule = api.get(rule).await.map_err(|error| error.to_string())?;
            of(&rule).ok_or_else(|| format!("{:#?}", rule.status))
        })
        .await
    }

    /// Waits until the Ready condition of a rule has a reason, and speaks of its newest text.
    async fn ready(&self, rule: &str, reason: &str) {
        self.about(rule, &format!("{rule} is {reason}"), |rule| {
            let status = rule.status.as_ref()?;
            let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready")?;
            (ready.reason == reason && ready.observed_generation == rule.metadata.generation).then_some(())
        })
        .await;
    }

    /// Waits until an event rule answers what happens: its creation is kept in whole seconds, and it answers from the
    /// next on.
    async fn answers(&self, rule: &str) {
        self.ready(rule, "Active").await;
        self.about(rule, "it is later than the rule", |rule| {
            let created = rule.metadata.creation_timestamp.as_ref()?.0;
            (Timestamp::now().duration_since(created).as_millis() > 2000).then_some(())
        })
        .await;
    }

    /// Waits until a rule has an Execution that has ended.
    async fn execution(&self, rule: &str) -> Execution {
        let api: Api<Execution> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let of_rule = ListParams::default().labels(&format!("fother.dev/rule={rule}"));
        eventually("an Execution that has ended", DEADLINE, async || {
            let found = api.list(&of_rule).await.map_err(|error| error.to_string())?.items;
            found.into_iter().find(Execution::is_finished).ok_or_else(|| "none".to_owned())
        })
        .await
    }

    /// Waits for the only Event of a reason about an object that `is` as it should be.
    async fn event(&self, reason: &str, name: &str, is: impl Fn(&Event) -> bool) -> Event {
        let api: Api<Event> = Api::namespaced(self.admin.clone(), NAMESPACE);
        eventually(&format!("an Event {reason} about {name}"), DEADLINE, async || {
            let found = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            let about = |event: &&Event| {
                event.reason.as_deref() == Some(reason)
                    && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
            };
            let found: Vec<_> = found.iter().filter(about).collect();
            match found.as_slice() {
                [one] if is(one) => Ok((*one).clone()),
                other => Err(format!("{other:#?}")),
            }
        })
        .await
    }
}

impl Controller {
    /// Waits until an answer is as it should be, and returns it.
    async fn says(&self, path: &str, is: impl Fn(&Answer) -> bool) -> Answer {
        eventually(path, DEADLINE, async || match get(self.port, path).await {
            Ok(answer) if is(&answer) => Ok(answer),
            Ok(answer) => Err(format!("{answer:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await
    }

    async fn leads(&self) {
        self.says("/readyz", |answer| answer.code == 200 && answer.body == "leading").await;
    }
}

/// What came back over HTTP.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

async fn get(port: u16, path: &str) -> std::io::Result<Answer> {
    let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
    connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    Ok(Answer { code, head: head.to_owned(), body: body.to_owned() })
}
