//! The node itself: registered once, kept alive by a Lease and now and then by its status.

use std::time::Duration;

use jiff::Unit;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::{
    DaemonEndpoint, Namespace, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeStatus,
    NodeSystemInfo,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::json;
use tokio::time::interval;
use tracing::{debug, warn};

use super::ADDRESS;
use crate::sandbox::clock::Clock;

/// The kubelet's own interval; the node is given up after 40 seconds of silence.
const INTERVAL: Duration = Duration::from_secs(10);
const RETRY: Duration = Duration::from_secs(1);
const LEASES: &str = "kube-node-lease";

/// Registers a node and keeps it alive.
pub struct Registration {
    client: Client,
    name: String,
    port: Option<u16>,
    clock: Clock,
}

impl Registration {
    /// For the node `name`, whose logs are served at `port`.
    pub fn new(client: Client, name: String, port: Option<u16>, clock: Clock) -> Self {
        Self { client, name, port, clock }
    }

    /// Registers the node and renews its Lease for as long as it is polled.
    pub async fn run(self) {
        let mut registered = None;
        let mut beats = interval(INTERVAL);
        loop {
            beats.tick().await;
            let mut attempts = interval(RETRY);
            attempts.tick().await;
            while let Err(error) = self.beat(&mut registered).await {
                warn!(%error, node = %self.name, "the node's heartbeat failed");
                registered = None;
                attempts.tick().await;
            }
        }
    }

    async fn beat(&self, registered: &mut Option<Node>) -> kube::Result<()> {
        let node = match registered.take() {
            Some(node) => node,
            None => self.register().await?,
        };
        self.renew(registered.insert(node)).await
    }

    async fn register(&self) -> kube::Result<Node> {
        let api: Api<Node> = Api::all(self.client.clone());
        let labels = [
            ("kubernetes.io/hostname", self.name.as_str()),
            ("kubernetes.io/os", "linux"),
            ("kubernetes.io/arch", arch()),
        ];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let node = Node {
            metadata: ObjectMeta {
                name: Some(self.name.clone()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            ..Node::default()
        };
        match api.create(&PostParams::default(), &node).await {
            Err(kube::Error::Api(refusal)) if refusal.is_already_exists() => {
                debug!("the node is known already");
            }
            created => drop(created?),
        }
        let patch = json!({"status": self.status()});
        api.patch_status(&self.name, &PatchParams::default(), &Patch::Strategic(patch)).await
    }

    async fn renew(&self, node: &Node) -> kube::Result<()> {
        let api: Api<Lease> = Api::namespaced(self.client.clone(), LEASES);
        let now = self.clock.now();
        let time = MicroTime(now.round(Unit::Microsecond).unwrap_or(now));
        let patch = Patch::Merge(json!({"spec": {"renewTime": time}}));
        match api.patch(&self.name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(refusal)) if refusal.is_not_found() => {
                self.first_lease(&api, node, time).await
            }
            renewed => renewed.map(drop),
        }
    }

    async fn first_lease(&self, api: &Api<Lease>, node: &Node, time: MicroTime) -> kube::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        if namespaces.get_opt(LEASES).await?.is_none() {
            let namespace = Namespace { metadata: named(LEASES), ..Namespace::default() };
            namespaces.create(&PostParams::default(), &namespace).await?;
        }
        let owner = OwnerReference {
            api_version: Node::api_version(&()).into_owned(),
            kind: Node::kind(&()).into_owned(),
            name: self.name.clone(),
            uid: node.uid().unwrap_or_default(),
            ..OwnerReference::default()
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: Some(40),
            renew_time: Some(time),
            ..LeaseSpec::default()
        };
        let metadata = ObjectMeta { owner_references: Some(vec![owner]), ..named(&self.name) };
        api.create(&PostParams::default(), &Lease { metadata, spec: Some(spec) }).await.map(drop)
    }

    fn status(&self) -> NodeStatus {
        let amounts = [("cpu", "8"), ("memory", "16Gi"), ("ephemeral-storage", "64Gi"), ("pods", "500")];
        let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
        // No host name: an API server would prefer it to the address, and nothing resolves it.
        let address = NodeAddress { type_: "InternalIP".to_owned(), address: ADDRESS.to_owned() };
        NodeStatus {
            addresses: Some(vec![address]),
            capacity: Some(amounts.clone().into()),
            allocatable: Some(amounts.into()),
            conditions: Some(self.conditions()),
            daemon_endpoints: self.port.map(|port| NodeDaemonEndpoints {
                kubelet_endpoint: Some(DaemonEndpoint { port: port.into() }),
            }),
            node_info: Some(NodeSystemInfo {
                architecture: arch().to_owned(),
                container_runtime_version: "sandbox://1".to_owned(),
                kubelet_version: "v1.36.0-sandbox".to_owned(),
                operating_system: "linux".to_owned(),
                os_image: "local processes".to_owned(),
                ..NodeSystemInfo::default()
            }),
            ..NodeStatus::default()
        }
    }

    fn conditions(&self) -> Vec<NodeCondition> {
        [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID"),
            ("Ready", "True", "KubeletReady"),
        ]
        .into_iter()
        .map(|(kind, status, reason)| NodeCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            last_heartbeat_time: Some(self.clock.time()),
            last_transition_time: Some(self.clock.time()),
            message: None,
        })
        .collect()
    }
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() }
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
