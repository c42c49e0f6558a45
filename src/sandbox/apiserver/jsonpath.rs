//! The JSONPath of printer columns: fields, indexes, wildcards and filters of one comparison.

use serde_json::Value;

#[derive(Clone, Debug, PartialEq)]
enum Part {
    Field(String),
    Index(i64),
    All,
    /// `?(@.path op value)`; without an operator, existence.
    Filter(Vec<Part>, Option<(String, Value)>),
}

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Part>);

impl JsonPath {
    /// Parses `.a.b[0]['c'].d[?(@.type=="Ready")].e`; nothing where the path is not understood.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().trim_start_matches('{').trim_end_matches('}').trim_start_matches('$');
        parse(text).map(Self)
    }

    /// All values that the path finds.
    pub fn find<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        find(&self.0, value)
    }
}

fn parse(mut rest: &str) -> Option<Vec<Part>> {
    let mut parts = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after)?;
            parts.push(parse_bracket(after[..end].trim())?);
            rest = &after[end + 1..];
        } else {
            let after = rest.strip_prefix('.').unwrap_or(rest);
            if after.starts_with('[') {
                rest = after;
                continue;
            }
            let (name, tail) = field_name(after);
            if name.is_empty() {
                return if after.is_empty() { Some(parts) } else { None };
            }
            parts.push(if name == "*" { Part::All } else { Part::Field(name) });
            rest = tail;
        }
    }
    Some(parts)
}

/// A field's name, where `\.` is a dot of the name.
fn field_name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => {
                if let Some((_, escaped)) = characters.next() {
                    name.push(escaped);
                }
            }
            '.' | '[' => return (name, &text[index..]),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Where the bracket that is open ends, outside quotes and inner brackets.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0, None);
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(index),
            (None, ']') => depth -= 1,
            _ => {}
        }
    }
    None
}

fn parse_bracket(inner: &str) -> Option<Part> {
    if inner == "*" || inner == ":" {
        return Some(Part::All);
    }
    if let Some(filter) = inner.strip_prefix("?(").and_then(|rest| rest.strip_suffix(')')) {
        return parse_filter(filter.trim());
    }
    if let Some(quoted) = unquote(inner) {
        return Some(Part::Field(quoted));
    }
    inner.parse().ok().map(Part::Index)
}

fn unquote(text: &str) -> Option<String> {
    for quote in ['\'', '"'] {
        if let Some(inner) = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)) {
            return Some(inner.to_owned());
        }
    }
    None
}

fn parse_filter(text: &str) -> Option<Part> {
    for operator in ["==", "!=", ">=", "<=", ">", "<"] {
        if let Some((left, right)) = text.split_once(operator) {
            let path = parse(left.trim().strip_prefix('@')?)?;
            let right = right.trim();
            let value = unquote(right).map(Value::from).or_else(|| serde_json::from_str(right).ok())?;
            return Some(Part::Filter(path, Some((operator.to_owned(), value))));
        }
    }
    Some(Part::Filter(parse(text.strip_prefix('@')?)?, None))
}

fn find<'a>(parts: &[Part], value: &'a Value) -> Vec<&'a Value> {
    let Some((part, rest)) = parts.split_first() else { return vec![value] };
    let children = || -> Vec<&'a Value> {
        match value {
            Value::Array(items) => items.iter().collect(),
            Value::Object(map) => map.values().collect(),
            _ => Vec::new(),
        }
    };
    let next: Vec<&Value> = match part {
        Part::Field(name) => value.get(name).into_iter().collect(),
        Part::All => children(),
        Part::Index(index) => {
            let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let place = if *index < 0 { index + length } else { *index };
            usize::try_from(place).ok().and_then(|place| items.get(place)).into_iter().collect()
        }
        Part::Filter(path, test) => {
            children().into_iter().filter(|item| passes(path, test.as_ref(), item)).collect()
        }
    };
    next.into_iter().flat_map(|value| find(rest, value)).collect()
}

fn passes(path: &[Part], test: Option<&(String, Value)>, item: &Value) -> bool {
    let found = find(path, item).into_iter().next();
    let Some((operator, wanted)) = test else { return found.is_some() };
    let Some(found) = found else { return false };
    let order = || found.as_f64().zip(wanted.as_f64()).and_then(|(found, wanted)| found.partial_cmp(&wanted));
    match operator.as_str() {
        "==" => found == wanted,
        "!=" => found != wanted,
        ">" => order().is_some_and(std::cmp::Ordering::is_gt),
        "<" => order().is_some_and(std::cmp::Ordering::is_lt),
        ">=" => order().is_some_and(std::cmp::Ordering::is_ge),
        _ => order().is_some_and(std::cmp::Ordering::is_le),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_their_values() {
        let object = json!({"metadata": {"annotations": {"x.dev/a": "b"}}, "status": {"n": 3, "conditions": [
            {"type": "Ready", "status": "True"}, {"type": "Stalled", "status": "False"}]}});
        let cases = [
            (".status.n", Some(vec![json!(3)])),
            ("{.status.conditions[?(@.type==\"Ready\")].status}", Some(vec![json!("True")])),
            (".status.conditions[?(@.type=='Gone')].status", Some(vec![])),
            (".status.conditions[-1].type", Some(vec![json!("Stalled")])),
            (".status.conditions[*].type", Some(vec![json!("Ready"), json!("Stalled")])),
            (".metadata.annotations['x.dev/a']", Some(vec![json!("b")])),
            (".metadata.annotations.x\\.dev/a", Some(vec![json!("b")])),
            (".status[", None),
        ];
        for (text, expected) in cases {
            let found =
                JsonPath::parse(text).map(|path| path.find(&object).into_iter().cloned().collect::<Vec<_>>());
            assert_eq!(found, expected, "{text}");
        }
    }
}
