//! The table written down plainly: the oracle of random histories.

use std::collections::{BTreeMap, HashMap};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Is {
    Deciding,
    Held,
    Committed,
    Expired,
    Released,
}

/// The plain form of an order. Its forwards are the tickets of the bounds that stand for them.
#[derive(Clone, Debug)]
pub(super) struct Plain {
    pub(super) is: Is,
    pub(super) digest: u128,
    /// When it came to be what it is; for a hold, when it was bound.
    pub(super) since_s: i64,
    pub(super) open: Vec<u64>,
    /// How forwards ended since the order was last taken back.
    pub(super) ended: Vec<Outcome>,
    pub(super) decision: usize,
    pub(super) charges: Charges,
    pub(super) amount_fen: u64,
    pub(super) refunds: Vec<u64>,
    pub(super) expires_s: i64,
    pub(super) on_expiry: OnExpiry,
}

impl Plain {
    pub(super) fn refunded_fen(&self) -> u64 {
        self.refunds.iter().sum()
    }

    pub(super) fn become_at(&mut self, is: Is, now_s: i64) {
        (self.is, self.since_s) = (is, now_s);
    }

    pub(super) fn released(&self, id: DecisionId) -> Released<Charges> {
        let (charges, refunded_fen, amount_fen) = (self.charges, self.refunded_fen(), self.amount_fen);
        Released { decision: id, charges, refunded_fen, amount_fen }
    }
}

/// The table written down plainly.
#[derive(Default)]
pub(super) struct Oracle {
    pub(super) orders: BTreeMap<u8, Plain>,
    /// Every decision ever made, and on what.
    pub(super) decisions: Vec<(DecisionId, u8)>,
    pub(super) tickets: u64,
    pub(super) now_s: i64,
}

impl Oracle {
    pub(super) fn bind(&mut self, number: u8, digest: u128) -> Result<(u64, Option<usize>), BindRefused> {
        self.tickets += 1;
        let (ticket, now_s) = (self.tickets, self.now_s);
        if let Some(order) = self.orders.get_mut(&number).filter(|order| order.is != Is::Released) {
            return match order.is {
                Is::Deciding => Err(BindRefused::InFlight),
                Is::Held | Is::Committed if order.digest == digest => {
                    order.open.push(ticket);
                    Ok((ticket, Some(order.decision)))
                }
                _ => Err(BindRefused::Used),
            };
        }
        let order = Plain {
            is: Is::Deciding,
            digest,
            since_s: now_s,
            open: vec![ticket],
            ended: vec![],
            decision: usize::MAX,
            charges: 0,
            amount_fen: 0,
            refunds: vec![],
            expires_s: 0,
            on_expiry: OnExpiry::Release,
        };
        self.orders.insert(number, order);
        Ok((ticket, None))
    }

    /// The order that a decision holds or held, where it is known.
    pub(super) fn of(&mut self, decision: usize) -> Option<(DecisionId, &mut Plain)> {
        let (id, number) = *self.decisions.get(decision)?;
        Some((id, self.orders.get_mut(&number).filter(|order| order.decision == decision)?))
    }

    pub(super) fn settle(&mut self, number: u8, ticket: u64, outcome: Outcome) -> Settled<Charges> {
        let now_s = self.now_s;
        let Some(order) = self.orders.get_mut(&number) else { return Settled::Nothing };
        let Some(position) = order.open.iter().position(|open| *open == ticket) else { return Settled::Nothing };
        order.open.remove(position);
        if order.is == Is::Deciding {
            self.orders.remove(&number);
            return Settled::Nothing;
        }
        order.ended.push(outcome);
        assert_ne!(order.is, Is::Expired, "expired with a forward in flight");
        if order.is != Is::Held {
            return Settled::Nothing;
        }
        if outcome == Outcome::Done {
            order.become_at(Is::Committed, now_s);
        } else if order.open.is_empty() && order.ended.iter().all(|ended| *ended == Outcome::Refused) {
            order.become_at(Is::Released, now_s);
            let order = order.clone();
            return Settled::GiveBack(order.released(self.decisions[order.decision].0));
        }
        Settled::Nothing
    }

    pub(super) fn commit(&mut self, decision: usize) -> Commit<Charges> {
        let now_s = self.now_s;
        let Some((_, order)) = self.of(decision) else { return Commit::Unknown };
        let was = order.is;
        match was {
            Is::Deciding => unreachable!("decided"),
            Is::Released => return Commit::Conflict,
            Is::Committed => return Commit::Already,
            Is::Held | Is::Expired => order.become_at(Is::Committed, now_s),
        }
        if was == Is::Held {
            return Commit::Committed { freed: split(&mut order.charges) };
        }
        Commit::Late { charges: order.charges, amount_fen: order.amount_fen, refunded_fen: order.refunded_fen() }
    }

    pub(super) fn release(&mut self, decision: usize, paid: PaidRule) -> Release<Charges> {
        let now_s = self.now_s;
        let Some((id, order)) = self.of(decision) else { return Release::Unknown };
        match (order.is, paid) {
            (Is::Deciding, _) => unreachable!("decided"),
            (Is::Released, _) => Release::Already,
            (Is::Expired, _) => {
                order.become_at(Is::Released, now_s);
                Release::Already
            }
            (Is::Committed, PaidRule::Refuse) => Release::Conflict,
            (Is::Held | Is::Committed, _) if order.open.is_empty() => {
                order.become_at(Is::Released, now_s);
                Release::Released(order.released(id))
            }
            (Is::Held | Is::Committed, _) => {
                if order.is == Is::Committed {
                    order.become_at(Is::Held, now_s);
                }
                order.ended.clear();
                Release::Pending
            }
        }
    }

    pub(super) fn refund(&mut self, decision: usize, fen: u64) -> Option<Refund<Charges>> {
        let (_, order) = self.of(decision)?;
        if !matches!(order.is, Is::Held | Is::Committed) {
            return None;
        }
        let before = order.refunded_fen();
        let after = (before + fen).min(order.amount_fen);
        order.refunds.push(after - before);
        let whole = after > before && after == order.amount_fen;
        Some(Refund { fen: after - before, whole, charges: order.charges })
    }

    pub(super) fn sweep(&mut self) -> HashMap<DecisionId, Expired<Charges>> {
        let (now_s, decisions) = (self.now_s, &self.decisions);
        let mut expired = HashMap::new();
        for order in self.orders.values_mut().filter(|order| order.open.is_empty()) {
            if order.is == Is::Held && now_s > order.expires_s {
                let decision = decisions[order.decision].0;
                let (is, charges) = match order.on_expiry {
                    OnExpiry::Release => (Is::Expired, Some(order.charges)),
                    OnExpiry::Keep => (Is::Committed, None),
                };
                order.become_at(is, now_s);
                let (amount_fen, refunded_fen) = (order.amount_fen, order.refunded_fen());
                expired.insert(decision, Expired { decision, amount_fen, refunded_fen, charges });
            }
        }
        self.orders.retain(|_, order| match order.is {
            Is::Deciding | Is::Held => true,
            Is::Committed | Is::Expired => !order.open.is_empty() || now_s <= order.since_s + i64::from(KEEP_S),
            Is::Released => now_s <= order.since_s + i64::from(RELEASED_KEEP_S),
        });
        expired
    }

    pub(super) fn holds(&self) -> Holds {
        let mut holds = Holds::default();
        for order in self.orders.values().filter(|order| order.is == Is::Held) {
            let age = match self.now_s - order.since_s {
                ..60 => 0,
                60..3_600 => 1,
                3_600..86_400 => 2,
                86_400.. => 3,
            };
            holds.by_age[age].orders += 1;
            holds.by_age[age].fen += order.amount_fen - order.refunded_fen();
        }
        holds
    }
}

/// Frees a quarter.
pub(super) fn split(charges: &mut Charges) -> Charges {
    let freed = *charges / 4;
    *charges -= freed;
    freed
}
