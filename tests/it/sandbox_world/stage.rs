//! An API server with a namespace and a node of the scenario's own.

use std::fmt::Debug;
use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;

use fother::cluster::rights;
use fother::sandbox::apiserver::{ApiServer, User};
use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use fother::sandbox::pki::Pki;
use fother::sandbox::world::{World, WorldOptions};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource};
use parking_lot::Mutex;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::access::Access;
use crate::support::audit::AuditLog;
use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Kubectl;
use crate::support::wait::{DEADLINE, eventually};

/// Where a scenario plays.
pub struct Stage {
    pub client: Client,
    pub namespace: String,
    place: Place,
    /// Who may do everything.
    admin: Access,
    kubectl: Kubectl,
    root: TempDir,
    token: CancellationToken,
    _guard: DropGuard,
    running: Mutex<Option<(CancellationToken, JoinHandle<std::io::Result<()>>)>>,
}

/// The API server.
enum Place {
    Real(&'static ControlPlane),
    Memory(ApiServer),
}

/// The controllers of the controller manager whose part the make-believe ones play.
const PLAYED: [&str; 5] = [
    "deployment-controller",
    "job-controller",
    "replicaset-controller",
    "statefulset-controller",
    "ttl-after-finished-controller",
];

impl Stage {
    /// On the real control plane, with a node that sees only this scenario's namespace.
    pub async fn real(name: &str) -> Option<Self> {
        let plane = ControlPlane::shared().await?;
        Some(Self::on(plane, name).await)
    }

    /// The same on any control plane.
    pub async fn on(plane: &'static ControlPlane, name: &str) -> Self {
        let namespace = plane.namespace(&name.replace('_', "-")).await;
        Self::start(plane, namespace).await
    }

    /// On a real control plane whose own controllers leave the work to the make-believe ones.
    pub async fn world(name: &str) -> Option<Self> {
        static PLANE: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        let plane = PLANE.get_or_init(|| ControlPlane::private_without(&PLAYED)).await.as_ref()?;
        let stage = Self::on(plane, name).await;
        drop(stage.start_world());
        Some(stage)
    }

    /// The real control plane that this is on, for what only those have.
    pub fn plane(&self) -> &'static ControlPlane {
        match &self.place {
            Place::Real(plane) => plane,
            Place::Memory(_) => panic!("there is no real control plane here"),
        }
    }

    /// Who may do everything.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// Installs fother on the in-memory API server, as `fother dev` does; gives the access of its account.
    pub async fn install(&self, home: &str, account: &str) -> Access {
        let Place::Memory(api) = &self.place else { panic!("on a real control plane the chart installs it") };
        let kinds = fother::api::crds().into_iter().map(|crd| json!(crd));
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": home}});
        let rights = rights::installation(home, account).unwrap();
        let all: Vec<_> = kinds.chain([namespace]).chain(rights).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": all});
        self.kubectl.apply(&list.to_string(), &["--server-side"]).await;
        api.add_token(account, User::service_account(home, account));
        self.admin.with_token(account)
    }

    /// Starts the make-believe controllers, once more if they run already.
    pub fn start_world(&self) -> CancellationToken {
        let stop = self.token.child_token();
        let options = WorldOptions { namespace: Some(self.namespace.clone()), ..WorldOptions::default() };
        tokio::spawn(World::new(self.client.clone(), options).run(stop.clone()));
        stop
    }

    /// What the API server was asked.
    pub fn audit(&self) -> Option<AuditLog> {
        match &self.place {
            Place::Real(plane) => plane.audit(),
            Place::Memory(_) => None,
        }
    }

    /// On the in-memory API server, with the make-believe controllers.
    pub async fn memory(_: &str) -> Option<Self> {
        Some(Self::of(ApiServer::new()).await)
    }

    /// The same, where everything is made `age` before it is.
    pub async fn of_old(age: SignedDuration) -> Self {
        let seed = RandomState::new().hash_one(age);
        Self::of(ApiServer::with_seed(Timestamp::now() - age, seed)).await
    }

    async fn of(api: ApiServer) -> Self {
        api.add_token("admin", User::admin());
        let pki = Pki::generate().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("https://{}", listener.local_addr().unwrap());
        let admin = Access::new(&server, &pki.ca_pem, "admin");
        let kubectl = Kubectl::new(&admin);
        let client = api.client(&User::admin());
        let stage = Self::new(Place::Memory(api.clone()), admin, client, kubectl, "default".to_owned());
        tokio::spawn(api.serve(listener, pki.tls, stage.token.clone()));
        drop(stage.start_world());
        stage
    }

    async fn start(plane: &'static ControlPlane, namespace: String) -> Self {
        let admin = plane.admin().clone();
        let client = admin.client().await;
        Self::new(Place::Real(plane), admin, client, plane.kubectl(), namespace)
    }

    fn new(place: Place, admin: Access, client: Client, kubectl: Kubectl, namespace: String) -> Self {
        let root = tempfile::tempdir().unwrap();
        let token = CancellationToken::new();
        let guard = token.clone().drop_guard();
        let running = Mutex::default();
        let stage = Self { place, admin, client, namespace, kubectl, root, token, _guard: guard, running };
        stage.start_node(|options| options);
        stage
    }

    /// Starts the node, or another one of the same name in its place, `with` other options.
    pub fn start_node(&self, with: impl FnOnce(KubeletOptions) -> KubeletOptions) {
        let options = KubeletOptions::new(&self.namespace, self.root.path().to_owned());
        let namespace = Some(self.namespace.clone());
        let options = with(KubeletOptions { namespace, serve_logs: true, ..options });
        let stop = self.token.child_token();
        let kubelet = Kubelet::new(self.client.clone(), options);
        if let Place::Memory(api) = &self.place {
            api.set_log_source(kubelet.logs());
        }
        let running = tokio::spawn(kubelet.run(stop.clone()));
        *self.running.lock() = Some((stop, running));
    }

    /// Stops the node and waits until nothing of it runs.
    pub async fn stop_node(&self) {
        let (stop, running) = self.running.lock().take().expect("a node is running");
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    /// Where the node keeps the claim `name`.
    pub fn claim(&self, name: &str) -> PathBuf {
        self.root.path().join("volumes").join(&self.namespace).join(name)
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates what `object` says.
    pub async fn create<K>(&self, object: Value) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug,
    {
        self.api().create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap()
    }

    /// Waits until `holds` of the object `name`, and returns it.
    pub async fn until<K>(&self, what: &str, name: &str, holds: impl Fn(&K) -> bool) -> K
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug,
    {
        let api = self.api::<K>();
        eventually(what, DEADLINE, || async {
            let object = api.get(name).await.map_err(|error| error.to_string())?;
            if holds(&object) { Ok(object) } else { Err(format!("{object:#?}")) }
        })
        .await
    }

    /// Waits until `holds` of the only pod that `labels` select, and returns it.
    pub async fn one_pod(&self, labels: &str, what: &str, holds: impl Fn(&Pod) -> bool) -> Pod {
        let (api, selected) = (self.api::<Pod>(), ListParams::default().labels(labels));
        eventually(what, DEADLINE, || async {
            let mut pods = api.list(&selected).await.map_err(|error| error.to_string())?.items;
            match pods.pop().filter(|pod| pods.is_empty() && holds(pod)) {
                Some(pod) => Ok(pod),
                None => Err(format!("{pods:#?}")),
            }
        })
        .await
    }

    /// kubectl in the scenario's namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        self.kubectl.run(&[arguments, &["-n", &self.namespace]].concat()).await
    }
}
