//! Where the journal is, and how much of it is kept.

use std::convert::Infallible;
use std::path::PathBuf;
use std::str::FromStr;

use k8s_openapi::jiff::SignedDuration;

/// What `SQLite` calls a database that is in no file.
pub(super) const MEMORY: &str = ":memory:";

/// Where the journal is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In memory: it ends with the process, and nobody else can read it.
    Memory,
    /// In a file.
    File(PathBuf),
}

impl FromStr for Place {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == MEMORY { Self::Memory } else { Self::File(text.into()) })
    }
}

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// Older entries go.
    pub age: SignedDuration,
    /// The size that it never exceeds.
    pub size: Size,
}

impl Default for Limits {
    fn default() -> Self {
        Self { age: SignedDuration::from_hours(7 * 24), size: Size(64 << 20) }
    }
}

/// A number of bytes, as Kubernetes writes them: `64Mi`, `1Gi`, `500000`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Size(pub u64);

/// A text that is not a size.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a size: use a whole number with Ki, Mi or Gi, as 64Mi")]
pub struct SizeError(String);

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || SizeError(text.to_owned());
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let number: u64 = text[..digits].parse().map_err(|_| error())?;
        let scale = match &text[digits..] {
            "" => 1,
            "Ki" => 1 << 10,
            "Mi" => 1 << 20,
            "Gi" => 1 << 30,
            _ => return Err(error()),
        };
        number.checked_mul(scale).map(Self).ok_or_else(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_in_kubernetes() {
        for (text, expected) in
            [("0", Some(0)), ("500000", Some(500_000)), ("64Mi", Some(64 << 20)), ("1Gi", Some(1 << 30))]
        {
            assert_eq!(text.parse::<Size>().ok().map(|size| size.0), expected, "{text}");
        }
        for text in ["", "Mi", "-1", "1.5Gi", "64MB", "64 Mi", "99999999999Gi"] {
            let error = text.parse::<Size>().expect_err(text).to_string();
            assert_eq!(
                error,
                format!("{text:?} is not a size: use a whole number with Ki, Mi or Gi, as 64Mi")
            );
        }
    }

    #[test]
    fn a_place_is_a_file_or_memory() {
        assert_eq!(":memory:".parse(), Ok(Place::Memory));
        assert_eq!("/a/journal.db".parse(), Ok(Place::File("/a/journal.db".into())));
    }
}
