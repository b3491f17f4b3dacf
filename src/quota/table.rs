//! The table: every row, shared by all workers. HOT where it finds rows; what is done with them lies in the files beside.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use crossbeam::utils::CachePadded;

use super::cell::Cell;
use super::hot::{MEETINGS_MIN, Pool};
use super::index::Index;
use super::lanes::{Lane, Lanes};
use super::owners::Owners;
use super::row::{Key, Row, SHARDS};
use super::shard::{self, Shard};
use super::shelf::Shelf;
use super::slices::Sets;
use super::windows::Kind;
use super::{Bounds, CELLS_PER_LIMIT_MAX, CellUsage, RowKey, RowView, Shortfall};
use crate::kernel::{self, Line};
use crate::share::Share;
use crate::sync;

/// Every row, shared by all workers.
pub struct Table {
    bounds: Bounds,
    /// All rows, a part for each shard: so many of them.
    lines: Box<[Line]>,
    places: u32,
    /// The index, a part for each shard: so many entries.
    index: Box<[sync::AtomicU32]>,
    entries: usize,
    shelves: Box<[CachePadded<sync::Mutex<Shelf>>]>,
    pub(super) lanes: Lanes,
    pub(super) sets: Sets,
    pub(super) pool: sync::Mutex<Pool>,
    /// How often workers meet at a row before it gets a set.
    pub(super) meetings_min: u32,
    pub(super) owners: Owners,
    /// Whom rows are charged to that a late charge brings back.
    pub(super) late: Arc<Share>,
    /// Rows that exist, those in limbo too.
    pub(super) rows: CachePadded<AtomicU64>,
    /// The shard that is reclaimed next; locked while one is.
    pub(super) reclaim_next: Mutex<usize>,
}

impl Table {
    /// Makes an empty table. Memory for all rows is reserved, and held from when it is first used.
    ///
    /// Where the system hands memory out by large pages, all of it is held from the start: clearing so much takes a
    /// millisecond each, which the first decisions would have to wait for.
    pub fn new(bounds: Bounds) -> Self {
        let rows_max = bounds.rows_max.min(ROWS_MAX);
        let places = shard::places(rows_max);
        let entries = shard::entries(places);
        let lines = kernel::zeroed::<Line>((places as usize).saturating_mul(SHARDS));
        let index = kernel::zeroed::<sync::AtomicU32>(entries.saturating_mul(SHARDS));
        // Writing anything, zero as well, has the system clear the page.
        let first_words = lines.iter().step_by(LARGE_PAGE_BYTES / size_of::<Line>()).filter_map(|line| line.0.first());
        first_words.for_each(|word| word.store(0, sync::Ordering::Relaxed));
        let first_entries = index.iter().step_by(LARGE_PAGE_BYTES / size_of::<sync::AtomicU32>());
        first_entries.for_each(|entry| entry.store(0, sync::Ordering::Relaxed));
        Self {
            bounds: Bounds { rows_max, ..bounds },
            lines,
            places,
            index,
            entries,
            shelves: (0..SHARDS).map(|_| CachePadded::new(sync::Mutex::new(Shelf::new()))).collect(),
            lanes: Lanes::new(),
            sets: Sets::new(),
            pool: sync::Mutex::new(Pool::new()),
            meetings_min: MEETINGS_MIN,
            owners: Owners::default(),
            late: Arc::default(),
            rows: CachePadded::default(),
            reclaim_next: Mutex::new(0),
        }
    }

    /// Hands out a lane: a worker's own counters. Each worker asks once and passes it with every call.
    pub fn lane(&self) -> Lane {
        self.lanes.next()
    }

    /// Reads what is used of the windows of a limit and subject, in the order of
    /// [`Window::ALL`](crate::types::Window::ALL). `None` where there is no such row or nothing was ever charged.
    pub fn usage(&self, row: RowKey) -> [Option<CellUsage>; CELLS_PER_LIMIT_MAX] {
        let inside = self.lanes.enter(Lane::COLD);
        let [short, long] = Kind::ALL.map(|kind| {
            let key = Key::new(row, kind);
            // A row that is being reclaimed reads as frozen: under the lock it is there or not.
            let used = |row: Row<'_>| row.used(&self.sets);
            let cells = self.find(key).and_then(used).or_else(|| used(self.shard_of(key)?.lock().find(key)?.1));
            cells.map_or([None; 2], |cells| cells.map(shard::usage))
        });
        drop(inside);
        let ([day, month], [year, lifetime]) = (short, long);
        [day, month, year, lifetime]
    }

    /// Returns how many rows exist.
    pub fn rows(&self) -> u64 {
        self.rows.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Returns how many rows may exist.
    pub const fn rows_max(&self) -> u64 {
        self.bounds.rows_max
    }

    /// Returns the memory held, in bytes: an upper bound by the pages of 4 KiB that were touched. Where the system hands out
    /// large pages, all that is reserved is held.
    pub fn bytes(&self) -> u64 {
        let shards = self.shards().map(|shard| {
            let shelf = shard.lock().shelf;
            let begun = shelf.begun() as usize;
            let lines = begun.saturating_mul(size_of::<Line>());
            // Each row touches a page of the index at most.
            let index = size_of_val(shard.index.entries).min(begun.saturating_mul(PAGE_BYTES));
            lines + index + shelf.bytes()
        });
        let fixed = size_of::<Self>() + self.lanes.bytes() + self.sets.bytes() + size_of_val(&*self.shelves);
        u64::try_from(shards.sum::<usize>() + fixed).unwrap_or(u64::MAX)
    }

    /// Returns how many pages an export has.
    pub fn pages(&self) -> usize {
        let begun = self.shards().map(|shard| shard.lock().shelf.begun()).max().unwrap_or(0);
        (begun.div_ceil(PAGE_ROWS) as usize).saturating_mul(SHARDS)
    }

    /// Shows the rows of one page. Rows that are added or reclaimed meanwhile may be missing.
    pub fn page(&self, page: usize) -> Vec<RowView> {
        let Some(shard) = self.shard(page % SHARDS) else { return Vec::new() };
        let Ok(first) = u32::try_from(page / SHARDS) else { return Vec::new() };
        let first = first.saturating_mul(PAGE_ROWS);
        shard.lock().views(first..first.saturating_add(PAGE_ROWS), &self.sets)
    }

    /// Adds up what all cells show as used, in fen and payments modulo 2^64. COLD: reads the whole table.
    pub fn used_total(&self) -> u64 {
        (0..SHARDS).map(|shard| self.used_of(shard)).fold(0, u64::wrapping_add)
    }

    /// Adds up what the cells of a shard show as used.
    pub(super) fn used_of(&self, shard: usize) -> u64 {
        let Some(shard) = self.shard(shard) else { return 0 };
        let rows = (0..shard.lock().shelf.begun()).filter_map(|place| shard.index.row(place));
        let used = rows.map(|row| {
            let cells = row.cells().into_iter().filter_map(Cell::load).map(|cell| cell.used);
            let set = row.set().and_then(|number| self.sets.get(number));
            let room = set.map_or(0, |set| set.room(0, None).wrapping_add(set.room(1, None)));
            cells.fold(0, u64::wrapping_add).wrapping_sub(room)
        });
        used.fold(0, u64::wrapping_add)
    }

    /// Counts a new row in, for its owner and for the table; returns the owner's number.
    pub(super) fn admit_row(&self, owner: &Arc<Share>) -> Result<u32, Shortfall> {
        if !owner.take(self.bounds.rows_per_merchant_max) {
            return Err(Shortfall::ShareFull);
        }
        // Relaxed: the counter publishes nothing but itself.
        let order = std::sync::atomic::Ordering::Relaxed;
        let admitted =
            self.rows.try_update(order, order, |rows| (rows < self.bounds.rows_max).then(|| rows.saturating_add(1)));
        if admitted.is_err() {
            owner.give();
            return Err(Shortfall::TableFull);
        }
        self.owners.number(owner).ok_or_else(|| {
            self.rows.fetch_sub(1, order);
            owner.give();
            Shortfall::TableFull
        })
    }

    /// Finds the row of a key; may miss it while others are added or reclaimed.
    pub(super) fn find(&self, key: Key) -> Option<Row<'_>> {
        self.shard_of(key)?.find(key).map(|(_, row)| row)
    }

    /// Returns the shard of a key.
    pub(super) fn shard_of(&self, key: Key) -> Option<Shard<'_>> {
        self.shard(key.shard())
    }

    /// Returns a shard by its number.
    pub(super) fn shard(&self, number: usize) -> Option<Shard<'_>> {
        let places = self.places as usize;
        let rows = number.checked_mul(places)?;
        let entries = number.checked_mul(self.entries)?;
        let index = Index {
            rows: self.lines.get(rows..rows.checked_add(places)?)?,
            entries: self.index.get(entries..entries.checked_add(self.entries)?)?,
        };
        Some(Shard { index, shelf: self.shelves.get(number)? })
    }

    fn shards(&self) -> impl Iterator<Item = Shard<'_>> {
        (0..SHARDS).filter_map(|number| self.shard(number))
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Table")
            .field("bounds", &self.bounds)
            .field("rows", &self.rows())
            .finish_non_exhaustive()
    }
}

/// Most rows of a table.
const ROWS_MAX: u64 = SHARDS as u64 * super::index::ROWS_MAX as u64;

/// Places that one page of an export shows: some 5 MB of lines, and few pages, since each is held against all orders.
const PAGE_ROWS: u32 = 1 << 15;

/// What the system clears at a time where it hands out large pages.
const LARGE_PAGE_BYTES: usize = 2 << 20;

/// What the system clears at a time.
const PAGE_BYTES: usize = 4096;
