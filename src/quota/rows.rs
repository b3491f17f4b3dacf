//! Rows of one width in memory: sharded, open addressing over atomics. HOT to find, cold to add.
//!
//! A shard holds levels, each twice as large as the one before. Rows are added to the newest level and never move, so
//! a lookup takes no lock and a place once found stays good. Adding goes through the shard's lock, which is what keeps
//! a key from getting two rows. What a level costs to clear is paid by one shard at a time.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crossbeam::utils::CachePadded;

use super::{RowKey, Shortfall};

/// All rows with one number of cells.
pub(super) struct RowSet {
    cells: usize,
    shards: Box<[CachePadded<Shard>]>,
}

impl RowSet {
    /// Makes an empty set of rows with `cells` cells each. Levels come with the first row of a shard.
    pub(super) fn new(cells: usize) -> Self {
        Self { cells, shards: (0..SHARDS).map(|_| CachePadded::new(Shard::default())).collect() }
    }

    /// Finds a row.
    pub(super) fn find(&self, key: KeyWords) -> Option<Row<'_>> {
        self.shard(key.low)?.find(key)
    }

    /// Returns the row of a key, adding it where it does not exist and `admit` allows it.
    ///
    /// # Errors
    /// What `admit` refuses with, or [`Shortfall::TableFull`] where the shard has reached its last level.
    pub(super) fn find_or_add(
        &self,
        key: KeyWords,
        admit: impl FnOnce() -> Result<(), Shortfall>,
    ) -> Result<Row<'_>, Shortfall> {
        self.shard(key.low).ok_or(Shortfall::TableFull)?.find_or_add(key, self.cells, admit)
    }

    /// Returns the row at a place that was handed out; `None` where the place is not that row's.
    pub(super) fn at(&self, key_low: u64, index: RowIndex) -> Option<Row<'_>> {
        let row = self.shard(key_low)?.levels.get(index.level()?)?.get()?.row(index.slot()?)?;
        // Relaxed: whoever holds the index learned it from a thread that saw the row published.
        (row.low.load(Ordering::Relaxed) == key_low).then_some(row)
    }

    /// Visits every cell that memory is held for, also those of places not yet given to a row.
    pub(super) fn cell_words(&self) -> impl Iterator<Item = &AtomicU64> {
        self.levels().flat_map(|level| level.words.chunks_exact(level.row_words)).flat_map(|row| row.iter().skip(2))
    }

    /// Returns the memory held for rows, in bytes.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.shards) + self.levels().map(|level| size_of_val(&*level.words)).sum::<usize>()
    }

    fn levels(&self) -> impl Iterator<Item = &Level> {
        self.shards.iter().flat_map(|shard| &shard.levels).filter_map(OnceLock::get)
    }

    fn shard(&self, key_low: u64) -> Option<&Shard> {
        self.shards.get((key_low & SHARD_MASK) as usize).map(|shard| &**shard)
    }
}

/// A row's key as two words, neither of them zero: zero marks a place without a row.
///
/// Keys that only differ in a zero word against a one share a row. For pseudo-random keys that does not happen, and
/// where it did, the two would be limited together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyWords {
    pub(super) low: u64,
    pub(super) high: u64,
}

impl From<RowKey> for KeyWords {
    fn from(RowKey(key): RowKey) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
        let low = key as u64;
        let high = (key >> u64::BITS) as u64;
        Self { low: low.max(1), high: high.max(1) }
    }
}

impl From<KeyWords> for RowKey {
    fn from(words: KeyWords) -> Self {
        Self((u128::from(words.high) << u64::BITS) | u128::from(words.low))
    }
}

/// A place in a shard: level and slot in one number, the level being the position of its highest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowIndex(u32);

impl RowIndex {
    fn level(self) -> Option<usize> {
        self.0.checked_ilog2()?.checked_sub(SLOTS_FIRST.ilog2())?.try_into().ok()
    }

    fn slot(self) -> Option<u32> {
        Some(self.0 & !(1 << self.0.checked_ilog2()?))
    }
}

/// A row where it lies.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) index: RowIndex,
    pub(super) cells: &'a [AtomicU64],
    low: &'a AtomicU64,
    /// Written last: where it is not zero, the whole row is there.
    high: &'a AtomicU64,
}

impl Row<'_> {
    /// Returns the row's key.
    pub(super) fn key(&self) -> RowKey {
        // Acquire: partner of the Release in `Level::add`.
        let high = self.high.load(Ordering::Acquire);
        KeyWords { high, low: self.low.load(Ordering::Relaxed) }.into()
    }
}

/// The rows whose keys share their lowest bits.
#[derive(Default)]
struct Shard {
    levels: [OnceLock<Level>; LEVELS_MAX],
    /// How many levels stand; the last of them is the newest.
    level_count: AtomicUsize,
    /// Rows in the newest level. Held while a row is added.
    newest_rows: Mutex<u32>,
}

impl Shard {
    /// Looks in the newest level first: it is to hold half of all rows, or is still nearly empty and costs one probe.
    fn find(&self, key: KeyWords) -> Option<Row<'_>> {
        // Acquire: partner of the Release in `add`. Too low a count only sends the caller on to the lock.
        let count = self.level_count.load(Ordering::Acquire);
        (0..count).rev().find_map(|level| self.levels.get(level)?.get()?.find(key))
    }

    fn find_or_add(
        &self,
        key: KeyWords,
        cells: usize,
        admit: impl FnOnce() -> Result<(), Shortfall>,
    ) -> Result<Row<'_>, Shortfall> {
        // A row is published by its last write, so a shard is sound even where a panic poisoned its lock.
        let mut newest_rows = self.newest_rows.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = self.find(key) {
            return Ok(row);
        }
        let level = self.level_with_room(*newest_rows).ok_or(Shortfall::TableFull)?;
        admit()?;
        self.add(key, cells, level, &mut newest_rows).ok_or(Shortfall::TableFull)
    }

    /// Returns the number of the level that takes the next row; it may have to be made.
    fn level_with_room(&self, newest_rows: u32) -> Option<usize> {
        // Relaxed: only written under the lock, which is held.
        let count = self.level_count.load(Ordering::Relaxed);
        let newest = count.checked_sub(1).filter(|newest| {
            self.levels.get(*newest).and_then(OnceLock::get).is_some_and(|level| newest_rows < level.rows_max())
        });
        newest.or((count < LEVELS_MAX).then_some(count))
    }

    fn add(&self, key: KeyWords, cells: usize, number: usize, newest_rows: &mut u32) -> Option<Row<'_>> {
        let slots = SLOTS_FIRST.checked_shl(u32::try_from(number).ok()?)?;
        let level = self.levels.get(number)?.get_or_init(|| Level::new(slots, cells));
        if number >= self.level_count.load(Ordering::Relaxed) {
            *newest_rows = 0;
            // Release: partner of the Acquire in `find`.
            self.level_count.store(number.checked_add(1)?, Ordering::Release);
        }
        let row = level.add(key)?;
        *newest_rows = newest_rows.checked_add(1)?;
        Some(row)
    }
}

/// An array of places, each two key words and the cells. A place whose high key word is zero has no row.
struct Level {
    words: Box<[AtomicU64]>,
    row_words: usize,
    /// A power of two.
    slots: u32,
}

impl Level {
    fn new(slots: u32, cells: usize) -> Self {
        let row_words = cells.saturating_add(2);
        let words = (slots as usize).saturating_mul(row_words);
        Self { words: (0..words).map(|_| AtomicU64::new(0)).collect(), row_words, slots }
    }

    /// Most rows the level takes: three quarters, so that a chain of probes stays short and always ends.
    fn rows_max(&self) -> u32 {
        self.slots - self.slots / 4
    }

    fn find(&self, key: KeyWords) -> Option<Row<'_>> {
        // Acquire: partner of the Release in `add`; behind a high word lie the low word and the cells.
        self.chain(key)
            .map(|row| (row, row.high.load(Ordering::Acquire)))
            .take_while(|(_, high)| *high != 0)
            .find(|(row, high)| *high == key.high && row.low.load(Ordering::Relaxed) == key.low)
            .map(|(row, _)| row)
    }

    /// Puts a row in the first free place of its chain. The shard's lock is held and the key is not there yet.
    fn add(&self, key: KeyWords) -> Option<Row<'_>> {
        // Relaxed: only written under the lock.
        let row = self.chain(key).find(|row| row.high.load(Ordering::Relaxed) == 0)?;
        row.low.store(key.low, Ordering::Relaxed);
        // Release: partner of the Acquire in `find`. The cells are zero since the level was made.
        row.high.store(key.high, Ordering::Release);
        Some(row)
    }

    /// Visits the places a key may lie in, nearest first.
    fn chain(&self, key: KeyWords) -> impl Iterator<Item = Row<'_>> {
        let start = (key.low >> 32) as u32;
        (0..self.slots).map_while(move |step| self.row(start.wrapping_add(step) & (self.slots - 1)))
    }

    fn row(&self, slot: u32) -> Option<Row<'_>> {
        let first = (slot as usize).checked_mul(self.row_words)?;
        match self.words.get(first..first.checked_add(self.row_words)?)? {
            [low, high, cells @ ..] => Some(Row { index: RowIndex(self.slots | slot), cells, low, high }),
            _ => None,
        }
    }
}

/// Shards of a set. The lowest bits of a key choose one, its bits from 32 up a place in it.
const SHARDS: u64 = 64;
const SHARD_MASK: u64 = SHARDS - 1;
const _: () = assert!(SHARDS.is_power_of_two() && SHARDS <= 1 << 32, "shard and place use different bits of a key");

/// Places in a shard's first level.
const SLOTS_FIRST: u32 = 64;

/// Most levels of a shard, which holds 50 million rows then.
const LEVELS_MAX: usize = 20;
const _: () = assert!(SLOTS_FIRST.is_power_of_two() && SLOTS_FIRST.ilog2() as usize + LEVELS_MAX <= 32, "index fits");
