//! Eight threads on one table.

use std::collections::HashMap;
use std::thread;

use super::*;

const THREADS: u64 = 8;

#[test]
fn threads_at_a_ceiling_are_granted_exactly_the_ceiling() {
    const CEILING: u64 = 5_000;
    let table = table(PLENTY);
    let share = Share::default();
    let granted = storm(|_| {
        let demands = [demand(key(1), &[(20, CEILING), (3, CEILING + 7)])];
        (0..CEILING).filter_map(|_| table.reserve(&demands, fen(1), &share).ok()).map(Reserved::keep).count()
    });
    assert_eq!(granted.iter().sum::<usize>() as u64, CEILING);
    assert_eq!(table.usage(key(1), 2, 0), Some((20, CEILING)));
    assert_eq!(table.usage(key(1), 2, 1), Some((3, CEILING)), "refusals leave nothing behind in either cell");
    assert_conserved(&table);
}

#[test]
fn threads_on_both_sides_of_a_boundary_pass_no_ceiling_in_either_window() {
    const CEILING: u64 = 1_000;
    let table = table(PLENTY);
    let share = Share::default();
    let granted = storm(|number| {
        let mut windows = [0_u64; 2];
        for step in 0..2 * CEILING {
            // Every thread crosses at another step, and the clock of every other one goes back and forth.
            let late = step > 100 * number && (number % 2 == 0 || step % 3 != 0);
            let demands = [demand(key(1), &[(20 + u16::from(late), CEILING)])];
            let Ok(reserved) = table.reserve(&demands, fen(1), &share) else { continue };
            reserved.keep().iter().for_each(|charge| windows[usize::from(charge.window_id() - 20)] += 1);
        }
        windows
    });
    let sum = |window: usize| granted.iter().map(|windows| windows[window]).sum::<u64>();
    assert!(sum(0) <= CEILING, "{granted:?}");
    assert_eq!(sum(1), CEILING);
    assert_eq!(table.usage(key(1), 1, 0), Some((21, CEILING)));
}

#[test]
fn mixed_amounts_over_many_rows_never_pass_a_ceiling_and_all_come_back() {
    const ROWS: u64 = 40;
    const STEPS: usize = 4_000;
    let table = table(PLENTY);
    let share = Share::default();
    let ceiling = |row: u64| 1_000 + 13 * row;
    let held = storm(|number| {
        let (mut state, mut held) = (number << 32, Vec::new());
        for _ in 0..STEPS {
            let random = next(&mut state);
            let rows = [random % ROWS, (random >> 8) % ROWS, (random >> 16) % ROWS];
            let demands = rows.map(|row| demand(key(row), &[(20, ceiling(row)), (3, 2 * ceiling(row))]));
            held.extend(table.reserve(&demands, fen(1 + (random >> 24) % 300), &share));
            for row in rows {
                let used = table.usage(key(row), 2, 0).map_or(0, |(_, used)| used);
                assert!(used <= ceiling(row), "row {row} shows {used}");
            }
            if random >> 63 == 0 && !held.is_empty() {
                drop(held.swap_remove((random >> 40) as usize % held.len()));
            }
        }
        held
    });
    let mut expected: HashMap<RowKey, u64> = HashMap::new();
    for (charges, charge) in
        held.iter().flatten().flat_map(|held| held.charges().iter().map(|one| (held.charges(), one)))
    {
        *expected.entry(table.row_key(charge).expect("charged here")).or_default() += charges.amount();
    }
    assert!(expected.len() > 20, "most rows hold something: {expected:?}");
    for row in (0..ROWS).map(key) {
        let used: Vec<_> = (0..2).filter_map(|cell| table.usage(row, 2, cell)).map(|(_, used)| used).collect();
        assert_eq!(used.iter().sum::<u64>(), expected.get(&row).copied().unwrap_or(0));
    }
    assert_conserved(&table);
    drop(held);
    assert_eq!(table.used_total(), 0);
    assert_conserved(&table);
}

#[test]
fn threads_adding_the_same_keys_share_one_row_each() {
    const ROWS: u64 = 20_000;
    let table = table(PLENTY);
    let share = Share::default();
    storm(|number| {
        for step in 0..ROWS {
            // Half of the threads go the other way, so that they meet in the middle as well as at the start.
            let row = if number % 2 == 0 { step } else { ROWS - 1 - step };
            table.reserve(&[demand(key(row), &[(20, THREADS)])], fen(1), &share).expect("room").keep();
        }
    });
    assert_eq!((table.rows(), u64::from(share.used())), (ROWS, ROWS));
    assert!((0..ROWS).all(|row| table.usage(key(row), 1, 0) == Some((20, THREADS))));
    assert_eq!(table.used_total(), ROWS * THREADS);
}

#[test]
fn threads_creating_rows_hold_both_bounds() {
    const ROWS_MAX: u64 = 900;
    const SHARE_MAX: u32 = 300;
    let table = table(Bounds { rows_max: ROWS_MAX, rows_per_merchant_max: SHARE_MAX });
    let shares: Vec<Share> = (0..4).map(|_| Share::default()).collect();
    storm(|number| {
        let share = &shares[(number & 3) as usize];
        for step in 0..1_000 {
            let demands = [demand(key(number * 1_000 + step), &[(20, 9)])];
            match table.reserve(&demands, fen(1), share) {
                Ok(reserved) => drop(reserved.keep()),
                Err(refused) => assert!(matches!(refused, Shortfall::ShareFull | Shortfall::TableFull), "{refused}"),
            }
            assert!(table.rows() <= ROWS_MAX && share.used() <= SHARE_MAX);
        }
    });
    assert_eq!(table.rows(), ROWS_MAX, "four shares of 300 fill a table of 900");
    assert_eq!(shares.iter().map(|share| u64::from(share.used())).sum::<u64>(), ROWS_MAX);
    assert_eq!(table.used_total(), ROWS_MAX);
}

/// Runs `work` on every thread at once, handing each its number, and returns what they returned.
fn storm<T: Send>(work: impl Fn(u64) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|number| {
                let work = &work;
                scope.spawn(move || work(number))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// A small generator for the storms, seeded by the thread's number.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(1);
    low_word(key(*state))
}
