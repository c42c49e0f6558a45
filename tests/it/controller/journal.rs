//! The journal of a controller: what is in it, what is not, and that nothing depends on it.

use std::path::{Path, PathBuf};
use std::process::Command;

use fother::journal::{File, Filter, Gap, Outcome};
use rustix::process::Signal;
use serde_json::{Value, json};

use super::told::leak;
use super::{Controller, Home, NAMESPACE};
use crate::support::control_plane::skip;
use crate::support::kubectl::run;
use crate::support::wait::{DEADLINE, eventually};

const CANARY: &str = "canary-0123456789";

/// What a rule of this name says in the journal, oldest first: outcome and reason.
fn decided(path: &Path, rule: &str) -> Result<Vec<(Outcome, String)>, String> {
    let filter = Filter { rule: Some(rule.to_owned()), limit: 1000, ..Filter::default() };
    let file = open(path)?;
    let found = file.decisions(&filter).map_err(|error| error.to_string())?;
    Ok(found.into_iter().rev().map(|decision| (decision.outcome, decision.reason)).collect())
}

/// Waits until a rule has come to this, and nothing else but that it became usable.
async fn comes_to(path: &Path, rule: &str, expected: &[(Outcome, &str)]) {
    eventually(&format!("what {rule} decided"), DEADLINE, async || {
        let mut found = decided(path, rule)?;
        found.retain(|(outcome, _)| !matches!(outcome, Outcome::Ready | Outcome::Unready));
        let same =
            found.iter().map(|(outcome, reason)| (*outcome, reason.as_str())).eq(expected.iter().copied());
        if same { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
}

/// What is in another mount namespace is copied: `SQLite` follows links by itself, and comes out in this one.
fn open(path: &Path) -> Result<File, String> {
    if path.starts_with("/proc") {
        let copy = tempfile::NamedTempFile::new().unwrap();
        std::fs::copy(path, copy.path()).map_err(|error| error.to_string())?;
        return File::read(copy.path()).map_err(|error| error.to_string());
    }
    File::read(path).map_err(|error| error.to_string())
}

fn gaps(path: &Path) -> Vec<Gap> {
    open(path).unwrap().gaps(None).unwrap()
}

fn contains(path: &Path, text: &str) -> bool {
    std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
}

/// An enforcing rule that paints boats of a hull.
async fn paints(home: &Home, rule: &str, hull: &str) {
    home.rule(rule, json!({"mode": "Enforce", "when": format!("object.data.hull == '{hull}'")})).await;
}

/// Heals a boat, and waits until that is over.
async fn heals(home: &Home, name: &str) {
    paints(home, name, name).await;
    home.boat(name, name).await;
    let execution = home.execution(name).await;
    assert_eq!(execution.reason(), Some("Completed"), "{execution:#?}");
}

async fn fother(arguments: &[&str]) -> crate::support::kubectl::Answer {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fother"));
    command.args(arguments);
    run(command, "").await
}

#[tokio::test]
async fn it_remembers_what_was_decided_and_no_secret() {
    let home = Home::furnished().await;
    let path = home.files.path().join("journal.db");
    let mut controller = home.controller(&["--journal", path.to_str().unwrap()]);
    controller.leads().await;
    home.rule("waits", json!({"for": "1h"})).await;
    home.boat("ark", "leaking").await;
    let secrets = json!({"trigger": {"resource": {"apiVersion": "v1", "kind": "Secret"}}, "when": "object.type == 'Opaque'"});
    home.rule("secrets", secrets).await;
    let noise = format!("{{\"password\":\"{CANARY}\"}}");
    home.apply(&json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "stringData": {"code": CANARY},
        "metadata": {"name": "locker", "namespace": NAMESPACE,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": noise, "plain": "stays"}},
    }))
    .await;
    let events = json!({"trigger": {"resource": null, "event": {"reasons": ["Leak"]}}, "when": null, "mode": "Enforce", "limits": {"cooldown": "1h"}});
    home.rule("events", events).await;
    home.answers("events").await;
    for name in ["first", "second"] {
        let mut event = leak(name);
        event["note"] = json!(format!("GET https://x/?token={CANARY} with Authorization: Bearer {CANARY}"));
        home.apply(&event).await;
        home.execution("events").await;
    }
    comes_to(
        &path,
        "secrets",
        &[(Outcome::Fired, "Observe"), (Outcome::Ended, "Observed: would have run paint on Secret/locker")],
    )
    .await;
    comes_to(
        &path,
        "events",
        &[
            (Outcome::Fired, "Enforce"),
            (Outcome::Ended, "Completed: all rungs were done"),
            (Outcome::Suppressed, "Cooldown"),
        ],
    )
    .await;
    let held = decided(&path, "waits").unwrap();
    assert!(
        held.iter().any(|(outcome, why)| *outcome == Outcome::Held && why.starts_with("For until 20")),
        "{held:?}"
    );

    controller.process.signal(Signal::TERM);
    assert_eq!(controller.process.wait(DEADLINE).await.code(), Some(0));
    assert!(!contains(&path, CANARY) && contains(&path, "stays"), "what is left of the objects");
    assert_eq!(gaps(&path), []);
    shows(&path).await;
}

/// What `fother journal` shows of it.
async fn shows(path: &Path) {
    let path = path.to_str().unwrap();
    let answer = fother(&["journal", path, "--rule", "events", "--since", "1h"]).await;
    let rows: Vec<Vec<&str>> = answer.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let columns: Vec<_> = rows.iter().map(|row| (row[3], row.get(4).copied().unwrap_or_default())).collect();
    assert_eq!(columns[0], ("TARGET", "OUTCOME"), "{}", answer.stdout);
    assert!(columns.contains(&("ConfigMap/ark", "Suppressed")), "{}", answer.stdout);
    assert_eq!((answer.code, answer.stderr.as_str()), (0, ""));
    let answer = fother(&["journal", path, "--rule", "events", "--target", "configmap/ark"]).await;
    assert!(answer.stdout.contains(" ConfigMap/ark "), "{answer:?}");
    let answer = fother(&["journal", path, "--rule", "events", "--target", "ConfigMap/Ark"]).await;
    let nothing = "no decision matches --rule events --target ConfigMap/Ark\n";
    assert_eq!((answer.code, answer.stderr.as_str()), (0, nothing));
    let answer = fother(&["journal", path, "--rule", "events", "--target", "cm/ark"]).await;
    let nothing = "no decision matches --rule events --target cm/ark; kinds are written out: ConfigMap/ark\n";
    assert_eq!((answer.code, answer.stderr.as_str()), (0, nothing));
    let (leak, matched) = ("events.k8s.io Leak", "kubernetes Matched");
    for (flags, expected) in [
        (&["--namespace", NAMESPACE, "--since", "1h"][..], &[leak, leak, matched][..]),
        (&[], &[leak, leak, matched]),
        (&["--rule", "events", "--target", "configmap/ark"], &[leak, leak]),
        (&["--rule", "secrets"], &[matched]),
        (&["--rule", "waits"], &[]),
        (&["--namespace", "other"], &[]),
    ] {
        assert_eq!(events(path, flags).await, expected, "{flags:?}");
    }
    let answer = fother(&["journal", path, "--events", "--rule", "waits"]).await;
    assert_eq!((answer.code, answer.stderr.as_str()), (0, "no event matches --rule waits\n"));
    let answer = fother(&["journal", path, "--rule", "evnts", "--since", "1h", "-o", "json"]).await;
    let nothing = "no decision matches --rule evnts --since 1h\n";
    assert_eq!((answer.code, answer.stdout.as_str(), answer.stderr.as_str()), (0, "", nothing));
    let answer = fother(&["journal", "/nowhere.db"]).await;
    assert_eq!((answer.code, answer.stderr.as_str()), (2, "fother: /nowhere.db: there is no such file\n"));
}

/// Source and type of each event that `fother journal` shows with these flags.
async fn events(path: &str, flags: &[&str]) -> Vec<String> {
    let answer = fother(&[&["journal", path, "--events", "-o", "json"][..], flags].concat()).await;
    let events = answer.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |event: &Value, field: &str| event[field].as_str().unwrap().to_owned();
    let mut events: Vec<_> =
        events.map(|event| format!("{} {}", text(&event, "source"), text(&event, "type"))).collect();
    events.sort_unstable();
    events
}

#[tokio::test]
async fn an_event_whose_target_does_not_exist_is_told_of() {
    let home = Home::furnished().await;
    let path = home.files.path().join("journal.db");
    let controller = home.controller(&["--journal", path.to_str().unwrap()]);
    controller.leads().await;
    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "absent"});
    let often = json!({"trigger": {"resource": null, "schedule": {"every": "10s"}}, "when": null, "target": {"ref": absent}});
    home.rule("often", often).await;
    comes_to(&path, "often", &[(Outcome::Failed, "ConfigMap/absent does not exist")]).await;
}

#[tokio::test]
async fn one_that_cannot_be_used_is_no_reason_not_to_heal() {
    let home = Home::furnished().await;
    let path = |name: &str| home.files.path().join(name);
    let (garbage, later, nowhere) = (path("garbage.db"), path("later.db"), path("missing/journal.db"));
    std::fs::write(&garbage, "this was never a database, but it is long enough to be looked at").unwrap();
    let other = rusqlite::Connection::open(&later).unwrap();
    other.pragma_update(None, "user_version", 1000).unwrap();
    drop(other);
    let before = std::fs::read(&later).unwrap();
    let (older, truncated) = (path("older.db"), path("truncated.db"));
    older_journal(&older);
    let whole = std::fs::read(&older).unwrap();
    std::fs::write(&truncated, &whole[..whole.len() / 2]).unwrap();
    for (boat, place, says) in [
        ("ark", &garbage, None),
        ("dory", &older, None),
        ("hulk", &truncated, None),
        ("brig", &later, Some("has schema 1000, this fother knows")),
        ("cog", &nowhere, Some("unable to open database file")),
    ] {
        let mut controller = home.controller(&["--journal", place.to_str().unwrap()]);
        controller.leads().await;
        heals(&home, boat).await;
        if let Some(says) = says {
            controller.says("/metrics", |answer| answer.body.contains("fother_journal_failing 1")).await;
            let output = controller.process.output();
            assert!(output.contains("the journal cannot be written") && output.contains(says), "{output}");
            assert!(!output.contains('\u{1b}'), "a file has no colors: {output}");
        }
        controller.process.signal(Signal::TERM);
        controller.process.wait(DEADLINE).await;
    }
    assert_eq!(std::fs::read(&later).unwrap(), before, "who wrote it may want it back");
    for damaged in [&garbage, &truncated] {
        assert!(
            gaps(damaged)[0].reason.starts_with("the file was damaged and is now "),
            "{:?}",
            gaps(damaged)
        );
    }
    let healed = [(Outcome::Fired, "Enforce"), (Outcome::Ended, "Completed: all rungs were done")];
    for (place, boat) in [(&garbage, "ark"), (&older, "dory"), (&truncated, "hulk")] {
        comes_to(place, boat, &healed).await;
    }
    comes_to(&older, "earlier", &[(Outcome::Suppressed, "Cooldown")]).await;
    let version = rusqlite::Connection::open(&older).unwrap();
    let version: i64 = version.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert!(version > 1, "it is brought up to date");
}

/// A journal as the first fother kept it, with a decision in it.
fn older_journal(path: &Path) {
    let file = rusqlite::Connection::open(path).unwrap();
    let text = |column: &str| format!("{column} TEXT NOT NULL");
    let events = ["event", "source", "type", "namespace", "data"].map(text).join(", ");
    let decisions =
        ["namespace", "rule", "target", "event", "outcome", "reason", "execution"].map(text).join(", ");
    let now = k8s_openapi::jiff::Timestamp::now().as_millisecond();
    file.execute_batch(&format!(
        "CREATE TABLE events (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, {events});
         CREATE TABLE decisions (id INTEGER PRIMARY KEY, time INTEGER NOT NULL, {decisions});
         CREATE TABLE gaps (id INTEGER PRIMARY KEY, begin INTEGER NOT NULL, end INTEGER NOT NULL,
             missing INTEGER NOT NULL, reason TEXT NOT NULL);
         PRAGMA user_version = 1;
         INSERT INTO decisions (time, namespace, rule, target, event, outcome, reason, execution)
             VALUES ({now}, 'ops', 'earlier', 'ConfigMap/ark', '', 'Suppressed', 'Cooldown', '');"
    ))
    .unwrap();
}

#[tokio::test]
async fn one_whose_controller_is_killed_goes_on_and_says_so() {
    let home = Home::furnished().await;
    let path = home.files.path().join("journal.db");
    let arguments = ["--journal", path.to_str().unwrap(), "--identity", "one"];
    let mut controller = home.controller(&arguments);
    controller.leads().await;
    home.rule("observes", json!({})).await;
    let fired = |path: &Path| {
        let found = decided(path, "observes").unwrap_or_default();
        found.iter().filter(|(outcome, _)| *outcome == Outcome::Fired).count()
    };
    for number in 0..30 {
        home.boat(&format!("boat-{number}"), "leaking").await;
    }
    eventually("it writes", DEADLINE, async || if fired(&path) > 0 { Ok(()) } else { Err("nothing yet") })
        .await;
    controller.process.kill();
    let before = fired(&path);
    let controller = home.controller(&arguments);
    controller.leads().await;
    heals(&home, "ark").await;
    comes_to(
        &path,
        "ark",
        &[(Outcome::Fired, "Enforce"), (Outcome::Ended, "Completed: all rungs were done")],
    )
    .await;
    assert!(fired(&path) >= before, "nothing that was written is lost");
    let answer = fother(&["journal", path.to_str().unwrap()]).await;
    assert!(answer.stderr.contains(": the controller before did not end in order"), "{answer:?}");
    assert!(!home.files.path().join("journal.db.damaged").exists());
}

/// A controller whose journal is on a volume of one MiB, which it alone sees; and the path to the volume from here.
fn on_a_small_volume(home: &Home) -> (Controller, PathBuf) {
    let mount = home.files.path().join("volume");
    std::fs::create_dir(&mount).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=1m tmpfs {0} && exec \"$@\" --journal {0}/journal.db",
        mount.display()
    );
    let ahead = ["--mount", "sh", "-c", &script, "sh", env!("CARGO_BIN_EXE_fother")];
    let controller = home.controller_behind(Path::new("unshare"), &ahead);
    let seen = format!("/proc/{}/root{}", controller.process.id(), mount.display());
    (controller, seen.into())
}

#[tokio::test]
async fn a_full_disk_is_no_reason_not_to_heal_and_what_is_missing_is_counted() {
    if !rustix::process::geteuid().is_root() {
        return skip("a volume of its own for the journal needs root");
    }
    let home = Home::furnished().await;
    let (controller, volume) = on_a_small_volume(&home);
    let journal = volume.join("journal.db");
    controller.leads().await;
    heals(&home, "ark").await;
    comes_to(
        &journal,
        "ark",
        &[(Outcome::Fired, "Enforce"), (Outcome::Ended, "Completed: all rungs were done")],
    )
    .await;
    assert!(std::fs::write(volume.join("filler"), vec![0; 1 << 20]).is_err(), "it is full");
    heals(&home, "brig").await;
    let failing = |answer: &super::Answer| answer.body.contains("fother_journal_failing 1");
    let metrics = controller.says("/metrics", failing).await.body;
    assert!(!metrics.contains("fother_journal_writes_total{result=\"failed\"} 0"), "{metrics}");
    std::fs::remove_file(volume.join("filler")).unwrap();
    heals(&home, "cog").await;
    comes_to(
        &journal,
        "cog",
        &[(Outcome::Fired, "Enforce"), (Outcome::Ended, "Completed: all rungs were done")],
    )
    .await;
    let [gap] = &gaps(&journal)[..] else { panic!("{:#?}", gaps(&journal)) };
    assert!(gap.missing >= 2 && gap.reason.contains("database or disk is full"), "{gap:?}");
    comes_to(&journal, "brig", &[]).await;
    controller.says("/metrics", |answer| answer.body.contains("fother_journal_failing 0")).await;
}
