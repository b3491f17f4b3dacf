//! Ends holds whose time is over, drops what is long settled, and counts what is held. COLD.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::bound::OnExpiry;
use super::key::OrderKey;
use super::order::{Decided, Order, Phase, State, is_past, seconds};
use super::{Orders, PARTS};
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// A hold that ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired<C> {
    /// The decision.
    pub decision: DecisionId,
    /// Its amount, in fen.
    pub amount_fen: u64,
    /// What of its amount was refunded, and so given back before, in fen.
    pub refunded_fen: u64,
    /// The charges where they are to be given back, this once; `None` where they stay and the order is committed.
    pub charges: Option<C>,
}

/// What is held, by the time since it was bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    /// Younger than each of [`HOLD_AGES_S`], and all that are older.
    pub by_age: [HoldAge; HOLD_AGES_S.len() + 1],
}

/// What is held of one age.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HoldAge {
    /// How many orders.
    pub orders: u64,
    /// Their amounts less what was refunded, in fen.
    pub fen: u64,
}

impl<C: Clone> Orders<C> {
    /// Looks through one of [`SWEEPS_PER_PASS`](Self::SWEEPS_PER_PASS) parts, the next call through the next.
    ///
    /// Ends the holds whose time is over, and drops what was settled `keep_s` ago; neither touches an order with a forward
    /// or a decision in flight. One call ends at most `expired_max` holds, the next pass the others.
    pub fn sweep(&self, now: UnixMillis, expired_max: usize) -> Vec<Expired<C>> {
        // Relaxed: the counter publishes nothing; two sweeps at once are harmless.
        let turn = self.sweeps.fetch_add(1, Ordering::Relaxed) % PARTS;
        let (mut expired, mut held) = (Vec::new(), Holds::default());
        let Some(part) = self.parts.get(turn) else { return expired };
        let now_s = seconds(now.seconds());
        part.retain(|key, order| {
            if let State::Decided(decided) = &mut order.state {
                if expired.len() < expired_max {
                    expired.extend(self.expire(*key, decided, now_s));
                }
                held.count(decided, now_s);
            }
            self.keep(order, now_s)
        });
        if let Some(counted) = self.held.lock().unwrap_or_else(PoisonError::into_inner).get_mut(turn) {
            *counted = held;
        }
        expired
    }

    /// Shows the charges of every order that is held; no lock is held meanwhile.
    pub fn held(&self, visit: &mut dyn FnMut(&C)) {
        for part in &self.parts {
            let charges = part.iter().filter_map(|order| match &order.state {
                State::Decided(decided) if decided.phase == Phase::Held => Some(decided.charges.clone()),
                State::Deciding { .. } | State::Decided(_) | State::Leaving(_) | State::Released { .. } => None,
            });
            let charges: Vec<_> = charges.collect();
            charges.iter().for_each(&mut *visit);
        }
    }

    fn expire(&self, key: OrderKey, decided: &mut Decided<C>, now_s: u32) -> Option<Expired<C>> {
        let charges = match decided.expire(now_s)? {
            OnExpiry::Release => Some(decided.charges.clone()),
            OnExpiry::Keep => None,
        };
        let Decided { random, amount_fen, refunded_fen, .. } = *decided;
        Some(Expired { decision: self.id(key, random), amount_fen, refunded_fen, charges })
    }
}

impl<C> Orders<C> {
    /// Returns what was held when the last pass of sweeps saw it.
    pub fn holds(&self) -> Holds {
        let mut sum = Holds::default();
        for held in self.held.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            for (sum, held) in sum.by_age.iter_mut().zip(held.by_age) {
                sum.add(held);
            }
        }
        sum
    }

    /// Tells whether an order stays; gives back the room of one that does not.
    fn keep(&self, order: &Order<C>, now_s: u32) -> bool {
        match &order.state {
            State::Deciding { .. } | State::Leaving(_) => true,
            State::Decided(decided) => {
                let past = decided.is_past(now_s, self.keep_s);
                if past {
                    self.room.give(&order.share);
                }
                !past
            }
            State::Released { since_s, .. } => {
                let past = is_past(*since_s, now_s, RELEASED_KEEP_S);
                if past {
                    self.notes.give();
                }
                !past
            }
        }
    }
}

impl Holds {
    fn count<C>(&mut self, decided: &Decided<C>, now_s: u32) {
        if decided.phase != Phase::Held {
            return;
        }
        let age_s = now_s.saturating_sub(decided.since_s);
        let older = HOLD_AGES_S.iter().filter(|limit_s| age_s >= **limit_s).count();
        if let Some(counted) = self.by_age.get_mut(older) {
            counted.add(HoldAge { orders: 1, fen: decided.left_fen() });
        }
    }
}

impl HoldAge {
    /// Saturating: a sum for display.
    const fn add(&mut self, other: Self) {
        self.orders = self.orders.saturating_add(other.orders);
        self.fen = self.fen.saturating_add(other.fen);
    }
}

/// The ages that holds are counted by, in seconds: a minute, an hour, a day.
pub const HOLD_AGES_S: [u32; 3] = [60, 3_600, 86_400];

/// How long it is known that an order was released, in seconds.
pub const RELEASED_KEEP_S: u32 = 600;

/// Most holds that one sweep should end.
pub const EXPIRED_PER_SWEEP_MAX: usize = 16_384;
