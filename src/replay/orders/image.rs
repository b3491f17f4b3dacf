//! Orders as records keep them: shown to be recorded, and put back after a restart.

use std::mem;
use std::sync::Arc;

use dashmap::Entry;

use super::bound::OnExpiry;
use super::key::{OrderKey, OrderRef};
use super::order::{Decided, Left, Order, State};
use super::view::OrderState;
use super::{BindRefused, Orders};
use crate::share::Share;
use crate::types::{DecisionId, MerchantId};

/// All that must be known of an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderImage<C> {
    /// The decision that holds, or held, its number.
    pub decision: DecisionId,
    /// Where the order lies.
    pub key: u64,
    /// Tells its number from others with the same key.
    pub check: u64,
    /// Digest of the request that bound it.
    pub digest: u128,
    /// Whose order it is; `None` where its share was made for nobody.
    pub merchant: Option<MerchantId>,
    /// Rises with every image of the decision.
    pub revision: u32,
    /// What became of it.
    pub state: OrderState,
    /// What the end of its hold means.
    pub on_expiry: OnExpiry,
    /// What the decider noted.
    pub note: u8,
    /// Its amount, in fen.
    pub amount_fen: u64,
    /// What was refunded of it, in fen.
    pub refunded_fen: u64,
    /// When it was bound, while it is held; when it was settled, after that. Seconds since 1970.
    pub since_s: u32,
    /// When its hold ends, in seconds since 1970.
    pub expires_s: u32,
    /// What it charged; `None` once it was released.
    pub charges: Option<C>,
}

impl<C> OrderImage<C> {
    /// Returns the high half of the decision's id.
    pub(super) const fn random(&self) -> u64 {
        (self.decision.0 >> u64::BITS) as u64
    }
}

impl<C: Clone> Orders<C> {
    /// Shows an order, to be recorded: each image of a decision has a higher revision than those before it and shows a
    /// later state. `None` where the number belongs to another decision by now, or to none.
    pub fn image(&self, order: OrderRef) -> Option<OrderImage<C>> {
        let mut entry = self.part(order.key).get_mut(&order.key)?;
        let (check, merchant, digest) = (entry.check(), entry.share.merchant().copied(), entry.digest());
        let image = OrderImage {
            decision: order.decision(),
            key: order.key.0,
            check,
            digest,
            merchant,
            revision: 0,
            // What is not said below is that of an order that leaves.
            state: OrderState::Released,
            on_expiry: OnExpiry::Release,
            note: 0,
            amount_fen: 0,
            refunded_fen: 0,
            since_s: 0,
            expires_s: 0,
            charges: None,
        };
        match &mut entry.state {
            State::Decided(decided) if decided.random == order.random() => {
                decided.revision = decided.revision.saturating_add(1);
                let Decided { amount_fen, refunded_fen, since_s, expires_s, revision, note, on_expiry, .. } = *decided;
                let (state, charges) = (decided.phase.shown(), Some(decided.charges.clone()));
                let image = OrderImage { state, charges, revision, on_expiry, note, expires_s, ..image };
                Some(OrderImage { amount_fen, refunded_fen, since_s, ..image })
            }
            State::Leaving(left) if left.random == order.random() => {
                left.revision = left.revision.saturating_add(1);
                let Left { since_s, revision, amount_fen, refunded_fen, .. } = *left;
                Some(OrderImage { revision, amount_fen, refunded_fen, since_s, expires_s: since_s, ..image })
            }
            State::Deciding { .. } | State::Decided(_) | State::Leaving(_) | State::Released { .. } => None,
        }
    }
}

impl<C> Orders<C> {
    /// Makes releases wait: the number of an order that is taken back is free only once [`Orders::leave`] is called.
    #[must_use]
    pub fn recording(mut self) -> Self {
        self.recording = true;
        self
    }

    /// Names the order that a decision's id leads to, whether it is there or not.
    pub fn named_by(&self, decision: DecisionId) -> OrderRef {
        OrderRef::read(&self.prf, decision)
    }

    /// Frees the number of an order whose release is recorded for good.
    pub fn leave(&self, order: OrderRef) {
        let Entry::Occupied(mut entry) = self.part(order.key).entry(order.key) else { return };
        let (random, since_s) = match entry.get().state {
            State::Leaving(Left { random, since_s, .. }) if random == order.random() => (random, since_s),
            State::Deciding { .. } | State::Decided(_) | State::Leaving(_) | State::Released { .. } => return,
        };
        let order = entry.get_mut();
        order.state = State::Released { random, since_s };
        self.room.give(&order.share);
        if !self.notes.take() {
            entry.remove();
        }
    }

    /// Puts an order back as it was recorded, with what its image says it charged. For a table that nobody decides on yet.
    ///
    /// Of two decisions on one number the one that holds it stays, or the later one.
    ///
    /// # Errors
    /// [`BindRefused::TableFull`] or [`BindRefused::ShareFull`].
    pub fn restore(&self, image: &OrderImage<C>, charges: C, share: &Arc<Share>) -> Result<(), BindRefused> {
        let key = OrderKey(image.key);
        let (random, since_s) = (image.random(), image.since_s);
        let state = match Decided::restored(image, charges) {
            Some(decided) => State::Decided(decided),
            None => State::Released { random, since_s },
        };
        let live = matches!(state, State::Decided(_));
        let order = Order::restored(image.digest, image.check, Arc::clone(share), state);
        match self.part(key).entry(key) {
            Entry::Vacant(vacant) => {
                if live {
                    self.room.take(share)?;
                } else if !self.notes.take() {
                    return Ok(());
                }
                vacant.insert(order);
            }
            Entry::Occupied(mut occupied) => {
                let there = occupied.get_mut();
                let (holds, there_since_s) = match &there.state {
                    State::Decided(Decided { since_s, .. }) => (true, *since_s),
                    State::Released { since_s, .. } => (false, *since_s),
                    State::Deciding { .. } | State::Leaving(_) => return Ok(()),
                };
                if (live, since_s) <= (holds, there_since_s) {
                    return Ok(());
                }
                match (live, holds) {
                    (true, false) => {
                        self.room.take(share)?;
                        self.notes.give();
                    }
                    (true, true) => {
                        self.room.take(share)?;
                        self.room.give(&there.share);
                    }
                    (false, _) => {}
                }
                drop(mem::replace(there, order));
            }
        }
        Ok(())
    }
}
