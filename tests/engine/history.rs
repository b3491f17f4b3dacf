//! Random histories against a plain model: the same verdicts and the same usage, step by step.

#[path = "history/model.rs"]
mod model;

use proptest::prelude::*;
use tollgate::admission::{Admission, Decision, Outcome};
use tollgate::merchant::{LimitSpec, Predicate, SubjectPart, UnknownSubject};
use tollgate::replay::NonceBounds;
use tollgate::request::Trust;
use tollgate::time::UnixMillis;
use tollgate::types::{Channel, DecisionId, Instrument, MerchantKind};

use self::model::{Customer, Means, Model, Order, Verdict};
use crate::gate::{Gate, Setup, fen, limit, merchant_day};
use crate::signer::{Call, Draft};

/// One step of a history.
#[derive(Clone, Debug)]
enum Step {
    /// A new request for an order.
    Pay(Order, Fate),
    /// The request before, the bytes unchanged, on a listener that is trusted or is not.
    Again(prop::sample::Index, bool, Fate),
    /// News of a request whose outcome is open.
    News(prop::sample::Index, Fate),
    /// A close of an order.
    Close(usize, u8, Outcome),
    /// The clock moves.
    Clock(i64),
}

/// What becomes of an admission.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Settled(Outcome),
    Dropped { sent: bool },
    Open,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Done), Just(Outcome::Refused), Just(Outcome::Unknown)]
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => outcome().prop_map(Fate::Settled),
        1 => any::<bool>().prop_map(|sent| Fate::Dropped { sent }),
        2 => Just(Fate::Open),
    ]
}

fn order() -> impl Strategy<Value = Order> {
    let customer = prop_oneof![
        Just(Customer::Unknown),
        (1..3_u8).prop_map(Customer::Platform),
        (1..3_u8).prop_map(Customer::Openid),
    ];
    let means = prop::sample::select(Means::ALL.to_vec());
    let amount = prop::sample::select(vec![1_u64, 7, 20, 41, 50, 51, 70, 101]);
    (0..2_usize, 0..5_u8, amount, customer, means).prop_map(|(merchant, number, amount, customer, means)| Order {
        merchant,
        number,
        amount,
        customer,
        means,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let clock =
        prop_oneof![0..7_200_i64, Just(43_200), Just(86_400), Just(9 * 86_400), Just(40 * 86_400), -100_000..0_i64];
    prop_oneof![
        8 => (order(), fate()).prop_map(|(order, fate)| Step::Pay(order, fate)),
        2 => (any::<prop::sample::Index>(), any::<bool>(), fate()).prop_map(|(which, hop, fate)| Step::Again(which, hop, fate)),
        3 => (any::<prop::sample::Index>(), fate()).prop_map(|(which, fate)| Step::News(which, fate)),
        2 => (0..2_usize, 0..5_u8, outcome()).prop_map(|(merchant, number, outcome)| Step::Close(merchant, number, outcome)),
        2 => clock.prop_map(Step::Clock),
    ]
}

/// The limits that [`model`] knows too.
fn limits() -> [LimitSpec; 4] {
    let customer = [SubjectPart::Customer, SubjectPart::Category];
    let credit = Predicate {
        merchant_kinds: vec![MerchantKind::Micro],
        instruments: vec![Instrument::CreditCard],
        ..Predicate::default()
    };
    let balance =
        Predicate { categories: vec!["food".to_owned()], channels: vec![Channel::Balance], ..Predicate::default() };
    [
        LimitSpec {
            transaction: fen(50),
            day: fen(80),
            month: fen(120),
            lifetime: fen(400),
            ..limit("customer", &customer)
        },
        LimitSpec { year: fen(600), ..merchant_day("merchant", 150) },
        LimitSpec { predicate: credit, month: fen(100), ..merchant_day("credit", 60) },
        LimitSpec {
            predicate: balance,
            unknown_subject: UnknownSubject::Refuse,
            day: fen(90),
            ..limit("balance", &[SubjectPart::Customer])
        },
    ]
}

/// A gate and its model; both live through the same history.
struct Pair {
    gate: Gate,
    model: Model,
    calls: Vec<(Call, Order)>,
    open: Vec<(Admission, Order, usize)>,
    ids: Vec<DecisionId>,
}

impl Pair {
    fn new() -> Self {
        let mut setup = Setup::limited(limits());
        setup.merchants[1].kind = MerchantKind::Micro;
        setup.merchants[1].category = "food".to_owned();
        // Wide enough for any move of the clock: what the nonce table forgets is not what is tested here.
        setup.nonces = NonceBounds { tolerance_s: 1 << 30, ..setup.nonces };
        let gate = setup.gate();
        let model = Model::new(gate.now.seconds());
        Self { gate, model, calls: Vec::new(), open: Vec::new(), ids: Vec::new() }
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        match step {
            Step::Pay(order, fate) => {
                let call = draft(&order).sign(self.gate.now);
                let expected = self.model.pay(&order);
                self.calls.push((call.clone(), order.clone()));
                self.decide(&call, order, expected, fate)?;
            }
            Step::Again(which, hop, fate) if !self.calls.is_empty() => {
                let number = which.index(self.calls.len());
                let (mut call, order) = self.calls[number].clone();
                call.draft.trust = if hop { Trust::TrustedHop } else { Trust::Public };
                let expected = self.model.again(number, &order, hop);
                self.decide(&call, order, expected, fate)?;
            }
            Step::News(which, fate) if !self.open.is_empty() => {
                let (admission, order, decision) = self.open.remove(which.index(self.open.len()));
                self.finish(admission, order, decision, fate);
            }
            Step::Close(merchant, number, outcome) => {
                let close = Draft::close(merchant, &format!("T{number}"));
                self.gate.admit(&close).settle(outcome);
                if outcome == Outcome::Done {
                    self.model.take_back(merchant, number);
                }
            }
            Step::Clock(seconds) => {
                self.model.move_clock(seconds);
                self.gate.now = UnixMillis(self.gate.now.0 + seconds * 1000);
            }
            Step::Again(..) | Step::News(..) => {}
        }
        self.compare_usage()
    }

    fn decide(&mut self, call: &Call, order: Order, expected: Verdict, fate: Fate) -> Result<(), TestCaseError> {
        match self.gate.decide(call.request()) {
            Decision::Admitted(admission) => {
                let Verdict::Admitted { decision, duplicate } = expected else {
                    return Err(TestCaseError::fail(format!("{order:?} was admitted, expected {expected:?}")));
                };
                prop_assert_eq!(admission.duplicate, duplicate);
                if !duplicate {
                    self.ids.push(admission.id);
                }
                prop_assert_eq!(admission.id, self.ids[decision]);
                self.finish(admission, order, decision, fate);
            }
            Decision::Refused(refusal) => match expected {
                Verdict::Refused(reason, detail) => {
                    prop_assert_eq!(refusal.reason, reason);
                    if let Some(detail) = detail {
                        prop_assert_eq!(refusal.detail, detail);
                    }
                }
                Verdict::Admitted { .. } => {
                    return Err(TestCaseError::fail(format!("{order:?} was refused: {refusal:?}")));
                }
            },
        }
        Ok(())
    }

    fn finish(&mut self, mut admission: Admission, order: Order, decision: usize, fate: Fate) {
        let outcome = match fate {
            Fate::Open => return self.open.push((admission, order, decision)),
            Fate::Settled(outcome) => {
                admission.settle(outcome);
                outcome
            }
            Fate::Dropped { sent: true } => {
                admission.sent();
                drop(admission);
                Outcome::Unknown
            }
            Fate::Dropped { sent: false } => {
                drop(admission);
                Outcome::Refused
            }
        };
        self.model.settle(&order, decision, outcome);
    }

    fn compare_usage(&self) -> Result<(), TestCaseError> {
        for (row, cells) in self.model.rows() {
            let subject: Vec<&str> = row.subject.iter().map(String::as_str).collect();
            for (cell, (window, used)) in cells.iter().enumerate() {
                // A row that nothing was ever taken from may not exist, and its windows mean nothing.
                let (found_window, found) = self.gate.cell(row.limit, &subject, cell).unwrap_or_default();
                prop_assert_eq!(found, *used, "{:?} cell {}", row, cell);
                prop_assert!(*used == 0 || found_window == *window, "{row:?} cell {cell}");
            }
        }
        Ok(())
    }
}

fn draft(order: &Order) -> Draft {
    let (merchant, number) = (order.merchant, format!("T{}", order.number));
    let mut facts: Vec<(&str, &str)> = order.means.facts().to_vec();
    match &order.customer {
        Customer::Unknown => Draft::native(merchant, &number, order.amount).hop(&facts),
        Customer::Openid(customer) => {
            Draft::jsapi(merchant, &number, order.amount, &format!("o{customer}")).hop(&facts)
        }
        Customer::Platform(customer) => {
            let customer = format!("c{customer}");
            facts.push(("tollgate-customer", &customer));
            Draft::native(merchant, &number, order.amount).hop(&facts)
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_gate_lives_through_any_history_as_its_model_does(history in prop::collection::vec(step(), 1..60)) {
        let mut pair = Pair::new();
        for step in history {
            pair.step(step)?;
        }
    }
}
