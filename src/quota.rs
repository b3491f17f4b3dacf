//! Limits in force: what is used of every limit, taken and given back by many workers at once. HOT.
//!
//! A limit applied to one subject has up to two rows of two cells each: day and month in the short row, year and
//! lifetime in the long one. A row fills half a cache line and never moves while it lives. Ceilings do not live here:
//! they come with each demand, so a changed limit acts on the next decision.
//!
//! Promises, each leaning towards refusing:
//! * No take passes the ceiling it came with, whatever the other workers do.
//! * A decision takes all it demands or nothing; a shadow limit, whole or not at all, it may lack. Two that race for the
//!   last room may both be refused.
//! * A window that has passed is never charged or opened again, not even by a clock that steps back, nor where the row
//!   was reclaimed in between.
//! * What was taken from one row is never charged to another, though memory of rows that are over is used again.
//! * The number of rows is bounded, in all and per merchant; what is held per row is at most 48 bytes.
//! * What is used is what was taken, less what was given back and what has passed; both sides are counted apart.

mod cell;
mod charges;
mod conservation;
mod hot;
mod index;
mod lanes;
mod late;
mod limbo;
mod owners;
mod reclaim;
mod restore;
mod row;
mod shard;
mod shelf;
mod slices;
mod table;
mod take;
mod windows;

use crate::types::{LimitMode, Unit, Window};

pub use charges::{Charge, Charges, Reserved};
pub use conservation::Conservation;
pub use lanes::Lane;
pub use late::LateCharge;
pub use reclaim::RECLAIMS_PER_PASS;
pub use restore::{NO_WINDOW, Part, RestoredRow, is_past};
pub use shelf::NO_LABEL;
pub use table::Table;

/// How many rows may exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Rows in all. Above 64 * (2^24 - 2) it means that many.
    pub rows_max: u64,
    /// Rows that one merchant's decisions may create.
    pub rows_per_merchant_max: u32,
}

/// Names the rows of a limit and subject: a keyed pseudo-random value of (limit id, subject), made by the caller.
///
/// Where a row lies in memory follows from its key, so a key that others could choose would let them crowd a place.
/// Of its 128 bits 111 tell rows apart: all but the bits 64 to 80.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowKey(pub u128);

impl RowKey {
    /// Returns the key as the table keeps it and shows it in [`RowView`]: the bits 64 to 80 are zero.
    #[must_use]
    pub const fn stored(self) -> Self {
        Self(self.0 & !(((1 << row::DROPPED_BITS) - 1) << u64::BITS))
    }
}

/// Asks the rows of a limit and subject for room in each of their windows.
#[derive(Clone, Debug)]
pub struct Demand {
    /// The rows to charge.
    pub row: RowKey,
    /// What is remembered beside a row that is added, to tell the limit by.
    pub label: u32,
    /// What it counts: the amount of the decision, or the decision as one.
    pub unit: Unit,
    /// Whether a decision for which there is no room is refused, or goes on without it.
    pub mode: LimitMode,
    /// What is remembered with the charge, for whoever gives back a part of a decision.
    pub tag: u16,
    /// What is asked of each window, in the order of [`Window::ALL`]: day, month, year, lifetime.
    pub cells: [Option<CellDemand>; CELLS_PER_LIMIT_MAX],
}

/// Asks one cell for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellDemand {
    /// The window that the decision falls in; a later window has the larger id. At most 65,534; zero for the lifetime.
    pub window_id: u16,
    /// The most that may be used of the window, in the unit of the demand. Above 2^48 - 1 it means 2^48 - 1.
    pub ceiling: u64,
}

/// What is used of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CellUsage {
    /// The latest window charged.
    pub window_id: u16,
    /// What is used of it, in the unit of the limit.
    pub used: u64,
}

/// One row, as an export shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowView {
    /// The key, as [`RowKey::stored`].
    pub row: RowKey,
    /// What came with the demand that added the row.
    pub label: u32,
    /// What is used, in the order of [`Window::ALL`]; `None` for the windows of the other row, and where nothing was
    /// ever charged.
    pub cells: [Option<CellUsage>; CELLS_PER_LIMIT_MAX],
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Shortfall {
    /// The amount does not fit under a ceiling.
    #[error("the amount does not fit under the ceiling of the {window} of demand {demand}")]
    Exceeded {
        /// Position of the demand.
        demand: usize,
        /// The window that has no room.
        window: Window,
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
pub const CELLS_PER_LIMIT_MAX: usize = 4;
const _: () = assert!(Window::ALL.len() == CELLS_PER_LIMIT_MAX, "a limit has a cell for every window");

/// Most cells that one decision may charge.
pub const CHARGES_MAX: usize = 64;
const _: () = assert!(CELLS_PER_LIMIT_MAX <= CHARGES_MAX, "a decision can charge at least one whole limit");

#[cfg(all(test, feature = "loom"))]
mod models;
#[cfg(test)]
mod tests;
