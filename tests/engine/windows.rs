//! Days and months in Asia/Shanghai, and a clock that moves the wrong way.

use tollgate::admission::Outcome;
use tollgate::merchant::LimitSpec;
use tollgate::reason::Reason;
use tollgate::time::UnixMillis;

use crate::gate::{Gate, Setup, calendar, fen, merchant_day};
use crate::signer::{Draft, NOW};

const MERCHANT: [&str; 2] = ["merchant", "1900000000"];

/// Ceilings of 100 a day and 150 a month.
fn gate() -> Gate {
    Gate::limited([LimitSpec { month: fen(150), ..merchant_day("limit", 100) }])
}

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<jiff::Timestamp>().expect("an instant").as_millisecond())
}

#[test]
fn a_day_ends_at_local_midnight_and_a_month_with_its_last_day() {
    let mut gate = gate();
    gate.now = at("2026-11-29T23:59:59.999+08:00");
    let _full = gate.admit(&Draft::native(0, "T1", 100));
    assert_eq!(gate.reason(&Draft::native(0, "T2", 1)), Reason::LimitExceeded);
    gate.now = at("2026-11-30T00:00:00+08:00");
    let _next_day = gate.admit(&Draft::native(0, "T2", 50));
    gate.now = at("2026-11-30T23:59:59.999+08:00");
    assert_eq!(gate.reason(&Draft::native(0, "T3", 1)), Reason::LimitExceeded, "the month is used up");
    gate.now = at("2026-12-01T00:00:00+08:00");
    let _next_month = gate.admit(&Draft::native(0, "T3", 100));
    assert_eq!((gate.used("limit", &MERCHANT, 0), gate.used("limit", &MERCHANT, 1)), (100, 100));
}

#[test]
fn noon_in_utc_or_midnight_in_utc_opens_nothing() {
    let mut gate = gate();
    gate.now = at("2026-11-22T00:00:00+08:00");
    let _full = gate.admit(&Draft::native(0, "T1", 100));
    for still in ["2026-11-22T00:00:00Z", "2026-11-22T12:00:00Z", "2026-11-22T15:59:59.999Z"] {
        gate.now = at(still);
        assert_eq!(gate.reason(&Draft::native(0, "T2", 1)), Reason::LimitExceeded, "{still}");
    }
    gate.now = at("2026-11-22T16:00:00Z");
    let _next = gate.admit(&Draft::native(0, "T2", 1));
}

#[test]
fn months_of_all_lengths_and_a_leap_day_end_where_the_calendar_says() {
    for (last, first) in [
        ("2027-02-28T23:59:59+08:00", "2027-03-01T00:00:00+08:00"),
        ("2028-02-29T23:59:59+08:00", "2028-03-01T00:00:00+08:00"),
        ("2028-12-31T23:59:59+08:00", "2029-01-01T00:00:00+08:00"),
        ("2027-04-30T23:59:59+08:00", "2027-05-01T00:00:00+08:00"),
    ] {
        let mut gate = Gate::limited([LimitSpec { day: None, month: fen(10), ..merchant_day("limit", 10) }]);
        gate.now = at(last);
        let _full = gate.admit(&Draft::native(0, "T1", 10));
        assert_eq!(gate.reason(&Draft::native(0, "T2", 1)), Reason::LimitExceeded, "{last}");
        gate.now = at(first);
        let _open = gate.admit(&Draft::native(0, "T2", 10));
    }
}

#[test]
fn a_year_ends_with_december_and_a_lifetime_never() {
    let long = LimitSpec { day: None, year: fen(10), lifetime: fen(15), ..merchant_day("limit", 1) };
    let mut gate = Gate::limited([long]);
    gate.now = at("2026-12-31T23:59:59+08:00");
    let _full = gate.admit(&Draft::native(0, "T1", 10));
    assert_eq!(gate.reason(&Draft::native(0, "T2", 1)), Reason::LimitExceeded);
    gate.now = at("2027-01-01T00:00:00+08:00");
    assert_eq!(gate.reason(&Draft::native(0, "T2", 6)), Reason::LimitExceeded, "a lifetime goes on");
    let _rest = gate.admit(&Draft::native(0, "T2", 5));
    gate.now = at("2099-01-01T00:00:00+08:00");
    assert_eq!(gate.reason(&Draft::native(0, "T3", 1)), Reason::LimitExceeded);
}

#[test]
fn each_limit_counts_by_its_own_zone_and_cut_over_hour() {
    let by = |id, zone, hour| LimitSpec { calendar: calendar(zone, hour), ..merchant_day(id, 10) };
    let mut gate = Gate::limited([
        by("midnight", "Asia/Shanghai", 0),
        by("four", "Asia/Shanghai", 4),
        by("new-york", "America/New_York", 0),
    ]);
    let full = |gate: &mut Gate, number: &str| match gate.refuse(&Draft::native(0, number, 1)).detail {
        tollgate::admission::Detail::Limit { limit, .. } => limit,
        other => panic!("{other:?}"),
    };
    gate.now = at("2026-11-22T23:59:59+08:00");
    let _first = gate.admit(&Draft::native(0, "T1", 10));
    assert_eq!(full(&mut gate, "T2"), "midnight");
    gate.now = at("2026-11-23T00:00:00+08:00");
    assert_eq!(full(&mut gate, "T2"), "four");
    gate.now = at("2026-11-23T04:00:00+08:00");
    assert_eq!(full(&mut gate, "T2"), "new-york");
    gate.now = at("2026-11-23T00:00:00-05:00");
    let _next = gate.admit(&Draft::native(0, "T2", 10));
}

#[test]
fn another_zone_or_hour_under_the_same_id_is_another_limit_from_the_next_batch_on() {
    let mut gate = Gate::limited([merchant_day("limit", 10)]);
    let _full = gate.admit(&Draft::native(0, "T1", 10));
    for (number, (zone, hour)) in (2..).zip([("Asia/Shanghai", 1), ("Asia/Tokyo", 1), ("Asia/Tokyo", 0)]) {
        let other = LimitSpec { calendar: calendar(zone, hour), ..merchant_day("limit", 10) };
        gate.shared.replace_policy(Setup::limited([other]).policy()).expect("nothing is recorded");
        let _admission = gate.admit(&Draft::native(0, &format!("T{number}"), 10));
        assert_eq!(gate.used(&format!("limit {zone} {hour} fen"), &MERCHANT, 0), 10);
        assert_eq!(gate.reason(&Draft::native(0, "T9", 1)), Reason::LimitExceeded, "{zone} {hour}");
    }
    gate.shared.replace_policy(Setup::limited([merchant_day("limit", 10)]).policy()).expect("nothing is recorded");
    assert_eq!(gate.reason(&Draft::native(0, "T9", 1)), Reason::LimitExceeded, "and the first is not forgotten");
}

#[test]
fn a_clock_that_steps_back_opens_no_window_again() {
    let mut gate = gate();
    gate.now = at("2026-11-21T12:00:00+08:00");
    let _yesterday = gate.admit(&Draft::native(0, "T1", 10));
    gate.now = NOW;
    let _today = gate.admit(&Draft::native(0, "T2", 90));
    for back in ["2026-11-22T11:00:00+08:00", "2026-11-21T12:00:00+08:00", "2026-10-01T12:00:00+08:00"] {
        gate.now = at(back);
        assert_eq!(gate.reason(&Draft::native(0, "T3", 11)), Reason::LimitExceeded, "{back}");
    }
    let _late = gate.admit(&Draft::native(0, "T3", 10));
    gate.now = NOW;
    assert_eq!(gate.reason(&Draft::native(0, "T4", 1)), Reason::LimitExceeded, "charged in the newer window");
    assert_eq!((gate.used("limit", &MERCHANT, 0), gate.used("limit", &MERCHANT, 1)), (100, 110));
}

#[test]
fn what_is_given_back_makes_room_in_its_own_window_only() {
    let mut gate = gate();
    let yesterday = gate.admit(&Draft::native(0, "T1", 60));
    gate.now = UnixMillis(NOW.0 + 86_400_000);
    let _today = gate.admit(&Draft::native(0, "T2", 70));
    yesterday.settle(Outcome::Refused);
    assert_eq!((gate.used("limit", &MERCHANT, 0), gate.used("limit", &MERCHANT, 1)), (70, 70));
    assert_eq!(gate.reason(&Draft::native(0, "T3", 31)), Reason::LimitExceeded);
    let _room = gate.admit(&Draft::native(0, "T3", 30));
}

#[test]
fn a_batch_falls_in_the_windows_of_its_instant_whole() {
    let mut gate = gate();
    gate.now = at("2026-11-22T23:59:59.999+08:00");
    let calls: Vec<_> = (0..4).map(|number| Draft::native(0, &format!("T{number}"), 30).sign(gate.now)).collect();
    let mut batch = tollgate::admission::Batch::new();
    calls.iter().for_each(|call| batch.push(call.request()));
    gate.engine.decide(&mut batch, gate.now);
    let admitted: Vec<_> =
        batch.drain().map(|decision| matches!(decision, tollgate::admission::Decision::Admitted(_))).collect();
    assert_eq!(admitted, [true, true, true, false]);
}
