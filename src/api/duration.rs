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
pub enum DurationError {
    /// It is written otherwise than durations are, and means one.
    #[error("\"{text}\" is not a duration: use \"{meant}\"")]
    Malformed {
        /// The text.
        text: String,
        /// What it means.
        meant: Duration,
    },
    /// It, or a part of it, means nothing that could be said for certain.
    #[error("\"{0}\" is not a duration: write hours, minutes and seconds: 1h30m")]
    Unreadable(String),
    /// It is more than there is room for.
    #[error("\"{0}\" is longer than 9999h, the longest duration")]
    TooLong(String),
}

impl DurationError {
    fn of(text: &str) -> Self {
        let Some(seconds) = meant(text) else { return Self::Unreadable(text.to_owned()) };
        match Duration::from_long(seconds) {
            Some(meant) => Self::Malformed { text: text.to_owned(), meant },
            None => Self::TooLong(text.to_owned()),
        }
    }
}

/// The most hours that the pattern has room for, in seconds.
const MOST_SECONDS: u32 = 9999 * 3600;

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

    /// A duration of so many seconds; none if it cannot be written.
    pub(super) fn from_long(seconds: u64) -> Option<Self> {
        u32::try_from(seconds).ok().filter(|seconds| *seconds <= MOST_SECONDS).map(Self)
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
        let error = || DurationError::of(text);
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

/// How many seconds somebody meant by `text`, where what is no whole second is rounded up; none unless all of it can be read:
/// a remedy that leaves a part out would mean something else.
pub(super) fn meant(text: &str) -> Option<u64> {
    let (mut rest, mut seconds) = (text.trim(), 0f64);
    // What a number without a unit counts: alone seconds, and behind a unit what is next to it in `1h30`.
    let mut without_unit = Some(1000);
    loop {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let behind = behind.trim_start();
        let end = behind.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(end);
        let millis = match unit {
            "" if behind.is_empty() => without_unit?,
            unit => millis_of(unit)?,
        };
        seconds += number.parse::<f64>().ok()? * f64::from(millis) / 1000.0;
        without_unit = match millis {
            3_600_000 => Some(60_000),
            60_000 => Some(1000),
            _ => None,
        };
        rest = behind.trim_start();
        if rest.is_empty() {
            break;
        }
    }
    // 1.1 hours are a little more than 3960 seconds where numbers are binary.
    let seconds = (seconds - 1e-6).ceil().max(0.0);
    Some(std::time::Duration::try_from_secs_f64(seconds).map_or(u64::MAX, |length| length.as_secs()))
}

/// The milliseconds of a unit by any of its names. A lone `M` may be a month.
fn millis_of(unit: &str) -> Option<u32> {
    if unit == "M" {
        return None;
    }
    match unit.to_ascii_lowercase().as_str() {
        "ms" | "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some(1),
        "s" | "sec" | "secs" | "second" | "seconds" => Some(1000),
        "m" | "min" | "mins" | "minute" | "minutes" => Some(60_000),
        "h" | "hr" | "hrs" | "hour" | "hours" => Some(3_600_000),
        "d" | "day" | "days" => Some(86_400_000),
        "w" | "wk" | "wks" | "week" | "weeks" => Some(604_800_000),
        _ => None,
    }
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
            ("10", "10s"),
            ("0", "0s"),
            ("2d", "48h"),
            ("2w", "336h"),
            ("7d12h", "180h"),
            ("1 day 12 hours", "36h"),
            ("1m30", "1m30s"),
            ("1h30", "1h30m"),
            ("1H", "1h"),
            ("200ms", "1s"),
            ("1500 milliseconds", "2s"),
            ("1.5h", "1h30m"),
            ("1.1h", "1h6m"),
            ("90 min", "1h30m"),
            ("5m1h", "1h5m"),
            ("00005h", "5h"),
            ("100000m", "1666h40m"),
        ] {
            let error = text.parse::<Duration>().expect_err(text);
            assert_eq!(error.to_string(), format!("\"{text}\" is not a duration: use \"{suggestion}\""));
            assert!(suggestion.parse::<Duration>().is_ok(), "{suggestion}");
        }
    }

    /// No remedy leaves out a part of what was written.
    #[test]
    fn what_cannot_be_read_wholly_is_answered_with_the_form() {
        for text in ["", " ", "1e3s", "1..5h", "-5s", "ü", "5m.", "PT5M", "1M", "2 months", "1d12", "5 10s"]
        {
            let error = text.parse::<Duration>().expect_err(text);
            let form = "write hours, minutes and seconds: 1h30m";
            assert_eq!(error.to_string(), format!("\"{text}\" is not a duration: {form}"));
        }
        let endless = format!("{}h", "9".repeat(400));
        for text in ["10000h", "99999h", "60w", endless.as_str()] {
            let error = text.parse::<Duration>().expect_err(text);
            assert_eq!(error.to_string(), format!("\"{text}\" is longer than 9999h, the longest duration"));
        }
    }

    #[test]
    fn writes_the_shortest_form() {
        for (seconds, text) in [(0, "0s"), (300, "5m"), (5400, "1h30m"), (61, "1m1s")] {
            assert_eq!(Duration(seconds).to_string(), text);
        }
    }
}
