//! Looks that whoever fires has just made, for the Execution that begins at once: what the API server said a moment ago
//! need not be asked again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;

/// How long a look counts. A creation that takes longer than that may have waited for something, and what was seen is
/// looked at again.
const COUNTS: Duration = Duration::from_millis(100);

/// What was seen before an Execution was created: its account is allowed, and nobody has begun it.
#[derive(Clone, Debug)]
pub struct Look {
    /// When it was asked.
    pub began: Instant,
    /// The object that matches, of a state.
    pub object: Option<Arc<Value>>,
}

/// The looks, by UID of the Execution.
#[derive(Default)]
pub struct Looks(Mutex<BTreeMap<String, Look>>);

impl Looks {
    /// Keeps one for the Execution that it led to.
    pub fn keep(&self, execution: &str, look: Look) {
        let mut kept = self.0.lock();
        kept.retain(|_, look| counts(look));
        kept.insert(execution.to_owned(), look);
    }

    /// The look that led to an Execution, once, and while it counts.
    pub fn take(&self, execution: &str) -> Option<Look> {
        self.0.lock().remove(execution).filter(counts)
    }
}

fn counts(look: &Look) -> bool {
    look.began.elapsed() < COUNTS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_counts_once_and_only_for_a_moment() {
        let looks = Looks::default();
        let now = Instant::now();
        let long_ago = now.checked_sub(COUNTS).unwrap();
        looks.keep("a", Look { began: now, object: None });
        looks.keep("b", Look { began: long_ago, object: None });
        assert!(looks.take("b").is_none(), "too old");
        assert!(looks.take("a").is_some() && looks.take("a").is_none(), "once");
        looks.keep("c", Look { began: long_ago, object: None });
        looks.keep("d", Look { began: now, object: None });
        assert_eq!(
            looks.0.lock().keys().collect::<Vec<_>>(),
            ["d"],
            "what does not count any more is forgotten"
        );
    }
}
