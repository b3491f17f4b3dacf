//! Rows and charges as records keep them: taken apart, and put together again after a restart. COLD but for [`Charges::parts`].

use std::sync::Arc;

use super::cell::{self, Cell};
use super::charges::{Charges, RowCharge};
use super::lanes::Lane;
use super::row::Key;
use super::table::Table;
use super::windows::{self, Boundary, Kind};
use super::{Demand, Shortfall};
use crate::share::Share;
use crate::time::UnixMillis;
use crate::types::Unit;

/// One row of what a decision charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The row: its key as [`RowKey::stored`](super::RowKey::stored), and the bit that tells the two rows of a limit and
    /// subject apart.
    pub row: u128,
    /// The tag of the demand.
    pub tag: u16,
    /// What the row counts.
    pub unit: Unit,
    /// The windows in which its two cells were charged, [`NO_WINDOW`] for one that was not.
    pub windows: [u16; 2],
}

/// A row as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoredRow {
    /// As [`Part::row`].
    pub row: u128,
    /// The label of the demand that added it.
    pub label: u32,
    /// Latest window and use of the two cells.
    pub cells: [(u16, u64); 2],
}

impl Charges {
    /// Takes the charges apart, in the order of the demands.
    pub fn parts(&self) -> impl Iterator<Item = Part> {
        self.rows().map(|(row, _)| Part {
            row: row.key().packed(),
            tag: row.tag(),
            unit: row.unit(),
            windows: row.windows(),
        })
    }

    /// Puts charges of one amount together.
    pub fn of_parts(amount_fen: u64, parts: impl IntoIterator<Item = Part>) -> Self {
        let mut charges = Self::of(amount_fen);
        for Part { row, tag, unit, windows } in parts {
            // Where the row lies is found by its key: no charge of an earlier life knows.
            charges.push(RowCharge::new(Key::unpacked(row), 0, windows, unit, tag));
        }
        charges
    }
}

impl Demand {
    /// Tells whether a part was charged for this demand.
    pub fn is_for(&self, part: &Part) -> bool {
        Kind::ALL.iter().any(|kind| Key::new(self.row, *kind).packed() == part.row)
    }
}

impl Table {
    /// Puts a row back that the table does not have. For a table that nobody decides on yet.
    ///
    /// It counts in the share of `owner`, and where that is used up in nobody's: what is in force is not forgotten.
    ///
    /// # Errors
    /// [`Shortfall::TableFull`] where no further row may exist.
    pub fn restore(&self, restored: &RestoredRow, owner: &Arc<Share>) -> Result<(), Shortfall> {
        let key = Key::unpacked(restored.row);
        let mut shard = self.shard_of(key).ok_or(Shortfall::TableFull)?.lock();
        let found = match shard.find(key) {
            Some(found) => Some(found),
            None => shard.add(key, restored.label, || self.admit_row(owner).or_else(|_| self.admit_row(&self.late)))?,
        };
        let (_, row) = found.ok_or(Shortfall::TableFull)?;
        let inside = self.lanes.enter(Lane::COLD);
        let flow = inside.flow(key.shard());
        for (word, (window_id, used)) in row.cells().into_iter().zip(restored.cells) {
            let used = used.min(cell::USED_MAX);
            flow.take(used);
            let (changed, passed) = cell::add(word, window_id, used, || true);
            flow.pass(passed);
            flow.give_back(used.saturating_sub(changed.amount()));
        }
        Ok(())
    }
}

/// Tells whether a row holds nothing any more that matters as of `now`, whatever calendar its windows are of.
pub fn is_past(row: u128, cells: [(u16, u64); 2], now: UnixMillis) -> bool {
    let kind = Key::unpacked(row).kind();
    let open = Boundary::at(now).of(kind);
    kind.windows().into_iter().zip(cells).zip(open).all(|((window, (window_id, used)), open)| {
        // A cell that was never charged is in no window at all.
        (window_id, used) == (0, 0) || windows::is_over(Cell { window_id, used }, window, open)
    })
}

/// The window id of a cell that was not charged.
pub const NO_WINDOW: u16 = cell::NO_WINDOW;
