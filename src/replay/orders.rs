//! The order table: an order number belongs to one decision, and a repeated request finds it. HOT.
//!
//! A decision holds its number and its charges until it is *committed* (the money moved), *released* (it did not, and will
//! not) or *expired* (nothing was heard in time).
//!
//! Promises:
//! * At most one decision at a time holds a number. Others wait for one in flight, a bounded while, and then see it.
//! * A decision's charges are handed out at most once: by [`Bound::settle`] when every forward of the order was refused,
//!   by [`Orders::release`], or by [`Orders::sweep`] when the hold expires. While one forward is in flight, or succeeded,
//!   or made an order, or has an unknown outcome, no refusal of another forward hands anything out.
//! * Committing and releasing may be repeated: the second does nothing, and says so. A commit after the hold expired is
//!   taken, and reported as late, once: what was handed out has to be charged again.
//! * Nothing is evicted that is held, in flight, or was settled less than `keep_s` ago. A full table, or a merchant's full
//!   share, refuses.
//! * No number is taken for another: lookups compare 128 bits of a keyed function. An order is placed by 64 of them, and a
//!   number placed where one of 2^26 others is, once in 2^38, is refused as used.
//!
//! A released order frees its number at once. Its entry stays for a while as a note, so that a repeated release and a
//! commit in contradiction are told from an unknown one; notes have room of their own, and without it none is left.

mod bound;
mod image;
mod key;
mod order;
mod settle;
mod sweep;
#[cfg(test)]
mod tests;
mod view;

use std::hint;
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex};
use std::thread;

use dashmap::{DashMap, Entry};

use self::bound::Hold;
pub use self::bound::{Bound, OnExpiry, Outcome, Settled, Terms};
pub use self::image::OrderImage;
use self::key::OrderKey;
pub use self::key::{OrderRef, order_digest};
use self::order::{Decided, Order, Phase, State, seconds};
pub use self::settle::{Commit, PaidRule, Refund, Release, Released};
pub use self::sweep::{EXPIRED_PER_SWEEP_MAX, Expired, HOLD_AGES_S, HoldAge, Holds, RELEASED_KEEP_S};
pub use self::view::{OrderState, OrderView};
use super::table::{BuildKeyHasher, Count, Full, Room};
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
    /// How long an order is kept after it was committed or its hold expired, in seconds.
    pub keep_s: u32,
}

/// The table of orders, shared by all workers as an `Arc`. `C` is what a decision charged.
///
/// Many small maps instead of one, so that a sweep can look through a part of the orders and leave the rest alone.
pub struct Orders<C> {
    parts: Box<[DashMap<OrderKey, Order<C>, BuildKeyHasher>]>,
    /// Counts sweeps, to take the parts in turn.
    sweeps: AtomicUsize,
    /// What the last sweep of each part found held.
    held: Mutex<[Holds; PARTS]>,
    room: Room,
    /// Counts the notes of released orders.
    notes: Count,
    keep_s: u32,
    prf: Prf,
    /// Whether a release waits until it is recorded.
    recording: bool,
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

impl<C> Orders<C> {
    /// How many sweeps look through the whole table.
    pub const SWEEPS_PER_PASS: usize = PARTS;

    /// Memory to plan for one order, in bytes: three times its slot, since the maps run at a load of 7/16 to 7/8, and an
    /// eighth for the notes of released orders. What an order's charges keep on the heap comes on top.
    pub const ENTRY_BYTES: usize = 3 * size_of::<(OrderKey, Order<C>)>() * (NOTES_SHARE + 1) / NOTES_SHARE;

    /// Makes an empty table. It grows as it fills; `prf` is derived for this table alone.
    pub fn new(bounds: OrderBounds, prf: Prf) -> Self {
        let part = || DashMap::with_hasher_and_shard_amount(BuildKeyHasher::default(), SHARDS_PER_PART);
        Self {
            parts: (0..PARTS).map(|_| part()).collect(),
            sweeps: AtomicUsize::new(0),
            held: Mutex::new([Holds::default(); PARTS]),
            notes: Count::new(notes_max(bounds.entries_max)),
            room: Room::new(bounds.entries_max, bounds.entries_per_merchant_max),
            keep_s: bounds.keep_s,
            prf,
            recording: false,
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

    /// Returns how long an order is kept after it was settled, in seconds.
    pub const fn keep_s(&self) -> u32 {
        self.keep_s
    }

    /// Returns how many numbers are taken, those that are not dropped yet included.
    pub fn len(&self) -> usize {
        self.room.used()
    }

    /// Tells whether no number is taken.
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
        let name = self.key(name);
        let bound_s = seconds(now.seconds());
        for round in 0..=rounds_max {
            match self.try_bind(name, digest, share, bound_s)? {
                Some(binding) => return Ok(binding),
                None => pause(round),
            }
        }
        Err(BindRefused::InFlight)
    }

    /// Binds, or returns `None` while another decision on the number is in flight.
    fn try_bind(
        self: &Arc<Self>,
        (key, check): (OrderKey, u64),
        digest: u128,
        share: &Arc<Share>,
        bound_s: u32,
    ) -> Result<Option<Binding<C>>, BindRefused> {
        let new = || Order::new(digest, check, Arc::clone(share), bound_s);
        match self.part(key).entry(key) {
            Entry::Vacant(vacant) => {
                self.room.take(share)?;
                vacant.insert(new());
            }
            Entry::Occupied(mut occupied) => {
                let order = occupied.get_mut();
                let same = order.has(check) && order.is_of(digest);
                match &mut order.state {
                    State::Deciding { .. } | State::Leaving(_) => return Ok(None),
                    State::Decided(decided) => return self.bind_again(key, decided, same).map(Some),
                    State::Released { .. } => {
                        self.room.take(share)?;
                        self.notes.give();
                        occupied.insert(new());
                    }
                }
            }
        }
        Ok(Some(Binding::New(Bound::new(Hold::Number(Arc::clone(self), key)))))
    }

    /// Adds a forward to a decision, where it is on the same request and was not given up.
    fn bind_again(
        self: &Arc<Self>,
        key: OrderKey,
        decided: &mut Decided<C>,
        same: bool,
    ) -> Result<Binding<C>, BindRefused> {
        match decided.phase {
            Phase::Held | Phase::Committed if same => {}
            Phase::Held | Phase::Committed | Phase::Expired => return Err(BindRefused::Used),
        }
        if !decided.forward() {
            return Err(BindRefused::InFlight);
        }
        let Decided { random, note, .. } = *decided;
        let again = Bound::new(Hold::Forward(Arc::clone(self), key, random));
        Ok(Binding::Same { decision: self.id(key, random), note, again })
    }

    /// Publishes the decision on a number whose decision is in flight.
    fn publish(&self, key: OrderKey, random: u64, terms: Terms<C>) {
        if let Some(mut order) = self.part(key).get_mut(&key) {
            match order.state {
                State::Deciding { bound_s } => order.state = State::Decided(Decided::new(random, terms, bound_s)),
                State::Decided(_) | State::Leaving(_) | State::Released { .. } => {
                    debug_assert!(false, "decided twice");
                }
            }
        }
    }

    /// Frees a number whose decision came to nothing.
    fn abandon(&self, key: OrderKey) {
        let removed = self.part(key).remove_if(&key, |_, order| matches!(order.state, State::Deciding { .. }));
        if let Some((_, order)) = removed {
            self.room.give(&order.share);
        }
    }

    fn key(&self, name: OrderName<'_>) -> (OrderKey, u64) {
        OrderKey::of(&self.prf, name)
    }

    fn id(&self, key: OrderKey, random: u64) -> DecisionId {
        key.decision(&self.prf, random)
    }

    fn part(&self, key: OrderKey) -> &DashMap<OrderKey, Order<C>, BuildKeyHasher> {
        key.choose(&self.parts)
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

/// Returns how many released orders are known at once.
const fn notes_max(entries_max: usize) -> usize {
    let share = entries_max / NOTES_SHARE;
    if share > NOTES_MIN { share } else { NOTES_MIN }
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

/// The purpose for which the function of an order table is derived from the deployment's key.
pub const ORDERS_PURPOSE: &str = "orders";

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

/// How many entries the table may have for each note of a released order.
const NOTES_SHARE: usize = 8;

/// Least room for notes, so that a small table has some.
const NOTES_MIN: usize = 1024;
