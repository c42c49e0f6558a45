//! What Rules want of Webhooks, as this process has heard of the Rules.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::ResourceExt;
use parking_lot::RwLock;

use super::Key;
use crate::api::{AlertState, Rule, TriggerEvent};
use crate::decide::interest::{Interest, Kept, Listeners};

/// What Rules want, by Webhook.
#[derive(Clone, Default)]
pub struct Listening {
    of: Arc<RwLock<BTreeMap<Key, Listeners>>>,
}

impl Listening {
    /// Takes in what a Rule wants by now, in place of what it has wanted: none if it is gone.
    pub(super) fn learn(&self, [before, named]: [Option<&Rule>; 2], current: Option<&Rule>) {
        let interest = current.and_then(Interest::of);
        let mut of = self.of.write();
        for rule in [before, named].into_iter().flatten() {
            let key = rule.spec.trigger.webhook_name().map(|name| (namespace_of(rule), name.to_owned()));
            if let Some(of_webhook) = key.and_then(|key| of.get_mut(&key)) {
                of_webhook.remove(&rule.name_any());
            }
        }
        if let Some(interest) = interest {
            let key = (interest.namespace.clone(), interest.webhook.clone());
            of.entry(key).or_default().insert(interest);
        }
        of.retain(|_, of_webhook| !of_webhook.is_empty());
    }

    /// What of an event is kept, and for whom; nothing of one that no Rule is about. It is asked whether a Rule takes it.
    pub(super) fn keep(
        &self,
        webhook: &Key,
        event: &TriggerEvent,
        alert: Option<&AlertState>,
        takes: impl Fn(&Interest, &TriggerEvent) -> bool,
    ) -> Option<Kept> {
        self.of.read().get(webhook)?.keep(event, alert, takes)
    }

    /// The Rules that may match an event.
    pub(super) fn wanting(
        &self,
        webhook: &Key,
        event: &TriggerEvent,
        alert: Option<&AlertState>,
    ) -> Vec<String> {
        let of = self.of.read();
        let wanting = of.get(webhook).map(|of_webhook| of_webhook.wanting(event, alert)).unwrap_or_default();
        wanting.into_iter().map(|interest| interest.rule.clone()).collect()
    }

    /// How many Rules are about the name of an alert.
    pub fn about(&self, webhook: &Key, alert: &TriggerEvent) -> usize {
        self.of.read().get(webhook).map_or(0, |of_webhook| of_webhook.about(alert))
    }

    /// The Rules that listen to a Webhook.
    pub(super) fn rules(&self, webhook: &Key) -> Vec<String> {
        self.of.read().get(webhook).into_iter().flat_map(Listeners::rules).cloned().collect()
    }
}

fn namespace_of(rule: &Rule) -> String {
    rule.namespace().unwrap_or_default()
}
