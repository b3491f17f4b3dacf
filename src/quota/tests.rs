//! The rules one by one; helpers for the histories and the storms.

mod oracle;
mod reclaim;
mod slices;
mod storms;

use std::sync::Arc;

use super::*;
use crate::share::Share;
use crate::types::Fen;

const PLENTY: Bounds = Bounds { rows_max: 1 << 17, rows_per_merchant_max: u32::MAX };
const NO_CEILING: u64 = u64::MAX;

fn fen(amount: u64) -> Fen {
    Fen::new(amount).expect("amount")
}

/// Spreads a number over the key space, as the keyed function of the caller does (SplitMix64, Steele et al. 2014).
fn key(number: u64) -> RowKey {
    let mix = |seed: u64| {
        let a = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    };
    let low = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    RowKey(u128::from(mix(low)) << 64 | u128::from(low))
}

fn low_word(RowKey(key): RowKey) -> u64 {
    u64::try_from(key & u128::from(u64::MAX)).expect("64 bits")
}

/// Demands the first windows of a limit and subject; each cell is (window id, ceiling).
fn demand(row: RowKey, first: &[(u16, u64)]) -> Demand {
    let mut cells = [None; CELLS_PER_LIMIT_MAX];
    for (cell, &(window_id, ceiling)) in cells.iter_mut().zip(first) {
        *cell = Some(CellDemand { window_id, ceiling });
    }
    Demand { row, label: 0, unit: Unit::Fen, mode: LimitMode::Enforce, tag: 0, cells }
}

/// Demands the last windows of a limit and subject.
fn long(row: RowKey, year: Option<(u16, u64)>, lifetime: Option<u64>) -> Demand {
    let year = year.map(|(window_id, ceiling)| CellDemand { window_id, ceiling });
    let lifetime = lifetime.map(|ceiling| CellDemand { window_id: 0, ceiling });
    Demand { cells: [None, None, year, lifetime], ..demand(row, &[]) }
}

/// Reads (window id, use) of each window that was ever charged.
fn usage(table: &Table, row: RowKey) -> Vec<(u16, u64)> {
    table.usage(row).into_iter().flatten().map(|cell| (cell.window_id, cell.used)).collect()
}

fn assert_conserved(table: &Table) {
    let sums = table.conservation();
    assert_eq!((sums.error, sums.stripes_checked), (0, sums.stripes), "{sums:?}");
    assert_eq!(table.used_total(), sums.taken.wrapping_sub(sums.given_back).wrapping_sub(sums.passed), "{sums:?}");
}

fn exceeded(demand: usize, window: Window) -> Shortfall {
    Shortfall::Exceeded { demand, window }
}

/// A table, a lane and a merchant.
struct Desk {
    table: Table,
    lane: Lane,
    share: Arc<Share>,
}

impl Desk {
    fn new(bounds: Bounds) -> Self {
        let table = Table::new(bounds);
        Self { lane: table.lane(), table, share: Arc::default() }
    }

    /// Makes a desk at which every row is handed out in slices as soon as it is charged and has plenty of room.
    fn sliced(bounds: Bounds) -> Self {
        let mut desk = Self::new(bounds);
        desk.table.meetings_min = 0;
        desk
    }

    fn reserve(&self, demands: &[Demand], amount: u64) -> Result<Reserved<'_>, Shortfall> {
        self.table.reserve(self.lane, demands, fen(amount), &self.share)
    }

    fn keep(&self, demands: &[Demand], amount: u64) -> Charges {
        self.reserve(demands, amount).expect("room").keep()
    }

    fn usage(&self, number: u64) -> Vec<(u16, u64)> {
        usage(&self.table, key(number))
    }
}

#[test]
fn reserve_takes_from_every_cell_and_a_drop_gives_all_back() {
    let desk = Desk::new(PLENTY);
    let demands = [demand(key(1), &[(20, 100), (3, 500), (1, 500), (0, 500)]), demand(key(2), &[(20, 70)])];
    let reserved = desk.reserve(&demands, 60).expect("room");
    let windows: Vec<_> = reserved.charges().iter().map(|charge| (charge.window(), charge.window_id())).collect();
    let [day, month, year, lifetime] = [Window::Day, Window::Month, Window::Year, Window::Lifetime];
    assert_eq!(windows, [(day, 20), (month, 3), (year, 1), (lifetime, 0), (day, 20)]);
    assert_eq!(desk.usage(1), [(20, 60), (3, 60), (1, 60), (0, 60)]);
    assert_eq!(desk.usage(2), [(20, 60)]);
    assert_eq!((desk.table.rows(), desk.table.used_total()), (3, 300));
    assert_conserved(&desk.table);
    drop(reserved);
    assert_eq!(desk.usage(1), [(20, 0), (3, 0), (1, 0)]);
    let sums = desk.table.conservation();
    assert_eq!((sums.taken, sums.given_back, sums.passed, desk.table.used_total()), (300, 300, 0, 0));
    assert_conserved(&desk.table);
}

#[test]
fn a_row_that_counts_payments_takes_one_of_each_whatever_the_amount() {
    let desk = Desk::new(PLENTY);
    let demands = [
        Demand { unit: Unit::Count, ..demand(key(1), &[(20, 2), (3, 9)]) },
        demand(key(2), &[(20, Fen::MAX.get()), (3, NO_CEILING)]),
    ];
    let first = desk.keep(&demands, 60);
    assert_eq!(desk.reserve(&demands, Fen::MAX.get()).expect_err("no money left"), exceeded(1, Window::Day));
    assert_eq!((desk.usage(1), desk.usage(2)), (vec![(20, 1), (3, 1)], vec![(20, 60), (3, 60)]));
    let third = desk.reserve(&demands, 1000).expect("room");
    let taken: Vec<_> = third.charges().iter().map(|charge| third.charges().taken(charge)).collect();
    assert_eq!(taken, [1, 1, 1000, 1000]);
    assert_eq!(desk.reserve(&demands, 1).expect_err("two payments"), exceeded(0, Window::Day));
    assert_conserved(&desk.table);
    drop(third);
    assert_eq!((desk.usage(1), desk.usage(2)), (vec![(20, 1), (3, 1)], vec![(20, 60), (3, 60)]));
    desk.table.give_back(desk.lane, &first);
    assert_eq!(desk.table.used_total(), 0);
    assert_conserved(&desk.table);
}

#[test]
fn a_shadow_limit_is_taken_whole_where_there_is_room_and_never_refuses() {
    let desk = Desk::new(PLENTY);
    let shadow = |demand| Demand { mode: LimitMode::Shadow, ..demand };
    let demands = [
        shadow(demand(key(1), &[(20, 100), (3, 100), (1, 70)])),
        demand(key(2), &[(20, 150)]),
        shadow(demand(key(3), &[(20, 9)])),
    ];
    let first = desk.reserve(&demands, 60).expect("room");
    assert_eq!((first.lacking(), first.charges().iter().count()), ([2].as_slice(), 4));
    assert_eq!((desk.usage(3), desk.table.rows()), (vec![], 3));
    let second = desk.reserve(&demands, 30).expect("room where it is enforced");
    assert_eq!((second.lacking(), second.charges().iter().count()), ([0, 2].as_slice(), 1));
    assert_eq!(desk.usage(1), [(20, 60), (3, 60), (1, 60)], "no cell with room is left charged, in either row");
    assert_conserved(&desk.table);
    assert_eq!(desk.reserve(&demands, 61).expect_err("no room"), exceeded(1, Window::Day));
    assert_conserved(&desk.table);
    drop((first, second));
    assert_eq!(desk.table.used_total(), 0);
    assert_conserved(&desk.table);
}

#[test]
fn a_refusal_names_the_window_and_gives_back_what_was_taken() {
    let desk = Desk::new(PLENTY);
    for (window, cells) in [
        (Window::Day, [(20, 70), (3, 90), (1, 90), (0, 90)]),
        (Window::Month, [(20, 90), (3, 70), (1, 90), (0, 90)]),
        (Window::Year, [(20, 90), (3, 90), (1, 70), (0, 90)]),
        (Window::Lifetime, [(20, 90), (3, 90), (1, 90), (0, 70)]),
    ] {
        let fill = desk.reserve(&[demand(key(2), &[(20, 70), (3, 70), (1, 70), (0, 70)])], 30).expect("room");
        let demands = [demand(key(1), &[(20, 100)]), demand(key(2), &cells), demand(key(3), &[(20, 100)])];
        assert_eq!(desk.reserve(&demands, 50).expect_err("no room"), exceeded(1, window));
        assert_eq!(desk.usage(1), [(20, 0)]);
        assert_eq!(desk.usage(2), [(20, 30), (3, 30), (1, 30), (0, 30)]);
        assert_eq!(desk.usage(3), []);
        assert_conserved(&desk.table);
        drop(fill);
        assert_eq!(desk.table.used_total(), 0);
    }
}

#[test]
fn kept_charges_stand_until_they_are_given_back() {
    let desk = Desk::new(PLENTY);
    let charges = desk.keep(&[demand(key(1), &[(20, 100)])], 60);
    assert_eq!((charges.amount(), charges.is_empty()), (60, false));
    assert_eq!(desk.usage(1), [(20, 60)]);
    desk.table.give_back(desk.lane, &charges);
    assert_eq!(desk.usage(1), [(20, 0)]);
}

#[test]
fn fetching_ahead_adds_no_row_and_charges_nothing() {
    let desk = Desk::new(PLENTY);
    let demands = [demand(key(1), &[(20, 100), (3, 100), (1, 100), (0, 100)]), demand(key(2), &[(20, 100)])];
    let fetch = || {
        demands.iter().for_each(|demand| desk.table.fetch_index(demand));
        demands.iter().for_each(|demand| desk.table.fetch_rows(demand));
    };
    fetch();
    assert_eq!(desk.table.rows(), 0);
    desk.keep(&demands, 60);
    let usage = [1, 2].map(|number| desk.table.usage(key(number)));
    fetch();
    assert_eq!((desk.table.rows(), [1, 2].map(|number| desk.table.usage(key(number)))), (3, usage));
}

#[test]
fn give_back_makes_no_room_in_a_newer_window() {
    let desk = Desk::new(PLENTY);
    let old = desk.reserve(&[demand(key(1), &[(20, 100), (3, 100)])], 60).expect("room");
    let new = desk.keep(&[demand(key(1), &[(21, 100), (3, 100)])], 30);
    drop(old);
    assert_eq!(desk.usage(1), [(21, 30), (3, 30)]);
    let sums = desk.table.conservation();
    assert_eq!((sums.given_back, sums.passed), (60, 60));
    assert_conserved(&desk.table);
    desk.table.give_back(desk.lane, &new);
    assert_eq!(desk.table.used_total(), 0);
}

#[test]
fn a_charge_after_the_clock_stepped_back_is_given_back_to_the_newer_window() {
    let desk = Desk::new(PLENTY);
    let newer = desk.keep(&[demand(key(1), &[(21, 100)])], 30);
    let stepped = desk.reserve(&[demand(key(1), &[(20, 100)])], 70).expect("room");
    assert_eq!(stepped.charges().iter().map(Charge::window_id).collect::<Vec<_>>(), [21]);
    assert!(desk.reserve(&[demand(key(1), &[(20, 100)])], 1).is_err());
    drop(stepped);
    assert_eq!(desk.usage(1), [(21, 30)]);
    desk.table.give_back(desk.lane, &newer);
    assert_conserved(&desk.table);
}

#[test]
fn a_row_demanded_twice_is_charged_twice_or_not_at_all() {
    let desk = Desk::new(PLENTY);
    let once = demand(key(1), &[(20, 100)]);
    let refused = desk.reserve(&[once.clone(), once.clone()], 51).expect_err("no room");
    assert_eq!(refused, exceeded(1, Window::Day));
    assert_eq!(desk.table.used_total(), 0);
    let _held = desk.reserve(&[once.clone(), once], 50).expect("room");
    assert_eq!(desk.usage(1), [(20, 100)]);
}

#[test]
fn a_decision_without_limits_takes_nothing() {
    let desk = Desk::new(PLENTY);
    let without_windows = [demand(key(1), &[])];
    for demands in [&[], without_windows.as_slice()] {
        let charges = desk.reserve(demands, 9).expect("no limit").keep();
        assert!(charges.is_empty() && charges.iter().next().is_none());
        assert_eq!(charges.amount(), 0);
    }
    assert_eq!((desk.table.rows(), desk.table.conservation().taken), (0, 0));
}

#[test]
fn more_cells_than_a_decision_may_charge_are_refused_before_any_is_taken() {
    let desk = Desk::new(PLENTY);
    let all: [(u16, u64); 4] = [(20, 9), (3, 9), (2, 9), (0, 9)];
    let mut demands: Vec<_> = (0..16).map(|number| demand(key(number), &all)).collect();
    let held = desk.reserve(&demands, 9).expect("room");
    assert_eq!(held.charges().iter().count(), CHARGES_MAX);
    drop(held);
    demands.push(demand(key(99), &[(20, 9)]));
    assert_eq!(desk.reserve(&demands, 1).expect_err("65 cells"), Shortfall::TooManyCells);
    assert_eq!((desk.table.rows(), desk.table.used_total()), (32, 0));
}

#[test]
fn as_many_rows_as_cells_may_be_charged_at_once() {
    let desk = Desk::new(PLENTY);
    let demands: Vec<_> = (0..64).map(|number| long(key(number), None, Some(9))).collect();
    let held = desk.reserve(&demands, 9).expect("room");
    assert_eq!((held.charges().iter().count(), desk.table.rows()), (CHARGES_MAX, 64));
}

#[test]
fn an_amount_above_a_ceiling_creates_no_row() {
    let desk = Desk::new(PLENTY);
    for (cells, window) in
        [([(20, 10), (3, 4), (1, 9), (0, 9)], Window::Month), ([(20, 10), (3, 9), (1, 9), (0, 4)], Window::Lifetime)]
    {
        assert_eq!(desk.reserve(&[demand(key(1), &cells)], 5).expect_err("too large"), exceeded(0, window));
        assert_eq!((desk.table.rows(), desk.share.used(), desk.usage(1)), (0, 0, vec![]));
    }
    assert_conserved(&desk.table);
}

#[test]
fn rows_are_bounded_in_all_and_per_merchant() {
    let desk = Desk::new(Bounds { rows_max: 3, rows_per_merchant_max: 2 });
    let (one, other) = (Arc::default(), Arc::default());
    let reserve = |number, share: &Arc<Share>| {
        let demands = [demand(key(number), &[(20, 9)])];
        desk.table.reserve(desk.lane, &demands, fen(1), share).map(|reserved| drop(reserved.keep()))
    };
    assert_eq!(reserve(1, &one), Ok(()));
    assert_eq!(reserve(2, &one), Ok(()));
    assert_eq!(reserve(3, &one), Err(Shortfall::ShareFull));
    assert_eq!(reserve(2, &one), Ok(()), "a row that exists needs no share");
    assert_eq!(reserve(3, &other), Ok(()));
    assert_eq!(reserve(4, &other), Err(Shortfall::TableFull));
    assert_eq!((desk.table.rows(), one.used(), other.used()), (3, 2, 1));
    assert_conserved(&desk.table);
}

#[test]
fn a_table_takes_as_many_rows_as_it_may_wherever_their_keys_lead() {
    for rows_max in [1, 2, 10, 63] {
        let desk = Desk::new(Bounds { rows_max, rows_per_merchant_max: u32::MAX });
        // All in one shard, at one place of the index.
        let row = |number: u64| RowKey(u128::from(number) << 96 | 5);
        for number in 1..=rows_max {
            desk.keep(&[demand(row(number), &[(20, 9)])], number % 9 + 1);
        }
        let refused = desk.reserve(&[demand(row(rows_max + 1), &[(20, 9)])], 1).expect_err("full");
        assert_eq!((refused, desk.table.rows(), desk.table.rows_max()), (Shortfall::TableFull, rows_max, rows_max));
        assert!((1..=rows_max).all(|number| usage(&desk.table, row(number)) == [(20, number % 9 + 1)]));
        assert_conserved(&desk.table);
    }
}

#[test]
fn the_rows_of_one_key_are_two() {
    let desk = Desk::new(PLENTY);
    let _short = desk.reserve(&[demand(key(1), &[(20, 10)])], 10).expect("room");
    let _long = desk.reserve(&[long(key(1), Some((3, 10)), None)], 9).expect("room");
    assert_eq!(desk.table.rows(), 2);
    let used = |window_id, used| Some(CellUsage { window_id, used });
    assert_eq!(desk.table.usage(key(1)), [used(20, 10), None, used(3, 9), None]);
    assert_eq!(desk.table.usage(key(2)), [None; 4]);
}

#[test]
fn every_key_has_a_row_even_where_its_words_are_zero() {
    let desk = Desk::new(PLENTY);
    for row in [RowKey(0), RowKey(7), RowKey(7 << 81), RowKey(u128::MAX)] {
        let demands = [demand(row, &[(20, 10), (3, 10), (1, 10), (0, 10)])];
        let charges = desk.keep(&demands, 10);
        assert_eq!(usage(&desk.table, row), [(20, 10), (3, 10), (1, 10), (0, 10)]);
        assert!(desk.reserve(&demands, 1).is_err());
        assert_eq!(charges.in_row(row).count(), 4);
    }
    assert_eq!(desk.table.rows(), 8);
}

#[test]
fn keys_that_share_a_word_have_rows_of_their_own() {
    let desk = Desk::new(PLENTY);
    let keys = [1_u128 << 81 | 2, 1 << 81 | 1 << 10 | 2, 1 << 82 | 2, 3 << 81 | 2].map(RowKey);
    for (row, amount) in keys.into_iter().zip(1..) {
        desk.keep(&[demand(row, &[(20, 10)])], amount);
    }
    let used = keys.map(|row| usage(&desk.table, row));
    assert_eq!(used, [1, 2, 3, 4].map(|used| vec![(20, used)]));
}

#[test]
fn the_bits_that_no_row_keeps_tell_no_rows_apart() {
    let desk = Desk::new(PLENTY);
    let (one, other) = (RowKey(1 << 81 | 5), RowKey(1 << 81 | ((1 << 17) - 1) << 64 | 5));
    assert_eq!((one.stored(), other.stored()), (one, one));
    let charges = desk.keep(&[demand(other, &[(20, 10), (3, 10), (1, 10), (0, 10)])], 10);
    assert_eq!((usage(&desk.table, one).len(), charges.in_row(one).count(), charges.in_row(other).count()), (4, 4, 4));
    let shown: Vec<_> = (0..desk.table.pages()).flat_map(|page| desk.table.page(page)).map(|view| view.row).collect();
    assert_eq!(shown, [one, one]);
}

#[test]
fn the_largest_amount_fills_a_row_and_nothing_wraps() {
    let desk = Desk::new(PLENTY);
    let max = Fen::MAX.get();
    for ceiling in [max, 1 << 48, 1 << 63, NO_CEILING] {
        let last = u16::MAX - 1;
        let demands = [demand(key(ceiling), &[(last, ceiling), (last, ceiling), (last, ceiling), (0, ceiling)])];
        let held = desk.reserve(&demands, max).expect("room");
        for amount in [max, 1] {
            assert_eq!(desk.reserve(&demands, amount).expect_err("full"), exceeded(0, Window::Day));
        }
        assert_eq!(usage(&desk.table, key(ceiling)), [(last, max), (last, max), (last, max), (0, max)]);
        assert_conserved(&desk.table);
        drop(held);
        assert_eq!(desk.table.used_total(), 0);
    }
}

#[test]
fn a_window_that_no_calendar_names_has_no_room() {
    let desk = Desk::new(PLENTY);
    let refused = desk.reserve(&[demand(key(1), &[(u16::MAX, NO_CEILING)])], 1).expect_err("no such window");
    assert_eq!((refused, desk.table.rows()), (exceeded(0, Window::Day), 0));
}

#[test]
fn every_row_stays_findable_and_every_charge_good_in_48_bytes() {
    const ROWS: u64 = 60_000;
    let desk = Desk::new(Bounds { rows_max: ROWS, rows_per_merchant_max: u32::MAX });
    let empty = desk.table.bytes();
    let kept: Vec<_> = (0..ROWS)
        .map(|number| desk.keep(&[demand(key(number), &[(20, NO_CEILING), (3, NO_CEILING)])], number + 1))
        .collect();
    assert_eq!((desk.table.rows(), u64::from(desk.share.used())), (ROWS, ROWS));
    let bytes = desk.table.bytes() - empty;
    assert!((ROWS * 40..ROWS * 48).contains(&bytes), "{} bytes a row", bytes as f64 / ROWS as f64);
    for (number, charges) in (0..).zip(&kept) {
        assert_eq!(desk.usage(number), [(20, number + 1), (3, number + 1)]);
        assert_eq!(charges.in_row(key(number)).count(), 2);
    }
    assert_eq!(desk.usage(ROWS), []);
    assert_conserved(&desk.table);
    kept.iter().for_each(|charges| desk.table.give_back(desk.lane, charges));
    assert_eq!(desk.table.used_total(), 0);
}

#[test]
fn pages_show_every_row_with_its_label_once() {
    let desk = Desk::new(PLENTY);
    for number in 0..9_000 {
        let label = u32::try_from(number).expect("small");
        desk.keep(&[Demand { label, ..demand(key(number), &[(20, 100), (3, 100)]) }], number % 100 + 1);
    }
    desk.keep(&[Demand { label: 7, ..long(key(5), Some((56, 100)), Some(100)) }], 1);
    let mut views: Vec<_> = (0..desk.table.pages()).flat_map(|page| desk.table.page(page)).collect();
    views.sort_by_key(|view| (view.label, view.cells[0].is_none()));
    let long = views.remove(8);
    let used = |window_id, used| Some(CellUsage { window_id, used });
    assert_eq!(long, RowView { row: key(5).stored(), label: 7, cells: [None, None, used(56, 1), used(0, 1)] });
    assert_eq!(views.len(), 9_000);
    for (number, view) in (0..).zip(views) {
        let amount = number % 100 + 1;
        let cells = [used(20, amount), used(3, amount), None, None];
        assert_eq!((view.row, u64::from(view.label), view.cells), (key(number).stored(), number, cells));
    }
    assert_eq!(desk.table.page(usize::MAX), []);
}

#[test]
fn a_charge_of_another_table_changes_nothing() {
    let (one, other) = (Desk::new(PLENTY), Desk::new(PLENTY));
    let charges = one.keep(&[demand(key(1), &[(20, 10)])], 10);
    other.table.give_back(other.lane, &charges);
    assert_eq!((other.table.conservation().given_back, other.table.rows()), (0, 0));
    // Another row of the same shard, in the same place.
    let neighbour = RowKey(key(1).0 ^ 1 << 100);
    let _held = other.reserve(&[demand(neighbour, &[(20, 10)])], 10).expect("room");
    other.table.give_back(other.lane, &charges);
    assert_eq!(usage(&other.table, neighbour), [(20, 10)]);
    assert_conserved(&other.table);
}

#[test]
fn split_takes_out_the_charges_that_a_fact_rules_out() {
    let desk = Desk::new(PLENTY);
    let demands = [1, 2, 1].map(|tag| Demand { tag, ..demand(key(tag.into()), &[(20, 100)]) });
    let mut charges = desk.keep(&demands, 10);
    let freed = charges.split(|tag| tag == 1);
    assert_eq!((freed.iter().count(), charges.iter().count()), (2, 1));
    assert_eq!((freed.amount(), charges.amount()), (10, 10));
    assert!(charges.iter().all(|charge| charge.tag() == 2));
    desk.table.give_back(desk.lane, &freed);
    assert_eq!((desk.usage(1), desk.usage(2)), (vec![(20, 0)], vec![(20, 10)]));
}

#[test]
fn a_portion_gives_back_a_part_of_the_money_and_of_the_payments() {
    let desk = Desk::new(PLENTY);
    let demands = [
        Demand { tag: 1, ..demand(key(1), &[(20, 100), (3, 100)]) },
        Demand { tag: 1, unit: Unit::Count, ..demand(key(2), &[(20, 100)]) },
        Demand { tag: 2, ..demand(key(3), &[(20, 100)]) },
    ];
    let charges = desk.keep(&demands, 30);
    let used = || (desk.usage(1), desk.usage(2), desk.usage(3));
    desk.table.give_back(desk.lane, &charges.portion(10, false, |tag| tag == 1));
    assert_eq!(used(), (vec![(20, 20), (3, 20)], vec![(20, 1)], vec![(20, 30)]));
    desk.table.give_back(desk.lane, &charges.portion(0, true, |_| true));
    assert_eq!(used(), (vec![(20, 20), (3, 20)], vec![(20, 0)], vec![(20, 30)]));
    assert_eq!(charges.portion(31, false, |_| true).amount(), 30, "no more than was taken");
    desk.table.give_back(desk.lane, &charges.portion(20, false, |tag| tag == 1));
    assert_eq!(used(), (vec![(20, 0), (3, 0)], vec![(20, 0)], vec![(20, 30)]));
    assert_conserved(&desk.table);
}

#[test]
fn a_late_charge_passes_the_ceiling_in_the_windows_of_the_original() {
    let desk = Desk::new(PLENTY);
    let demands = [demand(key(1), &[(20, 100), (3, 100), (1, 100), (0, 100)])];
    let expired = desk.reserve(&demands, 80).expect("room");
    let charges = expired.charges().clone();
    drop(expired);
    desk.keep(&[demand(key(1), &[(21, 100), (3, 100), (1, 100), (0, 100)])], 90);
    let late = desk.table.charge_late(desk.lane, &charges);
    assert_eq!(late, LateCharge { charged: 3, passed: 1, lost: 0 });
    assert_eq!(desk.usage(1), [(21, 90), (3, 170), (1, 170), (0, 170)]);
    assert_conserved(&desk.table);
    desk.table.give_back(desk.lane, &charges);
    assert_eq!(desk.usage(1), [(21, 90), (3, 90), (1, 90), (0, 90)]);
}

#[test]
fn a_late_charge_stops_at_what_a_cell_can_say() {
    let desk = Desk::new(PLENTY);
    let max = Fen::MAX.get();
    let charges = desk.keep(&[demand(key(1), &[(20, max)])], max - 5);
    assert_eq!(desk.table.charge_late(desk.lane, &charges), LateCharge { charged: 1, passed: 0, lost: 0 });
    assert_eq!(desk.usage(1), [(20, max)]);
    assert_conserved(&desk.table);
}
