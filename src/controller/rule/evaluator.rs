//! One rule's eye on its watch: objects come in, matches and events go into the rule's state.

mod edges;
mod happenings;
mod lists;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use k8s_openapi::jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use self::lists::List;
use super::before::Before;
use super::happening::Unled;
use super::held::Waiting;
use super::later::Later;
use super::lives::{Lives, Shown};
use super::passed_over::{self, Why};
use super::seen::{
    Judged, Looked, Occurrences, Seen, State, blind, handled_by, horizon, key_of, unled as unled_for,
};
use super::windows::Capturing;
use crate::api::ObjectReference;
use crate::cluster::account::Account;
use crate::cluster::discovery::{Kinds, Served};
use crate::cluster::{Error, Result};
use crate::controller::context::Context;
use crate::controller::lead::{self, matched};
use crate::controller::queue::{Kind, Queue};
use crate::controller::recorder::Recorder;
use crate::decide::episode::RuleFacts;
use crate::decide::identity::TargetKey;
use crate::decide::index::{self, Index};
use crate::decide::matching::CompiledRule;
use crate::decide::view::{Match, ObjectKey, Sight, View};
use crate::expr::EvalErrorKind;
use crate::source::shared::{Subscription, WatchKey, Watches};
use crate::source::watch::{Delivery, Scope, Synced, now};
use crate::telemetry::Metrics;

/// How often failed look-ups are repeated, and windows looked at.
const TICK: Duration = Duration::from_secs(2);
/// How often a rule is looked at for which nothing waits: of thousands nearly all, and all that can be found is a silence.
const CALM: Duration = Duration::from_secs(20);
/// How long a rule rests whose evaluator panicked: the object that did it is still there.
const AFTER_PANIC: Duration = Duration::from_secs(30);

/// How long a watch may take until its rule's status says that it is not in sync: most are sooner, and one write says
/// it all.
const SETTLING: Duration = Duration::from_secs(2);

/// A running evaluator. Dropping it stops it.
pub struct Evaluator {
    started: Instant,
    /// The same as a time, and until when somebody looked before.
    looked: (Timestamp, Looked),
    state: Arc<Mutex<State>>,
    task: AbortHandle,
    relist: Arc<Notify>,
    /// What may have been forgotten before it was seen, and until when that matters.
    blind: Vec<(Timestamp, String)>,
    /// Until when events are decided of which no more is known.
    forgotten: Option<Timestamp>,
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
        (generation, account): (i64, Account),
        (forgotten, looked): (Option<Timestamp>, Looked),
    ) -> Result<Self> {
        let started_for = (generation, account.user().to_owned());
        let view = View::of(rule.correlation.clone());
        let decided = answered(context, &rule);
        let state = Arc::new(Mutex::new(State { view, decided, ..State::default() }));
        let watched = watched(context, &rule, &account).await?;
        let relist = Arc::new(Notify::new());
        let unwatched = match rule.is_about_lifecycle() {
            true => looked.until.map(|until| (until, now())),
            false => context.unled,
        };
        let unled = unwatched.and_then(|unled| unled_for(&rule, unled));
        let blind = blind(&rule, now()).into_iter().chain(unled).collect();
        let eye = Eye {
            capturing: Capturing::of(&rule, &context.executions),
            before: rule.is_about_changes().then(Before::default),
            lives: rule.is_about_lifecycle().then(|| Lives::since(&rule, horizon(&rule, looked.settled))),
            unled: Unled::default(),
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
            journal: context.journal.clone(),
            told: Occurrences::default(),
            synced: false,
            list: None,
        };
        let (queue, facts) = (eye.queue.clone(), eye.rule.facts.clone());
        let task = tokio::spawn(contained(eye.follow(watched), queue, facts)).abort_handle();
        let (started, looked, waiting) = (Instant::now(), (now(), looked), Waiting::default());
        Ok(Self { started, looked, state, task, relist, blind, forgotten, waiting, started_for })
    }

    /// Until when it, or whoever looked before, has looked.
    pub fn looked(&self) -> Looked {
        let ((began, before), heard_at) = (self.looked, self.state.lock().heard_at);
        heard_at.map_or(before, |heard| before.and((began, heard)))
    }

    /// In how long there is something to say of it, if it has only just started.
    pub fn settles_in(&self) -> Option<Duration> {
        let state = self.state.lock();
        let is_new = state.heard_at.is_none() && state.broken.is_none() && state.mistake.is_none();
        SETTLING.checked_sub(self.started.elapsed()).filter(|_| is_new)
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
            blind: self.blind(state.narrow.clone()),
            forgotten: self.forgotten,
            dropped: state.dropped + state.overflown,
            unjudged: state.unjudged.values().cloned().collect(),
            ..Seen::default()
        }
    }

    /// What cannot be known, or is not looked at.
    fn blind(&self, narrow: Option<String>) -> Option<String> {
        let texts = self.blind.iter().filter(|(until, _)| now() < *until).map(|(_, text)| text.clone());
        let texts: Vec<_> = texts.chain(narrow).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
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

/// The occurrences that the rule's Executions were made of, where a list may show them again and lead them elsewhere, as an
/// object may have got other owners or labels.
fn answered(context: &Context, rule: &CompiledRule) -> Occurrences {
    if !rule.is_about_lifecycle() {
        return Occurrences::default();
    }
    let of_rule = context.executions.of_rule(&rule.facts.namespace, &rule.facts.name);
    let decisions = of_rule.iter().filter_map(|execution| execution.spec.decision.as_ref());
    Occurrences::of(decisions.map(|decision| decision.occurrence.as_str()))
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
    /// What objects were, if the rule is about changes.
    before: Option<Before>,
    /// Which objects there are, if the rule is about their creation or deletion.
    lives: Option<Lives>,
    /// What happened and matches, and whose target could not be found yet.
    unled: Unled,
    account: Account,
    kinds: Kinds,
    watches: Watches<Index>,
    queue: Queue,
    state: Arc<Mutex<State>>,
    /// Objects of which time alone can change what the rule says, as far as it reads them.
    later: Later,
    /// Objects that match, or cannot be judged, and whose target could not be found yet.
    unresolved: BTreeMap<ObjectKey, Arc<Value>>,
    resynced: Timestamp,
    relist: Arc<Notify>,
    metrics: Arc<Metrics>,
    journal: Recorder,
    /// What is over before it was decided about, and is told of.
    told: Occurrences,
    /// Whether this subscription has had its complete list.
    synced: bool,
    /// The list that comes, page by page.
    list: Option<List>,
}

impl Eye {
    async fn follow(mut self, (key, scope): (WatchKey, Scope)) {
        loop {
            self.synced = false;
            self.break_off();
            self.forget_what_was();
            let (client, conditions) = (self.account.client(), index::conditions(&self.rule));
            let mut subscription = self.watches.subscribe(key.clone(), client, scope.clone(), conditions);
            self.listen(&mut subscription).await;
            tracing::warn!(rule = %self.rule.facts.name, "fell behind its watch; starting again with a complete list");
            self.state.lock().heard_at = None;
        }
    }

    /// What it does is boxed: of a thousand rules few do something, and each would keep room for all that it may do.
    async fn listen(&mut self, subscription: &mut Subscription<Index>) {
        let mut looked = Instant::now();
        loop {
            let pause = if self.waits() { TICK } else { CALM };
            tokio::select! {
                delivery = subscription.next() => match delivery {
                    Some(delivery) => Box::pin(self.take(delivery)).await,
                    None => return,
                },
                () = self.relist.notified() => subscription.relist(),
                () = until(self.later.next()), if self.list.is_none() => Box::pin(self.look_at_due()).await,
                () = tokio::time::sleep_until(looked + pause) => {
                    looked = Instant::now();
                    self.notice_silence();
                    if self.list.is_some() {
                        continue;
                    }
                    Box::pin(self.look_again()).await;
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
        // nothing, and a sign of life proves nothing. So it is as long as a list comes.
        match &delivery {
            Delivery::Synced(_) => self.synced = true,
            Delivery::Broken(_) => self.synced = false,
            Delivery::Page(_) | Delivery::Missed => {}
            _ if !self.synced || self.list.is_some() => return,
            _ => {}
        }
        match delivery {
            Delivery::Page(page) => return self.page(&page).await,
            Delivery::Synced(synced) => self.replace(&synced).await,
            Delivery::Added(object) => {
                self.change(&object, Shown::Added).await;
                self.complete(handled_by(now())).await;
            }
            Delivery::Changed(object) => {
                self.change(&object, Shown::Changed).await;
                self.complete(handled_by(now())).await;
            }
            Delivery::Left(object) => self.forget(&object),
            Delivery::Deleted(object) => {
                self.forget(&object);
                self.gone(&object).await;
                self.complete(handled_by(now())).await;
            }
            Delivery::Alive => {}
            Delivery::Missed => return self.forget_what_was(),
            Delivery::Broken(error) => {
                self.break_off();
                self.forget_what_was();
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

    /// Takes in that an object is gone, or concerns the rule no more.
    fn forget(&mut self, object: &Value) {
        let key = key_of(object);
        self.before.as_mut().into_iter().for_each(|before| before.forget(&key));
        self.lives.as_mut().into_iter().for_each(|lives| lives.forget(&key));
        self.later.forget(&key);
        self.unresolved.remove(&key);
        self.judged(&key);
        self.set(key, None);
    }

    /// What is different from now on has changed at a time at which nobody looked.
    fn forget_what_was(&mut self) {
        self.before.as_mut().into_iter().for_each(Before::clear);
    }

    /// Takes in what its pages have told, now that the list is complete.
    async fn replace(&mut self, synced: &Synced) {
        let List { found, unknown, listed, mistake, .. } = self.list.take().unwrap_or_default();
        self.state.lock().mistake = mistake;
        if let Some(capturing) = &mut self.capturing {
            capturing.use_up();
        }
        self.retain(&listed, synced).await;
        self.complete(synced.asked).await;
        let mut state = self.state.lock();
        state.unresolved = !self.unresolved.is_empty();
        state.view.replace(found, now());
        state.unjudged.retain(|key, _| unknown.contains(key));
        state.complete_at = Some(synced.asked);
        // Whoever looks at what matches now is not to take it for what was seen long ago.
        state.heard_at = Some(now());
        state.broken = None;
        drop(state);
        self.wake();
    }

    async fn change(&mut self, object: &Arc<Value>, shown: Shown) {
        if !self.is_about_state() {
            return self.happens(object, shown).await;
        }
        self.judge(object).await;
    }

    fn is_about_state(&self) -> bool {
        self.rule.spec.trigger.event.is_none() && self.before.is_none() && self.lives.is_none()
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
        state.unjudged.remove(&key);
        state.view.observe(key, found, now());
        drop(state);
        if matters {
            self.wake();
        }
    }

    /// Whether there is something that time, or another try, brings on.
    fn waits(&self) -> bool {
        let unled = !self.unresolved.is_empty() || !self.unled.is_empty();
        unled || self.capturing.is_some() || self.later.has_more()
    }

    async fn look_again(&mut self) {
        // What has no target yet may be what is expected: it comes before what is missed.
        for happening in self.unled.take() {
            self.happened(happening).await;
        }
        let heard_at = self.state.lock().heard_at;
        // Of a list that broke off only a part may be known.
        if let Some(heard_at) = heard_at.filter(|_| self.synced) {
            self.complete(handled_by(heard_at)).await;
        }
        self.lead_again().await;
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
            // What an object is among others may change, too.
            let alone = self.rule.correlation.is_none();
            let still = known && alone && !matches!(self.rule.matches_object(&object, now()), Ok(None));
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
        self.unresolved.remove(&key);
        self.expect(object);
        self.metrics.received("resource", "accepted", now().as_second());
        let hit = match self.rule.matches_object(object, now()) {
            Ok(hit) => hit,
            // Fields come and go: an object that lacks one does not match, and that is no mistake.
            Err(error) if error.kind == EvalErrorKind::Absent => None,
            Err(error) => {
                self.count("error");
                self.mistake(&key, &error.to_string());
                return self.unjudged(key, object).await;
            }
        };
        let Some(hit) = hit else {
            self.count("not_matched");
            self.judged(&key);
            return Judged::Clear;
        };
        match self.lead_from(object).await {
            Ok(target) => {
                self.judged(&key);
                let found = Match { object: matched(object), target, since: hit.since, part: hit.part };
                Judged::Match(Box::new(found))
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

    /// Takes in that an object cannot be judged: its target may match, and is not clear.
    async fn unjudged(&mut self, key: ObjectKey, object: &Arc<Value>) -> Judged {
        match self.lead_from(object).await {
            Ok(target) => drop(self.state.lock().unjudged.insert(key, TargetKey::from(&target))),
            Err(Error::Unexpected(_)) => {}
            Err(_) => drop(self.unresolved.insert(key, object.clone())),
        }
        Judged::Unknown
    }

    /// The target of an object that matches.
    async fn lead_from(&self, object: &Arc<Value>) -> Result<ObjectReference> {
        lead::from_object(&self.account.client(), &self.kinds, &self.rule, object).await
    }

    /// One object stands for all that cannot be judged, and stays until it can be: the Rule's status shows it, and is
    /// not to be written for each of them in turn.
    fn mistake(&mut self, key: &ObjectKey, error: &str) {
        tracing::debug!(rule = %self.rule.facts.name, object = key.1, error, "object not judged");
        if let Some(list) = &mut self.list {
            list.mistake.get_or_insert_with(|| (key.clone(), error.to_owned()));
            return;
        }
        let mut state = self.state.lock();
        if state.mistake.as_ref().is_none_or(|(known, text)| known == key && text != error) {
            state.mistake = Some((key.clone(), error.to_owned()));
            drop(state);
            self.wake();
        }
    }

    fn judged(&self, key: &ObjectKey) {
        if self.list.is_some() {
            return;
        }
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

    /// Tells once of what is over before it is decided about.
    fn passes_over(&mut self, (target, event): (&ObjectReference, &str), why: Why) {
        if self.told.add(event) {
            passed_over::tell((&self.metrics, &self.journal), &self.rule.facts, (target, event), why);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use http::{Request, Response};
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;
    use crate::api::ANNOTATION;
    use crate::controller::executions::Executions;
    use crate::controller::queue::{Requeue, queue};

    /// An API server that knows an account, and ConfigMaps if it is up.
    pub(super) struct Server {
        is_up: AtomicBool,
        asked: AtomicUsize,
    }

    impl Server {
        pub(super) fn is_up(&self, is_up: bool) {
            self.is_up.store(is_up, Ordering::SeqCst);
        }

        /// How often it was asked for a ConfigMap.
        pub(super) fn asked(&self) -> usize {
            self.asked.load(Ordering::SeqCst)
        }

        fn answer(&self, path: &str) -> (u16, Value) {
            match path {
                "/api/v1/namespaces/a/serviceaccounts/h" => {
                    let annotations = json!({ANNOTATION.allow: "true"});
                    (200, json!({"metadata": {"name": "h", "annotations": annotations}}))
                }
                "/api/v1" => {
                    let kind = json!({"name": "configmaps", "singularName": "configmap", "namespaced": true,
                        "kind": "ConfigMap", "verbs": ["get"]});
                    let list = json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "v1",
                        "resources": [kind]});
                    (200, list)
                }
                _ => {
                    self.asked.fetch_add(1, Ordering::SeqCst);
                    let metadata = json!({"namespace": "a", "name": "pier", "uid": "p"});
                    let pier = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata});
                    let is_up = self.is_up.load(Ordering::SeqCst);
                    if is_up { (200, pier) } else { (503, json!({"kind": "Status", "code": 503})) }
                }
            }
        }
    }

    fn client(server: &Arc<Server>) -> Client {
        let server = server.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (code, answer) = server.answer(request.uri().path());
            let body = Body::from(answer.to_string().into_bytes());
            let response = Response::builder().status(code).body(body);
            async move { response }
        });
        Client::new(service, "a")
    }

    /// The eye of a rule, which has seen nothing yet, and the server that it asks where something leads.
    pub(super) async fn eye(changes: &Value) -> (Eye, Arc<Server>) {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}]});
        json_patch::merge(&mut spec, changes);
        let spec = serde_json::from_value(spec).expect("a Rule");
        let rule = CompiledRule::of(&spec, "a", "r", Timestamp::UNIX_EPOCH);
        let rule = Arc::new(rule.unwrap_or_else(|problems| panic!("{problems:?}")));
        let server = Arc::new(Server { is_up: AtomicBool::new(true), asked: AtomicUsize::new(0) });
        let account = Account::read(&client(&server), "a", "h").await.expect("an account");
        let eye = Eye {
            capturing: Capturing::of(&rule, &Executions::new()),
            before: None,
            lives: rule.is_about_lifecycle().then(|| Lives::since(&rule, Timestamp::MIN)),
            unled: Unled::default(),
            rule,
            account,
            kinds: Kinds::default(),
            watches: Watches::default(),
            queue: queue(1, Metrics::default().work).0,
            state: Arc::default(),
            later: Later::default(),
            unresolved: BTreeMap::new(),
            resynced: now(),
            relist: Arc::default(),
            metrics: Arc::default(),
            journal: Recorder::default(),
            told: Occurrences::default(),
            synced: false,
            list: None,
        };
        (eye, server)
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
