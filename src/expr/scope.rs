//! Which variables an expression may name. The caller decides, because a trigger, a verification
//! and a workflow step see different things.

use std::collections::BTreeSet;

/// The variables that are visible to an expression.
///
/// ```
/// let scope = Scope::of(["event", "object", "target", "now"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    variables: BTreeSet<String>,
}

impl Scope {
    /// A scope of exactly these variables.
    pub fn of<'a>(variables: impl IntoIterator<Item = &'a str>) -> Self {
        Self { variables: variables.into_iter().map(str::to_owned).collect() }
    }

    /// The same scope with one more variable.
    #[must_use]
    pub fn with(mut self, variable: &str) -> Self {
        self.variables.insert(variable.to_owned());
        self
    }

    /// Whether the variable is visible.
    pub fn has(&self, variable: &str) -> bool {
        self.variables.contains(variable)
    }

    /// The visible variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(String::as_str)
    }
}
