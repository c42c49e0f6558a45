//! When a schedule is due: cron in a time zone, with a table for the hours that a clock change skips or repeats; an interval;
//! or dates.
//!
//! A schedule that names its hours goes by the clock on the wall: an hour that the clock skips is taken right after the
//! gap, one that it repeats is taken once, the first time. So does one of every second hour (`*/2`), which names 0, 2, 4
//! and so on. A schedule of every hour (`*`, `*/1`) goes by elapsed time: every real hour counts, the repeated one too.
//! Nothing is lost and nothing happens twice.
//!
//! The times of an interval are its multiples since 1970 in UTC, and not since some moment that would have to be
//! remembered: whoever computes them, after whatever restart, restore or new beginning of the Rule, computes the same.

use std::sync::LazyLock;

use cronexpr::Crontab;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};
use regex::Regex;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{DATE_PATTERN, Duration, ScheduleStatus, ScheduleTrigger};
use crate::expr::closest;

/// How many missed times are counted; beyond, it is said that there were more.
pub const COUNTED: u32 = 100;

/// The shortest interval. What has to be looked at more often is a state, and is watched.
const SHORTEST: Duration = Duration::from_secs(10);

/// How far apart the parser is asked. It looks four years ahead: each look begins before the one before it ends.
const LOOK: SignedDuration = SignedDuration::from_hours(4 * 365 * 24);

/// So many looks are more than the forty years that may lie between two 29ths of February on the same day of the week.
const LOOKS: i32 = 11;

/// How the text of a schedule of dates begins.
const DATES: &str = "at ";

/// What the fields of cron are called.
const FIELDS: [&str; 5] = ["minute", "hour", "day of month", "month", "day of week"];

/// The names that cron has for some of its fields.
const MACROS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

static DATE: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(DATE_PATTERN).expect("a constant that a test compiles"));

/// A schedule that is due now and then.
#[derive(Clone, Debug)]
pub struct Schedule {
    times: Times,
    /// What tells it from others, in whatever words it was written.
    text: String,
}

#[derive(Clone, Debug)]
enum Times {
    Cron(Box<Cron>),
    /// The multiples of so many seconds.
    Every(i64),
    /// In their order, each once.
    At(Vec<Timestamp>),
}

#[derive(Clone, Debug)]
struct Cron {
    crontab: Crontab,
    zone: TimeZone,
    by_the_wall: bool,
}

/// What is wrong with a schedule.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ScheduleError {
    /// It is not five fields of cron.
    #[error("\"{cron}\": {why}")]
    Cron {
        /// The text.
        cron: String,
        /// What its parser says.
        why: String,
    },
    /// There is no such zone.
    #[error("\"{zone}\" is not an IANA zone{}", .suggestion.as_ref().map(|s| format!("; did you mean \"{s}\"?")).unwrap_or_default())]
    Zone {
        /// The text.
        zone: String,
        /// A zone of a similar name.
        suggestion: Option<String>,
    },
    /// No day fits.
    #[error("\"{0}\" never fires")]
    Never(String),
    /// Its interval is too short.
    #[error("every {0} is too often: at least {SHORTEST}")]
    Interval(Duration),
    /// One of its dates, which is none.
    #[error("{1}")]
    Date(usize, DateError),
}

/// A text that is not a date.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("\"{text}\" is not a date: use \"{suggestion}\"")]
pub struct DateError {
    text: String,
    suggestion: String,
}

impl ScheduleError {
    /// Below `spec.trigger.schedule`, the field that is wrong.
    #[must_use]
    pub fn field(&self) -> String {
        match self {
            Self::Cron { .. } | Self::Never(_) => ".cron".to_owned(),
            Self::Zone { .. } => ".timeZone".to_owned(),
            Self::Interval(_) => ".every".to_owned(),
            Self::Date(index, _) => format!(".at[{index}]"),
        }
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Due {
    /// The latest time that has come, which is the only one to be made up for.
    pub latest: Option<Timestamp>,
    /// How many earlier ones have passed unseen; [`COUNTED`] stands for that or more.
    pub missed: u32,
}

impl Schedule {
    /// Reads the times of a trigger.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub fn of(trigger: &ScheduleTrigger) -> Result<Self, Vec<ScheduleError>> {
        match (&trigger.cron, trigger.every) {
            (Some(cron), _) => Self::cron(cron, trigger.time_zone.as_deref()),
            (None, Some(every)) if every < SHORTEST => Err(vec![ScheduleError::Interval(every)]),
            (None, Some(every)) => {
                Ok(Self { times: Times::Every(every.signed().as_secs()), text: format!("every {every}") })
            }
            // The schema refuses one that says nothing: it is as one whose dates are all over.
            (None, None) => Self::at(&trigger.at),
        }
    }

    /// Reads five fields of cron (minute, hour, day of month, month, day of week), or a name for them, in an IANA time
    /// zone; without one, UTC.
    fn cron(cron: &str, zone: Option<&str>) -> Result<Self, Vec<ScheduleError>> {
        let name = zone.unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| unknown_zone(name));
        // In which zone makes no difference to whether it is well-formed.
        let crontab = fields_of(cron)
            .and_then(|fields| Ok((fields, crontab_of(fields, zone.as_ref().map_or("UTC", |_| name))?)));
        match (zone, crontab) {
            (Ok(zone), Ok((fields, crontab))) => {
                let by_the_wall = goes_by_the_wall(fields);
                let times = Times::Cron(Box::new(Cron { crontab, zone, by_the_wall }));
                Ok(Self { times, text: format!("{fields} {name}") })
            }
            (zone, crontab) => Err([zone.err(), crontab.err()].into_iter().flatten().collect()),
        }
    }

    /// Reads dates.
    fn at(dates: &[String]) -> Result<Self, Vec<ScheduleError>> {
        let (mut times, mut errors) = (Vec::new(), Vec::new());
        for (index, text) in dates.iter().enumerate() {
            match date(text) {
                Ok(time) => times.push(time),
                Err(error) => errors.push(ScheduleError::Date(index, error)),
            }
        }
        times.sort_unstable();
        times.dedup();
        let written: Vec<String> = times.iter().map(ToString::to_string).collect();
        let text = format!("{DATES}{}", written.join(", "));
        if errors.is_empty() { Ok(Self { times: Times::At(times), text }) } else { Err(errors) }
    }

    /// The first time after an instant.
    #[must_use]
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.times {
            Times::Cron(cron) => cron.next(after),
            Times::Every(seconds) => {
                // An instant of before 1970 may have a part of a second that leads back.
                let past = after.as_second() - i64::from(after.subsec_nanosecond() < 0);
                Timestamp::from_second((past.div_euclid(*seconds) + 1).checked_mul(*seconds)?).ok()
            }
            Times::At(dates) => dates.iter().find(|date| **date > after).copied(),
        }
    }

    /// What has come due after one instant and by another. However much was missed, it is made up for once.
    pub fn due(&self, after: Timestamp, now: Timestamp) -> Due {
        let latest = self.latest(after, now);
        let mut missed = 0;
        let mut at = after;
        while let Some(next) = self.next(at).filter(|next| latest.is_some_and(|latest| *next < latest)) {
            missed += 1;
            at = next;
            if missed == COUNTED {
                break;
            }
        }
        Due { latest, missed }
    }

    /// What is due, given how far the schedule has come, and how far it has come with that. A schedule that is new, or
    /// not the one that the status speaks of, counts from when it was first seen; of other dates those that the status
    /// speaks of as well go on being owed.
    #[must_use]
    pub fn advance(
        &self,
        known: Option<&ScheduleStatus>,
        (created_at, now): (Timestamp, Timestamp),
    ) -> (Due, ScheduleStatus) {
        let since = if known.is_some() { now } else { created_at };
        let same = known.filter(|known| known.schedule == self.text);
        let mut status = same.cloned().unwrap_or_else(|| ScheduleStatus {
            schedule: self.text.clone(),
            since: Some(Time(since)),
            ..ScheduleStatus::default()
        });
        let due = match (same, known.and_then(|known| self.kept_of(known))) {
            (None, Some((kept, base))) => kept.due(base, now),
            _ => self.due(reached(&status).unwrap_or(now), now),
        };
        if let Some(latest) = due.latest {
            status.last_scheduled_at = Some(Time(latest));
            status.missed = i32::try_from(due.missed).ok().filter(|missed| *missed > 0);
        }
        (due, status)
    }

    /// The dates that were there before somebody changed others, and how far they had come: they were owed then, and are.
    fn kept_of(&self, known: &ScheduleStatus) -> Option<(Self, Timestamp)> {
        let Times::At(dates) = &self.times else { return None };
        let before: Vec<Timestamp> =
            known.schedule.strip_prefix(DATES)?.split(", ").filter_map(|date| date.parse().ok()).collect();
        let kept = dates.iter().filter(|date| before.contains(date)).copied().collect();
        Some((Self { times: Times::At(kept), text: String::new() }, reached(known)?))
    }

    /// The latest time in a span, looked for from its end: a schedule of every minute may have missed a year.
    fn latest(&self, after: Timestamp, now: Timestamp) -> Option<Timestamp> {
        let mut span = SignedDuration::from_mins(2);
        loop {
            let from = now.saturating_sub(span).ok().filter(|from| *from > after).unwrap_or(after);
            let within = std::iter::successors(self.next(from), |at| self.next(*at));
            if let Some(latest) = within.take_while(|at| *at <= now).last() {
                return Some(latest);
            }
            if from == after {
                return None;
            }
            span = span.saturating_mul(8);
        }
    }
}

impl Cron {
    fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if !self.by_the_wall {
            return first(&self.crontab, after).map(|zoned| zoned.timestamp());
        }
        // A gap leads forward by its length: a look from a little earlier finds what it led past `after`.
        let mut wall = self.zone.to_datetime(after.saturating_sub(SignedDuration::from_hours(3)).ok()?);
        let mut led_on: Option<Timestamp> = None;
        loop {
            let asked = TimeZone::UTC.to_timestamp(wall).ok()?;
            wall = first(&self.crontab, asked)?.datetime();
            let ambiguous = self.zone.to_ambiguous_timestamp(wall);
            let in_a_gap = matches!(ambiguous.offset(), AmbiguousOffset::Gap { .. });
            let instant = ambiguous.compatible().ok()?;
            match led_on {
                _ if instant <= after => {}
                // What follows on the wall may come before it in time.
                None if in_a_gap => led_on = Some(instant),
                Some(led_on) if !in_a_gap || instant < led_on => return Some(instant.min(led_on)),
                Some(_) => {}
                None => return Some(instant),
            }
        }
    }
}

/// How far a schedule has come. What was taken before it was given this text says nothing of it.
fn reached(status: &ScheduleStatus) -> Option<Timestamp> {
    [&status.since, &status.last_scheduled_at].into_iter().flatten().map(|time| time.0).max()
}

/// Reads a date with its time and its offset from UTC.
///
/// # Errors
/// A text that is none, with what was probably meant.
pub fn date(text: &str) -> Result<Timestamp, DateError> {
    let read = |text: &str| DATE.is_match(text).then(|| text.parse().ok()).flatten();
    if let Some(date) = read(text) {
        return Ok(date);
    }
    let spaced = text.trim().to_uppercase().replacen(' ', "T", 1);
    let meant = ["", "Z", ":00Z", ":00:00Z", "T00:00:00Z"].map(|end| format!("{spaced}{end}"));
    let meant = meant.into_iter().find(|meant| read(meant).is_some());
    let suggestion = meant.unwrap_or_else(|| "2026-12-24T18:00:00Z".to_owned());
    Err(DateError { text: text.to_owned(), suggestion })
}

/// The five fields that cron is given by, or by one of its names.
fn fields_of(cron: &str) -> Result<&str, ScheduleError> {
    let name = cron.trim();
    if !name.starts_with('@') {
        return Ok(cron);
    }
    if let Some((_, fields)) = MACROS.iter().find(|(known, _)| *known == name) {
        return Ok(fields);
    }
    let names = MACROS.map(|(name, _)| name);
    let remedy = match (name.strip_prefix("@every "), closest(name, names)) {
        (Some(interval), _) => format!("write every: {} in place of cron", interval.trim()),
        (None, Some(meant)) => format!("did you mean \"{meant}\"?"),
        (None, None) if name == "@reboot" => {
            "that something has started is a state: use trigger.resource".to_owned()
        }
        (None, None) => format!("use one of {}, or five fields", names.join(", ")),
    };
    Err(ScheduleError::Cron { cron: cron.to_owned(), why: format!("names no times; {remedy}") })
}

/// A schedule of every hour goes by elapsed time, all others by the clock on the wall.
fn goes_by_the_wall(cron: &str) -> bool {
    !matches!(cron.split_whitespace().nth(1), Some("*" | "*/1"))
}

/// The first time of a crontab after an instant, however many years it takes.
fn first(crontab: &Crontab, after: Timestamp) -> Option<Zoned> {
    (0..LOOKS).find_map(|look| {
        // The parser panics where its four years lead beyond the calendar.
        after.checked_add(LOOK * (look + 2)).ok()?;
        let from = after.checked_add(LOOK * look).ok()?;
        crontab.find_next(from.to_string().as_str()).ok()
    })
}

/// Why a day cannot be said as it is: the parser reads `L`, and never finds it in December, as it takes a day for the last
/// one if the next is in a month of a higher number.
fn last_day(cron: &str) -> Option<String> {
    let mut fields = cron.split_whitespace();
    let (of_month, of_week) = (fields.nth(2)?, fields.nth(1)?);
    if of_month.split(',').any(|day| day == "L") {
        let why = "day of month \"L\": the last day of a month is not supported; take 1, the day after it";
        return Some(why.to_owned());
    }
    let day = of_week.split(',').find_map(|day| day.strip_suffix('L'))?;
    Some(format!(
        "day of week \"{day}L\": the last one of a month is not supported; take {day}#4, the fourth"
    ))
}

/// Reads five fields of cron, some time of which comes.
fn crontab_of(cron: &str, zone: &str) -> Result<Crontab, ScheduleError> {
    let malformed = |why: &str| ScheduleError::Cron { cron: cron.to_owned(), why: why.trim().to_owned() };
    if cron.split_whitespace().count() != 5 {
        return Err(malformed(&format!("want five fields: {}", FIELDS.join(", "))));
    }
    // By the wall, cron is asked about a day without clock changes, and the zone about the instant.
    let asked = format!("{cron} {}", if goes_by_the_wall(cron) { "UTC" } else { zone });
    let crontab = cronexpr::parse_crontab(&asked).map_err(|error| {
        let field = malformed_field(cron).unwrap_or_default();
        malformed(&format!("{field}{}", reason_of(&error.to_string())))
    })?;
    match (last_day(cron), first(&crontab, Timestamp::UNIX_EPOCH)) {
        (Some(why), _) => Err(malformed(&why)),
        (None, None) => Err(ScheduleError::Never(cron.to_owned())),
        (None, Some(_)) => Ok(crontab),
    }
}

/// The first field that the parser does not read, which it does not name: it is asked about each alone.
fn malformed_field(cron: &str) -> Option<String> {
    let is_malformed = |place: usize, field: &str| {
        let mut fields = ["*"; FIELDS.len()];
        fields[place] = field;
        cronexpr::parse_crontab(&format!("{} UTC", fields.join(" "))).is_err()
    };
    let mut fields = FIELDS.iter().zip(cron.split_whitespace()).enumerate();
    let (_, (name, field)) = fields.find(|(place, (_, field))| is_malformed(*place, field))?;
    Some(format!("{name} \"{field}\": "))
}

/// The last line of what the cron parser says: what it stumbled over, without the text itself, which we quote.
fn reason_of(error: &str) -> String {
    let last = error.lines().last().unwrap_or_default();
    last.trim_start_matches([' ', '^']).to_owned()
}

fn unknown_zone(name: &str) -> ScheduleError {
    let known: Vec<String> = jiff::tz::db().available().map(|zone| zone.to_string()).collect();
    let suggestion = closest(name, known.iter().map(String::as_str)).map(str::to_owned);
    ScheduleError::Zone { zone: name.to_owned(), suggestion }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn of(trigger: Value) -> Result<Schedule, Vec<ScheduleError>> {
        Schedule::of(&serde_json::from_value(trigger).expect("a trigger"))
    }

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn after(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = of(json!({"cron": cron, "timeZone": zone})).expect("a schedule");
        let times = std::iter::successors(schedule.next(at(from)), |at| schedule.next(*at));
        times.take(count).map(|at| at.to_string()).collect()
    }

    #[test]
    fn a_clock_change_loses_nothing_and_doubles_nothing() {
        for (cron, zone, from, times) in [
            // The clock jumps from 01:00 to 02:00 on March 29.
            (
                "30 1 * * *",
                "Europe/London",
                "2026-03-28T12:00:00Z",
                ["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"],
            ),
            (
                "0 2 * * *",
                "Europe/London",
                "2026-03-28T12:00:00Z",
                ["2026-03-29T01:00:00Z", "2026-03-30T01:00:00Z"],
            ),
            // The clock goes from 02:00 back to 01:00 on October 25.
            (
                "30 1 * * *",
                "Europe/London",
                "2026-10-24T12:00:00Z",
                ["2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"],
            ),
            // Every hour is every real hour.
            (
                "0 * * * *",
                "Europe/London",
                "2026-10-24T23:30:00Z",
                ["2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"],
            ),
            (
                "30 * * * *",
                "Europe/London",
                "2026-03-29T00:00:00Z",
                ["2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"],
            ),
            // A zone that changes by half an hour, at 02:00 on October 4.
            (
                "15 2 * * *",
                "Australia/Lord_Howe",
                "2026-10-03T00:00:00Z",
                ["2026-10-03T15:45:00Z", "2026-10-04T15:15:00Z"],
            ),
            // A country that skipped a whole day has no such day.
            (
                "0 12 30 12 *",
                "Pacific/Apia",
                "2011-01-01T00:00:00Z",
                ["2011-12-30T22:00:00Z", "2012-12-29T22:00:00Z"],
            ),
        ] {
            assert_eq!(after(cron, zone, from, 2), times, "{cron} {zone}");
        }
    }

    #[test]
    fn hours_in_steps_go_by_the_wall_as_those_that_are_named() {
        for (cron, zone, from, times) in [
            // The clock jumps from 02:00 to 03:00 on March 29, and goes from 03:00 back to 02:00 on October 25.
            ("0 */2 * * *", "Europe/Berlin", "2026-03-28T22:30:00Z", ["28T23:00", "29T01:00", "29T02:00"]),
            ("0 */2 * * *", "Europe/Berlin", "2026-10-24T21:30:00Z", ["24T22:00", "25T00:00", "25T03:00"]),
            ("0 0,2,4 * * *", "Europe/Berlin", "2026-03-28T22:30:00Z", ["28T23:00", "29T01:00", "29T02:00"]),
            ("0 0,2,4 * * *", "Europe/Berlin", "2026-10-24T21:30:00Z", ["24T22:00", "25T00:00", "25T03:00"]),
            // It jumps from midnight to 01:00 on September 6, and goes from midnight back to 23:00 on April 5.
            (
                "0 */12 * * *",
                "America/Santiago",
                "2026-09-05T15:30:00Z",
                ["05T16:00", "06T04:00", "06T15:00"],
            ),
            (
                "0 */12 * * *",
                "America/Santiago",
                "2026-04-04T14:30:00Z",
                ["04T15:00", "05T04:00", "05T16:00"],
            ),
            // Every hour, in whatever words, is every real hour.
            ("0 */1 * * *", "Europe/Berlin", "2026-10-24T23:30:00Z", ["25T00:00", "25T01:00", "25T02:00"]),
        ] {
            let times = times.map(|time| format!("{}{time}:00Z", &from[..8]));
            assert_eq!(after(cron, zone, from, 3), times, "{cron} {zone} {from}");
        }
    }

    #[test]
    fn a_day_that_comes_once_in_many_years_is_found() {
        for (cron, from, times) in [
            // A 29th of February that is a Sunday.
            ("0 0 29 2 */7", "2026-01-01T00:00:00Z", ["2032-02-29T00:00:00Z", "2060-02-29T00:00:00Z"]),
            // 2100 has none.
            ("0 0 29 2 */7", "2088-03-01T00:00:00Z", ["2128-02-29T00:00:00Z", "2156-02-29T00:00:00Z"]),
            ("0 * 29 2 */7", "2026-01-01T00:00:00Z", ["2032-02-29T00:00:00Z", "2032-02-29T01:00:00Z"]),
        ] {
            assert_eq!(after(cron, "UTC", from, 2), times, "{cron} {from}");
        }
        assert_eq!(after("0 0 * * *", "UTC", "9999-01-01T00:00:00Z", 1), [""; 0], "the calendar ends");
    }

    #[test]
    fn days_that_are_near_a_date_or_counted_come_in_december_too() {
        for (cron, times) in [
            ("0 3 31W 12 *", ["2026-12-31T03:00:00Z", "2027-12-31T03:00:00Z", "2028-12-29T03:00:00Z"]),
            ("0 3 * 12 FRI#5", ["2027-12-31T03:00:00Z", "2028-12-29T03:00:00Z", "2032-12-31T03:00:00Z"]),
        ] {
            assert_eq!(after(cron, "UTC", "2026-01-01T00:00:00Z", 3), times, "{cron}");
        }
    }

    #[test]
    fn two_times_of_the_wall_that_fall_together_are_one() {
        let times = after("0,30 1,2 * * *", "Europe/London", "2026-03-28T12:00:00Z", 3);
        assert_eq!(times, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"]);
    }

    #[test]
    fn what_was_missed_is_made_up_for_once() {
        let hourly = of(json!({"cron": "0 * * * *"})).expect("a schedule");
        for (since, now, latest, missed) in [
            ("2026-01-01T00:30:00Z", "2026-01-01T00:40:00Z", None, 0),
            ("2026-01-01T00:30:00Z", "2026-01-01T01:00:00Z", Some("2026-01-01T01:00:00Z"), 0),
            ("2026-01-01T00:30:00Z", "2026-01-01T04:10:00Z", Some("2026-01-01T04:00:00Z"), 3),
            ("2025-01-01T00:30:00Z", "2026-01-01T04:10:00Z", Some("2026-01-01T04:00:00Z"), COUNTED),
        ] {
            let due = hourly.due(at(since), at(now));
            assert_eq!(due, Due { latest: latest.map(at), missed }, "{since} {now}");
        }
    }

    #[test]
    fn a_schedule_goes_on_from_where_it_was_and_a_new_one_begins() {
        let step = |cron: &str, known: Option<&ScheduleStatus>, now: &str| {
            let schedule = of(json!({"cron": cron})).expect("a schedule");
            schedule.advance(known, (at("2026-01-01T00:30:00Z"), at(now)))
        };
        let (due, first) = step("0 * * * *", None, "2026-01-01T00:40:00Z");
        assert_eq!((due, first.last_scheduled_at.clone()), (Due::default(), None));
        let (due, third) = step("0 * * * *", Some(&first), "2026-01-01T03:10:00Z");
        assert_eq!(due, Due { latest: Some(at("2026-01-01T03:00:00Z")), missed: 2 });
        assert_eq!(third.missed, Some(2));
        let (due, same) = step("0 * * * *", Some(&third), "2026-01-01T03:20:00Z");
        assert_eq!((due, &same), (Due::default(), &third));
        let (due, other) = step("15 * * * *", Some(&third), "2026-01-01T03:20:00Z");
        assert_eq!((due, other.since), (Due::default(), Some(Time(at("2026-01-01T03:20:00Z")))));
    }

    #[test]
    fn the_times_of_an_interval_are_the_same_whoever_computes_them() {
        for (every, from, times) in [
            ("10s", "2026-01-01T00:00:09.5Z", ["2026-01-01T00:00:10Z", "2026-01-01T00:00:20Z"]),
            ("10s", "2026-01-01T00:00:10Z", ["2026-01-01T00:00:20Z", "2026-01-01T00:00:30Z"]),
            ("6h", "2026-01-01T13:00:00Z", ["2026-01-01T18:00:00Z", "2026-01-02T00:00:00Z"]),
            // The clock on the wall does not matter.
            ("24h", "2026-03-28T12:00:00Z", ["2026-03-29T00:00:00Z", "2026-03-30T00:00:00Z"]),
            ("7h", "2026-01-01T00:00:00Z", ["2026-01-01T07:00:00Z", "2026-01-01T14:00:00Z"]),
            ("8784h", "2026-01-01T00:00:00Z", ["2026-02-12T00:00:00Z", "2027-02-13T00:00:00Z"]),
        ] {
            let schedule = of(json!({"every": every})).expect("a schedule");
            let found = std::iter::successors(schedule.next(at(from)), |at| schedule.next(*at));
            assert_eq!(found.take(2).map(|at| at.to_string()).collect::<Vec<_>>(), times, "{every} {from}");
        }
        let often = of(json!({"every": "10s"})).expect("a schedule");
        for (since, now, latest, missed) in [
            ("2026-01-01T00:00:01Z", "2026-01-01T00:00:09Z", None, 0),
            ("2026-01-01T00:00:01Z", "2026-01-01T00:00:45Z", Some("2026-01-01T00:00:40Z"), 3),
            ("2025-01-01T00:00:00Z", "2026-01-01T00:00:45Z", Some("2026-01-01T00:00:40Z"), COUNTED),
        ] {
            let due = often.due(at(since), at(now));
            assert_eq!(due, Due { latest: latest.map(at), missed }, "{since} {now}");
        }
    }

    #[test]
    fn each_date_comes_once_and_what_was_over_never() {
        let (first, second, third) =
            ("2026-01-01T12:00:00Z", "2026-01-02T13:00:00+01:00", "2026-01-03T12:00:00Z");
        let step = |dates: &[&str], known: Option<&ScheduleStatus>, now: &str| {
            let schedule = of(json!({"at": dates})).expect("a schedule");
            schedule.advance(known, (at("2026-01-01T18:00:00Z"), at(now)))
        };
        // In whatever order, and however often they are written.
        let dates = [third, first, second, "2026-01-02T12:00:00Z"];
        let (due, known) = step(&dates, None, "2026-01-01T18:00:05Z");
        assert_eq!(due, Due::default(), "what was over when the Rule was created");
        assert_eq!(known.schedule, "at 2026-01-01T12:00:00Z, 2026-01-02T12:00:00Z, 2026-01-03T12:00:00Z",);
        let (due, known) = step(&dates, Some(&known), "2026-01-02T12:00:00Z");
        assert_eq!(due, Due { latest: Some(at(second)), missed: 0 });
        let (due, same) = step(&dates, Some(&known), "2026-01-02T15:00:00Z");
        assert_eq!((due, &same), (Due::default(), &known), "no date twice");
        let (due, known) = step(&dates, Some(&known), "2026-02-01T00:00:00Z");
        assert_eq!((due, known.missed), (Due { latest: Some(at(third)), missed: 0 }, None));
        let schedule = of(json!({"at": dates})).expect("a schedule");
        assert_eq!(schedule.next(at(third)), None);
        // While nobody looked, the latest is made up for.
        let (_, new) = step(&dates, None, "2026-01-01T18:00:05Z");
        let (due, _) = step(&dates, Some(&new), "2026-02-01T00:00:00Z");
        assert_eq!(due, Due { latest: Some(at(third)), missed: 1 });
    }

    #[test]
    fn a_date_is_not_lost_because_another_is_changed() {
        let step = |trigger: Value, known: &ScheduleStatus, now: &str| {
            let schedule = of(trigger).expect("a schedule");
            schedule.advance(Some(known), (at("2026-01-01T00:00:00Z"), at(now)))
        };
        let known = |schedule: &str, last: Option<&str>| ScheduleStatus {
            schedule: schedule.to_owned(),
            since: Some(Time(at("2026-01-01T00:00:00Z"))),
            last_scheduled_at: last.map(|last| Time(at(last))),
            missed: None,
        };
        let (kept, added) = ("2026-01-01T12:00:00Z", "2026-01-01T11:00:00Z");
        let before = known(&format!("at {kept}"), None);
        let (due, after) = step(json!({"at": [added, kept]}), &before, "2026-01-01T12:00:01Z");
        assert_eq!(due, Due { latest: Some(at(kept)), missed: 0 }, "it was owed; what was added is over");
        let (due, _) = step(json!({"at": [added, kept]}), &after, "2026-01-01T12:00:02Z");
        assert_eq!(due, Due::default());
        for (before, trigger) in [
            // It was taken, or never there.
            (known(&format!("at {kept}"), Some(kept)), json!({"at": [added, kept]})),
            (known("at 2026-01-01T10:00:00Z", None), json!({"at": [kept]})),
            (known("0 12 * * * UTC", None), json!({"at": [kept]})),
            (known(&format!("at {kept}"), None), json!({"cron": "0 12 * * *"})),
            (known("every 12h", None), json!({"every": "6h"})),
        ] {
            let (due, after) = step(trigger.clone(), &before, "2026-01-01T12:00:01Z");
            assert_eq!(due, Due::default(), "{before:?} {trigger}");
            assert_eq!(after.since, Some(Time(at("2026-01-01T12:00:01Z"))), "{before:?} {trigger}");
        }
    }

    #[test]
    fn a_name_of_cron_is_its_fields() {
        for (name, fields) in MACROS {
            let text = |cron: &str| of(json!({"cron": cron})).expect("a schedule").text;
            assert_eq!((text(name), text(fields)), (format!("{fields} UTC"), format!("{fields} UTC")));
        }
    }

    #[test]
    fn a_schedule_that_cannot_be_is_refused() {
        let unknown = "\"Europe/Londno\" is not an IANA zone; did you mean \"Europe/London\"?";
        for (cron, zone, expected) in [
            ("0 0 31 2 *", None, &["\"0 0 31 2 *\" never fires"][..]),
            ("0 3 * * *", Some("Europe/Londno"), &[unknown]),
            ("61 3 * * *", None, &["\"61 3 * * *\": minute \"61\": value must be in range 0..=59; found 61"]),
            ("0 3 * 13 *", None, &["\"0 3 * 13 *\": month \"13\": value must be in range 1..=12; found 13"]),
            ("0 3 * * MOO", None, &["\"0 3 * * MOO\": day of week \"MOO\": malformed expression"]),
            (
                "0 3 * *",
                None,
                &["\"0 3 * *\": want five fields: minute, hour, day of month, month, day of week"],
            ),
            ("@dialy", None, &["\"@dialy\": names no times; did you mean \"@daily\"?"]),
            ("@every 5m", None, &["\"@every 5m\": names no times; write every: 5m in place of cron"]),
            (
                "@reboot",
                None,
                &["\"@reboot\": names no times; that something has started is a state: use trigger.resource"],
            ),
            (
                "@sometimes",
                None,
                &[
                    "\"@sometimes\": names no times; use one of @yearly, @annually, @monthly, @weekly, @daily, @midnight, @hourly, or five fields",
                ],
            ),
            (
                "0 3 L * *",
                None,
                &[
                    "\"0 3 L * *\": day of month \"L\": the last day of a month is not supported; take 1, the day after it",
                ],
            ),
            (
                "0 3 1,L 12 *",
                None,
                &[
                    "\"0 3 1,L 12 *\": day of month \"L\": the last day of a month is not supported; take 1, the day after it",
                ],
            ),
            (
                "0 3 * * 5L",
                None,
                &[
                    "\"0 3 * * 5L\": day of week \"5L\": the last one of a month is not supported; take 5#4, the fourth",
                ],
            ),
            // One mistake hides no other.
            ("0 0 31 2 *", Some("Europe/Londno"), &[unknown, "\"0 0 31 2 *\" never fires"]),
            ("0 * 31 2 *", Some("Europe/Londno"), &[unknown, "\"0 * 31 2 *\" never fires"]),
        ] {
            let errors = of(json!({"cron": cron, "timeZone": zone})).expect_err("refused");
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn what_is_no_interval_or_date_is_refused() {
        for (trigger, expected) in [
            (json!({"every": "9s"}), &[".every: every 9s is too often: at least 10s"][..]),
            (json!({"every": "0s"}), &[".every: every 0s is too often: at least 10s"]),
            (
                json!({"at": ["2026-12-24", "2026-12-24T18:00:00Z", "2026-12-24 18:00"]}),
                &[
                    ".at[0]: \"2026-12-24\" is not a date: use \"2026-12-24T00:00:00Z\"",
                    ".at[2]: \"2026-12-24 18:00\" is not a date: use \"2026-12-24T18:00:00Z\"",
                ],
            ),
            (
                json!({"at": ["2026-02-31T18:00:00Z"]}),
                &[".at[0]: \"2026-02-31T18:00:00Z\" is not a date: use \"2026-12-24T18:00:00Z\""],
            ),
        ] {
            let errors = of(trigger.clone()).expect_err("refused");
            let errors: Vec<_> = errors.iter().map(|error| format!("{}: {error}", error.field())).collect();
            assert_eq!(errors, expected, "{trigger}");
        }
        assert!(of(json!({"every": "10s"})).is_ok());
        assert_eq!(of(json!({})).map(|nothing| nothing.next(at("2026-01-01T00:00:00Z"))), Ok(None));
    }
}
