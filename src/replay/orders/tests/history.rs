//! Random histories, against the table written down plainly.

use std::collections::HashMap;

use proptest::prelude::*;

use super::plain::{Is, Oracle, split};
use super::*;

/// One step of a history. A position beyond what there is does nothing.
#[derive(Clone, Copy, Debug)]
enum Step {
    Bind { number: u8, digest: u128 },
    Decide { bound: usize, hold_s: i64, on_expiry: OnExpiry },
    Settle { bound: usize, outcome: Outcome },
    Drop { bound: usize },
    Commit { decision: usize },
    Release { decision: usize, paid: PaidRule },
    Refund { decision: usize, fen: u64 },
    Clock { seconds: i64 },
    Sweep,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let outcome = prop_oneof![
        1 => Just(Outcome::Done),
        2 => Just(Outcome::Created),
        1 => Just(Outcome::Unknown),
        4 => Just(Outcome::Refused)
    ];
    let paid = prop_oneof![Just(PaidRule::TakeBack), Just(PaidRule::Refuse)];
    let on_expiry = prop_oneof![3 => Just(OnExpiry::Release), 1 => Just(OnExpiry::Keep)];
    // Counted from the last.
    let (bound, decision) = (0..5_usize, 0..4_usize);
    let decide = (bound.clone(), -50..5_000_i64, on_expiry);
    let step = prop_oneof![
        7 => (0..3_u8, 0..8_u128).prop_map(|(number, digest)| Step::Bind { number, digest: digest / 7 }),
        5 => decide.prop_map(|(bound, hold_s, on_expiry)| Step::Decide { bound, hold_s, on_expiry }),
        5 => (bound.clone(), outcome).prop_map(|(bound, outcome)| Step::Settle { bound, outcome }),
        1 => bound.prop_map(|bound| Step::Drop { bound }),
        2 => decision.clone().prop_map(|decision| Step::Commit { decision }),
        2 => (decision.clone(), paid).prop_map(|(decision, paid)| Step::Release { decision, paid }),
        2 => (decision, 0..70_u64).prop_map(|(decision, fen)| Step::Refund { decision, fen }),
        2 => prop_oneof![-2_000..4_000_i64, -50_000..100_000_i64].prop_map(|seconds| Step::Clock { seconds }),
        3 => Just(Step::Sweep),
    ];
    prop::collection::vec(step, 1..150)
}

/// A bound in hand: its number, the oracle's ticket, whether a decision was made.
struct Held {
    number: u8,
    ticket: u64,
    decided: bool,
    bound: Bound<Charges>,
}

/// The table and its plain form, side by side.
struct Pair {
    oracle: Oracle,
    orders: Arc<Orders<Charges>>,
    merchant: MerchantId,
    share: Arc<Share>,
    bounds: Vec<Held>,
    /// What each decision has charged and not handed out.
    charged: HashMap<DecisionId, Charges>,
}

impl Pair {
    fn new() -> Self {
        let (oracle, orders, merchant) = (Oracle::default(), table(9, 9), merchant());
        Self { oracle, orders, merchant, share: Arc::default(), bounds: vec![], charged: HashMap::new() }
    }

    fn now(&self) -> UnixMillis {
        at(self.oracle.now_s)
    }

    /// Counts charges handed out; what is not charged cannot be.
    fn hand_out(&mut self, id: DecisionId, charges: Charges) {
        let left = self.charged.get_mut(&id).expect("decided");
        *left = left.checked_sub(charges).expect("handed out twice");
    }

    /// Finds a decision as a caller does, who has nothing but its id.
    fn find(&self, decision: usize) -> Option<OrderRef> {
        self.orders.find(self.oracle.decisions[decision].0)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Bind { number, digest } => self.bind(number, digest),
            Step::Decide { bound, hold_s, on_expiry } => {
                if let Some(bound) = self.bounds.len().checked_sub(bound + 1) {
                    self.decide(bound, hold_s, on_expiry);
                }
            }
            Step::Settle { bound, outcome } => self.settle(bound, Some(outcome)),
            Step::Drop { bound } => self.settle(bound, None),
            Step::Commit { decision } => self.with(decision, Self::commit),
            Step::Release { decision, paid } => self.with(decision, |pair, decision| pair.release(decision, paid)),
            Step::Refund { decision, fen } => self.with(decision, |pair, decision| {
                let found = pair.find(decision).and_then(|order| pair.orders.refund(order, fen));
                assert_eq!(found, pair.oracle.refund(decision, fen));
            }),
            Step::Clock { seconds } => self.oracle.now_s += seconds,
            Step::Sweep => self.sweep(),
        }
    }

    fn with(&mut self, from_last: usize, act: impl FnOnce(&mut Self, usize)) {
        if let Some(decision) = self.oracle.decisions.len().checked_sub(from_last + 1) {
            act(self, decision);
        }
    }

    fn bind(&mut self, number: u8, digest: u128) {
        let (expected, ticket) = match self.oracle.bind(number, digest) {
            Ok((ticket, decision)) => (Ok(decision.map(|decision| self.oracle.decisions[decision].0)), ticket),
            Err(refused) => (Err(refused), 0),
        };
        let text = number.to_string();
        let binding = self.orders.bind_within(0, payment(&self.merchant, &text), digest, &self.share, self.now());
        let (found, bound) = match binding {
            Ok(Binding::New(bound)) => (Ok(None), Some(bound)),
            Ok(Binding::Same { decision, again, .. }) => (Ok(Some(decision)), Some(again)),
            Err(refused) => (Err(refused), None),
        };
        assert_eq!(found, expected);
        let decided = matches!(found, Ok(Some(_)));
        self.bounds.extend(bound.map(|bound| Held { number, ticket, decided, bound }));
    }

    fn decide(&mut self, bound: usize, hold_s: i64, on_expiry: OnExpiry) {
        let Some(held) = self.bounds.get_mut(bound).filter(|held| !held.decided) else { return };
        let decision = self.oracle.decisions.len();
        let (charges, amount_fen) = (1_000 + decision as Charges, 100 + decision as u64);
        let expires_s = self.oracle.now_s + hold_s;
        let terms = Terms { charges, note: 0, amount_fen, expires_s: at(expires_s).seconds(), on_expiry };
        let id = held.bound.decide(decision as u64, terms);
        held.decided = true;
        assert_eq!(self.charged.insert(id, charges), None, "an id twice");
        self.oracle.decisions.push((id, held.number));
        let order = self.oracle.orders.get_mut(&held.number).expect("in flight");
        (order.is, order.decision, order.on_expiry) = (Is::Held, decision, on_expiry);
        (order.charges, order.amount_fen, order.expires_s) = (charges, amount_fen, expires_s);
    }

    /// Ends a forward; one that is dropped has no outcome.
    fn settle(&mut self, from_last: usize, outcome: Option<Outcome>) {
        let Some(bound) = self.bounds.len().checked_sub(from_last + 1) else { return };
        let held = self.bounds.remove(bound);
        let expected = self.oracle.settle(held.number, held.ticket, outcome.unwrap_or(Outcome::Unknown));
        let now = self.now();
        let Some(outcome) = outcome else {
            drop(held.bound);
            assert_eq!(expected, Settled::Nothing);
            return;
        };
        let settled = held.bound.settle(outcome, now);
        assert_eq!(settled, expected);
        if let Settled::GiveBack(released) = settled {
            self.hand_out(released.decision, released.charges);
        }
    }

    fn commit(&mut self, decision: usize) {
        let (id, now) = (self.oracle.decisions[decision].0, self.now());
        let found = self.find(decision).map_or(Commit::Unknown, |order| self.orders.commit(order, now, split));
        assert_eq!(found, self.oracle.commit(decision));
        match found {
            Commit::Committed { freed } => self.hand_out(id, freed),
            Commit::Late { charges, .. } => *self.charged.get_mut(&id).expect("decided") += charges,
            Commit::Already | Commit::Conflict | Commit::Unknown => {}
        }
    }

    fn release(&mut self, decision: usize, paid: PaidRule) {
        let now = self.now();
        let found = self.find(decision).map_or(Release::Unknown, |order| self.orders.release(order, now, paid));
        assert_eq!(found, self.oracle.release(decision, paid));
        if let Release::Released(released) = found {
            self.hand_out(released.decision, released.charges);
        }
    }

    fn sweep(&mut self) {
        let expired = sweep_all(&self.orders, self.now());
        let by_id: HashMap<_, _> = expired.iter().map(|one| (one.decision, *one)).collect();
        assert_eq!((by_id.len(), &by_id), (expired.len(), &self.oracle.sweep()));
        for one in expired {
            self.hand_out(one.decision, one.charges.unwrap_or(0));
        }
        assert_eq!(self.orders.holds(), self.oracle.holds());
        let mut held = 0;
        self.orders.held(&mut |charges| held += charges);
        let expected = self.oracle.orders.values().filter(|order| order.is == Is::Held).map(|order| order.charges);
        assert_eq!(held, expected.sum());
    }

    /// Compares all that can be seen.
    fn check(&mut self) {
        let orders = &self.oracle.orders;
        let taken = orders.values().filter(|order| order.is != Is::Released).count();
        let notes = orders.len() - taken;
        let found = (self.orders.len(), self.share.used() as usize, self.orders.notes.used());
        assert_eq!(found, (taken, taken, notes));
        for number in 0..3_u8 {
            let text = number.to_string();
            let (name, order) = (payment(&self.merchant, &text), orders.get(&number));
            let known = order.filter(|order| order.is != Is::Deciding);
            let id = known.map(|order| self.oracle.decisions[order.decision].0);
            assert_eq!(self.orders.named(name).map(|order| order.decision()), id);
            assert_eq!(self.orders.decided(name), id.filter(|_| known.is_some_and(|order| order.is != Is::Released)));
        }
        for (decision, (id, _)) in self.oracle.decisions.clone().into_iter().enumerate() {
            let known = self.oracle.of(decision).map(|(_, order)| order.is);
            assert_eq!(self.orders.find(id).is_some(), known.is_some());
            let out = self.charged[&id] == 0;
            match known {
                Some(Is::Held | Is::Committed) => assert!(!out, "held or committed, and handed out"),
                Some(Is::Expired | Is::Released) => assert!(out, "ended, and not handed out"),
                Some(Is::Deciding) | None => {}
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn orders_agree_with_their_plain_form(steps in steps()) {
        let mut pair = Pair::new();
        for step in steps {
            pair.step(step);
            pair.check();
        }
    }
}
