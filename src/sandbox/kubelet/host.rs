//! What all pods of a node share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use kube::Client;
use tokio_util::sync::CancellationToken;

use super::KubeletOptions;
use super::logstore::LogStore;
use super::process::Watchdog;
use super::recorder::Recorder;

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
    /// An address for a pod. Nothing listens there: the network is make-believe too.
    pub fn next_ip(&self) -> String {
        let count = self.addresses.fetch_add(1, Ordering::Relaxed) + 2;
        format!("10.88.{}.{}", count / 256 % 256, count % 256)
    }
}
