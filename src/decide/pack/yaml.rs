//! Reads YAML into nodes that know where they stand, in one parse.
//!
//! Only what two YAML versions read alike is let through: `yes`, `010` and `1_000` mean one thing to this parser (YAML 1.2) and
//! another to kubectl's (1.1). Anchors, aliases, merge keys and tags are refused: nothing here needs them, and bombs are made of them.

use std::ops::Range;
use std::sync::LazyLock;

use regex::Regex;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned, budget, options};

/// Nesting beyond this is an accident or an attack: a Rule needs ten levels, a patch with a whole Pod in it twenty. The parser
/// recurses, in an unoptimised build by some 30 KiB a level, and a thread has 2 MiB.
const MAX_DEPTH: usize = 24;

/// A value and the bytes of the file it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The bytes of a scalar; where a list or map begins, an empty range.
    pub span: Range<usize>,
    /// The value.
    pub data: Data,
}

/// The value of a node.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Anything without members, as JSON.
    Scalar(Value),
    /// A list.
    List(Vec<Node>),
    /// A map, in the file's order.
    Map(Vec<(Key, Node)>),
}

/// A key of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its text.
    pub name: String,
    /// Its bytes.
    pub span: Range<usize>,
}

/// Why a file, or a part of it, cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The bytes that are meant.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: Option<String>,
}

impl Node {
    /// The same as JSON, without places.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => items.iter().map(Self::to_json).collect(),
            Data::Map(members) => Value::Object(
                members.iter().map(|(key, node)| (key.name.clone(), node.to_json())).collect::<Map<_, _>>(),
            ),
        }
    }

    /// The member of a map.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.member(name).map(|(_, node)| node)
    }

    /// The member of a map, with its key.
    pub fn member(&self, name: &str) -> Option<(&Key, &Self)> {
        let Data::Map(members) = &self.data else { return None };
        members.iter().find(|(key, _)| key.name == name).map(|(key, node)| (key, node))
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

/// The documents of a file, and what is ambiguous in them; or why it is no YAML.
pub fn read(text: &str) -> Result<(Vec<Node>, Vec<Mistake>), Mistake> {
    let options = options! {
        budget: budget! { max_depth: MAX_DEPTH, max_anchors: 0, max_aliases: 0 },
        duplicate_keys: options::DuplicateKeyPolicy::Error,
        merge_keys: options::MergeKeyPolicy::Error,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        strict_booleans: true,
        reject_unsupported_tags: true,
        non_finite_float_policy: options::NonFiniteFloatPolicy::Reject,
        with_snippet: false,
    };
    let documents: Vec<Spanned<Raw>> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|error| explain(text, &error))?;
    let documents: Vec<Node> = documents.into_iter().map(node).collect();
    let mut ambiguous = Vec::new();
    for document in &documents {
        find_ambiguous(text, "", document, &mut ambiguous);
    }
    Ok((documents, ambiguous))
}

/// What the parser gives, before its places are turned into byte ranges.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

fn node(raw: Spanned<Raw>) -> Node {
    let span = bytes(raw.referenced);
    match raw.value {
        Raw::Scalar(value) => Node { span, data: Data::Scalar(value) },
        // The parser's range of `[a]` is the bracket alone, of a block nothing at all.
        Raw::List(items) => {
            Node { span: span.start..span.start, data: Data::List(items.into_iter().map(node).collect()) }
        }
        Raw::Map(members) => {
            let member = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                (Key { span: bytes(key.referenced), name: key.value }, node(value))
            };
            Node { span: span.start..span.start, data: Data::Map(members.into_iter().map(member).collect()) }
        }
    }
}

fn bytes(location: Location) -> Range<usize> {
    let span = location.span();
    let number = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok()).unwrap_or_default();
    let start = number(span.byte_offset());
    start..start + number(span.byte_len())
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Raw, E> {
        Number::from_f64(value)
            .map(|number| Raw::Scalar(number.into()))
            .ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut members = Vec::new();
        while let Some(key) = access.next_key()? {
            members.push((key, access.next_value()?));
        }
        Ok(Raw::Map(members))
    }
}

/// The parser's complaint in our words, without the place, which is shown anyway.
fn explain(text: &str, error: &serde_saphyr::Error) -> Mistake {
    let full = error.to_string();
    let message = full.split(" at line ").next().unwrap_or(&full);
    let message = match message {
        _ if message.starts_with("duplicate mapping key: ") => {
            let key =
                message.trim_start_matches("duplicate mapping key: ").split(',').next().unwrap_or_default();
            format!("duplicate key {key:?}")
        }
        _ if message.contains("Anchors")
            || message.contains("Aliases")
            || message.contains("unknown anchor") =>
        {
            "anchors and aliases are not allowed: write the value out".to_owned()
        }
        _ if message.contains("merge keys") => "merge keys are not allowed: write the members out".to_owned(),
        _ if message.contains("Depth") => format!("nested deeper than {MAX_DEPTH}"),
        _ => message.to_owned(),
    };
    let start = error.location().map_or(0, |location| offset(text, location));
    let width = text[start..].chars().next().filter(|c| *c != '\n').map_or(0, char::len_utf8);
    // In a map or list within braces or brackets a template begins a map.
    let is_template = text[..start].ends_with('$') && text[start..].starts_with("{{");
    let help = is_template.then(|| "put the template in quotes: \"${{ … }}\"".to_owned());
    Mistake { span: start..start + width, message, help }
}

/// The byte offset of a line and column: errors of the scanner have nothing better.
fn offset(text: &str, location: Location) -> usize {
    let line = usize::try_from(location.line()).unwrap_or(1).max(1);
    let column = usize::try_from(location.column()).unwrap_or(1).max(1);
    let mut start = 0;
    for content in text.split_inclusive('\n').take(line - 1) {
        start += content.len();
    }
    let rest = &text[start.min(text.len())..];
    start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at)
}

/// Scalars that YAML 1.1 reads as something else than 1.2 does.
static AMBIGUOUS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"(?x)^(?:
        (?<word> [yYnN] | (?i:yes|no|on|off) ) |
        (?<octal> [-+]?0[0-9_]+ ) |
        (?<sixty> [-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)? ) |
        (?<grouped> [-+]?[0-9][0-9,]*_[0-9_]* ) |
        (?<date> [0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt\ ].*)? )
        )$",
    )
    .expect("a constant that a test compiles")
});

/// Fields that hold an expression, so that `true` in place of `yes` would be refused, too.
const EXPRESSIONS: [&str; 5] = ["when", "if", "since", "given", "groupBy"];

/// Looks at what is behind the field of a name, and in it.
fn find_ambiguous(text: &str, name: &str, node: &Node, found: &mut Vec<Mistake>) {
    match &node.data {
        Data::Scalar(_) => found.extend(ambiguous(text, name, &node.span)),
        Data::List(items) => items.iter().for_each(|item| find_ambiguous(text, "", item, found)),
        Data::Map(members) => {
            for (key, value) in members {
                found.extend(ambiguous(text, "", &key.span));
                find_ambiguous(text, &key.name, value, found);
            }
        }
    }
}

/// Whether the plain scalar at `span`, behind the field of a name, is ambiguous; a quoted one begins with its quote and so is not.
fn ambiguous(text: &str, name: &str, span: &Range<usize>) -> Option<Mistake> {
    let raw = text.get(span.clone())?;
    // A block scalar is never ambiguous; its range begins on another line than its indicator.
    let line_start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    if text[line_start..span.start].trim().is_empty()
        && text[..line_start].trim_end().ends_with(['|', '>', '-', '+'])
    {
        return None;
    }
    let captures = AMBIGUOUS.captures(raw)?;
    let is_word = captures.name("word").is_some();
    let (older, help) = if is_word && EXPRESSIONS.contains(&name) {
        ("a boolean", "write an expression in quotes".to_owned())
    } else if is_word {
        let truth = raw.to_lowercase().starts_with('y') || raw.eq_ignore_ascii_case("on");
        ("a boolean", format!("write {truth} or {raw:?}"))
    } else if captures.name("octal").is_some() {
        ("an octal number", format!("write {raw:?}, or the number without leading zeros"))
    } else if captures.name("date").is_some() {
        ("a timestamp", format!("write {raw:?}"))
    } else {
        ("a number", format!("write {raw:?} if it is text"))
    };
    let message = format!("{raw} is ambiguous: YAML 1.1 reads it as {older}");
    Some(Mistake { span: span.clone(), message, help: Some(help) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn knows_where_everything_stands() {
        let text = "a: é\nb:\n  - 'x'\n  - {c: 1}\n---\n# nothing\n---\nd: |\n  two\n  lines\n";
        let (documents, ambiguous) = read(text).unwrap();
        assert_eq!(ambiguous, []);
        let json: Vec<_> = documents.iter().map(Node::to_json).collect();
        assert_eq!(json, [json!({"a": "é", "b": ["x", {"c": 1}]}), json!({"d": "two\nlines\n"})]);
        let a = documents[0].get("a").unwrap();
        assert_eq!(&text[a.span.clone()], "é");
        let (key, block) = documents[1].member("d").unwrap();
        assert_eq!((&text[key.span.clone()], &text[block.span.clone()]), ("d", "two\n  lines\n"));
    }

    #[test]
    fn refuses_what_is_no_plain_yaml() {
        let (lists, maps) = ("[".repeat(200) + &"]".repeat(200), "{a: ".repeat(200) + &"}".repeat(200));
        for (text, at, message) in [
            ("a: 1\na: 2", "a: 2", "duplicate key \"a\""),
            ("a: &x 1\nb: *x", "", "anchors and aliases are not allowed: write the value out"),
            ("<<: {a: 1}", "<<", "merge keys are not allowed: write the members out"),
            ("a: !foo 1", "1", "unsupported tag `!foo`"),
            ("a: b: c", ": c", "mapping values are not allowed in this context"),
            ("a: .nan", ".nan", "non-finite float `.nan` rejected by the configured policy"),
            (lists.as_str(), "", "nested deeper than 24"),
            (maps.as_str(), "", "nested deeper than 24"),
        ] {
            let mistake = read(text).unwrap_err();
            assert_eq!(mistake.message, message, "{text}");
            assert!(text[mistake.span.start..].starts_with(at), "{text}: {:?}", mistake.span);
        }
    }

    #[test]
    fn reads_as_deep_as_it_says() {
        let deep = "{a: ".repeat(22) + "[1]" + &"}".repeat(22);
        assert_eq!(read(&deep).unwrap().0.len(), 1);
    }

    #[test]
    fn refuses_what_versions_read_differently() {
        for (raw, help) in [
            ("yes", "write true or \"yes\""),
            ("Off", "write false or \"Off\""),
            ("n", "write false or \"n\""),
            ("010", "write \"010\", or the number without leading zeros"),
            ("1_000", "write \"1_000\" if it is text"),
            ("12:30", "write \"12:30\" if it is text"),
            ("2026-01-31", "write \"2026-01-31\""),
        ] {
            for text in [format!("a: {raw}"), format!("[{raw}]"), format!("{raw}: 1")] {
                let (_, found) = read(&text).unwrap();
                assert_eq!(found.len(), 1, "{text}");
                assert_eq!(found[0].help.as_deref(), Some(help), "{text}");
            }
            for text in [
                format!("a: '{raw}'"),
                format!("a: \"{raw}\""),
                format!("a: |\n  {raw}\n"),
                format!("a: >-\n  {raw}"),
            ] {
                assert_eq!(read(&text).unwrap().1, [], "{text}");
            }
        }
        for raw in ["yes", "Off", "n"] {
            let (_, found) = read(&format!("unless: [{{if: {raw}}}]")).unwrap();
            assert_eq!(found[0].help.as_deref(), Some("write an expression in quotes"), "{raw}");
        }
        for fine in
            ["a: true", "a: 0", "a: -7", "a: 1.5", "a: 0.5", "a: 5m", "a: 10.0.0.1", "a: ~", "a: yesterday"]
        {
            assert_eq!(read(fine).unwrap().1, [], "{fine}");
        }
    }
}
