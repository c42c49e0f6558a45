//! containerd and the images that it starts with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use crate::image::{self, Image, Layer};
use crate::instance::Instance;
use crate::network::Network;
use crate::support::process::Process;
use crate::support::wait::{DEADLINE, eventually};

/// What holds a pod's namespaces.
const PAUSE: &str = "localhost/pause:1";
/// What the examples run in.
const DEBIAN: &str = "docker.io/library/debian:12-slim";
const PACKAGES: [&str; 6] = ["bash", "coreutils", "dash", "findutils", "grep", "sed"];
/// What those of them run in that post something. Like the published one it has no bash.
const CURL: &str = "docker.io/curlimages/curl:8.10.1";
const CURL_PACKAGES: [&str; 6] = ["coreutils", "curl", "dash", "findutils", "grep", "sed"];
/// Where Debian has the network plugins.
const PLUGINS: &str = "/usr/lib/cni";

/// Starts containerd, waits until it answers, and gives it its images.
pub async fn start(instance: &Instance, network: Network, layers: &Layers) -> anyhow::Result<Process> {
    let configuration = configure(instance, network)?;
    let arguments = ["--config".into(), configuration.into_os_string()];
    let process = Process::start("containerd".as_ref(), arguments, &[], &instance.path("containerd.log"));
    eventually("containerd answers", DEADLINE, || async { ctr(instance, &["version"]) }).await;
    import_all(instance, layers)?;
    Ok(process)
}

/// Where containerd listens.
pub fn socket(instance: &Instance) -> PathBuf {
    instance.path("containerd.sock")
}

fn configure(instance: &Instance, network: Network) -> anyhow::Result<PathBuf> {
    let cni = instance.path("cni");
    std::fs::create_dir_all(&cni)?;
    std::fs::write(cni.join("10-bridge.conf"), bridge(network).to_string())?;
    let snapshotter = if overlays(instance) { "overlayfs" } else { "native" };
    let text = format!(
        r#"version = 2
root = "{root}"
state = "/run/containerd"
# It makes /opt/containerd, for plugins that nobody installs here.
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Inside another container a process may not lower its score.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{PLUGINS}"
    conf_dir = "{cni}"
"#,
        root = instance.path("containerd").display(),
        cni = cni.display(),
        socket = socket(instance).display(),
    );
    let path = instance.path("containerd.toml");
    std::fs::write(&path, text)?;
    Ok(path)
}

/// The bridge is the gateway already. A plugin that makes it one has the whole machine forward packets, and needs not here:
/// what pods reach is on the bridge.
fn bridge(network: Network) -> serde_json::Value {
    json!({
        "cniVersion": "0.4.0", "name": network.bridge(), "type": "bridge", "bridge": network.bridge(),
        "isGateway": false, "ipMasq": false,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": network.pods(), "gateway": network.gateway()}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    })
}

/// Can overlays be mounted over the directory? Not where it is itself on one.
fn overlays(instance: &Instance) -> bool {
    let probe = instance.path("overlay-probe");
    let folder = |name: &str| probe.join(name).display().to_string();
    for name in ["lower", "upper", "work", "merged"] {
        if std::fs::create_dir_all(probe.join(name)).is_err() {
            return false;
        }
    }
    let options =
        format!("lowerdir={},upperdir={},workdir={}", folder("lower"), folder("upper"), folder("work"));
    let mounted =
        succeeds(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &options, &folder("merged")]));
    let works = mounted && succeeds(Command::new("umount").arg(folder("merged")));
    let _ = std::fs::remove_dir_all(probe);
    works
}

fn succeeds(command: &mut Command) -> bool {
    command.status().is_ok_and(|status| status.success())
}

/// What is in the images.
pub struct Layers {
    debian: Layer,
    curl: Layer,
}

impl Layers {
    /// Debian's list of packages has to be in its place.
    pub fn new() -> Self {
        let of = |packages: &[&str]| {
            let mut layer = Layer::base();
            layer.packages(packages);
            layer.link("usr/bin/sh", "dash");
            layer
        };
        Self { debian: of(&PACKAGES), curl: of(&CURL_PACKAGES) }
    }
}

fn import_all(instance: &Instance, Layers { debian, curl }: &Layers) -> anyhow::Result<()> {
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let pause = json!({"Entrypoint": ["sleep", "infinity"], "Env": ["PATH=/usr/bin"]});
    let images = [
        Image { name: PAUSE, config: pause, layer: debian },
        Image { name: DEBIAN, config: json!({"Cmd": ["bash"], "Env": [path]}), layer: debian },
        Image { name: CURL, config: json!({"Cmd": ["sh"], "Env": [path]}), layer: curl },
    ];
    let archive = instance.path("images.tar");
    image::write(&images, std::fs::File::create(&archive)?);
    import(instance, &archive)
}

/// The image that the Containerfile builds, with a program that is built already.
pub fn load(instance: &Instance, name: &str, program: &Path) -> anyhow::Result<()> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let work = tempfile::tempdir_in(instance.directory())?;
    let (root, archive) = (work.path().join("root"), work.path().join("image.tar"));
    let mut lay_out = Command::new(repository.join("scripts/image-root.sh"));
    ensure!(succeeds(lay_out.arg(program).arg(&root)), "scripts/image-root.sh failed");
    let config = last_stage(&std::fs::read_to_string(repository.join("Containerfile"))?)?;
    let layer = Layer::tree(&root);
    image::write(&[Image { name, config, layer: &layer }], std::fs::File::create(&archive)?);
    import(instance, &archive)
}

/// What the last stage of a Containerfile says of the image it makes.
fn last_stage(containerfile: &str) -> anyhow::Result<Value> {
    let stage = containerfile.rsplit_once("\nFROM ").context("the Containerfile has one stage only")?.1;
    let instruction = |name: &str| {
        let mut lines = stage.lines().filter_map(|line| line.split_once(' '));
        let found = lines.find(|(word, _)| *word == name).map(|(_, value)| value);
        found.with_context(|| format!("the Containerfile's last stage has no {name}"))
    };
    let entrypoint: Value = serde_json::from_str(instruction("ENTRYPOINT")?)?;
    Ok(json!({"Entrypoint": entrypoint, "User": instruction("USER")?}))
}

fn import(instance: &Instance, archive: &Path) -> anyhow::Result<()> {
    let archive = archive.to_str().context("the path is not text")?;
    ctr(instance, &["images", "import", archive]).map(|_| ())
}

fn ctr(instance: &Instance, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ctr")
        .arg("--address")
        .arg(socket(instance))
        .args(["--namespace", "k8s.io"])
        .args(arguments)
        .output()?;
    ensure!(output.status.success(), "ctr {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
