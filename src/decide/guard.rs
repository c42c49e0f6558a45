//! What stops a decision that is otherwise due: rates, and the one of many events that is acted on.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::api::{Once, Rate, Take};

/// When a rate has room again, if it has none at an instant: the times are those of earlier decisions that acted.
pub fn full_until(
    rate: Rate,
    decided: impl IntoIterator<Item = Timestamp>,
    at: Timestamp,
) -> Option<Timestamp> {
    let within = rate.within.signed();
    let leaves = |time: Timestamp| time.saturating_add(within).unwrap_or(Timestamp::MAX);
    let mut inside: Vec<_> = decided.into_iter().filter(|time| *time <= at && leaves(*time) > at).collect();
    inside.sort_unstable();
    let count = usize::try_from(rate.count).unwrap_or(usize::MAX);
    let first = inside.len().checked_sub(count)?;
    inside.get(first).map(|time| leaves(*time))
}

/// What becomes of one of many events for a target.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Chosen {
    /// It is acted on.
    Take,
    /// It is not known yet which is the last.
    Wait(Timestamp),
    /// Another one of its window is acted on.
    Drop,
}

/// Which of many events for one target are acted on. `events` are their times and ids; everything that happened by
/// `known_by` is among them.
pub fn choose<'a>(
    once: &Once,
    events: impl IntoIterator<Item = (Timestamp, &'a str)>,
    known_by: Timestamp,
) -> BTreeMap<&'a str, Chosen> {
    let mut events: Vec<_> = events.into_iter().collect();
    events.sort_unstable();
    let mut chosen = BTreeMap::new();
    let mut rest = events.as_slice();
    while let Some(((first, _), _)) = rest.split_first() {
        let end = first.saturating_add(SignedDuration::from(once.within.signed())).unwrap_or(Timestamp::MAX);
        let window = &rest[..rest.partition_point(|(time, _)| *time < end)];
        let last = window.len() - 1;
        for (place, (_, id)) in window.iter().enumerate() {
            let what = match once.take {
                Take::First if place == 0 => Chosen::Take,
                Take::First => Chosen::Drop,
                Take::Last if end >= known_by => Chosen::Wait(end),
                Take::Last if place == last => Chosen::Take,
                Take::Last => Chosen::Drop,
            };
            chosen.insert(*id, what);
        }
        rest = &rest[window.len()..];
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Duration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    #[test]
    fn a_rate_has_room_when_the_oldest_has_left() {
        let rate: Rate = "2/10s".parse().expect("a rate");
        for (decided, now, until) in [
            (vec![], 5, None),
            (vec![1], 5, None),
            (vec![1, 3], 5, Some(11)),
            (vec![1, 3, 4], 5, Some(13)),
            (vec![1, 3], 11, None),
            (vec![1, 30], 5, None),
        ] {
            let times = decided.iter().copied().map(at);
            assert_eq!(full_until(rate, times, at(now)), until.map(at), "{decided:?} at {now}");
        }
    }

    #[test]
    fn one_of_many_is_taken() {
        let events = [(at(1), "a"), (at(3), "b"), (at(9), "c"), (at(12), "d")];
        let once = |take| Once { take, within: Duration::from_secs(10) };
        let of = |take, known_by| choose(&once(take), events, at(known_by)).into_values().collect::<Vec<_>>();
        assert_eq!(of(Take::First, 12), [Chosen::Take, Chosen::Drop, Chosen::Drop, Chosen::Take]);
        let wait = |end| Chosen::Wait(at(end));
        assert_eq!(of(Take::Last, 9), [wait(11), wait(11), wait(11), wait(22)]);
        assert_eq!(of(Take::Last, 12), [Chosen::Drop, Chosen::Drop, Chosen::Take, wait(22)]);
        assert_eq!(of(Take::Last, 23), [Chosen::Drop, Chosen::Drop, Chosen::Take, Chosen::Take]);
    }
}
