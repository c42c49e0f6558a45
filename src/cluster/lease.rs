//! Leadership by a Lease. It gives liveness, and one guard: no request that changes something is sent once the last
//! renewal is too old. Safety does not rest on it: names are deterministic.

use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;

use super::error::{Error, Result, optional};

/// How long a Lease is good without renewal. client-go's default.
const DURATION: Duration = Duration::from_secs(15);
/// How long the leader goes on without renewal: less, so that it stops before another starts.
const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is renewed, and looked at.
const PERIOD: Duration = Duration::from_secs(2);

/// Whether requests that change something may be sent.
#[derive(Debug, Default)]
pub struct Guard {
    renewed: Mutex<Option<Instant>>,
}

impl Guard {
    /// Whether the last renewal is recent enough.
    pub fn holds(&self) -> bool {
        self.renewed.lock().is_some_and(|at| at.elapsed() < DEADLINE)
    }

    fn renewed(&self, at: Instant) {
        *self.renewed.lock() = Some(at);
    }

    fn given_up(&self) {
        *self.renewed.lock() = None;
    }
}

/// One candidate for leadership.
pub struct Candidate {
    api: Api<Lease>,
    name: String,
    identity: String,
    guard: Arc<Guard>,
    /// The Lease as last seen, and when it was first seen so: other machines' clocks are not trusted.
    observed: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    /// A candidate of this identity for the Lease of this name.
    pub fn new(client: Client, namespace: &str, name: &str, identity: String) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity,
            guard: Arc::default(),
            observed: None,
        }
    }

    /// What guards requests.
    pub fn guard(&self) -> Arc<Guard> {
        self.guard.clone()
    }

    /// Waits until this candidate leads; calls `stands_by` whenever it has seen that another does.
    pub async fn acquire(&mut self, stands_by: impl Fn()) {
        loop {
            match self.attempt().await {
                Ok(true) => return,
                Ok(false) => stands_by(),
                Err(error) => tracing::warn!(%error, "cannot take part in the election"),
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    /// Keeps leading; returns when that failed for too long or somebody else leads.
    pub async fn keep(&mut self) {
        loop {
            tokio::time::sleep(PERIOD).await;
            match self.attempt().await {
                Ok(true) => {}
                Ok(false) => return self.guard.given_up(),
                Err(error) => {
                    tracing::warn!(%error, "lease not renewed");
                    if !self.guard.holds() {
                        return;
                    }
                }
            }
        }
    }

    /// Gives the Lease up, so that another need not wait for its end.
    pub async fn release(&mut self) -> Result<()> {
        self.guard.given_up();
        let found = self.api.get(&self.name).await.map_err(Error::request("read the Lease"))?;
        if found.spec.as_ref().and_then(|s| s.holder_identity.as_ref()) != Some(&self.identity) {
            return Ok(());
        }
        let mut released = found;
        if let Some(spec) = &mut released.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let written = self.api.replace(&self.name, &PostParams::default(), &released).await;
        written.map(drop).map_err(Error::request("release the Lease"))
    }

    /// Takes or renews the Lease if that is possible.
    async fn attempt(&mut self) -> Result<bool> {
        let started = Instant::now();
        let within = tokio::time::timeout(DEADLINE / 2, self.try_write()).await;
        let leads =
            within.map_err(|_| Error::Unexpected("the API server did not answer in time".to_owned()))??;
        if leads {
            self.guard.renewed(started);
        }
        Ok(leads)
    }

    async fn try_write(&mut self) -> Result<bool> {
        let found = optional(self.api.get(&self.name).await).map_err(Error::request("read the Lease"))?;
        let Some(lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            return self.written(self.api.create(&PostParams::default(), &lease).await);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_take(&spec) {
            return Ok(false);
        }
        let renewed = Lease { spec: Some(self.spec(Some(&spec))), ..lease };
        self.written(self.api.replace(&self.name, &PostParams::default(), &renewed).await)
    }

    /// Whether it is ours, free, or was not renewed for as long as it is good.
    fn may_take(&mut self, spec: &LeaseSpec) -> bool {
        let holder = spec.holder_identity.as_deref().unwrap_or_default();
        if holder.is_empty() || holder == self.identity {
            return true;
        }
        let seen = match &self.observed {
            Some((known, since)) if known == spec => *since,
            _ => Instant::now(),
        };
        self.observed = Some((spec.clone(), seen));
        let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
        seen.elapsed() > Duration::from_secs(seconds)
    }

    fn spec(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let mine = before.is_some_and(|b| b.holder_identity.as_deref() == Some(&self.identity));
        let acquired = before.filter(|_| mine).and_then(|b| b.acquire_time.clone());
        let transitions = before.and_then(|b| b.lease_transitions).unwrap_or(0) + i32::from(!mine);
        LeaseSpec {
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            lease_transitions: Some(transitions),
            renew_time: Some(now),
            ..LeaseSpec::default()
        }
    }

    /// A conflict means that somebody else was faster.
    fn written(&self, result: kube::Result<Lease>) -> Result<bool> {
        match result {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(source) => Err(Error::Request { action: format!("write Lease {}", self.name), source }),
        }
    }
}
