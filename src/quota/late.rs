//! What happens to charges after the decision: given back, or charged again when an order is paid after all.

use super::cell::{self, Changed, NO_WINDOW};
use super::charges::{Charges, RowCharge};
use super::lanes::{Flow, Inside, Lane};
use super::row::Row;
use super::shelf::NO_LABEL;
use super::table::Table;
use crate::sync::AtomicU64;

/// What became of charges that were made again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LateCharge {
    /// Cells that were charged.
    pub charged: u32,
    /// Cells that were not, because their window has passed.
    pub passed: u32,
    /// Cells that were not, because the row was reclaimed and the table is full.
    pub lost: u32,
}

impl Table {
    /// Gives charges back, each to the window it was charged in. One whose window has passed is left.
    pub fn give_back(&self, lane: Lane, charges: &Charges) {
        if !charges.is_empty() {
            self.give_back_inside(&self.lanes.enter(lane), charges);
        }
    }

    /// Charges again what was given back, past any ceiling, in the windows of the original charge where they are open.
    ///
    /// A row that was reclaimed meanwhile comes back, beyond any merchant's share and with the label [`NO_LABEL`].
    pub fn charge_late(&self, lane: Lane, charges: &Charges) -> LateCharge {
        let mut late = LateCharge::default();
        if charges.is_empty() {
            return late;
        }
        let inside = self.lanes.enter(lane);
        for (charge, amount) in charges.rows() {
            let flow = inside.flow(charge.key().shard());
            for (which, window_id) in charged(charge) {
                // Counted before: whoever adds up cells sees that they change.
                flow.take(amount);
                let change = |word: &AtomicU64, here: &dyn Fn() -> bool| {
                    let (changed, passed) = cell::add(word, window_id, amount, here);
                    flow.pass(passed);
                    changed
                };
                let changed = self.change_cell(charge, which, true, &change);
                flow.give_back(amount.saturating_sub(changed.amount()));
                let count = match changed {
                    Changed::By(_) => &mut late.charged,
                    Changed::Passed => &mut late.passed,
                    Changed::Elsewhere => &mut late.lost,
                };
                *count = count.saturating_add(1);
            }
        }
        late
    }

    /// Gives charges back from inside a lane.
    pub(super) fn give_back_inside(&self, inside: &Inside<'_>, charges: &Charges) {
        for (charge, amount) in charges.rows() {
            let flow: &Flow = inside.flow(charge.key().shard());
            flow.begin();
            for (which, window_id) in charged(charge) {
                let change = |word: &AtomicU64, here: &dyn Fn() -> bool| cell::give_back(word, window_id, amount, here);
                flow.give_back(self.change_cell(charge, which, false, &change).amount());
            }
        }
    }

    /// Changes a cell that was charged, wherever its row lies by now. Where there is none, `add` brings it back unless
    /// its window has passed.
    fn change_cell(
        &self,
        charge: &RowCharge,
        which: usize,
        add: bool,
        change: &dyn Fn(&AtomicU64, &dyn Fn() -> bool) -> Changed,
    ) -> Changed {
        let key = charge.key();
        let Some(shard) = self.shard_of(key) else { return Changed::Passed };
        let of = |row: Row<'_>| word(row, which).map_or(Changed::Passed, |word| change(word, &|| row.is(key)));
        let changed = shard.index.row(charge.place()).map_or(Changed::Elsewhere, of);
        if changed != Changed::Elsewhere {
            return changed;
        }
        let mut shard = shard.lock();
        if let Some((_, row)) = shard.find(key) {
            return of(row);
        }
        if !add || charge.windows().get(which) < shard.shelf.floor.of(key.kind()).get(which) {
            return Changed::Passed;
        }
        let added = shard.add(key, NO_LABEL, || self.admit_row(&self.late));
        added.ok().flatten().map_or(Changed::Elsewhere, |(_, row)| of(row))
    }
}

/// Returns the cells that were charged, and in which windows.
fn charged(charge: &RowCharge) -> impl Iterator<Item = (usize, u16)> + use<> {
    charge.windows().into_iter().enumerate().filter(|(_, window_id)| *window_id != NO_WINDOW)
}

fn word(row: Row<'_>, which: usize) -> Option<&AtomicU64> {
    row.cells().into_iter().nth(which)
}
