//! Whether a rule can be used: its text, what it names, its account's rights; and the conditions that say so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::seen::Seen;
use crate::api::{
    Action, ActionSpec, AlertPhase, AlertTrigger, Condition, ConditionStatus, ConditionType, Mode, Moment,
    Progress, Reason, Rule, RuleSpec, ScheduleTrigger, Trigger, condition, set_condition, set_progress,
};
use crate::cluster::account::Account;
use crate::cluster::{Error, Result};
use crate::controller::context::Context;
use crate::controller::rights::{self, lacking};
use crate::controller::strange::not_known;
use crate::decide::check::{self, Known};
use crate::decide::matching::CompiledRule;
use crate::decide::problem::Severity;
use crate::decide::rights::needed;
use crate::expr::Schemas;

/// How old the permission may be by which a rule that is known goes on watching. What it decides is decided by one that is read then.
const WATCHING: Duration = Duration::from_secs(10);

/// What checking a rule gave.
#[derive(Clone, Default)]
pub struct Checked {
    /// The rule, if its text and all that it names is good.
    pub compiled: Option<Arc<CompiledRule>>,
    /// What of it only a later version of fother knows.
    pub unknown: Option<String>,
    /// What is wrong with its text.
    pub mistake: Option<String>,
    /// What it names that is not there.
    pub missing: Option<(Reason, String)>,
    /// Which right or permission is missing.
    pub forbidden: Option<String>,
    /// Which kind is not served.
    pub unserved: Option<String>,
    /// What in its text is doubtful, though it can be used.
    pub doubts: Option<String>,
    /// Whether the fields of a kind that it reads are not known yet, so that nothing was said of them.
    pub is_partial: bool,
}

/// Checks the text and what it names.
pub(super) fn check(context: &Context, rule: &Rule, schemas: Schemas) -> Checked {
    let (mistake, doubts) = problems(context, rule, schemas);
    if mistake.is_some() {
        return Checked { mistake, ..Checked::default() };
    }
    let compiled = match CompiledRule::compile(rule) {
        Ok(compiled) => compiled,
        Err(problems) => {
            let texts: Vec<_> = problems.iter().map(ToString::to_string).collect();
            return Checked { mistake: Some(texts.join("; ")), ..Checked::default() };
        }
    };
    if let Some(missing) = unheard(context, rule) {
        return Checked { missing: Some((Reason::WebhookNotFound, missing)), ..Checked::default() };
    }
    match actions(context, rule) {
        Ok(_) => Checked { compiled: Some(Arc::new(compiled)), doubts, ..Checked::default() },
        Err(missing) => Checked { missing: Some((Reason::ActionNotFound, missing)), ..Checked::default() },
    }
}

/// What of the rule or its Actions this version does not know. It may be what was to hold the rule back, so the rule is
/// not used as if it were not there.
pub(super) fn unknown(context: &Context, rule: &Rule) -> Option<String> {
    let namespace = rule.namespace().unwrap_or_default();
    let own = context.rules.unknown_field(&namespace, &rule.name_any());
    let state = rule.spec.trigger.alert.as_ref().map(|alert| alert.state);
    let values = [
        ("spec.mode", rule.spec.mode == Mode::Unknown),
        ("spec.trigger.alert.state", state == Some(AlertPhase::Unknown)),
        ("spec.trigger.resource.lifecycle", rule.spec.trigger.lifecycle().contains(&Moment::Unknown)),
    ];
    let value = values.into_iter().find(|(_, is_unknown)| *is_unknown).map(|(field, _)| field.to_owned());
    if let Some(field) = own.or(value) {
        return Some(not_known(&field));
    }
    rule.spec.ladder.iter().find_map(|rung| {
        let field = context.actions.unknown_field(&namespace, &rung.run)?;
        Some(format!("Action {:?}: {}", rung.run, not_known(&field)))
    })
}

/// The Webhook that a rule names and that is not there.
fn unheard(context: &Context, rule: &Rule) -> Option<String> {
    let (name, namespace) = (rule.spec.trigger.webhook_name()?, rule.namespace().unwrap_or_default());
    let there = context.webhooks.get(&namespace, name).is_some();
    (!there).then(|| format!("Webhook {name:?} not found in namespace {namespace:?}"))
}

/// What `fother validate` would say of the rule among the Actions that there are: errors, and warnings. An Action that is
/// missing is not a mistake of the text: it may come.
fn problems(context: &Context, rule: &Rule, schemas: Schemas) -> (Option<String>, Option<String>) {
    let namespace = rule.namespace().unwrap_or_default();
    let named = rule.spec.ladder.iter().filter_map(|rung| context.actions.get(&namespace, &rung.run));
    let named: Vec<Arc<Action>> = named.collect();
    let actions =
        named.iter().map(|action| (action.metadata.name.as_deref().unwrap_or_default(), Some(&action.spec)));
    let webhook = rule.spec.trigger.webhook_name().and_then(|name| context.webhooks.get(&namespace, name));
    let webhooks = webhook
        .iter()
        .map(|webhook| (webhook.metadata.name.as_deref().unwrap_or_default(), Some(&webhook.spec)));
    let known = Known {
        namespace: Some(&namespace),
        actions: actions.collect(),
        webhooks: webhooks.collect(),
        partial: true,
        schemas,
    };
    let alone = check::follows(&[(&rule.name_any(), &rule.spec)]).into_iter().map(|(_, problem)| problem);
    let problems: Vec<_> = check::rule(&rule.spec, &known).into_iter().chain(alone).collect();
    let of = |severity| {
        let problems = problems.iter().filter(|problem| problem.severity == severity);
        let texts: Vec<_> = problems.map(ToString::to_string).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    };
    (of(Severity::Error), of(Severity::Warning))
}

/// The Actions that a rule names.
pub fn actions(context: &Context, rule: &Rule) -> std::result::Result<BTreeMap<String, ActionSpec>, String> {
    let namespace = rule.namespace().unwrap_or_default();
    let mut found = BTreeMap::new();
    for rung in &rule.spec.ladder {
        let action = context.actions.get(&namespace, &rung.run);
        let action =
            action.ok_or_else(|| format!("Action {:?} not found in namespace {namespace:?}", rung.run))?;
        found.insert(rung.run.clone(), action.spec.clone());
    }
    Ok(found)
}

/// The account, if the rule can be used at all.
pub async fn authorize(
    context: &Context,
    rule: &Rule,
    checked: Checked,
) -> Result<(Checked, Option<Account>)> {
    if checked.compiled.is_none() {
        return Ok((checked, None));
    }
    let namespace = rule.namespace().unwrap_or_default();
    let (accounts, name) = (&context.accounts, &rule.spec.service_account_name);
    let denied = |text: String| Ok((Checked { forbidden: Some(text), ..checked.clone() }, None));
    let refused = |error: &Error| denied(rights::refused(&error.to_string(), (&namespace, name)));
    let is_known = rule.status.as_ref().and_then(|s| s.observed_generation) == rule.metadata.generation;
    let age = if is_known { WATCHING } else { Duration::ZERO };
    let account = match accounts.recent(&context.home, &namespace, name, age).await {
        Ok(account) => account,
        Err(error) if error.is_forbidden() => return refused(&error),
        Err(error) => return Err(error),
    };
    let looking = (&context.home, &context.kinds, &context.reviews);
    let actions = actions(context, rule).unwrap_or_default();
    match lacking(looking, needed(&rule.spec, actions.values()), &account).await {
        Ok(None) => Ok((checked, Some(account))),
        Ok(Some(text)) => denied(text),
        Err(error @ Error::UnknownKind { .. }) => {
            Ok((Checked { unserved: Some(error.to_string()), ..checked }, None))
        }
        Err(error) if error.is_forbidden() => refused(&error),
        Err(error) => Err(error),
    }
}

/// Sets the rule's conditions.
pub fn conditions(
    conditions: &mut Vec<Condition>,
    rule: &Rule,
    checked: &Checked,
    seen: Option<&Seen>,
    now: Timestamp,
) {
    use {ConditionStatus as S, ConditionType as T, Reason as R};
    let generation = rule.metadata.generation;
    let broken = seen.and_then(|seen| seen.broken.clone()).or_else(|| checked.unserved.clone());
    let (denied, broken) = match broken {
        Some(text) if text.contains("forbidden") => {
            let account = (&*rule.namespace().unwrap_or_default(), &*rule.spec.service_account_name);
            (Some(rights::refused(&text, account)), None)
        }
        other => (None, other),
    };
    let denied = checked.forbidden.clone().or(denied);
    let verdict = |problem: &Option<String>, good: R, bad: R, text: &str| match problem {
        Some(problem) => (S::False, bad, problem.clone()),
        None => (S::True, good, text.to_owned()),
    };
    let (wrong, why) = match &checked.unknown {
        Some(_) => (&checked.unknown, R::UnsupportedValue),
        None => (&checked.mistake, R::InvalidExpression),
    };
    let said = condition(conditions, T::Accepted).filter(|said| said.observed_generation == generation);
    let valid = match (&checked.doubts, said) {
        // Doubts that come with the fields of a kind are not taken back because those are not known again yet.
        (_, Some(said)) if checked.is_partial && said.status == S::True.as_str() => &said.message.clone(),
        (Some(doubts), _) => &format!("the text is valid, and doubtful: {doubts}"),
        (None, _) => "the text is valid",
    };
    let accepted = verdict(wrong, R::Accepted, why, valid);
    let (missing, text) = checked.missing.clone().unzip();
    // What was not looked at, because of what comes before it, is not known to be good.
    let unasked = |what: &str| (S::Unknown, R::Pending, format!("not asked while {what} is False"));
    let resolved = match wrong {
        Some(_) => unasked("Accepted"),
        None => verdict(
            &text,
            R::ResolvedRefs,
            missing.unwrap_or(R::ActionNotFound),
            "everything it names exists",
        ),
    };
    let authorized = match (wrong, &text) {
        (Some(_), _) => unasked("Accepted"),
        (None, Some(_)) => unasked("ResolvedRefs"),
        (None, None) => {
            verdict(&denied, R::Authorized, R::MissingPermissions, "the account may do what the rule needs")
        }
    };
    let synced = seen.is_some_and(|seen| seen.sight.heard_at.is_some());
    let ready = [&accepted, &resolved, &authorized]
        .into_iter()
        .find(|(status, ..)| *status == S::False)
        .cloned()
        .or_else(|| broken.map(|text| (S::False, R::SourceUnavailable, text)))
        .unwrap_or_else(|| match synced {
            true => (S::True, R::Active, watching(checked, seen, now)),
            false => (S::False, R::Progressing, "the watch is not in sync yet".to_owned()),
        });
    // A restarted controller is out of sync for a moment: that is no news about a rule that was ready.
    let still = ready.1 == R::Progressing && was_ready(conditions, generation);
    if !still {
        set_progress(conditions, (progress(ready.1), ready.1), &ready.2, generation, now);
    }
    let ready = (!still).then_some((T::Ready, ready));
    for (of, (status, reason, message)) in
        [(T::Accepted, accepted), (T::ResolvedRefs, resolved), (T::Authorized, authorized)]
            .into_iter()
            .chain(ready)
    {
        set_condition(conditions, (of, status, reason), message, generation, now);
    }
}

/// What is to be known of a rule that works.
fn watching(checked: &Checked, seen: Option<&Seen>, now: Timestamp) -> String {
    let mut text = "watching".to_owned();
    if let Some(mistake) = seen.and_then(|seen| seen.mistake.as_ref()) {
        text.push_str("; not decided: ");
        text.push_str(mistake);
    }
    let restarts =
        |spec: &RuleSpec| spec.hold_for.is_some() && spec.since.is_none() && spec.trigger.alert.is_none();
    if checked.compiled.as_ref().is_some_and(|rule| restarts(&rule.spec)) {
        text.push_str("; without `since`, `for` starts again when the controller does");
    }
    let schedule = checked.compiled.as_ref().and_then(|rule| rule.schedule.as_ref());
    if schedule.is_some_and(|schedule| schedule.next(now).is_none()) {
        text.push_str("; no date of its schedule is to come");
    }
    if let Some(held) = seen.and_then(|seen| seen.held.as_ref()) {
        text.push_str("; holds ");
        text.push_str(held);
    }
    if let Some(blind) = seen.and_then(|seen| seen.blind.as_ref()) {
        text.push_str("; ");
        text.push_str(blind);
    }
    text
}

/// What a rule watches, in the words of a column.
pub fn trigger(trigger: &Trigger) -> String {
    let text = match trigger {
        Trigger { resource: Some(resource), .. } if resource.lifecycle.is_empty() => resource.kind.clone(),
        Trigger { resource: Some(resource), .. } => {
            let moments: Vec<_> = resource.lifecycle.iter().map(|moment| format!("{moment:?}")).collect();
            format!("{} {}", resource.kind, moments.join(","))
        }
        Trigger { event: Some(event), .. } if event.reasons.is_empty() => "Event".to_owned(),
        Trigger { event: Some(event), .. } => format!("Event {}", event.reasons.join(",")),
        Trigger { schedule: Some(schedule), .. } => of_the_clock(schedule),
        Trigger { alert: Some(alert), .. } => of_alerts(alert),
        Trigger { webhook: Some(webhook), .. } if webhook.types.is_empty() => {
            format!("Webhook {}", webhook.name)
        }
        Trigger { webhook: Some(webhook), .. } => format!("Webhook {}", webhook.types.join(",")),
        Trigger { execution: Some(execution), .. } => format!("Execution {}", execution.rules.join(",")),
        _ => String::new(),
    };
    text.chars().take(256).collect()
}

/// The names of its alerts, and that it is about their end if it is.
fn of_alerts(trigger: &AlertTrigger) -> String {
    let state = if trigger.state.is_firing() { String::new() } else { format!("{:?}", trigger.state) };
    let words = ["Alert".to_owned(), state, trigger.names.join(",")];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Its times, as they are written.
fn of_the_clock(schedule: &ScheduleTrigger) -> String {
    match (&schedule.cron, schedule.every) {
        (Some(cron), _) => cron.clone(),
        (None, Some(every)) => format!("every {every}"),
        (None, None) => format!("at {}", schedule.at.join(", ")),
    }
}

/// How work on a rule goes that is Ready or not for a reason. What is not there or not allowed needs a person; a watch
/// is opened again by itself.
fn progress(ready: Reason) -> Progress {
    match ready {
        Reason::Active => Progress::Settled,
        Reason::Progressing | Reason::SourceUnavailable => Progress::Reconciling,
        _ => Progress::Stalled,
    }
}

fn was_ready(conditions: &[Condition], generation: Option<i64>) -> bool {
    condition(conditions, ConditionType::Ready).is_some_and(|ready| {
        ready.status == ConditionStatus::True.as_str() && ready.observed_generation == generation
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_whose_watch_is_silent_is_not_ready() {
        let (mut told, now, rule) =
            (Vec::new(), Timestamp::UNIX_EPOCH, Rule::new("leak", RuleSpec::default()));
        let sight = crate::decide::view::Sight { heard_at: Some(now), ..Default::default() };
        let mut seen = Seen { sight, ..Seen::default() };
        let mut ready = |seen: &Seen| {
            conditions(&mut told, &rule, &Checked::default(), Some(seen), now);
            let of = |kind| condition(&told, kind).map(|c| [c.status.clone(), c.reason.clone()]);
            (of(ConditionType::Ready), of(ConditionType::Reconciling))
        };
        let said = |status: &str, reason: &str| Some([status.to_owned(), reason.to_owned()]);
        assert_eq!(ready(&seen).0, said("True", "Active"));
        seen.broken = Some("nothing was heard from the watch for two minutes".to_owned());
        let unavailable = said("False", "SourceUnavailable");
        assert_eq!(ready(&seen), (unavailable, said("True", "SourceUnavailable")));
        seen.broken = None;
        assert_eq!(ready(&seen).0, said("True", "Active"), "it is ready again when the watch is heard again");
    }

    #[test]
    fn a_rule_that_works_says_what_it_cannot_know() {
        let rule = Rule::new("leak", RuleSpec::default());
        let sight =
            crate::decide::view::Sight { heard_at: Some(Timestamp::UNIX_EPOCH), ..Default::default() };
        let ready = |blind: Option<&str>| {
            let seen = Seen { sight, blind: blind.map(str::to_owned), ..Seen::default() };
            let mut told = Vec::new();
            conditions(&mut told, &rule, &Checked::default(), Some(&seen), Timestamp::UNIX_EPOCH);
            condition(&told, ConditionType::Ready).map(|c| format!("{} {}", c.status, c.message))
        };
        assert_eq!(ready(None).as_deref(), Some("True watching"));
        let blind = "Events of before 10:00 may be forgotten";
        assert_eq!(
            ready(Some(blind)).as_deref(),
            Some("True watching; Events of before 10:00 may be forgotten")
        );
    }

    #[test]
    fn what_was_not_asked_is_not_known() {
        use ConditionType::{Accepted, Authorized, Ready, ResolvedRefs};
        let rule = Rule::new("leak", RuleSpec::default());
        let said = |checked: &Checked| {
            let mut told = Vec::new();
            conditions(&mut told, &rule, checked, None, Timestamp::UNIX_EPOCH);
            let of = |kind| {
                condition(&told, kind).map(|c| format!("{} {}", c.status, c.reason)).unwrap_or_default()
            };
            [Accepted, ResolvedRefs, Authorized, Ready].map(of)
        };
        let wrong = Checked { mistake: Some("spec.when: x".to_owned()), ..Checked::default() };
        let refused = "False InvalidExpression";
        assert_eq!(said(&wrong), [refused, "Unknown Pending", "Unknown Pending", refused]);
        let missing = (Reason::ActionNotFound, "Action \"x\" not found".to_owned());
        let missing = Checked { missing: Some(missing), ..Checked::default() };
        let lacks = "False ActionNotFound";
        assert_eq!(said(&missing), ["True Accepted", lacks, "Unknown Pending", lacks]);
        let denied = Checked { forbidden: Some("no".to_owned()), ..Checked::default() };
        let lacks = "False MissingPermissions";
        assert_eq!(said(&denied), ["True Accepted", "True ResolvedRefs", lacks, lacks]);
    }

    #[test]
    fn every_trigger_has_a_short_name() {
        let of = |value: serde_json::Value| trigger(&serde_json::from_value(value).expect("a trigger"));
        for (value, expected) in [
            (serde_json::json!({"alert": {"webhook": "am"}}), "Alert"),
            (
                serde_json::json!({"alert": {"webhook": "am", "names": ["DiskFull", "DiskSlow"]}}),
                "Alert DiskFull,DiskSlow",
            ),
            (serde_json::json!({"alert": {"webhook": "am", "state": "Resolved"}}), "Alert Resolved"),
            (
                serde_json::json!({"alert": {"webhook": "am", "names": ["DiskFull"], "state": "Resolved"}}),
                "Alert Resolved DiskFull",
            ),
            (serde_json::json!({"webhook": {"name": "shop"}}), "Webhook shop"),
            (serde_json::json!({"webhook": {"name": "shop", "types": ["deploy"]}}), "Webhook deploy"),
            (serde_json::json!({"event": {"reasons": ["FailedMount"]}}), "Event FailedMount"),
            (serde_json::json!({"schedule": {"cron": "0 3 * * *"}}), "0 3 * * *"),
            (serde_json::json!({"schedule": {"every": "90s"}}), "every 1m30s"),
            (
                serde_json::json!({"schedule": {"at": ["2026-12-24T18:00:00Z", "2026-12-31T18:00:00Z"]}}),
                "at 2026-12-24T18:00:00Z, 2026-12-31T18:00:00Z",
            ),
        ] {
            assert_eq!(of(value), expected);
        }
    }
}
