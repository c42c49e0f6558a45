//! Which `EventBatch`es make room for others where there are too many. All is over with them, and they are only remembered, so
//! that whoever sends again hears that it is known: what was over last is the likeliest to be sent again, and goes last.

use k8s_openapi::jiff::Timestamp;

/// What bears on whether a batch makes room with which all is over.
#[derive(Clone, Copy, Debug)]
pub struct Over {
    /// The room that it takes.
    pub bytes: usize,
    /// Until when it is authentic if somebody sends it again.
    pub authentic_until: Option<Timestamp>,
}

/// Of batches with which all is over, those first with which it was over first, the ones that make room: as many as it takes
/// until no batches and no bytes are beyond what there is room for. What whoever has overheard it can send again is passed over.
pub fn makes_room<K>(
    over: impl IntoIterator<Item = (K, Over)>,
    (mut batches, mut bytes): (usize, usize),
    now: Timestamp,
) -> impl Iterator<Item = K> {
    let may_go =
        over.into_iter().filter(move |(_, one)| one.authentic_until.is_none_or(|until| until <= now));
    may_go.map_while(move |(key, one)| {
        if batches == 0 && bytes == 0 {
            return None;
        }
        batches = batches.saturating_sub(1);
        bytes = bytes.saturating_sub(one.bytes);
        Some(key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 100;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    /// Which of these make room, in the order in which they were over, each with its bytes and until when it is authentic.
    fn going(over: &[(&'static str, usize, Option<i64>)], beyond: (usize, usize)) -> Vec<&'static str> {
        let over =
            over.iter().map(|&(name, bytes, until)| (name, Over { bytes, authentic_until: until.map(at) }));
        makes_room(over, beyond, at(NOW)).collect()
    }

    #[test]
    fn what_was_over_first_goes_first_and_no_more_than_it_takes() {
        let over = [("first", 10, None), ("second", 20, None), ("third", 30, None)];
        for (beyond, count) in
            [((0, 0), 0), ((1, 0), 1), ((2, 0), 2), ((0, 10), 1), ((0, 11), 2), ((1, 31), 3), ((9, 99), 3)]
        {
            let expected: Vec<_> = over[..count].iter().map(|(name, ..)| *name).collect();
            assert_eq!(going(&over, beyond), expected, "{beyond:?}");
        }
    }

    #[test]
    fn what_can_be_replayed_makes_no_room() {
        let over = [("signed", 10, Some(NOW + 1)), ("expired", 10, Some(NOW)), ("last", 10, None)];
        assert_eq!(going(&over, (1, 0)), ["expired"]);
        assert_eq!(going(&over, (9, 0)), ["expired", "last"]);
    }
}
