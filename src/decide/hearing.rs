//! What it means that nothing was heard: something stays away only if whoever would have told of it was heard meanwhile.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a sender has to come again that nobody heard. Alertmanager tries again after a minute and a half at the most.
pub const COMES_AGAIN: SignedDuration = SignedDuration::from_mins(2);

/// A moment, and how it stands with hearing then.
#[derive(Clone, Copy, Debug)]
pub struct Hearing {
    /// The moment.
    pub now: Timestamp,
    /// From when on whatever was not heard has not happened: who came in vain before has had time to come again.
    pub sure_from: Timestamp,
}

impl Hearing {
    /// By when everything that happened is known: at no time, as long as somebody may have to come again.
    pub fn known_by(self) -> Timestamp {
        if self.now < self.sure_from { Timestamp::MIN } else { self.now }
    }

    /// When something that is due at a time can be said to have stayed away.
    pub fn says(self, due: Timestamp) -> Timestamp {
        due.max(self.sure_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_away_as_long_as_nobody_may_have_been_heard() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let hearing = |now| Hearing { now: at(now), sure_from: at(120) };
        assert_eq!([119, 120, 200].map(|now| hearing(now).known_by()), [Timestamp::MIN, at(120), at(200)]);
        assert_eq!([100, 130].map(|due| hearing(5).says(at(due))), [at(120), at(130)]);
    }
}
