//! The books: what admissions took, and every way in which it is settled.

use std::sync::Arc;

use smallvec::SmallVec;

use super::ledger::Ledger;
use super::record::{After, CHANGE_BYTES_MAX, Change, Recorder};
use super::settle::{Event, SettleFault, Settled, Settlement, State};
use crate::journal::{Cause, ChangeEntry, Log, Position};
use crate::merchant::{Coverage, SettledFacts};
use crate::quota::{Charges, Lane, LateCharge, Table};
use crate::replay::{
    self, Bound, Commit, EXPIRED_PER_SWEEP_MAX, Expired, OrderRef, Orders, Outcome, PaidRule, Release, Released,
};
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
    /// Where changes are recorded; `None` where nothing is.
    pub recorder: Option<Recorder>,
}

impl Books {
    /// Returns the same books for another worker: with counters of its own, and a file of its own to record in.
    pub fn of_another_worker(&self, log: Option<Arc<Log>>) -> Self {
        let recorder = self.recorder.as_ref();
        let recorder = recorder.zip(log).map(|(Recorder { gate, .. }, log)| Recorder { log, gate: Arc::clone(gate) });
        Self { lane: self.table.lane(), recorder, ..self.clone() }
    }

    /// Settles one forward of an order. Returns the record that what it gives back waits for.
    pub fn settle(&self, bound: Bound<Stake>, outcome: Outcome, at: UnixMillis) -> Option<Position> {
        let Some(order) = bound.order().filter(|_| matches!(outcome, Outcome::Done | Outcome::Refused)) else {
            // What nobody knows the end of stays as it is recorded.
            let nothing = bound.settle(outcome, at);
            debug_assert!(matches!(nothing, replay::Settled::Nothing), "only an end that is known settles");
            return None;
        };
        let settled = self.change(Cause::Answer, at, |change| match bound.settle(outcome, at) {
            replay::Settled::Nothing => {
                if outcome == Outcome::Done {
                    change.touch(order);
                }
            }
            replay::Settled::GiveBack(released) => {
                give_back(change, &released);
                change.leave(order);
            }
            replay::Settled::Late { decision, charges, amount_fen, refunded_fen } => {
                change.touch(order);
                self.take_late(change, &Released { decision, charges, amount_fen, refunded_fen }, at);
            }
        });
        // Where it cannot be recorded, the forward was dropped: its outcome is not known.
        settled.ok().and_then(|((), position)| position)
    }

    /// Notes that an order's money has moved; frees the limits that the facts now known rule out. A refund's success gives
    /// room back to the limits of the original that say so.
    ///
    /// # Errors
    /// [`SettleFault`] where the order is unknown or was released before, or where it cannot be recorded.
    pub fn commit(
        &self,
        cause: Cause,
        order: OrderRef,
        facts: &SettledFacts,
        at: UnixMillis,
    ) -> Result<(Settled, Option<Position>), SettleFault> {
        let (settled, position) = self.change(cause, at, |change| self.commit_in(change, order, facts, at))?;
        Ok((settled?, position))
    }

    fn commit_in(
        &self,
        change: &mut Change,
        order: OrderRef,
        facts: &SettledFacts,
        at: UnixMillis,
    ) -> Result<Settled, SettleFault> {
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
                change.touch(order);
                let decision = order.decision();
                give_back(change, &Released { decision, charges: freed, refunded_fen, amount_fen });
                if let Some((original, fen)) = refund {
                    self.refund(change, original, fen, at);
                }
                Ok(settled)
            }
            Commit::Already => {
                // Whoever calls again may do so before the record of the first call is safe: recorded again, it is by the
                // time that this one is answered.
                if change.is_call() {
                    change.touch(order);
                }
                Ok(Settled { already: true, ..settled })
            }
            Commit::Late { charges, amount_fen, refunded_fen } => {
                change.touch(order);
                let decision = order.decision();
                self.take_late(change, &Released { decision, charges, amount_fen, refunded_fen }, at);
                Ok(Settled { late: true, ..settled })
            }
            Commit::Conflict => Err(SettleFault::Released),
            Commit::Unknown => Err(SettleFault::Unknown),
        }
    }

    /// Takes an order back: nothing of it has moved, or all of it was taken back. Returns the record that what it gives
    /// back waits for.
    ///
    /// # Errors
    /// [`SettleFault`] where the order is unknown, or was committed before and `paid` refuses that, or where it cannot be
    /// recorded.
    pub fn release(
        &self,
        cause: Cause,
        order: OrderRef,
        paid: PaidRule,
        at: UnixMillis,
    ) -> Result<(Settled, Option<Position>), SettleFault> {
        let settled = Settled { decision: order.decision(), state: State::Released, already: false, late: false };
        let (released, position) = self.change(cause, at, |change| match self.orders.release(order, at, paid) {
            Release::Released(released) => {
                give_back(change, &released);
                change.leave(order);
                Ok(settled)
            }
            Release::Already => {
                // Its hold had run out, or it was released before; only the first leaves anything to be recorded.
                change.leave(order);
                Ok(Settled { already: true, ..settled })
            }
            Release::Pending => {
                change.touch(order);
                Ok(Settled { state: State::Pending, ..settled })
            }
            Release::Conflict => Err(SettleFault::Committed),
            Release::Unknown => Err(SettleFault::Unknown),
        })?;
        Ok((released?, position))
    }

    /// Ends the holds that ran out, in a part of the orders a call, and records it.
    pub fn expire(&self, at: UnixMillis) {
        let Some(Recorder { log, gate }) = &self.recorder else {
            let expired = self.orders.sweep(at, EXPIRED_PER_SWEEP_MAX);
            return expired.into_iter().for_each(|expired| {
                let after = self.expired(expired, at);
                after.iter().for_each(|charges| self.table.give_back(self.lane, charges));
            });
        };
        let mut turn = log.turn();
        if gate.watermark().has_failed() {
            return;
        }
        let expired_max = (turn.room_bytes() / CHANGE_BYTES_MAX).min(EXPIRED_PER_SWEEP_MAX);
        let mut after: Vec<After> = Vec::new();
        for expired in self.orders.sweep(at, expired_max) {
            let order = self.orders.find(expired.decision);
            let image = order.and_then(|order| self.image(order, &[]));
            let orders = image.into_iter().collect();
            if turn.change(at, &ChangeEntry { cause: Cause::Expiry, orders }).is_err() {
                return;
            }
            after.extend(self.expired(expired, at).into_iter().map(After::GiveBack));
        }
        if after.is_empty() {
            // What was kept charges no less.
            let _ = turn.flush();
        } else if let Ok(position) = turn.flush() {
            gate.defer(position, after.into_iter());
        }
    }

    /// Notes an order whose hold ran out; returns what it gives back.
    fn expired(&self, expired: Expired<Stake>, at: UnixMillis) -> SmallVec<[Charges; 2]> {
        let Expired { decision, amount_fen, refunded_fen, charges } = expired;
        let mut parts = SmallVec::new();
        let event = match charges {
            Some(Stake::Refund { .. }) => return parts,
            Some(charges) => {
                each_part(&Released { decision, charges, refunded_fen, amount_fen }, |part| parts.push(part));
                Event::Expired
            }
            None => Event::ExpiredKept,
        };
        self.ledger.note(Settlement { at, decision, amount_fen, event });
        parts
    }

    /// Gives room back for a refund that succeeded, in the windows of the original and never more than it took.
    fn refund(&self, change: &mut Change, original: OrderRef, fen: u64, at: UnixMillis) {
        // What was refunded was paid. Where the gate no longer knows of it, there is no room to give back either.
        if self.commit_in(change, original, &SettledFacts::default(), at).is_err() {
            return;
        }
        let Some(refund) = self.orders.refund(original, fen) else { return };
        change.touch(original);
        if let Stake::Payment(charges) = &refund.charges {
            change.give_back(charges.portion(refund.fen, refund.whole, |tag| Coverage::from_bits(tag).returns()));
        }
    }

    /// Notes that an order was paid that had been released: what it took was given back, and its number may be another's.
    pub fn contradicted(&self, decision: DecisionId, amount_fen: u64, at: UnixMillis) {
        tracing::error!(%decision, amount_fen, "an order was paid after it had been released: correct its limits by hand");
        self.ledger.note(Settlement { at, decision, amount_fen, event: Event::PaidAfterRelease });
    }

    /// Takes again what was given back when the hold ran out: the money has moved, whatever the ceilings say. A refund
    /// that succeeds late gives its room back late.
    fn take_late(&self, change: &mut Change, order: &Released<Stake>, at: UnixMillis) {
        if let Stake::Refund { original, fen } = order.charges {
            return original.into_iter().for_each(|original| self.refund(change, original, fen, at));
        }
        each_part(order, |charges| {
            let LateCharge { lost, .. } = self.table.charge_late(self.lane, &charges);
            if lost > 0 {
                tracing::error!(decision = %order.decision, cells = lost, "no room for rows of a late payment: raise rows_max");
            }
        });
        let Released { decision, amount_fen, .. } = *order;
        self.ledger.note(Settlement { at, decision, amount_fen, event: Event::CommittedLate });
    }
}

/// Has what a released order took given back.
fn give_back(change: &mut Change, order: &Released<Stake>) {
    each_part(order, |charges| change.give_back(charges));
}

/// Visits what an order takes from limits: all of it, less what its refunds have given back.
fn each_part(order: &Released<Stake>, mut visit: impl FnMut(Charges)) {
    let Released { charges: Stake::Payment(charges), refunded_fen, amount_fen, .. } = order else { return };
    if *refunded_fen == 0 {
        return visit(charges.clone());
    }
    let returns = |tag| Coverage::from_bits(tag).returns();
    let left_fen = amount_fen.saturating_sub(*refunded_fen);
    visit(charges.portion(*amount_fen, true, |tag| !returns(tag)));
    visit(charges.portion(left_fen, left_fen > 0, returns));
}
