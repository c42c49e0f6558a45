//! The node itself, the first process of its namespaces: starts the parts, and ends when one of them does.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose};
use serde_json::json;

use crate::cgroups;
use crate::hold::FOREVER;
use crate::instance::{self, HIDDEN, Instance};
use crate::network::Network;
use crate::runtime;
use crate::settings;
use crate::support::access::Access;
use crate::support::control_plane::{ControlPlane, Variant, built, free_port};
use crate::support::pki::Authority;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

const PARTS: [&str; 6] =
    ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl"];
const NAME: &str = "node-1";
const KUBELET_TOKEN: &str = "kubelet-of-a-test-cluster";
const SCHEDULER_TOKEN: &str = "scheduler-of-a-test-cluster";
/// Volumes that claims are bound to; nothing here makes further ones.
const VOLUMES: usize = 4;

/// Starts everything, says that it is ready, and returns when a part has ended.
pub async fn run(instance: &Instance) -> anyhow::Result<()> {
    ensure!(std::process::id() == 1, "this is to be started by `up`");
    let layers = runtime::Layers::new();
    let programs = built(&PARTS).context("Kubernetes is not built")?;
    instance::seen(&programs)?;
    hide()?;
    settings::pretend(instance)?;
    let network = Network::claim(instance)?;
    cgroups::create(&network.bridge())?;
    let authority = Authority::new("test cluster");
    let certificates = Certificates::write(instance, &authority, network)?;
    let port = free_port();
    let variant = Variant { port: Some(port), ..variant(instance, &certificates, network) };
    let containerd = runtime::start(instance, network, &layers);
    let (plane, containerd) =
        tokio::join!(ControlPlane::variant(&programs, &authority, &variant), containerd);
    let containerd = containerd?;
    network.serve(port).await?;
    let scheduler = start_scheduler(instance, &programs, &plane);
    let kubelet = start_kubelet(instance, &programs, &plane, &certificates, network)?;
    wait_until_ready(&plane, instance).await?;
    publish(instance, plane.admin())?;
    watch(vec![("containerd", containerd), ("kubelet", kubelet), ("kube-scheduler", scheduler)]).await
}

/// What the parts write to fixed places goes to file systems that only they see.
fn hide() -> anyhow::Result<()> {
    for folder in HIDDEN {
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", "mode=755", "fother", folder]).status()?;
        ensure!(mounted.success(), "failed to mount a file system at {folder}");
    }
    Ok(())
}

/// Files that parts prove themselves to each other with.
struct Certificates {
    authority: String,
    client: [String; 2],
    kubelet: [String; 2],
}

impl Certificates {
    fn write(instance: &Instance, authority: &Authority, network: Network) -> anyhow::Result<Self> {
        let write = |name: &str, content: &str| {
            let path = instance.path(name);
            std::fs::write(&path, content).map(|()| path.display().to_string())
        };
        let client = authority.sign(&client("kube-apiserver", "system:masters"));
        let kubelet = authority.serving(&[network.gateway().to_string(), NAME.to_owned()]);
        Ok(Self {
            authority: write("ca.crt", &authority.pem)?,
            client: [write("client.crt", &client.certificate)?, write("client.key", &client.key)?],
            kubelet: [write("kubelet.crt", &kubelet.certificate)?, write("kubelet.key", &kubelet.key)?],
        })
    }
}

/// A certificate's contents for a client called `name` that belongs to `group`.
fn client(name: &str, group: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.distinguished_name.push(DnType::OrganizationName, group);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

fn variant(instance: &Instance, certificates: &Certificates, network: Network) -> Variant {
    let user = |token: &str, name: &str, group: &str| [token, name, group].map(str::to_owned);
    let [client, key] = &certificates.client;
    Variant {
        names: vec![network.api_server().to_string(), "kubernetes.default.svc".to_owned()],
        users: vec![
            user(KUBELET_TOKEN, &format!("system:node:{NAME}"), "system:nodes"),
            user(SCHEDULER_TOKEN, "system:kube-scheduler", "scheduler"),
        ],
        api_server: vec![
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            format!("--service-cluster-ip-range={}", network.services()),
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--kubelet-certificate-authority={}", certificates.authority),
            format!("--kubelet-client-certificate={client}"),
            format!("--kubelet-client-key={key}"),
        ],
        parent: Some(instance.directory().to_owned()),
        ..Variant::default()
    }
}

fn start_scheduler(instance: &Instance, programs: &Path, plane: &ControlPlane) -> Process {
    let kubeconfig = plane.admin().with_token(SCHEDULER_TOKEN).write(&instance.path("scheduler.kubeconfig"));
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    Process::start(&programs.join("kube-scheduler"), flags, &[], &instance.path("kube-scheduler.log"))
}

fn start_kubelet(
    instance: &Instance,
    programs: &Path,
    plane: &ControlPlane,
    certificates: &Certificates,
    network: Network,
) -> anyhow::Result<Process> {
    let kubeconfig = plane.admin().with_token(KUBELET_TOKEN).write(&instance.path("kubelet.kubeconfig"));
    let configuration = instance.path("kubelet.json");
    std::fs::write(&configuration, kubelet_configuration(instance, certificates, network).to_string())?;
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--config={}", configuration.display()),
        format!("--root-dir={}", instance.path("kubelet").display()),
        format!("--hostname-override={NAME}"),
        format!("--node-ip={}", network.gateway()),
    ];
    Ok(Process::start(&programs.join("kubelet"), flags, &[], &instance.path("kubelet.log")))
}

fn kubelet_configuration(
    instance: &Instance,
    certificates: &Certificates,
    network: Network,
) -> serde_json::Value {
    let [certificate, key] = &certificates.kubelet;
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "address": network.gateway(), "readOnlyPort": 0, "healthzPort": 0,
        "tlsCertFile": certificate, "tlsPrivateKeyFile": key,
        "authentication": {
            "anonymous": {"enabled": false}, "webhook": {"enabled": true},
            "x509": {"clientCAFile": certificates.authority},
        },
        "authorization": {"mode": "Webhook"},
        "containerRuntimeEndpoint": format!("unix://{}", runtime::socket(instance).display()),
        // Nobody answers there: this cluster has no DNS, and pods should not ask that of the machine instead.
        "clusterDNS": [network.gateway()],
        "volumePluginDir": instance.path("volume-plugins"),
        // One group for all containers, so that it can be found and removed.
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{}", network.bridge()),
        "failCgroupV1": false, "failSwapOn": false,
        // The machine may be fuller than a node should be.
        "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
        "imageGCHighThresholdPercent": 100,
        // Its chains would be this machine's, and stay: one of them drops packets. They are for kube-proxy.
        "makeIPTablesUtilChains": false,
    })
}

async fn wait_until_ready(plane: &ControlPlane, instance: &Instance) -> anyhow::Result<()> {
    let client = plane.admin().client().await;
    let nodes = Api::<Node>::all(client.clone());
    eventually("the node is ready", DEADLINE, || async {
        let status = nodes.get(NAME).await.map_err(|error| error.to_string())?.status.unwrap_or_default();
        let ready = status.conditions.into_iter().flatten().find(|condition| condition.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == "True" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let volumes = Api::<PersistentVolume>::all(client);
    for number in 1..=VOLUMES {
        volumes.create(&PostParams::default(), &volume(instance, number)?).await?;
    }
    Ok(())
}

/// A folder of this machine that belongs to whoever claims it.
fn volume(instance: &Instance, number: usize) -> anyhow::Result<PersistentVolume> {
    let folder = instance.path(&format!("volumes/volume-{number}"));
    std::fs::create_dir_all(&folder)?;
    let here = json!({"key": "kubernetes.io/hostname", "operator": "In", "values": [NAME]});
    Ok(serde_json::from_value(json!({
        "metadata": {"name": format!("volume-{number}")},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Retain", "local": {"path": folder},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }))?)
}

/// Whole or not at all: it is what others wait for.
fn publish(instance: &Instance, admin: &Access) -> anyhow::Result<()> {
    let unfinished = admin.write(&instance.path(".kubeconfig"));
    Ok(std::fs::rename(unfinished, instance.kubeconfig())?)
}

/// An error as soon as one of them has ended.
async fn watch(parts: Vec<(&str, Process)>) -> anyhow::Result<()> {
    let parts = Mutex::new(parts);
    let ended = eventually("a part ends", FOREVER, || async {
        let mut parts = parts.lock();
        let mut ends = parts.iter_mut().filter_map(|(name, process)| Some((*name, process.exit_status()?)));
        ends.next().ok_or("all of them run")
    })
    .await;
    bail!("{} ended: {}", ended.0, ended.1)
}
