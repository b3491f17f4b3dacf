//! The calendar against another implementation of it, in Python over zoneinfo: ten years, second by second around the
//! beginning of every day.

#![expect(clippy::expect_used, clippy::panic, reason = "a test says what it found by failing")]

use std::collections::HashMap;
use std::process::{Command, Stdio};

use jiff::tz::TimeZone;
use tollgate::time::{Calendar, CalendarRule, UnixMillis, WindowEnds, WindowIds};

/// Clocks that change at 2, 1, 0 and 24 o'clock, by an hour and by half of one, on either half of the earth, or never.
const ZONES: [&str; 8] = [
    "Asia/Shanghai",
    "America/New_York",
    "Europe/London",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "America/Santiago",
    "Pacific/Chatham",
    "Asia/Kathmandu",
];
const HOURS: [&str; 4] = ["0", "3", "4", "23"];

/// One day of one calendar, as Python sees it.
#[derive(Clone, Copy)]
struct Day {
    begins_s: i64,
    ids: WindowIds,
    ends: WindowEnds,
}

/// Runs the script once; returns the days of each zone and cut-over hour in order.
fn days() -> HashMap<(String, u8), Vec<Day>> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/calendar.py");
    let mut command = Command::new("python3");
    command.arg(script).args(ZONES).arg(":").args(HOURS).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| panic!("this test needs python3 in PATH: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "python3 needs 3.9 or later, and time zones (Debian: apt install tzdata): {said}");
    let mut days: HashMap<_, Vec<Day>> = HashMap::new();
    for line in String::from_utf8(output.stdout).expect("text").lines() {
        let (zone, numbers) = line.split_once(' ').expect("a zone");
        let numbers: Vec<i64> = numbers.split(' ').map(|number| number.parse().expect("a number")).collect();
        let [hour, day, month, year, begins_s, day_s, month_s, year_s] = numbers[..] else { panic!("{line}") };
        let id = |number: i64| u16::try_from(number).expect("an id");
        let ids = WindowIds { day: id(day), month: id(month), year: id(year) };
        let day = Day { begins_s, ids, ends: WindowEnds { day_s, month_s, year_s } };
        days.entry((zone.to_owned(), u8::try_from(hour).expect("an hour"))).or_default().push(day);
    }
    days
}

fn calendar(zone: &str, hour: u8) -> Calendar {
    let zone = TimeZone::get(zone).expect("a zone that comes with the gate");
    Calendar::new(CalendarRule::new(zone, hour).expect("an hour"))
}

/// Compares around the beginning of a day, `before` being the one before it.
fn check(before: &Day, day: &Day, name: &str, mut same: impl FnMut(UnixMillis, &Day) -> bool) {
    for around in -2..=2 {
        let second = day.begins_s + around;
        let expected = if around < 0 { before } else { day };
        assert!(
            same(UnixMillis::from_seconds(second), expected),
            "{name} at {second}: {:?}; where only the rules of a zone differ, bring the tzdata of this machine up to date",
            expected.ids
        );
    }
}

#[test]
fn every_window_of_ten_years_begins_and_ends_as_zoneinfo_has_it() {
    let days = days();
    assert_eq!(days.len(), ZONES.len() * HOURS.len());
    let mut lengths_s = HashMap::new();
    for ((zone, hour), days) in &days {
        let name = format!("{zone}, days from {hour}");
        assert_eq!(days.len(), 3653, "{name}: ten years and a day");
        let pairs: Vec<_> = days.iter().zip(days.iter().skip(1)).collect();
        let (mut forward, mut back) = (calendar(zone, *hour), calendar(zone, *hour));
        for (before, day) in pairs.iter().rev() {
            check(before, day, &name, |now, day| back.windows(now) == Some(day.ids));
        }
        for (before, day) in pairs {
            check(before, day, &name, |now, day| {
                let last_ms = UnixMillis(now.0 + 999);
                forward.windows(now) == Some(day.ids) && forward.windows(last_ms) == Some(day.ids)
            });
            for (second, day) in [(day.begins_s - 1, before), (day.begins_s, day)] {
                let ends = forward.ends(UnixMillis::from_seconds(second));
                assert_eq!(ends, Some(day.ends), "{name} at {second}: when its windows end");
            }
            *lengths_s.entry(day.begins_s - before.begins_s).or_insert(0) += 1;
        }
        for leap_day in [21_243, 22_704] {
            let of = |day: u16| days.iter().find(|one| one.ids.day == day).expect("a day of the ten years").ids;
            assert_eq!(of(leap_day).month, of(leap_day - 28).month, "29 February is of the month that began before");
            assert_eq!(of(leap_day).month + 1, of(leap_day + 1).month);
        }
    }
    // Days of 23 and 25 hours, and those of Lord Howe.
    for length_s in [82_800, 84_600, 86_400, 88_200, 90_000] {
        assert!(lengths_s.get(&length_s).is_some_and(|days| *days >= 40), "{length_s}: {lengths_s:?}");
    }
}
