//! Startup, readiness and liveness probes of local processes: commands that are run now and then.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Probe};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::instance::{Reporter, Signal};
use super::process::{Command, Process, Watchdog};
use super::sources::SourceError;

/// More of a probe's output is of no use in an event.
const LONGEST_OUTPUT: u64 = 1024;

/// The probes of one container.
#[derive(Debug, Clone, Default)]
pub struct Probes {
    startup: Option<Check>,
    readiness: Option<Check>,
    liveness: Option<Check>,
}

#[derive(Debug, Clone)]
struct Check {
    name: &'static str,
    command: Command,
    delay: Duration,
    period: Duration,
    timeout: Duration,
    successes: u32,
    failures: u32,
}

impl Probes {
    /// The probes of `container`; `command` makes a command of what a probe runs.
    ///
    /// # Errors
    /// When a probe is not a command: nothing listens on a make-believe network.
    pub fn new(container: &Container, command: impl Fn(&[String]) -> Command) -> Result<Self, SourceError> {
        let check = |name, probe: &Option<Probe>| {
            probe.as_ref().map(|probe| Check::new(name, probe, &command)).transpose()
        };
        Ok(Self {
            startup: check("Startup", &container.startup_probe)?,
            readiness: check("Readiness", &container.readiness_probe)?,
            liveness: check("Liveness", &container.liveness_probe)?,
        })
    }

    /// Probes for as long as the container lives.
    pub async fn run(&self, watchdog: &Arc<Watchdog>, reporter: &Reporter) -> Infallible {
        if let Some(startup) = &self.startup {
            startup.until_success(watchdog, reporter).await;
        }
        reporter.send(Signal::Started).await;
        if self.readiness.is_none() {
            reporter.send(Signal::Ready(true)).await;
        }
        let readiness = async {
            match &self.readiness {
                Some(check) => check.watch(watchdog, reporter, Signal::Ready).await,
                None => std::future::pending().await,
            }
        };
        let liveness = async {
            match &self.liveness {
                Some(check) => {
                    let signal = |alive| if alive { Signal::Started } else { Signal::Unhealthy(check.name) };
                    check.watch(watchdog, reporter, signal).await
                }
                None => std::future::pending().await,
            }
        };
        futures::future::join(readiness, liveness).await.0
    }
}

impl Check {
    fn new(
        name: &'static str,
        probe: &Probe,
        command: &impl Fn(&[String]) -> Command,
    ) -> Result<Self, SourceError> {
        let run = probe.exec.as_ref().and_then(|exec| exec.command.as_deref());
        let run = run.ok_or_else(|| SourceError::Unsupported(format!("a {name} probe other than exec")))?;
        let seconds = |value: Option<i32>, default: u64| {
            let given = value.and_then(|value| u64::try_from(value).ok()).filter(|&value| value > 0);
            Duration::from_secs(given.unwrap_or(default))
        };
        let times = |value: Option<i32>, default| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|&value| value > 0).unwrap_or(default)
        };
        Ok(Self {
            name,
            command: command(run),
            delay: seconds(probe.initial_delay_seconds, 0),
            period: seconds(probe.period_seconds, 10),
            timeout: seconds(probe.timeout_seconds, 1),
            successes: times(probe.success_threshold, 1),
            failures: times(probe.failure_threshold, 3),
        })
    }

    async fn until_success(&self, watchdog: &Arc<Watchdog>, reporter: &Reporter) {
        let mut times = self.times();
        times.tick().await;
        let mut failed = 0;
        while let Err(output) = self.once(watchdog).await {
            failed += 1;
            reporter.send(Signal::ProbeFailed { probe: self.name, output }).await;
            if failed == self.failures {
                reporter.send(Signal::Unhealthy(self.name)).await;
            }
            times.tick().await;
        }
    }

    fn times(&self) -> Interval {
        let mut times = interval_at(Instant::now() + self.delay, self.period);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        times
    }

    /// Reports each time that the verdict changes, and the first verdict.
    async fn watch(
        &self,
        watchdog: &Arc<Watchdog>,
        reporter: &Reporter,
        signal: impl Fn(bool) -> Signal,
    ) -> Infallible {
        let mut times = self.times();
        let mut verdict = None;
        let (mut good, mut bad) = (0, 0);
        loop {
            times.tick().await;
            match self.once(watchdog).await {
                Ok(()) => (good, bad) = (good + 1, 0),
                Err(output) => {
                    (good, bad) = (0, bad + 1);
                    reporter.send(Signal::ProbeFailed { probe: self.name, output }).await;
                }
            }
            let now = if good >= self.successes {
                Some(true)
            } else if bad >= self.failures {
                Some(false)
            } else {
                verdict
            };
            if let Some(holds) = now.filter(|_| now != verdict) {
                reporter.send(signal(holds)).await;
                verdict = now;
            }
        }
    }

    async fn once(&self, watchdog: &Arc<Watchdog>) -> Result<(), String> {
        let mut process = Process::start(&self.command, watchdog).await.map_err(|error| error.to_string())?;
        let (output, errors) = process.output();
        let ended = tokio::time::timeout(self.timeout, async {
            let (output, errors, ended) = tokio::join!(text(output), text(errors), process.wait());
            (output + &errors, ended)
        });
        match ended.await {
            Ok((_, Ok(ended))) if ended.code == 0 => Ok(()),
            Ok((output, Ok(_))) => Err(output.trim_end().to_owned()),
            Ok((_, Err(error))) => Err(error.to_string()),
            Err(_) => Err(format!("command timed out after {}s", self.timeout.as_secs())),
        }
    }
}

async fn text(output: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut output) = output {
        // The rest is read and thrown away, so that the command never waits for a reader.
        let _ = (&mut output).take(LONGEST_OUTPUT).read_to_end(&mut bytes).await;
        let _ = tokio::io::copy(&mut output, &mut tokio::io::sink()).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
