//! The grammar of label selectors, read as the real server reads it, with its complaints.

use super::meta::{label_key_problem, label_value_problem};
use super::selector::Requirement;

const OPERATORS: &str = "in, notin, =, ==, !=, gt, lt";
const SYMBOLS: &[&str] = &["==", "!=", "=", "!", "(", ")", ",", ">", "<"];

/// The requirements of a selector, or what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Requirement>, String> {
    let mut words = Words { words: split(text), next: 0 };
    let mut found = Vec::new();
    loop {
        match words.peek() {
            "" if words.is_at_end() => return Ok(found),
            "!" => {}
            word if is_identifier(word) => {}
            word => return Err(format!("found '{word}', expected: !, identifier, or 'end of string'")),
        }
        let requirement = words.requirement();
        found.push(requirement.map_err(|error| format!("unable to parse requirement: {error}"))?);
        if words.is_at_end() {
            return Ok(found);
        }
        let word = words.take();
        if word != "," {
            return Err(format!("found '{word}', expected: ',' or 'end of string'"));
        }
        let next = words.peek();
        if !(next == "!" || is_identifier(next)) {
            return Err(format!("found '{next}', expected: identifier after ','"));
        }
    }
}

fn is_identifier(word: &str) -> bool {
    !word.is_empty() && !SYMBOLS.contains(&word)
}

/// Symbols, and what is between them and spaces.
fn split(text: &str) -> Vec<&str> {
    let mut words = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
        let ends = |c: char| c.is_whitespace() || "=!(),><".contains(c);
        let length = symbol.map_or_else(|| rest.find(ends).unwrap_or(rest.len()), |symbol| symbol.len());
        words.push(&rest[..length]);
        rest = rest[length..].trim_start();
    }
    words
}

struct Words<'a> {
    words: Vec<&'a str>,
    next: usize,
}

impl<'a> Words<'a> {
    fn is_at_end(&self) -> bool {
        self.next >= self.words.len()
    }

    fn peek(&self) -> &'a str {
        self.words.get(self.next).copied().unwrap_or_default()
    }

    fn take(&mut self) -> &'a str {
        let word = self.peek();
        self.next += 1;
        word
    }

    fn requirement(&mut self) -> Result<Requirement, String> {
        let is_absent = self.peek() == "!";
        if is_absent {
            self.take();
        }
        let key = self.take();
        if !is_identifier(key) {
            return Err(format!("found '{key}', expected: identifier"));
        }
        if let Some(problem) = label_key_problem(key) {
            return Err(format!("<nil>: Invalid value: {key:?}: {problem}"));
        }
        let key = key.to_owned();
        if is_absent {
            return Ok(Requirement::Absent(key));
        }
        if self.is_at_end() || self.peek() == "," {
            return Ok(Requirement::Exists(key));
        }
        match self.take() {
            "in" => Ok(Requirement::In(key.clone(), self.values(&key)?)),
            "notin" => Ok(Requirement::NotIn(key.clone(), self.values(&key)?)),
            "=" | "==" => Ok(Requirement::In(key.clone(), vec![self.value(&key)?])),
            "!=" => Ok(Requirement::NotIn(key.clone(), vec![self.value(&key)?])),
            ">" => Ok(Requirement::Greater(key.clone(), number(&self.value(&key)?)?)),
            "<" => Ok(Requirement::Less(key.clone(), number(&self.value(&key)?)?)),
            other => Err(format!("found '{other}', expected: {OPERATORS}")),
        }
    }

    fn value(&mut self, key: &str) -> Result<String, String> {
        if self.is_at_end() || self.peek() == "," {
            return Ok(String::new());
        }
        let word = self.take();
        if !is_identifier(word) {
            return Err(format!("found '{word}', expected: identifier"));
        }
        checked(key, 0, word)
    }

    fn values(&mut self, key: &str) -> Result<Vec<String>, String> {
        let open = self.take();
        if open != "(" {
            return Err(format!("found '{open}' expected: '('"));
        }
        let mut values = Vec::new();
        loop {
            // Between two commas, and before the end, there is an empty value.
            let value = if is_identifier(self.peek()) { self.take() } else { "" };
            values.push(checked(key, values.len(), value)?);
            match self.take() {
                ")" => return Ok(values),
                "," => {}
                other => return Err(format!("found '{other}', expected: ',' or ')'")),
            }
        }
    }
}

fn checked(key: &str, index: usize, value: &str) -> Result<String, String> {
    match label_value_problem(value) {
        Some(problem) => Err(format!("values[{index}][{key}]: Invalid value: {value:?}: {problem}")),
        None => Ok(value.to_owned()),
    }
}

fn number(text: &str) -> Result<i64, String> {
    let problem = "for 'Gt', 'Lt' operators, the value must be an integer";
    text.parse().map_err(|_| format!("values[0]: Invalid value: {text:?}: {problem}"))
}
