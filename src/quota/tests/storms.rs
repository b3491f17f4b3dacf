//! Eight threads on one table.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::*;
use crate::time::UnixMillis;

const THREADS: u64 = 8;

#[test]
fn threads_at_a_ceiling_are_granted_exactly_the_ceiling() {
    at_a_ceiling(&Desk::new(PLENTY));
}

#[test]
fn threads_at_a_ceiling_that_is_handed_out_are_granted_exactly_the_ceiling() {
    let desk = Desk::sliced(PLENTY);
    at_a_ceiling(&desk);
    assert_eq!(desk.table.sliced_rows(), 1);
}

fn at_a_ceiling(desk: &Desk) {
    const CEILING: u64 = 20_000;
    let granted = storm(|_| {
        let lane = desk.table.lane();
        let demands = [demand(key(1), &[(20, CEILING), (3, CEILING + 7)])];
        let reserve = || desk.table.reserve(lane, &demands, fen(1), &desk.share);
        (0..CEILING).filter_map(|_| reserve().ok()).map(Reserved::keep).count()
    });
    // Two that race for the last room may both be refused: one alone is not.
    let demands = [demand(key(1), &[(20, CEILING), (3, CEILING + 7)])];
    let last = (0..CEILING).map_while(|_| desk.reserve(&demands, 1).ok()).map(Reserved::keep).count();
    assert_eq!((granted.iter().sum::<usize>() + last) as u64, CEILING);
    assert_eq!(desk.usage(1), [(20, CEILING), (3, CEILING)], "refusals leave nothing behind in either cell");
    assert_conserved(&desk.table);
}

#[test]
fn threads_on_both_sides_of_a_boundary_pass_no_ceiling_in_either_window() {
    [Desk::new(PLENTY), Desk::sliced(PLENTY)].iter().for_each(on_both_sides);
}

fn on_both_sides(desk: &Desk) {
    const CEILING: u64 = 5_000;
    let granted = storm(|number| {
        let mut windows = [0_u64; 2];
        let lane = desk.table.lane();
        for step in 0..2 * CEILING {
            // Every thread crosses at another step, and the clock of every other one goes back and forth.
            let late = step > 500 * number && (number % 2 == 0 || step % 3 != 0);
            let demands = [demand(key(1), &[(20 + u16::from(late), CEILING)])];
            let Ok(reserved) = desk.table.reserve(lane, &demands, fen(1), &desk.share) else { continue };
            reserved.keep().iter().for_each(|charge| windows[usize::from(charge.window_id() - 20)] += 1);
        }
        windows
    });
    let sum = |window: usize| granted.iter().map(|windows| windows[window]).sum::<u64>();
    assert!(sum(0) <= CEILING, "{granted:?}");
    assert_eq!(sum(1), CEILING);
    assert_eq!(desk.usage(1), [(21, CEILING)]);
    assert_eq!(desk.table.conservation().passed, sum(0));
    assert_conserved(&desk.table);
}

#[test]
fn mixed_amounts_over_many_rows_never_pass_a_ceiling_and_all_come_back() {
    mixed_amounts(&Desk::new(PLENTY));
}

#[test]
fn mixed_amounts_over_rows_that_are_handed_out_never_pass_a_ceiling_and_all_come_back() {
    let desk = Desk::sliced(PLENTY);
    mixed_amounts(&desk);
    assert!(desk.table.sliced_rows() > 20, "{} rows were handed out", desk.table.sliced_rows());
}

fn mixed_amounts(desk: &Desk) {
    const ROWS: u64 = 40;
    const STEPS: usize = 4_000;
    let ceiling = |row: u64| 100_000 + 1_300 * row;
    let held = storm(|number| {
        let (mut state, mut held, lane) = (number << 32, Vec::new(), desk.table.lane());
        for _ in 0..STEPS {
            let random = next(&mut state);
            let rows = [random % ROWS, (random >> 8) % ROWS, (random >> 16) % ROWS];
            let demands = rows.map(|row| demand(key(row), &[(20, ceiling(row)), (3, 2 * ceiling(row))]));
            held.extend(desk.table.reserve(
                lane,
                &demands,
                fen(1 + (random >> 24) % if random & 1 << 50 == 0 { 20 } else { 3_000 }),
                &desk.share,
            ));
            for row in rows {
                let used = desk.usage(row).first().map_or(0, |(_, used)| *used);
                assert!(used <= ceiling(row), "row {row} shows {used}");
            }
            if random >> 63 == 0 && !held.is_empty() {
                drop(held.swap_remove((random >> 40) as usize % held.len()));
            }
        }
        held
    });
    let mut expected: HashMap<u64, u64> = HashMap::new();
    for charges in held.iter().flatten().map(Reserved::charges) {
        for row in 0..ROWS {
            *expected.entry(row).or_default() += charges.in_row(key(row)).map(|(.., taken)| taken).sum::<u64>();
        }
    }
    assert!(expected.values().filter(|used| **used > 0).count() > 20, "most rows hold something: {expected:?}");
    for row in 0..ROWS {
        assert_eq!(desk.usage(row).iter().map(|(_, used)| used).sum::<u64>(), expected[&row]);
        // What fits by the model fits the table, and no fen more.
        let left = ceiling(row) - expected[&row] / 2;
        let demands = [demand(key(row), &[(20, ceiling(row)), (3, 2 * ceiling(row))])];
        assert!(desk.reserve(&demands, left + 1).is_err() && (left == 0 || desk.reserve(&demands, left).is_ok()));
    }
    assert_conserved(&desk.table);
    drop(held);
    assert_eq!(desk.table.used_total(), 0);
    assert_conserved(&desk.table);
}

#[test]
fn threads_adding_the_same_keys_share_one_row_each() {
    const ROWS: u64 = 20_000;
    let desk = Desk::new(PLENTY);
    storm(|number| {
        let lane = desk.table.lane();
        for step in 0..ROWS {
            // Half of the threads go the other way, so that they meet in the middle as well as at the start.
            let row = if number % 2 == 0 { step } else { ROWS - 1 - step };
            let demands = [demand(key(row), &[(20, THREADS)])];
            desk.table.reserve(lane, &demands, fen(1), &desk.share).expect("room").keep();
        }
    });
    assert_eq!((desk.table.rows(), u64::from(desk.share.used())), (ROWS, ROWS));
    assert!((0..ROWS).all(|row| desk.usage(row) == [(20, THREADS)]));
    assert_eq!(desk.table.used_total(), ROWS * THREADS);
    assert_conserved(&desk.table);
}

#[test]
fn threads_creating_rows_hold_both_bounds() {
    const ROWS_MAX: u64 = 900;
    const SHARE_MAX: u32 = 300;
    let table = Table::new(Bounds { rows_max: ROWS_MAX, rows_per_merchant_max: SHARE_MAX });
    let shares: Vec<Arc<Share>> = (0..4).map(|_| Arc::default()).collect();
    storm(|number| {
        let (share, lane) = (&shares[(number & 3) as usize], table.lane());
        for step in 0..1_000 {
            let demands = [demand(key(number * 1_000 + step), &[(20, 9)])];
            match table.reserve(lane, &demands, fen(1), share) {
                Ok(reserved) => drop(reserved.keep()),
                Err(refused) => assert!(matches!(refused, Shortfall::ShareFull | Shortfall::TableFull), "{refused}"),
            }
            assert!(table.rows() <= ROWS_MAX && share.used() <= SHARE_MAX);
        }
    });
    assert_eq!(table.rows(), ROWS_MAX, "four shares of 300 fill a table of 900");
    assert_eq!(shares.iter().map(|share| u64::from(share.used())).sum::<u64>(), ROWS_MAX);
    assert_eq!(table.used_total(), ROWS_MAX);
    assert_conserved(&table);
}

/// Each thread has keys of its own, so it knows to the fen what they hold; all share the places, which come and go.
#[test]
fn no_take_is_lost_or_charged_to_another_key_while_rows_are_reclaimed() {
    reclaimed(&Desk::new(RECLAIMED));
}

#[test]
fn no_take_is_lost_or_charged_to_another_key_while_rows_that_are_handed_out_are_reclaimed() {
    reclaimed(&Desk::sliced(RECLAIMED));
}

const RECLAIMED_KEYS: u64 = 24;
const RECLAIMED: Bounds = Bounds { rows_max: THREADS * RECLAIMED_KEYS * 2, rows_per_merchant_max: u32::MAX };

fn reclaimed(desk: &Desk) {
    let (done, freed) = (AtomicBool::new(false), AtomicU64::new(0));
    let checked = thread::scope(|scope| {
        let reclaimer = scope.spawn(|| {
            let mut checked = 0;
            while !done.load(Ordering::Relaxed) {
                let pass = (0..RECLAIMS_PER_PASS).map(|_| desk.table.reclaim(noon_of(OPEN))).sum::<u64>();
                freed.fetch_add(pass, Ordering::Relaxed);
                let sums = desk.table.conservation();
                assert_eq!(sums.error, 0, "{sums:?}");
                checked += sums.stripes_checked;
            }
            checked
        });
        storm(|number| reclaimed_under(desk, number, || freed.load(Ordering::Relaxed) < 400));
        done.store(true, Ordering::Relaxed);
        reclaimer.join().expect("no panic")
    });
    assert!(checked > 0, "something was compared while it went on");
    assert_conserved(&desk.table);
    while (0..RECLAIMS_PER_PASS).map(|_| desk.table.reclaim(noon_of(OPEN + 999))).sum::<u64>() > 0 {}
    assert_eq!((desk.table.rows(), desk.share.used(), desk.table.used_total()), (0, 0, 0));
    assert_conserved(&desk.table);
}

/// The day on which the clock of the reclaimer stands.
const OPEN: u16 = 150;

/// Lives through days that are over for the reclaimer while it shall go on, and through some that are not.
fn reclaimed_under(desk: &Desk, number: u64, go_on: impl Fn() -> bool) {
    let (mut state, lane, mut old) = (number << 32, desk.table.lane(), Vec::new());
    for day in (0..).map(|step| 1 + step % 100_u16).take_while(|_| go_on()).chain(OPEN..OPEN + 60) {
        let mut model: HashMap<u64, (u16, u64)> = HashMap::new();
        for _ in 0..60 {
            let random = next(&mut state);
            let own = number * RECLAIMED_KEYS + random % RECLAIMED_KEYS;
            let demands = [demand(key(own), &[(day, NO_CEILING)])];
            // Places in limbo may be wanting for a while.
            let Ok(reserved) = desk.table.reserve(lane, &demands, fen(1 + random % 7), &desk.share) else { continue };
            let charges = reserved.keep();
            let (_, window, amount) = charges.in_row(key(own)).next().expect("one cell");
            let entry = model.entry(own).or_default();
            *entry = (window, if entry.0 == window { entry.1 + amount } else { amount });
            if window < OPEN {
                // Its row may be gone at once; given back later, it must find nothing or itself.
                old.push(charges);
            } else {
                assert_eq!(usage(&desk.table, key(own)), [*entry], "on day {day}");
                if random & 1 << 40 != 0 {
                    desk.table.give_back(lane, &charges);
                    model.entry(own).and_modify(|entry| entry.1 -= amount);
                    assert_eq!(usage(&desk.table, key(own)), [model[&own]], "given back on day {day}");
                }
            }
        }
        old.drain(..).for_each(|charges: Charges| desk.table.give_back(lane, &charges));
    }
}

/// Returns the noon of a day by UTC.
fn noon_of(day: u16) -> UnixMillis {
    UnixMillis::from_seconds(i64::from(day) * 86_400 + 43_200)
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
