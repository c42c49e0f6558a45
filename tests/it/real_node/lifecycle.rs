//! `make cluster` and `make cluster-down`: a cluster that is ready, and nothing that stays when it goes, however it goes.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};

use super::machine::{self, Machine};
use crate::support::access::Access;
use crate::support::kubectl::Kubectl;
use crate::support::node::{available, cluster, unlike_a_test};
use crate::support::wait::{DEADLINE, eventually};

/// A cluster of this test alone.
struct Own {
    directory: PathBuf,
}

/// What can be seen of a running one.
struct Traces {
    /// Of the parts, of containers, and the one that holds them, each with the time of its start.
    processes: Vec<(String, PathBuf)>,
    bridge: String,
    holder: Pid,
}

impl Own {
    fn call(&self, verb: &str) -> (String, String) {
        said(cluster(verb, &self.directory))
    }

    /// As a person does it.
    fn make(&self, target: &str) -> (String, String) {
        let mut make = Command::new("make");
        make.arg(target).current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("FOTHER_CLUSTER");
        make.env("XDG_STATE_HOME", self.directory.ancestors().nth(2).unwrap());
        // What `make test` has told its own.
        for told in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            make.env_remove(told);
        }
        unlike_a_test(&mut make);
        said(make)
    }

    fn kubectl(&self) -> Kubectl {
        Kubectl::new(&Access::from_file(&self.directory.join("kubeconfig")))
    }

    /// A Pod, so that there is something to clean up.
    async fn busy(&self) {
        let kubectl = self.kubectl();
        kubectl
            .run(&["run", "busy", "--image=docker.io/library/debian:12-slim", "--", "sleep", "infinity"])
            .await;
        kubectl.run(&["wait", "pod/busy", "--for=condition=Ready", "--timeout=60s"]).await;
    }

    fn traces(&self) -> Traces {
        let record = std::fs::read_to_string(self.directory.join("holder")).unwrap();
        let holder = record.split(' ').next().unwrap();
        let bridge = bridges(&self.directory).pop().unwrap();
        let parts = self.part("kubelet.json").and_then(|kubelet| pid_namespace(&kubelet)).unwrap();
        let is_ours = |process: &PathBuf| {
            let group = std::fs::read_to_string(process.join("cgroup")).unwrap_or_default();
            let is_contained = group.contains(&format!("/{bridge}/"));
            is_contained || pid_namespace(process) == Some(parts) || process.ends_with(holder)
        };
        let found = processes().filter(is_ours).filter_map(|process| Some((started(&process)?, process)));
        Traces { processes: found.collect(), holder: Pid::from_raw(holder.parse().unwrap()).unwrap(), bridge }
    }

    /// The process of this cluster that has `word` in its command.
    fn part(&self, word: &str) -> Option<PathBuf> {
        processes().find(|process| {
            let command = std::fs::read(process.join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).into_owned();
            command.contains(word) && command.contains(self.directory.to_str().unwrap())
        })
    }
}

impl Drop for Own {
    /// Also when the test fails.
    fn drop(&mut self) {
        let _ = cluster("down", &self.directory).status();
    }
}

/// What a command that succeeds says, and what it says beside.
fn said(mut command: Command) -> (String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn processes() -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("ns/pid").exists())
}

fn pid_namespace(process: &Path) -> Option<u64> {
    std::fs::metadata(process.join("ns/pid")).ok().map(|namespace| namespace.ino())
}

/// When a process started, in ticks since boot; none where it has ended.
fn started(process: &Path) -> Option<String> {
    let stat = std::fs::read_to_string(process.join("stat")).ok()?;
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (fields[0] != "Z").then(|| fields[19].to_owned())
}

fn bridges(owner: &Path) -> Vec<String> {
    let interfaces = std::fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.path());
    let is_owned = |path: &PathBuf| {
        let alias = std::fs::read_to_string(path.join("ifalias")).unwrap_or_default();
        Path::new(alias.trim()) == owner
    };
    interfaces.filter(is_owned).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

fn groups(name: &str) -> usize {
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies =
        std::fs::read_dir(root).unwrap().flatten().map(|entry| entry.path()).chain([root.to_owned()]);
    hierarchies.filter(|hierarchy| hierarchy.join(name).exists()).count()
}

impl Traces {
    /// How many of its processes run.
    fn processes(&self) -> usize {
        self.processes.iter().filter(|(since, process)| started(process).as_ref() == Some(since)).count()
    }

    /// What is left, by its name; all of it should be there before, and nothing after.
    fn found(&self, own: &Own) -> Vec<(&'static str, bool)> {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(own.directory.to_str().unwrap()), "a mount is seen outside: {mounts}");
        let is_taken = Path::new("/sys/class/net").join(&self.bridge).exists()
            && !bridges(&own.directory).contains(&self.bridge);
        vec![
            ("processes", self.processes() > 0),
            ("a bridge", !bridges(&own.directory).is_empty()),
            // Another cluster may have taken the name since, with a bridge of its own.
            ("control groups", groups(&self.bridge) > 0 && !is_taken),
            ("the directory", own.directory.exists()),
        ]
    }
}

/// Whoever else starts or ends a cluster meanwhile plugs and unplugs.
async fn is_as_it_was(before: &Machine) {
    eventually("this machine is as it was", DEADLINE, || async {
        let now = Machine::now();
        if now == *before { Ok(()) } else { Err(format!("{now:#?}, and it was {before:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_cluster_leaves_nothing_behind() {
    if available().is_none() || !machine::can_be_looked_at() {
        return;
    }
    // Where it is unless somebody says something else: in folders that nobody has made yet.
    let home = tempfile::Builder::new().prefix("fother-own-").tempdir().unwrap();
    let own = Own { directory: home.path().join("state/fother/cluster") };
    let before = Machine::now();
    let (first, _) = own.make("cluster");
    assert_eq!(Path::new(&first), own.directory.join("kubeconfig"));
    let (again, said) = own.call("up");
    assert!(again == first && said.contains("up already"), "{again} {said}");
    own.busy().await;
    let killed = own.traces();
    assert!(killed.found(&own).iter().all(|(_, is_there)| *is_there), "{:?}", killed.found(&own));
    let kubelet = own.part("kubelet.json").unwrap();
    assert_eq!(machine::settings_shared_with(&kubelet, &own.directory), [""; 0]);

    kill_process(killed.holder, Signal::KILL).unwrap();
    eventually("everything ends with the process that holds it", DEADLINE, || async {
        match killed.processes() {
            0 => Ok(()),
            count => Err(format!("{count} processes")),
        }
    })
    .await;

    own.call("up");
    own.busy().await;
    let ended = own.traces();
    own.make("cluster-down");
    for traces in [killed, ended] {
        let left: Vec<_> = traces.found(&own).into_iter().filter(|(_, is_there)| *is_there).collect();
        assert_eq!(left, []);
    }
    let chains = Machine::now();
    assert_eq!(chains.chains(), [""; 0], "of this cluster, or of one before it");
    is_as_it_was(&before).await;
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().collect();
    assert!(left.is_empty(), "what was made above the directory: {left:?}");
    let (_, said) = own.call("down");
    assert_eq!(said, "", "there is nothing to end");
}
