//! The row: four words, two that say whose it is and two cells. HOT.
//!
//! `low : 64` and `head : 47 key | 1 kind | 16 set of slices`. Words may be read by a worker that came with a place out of a
//! charge while the place is given to another row. It reads a cell first and the key after it: the cell of a new life is
//! written after its key, so whoever sees the cell sees the key too, and a cell of the life before is frozen since.

use super::cell::{self, Cell, Changed, Refused, Took};
use super::lanes::Flow;
use super::slices::{Hand, Sets};
use super::windows::Kind;
use super::{CellDemand, RowKey};
use crate::kernel::Line;
use crate::sync::{AtomicU64, Ordering};

/// A row's key and kind, as its first two words say them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    low: u64,
    /// Without the 16 bits that are not the key's.
    head: u64,
}

impl Key {
    /// Names one of the two rows of a limit and subject.
    pub(super) const fn new(RowKey(key): RowKey, kind: Kind) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
        let low = key as u64;
        let high = (key >> u64::BITS) as u64;
        let kind = match kind {
            Kind::Short => 0,
            Kind::Long => LONG_BIT,
        };
        Self { low, head: high & !DROPPED_MASK | kind }
    }

    /// Returns which of the two rows it names.
    pub(super) const fn kind(self) -> Kind {
        if self.head & LONG_BIT == 0 { Kind::Short } else { Kind::Long }
    }

    /// Returns the key of the limit and subject, see [`RowKey::stored`].
    pub(super) const fn row_key(self) -> RowKey {
        RowKey(((self.head & !LONG_BIT) as u128) << u64::BITS | self.low as u128)
    }

    /// Returns the key and the kind in one number.
    pub(super) const fn packed(self) -> u128 {
        (self.head as u128) << u64::BITS | self.low as u128
    }

    /// Takes apart what [`Key::packed`] put together.
    pub(super) const fn unpacked(packed: u128) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the low half is what is wanted")]
        let low = packed as u64;
        Self { low, head: (packed >> u64::BITS) as u64 & !TAG_MASK }
    }

    /// Returns the bits that say where the row is looked for; the lowest choose the shard.
    ///
    /// The rows of one limit and subject are in one shard, and apart in it.
    pub(super) const fn spread(self) -> u64 {
        match self.kind() {
            Kind::Short => self.low,
            Kind::Long => self.low ^ !(SHARDS as u64 - 1),
        }
    }

    /// Returns the number of its shard.
    #[expect(clippy::cast_possible_truncation, reason = "there are few shards")]
    pub(super) const fn shard(self) -> usize {
        (self.low & (SHARDS as u64 - 1)) as usize
    }

    /// Returns the first word, and the second with something in the 16 bits that are not the key's.
    pub(super) const fn with_tag(self, tag: u16) -> (u64, u64) {
        (self.low, self.head | tag as u64)
    }

    /// Takes apart what [`Key::with_tag`] put together.
    pub(super) const fn and_tag(low: u64, head: u64) -> (Self, u16) {
        #[expect(clippy::cast_possible_truncation, reason = "the low bits are what is wanted")]
        let tag = head as u16;
        (Self { low, head: head & !TAG_MASK }, tag)
    }
}

/// The windows in which two cells were charged; [`cell::NO_WINDOW`] for one that was not.
pub(super) type Charged = [u16; 2];

/// A row where it lies.
#[derive(Clone, Copy)]
pub(super) struct Row<'a>(pub(super) &'a Line);

impl<'a> Row<'a> {
    /// Reads whose the row is.
    pub(super) fn key(self) -> Key {
        let Line([low, head, ..]) = self.0;
        // Relaxed: who may be mistaken has read a cell or the index with Acquire before.
        Key::and_tag(low.load(Ordering::Relaxed), head.load(Ordering::Relaxed)).0
    }

    /// Tells whether the row is that of a key.
    pub(super) fn is(self, key: Key) -> bool {
        self.key() == key
    }

    /// Returns the two cells.
    pub(super) fn cells(self) -> [&'a AtomicU64; 2] {
        let Line([.., first, second]) = self.0;
        [first, second]
    }

    /// Reads the two cells; `None` where one is frozen.
    pub(super) fn read(self) -> Option<[Cell; 2]> {
        let [first, second] = self.cells().map(Cell::load);
        Some([first?, second?])
    }

    /// Reads what is used of the two windows; `None` where a cell is frozen. What is handed out and not spent is not used.
    pub(super) fn used(self, sets: &Sets) -> Option<[Cell; 2]> {
        let [mut first, mut second] = self.read()?;
        if let Some(set) = self.set().and_then(|number| sets.get(number)) {
            for (which, cell) in [&mut first, &mut second].into_iter().enumerate() {
                // Saturating: room may have been handed out between the readings.
                cell.used = cell.used.saturating_sub(set.room(which, Some(cell.window_id)));
            }
        }
        Some([first, second])
    }

    /// Returns the number of the row's set of slices.
    pub(super) fn set(self) -> Option<u16> {
        let Line([_, head, ..]) = self.0;
        // Acquire: partner of the Release in `give_set`; what is published are the words of the set.
        let (_, number) = Key::and_tag(0, head.load(Ordering::Acquire));
        (number != 0).then_some(number)
    }

    /// Gives the row a set of slices, or takes it away with zero. The shard's lock is held, and the row is the key's.
    pub(super) fn give_set(self, key: Key, number: u16) {
        let Line([_, head, ..]) = self.0;
        head.store(key.with_tag(number).1, Ordering::Release);
    }

    /// Gives the place to a key. Its shard's lock is held, nobody can look it up, and its cells are frozen or were never used.
    pub(super) fn begin(self, key: Key, windows: [u16; 2]) {
        let Line([low, head, first, second]) = self.0;
        low.store(key.low, Ordering::Relaxed);
        head.store(key.head, Ordering::Relaxed);
        // Release: partner of the Acquire in every read of a cell; what is published is the key.
        for (word, window_id) in [first, second].into_iter().zip(windows) {
            word.store(Cell { window_id, used: 0 }.pack(), Ordering::Release);
        }
    }

    /// Takes an amount from all cells demanded, or nothing.
    ///
    /// # Errors
    /// Which cell refused, and why.
    #[inline]
    pub(super) fn take(
        self,
        demanded: [Option<&CellDemand>; 2],
        amount: u64,
        flow: &Flow,
        hand: Option<&Hand<'_>>,
    ) -> Result<Taken, (usize, Refused)> {
        let ([first, second], [one, two]) = (self.cells(), demanded);
        let (one_amount, two_amount) = (one.map_or(0, |_| amount), two.map_or(0, |_| amount));
        flow.take(one_amount.wrapping_add(two_amount));
        let one = take(0, first, one, amount, flow, hand).map_err(|refused| {
            flow.give_back(one_amount.wrapping_add(two_amount));
            (0, refused)
        })?;
        let two = take(1, second, two, amount, flow, hand).map_err(|refused| {
            // The place is this row's for as long as the lane is not left.
            let back = cell::give_back(first, one.window_id, one_amount, || true);
            flow.pass(one.passed);
            flow.give_back(two_amount.wrapping_add(back.amount()));
            (1, refused)
        })?;
        flow.pass(one.passed.wrapping_add(two.passed));
        Ok(Taken { windows: [one.window_id, two.window_id], contended: one.contended || two.contended })
    }

    /// Freezes the row where both cells are over; returns what they said until then. Its shard's lock is held.
    pub(super) fn freeze(self, over: impl Fn(usize, Cell) -> bool) -> Option<[Cell; 2]> {
        let [first, second] = self.cells();
        let one = cell::freeze(first, |cell| over(0, cell))?;
        let Some(two) = cell::freeze(second, |cell| over(1, cell)) else {
            // Nobody changes a frozen cell but whoever holds the lock.
            first.store(one.pack(), Ordering::Release);
            return None;
        };
        Some([one, two])
    }
}

/// Takes from a cell, or from what a worker holds of it.
#[inline]
fn take(
    which: usize,
    word: &AtomicU64,
    demanded: Option<&CellDemand>,
    amount: u64,
    flow: &Flow,
    hand: Option<&Hand<'_>>,
) -> Result<Took, Refused> {
    match (demanded, hand) {
        (None, _) => Ok(Took::NOTHING),
        (Some(demand), None) => cell::take(word, *demand, amount),
        (Some(demand), Some(hand)) => hand.take(which, word, *demand, amount, flow),
    }
}

/// What was taken from a row.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) windows: Charged,
    /// Whether others changed a cell meanwhile.
    pub(super) contended: bool,
}

impl Took {
    /// What a take from a cell that is not demanded does.
    const NOTHING: Self = Self { window_id: cell::NO_WINDOW, passed: 0, contended: false };
}

impl Changed {
    /// Returns by how much the cell changed.
    pub(super) const fn amount(self) -> u64 {
        match self {
            Self::By(amount) => amount,
            Self::Passed | Self::Elsewhere => 0,
        }
    }
}

/// Shards of a table; a model has one. The lowest bits of a key choose.
pub(super) const SHARDS: usize = if cfg!(feature = "loom") { 1 } else { 64 };
const _: () = assert!(SHARDS.is_power_of_two(), "the lowest bits of a key are the number of a shard");

/// Low bits of a key's high word that no row keeps.
pub(super) const DROPPED_BITS: u32 = 17;
const DROPPED_MASK: u64 = (1 << DROPPED_BITS) - 1;
const LONG_BIT: u64 = 1 << 16;
const TAG_MASK: u64 = LONG_BIT - 1;
const _: () = assert!(LONG_BIT | TAG_MASK == DROPPED_MASK, "kind and set stand where the key has no bits");
