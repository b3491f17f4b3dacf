//! Whether the cells show what was counted. COLD: reads the whole table, and stops nobody.
//!
//! The cells of a shard are added up between two readings of what the lanes have counted for it. Whoever changes a cell
//! counts `taken` or `begun` before it. So, once all who were inside a lane at the first reading have left, equal
//! readings say that no cell was changed by anyone in between, and the sums must agree to the last fen.

use super::lanes::{Flows, Lanes};
use super::row::SHARDS;
use super::table::Table;

/// What was counted, and how far the cells differ from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conservation {
    /// By how much the stripes checked differ in all; anything but zero is a bug.
    pub error: u64,
    /// Stripes that could be checked: those in which nothing was changed meanwhile.
    pub stripes_checked: u32,
    /// All stripes.
    pub stripes: u32,
    /// All that was ever taken, what refusals took and gave back included; in fen and payments, modulo 2^64.
    pub taken: u64,
    /// All that was ever given back, likewise.
    pub given_back: u64,
    /// What was used of windows that have passed, likewise.
    pub passed: u64,
}

impl Table {
    /// Counts the cells of which something is used. Reads the whole table.
    pub fn cells_used(&self) -> u64 {
        (0..SHARDS).filter_map(|shard| self.shard(shard)).map(|shard| shard.cells_used()).sum()
    }

    /// Adds up the cells and compares them with what was counted.
    pub fn conservation(&self) -> Conservation {
        (0..SHARDS).fold(Conservation::default(), |sums, shard| {
            let (flows, error) = self.check(shard);
            Conservation {
                error: sums.error.saturating_add(error.unwrap_or(0)),
                stripes_checked: sums.stripes_checked + u32::from(error.is_some()),
                stripes: sums.stripes + 1,
                taken: sums.taken.wrapping_add(flows.taken),
                given_back: sums.given_back.wrapping_add(flows.given_back),
                passed: sums.passed.wrapping_add(flows.passed),
            }
        })
    }

    /// Compares one shard; `None` where it was changed each time.
    fn check(&self, shard: usize) -> (Flows, Option<u64>) {
        let mut flows = self.lanes.flows(shard);
        for _ in 0..TRIES {
            let before = flows;
            let mut inside = Lanes::all();
            self.lanes.remove_empty(&mut inside, LOOKS);
            let used = self.used_of(shard);
            flows = self.lanes.flows(shard);
            if inside.is_empty() && (before.taken, before.begun) == (flows.taken, flows.begun) {
                let counted = flows.taken.wrapping_sub(flows.given_back).wrapping_sub(flows.passed);
                return (flows, Some(used.wrapping_sub(counted).min(counted.wrapping_sub(used))));
            }
        }
        (flows, None)
    }
}

/// How often a shard is read before it is left unchecked.
const TRIES: usize = 8;

/// How often a lane is looked at before a reading is given up.
const LOOKS: usize = 100;
