//! Who may import whom: the architecture, as far as a test can hold it. Test code may import what it likes.

use super::Finding;
use super::source::{Name, Source};

/// What one folder of `src/` may name.
struct Layer {
    folder: &'static str,
    /// The modules of this crate that it may import, itself included.
    modules: &'static [&'static str],
    /// Where not empty: the only other crates.
    crates: &'static [&'static str],
    /// Paths that it may not name, each with all below it.
    never: &'static [&'static [&'static str]],
    why: &'static str,
}

const CLUSTER: &[&str] =
    &["kube::Client", "kube::Api", "kube::api::Api", "kube::runtime", "kube::client", "kube::config"];
/// What the standard library has of the world outside. Of crates, those that are pure are listed instead.
const OUTSIDE: &[&str] = &[
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
];
const CHANCE: &[&str] = &[
    "std::collections::hash_map::RandomState",
    "std::hash::RandomState",
    "std::time::Instant",
    "std::time::SystemTime",
];

const LAYERS: &[Layer] = &[
    Layer {
        folder: "api",
        modules: &["api", "text"],
        crates: &["std", "serde", "serde_json", "schemars", "thiserror", "kube", "k8s_openapi"],
        never: &[CLUSTER],
        why: "the nouns are a contract that everything stands on, so they stand on little but serialization",
    },
    Layer {
        folder: "text",
        modules: &["text"],
        crates: &["std", "regex"],
        never: &[CLUSTER, OUTSIDE, CHANCE],
        why: "what is left out of a text is the same wherever it is shown, so it depends on the text alone",
    },
    Layer {
        folder: "expr",
        modules: &["api", "expr"],
        crates: &[
            "base64",
            "cel",
            "core",
            "jiff",
            "k8s_openapi",
            "percent_encoding",
            "regex",
            "semver",
            "serde_json",
            "std",
            "thiserror",
            "url",
        ],
        never: &[CLUSTER, OUTSIDE, CHANCE],
        why: "an expression that is replayed has to give the same answer, so it reads nothing but its bindings",
    },
    Layer {
        folder: "decide",
        modules: &["api", "decide", "expr", "text"],
        crates: &[
            "core",
            "cronexpr",
            "jiff",
            "json_patch",
            "k8s_openapi",
            "kube",
            "regex",
            "semver",
            "serde",
            "serde_ignored",
            "serde_json",
            "serde_saphyr",
            "sha2",
            "std",
            "thiserror",
        ],
        never: &[CLUSTER, OUTSIDE, CHANCE],
        why: "a decision is replayed by test, plan and why, so it does no I/O and is told the time",
    },
    Layer {
        folder: "git",
        modules: &["api", "git"],
        crates: &[],
        never: &[],
        why: "shells do not know each other nor what is decided; controllers join them",
    },
    Layer {
        folder: "source",
        modules: &["api", "expr", "source", "telemetry"],
        crates: &[],
        never: &[],
        why: "shells do not know each other nor what is decided; controllers join them",
    },
    Layer {
        folder: "cluster",
        modules: &["api", "cluster", "telemetry"],
        crates: &[],
        never: &[],
        why: "shells do not know each other nor what is decided; controllers join them",
    },
    Layer {
        folder: "journal",
        modules: &["api", "journal", "telemetry", "text"],
        crates: &[],
        never: &[],
        why: "shells do not know each other nor what is decided; controllers join them",
    },
    Layer {
        folder: "sandbox",
        modules: &["sandbox"],
        crates: &[],
        never: &[],
        why: "the sandbox knows Kubernetes and not fother, or it would agree with fother's mistakes",
    },
    Layer {
        folder: "telemetry",
        modules: &["telemetry"],
        crates: &[],
        never: &[],
        why: "telemetry knows no domain types, so that its labels stay closed sets",
    },
];

/// One controller each; they meet through objects.
const ROOT_KINDS: &[&str] = &[
    "action",
    "approval",
    "budget",
    "event_batch",
    "execution",
    "pack",
    "pause",
    "rule",
    "webhook",
    "workflow",
];

/// The crates that a path can begin with; everything else is a name of the file's own.
const STANDARD: &[&str] = &["alloc", "core", "std"];

/// What `file` imports and may not.
pub fn check(file: &str, source: &Source) -> Vec<Finding> {
    let Some((folder, inside)) = file.strip_prefix("src/").and_then(|rest| rest.split_once('/')) else {
        return Vec::new();
    };
    let production = |names: &'_ &Name| !names.in_tests;
    let mut findings = Vec::new();
    for path in source.paths.iter().filter(production) {
        let reason = match folder {
            "controller" => refused_to_controller(inside, &path.text),
            _ => layer(folder).and_then(|layer| layer.refuses(&path.text)),
        };
        findings.extend(reason.map(|reason| finding(file, path, &reason)));
    }
    if let Some(layer) = layer(folder).filter(|layer| layer.never.contains(&CHANCE)) {
        let asks_the_time = source.calls.iter().filter(production).filter(|call| call.text == "now()");
        findings
            .extend(asks_the_time.map(|call| finding(file, call, &format!("in {folder}: {}", layer.why))));
    }
    findings
}

fn layer(folder: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|layer| layer.folder == folder)
}

fn finding(file: &str, name: &Name, reason: &str) -> Finding {
    Finding { file: file.to_owned(), line: name.line, message: format!("`{}` {reason}", name.text) }
}

impl Layer {
    fn refuses(&self, path: &str) -> Option<String> {
        let mut segments = path.split("::");
        let root = segments.next()?;
        let is_refused = if root == "crate" {
            segments.next().is_some_and(|module| !self.modules.contains(&module))
        } else {
            let is_unlisted = is_crate(root) && !self.crates.is_empty() && !self.crates.contains(&root);
            is_unlisted
                || self.never.iter().flat_map(|group| group.iter()).any(|refused| reaches(path, refused))
        };
        is_refused.then(|| format!("in {}: {}", self.folder, self.why))
    }
}

/// Does naming `path` name `refused`, something below it, or by `*` everything beside it?
fn reaches(path: &str, refused: &str) -> bool {
    let below =
        |path: &str| path.strip_prefix(refused).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"));
    let path = path.replacen("core::", "std::", usize::from(path.starts_with("core::")));
    below(&path) || path.strip_suffix('*').is_some_and(|all| refused.starts_with(all))
}

fn refused_to_controller(file: &str, path: &str) -> Option<String> {
    let own = file.split(['/', '.']).next()?;
    let other = path.strip_prefix("crate::controller::")?.split("::").next()?;
    let both = ROOT_KINDS.contains(&own) && ROOT_KINDS.contains(&other);
    (both && own != other).then(|| {
        "in controller: controllers meet only through objects, so that each can be restarted alone".to_owned()
    })
}

fn is_crate(root: &str) -> bool {
    static MANIFEST: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"));
    let dependencies =
        MANIFEST.split("\n[").find_map(|table| table.strip_prefix("dependencies]")).unwrap_or_default();
    let mut names =
        dependencies.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim());
    STANDARD.contains(&root) || names.any(|name| name.replace('-', "_") == root)
}

#[cfg(test)]
mod tests {
    use super::super::lines;

    #[test]
    fn imports_are_held_to_the_layers() {
        let broken = [
            ("src/api/rule.rs", "use crate::decide::episode;"),
            ("src/api/rule.rs", "use tokio::sync::mpsc;"),
            ("src/api/rule.rs", "use kube::Client;"),
            ("src/expr/compile.rs", "use super::super::decide::job;"),
            ("src/decide/job.rs", "use kube::{Client, ResourceExt};"),
            ("src/decide/job.rs", "use kube::*;"),
            ("src/decide/job.rs", "use std::{collections::BTreeMap, fs};"),
            ("src/decide/job.rs", "use crate::git::Revision;"),
            ("src/decide/job.rs", "fn f() { std::env::var(\"A\"); }"),
            ("src/decide/job.rs", "use std::net::TcpStream;"),
            ("src/decide/job.rs", "use std::os::unix::net::UnixStream;"),
            ("src/decide/job.rs", "use tokio::sync::watch;"),
            ("src/decide/job.rs", "use rustix::fs::open;"),
            ("src/expr/compile.rs", "use std::fs::File;"),
            ("src/expr/compile.rs", "use kube::Client;"),
            ("src/decide/job.rs", "fn f() { Timestamp::now() }"),
            ("src/decide/job.rs", "fn f(c: &Clock) { c.now() }"),
            ("src/decide/deep/job.rs", "use std::time::Instant;"),
            ("src/git/fetch.rs", "use crate::cluster::apply;"),
            ("src/source/watch.rs", "use crate::decide::view;"),
            ("src/cluster/apply.rs", "fn f(x: crate::git::Tree) {}"),
            ("src/journal/mod.rs", "use crate::source::watch;"),
            ("src/sandbox/world.rs", "use crate::api::rule::Rule;"),
            ("src/telemetry/mod.rs", "use crate::api::rule::Rule;"),
            ("src/controller/pack.rs", "use super::rule::compile;"),
            ("src/controller/rule/mod.rs", "use crate::controller::execution;"),
        ];
        for (file, code) in broken {
            assert_eq!(lines(file, code), [2], "{file}: {code}");
        }
    }

    #[test]
    fn what_the_layers_allow_is_found_nowhere() {
        let fine = [
            ("src/api/rule.rs", "use serde::Deserialize; use kube::CustomResource; use super::name;"),
            (
                "src/decide/job.rs",
                "use crate::{api::rule, expr}; use kube::ResourceExt; use std::collections::BTreeMap;",
            ),
            ("src/decide/job.rs", "fn f(now: Timestamp) { g(now) } fn now() {}"),
            ("src/decide/job.rs", "#[cfg(test)] mod tests { use std::fs; fn f() { Timestamp::now() } }"),
            ("src/cluster/apply.rs", "use kube::Client; use tokio::time; use crate::api::rule;"),
            ("src/sandbox/world/pod.rs", "use super::super::store; use crate::sandbox::store;"),
            ("src/controller/pack.rs", "use super::context::Context; use crate::{decide, git, cluster};"),
            ("src/cli/dev.rs", "use crate::{sandbox, controller}; use std::fs;"),
        ];
        for (file, code) in fine {
            assert_eq!(lines(file, code), [] as [usize; 0], "{file}: {code}");
        }
    }
}
