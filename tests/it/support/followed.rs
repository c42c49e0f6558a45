//! A pack of `examples/` in a git repository, and a Pack that follows it: how a pack gets into a cluster where a
//! controller can reach this machine.

use std::net::IpAddr;
use std::path::Path;

use fother::api::Rule;
use serde_json::{Value, json};

use super::examples::folder;
use super::git_server::{GitServer, Origin};
use super::kubectl::Kubectl;
use super::wait::{DEADLINE, eventually};

/// The Secret by which the repository's server is trusted.
const AUTHORITY: &str = "git";
/// Asks for a sync before the interval has passed.
const RECONCILE: &str = "fother.dev/reconcile-requested-at";

/// A pack in git that a Pack follows.
pub struct Followed {
    origin: Origin,
    pack: &'static str,
    namespace: &'static str,
}

impl Followed {
    /// Pushes a pack as it is, but for its Rules, which `tune` changes, to a server at an address of this machine; applies
    /// the pack's own `pack.yaml`, with the URL changed; and waits until its commit is applied.
    pub async fn new(
        kubectl: &Kubectl,
        host: IpAddr,
        (pack, namespace): (&'static str, &'static str),
        tune: impl Fn(&mut Rule),
    ) -> Self {
        let git = GitServer::start_at(host, &host.to_string()).await;
        let followed = Self { origin: git.create(pack).await, pack, namespace };
        let commit = followed.push(tune).await;
        for object in trust(&git, namespace) {
            kubectl.apply(&object.to_string(), &[]).await;
        }
        let text = std::fs::read_to_string(folder("setup").join(pack).join("pack.yaml")).unwrap();
        let mut object: Value = serde_saphyr::from_str(&text).unwrap();
        object["spec"]["url"] = git.url(pack).into();
        object["spec"]["secretRef"] = json!({"name": AUTHORITY});
        kubectl.apply(&object.to_string(), &[]).await;
        followed.applied(kubectl, &commit).await;
        followed
    }

    /// Pushes the Rules as `tune` changes them now, and waits until they are applied.
    pub async fn retune(&self, kubectl: &Kubectl, tune: impl Fn(&mut Rule)) {
        let commit = self.push(tune).await;
        let (named, asks) = (format!("pack/{}", self.pack), format!("{RECONCILE}={commit}"));
        kubectl.run(&["-n", self.namespace, "annotate", &named, &asks]).await;
        self.applied(kubectl, &commit).await;
    }

    async fn push(&self, tune: impl Fn(&mut Rule)) -> String {
        let files = files(self.pack, &tune);
        let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
        self.origin.push(&files).await
    }

    async fn applied(&self, kubectl: &Kubectl, commit: &str) {
        let named = format!("pack/{}", self.pack);
        eventually(&format!("{named} is at {commit}"), DEADLINE, || async {
            let status = ["-n", self.namespace, "get", &named, "-o", "jsonpath={.status}"];
            let status = kubectl.run(&status).await;
            let parsed: Value = serde_json::from_str(&status).unwrap_or_default();
            let is_applied = parsed["appliedRevision"].as_str().is_some_and(|at| at.ends_with(commit));
            if is_applied { Ok(()) } else { Err(status) }
        })
        .await;
    }
}

/// All files of a pack, below the folder that its `pack.yaml` names.
fn files(pack: &str, tune: &impl Fn(&mut Rule)) -> Vec<(String, String)> {
    let (root, mut found) = (folder(pack), Vec::new());
    add(&root, &root, &mut found);
    found
        .into_iter()
        .map(|(path, content)| {
            let content = if path.starts_with("rules/") { tuned(&content, tune) } else { content };
            (format!("{pack}/{path}"), content)
        })
        .collect()
}

fn add(root: &Path, folder: &Path, found: &mut Vec<(String, String)>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            add(root, &path, found);
        } else {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            found.push((name, std::fs::read_to_string(path).unwrap()));
        }
    }
}

/// A file of objects, as it is where `tune` changes nothing in it.
fn tuned(content: &str, tune: &impl Fn(&mut Rule)) -> String {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(content).unwrap();
    let mut is_changed = false;
    for object in objects.iter_mut().filter(|object| object["kind"] == "Rule") {
        let as_written: Rule = serde_json::from_value(object.clone()).unwrap();
        let mut rule = as_written.clone();
        tune(&mut rule);
        if json!(rule.spec) != json!(as_written.spec) {
            (object["spec"], is_changed) = (json!(rule.spec), true);
        }
    }
    if !is_changed {
        return content.to_owned();
    }
    objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")
}

/// What a repository takes whose server has an authority of its own: the authority, and that the Pack's account may
/// read it.
fn trust(git: &GitServer, namespace: &str) -> [Value; 3] {
    let (rbac, metadata) =
        ("rbac.authorization.k8s.io", json!({"name": "git-authority", "namespace": namespace}));
    let version = format!("{rbac}/v1");
    [
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": AUTHORITY, "namespace": namespace},
            "stringData": {"ca.crt": git.ca_pem()}}),
        json!({"apiVersion": version, "kind": "Role", "metadata": metadata, "rules": [
            {"apiGroups": [""], "resources": ["secrets"], "resourceNames": [AUTHORITY], "verbs": ["get"]}]}),
        json!({"apiVersion": version, "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "Role", "name": "git-authority"},
            "subjects": [{"kind": "ServiceAccount", "name": "packs", "namespace": namespace}]}),
    ]
}
