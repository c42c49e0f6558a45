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
/// How often a candidate looks whether it can have it.
const PERIOD: Duration = Duration::from_secs(2);
/// How often the leader renews it.
const RENEWAL: Duration = Duration::from_secs(3);
/// How long after a renewal that failed the next one is tried: one that was not answered leaves time for another.
const RETRY: Duration = Duration::from_secs(1);

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

    /// One whose last renewal is so long ago.
    #[cfg(test)]
    pub(super) fn aged(age: Duration) -> Self {
        Self { renewed: Mutex::new(Instant::now().checked_sub(age)) }
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
    /// The Lease as this candidate wrote it last: while nobody else writes to it, it is renewed without being read.
    held: Option<Lease>,
    /// When the Lease was renewed last before this candidate took it.
    led_before: Option<Timestamp>,
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
            held: None,
            led_before: None,
        }
    }

    /// What guards requests.
    pub fn guard(&self) -> Arc<Guard> {
        self.guard.clone()
    }

    /// When somebody led last before this candidate took the Lease, by his clock; none if nobody has.
    pub fn led_before(&self) -> Option<Timestamp> {
        self.led_before
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
        let mut pause = RENEWAL;
        loop {
            tokio::time::sleep(pause).await;
            match self.attempt().await {
                Ok(true) => pause = RENEWAL,
                Ok(false) => return self.guard.given_up(),
                Err(error) => {
                    tracing::warn!(%error, "lease not renewed");
                    if !self.guard.holds() {
                        return;
                    }
                    pause = RETRY;
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
        if self.renew().await? {
            return Ok(true);
        }
        let found = optional(self.api.get(&self.name).await).map_err(Error::request("read the Lease"))?;
        let Some(lease) = found else {
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.written(created);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_take(&spec) {
            return Ok(false);
        }
        self.led_before = spec.renew_time.as_ref().map(|time| time.0);
        self.replace(lease).await
    }

    /// Renews what this candidate wrote last by one request, which the API server refuses if anybody has written or
    /// removed the Lease since: then it is read. What became of a renewal without an answer is not known, so the next
    /// attempt reads it too.
    async fn renew(&mut self) -> Result<bool> {
        let Some(held) = self.held.take() else { return Ok(false) };
        match self.replace(held).await {
            Err(error) if error.is_not_found() => Ok(false),
            renewed => renewed,
        }
    }

    /// Writes itself into the Lease, if nobody has written to it since.
    async fn replace(&mut self, lease: Lease) -> Result<bool> {
        let renewed = Lease { spec: Some(self.spec(lease.spec.as_ref())), ..lease };
        let written = self.api.replace(&self.name, &PostParams::default(), &renewed).await;
        self.written(written)
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
    fn written(&mut self, result: kube::Result<Lease>) -> Result<bool> {
        match result {
            Ok(lease) => {
                self.held = Some(lease);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(source) => Err(Error::Request { action: format!("write Lease {}", self.name), source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use kube::client::Body;
    use serde_json::{Value, json};

    /// An API server that keeps one Lease, and the log of what was asked of it.
    #[derive(Clone, Default)]
    struct Server {
        lease: Arc<Mutex<Option<(u64, Value)>>>,
        log: Arc<Mutex<Vec<String>>>,
    }

    impl Server {
        fn candidate(&self, identity: &str) -> Candidate {
            let server = self.clone();
            let service = tower::service_fn(move |request: Request<Body>| {
                let server = server.clone();
                async move { Ok::<_, std::convert::Infallible>(server.answer(request).await) }
            });
            Candidate::new(Client::new(service, "a"), "a", "fother", identity.to_owned())
        }

        async fn answer(&self, request: Request<Body>) -> Response<Body> {
            let method = request.method().to_string();
            self.log.lock().push(method.clone());
            let sent: Value =
                serde_json::from_slice(&request.into_body().collect().await.unwrap().to_bytes())
                    .unwrap_or_default();
            let mut lease = self.lease.lock();
            let version = lease.as_ref().map(|(version, _)| *version);
            let expected = sent["metadata"]["resourceVersion"].as_str().and_then(|v| v.parse().ok());
            let code = match (method.as_str(), version) {
                ("GET", Some(_)) => 200,
                ("PUT", Some(version)) if expected == Some(version) => 200,
                ("PUT" | "POST", Some(_)) => 409,
                ("POST", None) => 201,
                _ => 404,
            };
            if code < 300 && method != "GET" {
                let next = version.unwrap_or(0) + 1;
                let mut stored = sent;
                stored["metadata"]["resourceVersion"] = json!(next.to_string());
                *lease = Some((next, stored));
            }
            let body = match lease.as_ref() {
                Some((_, lease)) if code < 300 => lease.clone(),
                _ => {
                    json!({"kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no"})
                }
            };
            Response::builder().status(code).body(Body::from(body.to_string().into_bytes())).unwrap()
        }

        fn asked(&self) -> Vec<String> {
            std::mem::take(&mut *self.log.lock())
        }

        /// Somebody else writes to the Lease.
        fn writes(&self, holder: &str) {
            let mut lease = self.lease.lock();
            let (version, lease) = lease.as_mut().unwrap();
            *version += 1;
            lease["metadata"]["resourceVersion"] = json!(version.to_string());
            lease["spec"]["holderIdentity"] = json!(holder);
        }
    }

    #[tokio::test]
    async fn a_lease_is_renewed_by_one_request() {
        let server = Server::default();
        let mut candidate = server.candidate("one");
        assert!(candidate.attempt().await.unwrap());
        assert_eq!(server.asked(), ["GET", "POST"]);
        assert!(candidate.attempt().await.unwrap() && candidate.attempt().await.unwrap());
        assert_eq!(server.asked(), ["PUT", "PUT"]);
        assert!(candidate.guard().holds());
    }

    #[tokio::test]
    async fn a_lease_that_another_took_is_not_taken_back() {
        let server = Server::default();
        let mut candidate = server.candidate("one");
        assert!(candidate.attempt().await.unwrap());
        server.writes("two");
        server.asked();
        assert!(!candidate.attempt().await.unwrap(), "another holds it");
        assert_eq!(server.asked(), ["PUT", "GET"]);
        assert_eq!(server.lease.lock().as_ref().unwrap().1["spec"]["holderIdentity"], "two");
    }

    #[tokio::test]
    async fn a_lease_that_somebody_touched_or_deleted_is_kept() {
        let server = Server::default();
        let mut candidate = server.candidate("one");
        assert!(candidate.attempt().await.unwrap());
        server.writes("one");
        server.asked();
        assert!(candidate.attempt().await.unwrap());
        assert_eq!(server.asked(), ["PUT", "GET", "PUT"]);
        *server.lease.lock() = None;
        assert!(candidate.attempt().await.unwrap());
        assert_eq!(server.asked(), ["PUT", "GET", "POST"]);
    }
}
