//! Make-believe containers: they run nothing, and break when their pod's annotations say so.
//!
//! A fault that a pod once had stays with it when the annotation goes: such a pod recovers only
//! because it was replaced.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::instance::{Outcome, Reporter, Signal};
use super::stop::Stop;

/// `process`: run this pod's containers as local processes.
pub const RUN: &str = "sandbox.local/run";
/// The container exits with this code.
pub const EXIT_CODE: &str = "sandbox.local/exit-code";
/// The reason that goes with it, such as `OOMKilled`.
pub const EXIT_REASON: &str = "sandbox.local/exit-reason";
/// The termination message that goes with it.
pub const EXIT_MESSAGE: &str = "sandbox.local/exit-message";
/// How long the container runs before it exits, such as `500ms` or `3s`.
pub const EXIT_AFTER: &str = "sandbox.local/exit-after";
/// `false`: the container is not ready.
pub const READY: &str = "sandbox.local/ready";
/// `fail`: the image cannot be pulled.
pub const PULL: &str = "sandbox.local/pull";
/// What the container writes when it starts.
pub const LOG: &str = "sandbox.local/log";
/// The only container that the others speak of.
pub const CONTAINER: &str = "sandbox.local/container";

/// What one container is told to do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// It exits.
    pub exit: Option<Crash>,
    /// It does not become ready.
    pub unready: bool,
    /// Its image cannot be pulled.
    pub unpullable: bool,
    /// What it writes.
    pub log: Option<String>,
}

/// An exit that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    code: i32,
    reason: Option<String>,
    message: Option<String>,
    after: Option<Duration>,
}

/// An annotation that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("annotation {name}: {value:?} is not {expected}")]
pub struct BadAnnotation {
    name: &'static str,
    value: String,
    expected: &'static str,
}

impl Script {
    /// What `annotations` tell `container`.
    pub fn read(annotations: &BTreeMap<String, String>, container: &str) -> Result<Self, BadAnnotation> {
        let text = |name: &str| annotations.get(name).cloned();
        if text(CONTAINER).is_some_and(|only| only != container) {
            return Ok(Self::default());
        }
        let bad = |name, expected| move |value| BadAnnotation { name, value, expected };
        let code = text(EXIT_CODE).map(|code| code.parse().map_err(|_| code)).transpose();
        let after = text(EXIT_AFTER).map(|after| duration(&after).ok_or(after)).transpose();
        let after = after.map_err(bad(EXIT_AFTER, "a duration such as 500ms"))?;
        let crash = |code| Crash { code, reason: text(EXIT_REASON), message: text(EXIT_MESSAGE), after };
        Ok(Self {
            exit: code.map_err(bad(EXIT_CODE, "a number"))?.map(crash),
            unready: word(text(READY), "false", "true").map_err(bad(READY, "true or false"))?,
            unpullable: word(text(PULL), "fail", "").map_err(bad(PULL, "fail"))?,
            log: text(LOG),
        })
    }

    /// This and what came before: what once went wrong stays wrong.
    #[must_use]
    pub fn after(self, before: &Self) -> Self {
        Self {
            exit: self.exit.or_else(|| before.exit.clone()),
            unready: self.unready || before.unready,
            unpullable: self.unpullable || before.unpullable,
            log: self.log.or_else(|| before.log.clone()),
        }
    }
}

fn word(value: Option<String>, yes: &str, no: &str) -> Result<bool, String> {
    match value {
        Some(value) if value == yes => Ok(true),
        Some(value) if value == no => Ok(false),
        Some(value) => Err(value),
        None => Ok(false),
    }
}

fn duration(text: &str) -> Option<Duration> {
    let parsed: jiff::SignedDuration = text.parse().ok()?;
    Duration::try_from(parsed).ok()
}

/// Plays one instance; `startup` is how long it takes to become ready.
pub async fn run(
    mut script: watch::Receiver<Script>,
    mut stop: Stop,
    startup: Duration,
    reporter: &Reporter,
) -> Outcome {
    let mut since = Instant::now();
    let mut settled = false;
    loop {
        let Script { exit, unready, .. } = script.borrow_and_update().clone();
        let wait = exit.as_ref().and_then(|crash| crash.after).unwrap_or(startup);
        tokio::select! {
            () = stop.asked() => return Outcome::completed(),
            changed = script.changed() => {
                if changed.is_err() {
                    return Outcome::completed();
                }
                (since, settled) = (Instant::now(), false);
            }
            () = tokio::time::sleep_until(since + wait), if !settled => {
                if let Some(crash) = exit {
                    return outcome(crash);
                }
                reporter.send(Signal::Ready(!unready)).await;
                settled = true;
            }
        }
    }
}

fn outcome(crash: Crash) -> Outcome {
    Outcome { code: crash.code, signal: None, reason: crash.reason, message: crash.message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], container: &str) -> Result<Script, String> {
        let annotations =
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Script::read(&annotations, container).map_err(|error| error.to_string())
    }

    #[test]
    fn annotations_tell_a_container_what_to_do() {
        assert_eq!(read(&[], "c"), Ok(Script::default()));
        let script =
            read(&[(EXIT_CODE, "137"), (EXIT_REASON, "OOMKilled"), (EXIT_AFTER, "1500ms")], "c").unwrap();
        let crash = script.exit.unwrap();
        assert_eq!((crash.code, crash.reason.as_deref()), (137, Some("OOMKilled")));
        assert_eq!(crash.after, Some(Duration::from_millis(1500)));
        assert!(read(&[(READY, "false")], "c").unwrap().unready);
        assert!(read(&[(PULL, "fail")], "c").unwrap().unpullable);
        assert_eq!(read(&[(READY, "false"), (CONTAINER, "other")], "c"), Ok(Script::default()));
        for (name, value) in [(EXIT_CODE, "x"), (EXIT_AFTER, "soon"), (READY, "no"), (PULL, "never")] {
            let error = read(&[(name, value)], "c").unwrap_err();
            assert!(error.contains(name) && error.contains(value), "{error}");
        }
    }

    #[test]
    fn a_fault_stays_when_its_annotation_goes() {
        let broken = read(&[(EXIT_CODE, "1"), (READY, "false")], "c").unwrap();
        assert_eq!(Script::default().after(&broken), broken);
        let worse = read(&[(EXIT_CODE, "2")], "c").unwrap().after(&broken);
        assert_eq!((worse.exit.map(|crash| crash.code), worse.unready), (Some(2), true));
    }
}
