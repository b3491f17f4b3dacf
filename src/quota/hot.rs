//! Which rows are handed out in slices. A row that workers meet at gets a set; one that rests gives it back. COLD.

use std::sync::PoisonError;

use super::lanes::{Inside, Lanes};
use super::limbo::Limbo;
use super::row::Row;
use super::slices::{self, Hand, SETS};
use super::table::Table;
use super::take::Step;

/// The numbers of the sets that no row has.
pub(super) struct Pool {
    /// Those that were used and are free again.
    free: Vec<u16>,
    limbo: Limbo<u16>,
    /// Sets that were used at least once.
    begun: u16,
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self { free: Vec::new(), limbo: Limbo::new(), begun: 0 }
    }

    fn take(&mut self) -> Option<u16> {
        self.free.pop().or_else(|| {
            self.begun = self.begun.checked_add(1).filter(|number| *number <= SETS)?;
            Some(self.begun)
        })
    }

    /// Puts the set of a row that has it no more in limbo.
    pub(super) fn condemn(&mut self, number: u16) {
        self.limbo.push(number);
    }

    /// Frees the sets in limbo that nobody can hold on to any more.
    pub(super) fn release(&mut self, lanes: &Lanes, looks: usize) {
        self.free.append(&mut self.limbo.release(lanes, looks));
    }

    fn in_use(&self) -> u64 {
        u64::from(self.begun).saturating_sub(self.free.len().saturating_add(self.limbo.len()) as u64)
    }
}

impl Table {
    /// Returns how many rows have their room handed out in slices.
    pub fn sliced_rows(&self) -> u64 {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).in_use()
    }

    /// Returns a worker's part of a row's set.
    pub(super) fn hand(&self, inside: &Inside<'_>, row: Row<'_>) -> Option<Hand<'_>> {
        let set = self.sets.get(row.set()?)?;
        Some(Hand { set, lane: inside.lane(), lanes: self.lanes.handed_out() })
    }

    /// Counts that workers met at a row; gives it a set where they meet there often and it has plenty of room.
    #[cold]
    pub(super) fn met(&self, inside: &Inside<'_>, step: &Step<'_>, row: Row<'_>, amount: u64) {
        if row.set().is_some() || inside.count_meeting(step.key) < self.meetings_min {
            return;
        }
        let lanes = self.lanes.handed_out();
        let cells = row.read().map(|cells| cells.into_iter().zip(step.cells));
        let plenty = cells.is_some_and(|mut cells| {
            cells.all(|(cell, demand)| demand.is_none_or(|demand| slices::has_plenty(cell, *demand, amount, lanes)))
        });
        if !plenty {
            return;
        }
        // Under the shard's lock no row is given up: one that still is here keeps its set until it is taken from it.
        let Some(shard) = self.shard_of(step.key) else { return };
        let _locked = shard.lock();
        if row.is(step.key) && row.read().is_some() && row.set().is_none() {
            let number = self.pool.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(number) = number {
                self.sets.begin(number);
                row.give_set(step.key, number);
            }
        }
    }
}

/// How often workers meet at a row before it is handed out in slices.
pub(super) const MEETINGS_MIN: u32 = 32;
