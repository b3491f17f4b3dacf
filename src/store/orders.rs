//! The latest images of some orders, as they were recorded.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use crate::journal::ImageView;
use crate::types::DecisionId;

/// The latest images, in the order in which their decisions were met.
#[derive(Debug, Default)]
pub(super) struct Orders {
    places: HashMap<u128, u32, BuildKeyHasher>,
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

impl Orders {
    /// Takes room for so many decisions.
    pub fn reserve(&mut self, decisions: usize) {
        self.places.reserve(decisions);
        self.all.reserve(decisions);
    }

    /// Returns the revision and the image of a decision.
    pub fn find(&self, DecisionId(decision): DecisionId) -> Option<(u32, &[u8])> {
        let place = self.all.get(index(*self.places.get(&decision)?))?;
        Some((place.revision, self.at(place)))
    }

    /// Puts an image in the place of that of its decision.
    pub fn put(&mut self, image: &ImageView<'_>, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
        self.parts = self.parts.saturating_add(image.parts());
        let number = *self.places.entry(image.decision.0).or_insert(next);
        let there = self.all.get(index(number)).copied().filter(|place| place.length == length);
        // Most images of an order are as long as those before.
        let (block, begun) = there.map_or_else(|| self.room(bytes.len()), |place| (place.block, place.begun));
        if let Some(block) = self.blocks.get_mut(index(block)) {
            let begun = index(begun);
            block.resize(block.len().max(begun.saturating_add(bytes.len())), 0);
            let room = block.get_mut(begun..).and_then(|room| room.get_mut(..bytes.len()));
            room.into_iter().for_each(|room| room.copy_from_slice(bytes));
        }
        let place = Place { decision: image.decision.0, block, begun, length, revision: image.revision };
        match self.all.get_mut(index(number)) {
            Some(there) => *there = place,
            None => self.all.push(place),
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

/// Bytes of images that lie together: more than the largest image has.
const BLOCK_BYTES: usize = 1 << 20;
const _: () = assert!(BLOCK_BYTES > crate::journal::ENTRY_BYTES_MAX, "an image has room in a block");
