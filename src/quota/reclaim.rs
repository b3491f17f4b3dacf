//! Taking back the rows whose windows are over. COLD: a background thread, a part of the table at a time.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::lanes::Lane;
use super::row::SHARDS;
use super::table::Table;
use super::windows::Boundary;
use crate::time::UnixMillis;

/// How many calls of [`Table::reclaim`] go through the whole table.
pub const RECLAIMS_PER_PASS: usize = SHARDS;

impl Table {
    /// Frees the rows of the next part of the table that hold nothing any more, and returns how many.
    ///
    /// A row goes when the day, the month and the year it was charged in last are over by any calendar, or nothing is
    /// used of them and no earlier one can come again; and when nothing is used of its lifetime.
    pub fn reclaim(&self, now: UnixMillis) -> u64 {
        let mut next = self.reclaim_next.lock().unwrap_or_else(PoisonError::into_inner);
        let number = *next;
        *next = number.wrapping_add(1) % SHARDS;
        let Some(shard) = self.shard(number) else { return 0 };
        let open = Boundary::at(now);
        let begun = shard.lock().shelf.begun();
        for first in (0..begun).step_by(BATCH_ROWS as usize) {
            // Left and locked again in between, so that nobody waits long.
            let inside = self.lanes.enter(Lane::COLD);
            let places = first..first.saturating_add(BATCH_ROWS).min(begun);
            let spare = |set| self.pool.lock().unwrap_or_else(PoisonError::into_inner).condemn(set);
            shard.lock().condemn_over(places, open, inside.flow(number), &self.sets, spare);
        }
        self.pool.lock().unwrap_or_else(PoisonError::into_inner).release(&self.lanes, LOOKS);
        let mut owners = Vec::new();
        let freed = shard.lock().shelf.release(&self.lanes, LOOKS, |owner| owners.push(owner));
        owners.into_iter().for_each(|owner| self.owners.give(owner));
        // Relaxed: the counter publishes nothing but itself.
        self.rows.fetch_sub(freed, Ordering::Relaxed);
        freed
    }
}

/// Rows looked at while the lock is held.
const BATCH_ROWS: u32 = 1024;

/// How often a lane is looked at before its turn is left to the next pass.
const LOOKS: usize = if cfg!(feature = "loom") { 1 } else { 100 };
