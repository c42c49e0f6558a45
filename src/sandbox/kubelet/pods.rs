//! Which pods are this node's: binds those that no node has yet, and gives each its worker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use kube::api::PostParams;
use kube::core::Status;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::host::Host;
use super::start::Mode;
use super::worker::{Latest, RETRY, Worker};
use crate::sandbox::recorder::Notice;

/// The workers of a node.
pub struct Pods {
    host: Arc<Host>,
    /// By UID. A worker that is done stays until its pod is gone, so that it gets no second one.
    latest: HashMap<String, watch::Sender<Latest>>,
    listed: HashSet<String>,
    tasks: JoinSet<()>,
}

impl Pods {
    /// The workers of `host`.
    pub fn new(host: Arc<Host>) -> Self {
        Self { host, latest: HashMap::new(), listed: HashSet::new(), tasks: JoinSet::new() }
    }

    /// Watches pods until the node stops, and then until every worker is done.
    pub async fn run(mut self) {
        let client = self.host.client.clone();
        let pods: Api<Pod> = match &self.host.options.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        let events = watcher(pods, watcher::Config::default()).default_backoff();
        pin_mut!(events);
        let stop = self.host.stop.clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = events.next() => match event {
                    Ok(event) => self.see(event),
                    Err(error) => warn!(%error, "the watch of pods failed"),
                },
                Some(_) = self.tasks.join_next() => {}
            }
        }
        while self.tasks.join_next().await.is_some() {}
    }

    fn see(&mut self, event: watcher::Event<Pod>) {
        match event {
            watcher::Event::Init => self.listed.clear(),
            watcher::Event::InitApply(pod) => {
                self.listed.extend(pod.uid());
                self.apply(pod);
            }
            watcher::Event::InitDone => {
                let listed = std::mem::take(&mut self.listed);
                self.latest.extract_if(|uid, _| !listed.contains(uid)).for_each(|(_, latest)| gone(&latest));
            }
            watcher::Event::Apply(pod) => self.apply(pod),
            watcher::Event::Delete(pod) => {
                let latest = pod.uid().and_then(|uid| self.latest.remove(&uid));
                latest.iter().for_each(gone);
            }
        }
    }

    fn apply(&mut self, pod: Pod) {
        let spec = pod.spec.as_ref();
        match spec.and_then(|spec| spec.node_name.as_deref()).filter(|node| !node.is_empty()) {
            Some(node) if node == self.host.options.node_name => self.work(Arc::new(pod)),
            Some(_) => {}
            None => {
                let gated = spec.is_some_and(|spec| {
                    spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty())
                });
                if !gated && pod.metadata.deletion_timestamp.is_none() {
                    self.tasks.spawn(bind(self.host.clone(), pod));
                }
            }
        }
    }

    fn work(&mut self, pod: Arc<Pod>) {
        let uid = pod.uid().unwrap_or_default();
        if let Some(latest) = self.latest.get(&uid) {
            latest.send_replace(Some(pod));
            return;
        }
        let (sender, latest) = watch::channel(Some(pod.clone()));
        self.latest.insert(uid, sender);
        let worker = Worker::new(self.host.clone(), pod, latest);
        if worker.mode == Mode::Print {
            worker.print();
        }
        self.tasks.spawn(worker.run());
    }
}

fn gone(latest: &watch::Sender<Latest>) {
    latest.send_replace(None);
}

async fn bind(host: Arc<Host>, pod: Pod) {
    let name = pod.name_any();
    let namespace = pod.namespace().unwrap_or_default();
    let node = &host.options.node_name;
    let mut binding = Binding {
        target: ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(node.clone()),
            ..ObjectReference::default()
        },
        ..Binding::default()
    };
    binding.metadata.name = Some(name.clone());
    binding.metadata.uid = pod.uid();
    let api: Api<Pod> = Api::namespaced(host.client.clone(), &namespace);
    let mut attempts = tokio::time::interval(RETRY);
    while !host.stop.is_cancelled() {
        attempts.tick().await;
        let bound: kube::Result<Status> =
            api.create_subresource("binding", &name, &PostParams::default(), &binding).await;
        match bound {
            Ok(_) => {
                let message = format!("Successfully assigned {namespace}/{name} to {node}");
                let notice = Notice::normal("default-scheduler", "Scheduled", message);
                host.recorder.record(pod.object_ref(&()), notice);
                return;
            }
            // Somebody else bound it, or it is gone, or another one has its name now.
            Err(kube::Error::Api(refusal)) if refusal.code < 500 && refusal.code != 429 => {
                debug!(pod = %name, %refusal, "pod not bound");
                return;
            }
            Err(error) => warn!(pod = %name, %error, "binding failed"),
        }
    }
}
