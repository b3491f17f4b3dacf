//! The rules one by one; helpers for the histories and the storms.

mod oracle;
mod storms;

use std::sync::Arc;

use super::*;
use crate::share::Share;
use crate::types::Fen;

const PLENTY: Bounds = Bounds { rows_max: u64::MAX, rows_per_merchant_max: u32::MAX };
const NO_CEILING: u64 = u64::MAX;

fn table(bounds: Bounds) -> Arc<Table> {
    Arc::new(Table::new(bounds))
}

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

/// Demands one row; each cell is (window id, ceiling).
fn demand(row: RowKey, cells: &[(u16, u64)]) -> Demand {
    let cells = cells.iter().map(|&(window_id, ceiling_fen)| CellDemand { window_id, ceiling_fen }).collect();
    Demand { row, unit: Unit::Fen, mode: LimitMode::Enforce, cells }
}

fn assert_conserved(table: &Table) {
    assert_eq!(table.used_total(), table.taken_fen().wrapping_sub(table.given_back_fen()));
}

#[test]
fn reserve_takes_from_every_cell_and_a_drop_gives_all_back() {
    let table = table(PLENTY);
    let demands = [demand(key(1), &[(20, 100), (3, 500)]), demand(key(2), &[(20, 70)])];
    let reserved = table.reserve(&demands, fen(60), &Share::default()).expect("room");
    let windows: Vec<_> = reserved.charges().iter().map(|charge| (charge.cell(), charge.window_id())).collect();
    assert_eq!(windows, [(0, 20), (1, 3), (0, 20)]);
    assert_eq!(table.usage(key(1), 2, 0), Some((20, 60)));
    assert_eq!(table.usage(key(1), 2, 1), Some((3, 60)));
    assert_eq!(table.usage(key(2), 1, 0), Some((20, 60)));
    assert_eq!((table.taken_fen(), table.given_back_fen(), table.used_total()), (180, 0, 180));
    drop(reserved);
    assert_eq!(table.usage(key(1), 2, 1), Some((3, 0)));
    assert_eq!((table.taken_fen(), table.given_back_fen(), table.used_total()), (180, 180, 0));
}

#[test]
fn a_row_that_counts_payments_takes_one_of_each_whatever_the_amount() {
    let table = table(PLENTY);
    let share = Share::default();
    let demands = [
        Demand { unit: Unit::Count, ..demand(key(1), &[(20, 2), (3, 9)]) },
        demand(key(2), &[(20, Fen::MAX.get()), (3, NO_CEILING)]),
    ];
    let first = table.reserve(&demands, fen(60), &share).expect("room").keep();
    let second = table.reserve(&demands, Fen::MAX, &share).expect_err("no money left");
    assert_eq!(second, Shortfall::Exceeded { demand: 1, cell: 0 });
    assert_eq!((table.usage(key(1), 2, 0), table.usage(key(2), 2, 1)), (Some((20, 1)), Some((3, 60))));
    let third = table.reserve(&demands, fen(1000), &share).expect("room");
    assert_eq!(
        third.charges().iter().map(|charge| third.charges().taken(charge)).collect::<Vec<_>>(),
        [1, 1, 1000, 1000]
    );
    let fourth = table.reserve(&demands, fen(1), &share).expect_err("two payments");
    assert_eq!(fourth, Shortfall::Exceeded { demand: 0, cell: 0 });
    assert_conserved(&table);
    drop(third);
    assert_eq!((table.usage(key(1), 2, 1), table.usage(key(2), 2, 1)), (Some((3, 1)), Some((3, 60))));
    table.give_back(&first);
    assert_eq!(table.used_total(), 0);
    assert_conserved(&table);
}

#[test]
fn a_shadow_row_is_taken_whole_where_there_is_room_and_never_refuses() {
    let table = table(PLENTY);
    let share = Share::default();
    let shadow = |demand| Demand { mode: LimitMode::Shadow, ..demand };
    let demands = [
        shadow(demand(key(1), &[(20, 100), (3, 70)])),
        demand(key(2), &[(20, 150)]),
        shadow(demand(key(3), &[(20, 9)])),
    ];
    let first = table.reserve(&demands, fen(60), &share).expect("room");
    assert_eq!((first.lacking(), first.charges().iter().count()), ([2].as_slice(), 3));
    assert_eq!((table.usage(key(3), 1, 0), table.rows()), (None, 2));
    let second = table.reserve(&demands, fen(30), &share).expect("room where it is enforced");
    assert_eq!((second.lacking(), second.charges().iter().count()), ([0, 2].as_slice(), 1));
    assert_eq!(table.usage(key(1), 2, 0), Some((20, 60)), "the cell with room is not left charged");
    assert_conserved(&table);
    let third = table.reserve(&demands, fen(61), &share).expect_err("no room");
    assert_eq!(third, Shortfall::Exceeded { demand: 1, cell: 0 });
    assert_conserved(&table);
    drop((first, second));
    assert_eq!(table.used_total(), 0);
    assert_conserved(&table);
}

#[test]
fn a_refusal_names_the_cell_and_gives_back_what_was_taken() {
    let table = table(PLENTY);
    let share = Share::default();
    let fill = table.reserve(&[demand(key(2), &[(20, 70), (3, 70)])], fen(50), &share).expect("room");
    let demands = [demand(key(1), &[(20, 100)]), demand(key(2), &[(20, 200), (3, 70)]), demand(key(3), &[(20, 100)])];
    let refused = table.reserve(&demands, fen(60), &share).expect_err("no room");
    assert_eq!(refused, Shortfall::Exceeded { demand: 1, cell: 1 });
    assert_eq!(table.usage(key(1), 1, 0), Some((20, 0)));
    assert_eq!(table.usage(key(2), 2, 0), Some((20, 50)));
    assert_eq!(table.usage(key(3), 1, 0), None);
    assert_conserved(&table);
    drop(fill);
    assert_eq!(table.used_total(), 0);
}

#[test]
fn kept_charges_stand_until_they_are_given_back() {
    let table = table(PLENTY);
    let charges = table.reserve(&[demand(key(1), &[(20, 100)])], fen(60), &Share::default()).expect("room").keep();
    assert_eq!((charges.amount(), charges.is_empty()), (60, false));
    assert_eq!(table.usage(key(1), 1, 0), Some((20, 60)));
    table.give_back(&charges);
    assert_eq!(table.usage(key(1), 1, 0), Some((20, 0)));
}

#[test]
fn give_back_makes_no_room_in_a_newer_window() {
    let table = table(PLENTY);
    let share = Share::default();
    let old = table.reserve(&[demand(key(1), &[(20, 100), (3, 100)])], fen(60), &share).expect("room");
    let new = table.reserve(&[demand(key(1), &[(21, 100), (3, 100)])], fen(30), &share).expect("room").keep();
    drop(old);
    assert_eq!(table.usage(key(1), 2, 0), Some((21, 30)));
    assert_eq!(table.usage(key(1), 2, 1), Some((3, 30)));
    assert_eq!(table.given_back_fen(), 60);
    table.give_back(&new);
    assert_eq!(table.used_total(), 0);
}

#[test]
fn a_charge_after_the_clock_stepped_back_is_given_back_to_the_newer_window() {
    let table = table(PLENTY);
    let share = Share::default();
    let newer = table.reserve(&[demand(key(1), &[(21, 100)])], fen(30), &share).expect("room").keep();
    let stepped = table.reserve(&[demand(key(1), &[(20, 100)])], fen(70), &share).expect("room");
    assert_eq!(stepped.charges().iter().map(Charge::window_id).collect::<Vec<_>>(), [21]);
    assert!(table.reserve(&[demand(key(1), &[(20, 100)])], fen(1), &share).is_err());
    drop(stepped);
    assert_eq!(table.usage(key(1), 1, 0), Some((21, 30)));
    table.give_back(&newer);
}

#[test]
fn a_row_demanded_twice_is_charged_twice_or_not_at_all() {
    let table = table(PLENTY);
    let once = demand(key(1), &[(20, 100)]);
    let share = Share::default();
    let refused = table.reserve(&[once.clone(), once.clone()], fen(51), &share).expect_err("no room");
    assert_eq!(refused, Shortfall::Exceeded { demand: 1, cell: 0 });
    assert_eq!(table.used_total(), 0);
    let _held = table.reserve(&[once.clone(), once], fen(50), &share).expect("room");
    assert_eq!(table.usage(key(1), 1, 0), Some((20, 100)));
}

#[test]
fn a_decision_without_limits_takes_nothing() {
    let table = table(PLENTY);
    let demands = [demand(key(1), &[])];
    let share = Share::default();
    for reserved in [Reserved::nothing(&table), table.reserve(&demands, fen(9), &share).expect("no limit")] {
        let charges = reserved.keep();
        assert!(charges.is_empty() && charges.iter().next().is_none());
        assert_eq!(charges.amount(), 0);
    }
    assert_eq!((table.rows(), table.taken_fen()), (0, 0));
}

#[test]
fn more_cells_than_a_decision_may_charge_are_refused_before_any_is_taken() {
    let table = table(PLENTY);
    let mut demands: Vec<_> = (0..16).map(|number| demand(key(number), &[(20, 9), (3, 9), (2, 9), (1, 9)])).collect();
    let share = Share::default();
    let held = table.reserve(&demands, fen(9), &share).expect("room");
    assert_eq!(held.charges().iter().count(), CHARGES_MAX);
    drop(held);
    demands.push(demand(key(99), &[(20, 9)]));
    assert_eq!(table.reserve(&demands, fen(1), &share).expect_err("65 cells"), Shortfall::TooManyCells);
    assert_eq!((table.rows(), table.used_total()), (16, 0));
}

#[test]
fn an_amount_above_a_ceiling_creates_no_row() {
    let table = table(PLENTY);
    let share = Share::default();
    let refused = table.reserve(&[demand(key(1), &[(20, 10), (3, 4)])], fen(5), &share).expect_err("too large");
    assert_eq!(refused, Shortfall::Exceeded { demand: 0, cell: 1 });
    assert_eq!((table.rows(), share.used(), table.usage(key(1), 2, 0)), (0, 0, None));
}

#[test]
fn rows_are_bounded_in_all_and_per_merchant() {
    let table = table(Bounds { rows_max: 3, rows_per_merchant_max: 2 });
    let (one, other) = (Share::default(), Share::default());
    let reserve = |number, share: &Share| {
        table.reserve(&[demand(key(number), &[(20, 9)])], fen(1), share).map(|reserved| drop(reserved.keep()))
    };
    assert_eq!(reserve(1, &one), Ok(()));
    assert_eq!(reserve(2, &one), Ok(()));
    assert_eq!(reserve(3, &one), Err(Shortfall::ShareFull));
    assert_eq!(reserve(2, &one), Ok(()), "a row that exists needs no share");
    assert_eq!(reserve(3, &other), Ok(()));
    assert_eq!(reserve(4, &other), Err(Shortfall::TableFull));
    assert_eq!((table.rows(), one.used(), other.used()), (3, 2, 1));
    assert_conserved(&table);
}

#[test]
fn rows_of_one_key_with_different_cells_are_different_rows() {
    let table = table(PLENTY);
    let share = Share::default();
    let _one = table.reserve(&[demand(key(1), &[(20, 10)])], fen(10), &share).expect("room");
    let _two = table.reserve(&[demand(key(1), &[(20, 10), (3, 10)])], fen(10), &share).expect("room");
    assert_eq!(table.rows(), 2);
    assert_eq!(table.usage(key(1), 3, 0), None);
    assert_eq!(table.usage(key(1), 2, 2), None);
    assert_eq!((table.usage(key(1), 0, 0), table.usage(key(1), 5, 0)), (None, None));
}

#[test]
fn every_key_has_a_row_even_where_its_words_are_zero() {
    let table = table(PLENTY);
    let share = Share::default();
    for row in [RowKey(0), RowKey(7), RowKey(7 << 64), RowKey(u128::MAX)] {
        let charges = table.reserve(&[demand(row, &[(20, 10)])], fen(10), &share).expect("room").keep();
        assert_eq!(table.usage(row, 1, 0), Some((20, 10)));
        assert!(table.reserve(&[demand(row, &[(20, 10)])], fen(1), &share).is_err());
        assert!(charges.iter().all(|charge| table.row_key(charge).is_some()));
    }
    assert_eq!(table.rows(), 4);
}

#[test]
fn keys_that_share_a_word_have_rows_of_their_own() {
    let table = table(PLENTY);
    let share = Share::default();
    let keys = [1_u128 << 64 | 2, 1 << 64 | 1 << 10 | 2, 2 << 64 | 2, 3 << 64 | 2].map(RowKey);
    for (row, amount) in keys.into_iter().zip(1..) {
        table.reserve(&[demand(row, &[(20, 10)])], fen(amount), &share).expect("room").keep();
    }
    let used = keys.map(|row| table.usage(row, 1, 0));
    assert_eq!(used, [1, 2, 3, 4].map(|used| Some((20, used))));
}

#[test]
fn the_largest_amount_fills_a_row_and_nothing_wraps() {
    let table = table(PLENTY);
    let share = Share::default();
    for ceiling in [Fen::MAX.get(), NO_CEILING] {
        let demands = [demand(key(ceiling), &[(u16::MAX, ceiling); 4])];
        let held = table.reserve(&demands, Fen::MAX, &share).expect("room");
        for amount in [Fen::MAX, fen(1)] {
            let refused = table.reserve(&demands, amount, &share).expect_err("full");
            assert_eq!(refused, Shortfall::Exceeded { demand: 0, cell: 0 });
        }
        assert_eq!(table.usage(key(ceiling), 4, 3), Some((u16::MAX, Fen::MAX.get())));
        assert_conserved(&table);
        drop(held);
        assert_eq!(table.used_total(), 0);
    }
}

#[test]
fn growth_keeps_every_row_findable_and_every_charge_good() {
    const ROWS: u64 = 50_000;
    let table = table(PLENTY);
    let share = Share::default();
    let empty = table.bytes();
    let kept: Vec<_> = (0..ROWS)
        .map(|number| {
            let demands = [demand(key(number), &[(20, NO_CEILING), (3, NO_CEILING)])];
            table.reserve(&demands, fen(number + 1), &share).expect("room").keep()
        })
        .collect();
    assert_eq!((table.rows(), u64::from(share.used())), (ROWS, ROWS));
    let (bytes, bytes_min) = (table.bytes() - empty, ROWS * 32);
    assert!((bytes_min..3 * bytes_min).contains(&bytes), "{bytes} bytes for {bytes_min} bytes of rows");
    for (number, charges) in (0..).zip(&kept) {
        assert_eq!(table.usage(key(number), 2, 1), Some((3, number + 1)));
        assert!(charges.iter().all(|charge| table.row_key(charge) == Some(key(number))));
    }
    assert_eq!(table.usage(key(ROWS), 2, 0), None);
    assert_conserved(&table);
    kept.iter().for_each(|charges| table.give_back(charges));
    assert_eq!(table.used_total(), 0);
}

#[test]
fn a_charge_of_another_table_changes_nothing() {
    let (one, other) = (table(PLENTY), table(PLENTY));
    let share = Share::default();
    let charges = one.reserve(&[demand(key(1), &[(20, 10)])], fen(10), &share).expect("room").keep();
    other.give_back(&charges);
    assert_eq!((other.given_back_fen(), charges.iter().find_map(|charge| other.row_key(charge))), (0, None));
    // Another row of the same shard, in the same place.
    let (low, high) = (low_word(key(1)), key(1).0 >> 64);
    let neighbour = RowKey(high << 64 | u128::from(low ^ (1 << 8)));
    let _held = other.reserve(&[demand(neighbour, &[(20, 10)])], fen(10), &share).expect("room");
    other.give_back(&charges);
    assert_eq!(other.usage(neighbour, 1, 0), Some((20, 10)));
}
