//! Since when an Execution cannot be looked at. Only patience depends on it, so it is remembered by the process alone: one
//! that starts anew is patient once more.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use crate::api::Execution;

/// Namespace and name.
type Key = (String, String);

/// The UIDs of Executions in trouble, and since when.
#[derive(Default)]
pub struct Troubles(Mutex<BTreeMap<Key, (Option<String>, Timestamp)>>);

impl Troubles {
    /// Since when there has been trouble without a break: since now, if there was none.
    pub fn since(&self, execution: &Execution, now: Timestamp) -> Timestamp {
        let mut known = self.0.lock();
        let key = (execution.namespace().unwrap_or_default(), execution.name_any());
        let entry = known.entry(key).or_insert_with(|| (execution.uid(), now));
        if entry.0 != execution.uid() {
            *entry = (execution.uid(), now);
        }
        entry.1
    }

    /// There is none any more.
    pub fn over(&self, namespace: &str, name: &str) {
        self.0.lock().remove(&(namespace.to_owned(), name.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::ExecutionSpec;
    use k8s_openapi::jiff::SignedDuration;

    #[test]
    fn trouble_lasts_until_it_is_over_and_is_of_one_execution() {
        let at = |seconds| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds);
        let execution = |uid: &str| {
            let mut execution = Execution::new("x", ExecutionSpec::default());
            (execution.metadata.namespace, execution.metadata.uid) = (Some("a".into()), Some(uid.into()));
            execution
        };
        let troubles = Troubles::default();
        assert_eq!(troubles.since(&execution("1"), at(1)), at(1));
        assert_eq!(troubles.since(&execution("1"), at(5)), at(1));
        assert_eq!(troubles.since(&execution("2"), at(6)), at(6), "another of the same name");
        troubles.over("a", "x");
        assert_eq!(troubles.since(&execution("2"), at(9)), at(9));
    }
}
