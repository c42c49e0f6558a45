//! Paths into an object, as people write them.

use std::fmt;

use serde_json::Value;

/// A path into an object, such as `spec.ladder[0].with["a.b"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<Segment>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Segment {
    /// Into a member of a map.
    Member(String),
    /// Into an item of a list.
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

    /// Whether it goes on from one of these paths.
    pub fn is_below(&self, others: &[&str]) -> bool {
        let others = others.iter().map(|other| Self::parse(other).0);
        others.into_iter().any(|other| self.0.len() > other.len() && self.0.starts_with(&other))
    }

    /// Whether it is this path, or goes on from it.
    pub fn starts_with(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
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

    /// The path that a JSON pointer into `value` continues this one by: only the value tells a list from a map.
    #[must_use]
    pub fn join_pointer(&self, value: &Value, pointer: &str) -> Self {
        let (mut path, mut value) = (self.clone(), Some(value));
        for token in pointer.split('/').skip(1).map(|token| token.replace("~1", "/").replace("~0", "~")) {
            let index = value.filter(|value| value.is_array()).and_then(|_| token.parse().ok());
            path = index.map_or_else(|| path.member(&token), |index| path.item(index));
            value = value.and_then(|value| index.map_or_else(|| value.get(&token), |index| value.get(index)));
        }
        path
    }

    /// Removes the member of a map that it leads to.
    pub fn remove_from(&self, value: &mut Value) {
        let Some((Segment::Member(last), parents)) = self.0.split_last() else { return };
        let parent = parents.iter().try_fold(value, |value, segment| match segment {
            Segment::Member(name) => value.get_mut(name),
            Segment::Item(index) => value.get_mut(index),
        });
        parent.and_then(Value::as_object_mut).and_then(|members| members.remove(last));
    }

    /// Its steps.
    pub fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The same as a JSON pointer.
    pub fn pointer(&self) -> String {
        let escaped = |segment: &Segment| match segment {
            Segment::Member(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            Segment::Item(index) => format!("/{index}"),
        };
        self.0.iter().map(escaped).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
    fn removes_members() {
        for (path, left) in [
            ("a[0].b", json!({"a": [{}], "c": 1})),
            ("c", json!({"a": [{"b": 1}]})),
            ("a[0]", json!({"a": [{"b": 1}], "c": 1})),
            ("x.y", json!({"a": [{"b": 1}], "c": 1})),
            ("", json!({"a": [{"b": 1}], "c": 1})),
        ] {
            let mut value = json!({"a": [{"b": 1}], "c": 1});
            Path::parse(path).remove_from(&mut value);
            assert_eq!(value, left, "{path}");
        }
    }

    #[test]
    fn pointers_need_the_value_to_be_read() {
        let value = json!({"a": [{"0": 1}], "0": {"x/y": 2}});
        let base = Path::parse("spec.with");
        for (pointer, path) in
            [("/a/0/0", "spec.with.a[0].0"), ("/0/x~1y", "spec.with.0[\"x/y\"]"), ("", "spec.with")]
        {
            assert_eq!(base.join_pointer(&value, pointer).to_string(), path);
        }
    }
}
