//! What is over before it is decided about: counted and told of, like what is decided. A list shows it again and again, so that
//! whoever sees it asks first whether it is told already; another process, or another text of the rule, tells it once more.

use crate::api::ObjectReference;
use crate::controller::recorder::Recorder;
use crate::decide::correlation::{TOO_MANY, WINDOW_ENDED};
use crate::decide::episode::RuleFacts;
use crate::telemetry::Metrics;

/// Why it is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// It happened before the rule was created.
    BeforeRule,
    /// It waited for others in vain.
    WindowEnded,
    /// It waited for others, or for its target, with too many.
    TooMany,
    /// For too long nobody was there to answer it.
    TooOld,
    /// Its target is not there, and will not be.
    NoTarget,
}

impl Why {
    const fn text(self) -> &'static str {
        match self {
            Self::BeforeRule => "BeforeRule",
            Self::WindowEnded => WINDOW_ENDED,
            Self::TooMany => TOO_MANY,
            Self::NoTarget => "it leads to no target that exists",
            Self::TooOld => "it was over for more than an hour before anybody could answer it",
        }
    }
}

/// Counts and tells of an event of a rule, by its target and identity.
pub fn tell(
    (metrics, journal): (&Metrics, &Recorder),
    facts: &RuleFacts,
    (target, event): (&ObjectReference, &str),
    why: Why,
) {
    tracing::debug!(rule = facts.name, event, ?why, "passed over");
    metrics.suppressed(why, &facts.namespace, &facts.name);
    journal.passed_over(facts, target, event, why.text());
}
