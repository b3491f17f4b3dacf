//! One part of the nonce table: entries in a slab, an index by key, and a list of entries for each last second. HOT.
//!
//! The lists run through the entries themselves, so ordering by end costs four bytes an entry and no allocation each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::table::{BuildKeyHasher, Key, Room};
use super::Stored;
use crate::reason::Reason;
use crate::share::Share;
use crate::types::DecisionId;

/// A part of the table. Knows no clock and no bounds.
pub(super) struct Shard {
    index: HashMap<Key, Slot, BuildKeyHasher>,
    entries: Slab,
    /// First of the unused entries.
    vacant: Slot,
    /// First of the entries that end in each second. A map, since a stepping clock may leave any gaps.
    ends: BTreeMap<i64, Slot>,
    /// Where that map begins: most claims need not look into it. `i64::MAX` where it is empty.
    oldest_end_s: i64,
    /// Latest end of a freed entry.
    freed_end_s: Option<i64>,
}

/// A claimed nonce.
pub(super) struct Entry {
    key: Key,
    /// Digest of the request that claimed it.
    pub(super) digest: u128,
    decision: DecisionId,
    /// `None` until decided. Apart from `decision`, so that an entry fits 80 bytes.
    verdict: Option<Option<Reason>>,
    /// Next of the entries that end in this second, or of the unused ones.
    next: Slot,
    /// Last second in which the entry is live.
    end_s: i64,
    /// Whose share the entry counts in; `None` in an unused one.
    share: Option<Arc<Share>>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            index: HashMap::default(),
            entries: Slab::default(),
            vacant: NO_SLOT,
            ends: BTreeMap::new(),
            oldest_end_s: i64::MAX,
            freed_end_s: None,
        }
    }

    /// Adds an entry for a key that has no live one. The room for it is taken.
    pub(super) fn insert(&mut self, key: Key, end_s: i64, digest: u128, share: Arc<Share>) {
        let slot = self.vacant_slot();
        let next = self.ends.insert(end_s, slot).unwrap_or(NO_SLOT);
        self.oldest_end_s = self.oldest_end_s.min(end_s);
        let entry = Entry { key, digest, decision: DecisionId(0), verdict: None, next, end_s, share: Some(share) };
        match self.entries.get_mut(slot) {
            Some(place) => {
                self.vacant = place.next;
                *place = entry;
            }
            None => self.entries.push(entry),
        }
        // A past entry of this key, not freed yet, is out of reach from here on: this one ends later and stands for both.
        self.index.insert(key, slot);
    }

    /// Stores a decision with the entry of this key and end, if it is still there.
    pub(super) fn remember(&mut self, key: Key, end_s: i64, stored: Stored) {
        let slot = self.index.get(&key).copied().unwrap_or(NO_SLOT);
        if let Some(entry) = self.entries.get_mut(slot).filter(|entry| entry.end_s == end_s) {
            entry.decision = stored.decision;
            entry.verdict = Some(stored.refused);
        }
    }

    /// Frees up to `freed_max` entries that ended before `now_s`, oldest first; returns how many.
    pub(super) fn free_past(&mut self, now_s: i64, freed_max: usize, room: &Room) -> usize {
        for freed in 0..freed_max {
            if self.oldest_end_s >= now_s {
                return freed;
            }
            let Some(mut first) = self.ends.first_entry() else { return freed };
            let (end_s, slot) = (*first.key(), *first.get());
            let next = self.entries.get(slot).map_or(NO_SLOT, |entry| entry.next);
            if next == NO_SLOT {
                first.remove();
                self.oldest_end_s = self.ends.first_key_value().map_or(i64::MAX, |(end_s, _)| *end_s);
            } else {
                first.insert(next);
            }
            self.freed_end_s = self.freed_end_s.max(Some(end_s));
            self.free(slot, room);
        }
        freed_max
    }

    /// Returns the entry of a key, if there is one that is live.
    pub(super) fn live(&self, key: Key, now_s: i64) -> Option<&Entry> {
        let slot = *self.index.get(&key)?;
        self.entries.get(slot).filter(|entry| now_s <= entry.end_s)
    }

    /// Tells whether an entry with this end may have been freed.
    pub(super) fn may_have_freed(&self, end_s: i64) -> bool {
        self.freed_end_s.is_some_and(|freed_end_s| end_s <= freed_end_s)
    }

    /// Takes all that ends no later than `end_s` for freed.
    pub(super) fn forget_until(&mut self, end_s: i64) {
        self.freed_end_s = self.freed_end_s.max(Some(end_s));
    }

    fn free(&mut self, slot: Slot, room: &Room) {
        let Some(entry) = self.entries.get_mut(slot) else { return };
        if let Some(share) = entry.share.take() {
            room.give(&share);
        }
        entry.next = self.vacant;
        self.vacant = slot;
        // The key may have been claimed again since this entry ended.
        if self.index.get(&entry.key) == Some(&slot) {
            self.index.remove(&entry.key);
        }
    }

    fn vacant_slot(&self) -> Slot {
        if self.vacant == NO_SLOT { self.entries.len } else { self.vacant }
    }
}

impl Entry {
    /// Returns what was decided; `None` before that.
    pub(super) fn stored(&self) -> Option<Stored> {
        self.verdict.map(|refused| Stored { decision: self.decision, refused })
    }
}

/// Entries by position, in chunks: nothing is copied as it grows, and at most a chunk is reserved in vain.
#[derive(Default)]
struct Slab {
    chunks: Vec<Vec<Entry>>,
    len: Slot,
}

impl Slab {
    fn get(&self, slot: Slot) -> Option<&Entry> {
        self.chunks.get(slot as usize / CHUNK_ENTRIES)?.get(slot as usize % CHUNK_ENTRIES)
    }

    fn get_mut(&mut self, slot: Slot) -> Option<&mut Entry> {
        self.chunks.get_mut(slot as usize / CHUNK_ENTRIES)?.get_mut(slot as usize % CHUNK_ENTRIES)
    }

    fn push(&mut self, entry: Entry) {
        match self.chunks.last_mut().filter(|last| last.len() < CHUNK_ENTRIES) {
            Some(last) => last.push(entry),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK_ENTRIES);
                chunk.push(entry);
                self.chunks.push(chunk);
            }
        }
        // Saturating: a table has fewer than 2^32 - 1 entries, see ENTRIES_MAX.
        self.len = self.len.saturating_add(1);
    }
}

/// Position of an entry in the slab.
type Slot = u32;

/// No entry: the end of a list.
const NO_SLOT: Slot = Slot::MAX;

/// Entries in a chunk of the slab: 5 KB.
const CHUNK_ENTRIES: usize = 64;

// What Nonces::ENTRY_BYTES is computed from.
const _: () = assert!(size_of::<Entry>() == 80 && size_of::<(Key, Slot)>() == 24);
