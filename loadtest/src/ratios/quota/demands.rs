//! What decisions ask of limits: a day and a month in each of two rows.

use tollgate::quota::{CellDemand, Demand, RowKey};
use tollgate::types::{LimitMode, Unit};

/// What one decision asks for.
pub(super) type Demands = [Demand; 2];

/// What a batch asks for.
pub(super) type Batch = [Demands; BATCH];

/// Makes a batch of decisions on rows that follow from a number as at random.
pub(super) fn batch(number: u64, rows: u64) -> Batch {
    std::array::from_fn(|one| demands(spread(number + one as u64) % rows, rows))
}

/// Makes a decision on a row, and on another that follows from it.
pub(super) fn demands(number: u64, rows: u64) -> Demands {
    [number, spread(number) % rows].map(|number| demand(number, [CEILING_FEN; 2]))
}

/// Makes a decision on a row and the one after it, with ceilings of its own.
pub(super) fn demands_below(number: u64, [day, month, other_day, other_month]: [u64; 4]) -> Demands {
    [demand(number, [day, month]), demand(number + 1, [other_day, other_month])]
}

/// Returns the cells with a key for each.
pub(super) fn cells(demand: &Demand) -> impl Iterator<Item = (u128, &CellDemand)> {
    demand.cells.iter().flatten().zip(0_u128..).map(|(cell, position)| (demand.row.0 ^ position << 40, cell))
}

/// Makes what is asked of a row.
pub(super) fn demand(number: u64, [day, month]: [u64; 2]) -> Demand {
    let row = RowKey(u128::from(spread(!number)) << 64 | u128::from(spread(number)));
    let cells = [
        Some(CellDemand { window_id: 20_779, ceiling: day }),
        Some(CellDemand { window_id: 683, ceiling: month }),
        None,
        None,
    ];
    Demand { row, label: 0, unit: Unit::Fen, mode: LimitMode::Enforce, tag: 0, cells }
}

/// Spreads a number over 64 bits (SplitMix64).
fn spread(number: u64) -> u64 {
    let seed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let a = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

/// Decisions of a batch, as many as a worker decides together.
pub(super) const BATCH: usize = 8;

/// Cells that a decision takes from.
pub(super) const CELLS: u64 = 4;

/// What a decision takes from each cell.
pub(super) const AMOUNT_FEN: u64 = 100;

/// A ceiling that nothing here reaches.
pub(super) const CEILING_FEN: u64 = 1 << 47;
