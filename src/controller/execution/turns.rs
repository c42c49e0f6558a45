//! Whose turn it is: one Execution at a time acts on a target.

use std::collections::BTreeMap;

use kube::ResourceExt as _;
use parking_lot::Mutex;

use crate::api::{Execution, Mode};
use crate::controller::executions::Executions;
use crate::decide::identity::TargetKey;

/// Which Execution may act on which target, by UID: two that begin at the same moment see each other only here.
#[derive(Default)]
pub struct Turns(Mutex<BTreeMap<TargetKey, String>>);

impl Turns {
    /// Whether another Execution that has begun, or is older and has not begun either, acts on the same target. If none
    /// does, it is this one's turn until it ends. A run by hand that has not begun has no turn by its age: anybody can
    /// write one about anything, and whether its account may even see the target shows when it asks here.
    pub fn is_busy(&self, executions: &Executions, execution: &Execution) -> bool {
        let Some(target) = execution.spec.target.as_ref().map(TargetKey::from) else { return false };
        let own = execution.uid().unwrap_or_default();
        let mut turns = self.0.lock();
        let mut others = executions.on_target(&target);
        others.retain(|other| acts(other) && other.uid().as_ref() != Some(&own));
        let holder = turns.get(&target);
        let held = others.iter().any(|other| other.uid().as_ref() == holder);
        let goes_first = |other: &Execution| is_in_line(other) && rank(other) < rank(execution);
        if held || holder != Some(&own) && others.iter().any(|other| goes_first(other)) {
            return true;
        }
        turns.insert(target, own);
        false
    }

    /// Forgets the turns of those that have ended or are gone.
    pub fn tidy(&self, executions: &Executions) {
        self.0.lock().retain(|target, uid| {
            executions.on_target(target).iter().any(|other| acts(other) && other.uid().as_ref() == Some(uid))
        });
    }
}

/// Whether it may change something as long as it goes on.
fn acts(execution: &Execution) -> bool {
    let observes = execution.spec.decision.as_ref().is_some_and(|decision| decision.mode == Mode::Observe);
    !observes && !execution.is_finished()
}

/// Whether others wait for it by its rank.
fn is_in_line(execution: &Execution) -> bool {
    execution.spec.decision.is_some() || execution.has_begun()
}

/// Who has begun goes on, then the oldest. Executions of one second are told apart by their UID, so the one that was seen
/// last may be the "older".
fn rank(execution: &Execution) -> impl Ord + use<> {
    (!execution.has_begun(), execution.creation_timestamp(), execution.metadata.uid.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::json;

    #[test]
    fn who_has_begun_goes_on_then_the_oldest() {
        let execution = |uid: &str, second: u32, begun: bool| -> Execution {
            let rung = json!({"run": "x", "state": "Running", "startedAt": "2026-01-01T00:00:00Z"});
            serde_json::from_value(json!({
                "apiVersion": "fother.dev/v1alpha1", "kind": "Execution", "spec": {"serviceAccountName": "h"},
                "metadata": {"name": uid, "uid": uid, "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "status": {"rungs": if begun { vec![rung] } else { vec![] }},
            }))
            .expect("an Execution")
        };
        let begun = execution("z", 5, true);
        for (first, second) in [
            (&begun, execution("a", 5, false)),
            (&begun, execution("a", 1, false)),
            (&execution("b", 1, false), execution("a", 2, false)),
            (&execution("a", 1, false), execution("b", 1, false)),
        ] {
            assert!(rank(first) < rank(&second) && rank(&second) >= rank(first));
        }
    }

    #[test]
    fn a_run_by_hand_that_has_not_asked_is_not_waited_for() {
        let pod = json!({"apiVersion": "v1", "kind": "Node", "name": "n"});
        let execution = |uid: &str, second: u32, decided: bool| -> Arc<Execution> {
            let decision = json!({"id": uid, "time": "2026-01-01T00:00:00Z", "rule": {"name": "r"}, "mode": "Enforce",
                "definition": "d", "matched": {"object": pod}});
            let execution = json!({
                "apiVersion": "fother.dev/v1alpha1", "kind": "Execution",
                "metadata": {"name": uid, "namespace": "a", "uid": uid, "resourceVersion": "1",
                    "creationTimestamp": format!("2026-01-01T00:00:0{second}Z")},
                "spec": {"serviceAccountName": "h", "target": pod, "decision": if decided { decision } else { json!(null) }},
            });
            Arc::new(serde_json::from_value(execution).expect("an Execution"))
        };
        let (turns, store) = (Turns::default(), Executions::new());
        let (hand, older, younger) =
            (execution("hand", 0, false), execution("older", 1, true), execution("younger", 2, true));
        for one in [&hand, &older, &younger] {
            store.insert(one.clone());
        }
        assert!(turns.is_busy(&store, &younger), "the older decided one goes first");
        assert!(!turns.is_busy(&store, &older), "nobody waits for who only stands there");
        assert!(turns.is_busy(&store, &hand), "it comes late");
        store.with_mut(|objects| drop(objects.remove(&("a".to_owned(), "older".to_owned()))));
        assert!(!turns.is_busy(&store, &hand), "it may, and it is its turn");
        assert!(turns.is_busy(&store, &younger));
    }
}
