//! What all pods of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use k8s_openapi::api::core::v1::Pod;
use kube::{Client, Resource};
use tokio_util::sync::CancellationToken;

use super::KubeletOptions;
use super::logstore::LogStore;
use super::process::Watchdog;
use crate::sandbox::recorder::{Notice, Recorder};

/// The node, as its pods see it.
pub struct Host {
    /// The API server.
    pub client: Client,
    /// The kubelet's options.
    pub options: KubeletOptions,
    /// Writes events.
    pub recorder: Recorder,
    /// Keeps logs.
    pub logs: Arc<LogStore>,
    /// Ends processes that would outlive the kubelet.
    pub watchdog: Arc<Watchdog>,
    /// Says when the node stops.
    pub stop: CancellationToken,
    /// How many addresses were given out.
    pub addresses: AtomicU32,
}

impl Host {
    /// Records good news of `pod` or of one of its containers.
    pub fn tell(&self, pod: &Pod, container: Option<(&str, bool)>, reason: &'static str, message: String) {
        self.record(pod, container, Notice::normal("kubelet", reason, message));
    }

    /// Records bad news of `pod` or of one of its containers.
    pub fn warn(&self, pod: &Pod, container: Option<(&str, bool)>, reason: &'static str, message: String) {
        self.record(pod, container, Notice::warning("kubelet", reason, message));
    }

    fn record(&self, pod: &Pod, container: Option<(&str, bool)>, notice: Notice) {
        let mut about = pod.object_ref(&());
        about.field_path = container.map(|(name, init)| {
            let list = if init { "initContainers" } else { "containers" };
            format!("spec.{list}{{{name}}}")
        });
        self.recorder.record(about, notice);
    }

    /// An address for a pod. Nothing listens there: the network is make-believe too.
    pub fn next_ip(&self) -> String {
        let count = self.addresses.fetch_add(1, Ordering::Relaxed) + 2;
        format!("10.88.{}.{}", count / 256 % 256, count % 256)
    }
}
