//! A flood: far more alerts, or events, than a rule with a limit may act on, sent to a Webhook from several addresses.
//! What is accepted is followed in a watch of the `EventBatches`, up to the outcome of each event.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fother::api::{Execution, Rule, Webhook};
use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use serde_json::{Value, json};
use tokio::net::TcpSocket;

use crate::following::{Followed, Following};
use crate::harbor::{Berth, Controller, Harbor, USER};
use crate::report::{Goal, Row, Section};
use crate::scale::Scale;
use crate::stats::Samples;
use crate::support::http::{self, Answer};
use crate::support::wait::eventually;
use crate::usage;

const TOKEN: &str = "open-sesame";
/// Addresses that send, and what each puts into one request: an Alertmanager sends a group at a time.
const SENDERS: usize = 8;
const IN_A_REQUEST: usize = 100;
/// What the rule may do in a minute.
const LIMIT: usize = 10;
/// How long it may take until all is decided.
const LONG: Duration = Duration::from_mins(5);

/// What is sent.
#[derive(Clone, Copy)]
enum Kind {
    /// Alerts: each is a state, and held until it is resolved.
    Alerts,
    /// Events: each is over at once.
    Events,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Alerts => "alerts",
            Self::Events => "events",
        }
    }

    /// One request: `IN_A_REQUEST` of them, each about a target of its own.
    fn body(self, request: usize, starts: &str, ends: Option<&str>) -> Value {
        let numbers = (0..IN_A_REQUEST).map(|n| format!("db-{request}-{n}"));
        match self {
            Self::Alerts => {
                let alerts: Vec<_> = numbers.map(|name| alert(&name, starts, ends)).collect();
                json!({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "receiver": "fother",
                    "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://am", "alerts": alerts})
            }
            Self::Events => numbers
                .map(|name| {
                    json!({"specversion": "1.0", "id": name, "source": "/disks", "type": "full",
                        "data": {"disk": name, "percent": 95}})
                })
                .collect(),
        }
    }
}

/// An alert with about as much in it as they usually have.
fn alert(name: &str, starts: &str, ends: Option<&str>) -> Value {
    json!({
        "status": if ends.is_some() { "resolved" } else { "firing" }, "fingerprint": format!("{name:0>16}"),
        "labels": {"alertname": "DiskFull", "severity": "critical", "disk": name, "namespace": "shop", "cluster": "eu-1",
            "instance": format!("{name}.shop.svc:9100"), "job": "node", "prometheus": "monitoring/main"},
        "annotations": {"summary": format!("the disk of {name} is full"),
            "description": "More than 95 % of it are in use, and it will be full within the hour.",
            "runbook_url": "https://runbooks.example.com/disk-full"},
        "startsAt": starts, "endsAt": ends.unwrap_or("0001-01-01T00:00:00Z"),
        "generatorURL": "http://prometheus.example.com/graph?g0.expr=disk_used%2Fdisk_size+%3E+0.95",
    })
}

pub async fn measure(harbor: &Harbor, scale: &Scale) -> Section {
    let mut rows = Vec::new();
    for kind in [Kind::Alerts, Kind::Events] {
        rows.extend(turn(harbor, scale, kind).await);
    }
    let method = format!(
        "{} alerts in {} s, and then as many events in the same time, each about a target of its own, in requests of {IN_A_REQUEST} from {SENDERS} \
         addresses, for one Rule that may act {LIMIT} times a minute. Nobody who is refused comes again, except to say that an alert is \
         resolved. Outcomes are what a watch of the EventBatches shows.",
        scale.flood.0,
        scale.flood.1.as_secs()
    );
    Section { title: "A flood", method, rows }
}

async fn turn(harbor: &Harbor, scale: &Scale, kind: Kind) -> Vec<Row> {
    let berth = harbor.berth(&format!("flood-{}", kind.name())).await;
    let rule = listen(&berth, kind).await;
    let controller = harbor.controller().await;
    berth.rules_are_ready(1).await;
    is_old(&rule).await;
    let following = Following::start(&berth);
    let log = harbor.plane.audit().expect("the control plane is our own");
    let (mark, cpu) = (log.mark().await, usage::cpu(controller.id()));
    let (requests, path) =
        (scale.flood.0.div_ceil(IN_A_REQUEST), format!("/hooks/{}/flood", berth.namespace));
    let starts = Timestamp::now().to_string();
    let flood = Flood { kind, to: controller.hooks, path, starts };
    let begun = Instant::now();
    let sent = flood.pour(requests, scale.flood.1).await;
    let took = begun.elapsed();
    let decided = following.until("every event that was accepted has its outcome", LONG, |seen| {
        seen.events >= sent.accepted && seen.open == 0
    });
    let seen = decided.await;
    let after = begun.elapsed().saturating_sub(took);
    let mut rows = sent.rows(kind, requests, took);
    rows.extend(decided_rows(kind, (&sent, seen), after));
    rows.push(launches(&berth, kind).await);
    if matches!(kind, Kind::Alerts) {
        rows.push(resolved(&flood, &sent, &following).await);
    }
    let used = usage::cpu(controller.id()).saturating_sub(cpu);
    let asked = log.since(mark).await.into_iter().filter(|request| request.user == USER);
    let mut by_kind = BTreeMap::<String, f64>::new();
    for request in asked {
        *by_kind.entry(format!("{} {}", request.verb, request.resource)).or_default() += 1.0;
    }
    rows.push(Row::plain(
        format!("{}: requests to the API server", kind.name()),
        "",
        one(by_kind.values().sum()),
        Goal::None,
    ));
    by_kind.retain(|_, count| *count >= 50.0);
    rows.extend(
        by_kind
            .iter()
            .map(|(what, count)| Row::plain(format!("… of them {what}"), "", one(*count), Goal::None)),
    );
    rows.extend(costs(kind, &controller, &following, used));
    drop(controller);
    berth.leave().await;
    rows
}

/// A Webhook, and the Rule that listens to it.
async fn listen(berth: &Berth, kind: Kind) -> Rule {
    berth.create::<Secret>(json!({"metadata": {"name": "sender"}, "stringData": {"token": TOKEN}})).await;
    let (format, trigger, key) = match kind {
        Kind::Alerts => ("alertmanager", json!({"alert": {"webhook": "flood"}}), "alert.labels.disk"),
        Kind::Events => ("cloudevents", json!({"webhook": {"name": "flood"}}), "event.data.disk"),
    };
    let webhook = json!({"serviceAccountName": "healer", (format): {},
        "authentication": {"bearer": {"secretRef": {"name": "sender", "key": "token"}}}});
    berth.create::<Webhook>(json!({"metadata": {"name": "flood"}, "spec": webhook})).await;
    let rule = json!({"serviceAccountName": "healer", "mode": "Enforce", "trigger": trigger, "target": {"key": key},
        "limits": {"perRule": format!("{LIMIT}/1m")}, "ladder": [{"run": "caulk"}]});
    berth.create::<Rule>(json!({"metadata": {"name": "full"}, "spec": rule})).await
}

/// Waits until what happens from now on happens after the Rule was created, which is kept in whole seconds.
async fn is_old(rule: &Rule) {
    let created = rule.metadata.creation_timestamp.clone().unwrap().0;
    eventually("the Rule is a second old", LONG, || async {
        let age = Timestamp::now().duration_since(created);
        if age.as_secs() >= 2 { Ok(()) } else { Err(format!("{age:?}")) }
    })
    .await;
}

/// What is sent, and where to.
struct Flood {
    kind: Kind,
    to: SocketAddr,
    path: String,
    starts: String,
}

/// What the senders heard.
#[derive(Default)]
struct Sent {
    /// By status.
    answers: HashMap<u16, usize>,
    /// Events that were accepted, and the requests that had them.
    accepted: usize,
    taken: Vec<usize>,
    slowest: Duration,
}

impl Flood {
    /// Sends so many requests, evenly over a time, from all addresses.
    async fn pour(&self, requests: usize, time: Duration) -> Sent {
        let (next, begun) = (AtomicUsize::new(0), tokio::time::Instant::now());
        let senders = (0..SENDERS).map(async |sender| {
            let mut sent = Sent::default();
            loop {
                let request = next.fetch_add(1, Ordering::Relaxed);
                if request >= requests {
                    return sent;
                }
                let share =
                    f64::from(u32::try_from(request).unwrap()) / f64::from(u32::try_from(requests).unwrap());
                tokio::time::sleep_until(begun + time.mul_f64(share)).await;
                let body = self.kind.body(request, &self.starts, None).to_string();
                let asked = Instant::now();
                let answer = self.post(sender, &body).await;
                sent.slowest = sent.slowest.max(asked.elapsed());
                sent.hear(request, &answer);
            }
        });
        join_all(senders).await.into_iter().fold(Sent::default(), Sent::and)
    }

    /// One request, from the address of a sender.
    async fn post(&self, sender: usize, body: &str) -> Answer {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, u8::try_from(10 + sender).unwrap()], 0).into()).unwrap();
        let headers = [
            ("authorization", format!("Bearer {TOKEN}")),
            (
                "content-type",
                match self.kind {
                    Kind::Alerts => "application/json".to_owned(),
                    Kind::Events => "application/cloudevents-batch+json".to_owned(),
                },
            ),
        ];
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let stream = socket.connect(self.to).await.unwrap();
        http::post_over(stream, &self.path, &headers, body.as_bytes()).await.unwrap()
    }
}

impl Sent {
    fn hear(&mut self, request: usize, answer: &Answer) {
        *self.answers.entry(answer.status).or_default() += 1;
        let accepted =
            answer.text.strip_prefix("accepted ").and_then(|rest| rest.split(' ').next()?.parse().ok());
        if let Some(accepted) = accepted.filter(|_: &usize| answer.status == 202) {
            self.accepted += accepted;
            self.taken.push(request);
        }
    }

    fn and(mut self, other: Self) -> Self {
        for (status, count) in other.answers {
            *self.answers.entry(status).or_default() += count;
        }
        self.accepted += other.accepted;
        self.taken.extend(other.taken);
        self.slowest = self.slowest.max(other.slowest);
        self
    }

    fn rows(&self, kind: Kind, requests: usize, took: Duration) -> Vec<Row> {
        let name = kind.name();
        let count = |status| self.answers.get(&status).copied().unwrap_or_default();
        let share = |answers| 100.0 * float(answers) / float(requests);
        let (taken, refused) = (count(202), count(503));
        // Counted and not what is left of the shares, which are rounded: the goal is none at all.
        let other = requests.saturating_sub(taken + refused);
        let offered = float(requests * IN_A_REQUEST) / took.as_secs_f64();
        vec![
            Row::plain(format!("{name} offered"), "a second", one(offered), Goal::None),
            Row::plain("… of the requests, answered with 202", "%", one(share(taken)), Goal::None),
            Row::plain("… with 503", "%", one(share(refused)), Goal::None),
            Row::plain("… with anything else, or not at all", "%", one(share(other)), Goal::Always(0.0)),
            Row::plain("… the slowest answer", "ms", one(self.slowest.as_secs_f64() * 1000.0), Goal::None),
        ]
    }
}

fn decided_rows(kind: Kind, (sent, seen): (&Sent, Followed), after: Duration) -> Vec<Row> {
    let lost = sent.accepted.saturating_sub(seen.events) + seen.open;
    vec![
        Row::plain(format!("{} accepted", kind.name()), "", one(float(sent.accepted)), Goal::None),
        Row::plain("… without an outcome", "", one(float(lost)), Goal::Always(0.0)),
        Row::plain("… all decided, after the last was sent", "s", one(after.as_secs_f64()), Goal::None),
    ]
}

/// The most Executions that were decided within a minute.
async fn launches(berth: &Berth, kind: Kind) -> Row {
    let found = berth.api::<Execution>().list(&ListParams::default()).await.unwrap().items;
    let mut times: Vec<_> =
        found.iter().filter_map(|e| Some(e.spec.decision.as_ref()?.time.0.as_second())).collect();
    times.sort_unstable();
    let within = |from: &i64| times.iter().filter(|time| (*from..*from + 60).contains(*time)).count();
    let most = times.iter().map(within).max().unwrap_or_default();
    assert!(!times.is_empty(), "it acts on none");
    let what = format!("{}: Executions within a minute", kind.name());
    Row::plain(what, "", one(float(most)), Goal::Always(float(LIMIT)))
}

/// Says of each alert that was accepted that it is resolved, until that is heard, and waits until all is over.
async fn resolved(flood: &Flood, sent: &Sent, following: &Following) -> Row {
    let (begun, ends) = (Instant::now(), Timestamp::now().to_string());
    let next = Arc::new(AtomicUsize::new(0));
    let senders = (0..SENDERS).map(async |sender| {
        while let Some(request) = sent.taken.get(next.fetch_add(1, Ordering::Relaxed)) {
            let body = flood.kind.body(*request, &flood.starts, Some(&ends)).to_string();
            eventually("it is heard", LONG, || async {
                let answer = flood.post(sender, &body).await;
                if answer.status < 300 { Ok(()) } else { Err(format!("{answer:?}")) }
            })
            .await;
        }
    });
    join_all(senders).await;
    following.until("all is over", LONG, |seen| seen.unsettled == 0).await;
    Row::plain("all resolved, heard and over in", "s", one(begun.elapsed().as_secs_f64()), Goal::None)
}

fn costs(kind: Kind, controller: &Controller, following: &Following, used: Duration) -> Vec<Row> {
    let (name, (now, most)) = (kind.name(), usage::memory(controller.id()));
    let kept = float(following.most_bytes()) / 1024.0 / 1024.0;
    vec![
        Row::plain(format!("{name}: EventBatches at the most"), "MiB", one(kept), Goal::AtMost(64.0)),
        Row::plain(format!("{name}: memory at its peak"), "MB", one(most), Goal::Always(256.0)),
        Row::plain("… when all is over", "MB", one(now), Goal::None),
        Row::plain(format!("{name}: CPU in all"), "s", one(used.as_secs_f64()), Goal::None),
    ]
}

fn one(value: f64) -> Samples {
    std::iter::once(value).collect()
}

#[expect(clippy::cast_precision_loss, reason = "less than millions")]
fn float(count: usize) -> f64 {
    count as f64
}
