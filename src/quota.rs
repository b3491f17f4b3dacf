//! Limits in force: what is used of every limit, taken and given back by many workers at once. HOT.
//!
//! A row is a limit applied to one subject and holds that limit's windows side by side, one cell each.
//! Ceilings do not live here: they come with each demand, so a changed limit acts on the next decision.
//!
//! Promises, each leaning towards refusing:
//! * No take passes the ceiling it came with, whatever the other workers do.
//! * A decision takes all it demands or nothing; a row of a shadow limit, whole or not at all, it may lack. Two that race
//!   for the last room may both be refused.
//! * A window that has passed is never charged or opened again, not even by a clock that steps back.
//! * The number of rows is bounded, in all and per merchant.

mod cell;
mod charges;
mod rows;
mod table;

use arrayvec::ArrayVec;

use crate::types::{LimitMode, Unit};

pub use charges::{Charge, Charges, Reserved};
pub use table::Table;

/// How many rows may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rows in all.
    pub rows_max: u64,
    /// Rows that one merchant's decisions may create.
    pub rows_per_merchant_max: u32,
}

/// Names a row: a keyed pseudo-random value of (limit id, subject), made by the caller.
///
/// Where a row lies in memory follows from its key, so a key that others could choose would let them crowd a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowKey(pub u128);

/// Asks one row for room in each of its windows.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The row to charge.
    pub row: RowKey,
    /// What it counts: the amount of the decision, or the decision as one.
    pub unit: Unit,
    /// Whether a decision for which the row has no room is refused, or goes on without it.
    pub mode: LimitMode,
    /// Its windows, in the order the limit configures them. How many there are is part of the row's identity.
    pub cells: ArrayVec<CellDemand, CELLS_PER_ROW_MAX>,
}

/// Asks one cell for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellDemand {
    /// The window that the decision falls in; a later window has the larger id.
    pub window_id: u16,
    /// The most that may be used of the window, in the unit of the demand. Above 2^48 - 1 it means 2^48 - 1.
    pub ceiling_fen: u64,
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortfall {
    /// The amount does not fit under a ceiling.
    #[error("the amount does not fit under the ceiling of cell {cell} of demand {demand}")]
    Exceeded {
        /// Position of the demand.
        demand: usize,
        /// Position of the cell inside the demand.
        cell: usize,
    },
    /// The merchant holds as many rows as it may.
    #[error("the merchant's share of rows is used up")]
    ShareFull,
    /// No further row may be created for anyone.
    #[error("the table of rows is full")]
    TableFull,
    /// The demands name more than [`CHARGES_MAX`] cells.
    #[error("more than {CHARGES_MAX} cells are demanded at once")]
    TooManyCells,
}

/// Most windows of one limit.
pub const CELLS_PER_ROW_MAX: usize = 4;

/// Most cells that one decision may charge.
pub const CHARGES_MAX: usize = 64;

const _: () = assert!(CELLS_PER_ROW_MAX <= CHARGES_MAX, "a decision can charge at least one whole row");
const _: () = assert!(CHARGES_MAX <= u8::MAX as usize, "positions fit the bytes of a charge");

#[cfg(test)]
mod tests;
