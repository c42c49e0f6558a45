//! Fields that only grow: a condition that asks for more of them stays true after the remedy worked,
//! so that an episode would never end.

use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::{Expression, Scope};

/// Such fields by name, what they count, and what to ask instead.
const GROWING: [(&str, &str); 8] = [
    ("restartCount", "crashLooping(object, 3, duration('10m')) also looks at when it last crashed"),
    ("generation", "compare it with status.observedGeneration instead"),
    ("observedGeneration", "compare it with metadata.generation instead"),
    ("count", "an Event's count never falls: compare with ==, or leave it to limits"),
    ("deprecatedCount", "an Event's count never falls: compare with ==, or leave it to limits"),
    ("failed", "a Job counts all its failures: condition(object, 'Failed') says whether it gave up"),
    ("succeeded", "a Job counts all its successes: condition(object, 'Complete') says whether it is done"),
    ("collisionCount", "it counts all collisions of hashes that there ever were"),
];

/// A warning for each such field of which a condition asks for more.
pub(super) fn problems(when: &str, path: &Path, scope: &Scope) -> Vec<Problem> {
    let Ok(expression) = Expression::compile(when, scope) else { return Vec::new() };
    let bounds = expression.lower_bounds().iter();
    bounds
        .filter_map(|bound| {
            let (field, help) = GROWING.iter().find(|(field, _)| *field == bound.field)?;
            let message = format!("{field} never falls, so that this stays true after any remedy");
            Some(Problem::warning(path.to_string(), message).at(bound.span.clone()).help(*help))
        })
        .collect()
}
