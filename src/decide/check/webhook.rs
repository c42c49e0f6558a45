//! Checks one Webhook, and what Rules say of Webhooks.

use super::{Known, expression};
use crate::api::{RuleSpec, WebhookSpec};
use crate::decide::path::Path;
use crate::decide::problem::{Problem, Severity};
use crate::expr::{Scope, Type, closest};

/// Everything that is wrong with a Webhook beyond its schema.
pub fn check(spec: &WebhookSpec) -> Vec<Problem> {
    let root = Path::default().member("spec");
    let Some(mapping) = &spec.generic else { return Vec::new() };
    let path = root.member("generic");
    let fields = [
        ("id", Some(&mapping.id)),
        ("type", Some(&mapping.event_type)),
        ("time", mapping.time.as_ref()),
        ("source", mapping.source.as_ref()),
    ];
    let found = fields.into_iter().filter_map(|(name, source)| Some((name, source?)));
    let (signed, scope) = (spec.authentication.hmac.is_some(), Scope::of(spec.variables().iter().copied()));
    found
        .flat_map(|(name, source)| expression(source, &path.member(name), &scope, &Type::Any))
        .map(|problem| match problem.message.contains("\"headers\"") && signed {
            true => problem.help("a signature does not cover headers: read body, or use bearer"),
            false => problem,
        })
        .collect()
}

/// What is wrong with the Webhook that a Rule names.
pub(super) fn named_by(spec: &RuleSpec, known: &Known<'_>) -> Option<Problem> {
    let name = spec.trigger.webhook_name()?;
    let trigger = Path::default().member("spec").member("trigger");
    let path = match &spec.trigger.alert {
        Some(_) => trigger.member("alert").member("webhook"),
        None => trigger.member("webhook").member("name"),
    };
    if name.contains('/') {
        let place = known.namespace.map_or("their own namespace".to_owned(), |name| format!("{name:?}"));
        return Some(Problem::error(path.to_string(), format!("{name:?}: refs must stay in {place}")));
    }
    match known.webhooks.get(name) {
        None => {
            let place = known.namespace.map(|name| format!(" in namespace {name:?}")).unwrap_or_default();
            let severity = if known.partial { Severity::Warning } else { Severity::Error };
            let help =
                closest(name, known.webhooks.keys().copied()).map(|name| format!("did you mean {name:?}?"));
            let problem = Problem::error(path.to_string(), format!("Webhook {name:?} not found{place}"));
            Some(Problem { severity, help, ..problem })
        }
        Some(Some(webhook)) => {
            let wants_alerts = spec.trigger.alert.is_some();
            let message = match (wants_alerts, webhook.alertmanager.is_some()) {
                (true, false) => "receives no alerts: it is not of type alertmanager",
                (false, true) => "receives alerts: use trigger.alert",
                _ => return None,
            };
            Some(Problem::error(path.to_string(), format!("Webhook {name:?} {message}")))
        }
        Some(None) => None,
    }
}

/// What another Rule takes does not come to one for what no other takes: it has not stayed away for that.
pub(super) fn unmatched(spec: &RuleSpec) -> Option<Problem> {
    let absent = spec.correlate.as_ref().and_then(|correlate| correlate.absent.as_ref());
    absent.filter(|_| spec.trigger.is_unmatched())?;
    let message =
        "what another Rule takes would seem to have stayed away: this one is for what no other takes";
    Some(Problem::error("spec.correlate.absent", message).help("leave `unmatched` out"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn what_others_take_has_not_stayed_away() {
        let told = |webhook: Value, correlate: Value| {
            let spec = json!({"serviceAccountName": "h", "trigger": {"webhook": webhook}, "ladder": [], "correlate": correlate});
            unmatched(&serde_json::from_value(spec).expect("a spec")).map(|problem| problem.path)
        };
        let member = |name: &str| json!({"name": name, "when": "true"});
        let absent =
            json!({"within": "10m", "absent": {"after": member("began"), "expected": member("ended")}});
        let (own, rest) = (json!({"name": "w"}), json!({"name": "w", "unmatched": true}));
        assert_eq!(told(rest.clone(), absent.clone()).as_deref(), Some("spec.correlate.absent"));
        assert_eq!(told(own, absent), None);
        assert_eq!(told(rest, json!({"within": "10m", "count": 3})), None);
    }

    fn webhook(changes: Value) -> WebhookSpec {
        let mut spec = json!({"serviceAccountName": "r", "authentication": {"hmac": {"secretRef": {"name": "s", "key": "k"}}}});
        json_patch::merge(&mut spec, &changes);
        serde_json::from_value(spec).expect("a Webhook")
    }

    #[test]
    fn a_mapping_compiles() {
        let said = |changes| check(&webhook(changes)).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            said(json!({"generic": {"id": "body.id", "type": "'x'", "time": "timestamp(body.at)"}})),
            [""; 0]
        );
        let found = said(json!({"generic": {"id": "headers['x']", "type": "bdy.x"}}));
        assert_eq!(
            found,
            [
                "spec.generic.id: unknown variable \"headers\"; a signature does not cover headers: read body, or use bearer",
                "spec.generic.type: unknown variable \"bdy\"; did you mean \"body\"?",
            ]
        );
    }

    #[test]
    fn a_rule_names_a_webhook_that_fits() {
        let (alerts, events) = (webhook(json!({"alertmanager": {}})), webhook(json!({"github": {}})));
        let known = |partial| Known {
            namespace: Some("a"),
            webhooks: [("alerts", Some(&alerts)), ("events", Some(&events)), ("elsewhere", None)].into(),
            partial,
            ..Known::default()
        };
        let said = |trigger: Value, partial| {
            let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "trigger": trigger});
            let problem = named_by(&serde_json::from_value(spec).expect("a Rule"), &known(partial));
            problem.map(|problem| format!("{:?} {problem}", problem.severity))
        };
        for (trigger, expected) in [
            (json!({"alert": {"webhook": "alerts"}}), None),
            (json!({"webhook": {"name": "events"}}), None),
            (json!({"webhook": {"name": "elsewhere"}}), None),
            (
                json!({"alert": {"webhook": "alrts"}}),
                Some(
                    "Error spec.trigger.alert.webhook: Webhook \"alrts\" not found in namespace \"a\"; did you mean \"alerts\"?",
                ),
            ),
            (
                json!({"alert": {"webhook": "events"}}),
                Some(
                    "Error spec.trigger.alert.webhook: Webhook \"events\" receives no alerts: it is not of type alertmanager",
                ),
            ),
            (
                json!({"webhook": {"name": "alerts"}}),
                Some(
                    "Error spec.trigger.webhook.name: Webhook \"alerts\" receives alerts: use trigger.alert",
                ),
            ),
            (
                json!({"webhook": {"name": "b/x"}}),
                Some("Error spec.trigger.webhook.name: \"b/x\": refs must stay in \"a\""),
            ),
        ] {
            assert_eq!(said(trigger, false).as_deref(), expected);
        }
        let missing = said(json!({"webhook": {"name": "nothing"}}), true).expect("a warning");
        assert!(missing.starts_with("Warning"), "{missing}");
    }
}
