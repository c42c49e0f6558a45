//! The controller is killed at every write of a Pack's sync: before it is sent, after it is committed, after it is answered.
//! Always the same objects, all of one revision, and nothing of the one before; also when a write comes late.

use std::collections::BTreeMap;

use fother::api::{ANNOTATION, Action, InventoryEntry, LABEL, Pack, Rule};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use super::controller::Controller;
use super::main_path::follow;
use super::points::{self, Counts, Fate, Points};
use super::scenario::{Scenario, rule_spec};
use crate::support::git_server::{GitServer, Origin};
use crate::support::proxy::{Fault, Kind, Proxy};
use crate::support::wait::{DEADLINE, eventually};

/// What a sync writes. How the Rules and Actions stand is somebody else's to say.
const WRITES: [&str; 4] = ["configmaps", "actions", "rules", "packs/status"];

fn is_of_the_sync(kind: &Kind) -> bool {
    !kind.is_read() && WRITES.contains(&kind.resource())
}

/// A Pack, and a controller that can be stopped at any request.
struct Follower {
    proxy: Proxy,
    controller: Controller,
    origin: Origin,
    git: GitServer,
    revisions: usize,
    /// Goes last: then another may use its control plane.
    scenario: Scenario,
}

impl Follower {
    async fn start() -> Option<Self> {
        let scenario = Scenario::alone("every-sync").await?;
        let git = GitServer::start().await;
        let origin = git.create("ops").await;
        let proxy = scenario.proxy().await;
        let controller = scenario.controller_through(&proxy).await;
        let mut follower = Self { proxy, controller, origin, git, revisions: 0, scenario };
        let commit = follower.push().await;
        follow(&follower.scenario, &follower.git, json!({"interval": "1s"})).await;
        follower.has(&commit, "the first sync").await;
        Some(follower)
    }

    /// The next revision: everything is changed, a script and an Action are followed by others.
    async fn push(&mut self) -> String {
        self.revisions += 1;
        let nth = self.revisions;
        let file = |kind: &str, name: &str, spec| {
            json!({"apiVersion": "fother.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
                .to_string()
        };
        let paint =
            |color: String| json!({"kubernetes": {"annotate": {"values": {"example.com/paint": color}}}});
        let script = json!({"script": {"image": "debian", "file": "scripts/tar.sh"}});
        let changes = json!({"mode": "Observe", "when": format!("object.data.hull == 'sunk {nth}'"), "ladder": [{"run": "tar"}]});
        self.origin
            .push(&[
                ("scripts/tar.sh", &format!("echo {nth}")),
                ("actions/tar.yaml", &file("Action", "tar", script)),
                ("actions/red.yaml", &file("Action", "red", paint(format!("red {nth}")))),
                ("actions/coat.yaml", &file("Action", &format!("coat-{nth}"), paint("white".into()))),
                ("rules/sunk.yaml", &file("Rule", "sunk", rule_spec(changes))),
            ])
            .await
    }

    /// Pushes a revision and has it applied; gives what is asked on the way.
    async fn walk(&mut self) -> Counts {
        let counted = points::count(&self.proxy, &[]);
        let commit = self.push().await;
        self.has(&commit, "a walk").await;
        counted.kinds()
    }

    /// Pushes a revision, kills the controller at the point, and says whether it came there.
    async fn killed_at(&mut self, point: &points::Point) -> bool {
        let fault = point.arm(&self.proxy, &[]);
        let commit = self.push().await;
        let reached = self.reached(&fault, &commit).await;
        if reached {
            self.controller.kill();
            point.fate.befalls(&fault);
            self.controller.start_again();
            self.controller.ready().await;
        }
        self.has(&commit, &point.to_string()).await;
        if reached && point.fate == Fate::Late {
            fault.release();
            fault.wait_until_arrived(DEADLINE).await;
            self.has(&commit, &format!("{point}, which has come")).await;
        }
        reached
    }

    /// Waits until the fault has struck, or the revision is applied without.
    async fn reached(&self, fault: &Fault, commit: &str) -> bool {
        eventually("the controller is at the point, or past it", DEADLINE, || async {
            let over = self.applied(commit).await;
            match (fault.hits() > 0, over) {
                (true, _) => Ok(true),
                (false, Ok(())) => Ok(false),
                (false, Err(seen)) => Err(seen),
            }
        })
        .await
    }

    async fn has(&self, commit: &str, point: &str) {
        eventually(&format!("{point}: {commit} is applied"), DEADLINE, || self.applied(commit)).await;
    }

    /// Whether there is what the revision says, and the Pack knows it, and nothing else.
    async fn applied(&self, commit: &str) -> Result<(), String> {
        let pack = self.scenario.stage.api::<Pack>().get("ops").await.map_err(|error| error.to_string())?;
        let status = pack.status.unwrap_or_default();
        let revision = status.applied_revision.unwrap_or_default();
        let stands =
            status.conditions.iter().map(|c| format!("{}={}", c.type_, c.status)).collect::<Vec<_>>();
        if !revision.ends_with(commit) || stands.iter().any(|c| c == "Reconciling=True") {
            return Err(format!("{revision} is applied, {stands:?}"));
        }
        let (objects, revisions) = self.objects().await?;
        let wanted = [
            ("Action", format!("coat-{}", self.revisions)),
            ("Action", "red".into()),
            ("Action", "tar".into()),
        ];
        let mut wanted: Vec<_> = wanted.map(|(kind, name)| (kind.to_owned(), name)).into();
        wanted.push(("Rule".into(), "sunk".into()));
        let (scripts, others): (Vec<_>, Vec<_>) =
            objects.into_iter().partition(|(kind, _)| kind == "ConfigMap");
        let known: Vec<_> = status
            .inventory
            .iter()
            .map(|InventoryEntry { kind, name }| (kind.clone(), name.clone()))
            .collect();
        let is_whole =
            others == wanted && scripts.len() == 1 && known.len() == 5 && known.contains(&scripts[0]);
        // An Action that is not changed keeps the revision that it came with; here none is kept.
        let is_one = revisions.values().all(|of| *of == revision);
        if is_whole && is_one {
            Ok(())
        } else {
            Err(format!("{scripts:?} {others:?} {known:?} {revisions:?}"))
        }
    }

    /// The Pack's objects, and the revisions of those that say of which they are.
    async fn objects(&self) -> Result<(Vec<(String, String)>, BTreeMap<String, String>), String> {
        let ours = ListParams::default().labels(&format!("{}=ops", LABEL.pack));
        let failed = |error: kube::Error| error.to_string();
        let actions = self.scenario.stage.api::<Action>().list(&ours).await.map_err(failed)?;
        let rules = self.scenario.stage.api::<Rule>().list(&ours).await.map_err(failed)?;
        let scripts = self.scenario.stage.api::<ConfigMap>().list(&ours).await.map_err(failed)?;
        let actions = actions.items.into_iter().map(|action| ("Action", action.metadata));
        let rules = rules.items.into_iter().map(|rule| ("Rule", rule.metadata));
        let scripts = scripts.items.into_iter().map(|script| ("ConfigMap", script.metadata));
        let (mut objects, mut revisions) = (Vec::new(), BTreeMap::new());
        for (kind, metadata) in actions.chain(rules).chain(scripts) {
            let name = metadata.name.unwrap_or_default();
            let revision = metadata.annotations.unwrap_or_default().remove(ANNOTATION.revision);
            revisions.extend(revision.map(|revision| (name.clone(), revision)));
            objects.push((kind.to_owned(), name));
        }
        Ok((objects, revisions))
    }
}

#[tokio::test]
async fn a_sync_that_is_killed_at_any_write_comes_to_the_same_objects() {
    let Some(mut follower) = Follower::start().await else { return };
    let mut walks = Vec::new();
    for _ in 0..2 {
        walks.push(follower.walk().await);
    }
    let fates = [Fate::NeverSent, Fate::Late, Fate::Unanswered, Fate::Answered].map(|fate| (fate, None));
    let of_it = |kind: &Kind, _| if is_of_the_sync(kind) { fates.to_vec() } else { Vec::new() };
    let points = Points::of(&walks, 1, of_it);
    points.each(async |point, _| follower.killed_at(point).await).await;
    points.assert_reached("sync", &[]);
    assert!(follower.scenario.stage.api::<Pack>().get("ops").await.unwrap().finalizers().is_empty());
}
