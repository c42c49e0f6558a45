//! A pack in its namespace, and everything that it needs around it.

use std::ops::Deref;
use std::path::PathBuf;

use fother::api::{HeldTarget, Rule};
use fother::sandbox::kubelet::{Kubelet, KubeletOptions};
use fother::sandbox::world::{World, WorldOptions};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::examples::{folder, manifests};
use crate::support::wait::{DEADLINE, eventually};
use crate::webhooks::stage::{Running, Scene, TOKEN, notification};

/// Where a pack is at work.
pub struct Stage {
    scene: Scene,
    pub running: Running,
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
    /// Installs a pack whose Rule has its name, changed by `tune`, and starts a controller; `secrets` have to be there.
    pub async fn of(
        (pack, namespace): (&'static str, &'static str),
        secrets: Value,
        tune: fn(&mut Rule),
    ) -> Self {
        let scene = Scene::bare(namespace).await;
        set_up(&scene, pack, "rbac.yaml").await;
        scene.own("v1", "Secret", "alertmanager", json!({"stringData": {"token": TOKEN}})).await;
        for (name, data) in secrets.as_object().into_iter().flatten() {
            scene.own("v1", "Secret", name, json!({"stringData": data})).await;
        }
        for mut manifest in manifests(pack, tune) {
            manifest["metadata"]["namespace"] = namespace.into();
            scene.apply(&manifest).await;
        }
        let (root, stop) = (tempfile::tempdir().unwrap(), CancellationToken::new());
        tokio::spawn(World::new(scene.admin.clone(), WorldOptions::default()).run(stop.clone()));
        let node = KubeletOptions::new("node-1", root.path().to_owned());
        tokio::spawn(Kubelet::new(scene.admin.clone(), node).run(stop.clone()));
        let running = scene.start("one").await;
        scene.ready("Webhook", "alertmanager").await;
        scene.ready("Rule", pack).await;
        Self { scene, running, pack, namespace, root, _stop: stop.drop_guard() }
    }

    /// Applies a file of the pack's setup.
    pub async fn set_up(&self, file: &str) {
        set_up(&self.scene, self.pack, file).await;
    }

    /// The folder of a claim.
    pub fn claim(&self, name: &str) -> PathBuf {
        self.root.path().join("volumes").join(self.namespace).join(name)
    }

    /// What the node keeps.
    pub fn node(&self) -> &std::path::Path {
        self.root.path()
    }

    /// Sends what both of a pair of Alertmanagers do: at least one of the two is news.
    pub async fn told_twice(&self, alert: &Value) {
        let body = notification(std::slice::from_ref(alert));
        let post = || self.running.post("alertmanager", &body);
        let (one, two) = tokio::join!(post(), post());
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
