//! The latest images of some orders, as they were recorded.

use std::hash::{BuildHasher as _, BuildHasherDefault, Hasher};

use crate::journal::ImageView;
use crate::types::DecisionId;

/// The latest images, in the order in which their decisions were met.
#[derive(Debug, Default)]
pub(super) struct Orders {
    places: Places,
    all: Vec<Place>,
    /// Each begun with the room that it will ever have, so that nothing is moved.
    blocks: Vec<Vec<u8>>,
    /// The block that is being filled.
    block: usize,
    parts: usize,
}

/// Where an image lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    decision: u128,
    block: u32,
    begun: u32,
    length: u32,
    revision: u32,
}

/// Finds places by their decisions: open addressing, at most half full, so that a search is short and its memory small.
#[derive(Debug, Default)]
struct Places {
    /// As many as a power of two, or none: half of a decision's hash, and the number of its place or [`FREE`].
    slots: Vec<(u32, u32)>,
    taken: usize,
}

impl Places {
    fn find(&self, decision: u128, all: &[Place]) -> Option<u32> {
        let (mut slot, half) = self.begin(decision);
        loop {
            let (there, number) = *self.slots.get(slot)?;
            if number == FREE {
                return None;
            }
            if there == half && all.get(index(number)).is_some_and(|place| place.decision == decision) {
                return Some(number);
            }
            slot = self.next(slot);
        }
    }

    /// Adds a decision that is not there.
    fn add(&mut self, decision: u128, number: usize) {
        if self.taken >= self.slots.len() / 2 {
            self.grow(self.slots.len().saturating_mul(2).max(SLOTS_MIN));
        }
        let (slot, half) = self.begin(decision);
        self.put(slot, (half, u32::try_from(number).unwrap_or(FREE)));
        self.taken = self.taken.saturating_add(1);
    }

    /// Takes room for so many decisions more.
    fn reserve(&mut self, decisions: usize) {
        let slots = self.taken.saturating_add(decisions).saturating_mul(2).min(SLOTS_MAX).next_power_of_two();
        if slots > self.slots.len() {
            self.grow(slots);
        }
    }

    fn grow(&mut self, slots: usize) {
        let before = std::mem::replace(&mut self.slots, vec![(0, FREE); slots]);
        before
            .into_iter()
            .filter(|(_, number)| *number != FREE)
            .for_each(|entry| self.put(self.slot_of(entry.0), entry));
    }

    fn clear(&mut self) {
        self.slots.fill((0, FREE));
        self.taken = 0;
    }

    fn begin(&self, decision: u128) -> (usize, u32) {
        let hash = BuildKeyHasher::default().hash_one(decision);
        let half = u32::try_from((hash ^ hash >> 32) & u64::from(u32::MAX)).unwrap_or(0);
        (self.slot_of(half), half)
    }

    fn slot_of(&self, half: u32) -> usize {
        index(half) & self.slots.len().saturating_sub(1)
    }

    fn next(&self, slot: usize) -> usize {
        slot.saturating_add(1) & self.slots.len().saturating_sub(1)
    }

    fn put(&mut self, mut slot: usize, entry: (u32, u32)) {
        while self.slots.get(slot).is_some_and(|(_, number)| *number != FREE) {
            slot = self.next(slot);
        }
        self.slots.get_mut(slot).into_iter().for_each(|free| *free = entry);
    }
}

impl Orders {
    /// Takes room for so many decisions.
    pub fn reserve(&mut self, decisions: usize) {
        self.places.reserve(decisions);
        self.all.reserve(decisions);
    }

    /// Returns the revision and the image of a decision.
    pub fn find(&self, DecisionId(decision): DecisionId) -> Option<(u32, &[u8])> {
        let place = self.all.get(index(self.places.find(decision, &self.all)?))?;
        Some((place.revision, self.at(place)))
    }

    /// Puts an image in the place of that of its decision.
    pub fn put(&mut self, image: &ImageView<'_>, bytes: &[u8]) {
        self.parts = self.parts.saturating_add(image.parts());
        self.put_at(image.decision.0, image.revision, bytes);
    }

    fn put_at(&mut self, decision: u128, revision: u32, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let known = self.places.find(decision, &self.all);
        let there =
            known.and_then(|number| self.all.get(index(number))).copied().filter(|place| place.length == length);
        // Most images of an order are as long as those before.
        let (block, begun) = there.map_or_else(|| self.room(bytes.len()), |place| (place.block, place.begun));
        if let Some(block) = self.blocks.get_mut(index(block)) {
            let begun = index(begun);
            match block.get_mut(begun..begun.saturating_add(bytes.len())) {
                Some(there) => there.copy_from_slice(bytes),
                None => block.extend_from_slice(bytes),
            }
        }
        let place = Place { decision, block, begun, length, revision };
        match known.and_then(|number| self.all.get_mut(index(number))) {
            Some(there) => *there = place,
            None => {
                self.places.add(decision, self.all.len());
                self.all.push(place);
            }
        }
    }

    /// Returns how many rows the images name that were put, those that were replaced included.
    pub const fn parts(&self) -> usize {
        self.parts
    }

    /// Visits the images, in the order in which their decisions were met.
    pub fn all(&self) -> impl Iterator<Item = &[u8]> {
        self.all.iter().map(|place| self.at(place))
    }

    /// Visits the images, in the order of their decisions.
    pub fn sorted(&self) -> impl Iterator<Item = (DecisionId, &[u8])> {
        let mut places: Vec<&Place> = self.all.iter().collect();
        places.sort_unstable_by_key(|place| place.decision);
        places.into_iter().map(|place| (DecisionId(place.decision), self.at(place)))
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.places.clear();
        self.all.clear();
        self.blocks.iter_mut().for_each(Vec::clear);
        (self.block, self.parts) = (0, 0);
    }

    fn at(&self, place: &Place) -> &[u8] {
        let image = self.blocks.get(index(place.block)).and_then(|block| block.get(index(place.begun)..));
        image.and_then(|bytes| bytes.get(..index(place.length))).unwrap_or_default()
    }

    /// Finds room for an image: the block, and where in it.
    fn room(&mut self, length: usize) -> (u32, u32) {
        let is_full = |block: &Vec<u8>| block.len().saturating_add(length) > BLOCK_BYTES;
        if self.blocks.get(self.block).is_some_and(is_full) {
            self.block = self.block.saturating_add(1);
        }
        if self.blocks.len() <= self.block {
            self.blocks.push(Vec::with_capacity(BLOCK_BYTES));
        }
        let begun = self.blocks.get(self.block).map_or(0, Vec::len);
        (u32::try_from(self.block).unwrap_or(u32::MAX), u32::try_from(begun).unwrap_or(u32::MAX))
    }
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Takes 64 bits of a key for its hash: keys are keyed pseudo-random values already.
#[derive(Clone, Copy, Default)]
pub(super) struct KeyHasher(u64);

pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.chunks(8).for_each(|chunk| {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.0 = self.0.rotate_left(5) ^ word;
        });
    }

    fn write_u128(&mut self, key: u128) {
        let [low, high] = [key, key >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        self.0 = low ^ high.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// A slot that nothing is in.
const FREE: u32 = u32::MAX;

/// Slots that are made at first. A power of two.
const SLOTS_MIN: usize = 1 << 10;

/// Most slots that are made ahead.
const SLOTS_MAX: usize = 1 << 31;

/// Bytes of images that lie together: more than the largest image has.
const BLOCK_BYTES: usize = 1 << 20;
const _: () = assert!(BLOCK_BYTES > crate::journal::ENTRY_BYTES_MAX, "an image has room in a block");

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_decision_is_found_where_it_was_put_and_no_other_is(
            decisions in prop::collection::vec(prop_oneof![any::<u128>(), 0..50_u128, (0..50_u128).prop_map(|id| id << 64)], 1..3000),
            ahead in 0..3000_usize,
        ) {
            let mut orders = Orders::default();
            orders.reserve(ahead);
            let mut expected: HashMap<u128, u32> = HashMap::new();
            for (decision, revision) in decisions.iter().zip(1..) {
                let bytes = revision.to_string();
                prop_assert_eq!(
                    orders.find(DecisionId(*decision)).map(|(revision, bytes)| (revision, bytes.to_vec())),
                    expected.get(decision).map(|revision| (*revision, revision.to_string().into_bytes()))
                );
                orders.put_at(*decision, revision, bytes.as_bytes());
                expected.insert(*decision, revision);
            }
            prop_assert_eq!(orders.all().count(), expected.len());
            let sorted: Vec<u128> = orders.sorted().map(|(decision, _)| decision.0).collect();
            prop_assert!(sorted.is_sorted() && sorted.iter().all(|decision| expected.contains_key(decision)));
            orders.clear();
            prop_assert!(decisions.iter().all(|decision| orders.find(DecisionId(*decision)).is_none()));
        }
    }
}
