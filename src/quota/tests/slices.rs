//! Rows that are handed out in slices.

use super::*;
use crate::quota::slices::SETS;
use crate::time::UnixMillis;

const CEILING: u64 = 100_000;

fn cells(day: u16) -> [(u16, u64); 2] {
    [(day, CEILING), (3, CEILING)]
}

/// A desk whose first row is handed out, and holds room in two lanes.
fn handed_out() -> (Desk, Lane) {
    let desk = Desk::sliced(PLENTY);
    let other = desk.table.lane();
    desk.keep(&[demand(key(1), &cells(20))], 1);
    desk.keep(&[demand(key(1), &cells(20))], 1);
    desk.table.reserve(other, &[demand(key(1), &cells(20))], fen(1), &desk.share).expect("room").keep();
    assert_eq!(desk.table.sliced_rows(), 1);
    assert!(room(&desk) > 0, "room is held");
    (desk, other)
}

/// Returns the room of the day that is handed out and not spent.
fn room(desk: &Desk) -> u64 {
    desk.table.sets.get(1).map_or(0, |set| set.room(0, None))
}

fn reclaim(desk: &Desk, day: i64) -> u64 {
    (0..RECLAIMS_PER_PASS).map(|_| desk.table.reclaim(UnixMillis(day * 86_400_000))).sum()
}

#[test]
fn what_is_handed_out_and_not_spent_is_not_used() {
    let (desk, _) = handed_out();
    assert_eq!(desk.usage(1), [(20, 3), (3, 3)]);
    assert_eq!(desk.table.used_total(), 6);
    let shown: Vec<_> = (0..desk.table.pages()).flat_map(|page| desk.table.page(page)).collect();
    assert_eq!(shown[0].cells[0], Some(CellUsage { window_id: 20, used: 3 }));
    assert_conserved(&desk.table);
}

#[test]
fn what_others_hold_is_taken_back_before_anybody_is_refused() {
    let (desk, other) = handed_out();
    let demands = [demand(key(1), &cells(20))];
    assert_eq!(desk.reserve(&demands, CEILING - 2).expect_err("too much"), exceeded(0, Window::Day));
    desk.keep(&demands, CEILING - 3);
    assert_eq!((desk.usage(1), room(&desk)), (vec![(20, CEILING), (3, CEILING)], 0));
    assert!(desk.table.reserve(other, &demands, fen(1), &desk.share).is_err());
    assert_conserved(&desk.table);
}

#[test]
fn a_lower_ceiling_holds_for_those_who_hold_room() {
    let (desk, _) = handed_out();
    let lower = [demand(key(1), &[(20, 5), (3, 5)])];
    desk.keep(&lower, 2);
    assert_eq!(desk.reserve(&lower, 1).expect_err("at the ceiling"), exceeded(0, Window::Day));
    assert_eq!(desk.usage(1), [(20, 5), (3, 5)]);
    desk.keep(&[demand(key(1), &cells(20))], 1);
    assert_conserved(&desk.table);
}

#[test]
fn room_of_a_window_that_has_passed_is_worth_nothing() {
    let (desk, other) = handed_out();
    desk.keep(&[demand(key(1), &cells(21))], CEILING - 9);
    assert_eq!(desk.usage(1), [(21, CEILING - 9), (3, CEILING - 6)]);
    assert_conserved(&desk.table);
    let demands = [demand(key(1), &cells(21))];
    let more = |lane| desk.table.reserve(lane, &demands, fen(1), &desk.share).map(Reserved::keep).is_ok();
    let granted = (0..20).map(|turn| if turn % 2 == 0 { desk.lane } else { other }).filter(|lane| more(*lane)).count();
    assert_eq!((granted, desk.usage(1)), (6, vec![(21, CEILING - 3), (3, CEILING)]));
    assert_conserved(&desk.table);
}

#[test]
fn a_refusal_by_the_second_cell_leaves_nothing_in_the_first() {
    let (desk, _) = handed_out();
    let demands = [demand(key(1), &[(20, CEILING), (3, 3)])];
    assert_eq!(desk.reserve(&demands, 1).expect_err("no room"), exceeded(0, Window::Month));
    assert_eq!(desk.usage(1), [(20, 3), (3, 3)]);
    assert_conserved(&desk.table);
}

#[test]
fn give_back_and_late_charges_reach_the_cell() {
    let (desk, _) = handed_out();
    let charges = desk.keep(&[demand(key(1), &cells(20))], 7);
    desk.table.give_back(desk.lane, &charges);
    assert_eq!(desk.usage(1), [(20, 3), (3, 3)]);
    assert_eq!(desk.table.charge_late(desk.lane, &charges).charged, 2);
    assert_eq!(desk.usage(1), [(20, 10), (3, 10)]);
    assert_conserved(&desk.table);
}

#[test]
fn a_row_that_rests_gives_its_set_back_and_keeps_its_use() {
    let (desk, _) = handed_out();
    assert_eq!((reclaim(&desk, 20), desk.table.sliced_rows()), (0, 1), "room was handed out since the last pass");
    assert_eq!((reclaim(&desk, 20), desk.table.sliced_rows()), (0, 0));
    assert_eq!(desk.usage(1), [(20, 3), (3, 3)]);
    assert_conserved(&desk.table);
    (0..2).for_each(|_| drop(desk.keep(&[demand(key(2), &cells(20))], 5)));
    assert_eq!((desk.table.sliced_rows(), room(&desk)), (1, 0), "the set is another row's");
    assert_eq!((desk.usage(1), desk.usage(2)), (vec![(20, 3), (3, 3)], vec![(20, 10), (3, 10)]));
}

#[test]
fn a_row_that_is_over_gives_its_set_back() {
    let (desk, _) = handed_out();
    assert_eq!(reclaim(&desk, 200), 1);
    assert_eq!((desk.table.sliced_rows(), desk.table.rows(), desk.usage(1)), (0, 0, vec![]));
    assert_conserved(&desk.table);
    assert_eq!(desk.table.conservation().passed, 6);
}

#[test]
fn rows_beyond_the_last_set_go_on_without_slices() {
    let desk = Desk::sliced(PLENTY);
    let rows = u64::from(SETS) + 10;
    for round in 1..4 {
        (0..rows).for_each(|number| drop(desk.keep(&[demand(key(number), &cells(20))], 5)));
        assert_eq!(desk.table.sliced_rows(), if round == 1 { 0 } else { SETS.into() });
        assert!((0..rows).all(|number| desk.usage(number) == [(20, 5 * round), (3, 5 * round)]));
    }
    assert_conserved(&desk.table);
}

#[test]
fn a_row_with_little_room_is_not_handed_out() {
    let desk = Desk::sliced(PLENTY);
    let demands = [demand(key(1), &[(20, 100)])];
    assert_eq!((0..150).filter(|_| desk.reserve(&demands, 1).map(Reserved::keep).is_ok()).count(), 100);
    assert_eq!(desk.table.sliced_rows(), 0);
}

#[test]
fn the_largest_amounts_are_never_handed_out_twice() {
    let desk = Desk::sliced(PLENTY);
    let max = Fen::MAX.get();
    let demands = [demand(key(1), &[(20, NO_CEILING), (3, 1 << 48)])];
    let half = max / 2 + 1;
    desk.keep(&demands, 1);
    assert!(room(&desk) == 0 || desk.table.sliced_rows() == 1);
    desk.keep(&demands, half - 2);
    desk.keep(&demands, half - 1);
    assert_eq!(desk.usage(1), [(20, max - 1), (3, max - 1)]);
    assert!(desk.reserve(&demands, 2).is_err());
    desk.keep(&demands, 1);
    assert!(desk.reserve(&demands, 1).is_err());
    assert_conserved(&desk.table);
}
