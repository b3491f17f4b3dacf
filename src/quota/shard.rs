//! A shard: a part of the rows, of the index, and the lock under which rows are added and reclaimed.

use std::ops::Range;
use std::sync::PoisonError;

use super::cell::Cell;
use super::index::Index;
use super::lanes::Flow;
use super::row::{Key, Row};
use super::shelf::Shelf;
use super::slices::Sets;
use super::windows::{self, Boundary};
use super::{CellUsage, RowView};
use crate::sync::{Mutex, MutexGuard};

/// A part of a table.
#[derive(Clone, Copy)]
pub(super) struct Shard<'a> {
    pub(super) index: Index<'a>,
    pub(super) shelf: &'a Mutex<Shelf>,
}

impl<'a> Shard<'a> {
    /// Finds the row of a key; may miss it while others are added or reclaimed.
    pub(super) fn find(self, key: Key) -> Option<(u32, Row<'a>)> {
        let place = self.index.find(key)?;
        Some((place, self.index.row(place)?))
    }

    /// Counts the cells of which something is used.
    pub(super) fn cells_used(self) -> u64 {
        let begun = self.lock().shelf.begun();
        let cells = (0..begun).filter_map(|place| self.index.row(place)).flat_map(Row::cells).filter_map(Cell::load);
        cells.fold(0, |count, cell| count + u64::from(cell.used > 0))
    }

    /// Locks the shard: no row is added or reclaimed until what is returned is dropped.
    pub(super) fn lock(self) -> Locked<'a> {
        // A row is listed by the last write, so a shelf is sound even where a panic poisoned its lock.
        Locked { shard: self, shelf: self.shelf.lock().unwrap_or_else(PoisonError::into_inner) }
    }
}

/// A shard that nobody else adds to or reclaims from.
pub(super) struct Locked<'a> {
    shard: Shard<'a>,
    pub(super) shelf: MutexGuard<'a, Shelf>,
}

impl<'a> Locked<'a> {
    /// Finds the row of a key.
    pub(super) fn find(&self, key: Key) -> Option<(u32, Row<'a>)> {
        self.shard.find(key)
    }

    /// Adds the row of a key that has none, where there is a place and `admit` gives it an owner; `Ok(None)`: no place.
    ///
    /// # Errors
    /// What `admit` refuses with.
    pub(super) fn add<E>(
        &mut self,
        key: Key,
        label: u32,
        admit: impl FnOnce() -> Result<u32, E>,
    ) -> Result<Option<(u32, Row<'a>)>, E> {
        let index = self.shard.index;
        let Some(place) = self.shelf.vacant(index.rows.len()) else { return Ok(None) };
        let Some(row) = index.row(place) else { return Ok(None) };
        let owner = admit()?;
        self.shelf.occupy(place, owner, label);
        row.begin(key, self.shelf.floor.of(key.kind()));
        // There are more entries than places.
        let listed = index.insert(key, place);
        debug_assert!(listed, "the index is full before the rows are");
        Ok(Some((place, row)))
    }

    /// Takes rows that are over from those in a range of places out of the index, and puts their places in limbo; takes
    /// their slices from rows that rest. Hands the numbers of sets that are not needed any more to `spare`.
    pub(super) fn condemn_over(
        &mut self,
        places: Range<u32>,
        open: Boundary,
        flow: &Flow,
        sets: &Sets,
        mut spare: impl FnMut(u16),
    ) {
        let index = self.shard.index;
        for place in places {
            let Some(row) = index.row(place) else { return };
            let key = row.key();
            let set = row.set().and_then(|number| Some((number, sets.get(number)?)));
            let (windows, oldest_open) = (key.kind().windows(), open.of(key.kind()));
            let over = |which: usize, cell: Cell| {
                let bounds = windows.get(which).zip(oldest_open.get(which));
                bounds.is_some_and(|(window, oldest_open)| windows::is_over(cell, *window, *oldest_open))
            };
            let rests =
                row.read().is_some_and(|cells| cells.into_iter().zip(0..).all(|(cell, which)| over(which, cell)));
            if !rests && set.is_none_or(|(_, set)| !set.is_idle()) {
                continue;
            }
            // Counted first, for whoever adds the cells up.
            flow.begin();
            let frozen = if rests { row.freeze(over) } else { None };
            if let Some((number, set)) = set.filter(|_| frozen.is_some() || !rests) {
                row.give_set(key, 0);
                set.freeze(row, flow);
                spare(number);
            }
            if let Some(cells) = frozen {
                cells.iter().for_each(|cell| flow.pass(cell.used));
                self.shelf.floor.raise(key.kind(), cells.map(windows::floor_after));
                index.remove(key, place);
                self.shelf.condemn(place);
            }
        }
    }

    /// Shows the rows in a range of places.
    pub(super) fn views(&self, places: Range<u32>, sets: &Sets) -> Vec<RowView> {
        let places = places.start..places.end.min(self.shelf.begun());
        places.filter_map(|place| view(self.shard.index.row(place)?, self.shelf.label(place), sets)).collect()
    }
}

/// Shows a row; `None` where the place has none.
fn view(row: Row<'_>, label: u32, sets: &Sets) -> Option<RowView> {
    let key = row.key();
    let cells = key.kind().among_four(row.used(sets)?.map(usage));
    Some(RowView { row: key.row_key(), label, cells })
}

/// Shows a cell; `None` where nothing was ever charged.
pub(super) fn usage(cell: Cell) -> Option<CellUsage> {
    let Cell { window_id, used } = cell;
    (window_id != 0 || used != 0).then_some(CellUsage { window_id, used })
}

/// Returns how many rows a shard has place for, where a table has so many: more than its part, because keys fall where
/// they will. Where there are few, all may fall in one.
pub(super) fn places(rows_max: u64) -> u32 {
    let part = rows_max.div_ceil(super::row::SHARDS as u64);
    // Keys are spread as at random, so a part's deviation is its root; that of 64 parts one exceeds eightfold is not to be seen.
    let places = part.saturating_add(part.isqrt().saturating_mul(DEVIATIONS)).saturating_add(SPARE);
    u32::try_from(places.min(rows_max)).unwrap_or(u32::MAX).min(super::index::ROWS_MAX)
}

/// Returns how many entries the index of so many rows has: three quarters of them are used at most, so that a search is
/// short and ends.
pub(super) const fn entries(places: u32) -> usize {
    (places as usize).saturating_mul(4) / 3 + SPARE_ENTRIES
}

const DEVIATIONS: u64 = 8;
const SPARE: u64 = 64;
const SPARE_ENTRIES: usize = 16;
