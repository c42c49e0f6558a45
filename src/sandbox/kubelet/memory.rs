//! Memory limits of local processes.
//!
//! There is no control group to enforce them, so the group's own memory is looked at
//! several times a second: whatever stays above its limit for that long is found out. A process that
//! allocates and frees between two looks is not; on systems without `/proc` none is.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::process::Pid;

const INTERVAL: Duration = Duration::from_millis(100);

/// The processes of each group, below `/proc`.
type Groups = HashMap<Pid, Vec<PathBuf>>;

/// Waits until the processes of `group` together hold more than `limit` bytes.
pub async fn exceeds(group: Pid, limit: Option<u64>) {
    let Some(limit) = limit else { return std::future::pending().await };
    let mut looks = tokio::time::interval(INTERVAL);
    while used(group) <= limit {
        looks.tick().await;
    }
}

/// The bytes that the processes of `group` hold for themselves.
fn used(group: Pid) -> u64 {
    members(group).iter().filter_map(|process| private(process)).sum()
}

/// The processes of a group. All that there are have to be asked which is theirs, so it is done once in an interval, for
/// whoever wants to know.
fn members(group: Pid) -> Vec<PathBuf> {
    static SEEN: Mutex<Option<(Instant, Groups)>> = Mutex::new(None);
    let mut seen = SEEN.lock();
    let (_, groups) = match seen.take() {
        Some((at, groups)) if at.elapsed() < INTERVAL => seen.insert((at, groups)),
        _ => seen.insert((Instant::now(), groups())),
    };
    groups.get(&group).cloned().unwrap_or_default()
}

fn groups() -> Groups {
    let mut found = Groups::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path()) {
        if let Some(group) = group_of(&process) {
            found.entry(group).or_default().push(process);
        }
    }
    found
}

fn group_of(process: &Path) -> Option<Pid> {
    let id: u32 = process.file_name()?.to_str()?.parse().ok()?;
    group_in(&fs::read_to_string(format!("/proc/{id}/stat")).ok()?)
}

/// The program's name, in parentheses, may hold anything; the state, the parent and the group follow it. The group of
/// a process that is just ending is -1.
fn group_in(stat: &str) -> Option<Pid> {
    let group: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(2)?.parse().ok()?;
    if group > 0 { Pid::from_raw(group) } else { None }
}

fn private(process: &Path) -> Option<u64> {
    let statm = fs::read_to_string(process.join("statm")).ok()?;
    let mut pages = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    Some(resident.saturating_sub(shared) * u64::try_from(rustix::param::page_size()).ok()?)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_that_is_ending_has_no_group() {
        assert_eq!(group_in("7 (a) b) S 1 42 42 0").map(Pid::as_raw_nonzero).map(i32::from), Some(42));
        assert_eq!(group_in("7 (sh) X 0 -1 -1 0"), None);
        assert_eq!(group_in("7 (sh"), None);
    }

    #[test]
    fn a_group_holds_what_its_processes_hold() {
        // A group of its own: in ours, whoever started the tests comes and goes as well.
        let script = "x=$(head -c 33554432 /dev/zero | tr '\\0' a); echo ready; read _";
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = shell.spawn().expect("a shell");
        let mut said = String::new();
        let told = holder.stdout.take().expect("its output");
        BufReader::new(told).read_line(&mut said).expect("a line");
        let began = Instant::now();
        let group = Pid::from_raw(i32::try_from(holder.id()).expect("an id")).expect("a group");
        // Another test may have looked right before this group began.
        let mut looks =
            std::iter::repeat_with(|| used(group)).take_while(|_| began.elapsed() < 10 * INTERVAL);
        let held = looks.find(|held| *held > 0).unwrap_or_default();
        drop(holder.stdin.take());
        holder.wait().expect("its end");
        assert!((32 << 20..256 << 20).contains(&held), "{said}{held}");
        assert_eq!(used(group), 0);
    }
}
