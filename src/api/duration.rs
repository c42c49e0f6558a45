//! Durations as people write them: `30s`, `5m`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A span of time in whole seconds, written with the units `h`, `m` and `s` in this order.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Duration(u32);

/// A text that is not a duration.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("\"{text}\" is not a duration: use \"{suggestion}\"")]
pub struct DurationError {
    text: String,
    suggestion: String,
}

/// What the API server checks; [`Duration::from_str`] accepts the same texts.
pub const DURATION_PATTERN: &str = "^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$";

impl Duration {
    /// A duration of so many seconds.
    pub const fn from_secs(seconds: u32) -> Self {
        Self(seconds)
    }

    /// A duration of so many minutes.
    pub const fn from_mins(minutes: u32) -> Self {
        Self(minutes * 60)
    }

    /// Its length in seconds.
    pub const fn as_secs(self) -> u32 {
        self.0
    }

    /// The same as a signed duration, for arithmetic on timestamps.
    pub const fn signed(self) -> k8s_openapi::jiff::SignedDuration {
        k8s_openapi::jiff::SignedDuration::from_secs(self.0 as i64)
    }

    /// The same as a standard duration.
    pub const fn std(self) -> std::time::Duration {
        std::time::Duration::from_secs(self.0 as u64)
    }
}

impl FromStr for Duration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DurationError { text: text.to_owned(), suggestion: suggest(text) };
        let mut rest = text;
        let mut seconds = 0u32;
        for (unit, scale, digits) in [('h', 3600, 4), ('m', 60, 5), ('s', 1, 6)] {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            if rest[length..].starts_with(unit) {
                let number: u32 = rest[..length].parse().map_err(|_| error())?;
                if length > digits {
                    return Err(error());
                }
                seconds = number.checked_mul(scale).and_then(|n| seconds.checked_add(n)).ok_or_else(error)?;
                rest = &rest[length + 1..];
            }
        }
        if rest.is_empty() && !text.is_empty() { Ok(Self(seconds)) } else { Err(error()) }
    }
}

/// The nearest correct spelling of what somebody meant by `text`; what is no whole second is rounded up.
pub(super) fn suggest(text: &str) -> String {
    let from_number = text.trim_start_matches(|c: char| !c.is_ascii_digit());
    let number: String = from_number.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
    let rest = from_number[number.len()..].trim_start().to_ascii_lowercase();
    let unit: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    let scale = match unit.as_str() {
        "ms" | "msec" | "millis" | "milliseconds" => 1e-3,
        unit if unit.is_empty() || unit.starts_with('s') => 1.0,
        unit if unit.starts_with('h') => 3600.0,
        unit if unit.starts_with('d') => 86400.0,
        _ => 60.0,
    };
    let number: f64 = number.trim_end_matches('.').parse().unwrap_or_default();
    let seconds = std::time::Duration::try_from_secs_f64((number * scale).ceil()).unwrap_or_default();
    // The pattern has room for no more hours.
    let most = 9999 * 3600;
    let nearest = Duration(u32::try_from(seconds.as_secs()).unwrap_or(most).min(most));
    if nearest.0 == 0 { "5m".to_owned() } else { nearest.to_string() }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes, seconds) = (self.0 / 3600, self.0 / 60 % 60, self.0 % 60);
        if hours > 0 {
            write!(f, "{hours}h")?;
        }
        if minutes > 0 {
            write!(f, "{minutes}m")?;
        }
        if seconds > 0 || self.0 == 0 {
            write!(f, "{seconds}s")?;
        }
        Ok(())
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": DURATION_PATTERN, "minLength": 2, "maxLength": 18})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        for (text, seconds) in [("5m", 300), ("1h30m", 5400), ("90s", 90), ("0s", 0), ("2h5s", 7205)] {
            assert_eq!(text.parse(), Ok(Duration(seconds)), "{text}");
        }
    }

    #[test]
    fn refuses_with_a_suggestion() {
        for (text, suggestion) in [
            ("5 minutes", "5m"),
            ("", "5m"),
            ("10", "10s"),
            ("2d", "48h"),
            ("1H", "1h"),
            ("200ms", "1s"),
            ("1500 milliseconds", "2s"),
            ("1.5h", "1h30m"),
            ("90 min", "1h30m"),
            ("1..5h", "5m"),
            ("5m1h", "5m"),
            ("-5s", "5s"),
            ("99999h", "9999h"),
            ("ü", "5m"),
        ] {
            let error = text.parse::<Duration>().expect_err(text);
            assert_eq!(error.to_string(), format!("\"{text}\" is not a duration: use \"{suggestion}\""));
        }
    }

    #[test]
    fn writes_the_shortest_form() {
        for (seconds, text) in [(0, "0s"), (300, "5m"), (5400, "1h30m"), (61, "1m1s")] {
            assert_eq!(Duration(seconds).to_string(), text);
        }
    }
}
