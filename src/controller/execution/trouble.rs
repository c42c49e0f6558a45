//! Since when an Execution cannot be looked at, or the name of its Job cannot be taken. Only patience depends on it, so it is remembered by the process alone: one
//! that starts anew is patient once more.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use parking_lot::Mutex;

use crate::api::Execution;

/// What does not work. Each has a patience of its own.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Of {
    /// Looking at it, or letting go of its Jobs after the end.
    Looks,
    /// Taking the name of its Job.
    Names,
}

/// Namespace and name, and what does not work.
type Key = (String, String, Of);

/// The UIDs of Executions in trouble, and since when.
#[derive(Default)]
pub struct Troubles(Mutex<BTreeMap<Key, (Option<String>, Timestamp)>>);

impl Troubles {
    /// Since when there has been trouble without a break: since now, if there was none.
    pub fn since(&self, of: Of, execution: &Execution, now: Timestamp) -> Timestamp {
        let mut known = self.0.lock();
        let key = (execution.namespace().unwrap_or_default(), execution.name_any(), of);
        let entry = known.entry(key).or_insert_with(|| (execution.uid(), now));
        if entry.0 != execution.uid() {
            *entry = (execution.uid(), now);
        }
        entry.1
    }

    /// There is none any more.
    pub fn over(&self, of: Of, namespace: &str, name: &str) {
        self.0.lock().remove(&(namespace.to_owned(), name.to_owned(), of));
    }

    /// The Execution is gone.
    pub fn forget(&self, namespace: &str, name: &str) {
        for of in [Of::Looks, Of::Names] {
            self.over(of, namespace, name);
        }
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
        assert_eq!(troubles.since(Of::Looks, &execution("1"), at(1)), at(1));
        assert_eq!(troubles.since(Of::Looks, &execution("1"), at(5)), at(1));
        assert_eq!(troubles.since(Of::Looks, &execution("2"), at(6)), at(6), "another of the same name");
        assert_eq!(troubles.since(Of::Names, &execution("2"), at(7)), at(7), "with a patience of its own");
        troubles.over(Of::Looks, "a", "x");
        assert_eq!(troubles.since(Of::Looks, &execution("2"), at(9)), at(9));
        assert_eq!(troubles.since(Of::Names, &execution("2"), at(9)), at(7));
        troubles.forget("a", "x");
        assert_eq!(troubles.since(Of::Names, &execution("2"), at(11)), at(11));
    }
}
