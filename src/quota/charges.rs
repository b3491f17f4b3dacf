//! What a decision took: a guard while it is undecided, plain data once it stands.

use std::fmt;

use smallvec::SmallVec;

use super::cell::NO_WINDOW;
use super::lanes::Lane;
use super::row::{Charged, Key};
use super::table::Table;
use super::{CHARGES_MAX, RowKey};
use crate::types::{Fen, Unit, Window};

/// What a decision took. Dropped, it is given back.
#[must_use = "dropped, what was taken is given back"]
#[derive(Debug)]
pub struct Reserved<'a> {
    table: &'a Table,
    lane: Lane,
    charges: Charges,
    lacking: SmallVec<[usize; 2]>,
}

impl<'a> Reserved<'a> {
    pub(super) const fn new(table: &'a Table, lane: Lane, charges: Charges, lacking: SmallVec<[usize; 2]>) -> Self {
        Self { table, lane, charges, lacking }
    }

    /// Returns what was charged.
    pub const fn charges(&self) -> &Charges {
        &self.charges
    }

    /// Returns the positions of the shadow demands that there was no room for, in ascending order.
    pub fn lacking(&self) -> &[usize] {
        &self.lacking
    }

    /// Lets the charges stand; from here on only [`Table::give_back`] undoes them.
    pub fn keep(mut self) -> Charges {
        std::mem::take(&mut self.charges)
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        self.table.give_back(self.lane, &self.charges);
    }
}

/// What was charged where, in at most [`CHARGES_MAX`] cells.
///
/// Whoever holds it gives it back at most once: clones are for records, not for a second give-back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Charged to every cell that counts money, in fen.
    amount_fen: u64,
    /// In place while they are few, as they usually are: a stored order pays for what it uses.
    rows: SmallVec<[RowCharge; ROWS_INLINE]>,
}

impl Charges {
    /// Makes an empty set that charges of one amount are added to.
    pub(super) fn of(amount_fen: u64) -> Self {
        Self { amount_fen, rows: SmallVec::new() }
    }

    /// Adds what was charged to a row. The number of cells was checked before the first of them was taken.
    pub(super) fn push(&mut self, row: RowCharge) {
        debug_assert!(self.rows.len() < CHARGES_MAX, "more cells charged than the demands were checked for");
        self.rows.push(row);
    }

    /// Returns how many rows were charged.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Takes out what was charged after the first `count` rows.
    pub(super) fn split_off(&mut self, count: usize) -> Self {
        let rows = self.rows.drain(count.min(self.rows.len())..).collect();
        Self { amount_fen: self.amount_fen, rows }
    }

    /// Visits the rows charged, in the order of the demands, with what was charged to each of its cells.
    pub(super) fn rows(&self) -> impl Iterator<Item = (&RowCharge, u64)> {
        self.rows.iter().map(|row| (row, self.of_unit(row.unit())))
    }

    /// Returns the amount of the decision, in fen; zero where nothing was charged.
    pub fn amount(&self) -> u64 {
        if self.is_empty() { 0 } else { self.amount_fen }
    }

    /// Returns what one of the charges took: the amount in fen, or one where its cell counts payments.
    pub fn taken(&self, charge: Charge) -> u64 {
        self.of_unit(charge.unit)
    }

    /// Tells whether no cell was charged.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Visits the charges in the order of the demands and of their windows.
    pub fn iter(&self) -> impl Iterator<Item = Charge> {
        self.rows.iter().flat_map(|row| row.cells())
    }

    /// Takes out the charges whose tag is picked.
    #[must_use = "what is taken out is still charged; it is to be given back"]
    pub fn split(&mut self, free: impl Fn(u16) -> bool) -> Self {
        let (freed, rows) = self.rows.drain(..).partition(|row| free(row.tag()));
        self.rows = rows;
        Self { amount_fen: self.amount_fen, rows: freed }
    }

    /// Makes the give-back of a part of the decision, of the charges whose tag is picked: `fen` of each that counts
    /// money, at most what was taken, and one of each that counts payments where `count`.
    #[must_use = "it is to be given back"]
    pub fn portion(&self, fen: u64, count: bool, pick: impl Fn(u16) -> bool) -> Self {
        let amount_fen = fen.min(self.amount_fen);
        let part = |row: &&RowCharge| match row.unit() {
            Unit::Fen => amount_fen != 0,
            Unit::Count => count,
        };
        Self { amount_fen, rows: self.rows.iter().filter(|row| pick(row.tag())).filter(part).copied().collect() }
    }

    /// Visits what was charged to the rows of a key: window, window id and amount.
    pub fn in_row(&self, row: RowKey) -> impl Iterator<Item = (Window, u16, u64)> {
        let row = row.stored();
        let here = self.in_rows().filter(move |(key, ..)| *key == row);
        here.map(|(_, window, window_id, amount)| (window, window_id, amount))
    }

    /// Visits what was charged: the row by its [`RowKey::stored`], window, window id and amount.
    pub fn in_rows(&self) -> impl Iterator<Item = (RowKey, Window, u16, u64)> {
        self.rows().flat_map(|(row, amount)| {
            let key = row.key().row_key();
            row.cells().map(move |charge| (key, charge.window, charge.window_id, amount))
        })
    }

    const fn of_unit(&self, unit: Unit) -> u64 {
        match unit {
            Unit::Fen => self.amount_fen,
            Unit::Count => Fen::ONE.get(),
        }
    }
}

/// What was charged to one row.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct RowCharge {
    /// The key's first word.
    low: u64,
    /// The key's second word, and the tag.
    head: u64,
    /// Where the row lies in its shard, in 24 bits; above them, whether it counts payments.
    place: u32,
    windows: Charged,
}

impl RowCharge {
    /// Remembers what was charged to the row of a key at a place.
    pub(super) fn new(key: Key, place: u32, windows: Charged, unit: Unit, tag: u16) -> Self {
        debug_assert!(place <= PLACE_MASK, "a place has 24 bits");
        let (low, head) = key.with_tag(tag);
        let count = match unit {
            Unit::Fen => 0,
            Unit::Count => COUNT_BIT,
        };
        Self { low, head, place: place & PLACE_MASK | count, windows }
    }

    /// Returns the key of the row.
    pub(super) const fn key(&self) -> Key {
        Key::and_tag(self.low, self.head).0
    }

    /// Returns where the row lay when it was charged.
    pub(super) const fn place(&self) -> u32 {
        self.place & PLACE_MASK
    }

    /// Returns the windows in which the two cells were charged, [`NO_WINDOW`] for one that was not.
    pub(super) const fn windows(&self) -> Charged {
        self.windows
    }

    pub(super) const fn tag(&self) -> u16 {
        Key::and_tag(self.low, self.head).1
    }

    pub(super) const fn unit(&self) -> Unit {
        if self.place & COUNT_BIT == 0 { Unit::Fen } else { Unit::Count }
    }

    fn cells(&self) -> impl Iterator<Item = Charge> + use<> {
        let (tag, unit) = (self.tag(), self.unit());
        let cells = self.key().kind().windows().into_iter().zip(self.windows);
        cells.filter(|(_, window_id)| *window_id != NO_WINDOW).map(move |(window, window_id)| Charge {
            window,
            window_id,
            tag,
            unit,
        })
    }
}

impl fmt::Debug for RowCharge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(self.cells()).finish()
    }
}

/// One cell that was charged, and the window it was charged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    window: Window,
    window_id: u16,
    tag: u16,
    unit: Unit,
}

impl Charge {
    /// Returns which of the limit's windows was charged.
    pub const fn window(self) -> Window {
        self.window
    }

    /// Returns the id of the window that was charged: the one demanded, or a newer one that the cell had reached.
    pub const fn window_id(self) -> u16 {
        self.window_id
    }

    /// Returns the tag of the demand.
    pub const fn tag(self) -> u16 {
        self.tag
    }

    /// Returns what the cell counts.
    pub const fn unit(self) -> Unit {
        self.unit
    }
}

/// How many rows are kept in place: two limits with their two rows each.
const ROWS_INLINE: usize = 4;

const PLACE_MASK: u32 = (1 << 24) - 1;
const COUNT_BIT: u32 = 1 << 24;
const _: () = assert!(super::index::ROWS_MAX <= PLACE_MASK, "every place has a number");

const _: () = assert!(size_of::<RowCharge>() == 24, "charges are kept for as long as their decision");
const _: () = assert!(size_of::<Charges>() <= ROWS_INLINE * size_of::<RowCharge>() + 24, "and cost little beside");
