//! A Rule, compiled: whether an object or an event matches it, and where that leads.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use serde_json::{Value, json};

use super::aim::Aim;
use super::capture::Correlation;
use super::change::{self, OLD};
use super::episode::{KEPT, RuleFacts};
use super::excerpt::envelope_for;
use super::gathering::Part;
use super::given;
use super::lifecycle;
use super::problem::Problem;
use super::schedule::{Schedule, ScheduleError};
use super::unless::Objections;
use crate::api::{
    EventTrigger, GROUP, LABEL, Limits, Rule, RuleSpec, ScheduleTrigger, Target, Trigger, TriggerEvent,
};
use crate::expr::{Bindings, EvalError, Expression, Scope, TemplateTree, Type};

/// The variables of `when` of a resource trigger.
pub const RESOURCE_VARIABLES: [&str; 3] = ["object", OLD, "now"];
/// The variables of `when` of a resource trigger that is about moments of objects' lives.
pub const LIFECYCLE_VARIABLES: [&str; 3] = ["object", "event", "now"];
/// The variables of `when` of an event trigger.
pub const EVENT_VARIABLES: [&str; 2] = ["event", "now"];
/// The variables of `when` of an alert trigger.
pub const ALERT_VARIABLES: [&str; 3] = ["alert", "event", "now"];

/// A Rule that compiles.
#[derive(Clone)]
pub struct CompiledRule {
    /// What bears on its episodes.
    pub facts: RuleFacts,
    /// Its text.
    pub spec: RuleSpec,
    /// By when it was created: events from before are not its business.
    pub created_at: Timestamp,
    selector: Option<Selector>,
    when: Option<Expression>,
    since: Option<Expression>,
    /// Where an event leads that is about no object.
    pub aim: Option<Aim>,
    /// What speaks against acting.
    pub unless: Objections,
    /// Which events mean something only together.
    pub correlation: Option<Correlation>,
    /// When it is due.
    pub schedule: Option<Schedule>,
    /// The values that its rungs get, if it is about what happens to objects.
    pub(super) templates: Vec<TemplateTree>,
}

/// That an object matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// Since when it has been wrong, if the rule reads that from the object.
    pub since: Option<Timestamp>,
    /// What it is among those that mean something only together, if the rule is about such.
    pub part: Option<Part>,
}

impl CompiledRule {
    /// Compiles a Rule; all that is wrong with its expressions at once.
    pub fn compile(rule: &Rule) -> Result<Self, Vec<Problem>> {
        let created_at = rule.metadata.creation_timestamp.as_ref().map_or(Timestamp::UNIX_EPOCH, |t| t.0);
        let created_at = created_at.saturating_add(KEPT).unwrap_or(Timestamp::MAX);
        Self::of(&rule.spec, &rule.namespace().unwrap_or_default(), &rule.name_any(), created_at)
    }

    /// Compiles the text of a Rule.
    pub fn of(
        spec: &RuleSpec,
        namespace: &str,
        name: &str,
        created_at: Timestamp,
    ) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let scope = scope(&spec.trigger);
        let moment = Type::OneOf(vec![Type::Timestamp, Type::String]);
        let when = compile(spec.when.as_deref(), "spec.when", (&scope, &Type::Bool), &mut problems);
        let since = compile(spec.since.as_deref(), "spec.since", (&scope, &moment), &mut problems);
        let selector = spec.trigger.resource.as_ref().and_then(|r| r.label_selector.clone());
        let selector = selector.and_then(|s| selector_of(s, &mut problems));
        let aim = Aim::compile(spec, &mut problems);
        let unless = Objections::compile(&spec.unless, &unless_scope(spec), &mut problems);
        let correlation = spec.correlate.as_ref().map(|correlate| {
            let compiled = Correlation::compile(correlate, &scope_of_what_is(&spec.trigger));
            compiled.map_err(|found| problems.extend(found)).ok()
        });
        problems.extend(given::misplaced(spec));
        let schedule = spec.trigger.schedule.as_ref().and_then(|trigger| schedule_of(trigger, &mut problems));
        if !problems.is_empty() {
            return Err(problems);
        }
        let (facts, spec) = (facts(spec, namespace, name), spec.clone());
        let templates = change::templates(&spec);
        let correlation = correlation.flatten().map(|correlation| correlation.read_by(&spec, &unless));
        Ok(Self {
            facts,
            spec,
            created_at,
            selector,
            when,
            since,
            aim,
            unless,
            correlation,
            schedule,
            templates,
        })
    }

    /// Whether an object of the trigger's kind matches.
    pub fn matches_object(&self, object: &Arc<Value>, now: Timestamp) -> Result<Option<Hit>, EvalError> {
        let Some(when) = self.when_of(object) else { return Ok(None) };
        let bindings = Bindings::at(now).with("object", object.clone());
        if !when.matches(&bindings)? {
            return Ok(None);
        }
        let since = self.since.as_ref().map(|since| since.evaluate_timestamp(&bindings)).transpose()?;
        let Some(correlation) = &self.correlation else { return Ok(Some(Hit { since, part: None })) };
        Ok(correlation.part(&bindings)?.map(|part| Hit { since, part: Some(part) }))
    }

    /// The condition, if the object is one for which it is asked.
    pub(super) fn when_of(&self, object: &Value) -> Option<&Expression> {
        self.when.as_ref().filter(|_| self.selects(object))
    }

    /// Whether an object is one that the Rule is about, whatever its condition says.
    pub(super) fn selects(&self, object: &Value) -> bool {
        !is_own(object) && self.selector.as_ref().is_none_or(|selector| selector.matches(&labels(object)))
    }

    /// Whether a Kubernetes Event matches.
    pub fn matches_event(&self, event: &Value, now: Timestamp) -> Result<bool, EvalError> {
        let Some(trigger) = &self.spec.trigger.event else { return Ok(false) };
        if is_told_by_us(event) || !selects(trigger, event) {
            return Ok(false);
        }
        let Some(when) = &self.when else { return Ok(true) };
        when.matches(&Bindings::at(now).with("event", envelope_for(event, when)))
    }

    /// Its expressions over an object that it watches.
    pub(super) fn over_object(&self) -> impl Iterator<Item = &Expression> {
        let aim = self.aim.iter().flat_map(Aim::expressions);
        self.when.iter().chain(&self.since).chain(aim).chain(self.members())
    }

    /// Its expressions over what means something only together.
    pub(super) fn members(&self) -> impl Iterator<Item = &Expression> {
        self.correlation.iter().flat_map(Correlation::expressions)
    }

    /// Its condition.
    pub(super) fn when(&self) -> Option<&Expression> {
        self.when.as_ref()
    }

    /// Whether an event matches that is about no object; of one that a Webhook received the source, the type and an
    /// alert's name have to be right.
    pub fn matches_received(&self, event: &TriggerEvent, now: Timestamp) -> Result<bool, EvalError> {
        match &self.when {
            None => Ok(true),
            // Most of what a Webhook receives means most of its Rules nothing: to convert all of it would cost more.
            Some(when) if is_refuted(when, event) => Ok(false),
            Some(when) => when.matches(&received(&json!(event), &self.spec.trigger, now)),
        }
    }

    /// The expressions that are evaluated over an event that is about no object, before any rung.
    pub fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let own = self.when.iter().chain(self.aim.iter().flat_map(Aim::expressions));
        let together = self.correlation.iter().flat_map(Correlation::givens);
        own.chain(self.unless.expressions()).chain(self.members()).chain(together)
    }

    /// How an object of a kind leads to the target.
    pub fn target(&self, kind: &str) -> Target {
        let default = if kind == "Pod" { Target::Workload } else { Target::Object };
        self.spec.target.clone().unwrap_or(default)
    }
}

/// The variables of the conditions of a trigger.
pub fn variables(trigger: &Trigger) -> &'static [&'static str] {
    if trigger.alert.is_some() {
        &ALERT_VARIABLES
    } else if !trigger.lifecycle().is_empty() {
        &LIFECYCLE_VARIABLES
    } else if trigger.resource.is_some() {
        &RESOURCE_VARIABLES
    } else {
        &EVENT_VARIABLES
    }
}

/// Where the variables of a Rule are known, for whoever reads them elsewhere.
const ELSEWHERE: [(&str, &str); 8] = [
    ("object", "it is what trigger.resource matched"),
    (OLD, "it is what trigger.resource without lifecycle matched, as `when`, `unless` and `with` see it"),
    ("event", "it is for all triggers but resource, and for its lifecycle"),
    ("alert", "it is what trigger.alert matched"),
    ("events", "it is for `unless` and `with` of a Rule with `correlate`"),
    ("captured", "it is for `unless` and `with` of a Rule with `correlate`, and for `given` of a member"),
    ("target", "it is for `unless`, `with` and `verify.when`"),
    ("ladder", "it is for `with`"),
];

/// The scope of the conditions of a trigger, of whose variables no more is known.
pub fn scope(trigger: &Trigger) -> Scope {
    Scope::of(variables(trigger).iter().copied()).elsewhere(ELSEWHERE)
}

/// The same without what an object was, which `when`, `unless` and `with` alone see.
pub(super) fn scope_of_what_is(trigger: &Trigger) -> Scope {
    Scope::of(variables(trigger).iter().copied().filter(|variable| *variable != OLD)).elsewhere(ELSEWHERE)
}

/// What expressions see of an event, or an alert, that is about no object.
pub fn received(event: &Value, trigger: &Trigger, now: Timestamp) -> Bindings {
    with_received(Bindings::at(now), event, trigger)
}

/// Whether a field that is compared in a condition is there and says something else.
fn is_refuted(when: &Expression, event: &TriggerEvent) -> bool {
    when.conjuncts().iter().any(|conjunct| {
        let path: Vec<&str> = conjunct.path.iter().map(String::as_str).collect();
        let (["alert", fields @ ..] | ["event", "data", fields @ ..]) = path.as_slice() else { return false };
        let field = fields.iter().try_fold(&event.data.0, |value, field| value.get(field));
        let is_plain = |field: &&Value| field.is_string() || field.is_boolean() || field.is_number();
        field.filter(is_plain).is_some_and(|field| !conjunct.allows(field))
    })
}

/// Adds `event`, and `alert` if it is one; of a change what the object is and was, of its creation or deletion what it is
/// or was.
pub fn with_received(bindings: Bindings, event: &Value, trigger: &Trigger) -> Bindings {
    if !trigger.lifecycle().is_empty() {
        return lifecycle::with_moment(bindings, event);
    }
    if trigger.resource.is_some() {
        return change::with_change(bindings, event);
    }
    let bindings = bindings.with("event", event.clone());
    match trigger.alert {
        Some(_) => bindings.with("alert", event["data"].clone()),
        None => bindings,
    }
}

/// What `unless` may read.
fn unless_scope(spec: &RuleSpec) -> Scope {
    let scope = scope(&spec.trigger).with("target");
    match spec.correlate {
        Some(_) => scope.with("events").with("captured"),
        None => scope,
    }
}

fn facts(spec: &RuleSpec, namespace: &str, name: &str) -> RuleFacts {
    let Limits { per_target, per_rule, once, .. } = spec.limits.clone().unwrap_or_default();
    RuleFacts {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        mode: spec.mode,
        hold_for: spec.hold_for.unwrap_or_default(),
        cooldown: spec.cooldown(),
        per_target,
        per_rule,
        once,
    }
}

fn schedule_of(trigger: &ScheduleTrigger, problems: &mut Vec<Problem>) -> Option<Schedule> {
    let problem = |error: &ScheduleError| {
        Problem::error(format!("spec.trigger.schedule{}", error.field()), error.to_string())
    };
    let read = Schedule::of(trigger);
    read.map_err(|errors| problems.extend(errors.iter().map(problem))).ok()
}

fn compile(
    source: Option<&str>,
    path: &str,
    (scope, wanted): (&Scope, &Type),
    problems: &mut Vec<Problem>,
) -> Option<Expression> {
    let compiled = Expression::compile(source?, scope);
    match compiled.and_then(|expression| expression.expect(wanted)) {
        Ok(expression) => Some(expression),
        Err(errors) => {
            problems.extend(errors.iter().map(|error| expression_problem(path, error)));
            None
        }
    }
}

/// An expression's mistake as a problem of the object that it stands in.
pub fn expression_problem(path: &str, error: &crate::expr::ExprError) -> Problem {
    let problem = Problem::error(path, error.message.clone()).at(error.span.clone());
    match &error.suggestion {
        Some(suggestion) => problem.help(format!("did you mean {suggestion:?}?")),
        None => problem,
    }
}

fn selector_of(selector: LabelSelector, problems: &mut Vec<Problem>) -> Option<Selector> {
    let compiled: Result<Selector, _> = selector.try_into();
    compiled
        .map_err(|error| {
            problems.push(Problem::error("spec.trigger.resource.labelSelector", error.to_string()));
        })
        .ok()
}

fn labels(object: &Value) -> std::collections::BTreeMap<String, String> {
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Whether an object is of fother's own making: a Job of an Execution, its Pod. What goes wrong with a remedy is told by
/// its Execution; a rule that answered it would answer itself.
pub fn is_own(object: &Value) -> bool {
    let group = object["apiVersion"].as_str().unwrap_or_default().split('/').next();
    group == Some(GROUP)
        || object.pointer("/metadata/labels").is_some_and(|l| l.get(LABEL.execution).is_some())
}

/// Whether an Event was written by fother itself, or regards one of its objects.
fn is_told_by_us(event: &Value) -> bool {
    event["reportingController"].as_str().is_some_and(|name| name.split('/').next() == Some(GROUP))
        || is_own(&event["regarding"])
}

fn selects(trigger: &EventTrigger, event: &Value) -> bool {
    let is = |wanted: &Option<String>, pointer: &str| {
        wanted.as_deref().is_none_or(|wanted| event.pointer(pointer).and_then(Value::as_str) == Some(wanted))
    };
    let reason = event["reason"].as_str().unwrap_or_default();
    is(&trigger.event_type, "/type")
        && is(&trigger.regarding_kind, "/regarding/kind")
        && (trigger.reasons.is_empty() || trigger.reasons.iter().any(|r| r == reason))
}

/// An event as expressions see it: id, source, type, time and data.
pub fn envelope(event: &Value) -> Value {
    json!({
        "id": event_identity(event),
        "source": "events.k8s.io",
        "type": event["reason"],
        "time": event_time(event).map(|t| t.to_string()),
        "data": event,
    })
}

/// What tells one occurrence of an Event from the next: a series counts up without a new object.
pub fn event_identity(event: &Value) -> String {
    let uid = event.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let mut count = [event.pointer("/series/count"), event.get("deprecatedCount")].into_iter().flatten();
    let count = count.find_map(Value::as_i64).unwrap_or(0);
    format!("{uid}/{count}")
}

/// When an Event occurred, as far as it can be believed: whoever writes an Event also writes its time, and one from the
/// future would be past every cooldown. The API server says when it took the Event in. For a series it says only when the
/// series began, so there the present is the limit.
///
/// Seen again, a single Event has the same time, and is decided in the same way.
pub fn occurred(event: &Value, now: Timestamp) -> Timestamp {
    let count = [event.pointer("/series/count"), event.get("deprecatedCount")].into_iter().flatten();
    let is_series = count.filter_map(Value::as_i64).any(|count| count > 1);
    let created = event.pointer("/metadata/creationTimestamp").and_then(|at| at.as_str()?.parse().ok());
    let taken_in = created.map(|at: Timestamp| at.saturating_add(KEPT).unwrap_or(Timestamp::MAX));
    let limit = taken_in.filter(|_| !is_series).map_or(now, |taken_in| taken_in.min(now));
    event_time(event).unwrap_or(limit).min(limit)
}

/// When an Event last occurred, as it says.
pub fn event_time(event: &Value) -> Option<Timestamp> {
    ["/series/lastObservedTime", "/deprecatedLastTimestamp", "/eventTime", "/metadata/creationTimestamp"]
        .into_iter()
        .find_map(|pointer| event.pointer(pointer)?.as_str()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: Value) -> Result<CompiledRule, Vec<Problem>> {
        let rule = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Rule", "metadata": {"name": "r", "namespace": "a"}, "spec": spec});
        CompiledRule::compile(&serde_json::from_value(rule).expect("a Rule"))
    }

    fn resource(extra: Value) -> Value {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": "true",
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}});
        json_patch::merge(&mut spec, &extra);
        spec
    }

    #[test]
    fn labels_and_condition_select() {
        let selector = json!({"trigger": {"resource": {"labelSelector": {"matchLabels": {"tier": "web"}}}},
            "when": "object.status.phase == 'Failed'"});
        let rule = rule(resource(selector)).expect("compiles");
        let pod = |tier: &str, phase: &str| {
            Arc::new(json!({"metadata": {"labels": {"tier": tier}}, "status": {"phase": phase}}))
        };
        for (tier, phase, matches) in
            [("web", "Failed", true), ("db", "Failed", false), ("web", "Running", false)]
        {
            let hit = rule.matches_object(&pod(tier, phase), Timestamp::UNIX_EPOCH).expect("evaluates");
            assert_eq!(hit.is_some(), matches, "{tier} {phase}");
        }
    }

    #[test]
    fn since_is_read_from_the_object() {
        let rule = rule(resource(json!({"since": "timestamp(object.at)"}))).expect("compiles");
        let object = Arc::new(json!({"at": "2026-01-01T00:00:00Z"}));
        let hit = rule.matches_object(&object, Timestamp::UNIX_EPOCH).expect("evaluates").expect("matches");
        assert_eq!(hit.since, Some("2026-01-01T00:00:00Z".parse().expect("a time")));
    }

    #[test]
    fn all_mistakes_are_found_with_their_places() {
        let Err(problems) = rule(resource(json!({"when": "objct.a", "since": "1 +"}))) else {
            panic!("refused")
        };
        let paths: Vec<_> = problems.iter().map(|p| (p.path.as_str(), p.span.clone())).collect();
        assert_eq!(paths.len(), 2, "{problems:?}");
        assert_eq!(paths[0], ("spec.when", Some(0..5)));
        assert_eq!(paths[1].0, "spec.since");
    }

    /// Lines 19 and 20 of the bad inputs: a wrong zone does not hide a wrong cron.
    #[test]
    fn all_mistakes_of_a_schedule_are_told() {
        let schedule = json!({"cron": "0 0 31 2 *", "timeZone": "Europe/Londno"});
        let trigger =
            json!({"trigger": {"schedule": schedule}, "serviceAccountName": "h", "ladder": [{"run": "x"}]});
        let Err(problems) = rule(trigger) else { panic!("refused") };
        let said: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "spec.trigger.schedule.timeZone: \"Europe/Londno\" is not an IANA zone; did you mean \"Europe/London\"?",
                "spec.trigger.schedule.cron: \"0 0 31 2 *\" never fires",
            ]
        );
    }

    #[test]
    fn what_fother_makes_never_matches() {
        let rule = rule(resource(json!({"when": "true"}))).expect("compiles");
        let foreign = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"app": "web"}}});
        let own =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"fother.dev/execution": "x"}}});
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution"});
        for (object, matches) in [(foreign, true), (own, false), (execution, false)] {
            let hit =
                rule.matches_object(&Arc::new(object.clone()), Timestamp::UNIX_EPOCH).expect("evaluates");
            assert_eq!(hit.is_some(), matches, "{object}");
        }
    }

    #[test]
    fn what_fother_tells_never_matches() {
        let trigger = json!({"trigger": {"event": {}}, "serviceAccountName": "h", "ladder": [{"run": "x"}]});
        let rule = rule(trigger).expect("compiles");
        for (reporter, kind, matches) in [
            ("kubelet", json!({"apiVersion": "v1", "kind": "Pod"}), true),
            ("fother.dev/controller", json!({"apiVersion": "v1", "kind": "Pod"}), false),
            ("kubelet", json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution"}), false),
        ] {
            let event = json!({"reportingController": reporter, "regarding": kind, "metadata": {"uid": "u"}});
            assert_eq!(rule.matches_event(&event, Timestamp::UNIX_EPOCH), Ok(matches), "{event}");
        }
    }

    #[test]
    fn events_are_told_apart_by_uid_and_count() {
        let event = |count: i64| json!({"metadata": {"uid": "u"}, "deprecatedCount": count});
        assert_ne!(event_identity(&event(1)), event_identity(&event(2)));
        assert_eq!(
            event_identity(&json!({"metadata": {"uid": "u"}, "series": {"count": 3}, "deprecatedCount": 1})),
            "u/3"
        );
    }

    #[test]
    fn an_event_from_the_future_occurred_when_it_came() {
        let at =
            |second: u32| -> Timestamp { format!("2026-01-01T00:00:{second:02}Z").parse().expect("a time") };
        let single = |time: u32| json!({"metadata": {"creationTimestamp": at(10)}, "eventTime": at(time)});
        assert_eq!(occurred(&single(8), at(30)), at(8));
        for now in [30, 50] {
            assert_eq!(occurred(&single(40), at(now)), at(11), "whenever it is looked at");
        }
        let series = |last: u32| {
            let series = json!({"count": 2, "lastObservedTime": at(last)});
            json!({"metadata": {"creationTimestamp": at(10)}, "eventTime": at(10), "series": series})
        };
        assert_eq!(occurred(&series(20), at(30)), at(20));
        assert_eq!(occurred(&series(40), at(30)), at(30));
        assert_eq!(occurred(&json!({"metadata": {}}), at(30)), at(30));
    }

    #[test]
    fn an_event_is_selected_by_type_reason_and_kind() {
        let trigger = json!({"trigger": {"event": {"type": "Warning", "reasons": ["FailedMount"], "regardingKind": "Pod"}},
            "serviceAccountName": "h", "ladder": [{"run": "x"}], "when": "event.data.note.contains('disk')"});
        let rule = rule(trigger).expect("compiles");
        let event = |reason: &str, note: &str| {
            json!({"type": "Warning", "reason": reason, "note": note,
            "regarding": {"kind": "Pod"}, "metadata": {"uid": "u"}})
        };
        for (reason, note, matches) in
            [("FailedMount", "disk", true), ("Other", "disk", false), ("FailedMount", "net", false)]
        {
            assert_eq!(rule.matches_event(&event(reason, note), Timestamp::UNIX_EPOCH), Ok(matches));
        }
    }
}
