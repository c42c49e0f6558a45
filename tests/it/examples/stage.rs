//! A pack in its namespace, and everything that it needs around it.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use fother::api::{ConditionType, HeldTarget, Rule, condition};
use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use fother::sandbox::world::{World, WorldOptions};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::real_node::harbor::Harbor;
use crate::support::examples::{folder, manifests};
use crate::support::followed::Followed;
use crate::support::http::{self, Answer};
use crate::support::wait::{DEADLINE, eventually};
use crate::webhooks::stage::{Running, Scene, TOKEN, notification};

/// Where packs are played.
pub enum Place {
    /// On an in-memory API server of its own each, with make-believe controllers.
    Memory,
    /// On a real control plane where the chart is installed, as who may do everything there and as fother's account.
    Real(Client, Client),
    /// On a real node, where fother is installed, and follows packs in git.
    Node(&'static Harbor),
}

impl Place {
    async fn scene(&self, namespace: &'static str) -> Scene {
        match self {
            Self::Memory => Scene::bare(namespace).await,
            Self::Real(admin, fother) => Scene::prepared((admin.clone(), fother.clone()), namespace),
            Self::Node(harbor) => {
                let admin = harbor.client().await;
                Scene::prepared((admin.clone(), admin), namespace)
            }
        }
    }

    /// An address of this machine at which scripts of Jobs reach it.
    pub async fn host(&self) -> IpAddr {
        match self {
            Self::Memory | Self::Real(..) => [127, 0, 0, 1].into(),
            Self::Node(harbor) => harbor.node.host().await,
        }
    }

    /// A node for a namespace, and the controllers that the API server lacks.
    fn start(&self, scene: &Scene, namespace: &str, root: &Path) -> DropGuard {
        let stop = CancellationToken::new();
        if matches!(self, Self::Node(_)) {
            return stop.drop_guard();
        }
        let is_real = matches!(self, Self::Real(..));
        let mut node = KubeletOptions::new("node-1", root.to_owned());
        (node.namespace, node.serve_logs) = (Some(namespace.to_owned()), is_real);
        tokio::spawn(Kubelet::new(scene.admin.clone(), node).run(stop.clone()));
        if !is_real {
            tokio::spawn(World::new(scene.admin.clone(), WorldOptions::default()).run(stop.clone()));
        }
        stop.drop_guard()
    }
}

/// Whoever acts, as those see him who tell him.
enum Controller {
    /// In this process.
    Own(Running),
    /// In Pods of its own.
    Installed(&'static Harbor, Followed),
}

impl Controller {
    async fn addresses(&self) -> Vec<SocketAddr> {
        match self {
            Self::Own(running) => vec![running.address],
            Self::Installed(harbor, _) => harbor.hooks().await,
        }
    }
}

/// Where a pack is at work.
pub struct Stage {
    scene: Scene,
    controller: Controller,
    pack: &'static str,
    namespace: &'static str,
    root: TempDir,
    _stop: DropGuard,
}

impl Deref for Stage {
    type Target = Scene;

    fn deref(&self) -> &Scene {
        &self.scene
    }
}

impl Stage {
    /// Installs a pack, a Rule of which has its name, changed by `tune`, and starts a controller; `secrets` have to be there.
    pub async fn of(
        place: &Place,
        (pack, namespace): (&'static str, &'static str),
        secrets: Value,
        tune: fn(&mut Rule),
    ) -> Self {
        let scene = place.scene(namespace).await;
        set_up(&scene, pack, "rbac.yaml").await;
        scene.own("v1", "Secret", "alertmanager", json!({"stringData": {"token": TOKEN}})).await;
        for (name, data) in secrets.as_object().into_iter().flatten() {
            scene.own("v1", "Secret", name, json!({"stringData": data})).await;
        }
        let manifests = manifests(pack, tune);
        let root = tempfile::tempdir().unwrap();
        let stop = place.start(&scene, namespace, root.path());
        let controller = if let Place::Node(harbor) = place {
            let host = place.host().await;
            let followed = Followed::new(&harbor.kubectl, host, (pack, namespace), tune).await;
            Controller::Installed(harbor, followed)
        } else {
            for mut manifest in manifests.clone() {
                manifest["metadata"]["namespace"] = namespace.into();
                scene.apply(&manifest).await;
            }
            Controller::Own(scene.start("one").await)
        };
        for manifest in manifests.iter().filter(|it| it["kind"] == "Webhook" || it["kind"] == "Rule") {
            let name = manifest["metadata"]["name"].as_str().unwrap();
            scene.ready(manifest["kind"].as_str().unwrap(), name).await;
        }
        Self { scene, controller, pack, namespace, root, _stop: stop }
    }

    /// Applies a file of the pack's setup.
    pub async fn set_up(&self, file: &str) {
        set_up(&self.scene, self.pack, file).await;
    }

    /// Waits until the Rule that has the pack's name says what speaks against acting.
    pub async fn explained(&self, reason: &str) {
        eventually(&format!("the Rule says {reason}"), DEADLINE, || async {
            let rule = self.api::<Rule>().get(self.pack).await.map_err(|error| error.to_string())?;
            let conditions = rule.status.unwrap_or_default().conditions;
            let message = condition(&conditions, ConditionType::Ready).map(|ready| ready.message.clone());
            let says = message.as_ref().is_some_and(|message| message.contains(reason));
            says.then_some(()).ok_or_else(|| format!("{message:?}"))
        })
        .await;
    }

    /// The folder of a claim.
    pub fn claim(&self, name: &str) -> PathBuf {
        match &self.controller {
            Controller::Own(_) => self.root.path().join("volumes").join(self.namespace).join(name),
            Controller::Installed(harbor, _) => harbor.claim(self.namespace, name),
        }
    }

    /// Breaks a Pod in the way that the pack's `workload.yaml` tells, so that it is no longer Ready.
    pub async fn break_pod(&self, name: &str) {
        match &self.controller {
            Controller::Own(_) => {
                let broken = json!({"metadata": {"annotations": {"sandbox.local/ready": "false"}}});
                self.patch::<Pod>(name, broken).await;
            }
            Controller::Installed(harbor, _) => {
                let touch = ["-n", self.namespace, "exec", name, "--", "touch", "/tmp/stuck"];
                harbor.kubectl.run(&touch).await;
            }
        }
    }

    /// The logs of all containers that the node has run.
    pub async fn logs(&self) -> String {
        if matches!(self.controller, Controller::Own(_)) {
            return logs_below(self.root.path());
        }
        let (pods, mut found) = (self.api::<Pod>(), String::new());
        for pod in pods.list(&ListParams::default()).await.unwrap() {
            found += &pods.logs(&pod.name_any(), &LogParams::default()).await.unwrap();
        }
        found
    }

    /// What the controller counts.
    pub async fn metrics(&self) -> String {
        match &self.controller {
            Controller::Own(running) => running.metrics.render(),
            Controller::Installed(harbor, _) => harbor.metrics().await,
        }
    }

    /// Changes the Rules of the pack: in git, if that is where they come from.
    pub async fn retune(&self, tune: fn(&mut Rule)) {
        match &self.controller {
            Controller::Own(_) => {
                for mut rule in self.api::<Rule>().list(&ListParams::default()).await.unwrap() {
                    tune(&mut rule);
                    self.patch::<Rule>(&rule.name_any(), json!({"spec": rule.spec})).await;
                }
            }
            Controller::Installed(harbor, followed) => followed.retune(&harbor.kubectl, tune).await,
        }
    }

    /// Posts to a Webhook, as `sender` of several: if there is more than one replica, each has another. As senders do, they
    /// come again while nobody listens: a replica that loses its Lease ends, and is started again.
    pub async fn post(&self, sender: usize, webhook: &str, body: &Value) -> Answer {
        let path = format!("/hooks/{}/{webhook}", self.namespace);
        let token = format!("Bearer {TOKEN}");
        let headers = [("authorization", token.as_str())];
        let body = body.to_string();
        eventually("somebody listens", DEADLINE, || async {
            let addresses = self.controller.addresses().await;
            let address = addresses.get(sender % addresses.len().max(1)).ok_or("there is no replica")?;
            let answer = http::try_post(*address, &path, &headers, body.as_bytes()).await;
            answer.map_err(|error| format!("{address}: {error}"))
        })
        .await
    }

    /// Sends what both of a pair of Alertmanagers do, who come again while nobody can take it: at least one of the two is
    /// news.
    pub async fn told_twice(&self, alert: &Value) {
        let body = notification(std::slice::from_ref(alert));
        let tell = async |sender: usize| {
            eventually("it is taken", DEADLINE, || async {
                let answer = self.post(sender, "alertmanager", &body).await;
                if answer.status == 503 { Err(format!("{answer:?}")) } else { Ok(answer) }
            })
            .await
        };
        let (one, two) = tokio::join!(tell(0), tell(1));
        let statuses = [one.status, two.status];
        assert!(statuses.contains(&202) && statuses.iter().all(|s| *s < 300), "{one:?} {two:?}");
    }

    /// Waits until the outcomes that speak of `about` are these, with what comes after the event's identity.
    pub async fn came_to(&self, about: &str, expected: &[&str]) {
        eventually(&format!("{about}: {expected:?}"), DEADLINE, || async {
            let all = self.scene.outcomes().await;
            let of =
                |line: &String| line.starts_with(about).then(|| line.split_once(' ').unwrap().1.to_owned());
            let found: Vec<_> = all.iter().filter_map(of).collect();
            if found == expected { Ok(()) } else { Err(format!("{all:#?}")) }
        })
        .await;
    }

    /// Waits until these targets are held in the Rule's status, for these reasons.
    pub async fn holds(&self, expected: &[(&str, &str)]) -> Vec<HeldTarget> {
        eventually(&format!("held: {expected:?}"), DEADLINE, || async {
            let rule = self.api::<Rule>().get(self.pack).await.map_err(|error| error.to_string())?;
            let held = rule.status.unwrap_or_default().held;
            let mut said: Vec<_> =
                held.iter().map(|held| (held.target.name.clone(), format!("{:?}", held.reason))).collect();
            said.sort();
            let fits = said
                .iter()
                .map(|(name, reason)| (name.as_str(), reason.as_str()))
                .eq(expected.iter().copied());
            if fits { Ok(held) } else { Err(format!("{said:?}")) }
        })
        .await
    }

    /// Waits until all episodes are over.
    pub async fn closed(&self) {
        eventually("all episodes are over", DEADLINE, || async {
            let found = self.executions().await;
            let open = |e: &&fother::api::Execution| {
                e.status.as_ref().is_none_or(|status| status.episode_closed_at.is_none())
            };
            let open = found.iter().filter(open).count();
            if open == 0 { Ok(()) } else { Err(format!("{open} are not")) }
        })
        .await;
    }
}

fn logs_below(folder: &Path) -> String {
    let mut found = String::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found += &logs_below(&entry.path());
        } else if entry.path().extension().is_some_and(|end| end == "log") {
            found += &std::fs::read_to_string(entry.path()).unwrap();
        }
    }
    found
}

async fn set_up(scene: &Scene, pack: &str, file: &str) {
    let text = std::fs::read_to_string(folder("setup").join(pack).join(file)).unwrap();
    for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
        scene.apply(&object).await;
    }
}

/// An alert of a name with these labels; it fires, or is resolved at `ends`. The fingerprint is `about`.
pub fn alert(name: &str, about: &str, mut labels: Value, (starts, ends): (&str, Option<&str>)) -> Value {
    labels["alertname"] = name.into();
    json!({"status": if ends.is_some() { "resolved" } else { "firing" }, "fingerprint": about, "labels": labels,
        "annotations": {}, "startsAt": starts, "endsAt": ends.unwrap_or("0001-01-01T00:00:00Z"), "generatorURL": ""})
}
