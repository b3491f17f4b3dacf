//! The table of this project.

use std::hint::black_box;
use std::sync::Arc;

use tollgate::quota::{Bounds, Lane, Table};
use tollgate::share::Share;
use tollgate::types::Fen;

use super::demands::{AMOUNT_FEN, CELLS, Demands};
use crate::ratios::RatioError;

/// The table.
pub(super) struct Rows {
    table: Table,
    lane: Lane,
    share: Arc<Share>,
}

impl Rows {
    /// Makes an empty table with room for so many rows.
    pub(super) fn new(rows_max: u64) -> Self {
        let table = Table::new(Bounds { rows_max, rows_per_merchant_max: u32::MAX });
        Self { lane: table.lane(), table, share: Arc::default() }
    }

    /// Returns the lane of the first worker.
    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// Makes a lane for another worker.
    pub(super) fn another_lane(&self) -> Lane {
        self.table.lane()
    }

    /// Decides a batch; tells whether all cells had room.
    pub(super) fn decide(&self, lane: Lane, batch: &[Demands]) -> bool {
        batch.iter().flatten().for_each(|demand| self.table.fetch_index(demand));
        batch.iter().flatten().for_each(|demand| self.table.fetch_rows(demand));
        batch.iter().all(|demands| {
            let reserved = self.table.reserve(lane, demands, AMOUNT, &self.share);
            reserved.map(|reserved| black_box(reserved.keep())).is_ok()
        })
    }

    /// Checks that what all cells show as used is what so many decisions take.
    pub(super) fn check_books(&self, decisions: u64) -> Result<(), RatioError> {
        let used_fen = decisions * CELLS * AMOUNT_FEN;
        RatioError::check(self.table.used_total() == used_fen, "the table shows more or less than was taken")?;
        RatioError::check(self.table.conservation().error == 0, "the table made or lost something")
    }
}

const AMOUNT: Fen = Fen::new(AMOUNT_FEN).unwrap();
