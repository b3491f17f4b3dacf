//! Settling an order: by the end of a forward, by its name, or by its decision's id. HOT.

use std::mem;

use dashmap::{Entry, OccupiedEntry};

use super::bound::{Outcome, Settled};
use super::key::{OrderKey, OrderRef};
use super::order::{Committing, Decided, Known, Left, Order, Releasing, Settling, State, seconds};
use super::{OrderName, Orders};
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// What a commit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Commit<C> {
    /// The order was held, and is committed now.
    Committed {
        /// What the commit split off: give it back.
        freed: C,
    },
    /// It was committed before.
    Already,
    /// Its hold had run out. It is committed now: charge again what was given back then. Asked once.
    Late {
        /// What it had charged.
        charges: C,
        /// Its amount, in fen.
        amount_fen: u64,
        /// What had been refunded of it before the hold ran out, in fen.
        refunded_fen: u64,
    },
    /// It was released before, and stays so.
    Conflict,
    /// No such decision holds an order, or did of late.
    Unknown,
}

/// What a release found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Release<C> {
    /// The order ended: give its charges back. They are handed out this once.
    Released(Released<C>),
    /// It was released before, or its hold had run out: nothing is to be given back.
    Already,
    /// A forward is in flight: the order ends when that is refused.
    Pending,
    /// It was committed, and [`PaidRule::Refuse`] holds.
    Conflict,
    /// No such decision holds an order, or did of late.
    Unknown,
}

/// Whether a release ends what was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PaidRule {
    /// It does: a close or a reversal succeeded upstream.
    TakeBack,
    /// It does not: somebody says that nothing was paid.
    Refuse,
}

/// An order taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released<C> {
    /// The decision that held the number.
    pub decision: DecisionId,
    /// What it had charged.
    pub charges: C,
    /// What of its amount was refunded, and so given back before, in fen.
    pub refunded_fen: u64,
    /// Its amount, in fen.
    pub amount_fen: u64,
}

/// A refund counted against an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refund<C> {
    /// How much of it the order had room for, in fen.
    pub fen: u64,
    /// Whether nothing of the order is left since this refund. Told once.
    pub whole: bool,
    /// What the order charged; it keeps them.
    pub charges: C,
}

impl<C> Orders<C> {
    /// Returns the decision that holds a number; `None` where the number is unknown, free again, or its decision is in
    /// flight.
    pub fn decided(&self, name: OrderName<'_>) -> Option<DecisionId> {
        let (key, check) = self.key(name);
        let order = self.part(key).get(&key)?;
        let random = match &order.state {
            State::Decided(Decided { random, .. }) if order.has(check) => *random,
            State::Deciding { .. } | State::Decided(_) | State::Leaving(_) | State::Released { .. } => return None,
        };
        drop(order);
        Some(self.id(key, random))
    }

    /// Finds the order that a decision holds, or held of late.
    pub fn find(&self, decision: DecisionId) -> Option<OrderRef> {
        let order = OrderRef::read(&self.prf, decision);
        let known = self.part(order.key).get(&order.key)?.random() == Some(order.random());
        known.then_some(order)
    }

    /// Finds the last decision on a number, whatever became of it; `None` while it is being made.
    pub fn named(&self, name: OrderName<'_>) -> Option<OrderRef> {
        let (key, check) = self.key(name);
        let random = self.part(key).get(&key).filter(|order| order.has(check))?.random()?;
        Some(OrderRef::new(key, self.id(key, random)))
    }

    /// Lets the hold of a decision last at least until then.
    pub(super) fn prolong(&self, key: OrderKey, random: u64, expires_s: i64) {
        if let Some(mut order) = self.part(key).get_mut(&key)
            && let Some(Known::Decided(decided)) = order.known(random)
        {
            decided.prolong(seconds(expires_s));
        }
    }

    /// Counts one forward as over, with an outcome that nobody knows.
    pub(super) fn doubt(&self, key: OrderKey, random: u64) {
        if let Some(mut order) = self.part(key).get_mut(&key)
            && let Some(Known::Decided(decided)) = order.known(random)
        {
            decided.end_forward(Outcome::Unknown);
        }
    }

    /// Frees the number of an order and leaves a note that it was released, where there is room for one. Where releases are
    /// recorded, [`Orders::leave`] does that.
    fn retire(&self, mut order: OccupiedEntry<'_, OrderKey, Order<C>>, random: u64, now_s: u32) -> State<C> {
        let entry = order.get_mut();
        if self.recording
            && let State::Decided(Decided { revision, amount_fen, refunded_fen, .. }) = entry.state
        {
            let left = Left { random, since_s: now_s, revision, amount_fen, refunded_fen };
            return mem::replace(&mut entry.state, State::Leaving(left));
        }
        let state = mem::replace(&mut entry.state, State::Released { random, since_s: now_s });
        self.room.give(&entry.share);
        if !self.notes.take() {
            order.remove();
        }
        state
    }

    fn release_of(&self, order: OccupiedEntry<'_, OrderKey, Order<C>>, random: u64, now_s: u32) -> Option<Released<C>> {
        let key = *order.key();
        match self.retire(order, random, now_s) {
            State::Decided(Decided { charges, amount_fen, refunded_fen, .. }) => {
                Some(Released { decision: self.id(key, random), charges, refunded_fen, amount_fen })
            }
            State::Deciding { .. } | State::Leaving(_) | State::Released { .. } => None,
        }
    }
}

impl<C: Clone> Orders<C> {
    /// Commits an order: its money moved. `free` splits off what the facts of the payment rule out, and is called only
    /// where the order was held. It runs under a lock, so it must not use the table.
    pub fn commit(&self, order: OrderRef, now: UnixMillis, free: impl FnOnce(&mut C) -> C) -> Commit<C> {
        let Some(mut entry) = self.part(order.key).get_mut(&order.key) else { return Commit::Unknown };
        let decided = match entry.known(order.random()) {
            Some(Known::Decided(decided)) => decided,
            Some(Known::Released) => return Commit::Conflict,
            None => return Commit::Unknown,
        };
        match decided.commit(seconds(now.seconds())) {
            Committing::Now => Commit::Committed { freed: free(&mut decided.charges) },
            Committing::Already => Commit::Already,
            Committing::Late => {
                let Decided { amount_fen, refunded_fen, .. } = *decided;
                Commit::Late { charges: decided.charges.clone(), amount_fen, refunded_fen }
            }
        }
    }

    /// Takes the order of a decision back and frees its number.
    ///
    /// Where a forward is still in flight, a close may have passed it on the way: the order ends when every such forward
    /// has been refused, and stays if one was not.
    pub fn release(&self, order: OrderRef, now: UnixMillis, paid: PaidRule) -> Release<C> {
        let (random, now_s) = (order.random(), seconds(now.seconds()));
        let Entry::Occupied(mut entry) = self.part(order.key).entry(order.key) else { return Release::Unknown };
        let releasing = match entry.get_mut().known(random) {
            Some(Known::Decided(decided)) => decided.release(paid, now_s),
            Some(Known::Released) => return Release::Already,
            None => return Release::Unknown,
        };
        match releasing {
            Releasing::Ends => match self.release_of(entry, random, now_s) {
                Some(released) => Release::Released(released),
                None => Release::Unknown,
            },
            Releasing::Closes => {
                drop(self.retire(entry, random, now_s));
                Release::Already
            }
            Releasing::Pending => Release::Pending,
            Releasing::Conflict => Release::Conflict,
        }
    }

    /// Counts a refund against an order. `None` where nothing is charged for it: it is unknown, or ended.
    pub fn refund(&self, order: OrderRef, fen: u64) -> Option<Refund<C>> {
        let mut entry = self.part(order.key).get_mut(&order.key)?;
        match entry.known(order.random())? {
            Known::Decided(decided) => {
                let fen = decided.refund(fen)?;
                Some(Refund { fen, whole: fen > 0 && decided.left_fen() == 0, charges: decided.charges.clone() })
            }
            Known::Released => None,
        }
    }

    /// Settles one forward of a decision.
    pub(super) fn settle(&self, key: OrderKey, random: u64, outcome: Outcome, now: UnixMillis) -> Settled<C> {
        let now_s = seconds(now.seconds());
        let Entry::Occupied(mut entry) = self.part(key).entry(key) else { return Settled::Nothing };
        // Released since, and perhaps bound again, where the decision is not found.
        let Some(Known::Decided(decided)) = entry.get_mut().known(random) else { return Settled::Nothing };
        match decided.settle(outcome, now_s) {
            Settling::Stays => Settled::Nothing,
            Settling::Ends => self.release_of(entry, random, now_s).map_or(Settled::Nothing, Settled::GiveBack),
            Settling::Late => {
                let Decided { amount_fen, refunded_fen, .. } = *decided;
                let charges = decided.charges.clone();
                Settled::Late { decision: self.id(key, random), charges, amount_fen, refunded_fen }
            }
        }
    }
}
