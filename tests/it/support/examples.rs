//! The example packs and their incidents, wherever there is a cluster with fother in it: with the rights in their
//! `rbac.yaml` and no others, in namespaces that enforce the restricted Pod security standard.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use fother::api::{AttemptState, Execution, Rule};
use fother::decide::pack::{self, Object, Source, Surroundings};
use fother::expr::Schemas;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use super::followed::Followed;
use super::kubectl::Kubectl;
use super::wait::eventually;

/// Where the examples play.
pub struct Stage {
    pub kubectl: Kubectl,
    pub client: Client,
    /// The folder of the claim `cache` in the namespace `shop`, once it is bound.
    pub cache: PathBuf,
    /// Where this machine has an address that the controller reaches: then packs come from a git repository there.
    pub host: Option<IpAddr>,
    /// How long an incident may take, with three restarts, two remedies and their verification.
    pub patience: Duration,
}

pub fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(name)
}

impl Stage {
    async fn set_up(&self, pack: &str, file: &str) {
        let path = folder("setup").join(pack).join(file);
        self.kubectl.run(&["create", "-f", path.to_str().unwrap()]).await;
    }

    /// Has a Pack follow the pack in git; or puts its objects into its namespace, as a sync does. Its Rules are changed
    /// by `tune`.
    async fn install(&self, pack: &'static str, namespace: &'static str, tune: fn(&mut Rule)) {
        if let Some(host) = self.host {
            Followed::new(&self.kubectl, host, (pack, namespace), tune).await;
            return;
        }
        for manifest in manifests(pack, tune) {
            self.create(namespace, &manifest.to_string()).await;
        }
    }

    async fn create(&self, namespace: &str, manifest: &str) {
        let answer = self.kubectl.try_run(&["create", "-n", namespace, "-f", "-"], manifest).await;
        assert!(answer.code == 0, "{answer:?}\n{manifest}");
    }

    /// The only Execution of a namespace, once it has ended well.
    async fn healed(&self, namespace: &str) -> Execution {
        let executions = Api::<Execution>::namespaced(self.client.clone(), namespace);
        let found = eventually(&format!("{namespace} is healed"), self.patience, || async {
            let found =
                executions.list(&ListParams::default()).await.map_err(|error| error.to_string())?.items;
            match found.iter().find(|execution| execution.is_finished()) {
                Some(ended) => Ok(ended.clone()),
                None => Err(self.said(namespace, &found).await),
            }
        })
        .await;
        assert_eq!(found.reason(), Some("TargetRecovered"), "{:#?}", found.status);
        found
    }

    /// What there is to see of a namespace in which nothing has ended yet.
    async fn said(&self, namespace: &str, executions: &[Execution]) -> String {
        let rules =
            Api::<Rule>::namespaced(self.client.clone(), namespace).list(&ListParams::default()).await;
        let conditions: Vec<_> =
            rules.into_iter().flatten().filter_map(|rule| Some(json!(rule.status?.conditions))).collect();
        let statuses: Vec<_> = executions.iter().map(|execution| json!(execution.status)).collect();
        json!({"rules": conditions, "executions": statuses}).to_string()
    }

    async fn evidence(&self, execution: &Execution) -> ConfigMap {
        let rung = &execution.status.as_ref().unwrap().rungs[0];
        assert_eq!(
            (rung.run.as_str(), rung.state),
            ("collect-evidence", AttemptState::Succeeded),
            "{rung:?}"
        );
        let name = rung.outputs.0["configMap"].as_str().unwrap();
        let namespace = execution.namespace().unwrap();
        let saved = Api::<ConfigMap>::namespaced(self.client.clone(), &namespace).get(name).await.unwrap();
        let unread = |text: &&String| text.contains("not readable");
        assert_eq!(
            saved.data.iter().flatten().map(|(_, text)| text).find(unread),
            None,
            "a right is missing"
        );
        saved
    }
}

/// What a sync of a pack puts into its namespace, its Rules changed by `tune`.
pub fn manifests(pack: &str, tune: fn(&mut Rule)) -> Vec<Value> {
    let files = files(&folder(pack));
    let sources: Vec<_> =
        files.iter().map(|(path, content)| Source { path, content: content.as_bytes() }).collect();
    let mut objects = pack::read(&sources, &Surroundings::default()).check(&Schemas::built_in()).objects;
    let scripts = pack::resolve_scripts(&mut objects, &sources);
    let objects = objects.into_iter().map(|written| match written.object {
        Object::Action(action) => json!(action),
        Object::Webhook(webhook) => json!(webhook),
        Object::Rule(mut rule) => {
            tune(&mut rule);
            json!(rule)
        }
    });
    scripts.values().map(|script| json!(script)).chain(objects).collect()
}

fn files(folder: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for below in ["rules", "actions", "scripts"] {
        for entry in std::fs::read_dir(folder.join(below)).into_iter().flatten() {
            let entry = entry.unwrap();
            let name = format!("{below}/{}", entry.file_name().to_str().unwrap());
            found.push((name, std::fs::read_to_string(entry.path()).unwrap()));
        }
    }
    found
}

/// Rungs of an Execution, by name.
fn climbed(execution: &Execution) -> Vec<String> {
    execution.status.iter().flat_map(|status| &status.rungs).map(|rung| rung.run.clone()).collect()
}

pub async fn corrupted_cache(stage: &Stage) {
    stage.set_up("corrupted-cache", "rbac.yaml").await;
    stage.install("corrupted-cache", "shop", |_| {}).await;
    stage.set_up("corrupted-cache", "workload.yaml").await;
    let available = ["-n", "shop", "wait", "deploy/shop", "--for=condition=Available", "--timeout=60s"];
    stage.kubectl.run(&available).await;
    stage.set_up("corrupted-cache", "break.yaml").await;
    let execution = stage.healed("shop").await;
    assert_eq!(climbed(&execution), ["collect-evidence", "clean-cache"]);
    assert_eq!(execution.status.as_ref().unwrap().rungs[1].outputs.to_value(), json!({"freedBytes": 10}));
    let index = std::fs::read_to_string(stage.cache.join("index")).unwrap();
    assert!(index.starts_with("ok "), "{index}");
    let evidence = stage.evidence(&execution).await.data.unwrap();
    let complaint = "cache index is corrupted: #garbage#";
    assert!(evidence.values().any(|log| log.lines().any(|line| line == complaint)), "{evidence:#?}");
}

pub async fn crash_loop(stage: &Stage) {
    stage.set_up("crash-loop", "rbac.yaml").await;
    // As it is, it takes ten minutes, of which seven are these two: they say how long people are patient, and nothing that
    // a kubelet does depends on them.
    let quicker = |rule: &mut Rule| {
        rule.spec.hold_for = Some("3s".parse().unwrap());
        rule.spec.ladder[1].verify.as_mut().unwrap().stable_for = "3s".parse().unwrap();
    };
    stage.install("crash-loop", "web", quicker).await;
    stage.set_up("crash-loop", "workload.yaml").await;
    let execution = stage.healed("web").await;
    assert_eq!(climbed(&execution), ["collect-evidence", "restart-workload"]);
    stage.evidence(&execution).await;
}

pub async fn oom_job(stage: &Stage) {
    stage.set_up("oom-job", "rbac.yaml").await;
    stage.install("oom-job", "reports", |_| {}).await;
    stage.set_up("oom-job", "workload.yaml").await;
    let execution = stage.healed("reports").await;
    assert_eq!(climbed(&execution), ["collect-evidence", "raise-memory"]);
    stage.evidence(&execution).await;
    let job = Api::<Job>::namespaced(stage.client.clone(), "reports").get("report").await.unwrap();
    let container = &job.spec.unwrap().template.spec.unwrap().containers[0];
    let limits = container.resources.as_ref().unwrap().limits.as_ref().unwrap();
    assert_eq!(limits["memory"].0, "128Mi");
}
