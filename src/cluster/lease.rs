//! Leadership by a Lease. It gives liveness, and one guard: no request that changes something is sent once the last
//! renewal is too old. Safety does not rest on it: names are deterministic.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
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

/// How long one has to lead until what was found at the beginning is done. Whoever ends sooner may have found what had
/// happened while nobody led, and not have decided about it: for the next that counts as not led.
pub const SETTLED: SignedDuration = SignedDuration::from_mins(2);
/// On the Lease: when it was taken by who has it, and until when it had been led by then so that nothing was left over, if it
/// ever had.
const MARK: &str = "fother.dev/settled-before";

/// The mark of who took the Lease at a time.
fn mark(taken: Timestamp, settled_before: Option<Timestamp>) -> BTreeMap<String, String> {
    let before = settled_before.map(|before| format!(" {before}")).unwrap_or_default();
    BTreeMap::from([(MARK.to_owned(), format!("{taken}{before}"))])
}

/// Until when it was led so that nothing is left over from then, for whoever takes the Lease now; none if it never was.
fn settled_until(lease: &Lease) -> Option<Timestamp> {
    let spec = lease.spec.as_ref()?;
    let renewed = spec.renew_time.as_ref()?.0;
    let taken = spec.acquire_time.as_ref().map_or(renewed, |taken| taken.0);
    let text = lease.metadata.annotations.as_ref().and_then(|all| all.get(MARK)).map_or("", String::as_str);
    let (by, before) = text.split_once(' ').unwrap_or((text, ""));
    // Who writes no marks leaves that of another.
    let is_his = by.parse().is_ok_and(|by: Timestamp| by == taken);
    if is_his && renewed.duration_since(taken) < SETTLED { before.parse().ok() } else { Some(renewed) }
}

/// The same for the next after a process that led from a time to another.
#[cfg(test)]
pub fn settled_by(before: Option<Timestamp>, (taken, renewed): (Timestamp, Timestamp)) -> Option<Timestamp> {
    settled_until(&Lease {
        metadata: ObjectMeta { annotations: Some(mark(taken, before)), ..ObjectMeta::default() },
        spec: Some(LeaseSpec {
            acquire_time: Some(MicroTime(taken)),
            renew_time: Some(MicroTime(renewed)),
            ..LeaseSpec::default()
        }),
    })
}

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
    /// When this candidate took the Lease. Whoever has had its name before is another.
    taken: Option<Timestamp>,
    /// When it was renewed last before that.
    led_before: Option<Timestamp>,
    /// Until when it was led before that so that nothing was left over.
    settled_before: Option<Timestamp>,
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
            taken: None,
            led_before: None,
            settled_before: None,
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

    /// Until when somebody led before that for so long that nothing is left over from then; none if nobody has.
    pub fn settled_before(&self) -> Option<Timestamp> {
        self.settled_before
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
            let taken = self.take(None);
            let annotations = Some(mark(taken, None));
            let lease = Lease {
                metadata: ObjectMeta { name: Some(self.name.clone()), annotations, ..ObjectMeta::default() },
                spec: Some(self.spec(None)),
            };
            let created = self.api.create(&PostParams::default(), &lease).await;
            return self.written(created);
        };
        let spec = lease.spec.clone().unwrap_or_default();
        if !self.may_take(&spec) {
            return Ok(false);
        }
        if self.is_mine(&spec) {
            return self.replace(lease).await;
        }
        let settled = settled_until(&lease);
        let taken = self.take(spec.renew_time.as_ref().map(|time| (time.0, settled)));
        let mut lease = lease;
        lease.metadata.annotations.get_or_insert_default().extend(mark(taken, settled));
        self.replace(lease).await
    }

    /// Whether it is what this candidate took: a write without an answer may have been one.
    fn is_mine(&self, spec: &LeaseSpec) -> bool {
        let taken = spec.acquire_time.as_ref().map(|time| time.0);
        spec.holder_identity.as_ref() == Some(&self.identity) && taken.is_some() && taken == self.taken
    }

    /// Takes it at this moment, as the API server keeps it, from who led before.
    fn take(&mut self, before: Option<(Timestamp, Option<Timestamp>)>) -> Timestamp {
        let now = Timestamp::now();
        let now = Timestamp::from_microsecond(now.as_microsecond()).unwrap_or(now);
        (self.taken, self.led_before) = (Some(now), before.map(|(led, _)| led));
        self.settled_before = before.and_then(|(_, settled)| settled);
        now
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
        let transitions = before.and_then(|b| b.lease_transitions).unwrap_or(0) + i32::from(!mine);
        LeaseSpec {
            acquire_time: Some(self.taken.map_or_else(|| now.clone(), MicroTime)),
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

    #[test]
    fn who_has_not_led_for_long_leaves_what_he_found_to_the_next() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        for (before, taken, renewed, expected) in [
            (Some(100), 700, 720, Some(100)),
            (Some(100), 700, 819, Some(100)),
            (Some(100), 700, 820, Some(820)),
            (None, 700, 720, None),
            (None, 700, 820, Some(820)),
        ] {
            let settled = settled_by(before.map(at), (at(taken), at(renewed)));
            assert_eq!(settled, expected.map(at), "{before:?} {taken} {renewed}");
        }
    }

    #[tokio::test]
    async fn what_is_left_over_is_known_to_whoever_comes_after_who_hardly_led() {
        let server = Server::default();
        let before = async |identity: &str| {
            let mut candidate = server.candidate(identity);
            assert!(candidate.attempt().await.unwrap() && candidate.attempt().await.unwrap());
            // One that is killed releases nothing, and the container that starts again has its name.
            if identity != "two" {
                candidate.release().await.unwrap();
            }
            (candidate.led_before(), candidate.settled_before())
        };
        let renewed = || {
            let lease = server.lease.lock();
            let time = lease.as_ref().unwrap().1["spec"]["renewTime"].as_str().map(str::to_owned).unwrap();
            Some(time.parse::<Timestamp>().unwrap())
        };
        assert_eq!(before("one").await, (None, None));
        for name in ["two", "two"] {
            let led = renewed();
            assert_eq!(before(name).await, (led, None));
        }
        server.lease.lock().as_mut().unwrap().1["spec"]["holderIdentity"] = json!("");
        let hour_ago = Timestamp::now() - SignedDuration::from_hours(1);
        server.lease.lock().as_mut().unwrap().1["spec"]["acquireTime"] = json!(MicroTime(hour_ago));
        let settled = renewed();
        assert_eq!(before("three").await, (settled, settled), "led for an hour");
        for name in ["four", "five"] {
            let led = renewed();
            assert_eq!(before(name).await, (led, settled));
        }
        // By who leaves the mark of another, one led however short a time it was.
        let taken = renewed().unwrap() - SignedDuration::from_secs(1);
        server.lease.lock().as_mut().unwrap().1["spec"]["acquireTime"] = json!(MicroTime(taken));
        let settled = renewed();
        assert_eq!(before("six").await, (settled, settled));
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
