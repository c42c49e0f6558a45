//! One rule's eye on its watch: objects come in, matches and events go into the rule's state.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use super::held::Waiting;
use super::later::Later;
use super::seen::{Edge, Judged, Seen, State, blind, key_of, matched};
use super::unwatched::recorded;
use super::windows::Capturing;
use crate::api::{CapturedEvent, ObjectReference, Target};
use crate::cluster::account::Account;
use crate::cluster::discovery::{Kinds, Served};
use crate::cluster::objects::Objects;
use crate::cluster::{Error, Result, owners};
use crate::controller::context::Context;
use crate::controller::queue::{Kind, Queue};
use crate::decide::correlation::Found;
use crate::decide::episode::RuleFacts;
use crate::decide::index::{self, Index};
use crate::decide::matching::{CompiledRule, event_identity, is_own, occurred};
use crate::decide::view::{Match, ObjectKey, Sight};
use crate::expr::EvalErrorKind;
use crate::source::shared::{Subscription, WatchKey, Watches};
use crate::source::watch::{Delivery, Listing, Scope, now};
use crate::telemetry::Metrics;

/// How often failed look-ups are repeated, and a silence is noticed.
const TICK: Duration = Duration::from_secs(2);
/// Events that wait for their decision, at the most: a flood is cut, not hoarded.
const EDGES: usize = 1000;
/// How long a list that is to show that nothing has happened rests.
const PROVE_EVERY: SignedDuration = SignedDuration::from_secs(5);
/// How long a rule rests whose evaluator panicked: the object that did it is still there.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// A running evaluator. Dropping it stops it.
pub struct Evaluator {
    state: Arc<Mutex<State>>,
    task: AbortHandle,
    relist: Arc<Notify>,
    /// What may have been forgotten before it was seen, and until when that matters.
    blind: Option<(Timestamp, String)>,
    /// The targets that wait.
    pub waiting: Waiting,
    /// What it was started for: another text or account needs another evaluator.
    pub started_for: (i64, String),
}

impl Drop for Evaluator {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Evaluator {
    /// Starts one.
    pub async fn start(
        context: &Context,
        rule: Arc<CompiledRule>,
        account: Account,
        generation: i64,
    ) -> Result<Self> {
        let started_for = (generation, account.user().to_owned());
        let state = Arc::new(Mutex::new(State::default()));
        let watched = watched(context, &rule, &account).await?;
        let relist = Arc::new(Notify::new());
        let blind = blind(&rule, now());
        let eye = Eye {
            capturing: Capturing::of(&rule, &context.executions),
            rule,
            account,
            kinds: context.kinds.clone(),
            watches: context.watches.clone(),
            queue: context.queue.clone(),
            state: state.clone(),
            later: Later::default(),
            unresolved: BTreeMap::new(),
            resynced: now(),
            relist: relist.clone(),
            metrics: context.metrics.clone(),
            synced: false,
        };
        let (queue, facts) = (eye.queue.clone(), eye.rule.facts.clone());
        let task = tokio::spawn(contained(eye.follow(watched), queue, facts)).abort_handle();
        Ok(Self { state, task, relist, blind, waiting: Waiting::default(), started_for })
    }

    /// Whether it has ended, which it does only by a panic.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// What it has seen.
    pub fn seen(&self) -> Seen {
        let state = self.state.lock();
        let mut edges: Vec<_> = state.edges.values().cloned().collect();
        edges.sort_by(|a, b| (a.time, &a.occurrence).cmp(&(b.time, &b.occurrence)));
        Seen {
            targets: state.view.targets(),
            edges,
            sight: Sight {
                heard_at: state.heard_at,
                complete_at: state.complete_at,
                all_resolved: !state.unresolved,
            },
            broken: state.broken.clone(),
            mistake: state.mistake.as_ref().map(|((_, name), error)| format!("{name}: {error}")),
            blind: self.blind.as_ref().filter(|(until, _)| now() < *until).map(|(_, text)| text.clone()),
            dropped: state.dropped,
            ..Seen::default()
        }
    }

    /// Asks for a complete view that is newer than this moment.
    pub fn relist(&self) {
        self.relist.notify_one();
    }

    /// Forgets an event that has been decided.
    pub fn decided(&self, occurrence: &str) {
        let mut state = self.state.lock();
        state.edges.remove(occurrence);
        state.decided.add(occurrence);
    }
}

/// Lets an eye look until it panics, and has its rule start another after a pause.
async fn contained(look: impl Future<Output = ()>, queue: Queue, facts: RuleFacts) {
    if AssertUnwindSafe(look).catch_unwind().await.is_err() {
        tracing::error!(rule = facts.name, "evaluating the rule panicked: this is a bug, please report it");
        tokio::time::sleep(AFTER_PANIC).await;
        queue.add(Kind::Rule, &facts.namespace, &facts.name);
    }
}

/// What is watched for a rule.
async fn watched(context: &Context, rule: &CompiledRule, account: &Account) -> Result<(WatchKey, Scope)> {
    let (api_version, kind) = match &rule.spec.trigger.resource {
        Some(resource) => (resource.api_version.clone(), resource.kind.clone()),
        None => ("events.k8s.io/v1".to_owned(), "Event".to_owned()),
    };
    let Served { resource, namespaced } = context.kinds.find(&context.home, &api_version, &kind).await?;
    let namespace = namespaced.then(|| rule.facts.namespace.clone());
    let key = WatchKey { user: account.user().to_owned(), api_version, kind, namespace: namespace.clone() };
    Ok((key, Scope { resource, namespace, selector: None }))
}

struct Eye {
    rule: Arc<CompiledRule>,
    /// Events that mean something only together.
    capturing: Option<Capturing>,
    account: Account,
    kinds: Kinds,
    watches: Watches<Index>,
    queue: Queue,
    state: Arc<Mutex<State>>,
    /// Objects of which time alone can change what the rule says, as far as it reads them.
    later: Later,
    /// Objects that match and whose target could not be found yet.
    unresolved: BTreeMap<ObjectKey, Arc<Value>>,
    resynced: Timestamp,
    relist: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// Whether this subscription has had its complete list.
    synced: bool,
}

impl Eye {
    async fn follow(mut self, (key, scope): (WatchKey, Scope)) {
        loop {
            self.synced = false;
            let (client, conditions) = (self.account.client(), index::conditions(&self.rule));
            let mut subscription = self.watches.subscribe(key.clone(), client, scope.clone(), conditions);
            self.listen(&mut subscription).await;
            tracing::warn!(rule = %self.rule.facts.name, "fell behind its watch; starting again with a complete list");
            self.state.lock().heard_at = None;
        }
    }

    async fn listen(&mut self, subscription: &mut Subscription<Index>) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => self.take(delivery).await,
                    None => return,
                },
                () = self.relist.notified() => subscription.relist(),
                () = until(self.later.next()) => self.look_at_due().await,
                _ = tick.tick() => {
                    self.look_again().await;
                    self.notice_silence();
                    if self.is_due() || self.later.needs_list(now()) {
                        self.resynced = now();
                        subscription.relist();
                    }
                }
            }
        }
    }

    async fn take(&mut self, delivery: Delivery) {
        // A subscriber that joins a running watch hears of it before its first complete list: until then it knows
        // nothing, and a sign of life proves nothing.
        match &delivery {
            Delivery::Synced(_) => self.synced = true,
            Delivery::Broken(_) => self.synced = false,
            _ if !self.synced => return,
            _ => {}
        }
        match delivery {
            Delivery::Synced(listing) => self.replace(&listing).await,
            Delivery::Changed(object) => {
                self.change(&object).await;
                self.complete(now()).await;
            }
            Delivery::Deleted(object) => {
                let key = key_of(&object);
                self.later.forget(&key);
                self.unresolved.remove(&key);
                self.judged(&key);
                self.set(key, None);
            }
            Delivery::Alive => {}
            Delivery::Broken(error) => {
                self.state.lock().broken = Some(error);
                return self.wake();
            }
        }
        let mut state = self.state.lock();
        let first = state.heard_at.is_none() || state.broken.is_some();
        state.heard_at = Some(now());
        state.unresolved = !self.unresolved.is_empty();
        state.broken = None;
        drop(state);
        if first {
            self.wake();
        }
    }

    async fn replace(&mut self, listing: &Listing) {
        self.later.clear(now());
        self.unresolved.clear();
        self.state.lock().mistake = None;
        let mut found = BTreeMap::new();
        for object in &listing.items {
            if self.rule.spec.trigger.event.is_some() {
                self.event(object).await;
                continue;
            }
            let key = key_of(object);
            match self.evaluate(object).await {
                Judged::Match(hit) => drop(found.insert(key, *hit)),
                Judged::Clear => {}
                Judged::Unknown => {
                    let known = self.state.lock().view.get(&key).cloned();
                    found.extend(known.map(|known| (key, known)));
                }
            }
        }
        if let Some(capturing) = &mut self.capturing {
            capturing.use_up();
        }
        self.complete(listing.asked).await;
        let mut state = self.state.lock();
        state.unresolved = !self.unresolved.is_empty();
        state.view.replace(found, now());
        state.complete_at = Some(listing.asked);
        // Whoever looks at what matches now is not to take it for what was seen long ago.
        state.heard_at = Some(now());
        state.broken = None;
        drop(state);
        self.wake();
    }

    async fn change(&mut self, object: &Arc<Value>) {
        if self.rule.spec.trigger.event.is_some() {
            return self.event(object).await;
        }
        self.unresolved.remove(&key_of(object));
        self.judge(object).await;
    }

    /// Takes in a verdict, and in the same moment whether all are known: an episode may not seem over in between.
    fn take_in(&mut self, key: ObjectKey, judged: Judged) {
        let unresolved = !self.unresolved.is_empty();
        let before = std::mem::replace(&mut self.state.lock().unresolved, unresolved);
        match judged {
            Judged::Match(found) => self.set(key, Some(*found)),
            Judged::Clear => self.set(key, None),
            Judged::Unknown => {}
        }
        if before != unresolved {
            self.wake();
        }
    }

    /// Takes in an object's verdict and wakes the rule if anything changed.
    fn set(&mut self, key: ObjectKey, found: Option<Match>) {
        let mut state = self.state.lock();
        let known = state.view.get(&key).is_some();
        let matters = known || found.is_some();
        state.view.observe(key, found, now());
        drop(state);
        if matters {
            self.wake();
        }
    }

    async fn look_again(&mut self) {
        let heard_at = self.state.lock().heard_at;
        if let Some(heard_at) = heard_at {
            self.complete(heard_at).await;
        }
        let unresolved: Vec<_> = self.unresolved.values().cloned().collect();
        for object in unresolved {
            match self.rule.spec.trigger.event {
                Some(_) => self.event(&object).await,
                None => self.judge(&object).await,
            }
        }
    }

    /// Looks at those objects again of which time may have changed what the rule says.
    async fn look_at_due(&mut self) {
        for object in self.later.due(now()) {
            let known = self.state.lock().view.get(&key_of(&object)).is_some();
            // Where a match leads does not change because time passes: only whether it still is one does.
            let still = known && !matches!(self.rule.matches_object(&object, now()), Ok(None));
            if still {
                self.expect(&object);
            } else {
                self.judge(&object).await;
            }
        }
    }

    async fn judge(&mut self, object: &Arc<Value>) {
        let judged = self.evaluate(object).await;
        self.take_in(key_of(object), judged);
    }

    /// Keeps what is read of an object until time can change what the rule says of it.
    fn expect(&mut self, object: &Arc<Value>) {
        match self.rule.object_turns(object, now()) {
            Some(moment) => self.later.keep(key_of(object), moment, Arc::new(self.rule.excerpt(object))),
            None => self.later.forget(&key_of(object)),
        }
    }

    fn notice_silence(&self) {
        if self.state.lock().notice_silence(now()) {
            self.wake();
        }
    }

    async fn evaluate(&mut self, object: &Arc<Value>) -> Judged {
        let key = key_of(object);
        self.expect(object);
        self.metrics.received("resource", "accepted", now().as_second());
        let hit = match self.rule.matches_object(object, now()) {
            Ok(hit) => hit,
            // Fields come and go: an object that lacks one does not match, and that is no mistake.
            Err(error) if error.kind == EvalErrorKind::Absent => None,
            Err(error) => {
                self.count("error");
                self.mistake(&key, &error.to_string());
                return Judged::Unknown;
            }
        };
        let Some(hit) = hit else {
            self.count("not_matched");
            self.judged(&key);
            return Judged::Clear;
        };
        let kind = object["kind"].as_str().unwrap_or_default();
        match self.resolve(object, &self.rule.target(kind)).await {
            Ok(target) => {
                self.unresolved.remove(&key);
                self.judged(&key);
                Judged::Match(Box::new(Match { object: matched(object), target, since: hit.since }))
            }
            // Without an owner it leads nowhere.
            Err(error @ Error::Unexpected(_)) => {
                self.mistake(&key, &error.to_string());
                Judged::Clear
            }
            Err(error) => {
                self.mistake(&key, &error.to_string());
                self.unresolved.insert(key, object.clone());
                Judged::Unknown
            }
        }
    }

    async fn event(&mut self, event: &Arc<Value>) {
        let (occurrence, time) = (event_identity(event), occurred(event, now()));
        if time < self.rule.created_at {
            return;
        }
        if self.state.lock().decided.has(&occurrence) {
            return self.metrics.received("event", "deduplicated", now().as_second());
        }
        self.metrics.lagged(now().duration_since(time).as_secs_f64().max(0.0));
        let key = key_of(event);
        match self.rule.matches_event(event, now()) {
            Ok(true) => {}
            Err(error) if error.kind != EvalErrorKind::Absent => {
                self.count("error");
                return self.mistake(&key, &error.to_string());
            }
            Ok(false) | Err(_) => {
                self.judged(&key);
                return self.count("not_matched");
            }
        }
        self.unresolved.remove(&key);
        if let Some(capturing) = &mut self.capturing {
            return match capturing.take(event, (&occurrence, time), now()) {
                Ok(()) => self.judged(&key),
                Err(error) => {
                    self.count("error");
                    self.mistake(&key, &error.to_string());
                }
            };
        }
        self.lead(event, (occurrence, time), Vec::new()).await;
    }

    /// Leads what has become complete to its targets, given that all that happened by a time is known.
    async fn complete(&mut self, known_by: Timestamp) {
        let Some(capturing) = &mut self.capturing else { return };
        let found = capturing.complete(known_by);
        self.state.lock().dropped = capturing.dropped();
        for found in found {
            let Some((_, event)) = found.events.last() else { continue };
            let event = Arc::new(event.data["data"].clone());
            let captured = recorded(&self.rule, &found);
            if !self.lead(&event, (found.occurrence.clone(), found.time), captured).await {
                self.put_back(found);
            }
        }
    }

    fn put_back(&mut self, found: Found) {
        if let Some(capturing) = &mut self.capturing {
            capturing.put_back(found);
        }
    }

    /// Whether something would be complete if a list showed that nothing has happened.
    fn is_due(&self) -> bool {
        let due = self.capturing.as_ref().is_some_and(|capturing| capturing.is_due(now()));
        due && now().duration_since(self.resynced) > PROVE_EVERY
    }

    /// Leads an event to its target, to be decided about; says whether that is settled.
    async fn lead(
        &mut self,
        event: &Arc<Value>,
        (occurrence, time): (String, Timestamp),
        captured: Vec<CapturedEvent>,
    ) -> bool {
        let (key, alone) = (key_of(event), captured.is_empty());
        let regarded = self.regarded(event).await;
        if regarded.is_ok() {
            self.judged(&key);
        }
        match regarded {
            Ok(None) => {}
            Ok(Some(target)) => {
                let edge = Edge::of_event(event, target, (occurrence.clone(), time), captured);
                let mut state = self.state.lock();
                let room = state.edges.len() < EDGES;
                if room {
                    state.edges.insert(occurrence, edge);
                }
                drop(state);
                self.metrics.received("event", if room { "accepted" } else { "dropped" }, now().as_second());
                self.wake();
            }
            Err(error) => {
                self.mistake(&key, &error.to_string());
                let settled = matches!(error, Error::Unexpected(_));
                if !settled && alone {
                    self.unresolved.insert(key, event.clone());
                }
                return settled;
            }
        }
        true
    }

    /// The target of an event: the object that it regards, led on as the rule says; none for fother's own.
    async fn regarded(&self, event: &Value) -> Result<Option<ObjectReference>> {
        let regarding: ObjectReference = serde_json::from_value(event["regarding"].clone())
            .map_err(|error| Error::Unexpected(format!("the Event regards no object: {error}")))?;
        let how = self.rule.target(&regarding.kind);
        let objects = Objects::around(self.account.client(), &self.kinds, &regarding).await?;
        match objects.get(&regarding.name).await? {
            Some(object) if is_own(&object) => Ok(None),
            Some(object) if how != Target::Object => self.resolve(&object, &how).await.map(Some),
            live if how == Target::Object => Ok(Some(led_by_event(regarding, live.as_deref()))),
            _ => Err(Error::Unexpected(format!("{regarding} does not exist any more"))),
        }
    }

    async fn resolve(&self, object: &Value, how: &Target) -> Result<ObjectReference> {
        owners::resolve(&self.account.client(), &self.kinds, object, how).await
    }

    /// One object stands for all that cannot be judged, and stays until it can be: the Rule's status shows it, and is
    /// not to be written for each of them in turn.
    fn mistake(&self, key: &ObjectKey, error: &str) {
        tracing::debug!(rule = %self.rule.facts.name, object = key.1, error, "object not judged");
        let mut state = self.state.lock();
        if state.mistake.as_ref().is_none_or(|(known, text)| known == key && text != error) {
            state.mistake = Some((key.clone(), error.to_owned()));
            drop(state);
            self.wake();
        }
    }

    fn judged(&self, key: &ObjectKey) {
        let mut state = self.state.lock();
        if state.mistake.as_ref().is_some_and(|(known, _)| known == key) {
            state.mistake = None;
            drop(state);
            self.wake();
        }
    }

    fn count(&self, decision: &'static str) {
        let facts = &self.rule.facts;
        self.metrics.evaluated(&facts.namespace, &facts.name, decision);
    }

    fn wake(&self) {
        self.queue.add(Kind::Rule, &self.rule.facts.namespace, &self.rule.facts.name);
    }
}

/// Waits until a moment, for ever if there is none. Where the clock is set anew meanwhile, the tick comes first.
async fn until(moment: Option<Timestamp>) {
    let Some(moment) = moment else { return std::future::pending().await };
    let left = Duration::try_from(moment.duration_since(now())).unwrap_or_default();
    tokio::time::sleep_until(Instant::now() + left.min(TICK)).await;
}

/// What an Event regards, with a UID that is one: the kubelet writes a Node's name there. A true one stays, as what the
/// Event tells is of that very object and not of another that has taken its name.
fn led_by_event(regarding: ObjectReference, live: Option<&Value>) -> ObjectReference {
    let told = regarding.uid.clone().filter(|uid| !uid.is_empty() && *uid != regarding.name);
    let uid = told.or_else(|| live.and_then(|live| owners::reference(live).uid));
    ObjectReference { uid, ..regarding }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::queue::{Requeue, queue};
    use serde_json::json;

    #[test]
    fn the_name_of_a_node_is_not_taken_for_its_uid() {
        let node = |uid: Option<&str>| ObjectReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: None,
            name: "n1".into(),
            uid: uid.map(str::to_owned),
        };
        let live = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "uid": "u"}});
        for (told, live, uid) in [
            (Some("n1"), Some(&live), Some("u")),
            (Some(""), Some(&live), Some("u")),
            (None, Some(&live), Some("u")),
            (Some("older"), Some(&live), Some("older")),
            (Some("n1"), None, None),
        ] {
            assert_eq!(led_by_event(node(told), live), node(uid), "{told:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_rule_whose_evaluator_panics_is_looked_at_again_after_a_pause() {
        let (queue, worker) = queue(1, Metrics::default().work);
        let facts = RuleFacts {
            namespace: "a".to_owned(),
            name: "poisoned".to_owned(),
            mode: crate::api::Mode::Enforce,
            ..RuleFacts::default()
        };
        let looking = tokio::spawn(contained(async { assert_eq!(1, 2, "a bug") }, queue, facts));
        let (started, looked_at) = (tokio::time::Instant::now(), Arc::new(Mutex::new(Vec::new())));
        let seen = looked_at.clone();
        let run = worker.run(move |key| {
            seen.lock().push((key.name, started.elapsed()));
            std::future::ready(Requeue::OnChange)
        });
        let _ = tokio::time::timeout(AFTER_PANIC * 2, run).await;
        assert_eq!(*looked_at.lock(), [("poisoned".to_owned(), AFTER_PANIC)]);
        assert!(looking.is_finished(), "what its rule sees, so that it starts another");
    }
}
