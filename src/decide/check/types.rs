//! What is known of the variables of a Rule's and an Action's expressions: the objects from the
//! schemas of their kinds, the rest from the definitions themselves.

use std::collections::BTreeSet;

use super::aim;
use crate::api::{ALERT_TEXTS, Correlate, ObjectReference, Parameter, RuleSpec, Target, Trigger, ValueType};
use crate::decide::capture::members;
use crate::decide::change::OLD;
use crate::decide::{given, lifecycle, matching, operation, verify};
use crate::expr::{ObjectType, Schemas, Scope, Type};

/// What `event.data` is of a Kubernetes Event.
const EVENT: (&str, &str) = ("events.k8s.io/v1", "Event");
/// What is said to whoever reads a target of which no object exists.
const ONLY_A_NAME: &str =
    "the target of this Rule is only a name, of which there is nothing to read; use target.ref";

/// The `apiVersion`s of the objects that a Rule's expressions read, as far as its text says so.
pub fn api_versions(spec: &RuleSpec) -> BTreeSet<&str> {
    let resource = spec.trigger.resource.as_ref().map(|resource| resource.api_version.as_str());
    let event = spec.trigger.event.as_ref().map(|_| EVENT.0);
    let target = match &spec.target {
        Some(Target::Owner(owner)) => Some(owner.api_version.as_str()),
        Some(Target::Ref(object)) => Some(object.api_version.as_str()),
        _ => None,
    };
    [resource, event, target].into_iter().flatten().collect()
}

/// The scope of a Rule's `when` and `since`.
pub(super) fn condition(spec: &RuleSpec, schemas: &Schemas) -> Scope {
    let scope = matching::scope(&spec.trigger);
    if let Some(resource) = &spec.trigger.resource {
        let of = schemas.of(&resource.api_version, &resource.kind);
        return match resource.lifecycle.is_empty() {
            true => with_object(scope, of),
            false => scope.with_type("object", of).with_type("event", moment()),
        };
    }
    with_event(scope, spec, schemas)
}

/// What came, and the alert if it is one.
fn with_event(scope: Scope, spec: &RuleSpec, schemas: &Schemas) -> Scope {
    let scope = scope.with_type("event", event(spec, schemas));
    if spec.trigger.alert.is_some() { scope.with_type("alert", alert()) } else { scope }
}

/// The scope of a Rule's `unless`.
pub(super) fn unless(spec: &RuleSpec, schemas: &Schemas) -> Scope {
    let scope = condition(spec, schemas).with_type("target", target(spec, schemas));
    let scope = if aim::is_key(spec) { scope.without("target", ONLY_A_NAME) } else { scope };
    let Some(correlate) = &spec.correlate else { return scope };
    let one = captured(spec, schemas);
    let named = members(correlate).map(|(_, member)| (member.name.clone(), one.clone()));
    let named = object("captured", named.collect::<Vec<_>>());
    scope.with_type("events", Type::list(one)).with_type("captured", named)
}

/// The scope of the `given` of a member.
pub(super) fn given(spec: &RuleSpec, correlate: &Correlate, place: usize, schemas: &Schemas) -> Scope {
    given::scope(correlate, place, condition(spec, schemas), &captured(spec, schemas))
}

/// What came together, as it is recorded.
fn captured(spec: &RuleSpec, schemas: &Schemas) -> Type {
    let data = match spec.trigger.resource {
        Some(_) => identity(),
        None => data(spec, schemas),
    };
    let texts = ["id", "member", "type", "time"].map(|name| (name.to_owned(), Type::String));
    object("events[]", texts.into_iter().chain([("data".to_owned(), data)]))
}

/// What is recorded of an object: what it is known by.
fn identity() -> Type {
    let texts =
        |names: [&str; 3]| names.into_iter().map(|name| (name.to_owned(), Type::String)).collect::<Vec<_>>();
    let labels = [("labels".to_owned(), Type::map(Type::String, Type::String))];
    let metadata =
        object("events[].data.metadata", texts(["name", "namespace", "uid"]).into_iter().chain(labels));
    let kind = ["apiVersion", "kind"].map(|name| (name.to_owned(), Type::String));
    object("events[].data", kind.into_iter().chain([("metadata".to_owned(), metadata)]))
}

/// What an object is, it was.
fn with_object(scope: Scope, of: Type) -> Scope {
    scope.with_type(OLD, of.clone()).with_type("object", of)
}

/// What is known of a moment of an object's life, beside the object.
fn moment() -> Type {
    object("event", lifecycle::FIELDS.map(|name| (name.to_owned(), Type::String)))
}

/// The scope of a rung's `with`.
pub(super) fn with(spec: &RuleSpec, schemas: &Schemas) -> Scope {
    unless(spec, schemas).with_type("ladder", ladder())
}

/// The scope of `verify.when`.
pub(super) fn proof(spec: &RuleSpec, schemas: &Schemas) -> Scope {
    verify::scope().with_type("target", target(spec, schemas))
}

/// The same for a run by hand, which names its target.
pub(super) fn proof_of(target: Option<&ObjectReference>, schemas: &Schemas) -> Scope {
    let of = target.map_or(Type::Any, |target| of(schemas, &target.api_version, &target.kind));
    verify::scope().with_type("target", of)
}

/// The scope of the templates of a `kubernetes` Action, which may be run for targets of any kind.
pub(super) fn operation(parameters: &[Parameter]) -> Scope {
    let of = |parameter: &Parameter| match parameter.value_type {
        ValueType::String => Type::String,
        ValueType::Integer => Type::Int,
        // A number without a fraction is an int in an expression.
        ValueType::Number => Type::OneOf(vec![Type::Int, Type::Double]),
        ValueType::Boolean => Type::Bool,
    };
    let fields = parameters.iter().map(|parameter| (parameter.name.clone(), of(parameter)));
    Scope::of(operation::VARIABLES).with_type("inputs", object("inputs", fields))
}

fn object(name: &str, fields: impl IntoIterator<Item = (String, Type)>) -> Type {
    Type::Object(ObjectType::given(name, fields))
}

/// The envelope of an event: what is in one of a Webhook, its sender knows.
fn event(spec: &RuleSpec, schemas: &Schemas) -> Type {
    let texts = ["id", "source", "type", "time"].map(|name| (name.to_owned(), Type::String));
    object("event", texts.into_iter().chain([("data".to_owned(), data(spec, schemas))]))
}

fn data(spec: &RuleSpec, schemas: &Schemas) -> Type {
    match &spec.trigger {
        Trigger { event: Some(_), .. } => schemas.of(EVENT.0, EVENT.1),
        Trigger { alert: Some(_), .. } => alert(),
        Trigger { execution: Some(_), .. } => ended(),
        _ => Type::Any,
    }
}

/// The end of an Execution, as [`ends`](crate::decide::ends) tells it.
fn ended() -> Type {
    let texts =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Type::String)).collect::<Vec<_>>();
    let reference = |name: &str| object(name, texts(&["apiVersion", "kind", "namespace", "name", "uid"]));
    let objects = ["target", "matched"].map(|name| (name.to_owned(), reference(name)));
    // What that Rule was triggered by is not known here.
    let any = [("data".to_owned(), Type::Any)];
    let event =
        object("event.data.event", texts(&["id", "source", "type", "time"]).into_iter().chain(any.clone()));
    let one =
        object("event.data.captured[]", texts(&["id", "member", "type", "time"]).into_iter().chain(any));
    let made_of = [("event".to_owned(), event), ("captured".to_owned(), Type::map(Type::String, one))];
    let own = texts(&["execution", "rule", "outcome", "reason", "message"]);
    object("event.data", own.into_iter().chain(objects).chain(made_of))
}

/// An alert of Alertmanager or Grafana, as it is taken in.
fn alert() -> Type {
    let texts = ["fingerprint", "status", "startsAt", "endsAt", "externalURL"];
    let texts = texts.into_iter().chain(ALERT_TEXTS).map(|name| (name.to_owned(), Type::String));
    let maps = ["labels", "annotations"].map(|name| (name.to_owned(), Type::map(Type::String, Type::String)));
    let values = ("values".to_owned(), Type::map(Type::String, Type::Any));
    object("alert", texts.chain(maps).chain([values]))
}

/// What the remediation is of, as far as the Rule's text says so.
fn target(spec: &RuleSpec, schemas: &Schemas) -> Type {
    let owner = || matched(spec).map_or(Type::Any, |kind| Type::Object(ObjectType::owner_of(kind)));
    match &spec.target {
        Some(Target::Owner(owner)) => of(schemas, &owner.api_version, &owner.kind),
        Some(Target::Ref(object)) => of(schemas, &object.api_version, &object.kind),
        Some(Target::Workload) => owner(),
        None if matched(spec) == Some("Pod") => owner(),
        Some(Target::Object) | None => match &spec.trigger.resource {
            Some(resource) => of(schemas, &resource.api_version, &resource.kind),
            None => matched(spec).map_or(Type::Any, named),
        },
        Some(Target::Key(_)) => Type::Any,
    }
}

/// The kind of the object that matches, or that an Event regards, if the Rule says one.
fn matched(spec: &RuleSpec) -> Option<&str> {
    let resource = spec.trigger.resource.as_ref().map(|resource| resource.kind.as_str());
    resource.or_else(|| spec.trigger.event.as_ref()?.regarding_kind.as_deref())
}

/// The objects of a kind; of one whose fields nobody knows, at least which kind it is.
fn of(schemas: &Schemas, api_version: &str, kind: &str) -> Type {
    match schemas.of(api_version, kind) {
        Type::Any => named(kind),
        known => known,
    }
}

fn named(kind: &str) -> Type {
    Type::Object(ObjectType::of_kind(kind))
}

/// The rungs so far.
fn ladder() -> Type {
    let fields =
        [("run", Type::String), ("state", Type::String), ("outputs", Type::map(Type::String, Type::Any))];
    Type::list(object("ladder[]", fields.map(|(name, of)| (name.to_owned(), of))))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decide::check::{Known, rule};

    /// What is wrong with a Rule of a trigger that reads this in `with`; and the same in `unless`.
    fn told(trigger: &Value, correlate: &Value, read: &str) -> Vec<String> {
        let spec = json!({"serviceAccountName": "h", "trigger": trigger, "correlate": correlate,
            "when": if trigger.get("resource").is_some() { json!("true") } else { Value::Null },
            "since": if trigger.get("resource").is_some() && !correlate.is_null() {
                json!("timestamp(object.metadata.creationTimestamp)")
            } else { Value::Null },
            "target": if ["event", "resource"].iter().any(|of| trigger.get(of).is_some()) { Value::Null } else { json!({"key": "event.id"}) },
            "ladder": [{"run": "x", "with": {"p": format!("${{{{ {read} }}}}")}}]});
        let known = Known {
            actions: [("x", None)].into(),
            partial: true,
            schemas: Schemas::built_in(),
            ..Known::default()
        };
        let of = |spec: Value| {
            let spec: RuleSpec = serde_json::from_value(spec).expect("a spec");
            let found = rule(&spec, &known);
            found
                .iter()
                .filter(|found| found.to_string().contains("with") || found.to_string().contains("unless"))
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        let mut objecting = spec.clone();
        objecting["ladder"][0]["with"] = json!({});
        objecting["unless"] = json!([{"if": format!("[{read}] == []"), "reason": "R"}]);
        let (in_with, in_unless) = (of(spec), of(objecting));
        if !read.starts_with("ladder") {
            assert_eq!(in_with.len(), in_unless.len(), "{in_with:?} {in_unless:?}");
        }
        in_with
    }

    fn count() -> Value {
        json!({"groupBy": "'x'", "within": "5m", "count": 2})
    }

    fn all(names: [&str; 2]) -> Value {
        let members = names.map(|name| json!({"name": name, "when": "true"}));
        json!({"groupBy": "'x'", "within": "5m", "all": members})
    }

    #[test]
    fn only_what_a_trigger_provides_is_known() {
        let pods = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
        let (alerts, events) = (json!({"alert": {"webhook": "w"}}), json!({"event": {}}));
        let (webhook, ends) = (json!({"webhook": {"name": "w"}}), json!({"execution": {"rules": ["q"]}}));
        let clock = json!({"schedule": {"cron": "0 3 * * *"}});
        for (trigger, read) in [
            (&pods, "object.metadata.name"),
            (&alerts, "alert.labels.pod + event.type"),
            (&events, "event.data.note"),
            (&webhook, "event.data.anything"),
            (&ends, "event.data.outcome"),
            (&ends, "event.data.event.data.labels.node + event.data.event.type + event.data.matched.name"),
            (&ends, "event.data.captured.down.data.reason + event.data.captured['down'].time"),
            (&clock, "event.data.missed"),
            (&clock, "ladder.map(rung, rung.run)"),
        ] {
            assert_eq!(told(trigger, &Value::Null, read), [""; 0], "{read}");
        }
        for (trigger, read, message) in [
            (&pods, "alert.labels.pod", "unknown variable \"alert\": it is what trigger.alert matched"),
            (
                &pods,
                "event.type",
                "unknown variable \"event\": it is for all triggers but resource, and for its lifecycle",
            ),
            (
                &alerts,
                "object.metadata.name",
                "unknown variable \"object\": it is what trigger.resource matched",
            ),
            (
                &events,
                "object.metadata.name",
                "unknown variable \"object\": it is what trigger.resource matched",
            ),
            (&webhook, "alert.labels.pod", "unknown variable \"alert\": it is what trigger.alert matched"),
            (
                &webhook,
                "captured.one.id",
                "unknown variable \"captured\": it is for `unless` and `with` of a Rule with `correlate`, and for `given` of a member",
            ),
            (
                &ends,
                "events[0].id",
                "unknown variable \"events\": it is for `unless` and `with` of a Rule with `correlate`",
            ),
            (&clock, "evnt.time", "unknown variable \"evnt\"; did you mean \"event\"?"),
            (
                &clock,
                "target.spec.replicas",
                "unknown variable \"target\": the target of this Rule is only a name, of which there is nothing to read; use target.ref",
            ),
        ] {
            assert_eq!(
                told(trigger, &Value::Null, read),
                [format!("spec.ladder[0].with.p: {message}")],
                "{read}"
            );
        }
    }

    #[test]
    fn what_came_together_is_known_by_its_members() {
        let events = json!({"event": {}});
        let pods = json!({"resource": {"apiVersion": "v1", "kind": "Pod"}});
        let down = all(["down", "evicted"]);
        for (trigger, correlate, read) in [
            (&events, &down, "captured.down.data.regarding.name + captured.evicted.data.note"),
            (&events, &count(), "events.map(e, e.data.series.count)"),
            (&json!({"webhook": {"name": "w"}}), &down, "captured.down.data.any.thing"),
            (&pods, &down, "captured.down.data.metadata.labels.app + events[0].member"),
        ] {
            assert_eq!(told(trigger, correlate, read), [""; 0], "{read}");
        }
        for (trigger, correlate, read, misspelled, meant) in [
            (&events, &down, "captured.dwon.id", "dwon", "; did you mean \"down\"?"),
            (
                &events,
                &down,
                "captured.down.data.regrading.name",
                "regrading",
                "; did you mean \"regarding\"?",
            ),
            (&events, &count(), "captured.down.id", "down", ""),
            (&events, &count(), "events[0].nam", "nam", ""),
            (&pods, &down, "captured.down.data.spec", "spec", ""),
        ] {
            let told = told(trigger, correlate, read);
            assert!(
                told.len() == 1 && told[0].contains(misspelled) && told[0].ends_with(meant),
                "{read}: {told:?}"
            );
        }
    }

    #[test]
    fn what_a_member_is_given_is_known_by_the_members_before_it() {
        let told = |trigger: Value, given: &str| {
            let member =
                |name: &str, given: Option<&str>| json!({"name": name, "when": "true", "given": given});
            let sequence =
                json!([member("started", None), member("failed", Some(given)), member("gone", None)]);
            let spec = json!({"serviceAccountName": "h", "trigger": trigger, "ladder": [{"run": "x"}],
                "correlate": {"within": "5m", "sequence": sequence},
                "target": if trigger.get("event").is_some() { Value::Null } else { json!({"key": "event.id"}) }});
            let schemas = Schemas::built_in();
            let known = Known { actions: [("x", None)].into(), partial: true, schemas, ..Known::default() };
            let found = rule(&serde_json::from_value(spec).expect("a spec"), &known);
            let found = found.iter().filter(|found| found.path.contains("correlate"));
            found.map(ToString::to_string).collect::<Vec<_>>()
        };
        let (events, alerts) = (json!({"event": {}}), json!({"alert": {"webhook": "w"}}));
        let (webhook, ends) = (json!({"webhook": {"name": "w"}}), json!({"execution": {"rules": ["q"]}}));
        for (trigger, given) in [
            (&events, "event.data.regarding.name == captured.started.data.regarding.name"),
            (&alerts, "alert.labels.node == captured.started.data.labels.node"),
            (&webhook, "event.data.any > captured.started.data.thing"),
            (
                &ends,
                "event.data.target.name == captured.started.data.target.name && captured.started.type == 'Failed'",
            ),
            (&webhook, "timestamp(event.time) - timestamp(captured.started.time) < duration('3s')"),
        ] {
            assert_eq!(told(trigger.clone(), given), [""; 0], "{given}");
        }
        let before = "captured, which has what comes before \"failed\", has no field";
        for (trigger, given, expected) in [
            (
                &webhook,
                "captured.strated.id == ''",
                format!("{before} \"strated\"; did you mean \"started\"?"),
            ),
            (&webhook, "captured.gone.id == ''", format!("{before} \"gone\"")),
            (
                &events,
                "captured.started.data.regrading == null",
                "Event has no field \"regrading\"; did you mean \"regarding\"?".to_owned(),
            ),
            (&webhook, "captured.started.time", "captured.started.time is string, not bool".to_owned()),
            (
                &webhook,
                "event.type == alert.labels.x",
                "unknown variable \"alert\": it is what trigger.alert matched".to_owned(),
            ),
            (
                &webhook,
                "target.spec == null",
                "unknown variable \"target\": it is for `unless`, `with` and `verify.when`".to_owned(),
            ),
        ] {
            assert_eq!(
                told(trigger.clone(), given),
                [format!("spec.correlate.sequence[1].given: {expected}")],
                "{given}"
            );
        }
    }

    #[test]
    fn a_verification_is_over_the_target() {
        let spec = json!({"serviceAccountName": "h", "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}},
            "when": "true", "ladder": [{"run": "x", "verify": {"when": "object.status.phase == 'Running'"}}]});
        let known = Known { actions: [("x", None)].into(), partial: true, ..Known::default() };
        let found = rule(&serde_json::from_value(spec).expect("a spec"), &known);
        let found: Vec<_> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            found,
            [
                "spec.ladder[0].verify.when: unknown variable \"object\": verify.when is over `target` and `now`"
            ]
        );
    }

    #[test]
    fn a_proof_suits_the_kind_of_the_target() {
        let told = |trigger: &Value, target: &Value, when: &str| {
            let spec = json!({"serviceAccountName": "h", "trigger": trigger, "target": target,
                "when": if trigger.get("resource").is_some() { json!("true") } else { Value::Null },
                "ladder": [{"run": "x", "verify": {"when": when}}]});
            let schemas = Schemas::built_in();
            let known = Known { actions: [("x", None)].into(), partial: true, schemas, ..Known::default() };
            let found = rule(&serde_json::from_value(spec).expect("a spec"), &known);
            let found = found.iter().filter(|found| found.path == "spec.ladder[0].verify.when");
            found.map(|found| format!("{:?} {}", found.severity, found.message)).collect::<Vec<_>>()
        };
        let of = |kind: &str| {
            let version = if kind == "Deployment" { "apps/v1" } else { "v1" };
            json!({"resource": {"apiVersion": version, "kind": kind}})
        };
        let owner = |version: &str, kind: &str| json!({"owner": {"apiVersion": version, "kind": kind}});
        let regarding = |kind: &str| json!({"event": {"regardingKind": kind}});
        let takes = |function: &str, got: &str, takes: &str| {
            format!("{function} does not take {got}; it takes {takes}")
        };
        let not = |function: &str, got: &str, wanted: &str| format!("Error {}", takes(function, got, wanted));
        let unless_asked =
            |function: &str, got: &str, wanted: &str| format!("Warning {}", takes(function, got, wanted));
        let (workloads, default) = ("Deployment or StatefulSet or DaemonSet", Value::Null);
        let (object, workload) = (json!("object"), json!("workload"));
        let (deployment, rollout) = (owner("apps/v1", "Deployment"), owner("example.com/v1", "Rollout"));
        let hardly = |function: &str, takes: &str| {
            format!(
                "Warning {function} takes {takes}, and target is what owns the Pod, if anything does; use what suits that, or target: object"
            )
        };
        let (oom, rolled) = ("!oomKilled(target)", "rolloutComplete(target)");
        let late = "!notReadyFor(target, duration('5m'))";
        for (trigger, target, when, expected) in [
            (of("Pod"), &default, oom, Some(hardly("oomKilled", "a Pod"))),
            (of("Pod"), &workload, late, Some(hardly("notReadyFor", "what has a condition Ready"))),
            (regarding("Pod"), &default, oom, Some(hardly("oomKilled", "a Pod"))),
            (of("Pod"), &default, rolled, None),
            (of("Pod"), &default, "target.kind == 'Pod' && !oomKilled(target)", None),
            (of("Pod"), &default, "target.status.any.thing == 3", None),
            (of("Pod"), &object, oom, None),
            (of("Pod"), &object, rolled, Some(not("rolloutComplete", "Pod", workloads))),
            (of("Pod"), &deployment, oom, Some(not("oomKilled", "Deployment", "Pod"))),
            (of("Pod"), &rollout, oom, Some(unless_asked("oomKilled", "Rollout", "Pod"))),
            (of("Pod"), &rollout, rolled, Some(unless_asked("rolloutComplete", "Rollout", workloads))),
            (of("Pod"), &rollout, "target.kind == 'Rollout' ? true : rolloutComplete(target)", None),
            (of("Pod"), &rollout, "target.status.phase == 'Healthy'", None),
            (of("Deployment"), &default, oom, Some(not("oomKilled", "Deployment", "Pod"))),
            (of("Node"), &default, late, None),
            (regarding("Node"), &default, oom, Some(unless_asked("oomKilled", "Node", "Pod"))),
            (json!({"event": {}}), &default, oom, None),
        ] {
            let expected: Vec<_> = expected.into_iter().collect();
            assert_eq!(told(&trigger, target, when), expected, "{when} of {target} after {trigger}");
        }
    }
}
