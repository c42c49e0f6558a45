//! When a schedule is due: cron in a time zone, with a table for the hours that a clock change skips or repeats.
//!
//! A schedule that names its hours goes by the clock on the wall: an hour that the clock skips is taken right after the
//! gap, one that it repeats is taken once, the first time. A schedule of every hour (`*`, `*/2`) goes by elapsed time:
//! every real hour counts, the repeated one too. So does Debian's cron; nothing is lost and nothing happens twice.

use cronexpr::Crontab;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{SignedDuration, Timestamp};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{ScheduleStatus, ScheduleTrigger};
use crate::expr::closest;

/// How many missed times are counted; beyond, it is said that there were more.
pub const COUNTED: u32 = 100;

/// A schedule that is due now and then.
#[derive(Clone, Debug)]
pub struct Schedule {
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
    /// Reads five fields of cron (minute, hour, day of month, month, day of week) in an IANA time zone; without one, UTC.
    ///
    /// # Errors
    /// All that is wrong with both.
    pub fn parse(cron: &str, zone: Option<&str>) -> Result<Self, Vec<ScheduleError>> {
        let name = zone.unwrap_or("UTC");
        let zone = TimeZone::get(name).map_err(|_| unknown_zone(name));
        // In which zone makes no difference to whether it is well-formed.
        let crontab = crontab_of(cron, zone.as_ref().map_or("UTC", |_| name));
        match (zone, crontab) {
            (Ok(zone), Ok(crontab)) => Ok(Self { crontab, zone, by_the_wall: goes_by_the_wall(cron) }),
            (zone, crontab) => Err([zone.err(), crontab.err()].into_iter().flatten().collect()),
        }
    }

    /// The first time after an instant.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        if !self.by_the_wall {
            return self.crontab.find_next(after.to_string().as_str()).ok().map(|zoned| zoned.timestamp());
        }
        // A gap leads forward by its length: a look from a little earlier finds what it led past `after`.
        let mut wall = self.zone.to_datetime(after.saturating_sub(SignedDuration::from_hours(3)).ok()?);
        let mut led_on: Option<Timestamp> = None;
        loop {
            let asked = TimeZone::UTC.to_timestamp(wall).ok()?;
            wall = self.crontab.find_next(asked.to_string().as_str()).ok()?.datetime();
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
    /// not the one that the status speaks of, counts from when it was first seen.
    pub fn advance(
        &self,
        trigger: &ScheduleTrigger,
        known: Option<&ScheduleStatus>,
        (created_at, now): (Timestamp, Timestamp),
    ) -> (Due, ScheduleStatus) {
        let text = format!("{} {}", trigger.cron, trigger.time_zone.as_deref().unwrap_or("UTC"));
        let since = if known.is_some() { now } else { created_at };
        let mut status = known.filter(|known| known.schedule == text).cloned().unwrap_or_else(|| {
            ScheduleStatus { schedule: text, since: Some(Time(since)), ..ScheduleStatus::default() }
        });
        let base = status.last_scheduled_at.as_ref().or(status.since.as_ref()).map_or(now, |time| time.0);
        let due = self.due(base, now);
        if let Some(latest) = due.latest {
            status.last_scheduled_at = Some(Time(latest));
            status.missed = i32::try_from(due.missed).ok().filter(|missed| *missed > 0);
        }
        (due, status)
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

/// A schedule of every hour goes by elapsed time, all others by the clock on the wall.
fn goes_by_the_wall(cron: &str) -> bool {
    !cron.split_whitespace().nth(1).unwrap_or_default().starts_with('*')
}

/// Reads five fields of cron, some time of which comes.
fn crontab_of(cron: &str, zone: &str) -> Result<Crontab, ScheduleError> {
    let malformed = |why: &str| ScheduleError::Cron { cron: cron.to_owned(), why: why.trim().to_owned() };
    if cron.split_whitespace().count() != 5 {
        return Err(malformed("want five fields: minute, hour, day of month, month, day of week"));
    }
    // By the wall, cron is asked about a day without clock changes, and the zone about the instant.
    let asked = format!("{cron} {}", if goes_by_the_wall(cron) { "UTC" } else { zone });
    let crontab =
        cronexpr::parse_crontab(&asked).map_err(|error| malformed(&reason_of(&error.to_string())))?;
    match crontab.find_next(Timestamp::UNIX_EPOCH.to_string().as_str()) {
        Ok(_) => Ok(crontab),
        Err(_) => Err(ScheduleError::Never(cron.to_owned())),
    }
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

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn after(cron: &str, zone: &str, from: &str, count: usize) -> Vec<String> {
        let schedule = Schedule::parse(cron, Some(zone)).expect("a schedule");
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
    fn two_times_of_the_wall_that_fall_together_are_one() {
        let times = after("0,30 1,2 * * *", "Europe/London", "2026-03-28T12:00:00Z", 3);
        assert_eq!(times, ["2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-30T00:00:00Z"]);
    }

    #[test]
    fn what_was_missed_is_made_up_for_once() {
        let hourly = Schedule::parse("0 * * * *", None).expect("a schedule");
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
        let trigger = |cron: &str| ScheduleTrigger { cron: cron.to_owned(), time_zone: None };
        let step = |cron: &str, known: Option<&ScheduleStatus>, now: &str| {
            let schedule = Schedule::parse(cron, None).expect("a schedule");
            schedule.advance(&trigger(cron), known, (at("2026-01-01T00:30:00Z"), at(now)))
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
    fn a_schedule_that_cannot_be_is_refused() {
        let unknown = "\"Europe/Londno\" is not an IANA zone; did you mean \"Europe/London\"?";
        for (cron, zone, expected) in [
            ("0 0 31 2 *", None, &["\"0 0 31 2 *\" never fires"][..]),
            ("0 3 * * *", Some("Europe/Londno"), &[unknown]),
            ("61 3 * * *", None, &["\"61 3 * * *\": value must be in range 0..=59; found 61"]),
            (
                "0 3 * *",
                None,
                &["\"0 3 * *\": want five fields: minute, hour, day of month, month, day of week"],
            ),
            // One mistake hides no other.
            ("0 0 31 2 *", Some("Europe/Londno"), &[unknown, "\"0 0 31 2 *\" never fires"]),
            ("0 * 31 2 *", Some("Europe/Londno"), &[unknown, "\"0 * 31 2 *\" never fires"]),
        ] {
            let errors = Schedule::parse(cron, zone).expect_err("refused");
            assert_eq!(errors.iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
        }
    }
}
