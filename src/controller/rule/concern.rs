//! Which evaluators a delivery of their watch concerns: those whose rules the index finds.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::decide::index::Index;
use crate::expr::Conjunct;
use crate::source::dispatch::Interests;

impl Interests for Index {
    type Interest = Vec<Conjunct>;

    fn insert(&mut self, subscriber: u64, conditions: Self::Interest) {
        Self::insert(self, subscriber, conditions);
    }

    fn remove(&mut self, subscriber: u64) {
        Self::remove(self, subscriber);
    }

    fn always(&self) -> &BTreeSet<u64> {
        Self::always(self)
    }

    fn concerned(&self, object: &Value) -> Vec<u64> {
        self.candidates(object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decide::index::conditions;
    use crate::decide::matching::CompiledRule;
    use crate::source::dispatch::Subscribers;
    use crate::source::watch::{Delivery, Page};
    use k8s_openapi::jiff::Timestamp;
    use proptest::prelude::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use tokio::sync::mpsc;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn rule(when: &str) -> CompiledRule {
        let spec = json!({"serviceAccountName": "h", "ladder": [{"run": "x"}], "when": when,
            "trigger": {"resource": {"apiVersion": "v1", "kind": "Pod"}}});
        let spec = serde_json::from_value(spec).expect("a spec");
        CompiledRule::of(&spec, "a", "r", NOW).expect("compiles")
    }

    /// The names of the objects that match, as far as deliveries have told.
    #[derive(Default)]
    struct View(BTreeSet<String>);

    impl View {
        fn take(&mut self, rule: &CompiledRule, delivery: &Delivery) {
            match delivery {
                Delivery::Page(page) => {
                    if page.first {
                        self.0.clear();
                    }
                    for object in &page.items {
                        self.see(rule, object);
                    }
                }
                Delivery::Added(object) | Delivery::Changed(object) => self.see(rule, object),
                Delivery::Left(object) | Delivery::Deleted(object) => {
                    self.0.remove(&name(object));
                }
                Delivery::Synced(_) | Delivery::Alive | Delivery::Missed | Delivery::Broken(_) => {}
            }
        }

        fn see(&mut self, rule: &CompiledRule, object: &Arc<Value>) {
            match rule.matches_object(object, NOW) {
                Ok(Some(_)) => self.0.insert(name(object)),
                _ => self.0.remove(&name(object)),
            };
        }
    }

    fn name(object: &Value) -> String {
        object["metadata"]["name"].as_str().expect("a name").to_owned()
    }

    fn rules() -> impl Strategy<Value = Vec<&'static str>> {
        let whens = prop::sample::select(vec![
            "object.phase == 'Failed'",
            "object.phase in ['Failed', 'Pending'] && object.stuck",
            "object.phase == 'Failed' && object.node == 'n1'",
            "!object.stuck",
            "object.phase != 'Failed'",
            "object.?node.orValue('n2') == 'n1'",
        ]);
        prop::collection::vec(whens, 1..8)
    }

    fn objects() -> impl Strategy<Value = Arc<Value>> {
        let optional = |values: Vec<Value>| prop::option::weighted(0.8, prop::sample::select(values));
        let fields = (
            prop::sample::select(vec!["p", "q", "r"]),
            optional(vec![json!("Failed"), json!("Pending"), json!(["Failed"])]),
            optional(vec![json!(true), json!(false), json!("true")]),
            optional(vec![json!("n1"), json!("n2"), json!({"n1": 1})]),
        );
        fields.prop_map(|(name, phase, stuck, node)| {
            let mut object = json!({"metadata": {"namespace": "a", "name": name}});
            for (field, value) in [("phase", phase), ("stuck", stuck), ("node", node)] {
                if let Some(value) = value {
                    object[field] = value;
                }
            }
            Arc::new(object)
        })
    }

    /// A change, or the pages of a list.
    fn deliveries() -> impl Strategy<Value = Vec<Delivery>> {
        let page = |first, items| Delivery::Page(Arc::new(Page::new(first, items).0));
        let pages = move |items: Vec<Arc<Value>>| {
            let by_name: BTreeMap<_, _> = items.into_iter().map(|item| (name(&item), item)).collect();
            let mut items: Vec<_> = by_name.into_values().collect();
            let rest = items.split_off(items.len() / 2);
            vec![page(true, items), page(false, rest)]
        };
        prop_oneof![
            1 => prop::collection::vec(objects(), 0..4).prop_map(pages),
            6 => objects().prop_map(|object| vec![Delivery::Changed(object)]),
            2 => objects().prop_map(|object| vec![Delivery::Deleted(object)]),
        ]
    }

    proptest! {
        /// Whoever hears only of candidates knows what whoever hears of everything knows.
        #[test]
        fn what_is_not_told_changes_nothing(
            rules in rules(),
            deliveries in prop::collection::vec(deliveries(), 1..20),
        ) {
            let mut subscribers = Subscribers::<Index>::default();
            let mut eyes: Vec<_> = rules.into_iter().map(rule).map(|rule| {
                let (sender, receiver) = mpsc::channel(1000);
                subscribers.add(sender, conditions(&rule));
                (rule, receiver, View::default(), View::default())
            }).collect();
            for delivery in deliveries.into_iter().flatten() {
                subscribers.send(delivery.clone());
                for (rule, receiver, told, all) in &mut eyes {
                    all.take(rule, &delivery);
                    while let Ok(delivery) = receiver.try_recv() {
                        told.take(rule, &delivery);
                    }
                    prop_assert_eq!(&told.0, &all.0, "{:?} after {:?}", &rule.spec.when, &delivery);
                }
            }
        }
    }
}
