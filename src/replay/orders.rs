//! The order table: an order number belongs to one decision, and a repeated request finds it. HOT.
//!
//! Promises:
//! * At most one decision at a time holds a number. Others wait for one in flight, a bounded while, and then see it.
//! * A decision's charges are handed out at most once: by [`Bound::settle`] when every forward of the order was refused,
//!   or by [`Orders::release`]. While one forward is in flight, succeeded, or has an unknown outcome, no refusal of
//!   another forward hands anything out.
//! * Nothing is evicted before it is `keep_s` old and idle. A full table, or a merchant's full share, refuses.

mod bound;
#[cfg(test)]
mod tests;

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use dashmap::{DashMap, Entry};

use self::bound::Hold;
pub use self::bound::{Bound, Outcome};
use super::table::{BuildKeyHasher, Full, Key, Room};
use crate::prf::Prf;
use crate::share::Share;
use crate::time::UnixMillis;
use crate::types::{DecisionId, MerchantId};

/// The bounds of an order table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderBounds {
    /// Most orders in all; each costs about [`Orders::ENTRY_BYTES`]. At most 2^32 - 2, a larger number means that.
    pub entries_max: usize,
    /// Most orders of one merchant.
    pub entries_per_merchant_max: u32,
    /// How long an order is kept after it was bound, in seconds.
    pub keep_s: u32,
}

/// The table of orders, shared by all workers as an `Arc`. `C` is what a decision charged.
///
/// Many small maps instead of one, so that a sweep can look through a part of the orders and leave the rest alone.
pub struct Orders<C> {
    parts: Box<[DashMap<Key, Order<C>, BuildKeyHasher>]>,
    /// Counts sweeps, to take the parts in turn.
    sweeps: AtomicUsize,
    room: Room,
    keep_s: u32,
    prf: Prf,
}

/// Whose numbers are meant: a payment and a refund may have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Namespace {
    /// `out_trade_no`.
    Payment,
    /// `out_refund_no`.
    Refund,
}

/// The name of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderName<'a> {
    /// The kind of number.
    pub namespace: Namespace,
    /// Who gave the number.
    pub merchant: &'a MerchantId,
    /// The number.
    pub number: &'a str,
}

/// What binding an order number found.
#[derive(Debug)]
#[must_use]
pub enum Binding<C> {
    /// The number was free and is now held for a decision to be made.
    New(Bound<C>),
    /// The same request was decided before, and may be forwarded again.
    Same {
        /// The decision made before.
        decision: DecisionId,
        /// What the decider noted then.
        note: u8,
        /// Stands for the new forward.
        again: Bound<C>,
    },
}

/// Refuses to bind an order number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindRefused {
    /// The number belongs to a decision on another request.
    #[error("the order number was used for another request")]
    Used,
    /// The table is full.
    #[error("the order table is full")]
    TableFull,
    /// The merchant's share of the table is used up.
    #[error("the merchant's share of the order table is used up")]
    ShareFull,
    /// Another request with this number is being decided, and took too long.
    #[error("another request with this order number is being decided")]
    InFlight,
}

/// An order taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released<C> {
    /// The decision that held the number.
    pub decision: DecisionId,
    /// What it had charged.
    pub charges: C,
}

/// What is known under one order number.
struct Order<C> {
    /// Digest of the request that bound the number.
    digest: u128,
    /// When it was bound.
    bound_s: i64,
    share: Arc<Share>,
    /// `None` while the decision is in flight; only the [`Bound`] that made the entry changes or removes it then.
    decided: Option<Decided<C>>,
}

/// A decision and what became of its forwards.
struct Decided<C> {
    decision: DecisionId,
    charges: C,
    /// Forwards not settled yet.
    forwards: u32,
    /// Whether a forward succeeded, or might have: then refusals of others give nothing back.
    kept: bool,
    /// What the decider wants to find again with the decision.
    note: u8,
}

impl<C> Orders<C> {
    /// How many sweeps look through the whole table.
    pub const SWEEPS_PER_PASS: usize = PARTS;

    /// Memory to plan for one order, in bytes: three times its slot, since the maps run at a load of 7/16 to 7/8. By
    /// resident size it came to 2 to 3.3 times (32 bytes of charges, mimalloc, up to 1.25 million orders).
    pub const ENTRY_BYTES: usize = 3 * size_of::<(Key, Order<C>)>();

    /// Makes an empty table. It grows as it fills; `prf` is derived for this table alone.
    pub fn new(bounds: OrderBounds, prf: Prf) -> Self {
        let part = || DashMap::with_hasher_and_shard_amount(BuildKeyHasher::default(), SHARDS_PER_PART);
        Self {
            parts: (0..PARTS).map(|_| part()).collect(),
            sweeps: AtomicUsize::new(0),
            room: Room::new(bounds.entries_max, bounds.entries_per_merchant_max),
            keep_s: bounds.keep_s,
            prf,
        }
    }

    /// Binds an order number to a decision about to be made, or finds the one made before.
    ///
    /// `digest` stands for what matters of the request, `share` counts what the merchant holds of this table. Waits for a
    /// decision in flight, whatever its request: it may yet free the number. So a thread must not bind a number that it
    /// is itself deciding on.
    ///
    /// # Errors
    /// [`BindRefused`]; nothing is kept then.
    pub fn bind(
        self: &Arc<Self>,
        name: OrderName<'_>,
        digest: u128,
        share: &Arc<Share>,
        now: UnixMillis,
    ) -> Result<Binding<C>, BindRefused> {
        self.bind_within(ORDER_WAIT_ROUNDS_MAX, name, digest, share, now)
    }

    /// Makes the proof for a route that binds no number.
    pub fn unbound(self: &Arc<Self>) -> Bound<C> {
        Bound::new(Hold::Nothing)
    }

    /// Returns the decision that holds a number; `None` where the number is unknown or its decision is in flight.
    pub fn decided(&self, name: OrderName<'_>) -> Option<DecisionId> {
        let key = self.key(name);
        self.part(key).get(&key).and_then(|order| order.decided.as_ref().map(|decided| decided.decision))
    }

    /// Takes the order of a decision back, after a close or reverse of it succeeded, and frees its number. `None` where the
    /// number is unknown, holds another decision by now, or its decision is in flight.
    ///
    /// Where a forward is still in flight, the close may have passed it on the way: the order ends when every such forward
    /// has been refused, and stays if one was not.
    pub fn release(&self, name: OrderName<'_>, decision: DecisionId) -> Option<Released<C>> {
        let ends = |order: &mut Order<C>| match order.decided.as_mut() {
            Some(decided) if decided.decision == decision => {
                decided.kept = false;
                decided.forwards == 0
            }
            // Taken back since, and perhaps bound again.
            Some(_) | None => false,
        };
        let decided = self.remove_if(self.key(name), ends)?;
        Some(Released { decision: decided.decision, charges: decided.charges })
    }

    /// Drops orders that were bound more than `keep_s` ago and have nothing in flight; their charges stay charged.
    /// One call looks through one of [`SWEEPS_PER_PASS`](Self::SWEEPS_PER_PASS) parts, the next call through the next.
    pub fn sweep(&self, now: UnixMillis) {
        // Relaxed: the counter publishes nothing; two sweeps at once are harmless.
        let turn = self.sweeps.fetch_add(1, Ordering::Relaxed);
        let Some(part) = self.parts.get(turn % PARTS) else { return };
        part.retain(|_, order| {
            let keep = order.is_live(now.seconds(), self.keep_s);
            if !keep {
                self.room.give(&order.share);
            }
            keep
        });
    }

    /// Returns how many numbers are held, old ones that are not dropped yet included.
    pub fn len(&self) -> usize {
        self.room.used()
    }

    /// Tells whether no number is held.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn bind_within(
        self: &Arc<Self>,
        rounds_max: u32,
        name: OrderName<'_>,
        digest: u128,
        share: &Arc<Share>,
        now: UnixMillis,
    ) -> Result<Binding<C>, BindRefused> {
        let key = self.key(name);
        for round in 0..=rounds_max {
            match self.try_bind(key, digest, share, now)? {
                Some(binding) => return Ok(binding),
                None => pause(round),
            }
        }
        Err(BindRefused::InFlight)
    }

    /// Binds, or returns `None` while another decision on the number is in flight.
    fn try_bind(
        self: &Arc<Self>,
        key: Key,
        digest: u128,
        share: &Arc<Share>,
        now: UnixMillis,
    ) -> Result<Option<Binding<C>>, BindRefused> {
        match self.part(key).entry(key) {
            Entry::Vacant(vacant) => {
                self.room.take(share)?;
                vacant.insert(Order { digest, bound_s: now.seconds(), share: Arc::clone(share), decided: None });
                Ok(Some(Binding::New(Bound::new(Hold::Number(Arc::clone(self), key)))))
            }
            Entry::Occupied(mut occupied) => {
                let order = occupied.get_mut();
                let same = order.digest == digest;
                let Some(decided) = order.decided.as_mut() else { return Ok(None) };
                if !same {
                    return Err(BindRefused::Used);
                }
                decided.forwards = decided.forwards.checked_add(1).ok_or(BindRefused::InFlight)?;
                let Decided { decision, note, .. } = *decided;
                let again = Bound::new(Hold::Forward(Arc::clone(self), key, decision));
                Ok(Some(Binding::Same { decision, note, again }))
            }
        }
    }

    /// Publishes the decision on a number whose decision is in flight.
    fn publish(&self, key: Key, decision: DecisionId, charges: C, note: u8) {
        if let Some(mut order) = self.part(key).get_mut(&key) {
            debug_assert!(order.decided.is_none(), "decided twice");
            order.decided = Some(Decided { decision, charges, forwards: 1, kept: false, note });
        }
    }

    /// Frees a number whose decision came to nothing.
    fn abandon(&self, key: Key) {
        self.remove_if(key, |order| order.decided.is_none());
    }

    /// Settles one forward of a decision; returns the charges where that was the last one and none was kept.
    fn settle(&self, key: Key, decision: DecisionId, outcome: Outcome) -> Option<C> {
        let ends = |order: &mut Order<C>| match order.decided.as_mut() {
            Some(decided) if decided.decision == decision => decided.settle(outcome),
            // Released since, and perhaps bound again.
            Some(_) | None => false,
        };
        self.remove_if(key, ends).map(|decided| decided.charges)
    }

    fn remove_if(&self, key: Key, ends: impl FnOnce(&mut Order<C>) -> bool) -> Option<Decided<C>> {
        let (_, order) = self.part(key).remove_if_mut(&key, |_, order| ends(order))?;
        self.room.give(&order.share);
        order.decided
    }

    fn key(&self, name: OrderName<'_>) -> Key {
        let parts = [name.namespace.as_bytes(), name.merchant.as_str().as_bytes(), name.number.as_bytes()];
        Key::new(self.prf.digest(&parts))
    }

    fn part(&self, key: Key) -> &DashMap<Key, Order<C>, BuildKeyHasher> {
        key.choose(&self.parts)
    }
}

impl<C> Order<C> {
    fn is_live(&self, now_s: i64, keep_s: u32) -> bool {
        let idle = self.decided.as_ref().is_some_and(|decided| decided.forwards == 0);
        !idle || now_s <= self.bound_s.saturating_add(i64::from(keep_s))
    }
}

impl<C> Decided<C> {
    /// Settles one forward; tells whether the order ends with it.
    fn settle(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Done | Outcome::Unknown => self.kept = true,
            Outcome::Refused => {}
        }
        let left = self.forwards.checked_sub(1);
        debug_assert!(left.is_some(), "more forwards settled than made");
        // Saturating: were the assertion wrong, keeping the order is the safe side.
        self.forwards = left.unwrap_or(0);
        left == Some(0) && !self.kept
    }
}

impl Namespace {
    const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Payment => b"payment",
            Self::Refund => b"refund",
        }
    }
}

impl From<Full> for BindRefused {
    fn from(full: Full) -> Self {
        match full {
            Full::Table => Self::TableFull,
            Full::Share => Self::ShareFull,
        }
    }
}

/// Waits between two looks at an order in flight, longer each time.
fn pause(round: u32) {
    for _ in 0..1_u32 << round.min(SPINS_ROUND_MAX) {
        hint::spin_loop();
    }
    if round >= YIELD_ROUND {
        thread::yield_now();
    }
}

/// Parts of the table: one sweep looks through one.
const PARTS: usize = 64;

/// Locks in each part. A power of two.
const SHARDS_PER_PART: usize = 16;

/// Most looks at an order in flight: about 20 ms where nothing else runs. Under load each yield lasts longer, and the
/// decision waited for gets the time.
const ORDER_WAIT_ROUNDS_MAX: u32 = 400;

/// First round that also yields: by then a decision on another core had some 3 us, and ours may be what keeps it waiting.
const YIELD_ROUND: u32 = 6;

/// Round from which the spins grow no more; 1024 of them are about 50 us.
const SPINS_ROUND_MAX: u32 = 10;
