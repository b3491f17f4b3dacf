//! The proof that an order number is ours, and the duty to settle it. HOT.

use std::fmt;
use std::mem;
use std::sync::Arc;

use super::Orders;
use super::key::{OrderKey, OrderRef};
use super::settle::Released;
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// Proves that an order number is held, or that none is needed. Only [`Orders`] makes one.
///
/// Dropped before [`Bound::decide`], it frees a new number; dropped later, it counts as [`Outcome::Unknown`].
#[must_use]
pub struct Bound<C> {
    hold: Hold<C>,
}

/// What became of a forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// The upstream did it: the money moved.
    Done,
    /// The upstream made an order that may yet be paid.
    Created,
    /// The upstream refused it, or nothing was sent.
    Refused,
    /// Nobody can tell.
    Unknown,
}

/// What the end of a hold means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OnExpiry {
    /// Nothing was paid: the charges are handed out.
    Release,
    /// It may have been paid: the charges stay.
    Keep,
}

/// What a decision charged, and for how long it may be open whether the money moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms<C> {
    /// What it charged.
    pub charges: C,
    /// Comes back with [`Binding::Same`](super::Binding::Same).
    pub note: u8,
    /// The amount that refunds count against, in fen.
    pub amount_fen: u64,
    /// Last second, since 1970, at which the order may be paid.
    pub expires_s: i64,
    /// What it means where nothing was heard until then.
    pub on_expiry: OnExpiry,
}

/// What the end of a forward asks of the caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Settled<C> {
    /// Nothing.
    Nothing,
    /// The order ended: give its charges back. They are handed out this once.
    GiveBack(Released<C>),
    /// The money moved after the hold ran out: charge again what was given back then. Asked once.
    Late {
        /// The decision.
        decision: DecisionId,
        /// What it had charged.
        charges: C,
        /// Its amount, in fen.
        amount_fen: u64,
        /// What had been refunded of it before the hold ran out, in fen.
        refunded_fen: u64,
    },
}

/// What a [`Bound`] answers for.
pub(super) enum Hold<C> {
    /// Nothing: no number, or settled.
    Nothing,
    /// A number whose decision is in flight.
    Number(Arc<Orders<C>>, OrderKey),
    /// One forward of a decision, by the high half of its id.
    Forward(Arc<Orders<C>>, OrderKey, u64),
}

impl<C> Bound<C> {
    pub(super) const fn new(hold: Hold<C>) -> Self {
        Self { hold }
    }

    /// Publishes the decision on a new number and what it charged; its first forward is then in flight.
    ///
    /// `random` must be 64 bits that nobody can guess. Only for the bound of [`Binding::New`](super::Binding::New): where
    /// no number is held there is nobody to tell, `terms` is dropped and the id leads nowhere.
    pub fn decide(&mut self, random: u64, terms: Terms<C>) -> DecisionId {
        match mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Number(orders, key) => {
                orders.publish(key, random, terms);
                let decision = orders.id(key, random);
                self.hold = Hold::Forward(orders, key, random);
                decision
            }
            Hold::Forward(orders, key, earlier) => {
                debug_assert!(false, "a decision was made before");
                let decision = orders.id(key, earlier);
                self.hold = Hold::Forward(orders, key, earlier);
                decision
            }
            Hold::Nothing => DecisionId(u128::from(random) << 64),
        }
    }
}

impl<C> Bound<C> {
    /// Names the order that a forward is of; `None` where no decision was made on one.
    pub fn order(&self) -> Option<OrderRef> {
        match &self.hold {
            Hold::Forward(orders, key, random) => Some(OrderRef::new(*key, orders.id(*key, *random))),
            Hold::Number(..) | Hold::Nothing => None,
        }
    }

    /// Lets the hold last at least until then, in seconds since 1970: what is forwarded again may be paid for longer.
    pub fn prolong(&self, expires_s: i64) {
        if let Hold::Forward(orders, key, random) = &self.hold {
            orders.prolong(*key, *random, expires_s);
        }
    }
}

impl<C: Clone> Bound<C> {
    /// Settles the forward.
    pub fn settle(mut self, outcome: Outcome, now: UnixMillis) -> Settled<C> {
        match mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Nothing => Settled::Nothing,
            Hold::Number(orders, key) => {
                orders.abandon(key);
                Settled::Nothing
            }
            Hold::Forward(orders, key, random) => orders.settle(key, random, outcome, now),
        }
    }
}

impl<C> Drop for Bound<C> {
    fn drop(&mut self) {
        match mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Nothing => {}
            Hold::Number(orders, key) => orders.abandon(key),
            Hold::Forward(orders, key, random) => orders.doubt(key, random),
        }
    }
}

impl<C> fmt::Debug for Bound<C> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self.hold {
            Hold::Nothing => "Bound(nothing)",
            Hold::Number(..) => "Bound(number)",
            Hold::Forward(..) => "Bound(forward)",
        })
    }
}
