//! The same windows in maps: one atomic a cell, one row of atomics a key, and the cells of a keyed rate limiter.
//!
//! The maps use the bits of the keys as they are, as the table does.

use std::hash::{BuildHasherDefault, Hasher};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tollgate::quota::CellDemand;

use super::Rival;
use super::demands::{AMOUNT_FEN, Demands, cells};

/// One map entry a cell.
#[derive(Default)]
pub(super) struct DashmapCells(DashMap<u128, AtomicU64, BuildHasherDefault<AsIs>>);

impl Rival for DashmapCells {
    const NAME: &'static str = "dashmap, an entry a cell";
    const CEILINGS: bool = true;

    fn decide(&self, demands: &Demands) -> bool {
        let cells = || demands.iter().flat_map(cells);
        let taken = cells().take_while(|(key, cell)| self.with(*key, |word| take(word, cell))).count();
        if taken < 4 {
            cells().take(taken).for_each(|(key, _)| self.with(key, give_back));
        }
        taken == 4
    }
}

impl DashmapCells {
    fn with<T>(&self, key: u128, act: impl FnOnce(&AtomicU64) -> T) -> T {
        match self.0.get(&key) {
            Some(word) => act(&word),
            None => act(&self.0.entry(key).or_default()),
        }
    }
}

/// One map entry a row.
#[derive(Default)]
pub(super) struct DashmapRows(DashMap<u128, [AtomicU64; 2], BuildHasherDefault<AsIs>>);

impl Rival for DashmapRows {
    const NAME: &'static str = "dashmap, an entry a row";
    const CEILINGS: bool = true;

    fn decide(&self, demands: &Demands) -> bool {
        let taken = demands.each_ref().map(|demand| {
            self.with(demand.row.0, |row| {
                row.iter().zip(demand.cells.iter().flatten()).take_while(|(word, cell)| take(word, cell)).count()
            })
        });
        if taken != [2, 2] {
            for (demand, taken) in demands.iter().zip(taken) {
                self.with(demand.row.0, |row| row.iter().take(taken).for_each(give_back));
            }
        }
        taken == [2, 2]
    }
}

impl DashmapRows {
    fn with<T>(&self, key: u128, act: impl FnOnce(&[AtomicU64; 2]) -> T) -> T {
        match self.0.get(&key) {
            Some(row) => act(&row),
            None => act(&self.0.entry(key).or_default()),
        }
    }
}

/// A keyed rate limiter, which cannot take back what it took.
pub(super) struct Limiter(RateLimiter<u128, DashMapStateStore<u128>, DefaultClock>);

impl Default for Limiter {
    fn default() -> Self {
        Self(RateLimiter::dashmap(Quota::per_second(NonZeroU32::MAX)))
    }
}

impl Rival for Limiter {
    const NAME: &'static str = "governor";
    const CEILINGS: bool = false;

    fn decide(&self, demands: &Demands) -> bool {
        let admits = |key| self.0.check_key_n(&key, PERMITS).is_ok_and(|within| within.is_ok());
        demands.iter().flat_map(cells).all(|(key, _)| admits(key))
    }
}

/// Takes from a cell: the window in the upper 16 bits, its use below, as in the table.
fn take(word: &AtomicU64, cell: &CellDemand) -> bool {
    let window = u64::from(cell.window_id);
    word.try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        let (window, used) = if word >> 48 < window { (window, 0) } else { (word >> 48, word & USED_MASK) };
        (used + AMOUNT_FEN <= cell.ceiling).then(|| window << 48 | (used + AMOUNT_FEN))
    })
    .is_ok()
}

fn give_back(word: &AtomicU64) {
    word.fetch_sub(AMOUNT_FEN, Ordering::Relaxed);
}

/// Hashes a key by its lower half.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

const PERMITS: NonZeroU32 = NonZeroU32::new(100).unwrap();
const USED_MASK: u64 = (1 << 48) - 1;
