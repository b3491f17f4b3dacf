//! Taking for a decision from many rows at once. HOT.
//!
//! Rows are fetched before they are touched, those of many decisions side by side: see [`Table::fetch_index`].

use std::sync::Arc;

use smallvec::SmallVec;

use super::cell::{self, Refused};
use super::charges::{Charges, Reserved, RowCharge};
use super::lanes::{Inside, Lane};
use super::row::{Charged, Key};
use super::table::Table;
use super::windows::Kind;
use super::{CELLS_PER_LIMIT_MAX, CHARGES_MAX, CellDemand, Demand, Shortfall};
use crate::share::Share;
use crate::types::{Fen, LimitMode, Window};

impl Table {
    /// Asks the processor for the part of the index that leads to the rows of a demand; [`Table::fetch_rows`] comes next.
    ///
    /// Both are hints. Memory is waited for once in each of the two steps, for however many demands they are made: so
    /// whoever decides several requests together makes the first for all of them, then the second, and then reserves.
    #[inline]
    pub fn fetch_index(&self, demand: &Demand) {
        for kind in Kind::ALL {
            if let (true, key) = demand.row_of(kind)
                && let Some(shard) = self.shard_of(key)
            {
                shard.index.prefetch(key);
            }
        }
    }

    /// Asks the processor for the rows of a demand.
    #[inline]
    pub fn fetch_rows(&self, demand: &Demand) {
        for kind in Kind::ALL {
            if let (true, key) = demand.row_of(kind)
                && let Some(shard) = self.shard_of(key)
            {
                shard.index.prefetch_row(key);
            }
        }
    }

    /// Takes `amount` from every cell demanded, one from those that count payments; or nothing from any. A shadow demand
    /// that there is no room for is left out, see [`Reserved::lacking`]. Rows that do not exist yet are added for `owner`.
    ///
    /// # Errors
    /// The first [`Shortfall`] of an enforced demand, in their order; what was taken by then is given back.
    pub fn reserve(
        &self,
        lane: Lane,
        demands: &[Demand],
        amount: Fen,
        owner: &Arc<Share>,
    ) -> Result<Reserved<'_>, Shortfall> {
        if demands.len() > DEMANDS_SAFE && cells_of(demands) > CHARGES_MAX {
            return Err(Shortfall::TooManyCells);
        }
        let inside = self.lanes.enter(lane);
        let mut charges = Charges::of(amount.get());
        let mut lacking = SmallVec::new();
        for (index, demand) in demands.iter().enumerate() {
            let before = charges.len();
            // PERF: written out, since a loop over both would carry the kind along.
            let short = self.take_kind(&inside, (index, demand), Kind::Short, amount, owner, &mut charges);
            let taken =
                short.and_then(|()| self.take_kind(&inside, (index, demand), Kind::Long, amount, owner, &mut charges));
            let Err(shortfall) = taken else { continue };
            match demand.mode {
                LimitMode::Enforce => {
                    self.give_back_inside(&inside, &charges);
                    return Err(shortfall);
                }
                LimitMode::Shadow => {
                    self.give_back_inside(&inside, &charges.split_off(before));
                    lacking.push(index);
                }
            }
        }
        drop(inside);
        Ok(Reserved::new(self, lane, charges, lacking))
    }

    /// Takes from one of the two rows of a demand, where anything is asked of it.
    #[inline(always)]
    fn take_kind(
        &self,
        inside: &Inside<'_>,
        (index, demand): (usize, &Demand),
        kind: Kind,
        amount: Fen,
        owner: &Arc<Share>,
        charges: &mut Charges,
    ) -> Result<(), Shortfall> {
        let (asked, key) = demand.row_of(kind);
        if !asked {
            return Ok(());
        }
        self.take_row(inside, &Step { index, demand, key, cells: demand.cells_of(kind) }, amount, owner, charges)
    }

    #[inline]
    fn take_row(
        &self,
        inside: &Inside<'_>,
        step: &Step<'_>,
        amount: Fen,
        owner: &Arc<Share>,
        charges: &mut Charges,
    ) -> Result<(), Shortfall> {
        let each = step.demand.unit.taken(amount).get();
        let taken = match self.shard_of(step.key).and_then(|shard| shard.find(step.key)) {
            Some((place, row)) => {
                let hand = self.hand(inside, row);
                let taken = row.take(step.cells, each, inside.flow(step.key.shard()), hand.as_ref());
                if taken.is_ok_and(|taken| taken.contended) || self.meetings_min == 0 {
                    self.met(inside, step, row, each);
                }
                taken.map(|taken| (place, taken.windows))
            }
            None => Err((0, Refused::Frozen)),
        };
        let (place, windows) = match taken {
            Ok(taken) => taken,
            Err((cell, Refused::NoRoom)) => return Err(step.exceeded(cell)),
            // The row is not there, or was missed, or is over.
            Err((_, Refused::Frozen)) => self.take_locked(inside, step, each, owner)?,
        };
        charges.push(RowCharge::new(step.key, place, windows, step.demand.unit, step.demand.tag));
        Ok(())
    }

    /// Takes from a row that is certain to be or not to be; adds it where it is not.
    #[cold]
    fn take_locked(
        &self,
        inside: &Inside<'_>,
        step: &Step<'_>,
        each: u64,
        owner: &Arc<Share>,
    ) -> Result<(u32, Charged), Shortfall> {
        let mut shard = self.shard_of(step.key).ok_or(Shortfall::TableFull)?.lock();
        let found = match shard.find(step.key) {
            Some(found) => Some(found),
            None => {
                if let Some(shortfall) = step.too_large_for_unused(each) {
                    return Err(shortfall);
                }
                shard.add(step.key, step.demand.label, || self.admit_row(owner))?
            }
        };
        let (place, row) = found.ok_or(Shortfall::TableFull)?;
        match row.take(step.cells, each, inside.flow(step.key.shard()), self.hand(inside, row).as_ref()) {
            Ok(taken) => Ok((place, taken.windows)),
            Err((cell, Refused::NoRoom)) => Err(step.exceeded(cell)),
            // Not while the lock is held.
            Err((_, Refused::Frozen)) => Err(Shortfall::TableFull),
        }
    }
}

/// One row to be charged.
#[derive(Clone, Copy)]
pub(super) struct Step<'d> {
    /// Position of the demand.
    index: usize,
    demand: &'d Demand,
    pub(super) key: Key,
    pub(super) cells: [Option<&'d CellDemand>; 2],
}

impl Step<'_> {
    fn exceeded(&self, cell: usize) -> Shortfall {
        let [first, second] = self.key.kind().windows();
        Shortfall::Exceeded { demand: self.index, window: if cell == 0 { first } else { second } }
    }

    /// Finds the first cell of the limit, from this row on, whose ceiling is below the amount: there is no use in adding
    /// a row only to refuse it.
    fn too_large_for_unused(&self, each: u64) -> Option<Shortfall> {
        let [first, ..] = self.key.kind().windows();
        let cells = Window::ALL.iter().zip(&self.demand.cells).skip_while(|(window, _)| **window != first);
        let too_large = |cell: &CellDemand| cell::room(*cell, 0) < each;
        cells
            .filter_map(|(window, cell)| cell.as_ref().map(|cell| (window, cell)))
            .find(|(_, cell)| too_large(cell))
            .map(|(window, _)| Shortfall::Exceeded { demand: self.index, window: *window })
    }
}

fn cells_of(demands: &[Demand]) -> usize {
    demands.iter().map(|demand| demand.cells.iter().flatten().count()).sum()
}

/// So many demands never have too many cells.
const DEMANDS_SAFE: usize = CHARGES_MAX / CELLS_PER_LIMIT_MAX;
