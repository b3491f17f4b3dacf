//! The books: what admissions took, and every way in which it is settled.

use std::sync::Arc;

use super::ledger::Ledger;
use super::settle::{Event, SettleFault, Settled, Settlement, State};
use crate::merchant::{Coverage, SettledFacts};
use crate::quota::{Charges, Lane, LateCharge, Table};
use crate::replay::{self, Bound, Commit, Expired, OrderRef, Orders, Outcome, PaidRule, Release, Released};
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// What an order has at stake.
#[derive(Clone, Debug)]
pub enum Stake {
    /// A payment: what it took from limits.
    Payment(Charges),
    /// A refund: what it is of, where the gate knows it, and how much of it, in fen.
    Refund {
        /// The payment.
        original: Option<OrderRef>,
        /// The amount, in fen.
        fen: u64,
    },
}

impl Default for Stake {
    fn default() -> Self {
        Self::Payment(Charges::default())
    }
}

/// Where admissions take from and give back to, as one worker sees it.
#[derive(Clone)]
pub(super) struct Books {
    pub table: Arc<Table>,
    pub orders: Arc<Orders<Stake>>,
    pub ledger: Arc<Ledger>,
    /// Whose counters of the table are used.
    pub lane: Lane,
}

impl Books {
    /// Returns the same books with counters of their own, for another worker.
    pub fn of_another_worker(&self) -> Self {
        Self { lane: self.table.lane(), ..self.clone() }
    }

    /// Settles one forward of an order.
    pub fn settle(&self, bound: Bound<Stake>, outcome: Outcome, at: UnixMillis) {
        match bound.settle(outcome, at) {
            replay::Settled::Nothing => {}
            replay::Settled::GiveBack(released) => self.give_back(&released),
            replay::Settled::Late { decision, charges, amount_fen, refunded_fen } => {
                self.take_late(&Released { decision, charges, amount_fen, refunded_fen }, at);
            }
        }
    }

    /// Notes that an order's money has moved; frees the limits that the facts now known rule out. A refund's success gives
    /// room back to the limits of the original that say so.
    ///
    /// # Errors
    /// [`SettleFault`] where the order is unknown or was released before.
    pub fn commit(&self, order: OrderRef, facts: &SettledFacts, at: UnixMillis) -> Result<Settled, SettleFault> {
        let view = self.orders.view_of(order);
        let (amount_fen, refunded_fen) = view.map_or((0, 0), |view| (view.amount_fen, view.refunded_fen));
        let mut refund = None;
        let committed = self.orders.commit(order, at, |stake| match stake {
            Stake::Payment(charges) => Stake::Payment(charges.split(|tag| !Coverage::from_bits(tag).covers(facts))),
            Stake::Refund { original, fen } => {
                refund = original.map(|original| (original, *fen));
                Stake::default()
            }
        });
        let settled = Settled { decision: order.decision(), state: State::Committed, already: false, late: false };
        match committed {
            Commit::Committed { freed } => {
                let decision = order.decision();
                self.give_back(&Released { decision, charges: freed, refunded_fen, amount_fen });
                if let Some((original, fen)) = refund {
                    self.refund(original, fen, at);
                }
                Ok(settled)
            }
            Commit::Already => Ok(Settled { already: true, ..settled }),
            Commit::Late { charges, amount_fen, refunded_fen } => {
                let decision = order.decision();
                self.take_late(&Released { decision, charges, amount_fen, refunded_fen }, at);
                Ok(Settled { late: true, ..settled })
            }
            Commit::Conflict => Err(SettleFault::Released),
            Commit::Unknown => Err(SettleFault::Unknown),
        }
    }

    /// Takes an order back: nothing of it has moved, or all of it was taken back.
    ///
    /// # Errors
    /// [`SettleFault`] where the order is unknown, or was committed before and `paid` refuses that.
    pub fn release(&self, order: OrderRef, paid: PaidRule, at: UnixMillis) -> Result<Settled, SettleFault> {
        let settled = Settled { decision: order.decision(), state: State::Released, already: false, late: false };
        match self.orders.release(order, at, paid) {
            Release::Released(released) => {
                self.give_back(&released);
                Ok(settled)
            }
            Release::Already => Ok(Settled { already: true, ..settled }),
            Release::Pending => Ok(Settled { state: State::Pending, ..settled }),
            Release::Conflict => Err(SettleFault::Committed),
            Release::Unknown => Err(SettleFault::Unknown),
        }
    }

    /// Records an order whose hold ran out.
    pub fn expire(&self, expired: Expired<Stake>, at: UnixMillis) {
        let Expired { decision, amount_fen, refunded_fen, charges } = expired;
        let event = match charges {
            Some(Stake::Refund { .. }) => return,
            Some(charges) => {
                self.give_back(&Released { decision, charges, refunded_fen, amount_fen });
                Event::Expired
            }
            None => Event::ExpiredKept,
        };
        self.ledger.note(Settlement { at, decision, amount_fen, event });
    }

    /// Gives room back for a refund that succeeded, in the windows of the original and never more than it took.
    fn refund(&self, original: OrderRef, fen: u64, at: UnixMillis) {
        // What was refunded was paid. Where the gate no longer knows of it, there is no room to give back either.
        if self.commit(original, &SettledFacts::default(), at).is_err() {
            return;
        }
        let Some(refund) = self.orders.refund(original, fen) else { return };
        if let Stake::Payment(charges) = &refund.charges {
            let returned = charges.portion(refund.fen, refund.whole, |tag| Coverage::from_bits(tag).returns());
            self.table.give_back(self.lane, &returned);
        }
    }

    /// Notes that an order was paid that had been released: what it took was given back, and its number may be another's.
    pub fn contradicted(&self, decision: DecisionId, amount_fen: u64, at: UnixMillis) {
        tracing::error!(%decision, amount_fen, "an order was paid after it had been released: correct its limits by hand");
        self.ledger.note(Settlement { at, decision, amount_fen, event: Event::PaidAfterRelease });
    }

    /// Takes again what was given back when the hold ran out: the money has moved, whatever the ceilings say. A refund
    /// that succeeds late gives its room back late.
    fn take_late(&self, order: &Released<Stake>, at: UnixMillis) {
        if let Stake::Refund { original, fen } = order.charges {
            return original.into_iter().for_each(|original| self.refund(original, fen, at));
        }
        each_part(order, |charges| {
            let LateCharge { lost, .. } = self.table.charge_late(self.lane, charges);
            if lost > 0 {
                tracing::error!(decision = %order.decision, cells = lost, "no room for rows of a late payment: raise rows_max");
            }
        });
        let Released { decision, amount_fen, .. } = *order;
        self.ledger.note(Settlement { at, decision, amount_fen, event: Event::CommittedLate });
    }

    /// Gives back what a released order took.
    fn give_back(&self, order: &Released<Stake>) {
        each_part(order, |charges| self.table.give_back(self.lane, charges));
    }
}

/// Visits what an order takes from limits: all of it, less what its refunds have given back.
fn each_part(order: &Released<Stake>, mut visit: impl FnMut(&Charges)) {
    let Released { charges: Stake::Payment(charges), refunded_fen, amount_fen, .. } = order else { return };
    if *refunded_fen == 0 {
        return visit(charges);
    }
    let returns = |tag| Coverage::from_bits(tag).returns();
    let left_fen = amount_fen.saturating_sub(*refunded_fen);
    visit(&charges.portion(*amount_fen, true, |tag| !returns(tag)));
    visit(&charges.portion(left_fen, left_fen > 0, returns));
}
