//! The proof that an order number is ours, and the duty to settle it. HOT.

use std::fmt;
use std::mem;
use std::sync::Arc;

use super::super::table::Key;
use super::Orders;
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
    /// The upstream did it.
    Done,
    /// The upstream refused it, or nothing was sent.
    Refused,
    /// Nobody can tell.
    Unknown,
}

/// What a [`Bound`] answers for.
pub(super) enum Hold<C> {
    /// Nothing: no number, or settled.
    Nothing,
    /// A number whose decision is in flight.
    Number(Arc<Orders<C>>, Key),
    /// One forward of a decision.
    Forward(Arc<Orders<C>>, Key, DecisionId),
}

impl<C> Bound<C> {
    pub(super) const fn new(hold: Hold<C>) -> Self {
        Self { hold }
    }

    /// Publishes the decision on a new number and what it charged; its first forward is then in flight.
    ///
    /// Only for the bound of [`Binding::New`](super::Binding::New). Where no number is held there is nobody to tell, and
    /// `charges` is dropped.
    /// `note` comes back with [`Binding::Same`](super::Binding::Same).
    pub fn decide(&mut self, decision: DecisionId, charges: C, note: u8) {
        self.hold = match mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Number(orders, key) => {
                orders.publish(key, decision, charges, note);
                Hold::Forward(orders, key, decision)
            }
            Hold::Forward(orders, key, earlier) => {
                debug_assert!(false, "a decision was made before");
                Hold::Forward(orders, key, earlier)
            }
            Hold::Nothing => Hold::Nothing,
        };
    }

    /// Settles the forward. `Some` hands the charges out, once: the order has ended and the caller gives them back.
    pub fn settle(mut self, outcome: Outcome) -> Option<C> {
        self.end(outcome)
    }

    fn end(&mut self, outcome: Outcome) -> Option<C> {
        match mem::replace(&mut self.hold, Hold::Nothing) {
            Hold::Nothing => None,
            Hold::Number(orders, key) => {
                orders.abandon(key);
                None
            }
            Hold::Forward(orders, key, decision) => orders.settle(key, decision, outcome),
        }
    }
}

impl<C> Drop for Bound<C> {
    fn drop(&mut self) {
        // An unknown outcome keeps the charges, so none come back here.
        drop(self.end(Outcome::Unknown));
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
