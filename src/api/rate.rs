//! Rates as people write them: `2/6h` is at most two in any six hours.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::{Duration, duration};

/// At most so many in any span of so long.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rate {
    /// How many, at least one.
    pub count: u32,
    /// The span, which slides: it ends now.
    pub within: Duration,
}

/// A text that is not a rate.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum RateError {
    /// It is not a count, a slash and a duration.
    #[error("\"{text}\" is not a rate: {remedy}")]
    Malformed {
        /// The text.
        text: String,
        /// What to write instead.
        remedy: String,
    },
    /// It allows nothing.
    #[error("\"{0}\" allows nothing: the count must be at least 1; use mode: Observe to stop a rule")]
    Nothing(String),
    /// Its span is empty.
    #[error("\"{0}\" spans no time: use a duration such as \"1h\"")]
    NoTime(String),
}

/// What the API server checks; [`Rate::from_str`] accepts the same texts, but for spans of nothing.
pub const RATE_PATTERN: &str =
    "^[1-9][0-9]{0,3}/([0-9]{1,4}h([0-9]{1,5}m)?([0-9]{1,6}s)?|[0-9]{1,5}m([0-9]{1,6}s)?|[0-9]{1,6}s)$";

impl FromStr for Rate {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let malformed = || RateError::Malformed { text: text.to_owned(), remedy: remedy(text) };
        let (count, within) = text.split_once('/').ok_or_else(malformed)?;
        let padded = count.len() > 1 && count.starts_with('0');
        let digits = (1..=4).contains(&count.len()) && !padded && count.bytes().all(|b| b.is_ascii_digit());
        let count: u32 = count.parse().ok().filter(|_| digits).ok_or_else(malformed)?;
        let within: Duration = within.parse().map_err(|_| malformed())?;
        match (count, within.as_secs()) {
            (0, _) => Err(RateError::Nothing(text.to_owned())),
            (_, 0) => Err(RateError::NoTime(text.to_owned())),
            _ => Ok(Self { count, within }),
        }
    }
}

/// What people write between a count and a span.
const BETWEEN: [&str; 9] = ["/", "times", "per", "within", "in", "every", "each", "an", "a"];

/// What to write instead: what was meant by `text` if all of it can be read, and else the form.
fn remedy(text: &str) -> String {
    let form = "write a count of at most 9999, a slash and a duration: 2/1h";
    let Some((count, seconds)) = meant(text) else { return form.to_owned() };
    match Duration::from_long(seconds) {
        Some(within) if within.as_secs() > 0 => format!("use \"{count}/{within}\""),
        Some(_) => form.to_owned(),
        None => "its span is longer than 9999h".to_owned(),
    }
}

/// The count and the seconds that somebody meant.
fn meant(text: &str) -> Option<(&str, u64)> {
    let text = text.trim();
    let text = text.strip_prefix('+').unwrap_or(text).trim_start_matches('0');
    let (count, rest) = text.split_at(text.find(|c: char| !c.is_ascii_digit())?);
    let rest = rest.trim_start();
    let mut within = rest;
    while let Some(later) = BETWEEN.iter().find_map(|word| behind(within, word)) {
        within = later;
    }
    // Without anything between the two, `10m` would be ten times a minute.
    if !(1..=4).contains(&count.len()) || within == rest {
        return None;
    }
    let is_unit = within.bytes().all(|byte| byte.is_ascii_alphabetic());
    let seconds = if is_unit { duration::meant(&format!("1{within}")) } else { duration::meant(within) };
    seconds.filter(|_| !within.is_empty()).map(|seconds| (count, seconds))
}

/// What follows a word, or a sign, that `text` begins with.
fn behind<'t>(text: &'t str, word: &str) -> Option<&'t str> {
    let rest = text.strip_prefix(word)?;
    let is_whole = word == "/" || rest.starts_with(char::is_whitespace);
    is_whole.then(|| rest.trim_start())
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.count, self.within)
    }
}

impl Serialize for Rate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Rate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Rate {
    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 24, "pattern": RATE_PATTERN})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_and_a_duration() {
        let rate: Rate = "2/6h".parse().expect("a rate");
        assert_eq!(rate, Rate { count: 2, within: Duration::from_mins(360) });
        assert_eq!(rate.to_string(), "2/6h");
    }

    #[test]
    fn anything_else_is_refused_with_the_remedy() {
        for (text, remedy) in [
            ("+2/6h", "2/6h"),
            ("02/6h", "2/6h"),
            ("2/6 hours", "2/6h"),
            ("3/1w", "3/168h"),
            ("3/7d12h", "3/180h"),
            ("2 a day", "2/24h"),
            ("3 per hour", "3/1h"),
            ("3 times per hour", "3/1h"),
            ("3 per 10 minutes", "3/10m"),
            ("3 per 2 hours", "3/2h"),
            ("5/h", "5/1h"),
        ] {
            let error = text.parse::<Rate>().expect_err("refused").to_string();
            assert_eq!(error, format!("\"{text}\" is not a rate: use \"{remedy}\""));
            assert!(remedy.parse::<Rate>().is_ok(), "{remedy}");
        }
        let form = "write a count of at most 9999, a slash and a duration: 2/1h";
        for text in ["", "abc", "two a day", "2", "10m", "-1/1h", "1.5/1h", "20000/1h", "2/", "2/0", "2/e"] {
            let error = text.parse::<Rate>().expect_err("refused").to_string();
            assert_eq!(error, format!("\"{text}\" is not a rate: {form}"));
        }
        for (text, error) in [
            ("2/10000h", "\"2/10000h\" is not a rate: its span is longer than 9999h"),
            (
                "0/1h",
                "\"0/1h\" allows nothing: the count must be at least 1; use mode: Observe to stop a rule",
            ),
            ("1/0s", "\"1/0s\" spans no time: use a duration such as \"1h\""),
        ] {
            assert_eq!(text.parse::<Rate>().expect_err("refused").to_string(), error);
        }
    }
}
