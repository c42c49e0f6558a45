//! The network of a node: a bridge that its pods are plugged into, and the one address of a Service that works.
//!
//! There is no kube-proxy. Pods reach the API server by the address that Kubernetes tells them, because the bridge
//! has that address and somebody listens there.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};
use tokio::net::{TcpListener, TcpStream};

use crate::instance::Instance;

/// Bridges are called this and a number.
const PREFIX: &str = "fother";
const INTERFACES: &str = "/sys/class/net";
/// The Service `kubernetes` has this port.
const HTTPS: u16 = 443;

/// A bridge and the addresses around it, all told by one number.
#[derive(Clone, Copy)]
pub struct Network {
    number: u8,
}

impl Network {
    /// Takes a number that nobody uses: making the bridge is what takes it.
    pub fn claim(instance: &Instance) -> anyhow::Result<Self> {
        let routes = ip(&["-4", "route", "show", "table", "all"])?;
        for network in (0..=u8::MAX).map(|number| Self { number }) {
            let is_used = [network.pods(), network.services()].iter().any(|range| {
                let start = range.trim_end_matches("0/24");
                routes.split([' ', '\n']).any(|word| word.starts_with(start))
            });
            if !is_used && ip(&["link", "add", &network.bridge(), "type", "bridge"]).is_ok() {
                network.set_up(instance)?;
                return Ok(network);
            }
        }
        anyhow::bail!("all of 10.244.0.0/16 and 10.245.0.0/16 is in use")
    }

    /// The alias says whose it is, to whoever has to clean up.
    fn set_up(self, instance: &Instance) -> anyhow::Result<()> {
        let bridge = self.bridge();
        let owner = instance.directory().to_str().context("the directory's name is not text")?;
        ip(&["link", "set", &bridge, "alias", owner])?;
        ip(&["addr", "add", &format!("{}/24", self.gateway()), "dev", &bridge])?;
        ip(&["addr", "add", &format!("{}/32", self.api_server()), "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        Ok(())
    }

    pub fn bridge(self) -> String {
        format!("{PREFIX}{}", self.number)
    }

    pub fn pods(self) -> String {
        format!("10.244.{}.0/24", self.number)
    }

    pub fn services(self) -> String {
        format!("10.245.{}.0/24", self.number)
    }

    /// This machine as pods see it, and the address of the node.
    pub fn gateway(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 244, self.number, 1)
    }

    /// The first address for Services, which is always that of the Service `kubernetes`.
    pub fn api_server(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 245, self.number, 1)
    }

    /// Takes pods to the API server, which listens on loopback.
    pub async fn serve(self, port: u16) -> anyhow::Result<()> {
        let listener = TcpListener::bind((self.api_server(), HTTPS))
            .await
            .with_context(|| format!("failed to listen at {}:{HTTPS}", self.api_server()))?;
        tokio::spawn(async move {
            while let Ok((mut pod, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // Whichever side ends it, the other one notices.
                    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
                    tokio::io::copy_bidirectional(&mut pod, &mut server).await
                });
            }
        });
        Ok(())
    }
}

/// The bridges whose alias says that they are of this cluster.
pub fn bridges_of(instance: &Instance) -> anyhow::Result<Vec<String>> {
    let owner = instance.directory().as_os_str().as_encoded_bytes();
    let is_owned = |name: &String| {
        let alias = std::fs::read(Path::new(INTERFACES).join(name).join("ifalias")).unwrap_or_default();
        alias.trim_ascii_end() == owner
    };
    let names = std::fs::read_dir(INTERFACES)?
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    Ok(names.filter(|name| name.starts_with(PREFIX)).filter(is_owned).collect())
}

/// Removes a bridge; what is plugged into it has gone with the pods.
pub fn remove(bridge: &str) -> anyhow::Result<()> {
    ip(&["link", "delete", bridge]).map(|_| ())
}

fn ip(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("ip").args(arguments).output().context("failed to run ip")?;
    ensure!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
