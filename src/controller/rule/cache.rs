//! Rules that were good when they were looked at last, so that each look does not compile them anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use parking_lot::Mutex;

use super::checks::{self, Checked};
use crate::api::{Action, Rule, Webhook};
use crate::controller::context::Context;
use crate::controller::published::Fields;

/// What a check depends on: the rule, and the Webhook and the Actions that it names, each by UID and generation, none for
/// one that is not there; and the fields of the kinds that it reads. What a rule comes to refer to besides has to be added.
type Stamp = (Vec<Option<Identity>>, Vec<String>);

type Identity = (Option<String>, Option<i64>);

/// A rule that was good, and when.
type Good = (Stamp, Checked);

/// Rules that were good when they were looked at last. Compiling one takes longer than anything else that is done with
/// it, and only its text and what it names can change the result.
#[derive(Default)]
pub struct Cache {
    good: Mutex<BTreeMap<(String, String), Good>>,
}

impl Cache {
    /// Checks the text and what it names, if that is not what it was.
    pub fn check(&self, context: &Context, rule: &Rule, fields: Fields) -> Checked {
        // A field may become known to the cluster, and unknown here, without a new generation.
        if let Some(unknown) = checks::unknown(context, rule) {
            return Checked { unknown: Some(unknown), ..Checked::default() };
        }
        // What comes while the check goes on is not in the stamp, and so is noticed the next time.
        let action = |namespace: &str, name: &str| context.actions.get(namespace, name);
        let webhook = |namespace: &str, name: &str| context.webhooks.get(namespace, name);
        let stamp = (stamp(rule, action, webhook), fields.stamp);
        self.checked(rule, stamp, || checks::check(context, rule, fields.schemas))
    }

    fn checked(&self, rule: &Rule, stamp: Stamp, check: impl FnOnce() -> Checked) -> Checked {
        let key = (rule.namespace().unwrap_or_default(), rule.name_any());
        if let Some((known, checked)) = self.good.lock().get(&key)
            && *known == stamp
        {
            return checked.clone();
        }
        let checked = check();
        let mut good = self.good.lock();
        match &checked.compiled {
            Some(_) => drop(good.insert(key, (stamp, checked.clone()))),
            None => drop(good.remove(&key)),
        }
        checked
    }

    /// Forgets a rule that is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        self.good.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }
}

fn stamp(
    rule: &Rule,
    action: impl Fn(&str, &str) -> Option<Arc<Action>>,
    webhook: impl Fn(&str, &str) -> Option<Arc<Webhook>>,
) -> Vec<Option<Identity>> {
    let namespace = rule.namespace().unwrap_or_default();
    let identity = |metadata: &ObjectMeta| (metadata.uid.clone(), metadata.generation);
    let actions =
        rule.spec.ladder.iter().map(|rung| Some(identity(&action(&namespace, &rung.run)?.metadata)));
    let webhook =
        rule.spec.trigger.webhook_name().map(|name| Some(identity(&webhook(&namespace, name)?.metadata)));
    [Some(identity(&rule.metadata))].into_iter().chain(webhook).chain(actions).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ActionSpec, WebhookSpec};
    use crate::decide::matching::CompiledRule;

    /// Counts how often a rule is really checked.
    #[derive(Default)]
    struct Checks {
        cache: Cache,
        count: std::cell::Cell<usize>,
        fields: std::cell::RefCell<Vec<String>>,
    }

    impl Checks {
        /// How often so far, after another look; a rule whose Action is not there is not good.
        fn after(&self, rule: &Rule, action: Option<&Action>, webhook: Option<&Webhook>) -> usize {
            let stamp =
                stamp(rule, |_, _| action.cloned().map(Arc::new), |_, _| webhook.cloned().map(Arc::new));
            let fields = self.fields.borrow().clone();
            let checked = self.cache.checked(rule, (stamp, fields), || {
                self.count.set(self.count.get() + 1);
                let compiled = action.and_then(|_| CompiledRule::compile(rule).ok());
                Checked { compiled: compiled.map(Arc::new), ..Checked::default() }
            });
            assert_eq!(checked.compiled.is_some(), action.is_some());
            self.count.get()
        }
    }

    fn rule(trigger: serde_json::Value) -> Rule {
        let manifest = serde_json::json!({
            "metadata": {"namespace": "a", "name": "leaks", "uid": "1", "generation": 1},
            "spec": {"serviceAccountName": "healer", "when": "true", "ladder": [{"run": "caulk"}], "trigger": trigger},
        });
        serde_json::from_value(manifest).unwrap()
    }

    fn action(uid: &str, generation: i64) -> Action {
        let mut action = Action::new("caulk", ActionSpec::default());
        (action.metadata.uid, action.metadata.generation) = (Some(uid.to_owned()), Some(generation));
        action
    }

    #[test]
    fn a_good_rule_is_checked_again_when_it_or_an_action_is_another() {
        let mut rule = rule(serde_json::json!({"resource": {"apiVersion": "v1", "kind": "Pod"}}));
        let checks = Checks::default();
        assert_eq!(checks.after(&rule, Some(&action("2", 1)), None), 1);
        assert_eq!(checks.after(&rule, Some(&action("2", 1)), None), 1, "nothing is another");
        assert_eq!(checks.after(&rule, Some(&action("2", 2)), None), 2, "the Action was edited");
        assert_eq!(
            checks.after(&rule, Some(&action("3", 2)), None),
            3,
            "the Action is another one of this name"
        );
        assert_eq!(checks.after(&rule, None, None), 4, "the Action is gone");
        assert_eq!(checks.after(&rule, None, None), 5, "a rule that is not good is looked at each time");
        assert_eq!(checks.after(&rule, Some(&action("3", 2)), None), 6);
        rule.metadata.generation = Some(2);
        assert_eq!(checks.after(&rule, Some(&action("3", 2)), None), 7, "the rule was edited");
        rule.metadata.uid = Some("4".to_owned());
        assert_eq!(
            checks.after(&rule, Some(&action("3", 2)), None),
            8,
            "the rule is another one of this name"
        );
        checks.cache.forget("a", "leaks");
        assert_eq!(checks.after(&rule, Some(&action("3", 2)), None), 9);
        *checks.fields.borrow_mut() = vec!["/openapi/v3/api/v1?hash=2".to_owned()];
        assert_eq!(checks.after(&rule, Some(&action("3", 2)), None), 10, "its kind has other fields");
    }

    #[test]
    fn a_good_rule_is_checked_again_when_its_webhook_is_another() {
        let mut rule = rule(serde_json::json!({"alert": {"webhook": "alerts"}}));
        rule.spec.target = serde_json::from_value(serde_json::json!({"key": "alert.labels.boat"})).unwrap();
        let webhook = |generation| {
            let mut webhook = Webhook::new("alerts", WebhookSpec::default());
            (webhook.metadata.uid, webhook.metadata.generation) = (Some("5".to_owned()), Some(generation));
            webhook
        };
        let (checks, action) = (Checks::default(), action("2", 1));
        assert_eq!(checks.after(&rule, Some(&action), Some(&webhook(1))), 1);
        assert_eq!(checks.after(&rule, Some(&action), Some(&webhook(1))), 1, "nothing is another");
        assert_eq!(checks.after(&rule, Some(&action), Some(&webhook(2))), 2, "the Webhook was edited");
        assert_eq!(checks.after(&rule, Some(&action), None), 3, "the Webhook is gone");
    }
}
