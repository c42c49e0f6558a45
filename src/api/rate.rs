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
    #[error("\"{text}\" is not a rate: use \"{suggestion}\"")]
    Malformed {
        /// The text.
        text: String,
        /// What was probably meant.
        suggestion: String,
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
        let malformed = || RateError::Malformed { text: text.to_owned(), suggestion: suggest(text) };
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

/// The nearest correct spelling of what somebody meant by `text`: a count before whatever else is no digit, and a duration.
fn suggest(text: &str) -> String {
    let digits = text.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_start_matches('0');
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let (count, rest) = digits.split_at(end);
    let count = if (1..=4).contains(&count.len()) { count } else { "2" };
    let within = rest.trim_start_matches(|c: char| !c.is_ascii_digit()).trim_start_matches('0');
    let within = match within.parse::<Duration>() {
        Ok(within) => within.to_string(),
        Err(_) if within.is_empty() => "1h".to_owned(),
        Err(_) => duration::suggest(within),
    };
    format!("{count}/{within}")
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
            ("abc", "2/1h"),
            ("two a day", "2/1h"),
            ("2", "2/1h"),
            ("+2/6h", "2/6h"),
            ("02/6h", "2/6h"),
            ("2/6 hours", "2/6h"),
            ("3 per hour", "3/1h"),
            ("3 per 10 minutes", "3/10m"),
            ("3 per 2 hours", "3/2h"),
            ("5/h", "5/1h"),
            ("20000/1h", "2/1h"),
            ("2/", "2/1h"),
            ("2/0", "2/1h"),
        ] {
            let error = text.parse::<Rate>().expect_err("refused").to_string();
            assert_eq!(error, format!("\"{text}\" is not a rate: use \"{remedy}\""));
            assert!(remedy.parse::<Rate>().is_ok(), "{remedy}");
        }
        for (text, error) in [
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
