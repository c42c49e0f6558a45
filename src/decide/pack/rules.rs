//! The CEL rules of the schemas: which of them has an answer where something is malformed, and which field one is about.
//!
//! A rule that asks which members there are ("exactly one of …") has one whatever is in them. A rule over something that is
//! malformed would only repeat it in other words.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use regex::Regex;

use crate::decide::path::{Path, Segment};
use crate::expr::{Bindings, Expression, Scope};

/// The value that a rule is about.
const SELF: &str = "self";

/// The question whether a field is there.
static ASKED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"has\((?<field>self(?:\.[A-Za-z_][A-Za-z0-9_]*)+)\)")
        .expect("a constant that a test compiles")
});

/// Kubernetes wraps field names that CEL reserves: `__for__`.
static WRAPPED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new("__([a-z]+)__").expect("a constant that a test compiles"));

/// A rule of a schema.
pub(super) struct Rule {
    expression: Expression,
    /// The fields of which it asks whether they are there, from `self` on.
    asked: Vec<Path>,
    /// The fields that it reads, from `self` on.
    read: Vec<Path>,
}

impl Rule {
    /// Compiles a rule; none if it compares with an old object, as the API server alone has one.
    pub(super) fn compile(text: &str) -> Option<Self> {
        let source = WRAPPED.replace_all(text, "$1");
        let scope = Scope::of([SELF]);
        let expression = Expression::compile(&source, &scope).ok()?;
        let asked = ASKED.captures_iter(&source).map(|found| Path::parse(&found["field"])).collect();
        let rest = Expression::compile(&ASKED.replace_all(&source, "true"), &scope);
        // What it reads is all of it where that cannot be said.
        let read = rest.map_or_else(|_| vec![this()], |rest| rest.paths().map(path_of).collect());
        Some(Self { expression, asked, read })
    }

    /// Whether it has an answer although what is at these places, from `self` on, is malformed.
    pub(super) fn is_askable(&self, wrong: &[Path]) -> bool {
        // What is malformed is there. What should be in it may be anywhere.
        let is_hidden = |asked: &Path| wrong.iter().any(|wrong| asked != wrong && asked.starts_with(wrong));
        let is_wrong =
            |read: &Path| wrong.iter().any(|wrong| read.starts_with(wrong) || wrong.starts_with(read));
        !self.asked.iter().any(is_hidden) && !self.read.iter().any(is_wrong)
    }

    /// Whether it is broken. One that cannot be evaluated says nothing.
    pub(super) fn is_broken(&self, bindings: &Bindings) -> bool {
        matches!(self.expression.matches(bindings), Ok(false))
    }

    /// The field, below `self`, that its message begins with.
    pub(super) fn named<'m>(&self, message: &'m str) -> Option<&'m str> {
        let name = message.split(' ').next().filter(|name| !name.is_empty())?;
        let path = Path::parse(&format!("{SELF}.{name}"));
        self.fields().any(|field| field.starts_with(&path)).then_some(name)
    }

    /// The members of `self` that it is about.
    pub(super) fn members(&self) -> BTreeSet<&str> {
        let names = self.fields().filter_map(|field| match field.segments().get(1) {
            Some(Segment::Member(name)) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// Whether it can be told which fields it reads.
    #[cfg(test)]
    pub(super) fn knows_what_it_reads(&self) -> bool {
        !self.read.contains(&this())
    }

    fn fields(&self) -> impl Iterator<Item = &Path> {
        self.asked.iter().chain(&self.read)
    }
}

/// A place as a rule names it that stands so many steps deep. For a rule, what is in a list is the list.
pub(super) fn from_self(place: &Path, depth: usize) -> Path {
    let names = place.segments().iter().skip(depth).map_while(|segment| match segment {
        Segment::Member(name) => Some(name),
        Segment::Item(_) => None,
    });
    names.fold(this(), |path, name| path.member(name))
}

fn this() -> Path {
    Path::default().member(SELF)
}

fn path_of(names: &[String]) -> Path {
    names.iter().fold(Path::default(), |path, name| path.member(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::compile(text).expect("a rule")
    }

    /// Whether a rule is asked if this is malformed.
    fn is_asked(text: &str, wrong: &str) -> bool {
        rule(text).is_askable(&[Path::parse(wrong)])
    }

    #[test]
    fn what_is_there_is_counted_whatever_is_in_it() {
        let either = "[has(self.cron), has(self.every)].filter(set, set).size() == 1";
        for wrong in ["self.cron", "self.every.x", "self.other"] {
            assert!(is_asked(either, wrong), "{wrong}");
        }
        assert!(!is_asked(either, "self"));
        let below = "!has(self.__for__) || has(self.trigger.resource)";
        for (wrong, asked) in
            [("self.for", true), ("self.trigger", false), ("self.trigger.resource.kind", true)]
        {
            assert_eq!(is_asked(below, wrong), asked, "{wrong}");
        }
    }

    #[test]
    fn what_is_malformed_is_not_read() {
        let text = "!has(self.every) || duration(self.every) >= duration('10s')";
        for (wrong, asked) in [("self.every", false), ("self.every.x", false), ("self.cron", true)] {
            assert_eq!(is_asked(text, wrong), asked, "{wrong}");
        }
        let text = "!has(self.requests) || self.requests.all(name, name in ['cpu'])";
        assert!(!is_asked(text, "self.requests.cpu"));
    }

    #[test]
    fn knows_what_it_is_about() {
        let rule = rule("!has(self.limits) || !has(self.limits.once) || has(self.trigger.event)");
        assert_eq!(rule.members().into_iter().collect::<Vec<_>>(), ["limits", "trigger"]);
        assert_eq!(rule.named("limits.once chooses among events"), Some("limits.once"));
        assert_eq!(rule.named("exactly one of limits and trigger must be set"), None);
        assert!(Rule::compile("self.a == oldSelf.a").is_none());
    }

    #[test]
    fn places_are_named_from_self_on() {
        for (place, depth, expected) in [
            ("spec.trigger.schedule.every", 2, "self.schedule.every"),
            ("spec.ladder[0].run", 1, "self.ladder"),
            ("spec.ladder[0].run", 3, "self.run"),
            ("spec.trigger", 2, "self"),
        ] {
            assert_eq!(from_self(&Path::parse(place), depth).to_string(), expected, "{place}");
        }
    }
}
