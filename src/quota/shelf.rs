//! What a shard knows of its rows beside them, under its lock. COLD: rows are added and reclaimed.
//!
//! A place is, in turn: never used; a row; in limbo, when its row is over but somebody may still hold on to it; free.

use super::lanes::Lanes;
use super::limbo::Limbo;
use super::windows::Boundary;

/// The places of a shard and what is remembered of their rows.
pub(super) struct Shelf {
    /// Places used at least once; those from here on never were.
    begun: u32,
    /// First of the free places; each leads to the next.
    free: u32,
    limbo: Limbo<u32>,
    /// By place, whose share the row is charged to.
    owners: Vec<u32>,
    /// By place, the label of its row; where it is free, the next free place.
    labels: Vec<u32>,
    /// The oldest windows that rows added from here on may be charged in: before, others were and are forgotten.
    pub(super) floor: Boundary,
}

impl Shelf {
    /// Makes an empty shelf.
    pub(super) fn new() -> Self {
        let (owners, labels) = (Vec::new(), Vec::new());
        Self { begun: 0, free: NONE, limbo: Limbo::new(), owners, labels, floor: Boundary::default() }
    }

    /// Returns a place for a row, of so many there are; [`Shelf::occupy`] takes it.
    pub(super) fn vacant(&self, places: usize) -> Option<u32> {
        if self.free != NONE {
            return Some(self.free);
        }
        ((self.begun as usize) < places).then_some(self.begun)
    }

    /// Takes the vacant place.
    pub(super) fn occupy(&mut self, place: u32, owner: u32, label: u32) {
        if place == self.free {
            self.free = self.label(place);
        } else {
            debug_assert_eq!(place, self.begun, "the vacant place is taken");
            self.begun = self.begun.saturating_add(1);
            for side in [&mut self.owners, &mut self.labels] {
                if side.len() == side.capacity() {
                    // In small steps: there may be ten million rows, and a doubled array would stand half empty.
                    side.reserve_exact(side.len() / GROWTH + GROWTH_MIN);
                }
                side.push(NONE);
            }
        }
        self.set(place, owner, label);
    }

    /// Puts the place of a row that is over in limbo.
    pub(super) fn condemn(&mut self, place: u32) {
        self.limbo.push(place);
    }

    /// Frees the places in limbo that nobody can hold on to any more; hands their owners to `free` and returns how many.
    pub(super) fn release(&mut self, lanes: &Lanes, looks: usize, mut free: impl FnMut(u32)) -> u64 {
        let released = self.limbo.release(lanes, looks);
        for place in &released {
            free(self.owners.get(*place as usize).copied().unwrap_or(NONE));
            self.set(*place, NONE, self.free);
            self.free = *place;
        }
        released.len() as u64
    }

    /// Returns how many places were used at least once.
    pub(super) const fn begun(&self) -> u32 {
        self.begun
    }

    /// Returns the label of the row at a place.
    pub(super) fn label(&self, place: u32) -> u32 {
        self.labels.get(place as usize).copied().unwrap_or(NONE)
    }

    /// Returns the memory held, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.owners.capacity().saturating_add(self.labels.capacity()).saturating_mul(size_of::<u32>())
    }

    fn set(&mut self, place: u32, owner: u32, label: u32) {
        let sides = self.owners.get_mut(place as usize).zip(self.labels.get_mut(place as usize));
        if let Some((at_owner, at_label)) = sides {
            (*at_owner, *at_label) = (owner, label);
        }
    }
}

/// The label of a row that a late charge brought back: the limit is not known there.
pub const NO_LABEL: u32 = u32::MAX;

/// No place, no owner.
const NONE: u32 = u32::MAX;

/// What is remembered of rows grows by this part of itself,
const GROWTH: usize = 16;
/// and by this many.
const GROWTH_MIN: usize = 64;
