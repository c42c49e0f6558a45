//! `fother dev`: the demo as a newcomer starts it, and a cluster for rules of one's own.

mod packs;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use fother::api::{Action, ConditionType, Execution, LABEL, Pack, condition};
use k8s_openapi::api::batch::v1::Job;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt};
use regex::Regex;
use rustix::process::Signal;
use serde_json::json;
use tempfile::TempDir;

use crate::support::kubectl;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

/// The demo takes a good minute, several of them at once on a busy machine longer.
const DEMO: Duration = Duration::from_secs(280);

fn dev(data: &TempDir, arguments: &[&str]) -> Process {
    let folder = data.path().join("data").display().to_string();
    let arguments = [&["dev", "--data", &folder], arguments].concat();
    Process::fother(&arguments, &[], &data.path().join("output"))
}

/// The same as a person starts it.
fn dev_at_a_terminal(data: &TempDir, arguments: &[&str]) -> Process {
    let folder = data.path().join("data").display().to_string();
    let arguments = [&["dev", "--data", &folder], arguments].concat();
    Process::fother_at_a_terminal(&arguments, &data.path().join("output"))
}

#[tokio::test]
async fn the_demo_heals_adopts_follows_git_and_climbs() {
    let data = tempfile::tempdir().unwrap();
    leave_what_a_demo_leaves(&data);
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
    let mut demo = dev_at_a_terminal(&data, &["--demo", "--timeout", "4m"]);
    eventually("the last of the hints", DEMO, async || match demo.output() {
        output if output.contains("# what the Jobs wrote") => Ok(()),
        output => Err(output),
    })
    .await;
    let output = demo.output();
    assert!(output.contains("\x1b["), "a terminal has colors:\n{output}");
    let kubeconfig = folder.join("kubeconfig");
    goes_by_each_commit_and_runs_one_job(client(&kubeconfig).await, &folder.join("demo.git")).await;
    answers_its_hints(&output, &kubeconfig).await;
    demo.signal(Signal::INT);
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(0), "{}", demo.output());
}

/// The API has what the demo told: the second incident was decided by the new commit, and the first was mended by one Job
/// although the controller was killed while it ran.
async fn goes_by_each_commit_and_runs_one_job(client: Client, repository: &Path) {
    let executions: Api<Execution> = Api::namespaced(client.clone(), "shop");
    let mut found = executions.list(&ListParams::default()).await.unwrap().items;
    found.sort_by_key(|execution| execution.spec.decision.as_ref().map(|decision| decision.time.0));
    let [first, second, _] = found.as_slice() else { panic!("one an incident: {found:#?}") };
    let revision = |of: &Execution| of.spec.decision.as_ref().unwrap().rule.revision.clone().unwrap();
    assert_ne!(revision(first), revision(second));
    let head = git(repository, &["rev-parse", "HEAD"]);
    assert!(revision(second).ends_with(head.trim()), "{} is not of {head}", revision(second));
    let jobs: Api<Job> = Api::namespaced(client, "shop");
    let of_first = ListParams::default().labels(&format!("{}={}", LABEL.execution, first.name_any()));
    let jobs = jobs.list(&of_first).await.unwrap().items;
    assert_eq!(jobs.len(), 1, "{jobs:#?}");
}

/// Types each line that the demo proposes, as it stands there. None of them goes on for ever.
async fn answers_its_hints(output: &str, kubeconfig: &Path) {
    let (_, hints) = output.split_once("To look around:").unwrap();
    let lines: Vec<_> = hints.lines().map(|line| line.split('#').next().unwrap_or_default().trim()).collect();
    let exported = format!("export KUBECONFIG={}", kubeconfig.display());
    assert!(lines.contains(&exported.as_str()), "{hints}");
    let typed: Vec<_> = lines.iter().filter_map(|line| line.strip_prefix("kubectl ")).collect();
    assert_eq!(typed.len(), 6, "{hints}");
    for line in typed {
        let mut command = Command::new(kubectl::program());
        command.env("KUBECONFIG", kubeconfig).args(line.split_whitespace());
        let answer = tokio::time::timeout(DEADLINE, kubectl::run(command, "")).await;
        let answer = answer.unwrap_or_else(|_| panic!("kubectl {line} does not end"));
        assert!(answer.code == 0 && !answer.stdout.trim().is_empty(), "kubectl {line}: {answer:#?}");
    }
}

#[tokio::test]
async fn at_a_terminal_a_demo_that_is_to_run_once_ends_by_itself() {
    let data = tempfile::tempdir().unwrap();
    let mut demo = dev_at_a_terminal(&data, &["--demo", "--once", "--timeout", "4m"]);
    assert_eq!(demo.wait(DEMO).await.code(), Some(0), "{}", demo.output());
    // What a terminal shows is read by somebody else, who may be a moment behind.
    eventually("the end is shown", DEADLINE, async || match demo.output() {
        output if output.contains("What was shown") => Ok(()),
        output => Err(output),
    })
    .await;
    assert!(!demo.output().contains("To look around"), "{}", demo.output());
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

/// The last that a demo does is to break its cache for good; the next in the same folder has nothing to do with it.
fn leave_what_a_demo_leaves(data: &TempDir) -> PathBuf {
    let index = data.path().join("data/node/volumes/shop/cache/index/corrupted");
    std::fs::create_dir_all(&index).unwrap();
    index
}

#[tokio::test]
async fn what_prints_instead_of_running_cannot_heal() {
    let data = tempfile::tempdir().unwrap();
    let left = leave_what_a_demo_leaves(&data);
    let mut demo = dev(&data, &["--demo", "--once", "--runner", "print"]);
    assert_eq!(demo.wait(DEADLINE).await.code(), Some(1), "{}", demo.output());
    assert!(demo.output().contains("--runner print runs nothing"), "{}", demo.output());
    assert!(!left.exists(), "a demo begins with a cache that works");
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
    git(path, &["init", "-q", "-b", "main"]);
    git(path, &["add", "."]);
    git(path, &["-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "one"]);
}

/// Runs git in a repository, and gives what it says.
fn git(repository: &Path, arguments: &[&str]) -> String {
    let output = Command::new("git").arg("-C").arg(repository).args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
