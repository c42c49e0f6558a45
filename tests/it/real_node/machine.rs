//! What of this machine outlives every process: the packet filter, the kernel's settings, the interfaces. A cluster leaves
//! them as they were, whoever else has one at the same time.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::control_plane::skip;

/// What a kubelet sets where it may.
const OF_A_KUBELET: [&str; 6] = [
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
];
/// What network plugins and a kube-proxy do.
const OF_NETWORKS: [&str; 3] =
    ["net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/ipv6/conf/all/forwarding"];
/// What prints the packet filter.
const FILTERS: [&str; 2] = ["iptables-save", "ip6tables-save"];
/// As the chains of Kubernetes and of its network plugins begin.
const CHAINS: [&str; 2] = ["KUBE-", "CNI-"];
/// As the bridges of clusters like this one begin.
const BRIDGES: &str = "fother";

/// How it is at a moment.
#[derive(Debug, PartialEq)]
pub struct Machine {
    /// Rules, and chains that somebody added.
    filter: BTreeSet<String>,
    settings: BTreeMap<&'static str, String>,
    /// Without the bridges of clusters, and what is plugged into them.
    interfaces: BTreeSet<String>,
}

impl Machine {
    pub fn now() -> Self {
        let filter = FILTERS.into_iter().flat_map(rules).collect();
        let value = |setting: &str| std::fs::read_to_string(Path::new("/proc/sys").join(setting));
        let settings = OF_A_KUBELET.into_iter().chain(OF_NETWORKS);
        let settings = settings.filter_map(|setting| Some((setting, value(setting).ok()?))).collect();
        Self { filter, settings, interfaces: interfaces() }
    }

    /// What only Kubernetes or a network plugin adds to the packet filter. What is there already could hide what is left.
    pub fn chains(&self) -> Vec<&String> {
        let is_theirs = |rule: &&String| CHAINS.iter().any(|start| rule.contains(start));
        self.filter.iter().filter(is_theirs).collect()
    }
}

/// The settings that a kubelet sees as they are, and could change. It should have a file of its own, on the file system of
/// `directory`, in the place of each.
pub fn settings_shared_with(kubelet: &Path, directory: &Path) -> Vec<&'static str> {
    let own = std::fs::metadata(directory).unwrap().dev();
    let settings = kubelet.join("root/proc/sys");
    let is_shared = |setting: &&str| std::fs::metadata(settings.join(setting)).unwrap().dev() != own;
    OF_A_KUBELET.into_iter().filter(is_shared).collect()
}

/// Whether there is what the packet filter is read with: without it nobody would see what a cluster leaves there.
pub fn can_be_looked_at() -> bool {
    let missing = FILTERS.into_iter().find(|program| Command::new(program).output().is_err());
    if let Some(missing) = missing {
        skip(&format!("{missing} is missing: scripts/prerequisites.sh test --install"));
    }
    missing.is_none()
}

fn rules(program: &str) -> Vec<String> {
    let output = Command::new(program).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let is_added = |line: &&str| line.starts_with("-A") || line.contains(" - [");
    // Behind the chain is how many packets it has seen.
    let rule = |line: &str| format!("{program}: {}", line.split(" [").next().unwrap());
    text.lines().filter(is_added).map(rule).collect()
}

fn interfaces() -> BTreeSet<String> {
    let all = std::fs::read_dir("/sys/class/net").unwrap().flatten().map(|entry| entry.path());
    let name = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    let is_of_a_cluster = |path: &Path| {
        let bridge = std::fs::read_link(path.join("master")).map(|master| name(&master));
        bridge.unwrap_or_else(|_| name(path)).starts_with(BRIDGES)
    };
    all.filter(|path| !is_of_a_cluster(path)).map(|path| name(&path)).collect()
}
