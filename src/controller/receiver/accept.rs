//! From an authenticated body to kept events.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, ResourceExt};
use serde::Serialize;
use serde_json::Value;

use super::origin::shown;
use super::{Answer, Key, Open, Receiver, Refusal, UNREAD};
use crate::api::{AcceptedEvent, AnyValue, EventBatch, EventBatchSpec, LABEL, TriggerEvent};
use crate::cluster::objects::MANAGER;
use crate::decide::firing::{self, Arrival};
use crate::decide::hearing::UNDER_WAY;
use crate::decide::identity::{digest, occurrence, readable};
use crate::decide::inbox::{Item, REFRESHED, remember};
use crate::decide::interest::{Interest, Kept, covers};
use crate::decide::owed::rules_of;
use crate::source::watch::now;
use crate::source::webhook::{Message, Received, Request, authentic_until, authenticate, read};

/// The largest batch, in bytes, and the largest event: what Rules read of it goes into an Execution.
const BATCH: usize = 256 * 1024;
const EVENT: usize = 64 * 1024;
/// Events times rules in one batch: each gets an outcome in its status. An event that more rules may match is in several.
const OUTCOMES: usize = 1000;
/// How long a request waits for its turn, and for the API server.
const PATIENCE: Duration = Duration::from_secs(2);
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// What a message comes to.
#[derive(Default)]
struct Sorted {
    fresh: Vec<AcceptedEvent>,
    /// What is known already: the Execution that it led to, or what it is.
    duplicates: Vec<String>,
    unwanted: usize,
    /// What is too large to be kept: the identity of each.
    too_large: Vec<String>,
    /// The batches that are repeated as a sign of life.
    refreshed: BTreeSet<String>,
    /// Until when the request is authentic if it is sent again.
    authentic_until: Option<Timestamp>,
}

impl Receiver {
    /// Takes in a body: an answer of success means that its events are kept, or need not be.
    pub async fn accept(&self, open: &Open, headers: &HeaderMap, body: &[u8]) -> Answer {
        let limit = Duration::try_from(UNDER_WAY).unwrap_or_default();
        match tokio::time::timeout(limit, self.take(open, headers, body)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err((refusal, text))) => self.refuse(open.webhook(), refusal, &text),
            Err(_) => self.refuse(
                open.webhook(),
                Refusal::Overloaded,
                "it takes too long to keep the events; retry",
            ),
        }
    }

    async fn take(&self, open: &Open, headers: &HeaderMap, body: &[u8]) -> Result<Answer, (Refusal, String)> {
        let at = now();
        self.authentic(open, headers, body, at).await?;
        let (webhook, spec) = (&open.webhook, &open.webhook.spec);
        let key = (webhook.namespace().unwrap_or_default(), webhook.name_any());
        let limit = spec.per_sender_per_minute();
        if self.senders.is_too_much(key.clone(), open.sender, limit, Instant::now()) {
            let text = format!("more than {limit} requests a minute from {}; retry", shown(open.sender));
            return Err((Refusal::RateLimited, text));
        }
        let sorted = {
            let _turn = turn(&self.parsing).await?;
            let request = Request { headers, body, received_at: at };
            let message = read(spec, &key.1, request).map_err(|text| (Refusal::Malformed, text))?;
            self.tally.received(webhook, message.truncated, at);
            let came = Arrival { at, authentic_until: authentic_until(spec, headers) };
            self.sort((&key.0, &key.1), message, came)
        };
        self.tally.too_large(webhook, &sorted.too_large);
        self.count([("rejected", sorted.too_large.len())], at);
        self.count([("deduplicated", sorted.duplicates.len()), ("dropped", sorted.unwanted)], at);
        if sorted.fresh.is_empty() {
            return nothing_new(&sorted);
        }
        let (count, left_out) = (sorted.fresh.len(), left_out(&sorted.too_large));
        self.keep((&key.0, &key.1), sorted, at).await?;
        self.count([("accepted", count)], at);
        Ok(Answer::accepted(&format!("accepted {count} events{left_out}")))
    }

    /// Whether the request is authentic, by the secret as it was read or as it is now.
    async fn authentic(
        &self,
        open: &Open,
        headers: &HeaderMap,
        body: &[u8],
        at: Timestamp,
    ) -> Result<(), (Refusal, String)> {
        let (webhook, spec) = (&open.webhook, &open.webhook.spec);
        let unready =
            |_| (Refusal::NotReady, "the Webhook is not ready, its status says why; retry".to_owned());
        let secret = self.secrets.get(&self.home, webhook).await.map_err(unready)?;
        let Err(text) = authenticate(spec, &secret, headers, body, at) else { return Ok(()) };
        match self.secrets.renewed(&self.home, webhook).await {
            Ok(Some(secret)) if authenticate(spec, &secret, headers, body, at).is_ok() => Ok(()),
            Ok(_) => Err((Refusal::Unauthenticated, text)),
            Err(_) => Err((Refusal::NotReady, UNREAD.to_owned())),
        }
    }

    fn count(&self, results: impl IntoIterator<Item = (&'static str, usize)>, at: Timestamp) {
        for (result, count) in results {
            (0..count).for_each(|_| self.metrics.received("webhook", result, at.as_second()));
        }
    }

    /// Drops what no rule is about and what is known, and of the rest what no expression reads.
    fn sort(&self, (namespace, webhook): (&str, &str), message: Message, came: Arrival) -> Sorted {
        let (key, at) = ((namespace.to_owned(), webhook.to_owned()), came.at);
        let mut sorted = Sorted { authentic_until: came.authentic_until, ..Sorted::default() };
        let mut seen = BTreeSet::new();
        for received in message.events {
            let received = self.restarted((namespace, webhook), received, came);
            let Some(kept) = self.kept(&key, &received, at) else {
                sorted.unwanted += 1;
                continue;
            };
            let mut accepted = accepted(received, &kept);
            let name = occurrence(&accepted.event);
            if !seen.insert(name.clone()) {
                sorted.duplicates.push(format!("event {}", accepted.event.id));
                continue;
            }
            let known = self.known_of((namespace, webhook), &accepted);
            if leaves_to_who_had_it(&mut accepted, &kept, &known) {
                sorted.duplicates.push(format!("event {}", accepted.event.id));
                continue;
            }
            match duplicate(&mut accepted, &known, at, &mut sorted.refreshed) {
                Some(of) => sorted.duplicates.push(of),
                // The others are worth no less for it, and who sent them does not send them again.
                None if size(&accepted.event) > EVENT => sorted.too_large.push(name),
                None => sorted.fresh.push(accepted),
            }
        }
        sorted
    }

    /// An alert with the start by which it goes, in its identity too.
    fn restarted(&self, webhook: (&str, &str), mut received: Received, came: Arrival) -> Received {
        let Received { event, alert: Some(alert) } = &mut received else { return received };
        let holding = self.known.holding(webhook, &alert.fingerprint).into_iter();
        let batches = holding.filter_map(|(namespace, name)| self.batches.get(&namespace, &name));
        let kept: Vec<_> = batches.flat_map(|batch| firing::of(&batch, &alert.fingerprint)).collect();
        let starts = firing::start(alert, &kept, came);
        // What is kept is kept in microseconds.
        if starts.as_microsecond() != alert.starts_at.0.as_microsecond() {
            let status = if alert.ends_at.is_some() { "resolved" } else { "firing" };
            event.id = format!("{}/{}/{starts}/{status}", alert.fingerprint, alert.starts_at.0);
            alert.starts_at = MicroTime(starts);
            // It may be said to have ended before.
            if let Some(ends) = &mut alert.ends_at {
                ends.0 = ends.0.max(starts);
            }
            event.time = alert.ends_at.clone().unwrap_or(MicroTime(starts));
        }
        received
    }

    /// What is kept of an event, and for whom. That an alert is resolved is kept, too, where it is kept that it fires: whoever
    /// comes to be about its name would go by that.
    fn kept(&self, webhook: &Key, Received { event, alert }: &Received, at: Timestamp) -> Option<Kept> {
        let takes = |one: &Interest, seen: &TriggerEvent| {
            let rule = self.rules.get(&one.namespace, &one.rule);
            rule.is_some_and(|rule| self.takers.takes(&rule, (seen, alert.as_ref()), at))
        };
        let kept = self.listening.keep(webhook, event, alert.as_ref(), takes);
        let ended = alert.as_ref().filter(|alert| alert.ends_at.is_some());
        kept.or_else(|| {
            let holding = self.known.holding((&webhook.0, &webhook.1), &ended?.fingerprint);
            (!holding.is_empty()).then(|| Kept::for_nobody(&event.data.0))
        })
    }

    /// The batches that have an event already.
    fn known_of(&self, webhook: (&str, &str), accepted: &AcceptedEvent) -> Vec<Item> {
        let holders = self.known.holders(webhook, &accepted.event).into_iter();
        holders.filter_map(|(namespace, name)| self.holds(&namespace, &name, accepted)).collect()
    }

    /// An event as a batch has it.
    fn holds(&self, namespace: &str, name: &str, event: &AcceptedEvent) -> Option<Item> {
        let batch = self.batches.get(namespace, name)?;
        let index =
            batch.spec.events.iter().position(|known| {
                known.event.id == event.event.id && known.event.source == event.event.source
            })?;
        Some(Item { batch, index })
    }

    /// Keeps what is new, as far as there is room.
    async fn keep(
        &self,
        webhook: (&str, &str),
        mut sorted: Sorted,
        at: Timestamp,
    ) -> Result<(), (Refusal, String)> {
        let _turn = turn(&self.writing).await?;
        let count = sorted.fresh.len();
        let rooms = [false, true].map(|ends| self.known.has_room(webhook.0, ends));
        sorted.fresh.retain(|accepted| {
            let ends = accepted.alert.as_ref().is_some_and(|alert| alert.ends_at.is_some());
            rooms[usize::from(ends)]
        });
        let is_whole = sorted.fresh.len() == count;
        self.write(webhook, sorted, at).await?;
        // Who comes again with all of it hears that a part is known.
        if is_whole { Ok(()) } else { Err(overloaded("queue full; retry")) }
    }

    async fn write(
        &self,
        (namespace, webhook): (&str, &str),
        sorted: Sorted,
        at: Timestamp,
    ) -> Result<(), (Refusal, String)> {
        let api: Api<EventBatch> = Api::namespaced(self.home.clone(), namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        for events in parts(sorted.fresh) {
            let mut batch = build((namespace, webhook), events, &sorted.refreshed, at);
            batch.spec.authentic_until = sorted.authentic_until.map(MicroTime);
            match tokio::time::timeout(WRITE_TIMEOUT, api.create(&params, &batch)).await {
                Ok(Ok(created)) => {
                    let created = Arc::new(created);
                    self.batches.insert(created.clone());
                    // The watch may have been faster, and know more of it.
                    self.known.learn(&created, self.batches.get(namespace, &created.name_any()));
                    // What the watch brings of it is nothing new any more.
                    self.tell_of_batch(None, &created);
                }
                // The same request before, to this replica or another.
                Ok(Err(kube::Error::Api(status))) if status.is_already_exists() => {}
                Ok(Err(error)) => {
                    tracing::warn!(namespace, webhook, %error, "events are not kept");
                    return Err(not_kept(&error));
                }
                Err(_) => return Err(overloaded("the API server does not answer; retry")),
            }
        }
        Ok(())
    }
}

/// Leaves an event that comes again to those for which it came first: that these are gone, or were mended, makes it nobody's only if
/// it is a state. Says whether that leaves nobody.
fn leaves_to_who_had_it(accepted: &mut AcceptedEvent, kept: &Kept, known: &[Item]) -> bool {
    if accepted.alert.is_some() || known.is_empty() || accepted.rules.is_empty() {
        return false;
    }
    let had: BTreeSet<&str> = known.iter().flat_map(|item| rules_of(&item.batch, item.index)).collect();
    let unmatched = kept.wanting.iter().filter(|one| one.is_unmatched() && !had.contains(one.rule.as_str()));
    let not_its_own: BTreeSet<&str> = unmatched.map(|one| one.rule.as_str()).collect();
    accepted.rules.retain(|rule| !not_its_own.contains(rule.as_str()));
    accepted.rules.is_empty()
}

/// What an event repeats, if it says nothing new. A rule that came since, or reads more, has yet to hear it; and an
/// alert that fires on is heard again once a day, so that it is not forgotten; what it repeats may go then, except for
/// when it was heard of first.
fn duplicate(
    accepted: &mut AcceptedEvent,
    known: &[Item],
    at: Timestamp,
    refreshed: &mut BTreeSet<String>,
) -> Option<String> {
    let fires = accepted.alert.as_ref().is_some_and(|alert| alert.ends_at.is_none());
    let is_current = |item: &&Item| {
        let is_old = fires && at.duration_since(item.received_at()) > REFRESHED;
        !is_old && covers(&item.accepted().event.data.0, &accepted.event.data.0)
    };
    let (current, stale): (Vec<_>, Vec<_>) = known.iter().partition(is_current);
    let told: BTreeSet<&str> = current.iter().flat_map(|item| rules_of(&item.batch, item.index)).collect();
    if !current.is_empty() && accepted.rules.iter().all(|rule| told.contains(rule.as_str())) {
        let execution = current.iter().find_map(|item| item.execution());
        return Some(execution.map_or(format!("event {}", accepted.event.id), |e| format!("execution {e}")));
    }
    refreshed.extend(stale.iter().map(|item| item.batch.name_any()));
    for item in known {
        remember(accepted, item);
    }
    None
}

/// An event with what is kept of it: if that is too large, with what those read that may match it.
fn accepted(Received { event, alert }: Received, kept: &Kept) -> AcceptedEvent {
    let with = |data: Value| TriggerEvent { data: AnyValue(data), ..event.clone() };
    let mut read = with(kept.data.clone());
    if alert.is_some() && size(&read) > EVENT {
        read = with(kept.least(&event.data.0, alert.as_ref()));
    }
    let rules = kept.wanting.iter().map(|interest| interest.rule.clone()).collect();
    AcceptedEvent { event: read, rules, alert }
}

/// What the sender hears of events that the API server has not taken. What an EventBatch has no room for it never has; what
/// an admission policy refuses, which is 422 as well, may be well later.
fn not_kept(error: &kube::Error) -> (Refusal, String) {
    let details = match error {
        kube::Error::Api(status) if status.code == 422 => status.details.as_ref(),
        _ => None,
    };
    let mut fields = details.into_iter().flat_map(|details| &details.causes).map(|cause| &cause.field);
    match fields.find(|field| field.starts_with("spec.events[")) {
        Some(field) => (Refusal::Malformed, format!("{field} is not what an EventBatch can hold")),
        None => overloaded("the events cannot be kept now; retry"),
    }
}

fn overloaded(text: &str) -> (Refusal, String) {
    (Refusal::Overloaded, text.to_owned())
}

async fn turn(of: &tokio::sync::Semaphore) -> Result<tokio::sync::SemaphorePermit<'_>, (Refusal, String)> {
    let waited = tokio::time::timeout(PATIENCE, of.acquire()).await;
    waited.ok().and_then(Result::ok).ok_or_else(|| (Refusal::Overloaded, "queue full; retry".to_owned()))
}

/// The answer to a message of which nothing is to be kept, or can be.
fn nothing_new(sorted: &Sorted) -> Result<Answer, (Refusal, String)> {
    let text = match (sorted.duplicates.as_slice(), sorted.too_large.as_slice()) {
        ([], []) => "no Rule wants any of it".to_owned(),
        ([], [first, ..]) => {
            let text = format!("what Rules read of event {first:?} exceeds {EVENT} bytes");
            return Err((Refusal::TooLarge, text));
        }
        ([one], _) => format!("duplicate of {one}"),
        ([first, rest @ ..], _) => format!("duplicate of {first} and {} more", rest.len()),
    };
    Ok(Answer::nothing_new(&format!("{text}{}", left_out(&sorted.too_large))))
}

fn left_out(too_large: &[String]) -> String {
    match too_large {
        [] => String::new(),
        all => format!("; {} too large and left out", all.len()),
    }
}

fn size(event: &impl Serialize) -> usize {
    serde_json::to_vec(event).map_or(usize::MAX, |text| text.len())
}

/// Cuts an event that more rules may match than a batch has outcomes for.
fn cut(event: AcceptedEvent) -> Vec<AcceptedEvent> {
    if event.rules.len() <= OUTCOMES {
        return vec![event];
    }
    let of = |rules: &[String]| {
        let mut part = AcceptedEvent { rules: rules.to_vec(), ..event.clone() };
        if let Some(alert) = &mut part.alert {
            alert.heard.retain(|rule, _| part.rules.contains(rule));
        }
        part
    };
    event.rules.chunks(OUTCOMES).map(of).collect()
}

/// Cuts events into batches that fit.
fn parts(events: Vec<AcceptedEvent>) -> Vec<Vec<AcceptedEvent>> {
    let (mut parts, mut bytes, mut outcomes) = (Vec::<Vec<AcceptedEvent>>::new(), 0, 0);
    for event in events.into_iter().flat_map(cut) {
        let (more_bytes, more_outcomes) = (size(&event), event.rules.len().max(1));
        let fits = bytes + more_bytes <= BATCH && outcomes + more_outcomes <= OUTCOMES;
        if let Some(part) = parts.last_mut().filter(|_| fits) {
            part.push(event);
        } else {
            parts.push(vec![event]);
            (bytes, outcomes) = (0, 0);
        }
        bytes += more_bytes;
        outcomes += more_outcomes;
    }
    parts
}

/// The name says what is in it: the same request again, on whichever replica, meets what the first one wrote.
fn build(
    (namespace, webhook): (&str, &str),
    events: Vec<AcceptedEvent>,
    refreshed: &BTreeSet<String>,
    at: Timestamp,
) -> EventBatch {
    let mut identity = vec!["batch".to_owned(), namespace.to_owned(), webhook.to_owned()];
    for accepted in &events {
        identity.push(occurrence(&accepted.event));
        identity.extend(accepted.rules.iter().cloned());
    }
    identity.extend(refreshed.iter().cloned());
    let parts: Vec<&str> = identity.iter().map(String::as_str).collect();
    let name = readable(webhook, &digest(&parts)[..32]);
    let (webhook_name, received_at) = (webhook.to_owned(), Some(MicroTime(at)));
    let spec = EventBatchSpec { webhook: webhook_name, received_at, events, ..EventBatchSpec::default() };
    let mut batch = EventBatch::new(&name, spec);
    batch.metadata.namespace = Some(namespace.to_owned());
    let labels = [("app.kubernetes.io/managed-by", MANAGER), (LABEL.webhook, webhook)];
    batch.metadata.labels = Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::AlertState;
    use serde_json::json;

    fn event(id: &str, rules: usize, size: usize) -> AcceptedEvent {
        let rules: Vec<_> = (0..rules).map(|rule| format!("r{rule}")).collect();
        serde_json::from_value(json!({"rules": rules, "event": {"id": id, "source": "s", "type": "t",
            "time": "2026-01-01T00:00:00Z", "data": "x".repeat(size)}}))
        .expect("an event")
    }

    #[test]
    fn batches_are_cut_by_bytes_and_by_outcomes() {
        let sizes = |events: Vec<AcceptedEvent>| parts(events).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(vec![event("1", 1, 1); 10]), [10]);
        assert_eq!(sizes(vec![event("1", 1, 60 * 1024); 9]), [4, 4, 1]);
        assert_eq!(sizes(vec![event("1", 400, 1); 5]), [2, 2, 1]);
        assert_eq!(sizes(vec![]), [0; 0]);
        assert_eq!(sizes(vec![event("1", 0, 1); 1001]), [1000, 1], "each has an outcome");
    }

    #[test]
    fn an_event_that_very_many_rules_may_match_is_in_several_batches() {
        let mut alert = event("1", 2500, 1);
        let heard = alert.rules.iter().map(|rule| (rule.clone(), alert.event.time.clone())).collect();
        alert.alert = Some(AlertState {
            fingerprint: "f".to_owned(),
            starts_at: alert.event.time.clone(),
            ends_at: None,
            heard,
        });
        let found = parts(vec![alert.clone(), event("2", 1, 1)]);
        let rules =
            |part: &Vec<AcceptedEvent>| part.iter().map(|event| event.rules.len()).collect::<Vec<_>>();
        assert_eq!(found.iter().map(rules).collect::<Vec<_>>(), [vec![1000], vec![1000], vec![500, 1]]);
        let of_alert: Vec<_> = found.iter().map(|part| &part[0]).collect();
        assert_eq!(of_alert.iter().flat_map(|part| part.rules.clone()).collect::<Vec<_>>(), alert.rules);
        for part in of_alert {
            let heard: Vec<_> = part.alert.iter().flat_map(|alert| alert.heard.keys()).cloned().collect();
            let mut rules = part.rules.clone();
            rules.sort();
            assert_eq!(heard, rules);
        }
        let names = |events| {
            let named = |part| build(("a", "w"), part, &BTreeSet::new(), Timestamp::UNIX_EPOCH).metadata.name;
            parts(events).into_iter().map(named).collect::<Vec<_>>()
        };
        assert_eq!(names(vec![alert.clone()]), names(vec![alert]));
    }

    /// One whose API server refuses everything.
    fn refused(code: u16, reason: &str, cause: &Value) -> Arc<Receiver> {
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "x", "reason": reason, "code": code, "details": {"causes": [cause]}});
        let text = status.to_string().into_bytes();
        let service = tower::service_fn(move |_: http::Request<kube::client::Body>| {
            let answer = http::Response::builder().status(code);
            let answer = answer.body(kube::client::Body::from(text.clone()));
            async move { answer }
        });
        Receiver::new(kube::Client::new(service, "default"), Arc::default())
    }

    /// A quota answers 409, too, when others change it at the same moment: nothing is kept then. And a policy of the cluster
    /// answers 422.
    #[tokio::test]
    async fn only_what_exists_already_counts_as_kept_and_only_what_stays_wrong_as_malformed() {
        let long = json!({"reason": "FieldValueTooLong", "message": "x", "field": "spec.events[0].event.id"});
        let policy = json!({"message": "x"});
        for (code, reason, cause, expected) in [
            (409, "AlreadyExists", &policy, Ok(())),
            (409, "Conflict", &policy, Err(Refusal::Overloaded)),
            (422, "Invalid", &long, Err(Refusal::Malformed)),
            (422, "Invalid", &policy, Err(Refusal::Overloaded)),
            (403, "Forbidden", &long, Err(Refusal::Overloaded)),
        ] {
            let sorted = Sorted { fresh: vec![event("1", 1, 1)], ..Sorted::default() };
            let receiver = refused(code, reason, cause);
            let written = receiver.write(("a", "w"), sorted, Timestamp::UNIX_EPOCH).await;
            assert_eq!(written.map_err(|(refusal, _)| refusal), expected, "{code} {reason} {cause}");
        }
    }

    /// A sender does not come again after 401, and his secret may be the new one.
    #[tokio::test]
    async fn who_may_be_right_is_told_to_come_again_while_the_secret_cannot_be_read() {
        let bearer = json!({"bearer": {"secretRef": {"name": "s", "key": "k"}}});
        let webhook = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Webhook",
            "metadata": {"name": "w", "namespace": "a"},
            "spec": {"serviceAccountName": "r", "alertmanager": {}, "authentication": bearer}});
        let webhook: crate::api::Webhook = serde_json::from_value(webhook).expect("a Webhook");
        let mut headers = HeaderMap::new();
        headers.insert("authorization", http::HeaderValue::from_static("Bearer new"));
        for (code, expected, status) in [(500, Refusal::NotReady, 503), (403, Refusal::Unauthenticated, 401)]
        {
            let receiver = refused(code, "x", &json!({"message": "x"}));
            receiver.secrets.outdated(&webhook, "old");
            let open = Open { webhook: Arc::new(webhook.clone()), sender: [127, 0, 0, 1].into() };
            let proven = receiver.authentic(&open, &headers, b"", Timestamp::UNIX_EPOCH).await;
            assert_eq!(proven.map_err(|(refusal, _)| refusal), Err(expected), "{code}");
            let answer = receiver.admit(open, &headers).await.err();
            assert_eq!(answer.map(|answer| answer.status), Some(status), "{code}");
        }
    }

    /// It is kept that it fires on, and what is said of it then has its identity and its times from that.
    #[tokio::test]
    async fn an_alert_that_fires_on_after_its_end_is_another_by_its_identity() {
        let receiver = refused(500, "x", &json!({"message": "x"}));
        let at = |second: i64| Timestamp::from_second(second).expect("a time");
        let id = format!("f/{}/{}/", at(5), at(300));
        let kept = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch",
            "metadata": {"name": "kept", "namespace": "a", "resourceVersion": "1"},
            "spec": {"webhook": "w", "receivedAt": at(602).to_string(), "events": [{"rules": [],
                "alert": {"fingerprint": "f", "startsAt": at(300).to_string()},
                "event": {"id": format!("{id}firing"), "source": "alertmanager", "type": "alert.firing",
                    "time": at(300).to_string()}}]}});
        let kept: Arc<EventBatch> = Arc::new(serde_json::from_value(kept).expect("an EventBatch"));
        receiver.batches.insert(kept.clone());
        receiver.known.learn(&kept, Some(kept.clone()));
        let said = |ends: Option<i64>, now: i64| {
            let alert = AlertState {
                fingerprint: "f".to_owned(),
                starts_at: MicroTime(at(5)),
                ends_at: ends.map(|ends| MicroTime(at(ends))),
                heard: std::collections::BTreeMap::new(),
            };
            let received = Received { event: event("as it was", 0, 1).event, alert: Some(alert) };
            let came = Arrival { at: at(now), authentic_until: None };
            let Received { event, alert } = receiver.restarted(("a", "w"), received, came);
            let ends = alert.and_then(|alert| alert.ends_at).map(|ends| ends.0.as_second());
            (event.id, event.time.0.as_second(), ends)
        };
        assert_eq!(said(None, 700), (format!("{id}firing"), 300, None));
        assert_eq!(said(Some(900), 901), (format!("{id}resolved"), 900, Some(900)));
        assert_eq!(said(Some(250), 620).0, "as it was", "it is the end of what was before");
        assert_eq!(
            said(Some(250), 700),
            (format!("{id}resolved"), 300, Some(300)),
            "none ends before it begins"
        );
    }

    #[test]
    fn the_name_of_a_batch_says_what_is_in_it() {
        let name = |events: Vec<AcceptedEvent>, second| {
            let at = Timestamp::from_second(second).expect("a time");
            build(("a", "w"), events, &BTreeSet::new(), at).metadata.name
        };
        let first = name(vec![event("1", 1, 1)], 1);
        assert_eq!(first, name(vec![event("1", 1, 1)], 2), "whenever it comes");
        assert_ne!(first, name(vec![event("2", 1, 1)], 1));
        assert_ne!(first, name(vec![event("1", 2, 1)], 1), "another rule wants it");
    }
}
