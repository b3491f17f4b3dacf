//! What is known of an order, to be shown. COLD.

use super::key::OrderRef;
use super::order::{Decided, State};
use super::{OrderName, Orders};
use crate::types::DecisionId;

/// What is known of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderView {
    /// The last decision on its number.
    pub decision: DecisionId,
    /// What became of it.
    pub state: OrderState,
    /// Digest of the request that bound it.
    pub digest: u128,
    /// Its amount, in fen; zero once it was released.
    pub amount_fen: u64,
    /// What was refunded of it, in fen.
    pub refunded_fen: u64,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OrderState {
    /// The outcome is open.
    Held,
    /// The money moved.
    Committed,
    /// Its hold ran out.
    Expired,
    /// It was taken back, and its number is free.
    Released,
}

impl OrderState {
    /// Returns the name used in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Committed => "committed",
            Self::Expired => "expired",
            Self::Released => "released",
        }
    }
}

impl<C> Orders<C> {
    /// Shows what is known under a number; `None` where nothing is, or its decision is in flight.
    pub fn view(&self, name: OrderName<'_>) -> Option<OrderView> {
        self.named(name).and_then(|order| self.view_of(order))
    }

    /// Shows what is known of an order; `None` where its number belongs to another decision by now, or to none.
    pub fn view_of(&self, order: OrderRef) -> Option<OrderView> {
        let entry = self.part(order.key).get(&order.key)?;
        if entry.random() != Some(order.random()) {
            return None;
        }
        let (state, amount_fen, refunded_fen) = match &entry.state {
            State::Deciding { .. } => return None,
            State::Leaving(_) | State::Released { .. } => (OrderState::Released, 0, 0),
            State::Decided(Decided { phase, amount_fen, refunded_fen, .. }) => {
                (phase.shown(), *amount_fen, *refunded_fen)
            }
        };
        let digest = entry.digest();
        Some(OrderView { decision: order.decision(), state, digest, amount_fen, refunded_fen })
    }
}
