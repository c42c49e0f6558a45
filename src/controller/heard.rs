//! What Webhooks received, as one rule sees it: by the store, or by what the API server has at this moment.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{StreamExt, stream};
use k8s_openapi::jiff::Timestamp;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::context::Context;
use crate::api::{EventBatch, Execution, LABEL, ObjectReference, Target};
use crate::cluster::{Error, Result};
use crate::decide::firing;
use crate::decide::identity::TargetKey;
use crate::decide::inbox::{self, Inbox, Item};
use crate::decide::lead::{self, Lead};
use crate::decide::matching::CompiledRule;
use crate::decide::owed::rules_of;
use crate::source::watch::now;

/// Batches that are read at a time.
const READING: usize = 8;

/// Where to look.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum From {
    /// What the watch has brought.
    Store,
    /// What the API server has at this moment.
    ApiServer,
}

/// What a rule has before it.
pub async fn inbox(context: &Context, rule: &CompiledRule, from: From) -> Result<Inbox> {
    let Some(webhook) = rule.spec.trigger.webhook_name() else { return Ok(Inbox::default()) };
    let batches = match from {
        From::Store => stored(context, rule),
        From::ApiServer => Box::pin(listed(context, &rule.facts.namespace, webhook)).await?,
    };
    Ok(inbox::of(rule, &batches, &beside(context, rule, &batches), now()))
}

/// The Rules that take nothing from one for what no other takes: others of its like, and those about the ends of alerts.
fn beside(context: &Context, rule: &CompiledRule, batches: &[Arc<EventBatch>]) -> BTreeSet<String> {
    if !rule.spec.trigger.is_unmatched() {
        return BTreeSet::new();
    }
    let places =
        batches.iter().flat_map(|batch| (0..batch.spec.events.len()).map(move |place| (batch, place)));
    let mut named: BTreeSet<&str> = places.flat_map(|(batch, place)| rules_of(batch, place)).collect();
    named.retain(|name| {
        let known = context.rules.get(&rule.facts.namespace, name);
        known.is_some_and(|one| one.spec.trigger.is_unmatched() || one.spec.trigger.is_about_ends())
    });
    named.into_iter().map(str::to_owned).collect()
}

/// What the watch has brought of a rule's Webhook.
fn stored(context: &Context, rule: &CompiledRule) -> Vec<Arc<EventBatch>> {
    let webhook = rule.spec.trigger.webhook_name();
    webhook.map(|webhook| context.batches.about(&rule.facts.namespace, webhook)).unwrap_or_default()
}

/// What a rule of this text could not decide about last, and why.
pub fn mistake(context: &Context, rule: &CompiledRule, text: &str) -> Option<String> {
    inbox::mistake((&rule.facts.name, text), &stored(context, rule))
}

/// Only what is not in the store as it is there is read: in a flood all of it is many megabytes, for each that fires.
async fn listed(context: &Context, namespace: &str, webhook: &str) -> Result<Vec<Arc<EventBatch>>> {
    let api: Api<EventBatch> = Api::namespaced(context.home.clone(), namespace);
    let mut params = ListParams::default().labels(&format!("{}={webhook}", LABEL.webhook)).limit(500);
    let (mut found, mut unknown) = (Vec::new(), Vec::new());
    loop {
        let page = api.list_metadata(&params).await.map_err(Error::request("list EventBatches"))?;
        for there in page.items {
            let known = context.batches.get(namespace, &there.name_any());
            match known.filter(|known| known.metadata.resource_version == there.metadata.resource_version) {
                Some(known) => found.push(known),
                None => unknown.push(there.name_any()),
            }
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params.continue_token = Some(token),
            None => break,
        }
    }
    let reads: Vec<_> = unknown.iter().map(|name| api.get_opt(name)).collect();
    let mut read = stream::iter(reads).buffer_unordered(READING);
    while let Some(batch) = read.next().await {
        found.extend(batch.map_err(Error::request("read EventBatches"))?.map(Arc::new));
    }
    Ok(found)
}

/// Whether the kind of a rule's targets has namespaces.
pub async fn is_namespaced(context: &Context, rule: &CompiledRule) -> Result<bool> {
    match &rule.spec.target {
        Some(Target::Ref(object)) => {
            Ok(context.kinds.find(&context.home, &object.api_version, &object.kind).await?.namespaced)
        }
        _ => Ok(true),
    }
}

/// An alert that fires and leads to the target, if there is one.
///
/// # Errors
/// [`Error::Unexpected`] also if none is known to, and one may that cannot be judged.
pub async fn firing(
    context: &Context,
    rule: &CompiledRule,
    target: &ObjectReference,
    from: From,
) -> Result<Option<Item>> {
    let (namespaced, wanted) = (is_namespaced(context, rule).await?, TargetKey::from(target));
    leading(rule, inbox(context, rule, from).await?, (namespaced, &wanted), now())
}

/// The first alert of these that leads to the target.
fn leading(
    rule: &CompiledRule,
    inbox: Inbox,
    (namespaced, wanted): (bool, &TargetKey),
    now: Timestamp,
) -> Result<Option<Item>> {
    let mut unknown = None;
    for item in inbox.firing.into_iter().chain(inbox.unjudged) {
        match lead::lead(rule, item.accepted(), namespaced, now) {
            Lead::To(found) if TargetKey::from(&found) == *wanted => return Ok(Some(item)),
            Lead::Unknown(why) if aimed(rule, &item, namespaced, now).as_ref() == Some(wanted) => {
                unknown.get_or_insert_with(|| not_judged(&item, &why));
            }
            Lead::To(_) | Lead::Nowhere(_) | Lead::Unknown(_) => {}
        }
    }
    unknown.map_or(Ok(None), Err)
}

/// The target of an alert that cannot be judged: it may match, and others are not concerned. One whose target cannot be
/// said either leads nowhere, as an object does whose owner is not found.
pub fn aimed(rule: &CompiledRule, item: &Item, namespaced: bool, now: Timestamp) -> Option<TargetKey> {
    match lead::aimed(rule, item.accepted(), namespaced, now) {
        Lead::To(target) => Some(TargetKey::from(&target)),
        Lead::Nowhere(_) | Lead::Unknown(_) => None,
    }
}

fn not_judged(item: &Item, why: &str) -> Error {
    Error::Unexpected(format!("the alert {} cannot be judged: {why}", item.accepted().event.id))
}

/// Whether that fires for which an Execution was decided: one of the alerts of which it was made, since whenever, or
/// any that leads to its target.
///
/// # Errors
/// [`Error::Unexpected`] also if none is known to, and one may that cannot be judged.
pub async fn fires(
    context: &Context,
    rule: &CompiledRule,
    (execution, target): (&Execution, &ObjectReference),
    from: From,
) -> Result<bool> {
    if fingerprints(execution).next().is_none() {
        return Ok(firing(context, rule, target, from).await?.is_some());
    }
    any_of(rule, &inbox(context, rule, from).await?, execution, now())
}

/// Whether one of these alerts matches of which an Execution was made.
fn any_of(rule: &CompiledRule, inbox: &Inbox, execution: &Execution, now: Timestamp) -> Result<bool> {
    let is_one_of =
        |item: &&Item| item.fingerprint().is_some_and(|own| fingerprints(execution).any(|one| one == own));
    let mut unknown = None;
    for item in inbox.firing.iter().chain(&inbox.unjudged).filter(is_one_of) {
        match lead::matches(rule, item.accepted(), now) {
            Ok(()) => return Ok(true),
            Err(Lead::Unknown(why)) => {
                unknown.get_or_insert_with(|| not_judged(item, &why));
            }
            Err(Lead::Nowhere(_) | Lead::To(_)) => {}
        }
    }
    unknown.map_or(Ok(false), Err)
}

/// Whether an alert fires again, for whose end an Execution was decided.
pub async fn fires_again(
    context: &Context,
    rule: &CompiledRule,
    execution: &Execution,
    from: From,
) -> Result<bool> {
    let ended = execution.spec.decision.as_ref().and_then(|decision| decision.event.as_ref());
    let (Some(ended), Some(webhook)) = (ended, rule.spec.trigger.webhook_name()) else { return Ok(false) };
    let batches = match from {
        From::Store => stored(context, rule),
        From::ApiServer => Box::pin(listed(context, &rule.facts.namespace, webhook)).await?,
    };
    Ok(firing::fires_again(ended, &batches, now()))
}

/// The alerts of which an Execution was made.
pub fn fingerprints(execution: &Execution) -> impl Iterator<Item = &str> {
    let captured = execution.spec.decision.iter().flat_map(|decision| &decision.captured);
    captured.filter_map(|event| event.data.0["fingerprint"].as_str())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::api::{EventBatchStatus, EventOutcome, OutcomeKind};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).expect("a time")
    }

    /// A rule about disks that are fuller than this.
    fn rule(changes: &Value) -> CompiledRule {
        let mut spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}],
            "trigger": {"alert": {"webhook": "am"}}, "when": "double(alert.annotations.value) > 90.0",
            "target": {"key": "alert.labels.disk"}});
        json_patch::merge(&mut spec, changes);
        let spec = serde_json::from_value(spec).expect("a spec");
        CompiledRule::of(&spec, "a", "r", at(0)).unwrap_or_else(|found| panic!("{found:?}"))
    }

    /// A batch of one alert about a disk, which fires.
    fn told(fingerprint: &str, disk: &str, value: &str) -> Arc<EventBatch> {
        let batch = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "EventBatch",
            "metadata": {"name": format!("{fingerprint}-{value}")},
            "spec": {"webhook": "am", "receivedAt": at(10).to_string(), "events": [{"rules": ["r"],
                "alert": {"fingerprint": fingerprint, "startsAt": at(5).to_string()},
                "event": {"id": format!("{fingerprint}/5/firing"), "source": "am", "type": "alert.firing",
                    "time": at(5).to_string(), "data": {"status": "firing", "fingerprint": fingerprint,
                        "labels": {"disk": disk}, "annotations": {"value": value}}}}]}});
        Arc::new(serde_json::from_value(batch).expect("an EventBatch"))
    }

    /// With what the rule has noted of it: that it could not judge it.
    fn failed(rule: &CompiledRule, batch: &Arc<EventBatch>) -> Arc<EventBatch> {
        let item = Item { batch: batch.clone(), index: 0 };
        let outcome = item.outcome(&rule.facts.name, OutcomeKind::Failed, "", at(50));
        let outcomes = vec![EventOutcome { judged_by: Some(inbox::text_of(rule)), ..outcome }];
        let mut batch = EventBatch::clone(batch);
        batch.status = Some(EventBatchStatus { outcomes });
        Arc::new(batch)
    }

    fn kept(rule: &CompiledRule, batches: &[Arc<EventBatch>]) -> Inbox {
        inbox::of(rule, batches, &BTreeSet::new(), at(100))
    }

    /// Whether something fires that leads to the disk `sda`, in words.
    fn look(rule: &CompiledRule, batches: &[Arc<EventBatch>]) -> String {
        let wanted = TargetKey::from(&ObjectReference::key("a", "sda".to_owned()));
        let found = leading(rule, kept(rule, batches), (true, &wanted), at(100));
        found.map_or_else(|error| error.to_string(), |found| found.is_some().to_string())
    }

    const NOT_JUDGED: &str = "the alert f/5/firing cannot be judged: ";

    #[test]
    fn an_alert_that_cannot_be_judged_may_lead_to_its_target_and_to_no_other() {
        let rule = rule(&json!({}));
        let (high, odd) = (told("f", "sda", "95"), told("f", "sda", "n/a"));
        assert_eq!(look(&rule, std::slice::from_ref(&high)), "true");
        assert_eq!(look(&rule, &[told("f", "sda", "5")]), "false");
        for odd in [odd.clone(), failed(&rule, &odd)] {
            let said = look(&rule, std::slice::from_ref(&odd));
            assert!(said.starts_with(NOT_JUDGED), "{said}");
            assert_eq!(look(&rule, &[odd, told("g", "sda", "95")]), "true", "another one leads to it");
        }
        let other = told("f", "sdb", "n/a");
        assert_eq!(look(&rule, &[failed(&rule, &other)]), "false");
        assert_eq!(look(&rule, &[other]), "false", "it is about another disk");
    }

    #[test]
    fn an_alert_whose_target_cannot_be_said_leads_nowhere() {
        let rule = rule(&json!({"target": {"key": "alert.labels.shelf"}}));
        assert_eq!(look(&rule, &[told("f", "sda", "n/a")]), "false");
        assert_eq!(look(&rule, &[told("f", "sda", "95")]), "false");
    }

    #[test]
    fn an_execution_goes_by_the_alerts_of_which_it_was_made() {
        let rule = rule(&json!({}));
        let (object, time) = (json!({"apiVersion": "v1", "kind": "K", "name": "a"}), "2026-01-01T00:00:00Z");
        let decision = json!({"id": "d", "time": time, "rule": {"name": "r"}, "mode": "Enforce", "definition": "x",
            "matched": {"object": object, "resourceVersion": ""},
            "captured": [{"id": "1", "type": "t", "time": time, "data": {"fingerprint": "f"}}]});
        let execution = json!({"apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
            "metadata": {"name": "x"}, "spec": {"serviceAccountName": "h", "decision": decision}});
        let execution: Execution = serde_json::from_value(execution).expect("an Execution");
        let look = |batches: &[Arc<EventBatch>]| {
            let found = any_of(&rule, &kept(&rule, batches), &execution, at(100));
            found.map_or_else(|error| error.to_string(), |fires| fires.to_string())
        };
        let odd = told("f", "sda", "n/a");
        for odd in [odd.clone(), failed(&rule, &odd)] {
            let said = look(&[odd]);
            assert!(said.starts_with(NOT_JUDGED), "{said}");
        }
        assert_eq!(look(&[told("f", "sda", "95"), told("g", "sda", "n/a")]), "true");
        assert_eq!(look(&[told("f", "sda", "5")]), "false");
        assert_eq!(look(&[told("g", "sda", "n/a")]), "false", "it was not made of that");
    }
}
