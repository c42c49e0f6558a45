//! What is known of one container: its state, its past, and what follows from them.
//!
//! Pure: the worker tells a record what happened, the record says what that means.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The longest back-off, as a multiple of the first: five minutes for ten seconds.
const LONGEST: u32 = 30;
/// An instance that ran for so many times the first back-off starts the count anew.
const STEADY: u32 = 60;

/// When an ended container is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartPolicy {
    /// Always.
    Always,
    /// When it failed.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    /// As a pod spells it.
    pub fn parse(text: Option<&str>) -> Self {
        match text {
            Some("Never") => Self::Never,
            Some("OnFailure") => Self::OnFailure,
            _ => Self::Always,
        }
    }

    fn restarts(self, init: bool, code: i32) -> bool {
        match self {
            Self::Always => !init || code != 0,
            Self::OnFailure => code != 0,
            Self::Never => false,
        }
    }
}

/// How an instance ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, …
    pub reason: String,
    /// Its termination message.
    pub message: Option<String>,
    /// When it began, if it did.
    pub started: Option<Time>,
    /// When it ended.
    pub finished: Time,
    /// Its identity.
    pub id: Option<String>,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It waits to be started.
    Waiting {
        /// Why, as one word.
        reason: String,
        /// Why, as a sentence.
        message: Option<String>,
    },
    /// It runs.
    Running {
        /// Since when.
        since: Time,
        /// Its identity.
        id: String,
        /// Whether its startup probe succeeded.
        started: bool,
        /// Whether it is ready.
        ready: bool,
    },
    /// It ended, and is started again.
    Crashed(Exit),
    /// It ended for good.
    Ended(Exit),
}

/// One container.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Whether it is an init container.
    pub init: bool,
    /// What it does.
    pub state: State,
    /// How the instance before ended.
    pub last: Option<Exit>,
    /// How often it was started again.
    pub restarts: i32,
    crashes: u32,
}

impl Record {
    /// A container that has not started; `reason` says what it waits for.
    pub fn new(container: &Container, init: bool, reason: &str) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            init,
            state: State::Waiting { reason: reason.to_owned(), message: None },
            last: None,
            restarts: 0,
            crashes: 0,
        }
    }

    /// The container as an earlier kubelet left it: what ran then runs no more.
    pub fn recover(&mut self, status: &ContainerStatus, policy: RestartPolicy, now: &Time) {
        let state = status.state.clone().unwrap_or_default();
        self.restarts = status.restart_count;
        self.last = status.last_state.clone().and_then(|last| last.terminated).map(Exit::from);
        let exit = if let Some(ended) = state.terminated {
            ended.into()
        } else if let Some(running) = state.running {
            Exit {
                code: 137,
                signal: None,
                reason: "ContainerStatusUnknown".to_owned(),
                message: Some("The container could not be located when its node came back".to_owned()),
                started: running.started_at,
                finished: now.clone(),
                id: status.container_id.clone(),
            }
        } else {
            return;
        };
        let again = policy.restarts(self.init, exit.code);
        self.state = if again { State::Crashed(exit) } else { State::Ended(exit) };
    }

    /// Whether it may be started now or later.
    pub fn startable(&self) -> bool {
        matches!(self.state, State::Waiting { .. } | State::Crashed(_))
    }

    /// How it ended for good.
    pub fn done(&self) -> Option<&Exit> {
        match &self.state {
            State::Ended(exit) => Some(exit),
            _ => None,
        }
    }

    /// Whether it is running.
    pub fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }

    /// Whether it is ready.
    pub fn ready(&self) -> bool {
        matches!(self.state, State::Running { ready: true, .. })
    }

    /// It became ready, or is no longer.
    pub fn set_ready(&mut self, now: bool) {
        if let State::Running { ready, .. } = &mut self.state {
            *ready = now;
        }
    }

    /// Its startup probe succeeded.
    pub fn set_started(&mut self) {
        if let State::Running { started, .. } = &mut self.state {
            *started = true;
        }
    }

    /// It cannot start yet. An end that is behind it moves to the past.
    pub fn wait(&mut self, reason: &str, message: Option<String>) {
        let state = State::Waiting { reason: reason.to_owned(), message };
        if let State::Crashed(exit) | State::Ended(exit) = std::mem::replace(&mut self.state, state) {
            self.last = Some(exit);
        }
    }

    /// An instance starts.
    pub fn begin(&mut self, since: Time, id: String) {
        self.wait("", None);
        self.state = State::Running { since, id, started: false, ready: false };
        self.restarts += i32::from(self.last.is_some());
    }

    /// The instance ended. Says after what time another is to follow, if one is.
    pub fn end(&mut self, exit: Exit, policy: RestartPolicy, base: Duration) -> Option<Duration> {
        let again = policy.restarts(self.init, exit.code);
        let steady = ran(&exit) >= base * STEADY;
        self.crashes = if steady { 1 } else { self.crashes + 1 };
        self.state = if again { State::Crashed(exit) } else { State::Ended(exit) };
        again.then(|| backoff(base, self.crashes))
    }

    /// As a pod's status shows it.
    pub fn status(&self) -> ContainerStatus {
        let (state, id) = self.state.shown();
        ContainerStatus {
            name: self.name.clone(),
            image: self.image.clone(),
            image_id: format!("sandbox://{}", self.image),
            container_id: id.or_else(|| self.last.as_ref().and_then(|exit| exit.id.clone())),
            state: Some(state),
            last_state: Some(self.last.as_ref().map_or_else(ContainerState::default, Exit::state)),
            ready: if self.init { self.succeeded() } else { self.ready() },
            started: Some(matches!(self.state, State::Running { started: true, .. })),
            restart_count: self.restarts,
            ..ContainerStatus::default()
        }
    }

    /// Whether it ended well for good.
    pub fn succeeded(&self) -> bool {
        self.done().is_some_and(|exit| exit.code == 0)
    }
}

impl State {
    fn shown(&self) -> (ContainerState, Option<String>) {
        match self {
            Self::Waiting { reason, message } => {
                let waiting =
                    ContainerStateWaiting { reason: Some(reason.clone()), message: message.clone() };
                (ContainerState { waiting: Some(waiting), ..ContainerState::default() }, None)
            }
            Self::Running { since, id, .. } => {
                let running = ContainerStateRunning { started_at: Some(since.clone()) };
                (ContainerState { running: Some(running), ..ContainerState::default() }, Some(id.clone()))
            }
            Self::Crashed(exit) | Self::Ended(exit) => (exit.state(), exit.id.clone()),
        }
    }
}

impl Exit {
    fn state(&self) -> ContainerState {
        let terminated = ContainerStateTerminated {
            container_id: self.id.clone(),
            exit_code: self.code,
            finished_at: Some(self.finished.clone()),
            message: self.message.clone(),
            reason: Some(self.reason.clone()),
            signal: self.signal,
            started_at: self.started.clone(),
        };
        ContainerState { terminated: Some(terminated), ..ContainerState::default() }
    }
}

impl From<ContainerStateTerminated> for Exit {
    fn from(ended: ContainerStateTerminated) -> Self {
        Self {
            code: ended.exit_code,
            signal: ended.signal,
            reason: ended.reason.unwrap_or_default(),
            message: ended.message,
            started: ended.started_at,
            finished: ended.finished_at.unwrap_or(Time(Timestamp::UNIX_EPOCH)),
            id: ended.container_id,
        }
    }
}

fn ran(exit: &Exit) -> Duration {
    let started = exit.started.as_ref().map_or(exit.finished.0, |time| time.0);
    Duration::try_from(exit.finished.0.duration_since(started)).unwrap_or_default()
}

/// The first restart is at once, the next ones wait twice as long each.
fn backoff(base: Duration, crashes: u32) -> Duration {
    match crashes {
        0 | 1 => Duration::ZERO,
        more => base * (1u32 << (more - 2).min(16)).min(LONGEST),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(10);

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(1_800_000_000 + second).unwrap())
    }

    fn exit(code: i32, started: i64, finished: i64) -> Exit {
        let reason = if code == 0 { "Completed" } else { "Error" }.to_owned();
        let (started, finished) = (Some(at(started)), at(finished));
        Exit { code, signal: None, reason, message: None, started, finished, id: None }
    }

    fn record(init: bool) -> Record {
        let container = Container { name: "c".to_owned(), ..Container::default() };
        Record::new(&container, init, "ContainerCreating")
    }

    #[test]
    fn crashes_are_followed_by_longer_and_longer_waits() {
        let mut record = record(false);
        let mut waits = Vec::new();
        for _ in 0..8 {
            record.begin(at(0), "id".to_owned());
            waits.push(record.end(exit(1, 0, 1), RestartPolicy::Always, BASE).unwrap().as_secs());
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(record.restarts, 7);
        record.begin(at(0), "id".to_owned());
        assert_eq!(
            record.end(exit(1, 0, 600), RestartPolicy::Always, BASE),
            Some(Duration::ZERO),
            "ran steadily"
        );
    }

    #[test]
    fn the_restart_policy_decides_who_comes_back() {
        for (policy, init, code, expected) in [
            (RestartPolicy::Always, false, 0, true),
            (RestartPolicy::Always, false, 1, true),
            (RestartPolicy::Always, true, 0, false),
            (RestartPolicy::Always, true, 1, true),
            (RestartPolicy::OnFailure, false, 0, false),
            (RestartPolicy::OnFailure, true, 1, true),
            (RestartPolicy::Never, false, 1, false),
            (RestartPolicy::Never, true, 1, false),
        ] {
            let mut record = record(init);
            record.begin(at(0), "id".to_owned());
            let again = record.end(exit(code, 0, 1), policy, BASE).is_some();
            assert_eq!(again, expected, "{policy:?} init={init} code={code}");
            assert_eq!(record.startable(), expected);
            assert_eq!(record.done().is_some(), !expected);
        }
    }

    #[test]
    fn a_waiting_container_shows_how_it_ended_before() {
        let mut record = record(false);
        record.begin(at(0), "id".to_owned());
        record.end(exit(3, 0, 1), RestartPolicy::Always, BASE);
        record.wait("CrashLoopBackOff", Some("back-off".to_owned()));
        let status = record.status();
        assert_eq!(status.state.unwrap().waiting.unwrap().reason.as_deref(), Some("CrashLoopBackOff"));
        assert_eq!(status.last_state.unwrap().terminated.unwrap().exit_code, 3);
        record.begin(at(2), "id2".to_owned());
        let status = record.status();
        assert_eq!((status.restart_count, status.last_state.unwrap().terminated.unwrap().exit_code), (1, 3));
    }

    #[test]
    fn what_ran_under_an_earlier_kubelet_has_ended() {
        let mut before = record(false);
        before.begin(at(0), "id".to_owned());
        let mut record = record(false);
        record.recover(&before.status(), RestartPolicy::Never, &at(9));
        assert_eq!(
            record.done().map(|exit| (exit.code, exit.reason.as_str())),
            Some((137, "ContainerStatusUnknown"))
        );
        record.recover(&before.status(), RestartPolicy::Always, &at(9));
        assert!(record.startable());
        record.begin(at(10), "id2".to_owned());
        assert_eq!(record.restarts, 1);
    }
}
