//! A whole cluster on one real node: `tests/cluster`, for as long as this process lives. Needs root.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use kube::api::ListParams;

use super::access::Access;
use super::control_plane::{built, skip};
use super::kubectl::Kubectl;

/// What has to be installed; the rest is built.
const INSTALLED: [&str; 4] = ["containerd", "runc", "/usr/lib/cni/bridge", "curl"];
const BUILT: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];

/// A running cluster.
pub struct Node {
    directory: PathBuf,
    admin: Access,
    /// Closed when this process ends, however it ends: then the cluster goes.
    _lifeline: Option<ChildStdin>,
}

impl Node {
    /// Starts one; its name is its own among those of this process. None where it cannot be had, which is an error under
    /// `CI=true`.
    pub fn start(name: &str) -> Option<Self> {
        available()?;
        let directory = std::env::temp_dir().join(format!("fother-{name}-{}", std::process::id()));
        let mut up =
            cluster("up", &directory).arg("--while-stdin-is-open").stdin(Stdio::piped()).spawn().unwrap();
        let lifeline = up.stdin.take();
        finished(up);
        let admin = Access::from_file(&directory.join("kubeconfig"));
        Some(Self { directory, admin, _lifeline: lifeline })
    }

    /// Who may do everything.
    pub fn admin(&self) -> &Access {
        &self.admin
    }

    pub fn kubectl(&self) -> Kubectl {
        Kubectl::new(&self.admin)
    }

    /// Gives it fother's image, made of `program`.
    pub fn load(&self, image: &str, program: &Path) {
        finished(cluster("load", &self.directory).arg(image).arg(program).spawn().unwrap());
    }

    /// This machine's address as pods see it.
    pub async fn host(&self) -> IpAddr {
        let nodes = kube::Api::<k8s_openapi::api::core::v1::Node>::all(self.admin.client().await);
        // Tests make up nodes, which have no address.
        let found = nodes.list(&ListParams::default()).await.unwrap().items;
        let mut addresses = found.into_iter().filter_map(|node| node.status?.addresses).flatten();
        addresses.find(|address| address.type_ == "InternalIP").unwrap().address.parse().unwrap()
    }

    /// The folder of a persistent volume.
    pub fn volume(&self, name: &str) -> PathBuf {
        self.directory.join("volumes").join(name)
    }
}

/// Where the parts of a cluster are, if this machine can have one.
pub fn available() -> Option<PathBuf> {
    if !rustix::process::geteuid().is_root() {
        skip("the real node needs root");
        return None;
    }
    let in_path = |program: &str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
    };
    if let Some(missing) = INSTALLED.iter().find(|program| !in_path(program)) {
        skip(&format!("the real node needs {missing}: scripts/prerequisites.sh node --install"));
        return None;
    }
    built(&BUILT)
}

/// A call of tests/cluster, which is built where that is not done yet.
pub fn cluster(verb: &str, directory: &Path) -> Command {
    let mut command = Command::new(program());
    command.arg(verb).arg("--directory").arg(directory);
    command
}

fn program() -> PathBuf {
    let mut build = Command::new(env!("CARGO"));
    build
        .args(["build", "--locked", "--quiet", "--example", "cluster"])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    unlike_a_test(&mut build);
    finished(build.spawn().unwrap());
    Path::new(env!("CARGO_BIN_EXE_fother")).with_file_name("examples").join("cluster")
}

/// Takes from a call of cargo what cargo tells of the package whose tests it runs. Scripts that build dependencies go by it, so
/// that they, and all that is above them, would be built anew: now, and again when somebody builds who is no test.
pub fn unlike_a_test(command: &mut Command) {
    const TOLD: [&str; 4] = ["CARGO_MANIFEST_", "CARGO_PKG_", "CARGO_BIN_", "CARGO_CRATE_"];
    let told = |name: &str| TOLD.iter().any(|prefix| name.starts_with(prefix));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(told) {
            command.env_remove(name);
        }
    }
}

fn finished(mut call: Child) {
    let status = call.wait().unwrap();
    assert!(status.success(), "tests/cluster: {status}");
}
