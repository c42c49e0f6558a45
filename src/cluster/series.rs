//! Kubernetes Events about what happens again and again: counted here, and written a few at a time, so that a flood of
//! occasions is no flood of requests.
//!
//! *Guarantees*: at most one Event is written in [`PACE`], and one series in [`EVERY`]. At most [`SERIES`] of them are
//! kept; what has no room counts in one that stands for many. What was told of before this process is not counted again, nor
//! what this process looks at once more; what it comes to late is counted, however old.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::error::{Error, Result};
use super::events::create;

/// Series that are kept at a time, at the most: what has been written is kept for [`EVERY`] at least.
const SERIES: usize = 100;
/// The least time between two that are written.
const PACE: Duration = Duration::from_millis(100);
/// The least time between two writes of one.
const EVERY: Duration = Duration::from_secs(10);

/// Occasions of a series that are told apart from those that come, at the most; the oldest go first.
const COUNTED: usize = 5_000;

/// Namespace and name of an Event.
type Key = (String, String);

/// What is written of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Written {
    count: i32,
    last: Timestamp,
    /// The last that was told of before this process counted.
    before: Timestamp,
}

impl Written {
    /// With one occasion more, unless it was told of before this process.
    fn and(self, at: Timestamp) -> Self {
        // Times in Events are kept in whole microseconds.
        if at.as_microsecond() <= self.before.as_microsecond() {
            return self;
        }
        Self { count: self.count.saturating_add(1), last: self.last.max(at), ..self }
    }
}

/// One series.
struct One {
    event: Event,
    /// When it happened, where that is not written yet.
    times: Vec<Timestamp>,
    /// What this process has counted.
    counted: BTreeSet<(Timestamp, u64)>,
    written: Option<Written>,
    due: Instant,
}

impl One {
    fn new(event: Event) -> Self {
        let (times, counted) = (Vec::new(), BTreeSet::new());
        Self { event, times, counted, written: None, due: Instant::now() }
    }

    /// Counts an occasion, once.
    fn add(&mut self, (at, occasion): (Timestamp, &str)) {
        let mut hasher = DefaultHasher::new();
        occasion.hash(&mut hasher);
        if !self.counted.insert((at, hasher.finish())) {
            return;
        }
        self.times.push(at);
        if self.counted.len() > COUNTED {
            self.counted.pop_first();
        }
    }
}

/// What happens again and again.
#[derive(Default)]
pub(super) struct Series {
    kept: Mutex<BTreeMap<Key, One>>,
    news: Notify,
}

fn key_of(event: &Event) -> Key {
    (event.metadata.namespace.clone().unwrap_or_default(), event.metadata.name.clone().unwrap_or_default())
}

impl Series {
    /// Whether an Event would begin a series of its own.
    pub(super) fn is_news(&self, namespace: &str, name: &str) -> bool {
        let kept = self.kept.lock();
        kept.len() < SERIES && !kept.contains_key(&(namespace.to_owned(), name.to_owned()))
    }

    /// Counts an occasion, by its time and what tells it from others; `instead` is the Event that stands for many, and is
    /// written where there is no room.
    pub(super) fn count(&self, event: Event, occasion: (Timestamp, &str), instead: impl FnOnce() -> Event) {
        let mut kept = self.kept.lock();
        let has_room = kept.len() < SERIES || kept.contains_key(&key_of(&event));
        let event = if has_room { event } else { instead() };
        kept.entry(key_of(&event)).or_insert_with(|| One::new(event)).add(occasion);
        self.news.notify_one();
    }

    /// Writes what was counted, for ever.
    pub(super) async fn run(&self, home: &Client) {
        loop {
            match self.next() {
                Ok(key) => {
                    self.write(home, &key).await;
                    sleep_until(Instant::now() + PACE).await;
                }
                Err(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.news.notified() => {}
                },
            }
        }
    }

    /// Writes all that was counted, before the end.
    pub(super) async fn finish(&self, home: &Client) {
        let all: Vec<_> = self.kept.lock().keys().cloned().collect();
        for key in all {
            self.write(home, &key).await;
        }
    }

    /// The series that is due; else when there may be one. Those of which nothing has been heard since go.
    fn next(&self) -> std::result::Result<Key, Instant> {
        let (mut kept, now) = (self.kept.lock(), Instant::now());
        kept.retain(|_, one| !one.times.is_empty() || one.due > now);
        let waiting = kept.iter().filter(|(_, one)| !one.times.is_empty());
        match waiting.min_by_key(|(_, one)| one.due) {
            Some((key, one)) if one.due <= now => Ok(key.clone()),
            Some((_, one)) => Err(one.due),
            None => Err(now + EVERY),
        }
    }

    /// Writes one. What cannot be written is let go: Events are for people.
    async fn write(&self, home: &Client, key: &Key) {
        let known = self.kept.lock().get(key).map(|one| (one.event.clone(), one.times.clone(), one.written));
        let Some((event, times, written)) = known.filter(|(_, times, _)| !times.is_empty()) else { return };
        let written = tell(home, event, &times, written).await;
        if let Some(one) = self.kept.lock().get_mut(key) {
            one.times.drain(..times.len());
            one.due = Instant::now() + EVERY;
            match written {
                Ok(written) => one.written = Some(written),
                Err(error) => tracing::warn!(%error, "Event not written"),
            }
        }
    }
}

/// Creates the Event, or counts it.
async fn tell(
    home: &Client,
    mut event: Event,
    times: &[Timestamp],
    written: Option<Written>,
) -> Result<Written> {
    let (namespace, name) = key_of(&event);
    let api: Api<Event> = Api::namespaced(home.clone(), &namespace);
    let patch = async |patch: Value| {
        let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched
            .map_err(Error::request(format!("count Event {}", event.reason.as_deref().unwrap_or_default())))
    };
    let (known, more) = match written {
        Some(written) => (written, times),
        None => {
            match create(home, &event).await? {
                true => (Written { count: 0, last: Timestamp::MIN, before: Timestamp::MIN }, times),
                // The answer to a patch that changes nothing is the Event: reading it needs no further right.
                false => (stands(&patch(json!({})).await?), times),
            }
        }
    };
    let fresh = more.iter().fold(known, |written, at| written.and(*at));
    // One alone is no series.
    if fresh.count == known.count.max(1) {
        return Ok(fresh);
    }
    let series = json!({"count": fresh.count, "lastObservedTime": MicroTime(fresh.last)});
    match patch(json!({"series": series})).await {
        // It was kept as long as Events are: this is another.
        Err(error) if error.code() == Some(404) && written.is_some() => {
            event.event_time = times.first().copied().map(MicroTime);
            Box::pin(tell(home, event, times, None)).await
        }
        patched => patched.map(|_| fresh),
    }
}

/// What an Event says that is there.
fn stands(event: &Event) -> Written {
    let first = event.event_time.as_ref().map_or(Timestamp::MIN, |time| time.0);
    let (count, last) =
        event.series.as_ref().map_or((1, first), |series| (series.count, series.last_observed_time.0));
    Written { count, last, before: last }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{Method, Request, Response};
    use http_body_util::BodyExt;
    use k8s_openapi::jiff::SignedDuration;
    use kube::client::Body;

    use super::*;

    type Log = Arc<Mutex<Vec<String>>>;

    /// An API server that notes what is written, and where nothing is yet.
    fn server(log: &Log) -> Client {
        let log = log.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let log = log.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let sent: Value = serde_json::from_slice(&body).unwrap();
                log.lock().push(match parts.method {
                    Method::POST => {
                        format!("create {}", sent["metadata"]["name"].as_str().unwrap_or_default())
                    }
                    _ => format!("count {}", sent["series"]["count"]),
                });
                Ok::<_, std::convert::Infallible>(Response::new(Body::from(
                    b"{\"metadata\": {}, \"eventTime\": null}".to_vec(),
                )))
            }
        });
        Client::new(service, "a")
    }

    fn event(name: &str) -> Event {
        let mut event = Event::default();
        event.metadata.name = Some(name.to_owned());
        event.metadata.namespace = Some("a".to_owned());
        event
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_occasions_are_two_requests_and_one_more_every_ten_seconds() {
        let (log, series) = (Log::default(), Series::default());
        let home = server(&log);
        for second in 0..1000 {
            series.count(event("x"), (at(second), "a"), || event("many"));
        }
        let mut running = Box::pin(series.run(&home));
        let _ = tokio::time::timeout(Duration::from_secs(1), &mut running).await;
        assert_eq!(*log.lock(), ["create x", "count 1000"]);
        // Five in one moment, of which one is looked at twice; and one that is late.
        for (second, occasion) in [(999, "b"), (999, "c"), (999, "d"), (999, "e"), (999, "e"), (3, "late")] {
            series.count(event("x"), (at(second), occasion), || event("many"));
        }
        let _ = tokio::time::timeout(Duration::from_secs(5), &mut running).await;
        assert_eq!(log.lock().len(), 2, "it was written a moment ago");
        let _ = tokio::time::timeout(Duration::from_secs(30), &mut running).await;
        assert_eq!(log.lock()[2..], ["count 1005"], "each of one moment is another");
    }

    #[tokio::test(start_paused = true)]
    async fn what_has_no_room_counts_in_one_that_stands_for_many() {
        let (log, series) = (Log::default(), Series::default());
        let home = server(&log);
        for name in 0..SERIES + 50 {
            series.count(event(&name.to_string()), (at(1), &name.to_string()), || event("many"));
        }
        assert!(
            !series.is_news("a", "0") && !series.is_news("a", "new"),
            "one is there, for the other is no room"
        );
        let started = Instant::now();
        let mut running = Box::pin(series.run(&home));
        let _ = tokio::time::timeout(PACE / 2, &mut running).await;
        assert_eq!(log.lock().len(), 1, "one at a time");
        let _ = tokio::time::timeout(EVERY + PACE, &mut running).await;
        let written = log.lock().clone();
        assert_eq!(written.iter().filter(|line| line.starts_with("create")).count(), SERIES + 1);
        assert!(written.contains(&"count 50".to_owned()) && started.elapsed() > PACE * 90);
        let _ = tokio::time::timeout(EVERY * 2, &mut running).await;
        assert!(series.is_news("a", "0") && series.kept.lock().is_empty(), "what is quiet is let go");
    }

    #[test]
    fn what_was_told_before_is_not_counted_again() {
        let before = Written { count: 3, last: at(5), before: at(5) };
        let counts =
            |times: &[i64]| times.iter().fold(before, |written, second| written.and(at(*second))).count;
        assert_eq!(counts(&[1, 5]), 3, "all of it is known");
        assert_eq!(counts(&[4, 6, 6, 7, 2]), 6, "what comes later is news, however much of it in one moment");
        assert_eq!(counts(&[9, 7, 8, 3]), 6, "and in whatever order");
    }
}
