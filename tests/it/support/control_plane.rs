//! A real control plane on loopback: etcd, kube-apiserver and kube-controller-manager as child processes.
//!
//! One is shared by all tests of the binary, each in its own namespace; a test that restarts or breaks things
//! starts a private one. `FOTHER_TEST_KUBECONFIG` names a cluster to share instead.

use std::fmt::Write as _;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::anyhow;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use kube::api::{Api, PostParams};
use rcgen::KeyPair;
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::{Mutex, OnceCell};

use super::access::Access;
use super::audit::AuditLog;
use super::kubectl::Kubectl;
use super::pki::Authority;
use super::process::Process;
use super::wait::{DEADLINE, eventually};

/// The kubeconfig of a cluster that tests share instead of starting one.
const EXTERNAL: &str = "FOTHER_TEST_KUBECONFIG";
const PARTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-controller-manager", "kubectl"];
/// The controllers that somebody has to do with on a control plane without nodes. Each of the others has an account, watches of
/// its own and requests to make, and one finds again and again that nobody has a volume for the claims.
const OF_USE: [&str; 20] = [
    "clusterrole-aggregation",
    "cronjob",
    "daemonset",
    "deployment",
    "disruption",
    "garbage-collector",
    "job",
    "namespace",
    "node-lifecycle",
    "persistentvolumeclaim-protection",
    "pod-garbage-collector",
    "replicaset",
    "resourcequota",
    "root-ca-certificate-publisher",
    "serviceaccount",
    "serviceaccount-token",
    "statefulset",
    "taint-eviction",
    "ttl-after-finished",
    "validatingadmissionpolicy-status",
];
/// Exit code of tests/cluster/build.sh where there is no Go.
const NO_GO: i32 = 3;
/// A free port can be taken by another process before the part that was given it listens.
const ATTEMPTS: usize = 3;

const ADMIN_TOKEN: &str = "admin-of-a-test-cluster";
const CONTROLLER_MANAGER_TOKEN: &str = "controller-manager-of-a-test-cluster";

/// An API server with its storage and controllers, and who may do everything there.
pub struct ControlPlane {
    admin: Access,
    own: Option<Own>,
}

/// What is running when the cluster is ours.
struct Own {
    etcd: Restartable,
    api_server: Restartable,
    etcd_url: String,
    _controller_manager: Process,
    /// Goes last: when a test fails, its processes show the logs that are in there.
    files: Files,
}

/// A part that can be started again as it was.
struct Restartable {
    name: &'static str,
    flags: Vec<String>,
    running: Mutex<Process>,
}

/// The parts that can be restarted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    Etcd,
    ApiServer,
}

#[derive(Clone, Copy)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    api_server: u16,
}

/// What a control plane has beyond the ordinary one, or has not.
#[derive(Default)]
pub struct Variant {
    /// The controllers that run; otherwise all that do by default.
    pub controllers: Vec<String>,
    /// Addresses and names in the API server's certificate, besides loopback.
    pub names: Vec<String>,
    /// Further users: token, name, and group.
    pub users: Vec<[String; 3]>,
    /// The API server's port on loopback; otherwise any that is free.
    pub port: Option<u16>,
    /// Flags of the API server; one that it would have anyway is replaced.
    pub api_server: Vec<String>,
    /// Where its directory is made; otherwise where the next run removes what this one left.
    pub parent: Option<PathBuf>,
}

/// The directory of one control plane; it goes with the control plane.
struct Files {
    directory: TempDir,
    programs: PathBuf,
}

impl ControlPlane {
    /// The control plane that all tests share. None where it cannot be had, which is an error under `CI=true`.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        SHARED
            .get_or_init(|| async {
                match std::env::var_os(EXTERNAL) {
                    Some(path) => Some(Self { admin: Access::from_file(Path::new(&path)), own: None }),
                    None => Self::private().await,
                }
            })
            .await
            .as_ref()
    }

    /// One for tests that compare everything an API server has: nobody else makes kinds, nodes or controllers there.
    pub async fn quiet() -> Option<&'static Self> {
        static QUIET: OnceCell<Option<ControlPlane>> = OnceCell::const_new();
        QUIET.get_or_init(Self::private).await.as_ref()
    }

    /// A control plane for one test, to be broken at will.
    pub async fn private() -> Option<Self> {
        Self::private_without(&[]).await
    }

    /// The same without some of the controllers, whose part the test plays.
    pub async fn private_without(controllers: &[&str]) -> Option<Self> {
        let of_use = OF_USE.iter().map(|name| format!("{name}-controller"));
        Self::private_with(of_use.filter(|name| !controllers.contains(&name.as_str())).collect()).await
    }

    /// The same with exactly these controllers, as the controller manager takes them: `*`, `-job-controller`.
    pub async fn private_with(controllers: Vec<String>) -> Option<Self> {
        let variant = Variant { controllers, ..Variant::default() };
        Some(Self::variant(&built(&PARTS)?, &Authority::new("test cluster"), &variant).await)
    }

    /// One whose parts are in `programs` and whose certificates `authority` signs.
    pub async fn variant(programs: &Path, authority: &Authority, variant: &Variant) -> Self {
        for attempt in 1..ATTEMPTS {
            match Self::start(programs, authority, variant).await {
                Ok(plane) => return plane,
                Err(error) => eprintln!("control plane, attempt {attempt}: {error:#}"),
            }
        }
        Self::start(programs, authority, variant)
            .await
            .unwrap_or_else(|error| panic!("failed to start a control plane: {error:#}"))
    }

    async fn start(programs: &Path, authority: &Authority, variant: &Variant) -> anyhow::Result<Self> {
        let files = Files::new(programs, variant);
        let ports = Ports {
            etcd: free_port(),
            etcd_peer: free_port(),
            api_server: variant.port.unwrap_or_else(free_port),
        };
        files.write_credentials(authority, variant);
        let server = format!("https://127.0.0.1:{}", ports.api_server);
        let admin = Access::new(&server, &authority.pem, ADMIN_TOKEN);
        let manager = Access::new(&server, &authority.pem, CONTROLLER_MANAGER_TOKEN);
        manager.write(&files.path("controller-manager.kubeconfig"));

        let etcd = files.restartable("etcd", etcd_flags(&files, ports));
        let flags = replaced(api_server_flags(&files, ports), &variant.api_server);
        let api_server = files.restartable("kube-apiserver", flags);
        wait_until_serving(&admin, &mut *api_server.running.lock().await).await?;
        let controller_manager =
            files.start("kube-controller-manager", &controller_manager_flags(&files, &variant.controllers));
        let etcd_url = etcd_url(ports.etcd);
        let own = Own { files, etcd, api_server, etcd_url, _controller_manager: controller_manager };
        let plane = Self { admin, own: Some(own) };
        plane.wait_for_controllers("default").await;
        Ok(plane)
    }

    /// Who may do everything.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    /// kubectl as the administrator; [`Kubectl::with`] is the same for somebody else.
    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.admin)
    }

    /// What the API server was asked; None where the cluster is not ours, and a test that counts is skipped.
    pub fn audit(&self) -> Option<AuditLog> {
        let Some(own) = &self.own else {
            skip("the audit log of the given cluster cannot be read");
            return None;
        };
        Some(AuditLog::new(own.files.path("audit.log"), self.admin.clone()))
    }

    /// Makes the storage forget the versions from before the controllers began, which a cluster that lives longer has
    /// forgotten by itself. Nobody holds one of those.
    pub async fn compact(&self) {
        let Some(own) = &self.own else { return };
        let client = kube::Client::try_from(kube::Config::new(own.etcd_url.parse().unwrap())).unwrap();
        let body = json!({"revision": "20"}).to_string().into_bytes();
        let request = http::Request::post("/v3/kv/compaction").body(body).unwrap();
        let answer = client.request_text(request).await;
        // Another test may have been here.
        let is_done = answer.as_ref().map_or_else(|error| error.to_string().contains("compacted"), |_| true);
        assert!(is_done, "{answer:?}");
    }

    /// A new namespace, named after its test, with what the controllers put into each: pods need it.
    pub async fn namespace(&self, test: &str) -> String {
        let namespace: Namespace = serde_json::from_value(json!({
            "metadata": {"generateName": format!("{test}-"), "labels": {"fother.dev/test": "true"}},
        }))
        .unwrap();
        let api = Api::<Namespace>::all(self.admin.client().await);
        let name = api.create(&PostParams::default(), &namespace).await.unwrap().metadata.name.unwrap();
        self.wait_for_controllers(&name).await;
        name
    }

    /// Access as a ServiceAccount, made where it is missing, by a token of its own.
    pub async fn service_account(&self, namespace: &str, name: &str) -> Access {
        use k8s_openapi::api::authentication::v1::TokenRequest;
        let api = Api::<ServiceAccount>::namespaced(self.admin.client().await, namespace);
        if api.get_opt(name).await.unwrap().is_none() {
            let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            api.create(&PostParams::default(), &account).await.unwrap();
        }
        let request: TokenRequest =
            serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": []}})).unwrap();
        let issued = api.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        self.admin.with_token(&issued.status.unwrap().token)
    }

    /// Restarts `parts` on the same ports and the same storage, as a crash would: all are gone before the first comes back.
    ///
    /// For whoever is alone on a control plane that the tests started.
    pub async fn restart(&self, parts: &[Part]) {
        let own = self.own.as_ref().expect("only a control plane that the tests started can be restarted");
        // etcd first: an API server without it gives up.
        let parts = [(Part::Etcd, &own.etcd), (Part::ApiServer, &own.api_server)]
            .into_iter()
            .filter(|(part, _)| parts.contains(part));
        for (_, part) in parts.clone() {
            part.running.lock().await.kill();
        }
        for (_, part) in parts {
            *part.running.lock().await = own.files.start(part.name, &part.flags);
        }
        wait_until_serving(&self.admin, &mut *own.api_server.running.lock().await).await.unwrap();
    }

    /// The controllers have been there once `namespace` has what two of them put into each.
    async fn wait_for_controllers(&self, namespace: &str) {
        let client = self.admin.client().await;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
        let roots = Api::<ConfigMap>::namespaced(client, namespace);
        eventually("the controller manager serves the namespace", DEADLINE, || async {
            accounts.get("default").await?;
            roots.get("kube-root-ca.crt").await.map(|_| ())
        })
        .await;
    }
}

impl Files {
    fn new(programs: &Path, variant: &Variant) -> Self {
        let directory = match &variant.parent {
            Some(parent) => TempDir::with_prefix_in("control-plane-", parent).unwrap(),
            None => lasting_directory(),
        };
        Self { directory, programs: programs.to_owned() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self, part: &str, flags: &[String]) -> Process {
        Process::start(&self.programs.join(part), flags, &[], &self.path(&format!("{part}.log")))
    }

    fn restartable(&self, name: &'static str, flags: Vec<String>) -> Restartable {
        let running = Mutex::new(self.start(name, &flags));
        Restartable { name, flags, running }
    }

    fn write_credentials(&self, authority: &Authority, variant: &Variant) {
        let serving = authority.serving(&variant.names);
        let account_key = KeyPair::generate().unwrap();
        let mut tokens = format!(
            "{ADMIN_TOKEN},admin,admin,system:masters\n\
             {CONTROLLER_MANAGER_TOKEN},system:kube-controller-manager,controller-manager\n"
        );
        for [token, name, group] in &variant.users {
            let _ = writeln!(tokens, "{token},{name},{name},{group}");
        }
        // One stage a request, and for a watch also its start, which may be all that is seen of it.
        let policy = json!({
            "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
            "rules": [{"level": "Metadata"}],
        });
        for (name, content) in [
            ("ca.crt", authority.pem.clone()),
            ("serving.crt", serving.certificate),
            ("serving.key", serving.key),
            ("accounts.key", account_key.serialize_pem()),
            ("accounts.pub", account_key.public_key_pem()),
            ("tokens.csv", tokens),
            ("audit-policy.json", policy.to_string()),
        ] {
            std::fs::write(self.path(name), content).unwrap();
        }
    }
}

/// The directory of built parts of a cluster, building what is missing.
pub fn built(parts: &[&str]) -> Option<PathBuf> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cluster/build.sh");
    let output = Command::new(script).args(parts).stderr(Stdio::inherit()).output().unwrap();
    if output.status.success() {
        return Some(PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    }
    assert!(output.status.code() == Some(NO_GO), "tests/cluster/build.sh failed: {}", output.status);
    skip(&format!("{} not built and there is no Go to build it", parts.join(", ")));
    None
}

/// Says loudly that a layer is skipped; under `CI=true` that is a failure.
pub fn skip(reason: &str) {
    use std::io::Write as _;
    assert!(std::env::var("CI").as_deref() != Ok("true"), "skipped under CI: {reason}");
    // Past the capture of a passing test's output: nobody should believe that this layer passed.
    let _ = writeln!(std::io::stderr(), "\n*** SKIPPED: {reason} ***");
}

/// A directory that may outlive the run, which drops nothing that its tests share; the next run removes it.
pub fn lasting_directory() -> TempDir {
    // Only tests are told.
    let parent = option_env!("CARGO_TARGET_TMPDIR").map_or_else(std::env::temp_dir, PathBuf::from);
    remove_leftovers(&parent);
    let prefix = format!("cluster-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent).unwrap()
}

/// Directories of runs that were killed before they could clean up.
fn remove_leftovers(parent: &Path) {
    for entry in std::fs::read_dir(parent).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix("cluster-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            // Another run may be removing it too.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A port that nobody listens on, and that nobody else is given: below those that the system hands out for connections,
/// one of which could take it before, or between two lives of, whoever is to listen there.
pub fn free_port() -> u16 {
    const FIRST: u32 = 20_000;
    const COUNT: u32 = 12_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Not by its id: in a PID namespace of its own every process is the first.
    static BEGIN: LazyLock<u64> = LazyLock::new(|| RandomState::new().build_hasher().finish());
    let begin = u32::try_from(*BEGIN % u64::from(COUNT)).unwrap();
    loop {
        let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + number % COUNT).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// An error where the API server ended instead: it may be worth another attempt.
async fn wait_until_serving(admin: &Access, api_server: &mut Process) -> anyhow::Result<()> {
    let client = admin.client().await;
    eventually("kube-apiserver is ready", DEADLINE, || {
        let ended = api_server
            .exit_status()
            .map(|status| anyhow!("kube-apiserver: {status}\n{}", api_server.output()));
        let client = client.clone();
        async move {
            match ended {
                Some(error) => Ok(Err(error)),
                None => client
                    .request_text(http::Request::get("/readyz").body(Vec::new()).unwrap())
                    .await
                    .map(|_| Ok(())),
            }
        }
    })
    .await
}

fn etcd_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn etcd_flags(files: &Files, ports: Ports) -> Vec<String> {
    let client = etcd_url(ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        format!("--data-dir={}", files.path("etcd").display()),
        format!("--listen-client-urls={client}"),
        format!("--advertise-client-urls={client}"),
        format!("--listen-peer-urls={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
        format!("--initial-cluster=default={peer}"),
        "--unsafe-no-fsync".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

fn api_server_flags(files: &Files, ports: Ports) -> Vec<String> {
    let file = |flag: &str, name: &str| format!("--{flag}={}", files.path(name).display());
    vec![
        format!("--etcd-servers={}", etcd_url(ports.etcd)),
        format!("--secure-port={}", ports.api_server),
        "--bind-address=127.0.0.1".to_owned(),
        // Nothing here is reached through the `kubernetes` Service, and loopback may not be an endpoint.
        "--endpoint-reconciler-type=none".to_owned(),
        "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        "--authorization-mode=RBAC".to_owned(),
        "--allow-privileged=true".to_owned(),
        "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
        file("service-account-key-file", "accounts.pub"),
        file("service-account-signing-key-file", "accounts.key"),
        file("tls-cert-file", "serving.crt"),
        file("tls-private-key-file", "serving.key"),
        file("cert-dir", "certificates"),
        file("token-auth-file", "tokens.csv"),
        file("audit-policy-file", "audit-policy.json"),
        file("audit-log-path", "audit.log"),
    ]
}

/// `flags` with those of `others` in the place of their namesakes.
fn replaced(mut flags: Vec<String>, others: &[String]) -> Vec<String> {
    let name = |flag: &str| flag.split('=').next().unwrap_or_default().to_owned();
    flags.retain(|flag| others.iter().all(|other| name(other) != name(flag)));
    flags.extend_from_slice(others);
    flags
}

fn controller_manager_flags(files: &Files, controllers: &[String]) -> Vec<String> {
    let controllers = if controllers.is_empty() { "*".to_owned() } else { controllers.join(",") };
    let file = |flag: &str, name: &str| format!("--{flag}={}", files.path(name).display());
    vec![
        file("kubeconfig", "controller-manager.kubeconfig"),
        file("root-ca-file", "ca.crt"),
        file("service-account-private-key-file", "accounts.key"),
        // It makes the folder, which would be in /usr otherwise.
        file("flex-volume-plugin-dir", "volume-plugins"),
        // As a real cluster does it: each controller acts under its own name.
        "--use-service-account-credentials=true".to_owned(),
        format!("--controllers={controllers}"),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ]
}
