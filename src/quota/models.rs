//! The rules for memory that workers share without a lock, under every order of events (loom).
//!
//! `cargo test --lib --features loom quota::models`. A model has one shard, two lanes and a few rows; what is bounded is
//! how often a thread is interrupted in one run.

use std::sync::Arc as Shared;

use loom::sync::Arc;
use loom::thread;

use super::cell::{self, Cell};
use super::lanes::{Lane, Lanes};
use super::slices::{Hand, Set};
use super::*;
use crate::share::Share;
use crate::sync::AtomicU64;
use crate::time::UnixMillis;
use crate::types::Fen;

/// Runs a model with every order in which threads are interrupted so many times at most.
fn model(interruptions: usize, run: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(interruptions);
    builder.max_branches = 20_000;
    builder.check(run);
}

fn word(window_id: u16, used: u64) -> Arc<AtomicU64> {
    Arc::new(AtomicU64::new(Cell { window_id, used }.pack()))
}

fn read(word: &AtomicU64) -> (u16, u64) {
    Cell::load(word).map(|cell| (cell.window_id, cell.used)).expect("not frozen")
}

fn asks(window_id: u16, ceiling: u64) -> CellDemand {
    CellDemand { window_id, ceiling }
}

/// A row of the one shard; all keys lead to one place of the index.
fn key(number: u128) -> RowKey {
    RowKey(number << 100)
}

fn day(row: RowKey, window_id: u16, ceiling: u64) -> [Demand; 1] {
    let cells = [Some(asks(window_id, ceiling)), None, None, None];
    [Demand { row, label: 0, unit: Unit::Fen, mode: LimitMode::Enforce, tag: 0, cells }]
}

fn used(table: &Table, row: RowKey) -> Option<(u16, u64)> {
    table.usage(row)[0].map(|cell| (cell.window_id, cell.used))
}

fn assert_conserved(table: &Table) {
    let sums = table.conservation();
    assert_eq!((sums.error, sums.stripes_checked), (0, 1), "{sums:?}");
}

struct Gate {
    table: Table,
    share: Shared<Share>,
}

impl Gate {
    fn new(rows_max: u64) -> Arc<Self> {
        let table = Table::new(Bounds { rows_max, rows_per_merchant_max: 9 });
        // The first lane is that of reclaiming.
        table.lane();
        Arc::new(Self { table, share: Shared::default() })
    }

    fn take(&self, row: RowKey, window_id: u16, amount: u64) -> Result<Charges, Shortfall> {
        let lane = Lane::of(1);
        let amount = Fen::new(amount).expect("amount");
        self.table.reserve(lane, &day(row, window_id, 10), amount, &self.share).map(Reserved::keep)
    }

    /// Takes from the year, whose ids may be those of other rows' days.
    fn take_year(&self, row: RowKey, window_id: u16, amount: u64) -> bool {
        let [mut demand] = day(row, window_id, 10);
        demand.cells.swap(0, 2);
        let amount = Fen::new(amount).expect("amount");
        self.table.reserve(Lane::COLD, &[demand], amount, &self.share).map(|reserved| drop(reserved.keep())).is_ok()
    }

    fn reclaim(&self, day: i64) -> u64 {
        self.table.reclaim(UnixMillis(day * 86_400_000))
    }
}

#[test]
fn takes_of_one_cell_never_pass_the_ceiling_and_none_is_lost() {
    model(3, || {
        let word = word(7, 0);
        let threads = [2, 3].map(|amount| {
            let word = Arc::clone(&word);
            thread::spawn(move || {
                let taken = cell::take(&word, asks(7, 4), amount).is_ok();
                if taken && amount == 2 {
                    cell::give_back(&word, 7, 1, || true).amount();
                    return 1;
                }
                if taken { amount } else { 0 }
            })
        });
        let taken: u64 = threads.map(|thread| thread.join().expect("no panic")).iter().sum();
        assert_eq!(read(&word), (7, taken));
        assert!((1..=4).contains(&taken));
    });
}

#[test]
fn a_cell_turns_once_and_old_charges_do_not_reach_the_new_window() {
    model(3, || {
        let word = word(7, 2);
        let turning = Arc::clone(&word);
        let turn = thread::spawn(move || cell::take(&turning, asks(8, 9), 5).expect("room").passed);
        let again = Arc::clone(&word);
        let again = thread::spawn(move || cell::take(&again, asks(8, 9), 4).expect("room").passed);
        let back = cell::give_back(&word, 7, 2, || true).amount();
        let passed = turn.join().expect("no panic") + again.join().expect("no panic");
        assert_eq!((read(&word), passed + back), ((8, 9), 2));
    });
}

#[test]
fn workers_that_add_one_key_at_once_share_one_row() {
    model(3, || {
        let gate = Gate::new(2);
        let other = Arc::clone(&gate);
        let thread = thread::spawn(move || other.take(key(1), 7, 3).map(drop));
        gate.take(key(1), 7, 4).expect("room");
        thread.join().expect("no panic").expect("room");
        assert_eq!((used(&gate.table, key(1)), gate.table.rows()), (Some((7, 7)), 1));
        assert_conserved(&gate.table);
    });
}

#[test]
fn a_row_that_is_taken_from_while_it_is_reclaimed_keeps_the_take_or_comes_anew() {
    model(3, || {
        let gate = Gate::new(2);
        gate.take(key(1), 7, 4).expect("room");
        let reclaiming = Arc::clone(&gate);
        let thread = thread::spawn(move || reclaiming.reclaim(10));
        // Its day is over for who reclaims, and not for who takes.
        let charges = gate.take(key(1), 7, 5).expect("room");
        let freed = thread.join().expect("no panic");
        let window_id = charges.iter().map(Charge::window_id).next().expect("one cell");
        match used(&gate.table, key(1)) {
            Some((7, used)) => assert_eq!((used, window_id, freed), (9, 7, 0)),
            Some(used) => assert_eq!((used, window_id), ((8, 5), 8)),
            None => assert_eq!(window_id, 7),
        }
        assert_conserved(&gate.table);
    });
}

#[test]
fn a_place_that_is_used_again_shows_nothing_of_its_last_row() {
    model(3, || {
        let gate = Gate::new(1);
        let old = gate.take(key(1), 7, 4).expect("room");
        let reclaiming = Arc::clone(&gate);
        let thread = thread::spawn(move || {
            reclaiming.reclaim(10);
            reclaiming.take_year(key(2), 7, 4)
        });
        // It comes with the place of the row that was, and the window id and amount of the one that may be there now.
        gate.table.give_back(Lane::of(1), &old);
        let added = thread.join().expect("no panic");
        assert_eq!(gate.table.usage(key(2))[2].map(|cell| cell.used), added.then_some(4));
        assert_conserved(&gate.table);
    });
}

#[test]
fn a_place_is_not_used_again_before_those_who_were_led_to_its_row_have_left() {
    model(3, || {
        let gate = Gate::new(1);
        gate.take(key(1), 7, 4).expect("room");
        let reclaiming = Arc::clone(&gate);
        let thread = thread::spawn(move || {
            reclaiming.reclaim(10);
            reclaiming.take_year(key(2), 7, 4)
        });
        // Led to the place, it would fit the row that may be there now.
        gate.take(key(1), 7, 5).ok();
        let added = thread.join().expect("no panic");
        assert_eq!(gate.table.usage(key(2))[2].map(|cell| cell.used), added.then_some(4));
        assert_conserved(&gate.table);
    });
}

#[test]
fn a_row_is_found_or_found_again_while_the_index_is_shifted() {
    model(3, || {
        let gate = Gate::new(3);
        gate.take(key(1), 7, 4).expect("room");
        gate.take(key(2), 10, 4).expect("room");
        let reclaiming = Arc::clone(&gate);
        let thread = thread::spawn(move || reclaiming.reclaim(10));
        gate.take(key(2), 10, 5).expect("room");
        thread.join().expect("no panic");
        assert_eq!(used(&gate.table, key(2)), Some((10, 9)), "it has one row yet");
        assert_eq!(used(&gate.table, key(1)), None);
        assert_conserved(&gate.table);
    });
}

#[test]
fn a_lane_holds_one_at_a_time_and_what_is_counted_in_it_is_exact() {
    model(3, || {
        let lanes = Arc::new(Lanes::new());
        let threads = [1, 2].map(|amount| {
            let lanes = Arc::clone(&lanes);
            thread::spawn(move || lanes.enter(Lane::COLD).flow(0).take(amount))
        });
        lanes.enter(Lane::COLD).flow(0).take(4);
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(lanes.flows(0).taken, 7);
    });
}

/// A cell of which two lanes hold room, and what is counted of it.
struct Hot {
    word: AtomicU64,
    set: Set,
    lanes: Lanes,
}

impl Hot {
    fn new(used: u64) -> Arc<Self> {
        let word = AtomicU64::new(Cell { window_id: 7, used }.pack());
        Arc::new(Self { word, set: Set::new(), lanes: Lanes::new() })
    }

    fn take(&self, lane: usize, window_id: u16, ceiling: u64, amount: u64) -> Option<u16> {
        let lane = Lane::of(lane);
        let inside = self.lanes.enter(lane);
        let hand = Hand { set: &self.set, lane, lanes: 1 };
        let taken = hand.take(0, &self.word, asks(window_id, ceiling), amount, inside.flow(0)).ok()?;
        inside.flow(0).pass(taken.passed);
        Some(taken.window_id)
    }

    /// Returns what is used of the cell's window, and what more has passed.
    fn used(&self) -> (u16, u64, u64) {
        let (window_id, used) = read(&self.word);
        let passed = self.lanes.flows(0).passed;
        let stale = self.set.room(0, None) - self.set.room(0, Some(window_id));
        (window_id, used - self.set.room(0, Some(window_id)), passed.wrapping_sub(stale))
    }
}

#[test]
fn room_that_is_handed_out_is_never_granted_beyond_the_ceiling() {
    model(3, || {
        let hot = Hot::new(0);
        // Holds two ahead of the one that is taken.
        hot.take(0, 7, 24, 1).expect("room");
        let other = Arc::clone(&hot);
        let thread = thread::spawn(move || (0..2).filter(|_| other.take(0, 7, 24, 1).is_some()).count() as u64);
        let rest = if hot.take(1, 7, 24, 22).is_some() { 22 } else { 0 };
        let granted = 1 + rest + thread.join().expect("no panic");
        assert_eq!(hot.used(), (7, granted, 0));
        // What is left is granted to who asks alone, and no more.
        let left = 24 - granted;
        assert!(hot.take(1, 7, 24, left + 1).is_none());
        assert!(left == 0 || hot.take(1, 7, 24, left).is_some());
    });
}

#[test]
fn room_of_a_window_that_passes_is_counted_once() {
    model(3, || {
        let hot = Hot::new(0);
        hot.take(0, 7, 24, 1).expect("room");
        let other = Arc::clone(&hot);
        let thread = thread::spawn(move || other.take(0, 7, 24, 1).expect("room"));
        hot.take(1, 8, 24, 9).expect("room");
        let window_id = thread.join().expect("no panic");
        let expected = if window_id == 8 { (8, 10, 1) } else { (8, 9, 2) };
        assert_eq!(hot.used(), expected);
    });
}

#[test]
fn a_set_that_is_taken_from_its_row_leaves_the_use_exact() {
    model(3, || {
        let lane = Lane::of(1);
        let hot = Arc::new((Set::new(), crate::kernel::zeroed::<crate::kernel::Line>(1), Lanes::new()));
        let take = move |hot: &(Set, Box<[crate::kernel::Line]>, Lanes)| {
            let (set, lines, lanes) = hot;
            let inside = lanes.enter(lane);
            let row = super::row::Row(&lines[0]);
            let hand = Hand { set, lane, lanes: 1 };
            row.take([Some(&asks(7, 90)), None], 1, inside.flow(0), Some(&hand)).is_ok()
        };
        assert!(take(&hot));
        let other = Arc::clone(&hot);
        let thread = thread::spawn(move || take(&other));
        let (set, lines, lanes) = &*hot;
        let inside = lanes.enter(Lane::COLD);
        set.freeze(super::row::Row(&lines[0]), inside.flow(0));
        assert!(thread.join().expect("no panic"));
        let [first, _] = super::row::Row(&lines[0]).read().expect("not frozen");
        assert_eq!((first.window_id, first.used), (7, 2));
    });
}
