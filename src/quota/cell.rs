//! The cell: one window's use in one 64-bit word, `window id : 16 | used : 48`. HOT.
//!
//! Every change is one compare-and-swap of the whole word, so window and use never disagree.
//!
//! All orderings are Relaxed and have no partner: a cell publishes nothing but itself, and the order of changes to one
//! word is total under any ordering.

use std::sync::atomic::{AtomicU64, Ordering};

use super::CellDemand;
use crate::types::Fen;

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// The latest window that was charged.
    pub(super) window_id: u16,
    /// What is used of that window, in fen; at most [`USED_MAX_FEN`].
    pub(super) used_fen: u64,
}

impl Cell {
    /// Reads a cell.
    pub(super) fn load(word: &AtomicU64) -> Self {
        Self::unpack(word.load(Ordering::Relaxed))
    }

    const fn unpack(word: u64) -> Self {
        Self { window_id: (word >> USED_BITS) as u16, used_fen: word & USED_MAX_FEN }
    }

    fn pack(self) -> u64 {
        debug_assert!(self.used_fen <= USED_MAX_FEN, "use spills into the window id");
        (u64::from(self.window_id) << USED_BITS) | self.used_fen
    }

    /// Turns to the window of a decision: an older window counts as unused, a newer one stays.
    fn turned_to(self, window_id: u16) -> Self {
        if self.window_id < window_id { Self { window_id, used_fen: 0 } } else { self }
    }

    fn charged(self, demand: CellDemand, amount: Fen) -> Option<Self> {
        let cell = self.turned_to(demand.window_id);
        (amount.get() <= remaining_fen(demand.ceiling_fen, cell.used_fen))
            .then(|| cell.used_fen.checked_add(amount.get()))
            .flatten()
            .map(|used_fen| Self { used_fen, ..cell })
    }

    fn discharged(self, window_id: u16, amount_fen: u64) -> Option<Self> {
        if self.window_id != window_id {
            return None;
        }
        let used_fen = self.used_fen.checked_sub(amount_fen);
        debug_assert!(used_fen.is_some(), "more given back than taken");
        used_fen.map(|used_fen| Self { used_fen, ..self })
    }
}

/// Takes an amount; returns the window it was charged in, `None` where it does not fit under the ceiling.
pub(super) fn take(word: &AtomicU64, demand: CellDemand, amount: Fen) -> Option<u16> {
    word.try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        Cell::unpack(word).charged(demand, amount).map(Cell::pack)
    })
    .ok()
    .map(|before| Cell::unpack(before).turned_to(demand.window_id).window_id)
}

/// Gives an amount back to the window it was charged in; `false`, and no change, where the cell has left that window.
pub(super) fn give_back(word: &AtomicU64, window_id: u16, amount_fen: u64) -> bool {
    word.try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        Cell::unpack(word).discharged(window_id, amount_fen).map(Cell::pack)
    })
    .is_ok()
}

/// Returns the room left under a ceiling: zero where the ceiling was lowered below what is used.
pub(super) fn remaining_fen(ceiling_fen: u64, used_fen: u64) -> u64 {
    ceiling_fen.min(USED_MAX_FEN).saturating_sub(used_fen)
}

const USED_BITS: u32 = 48;
const USED_MAX_FEN: u64 = (1 << USED_BITS) - 1;
const _: () = assert!(Fen::MAX.get() == USED_MAX_FEN, "every amount fits a cell");

#[cfg(test)]
mod tests {
    use super::*;

    fn fen(amount: u64) -> Fen {
        Fen::new(amount).expect("amount")
    }

    fn demand(window_id: u16, ceiling_fen: u64) -> CellDemand {
        CellDemand { window_id, ceiling_fen }
    }

    #[test]
    fn a_word_keeps_window_and_use_apart() {
        for (window_id, used_fen) in [(0, 0), (0, USED_MAX_FEN), (u16::MAX, 0), (u16::MAX, USED_MAX_FEN), (20_779, 1)] {
            let cell = Cell { window_id, used_fen };
            assert_eq!(Cell::unpack(cell.pack()), cell);
        }
        assert_eq!(Cell { window_id: 1, used_fen: 2 }.pack(), 0x0001_0000_0000_0002);
    }

    #[test]
    fn take_fills_a_window_to_its_ceiling_and_not_past_it() {
        let word = AtomicU64::new(0);
        assert_eq!(take(&word, demand(7, 10), fen(6)), Some(7));
        assert_eq!(take(&word, demand(7, 10), fen(5)), None);
        assert_eq!(take(&word, demand(7, 10), fen(4)), Some(7));
        assert_eq!(Cell::load(&word), Cell { window_id: 7, used_fen: 10 });
    }

    #[test]
    fn take_counts_an_older_window_as_unused() {
        let word = AtomicU64::new(Cell { window_id: 7, used_fen: 10 }.pack());
        assert_eq!(take(&word, demand(8, 10), fen(10)), Some(8));
        assert_eq!(Cell::load(&word), Cell { window_id: 8, used_fen: 10 });
    }

    #[test]
    fn take_after_the_clock_stepped_back_is_charged_in_the_newer_window() {
        let word = AtomicU64::new(Cell { window_id: 8, used_fen: 9 }.pack());
        assert_eq!(take(&word, demand(7, 10), fen(1)), Some(8));
        assert_eq!(take(&word, demand(7, 10), fen(1)), None);
        assert_eq!(Cell::load(&word), Cell { window_id: 8, used_fen: 10 });
    }

    #[test]
    fn give_back_acts_on_the_window_of_the_charge_only() {
        let word = AtomicU64::new(Cell { window_id: 7, used_fen: 10 }.pack());
        assert!(give_back(&word, 7, 4));
        assert_eq!(Cell::load(&word), Cell { window_id: 7, used_fen: 6 });
        assert!(!give_back(&word, 6, 1) && !give_back(&word, 8, 1));
        assert_eq!(Cell::load(&word), Cell { window_id: 7, used_fen: 6 });
    }

    #[test]
    fn a_ceiling_lowered_below_use_leaves_no_room() {
        assert_eq!(remaining_fen(5, 10), 0);
        let word = AtomicU64::new(Cell { window_id: 7, used_fen: 10 }.pack());
        assert_eq!(take(&word, demand(7, 5), fen(1)), None);
        assert_eq!(take(&word, demand(7, 0), Fen::MAX), None);
        assert_eq!(take(&word, demand(7, 11), fen(1)), Some(7));
    }

    #[test]
    fn the_largest_amounts_and_ceilings_never_wrap() {
        for ceiling_fen in [USED_MAX_FEN, USED_MAX_FEN + 1, u64::MAX] {
            let word = AtomicU64::new(0);
            assert_eq!(take(&word, demand(u16::MAX, ceiling_fen), Fen::MAX), Some(u16::MAX));
            assert_eq!(take(&word, demand(u16::MAX, ceiling_fen), fen(1)), None);
            assert_eq!(take(&word, demand(u16::MAX, ceiling_fen), Fen::MAX), None);
            assert_eq!(Cell::load(&word), Cell { window_id: u16::MAX, used_fen: USED_MAX_FEN });
            assert!(give_back(&word, u16::MAX, USED_MAX_FEN));
            assert_eq!(take(&word, demand(u16::MAX, ceiling_fen), fen(1)), Some(u16::MAX));
        }
    }
}
