//! What a decision took: a guard while it is undecided, plain data once it stands.

use std::sync::Arc;

use smallvec::SmallVec;

use super::rows::RowIndex;
use super::table::Table;
use super::{CELLS_PER_ROW_MAX, CHARGES_MAX};
use crate::types::{Fen, Unit};

/// What a decision took. Dropped, it is given back.
#[must_use = "dropped, what was taken is given back"]
#[derive(Debug)]
pub struct Reserved {
    table: Arc<Table>,
    pub(super) charges: Charges,
    pub(super) lacking: SmallVec<[usize; 2]>,
}

impl Reserved {
    /// Makes the reservation of a decision that no limit applies to.
    pub fn nothing(table: &Arc<Table>) -> Self {
        Self { table: Arc::clone(table), charges: Charges::default(), lacking: SmallVec::new() }
    }

    /// Makes an empty reservation that charges of one amount are added to.
    pub(super) fn of(table: &Arc<Table>, amount: Fen) -> Self {
        let charges = Charges { amount_fen: amount.get(), cells: SmallVec::new() };
        Self { table: Arc::clone(table), charges, lacking: SmallVec::new() }
    }

    /// Returns what was charged.
    pub fn charges(&self) -> &Charges {
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

impl Drop for Reserved {
    fn drop(&mut self) {
        self.table.give_back(&self.charges);
    }
}

/// What was charged where, in at most [`CHARGES_MAX`] cells.
///
/// Whoever holds it gives it back at most once: clones are for records, not for a second give-back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Charges {
    /// Charged to every cell that counts money, in fen; zero where nothing was.
    amount_fen: u64,
    /// In place while they are few, as they usually are: a stored order pays for what it uses.
    cells: SmallVec<[Charge; CHARGES_INLINE]>,
}

impl Charges {
    /// Adds a charge. The number of cells was checked before the first of them was taken.
    pub(super) fn push(&mut self, charge: Charge) {
        debug_assert!(self.cells.len() < CHARGES_MAX, "more cells charged than the demands were checked for");
        self.cells.push(charge);
    }

    /// Returns how many cells were charged.
    pub(super) fn len(&self) -> usize {
        self.cells.len()
    }

    /// Takes out what was charged after the first `count` cells.
    pub(super) fn split_off(&mut self, count: usize) -> Self {
        let cells = self.cells.drain(count.min(self.cells.len())..).collect();
        Self { amount_fen: self.amount_fen, cells }
    }

    /// Returns the amount of the decision, in fen; zero where nothing was charged.
    pub fn amount(&self) -> u64 {
        if self.is_empty() { 0 } else { self.amount_fen }
    }

    /// Returns what one of the charges took: the amount in fen, or one where its cell counts payments.
    pub fn taken(&self, charge: Charge) -> u64 {
        match charge.unit {
            Unit::Fen => self.amount_fen,
            Unit::Count => Fen::ONE.get(),
        }
    }

    /// Adds up what all charges took.
    pub(super) fn sum(&self) -> u64 {
        // At most 2^6 cells of less than 2^48.
        self.iter().map(|charge| self.taken(charge)).sum()
    }

    /// Tells whether no cell was charged.
    pub fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// Visits the charges in the order of the demands and of their cells.
    pub fn iter(&self) -> impl Iterator<Item = Charge> {
        self.cells.iter().copied()
    }
}

/// One cell that was charged, and the window it was charged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Low word of the row's key: leads to the shard, and tells whether the place still belongs to the row.
    pub(super) key_low: u64,
    /// Place of the row in its shard.
    pub(super) index: RowIndex,
    /// The window charged, which may be newer than the one demanded.
    pub(super) window_id: u16,
    /// Which of the row's cells was charged.
    pub(super) place: Place,
    /// What the cell counts.
    pub(super) unit: Unit,
}

/// A cell of a row, in one byte: how many cells the row has, and which of them is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(u8);

impl Place {
    /// Makes the place of one of at most [`CELLS_PER_ROW_MAX`] cells.
    pub(super) fn new(cells: u8, cell: u8) -> Self {
        Self(cells << CELL_BITS | cell)
    }

    /// Returns how many cells the row has.
    pub(super) fn cells(self) -> usize {
        usize::from(self.0 >> CELL_BITS)
    }

    fn cell(self) -> usize {
        usize::from(self.0 & CELL_MASK)
    }
}

impl Charge {
    /// Returns the window that was charged: the one demanded, or a newer one that the cell had reached.
    pub fn window_id(self) -> u16 {
        self.window_id
    }

    /// Returns which cell of its row was charged.
    pub fn cell(self) -> usize {
        self.place.cell()
    }
}

/// How many charges are kept in place: two limits with their four windows each.
const CHARGES_INLINE: usize = 8;

const CELL_BITS: u32 = 4;
const CELL_MASK: u8 = (1 << CELL_BITS) - 1;
const _: () = assert!(CELLS_PER_ROW_MAX <= CELL_MASK as usize, "a place has four bits for each number");

const CHARGE_BYTES_MAX: usize = 16;
const _: () = assert!(size_of::<Charge>() <= CHARGE_BYTES_MAX, "charges are kept for as long as their decision");
const _: () = assert!(size_of::<Charges>() <= CHARGES_INLINE * CHARGE_BYTES_MAX + 24, "and cost little beside");
