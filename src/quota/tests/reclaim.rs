//! Rows that are over, and those that come after them.

use super::*;
use crate::time::UnixMillis;

/// 2026-11-22T12:00:00Z, by UTC.
const NOON: UnixMillis = UnixMillis(20_779 * DAY_MS + DAY_MS / 2);
const DAY_MS: i64 = 86_400_000;
const DAY: u16 = 20_779;
const MONTH: u16 = 56 * 12 + 10;
const YEAR: u16 = 56;

fn days_later(days: i64) -> UnixMillis {
    UnixMillis(NOON.0 + days * DAY_MS)
}

/// Reclaims from the whole table.
fn reclaim(table: &Table, now: UnixMillis) -> u64 {
    (0..RECLAIMS_PER_PASS).map(|_| table.reclaim(now)).sum()
}

#[test]
fn a_row_goes_once_both_of_its_windows_are_over_everywhere() {
    let desk = Desk::new(PLENTY);
    let (short, year) = (demand(key(1), &[(DAY, 10), (MONTH, 10)]), long(key(1), Some((YEAR, 10)), None));
    let charges = desk.keep(&[short, year], 10);
    assert_eq!(reclaim(&desk.table, NOON), 0);
    assert_eq!(reclaim(&desk.table, days_later(11)), 0, "the third of December by UTC");
    assert_eq!((desk.table.rows(), desk.usage(1).len()), (2, 3));
    assert_eq!(reclaim(&desk.table, days_later(12)), 1);
    assert_eq!((desk.usage(1), desk.table.rows(), desk.share.used()), (vec![(YEAR, 10)], 1, 1));
    assert_eq!(reclaim(&desk.table, days_later(42)), 0, "the third of January by UTC");
    assert_eq!(reclaim(&desk.table, days_later(43)), 1);
    assert_eq!((desk.usage(1), desk.table.rows(), desk.share.used()), (vec![], 0, 0));
    assert_conserved(&desk.table);
    assert_eq!(desk.table.conservation().passed, 30);
    desk.table.give_back(desk.lane, &charges);
    assert_eq!(desk.table.conservation().given_back, 0);
    assert_conserved(&desk.table);
}

#[test]
fn a_lifetime_holds_its_row_until_nothing_is_used_of_it() {
    let desk = Desk::new(PLENTY);
    let charges = desk.keep(&[long(key(1), Some((YEAR, 10)), Some(10))], 10);
    assert_eq!(reclaim(&desk.table, days_later(10_000)), 0);
    desk.table.give_back(desk.lane, &charges);
    assert_eq!(desk.usage(1), [(YEAR, 0)]);
    assert_eq!(reclaim(&desk.table, days_later(10_000)), 1);
    assert_conserved(&desk.table);
}

#[test]
fn a_row_of_which_nothing_is_used_goes_once_no_earlier_window_can_come() {
    let desk = Desk::new(PLENTY);
    drop(desk.reserve(&[demand(key(1), &[(DAY, 10)])], 10).expect("room"));
    assert_eq!(reclaim(&desk.table, days_later(1)), 0, "the day before is open yet where it is latest");
    assert_eq!(reclaim(&desk.table, days_later(2)), 1);
    assert_eq!((desk.table.rows(), desk.share.used()), (0, 0));
}

#[test]
fn a_clock_that_steps_back_after_a_reclaim_opens_no_window_again() {
    let desk = Desk::new(PLENTY);
    let same_shard = RowKey(key(1).0 ^ 1 << 100);
    let full = [demand(key(1), &[(DAY, 10), (MONTH, 10), (YEAR, 10)])];
    desk.keep(&full, 10);
    assert_eq!(reclaim(&desk.table, days_later(400)), 2);
    let charges = desk.keep(&full, 10);
    let windows = charges.iter().map(Charge::window_id).collect::<Vec<_>>();
    assert_eq!(windows, [DAY + 1, MONTH + 1, YEAR + 1], "what was used is not known any more");
    assert_eq!(desk.reserve(&full, 1).expect_err("the newer window is full"), exceeded(0, Window::Day));
    // Rows of the same shard may have been there too.
    let other = desk.keep(&[demand(same_shard, &[(DAY - 1, 10)])], 10);
    assert_eq!(other.iter().map(Charge::window_id).collect::<Vec<_>>(), [DAY + 1]);
    assert_conserved(&desk.table);
}

#[test]
fn a_place_is_used_again_and_old_charges_do_not_reach_its_new_row() {
    let desk = Desk::new(Bounds { rows_max: 2, rows_per_merchant_max: 2 });
    let mut old = Vec::new();
    for round in 0..50_u16 {
        let demands = [1, 2].map(|row| demand(key(u64::from(round) * 2 + row), &[(DAY + 3 * round, 10)]));
        let charges = desk.keep(&demands, 10);
        assert_eq!(desk.reserve(&[demand(key(999), &[(DAY, 10)])], 1).err(), Some(Shortfall::ShareFull));
        old.iter().for_each(|charges| desk.table.give_back(desk.lane, charges));
        assert!(old.iter().all(|charges| desk.table.charge_late(desk.lane, charges).passed == 2));
        assert_eq!(desk.table.used_total(), 20, "in round {round}");
        old.push(charges);
        assert_eq!(reclaim(&desk.table, days_later(3 * i64::from(round) + 3)), 2);
        assert_conserved(&desk.table);
    }
    assert_eq!(desk.table.rows(), 0);
}

#[test]
fn a_place_is_not_used_again_while_somebody_may_hold_on_to_its_row() {
    let desk = Desk::new(Bounds { rows_max: 1, rows_per_merchant_max: 1 });
    desk.keep(&[demand(key(1), &[(DAY, 10)])], 10);
    let inside = desk.table.lanes.enter(desk.lane);
    assert_eq!(reclaim(&desk.table, days_later(3)), 0);
    assert_eq!((desk.usage(1), desk.table.rows(), desk.share.used()), (vec![], 1, 1));
    assert_eq!(desk.table.conservation().stripes_checked, 0, "nor is anything compared that may change");
    drop(inside);
    assert_eq!(reclaim(&desk.table, days_later(3)), 1);
    assert_eq!((desk.table.rows(), desk.share.used()), (0, 0));
    desk.keep(&[demand(key(2), &[(DAY + 3, 10)])], 10);
    assert_conserved(&desk.table);
}

#[test]
fn a_late_charge_brings_a_reclaimed_row_back_in_the_windows_that_are_open() {
    let desk = Desk::new(PLENTY);
    let demands = [demand(key(1), &[(DAY, 10), (MONTH, 10), (YEAR, 10), (0, 10)])];
    let expired = desk.reserve(&demands, 7).expect("room");
    let charges = expired.charges().clone();
    drop(expired);
    assert_eq!(reclaim(&desk.table, days_later(3)), 2);
    assert_eq!((desk.table.rows(), desk.share.used()), (0, 0));
    assert_eq!(desk.table.charge_late(desk.lane, &charges), LateCharge { charged: 4, passed: 0, lost: 0 });
    assert_eq!((desk.usage(1), desk.share.used()), (vec![(DAY, 7), (MONTH, 7), (YEAR, 7), (0, 7)], 0));
    let views: Vec<_> = (0..desk.table.pages()).flat_map(|page| desk.table.page(page)).collect();
    assert!(views.len() == 2 && views.iter().all(|view| view.label == NO_LABEL));
    assert_conserved(&desk.table);
    // What was charged again can be given back: the rows lie elsewhere by now.
    desk.table.give_back(desk.lane, &charges);
    assert_eq!(desk.table.used_total(), 0);
    assert_conserved(&desk.table);
}

#[test]
fn a_late_charge_that_finds_the_table_full_says_so() {
    let desk = Desk::new(Bounds { rows_max: 1, rows_per_merchant_max: 1 });
    let expired = desk.reserve(&[demand(key(1), &[(DAY, 10), (MONTH, 10)])], 7).expect("room");
    let charges = expired.charges().clone();
    drop(expired);
    assert_eq!(reclaim(&desk.table, days_later(3)), 1);
    desk.keep(&[demand(key(2), &[(DAY + 3, 10)])], 7);
    assert_eq!(desk.table.charge_late(desk.lane, &charges), LateCharge { charged: 0, passed: 0, lost: 2 });
    assert_conserved(&desk.table);
}

#[test]
fn a_pass_goes_through_the_table_in_as_many_calls_as_it_says() {
    const ROWS: u64 = 3_000;
    let desk = Desk::new(PLENTY);
    (0..ROWS).for_each(|number| drop(desk.keep(&[demand(key(number), &[(DAY, 10)])], 7)));
    let (mut freed, mut largest) = (0, 0);
    for _ in 0..RECLAIMS_PER_PASS {
        let now_freed = desk.table.reclaim(days_later(3));
        (freed, largest) = (freed + now_freed, largest.max(now_freed));
    }
    assert_eq!((freed, desk.table.rows(), desk.share.used()), (ROWS, 0, 0));
    assert!(largest < ROWS / 20, "each call a part: {largest}");
    assert!((0..ROWS).all(|number| desk.usage(number).is_empty()));
    assert_eq!(reclaim(&desk.table, days_later(3)), 0);
    (0..ROWS).for_each(|number| drop(desk.keep(&[demand(key(number), &[(DAY + 3, 10)])], 7)));
    assert!((0..ROWS).all(|number| desk.usage(number) == [(DAY + 3, 7)]));
    assert_conserved(&desk.table);
}
