//! Taking for a decision from many rows at once. HOT.
//!
//! All rows are looked up before the first is touched, so that the processor fetches them side by side.

use std::sync::Arc;

use arrayvec::ArrayVec;
use smallvec::SmallVec;

use super::cell::{self, Refused};
use super::charges::{Charges, Reserved, RowCharge};
use super::lanes::{Inside, Lane};
use super::row::{Charged, Key};
use super::shard::Shard;
use super::table::Table;
use super::windows::Kind;
use super::{CHARGES_MAX, CellDemand, Demand, Shortfall};
use crate::share::Share;
use crate::types::{Fen, LimitMode};

impl Table {
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
        if demands.iter().map(|demand| demand.cells.iter().flatten().count()).sum::<usize>() > CHARGES_MAX {
            return Err(Shortfall::TooManyCells);
        }
        let inside = self.lanes.enter(lane);
        let mut steps = ArrayVec::new();
        self.look_up(demands, &mut steps);
        let mut charges = Charges::of(amount.get());
        let mut lacking = SmallVec::new();
        let mut steps = steps.as_slice();
        for (index, demand) in demands.iter().enumerate() {
            let before = charges.len();
            let (own, others) = steps.split_at(steps.iter().take_while(|step| step.demand == index).count());
            steps = others;
            let mut take = own.iter().map(|step| self.take_row(&inside, step, demand, amount, owner, &mut charges));
            let Err(shortfall) = take.try_for_each(|taken| taken) else { continue };
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

    /// Finds where the rows demanded may lie, and has the processor fetch them.
    ///
    /// PERF: into an array of the caller's, because one that is returned is copied whole: 8 KiB.
    fn look_up<'a>(&'a self, demands: &[Demand], steps: &mut ArrayVec<Step<'a>, CHARGES_MAX>) {
        for (demand, demanded) in demands.iter().enumerate() {
            for (kind, cells) in Kind::ALL.map(|kind| (kind, demanded.cells_of(kind))) {
                let key = Key::new(demanded.row, kind);
                if let (true, Some(shard)) = (cells != [None; 2], self.shard_of(key)) {
                    shard.index.prefetch(key);
                    // Every row has a cell demanded: there are no more than cells.
                    steps.push(Step { demand, key, cells, shard, candidate: None });
                }
            }
        }
        steps.iter_mut().for_each(|step| step.candidate = step.shard.index.candidate(step.key));
    }

    fn take_row(
        &self,
        inside: &Inside<'_>,
        step: &Step<'_>,
        demand: &Demand,
        amount: Fen,
        owner: &Arc<Share>,
        charges: &mut Charges,
    ) -> Result<(), Shortfall> {
        let each = demand.unit.taken(amount).get();
        let taken = match step.found() {
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
            Err((_, Refused::Frozen)) => self.take_locked(inside, step, demand, each, owner)?,
        };
        charges.push(RowCharge::new(step.key, place, windows, demand.unit, demand.tag));
        Ok(())
    }

    /// Takes from a row that is certain to be or not to be; adds it where it is not.
    #[cold]
    fn take_locked(
        &self,
        inside: &Inside<'_>,
        step: &Step<'_>,
        demand: &Demand,
        each: u64,
        owner: &Arc<Share>,
    ) -> Result<(u32, Charged), Shortfall> {
        let mut shard = step.shard.lock();
        let found = match shard.find(step.key) {
            Some(found) => Some(found),
            None => {
                if let Some(shortfall) = step.too_large_for_unused(demand, each) {
                    return Err(shortfall);
                }
                shard.add(step.key, demand.label, || self.admit_row(owner))?
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
pub(super) struct Step<'a> {
    /// Position of its demand.
    demand: usize,
    pub(super) key: Key,
    pub(super) cells: [Option<CellDemand>; 2],
    pub(super) shard: Shard<'a>,
    /// Where the index led first.
    candidate: Option<u32>,
}

impl<'a> Step<'a> {
    fn found(&self) -> Option<(u32, super::row::Row<'a>)> {
        let candidate = self.candidate.and_then(|place| Some((place, self.shard.index.row(place)?)));
        candidate.filter(|(_, row)| row.is(self.key)).or_else(|| self.shard.find(self.key))
    }

    fn exceeded(&self, cell: usize) -> Shortfall {
        let [first, second] = self.key.kind().windows();
        Shortfall::Exceeded { demand: self.demand, window: if cell == 0 { first } else { second } }
    }

    /// Finds the first cell of the limit, from this row on, whose ceiling is below the amount: there is no use in adding
    /// a row only to refuse it.
    fn too_large_for_unused(&self, demand: &Demand, each: u64) -> Option<Shortfall> {
        let [first, ..] = self.key.kind().windows();
        let windows = crate::types::Window::ALL.iter().zip(&demand.cells).skip_while(|(window, _)| **window != first);
        let too_large = |cell: &CellDemand| cell::room(*cell, 0) < each;
        windows
            .filter_map(|(window, cell)| cell.as_ref().map(|cell| (window, cell)))
            .find(|(_, cell)| too_large(cell))
            .map(|(window, _)| Shortfall::Exceeded { demand: self.demand, window: *window })
    }
}
