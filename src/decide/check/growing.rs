//! Fields that only grow: a condition that asks for more of them stays true after the remedy worked,
//! so that an episode would never end.

use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::{Expression, Scope};

/// Such fields by the kind that has them, where not all do, with what to ask instead.
const GROWING: [(&str, &str, &str); 8] = [
    ("Pod", "restartCount", "crashLooping(object, 3, duration('10m')) also looks at when it last crashed"),
    ("", "generation", "compare it with status.observedGeneration instead"),
    ("", "observedGeneration", "compare it with metadata.generation instead"),
    ("", "collisionCount", "it counts all collisions of hashes that there ever were"),
    ("Event", "count", "an Event's count never falls: compare with ==, or leave it to limits"),
    ("Event", "deprecatedCount", "an Event's count never falls: compare with ==, or leave it to limits"),
    ("Job", "failed", "condition(object, 'Failed') == 'True' says whether the Job gave up"),
    ("Job", "succeeded", "condition(object, 'Complete') == 'True' says whether the Job is done"),
];

/// A warning for each such field of which a condition over objects of a kind asks for more.
pub(super) fn problems(when: &str, kind: &str, path: &Path, scope: &Scope) -> Vec<Problem> {
    let Ok(expression) = Expression::compile(when, scope) else { return Vec::new() };
    let known =
        |field: &str| GROWING.iter().find(|(of, name, _)| *name == field && (of.is_empty() || *of == kind));
    let bounds = expression.lower_bounds().iter();
    bounds
        .filter_map(|bound| {
            let (_, field, help) = known(&bound.field)?;
            let message = format!("{field} never falls, so that this stays true after any remedy");
            Some(Problem::warning(path.to_string(), message).at(bound.span.clone()).help(*help))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_grow_only_in_the_kinds_that_have_them() {
        let scope = Scope::of(["object"]);
        for (when, kind, expected) in [
            ("object.status.containerStatuses.exists(c, c.restartCount > 5)", "Pod", Some("restartCount")),
            ("3 <= object.metadata.generation", "Widget", Some("generation")),
            ("object.series.count > 3", "Event", Some("count")),
            ("object.spec.count > 3", "Widget", None),
            ("object.status.failed >= 1", "Job", Some("failed")),
            ("object.status.failed >= 1", "Widget", None),
            ("object.metadata.generation != object.status.observedGeneration", "Widget", None),
            ("object.status.containerStatuses.exists(c, c.restartCount == 5)", "Pod", None),
        ] {
            let found = problems(when, kind, &Path::default(), &scope);
            let named = found.first().and_then(|problem| problem.span.clone()).map(|span| &when[span]);
            assert_eq!(named, expected, "{when} of {kind}");
        }
    }
}
