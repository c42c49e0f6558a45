//! A real ssh server: OpenSSH's sshd, started for each connection with a configuration, host keys and authorized keys of its own,
//! which runs nothing but `git-shell`.
//!
//! Whoever runs the tests is the user that logs in, so that it works with and without root.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::git_server::Origin;

/// Types of key, as `ssh-keygen -t` and `-b` take them.
pub const ED25519: &[&str] = &["-t", "ed25519"];
pub const ECDSA: &[&str] = &["-t", "ecdsa"];
pub const RSA: &[&str] = &["-t", "rsa", "-b", "2048"];

/// A key pair in files.
pub struct KeyPair {
    private: PathBuf,
}

impl KeyPair {
    /// Makes one.
    pub async fn generate(folder: &Path, name: &str, options: &[&str]) -> Self {
        let private = folder.join(name);
        let passphrase = if options.contains(&"-N") { &[][..] } else { &["-N", ""] };
        let arguments = [&["-q", "-C", name, "-f", private.to_str().unwrap()], options, passphrase].concat();
        let status = Command::new("ssh-keygen").args(arguments).status().await.unwrap();
        assert!(status.success(), "ssh-keygen {options:?}");
        Self { private }
    }

    /// Where the private key is.
    pub fn path(&self) -> &Path {
        &self.private
    }

    /// The private key's text.
    pub fn private(&self) -> String {
        std::fs::read_to_string(&self.private).unwrap()
    }

    /// The public key, without its comment.
    pub fn public(&self) -> String {
        let line = std::fs::read_to_string(self.private.with_extension("pub")).unwrap();
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }
}

/// A running server; it ends with the test's runtime.
pub struct SshServer {
    address: SocketAddr,
    root: TempDir,
    host_keys: Vec<KeyPair>,
    hangs: Arc<AtomicBool>,
    connections: Arc<Mutex<usize>>,
}

impl SshServer {
    /// Starts on a free port, with a host key of each of these types.
    pub async fn start(host_keys: &[&[&str]]) -> Self {
        if rustix::process::geteuid().is_root() {
            // Root's sshd insists on this folder, which is made when a machine boots, and a container does not.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let root = tempfile::tempdir().unwrap();
        let mut keys = Vec::new();
        for (index, options) in host_keys.iter().enumerate() {
            keys.push(KeyPair::generate(root.path(), &format!("host-{index}"), options).await);
        }
        std::fs::write(root.path().join("authorized_keys"), "").unwrap();
        std::fs::write(root.path().join("sshd_config"), configuration(root.path(), &keys)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server =
            Self { address, root, host_keys: keys, hangs: Arc::default(), connections: Arc::default() };
        let (config, hangs) = (server.root.path().join("sshd_config"), Arc::clone(&server.hangs));
        let connections = Arc::clone(&server.connections);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *connections.lock() += 1;
                tokio::spawn(serve(stream, config.clone(), hangs.load(Ordering::SeqCst)));
            }
        });
        server
    }

    /// The folder of the server's repositories.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Makes an empty repository with default branch `main`, and a clone to commit from.
    pub async fn create(&self, name: &str) -> Origin {
        let bare = self.root.path().join(format!("{name}.git"));
        Origin::create(self.root.path(), name, bare.to_str().unwrap()).await
    }

    /// The URL of a repository.
    pub fn url(&self, name: &str) -> String {
        let path = self.root.path().join(format!("{name}.git"));
        format!("ssh://{}@{}{}", user(), self.address, path.display())
    }

    /// Makes a key pair and lets it in.
    pub async fn authorize(&self, name: &str, options: &[&str]) -> KeyPair {
        let pair = KeyPair::generate(self.root.path(), name, options).await;
        let file = self.root.path().join("authorized_keys");
        let lines = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, format!("{lines}{}\n", pair.public())).unwrap();
        pair
    }

    /// How the server's host stands in `known_hosts`.
    pub fn host(&self) -> String {
        format!("[127.0.0.1]:{}", self.address.port())
    }

    /// The public keys that the server shows.
    pub fn host_keys(&self) -> Vec<String> {
        self.host_keys.iter().map(KeyPair::public).collect()
    }

    /// A `known_hosts` with all of them.
    pub fn known_hosts(&self) -> String {
        let lines: Vec<_> = self.host_keys().iter().map(|key| format!("{} {key}\n", self.host())).collect();
        lines.concat()
    }

    /// Accepts and never answers from now on, or no longer.
    pub fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }

    /// How often somebody connected.
    pub fn connections(&self) -> usize {
        *self.connections.lock()
    }
}

/// Who runs the tests.
fn user() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn configuration(root: &Path, host_keys: &[KeyPair]) -> String {
    let keys: Vec<_> = host_keys.iter().map(|key| format!("HostKey {}\n", key.path().display())).collect();
    let keys = keys.concat();
    let root = root.display();
    // With another home the shell of whoever runs the tests reads no start-up files, which may say something of their own.
    format!(
        "{keys}AuthorizedKeysFile {root}/authorized_keys\n\
         SetEnv HOME={root}\n\
         AuthenticationMethods publickey\n\
         PermitRootLogin prohibit-password\n\
         StrictModes no\n\
         UsePAM no\n\
         PidFile none\n\
         LogLevel QUIET\n\
         AllowTcpForwarding no\n\
         PermitTTY no\n\
         ForceCommand git-shell -c \"$SSH_ORIGINAL_COMMAND\"\n"
    )
}

async fn serve(stream: TcpStream, config: PathBuf, hangs: bool) {
    if hangs {
        std::future::pending::<()>().await;
    }
    let stream = stream.into_std().unwrap();
    stream.set_nonblocking(false).unwrap();
    let (input, output) = (OwnedFd::from(stream.try_clone().unwrap()), OwnedFd::from(stream));
    let mut sshd = Command::new("/usr/sbin/sshd")
        .args(["-i", "-f", config.to_str().unwrap()])
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output))
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let _ = sshd.wait().await;
}
