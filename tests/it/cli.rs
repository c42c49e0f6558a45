//! The small verbs, `fother version` and `fother completion`, and what holds for all.

use std::fs::File;
use std::process::{Command, Stdio};

use fother::journal::{self, Keeping, Limits, Place};
use k8s_openapi::jiff::Timestamp;

fn fother(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    let output = command.args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn the_version_is_for_people_and_for_programs() {
    let version = env!("CARGO_PKG_VERSION");
    let expected = (0, format!("fother {version} (fother.dev/v1alpha1)\n"), String::new());
    assert_eq!(fother(&["version"]), expected);
    let (code, out, _) = fother(&["version", "-o", "json"]);
    let said: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(code, 0);
    assert_eq!(said, serde_json::json!({"version": version, "api": "fother.dev/v1alpha1"}));
    assert_eq!(fother(&["version", "-o", "xml"]).0, 2);
}

/// What answers with standard output alone; the folder is for what they read.
fn answers(folder: &tempfile::TempDir) -> Vec<Vec<String>> {
    let path = folder.path().join("journal.db");
    let keeping = Keeping { place: Place::File(path.clone()), limits: Limits::default() };
    drop(journal::File::open(&keeping, Timestamp::now(), Timestamp::now()).unwrap());
    let path = path.display().to_string();
    let nowhere = folder.path().join("nowhere").display().to_string();
    let rule = folder.path().join("a.yaml").display().to_string();
    std::fs::write(&rule, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n").unwrap();
    [
        &["version"][..],
        &["version", "-o", "json"],
        &["completion", "bash"],
        &["crds"],
        &["journal", &path],
        &["enroll", "payments", "--service-account", "healer", "--kubeconfig", &nowhere],
        &["validate", &rule],
    ]
    .map(|arguments| arguments.iter().map(|argument| (*argument).to_owned()).collect::<Vec<String>>())
    .into()
}

/// Runs it with another standard output; returns exit code and standard error.
fn answered(arguments: &[String], stdout: impl Into<Stdio>) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    let ended = command.args(arguments).stdin(Stdio::null()).stdout(stdout).stderr(Stdio::piped()).output();
    let ended = ended.unwrap();
    (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
}

#[test]
fn an_answer_that_cannot_be_written_is_none() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in answers(&folder) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, said) = answered(&arguments, full);
        let why = "fother: failed to write to standard output: No space left on device (os error 28)\n";
        assert!(code == Some(2) && said.ends_with(why), "{arguments:?}: {code:?} {said}");
    }
}

/// As `fother … | true` closes it.
#[test]
fn an_answer_is_the_same_for_whoever_closed_the_output() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in answers(&folder) {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let (code, said) = answered(&arguments, writer);
        assert_eq!((code, said), answered(&arguments, Stdio::null()), "{arguments:?}");
    }
}

#[test]
fn what_cannot_be_a_name_is_not_enrolled() {
    let namespace =
        |name: &str| format!("invalid value '{name}' for '<NAMESPACE>': {name:?} cannot be a namespace: ");
    let account = |name: &str| {
        format!(
            "invalid value '{name}' for '--service-account <NAME>': {name:?} cannot be a ServiceAccount: "
        )
    };
    for name in ["", "Bad Name", "payments/healer"] {
        for (arguments, said) in [
            (["enroll", name, "--service-account", "healer"], namespace(name)),
            (["enroll", "payments", "--service-account", name], account(name)),
        ] {
            let (code, out, err) = fother(&arguments);
            assert!(code == 2 && out.is_empty() && err.contains(&said), "{code} {out} {err}");
        }
    }
    let controller = ["enroll", "payments", "--service-account", "healer", "--controller", "ops/The One"];
    let (code, out, err) = fother(&controller);
    assert!(
        code == 2 && out.is_empty() && err.contains("\"The One\" cannot be a ServiceAccount"),
        "{code} {err}"
    );
}

#[test]
fn a_journal_that_is_none_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    std::fs::write(&path, "this was never a database, but it is long enough to be looked at\n".repeat(20))
        .unwrap();
    let path = path.display().to_string();
    let (code, out, err) = fother(&["journal", &path]);
    assert_eq!((code, out.as_str(), err), (2, "", format!("fother: {path}: file is not a database\n")));
}

#[test]
fn what_has_not_the_form_of_a_target_is_refused_with_the_remedy() {
    for target in ["", "web", "Deployment/", "deployments.apps/web", "Deployment/payments/web"] {
        let (code, out, err) = fother(&["journal", "/nowhere.db", "--target", target]);
        let said = format!(
            "invalid value '{target}' for '--target <KIND/NAME>': {target:?} is not a target: use KIND/NAME, as Deployment/web; "
        );
        assert!(code == 2 && out.is_empty() && err.contains(&said), "{code} {err}");
    }
}

#[test]
fn a_journal_is_not_asked_for_nothing() {
    let (code, out, err) = fother(&["journal", "/nowhere.db", "--limit", "0"]);
    let said = "invalid value '0' for '--limit <N>': 0 is not in 1..";
    assert!(code == 2 && out.is_empty() && err.contains(said), "{code} {err}");
}

/// The verbs that `fother --help` lists.
fn verbs() -> Vec<String> {
    let (_, help, _) = fother(&["--help"]);
    let (_, list) = help.split_once("\nCommands:\n").unwrap_or_else(|| panic!("{help}"));
    let (list, _) = list.split_once("\n\n").unwrap_or((list, ""));
    let verbs = list.lines().filter_map(|line| line.split_whitespace().next());
    verbs.filter(|verb| *verb != "help").map(str::to_owned).collect()
}

#[test]
fn each_shell_gets_a_script_with_every_verb() {
    let verbs = verbs();
    for known in ["journal", "validate"] {
        assert!(verbs.iter().any(|verb| verb == known), "{verbs:?}");
    }
    for (shell, mark) in
        [("bash", "complete -F _fother"), ("zsh", "#compdef fother"), ("fish", "complete -c fother")]
    {
        let (code, out, err) = fother(&["completion", shell]);
        assert!(code == 0 && err.is_empty(), "{shell}: {code} {err}");
        assert!(out.contains(mark), "{shell}: {out}");
        for verb in &verbs {
            assert!(out.contains(verb.as_str()), "{shell} does not know {verb}");
        }
        assert!(!out.contains("git-worker"), "{shell} shows what is hidden");
    }
    assert_eq!(fother(&["completion", "tcsh"]).0, 2);
}

/// Line 10 of the bad inputs, for the controller's caps.
#[test]
fn a_cap_of_nothing_is_refused_with_the_remedy() {
    for cap in ["--max-per-rule", "--max-per-namespace", "--max-total"] {
        for number in ["0", "-3", "many"] {
            let (code, out, err) = fother(&["controller", &format!("{cap}={number}")]);
            let said = format!(
                "invalid value '{number}' for '{cap} <N>': must be a whole number, at least 1; to let nothing run, stop the controller"
            );
            assert!(code == 2 && out.is_empty() && err.contains(&said), "{code} {err}");
        }
    }
}

#[test]
fn bash_completes_verbs_and_flags() {
    let complete = |words: &[&str]| {
        let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let last = words.len() - 1;
        let script = format!(
            "source <(\"$0\" completion bash); COMP_WORDS=({}); COMP_CWORD={last}; _fother fother '{}' '{}'; echo \"${{COMPREPLY[*]}}\"",
            quoted.join(" "),
            words[last],
            words[last - 1],
        );
        let mut command = Command::new("bash");
        command.args(["--norc", "-c", &script, env!("CARGO_BIN_EXE_fother")]);
        let output = command.stdin(Stdio::null()).output().unwrap();
        assert!(output.stderr.is_empty(), "{output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(complete(&["fother", "vali"]), "validate");
    assert_eq!(complete(&["fother", "git"]), "", "what is hidden");
    assert_eq!(complete(&["fother", "validate", "--require"]), "--require-image-digests");
    assert_eq!(complete(&["fother", "dev", "--runner", ""]), "process print");
}
