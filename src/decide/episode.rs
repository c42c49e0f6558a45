//! Whether a target that matches gets an Execution now, later, or not again.
//!
//! An episode is a (rule, target), open while any object that leads to the target matches. One episode gets one
//! Execution. The state that this needs is in the Executions themselves.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::ends::DEEPEST;
use super::guard::{full_until, is_full, is_superseded};
use super::identity::{TargetKey, decision_id};
use super::view::{Sight, TargetView};
use crate::api::{Duration, Execution, Mode, Once, Rate};

/// What of a Rule bears on its episodes.
#[derive(Clone, Debug, Default)]
pub struct RuleFacts {
    /// Namespace of the Rule.
    pub namespace: String,
    /// Name of the Rule.
    pub name: String,
    /// Whether it acts.
    pub mode: Mode,
    /// How long a target has to match first.
    pub hold_for: Duration,
    /// How long a target rests after an Execution.
    pub cooldown: Duration,
    /// How often it may act on a target.
    pub per_target: Option<Rate>,
    /// How often it may act.
    pub per_rule: Option<Rate>,
    /// Which of many events for a target it acts on.
    pub once: Option<Once>,
}

/// What of an Execution bears on later decisions about the same rule and target.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// Identity of its decision.
    pub id: String,
    /// What tells it from others: the decision before it, or an event.
    pub occurrence: String,
    /// When it was decided.
    pub decided_at: Timestamp,
    /// Whether it acted.
    pub mode: Mode,
    /// Since when its target had matched, or when its event happened.
    pub since: Option<Timestamp>,
    /// By when it had ended: a time after its end, and less than [`KEPT`] later.
    pub finished_at: Option<Timestamp>,
    /// When its episode was seen to be over.
    pub closed_at: Option<Timestamp>,
}

impl Past {
    /// The facts of an Execution, if a Rule decided it.
    pub fn of(execution: &Execution) -> Option<Self> {
        let decision = execution.spec.decision.as_ref()?;
        let status = execution.status.clone().unwrap_or_default();
        Some(Self {
            id: decision.id.clone(),
            occurrence: decision.occurrence.clone(),
            decided_at: decision.time.0,
            mode: decision.mode,
            since: decision.since.as_ref().map(|since| since.0),
            finished_at: status.finished_at.map(|t| t.0.saturating_add(KEPT).unwrap_or(Timestamp::MAX)),
            closed_at: status.episode_closed_at.map(|t| t.0),
        })
    }

    /// Whether it was decided right after the one of this identity.
    fn follows(&self, id: &str) -> bool {
        self.occurrence == id && self.id != id
    }
}

/// Times in objects are kept in whole seconds, cut off: what ended "at 10" may have ended just before 11. Whatever is
/// compared with such a time has to be later for certain, or a view from before the end would prove something.
pub const KEPT: SignedDuration = SignedDuration::from_secs(1);

/// How much is going on, counted over unfinished Executions that act.
#[derive(Clone, Copy, Debug, Default)]
pub struct Load {
    /// Of this rule.
    pub rule: usize,
    /// In this namespace.
    pub namespace: usize,
    /// In all.
    pub total: usize,
    /// Of any rule, on this very target.
    pub target: usize,
    /// Observed Executions of this rule whose episode is open.
    pub observed_open: usize,
    /// Until when the rule has acted as often as it may; for an event, whether it has.
    pub rule_full: Option<Timestamp>,
}

/// The most that may go on at once, whatever the rules say.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Caps {
    /// Of one rule.
    pub rule: usize,
    /// In one namespace.
    pub namespace: usize,
    /// In all.
    pub total: usize,
}

impl Default for Caps {
    fn default() -> Self {
        Self { rule: 1, namespace: 5, total: 20 }
    }
}

/// The most open Observed Executions of one rule; more would only fill the store with what nobody reads.
const OBSERVED_LIMIT: usize = 100;

/// A watch that was not heard of for so long is as good as broken: the API server sends a sign of life every minute.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_mins(2);

/// Why a target that matches gets no Execution now. It is decided again when that ends.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Held {
    /// The rule's `for` is not over.
    For,
    /// The rule's cooldown for the target is not over.
    Cooldown,
    /// Another Execution acts on the target.
    TargetBusy,
    /// The rule has acted as often as it may, on the target or at all.
    Rate,
    /// Something speaks against acting now.
    Unless,
    /// The target that an alert names does not exist.
    TargetMissing,
    /// As many Executions run as may.
    Concurrency,
    /// An Observe rule has as many open records as are kept.
    ObservedLimit,
    /// The watch is not in sync.
    Blind,
}

/// What is to be done about one target of one rule.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Nothing matches, and nothing is open.
    Clear,
    /// The latest Execution runs, or has ended and still holds its episode.
    InEpisode,
    /// The latest Execution's episode is over, and that has to be recorded.
    Close,
    /// Nothing matches, but no complete view was asked for since the latest Execution's end: a newer one has to show it.
    Prove,
    /// Not now; look again at the time, if one is known.
    Held(Held, Option<Timestamp>),
    /// Create an Execution with this identity.
    Fire {
        /// Identity of the decision.
        id: String,
        /// What tells it from the one before.
        occurrence: String,
    },
}

/// What is known about one target of one rule.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The rule.
    pub rule: &'a RuleFacts,
    /// The target.
    pub target: &'a TargetKey,
    /// What matches, if anything does.
    pub view: Option<&'a TargetView>,
    /// How far that can be trusted.
    pub sight: Sight,
    /// The Executions of this rule and target.
    pub past: &'a [Past],
}

/// Decides about one target of one rule.
pub fn decide(question: Question<'_>, load: Load, caps: Caps, now: Timestamp) -> Verdict {
    if question.sight.heard_at.is_none_or(|heard| now.duration_since(heard) >= STALE_AFTER) {
        return Verdict::Held(Held::Blind, None);
    }
    let latest = latest(question.past);
    if let Some(latest) = latest
        && let Some(verdict) = held_by(latest, question)
    {
        return verdict;
    }
    let Some(view) = question.view else {
        // What was recorded of the same episode before the rule acted.
        let open = question.past.iter().filter(|past| past.finished_at.is_some() && past.closed_at.is_none());
        let last = open.max_by_key(|past| past.finished_at);
        return last.and_then(|last| held_by(last, question)).unwrap_or(Verdict::Clear);
    };
    let asked = (question.rule, question.past);
    if let Some((held, until)) = guard(asked, view.since, load, caps, now) {
        return Verdict::Held(held, until);
    }
    let occurrence = latest.map(|l| l.id.clone()).unwrap_or_default();
    let id = decision_id(&question.rule.namespace, &question.rule.name, question.target, &occurrence);
    Verdict::Fire { id, occurrence }
}

/// The one that was decided last. Each names the one before it, whatever the clocks of those who decided said; their times
/// only tell where that leaves more than one.
fn latest(past: &[Past]) -> Option<&Past> {
    let is_followed = |one: &Past| past.iter().any(|other| other.follows(&one.id));
    let newest = |a: &&Past, b: &&Past| (a.decided_at, &a.id).cmp(&(b.decided_at, &b.id));
    past.iter().filter(|one| !is_followed(one)).max_by(newest)
}

/// Why an event gets no Execution, now or ever: it is over, so it is not held.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Suppressed {
    /// It happened before the rule was created, or while it still observed.
    BeforeRule,
    /// The rule's cooldown for the target was not over when it happened.
    Cooldown,
    /// An Execution, of this rule or another, acts on the target.
    TargetBusy,
    /// The rule had acted as often as it may, on the target or at all.
    Rate,
    /// Something spoke against acting.
    Unless,
    /// Of several events for the target, the rule acts on another one.
    Superseded,
    /// It follows from an Execution that follows from an Execution, and so on for too long.
    Depth,
    /// As many Executions run as may.
    Concurrency,
    /// An Observe rule has as many open records as are kept.
    ObservedLimit,
}

/// One event that matches.
#[derive(Clone, Copy, Debug)]
pub struct EdgeQuestion<'a> {
    /// The rule.
    pub rule: &'a RuleFacts,
    /// When the rule was created.
    pub rule_created_at: Timestamp,
    /// The target.
    pub target: &'a TargetKey,
    /// The identity of the event.
    pub occurrence: &'a str,
    /// When it happened.
    pub time: Timestamp,
    /// How many Executions it follows from.
    pub depth: u32,
    /// The Executions of this rule and target.
    pub past: &'a [Past],
}

/// Decides about one event: the identity of its Execution, or why it gets none. Cooldown and the rule's age go by when
/// the event happened, not by when it is seen, so that a relist decides nothing anew; what else is going on
/// (`TargetBusy`, `Concurrency`, `ObservedLimit`) goes by this moment.
pub fn decide_edge(question: EdgeQuestion<'_>, load: Load, caps: Caps) -> Result<String, Suppressed> {
    let EdgeQuestion { rule, rule_created_at, target, occurrence, time, depth, past } = question;
    let id = decision_id(&rule.namespace, &rule.name, target, occurrence);
    if past.iter().any(|past| past.id == id) {
        return Ok(id);
    }
    if time < rule_created_at {
        return Err(Suppressed::BeforeRule);
    }
    if depth > DEEPEST {
        return Err(Suppressed::Depth);
    }
    let acting = || past.iter().filter(|past| past.mode != Mode::Observe || rule.mode == Mode::Observe);
    let rests = |finished: Timestamp| {
        time < finished.saturating_add(rule.cooldown.signed()).unwrap_or(Timestamp::MAX)
    };
    let acted = || acting().map(|past| past.since.unwrap_or(past.decided_at));
    if rule.once.as_ref().is_some_and(|once| is_superseded(once, acted(), time)) {
        return Err(Suppressed::Superseded);
    }
    if acting().any(|past| past.finished_at.is_none()) {
        return Err(Suppressed::TargetBusy);
    }
    if acting().filter_map(|past| past.finished_at).any(rests) {
        return Err(Suppressed::Cooldown);
    }
    if rule.per_target.is_some_and(|rate| is_full(rate, acted(), time)) {
        return Err(Suppressed::Rate);
    }
    if rule.mode == Mode::Observe {
        return if load.observed_open >= OBSERVED_LIMIT { Err(Suppressed::ObservedLimit) } else { Ok(id) };
    }
    if load.target > 0 {
        return Err(Suppressed::TargetBusy);
    }
    if load.rule_full.is_some() {
        return Err(Suppressed::Rate);
    }
    let full = load.rule >= caps.rule || load.namespace >= caps.namespace || load.total >= caps.total;
    if full { Err(Suppressed::Concurrency) } else { Ok(id) }
}

/// The verdict, if the latest Execution still holds its episode.
fn held_by(latest: &Past, question: Question<'_>) -> Option<Verdict> {
    let Some(finished_at) = latest.finished_at else { return Some(Verdict::InEpisode) };
    if latest.closed_at.is_some() {
        return None;
    }
    let Some(view) = question.view else {
        if !question.sight.all_resolved {
            return Some(Verdict::InEpisode);
        }
        let proven = question.sight.complete_at.is_some_and(|complete| complete > finished_at);
        return Some(if proven { Verdict::Close } else { Verdict::Prove });
    };
    let began_anew = view.began.is_some_and(|began| began > finished_at);
    let now_enforced = latest.mode == Mode::Observe && question.rule.mode == Mode::Enforce;
    if began_anew || now_enforced { None } else { Some(Verdict::InEpisode) }
}

/// What stops a target that matches since a time, if anything does, and until when if that is known.
pub(super) fn guard(
    (rule, past): (&RuleFacts, &[Past]),
    since: Timestamp,
    load: Load,
    caps: Caps,
    now: Timestamp,
) -> Option<(Held, Option<Timestamp>)> {
    let ripe = since.saturating_add(rule.hold_for.signed()).unwrap_or(Timestamp::MAX);
    if ripe > now {
        return Some((Held::For, Some(ripe)));
    }
    let acting = || past.iter().filter(|past| past.mode != Mode::Observe);
    let rested = acting()
        .filter_map(|past| past.finished_at)
        .max()
        .and_then(|finished| finished.saturating_add(rule.cooldown.signed()).ok());
    if let Some(rested) = rested.filter(|rested| *rested > now) {
        return Some((Held::Cooldown, Some(rested)));
    }
    let full = rule.per_target.and_then(|rate| full_until(rate, acting().map(|past| past.decided_at), now));
    if let Some(until) = full {
        return Some((Held::Rate, Some(until)));
    }
    if rule.mode == Mode::Observe {
        return (load.observed_open >= OBSERVED_LIMIT).then_some((Held::ObservedLimit, None));
    }
    if load.target > 0 {
        return Some((Held::TargetBusy, None));
    }
    if let Some(until) = load.rule_full {
        return Some((Held::Rate, Some(until)));
    }
    let full = load.rule >= caps.rule || load.namespace >= caps.namespace || load.total >= caps.total;
    full.then_some((Held::Concurrency, None))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{MatchedObject, ObjectReference};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    fn rule() -> RuleFacts {
        RuleFacts {
            namespace: "a".into(),
            name: "crashloop".into(),
            mode: Mode::Enforce,
            hold_for: Duration::from_secs(10),
            cooldown: Duration::from_secs(100),
            ..RuleFacts::default()
        }
    }

    fn key() -> TargetKey {
        TargetKey {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "a".into(),
            name: "web".into(),
        }
    }

    fn matching(since: i64) -> TargetView {
        let object = ObjectReference { kind: "Pod".into(), name: "web-1".into(), ..Default::default() };
        TargetView {
            target: ObjectReference::default(),
            object: MatchedObject { object, resource_version: String::new() },
            since: at(since),
            began: None,
            together: Vec::new(),
        }
    }

    fn finished(id: &str, finished_at: i64, closed: bool) -> Past {
        Past {
            id: id.into(),
            occurrence: String::new(),
            decided_at: at(finished_at - 5),
            mode: Mode::Enforce,
            since: Some(at(finished_at - 5)),
            finished_at: Some(at(finished_at)),
            closed_at: closed.then(|| at(finished_at)),
        }
    }

    fn sight(time: Timestamp) -> Sight {
        Sight { heard_at: Some(time), complete_at: Some(time), all_resolved: true }
    }

    fn ask(rule: &RuleFacts, view: Option<&TargetView>, past: &[Past], now: i64) -> Verdict {
        let question = Question { rule, target: &key(), view, sight: sight(at(now)), past };
        decide(question, Load::default(), Caps::default(), at(now))
    }

    fn fires(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Fire { .. })
    }

    #[test]
    fn what_leads_nobody_knows_where_closes_nothing() {
        let (rule, key, past) = (rule(), key(), [finished("one", 40, false)]);
        let question = |all_resolved| Question {
            rule: &rule,
            target: &key,
            view: None,
            sight: Sight { all_resolved, ..sight(at(50)) },
            past: &past,
        };
        let verdict = |known| decide(question(known), Load::default(), Caps::default(), at(50));
        assert_eq!((verdict(true), verdict(false)), (Verdict::Close, Verdict::InEpisode));
    }

    #[test]
    fn it_waits_for_the_hold_and_then_fires() {
        let view = matching(0);
        assert_eq!(ask(&rule(), Some(&view), &[], 9), Verdict::Held(Held::For, Some(at(10))));
        assert!(fires(&ask(&rule(), Some(&view), &[], 10)));
        assert_eq!(ask(&rule(), None, &[], 10), Verdict::Clear);
    }

    #[test]
    fn what_was_observed_before_the_rule_acted_is_closed_with_it() {
        let observed = Past { mode: Mode::Observe, ..finished("one", 40, false) };
        let past = [observed, finished("two", 60, true)];
        assert_eq!(ask(&rule(), None, &past, 50), Verdict::Close);
        assert_eq!(ask(&rule(), None, &past[1..], 70), Verdict::Clear);
    }

    #[test]
    fn the_same_question_has_the_same_identity() {
        let view = matching(0);
        assert_eq!(ask(&rule(), Some(&view), &[], 10), ask(&rule(), Some(&view), &[], 20));
        let after = [finished("before", 15, true)];
        let again = ask(&rule(), Some(&view), &after, 200);
        assert!(matches!(&again, Verdict::Fire { occurrence, .. } if occurrence == "before"));
        assert_ne!(again, ask(&rule(), Some(&view), &[], 10));
    }

    #[test]
    fn a_running_execution_holds_its_episode() {
        let running = Past { finished_at: None, ..finished("x", 5, false) };
        assert_eq!(
            ask(&rule(), Some(&matching(0)), std::slice::from_ref(&running), 1000),
            Verdict::InEpisode
        );
        assert_eq!(ask(&rule(), None, &[running], 1000), Verdict::InEpisode);
    }

    #[test]
    fn a_finished_execution_holds_until_a_newer_view_is_clear() {
        let past = [finished("x", 50, false)];
        assert_eq!(
            ask(&rule(), Some(&matching(0)), &past, 1000),
            Verdict::InEpisode,
            "still wrong: quarantined"
        );
        assert_eq!(ask(&rule(), None, &past, 1000), Verdict::Close);
        let verdict = |sight| {
            let question = Question { rule: &rule(), target: &key(), view: None, sight, past: &past };
            decide(question, Load::default(), Caps::default(), at(61))
        };
        assert_eq!(verdict(sight(at(50))), Verdict::Prove, "a view from before the end proves nothing");
        let heard = Sight { heard_at: Some(at(60)), ..sight(at(40)) };
        assert_eq!(verdict(heard), Verdict::Prove, "a word of the watch may tell what was before the end");
        assert_eq!(verdict(Sight { complete_at: Some(at(51)), ..heard }), Verdict::Close);
    }

    #[test]
    fn an_end_that_is_kept_in_whole_seconds_is_taken_to_be_late() {
        let execution = serde_json::from_value(serde_json::json!({
            "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "metadata": {"name": "x"},
            "spec": {"serviceAccountName": "h", "decision": {"id": "x", "time": "1970-01-01T00:00:45Z",
                "rule": {"name": "crashloop"}, "mode": "Enforce", "definition": "d",
                "matched": {"object": {"apiVersion": "v1", "kind": "Pod", "name": "p"}}}},
            "status": {"finishedAt": "1970-01-01T00:00:50Z"},
        }));
        let past = [Past::of(&execution.expect("an Execution")).expect("decided")];
        let rule = rule();
        let verdict = |milliseconds| {
            let fresh = Timestamp::UNIX_EPOCH + SignedDuration::from_millis(milliseconds);
            let question =
                Question { rule: &rule, target: &key(), view: None, sight: sight(fresh), past: &past };
            decide(question, Load::default(), Caps::default(), at(60))
        };
        assert_eq!(verdict(50_500), Verdict::Prove, "it may have ended at 50.9");
        assert_eq!(verdict(51_500), Verdict::Close);
    }

    #[test]
    fn a_break_that_nobody_saw_counts_if_the_object_tells() {
        let past = [finished("x", 50, false)];
        let mut view = matching(60);
        view.began = Some(at(60));
        assert!(fires(&ask(&rule(), Some(&view), &past, 1000)));
        view.began = Some(at(40));
        assert_eq!(ask(&rule(), Some(&view), &past, 1000), Verdict::InEpisode);
    }

    #[test]
    fn the_cooldown_counts_from_the_end_and_holds() {
        let past = [finished("x", 50, true)];
        assert_eq!(
            ask(&rule(), Some(&matching(60)), &past, 149),
            Verdict::Held(Held::Cooldown, Some(at(150)))
        );
        assert!(fires(&ask(&rule(), Some(&matching(60)), &past, 150)));
    }

    #[test]
    fn observe_changed_to_enforce_decides_once_more() {
        let observed = [Past { mode: Mode::Observe, ..finished("x", 50, false) }];
        let observing = RuleFacts { mode: Mode::Observe, ..rule() };
        assert_eq!(ask(&observing, Some(&matching(0)), &observed, 60), Verdict::InEpisode);
        assert!(
            fires(&ask(&rule(), Some(&matching(0)), &observed, 60)),
            "observed executions count for no cooldown"
        );
        let enforced =
            [observed[0].clone(), Past { decided_at: at(61), finished_at: None, ..finished("y", 61, false) }];
        assert_eq!(ask(&rule(), Some(&matching(0)), &enforced, 70), Verdict::InEpisode);
    }

    #[test]
    fn the_latest_is_the_end_of_the_chain_whatever_a_clock_said() {
        // Whoever decided the first had a clock that ran ten minutes ahead.
        let first = finished("first", 650, true);
        let second = Past { occurrence: "first".into(), ..finished("second", 100, false) };
        let past = [first, second];
        assert_eq!(ask(&rule(), Some(&matching(0)), &past, 1000), Verdict::InEpisode, "it holds its episode");
        let closed = [past[0].clone(), Past { closed_at: Some(at(110)), ..past[1].clone() }];
        let third = ask(&rule(), Some(&matching(200)), &closed, 1000);
        assert!(matches!(&third, Verdict::Fire { occurrence, .. } if occurrence == "second"), "{third:?}");
    }

    #[test]
    fn what_is_observed_of_events_rests_as_it_would_and_what_acts_does_not() {
        let observed = [Past { mode: Mode::Observe, ..finished("x", 50, true) }];
        for (mode, rests) in [(Mode::Observe, true), (Mode::Enforce, false)] {
            let rule = RuleFacts { mode, ..rule() };
            let question = EdgeQuestion {
                rule: &rule,
                rule_created_at: at(0),
                target: &key(),
                occurrence: "u/1",
                time: at(60),
                depth: 0,
                past: &observed,
            };
            let verdict = decide_edge(question, Load::default(), Caps::default());
            assert_eq!(verdict.err(), rests.then_some(Suppressed::Cooldown), "{mode:?}");
        }
    }

    #[test]
    fn caps_hold_whatever_the_rules_say() {
        let (rule, view) = (rule(), matching(0));
        let question =
            Question { rule: &rule, target: &key(), view: Some(&view), sight: sight(at(60)), past: &[] };
        for (load, held) in [
            (Load { rule: 1, ..Load::default() }, Held::Concurrency),
            (Load { namespace: 5, ..Load::default() }, Held::Concurrency),
            (Load { total: 20, ..Load::default() }, Held::Concurrency),
            (Load { target: 1, total: 1, ..Load::default() }, Held::TargetBusy),
        ] {
            assert_eq!(decide(question, load, Caps::default(), at(60)), Verdict::Held(held, None));
        }
        let observing = RuleFacts { mode: Mode::Observe, ..rule.clone() };
        let full =
            Load { rule: 9, namespace: 9, total: 99, target: 1, observed_open: 99, rule_full: Some(at(99)) };
        let question = Question { rule: &observing, ..question };
        assert!(fires(&decide(question, full, Caps::default(), at(60))));
        let full = Load { observed_open: 100, ..full };
        assert_eq!(decide(question, full, Caps::default(), at(60)), Verdict::Held(Held::ObservedLimit, None));
    }

    #[test]
    fn a_rate_holds_until_it_has_room() {
        let rule = RuleFacts { per_target: "2/500s".parse().ok(), cooldown: Duration::default(), ..rule() };
        let past = [finished("x", 50, true), finished("y", 70, true)];
        let view = matching(80);
        assert!(fires(&ask(&rule, Some(&view), &past[..1], 100)));
        assert_eq!(ask(&rule, Some(&view), &past, 545), Verdict::Held(Held::Rate, Some(at(546))));
        assert!(fires(&ask(&rule, Some(&view), &past, 546)));
        let question =
            Question { rule: &rule, target: &key(), view: Some(&view), sight: sight(at(546)), past: &past };
        let load = Load { rule_full: Some(at(600)), ..Load::default() };
        let verdict = decide(question, load, Caps::default(), at(546));
        assert_eq!(verdict, Verdict::Held(Held::Rate, Some(at(600))));
    }

    #[test]
    fn an_event_beyond_the_rate_or_of_an_answered_window_is_over() {
        let edge = |rule: &RuleFacts, past: &[Past], load: Load| {
            let (target, occurrence) = (&key(), "u/1");
            let question = EdgeQuestion {
                rule,
                rule_created_at: at(0),
                target,
                occurrence,
                time: at(60),
                depth: 0,
                past,
            };
            decide_edge(question, load, Caps::default())
        };
        let rule = RuleFacts { cooldown: Duration::default(), ..rule() };
        let (past, none) = ([finished("x", 50, true)], Load::default());
        assert!(edge(&rule, &past, none).is_ok());
        let rated = RuleFacts { per_target: "1/20s".parse().ok(), ..rule.clone() };
        assert_eq!(edge(&rated, &past, none), Err(Suppressed::Rate));
        let full = Load { rule_full: Some(Timestamp::MAX), ..none };
        assert_eq!(edge(&rule, &[], full), Err(Suppressed::Rate));
        let once = Some(Once { within: Duration::from_secs(20), ..Once::default() });
        assert_eq!(edge(&RuleFacts { once, ..rule }, &past, none), Err(Suppressed::Superseded));
    }

    #[test]
    fn what_follows_from_what_follows_ends_somewhere() {
        let (rule, target, occurrence) = (rule(), key(), "u/1");
        let edge = |depth| {
            let past = &[];
            let (rule_created_at, time) = (at(0), at(60));
            let question =
                EdgeQuestion { rule: &rule, rule_created_at, target: &target, occurrence, time, depth, past };
            decide_edge(question, Load::default(), Caps::default()).map(drop)
        };
        assert_eq!([0, 1, DEEPEST].map(edge), [Ok(()); 3]);
        assert_eq!([DEEPEST + 1, u32::MAX].map(edge), [Err(Suppressed::Depth); 2]);
    }

    #[test]
    fn an_event_is_decided_by_when_it_happened() {
        let rule = rule();
        let edge = |time: i64, past: &[Past]| {
            let question = EdgeQuestion {
                rule: &rule,
                rule_created_at: at(10),
                target: &key(),
                occurrence: "u/1",
                time: at(time),
                depth: 0,
                past,
            };
            decide_edge(question, Load::default(), Caps::default())
        };
        let id = decision_id("a", "crashloop", &key(), "u/1");
        assert_eq!(edge(9, &[]), Err(Suppressed::BeforeRule));
        assert_eq!(edge(20, &[]), Ok(id.clone()));
        assert_eq!(
            edge(20, &[finished(&id, 30, true)]),
            Ok(id.clone()),
            "the same event finds its own Execution"
        );
        let before = [finished("other", 50, true)];
        for (time, verdict) in
            [(20, Err(Suppressed::Cooldown)), (149, Err(Suppressed::Cooldown)), (150, Ok(id))]
        {
            assert_eq!(edge(time, &before), verdict, "at {time}");
        }
        let running = [Past { finished_at: None, ..finished("other", 50, false) }];
        assert_eq!(edge(500, &running), Err(Suppressed::TargetBusy));
    }

    #[test]
    fn a_blind_or_stale_watch_decides_nothing() {
        let (rule, view) = (rule(), matching(0));
        for heard_at in [None, Some(at(0))] {
            let question = Question {
                rule: &rule,
                target: &key(),
                view: Some(&view),
                sight: Sight { heard_at, ..sight(at(120)) },
                past: &[],
            };
            assert_eq!(
                decide(question, Load::default(), Caps::default(), at(121)),
                Verdict::Held(Held::Blind, None)
            );
        }
    }
}
