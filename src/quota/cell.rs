//! The cell: one window's use in one 64-bit word, `window id : 16 | used : 48`. HOT.
//!
//! Every change is one compare-and-swap of the whole word, so window and use never disagree. The word of all ones is not
//! a use: it says that the row is over (frozen), and whoever finds it looks for the row again.
//!
//! Changes are Release and reads Acquire, for two readers beside the word itself: one that sums up a shard sees, with a
//! change, what was counted before it ([`super::lanes::Flow`]); one that comes with a place out of a charge sees, with
//! the first word of a row's new life, the key of that life ([`super::row`]).

use super::CellDemand;
use crate::sync::{AtomicU64, Ordering};
use crate::types::Fen;

/// What a word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    /// The latest window that was charged.
    pub(super) window_id: u16,
    /// What is used of that window; at most [`USED_MAX`].
    pub(super) used: u64,
}

/// What a take did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Took {
    /// The window charged: the one demanded, or a newer one that the cell had reached.
    pub(super) window_id: u16,
    /// What was used of an older window that the cell was turned from.
    pub(super) passed: u64,
    /// Whether others changed the cell meanwhile.
    pub(super) contended: bool,
}

/// Why a take did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The amount does not fit under the ceiling.
    NoRoom,
    /// The row is over: its key may have another by now.
    Frozen,
}

/// What a give-back or a late charge did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Changed {
    /// It changed the cell by so much.
    By(u64),
    /// Nothing: the cell has left that window.
    Passed,
    /// Nothing: the row is over, or the place is another row's.
    Elsewhere,
}

impl Cell {
    /// Reads a cell; `None` where it is frozen.
    pub(super) fn load(word: &AtomicU64) -> Option<Self> {
        Self::unpack(word.load(Ordering::Acquire))
    }

    /// Reads a word; `None` where it is that of a frozen cell.
    pub(super) const fn unpack(word: u64) -> Option<Self> {
        if word == FROZEN {
            return None;
        }
        Some(Self { window_id: (word >> USED_BITS) as u16, used: word & USED_MAX })
    }

    /// Makes the word that says so.
    pub(super) fn pack(self) -> u64 {
        debug_assert!(self.used <= USED_MAX, "use spills into the window id");
        (u64::from(self.window_id) << USED_BITS) | self.used
    }

    /// Turns to a window: an older one counts as unused, a newer one stays.
    pub(super) fn turned_to(self, window_id: u16) -> Self {
        if self.window_id < window_id { Self { window_id, used: 0 } } else { self }
    }

    /// Returns what is lost by turning from this cell to `turned`.
    fn passed_by(self, turned: Self) -> u64 {
        if self.window_id < turned.window_id { self.used } else { 0 }
    }
}

/// Takes an amount where it fits under the ceiling, in the window demanded or in a newer one that the cell has reached.
#[inline]
pub(super) fn take(word: &AtomicU64, demand: CellDemand, amount: u64) -> Result<Took, Refused> {
    let mut before = word.load(Ordering::Acquire);
    let mut contended = false;
    loop {
        let cell = Cell::unpack(before).ok_or(Refused::Frozen)?;
        let turned = cell.turned_to(demand.window_id);
        if amount > room(demand, turned.used) {
            return Err(Refused::NoRoom);
        }
        let after = Cell { used: turned.used.saturating_add(amount), ..turned };
        match word.compare_exchange_weak(before, after.pack(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => {
                return Ok(Took { window_id: turned.window_id, passed: cell.passed_by(turned), contended });
            }
            Err(now) => (before, contended) = (now, true),
        }
    }
}

/// Gives an amount back to the window it was charged in. `here` tells whether the place still is that of the row charged.
pub(super) fn give_back(word: &AtomicU64, window_id: u16, amount: u64, here: impl Fn() -> bool) -> Changed {
    let mut before = word.load(Ordering::Acquire);
    loop {
        // The word first, then whose it is: a word of a later life brings the key of that life with it.
        let Some(cell) = Cell::unpack(before).filter(|_| here()) else { return Changed::Elsewhere };
        if cell.window_id != window_id {
            return Changed::Passed;
        }
        let Some(used) = cell.used.checked_sub(amount) else {
            debug_assert!(false, "more given back than taken");
            return Changed::Passed;
        };
        match word.compare_exchange_weak(before, Cell { used, ..cell }.pack(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Changed::By(amount),
            Err(now) => before = now,
        }
    }
}

/// Adds an amount past any ceiling, up to what a word can say, in a window that the cell has not left.
///
/// Returns with the change what was used of an older window, which only a row just added can be in.
pub(super) fn add(word: &AtomicU64, window_id: u16, amount: u64, here: impl Fn() -> bool) -> (Changed, u64) {
    let mut before = word.load(Ordering::Acquire);
    loop {
        let Some(cell) = Cell::unpack(before).filter(|_| here()) else { return (Changed::Elsewhere, 0) };
        let turned = cell.turned_to(window_id);
        if turned.window_id != window_id {
            return (Changed::Passed, 0);
        }
        let used = turned.used.saturating_add(amount).min(USED_MAX);
        match word.compare_exchange_weak(before, Cell { used, ..turned }.pack(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return (Changed::By(used.saturating_sub(turned.used)), cell.passed_by(turned)),
            Err(now) => before = now,
        }
    }
}

/// Freezes a cell that `over` says holds nothing any more; returns what it said until then.
pub(super) fn freeze(word: &AtomicU64, over: impl Fn(Cell) -> bool) -> Option<Cell> {
    let before = word.load(Ordering::Acquire);
    let cell = Cell::unpack(before).filter(|cell| over(*cell))?;
    // One that was changed since is not over.
    word.compare_exchange(before, FROZEN, Ordering::AcqRel, Ordering::Acquire).is_ok().then_some(cell)
}

/// Returns the room left under a ceiling: zero where the ceiling was lowered below what is used.
pub(super) fn room(demand: CellDemand, used: u64) -> u64 {
    // A cell in that window would read as frozen: no calendar counts so far.
    if demand.window_id == NO_WINDOW { 0 } else { demand.ceiling.min(USED_MAX).saturating_sub(used) }
}

/// The word of a frozen cell.
pub(super) const FROZEN: u64 = u64::MAX;

/// The window id that no window has.
pub(super) const NO_WINDOW: u16 = u16::MAX;

/// The most that a cell can say is used.
pub(super) const USED_MAX: u64 = (1 << USED_BITS) - 1;

const USED_BITS: u32 = 48;
const _: () = assert!(Fen::MAX.get() == USED_MAX, "every amount fits a cell");

#[cfg(test)]
mod tests {
    use super::*;

    fn demand(window_id: u16, ceiling: u64) -> CellDemand {
        CellDemand { window_id, ceiling }
    }

    fn word(window_id: u16, used: u64) -> AtomicU64 {
        AtomicU64::new(Cell { window_id, used }.pack())
    }

    fn read(word: &AtomicU64) -> (u16, u64) {
        Cell::load(word).map(|cell| (cell.window_id, cell.used)).expect("not frozen")
    }

    fn took(window_id: u16, passed: u64) -> Result<Took, Refused> {
        Ok(Took { window_id, passed, contended: false })
    }

    #[test]
    fn a_word_keeps_window_and_use_apart() {
        for (window_id, used) in [(0, 0), (0, USED_MAX), (NO_WINDOW - 1, 0), (NO_WINDOW - 1, USED_MAX), (20_779, 1)] {
            assert_eq!(read(&word(window_id, used)), (window_id, used));
        }
        assert_eq!(Cell { window_id: 1, used: 2 }.pack(), 0x0001_0000_0000_0002);
        assert_eq!(Cell::unpack(FROZEN), None);
    }

    #[test]
    fn take_fills_a_window_to_its_ceiling_and_not_past_it() {
        let word = word(0, 0);
        assert_eq!(take(&word, demand(7, 10), 6), took(7, 0));
        assert_eq!(take(&word, demand(7, 10), 5), Err(Refused::NoRoom));
        assert_eq!(take(&word, demand(7, 10), 4), took(7, 0));
        assert_eq!(read(&word), (7, 10));
    }

    #[test]
    fn take_counts_an_older_window_as_unused_and_says_what_has_passed() {
        let word = word(7, 10);
        assert_eq!(take(&word, demand(8, 10), 10), took(8, 10));
        assert_eq!(read(&word), (8, 10));
    }

    #[test]
    fn take_after_the_clock_stepped_back_is_charged_in_the_newer_window() {
        let word = word(8, 9);
        assert_eq!(take(&word, demand(7, 10), 1), took(8, 0));
        assert_eq!(take(&word, demand(7, 10), 1), Err(Refused::NoRoom));
        assert_eq!(read(&word), (8, 10));
    }

    #[test]
    fn give_back_acts_on_the_window_of_the_charge_and_on_the_row_charged_only() {
        let word = word(7, 10);
        assert_eq!(give_back(&word, 7, 4, || true), Changed::By(4));
        assert_eq!(give_back(&word, 6, 1, || true), Changed::Passed);
        assert_eq!(give_back(&word, 8, 1, || true), Changed::Passed);
        assert_eq!(give_back(&word, 7, 1, || false), Changed::Elsewhere);
        assert_eq!(read(&word), (7, 6));
    }

    #[test]
    fn a_ceiling_lowered_below_use_leaves_no_room() {
        let word = word(7, 10);
        assert_eq!(take(&word, demand(7, 5), 1), Err(Refused::NoRoom));
        assert_eq!(take(&word, demand(7, 0), USED_MAX), Err(Refused::NoRoom));
        assert_eq!(take(&word, demand(7, 11), 1), took(7, 0));
    }

    #[test]
    fn the_largest_amounts_and_ceilings_never_wrap() {
        let last = NO_WINDOW - 1;
        for ceiling in [USED_MAX, USED_MAX + 1, 1 << 63, u64::MAX] {
            let word = word(0, 0);
            assert_eq!(take(&word, demand(last, ceiling), USED_MAX), took(last, 0));
            assert_eq!(take(&word, demand(last, ceiling), 1), Err(Refused::NoRoom));
            assert_eq!(take(&word, demand(last, ceiling), USED_MAX), Err(Refused::NoRoom));
            assert_eq!(read(&word), (last, USED_MAX));
            assert_eq!(give_back(&word, last, USED_MAX, || true), Changed::By(USED_MAX));
            assert_eq!(take(&word, demand(last, ceiling), 1), took(last, 0));
        }
    }

    #[test]
    fn no_take_makes_a_word_that_reads_as_frozen() {
        let word = word(0, 0);
        assert_eq!(take(&word, demand(NO_WINDOW, u64::MAX), USED_MAX), Err(Refused::NoRoom));
        assert_eq!(read(&word), (0, 0));
    }

    #[test]
    fn add_passes_any_ceiling_and_stops_at_what_a_word_can_say() {
        let word = word(7, USED_MAX - 5);
        assert_eq!(add(&word, 7, 3, || true), (Changed::By(3), 0));
        assert_eq!(add(&word, 7, 3, || true), (Changed::By(2), 0));
        assert_eq!(add(&word, 7, 3, || true), (Changed::By(0), 0));
        assert_eq!(add(&word, 6, 3, || true), (Changed::Passed, 0));
        assert_eq!(add(&word, 7, 3, || false), (Changed::Elsewhere, 0));
        assert_eq!(read(&word), (7, USED_MAX));
        assert_eq!(add(&word, 8, 3, || true), (Changed::By(3), USED_MAX));
    }

    #[test]
    fn a_frozen_cell_takes_and_gives_nothing() {
        let word = word(7, 10);
        assert_eq!(freeze(&word, |cell| cell.used == 0), None);
        assert_eq!(freeze(&word, |cell| cell.window_id < 8), Some(Cell { window_id: 7, used: 10 }));
        assert_eq!(take(&word, demand(8, 10), 1), Err(Refused::Frozen));
        assert_eq!(give_back(&word, 7, 10, || true), Changed::Elsewhere);
        assert_eq!(add(&word, 7, 10, || true).0, Changed::Elsewhere);
        assert_eq!(freeze(&word, |_| true), None);
        assert_eq!(Cell::load(&word), None);
    }
}
