//! What the numbers were measured on.

use std::process::Command;

use k8s_openapi::jiff::Timestamp;

/// When a run began, and how busy the machine was by then.
pub struct Moment {
    /// The day, in UTC.
    pub day: String,
    /// The load average of one minute.
    pub load: String,
}

impl Moment {
    pub fn now() -> Self {
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        Self {
            day: Timestamp::now().strftime("%Y-%m-%d").to_string(),
            load: load.split(' ').next().unwrap_or("unknown").to_owned(),
        }
    }
}

/// Model and number of processors, and memory.
pub fn hardware() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("unknown", |(_, value)| value).trim().to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
    let model = field(&read("/proc/cpuinfo"), "model name");
    format!("{cores} × {model}, {} GB of memory", kilobytes.div_ceil(1024 * 1024))
}

/// The first line that a program says.
pub fn said(command: &mut Command) -> String {
    let output = command.output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("unknown").trim().to_owned()
}
