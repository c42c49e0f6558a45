//! What stops a decision that is otherwise due: rates, and the one of many events that is acted on.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::episode::KEPT;
use crate::api::{Once, Rate, Take};

/// When a rate has room again, if it has none at an instant: the times are those of earlier decisions that acted, as
/// they are kept: in whole seconds, cut off.
pub fn full_until(
    rate: Rate,
    decided: impl IntoIterator<Item = Timestamp>,
    at: Timestamp,
) -> Option<Timestamp> {
    let within = rate.within.signed() + KEPT;
    let leaves = |time: Timestamp| time.saturating_add(within).unwrap_or(Timestamp::MAX);
    let mut inside: Vec<_> = decided.into_iter().filter(|time| *time <= at && leaves(*time) > at).collect();
    inside.sort_unstable();
    let count = usize::try_from(rate.count).unwrap_or(usize::MAX);
    let first = inside.len().checked_sub(count)?;
    inside.get(first).map(|time| leaves(*time))
}

/// Whether a rate has no room for an event of a time, whatever was decided meanwhile about earlier and later ones: events
/// come late and come again, and one that had no room once never has. The times are kept as for [`full_until`].
pub fn is_full(rate: Rate, acted: impl IntoIterator<Item = Timestamp>, at: Timestamp) -> bool {
    let count = usize::try_from(rate.count).unwrap_or(usize::MAX);
    let within = rate.within.signed() + KEPT;
    let near = |time: &Timestamp| time.duration_since(at).abs() < within;
    let mut times: Vec<_> = acted.into_iter().filter(near).chain([at]).collect();
    times.sort_unstable();
    times.windows(count.saturating_add(1)).any(|window| match window {
        [first, .., last] => last.duration_since(*first) < within,
        _ => false,
    })
}

/// Whether an event is not acted on because another one of its window was: the times of those that were are kept as for
/// [`full_until`].
pub fn is_superseded(once: &Once, acted: impl IntoIterator<Item = Timestamp>, at: Timestamp) -> bool {
    let within = once.within.signed();
    acted.into_iter().any(|time| match once.take {
        // Without a span each is alone.
        _ if within.is_zero() => false,
        Take::First => time.duration_since(at).abs() < within + KEPT,
        Take::Last => time >= at && time.duration_since(at) < within,
    })
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
        let end = first.saturating_add(once.within.signed()).unwrap_or(Timestamp::MAX);
        // Without a span each is alone.
        let window = &rest[..rest.partition_point(|(time, _)| *time < end).max(1)];
        let last = window.len() - 1;
        for (place, (_, id)) in window.iter().enumerate() {
            let what = match once.take {
                Take::Last if end >= known_by => Chosen::Wait(end),
                Take::First if place == 0 => Chosen::Take,
                Take::Last if place == last => Chosen::Take,
                Take::First | Take::Last => Chosen::Drop,
            };
            chosen.insert(*id, what);
        }
        rest = &rest[window.len()..];
    }
    chosen
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::SignedDuration;

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
            (vec![1, 3], 5, Some(12)),
            (vec![1, 3, 4], 5, Some(14)),
            (vec![1, 3], 11, Some(12)),
            (vec![1, 3], 12, None),
            (vec![1, 30], 5, None),
        ] {
            let times = decided.iter().copied().map(at);
            assert_eq!(full_until(rate, times, at(now)), until.map(at), "{decided:?} at {now}");
        }
    }

    #[test]
    fn without_a_span_each_event_is_alone() {
        for take in [Take::First, Take::Last] {
            let once = Once { take, within: Duration::from_secs(0) };
            let chosen = choose(&once, [(at(1), "a"), (at(1), "b"), (at(2), "c")], at(3));
            assert_eq!(chosen.into_values().collect::<Vec<_>>(), [Chosen::Take; 3]);
            assert!(!is_superseded(&once, [at(1), at(2)], at(1)));
        }
    }

    #[test]
    fn an_event_has_room_or_never_has() {
        let rate: Rate = "2/10s".parse().expect("a rate");
        for (acted, time, full) in [
            (vec![], 5, false),
            (vec![1], 5, false),
            (vec![1, 3], 5, true),
            (vec![1, 3], 11, true),
            (vec![1, 3], 12, false),
            (vec![1, 3, 30], 12, false),
            (vec![8, 9], 5, true),
            (vec![1, 12], 6, false),
            (vec![1, 11], 6, true),
        ] {
            let times = || acted.iter().copied().map(at);
            assert_eq!(is_full(rate, times(), at(time)), full, "{acted:?} at {time}");
            let more = times().chain([at(7)]);
            assert!(!full || is_full(rate, more, at(time)), "{acted:?} and more at {time}");
        }
    }

    #[test]
    fn what_was_acted_on_stands_for_its_window() {
        let once = |take| Once { take, within: Duration::from_secs(10) };
        for (take, time, superseded) in [
            (Take::First, 19, false),
            (Take::First, 21, true),
            (Take::First, 40, true),
            (Take::First, 41, false),
            (Take::Last, 20, false),
            (Take::Last, 21, true),
            (Take::Last, 30, true),
            (Take::Last, 31, false),
        ] {
            assert_eq!(is_superseded(&once(take), [at(30)], at(time)), superseded, "{take:?} at {time}");
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
