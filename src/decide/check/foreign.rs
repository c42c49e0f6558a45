//! Templates as other tools write them, where ours may stand: they are taken as text, which is seldom meant.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;

use crate::decide::path::Path;
use crate::decide::problem::Problem;
use crate::expr::Scope;

/// `{{ x }}`, `<% x %>` and `${ x.y }`. A shell's `${X}` is no template of anybody, and `$${{` is how ours is written as text.
static FOREIGN: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)
        (?:^|[^$]) (?<braces> \{\{ [^{}]+ \}\} ) |
        (?<percent> <% [^%]+ %> ) |
        (?<dollar> \$\{ \s* [a-z]\w* [.\[(] [^{}]* \} )",
    )
    .expect("a constant that a test compiles")
});

/// What is around an expression in one of them.
const AROUND: [char; 8] = ['{', '}', '<', '%', '>', '$', '-', ' '];

/// A doubt about each text of a value that has such a template.
pub(super) fn problems(value: &Value, path: &Path, scope: &Scope) -> Vec<Problem> {
    match value {
        Value::String(text) => found(text, path, scope).into_iter().collect(),
        Value::Array(items) => {
            let items = items.iter().enumerate();
            items.flat_map(|(index, item)| problems(item, &path.item(index), scope)).collect()
        }
        Value::Object(members) => {
            members.iter().flat_map(|(name, member)| problems(member, &path.member(name), scope)).collect()
        }
        _ => Vec::new(),
    }
}

fn found(text: &str, path: &Path, scope: &Scope) -> Option<Problem> {
    let captures = FOREIGN.captures(text)?;
    let found = ["braces", "percent", "dollar"].into_iter().find_map(|name| captures.name(name))?;
    let inner = found.as_str().trim_matches(AROUND);
    let first = inner.split(|c: char| !c.is_ascii_alphanumeric()).next();
    // Of what is read nothing may be here by that name.
    let is_ours = scope.variables().any(|variable| Some(variable) == first);
    let meant = if is_ours { inner } else { "…" };
    let problem = Problem::warning(path.to_string(), format!("{:?} is taken as text", found.as_str()));
    Some(problem.at(found.range()).help(format!("did you mean \"${{{{ {meant} }}}}\"?")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_other_tools_would_replace_is_asked_about() {
        let scope = Scope::of(["object"]);
        for (text, part, meant) in [
            ("{{ trigger.payload.name }}", "{{ trigger.payload.name }}", "…"),
            ("a {{object.metadata.name}}", "{{object.metadata.name}}", "object.metadata.name"),
            ("{{- object.x -}}", "{{- object.x -}}", "object.x"),
            ("<% ctx().name %>", "<% ctx().name %>", "…"),
            ("x-${ object.metadata.name }", "${ object.metadata.name }", "object.metadata.name"),
            ("${{ object.a }}-{{ object.b }}", "{{ object.b }}", "object.b"),
        ] {
            let found = problems(&json!({"a": [text]}), &Path::parse("spec.with"), &scope);
            let told: Vec<_> = found.iter().map(ToString::to_string).collect();
            let meant = format!("did you mean \"${{{{ {meant} }}}}\"?");
            assert_eq!(told, [format!("spec.with.a[0]: {part:?} is taken as text; {meant}")]);
            assert_eq!(found[0].span.clone().map(|span| &text[span]), Some(part));
        }
        for text in ["${{ object.x }}", "$${{ object.x }}", "${HOME}", "${x:-y}", "{}", "100%", "a <b> {c}"] {
            assert_eq!(problems(&json!(text), &Path::parse("spec.with"), &scope), [], "{text}");
        }
    }
}
