//! The index of a shard: where the row of a key may lie. HOT to read; written under the shard's lock.
//!
//! Open addressing with linear probing over one word an entry, `tag : 8 | row + 1 : 24`, zero where there is none. It is a
//! hint: a reader looks at the row itself, so it is never led to another's; and where it misses a row, because an entry
//! was moved past it, it looks again under the lock.

use super::row::{Key, Row};
use crate::kernel::{self, Line};
use crate::sync::{AtomicU32, Ordering};

/// A shard's part of the index, and the rows that it leads to.
#[derive(Clone, Copy)]
pub(super) struct Index<'a> {
    pub(super) entries: &'a [AtomicU32],
    pub(super) rows: &'a [Line],
}

impl<'a> Index<'a> {
    /// Asks for the entry where the search for a key begins.
    pub(super) fn prefetch(self, key: Key) {
        if let Some(entry) = self.entries.get(self.home(key)) {
            kernel::prefetch(entry);
        }
    }

    /// Asks for the first row that may be the key's.
    #[inline]
    pub(super) fn prefetch_row(self, key: Key) {
        if let Some(Row(line)) = self.search(key, |_| true).and_then(|found| self.row(found)) {
            kernel::prefetch(line);
        }
    }

    /// Finds the row of a key. May miss one where the lock is not held.
    #[inline]
    pub(super) fn find(self, key: Key) -> Option<u32> {
        self.search(key, |row| self.row(row).is_some_and(|found| found.is(key)))
    }

    /// Returns the first row with the key's tag that is accepted.
    #[inline]
    fn search(self, key: Key, accept: impl Fn(u32) -> bool) -> Option<u32> {
        let (tag, mut place) = (tag(key), self.home(key));
        for _ in 0..self.entries.len() {
            // Acquire: partner of the Release in `insert` and `store`; what is published is the row's key.
            let entry = self.entries.get(place)?.load(Ordering::Acquire);
            let row = (entry & ROW_MASK).checked_sub(1)?;
            if entry >> ROW_BITS == tag && accept(row) {
                return Some(row);
            }
            place += 1;
            if place == self.entries.len() {
                place = 0;
            }
        }
        None
    }

    /// Returns the row at a place.
    pub(super) fn row(self, row: u32) -> Option<Row<'a>> {
        self.rows.get(row as usize).map(Row)
    }

    /// Adds the entry of a row. The lock is held, and the row is not listed yet; `false` where there is no free entry.
    pub(super) fn insert(self, key: Key, row: u32) -> bool {
        // Relaxed: only written under the lock.
        let free = self.places(key).find(|place| self.entry(*place).is_some_and(|entry| load_locked(entry) == 0));
        // Release: partner of the Acquire in `search`; what is published is the row's key and cells.
        free.and_then(|place| self.entry(place))
            .map(|entry| entry.store(tag(key) << ROW_BITS | row.saturating_add(1) & ROW_MASK, Ordering::Release))
            .is_some()
    }

    /// Takes out the entry of a row, and moves those after it that would not be found over the gap. The lock is held.
    pub(super) fn remove(self, key: Key, row: u32) {
        let listed = tag(key) << ROW_BITS | row.saturating_add(1) & ROW_MASK;
        let mut places = self.places(key);
        let Some(mut gap) = places.find(|place| self.entry(*place).is_some_and(|entry| load_locked(entry) == listed))
        else {
            debug_assert!(false, "a row that lives is listed");
            return;
        };
        for place in places {
            let Some(entry) = self.entry(place).map(load_locked).filter(|entry| *entry != 0) else { break };
            let home = (entry & ROW_MASK).checked_sub(1).and_then(|row| self.row(row)).map(|row| self.home(row.key()));
            // It may move back as far as to where its search begins.
            if home.is_some_and(|home| self.distance(home, place) >= self.distance(gap, place)) {
                self.store(gap, entry);
                gap = place;
            }
        }
        self.store(gap, 0);
    }

    fn places(self, key: Key) -> impl Iterator<Item = usize> {
        let home = self.home(key);
        (home..self.entries.len()).chain(0..home)
    }

    fn entry(self, place: usize) -> Option<&'a AtomicU32> {
        self.entries.get(place)
    }

    fn store(self, place: usize, value: u32) {
        if let Some(entry) = self.entry(place) {
            // Release: whoever is led to a row by an entry that was moved sees the row as well.
            entry.store(value, Ordering::Release);
        }
    }

    /// Returns how many steps a search makes from one place to another.
    fn distance(self, from: usize, to: usize) -> usize {
        if from <= to { to - from } else { to + self.entries.len() - from }
    }

    /// Returns the place where the search for a key begins: the part of the index that its bits are of 2^32.
    fn home(self, key: Key) -> usize {
        let bits = (key.spread() >> HOME_SHIFT) & u64::from(u32::MAX);
        let place = bits.saturating_mul(self.entries.len() as u64) >> u32::BITS;
        usize::try_from(place).unwrap_or(0)
    }
}

fn load_locked(entry: &AtomicU32) -> u32 {
    // Relaxed: only written under the lock, which is held.
    entry.load(Ordering::Relaxed)
}

fn tag(key: Key) -> u32 {
    (key.spread() >> TAG_SHIFT) as u32
}

/// Most rows of a shard.
pub(super) const ROWS_MAX: u32 = ROW_MASK - 1;

const ROW_BITS: u32 = 24;
const ROW_MASK: u32 = (1 << ROW_BITS) - 1;
const TAG_SHIFT: u32 = u64::BITS - (u32::BITS - ROW_BITS);
const HOME_SHIFT: u32 = TAG_SHIFT - u32::BITS;
const _: () = assert!(1 << HOME_SHIFT >= super::row::SHARDS, "shard, place and tag use different bits of a key");
