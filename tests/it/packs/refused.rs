//! Revisions that do not come in: what is wrong with them is said on the Pack as `fother validate` says it. The numbers are
//! those of the list of bad inputs that fother was designed with.

use std::path::Path;
use std::process::Command;

use fother::api::{Action, ConditionType, Pack, condition};
use kube::Api;
use kube::api::ListParams;
use serde_json::{Value, json};

use super::{ACTION, NAMESPACE, Scene, rule, serving};
use crate::support::git_server::GitServer;
use crate::support::wait::{DEADLINE, eventually};

/// The mistakes that `fother validate` finds in a folder, in the words of a condition.
fn validated(folder: &Path) -> Vec<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    let output =
        command.args(["validate", ".", "-n", NAMESPACE, "-o", "json"]).current_dir(folder).output().unwrap();
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let found = report["findings"].as_array().unwrap().iter().filter(|found| found["severity"] == "error");
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    found
        .map(|found| {
            let file = text(&found["file"]);
            let (file, path) = (file.strip_prefix("./").unwrap_or(&file), text(&found["path"]));
            let path = if path.is_empty() { path } else { format!("{path}: ") };
            let help = found["help"].as_str().map(|help| format!("; {help}")).unwrap_or_default();
            let message = text(&found["message"]);
            format!("{file}:{}:{}: {path}{message}{help}", found["line"], found["column"])
        })
        .collect()
}

/// The Action of the pack, after one thing was changed.
fn action(name: &str, from: &str, to: &str) -> String {
    assert!(ACTION.contains(from), "{from}");
    ACTION.replace(from, to).replace("name: clean", &format!("name: {name}"))
}

/// A Rule of the pack, after one thing was changed.
fn changed(name: &str, from: &str, to: &str) -> String {
    let good = rule(name, "1m");
    assert!(good.contains(from), "{from}");
    good.replace(from, to)
}

#[tokio::test]
async fn what_is_refused_is_refused_in_the_words_of_validate() {
    let mut scene = Scene::new().await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    // What is good does not come in beside what is bad.
    let good = rule("good", "1m");
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("good.yaml", &*good)];
    let kind = "apiVersion: v1, kind: Pod}";
    let with = |with: &str| format!("run: clean, with: {{{with}}}");
    let long = format!("name: {}", "x".repeat(71));
    // A condition has room for a few at a time.
    for bad in [
        &[
            (1, changed("a", "trigger:", "trigerr:")),
            (2, changed("b", kind, "apiVersion: v1, kind: Pod, labelSelector: {}}")),
            (3, changed("c", "crashLooping(object", "crashLooping((object")),
            (4, changed("d", "crashLooping(object, 3, duration('10m'))", "object.metadata.name > 3")),
            (6, changed("f", "run: clean", "run: claen")),
            (7, changed("g", "run: clean", "run: b/clean")),
            (9, changed("i", "for: 1m", "for: 5 minutes")),
        ][..],
        &[
            (12, changed("l", "run: clean", &with("hots: a"))),
            (13, changed("m", "run: clean", "run: ports, with: {port: abc}")),
            (0, action("ports", "spec:\n", "spec:\n  parameters: [{name: port, type: integer}]\n")),
            (14, action("n", "script: {", "script: {env: [{name: A, value: '${{ inputs.a }}'}], ")),
            (15, action("o", "script: {", "script: {privileged: true, ")),
            (17, changed("a", "name: a", &long)),
            (18, changed("r", "resource: {apiVersion: v1, kind: Pod}", "execution: {rules: [r]}")),
        ],
        &[(37, rule("x", "1m")), (37, rule("x", "2m"))],
    ] {
        let folder = tempfile::tempdir().unwrap();
        let names: Vec<_> = (0..bad.len()).map(|index| format!("bad/{index}.yaml")).collect();
        let written: Vec<_> =
            names.iter().zip(bad).map(|(name, (_, text))| (name.as_str(), text.as_str())).collect();
        scene.origin.git(&["rm", "-rq", "--ignore-unmatch", "bad"]).await;
        let commit = scene.origin.push(&[&files[..], &written].concat()).await;
        for (path, text) in files.iter().chain(&written) {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let said = scene.ready("InvalidRevision", &commit).await.message;
        let said: Vec<_> = said.lines().skip(1).collect();
        assert_eq!(said, validated(folder.path()));
        for (name, (line, _)) in names.iter().zip(bad).filter(|(_, (line, _))| *line > 0) {
            assert!(said.iter().any(|said| said.contains(name)), "line {line}: {said:#?}");
        }
    }
    let actions = Api::<Action>::namespaced(scene.admin.clone(), NAMESPACE);
    let actions = actions.list(&ListParams::default()).await.unwrap().items.len();
    assert_eq!((scene.rules().await.len(), actions, scene.scripts().await), (0, 0, 0));
}

/// 33, over https.
#[tokio::test]
async fn a_server_that_the_given_authority_did_not_sign_is_not_believed() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let good = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &good).await;

    let stranger = GitServer::start().await;
    scene.trust(stranger.ca_pem()).await;
    let refused = scene.ready("FetchFailed", "").await;
    let expected = format!(
        "failed to verify the certificate of {}: it is not signed by an authority that is trusted here; put the one that \
         signed it into ca.crt of the Secret; serving main@sha1:{good}, applied at 20",
        scene.git.origin()
    );
    assert!(refused.message.starts_with(&expected), "{}", refused.message);
    assert_eq!(scene.progress().await, ["Stalled"], "somebody has to mend it");
    let fetches = || scene.git.seen().iter().filter(|seen| seen.path.contains("git-upload-pack")).count();
    let fetched = fetches();
    let newer = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    assert_eq!((fetches(), scene.rule_names().await), (fetched, vec!["a".to_owned()]));

    scene.trust(scene.git.ca_pem()).await;
    scene.ready("Synced", &newer).await;
}

/// 36.
#[tokio::test]
async fn a_revision_with_a_link_is_refused_as_a_whole() {
    let mut scene = Scene::new().await;
    let files = [("action.yaml", ACTION), ("scripts/clean.sh", "true\n"), ("a.yaml", &rule("a", "1m"))];
    let good = scene.origin.push(&files).await;
    scene.start(usize::MAX);
    scene.follow(json!({})).await;
    scene.ready("Synced", &good).await;

    std::os::unix::fs::symlink("/etc/passwd", scene.origin.work().join("x")).unwrap();
    scene.origin.push(&[("b.yaml", &rule("b", "1m"))]).await;
    let refused = scene.ready("InvalidRevision", "").await;
    let expected = format!("x: symlink not allowed; serving main@sha1:{good}, applied at 20");
    assert!(refused.message.starts_with(&expected), "{}", refused.message);
    assert_eq!(scene.rule_names().await, ["a"]);
}

/// All Packs are held in memory: what is too large for that is not.
#[tokio::test]
async fn a_pack_that_is_too_large_stops_no_other() {
    let (mut scene, _) = serving().await;
    let annotations = json!({"example.com/words": "x".repeat(256 * 1024 - 32)});
    scene.follow(json!({"metadata": {"name": "large", "annotations": annotations}})).await;
    let packs = Api::<Pack>::namespaced(scene.admin.clone(), NAMESPACE);
    let said = eventually("it says why it is left alone", DEADLINE, async || {
        let pack = packs.get("large").await.map_err(|error| error.to_string())?;
        let conditions = pack.status.unwrap_or_default().conditions;
        let ready = condition(&conditions, ConditionType::Ready);
        let said = ready.map(|ready| [&ready.status, &ready.reason, &ready.message].map(String::clone));
        said.ok_or_else(|| format!("{conditions:?}"))
    })
    .await;
    let why = "cannot be read by this version of fother, and is left alone: it has more than 256 KiB beside its status";
    assert_eq!(said, ["False", "UnsupportedValue", why]);
    let second = scene.origin.push(&[("a.yaml", &rule("a", "2m"))]).await;
    scene.ready("Synced", &second).await;
    // Nor does it where both are there from the beginning.
    scene.kill().await;
    scene.start(usize::MAX);
    let third = scene.origin.push(&[("a.yaml", &rule("a", "3m"))]).await;
    scene.ready("Synced", &third).await;
}
