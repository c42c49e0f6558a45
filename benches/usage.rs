//! What a process has used, as the kernel counts it.

use std::time::Duration;

/// Processor time of a process and its threads, without its children.
pub fn cpu(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name, which may hold anything, is in parentheses; user and system time are the 12th and 13th after it.
    let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_secs(ticks)
        .div_f64(f64::from(u32::try_from(rustix::param::clock_ticks_per_second()).unwrap()))
}

/// Since when, in ticks: how long all processors had something to do, and how long there were processors.
pub struct Busy {
    busy: f64,
    all: f64,
}

impl Busy {
    /// From now on.
    pub fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let line = stat.lines().next().unwrap().trim_start_matches("cpu").split_whitespace();
        let ticks: Vec<f64> = line.map(|field| field.parse().unwrap()).collect();
        // The fourth is idle, the fifth waits for a disk; what guests take, after the eighth, is counted before.
        let all: f64 = ticks.iter().take(8).sum();
        Self { busy: all - ticks[3] - ticks[4], all }
    }

    /// The share since then, in percent.
    pub fn share(&self) -> f64 {
        let now = Self::now();
        100.0 * (now.busy - self.busy) / (now.all - self.all)
    }
}

/// Processor time of this thread, as of the last tick of the clock.
pub fn thread_cpu() -> Duration {
    let schedule = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedule.split(' ').next().unwrap().parse().unwrap())
}

/// Resident memory of a process, now and at its peak, in MB.
pub fn memory(pid: u32) -> (f64, f64) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let kilobytes: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse().unwrap();
        kilobytes / 1024.0
    };
    (field("VmRSS"), field("VmHWM"))
}
