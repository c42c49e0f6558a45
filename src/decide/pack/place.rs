//! Paths into an object, and where in a file they lead.

use std::fmt;
use std::ops::Range;

use super::yaml::{Data, Key, Node};

/// A path into an object, such as `spec.ladder[0].with["a.b"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Member(String),
    Item(usize),
}

impl Path {
    /// The path of a member.
    #[must_use]
    pub fn member(&self, name: &str) -> Self {
        self.with(Segment::Member(name.to_owned()))
    }

    /// The path of a list's item.
    #[must_use]
    pub fn item(&self, index: usize) -> Self {
        self.with(Segment::Item(index))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = self.0.clone();
        segments.push(segment);
        Self(segments)
    }

    /// Reads what [`fmt::Display`] writes; what is not a path reads as far as it is one.
    pub fn parse(text: &str) -> Self {
        let mut segments = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (segment, length) = first_segment(rest);
            let Some(segment) = segment else { break };
            segments.push(segment);
            rest = &rest[length..];
        }
        Self(segments)
    }

    /// The same as a JSON pointer.
    pub fn pointer(&self) -> String {
        let escaped = |segment: &Segment| match segment {
            Segment::Member(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            Segment::Item(index) => format!("/{index}"),
        };
        self.0.iter().map(escaped).collect()
    }

    /// The node it leads to and, in a map, its key; or as near as there is one.
    pub fn find<'n>(&self, root: &'n Node) -> (Option<&'n Key>, &'n Node) {
        let (mut key, mut node) = (None, root);
        for segment in &self.0 {
            match (segment, &node.data) {
                (Segment::Member(name), Data::Map(_)) => match node.member(name) {
                    Some((found, value)) => (key, node) = (Some(found), value),
                    None => break,
                },
                (Segment::Item(index), Data::List(items)) => match items.get(*index) {
                    Some(item) => (key, node) = (None, item),
                    None => break,
                },
                _ => break,
            }
        }
        (key, node)
    }
}

fn first_segment(text: &str) -> (Option<Segment>, usize) {
    if let Some(rest) = text.strip_prefix("[\"") {
        let end = rest.find("\"]").unwrap_or(rest.len());
        return (Some(Segment::Member(rest[..end].to_owned())), (2 + end + 2).min(text.len()));
    }
    if let Some(rest) = text.strip_prefix('[') {
        let end = rest.find(']').unwrap_or(rest.len());
        return (rest[..end].parse().ok().map(Segment::Item), (1 + end + 1).min(text.len()));
    }
    let dot = usize::from(text.starts_with('.'));
    let end = text[dot..].find(['.', '[']).map_or(text.len(), |at| dot + at);
    (Some(Segment::Member(text[dot..end].to_owned())), end)
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Item(index) => write!(formatter, "[{index}]")?,
                Segment::Member(name) if name.is_empty() || name.contains(['.', '[', '/']) => {
                    write!(formatter, "[\"{name}\"]")?;
                }
                Segment::Member(name) if position == 0 => write!(formatter, "{name}")?,
                Segment::Member(name) => write!(formatter, ".{name}")?,
            }
        }
        Ok(())
    }
}

/// The bytes of a file that a range of a string's value came from: exact for plain and literal scalars, and for
/// quoted ones with ordinary escapes; the whole scalar where the two cannot be aligned.
pub fn within_scalar(text: &str, scalar: &Range<usize>, value: &str, part: &Range<usize>) -> Range<usize> {
    let raw = text.get(scalar.clone()).unwrap_or_default();
    let aligned = align(raw, value);
    let place =
        |offset: usize| aligned.iter().find(|(of_value, _)| *of_value >= offset).map(|(_, of_raw)| *of_raw);
    let end =
        || aligned.iter().rev().find(|(of_value, _)| *of_value < part.end).map(|(at, raw_at)| (at, raw_at));
    let Some((start, (last_value, last_raw))) = place(part.start).zip(end()) else {
        // An empty range at the end of an expression: right behind its last character.
        let last =
            aligned.last().map(|(at, raw_at)| raw_at + value[*at..].chars().next().map_or(0, char::len_utf8));
        return last.map_or(scalar.clone(), |last| scalar.start + last..scalar.start + last);
    };
    let width = value[*last_value..].chars().next().map_or(1, char::len_utf8);
    let start = scalar.start + start;
    start..(scalar.start + last_raw + width).max(start)
}

/// Pairs of offsets, of each character of the value and of what stands for it in the file.
fn align(raw: &str, value: &str) -> Vec<(usize, usize)> {
    let quoted = raw.starts_with('"');
    let mut pairs = Vec::new();
    let mut rest = raw.char_indices().skip(usize::from(raw.starts_with(['"', '\''])));
    'value: for (of_value, wanted) in value.char_indices() {
        while let Some((of_raw, found)) = rest.next() {
            if quoted && found == '\\' {
                let escaped = rest.next().map(|(_, escaped)| escaped);
                let digits = match escaped {
                    Some('x') => 2,
                    Some('u') => 4,
                    Some('U') => 8,
                    // An escaped line break stands for nothing.
                    Some('\n') => continue,
                    _ => 0,
                };
                rest.by_ref().take(digits).for_each(drop);
                pairs.push((of_value, of_raw));
                continue 'value;
            }
            if found == wanted || (found == '\n' && wanted == ' ') {
                pairs.push((of_value, of_raw));
                continue 'value;
            }
        }
        return Vec::new();
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::super::yaml::read;
    use super::*;

    #[test]
    fn paths_are_read_as_they_are_written() {
        for (text, pointer) in [
            ("spec.ladder[0].verify.when", "/spec/ladder/0/verify/when"),
            ("metadata.labels[\"example.com/a~b\"]", "/metadata/labels/example.com~1a~0b"),
            ("", ""),
            ("spec", "/spec"),
            ("a[1][2].b", "/a/1/2/b"),
        ] {
            let path = Path::parse(text);
            assert_eq!((path.to_string().as_str(), path.pointer().as_str()), (text, pointer));
        }
        assert_eq!(Path::default().member("a").item(3).member("b.c").to_string(), "a[3][\"b.c\"]");
    }

    #[test]
    fn leads_as_near_as_there_is_a_node() {
        let text = "spec:\n  ladder:\n  - run: x\n";
        let (documents, _) = read(text).unwrap();
        let find = |path: &str| Path::parse(path).find(&documents[0]);
        assert_eq!(find("spec.ladder[0].run").1.as_str(), Some("x"));
        assert_eq!(find("spec.ladder[0].verify.when").1, find("spec.ladder[0]").1);
        assert_eq!(find("spec.ladder[0].run").0.map(|key| key.name.as_str()), Some("run"));
    }

    #[test]
    fn finds_parts_of_scalars() {
        for (text, part, expected) in [
            ("a: one + two", 6..9, "two"),
            ("a: 'it''s + two'", 7..10, "two"),
            ("a: \"x\\t\\\"+ two\"", 5..8, "two"),
            ("a: \"\\u00e9 + two\"", 5..8, "two"),
            ("a: |\n  one\n    + two\n", 8..11, "two"),
            ("a: >-\n  one\n  two\n", 4..7, "two"),
            ("a: é + two", 5..8, "two"),
            ("a: one +", 5..5, ""),
            ("a: one +", 6..6, ""),
        ] {
            let (documents, _) = read(text).unwrap();
            let node = documents[0].get("a").unwrap();
            let found = within_scalar(text, &node.span, node.as_str().unwrap(), &part);
            assert_eq!(&text[found.clone()], expected, "{text:?} {found:?}");
            assert!(found.start > 3, "{text:?}");
        }
    }
}
