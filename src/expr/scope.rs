//! Which variables an expression may name. The caller decides, because a trigger, a verification
//! and a workflow step see different things.

use super::types::Type;
use std::collections::BTreeMap;

/// The variables that are visible to an expression.
///
/// ```
/// let scope = Scope::of(["event", "object", "target", "now"]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    variables: BTreeMap<String, Type>,
    /// Where others are known, for whoever names one of them.
    elsewhere: BTreeMap<String, &'static str>,
}

impl Scope {
    /// A scope of exactly these variables, of which no more is known.
    pub fn of<'a>(variables: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            variables: variables
                .into_iter()
                .map(|name| (name.to_owned(), if name == "now" { Type::Timestamp } else { Type::Any }))
                .collect(),
            elsewhere: BTreeMap::new(),
        }
    }

    /// The same scope, where of these variables it is said where they are known, unless they are here.
    #[must_use]
    pub fn elsewhere<'a>(mut self, variables: impl IntoIterator<Item = (&'a str, &'static str)>) -> Self {
        self.elsewhere.extend(variables.into_iter().map(|(name, place)| (name.to_owned(), place)));
        self
    }

    /// Where a variable is known that is not visible here.
    pub(super) fn place_of(&self, variable: &str) -> Option<&'static str> {
        self.elsewhere.get(variable).copied()
    }

    /// The same scope with one more variable.
    #[must_use]
    pub fn with(self, variable: &str) -> Self {
        self.with_type(variable, Type::Any)
    }

    /// The same scope, where a variable is of this type.
    #[must_use]
    pub fn with_type(mut self, variable: &str, of: Type) -> Self {
        self.variables.insert(variable.to_owned(), of);
        self
    }

    /// The same scope without a variable, of which it is said where it is known.
    #[must_use]
    pub fn without(mut self, variable: &str, place: &'static str) -> Self {
        self.variables.remove(variable);
        self.elsewhere([(variable, place)])
    }

    /// What is known of a variable.
    pub(super) fn type_of(&self, variable: &str) -> Option<&Type> {
        self.variables.get(variable)
    }

    /// Whether the variable is visible.
    pub fn has(&self, variable: &str) -> bool {
        self.variables.contains_key(variable)
    }

    /// The visible variables, in order.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.variables.keys().map(String::as_str)
    }
}
