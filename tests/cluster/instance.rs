//! One cluster on disk: its directory, and who holds it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use rustix::fd::OwnedFd;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Hidden from the cluster by file systems of its own, so that what its parts write there goes with it.
pub const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];
/// The path of a Unix socket may have 108 bytes, and one of containerd's is this long below the directory.
const LONGEST: usize = 80;
/// In the directory: how many folders above it were made for it.
const ABOVE: &str = "above";

/// The directory of one cluster, which exists or not.
pub struct Instance {
    directory: PathBuf,
}

/// The process that holds a cluster: exactly it, even if its number is given away again.
pub struct Holder {
    process: OwnedFd,
    pid: u32,
    since: String,
}

impl Instance {
    pub fn at(directory: &Path) -> anyhow::Result<Self> {
        let directory = std::path::absolute(directory)?;
        seen(&directory)?;
        ensure!(directory.as_os_str().len() <= LONGEST, "{} is too long", directory.display());
        ensure!(rustix::process::geteuid().is_root(), "a real node needs root");
        Ok(Self { directory })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Written last: when it is there, the node is ready.
    pub fn kubeconfig(&self) -> PathBuf {
        self.path("kubeconfig")
    }

    /// Makes the directory, for root alone: what is in it opens the cluster. How many folders above it had to be made is
    /// recorded: they go with it.
    pub fn create(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::DirBuilderExt as _;
        let parent = self.directory.parent().context("the root is no place for a cluster")?;
        let above = parent.ancestors().take_while(|folder| !folder.exists()).count();
        std::fs::create_dir_all(parent)?;
        let made = std::fs::DirBuilder::new().mode(0o700).create(&self.directory);
        made.with_context(|| format!("somebody else makes {}", self.directory.display()))?;
        Ok(std::fs::write(self.path(ABOVE), above.to_string())?)
    }

    /// Removes the directory, and the folders that were made for it, unless there is something else in them by now.
    pub fn remove(&self) -> anyhow::Result<()> {
        let above = std::fs::read_to_string(self.path(ABOVE)).ok().and_then(|count| count.parse().ok());
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("failed to remove {}", self.directory.display()));
            }
            _ => {}
        }
        let mut made = self.directory.ancestors().skip(1).take(above.unwrap_or(0));
        made.all(|folder| std::fs::remove_dir(folder).is_ok());
        Ok(())
    }

    /// This process holds the cluster from now on.
    pub fn hold(&self) -> anyhow::Result<()> {
        let own = std::process::id();
        let record = format!("{own} {}", started(own).context("/proc has no entry for this process")?);
        let unfinished = self.path(".holder");
        std::fs::write(&unfinished, record)?;
        Ok(std::fs::rename(unfinished, self.path("holder"))?)
    }

    /// The process that holds the cluster, if it still runs.
    pub fn holder(&self) -> Option<Holder> {
        let record = std::fs::read_to_string(self.path("holder")).ok()?;
        let (pid, since) = record.split_once(' ')?;
        let pid: u32 = pid.parse().ok()?;
        let number = Pid::from_raw(i32::try_from(pid).ok()?)?;
        // Opened before it is looked at: afterwards its number cannot be anybody else's.
        let process = pidfd_open(number, PidfdFlags::empty()).ok()?;
        (started(pid)? == since).then(|| Holder { process, pid, since: since.to_owned() })
    }
}

/// An error where the cluster would not see `path`.
pub fn seen(path: &Path) -> anyhow::Result<()> {
    let is_hidden = HIDDEN.iter().any(|hidden| path.starts_with(hidden));
    ensure!(!is_hidden, "{} is below one of {HIDDEN:?}", path.display());
    Ok(())
}

impl Holder {
    /// Until it has ended it may still be removing things, the record of itself before others.
    pub fn runs(&self) -> bool {
        started(self.pid).as_ref() == Some(&self.since)
    }

    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        match pidfd_send_signal(&self.process, signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => bail!("failed to signal the cluster's process: {error}"),
        }
    }
}

/// When a process started, in clock ticks since boot; none where it has ended.
fn started(pid: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may contain anything; state is the first field behind it, the start the twentieth.
    let fields: Vec<_> = stat.rsplit_once(") ")?.1.split(' ').collect();
    (fields.first() != Some(&"Z")).then(|| fields.get(19).copied().map(str::to_owned))?
}
