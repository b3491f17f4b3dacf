//! The table: takes for a decision from many rows at once, and gives back. HOT.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use super::cell::{self, Cell};
use super::charges::{Charge, Charges, Place, Reserved};
use super::rows::{KeyWords, Row, RowSet};
use super::{Bounds, CELLS_PER_ROW_MAX, CHARGES_MAX, Demand, RowKey, Shortfall};
use crate::share::Share;
use crate::types::{Fen, LimitMode};

/// Every row, shared by all workers.
pub struct Table {
    bounds: Bounds,
    /// Rows by their number of cells, one cell first.
    sets: [RowSet; CELLS_PER_ROW_MAX],
    rows: CachePadded<AtomicU64>,
    /// Counted by stripe of keys, so that workers on different rows do not meet here.
    flows: [CachePadded<Flow>; FLOWS],
}

/// What went into cells and out of them, money in fen and payments as one each, modulo 2^64.
#[derive(Default)]
struct Flow {
    taken_fen: AtomicU64,
    given_back_fen: AtomicU64,
}

impl Table {
    /// Makes an empty table.
    pub fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            sets: std::array::from_fn(|index| RowSet::new(index.saturating_add(1))),
            rows: CachePadded::default(),
            flows: Default::default(),
        }
    }

    /// Takes `amount` from every cell demanded, one from those that count payments; or nothing from any. A shadow
    /// demand that there is no room for is left out, see [`Reserved::lacking`]. Rows that do not exist yet are charged to `owner`.
    ///
    /// # Errors
    /// The first [`Shortfall`] of an enforced demand, in their order; what was taken by then is given back.
    pub fn reserve(self: &Arc<Self>, demands: &[Demand], amount: Fen, owner: &Share) -> Result<Reserved, Shortfall> {
        if demands.iter().map(|demand| demand.cells.len()).sum::<usize>() > CHARGES_MAX {
            return Err(Shortfall::TooManyCells);
        }
        // A refusal drops it, and with it gives back what was taken until then.
        let mut reserved = Reserved::of(self, amount);
        let outcome = demands.iter().enumerate().try_for_each(|(index, demand)| {
            let before = reserved.charges.len();
            let taken = self.take_row(index, demand, amount, owner, &mut reserved.charges);
            match demand.mode {
                LimitMode::Enforce => taken,
                LimitMode::Shadow if taken.is_ok() => Ok(()),
                LimitMode::Shadow => {
                    let part = reserved.charges.split_off(before);
                    self.count(&part, |flow| &flow.taken_fen, part.sum());
                    self.give_back(&part);
                    reserved.lacking.push(index);
                    Ok(())
                }
            }
        });
        self.count(&reserved.charges, |flow| &flow.taken_fen, reserved.charges.sum());
        outcome.map(|()| reserved)
    }

    /// Gives charges back, each to the window it was charged in. One whose cell has reached a newer window is left.
    pub fn give_back(&self, charges: &Charges) {
        let given = charges.iter().map(|charge| (charge, charges.taken(charge)));
        let given = given.filter(|(charge, taken)| self.give_back_cell(*charge, *taken)).map(|(_, taken)| taken).sum();
        self.count(charges, |flow| &flow.given_back_fen, given);
    }

    /// Reads a cell: the latest window charged and what is used of it, in fen. `None` where the row does not exist.
    ///
    /// `cells` is how many cells the row has.
    pub fn usage(&self, key: RowKey, cells: usize, cell: usize) -> Option<(u16, u64)> {
        let row = self.set(cells)?.find(key.into())?;
        row.cells.get(cell).map(Cell::load).map(|cell| (cell.window_id, cell.used_fen))
    }

    /// Returns the key of the row that was charged; `None` where the charge was not made in this table.
    pub fn row_key(&self, charge: Charge) -> Option<RowKey> {
        self.charged_row(charge).map(|row| row.key())
    }

    /// Returns how many rows exist.
    pub fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    /// Returns the memory held, in bytes.
    pub fn bytes(&self) -> u64 {
        let bytes = self.sets.iter().map(RowSet::bytes).sum::<usize>().saturating_add(size_of::<Self>());
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// Returns all that was ever taken from cells, refusals' takes included, in fen and payments modulo 2^64.
    pub fn taken_fen(&self) -> u64 {
        self.flow_sum(|flow| &flow.taken_fen)
    }

    /// Returns all that was ever given back to cells, in fen and payments modulo 2^64.
    pub fn given_back_fen(&self) -> u64 {
        self.flow_sum(|flow| &flow.given_back_fen)
    }

    /// Adds up what all cells show as used, in fen and payments modulo 2^64. COLD: reads the whole table.
    ///
    /// While no worker is inside and no window has passed, it equals what was taken less what was given back.
    pub fn used_total(&self) -> u64 {
        let used = self.sets.iter().flat_map(RowSet::cell_words).map(|word| Cell::load(word).used_fen);
        used.fold(0, u64::wrapping_add)
    }

    fn take_row(
        &self,
        index: usize,
        demand: &Demand,
        amount: Fen,
        owner: &Share,
        charges: &mut Charges,
    ) -> Result<(), Shortfall> {
        // A demand without cells names no row.
        let Some(set) = self.set(demand.cells.len()) else { return Ok(()) };
        let key = KeyWords::from(demand.row);
        let amount = demand.unit.taken(amount);
        let exceeded = |cell| Shortfall::Exceeded { demand: index, cell };
        let row = match set.find(key) {
            Some(row) => row,
            None => {
                if let Some(cell) = too_large_for_unused(demand, amount) {
                    return Err(exceeded(cell));
                }
                set.find_or_add(key, || self.admit_row(owner))?
            }
        };
        #[expect(clippy::cast_possible_truncation, reason = "at most CELLS_PER_ROW_MAX")]
        let cells = row.cells.len() as u8;
        let unit = demand.unit;
        for ((word, demanded), cell) in row.cells.iter().zip(&demand.cells).zip(0_u8..) {
            let window_id = cell::take(word, *demanded, amount).ok_or(exceeded(cell.into()))?;
            let place = Place::new(cells, cell);
            charges.push(Charge { key_low: key.low, index: row.index, window_id, place, unit });
        }
        Ok(())
    }

    /// Counts a new row in, for its owner and for the table.
    fn admit_row(&self, owner: &Share) -> Result<(), Shortfall> {
        if !owner.take(self.bounds.rows_per_merchant_max) {
            return Err(Shortfall::ShareFull);
        }
        // Relaxed: the counter publishes nothing but itself.
        let admitted = self.rows.try_update(Ordering::Relaxed, Ordering::Relaxed, |rows| {
            (rows < self.bounds.rows_max).then(|| rows.saturating_add(1))
        });
        admitted.map(|_| ()).map_err(|_| {
            owner.give();
            Shortfall::TableFull
        })
    }

    fn give_back_cell(&self, charge: Charge, amount_fen: u64) -> bool {
        self.charged_row(charge)
            .and_then(|row| row.cells.get(charge.cell()))
            .is_some_and(|word| cell::give_back(word, charge.window_id, amount_fen))
    }

    fn charged_row(&self, charge: Charge) -> Option<Row<'_>> {
        self.set(charge.place.cells())?.at(charge.key_low, charge.index)
    }

    fn set(&self, cells: usize) -> Option<&RowSet> {
        self.sets.get(cells.checked_sub(1)?)
    }

    /// Counts what went into the cells of `charges`, or out of them.
    fn count(&self, charges: &Charges, side: impl Fn(&Flow) -> &AtomicU64, sum: u64) {
        let first = charges.iter().next();
        let flow = first.and_then(|charge| self.flows.get((charge.key_low & FLOW_MASK) as usize));
        // Relaxed: the counter publishes nothing but itself.
        if let Some(flow) = flow {
            side(flow).fetch_add(sum, Ordering::Relaxed);
        }
    }

    fn flow_sum(&self, side: impl Fn(&Flow) -> &AtomicU64) -> u64 {
        self.flows.iter().map(|flow| side(flow).load(Ordering::Relaxed)).fold(0, u64::wrapping_add)
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

/// Returns the first cell whose ceiling is below the amount: there is no use in creating a row only to refuse it.
fn too_large_for_unused(demand: &Demand, amount: Fen) -> Option<usize> {
    demand.cells.iter().position(|cell| cell::remaining_fen(cell.ceiling_fen, 0) < amount.get())
}

/// Stripes of the two counters.
const FLOWS: usize = 16;
const FLOW_MASK: u64 = FLOWS as u64 - 1;
const _: () = assert!(FLOWS.is_power_of_two(), "the lowest bits of a key choose a stripe");
