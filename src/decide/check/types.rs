//! What is known of the variables of a Rule's and an Action's expressions: the objects from the
//! schemas of their kinds, the rest from the definitions themselves.

use std::collections::BTreeSet;

use crate::api::{ALERT_TEXTS, ObjectReference, Parameter, RuleSpec, Target, Trigger, ValueType};
use crate::decide::change::OLD;
use crate::decide::matching::variables;
use crate::decide::{execution::rung, operation, verify};
use crate::expr::{ObjectType, Schemas, Scope, Type};

/// What `event.data` is of a Kubernetes Event.
const EVENT: (&str, &str) = ("events.k8s.io/v1", "Event");

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
    let scope = Scope::of(variables(&spec.trigger).iter().copied());
    if let Some(resource) = &spec.trigger.resource {
        return with_object(scope, schemas.of(&resource.api_version, &resource.kind));
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
    match spec.correlate {
        Some(_) => scope.with("events").with("captured"),
        None => scope,
    }
}

/// What an object is, it was.
fn with_object(scope: Scope, of: Type) -> Scope {
    scope.with_type(OLD, of.clone()).with_type("object", of)
}

/// The scope of a rung's `with`.
pub(super) fn with(spec: &RuleSpec, schemas: &Schemas) -> Scope {
    let mut scope =
        Scope::of(rung::VARIABLES).with_type("target", target(spec, schemas)).with_type("ladder", ladder());
    if let Some(resource) = &spec.trigger.resource {
        scope = with_object(scope, schemas.of(&resource.api_version, &resource.kind));
    }
    if spec.trigger.resource.is_none() {
        scope = with_event(scope, spec, schemas);
    }
    scope
}

/// The scope of `verify.when`.
pub(super) fn proof(spec: &RuleSpec, schemas: &Schemas) -> Scope {
    Scope::of(verify::VARIABLES).with_type("target", target(spec, schemas))
}

/// The same for a run by hand, which names its target.
pub(super) fn proof_of(target: Option<&ObjectReference>, schemas: &Schemas) -> Scope {
    let of = target.map_or(Type::Any, |target| schemas.of(&target.api_version, &target.kind));
    Scope::of(verify::VARIABLES).with_type("target", of)
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
    let data = match &spec.trigger {
        Trigger { event: Some(_), .. } => schemas.of(EVENT.0, EVENT.1),
        Trigger { alert: Some(_), .. } => alert(),
        Trigger { execution: Some(_), .. } => ended(),
        _ => Type::Any,
    };
    object("event", texts.into_iter().chain([("data".to_owned(), data)]))
}

/// The end of an Execution, as [`ends`](crate::decide::ends) tells it.
fn ended() -> Type {
    let texts =
        |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), Type::String)).collect::<Vec<_>>();
    let target = object("target", texts(&["apiVersion", "kind", "namespace", "name", "uid"]));
    let own = texts(&["execution", "rule", "outcome", "reason", "message"]);
    object("event.data", own.into_iter().chain([("target".to_owned(), target)]))
}

/// An alert of Alertmanager or Grafana, as it is taken in.
fn alert() -> Type {
    let texts = ["fingerprint", "status", "startsAt", "endsAt", "externalURL"];
    let texts = texts.into_iter().chain(ALERT_TEXTS).map(|name| (name.to_owned(), Type::String));
    let maps = ["labels", "annotations"].map(|name| (name.to_owned(), Type::map(Type::String, Type::String)));
    let values = ("values".to_owned(), Type::map(Type::String, Type::Any));
    object("alert", texts.chain(maps).chain([values]))
}

/// What the remediation is of, if the Rule's text says so: a workload may be of several kinds.
fn target(spec: &RuleSpec, schemas: &Schemas) -> Type {
    let resource = spec.trigger.resource.as_ref();
    match (&spec.target, resource) {
        (Some(Target::Owner(owner)), _) => schemas.of(&owner.api_version, &owner.kind),
        (Some(Target::Ref(object)), _) => schemas.of(&object.api_version, &object.kind),
        (Some(Target::Object), Some(resource)) => schemas.of(&resource.api_version, &resource.kind),
        (None, Some(resource)) if resource.kind != "Pod" => schemas.of(&resource.api_version, &resource.kind),
        _ => Type::Any,
    }
}

/// The rungs so far.
fn ladder() -> Type {
    let fields =
        [("run", Type::String), ("state", Type::String), ("outputs", Type::map(Type::String, Type::Any))];
    Type::list(object("ladder[]", fields.map(|(name, of)| (name.to_owned(), of))))
}
