//! `promtool`, which evaluates alerts as Prometheus does, over series that a test makes up.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::control_plane::skip;

/// The alerts in the file `rules` do what the cases say, looked at every minute. Says loudly where there is no `promtool`.
pub fn passes(rules: &Path, cases: &[Value]) {
    if Command::new("promtool").arg("--version").output().is_err() {
        return skip("promtool is missing: apt-get install prometheus");
    }
    let tests = json!({"rule_files": [rules], "evaluation_interval": "1m", "tests": cases});
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), tests.to_string()).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(file.path()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
