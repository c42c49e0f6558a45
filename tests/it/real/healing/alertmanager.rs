//! A real pair of Alertmanagers that gossip: they send twice, they repeat, they try again while the controller is
//! killed; each episode has one Execution.

use std::path::{Path, PathBuf};

use fother::api::{Execution, Webhook};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use regex::Regex;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::controller::Controller;
use super::hooks::{self, ALERTS, TOKEN};
use super::scenario::{MEND, Scenario};
use crate::support::control_plane::{free_port, skip};
use crate::support::http;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

const PROGRAM: &str = "prometheus-alertmanager";
/// What it counts: notifications, and those or the tries of which that came to nothing.
const SENT: &str = "alertmanager_notifications_total";
const FAILED: [&str; 2] =
    ["alertmanager_notifications_failed_total", "alertmanager_notification_requests_failed_total"];

/// Where Debian's package has put the program.
fn program() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let found = std::env::split_paths(&folders).map(|folder| folder.join(PROGRAM)).find(|path| path.exists());
    if found.is_none() {
        skip(&format!("{PROGRAM} is missing: apt-get install {PROGRAM}"));
    }
    found
}

/// Two that are one cluster.
struct Pair {
    ports: [u16; 2],
    _processes: [Process; 2],
    _directory: TempDir,
}

impl Pair {
    fn start(program: &Path, hook: &str) -> Self {
        Self::telling_of(program, hook, 0)
    }

    /// The same, which tell of so many alerts of a group at the most; of all if it is zero.
    fn telling_of(program: &Path, hook: &str, most: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = json!({
            "route": {"receiver": "fother", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s",
                "repeat_interval": "1s"},
            "receivers": [{"name": "fother", "webhook_configs": [{
                "url": hook, "send_resolved": true, "max_alerts": most,
                "http_config": {"authorization": {"credentials": TOKEN}},
            }]}],
        });
        let path = directory.path().join("config.yaml");
        std::fs::write(&path, config.to_string()).unwrap();
        let (ports, gossip) = ([free_port(), free_port()], [free_port(), free_port()]);
        let one = |at: usize| {
            let arguments = [
                format!("--config.file={}", path.display()),
                format!("--storage.path={}", directory.path().join(at.to_string()).display()),
                format!("--web.listen-address=127.0.0.1:{}", ports[at]),
                format!("--cluster.listen-address=127.0.0.1:{}", gossip[at]),
                format!("--cluster.advertise-address=127.0.0.1:{}", gossip[at]),
                format!("--cluster.peer=127.0.0.1:{}", gossip[1 - at]),
                // The second one hardly waits for what the first one says: both send.
                "--cluster.peer-timeout=1ms".to_owned(),
            ];
            Process::start(program, arguments, &[], &directory.path().join(format!("log-{at}")))
        };
        let processes = [one(0), one(1)];
        Self { ports, _processes: processes, _directory: directory }
    }

    /// What each has counted of its webhooks.
    async fn counted(&self, family: &str) -> [u64; 2] {
        [counted(self.ports[0], family).await, counted(self.ports[1], family).await]
    }

    /// Waits until both have sent something since they had sent so much: what one sends alone is no repetition by the other.
    async fn both_send(&self, before: [u64; 2]) {
        eventually("both of the pair send", DEADLINE, || async {
            let sent = self.counted(SENT).await;
            let grew = sent.iter().zip(before).all(|(count, before)| *count > before);
            if grew { Ok(()) } else { Err(format!("{before:?} {sent:?}")) }
        })
        .await;
    }

    /// Waits until one has tried in vain.
    async fn fails(&self) {
        eventually("they try in vain", DEADLINE, || async {
            let failed = [self.counted(FAILED[0]).await, self.counted(FAILED[1]).await];
            if failed.as_flattened().iter().any(|count| *count > 0) {
                Ok(())
            } else {
                Err(format!("{failed:?}"))
            }
        })
        .await;
    }

    /// Tells both of alerts, as Prometheus does.
    async fn tell(&self, alerts: &Value) {
        for port in self.ports {
            eventually("Alertmanager takes alerts", DEADLINE, || async {
                let told = async {
                    let kind = [("content-type", "application/json")];
                    let address = ([127, 0, 0, 1], port).into();
                    http::try_post(address, "/api/v2/alerts", &kind, alerts.to_string().as_bytes()).await
                };
                match told.await {
                    Ok(answer) if answer.status == 200 => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
        }
    }
}

/// What an Alertmanager has counted of its webhooks, if it says so.
async fn counted(port: u16, family: &str) -> u64 {
    let answer = http::get(([127, 0, 0, 1], port).into(), "/metrics").await;
    let text = answer.map(|answer| answer.text).unwrap_or_default();
    // It comes in chunks, which end in the middle of lines.
    let text = Regex::new("\r\n[0-9a-f]+\r\n").unwrap().replace_all(&text, "").into_owned();
    let counts = text.lines().filter_map(|line| {
        let (series, count) = line.strip_prefix(family)?.rsplit_once(' ')?;
        let is_webhook = series.starts_with('{') && series.contains("integration=\"webhook\"");
        if is_webhook { count.parse::<u64>().ok() } else { None }
    });
    counts.sum()
}

fn leaking(boat: &str, starts: Timestamp, ends: Timestamp) -> Value {
    json!([{"labels": {"alertname": "Leak", "boat": boat}, "annotations": {"summary": "water"},
        "startsAt": starts.to_string(), "endsAt": ends.to_string(), "generatorURL": "http://prometheus/graph"}])
}

fn is_over(execution: &Execution) -> bool {
    let closed = execution.status.as_ref().is_some_and(|status| status.episode_closed_at.is_some());
    closed && execution.reason() == Some("TargetRecovered")
}

/// Waits until so many Executions of the rule have recovered their target and hold no episode, and there are no others.
async fn recovered(scenario: &Scenario, count: usize) -> Vec<Execution> {
    eventually(&format!("{count} episodes are over"), DEADLINE * 2, || async {
        let found = scenario.executions("leak").await;
        if found.len() == count && found.iter().all(is_over) {
            return Ok(found);
        }
        Err(format!("{:#?}", found.iter().map(|e| (e.reason(), e.status.clone())).collect::<Vec<_>>()))
    })
    .await
}

/// Waits until so many notifications were received that say nothing new.
async fn repeated(controller: &Controller, count: u64) {
    eventually(&format!("{count} repetitions"), DEADLINE, || async {
        let metrics = controller.metrics().await.unwrap_or_default();
        let line = "fother_events_received_total{source=\"webhook\",result=\"deduplicated\"} ";
        let seen =
            metrics.lines().find_map(|text| text.strip_prefix(line)?.parse::<u64>().ok()).unwrap_or_default();
        if seen >= count { Ok(()) } else { Err(format!("{seen}")) }
    })
    .await;
}

#[tokio::test]
async fn an_episode_has_one_execution_whatever_alertmanagers_send() {
    let Some(program) = program() else { return };
    let Some(scenario) = Scenario::alone("alertmanager").await else { return };
    let mut controller = scenario.controller().await;
    hooks::open(&scenario).await;
    let ladder = json!([{"run": MEND, "verify": {"within": "5m", "stableFor": "0s"}}]);
    hooks::listens(&scenario, "leak", ALERTS, json!({"ladder": ladder})).await;
    scenario.boat("dory", "leaking").await;
    let hook = format!("http://127.0.0.1:{}/hooks/{}/{ALERTS}", controller.hooks, scenario.stage.namespace);
    let pair = Pair::start(&program, &hook);
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let starts = now - SignedDuration::from_secs(5);
    // Nobody answers at first: they try again.
    controller.kill();
    pair.tell(&leaking("dory", starts, now + hour)).await;
    pair.fails().await;
    controller.start_again();
    controller.ready().await;
    scenario.only("leak", "it fires", |_| true).await;
    // While nothing changes, both tell of the same.
    pair.both_send(pair.counted(SENT).await).await;
    repeated(&controller, 3).await;
    controller.restart().await;
    repeated(&controller, 3).await;
    scenario.only("leak", "it is still the same", |execution| !execution.is_finished()).await;
    pair.tell(&leaking("dory", starts, Timestamp::now())).await;
    recovered(&scenario, 1).await;
    // What is resolved and fires again is another episode.
    let again = Timestamp::now() + SignedDuration::from_secs(1);
    pair.tell(&leaking("dory", again, again + hour)).await;
    eventually("it fires again", DEADLINE, || async {
        let count = scenario.executions("leak").await.len();
        if count == 2 { Ok(()) } else { Err(format!("{count}")) }
    })
    .await;
    controller.restart().await;
    repeated(&controller, 3).await;
    pair.tell(&leaking("dory", again, Timestamp::now())).await;
    let found = recovered(&scenario, 2).await;
    let known = found.iter().filter(|e| e.spec.decision.as_ref().is_some_and(|d| d.event.is_some())).count();
    assert_eq!(known, 2, "each knows its alert");
}

#[tokio::test]
async fn an_end_has_one_execution_whatever_alertmanagers_send() {
    let Some(program) = program() else { return };
    let Some(scenario) = Scenario::alone("alertmanager-ends").await else { return };
    let mut controller = scenario.controller().await;
    hooks::open(&scenario).await;
    let trigger = json!({"alert": {"webhook": ALERTS, "state": "Resolved"}});
    hooks::listens(&scenario, "undo", ALERTS, json!({"trigger": trigger, "ladder": [{"run": MEND}]})).await;
    scenario.boat("dory", "leaking").await;
    let hook = format!("http://127.0.0.1:{}/hooks/{}/{ALERTS}", controller.hooks, scenario.stage.namespace);
    let pair = Pair::start(&program, &hook);
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let starts = now - SignedDuration::from_secs(5);
    pair.tell(&leaking("dory", starts, now + hour)).await;
    pair.both_send([0, 0]).await;
    repeated(&controller, 3).await;
    assert_eq!(scenario.executions("undo").await.len(), 0, "it fires");
    // Nobody answers when it ends: they try again.
    controller.kill();
    pair.tell(&leaking("dory", starts, Timestamp::now())).await;
    pair.fails().await;
    controller.start_again();
    controller.ready().await;
    let first = scenario.only("undo", "it is undone", Execution::is_finished).await;
    controller.restart().await;
    let again = Timestamp::now() + SignedDuration::from_secs(1);
    pair.tell(&leaking("dory", again, again + hour)).await;
    repeated(&controller, 3).await;
    scenario
        .only("undo", "it is still the same", |execution| execution.metadata.uid == first.metadata.uid)
        .await;
    pair.tell(&leaking("dory", again, Timestamp::now())).await;
    eventually("it is undone once more", DEADLINE, || async {
        let found = scenario.executions("undo").await;
        let count = found.iter().filter(|execution| execution.is_finished()).count();
        if found.len() == 2 && count == 2 { Ok(()) } else { Err(format!("{count} of {}", found.len())) }
    })
    .await;
}

/// Waits until the Webhook says, and an Event tells, that so many alerts were left out of a notification.
async fn left_out(scenario: &Scenario, count: i64) {
    let counts = |webhook: &Webhook| {
        let truncated = webhook.status.as_ref().and_then(|status| status.truncated.as_ref());
        truncated.is_some_and(|truncated| truncated.alerts == count)
    };
    scenario.stage.until("the Webhook says so", ALERTS, counts).await;
    eventually("an Event tells of it", DEADLINE, || async {
        let events = scenario.stage.api::<Event>().list(&ListParams::default()).await;
        let events = events.map_err(|error| error.to_string())?.items;
        let about = |event: &Event| event.regarding.as_ref().and_then(|regarding| regarding.name.clone());
        let tells = |event: &Event| {
            event.reason.as_deref() == Some("AlertsTruncated") && about(event).as_deref() == Some(ALERTS)
        };
        if events.iter().any(tells) { Ok(()) } else { Err(format!("{events:#?}")) }
    })
    .await;
}

#[tokio::test]
async fn an_alert_that_is_left_out_is_not_over() {
    let Some(program) = program() else { return };
    let Some(scenario) = Scenario::alone("alertmanager-leaves-out").await else { return };
    let controller = scenario.controller().await;
    hooks::open(&scenario).await;
    let ladder = json!([{"run": MEND, "verify": {"within": "1h", "stableFor": "0s"}}]);
    for boat in ["dory", "eel"] {
        scenario.boat(boat, "leaking").await;
        let changes = json!({"when": format!("alert.labels.boat == '{boat}'"), "ladder": ladder});
        hooks::listens(&scenario, boat, ALERTS, changes).await;
    }
    let hook = format!("http://127.0.0.1:{}/hooks/{}/{ALERTS}", controller.hooks, scenario.stage.namespace);
    let pair = Pair::telling_of(&program, &hook, 1);
    let (now, hour) = (Timestamp::now(), SignedDuration::from_hours(1));
    let starts = now - SignedDuration::from_secs(5);
    pair.tell(&leaking("eel", starts, now + hour)).await;
    scenario.only("eel", "it fires while it is the only one", |_| true).await;
    // Of a group they tell in the order of the labels, so that there is no room left for the eel.
    pair.tell(&leaking("dory", starts, now + hour)).await;
    scenario.only("dory", "it fires in its place", |_| true).await;
    left_out(&scenario, 1).await;
    pair.both_send(pair.counted(SENT).await).await;
    scenario.controller_catches_up().await;
    let lasts = |execution: &Execution| !execution.is_finished();
    scenario.only("eel", "nobody has said that it is over", lasts).await;
    pair.tell(&leaking("dory", starts, Timestamp::now())).await;
    scenario.only("dory", "it is over", is_over).await;
    scenario.controller_catches_up().await;
    scenario.only("eel", "that of another is nothing to it", lasts).await;
    pair.tell(&leaking("eel", starts, Timestamp::now())).await;
    scenario.only("eel", "it is over, too", is_over).await;
}
