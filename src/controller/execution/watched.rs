//! Jobs of Executions that run, watched as their account: the end of one wakes its Execution, so that nobody has to ask for
//! it again and again. An account that may not watch Jobs costs more requests, and its Executions notice a little later.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::Job;
use kube::ResourceExt;
use kube::api::ApiResource;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::api::{Execution, LABEL, Reason};
use crate::cluster::account::Account;
use crate::cluster::discovery::Served;
use crate::controller::context::Context;
use crate::controller::executions::Executions;
use crate::controller::queue::{Kind, Queue};
use crate::source::watch::{self, Delivery, Scope};

/// How long it is remembered that an account may not watch.
const REFUSED: Duration = Duration::from_mins(1);
/// How often it is looked whether a watch is still needed.
const NEEDED: Duration = Duration::from_secs(30);

/// The watches, by namespace and account.
#[derive(Default)]
pub struct JobWatches(Mutex<BTreeMap<(String, String), Standing>>);

enum Standing {
    Watches(Watch),
    Refused(Instant),
}

struct Watch {
    task: AbortHandle,
    /// Whether it has seen all that there is, and hears of what changes.
    is_sound: Arc<AtomicBool>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl JobWatches {
    /// Whether an Execution of the account hears of the end of its Job. If nobody watches yet, that begins.
    pub async fn hear(&self, context: &Context, account: &Account) -> bool {
        let (namespace, name) = account.namespace_and_name();
        let key = (namespace.to_owned(), name.to_owned());
        match self.0.lock().get(&key) {
            Some(Standing::Watches(watch)) if !watch.task.is_finished() => {
                return watch.is_sound.load(Ordering::Relaxed);
            }
            Some(Standing::Refused(at)) if at.elapsed() < REFUSED => return false,
            _ => {}
        }
        let jobs = Served { resource: ApiResource::erase::<Job>(&()), namespaced: true };
        let asked = context.reviews.may(account, "watch", &jobs, namespace).await;
        let may = asked.unwrap_or_else(|error| {
            tracing::debug!(%error, "Jobs are not watched");
            false
        });
        let mut known = self.0.lock();
        // Another Execution may have asked at the same time.
        let is_there = matches!(known.get(&key), Some(Standing::Watches(watch)) if !watch.task.is_finished());
        if may && !is_there {
            known.insert(key, Standing::Watches(start(context, account, jobs.resource)));
        } else if !may {
            known.insert(key, Standing::Refused(Instant::now()));
        }
        false
    }
}

/// Watches until no Execution of the account runs.
fn start(context: &Context, account: &Account, resource: ApiResource) -> Watch {
    let (namespace, name) = account.namespace_and_name();
    let (namespace, name, client) = (namespace.to_owned(), name.to_owned(), account.client());
    let (queue, executions) = (context.queue.clone(), context.executions.clone());
    let scope =
        Scope { resource, namespace: Some(namespace.clone()), selector: Some(LABEL.execution.to_owned()) };
    let is_sound = Arc::new(AtomicBool::new(false));
    let sound = is_sound.clone();
    let task = tokio::spawn(async move {
        let relist = Notify::new();
        tokio::select! {
            () = watch::run(client, scope, &relist, |delivery| take_in(&queue, &namespace, &sound, delivery)) => {}
            () = while_needed(&executions, (&namespace, &name)) => {}
        }
    });
    Watch { task: task.abort_handle(), is_sound }
}

fn take_in(queue: &Queue, namespace: &str, is_sound: &AtomicBool, delivery: Delivery) {
    let wake = |job: &Value| {
        if let Some(execution) = job["metadata"]["labels"][LABEL.execution].as_str() {
            queue.add(Kind::Execution, namespace, execution);
        }
    };
    match delivery {
        Delivery::Page(page) => page.items.iter().filter(|job| is_over(job)).for_each(|job| wake(job)),
        Delivery::Synced(_) => is_sound.store(true, Ordering::Relaxed),
        Delivery::Added(job) | Delivery::Changed(job) if is_over(&job) => wake(&job),
        Delivery::Left(job) | Delivery::Deleted(job) => wake(&job),
        Delivery::Added(_) | Delivery::Changed(_) | Delivery::Alive | Delivery::Missed => {}
        Delivery::Broken(error) => {
            tracing::debug!(namespace, error, "the watch of Jobs is broken");
            is_sound.store(false, Ordering::Relaxed);
        }
    }
}

/// Whether there is something to do about a Job: until it ends, what its status counts is nothing to its Execution.
fn is_over(job: &Value) -> bool {
    let ended =
        job.pointer("/status/conditions").and_then(Value::as_array).is_some_and(|all| !all.is_empty());
    ended || job.pointer("/metadata/deletionTimestamp").is_some()
}

/// Whether something is done as its account: what stands still without it is not to be looked at, either.
fn goes_on(execution: &Execution) -> bool {
    !execution.is_finished() && execution.reason() != Some(Reason::MissingPermissions.as_str())
}

async fn while_needed(executions: &Executions, (namespace, name): (&str, &str)) {
    let runs = |execution: &Execution| {
        goes_on(execution)
            && execution.spec.service_account_name == name
            && execution.namespace().as_deref() == Some(namespace)
    };
    let mut tick = tokio::time::interval(NEEDED);
    tick.tick().await;
    loop {
        tick.tick().await;
        if !executions.is_any(runs) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::queue::{Key, Requeue, queue};
    use crate::source::watch::{Page, Synced, now};
    use crate::telemetry::Metrics;
    use serde_json::json;

    fn job(execution: &str, status: &Value) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": "j", "labels": {LABEL.execution: execution}}, "status": status}))
    }

    #[test]
    fn what_stands_still_without_its_account_needs_no_watch() {
        let needs = |status: serde_json::Value| {
            let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
                "metadata": {"name": "x"}, "spec": {"serviceAccountName": "healer"}, "status": status});
            goes_on(&serde_json::from_value(execution).expect("an Execution"))
        };
        let stands = |reason: &str| {
            let time = "2026-01-01T00:00:00Z";
            json!({"conditions": [{"type": "Succeeded", "status": "Unknown", "reason": reason, "message": "",
                "lastTransitionTime": time}]})
        };
        assert!(needs(json!({})) && needs(stands("Running")));
        assert!(!needs(stands("MissingPermissions")));
        assert!(!needs(json!({"finishedAt": "2026-01-01T00:00:00Z"})));
    }

    #[tokio::test(start_paused = true)]
    async fn an_execution_is_woken_when_its_job_has_ended_or_goes() {
        let (queue, worker) = queue(1, Metrics::default().work);
        let is_sound = AtomicBool::new(false);
        let ended = json!({"conditions": [{"type": "Complete", "status": "True"}]});
        let items = vec![job("listed", &ended), job("goes-on", &json!({"active": 1}))];
        take_in(&queue, "a", &is_sound, Delivery::Page(Arc::new(Page::new(true, items).0)));
        assert!(!is_sound.load(Ordering::Relaxed), "there may be more");
        let synced = Synced { asked: now(), version: "7".to_owned() };
        take_in(&queue, "a", &is_sound, Delivery::Synced(synced));
        assert!(is_sound.load(Ordering::Relaxed));
        for delivery in [
            Delivery::Changed(job("goes-on", &json!({"active": 1}))),
            Delivery::Changed(job("ended", &ended)),
            Delivery::Deleted(job("deleted", &json!({}))),
            Delivery::Changed(Arc::new(json!({"metadata": {"name": "j"}, "status": ended}))),
            Delivery::Broken("cut".to_owned()),
        ] {
            take_in(&queue, "a", &is_sound, delivery);
        }
        assert!(!is_sound.load(Ordering::Relaxed), "nobody hears of what changes now");
        let woken = Arc::new(Mutex::new(Vec::new()));
        let seen = woken.clone();
        let run = worker.run(move |Key { kind, namespace, name }| {
            seen.lock().push((kind, namespace, name));
            std::future::ready(Requeue::OnChange)
        });
        let _ = tokio::time::timeout(Duration::from_secs(5), run).await;
        let expected = ["deleted", "ended", "listed"];
        woken.lock().sort();
        assert_eq!(*woken.lock(), expected.map(|name| (Kind::Execution, "a".to_owned(), name.to_owned())));
    }
}
