//! Slices: room of a row that many workers hit, handed out ahead so that each spends from a cache line of its own. HOT.
//!
//! What is handed out is taken from the cell first, so the cell shows at least what is used; a worker that finds the cell
//! at most at its ceiling may spend what it holds. Where the cell has no room, what the others hold is taken back before
//! anybody is refused. So ceilings stay exact, and a lone retry is refused only where it does not fit.
//!
//! A slice is one word, `window id : 16 | turn : 8 | room : 40`. The turn changes whenever room is added, so that a slice
//! that reads the same was not changed in between. Room of a window that has passed is worth nothing: it is dropped when
//! somebody comes upon it, and taken off what was counted as passed with the cell.

use std::sync::OnceLock;

use crossbeam::utils::CachePadded;

use super::CellDemand;
use super::cell::{self, Cell, Changed, FROZEN, Refused, Took};
use super::lanes::{Flow, LANES, Lane};
use super::row::Row;
use crate::sync::{AtomicU32, AtomicU64, Ordering};

/// What all lanes hold of the two cells of one row.
pub(super) struct Set {
    lines: Box<[CachePadded<[AtomicU64; 2]>]>,
    /// Whether room was handed out since it was asked last.
    active: AtomicU32,
}

/// What a slice says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slice {
    window_id: u16,
    turn: u8,
    /// At most [`ROOM_MAX`].
    room: u64,
}

impl Slice {
    /// Reads a word; `None` where the set is no longer the row's.
    const fn unpack(word: u64) -> Option<Self> {
        if word == FROZEN {
            return None;
        }
        let (window_id, turn) = ((word >> WINDOW_SHIFT) as u16, (word >> TURN_SHIFT & TURN_MASK) as u8);
        Some(Self { window_id, turn, room: word & ROOM_MAX })
    }

    fn pack(self) -> u64 {
        debug_assert!(self.room <= ROOM_MAX, "room spills into the turn");
        u64::from(self.window_id) << WINDOW_SHIFT | u64::from(self.turn) << TURN_SHIFT | self.room
    }
}

impl Set {
    /// Makes a set that holds nothing.
    pub(super) fn new() -> Self {
        let line = || CachePadded::new([AtomicU64::new(0), AtomicU64::new(0)]);
        Self { lines: (0..LANES).map(|_| line()).collect(), active: AtomicU32::new(1) }
    }

    /// Returns a slice.
    fn word(&self, lane: Lane, which: usize) -> Option<&AtomicU64> {
        self.lines.get(lane.number())?.get(which)
    }

    /// Adds up what is held, of one window or of all.
    pub(super) fn room(&self, which: usize, window_id: Option<u16>) -> u64 {
        let words = self.lines.iter().filter_map(|line| line.get(which));
        let slices = words.filter_map(|word| Slice::unpack(word.load(Ordering::Acquire)));
        let slices = slices.filter(|slice| window_id.is_none_or(|window_id| slice.window_id == window_id));
        slices.map(|slice| slice.room).fold(0, u64::wrapping_add)
    }

    /// Tells whether no room was handed out since this was asked last.
    pub(super) fn is_idle(&self) -> bool {
        self.active.swap(0, Ordering::Relaxed) == 0
    }

    /// Takes back what is held of a cell.
    fn take_back(&self, which: usize, word: &AtomicU64, flow: &Flow) {
        for slice in self.lines.iter().filter_map(|line| line.get(which)) {
            let mut before = slice.load(Ordering::Acquire);
            while let Some(held) = Slice::unpack(before).filter(|held| held.room != 0) {
                let after = Slice { room: 0, ..held };
                match slice.compare_exchange_weak(before, after.pack(), Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        put_back(word, held.window_id, held.room, flow);
                        break;
                    }
                    Err(now) => before = now,
                }
            }
        }
    }

    /// Ends the set: what is held of the row's cells is taken back, and nothing more can be.
    pub(super) fn freeze(&self, row: Row<'_>, flow: &Flow) {
        for line in &self.lines {
            for (slice, word) in line.iter().zip(row.cells()) {
                if let Some(held) = Slice::unpack(slice.swap(FROZEN, Ordering::AcqRel)) {
                    put_back(word, held.window_id, held.room, flow);
                }
            }
        }
    }

    /// Makes a set that was ended ready for another row. Nobody knows of it any more.
    fn reset(&self) {
        self.lines.iter().flat_map(|line| line.iter()).for_each(|word| word.store(0, Ordering::Release));
        self.active.store(1, Ordering::Relaxed);
    }
}

/// A worker's part of a set.
pub(super) struct Hand<'a> {
    pub(super) set: &'a Set,
    pub(super) lane: Lane,
    /// Among how many room is shared.
    pub(super) lanes: u64,
}

impl Hand<'_> {
    /// Takes an amount from a cell: from what the worker holds of it where that will do.
    pub(super) fn take(
        &self,
        which: usize,
        word: &AtomicU64,
        demand: CellDemand,
        amount: u64,
        flow: &Flow,
    ) -> Result<Took, Refused> {
        if let Some(window_id) = self.spend(which, word, demand, amount) {
            return Ok(Took { window_id, passed: 0, contended: false });
        }
        let ahead = Cell::load(word).map_or(0, |cell| ahead(cell, demand, amount, self.lanes));
        if ahead != 0
            && let Ok(took) = cell::take(word, demand, amount.saturating_add(ahead))
        {
            self.set.active.store(1, Ordering::Relaxed);
            self.hold(which, word, took.window_id, ahead, flow);
            return Ok(took);
        }
        match cell::take(word, demand, amount) {
            Err(Refused::NoRoom) => {
                self.set.take_back(which, word, flow);
                cell::take(word, demand, amount)
            }
            taken => taken,
        }
    }

    /// Spends from the worker's slice; returns the window, `None` where the cell has to be asked.
    fn spend(&self, which: usize, word: &AtomicU64, demand: CellDemand, amount: u64) -> Option<u16> {
        let slice = self.set.word(self.lane, which)?;
        // The slice is read before the cell. If it is unchanged when it is spent from, it held this room as well when the
        // cell was read: with it, use was at most what the cell showed, which is at most the ceiling. That is the moment
        // at which the amount counts as taken.
        let mut before = slice.load(Ordering::Acquire);
        loop {
            let (held, cell) = (Slice::unpack(before)?, Cell::load(word)?);
            let room = held.room.checked_sub(amount)?;
            let open = held.window_id == cell.window_id && demand.window_id <= cell.window_id;
            if !open || cell.used > demand.ceiling {
                return None;
            }
            let after = Slice { room, ..held };
            match slice.compare_exchange_weak(before, after.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(held.window_id),
                Err(now) => before = now,
            }
        }
    }

    /// Adds to the worker's slice what was taken from the cell.
    fn hold(&self, which: usize, word: &AtomicU64, window_id: u16, room: u64, flow: &Flow) {
        let Some(slice) = self.set.word(self.lane, which) else { return put_back(word, window_id, room, flow) };
        let mut before = slice.load(Ordering::Acquire);
        loop {
            // Another row's by now, or of a later window: what was taken goes back where it came from.
            let held = Slice::unpack(before).filter(|held| held.window_id <= window_id);
            let Some(held) = held else { return put_back(word, window_id, room, flow) };
            let (kept, stale) = if held.window_id == window_id { (held.room, 0) } else { (0, held.room) };
            let sum = kept.saturating_add(room);
            if sum > ROOM_MAX {
                return put_back(word, window_id, room, flow);
            }
            let after = Slice { window_id, turn: held.turn.wrapping_add(1), room: sum };
            match slice.compare_exchange_weak(before, after.pack(), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return flow.pass(stale.wrapping_neg()),
                Err(now) => before = now,
            }
        }
    }
}

/// Puts room back into the cell it was taken from; where its window has passed, it has been counted as used there.
fn put_back(word: &AtomicU64, window_id: u16, room: u64, flow: &Flow) {
    // The row has the place for as long as the lane is not left.
    match cell::give_back(word, window_id, room, || true) {
        Changed::By(_) => {}
        Changed::Passed | Changed::Elsewhere => flow.pass(room.wrapping_neg()),
    }
}

/// Returns how much room to take ahead of use: a small part of what is left for each lane, or none where that is little.
fn ahead(cell: Cell, demand: CellDemand, amount: u64, lanes: u64) -> u64 {
    let left = cell::room(demand, cell.turned_to(demand.window_id).used);
    let part = left / lanes.saturating_mul(PART).max(1);
    if part < amount { 0 } else { part.min(amount.saturating_mul(AHEAD_MAX)).min(ROOM_MAX / 2) }
}

/// Tells whether a cell has so much room that handing it out ahead pays.
pub(super) fn has_plenty(cell: Cell, demand: CellDemand, amount: u64, lanes: u64) -> bool {
    ahead(cell, demand, amount, lanes) >= amount.saturating_mul(PLENTY)
}

/// All sets, made when they are first needed.
pub(super) struct Sets(Box<[OnceLock<Set>]>);

impl Sets {
    /// Makes places for [`SETS`].
    pub(super) fn new() -> Self {
        Self((0..SETS).map(|_| OnceLock::new()).collect())
    }

    /// Returns the set of a number, which is not zero.
    pub(super) fn get(&self, number: u16) -> Option<&Set> {
        self.0.get(usize::from(number).checked_sub(1)?)?.get()
    }

    /// Makes the set of a number ready for a row.
    pub(super) fn begin(&self, number: u16) {
        if let Some(set) = usize::from(number).checked_sub(1).and_then(|place| self.0.get(place)) {
            set.get_or_init(Set::new).reset();
        }
    }

    /// Returns the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let made = self.0.iter().filter_map(OnceLock::get).map(|set| size_of_val(&*set.lines));
        size_of_val(&*self.0).saturating_add(made.sum())
    }
}

/// Most rows that are handed out in slices at a time.
pub(super) const SETS: u16 = 1024;

/// A lane takes this part of its share of what is left.
const PART: u64 = 8;

/// A lane takes room for at most so many decisions ahead.
const AHEAD_MAX: u64 = 4096;

/// Room for so many decisions ahead is plenty.
const PLENTY: u64 = 16;

const ROOM_MAX: u64 = (1 << TURN_SHIFT) - 1;
const TURN_MASK: u64 = (1 << (WINDOW_SHIFT - TURN_SHIFT)) - 1;
const TURN_SHIFT: u32 = 40;
const WINDOW_SHIFT: u32 = 48;
