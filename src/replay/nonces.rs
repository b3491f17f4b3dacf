//! The nonce window: a signed request is accepted once while its timestamp can still be fresh. HOT.
//!
//! Promises, one-sided: **never a false accept**.
//! * A (merchant, key id, nonce, timestamp) is claimed at most once in the life of the table, however the clock moves.
//! * A (merchant, key id, nonce) is claimed at most once until the claimed timestamp plus the tolerance is past, by the
//!   highest clock seen. A timestamp may be ahead by the tolerance, so an entry lives for up to twice the tolerance.
//! * Nothing live is evicted. A full table, or a merchant's full share, refuses.
//!
//! While the clock does not step back and no bound is reached there is no false refusal either. Each part of the table
//! remembers the latest end that it freed, and refuses what ends no later: after a step back that might be a request
//! whose entry is gone. Such refusals last until the clock is within the tolerance of that end again.

mod shard;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam::utils::CachePadded;

use self::shard::Shard;
use super::freshness::Fresh;
use super::table::{Full, Key, Room};
use crate::kernel;
use crate::prf::Prf;
use crate::reason::Reason;
use crate::share::Share;
use crate::time::UnixMillis;
use crate::types::{DecisionId, KeyId, MerchantId};

/// The bounds of a nonce table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceBounds {
    /// Most entries in all; each costs about [`Nonces::ENTRY_BYTES`]. At most 2^32 - 2, a larger number means that.
    pub entries_max: usize,
    /// Most entries of one merchant.
    pub entries_per_merchant_max: u32,
    /// How far a timestamp may be from the gate's clock, in seconds: the same value that [`fresh`](super::fresh) gets.
    pub tolerance_s: u32,
}

/// The table of nonces, shared by all workers.
///
/// Many small mutexes, each over a part chosen by key bits: workers rarely meet at one, and growth or a sweep holds up
/// only those who need the same part. No step walks the table.
pub struct Nonces {
    shards: Box<[CachePadded<Mutex<Shard>>]>,
    room: Room,
    tolerance_s: u32,
    prf: Prf,
}

/// Names the entry of a (merchant, key id, nonce). Means something to the table that made it only.
#[derive(Clone, Copy, Debug)]
pub struct NonceKey(Key);

/// Proves that a nonce was new, or that the scheme has none. Not `Clone`: one claim serves one decision.
#[derive(Debug)]
#[must_use]
pub struct Claimed {
    /// The entry's key and last second; `None` where the scheme has no nonces.
    entry: Option<(Key, i64)>,
}

/// What was decided on a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The decision.
    pub decision: DecisionId,
    /// Why it refused; `None` for an admission.
    pub refused: Option<Reason>,
}

/// Refuses to claim a nonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The nonce was used before, or might have been.
    #[error("the nonce was used before")]
    Replayed {
        /// Whether the digest is that of the request that used it.
        same_request: bool,
        /// What was decided then; `None` while it is being decided.
        stored: Option<Stored>,
    },
    /// The table is full.
    #[error("the nonce table is full")]
    TableFull,
    /// The merchant's share of the table is used up.
    #[error("the merchant's share of the nonce table is used up")]
    ShareFull,
}

impl Nonces {
    /// Memory to plan for one entry, in bytes.
    ///
    /// An entry is 80 bytes and its slot of the index 25, at a load of 7/16 to 7/8. By resident size, with mimalloc and
    /// 0.25 to 3 million entries, it came to 145 to 202 bytes each; most just after the index grew.
    pub const ENTRY_BYTES: usize = 192;

    /// Makes an empty table. It grows as it fills; `prf` is derived for this table alone.
    pub fn new(bounds: NonceBounds, prf: Prf) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| CachePadded::new(Mutex::new(Shard::new()))).collect(),
            room: Room::new(bounds.entries_max, bounds.entries_per_merchant_max),
            tolerance_s: bounds.tolerance_s,
            prf,
        }
    }

    /// Names the entry of a (merchant, key id, nonce).
    pub fn key(&self, merchant: &MerchantId, key: &KeyId, nonce: &str) -> NonceKey {
        NonceKey(Key::new(self.prf.digest(&[merchant.as_str().as_bytes(), key.as_str().as_bytes(), nonce.as_bytes()])))
    }

    /// Asks the processor for what a claim looks at first. A hint, for whoever has other things to do before the claim.
    pub fn fetch(&self, NonceKey(key): NonceKey) {
        kernel::prefetch(key.choose(&self.shards));
    }

    /// Claims a nonce once, until the timestamp plus the tolerance is past.
    ///
    /// `digest` stands for the signed request, `share` counts what the merchant holds of this table, and `now` is the
    /// instant that made `fresh`. Frees a few past entries on the way.
    ///
    /// # Errors
    /// [`Refused`]; nothing is kept then.
    pub fn claim(
        &self,
        NonceKey(key): NonceKey,
        digest: u128,
        fresh: Fresh,
        share: &Arc<Share>,
        now: UnixMillis,
    ) -> Result<Claimed, Refused> {
        let end_s = fresh.timestamp_s().saturating_add(i64::from(self.tolerance_s));
        let now_s = now.seconds();
        let mut shard = lock(key.choose(&self.shards));
        shard.free_past(now_s, FREED_PER_CLAIM_MAX, &self.room);
        if let Some(entry) = shard.live(key, now_s) {
            return Err(Refused::Replayed { same_request: entry.digest == digest, stored: entry.stored() });
        }
        // No longer fresh, or freed already and made fresh again by a clock that stepped back.
        if end_s < now_s || shard.may_have_freed(end_s) {
            return Err(Refused::Replayed { same_request: false, stored: None });
        }
        self.room.take(share)?;
        shard.insert(key, end_s, digest, Arc::clone(share));
        Ok(Claimed { entry: Some((key, end_s)) })
    }

    /// Tells whether a nonce was claimed and would be refused now. Claims nothing.
    pub fn is_claimed(&self, NonceKey(key): NonceKey, now: UnixMillis) -> bool {
        lock(key.choose(&self.shards)).live(key, now.seconds()).is_some()
    }

    /// Stores the decision with its nonce, so that a trusted hop's second delivery gets the same answer.
    pub fn remember(&self, claimed: &Claimed, stored: Stored) {
        if let Some((key, end_s)) = claimed.entry {
            lock(key.choose(&self.shards)).remember(key, end_s, stored);
        }
    }

    /// Frees every entry that is past; holds no lock for more than a few entries.
    pub fn sweep(&self, now: UnixMillis) {
        for shard in &self.shards {
            while lock(shard).free_past(now.seconds(), FREED_PER_LOCK_MAX, &self.room) == FREED_PER_LOCK_MAX {}
        }
    }

    /// Puts a nonce back that was claimed, with what was decided. For a table that nobody claims from yet.
    ///
    /// # Errors
    /// [`Refused::TableFull`] or [`Refused::ShareFull`].
    pub fn restore(&self, nonce: &ClaimedNonce, stored: Stored, share: &Arc<Share>) -> Result<(), Refused> {
        let ClaimedNonce { key, digest, end_s } = *nonce;
        let key = Key::new(key);
        let mut shard = lock(key.choose(&self.shards));
        if shard.live(key, end_s).is_none() {
            self.room.take(share)?;
            shard.insert(key, end_s, digest, Arc::clone(share));
        }
        shard.remember(key, end_s, stored);
        Ok(())
    }

    /// Refuses from here on all that ends no later than `end_s`: such nonces may have been claimed and forgotten.
    pub fn forget_until(&self, end_s: i64) {
        self.shards.iter().for_each(|shard| lock(shard).forget_until(end_s));
    }

    /// Returns how many entries are held, past ones that are not freed yet included.
    pub fn len(&self) -> usize {
        self.room.used()
    }

    /// Tells whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A claimed nonce, as records keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClaimedNonce {
    /// Keyed digest of merchant, key id and nonce.
    pub key: u128,
    /// Digest of the request that claimed it.
    pub digest: u128,
    /// The last second in which it is refused.
    pub end_s: i64,
}

impl Claimed {
    /// Returns what was claimed by the request of a digest; `None` where the scheme has no nonces.
    pub fn nonce(&self, digest: u128) -> Option<ClaimedNonce> {
        self.entry.map(|(key, end_s)| ClaimedNonce { key: key.value(), digest, end_s })
    }

    /// Makes the proof for a request whose scheme has no nonces.
    pub const fn not_needed() -> Self {
        Self { entry: None }
    }
}

impl From<Full> for Refused {
    fn from(full: Full) -> Self {
        match full {
            Full::Table => Self::TableFull,
            Full::Share => Self::ShareFull,
        }
    }
}

fn lock(shard: &CachePadded<Mutex<Shard>>) -> MutexGuard<'_, Shard> {
    // A shard is whole between any two of its statements that could panic, so a poisoned one may be used.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Parts of the table, each behind its own lock.
const SHARDS: usize = 1024;

/// Most entries that one claim frees: above one, so that a backlog shrinks while claims come in.
const FREED_PER_CLAIM_MAX: usize = 4;

/// Most entries that a sweep frees before it lets go of the lock for a moment.
const FREED_PER_LOCK_MAX: usize = 256;
