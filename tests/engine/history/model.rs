//! The plain model: one thread, maps, and the rules written out.

use std::collections::HashMap;

use tollgate::admission::{Detail, Event, Outcome, SettleAs, SettleFault, State};
use tollgate::merchant::SettledFacts;
use tollgate::reason::Reason;
use tollgate::types::Window;

use super::counts::{Charge, Counts, Full};
use super::orders::{Name, News, Order, Return, Verdict};
use super::rules::{Rule, Says, end_s};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Held,
    Committed,
    Expired,
}

#[derive(Clone)]
enum Meant {
    Payment(Order),
    Refund(Return, Option<usize>),
}

struct Bound {
    meant: Meant,
    decision: usize,
    charges: Vec<Charge>,
    amount: u64,
    refunded: u64,
    forwards: u32,
    kept: bool,
    phase: Phase,
    /// Since when it is settled.
    since_s: i64,
    expires_s: i64,
    keep_on_expiry: bool,
}

/// How a gate holds orders.
#[derive(Clone, Copy, Debug)]
pub struct Holding {
    pub hold_s: i64,
    pub keep_s: i64,
    pub keep_on_expiry: bool,
}

/// The state of a gate.
pub struct Model {
    pub now_s: i64,
    pub policy: Vec<(Rule, u64)>,
    holding: Holding,
    pub counts: Counts,
    orders: HashMap<Name, Bound>,
    /// The last decision released under a number, and when.
    released: HashMap<Name, (usize, i64)>,
    /// The verdict on each request, in the order they came; `None` for an admission.
    verdicts: Vec<Option<Reason>>,
    decisions: usize,
    /// The amount of each decision on an order.
    amounts: HashMap<usize, u64>,
    pub events: Vec<(i64, usize, u64, Event)>,
}

impl Model {
    pub fn new(now_s: i64, policy: Vec<(Rule, u64)>, holding: Holding) -> Self {
        Self {
            now_s,
            policy,
            holding,
            counts: Counts::default(),
            orders: HashMap::new(),
            released: HashMap::new(),
            verdicts: Vec::new(),
            decisions: 0,
            amounts: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// A new request for a payment, that can be paid until an instant.
    pub fn pay(&mut self, order: &Order, expires_s: Option<i64>) -> Verdict {
        let name = (false, order.merchant, order.number);
        let until_s = self.until_s(order, expires_s);
        let same = |meant: &Meant| matches!(meant, Meant::Payment(other) if other == order);
        let verdict = match self.forward_again(name, same, until_s.clone()) {
            Some(verdict) => verdict,
            None => self.decide(order, until_s),
        };
        self.note(verdict)
    }

    /// A new request for a refund.
    pub fn refund(&mut self, refund: &Return) -> Verdict {
        let name = (true, refund.merchant, refund.number);
        let same = |meant: &Meant| matches!(meant, Meant::Refund(other, _) if other == refund);
        let until_s = self.now_s + self.holding.hold_s;
        match self.forward_again(name, same, Ok(until_s)) {
            Some(verdict) => verdict,
            None => {
                let original = self.named((false, refund.merchant, refund.original));
                let meant = Meant::Refund(refund.clone(), original);
                let decision = self.bind(name, meant, Vec::new(), refund.amount, (until_s, false));
                Verdict::Admitted { decision, duplicate: false, shadowed: Vec::new() }
            }
        }
    }

    /// The request of this number once more.
    pub fn again(&mut self, number: usize, order: &Order, expires_s: Option<i64>, hop: bool) -> Verdict {
        let replayed = Verdict::Refused(Reason::NonceReplayed, Some(Detail::None));
        let name = (false, order.merchant, order.number);
        match self.verdicts[number] {
            _ if !hop => replayed,
            Some(reason) => Verdict::Refused(reason, None),
            None => {
                let same = |meant: &Meant| matches!(meant, Meant::Payment(other) if other == order);
                let again = self.forward_again(name, same, self.until_s(order, expires_s));
                again.unwrap_or_else(|| {
                    self.released.remove(&name);
                    replayed
                })
            }
        }
    }

    /// Which decision is known under a number, be it released.
    pub fn named(&self, name: Name) -> Option<usize> {
        let bound = self.orders.get(&name).map(|bound| bound.decision);
        bound.or_else(|| self.released.get(&name).map(|(decision, _)| *decision))
    }

    /// The end of a forward of an order, as of when it was admitted.
    pub fn settle(&mut self, name: Name, decision: usize, news: News, at_s: i64) {
        let outcome = news.outcome.unwrap_or(Outcome::Unknown);
        if let Some(bound) = self.orders.get_mut(&name).filter(|bound| bound.decision == decision) {
            bound.forwards -= 1;
            bound.kept |= matches!(outcome, Outcome::Created | Outcome::Unknown);
            if outcome == Outcome::Refused && bound.forwards == 0 && !bound.kept && bound.phase == Phase::Held {
                self.end(name, at_s);
            }
        }
        if outcome == Outcome::Done {
            let amount = self.amounts.get(&decision).copied().unwrap_or(0);
            self.told_done(name, decision, &news.facts, amount, at_s);
        }
    }

    /// The upstream says that an order was done; where it had been released, that is shown.
    fn told_done(&mut self, name: Name, decision: usize, facts: &SettledFacts, amount: u64, at_s: i64) {
        let committed = self.commit(name, decision, facts, at_s);
        if committed == Err(SettleFault::Released) && !name.0 {
            self.events.push((at_s, decision, amount, Event::PaidAfterRelease));
        }
    }

    /// What an answer to a query, a close or a reversal says of an order.
    pub fn told(&mut self, name: Name, decision: Option<usize>, news: News, at_s: i64) {
        let Some(decision) = decision else { return };
        match news.outcome {
            Some(Outcome::Done) => self.told_done(name, decision, &news.facts, 0, at_s),
            Some(Outcome::Refused) => drop(self.release(name, decision, true, at_s)),
            Some(Outcome::Created | Outcome::Unknown) | None => {}
        }
    }

    /// The operator settles a decision; says its state, whether it was so before, and whether it comes late.
    pub fn operate(
        &mut self,
        name: Name,
        decision: usize,
        settle: SettleAs,
        facts: &SettledFacts,
    ) -> Result<(State, bool, bool), SettleFault> {
        let amount = self.orders.get(&name).filter(|bound| bound.decision == decision).map_or(0, |bound| bound.amount);
        let (settled, event) = match settle {
            SettleAs::Commit => (self.commit(name, decision, facts, self.now_s)?, Event::Committed),
            SettleAs::Release => (self.release(name, decision, false, self.now_s)?, Event::Released),
        };
        if let (State::Committed | State::Released, false, false) = settled {
            self.events.push((self.now_s, decision, amount, event));
        }
        Ok(settled)
    }

    fn commit(
        &mut self,
        name: Name,
        decision: usize,
        facts: &SettledFacts,
        at_s: i64,
    ) -> Result<(State, bool, bool), SettleFault> {
        let Some(bound) = self.known(name, decision)? else { return Err(SettleFault::Released) };
        let phase = bound.phase;
        if phase == Phase::Committed {
            return Ok((State::Committed, true, false));
        }
        (bound.phase, bound.since_s) = (Phase::Committed, at_s);
        let (amount, refunded) = (bound.amount, bound.refunded);
        if phase == Phase::Expired {
            if let Meant::Refund(refund, original) = bound.meant.clone() {
                if let Some(original) = original {
                    let name = (false, refund.merchant, refund.original);
                    self.give_for_refund(name, original, refund.amount, at_s);
                }
                return Ok((State::Committed, false, true));
            }
            let charges = bound.charges.clone();
            self.counts.take_late(&charges, (amount, refunded));
            self.events.push((at_s, decision, amount, Event::CommittedLate));
            return Ok((State::Committed, false, true));
        }
        let (freed, kept) = bound.charges.drain(..).partition(|charge| !charge.rule.covers(facts));
        bound.charges = kept;
        let meant = bound.meant.clone();
        self.counts.give_back(&freed);
        if let Meant::Refund(Return { merchant, original, amount, .. }, Some(decision)) = meant {
            self.give_for_refund((false, merchant, original), decision, amount, at_s);
        }
        Ok((State::Committed, false, false))
    }

    fn give_for_refund(&mut self, name: Name, decision: usize, fen: u64, at_s: i64) {
        if self.commit(name, decision, &SettledFacts::default(), at_s).is_err() {
            return;
        }
        let Some(bound) = self.orders.get_mut(&name) else { return };
        let fen = fen.min(bound.amount - bound.refunded);
        bound.refunded += fen;
        self.counts.refund(&bound.charges, fen, fen > 0 && bound.refunded == bound.amount);
    }

    fn release(
        &mut self,
        name: Name,
        decision: usize,
        take_back: bool,
        at_s: i64,
    ) -> Result<(State, bool, bool), SettleFault> {
        let Some(bound) = self.known(name, decision)? else { return Ok((State::Released, true, false)) };
        match bound.phase {
            Phase::Expired => {
                self.orders.remove(&name);
                self.released.insert(name, (decision, at_s));
                return Ok((State::Released, true, false));
            }
            Phase::Committed if !take_back => return Err(SettleFault::Committed),
            Phase::Held | Phase::Committed if bound.forwards == 0 => {
                self.end(name, at_s);
                return Ok((State::Released, false, false));
            }
            Phase::Held | Phase::Committed => {}
        }
        // A forward in flight may have passed the close on its way: the order ends when all such are refused.
        (bound.phase, bound.kept) = (Phase::Held, false);
        Ok((State::Pending, false, false))
    }

    /// Finds the order of a decision: nothing where it was released.
    fn known(&mut self, name: Name, decision: usize) -> Result<Option<&mut Bound>, SettleFault> {
        let released =
            !self.orders.contains_key(&name) && self.released.get(&name).is_some_and(|one| one.0 == decision);
        let bound = self.orders.get_mut(&name).filter(|bound| bound.decision == decision);
        if bound.is_some() || released { Ok(bound) } else { Err(SettleFault::Unknown) }
    }

    fn end(&mut self, name: Name, at_s: i64) {
        let bound = self.orders.remove(&name).expect("an order that ends");
        self.counts.give_back_rest(&bound.charges, (bound.amount, bound.refunded));
        self.released.insert(name, (bound.decision, at_s));
    }

    /// A whole pass of the background thread.
    pub fn sweep(&mut self) {
        let (now_s, keep_s) = (self.now_s, self.holding.keep_s);
        for bound in self.orders.values_mut() {
            if bound.phase != Phase::Held || bound.forwards > 0 || now_s <= bound.expires_s {
                continue;
            }
            let event = if bound.keep_on_expiry { Event::ExpiredKept } else { Event::Expired };
            bound.phase = if bound.keep_on_expiry { Phase::Committed } else { Phase::Expired };
            bound.since_s = now_s;
            if !bound.keep_on_expiry {
                self.counts.give_back_rest(&bound.charges, (bound.amount, bound.refunded));
            }
            if !matches!(bound.meant, Meant::Refund(..)) {
                self.events.push((now_s, bound.decision, bound.amount, event));
            }
        }
        self.orders
            .retain(|_, bound| bound.phase == Phase::Held || bound.forwards > 0 || now_s <= bound.since_s + keep_s);
        self.released.retain(|_, (_, since_s)| now_s <= *since_s + 600);
        self.counts.reclaim(now_s);
    }

    /// Returns what is charged for orders that are held.
    pub fn held(&self) -> Vec<&Charge> {
        self.orders.values().filter(|bound| bound.phase == Phase::Held).flat_map(|bound| &bound.charges).collect()
    }

    fn note(&mut self, verdict: Verdict) -> Verdict {
        self.verdicts.push(match &verdict {
            Verdict::Admitted { .. } => None,
            Verdict::Refused(reason, _) => Some(*reason),
        });
        verdict
    }

    /// The verdict where the number is bound.
    fn forward_again(
        &mut self,
        name: Name,
        same: impl Fn(&Meant) -> bool,
        until_s: Result<i64, Verdict>,
    ) -> Option<Verdict> {
        let bound = self.orders.get_mut(&name)?;
        if !same(&bound.meant) || bound.phase == Phase::Expired {
            return Some(Verdict::Refused(Reason::OrderNumberUsed, Some(Detail::None)));
        }
        match until_s {
            Ok(until_s) => bound.expires_s = bound.expires_s.max(until_s),
            Err(refused) => return Some(refused),
        }
        bound.forwards += 1;
        Some(Verdict::Admitted { decision: bound.decision, duplicate: true, shadowed: Vec::new() })
    }

    /// Until when an order is held, whose request says when it expires.
    fn until_s(&self, order: &Order, expires_s: Option<i64>) -> Result<i64, Verdict> {
        match expires_s.filter(|_| !order.on_answer) {
            Some(expires_s) if expires_s > self.now_s + 30 * 86_400 => {
                let detail = Detail::Parameter { name: "/time_expire".to_owned() };
                Err(Verdict::Refused(Reason::ParameterInvalid, Some(detail)))
            }
            Some(expires_s) => Ok(expires_s.max(self.now_s) + 300),
            None => Ok(self.now_s + self.holding.hold_s),
        }
    }

    fn decide(&mut self, order: &Order, until_s: Result<i64, Verdict>) -> Verdict {
        // Whoever asks for the number next, in vain or not, makes it forget the decision released before.
        self.released.remove(&(false, order.merchant, order.number));
        let until_s = match until_s {
            Ok(until_s) => until_s,
            Err(refused) => return refused,
        };
        let mut shadowed = Vec::new();
        for (position, (rule, percent)) in (0..).zip(&self.policy) {
            let reason = match rule.says(order, *percent) {
                Says::Nothing | Says::Checked | Says::Charges(_) => continue,
                Says::Above => Reason::LimitExceeded,
                Says::Unknown => Reason::LimitSubjectUnknown,
            };
            if !rule.shadow {
                return Verdict::Refused(reason, Some(limit(rule.id, None, None)));
            }
            shadowed.push(position);
        }
        let (charges, lacking) = match self.counts.take(order, &self.policy, self.now_s) {
            Ok(taken) => taken,
            Err(Full { limit: id, cut_over_hour, window, fits }) => {
                let ends = fits.then(|| end_s(window, self.now_s, cut_over_hour)).flatten();
                return Verdict::Refused(Reason::LimitExceeded, Some(limit(id, Some(window), ends)));
            }
        };
        shadowed.extend(lacking);
        let terms = (until_s, order.on_answer || self.holding.keep_on_expiry);
        let name = (false, order.merchant, order.number);
        let decision = self.bind(name, Meant::Payment(order.clone()), charges, order.amount, terms);
        Verdict::Admitted { decision, duplicate: false, shadowed }
    }

    fn bind(&mut self, name: Name, meant: Meant, charges: Vec<Charge>, amount: u64, terms: (i64, bool)) -> usize {
        let decision = self.decisions;
        self.decisions += 1;
        self.released.remove(&name);
        let (expires_s, keep_on_expiry) = terms;
        let bound = Bound {
            meant,
            decision,
            charges,
            amount,
            refunded: 0,
            forwards: 1,
            kept: false,
            phase: Phase::Held,
            since_s: self.now_s,
            expires_s,
            keep_on_expiry,
        };
        self.amounts.insert(decision, amount);
        self.orders.insert(name, bound);
        decision
    }
}

fn limit(id: &str, window: Option<Window>, ends_s: Option<i64>) -> Detail {
    let ends = ends_s.map(tollgate::time::UnixMillis::from_seconds);
    Detail::Limit { limit: id.to_owned(), window, ends }
}
