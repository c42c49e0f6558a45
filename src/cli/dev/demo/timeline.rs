//! What happened, as a person reads it: every line is made from an object that the API showed, but for those that say what the
//! demo does itself.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use anstyle::{AnsiColor, Style};
use futures::{AsyncBufReadExt, StreamExt};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ApiResource, LogParams};
use kube::{Client, ResourceExt};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::api::{AttemptState, Execution, LABEL, Pack, Reason, RungStatus};
use crate::source::watch::{Delivery, Scope, run};

/// The timeline. Dropping it stops the watching.
pub struct Timeline {
    page: Arc<Page>,
    _watches: JoinSet<()>,
}

/// What was told, so that nothing is told twice.
struct Page {
    client: Client,
    namespace: String,
    started: Timestamp,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    lines: BTreeSet<String>,
    jobs: usize,
    /// Counts incidents: the same thing is told again in the next.
    incident: usize,
    incident_began: Option<Timestamp>,
    /// What came of each Execution that has ended: its name, and how.
    ends: Vec<(String, String)>,
    /// When the controller was killed, until another one renews the Lease.
    killed: Option<Timestamp>,
}

/// How a line looks.
#[derive(Clone, Copy)]
enum Tone {
    Plain,
    Bad,
    Good,
    Act,
    Output,
}

impl Timeline {
    /// Starts watching and telling.
    pub fn start(client: &Client, namespace: &str, system: &str, server: &str) -> Self {
        let page = Arc::new(Page {
            client: client.clone(),
            namespace: namespace.to_owned(),
            started: Timestamp::now(),
            told: Mutex::default(),
        });
        page.tell(Tone::Plain, "cluster", &format!("a make-believe Kubernetes listens on {server}"));
        let mut watches = JoinSet::new();
        page.watch::<Pack>(&mut watches, namespace, Page::pack);
        page.watch::<Pod>(&mut watches, namespace, Page::pod);
        page.watch::<Job>(&mut watches, namespace, Page::job);
        page.watch::<Execution>(&mut watches, namespace, Page::execution);
        page.watch::<Lease>(&mut watches, system, Page::lease);
        Self { page, _watches: watches }
    }

    /// A new part of the story.
    #[expect(clippy::unused_self, reason = "a timeline tells, even if it need not look at itself")]
    pub fn chapter(&self, title: &str) {
        let bold = Style::new().bold();
        anstream::println!("\n{bold}{title}{bold:#}");
    }

    /// Something is about to be broken.
    pub fn incident(&self) {
        let mut told = self.page.told.lock();
        told.incident += 1;
        told.incident_began = None;
        told.jobs = 0;
    }

    /// The demo has killed the controller.
    pub fn killed(&self, pid: u32) {
        self.page.told.lock().killed = Some(Timestamp::now());
        self.page.tell(Tone::Bad, "killed", &format!("SIGKILL to the controller (process {pid})"));
    }

    /// A Job as it stands now that there is no controller.
    pub fn without_controller(&self, job: &Job) {
        let active = job.status.as_ref().and_then(|status| status.active).unwrap_or_default();
        if active > 0 {
            let text = format!("Job {} without a controller: its Pod runs", job.name_any());
            self.page.tell(Tone::Act, "goes on", &text);
        }
    }

    /// The demo has started the controller again.
    pub fn restarted(&self, pid: u32) {
        self.page.tell(Tone::Plain, "restarted", &format!("the controller (now process {pid})"));
    }

    /// Whether the end of an Execution is among what was told.
    pub fn has_told_the_end_of(&self, execution: &Execution) -> bool {
        let name = execution.name_any();
        self.page.told.lock().ends.iter().any(|(told, _)| *told == name)
    }

    /// The end.
    pub fn end(&self) {
        let ends = self.page.told.lock().ends.clone();
        self.chapter("What was shown");
        for (name, end) in ends {
            anstream::println!("  {name}: {end}");
        }
    }
}

impl Page {
    fn watch<K>(self: &Arc<Self>, watches: &mut JoinSet<()>, namespace: &str, look: fn(&Arc<Self>, &K))
    where
        K: kube::Resource<DynamicType = ()> + DeserializeOwned + 'static,
    {
        let scope = Scope {
            resource: ApiResource::erase::<K>(&()),
            namespace: Some(namespace.to_owned()),
            selector: None,
        };
        let (page, client) = (self.clone(), self.client.clone());
        watches.spawn(async move {
            let see = |object: &Value| {
                if let Ok(object) = K::deserialize(object) {
                    look(&page, &object);
                }
            };
            run(client, scope, &Notify::new(), |delivery| match delivery {
                Delivery::Page(page) => page.items.iter().for_each(|object| see(object)),
                Delivery::Added(object) | Delivery::Changed(object) => see(&object),
                Delivery::Synced(_)
                | Delivery::Left(_)
                | Delivery::Deleted(_)
                | Delivery::Alive
                | Delivery::Missed
                | Delivery::Broken(_) => {}
            })
            .await;
        });
    }

    fn pack(self: &Arc<Self>, pack: &Pack) {
        let Some(status) = &pack.status else { return };
        if let Some(revision) = &status.applied_revision {
            let objects = status.inventory.iter().filter(|entry| entry.kind != "ConfigMap").count();
            self.once(
                Tone::Plain,
                "synced",
                &format!("{} {}: {objects} objects in force [sync]", pack.name_any(), short(revision)),
            );
        }
    }

    fn pod(self: &Arc<Self>, pod: &Pod) {
        if pod.labels().contains_key(LABEL.execution) {
            return self.action_pod(pod);
        }
        let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.clone()).unwrap_or_default();
        for status in statuses {
            let waiting =
                status.state.as_ref().and_then(|s| s.waiting.as_ref()).and_then(|w| w.reason.clone());
            let last = status.last_state.as_ref().and_then(|s| s.terminated.as_ref());
            let (Some("CrashLoopBackOff"), Some(last)) = (waiting.as_deref(), last) else { continue };
            let mut told = self.told.lock();
            if told.incident > 0 && told.incident_began.is_none() {
                told.incident_began = Some(Timestamp::now());
                drop(told);
                let why =
                    last.message.as_deref().and_then(|message| message.lines().last()).unwrap_or_default();
                let text = format!("crash loop, exit code {}: {why}", last.exit_code);
                self.once(Tone::Bad, "broken", &text);
            }
        }
    }

    /// What an Action's container writes, while it runs.
    fn action_pod(self: &Arc<Self>, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref()).unwrap_or_default();
        let first = matches!(phase, "Running" | "Succeeded" | "Failed")
            && self.told.lock().lines.insert(format!("log of {}", pod.name_any()));
        if !first {
            return;
        }
        let (page, name) = (self.clone(), pod.name_any());
        tokio::spawn(async move {
            let api: Api<Pod> = Api::namespaced(page.client.clone(), &page.namespace);
            let params = LogParams { follow: true, ..LogParams::default() };
            let Ok(stream) = api.log_stream(&name, &params).await else { return };
            let mut lines = stream.lines();
            while let Some(Ok(line)) = lines.next().await {
                page.tell(Tone::Output, "output", &line);
            }
        });
    }

    fn job(self: &Arc<Self>, job: &Job) {
        if self.told.lock().lines.insert(format!("job {}", job.uid().unwrap_or_default())) {
            let mut told = self.told.lock();
            told.jobs += 1;
            let text = format!("Job {} (Jobs created: {})", job.name_any(), told.jobs);
            drop(told);
            self.once(Tone::Act, "job", &text);
        }
    }

    /// A renewal after the kill is the new controller's: the old one was gone by then.
    fn lease(self: &Arc<Self>, lease: &Lease) {
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
        let mut told = self.told.lock();
        let (Some(killed), Some(renewed)) = (told.killed, renewed) else { return };
        if renewed <= killed {
            return;
        }
        told.killed = None;
        drop(told);
        let text = format!("the new controller has the Lease, {} after the kill", seconds(killed, renewed));
        self.tell(Tone::Plain, "leads", &text);
    }

    fn execution(self: &Arc<Self>, execution: &Execution) {
        self.decision(execution);
        let Some(status) = &execution.status else { return };
        for (index, rung) in status.rungs.iter().enumerate() {
            self.rung(execution, index, rung);
        }
        if status.finished_at.is_some() {
            self.finished(execution);
        }
        if status.episode_closed_at.is_some() {
            let name = execution.name_any();
            self.once(
                Tone::Plain,
                "over",
                &format!("nothing matches any more: the episode is closed [{name}]"),
            );
        }
    }

    fn decision(&self, execution: &Execution) {
        let (Some(decision), Some(target)) = (&execution.spec.decision, &execution.spec.target) else {
            return;
        };
        let name = execution.name_any();
        let matched = &decision.matched.object;
        self.once(Tone::Plain, "matched", &format!("{matched}; what is to be healed is {target} [{name}]"));
        if let Some(since) = &decision.since {
            let held = seconds(since.0, decision.time.0);
            let passed: Vec<_> = decision.passed.iter().map(|guard| format!("{guard:?}")).collect();
            let text = format!("it held for {held}; guards passed: {} [{name}]", passed.join(", "));
            self.once(Tone::Plain, "held", &text);
        }
        let source = decision.rule.source.as_deref().unwrap_or("applied by hand");
        let revision = decision.rule.revision.as_deref().map(short).unwrap_or_default();
        self.once(Tone::Plain, "rule", &format!("{} ({source} at {revision}) [{name}]", decision.rule.name));
        let account = &execution.spec.service_account_name;
        self.once(Tone::Plain, "decided", &format!("Execution {name} as ServiceAccount {account}"));
    }

    fn rung(&self, execution: &Execution, index: usize, rung: &RungStatus) {
        let name = execution.name_any();
        let step = format!("rung {}, {}", index + 1, rung.run);
        let mut text = rung.message.clone();
        match rung.state {
            AttemptState::Launching | AttemptState::Unknown => {}
            AttemptState::Running => {
                let job = rung.job.as_ref().map(|job| job.name.clone()).unwrap_or_default();
                self.once(Tone::Act, "runs", &format!("{step}: as Job {job} [{name}]"));
            }
            AttemptState::Succeeded => {
                // The message of a collector names its one output already.
                for (output, value) in rung.outputs.0.iter().filter(|_| rung.job.is_some()) {
                    let _ = write!(text, "{}{output} = {value}", if text.is_empty() { "" } else { "; " });
                }
                self.once(Tone::Act, "done", &format!("{step}: {} [{name}]", brief(&text)));
            }
            AttemptState::Failed | AttemptState::DeadlineExceeded | AttemptState::Lost => {
                // Of a failed Job's log, the last line says most.
                let last = text.lines().last().unwrap_or_default();
                self.once(Tone::Bad, "failed", &format!("{step}: {last} [{name}]"));
            }
        }
        if let Some(verify) = &rung.verify {
            self.once(Tone::Plain, "verifying", &format!("{step}: is the target well again? [{name}]"));
            if verify.holding_since.is_some() && verify.held.is_none() {
                self.once(
                    Tone::Plain,
                    "holds",
                    &format!("{}; is it stable? [{name}/{index}]", verify.message),
                );
            }
            let verdict = format!("{step}: {} [{name}]", verify.message);
            match verify.held {
                Some(true) => self.once(Tone::Good, "verified", &verdict),
                Some(false) => self.once(Tone::Bad, "no help", &verdict),
                None => {}
            }
        }
    }

    fn finished(&self, execution: &Execution) {
        let (name, reason) = (execution.name_any(), execution.reason().unwrap_or_default());
        if !self.told.lock().lines.insert(format!("finished {name}")) {
            return;
        }
        let (began, jobs) = {
            let told = self.told.lock();
            (told.incident_began.unwrap_or(self.started), told.jobs)
        };
        let took = seconds(began, Timestamp::now());
        let (tone, tag, text) = match reason == Reason::TargetRecovered.as_str() {
            true => (Tone::Good, "healed", format!("{took} after it broke, with {jobs} Job")),
            false => (Tone::Bad, "ended", format!("{reason} {took} after it broke: a person has to act")),
        };
        self.tell(tone, tag, &text);
        self.told.lock().ends.push((name, format!("{tag}, {text}")));
    }

    /// Tells a line once an incident. What stands in brackets at its end only tells lines apart.
    fn once(&self, tone: Tone, tag: &str, text: &str) {
        let mut told = self.told.lock();
        let incident = if text.ends_with(']') { 0 } else { told.incident };
        if told.lines.insert(format!("{incident} {tag} {text}")) {
            drop(told);
            self.tell(tone, tag, text.rsplit_once(" [").map_or(text, |(text, _)| text));
        }
    }

    fn tell(&self, tone: Tone, tag: &str, text: &str) {
        let (sign, style) = match tone {
            Tone::Plain => ("·", Style::new()),
            Tone::Bad => ("✗", AnsiColor::Red.on_default()),
            Tone::Good => ("✓", AnsiColor::Green.on_default().bold()),
            Tone::Act => ("▶", AnsiColor::Cyan.on_default()),
            Tone::Output => ("│", Style::new().dimmed()),
        };
        let at = Timestamp::now().duration_since(self.started).as_secs_f64();
        anstream::println!("{at:6.1}s  {style}{sign} {tag:<9}{style:#} {text}");
    }
}

fn seconds(from: Timestamp, to: Timestamp) -> String {
    format!("{:.1}s", to.duration_since(from).as_secs_f64())
}

/// A revision with as much of its commit as people read.
fn short(revision: &str) -> String {
    match revision.split_once("sha1:") {
        Some((head, commit)) => format!("{head}{}", commit.get(..7).unwrap_or(commit)),
        None => revision.to_owned(),
    }
}

/// A text with less of the hashes at the ends of names: whoever wants to see the object finds it by the rest.
fn brief(text: &str) -> String {
    let is_hash = |end: &str| end.len() == 16 && end.bytes().all(|byte| byte.is_ascii_hexdigit());
    let words = text.split(' ').map(|word| match word.rsplit_once('-') {
        Some((name, hash)) if is_hash(hash) => format!("{name}-{}…", &hash[..4]),
        _ => word.to_owned(),
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_most_of_their_hash() {
        assert_eq!(brief("saved in ConfigMap cache-49bbfb677e88163c"), "saved in ConfigMap cache-49bb…");
        assert_eq!(brief("shop-qkdsb2mtmm-jzx7p; freedBytes = 10"), "shop-qkdsb2mtmm-jzx7p; freedBytes = 10");
    }
}
