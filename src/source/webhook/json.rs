//! JSON from strangers: of limited depth, of so many values, without NUL, and with a place for what is wrong.

use serde_json::Value;

/// How deep values may be nested.
const MAX_DEPTH: usize = 64;

/// How many values a request may have, and how many of them may be objects. Two bytes are a value, which takes 32 as one of a
/// list, and eight are an object with one member, which takes 640.
const MAX_VALUES: usize = 100_000;
const MAX_OBJECTS: usize = 20_000;

/// What was read of a request so far.
#[derive(Default)]
pub(super) struct Count {
    /// Brackets and commas: values, but for the first.
    values: usize,
    objects: usize,
}

/// Parses a body.
pub(super) fn parse(body: &[u8]) -> Result<Value, String> {
    parse_beside(&mut Count::default(), body)
}

/// Parses a part of a body, beside what was read of it.
pub(super) fn parse_beside(count: &mut Count, body: &[u8]) -> Result<Value, String> {
    let text = match std::str::from_utf8(body) {
        Ok(text) => text,
        Err(error) => return Err(not_utf8(body, error.valid_up_to())),
    };
    count.add(body)?;
    let value = serde_json::from_str(text)
        .map_err(|error| format!("invalid JSON at byte {}", offset(text, error.line(), error.column())))?;
    match find(&value, '\0') {
        Some(path) => Err(format!("{path}: NUL is not allowed")),
        None => Ok(value),
    }
}

impl Count {
    /// Looks at brackets and commas outside of strings, before anything is built: whether they nest too deeply, or make too
    /// many values.
    fn add(&mut self, body: &[u8]) -> Result<(), String> {
        let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
        for byte in body {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                _ if in_string => {}
                b'[' | b'{' => {
                    depth += 1;
                    self.values += 1;
                    self.objects += usize::from(*byte == b'{');
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b',' => self.values += 1,
                _ => {}
            }
            if depth > MAX_DEPTH {
                return Err(format!("nesting exceeds {MAX_DEPTH}"));
            }
        }
        let counts = [(self.values, MAX_VALUES, "values"), (self.objects, MAX_OBJECTS, "objects")];
        match counts.into_iter().find(|(count, most, _)| count > most) {
            Some((count, most, what)) => Err(format!("{count} {what} exceed {most}")),
            None => Ok(()),
        }
    }
}

fn offset(text: &str, line: usize, column: usize) -> usize {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    (before + column).saturating_sub(1).min(text.len())
}

/// Names the string that is not UTF-8, if the rest is JSON.
fn not_utf8(body: &[u8], at: usize) -> String {
    let lossy = String::from_utf8_lossy(body);
    let is_bounded = Count::default().add(body).is_ok();
    let value = is_bounded.then(|| serde_json::from_str::<Value>(&lossy).ok()).flatten();
    match value.and_then(|value| find(&value, char::REPLACEMENT_CHARACTER)) {
        Some(path) => format!("{path}: invalid UTF-8"),
        None => format!("invalid UTF-8 at byte {at}"),
    }
}

/// The path of the first string, or key, with this character in it.
fn find(value: &Value, wanted: char) -> Option<String> {
    let below = |name: String, value: &Value| {
        let inside = find(value, wanted)?;
        let dot = if inside.is_empty() || inside.starts_with('[') { "" } else { "." };
        Some(format!("{name}{dot}{inside}"))
    };
    match value {
        Value::String(text) => text.contains(wanted).then(String::new),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(index, item)| below(format!("[{index}]"), item))
        }
        Value::Object(members) => members.iter().find_map(|(key, value)| {
            if key.contains(wanted) { Some("a key".to_owned()) } else { below(key.clone(), value) }
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_has_its_place() {
        let deep = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
        for (body, said) in [
            (br#"{"a": 1,}"#.to_vec(), "invalid JSON at byte 8"),
            (b"{\n \"a\": x}".to_vec(), "invalid JSON at byte 8"),
            (b"".to_vec(), "invalid JSON at byte 0"),
            (deep(65), "nesting exceeds 64"),
            (deep(100_000), "nesting exceeds 64"),
            (b"{\"labels\": {\"pod\": \"a\xff\"}}".to_vec(), "labels.pod: invalid UTF-8"),
            (b"[{\"a\": [\"b\xc3\x28\"]}]".to_vec(), "[0].a[0]: invalid UTF-8"),
            (b"\xff".to_vec(), "invalid UTF-8 at byte 0"),
            (br#"{"labels": {"pod": "a\u0000"}}"#.to_vec(), "labels.pod: NUL is not allowed"),
        ] {
            assert_eq!(parse(&body), Err(said.to_owned()), "{}", String::from_utf8_lossy(&body));
        }
    }

    #[test]
    fn there_are_only_so_many_values() {
        let list = |of: &str, count: usize| format!("[{}]", vec![of; count].join(","));
        for (of, most, said) in [
            ("0", 100_000, "100001 values exceed 100000"),
            (r#"{"":0}"#, 20_000, "20001 objects exceed 20000"),
        ] {
            assert!(parse(list(of, most).as_bytes()).is_ok(), "{of}");
            assert_eq!(parse(list(of, most + 1).as_bytes()), Err(said.to_owned()));
        }
    }

    #[test]
    fn a_thousand_alerts_are_not_too_many() {
        let labels: Vec<_> = (0..50).map(|number| format!(r#""label{number:02}":"value""#)).collect();
        let labels = labels.join(",");
        let alert = format!(r#"{{"status":"firing","labels":{{{labels}}},"annotations":{{"summary":"x"}}}}"#);
        let body = format!(r#"{{"version":"4","alerts":[{}]}}"#, vec![alert; 1000].join(","));
        assert!(body.len() > 900_000, "{}", body.len());
        assert!(parse(body.as_bytes()).is_ok());
    }

    #[test]
    fn brackets_in_strings_nest_nothing() {
        let commas = format!(r#"["{}"]"#, ",{".repeat(200_000));
        assert!(parse(commas.as_bytes()).is_ok());
        let body = format!(r#"["{}\"["]"#, "[".repeat(200));
        assert!(parse(body.as_bytes()).is_ok());
        let deepest = [vec![b'['; 64], vec![b']'; 64]].concat();
        assert!(parse(&deepest).is_ok());
    }
}
