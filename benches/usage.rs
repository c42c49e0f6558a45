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
