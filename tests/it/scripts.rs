//! `scripts/prerequisites.sh`: whoever lacks something hears what, and how to get it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the script itself is made of, and any machine has.
const SHELL: [&str; 4] = ["bash", "dirname", "id", "sed"];

/// What it says for `purpose` on a machine that has `programs`, and nothing else.
fn prerequisites(purpose: &str, programs: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    for program in SHELL.iter().chain(programs) {
        if let Some(place) = found(program) {
            symlink(place, folder.path().join(program)).unwrap();
        }
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/prerequisites.sh");
    Command::new(script).arg(purpose).env("PATH", folder.path()).env("CI", "true").output().unwrap()
}

fn found(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|place| place.exists())
}

#[test]
fn what_a_build_lacks_is_named_with_its_remedy() {
    let output = prerequisites("build", &[]);
    assert_eq!(output.status.code(), Some(2));
    let toolchain = include_str!("../../rust-toolchain.toml");
    let pinned = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")).unwrap();
    let pinned = pinned.trim_end_matches('"');
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        format!(
            "Missing here, and how to get it:
  git                apt-get install git
  a C compiler       apt-get install gcc libc6-dev
  Rust               https://rustup.rs, release {pinned}
"
        )
    );
}

#[test]
fn nothing_is_said_where_nothing_is_missing() {
    let output = prerequisites("build", &["git", "cc", "cargo", "rustup", "grep"]);
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{output:?}");
}

#[test]
fn tests_need_more_than_a_build() {
    let output = prerequisites("test", &["git", "cc"]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    for line in [
        "ssh-keygen         apt-get install openssh-client",
        "alertmanager       apt-get install prometheus-alertmanager",
        "promtool           apt-get install prometheus",
        "flock              apt-get install util-linux",
        "kubectl            https://kubernetes.io/docs/tasks/tools, 1.30 or later, or Go to build it",
        "Go                 https://go.dev/dl, ",
    ] {
        assert!(said.contains(line), "no {line} in\n{said}");
    }
    assert!(!said.contains("git  "), "{said}");
    // Only root has a real node, and what it would leave is looked for in the packet filter.
    let filter = said.contains("iptables-save      apt-get install iptables\n");
    assert_eq!(filter, rustix::process::geteuid().is_root(), "{said}");
}
