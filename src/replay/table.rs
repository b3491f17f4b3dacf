//! What the nonce table and the order table share: keys, their hasher, and the count of what is held. HOT.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::share::Share;

/// The 128 bits of a keyed pseudo-random function that stand for a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// Chooses the part of the table.
    part: u64,
    /// Is the hash inside that part: bits that chose the part would be the same for all keys of it.
    hash: u64,
}

impl Key {
    /// Takes the function's value.
    #[expect(clippy::cast_possible_truncation, reason = "splits the value into its two halves")]
    pub(super) const fn new(value: u128) -> Self {
        Self { part: (value >> 64) as u64, hash: value as u64 }
    }

    /// Returns the function's value.
    pub(super) const fn value(self) -> u128 {
        (self.part as u128) << 64 | self.hash as u128
    }

    /// Returns the part of a table that the key belongs to. `parts` is not empty.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
    #[expect(clippy::cast_possible_truncation, reason = "any bits of the value choose a part equally well")]
    pub(super) fn choose<'a, T>(&self, parts: &'a [T]) -> &'a T {
        &parts[self.part as usize % parts.len()]
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.hash);
    }
}

/// Builds hashers of [`Key`]s.
pub(super) type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

/// Passes a [`Key`]'s hash on: it is a keyed pseudo-random value already, nothing is won by mixing it again.
#[derive(Clone, Copy, Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, _bytes: &[u8]) {
        debug_assert!(false, "a key is hashed as one word");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Counts the entries of a table and bounds them, in all and per merchant.
#[derive(Debug)]
pub(super) struct Room {
    entries: Count,
    entries_per_merchant_max: u32,
}

/// Counts up to a bound.
#[derive(Debug)]
pub(super) struct Count {
    used: AtomicUsize,
    max: usize,
}

/// Which bound is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The table's.
    Table,
    /// The merchant's.
    Share,
}

impl Room {
    /// Makes an empty room. `entries_max` is cut to [`ENTRIES_MAX`].
    pub(super) fn new(entries_max: usize, entries_per_merchant_max: u32) -> Self {
        Self { entries: Count::new(entries_max.min(ENTRIES_MAX)), entries_per_merchant_max }
    }

    /// Takes one entry for the merchant of `share`.
    pub(super) fn take(&self, share: &Share) -> Result<(), Full> {
        if !self.entries.take() {
            return Err(Full::Table);
        }
        if share.take(self.entries_per_merchant_max) {
            return Ok(());
        }
        self.entries.give();
        Err(Full::Share)
    }

    /// Gives one entry of that merchant back.
    pub(super) fn give(&self, share: &Share) {
        share.give();
        self.entries.give();
    }

    /// Returns how many entries are held.
    pub(super) fn used(&self) -> usize {
        self.entries.used()
    }
}

impl Count {
    /// Starts at zero.
    pub(super) const fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    /// Takes one; `false` at the bound.
    #[must_use]
    pub(super) fn take(&self) -> bool {
        // Relaxed, here and below: the counter publishes nothing but itself.
        let below = |used: usize| (used < self.max).then(|| used.saturating_add(1));
        self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, below).is_ok()
    }

    /// Gives one back.
    pub(super) fn give(&self) {
        let left = self.used.try_update(Ordering::Relaxed, Ordering::Relaxed, |used| used.checked_sub(1));
        debug_assert!(left.is_ok(), "more given back than taken");
    }

    /// Returns how many are taken.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// Most entries of one table, so that 32 bits number them.
pub(super) const ENTRIES_MAX: usize = (u32::MAX - 1) as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_refuses_at_either_bound_and_counts_a_refusal_nowhere() {
        let (room, one, other) = (Room::new(3, 2), Share::default(), Share::default());
        assert_eq!((room.take(&one), room.take(&one), room.take(&one)), (Ok(()), Ok(()), Err(Full::Share)));
        assert_eq!((room.used(), room.take(&other), room.take(&other)), (2, Ok(()), Err(Full::Table)));
        assert_eq!((room.used(), one.used(), other.used()), (3, 2, 1));
        room.give(&one);
        assert_eq!((room.used(), one.used(), room.take(&other)), (2, 1, Ok(())));
    }

    #[test]
    fn keys_that_differ_in_either_half_are_different() {
        assert_ne!(Key::new(1), Key::new(2));
        assert_ne!(Key::new(1 << 64), Key::new(2 << 64));
        assert_eq!((Key::new(5 << 64).choose(&[0, 1, 2, 3]), Key::new(7 | 2 << 64).choose(&[0, 1, 2, 3])), (&1, &2));
    }
}
