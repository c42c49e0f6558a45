//! What a sender hears. What may be well later is 503, whatever the reason: senders repeat that, and give up on most
//! of 4xx.

use std::time::Duration;

/// When to come again.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Why a request is refused: a closed set, counted in the Webhook's status.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Refusal {
    /// The sender has not proven himself.
    Unauthenticated,
    /// The body cannot be read.
    Malformed,
    /// The body, or one event, is too large.
    TooLarge,
    /// The body did not come in time.
    TooSlow,
    /// The sender sends too much.
    RateLimited,
    /// There is no room.
    Overloaded,
    /// The Webhook cannot be used yet.
    NotReady,
}

impl Refusal {
    /// The reason as it stands in the status.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Unauthenticated",
            Self::Malformed => "Malformed",
            Self::TooLarge => "TooLarge",
            Self::TooSlow => "TooSlow",
            Self::RateLimited => "RateLimited",
            Self::Overloaded => "Overloaded",
            Self::NotReady => "NotReady",
        }
    }

    const fn status(self) -> u16 {
        match self {
            Self::Unauthenticated => 401,
            Self::Malformed => 400,
            Self::TooLarge => 413,
            Self::TooSlow | Self::RateLimited | Self::Overloaded | Self::NotReady => 503,
        }
    }
}

/// An answer to a request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// One line.
    pub text: String,
    /// When to come again.
    pub retry_after: Option<Duration>,
}

impl Answer {
    fn of(status: u16, text: &str) -> Self {
        let retry_after = (status == 503).then_some(RETRY_AFTER);
        Self { status, text: text.to_owned(), retry_after }
    }

    /// Events are kept.
    pub fn accepted(text: &str) -> Self {
        Self::of(202, text)
    }

    /// There was nothing to keep.
    pub fn nothing_new(text: &str) -> Self {
        Self::of(200, text)
    }

    /// There is no such Webhook.
    pub fn not_found(text: &str) -> Self {
        Self::of(404, text)
    }

    /// Not now.
    pub fn later(text: &str) -> Self {
        Self::of(503, text)
    }

    /// A refusal.
    pub fn refusal(refusal: Refusal, text: &str) -> Self {
        Self::of(refusal.status(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_well_later_is_503() {
        for refusal in [Refusal::TooSlow, Refusal::RateLimited, Refusal::Overloaded, Refusal::NotReady] {
            let answer = Answer::refusal(refusal, "x");
            assert_eq!((answer.status, answer.retry_after), (503, Some(RETRY_AFTER)), "{refusal:?}");
        }
        assert_eq!(Answer::refusal(Refusal::Malformed, "x").retry_after, None);
    }
}
