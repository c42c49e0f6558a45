//! Several events that mean something together: enough of them, all of some, some in order, or one that stays away.
//!
//! Windows go by the time at which events happened, not by when they are seen, so that a list after a restart leads to
//! what the live stream led to. An event counts once: what it has completed is recorded with the Execution, and what an
//! Execution used is not used again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::given::{Completed, Givens, Mistake, Steps, TOO_MUCH_AT_ONCE};

/// The most events that wait in one group; the oldest goes first, and is counted. Of an absence one that begins goes
/// first: what is expected speaks against acting.
const IN_A_GROUP: usize = 1_000;
/// The most groups of one rule.
const GROUPS: usize = 10_000;
/// The most bytes that wait in all groups of one rule: as much as is kept of what the Webhooks of a namespace receive. Of
/// all groups the same goes first as in one.
const BYTES: usize = 20 * 1024 * 1024;
/// How many of them are left where more would wait: what goes is looked for among all that waits, which is not to be done for
/// each event.
const LEFT: usize = BYTES / 10 * 9;
/// What is said of one that goes because too many wait.
pub const TOO_MANY: &str = "dropped: too many wait";
/// What is said of one that waited in vain.
pub const WINDOW_ENDED: &str = "its window ended without the others";
/// What it may cost at a time to try what goes together by `given`: a tenth of a second.
const STEPS: usize = 200_000;
/// The most used and dropped events that are remembered, beside those that Executions record.
const USED: usize = 10_000;

/// What makes events one occurrence.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Pattern {
    /// So many of them.
    Count(usize),
    /// One of any member.
    Any,
    /// One of each of so many members, in any order; one event may stand for several.
    All(usize),
    /// One of each of so many members, one after the other.
    Sequence(usize),
    /// One of member 0, and none of member 1 for as long as the window after it.
    Absent,
}

/// An event that was taken in.
#[derive(Clone, Debug, PartialEq)]
pub struct Captured {
    /// What tells it from every other.
    pub id: String,
    /// When it happened.
    pub time: Timestamp,
    /// Since when and until when it is so: an event is over at once, an alert lasts.
    pub lasts: (Timestamp, Timestamp),
    /// What it belongs together with: the value of `groupBy`.
    pub group: String,
    /// The members of the pattern that it is one of, by their place.
    pub members: Vec<usize>,
    /// The event, as expressions see it.
    pub data: Arc<Value>,
    /// The room that this takes as long as it waits, in bytes of JSON.
    pub size: usize,
}

impl Captured {
    /// Whether it is one of a member.
    pub(super) fn is(&self, member: usize) -> bool {
        self.members.contains(&member)
    }

    fn order(&self) -> (Timestamp, &str) {
        (self.time, &self.id)
    }

    /// Whether it is one that another is awaited after, in an absence.
    fn begins(&self) -> bool {
        self.is(0) && !self.is(1)
    }
}

/// A pattern that is complete.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The group in which it was found.
    pub group: String,
    /// What tells this occurrence from others: the event that completed it.
    pub occurrence: String,
    /// When it was complete.
    pub time: Timestamp,
    /// The events that make it, by when they happened, each with the member that it stands for.
    pub events: Vec<(usize, Captured)>,
}

/// What waits in one group, by when it happened.
#[derive(Clone, Debug, Default)]
struct Group {
    events: Vec<Captured>,
    /// So many of the first complete nothing: only what comes before one of them may change that.
    tried: usize,
}

impl Group {
    /// Takes an event to its place; says whether it was not there.
    fn take(&mut self, event: Captured) -> bool {
        let found = self.events.binary_search_by(|known| known.order().cmp(&event.order()));
        if let Err(place) = found {
            self.events.insert(place, event);
            self.tried = self.tried.min(place);
        }
        found.is_err()
    }

    /// The place of the event that goes if too many wait.
    fn first(&self, is_absence: bool) -> usize {
        let begins = || self.events.iter().position(Captured::begins);
        if is_absence { begins().unwrap_or(0) } else { 0 }
    }

    /// Lets go of events, and gives them.
    fn let_go(&mut self, is_over: impl Fn(&Captured) -> bool) -> Vec<Captured> {
        self.tried = self.events[..self.tried].iter().filter(|event| !is_over(event)).count();
        self.events.extract_if(.., |event| is_over(event)).collect()
    }
}

/// What completes a pattern.
#[derive(Clone, Debug)]
struct Terms {
    pattern: Pattern,
    within: SignedDuration,
    /// What its members have to do with each other.
    givens: Arc<Givens>,
}

/// The windows of one rule.
#[derive(Clone, Debug)]
pub struct Windows {
    terms: Terms,
    groups: BTreeMap<String, Group>,
    used: BTreeSet<(Timestamp, String)>,
    /// What has waited in vain, and was not asked for yet.
    ended: Vec<Captured>,
    dropped: u64,
    /// What waits takes so much room.
    bytes: usize,
    mistake: Option<Mistake>,
    has_more: bool,
}

/// What a round has found of events that wait, for windows that are filled anew with them.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// Those that complete nothing with what comes before them.
    events: BTreeSet<String>,
    mistake: Option<Mistake>,
    /// Whether there was more to try than can be at a time.
    pub has_more: bool,
}

impl Windows {
    /// Empty windows.
    pub fn new(pattern: Pattern, within: SignedDuration) -> Self {
        let terms = Terms { pattern, within, givens: Arc::default() };
        let (groups, used, ended) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
        Self { terms, groups, used, ended, dropped: 0, bytes: 0, mistake: None, has_more: false }
    }

    /// The same, where the members of the pattern have to do with each other.
    #[must_use]
    pub fn with(self, givens: Arc<Givens>) -> Self {
        Self { terms: Terms { givens, ..self.terms }, ..self }
    }

    /// Takes an event in, and gives those that are dropped for it, if too many wait. One that waits already, was used or was
    /// dropped changes nothing.
    pub fn take(&mut self, event: Captured) -> Vec<Captured> {
        if self.used.contains(&(event.time, event.id.clone())) {
            return Vec::new();
        }
        let (name, size) = (event.group.clone(), event.size);
        if !self.groups.contains_key(&name) && self.groups.len() >= GROUPS {
            self.note_dropped(&event);
            return vec![event];
        }
        let group = self.groups.entry(name.clone()).or_default();
        if !group.take(event) {
            return Vec::new();
        }
        let is_full = group.events.len() > IN_A_GROUP;
        self.bytes += size;
        let mut dropped = Vec::from_iter(is_full.then(|| self.push_out(&name)).flatten());
        if self.bytes > BYTES {
            dropped.extend(self.make_room());
        }
        dropped
    }

    /// Drops what goes first if what waits takes too much room, whatever its group.
    fn make_room(&mut self) -> Vec<Captured> {
        let is_absence = self.is_absence();
        let rank = |event: &Captured| (is_absence && !event.begins(), event.time, event.id.clone());
        let mut waiting: Vec<_> = self.captured().map(|event| (rank(event), event.size)).collect();
        waiting.sort_unstable();
        let (mut freed, excess) = (0, self.bytes.saturating_sub(LEFT));
        let mut enough = waiting.into_iter().filter(|(_, size)| {
            freed += size;
            freed >= excess
        });
        let Some((last, _)) = enough.next() else { return Vec::new() };
        let goes = |event: &Captured| rank(event) <= last;
        let mut dropped: Vec<_> = self.groups.values_mut().flat_map(|group| group.let_go(goes)).collect();
        dropped.sort_by_cached_key(rank);
        self.groups.retain(|_, group| !group.events.is_empty());
        self.weigh();
        for event in &dropped {
            self.note_dropped(event);
        }
        dropped
    }

    /// Drops the event of a group that goes first.
    fn push_out(&mut self, name: &str) -> Option<Captured> {
        let is_absence = self.is_absence();
        let group = self.groups.get_mut(name)?;
        let first = group.first(is_absence);
        group.tried -= usize::from(first < group.tried);
        let event = group.events.remove(first);
        if group.events.is_empty() {
            self.groups.remove(name);
        }
        self.bytes -= event.size;
        self.note_dropped(&event);
        Some(event)
    }

    /// Takes in that an event is dropped: whoever lists it again need not be told that there is no room.
    fn note_dropped(&mut self, event: &Captured) {
        self.dropped += 1;
        self.used.insert((event.time, event.id.clone()));
    }

    fn is_absence(&self) -> bool {
        self.terms.pattern == Pattern::Absent
    }

    /// Takes in how much room is taken by what waits still.
    fn weigh(&mut self) {
        self.bytes = self.captured().map(|event| event.size).sum();
    }

    /// Takes in what earlier rounds have found, where these windows are filled anew: that need not be tried again.
    pub fn resume(&mut self, tried: &Tried) {
        for group in self.groups.values_mut() {
            group.tried = group.events.iter().take_while(|event| tried.events.contains(&event.id)).count();
        }
        self.mistake.clone_from(&tried.mistake);
    }

    /// What this round has found, for whoever fills these windows anew.
    pub fn tried(&self) -> Tried {
        let tried = self.groups.values().flat_map(|group| &group.events[..group.tried]);
        let events = tried.map(|event| event.id.clone()).collect();
        Tried { events, mistake: self.mistake.clone(), has_more: self.has_more }
    }

    /// Takes in that an Execution used these events.
    pub fn use_up<'a>(&mut self, ids: impl IntoIterator<Item = &'a str>) {
        let ids: BTreeSet<&str> = ids.into_iter().collect();
        for group in self.groups.values_mut() {
            group.let_go(|event| ids.contains(event.id.as_str()));
        }
        self.weigh();
    }

    /// What is complete, given that everything that happened by `known_by` was taken in. Its events are used up.
    pub fn found(&mut self, known_by: Timestamp) -> Vec<Found> {
        let (mut found, mut trying) = (Vec::new(), Trying::default());
        for (name, group) in &mut self.groups {
            match self.terms.pattern {
                Pattern::Absent => {
                    let events = &mut group.events;
                    self.ended.extend(absent(name.as_str(), events, self.terms.within, known_by, &mut found));
                }
                _ => complete(&self.terms, (name.as_str(), group), &mut trying, &mut found),
            }
        }
        for (_, event) in found.iter().flat_map(|found| &found.events) {
            self.used.insert((event.time, event.id.clone()));
        }
        self.forget(known_by);
        self.weigh();
        self.has_more = trying.has_more;
        // That too many wait is so for one round, and not for as long as the event waits.
        let before = self.mistake.take().filter(|mistake| mistake.text != TOO_MUCH_AT_ONCE);
        let mistake = trying.mistake.or(before);
        self.mistake = mistake.filter(|mistake| self.waiting().any(|id| id == mistake.id));
        found
    }

    /// The next instant at which something becomes complete because nothing happens.
    pub fn due(&self) -> Option<Timestamp> {
        if !self.is_absence() {
            return None;
        }
        let awaiting = self.captured().filter(|event| event.is(0));
        awaiting.map(|event| end_of(event, self.terms.within)).min()
    }

    /// The oldest event that waits: nothing younger may be forgotten by whoever keeps the events.
    pub fn oldest(&self) -> Option<Timestamp> {
        self.groups.values().filter_map(|group| group.events.first()).map(|event| event.time).min()
    }

    /// Ids of the events that wait.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.captured().map(|event| event.id.as_str())
    }

    /// The events that wait.
    pub fn captured(&self) -> impl Iterator<Item = &Captured> {
        self.groups.values().flat_map(|group| &group.events)
    }

    /// What cannot be said of an event that waits.
    pub fn mistake(&self) -> Option<&Mistake> {
        self.mistake.as_ref()
    }

    /// The events that have waited in vain since this was asked last.
    pub fn take_ended(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.ended)
    }

    /// How many events were dropped because too many waited.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Lets go of what can complete nothing any more.
    fn forget(&mut self, known_by: Timestamp) {
        let within = self.terms.within;
        self.groups.retain(|_, group| {
            let is_over = |event: &Captured| end_of(event, within) < known_by && event.lasts.1 <= known_by;
            self.ended.extend(group.let_go(is_over));
            !group.events.is_empty()
        });
        while self.used.len() > USED {
            self.used.pop_first();
        }
    }
}

/// What a round has tried.
struct Trying {
    left: Steps,
    mistake: Option<Mistake>,
    /// Whether there was more to try than can be at a time.
    has_more: bool,
}

impl Default for Trying {
    fn default() -> Self {
        Self { left: Steps(STEPS), mistake: None, has_more: false }
    }
}

fn end_of(event: &Captured, within: SignedDuration) -> Timestamp {
    event.time.saturating_add(within).unwrap_or(Timestamp::MAX)
}

/// Finds what is complete, by the order in which it happened.
fn complete(terms: &Terms, (name, group): (&str, &mut Group), trying: &mut Trying, found: &mut Vec<Found>) {
    let events = &mut group.events;
    let mut last = group.tried;
    while last < events.len() {
        let from = events.partition_point(|event| end_of(event, terms.within) < events[last].time);
        let chosen = match terms.completed_by(&events[from..=last], trying) {
            Completed::By(chosen) => chosen,
            Completed::Nothing => {
                last += 1;
                continue;
            }
            Completed::Unknown => {
                let (id, text) = (events[last].id.clone(), TOO_MUCH_AT_ONCE.to_owned());
                trying.mistake = Some(Mistake { id, text });
                trying.has_more = true;
                break;
            }
        };
        let (occurrence, time) = (events[last].id.clone(), events[last].time);
        let complete: Vec<_> =
            chosen.iter().map(|(member, place)| (*member, events[from + place].clone())).collect();
        let places: BTreeSet<usize> = chosen.into_iter().map(|(_, place)| from + place).collect();
        for place in places.iter().rev() {
            events.remove(*place);
        }
        last = last + 1 - places.len();
        found.push(Found { group: name.to_owned(), occurrence, time, events: complete });
    }
    group.tried = last;
}

impl Terms {
    /// The events of a window that complete the pattern with its last event.
    fn completed_by(&self, window: &[Captured], trying: &mut Trying) -> Completed {
        let members = match self.pattern {
            _ if self.givens.is_empty() => None,
            Pattern::All(members) => Some((members, false)),
            Pattern::Sequence(members) => Some((members, true)),
            Pattern::Count(_) | Pattern::Any | Pattern::Absent => None,
        };
        let Some(members) = members else {
            return completed_by(self.pattern, window).map_or(Completed::Nothing, Completed::By);
        };
        let (completed, mistake) = self.givens.completed_by(members, window, &mut trying.left);
        trying.mistake = mistake.or(trying.mistake.take());
        completed
    }
}

/// The same where its members have nothing to do with each other: (member, place), by when they happened.
fn completed_by(pattern: Pattern, window: &[Captured]) -> Option<Vec<(usize, usize)>> {
    let (last, before) = window.split_last()?;
    let end = before.len();
    match pattern {
        Pattern::Count(count) => {
            let from = window.len().checked_sub(count.max(1))?;
            Some((from..window.len()).map(|place| (0, place)).collect())
        }
        Pattern::Any => last.members.first().map(|member| vec![(*member, end)]),
        Pattern::All(count) => {
            last.members.first()?;
            let latest = |member| Some((member, window.iter().rposition(|event| event.is(member))?));
            let mut chosen: Vec<_> = (0..count).map(latest).collect::<Option<_>>()?;
            chosen.sort_by_key(|(_, place)| *place);
            Some(chosen)
        }
        Pattern::Sequence(count) => {
            let final_member = count.checked_sub(1).filter(|member| last.is(*member))?;
            let mut chosen = vec![(final_member, end)];
            let mut before = before;
            for member in (0..final_member).rev() {
                let place = before.iter().rposition(|event| event.is(member))?;
                chosen.push((member, place));
                before = &before[..place];
            }
            chosen.reverse();
            Some(chosen)
        }
        Pattern::Absent => None,
    }
}

/// Finds what was not followed by what should have followed; gives what was.
fn absent(
    name: &str,
    group: &mut Vec<Captured>,
    within: SignedDuration,
    known_by: Timestamp,
    found: &mut Vec<Found>,
) -> Vec<Captured> {
    let mut over = Vec::new();
    let expected: Vec<(Timestamp, Timestamp)> =
        group.iter().filter(|event| event.is(1)).map(|event| (event.time, event.lasts.1)).collect();
    group.retain(|event| {
        if !event.is(0) {
            return true;
        }
        let end = end_of(event, within);
        let followed = expected.iter().any(|(began, until)| *began <= end && event.lasts.0 <= *until);
        let missed = !followed && end < known_by;
        if missed {
            let events = vec![(0, event.clone())];
            found.push(Found { group: name.to_owned(), occurrence: event.id.clone(), time: end, events });
        } else if followed {
            over.push(event.clone());
        }
        !followed && !missed
    });
    over
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::expr::Scope;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::UNIX_EPOCH + SignedDuration::from_secs(seconds)
    }

    /// An event `a12`: member 0 (`a`, `b` is 1, …) at second 12, of one of three jobs.
    fn event(text: &str) -> Captured {
        let (member, second) = text.split_at(1);
        let member = usize::from(member.as_bytes()[0] - b'a');
        let second = second.parse().expect("a second");
        let time = at(second);
        Captured {
            id: text.to_owned(),
            time,
            lasts: (time, time),
            group: "g".to_owned(),
            members: vec![member],
            data: Arc::new(json!({"data": {"job": second % 3}})),
            size: 1,
        }
    }

    /// Windows of a pattern whose members have, or have not, to be of the same job.
    fn empty() -> impl Strategy<Value = Windows> {
        (pattern(), any::<bool>()).prop_map(|(pattern, of_a_job)| {
            let (list, count) = match pattern {
                Pattern::All(count) => ("all", count),
                Pattern::Sequence(count) => ("sequence", count),
                _ => ("any", 0),
            };
            let member = |place: usize| {
                let name = char::from(b'a' + u8::try_from(place).expect("few")).to_string();
                let given = (of_a_job && place > 0).then_some("event.data.job == captured.a.data.job");
                json!({"name": name, "when": "true", "given": given})
            };
            let correlate = json!({"within": "10s", list: (0..count).map(member).collect::<Vec<_>>()});
            let correlate = serde_json::from_value(correlate).expect("a pattern");
            let givens = Givens::compile(&correlate, &Scope::of(["event"]), &mut Vec::new());
            windows(pattern).with(Arc::new(givens))
        })
    }

    fn windows(pattern: Pattern) -> Windows {
        Windows::new(pattern, SignedDuration::from_secs(10))
    }

    fn found(pattern: Pattern, events: &str) -> Vec<String> {
        let mut windows = windows(pattern);
        events.split_whitespace().for_each(|text| drop(windows.take(event(text))));
        windows.found(at(1000)).iter().map(texts).collect()
    }

    fn texts(found: &Found) -> String {
        found.events.iter().map(|(_, event)| event.id.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_pattern_by_examples() {
        for (pattern, events, expected) in [
            (Pattern::Count(3), "a1 a2 a3", vec!["a1 a2 a3"]),
            (Pattern::Count(3), "a1 a2 a12", vec![]),
            (Pattern::Count(3), "a1 a5 a12 a13", vec!["a5 a12 a13"]),
            (Pattern::Count(2), "a1 a2 a3 a4 a5", vec!["a1 a2", "a3 a4"]),
            (Pattern::Any, "a1 b2", vec!["a1", "b2"]),
            (Pattern::All(2), "a1 b2", vec!["a1 b2"]),
            (Pattern::All(2), "b1 a2", vec!["b1 a2"]),
            (Pattern::All(2), "a1 a2 b3", vec!["a2 b3"]),
            (Pattern::All(2), "a1 b12", vec![]),
            (Pattern::Sequence(2), "a1 b2", vec!["a1 b2"]),
            (Pattern::Sequence(2), "b1 a2", vec![]),
            (Pattern::Sequence(3), "a1 b2 a3 c4", vec!["a1 b2 c4"]),
            (Pattern::Sequence(3), "a1 b8 c12", vec![]),
            (Pattern::Absent, "a1 b2", vec![]),
            (Pattern::Absent, "a1 b12", vec!["a1"]),
            (Pattern::Absent, "b1 a2", vec!["a2"]),
            (Pattern::Absent, "a1 a2 b11", vec![]),
        ] {
            assert_eq!(found(pattern, events), expected, "{pattern:?} {events}");
        }
    }

    #[test]
    fn one_event_may_stand_for_several_of_all_but_not_of_a_sequence() {
        for (pattern, count) in [(Pattern::All(2), 1), (Pattern::Sequence(2), 0)] {
            let mut windows = windows(pattern);
            windows.take(Captured { members: vec![0, 1], ..event("a1") });
            assert_eq!(windows.found(at(2)).len(), count, "{pattern:?}");
        }
    }

    #[test]
    fn groups_do_not_mix() {
        let mut windows = windows(Pattern::Count(2));
        windows.take(event("a1"));
        windows.take(Captured { group: "other".to_owned(), ..event("a2") });
        assert_eq!(windows.found(at(3)), []);
    }

    #[test]
    fn what_stays_away_is_known_only_when_everything_until_then_is() {
        let mut windows = windows(Pattern::Absent);
        windows.take(event("a1"));
        assert_eq!(windows.due(), Some(at(11)));
        assert_eq!(windows.found(at(11)), [], "an event of this very instant may still come");
        let found = windows.found(at(12));
        assert_eq!((texts(&found[0]), found[0].time), ("a1".to_owned(), at(11)));
        assert_eq!(windows.due(), None);
    }

    #[test]
    fn what_is_expected_has_come_if_it_lasts_into_the_window() {
        for (began, until, is_missed) in
            [(0, 4, true), (0, 5, false), (0, 99, false), (15, 99, false), (16, 99, true)]
        {
            let mut windows = windows(Pattern::Absent);
            windows.take(event("a5"));
            windows.take(Captured { lasts: (at(began), at(until)), ..event(&format!("b{began}")) });
            assert_eq!(windows.found(at(50)).len(), usize::from(is_missed), "from {began} to {until}");
            assert_eq!(windows.waiting().count(), usize::from(until > 50), "what lasts is not forgotten");
        }
    }

    #[test]
    fn what_an_execution_used_is_not_used_again() {
        let mut windows = windows(Pattern::Count(3));
        for text in ["a1", "a2", "a3", "a4"] {
            windows.take(event(text));
        }
        windows.use_up(["a1", "a2", "a4"]);
        assert_eq!(windows.found(at(5)), []);
        assert_eq!(windows.waiting().collect::<Vec<_>>(), ["a3"]);
    }

    #[test]
    fn more_than_can_wait_is_dropped_and_counted() {
        let mut windows = windows(Pattern::Sequence(2));
        let numbered = |number: usize| Captured { id: format!("{number:05}"), ..event("a1") };
        let dropped: Vec<_> = (0..=IN_A_GROUP).flat_map(|number| windows.take(numbered(number))).collect();
        assert_eq!(dropped, [numbered(0)], "and whoever gave it is told which");
        assert_eq!(windows.take(numbered(0)), [], "a list has it once more");
        assert_eq!((windows.dropped(), windows.waiting().count()), (1, IN_A_GROUP));
    }

    /// An event of a group that takes a third of the room.
    fn large(text: &str, group: &str) -> Captured {
        Captured { group: group.to_owned(), size: BYTES / 3, ..event(text) }
    }

    #[test]
    fn more_bytes_than_can_wait_are_dropped_oldest_first_whatever_their_group() {
        let mut windows = windows(Pattern::Sequence(2));
        let mut take = |event: Captured| {
            let dropped = windows.take(event);
            dropped.iter().map(|event| event.id.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(take(large("a2", "y")), "");
        assert_eq!(take(large("a1", "x")), "");
        assert_eq!(take(large("a3", "x")), "");
        assert_eq!(take(large("a3", "x")), "", "it is there");
        assert_eq!(take(event("a9")), "", "what is left is enough");
        assert_eq!(take(large("a4", "z")), "a1 a2", "not only as much as has to");
        assert_eq!(take(Captured { size: BYTES / 2, ..event("a5") }), "a3");
        assert_eq!(take(large("a0", "x")), "a0", "it is the oldest itself");
        assert_eq!((windows.dropped(), windows.waiting().collect::<Vec<_>>()), (4, vec!["a5", "a9", "a4"]));
    }

    #[test]
    fn what_is_complete_used_or_over_takes_no_room() {
        let mut windows = windows(Pattern::Sequence(2));
        for text in ["a1", "b2", "a3"] {
            assert_eq!(windows.take(large(text, "x")), []);
        }
        assert_eq!(windows.found(at(4)).len(), 1);
        for text in ["a4", "a5"] {
            assert_eq!(windows.take(large(text, "y")), []);
        }
        windows.use_up(["a4"]);
        assert_eq!(windows.take(large("a6", "z")), []);
        assert_eq!(windows.found(at(14)), []);
        assert_eq!(windows.waiting().collect::<Vec<_>>(), ["a5", "a6"]);
        assert_eq!(windows.take(large("a7", "y")), []);
        assert_eq!(windows.dropped(), 0);
    }

    #[test]
    fn what_is_expected_goes_when_nothing_is_left_that_awaits_something() {
        let mut windows = windows(Pattern::Absent);
        for (text, group) in [("b1", "x"), ("a9", "y"), ("b2", "x")] {
            assert_eq!(windows.take(large(text, group)), []);
        }
        let dropped: Vec<_> = ["b3", "b4"].map(|text| windows.take(large(text, "z"))).concat();
        assert_eq!(dropped.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["a9", "b1"]);
    }

    #[test]
    fn what_is_expected_is_not_dropped_as_long_as_something_waits_for_it() {
        let mut windows = windows(Pattern::Absent);
        windows.take(Captured { lasts: (at(0), at(99)), ..event("b0") });
        for number in 0..IN_A_GROUP {
            windows.take(Captured { id: format!("{number:05}"), ..event("a1") });
        }
        assert_eq!((windows.dropped(), windows.waiting().next()), (1, Some("b0")));
        assert_eq!(windows.found(at(50)), []);
    }

    fn pattern() -> impl Strategy<Value = Pattern> {
        prop_oneof![
            (1..4usize).prop_map(Pattern::Count),
            Just(Pattern::Any),
            (1..4usize).prop_map(Pattern::All),
            (1..4usize).prop_map(Pattern::Sequence),
            Just(Pattern::Absent),
        ]
    }

    fn stream() -> impl Strategy<Value = Vec<Captured>> {
        let one = (0..3u8, 0..40i64)
            .prop_map(|(member, second)| event(&format!("{}{second}", char::from(b'a' + member))));
        proptest::collection::vec(one, 0..30)
    }

    proptest! {
        /// Windows that are filled anew with each event find the same if they are told what need not be tried again.
        #[test]
        fn what_was_tried_need_not_be_tried_again(empty in empty(), events in stream()) {
            let (mut used, mut tried) = (Vec::<String>::new(), Tried::default());
            for known in 1..=events.len() {
                let (mut whole, mut resumed) = (empty.clone(), empty.clone());
                for windows in [&mut whole, &mut resumed] {
                    events[..known].iter().for_each(|event| drop(windows.take(event.clone())));
                    windows.use_up(used.iter().map(String::as_str));
                }
                resumed.resume(&tried);
                let found = resumed.found(at(0));
                prop_assert_eq!(&found, &whole.found(at(0)));
                tried = resumed.tried();
                used.extend(found.iter().flat_map(|found| &found.events).map(|(_, event)| event.id.clone()));
            }
        }

        /// One at a time as it happens, or all at once from a list: the same is found.
        #[test]
        fn a_list_leads_to_what_the_stream_led_to(empty in empty(), mut events in stream()) {
            events.sort_by(|a, b| a.order().cmp(&b.order()));
            let (mut live, mut listed) = (empty.clone(), empty);
            let mut seen = Vec::new();
            for event in &events {
                live.take(event.clone());
                seen.extend(live.found(event.time));
                listed.take(event.clone());
            }
            seen.extend(live.found(at(1000)));
            let mut at_once = listed.found(at(1000));
            let order = |found: &Found| (found.time, found.occurrence.clone());
            seen.sort_by_key(order);
            at_once.sort_by_key(order);
            prop_assert_eq!(seen, at_once);
        }

        /// What is known to complete nothing is found to complete something when what was missing comes late.
        #[test]
        fn what_comes_late_is_not_missed(empty in empty(), events in stream(), looks in proptest::collection::vec(any::<bool>(), 30)) {
            let (mut looked_at, mut at_once) = (empty.clone(), empty);
            let mut found = Vec::new();
            for (event, look) in events.iter().zip(looks) {
                looked_at.take(event.clone());
                at_once.take(event.clone());
                if look && found.is_empty() {
                    // Nothing is over yet: only what is complete goes.
                    found = looked_at.found(at(0));
                }
            }
            if found.is_empty() {
                found = looked_at.found(at(0));
                prop_assert_eq!(found, at_once.found(at(0)));
            }
        }

        /// However events are shuffled, repeated and listed again after a restart, none counts twice.
        #[test]
        fn no_event_counts_twice(empty in empty(), events in stream(), again in stream(), split in 0..30usize) {
            let mut first = empty.clone();
            let mut used: Vec<String> = Vec::new();
            let mut note = |found: Vec<Found>| used.extend(found.iter().flat_map(|found| {
                let ids: BTreeSet<String> = found.events.iter().map(|(_, event)| event.id.clone()).collect();
                ids
            }));
            for event in events.iter().take(split).chain(&again) {
                first.take(event.clone());
                note(first.found(event.time));
            }
            let before = used.clone();
            let mut second = empty;
            events.iter().chain(&again).for_each(|event| drop(second.take(event.clone())));
            second.use_up(before.iter().map(String::as_str));
            let found = second.found(at(1000));
            used.extend(found.iter().flat_map(|found| {
                let ids: BTreeSet<String> = found.events.iter().map(|(_, event)| event.id.clone()).collect();
                ids
            }));
            let distinct: BTreeSet<_> = used.iter().collect();
            prop_assert_eq!(distinct.len(), used.len(), "{:?}", used);
        }
    }
}
