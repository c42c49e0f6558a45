//! What a kubelet sets for the whole machine, and would leave so: here it finds it set.

use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::instance::Instance;

/// Below /proc/sys, as a kubelet wants them. The node works without; a kubelet that may not set them does not start.
const WANTED: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Puts files in the place of the settings, which only this mount namespace sees. Containers have a /proc of their own.
pub fn pretend(instance: &Instance) -> anyhow::Result<()> {
    let folder = instance.path("settings");
    std::fs::create_dir_all(&folder)?;
    for (name, value) in WANTED {
        let file = folder.join(name.replace('/', "."));
        std::fs::write(&file, format!("{value}\n"))?;
        let setting = format!("/proc/sys/{name}");
        let mut mount = Command::new("mount");
        mount.arg("--bind").arg(&file).arg(&setting);
        ensure!(mount.status().context("failed to run mount")?.success(), "failed to hide {setting}");
    }
    Ok(())
}
