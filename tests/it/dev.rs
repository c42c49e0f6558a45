//! `fother dev`: the demo as a newcomer starts it, and a cluster for rules of one's own.

mod packs;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use fother::api::{Action, ConditionType, Execution, Pack, condition};
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use regex::Regex;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

/// The demo takes a good minute, several of them at once on a busy machine longer.
const DEMO: Duration = Duration::from_secs(280);

fn dev(data: &TempDir, arguments: &[&str]) -> Process {
    let folder = data.path().join("data").display().to_string();
    let arguments = [&["dev", "--data", &folder], arguments].concat();
    Process::fother(&arguments, &[], &data.path().join("output"))
}

#[tokio::test]
async fn the_demo_heals_adopts_follows_git_and_climbs() {
    let data = tempfile::tempdir().unwrap();
    // Without a terminal nobody looks around afterwards, so that it ends by itself.
    let mut demo = dev(&data, &["--demo", "--timeout", "4m"]);
    assert_eq!(demo.wait(DEMO).await.code(), Some(0), "{}", demo.output());
    let output = demo.output();
    let order = [
        "synced",
        "broken",
        "matched",
        "held",
        "decided",
        "killed",
        "goes on",
        "restarted",
        "leads",
        "verified",
        "healed",
        "over",
    ];
    let mut rest = output.as_str();
    for tag in order {
        let at = rest.find(&format!(" {tag} ")).unwrap_or_else(|| panic!("no {tag} in its place:\n{output}"));
        rest = &rest[at..];
    }
    // Why it was decided, by which line of which commit and as whom; and what the script wrote.
    for told in [
        r"held .*guards passed: \w",
        r"rule .*corrupted-cache\.yaml:\d+ at ",
        r"decided .* as ServiceAccount healer",
        r" output +\w",
    ] {
        let told = Regex::new(told).unwrap();
        assert!(output.lines().any(|line| told.is_match(line)), "no {told}:\n{output}");
    }
    assert_eq!(output.matches("(Jobs created: 1)").count(), 3, "one Job an incident:\n{output}");
    assert!(!output.contains("(Jobs created: 2)"), "{output}");
    assert!(rest.contains("Quarantined"), "{output}");
}

#[tokio::test]
async fn at_a_terminal_the_demo_stays_up_for_a_look_around() {
    let data = tempfile::tempdir().unwrap();
    let folder = data.path().join("data");
    let arguments = ["dev", "--data", &folder.display().to_string(), "--demo"];
    let mut demo = Process::fother_at_a_terminal(&arguments, &data.path().join("output"));
    eventually("hints", DEMO, async || match demo.output() {
        output if output.contains("kubectl get packs,rules,actions,executions") => Ok(()),
        output => Err(output),
    })
    .await;
    assert!(demo.output().contains(&format!("export KUBECONFIG={}", folder.join("kubeconfig").display())));
    assert!(demo.output().contains("\x1b["), "a terminal has colors:\n{}", demo.output());
    let executions: Api<Execution> = Api::namespaced(client(&folder.join("kubeconfig")).await, "shop");
    assert_eq!(executions.list(&ListParams::default()).await.unwrap().items.len(), 3, "one an incident");
    demo.signal(Signal::INT);
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(0), "{}", demo.output());
}

#[tokio::test]
async fn a_demo_whose_heal_is_canceled_says_why_it_failed() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = dev(&data, &["--demo", "--once"]);
    let kubeconfig = data.path().join("data/kubeconfig");
    eventually("a kubeconfig", DEADLINE, async || kubeconfig.metadata()).await;
    let executions: Api<Execution> = Api::namespaced(client(&kubeconfig).await, "shop");
    let execution = eventually("an Execution", DEMO, async || {
        let list = executions.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        list.items.first().map(ResourceExt::name_any).ok_or_else(|| demo.output())
    })
    .await;
    let cancel = Patch::Merge(json!({"spec": {"cancel": true}}));
    executions.patch(&execution, &PatchParams::default(), &cancel).await.unwrap();
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(1), "{}", demo.output());
    assert!(demo.output().contains("ended as Canceled"), "{}", demo.output());
}

#[tokio::test]
async fn a_demo_that_is_stopped_midway_has_not_shown_what_it_was_to_show() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = dev(&data, &["--demo", "--once"]);
    eventually("the first incident", DEMO, async || match demo.output() {
        output if output.contains(" broken ") => Ok(()),
        output => Err(output),
    })
    .await;
    demo.signal(Signal::TERM);
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(1), "{}", demo.output());
    let said = "stopped before the first incident was verified as healed";
    assert!(demo.output().contains(said), "{}", demo.output());
}

#[tokio::test]
async fn what_prints_instead_of_running_cannot_heal() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = dev(&data, &["--demo", "--once", "--runner", "print"]);
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(1), "{}", demo.output());
    assert!(demo.output().contains("--runner print runs nothing"), "{}", demo.output());
}

#[tokio::test]
async fn a_demo_that_takes_too_long_ends_with_three() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = dev(&data, &["--demo", "--once", "--timeout", "1s"]);
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(3), "{}", demo.output());
}

#[tokio::test]
async fn a_pack_of_ones_own_is_synced() {
    let data = tempfile::tempdir().unwrap();
    let pack = data.path().join("my-pack");
    repository(&pack, "restart.yaml", "restart");
    let other = data.path().join("other");
    repository(&other, "packs/web/scale.yaml", "again");
    let (whole, folder) = (pack.display().to_string(), other.join("packs/web").display().to_string());
    let mut cluster = dev(&data, &["--pack", &whole, "--pack", &folder]);
    let kubeconfig = data.path().join("data/kubeconfig");
    eventually("a kubeconfig", DEADLINE, async || kubeconfig.metadata()).await;
    assert_eq!(kubeconfig.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let client = client(&kubeconfig).await;
    let packs: Api<Pack> = Api::namespaced(client.clone(), "default");
    eventually("a synced Pack", DEADLINE, async || {
        let pack = packs.get("my-pack").await.map_err(|error| error.to_string())?;
        let conditions = pack.status.unwrap_or_default().conditions;
        match condition(&conditions, ConditionType::Ready) {
            Some(ready) if ready.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let actions: Api<Action> = Api::namespaced(client, "default");
    assert!(actions.get("restart").await.is_ok());
    // A folder of a repository is a pack of its own.
    eventually("the folder's Action", DEADLINE, async || actions.get("again").await.map(drop)).await;
    assert_eq!(packs.get("web").await.unwrap().spec.path.as_deref(), Some("packs/web"));
    cluster.kill();
}

#[tokio::test]
async fn a_cluster_that_is_killed_leaves_no_controller_behind() {
    let data = tempfile::tempdir().unwrap();
    let mut cluster = dev(&data, &[]);
    let left = async || match controllers(data.path()).as_slice() {
        [] => Ok(()),
        some => Err(format!("{some:?}")),
    };
    eventually("a controller", DEADLINE, async || left().await.err().ok_or("none")).await;
    cluster.kill();
    eventually("no controller is left", DEADLINE, left).await;
}

/// The processes of controllers whose files are in a folder.
fn controllers(folder: &Path) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines = processes.filter_map(|process| std::fs::read_to_string(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| line.replace('\0', " "));
    lines.filter(|line| line.contains(" controller ") && line.contains(&*folder.to_string_lossy())).collect()
}

async fn client(kubeconfig: &Path) -> Client {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// A repository with one Action in it.
fn repository(path: &Path, file: &str, name: &str) {
    let file = path.join(file);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let action = format!(
        "apiVersion: fother.dev/v1alpha1\nkind: Action\nmetadata: {{name: {name}}}\nspec: {{kubernetes: {{restart: {{}}}}}}\n"
    );
    std::fs::write(file, action).unwrap();
    let git = |arguments: &[&str]| {
        let output = std::process::Command::new("git").arg("-C").arg(path).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "."]);
    git(&["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"]);
}
