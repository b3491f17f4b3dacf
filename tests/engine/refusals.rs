//! What a refusal by a limit says: which limit, which window, and whether waiting helps.

use tollgate::admission::Detail;
use tollgate::merchant::{LimitSpec, SubjectPart, UnknownSubject};
use tollgate::time::UnixMillis;
use tollgate::types::{Unit, Window};

use crate::gate::{Gate, calendar, fen, limit, merchant_day};
use crate::signer::Draft;

fn at(text: &str) -> UnixMillis {
    UnixMillis(text.parse::<jiff::Timestamp>().expect("an instant").as_millisecond())
}

/// Uses up 60 of a limit, and says what refuses another amount.
#[track_caller]
fn refused(spec: LimitSpec, amount: u64) -> (String, Option<Window>, Option<UnixMillis>) {
    let mut gate = Gate::limited([merchant_day("wide", 1 << 40), spec]);
    let _used = gate.admit(&Draft::native(0, "T1", 60));
    match gate.refuse(&Draft::native(0, "T2", amount)).detail {
        Detail::Limit { limit, window, ends } => (limit, window, ends),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refusal_names_limit_and_window_and_the_end_of_the_window_where_the_amount_fits_an_empty_one() {
    let without_day = || LimitSpec { day: None, ..merchant_day("limit", 1) };
    let month = || LimitSpec { month: fen(100), ..without_day() };
    let year = || LimitSpec { year: fen(100), ..without_day() };
    let lifetime = || LimitSpec { lifetime: fen(100), ..without_day() };
    let transaction = || LimitSpec { transaction: fen(70), ..merchant_day("limit", 1000) };
    let day_end = at("2026-11-23T00:00:00+08:00");
    let (month_end, year_end) = (at("2026-12-01T00:00:00+08:00"), at("2027-01-01T00:00:00+08:00"));
    for (spec, amount, window, ends) in [
        (merchant_day("limit", 100), 41, Some(Window::Day), Some(day_end)),
        (merchant_day("limit", 100), 100, Some(Window::Day), Some(day_end)),
        (merchant_day("limit", 100), 101, Some(Window::Day), None),
        (month(), 100, Some(Window::Month), Some(month_end)),
        (month(), 101, Some(Window::Month), None),
        (year(), 100, Some(Window::Year), Some(year_end)),
        (year(), 101, Some(Window::Year), None),
        (lifetime(), 41, Some(Window::Lifetime), None),
        (transaction(), 71, None, None),
    ] {
        assert_eq!(refused(spec, amount), ("limit".to_owned(), window, ends), "{amount} {window:?}");
    }
}

#[test]
fn a_limit_of_payments_has_room_for_any_amount_when_its_window_is_over() {
    let count = LimitSpec { unit: Unit::Count, ..merchant_day("limit", 1) };
    let ends = at("2026-11-23T00:00:00+08:00");
    assert_eq!(refused(count, 5_000), ("limit".to_owned(), Some(Window::Day), Some(ends)));
    let none = LimitSpec { unit: Unit::Count, ..merchant_day("limit", 1) };
    let mut gate = crate::gate::Setup::limited([none])
        .first(|merchant| merchant.measures = vec![tollgate::merchant::Measure::LimitFactor { permille: 0 }])
        .gate();
    let detail = gate.refuse(&Draft::native(0, "T1", 1)).detail;
    let never = Detail::Limit { limit: "limit".to_owned(), window: Some(Window::Day), ends: None };
    assert_eq!(detail, never, "a ceiling of nothing is never met");
}

#[test]
fn the_end_is_that_of_the_limits_own_calendar() {
    for (zone, hour, ends) in [
        ("Asia/Shanghai", 4, "2026-11-23T04:00:00+08:00"),
        ("Asia/Shanghai", 13, "2026-11-22T13:00:00+08:00"),
        ("America/New_York", 0, "2026-11-22T00:00:00-05:00"),
    ] {
        let spec = LimitSpec { calendar: calendar(zone, hour), ..merchant_day("limit", 100) };
        assert_eq!(refused(spec, 41).2, Some(at(ends)), "{zone} {hour}");
    }
}

#[test]
fn a_subject_that_is_not_known_is_told_by_the_limit_alone() {
    let spec = LimitSpec {
        unknown_subject: UnknownSubject::Refuse,
        day: fen(100),
        ..limit("known", &[SubjectPart::Customer])
    };
    let mut gate = Gate::limited([spec]);
    let detail = Detail::Limit { limit: "known".to_owned(), window: None, ends: None };
    assert_eq!(gate.refuse(&Draft::native(0, "T1", 1)).detail, detail);
}
