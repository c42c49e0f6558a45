//! A real control plane with the chart, namespaces that are enrolled, and what runs beside it as processes.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::time::Duration;

use fother::api::{Action, Execution, Rule};
use fother::cluster::rights;
use futures::{StreamExt as _, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::floor;
use crate::support::access::Access;
use crate::support::control_plane::{ControlPlane, free_port};
use crate::support::helm::Helm;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

/// Where the controller's account and its Lease live.
const HOME: &str = "fother";
/// The controller, as the API server sees it.
pub const USER: &str = "system:serviceaccount:fother:fother";
/// Requests at a time of whoever prepares something.
pub const WAYS: usize = 16;

/// A control plane where fother is installed and no Job gets a Pod: nobody runs them, and what the controller of Jobs
/// would do is not what is measured.
pub struct Harbor {
    pub plane: ControlPlane,
    pub client: Client,
    access: Access,
    files: TempDir,
}

impl Harbor {
    /// None where there is none to be had.
    pub async fn open() -> Option<Self> {
        let plane = ControlPlane::private_with(["*", "-job-controller"].map(str::to_owned).into()).await?;
        Helm::new(plane.admin())?.install(&["--set", "replicas=0"]).await;
        let client = plane.admin().client().await;
        Api::all(client.clone()).create(&PostParams::default(), &floor::definition()).await.unwrap();
        let harbor = Self {
            access: plane.service_account(HOME, "fother").await,
            files: tempfile::tempdir().unwrap(),
            plane,
            client,
        };
        harbor.serves_all_kinds().await;
        Some(harbor)
    }

    async fn serves_all_kinds(&self) {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        eventually("all kinds are served", DEADLINE, || async {
            let found = crds.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let is_served = |crd: &CustomResourceDefinition| {
                let conditions = crd.status.as_ref().and_then(|status| status.conditions.as_ref());
                conditions
                    .is_some_and(|all| all.iter().any(|c| c.type_ == "Established" && c.status == "True"))
            };
            if found.items.iter().all(is_served) { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        // A kind that is served may have to get its cache first.
        for crd in crds.list(&ListParams::default()).await.unwrap() {
            let (group, names) = (crd.spec.group, crd.spec.names);
            let version = &crd.spec.versions[0].name;
            let path = format!("/apis/{group}/{version}/{}?limit=1", names.plural);
            eventually("objects are served", DEADLINE, || async {
                let request = http::Request::get(&path).body(Vec::new()).unwrap();
                self.client.request_text(request).await.map(drop)
            })
            .await;
        }
    }

    /// A namespace that is enrolled, with the account `healer` and the Action `caulk`.
    pub async fn berth(&self, name: &str) -> Berth {
        let namespace = self.plane.namespace(name).await;
        let berth = Berth { client: self.client.clone(), namespace };
        berth.enroll().await;
        berth
    }

    /// A controller that no cap holds back, which leads and has seen everything. A second one takes over from the first
    /// at once, as it has the same identity.
    pub async fn controller(&self) -> Controller {
        let kubeconfig = self.access.write(&self.files.path().join("kubeconfig"));
        let (port, hooks) = (free_port(), SocketAddr::from(([127, 0, 0, 1], free_port())));
        let (listen, receive) = (format!("127.0.0.1:{port}"), hooks.to_string());
        let kubeconfig = kubeconfig.to_str().unwrap();
        let many = "1000000";
        let arguments = [
            ["controller", "--allow-local-git"].as_slice(),
            &["--kubeconfig", kubeconfig, "--namespace", HOME, "--identity", "bench", "--listen", &listen],
            &["--webhook-address", &receive],
            &["--max-per-rule", many, "--max-per-namespace", many, "--max-total", many],
        ]
        .concat();
        // The second as the chart has it.
        let environment = [("FOTHER_LOG", "warn"), ("MALLOC_ARENA_MAX", "1")];
        let process = Process::fother(&arguments, &environment, &self.files.path().join("controller.log"));
        eventually("the controller leads", DEADLINE, || async move {
            let answer = get(port, "/readyz").await?;
            if answer.ends_with("leading") { Ok(()) } else { Err(std::io::Error::other(answer)) }
        })
        .await;
        Controller { process, hooks }
    }

    /// The bare loop over the boats of a namespace.
    pub async fn bare_loop(&self, berth: &Berth) -> Process {
        let kubeconfig = self.plane.admin().write(&self.files.path().join("admin.kubeconfig"));
        let log = self.files.path().join(format!("{}.log", berth.namespace));
        let arguments = [floor::VERB, kubeconfig.to_str().unwrap(), &berth.namespace];
        let process = Process::start(&std::env::current_exe().unwrap(), arguments, &[], &log);
        eventually("the bare loop watches", DEADLINE, || async {
            if process.output().contains(floor::WATCHING) { Ok(()) } else { Err("not yet") }
        })
        .await;
        process
    }
}

/// A running controller.
pub struct Controller {
    process: Process,
    /// Where it receives.
    pub hooks: SocketAddr,
}

impl Controller {
    pub fn id(&self) -> u32 {
        self.process.id()
    }
}

async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let answer = async {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).await?;
        connection.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).await?;
        Ok(answer)
    };
    tokio::time::timeout(Duration::from_secs(5), answer).await?
}

/// One namespace.
#[derive(Clone)]
pub struct Berth {
    pub client: Client,
    pub namespace: String,
}

impl Berth {
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + DeserializeOwned
            + Serialize,
    {
        let object: K = serde_json::from_value(object).unwrap();
        self.api().create(&PostParams::default(), &object).await.unwrap()
    }

    async fn enroll(&self) {
        let bound = |role: Value, subject: Value, name: &str| json!({"metadata": {"name": name}, "roleRef": role, "subjects": [subject]});
        let role = |kind: &str, name: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name});
        let account = |namespace: &str, name: &str| json!({"kind": "ServiceAccount", "namespace": namespace, "name": name});
        let enrolment =
            bound(role("ClusterRole", rights::ENROLMENT_ROLE), account(HOME, "fother"), "enrolment");
        self.create::<RoleBinding>(enrolment).await;
        let annotations = json!({"fother.dev/allow": "true"});
        self.create::<ServiceAccount>(json!({"metadata": {"name": "healer", "annotations": annotations}}))
            .await;
        let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
        self.create::<Role>(json!({"metadata": {"name": "healer"}, "rules": everything})).await;
        let healer = bound(role("Role", "healer"), account(&self.namespace, "healer"), "healer");
        self.create::<RoleBinding>(healer).await;
        self.create::<Action>(json!({
            "metadata": {"name": "caulk"},
            "spec": {"script": {"image": "debian:12-slim", "inline": "exit 0"}},
        }))
        .await;
    }

    /// A rule that has leaking boats caulked.
    pub async fn rule(&self) {
        let spec = json!({
            "serviceAccountName": "healer",
            "mode": "Enforce",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "ConfigMap"}},
            "when": "object.data.hull == 'leaking'",
            "ladder": [{"run": "caulk"}],
        });
        self.create::<Rule>(json!({"metadata": {"name": "leaks"}, "spec": spec})).await;
        self.rules_are_ready(1).await;
    }

    pub async fn rules_are_ready(&self, count: usize) {
        let api = self.api::<Rule>();
        let long = Duration::from_mins(5);
        eventually("the rules are ready", long, || async {
            let found = api.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
            let is_ready = |rule: &&Rule| {
                let status = rule.status.as_ref();
                status.is_some_and(|s| s.conditions.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
            };
            let ready = found.items.iter().filter(is_ready).count();
            if ready >= count { Ok(()) } else { Err(format!("{ready} of {count}")) }
        })
        .await;
    }

    /// Removes what a controller would still work on, when none runs.
    pub async fn leave(&self) {
        let (rules, executions) = (self.api::<Rule>(), self.api::<Execution>());
        rules.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        executions.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
        let left = executions.list(&ListParams::default()).await.unwrap().items;
        stream::iter(left)
            .for_each_concurrent(WAYS, |execution| async move {
                let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                let _ = self
                    .api::<Execution>()
                    .patch(&execution.name_any(), &PatchParams::default(), &free)
                    .await;
            })
            .await;
    }
}
