//! Instants, the clock as an argument, and the calendar that turns an instant into window ids.
//!
//! Nothing below the front and the background threads reads a clock: they are handed an instant.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::Date;
use jiff::tz::{AmbiguousOffset, TimeZone};
use jiff::{Timestamp, ToSpan};

/// An instant of wall time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Returns whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Makes an instant from whole seconds since the epoch.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(1000))
    }
}

/// Tells wall time. The one place where a part of the gate gets an instant from.
pub trait Clock: Send + Sync {
    /// Returns the present instant.
    fn now(&self) -> UnixMillis;
}

/// Reads the operating system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        // A clock set before 1970 reads as 1970: every request is then stale, which fails closed.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The windows that an instant falls in, numbered so that a later window has the larger number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowIds {
    /// Days since 1970-01-01 in the calendar's zone.
    pub day: u16,
    /// Months since 1970-01 in the calendar's zone.
    pub month: u16,
    /// Years since 1970 in the calendar's zone.
    pub year: u16,
}

/// When the windows that an instant falls in end: the first second after each, since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowEnds {
    /// First second of the next day.
    pub day_s: i64,
    /// First second of the next month.
    pub month_s: i64,
    /// First second of the next year.
    pub year_s: i64,
}

/// Where days begin: at an hour of the local clock in a named zone. A month and a year begin with their first day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarRule {
    zone: TimeZone,
    cut_over_hour: i8,
}

impl CalendarRule {
    /// Makes the rule of a zone whose days begin at `cut_over_hour`, 0 to 23; `None` where it is no such hour.
    pub fn new(zone: TimeZone, cut_over_hour: u8) -> Option<Self> {
        let cut_over_hour = i8::try_from(cut_over_hour).ok().filter(|hour| *hour < 24)?;
        Some(Self { zone, cut_over_hour })
    }

    /// Returns the IANA name of the zone; empty where it has none.
    pub fn zone_name(&self) -> &str {
        self.zone.iana_name().unwrap_or("")
    }

    /// Returns the hour of the local clock at which a day begins.
    pub const fn cut_over_hour(&self) -> i8 {
        self.cut_over_hour
    }

    /// Returns the first second of a day: the first at which the local clock shows the hour, or is past it because it
    /// was put forward over it. Where the clock was put back over the hour, the first of the two times counts.
    fn begins_s(&self, date: Date) -> Option<i64> {
        let local = date.at(self.cut_over_hour, 0, 0, 0);
        let ambiguous = self.zone.to_ambiguous_timestamp(local);
        let begins = match ambiguous.offset() {
            // Read with the later offset, a time that was skipped lies before the change of the clock.
            AmbiguousOffset::Gap { after, .. } => {
                let before = after.to_timestamp(local).ok()?;
                self.zone.following(before).next()?.timestamp()
            }
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.compatible().ok()?,
        };
        Some(begins.as_second())
    }
}

/// Turns instants into [`WindowIds`] by a [`CalendarRule`].
///
/// Remembers the day it computed last, so that the zone's rules are consulted twice a day and not per decision.
#[derive(Clone, Debug)]
pub struct Calendar {
    rule: CalendarRule,
    ids: WindowIds,
    /// First second of the remembered day.
    from_s: i64,
    /// First second after the remembered day.
    until_s: i64,
}

impl Calendar {
    /// Makes a calendar that counts by a rule.
    pub fn new(rule: CalendarRule) -> Self {
        Self { rule, ids: WindowIds { day: 0, month: 0, year: 0 }, from_s: 0, until_s: 0 }
    }

    /// Returns the windows that `now` falls in. `None` outside 1970-01-01 to 2149-06-05, the days a cell can name.
    pub fn windows(&mut self, now: UnixMillis) -> Option<WindowIds> {
        let second = now.seconds();
        if !(self.from_s <= second && second < self.until_s) {
            self.turn_to(second)?;
        }
        Some(self.ids)
    }

    /// Returns when the windows that `now` falls in end; `None` where [`Calendar::windows`] names none. COLD.
    pub fn ends(&mut self, now: UnixMillis) -> Option<WindowEnds> {
        let days = i32::from(self.windows(now)?.day);
        let date = EPOCH.checked_add(days.days()).ok()?;
        Some(WindowEnds {
            day_s: self.until_s,
            month_s: self.rule.begins_s(date.last_of_month().tomorrow().ok()?)?,
            year_s: self.rule.begins_s(date.last_of_year().tomorrow().ok()?)?,
        })
    }

    fn turn_to(&mut self, second: i64) -> Option<()> {
        let local = Timestamp::from_second(second).ok()?.to_zoned(self.rule.zone.clone());
        // A clock that was put back may show yesterday although today began: look back from the day after tomorrow.
        let mut date = local.date().checked_add(2.days()).ok()?;
        let mut until_s = self.rule.begins_s(date)?;
        let from_s = loop {
            date = date.yesterday().ok()?;
            let begins_s = self.rule.begins_s(date)?;
            if begins_s <= second {
                break begins_s;
            }
            until_s = begins_s;
        };
        let days = EPOCH.until(date).ok()?.get_days();
        let day = u16::try_from(days).ok().filter(|day| *day <= WINDOW_ID_MAX)?;
        let year = u16::try_from(date.year().checked_sub(1970)?).ok()?;
        let month = year.checked_mul(12)?.checked_add(u16::try_from(date.month()).ok()?)?.checked_sub(1)?;
        self.ids = WindowIds { day, month, year };
        self.from_s = from_s;
        self.until_s = until_s;
        Some(())
    }
}

/// Day 0 of every calendar.
const EPOCH: Date = jiff::civil::date(1970, 1, 1);

/// The latest window that has an id: the word of all ones stands for something else in a cell.
const WINDOW_ID_MAX: u16 = u16::MAX - 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> UnixMillis {
        let stamp: Timestamp = text.parse().expect("timestamp");
        UnixMillis(stamp.as_millisecond())
    }

    fn calendar(zone: &str, cut_over_hour: u8) -> Calendar {
        let zone = TimeZone::get(zone).expect("zone");
        Calendar::new(CalendarRule::new(zone, cut_over_hour).expect("an hour"))
    }

    fn shanghai() -> Calendar {
        calendar("Asia/Shanghai", 0)
    }

    #[test]
    fn a_day_begins_at_local_midnight() {
        let mut calendar = shanghai();
        let before = calendar.windows(at("2026-11-21T15:59:59.999Z")).expect("in range");
        let after = calendar.windows(at("2026-11-21T16:00:00Z")).expect("in range");
        assert_eq!(before.day + 1, after.day);
        assert_eq!(after.day, 20_779);
        assert_eq!(calendar.windows(at("2026-11-21T15:59:59.999Z")), Some(before));
    }

    #[test]
    fn windows_end_where_the_next_begin() {
        let mut calendar = shanghai();
        let second = |text| at(text).seconds();
        let found = calendar.ends(at("2028-02-28T16:00:00Z")).expect("in range");
        assert_eq!(found.day_s, second("2028-02-29T16:00:00Z"));
        assert_eq!(found.month_s, second("2028-02-29T16:00:00Z"));
        assert_eq!(found.year_s, second("2028-12-31T16:00:00Z"));
        let last = calendar.ends(at("2149-06-05T00:00:00Z")).expect("in range");
        assert_eq!(last.day_s, second("2149-06-05T16:00:00Z"));
    }

    #[test]
    fn a_month_begins_on_its_first_local_day() {
        let mut calendar = shanghai();
        let before = calendar.windows(at("2026-11-30T15:59:59Z")).expect("in range");
        let after = calendar.windows(at("2026-11-30T16:00:00Z")).expect("in range");
        assert_eq!((before.month, after.month), (56 * 12 + 10, 56 * 12 + 11));
        assert_eq!((before.year, after.year), (56, 56));
    }

    #[test]
    fn a_year_begins_on_the_first_of_january() {
        let mut calendar = shanghai();
        let before = calendar.windows(at("2026-12-31T15:59:59Z")).expect("in range");
        let after = calendar.windows(at("2026-12-31T16:00:00Z")).expect("in range");
        assert_eq!((before.year, after.year), (56, 57));
        assert_eq!((before.month + 1, before.day + 1), (after.month, after.day));
    }

    #[test]
    fn an_instant_that_no_window_id_can_name_has_no_windows() {
        let mut calendar = shanghai();
        assert_eq!(calendar.windows(at("1969-12-31T00:00:00Z")), None);
        assert_eq!(calendar.windows(at("2150-01-01T00:00:00Z")), None);
        assert_eq!(calendar.windows(at("2149-06-05T15:59:59.999Z")).map(|ids| ids.day), Some(65_534));
        assert_eq!(calendar.windows(at("2149-06-05T16:00:00Z")), None, "a cell has another use for 65,535");
        assert_eq!(calendar.ends(at("2149-06-05T16:00:00Z")), None);
        assert_eq!(calendar.windows(UnixMillis(i64::MAX)), None);
    }

    #[test]
    fn a_day_of_25_hours_is_one_window() {
        let mut calendar = calendar("America/New_York", 0);
        let first = calendar.windows(at("2026-11-01T04:00:00Z")).expect("in range");
        let last = calendar.windows(at("2026-11-02T04:59:59Z")).expect("in range");
        let next = calendar.windows(at("2026-11-02T05:00:00Z")).expect("in range");
        assert_eq!(first, last);
        assert_eq!(first.day + 1, next.day);
    }

    #[test]
    fn a_day_begins_at_the_cut_over_hour_and_months_and_years_with_their_first_day() {
        let mut late = calendar("Asia/Shanghai", 4);
        let before = late.windows(at("2026-12-31T19:59:59.999Z")).expect("in range");
        let after = late.windows(at("2026-12-31T20:00:00Z")).expect("in range");
        assert_eq!((before.day + 1, before.month + 1, before.year + 1), (after.day, after.month, after.year));
        assert_eq!((after.day, after.month, after.year), (20_819, 57 * 12, 57));
        assert!(CalendarRule::new(TimeZone::UTC, 24).is_none() && CalendarRule::new(TimeZone::UTC, 255).is_none());
    }

    #[test]
    fn a_day_whose_first_hour_is_skipped_begins_when_the_clock_is_put_forward() {
        // New York, 2027-03-14: 02:00 becomes 03:00 at 07:00Z. St. John's, 2010-03-14: 00:01 becomes 01:01 at 03:31Z.
        for (zone, hour, begins, ends) in [
            ("America/New_York", 2, "2027-03-14T07:00:00Z", "2027-03-15T06:00:00Z"),
            ("America/New_York", 3, "2027-03-14T07:00:00Z", "2027-03-15T07:00:00Z"),
            ("America/New_York", 4, "2027-03-14T08:00:00Z", "2027-03-15T08:00:00Z"),
            ("America/St_Johns", 0, "2010-03-14T03:30:00Z", "2010-03-15T02:30:00Z"),
            ("America/St_Johns", 1, "2010-03-14T03:31:00Z", "2010-03-15T03:30:00Z"),
        ] {
            let mut calendar = calendar(zone, hour);
            let instants = [at(begins).0 - 1, at(begins).0, at(ends).0 - 1, at(ends).0];
            let [before, first, last, after] =
                instants.map(|ms| calendar.windows(UnixMillis(ms)).expect("in range").day);
            assert_eq!((before + 1, first, first + 1), (first, last, after), "{zone} at {hour}");
        }
    }

    #[test]
    fn a_clock_that_is_put_back_over_the_cut_over_opens_no_day_again() {
        // St. John's, 2010-11-07: 00:01 becomes 23:01 of the day before at 02:31Z.
        let mut calendar = calendar("America/St_Johns", 0);
        let mut day = |text| calendar.windows(at(text)).expect("in range").day;
        let [before, first, back, again] =
            ["2010-11-07T02:29:59Z", "2010-11-07T02:30:00Z", "2010-11-07T02:31:00Z", "2010-11-07T03:30:00Z"]
                .map(&mut day);
        assert_eq!((before + 1, first, first), (first, back, again));
    }

    /// The rule again, from the local clock alone: a day is open once the clock has shown its hour, and stays so.
    #[test]
    fn ids_change_with_the_local_clock_and_never_go_back() {
        let zones = ["Asia/Shanghai", "America/New_York", "Europe/London", "Australia/Lord_Howe", "Africa/Cairo"];
        let zones = zones.into_iter().chain(["America/Santiago", "Pacific/Chatham", "Asia/Kathmandu"]);
        let (from_s, until_s) = (at("2027-01-01T00:00:00Z").seconds(), at("2029-01-01T00:00:00Z").seconds());
        for name in zones {
            let zone = TimeZone::get(name).expect("zone");
            let mut counted = [0, 1, 2, 3, 23].map(|hour| (hour, calendar(name, hour), i64::MIN, 0));
            for second in (from_s..until_s).step_by(900) {
                let offset_s = i64::from(zone.to_offset(Timestamp::from_second(second).expect("in range")).seconds());
                for (hour, calendar, day, changes) in &mut counted {
                    let shown = (second + offset_s - 3600 * i64::from(*hour)).div_euclid(86_400);
                    if shown > *day {
                        for around in [-2, -1, 0, 1].map(|around| second + around).into_iter().filter(|_| *changes > 0)
                        {
                            let ids = calendar.clone().windows(UnixMillis::from_seconds(around)).expect("in range");
                            assert_eq!(
                                i64::from(ids.day),
                                if around < second { *day } else { shown },
                                "{name} {around}"
                            );
                            assert_eq!((ids.month, ids.year), month_and_year(i64::from(ids.day)), "{name} {around}");
                        }
                        (*day, *changes) = (shown, *changes + 1);
                    }
                    let ids = calendar.windows(UnixMillis::from_seconds(second)).expect("in range");
                    assert_eq!(i64::from(ids.day), *day, "{name} at {second}, days from {hour}");
                }
            }
            assert!(counted.iter().all(|(.., changes)| (731..=733).contains(changes)), "{name}");
        }
    }

    /// Months and years since 1970, by walking through them.
    fn month_and_year(day: i64) -> (u16, u16) {
        let mut first = 0;
        for year in 0_u16.. {
            let leap = year % 4 == 2 && year != 130;
            for (month, days) in (0..).zip([31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]) {
                first += days;
                if day < first {
                    return (12 * year + month, year);
                }
            }
        }
        unreachable!("the years do not end")
    }
}
