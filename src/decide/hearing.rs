//! What it means that nothing was heard: something stays away only if whoever would have told of it was heard meanwhile.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

/// How long a sender has to come again that nobody heard. Alertmanager tries again after a minute and a half at the most.
pub const COMES_AGAIN: SignedDuration = SignedDuration::from_mins(2);

/// How long what was received may be under way until it is kept: the answer is no success if it takes longer.
pub const UNDER_WAY: SignedDuration = SignedDuration::from_secs(10);

/// A moment, and how it stands with hearing then.
#[derive(Clone, Copy, Debug)]
pub struct Hearing {
    /// The moment.
    pub now: Timestamp,
    /// From when on whatever was not heard has not happened: who came in vain before has had time to come again.
    pub sure_from: Timestamp,
    /// For how long before the moment something may have been received that is not kept yet.
    pub under_way: SignedDuration,
}

impl Hearing {
    /// By when everything that happened is known: at no time, as long as somebody may have to come again.
    pub fn known_by(self) -> Timestamp {
        let is_sure = self.now >= self.sure_from;
        is_sure.then(|| self.now.saturating_sub(self.under_way).ok()).flatten().unwrap_or(Timestamp::MIN)
    }

    /// When something that is due at a time can be said to have stayed away.
    pub fn says(self, due: Timestamp) -> Timestamp {
        due.saturating_add(self.under_way).unwrap_or(Timestamp::MAX).max(self.sure_from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_stays_away_as_long_as_nobody_may_have_been_heard() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let hearing = |now| Hearing { now: at(now), sure_from: at(120), under_way: SignedDuration::ZERO };
        assert_eq!([119, 120, 200].map(|now| hearing(now).known_by()), [Timestamp::MIN, at(120), at(200)]);
        assert_eq!([100, 130].map(|due| hearing(5).says(at(due))), [at(120), at(130)]);
    }

    #[test]
    fn what_is_under_way_may_be_what_is_expected() {
        let at = |second| Timestamp::from_second(second).expect("a time");
        let hearing = Hearing { now: at(200), sure_from: at(120), under_way: SignedDuration::from_secs(10) };
        assert_eq!((hearing.known_by(), hearing.says(at(195))), (at(190), at(205)));
    }
}
