//! Where in a file a path, or a part of a string, is.

use std::ops::Range;

use super::yaml::{Data, Key, Node};
use crate::decide::path::{Path, Segment};

/// The node that a path leads to and, in a map, its key; or as near as there is one.
pub fn find<'n>(path: &Path, root: &'n Node) -> (Option<&'n Key>, &'n Node) {
    let (mut key, mut node) = (None, root);
    for segment in path.segments() {
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

/// What to underline for a problem at a path: the part of a string that is meant, a scalar, or the key of a list or
/// map; and where the path leads nowhere, what is nearest to it.
pub fn of_problem(text: &str, root: &Node, path: &Path, part: Option<&Range<usize>>) -> Range<usize> {
    let (key, node) = find(path, root);
    match (part, node.as_str(), &node.data) {
        (Some(part), Some(value), _) => within_scalar(text, &node.span, value, part),
        (_, _, Data::Scalar(_)) => node.span.clone(),
        _ => key.map_or_else(|| first_key(node), |key| key.span.clone()),
    }
}

fn first_key(node: &Node) -> Range<usize> {
    match &node.data {
        Data::Map(members) => members.first().map_or(node.span.clone(), |(key, _)| key.span.clone()),
        _ => node.span.clone(),
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
    fn leads_as_near_as_there_is_a_node() {
        let text = "spec:\n  ladder:\n  - run: x\n";
        let (documents, _) = read(text).unwrap();
        let find = |path: &str| find(&Path::parse(path), &documents[0]);
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
