//! Random histories against a plain model: the same verdicts, the same usage and the same settlements, step by step.

#[path = "history/counts.rs"]
mod counts;
#[path = "history/model.rs"]
mod model;
#[path = "history/orders.rs"]
mod orders;
#[path = "history/rules.rs"]
mod rules;
#[path = "history/steps.rs"]
mod steps;

use proptest::prelude::*;
use tollgate::admission::{Admission, Decision, Outcome, Usage, UsageQuery};
use tollgate::merchant::{ExpiryRule, HoldRules, SettledFacts};
use tollgate::reason::Reason;
use tollgate::replay::{NonceBounds, OrderBounds};
use tollgate::request::Trust;
use tollgate::time::UnixMillis;
use tollgate::types::{AccountClass, DecisionId, MerchantKind, Window};

use self::model::{Holding, Model};
use self::orders::{Customer, Name, News, Order, Return, Verdict};
use self::rules::{RULES, Rule};
use self::steps::{Fate, Step};
use crate::gate::{Gate, Setup, always_certified};
use crate::signer::{Call, Draft, mchid, serial};

/// An admission whose outcome is open, and what it is on: its number, decision, and whether the answer settles it.
struct Open {
    admission: Admission,
    name: Name,
    decision: usize,
    on_answer: bool,
    at_s: i64,
}

/// A gate and its model; both live through the same history.
struct Pair {
    gate: Gate,
    model: Model,
    calls: Vec<(Call, Order, Option<i64>)>,
    open: Vec<Open>,
    ids: Vec<(DecisionId, Name)>,
    /// The latest instant that the clock has shown.
    latest_s: i64,
}

fn in_force(policy: &[(usize, u64)]) -> Vec<(Rule, u64)> {
    policy.iter().map(|(position, percent)| (RULES[*position], *percent)).collect()
}

fn setup(policy: &[(Rule, u64)], holding: Holding) -> Setup {
    let mut setup = Setup::limited(policy.iter().map(|(rule, percent)| rule.spec(*percent)));
    setup.merchants[1].kind = MerchantKind::Micro;
    setup.merchants[1].category = "food".to_owned();
    for (index, merchant) in setup.merchants.iter_mut().enumerate() {
        merchant.keys = vec![always_certified(index, &serial(index))];
    }
    // Wide enough for any move of the clock: what the nonce table forgets is not what is tested here.
    setup.nonces = NonceBounds { tolerance_s: 1 << 30, ..setup.nonces };
    let seconds = |seconds: i64| u32::try_from(seconds).expect("a span");
    setup.orders = OrderBounds { keep_s: seconds(holding.keep_s), ..setup.orders };
    let on_expiry = if holding.keep_on_expiry { ExpiryRule::Keep } else { ExpiryRule::Release };
    setup.holds = HoldRules { hold_s: seconds(holding.hold_s), on_expiry };
    setup
}

impl Pair {
    fn new(policy: &[(usize, u64)], holding: Holding) -> Self {
        let policy = in_force(policy);
        let gate = setup(&policy, holding).gate();
        let now_s = gate.now.seconds();
        let model = Model::new(now_s, policy, holding);
        Self { gate, model, calls: Vec::new(), open: Vec::new(), ids: Vec::new(), latest_s: now_s }
    }

    fn step(&mut self, step: Step, holding: Holding) -> Result<(), TestCaseError> {
        match step {
            Step::Pay(order, until, fate) => {
                let expires_s = until.map(|until| self.gate.now.seconds() + until);
                let call = draft(&order, expires_s).sign(self.gate.now);
                let expected = self.model.pay(&order, expires_s);
                self.calls.push((call.clone(), order.clone(), expires_s));
                let name = (false, order.merchant, order.number);
                self.decide(&call, name, order.on_answer, expected, fate)?;
            }
            Step::Again(which, hop, fate) if !self.calls.is_empty() => {
                let number = which.index(self.calls.len());
                let (mut call, order, expires_s) = self.calls[number].clone();
                call.draft.trust = if hop { Trust::TrustedHop } else { Trust::Public };
                let expected = self.model.again(number, &order, expires_s, hop);
                let name = (false, order.merchant, order.number);
                self.decide(&call, name, order.on_answer, expected, fate)?;
            }
            Step::Refund(refund, fate) => {
                let Return { merchant, number, original, amount } = refund;
                let draft = Draft::refund_of(merchant, &format!("R{number}"), &format!("T{original}"), amount);
                let expected = self.model.refund(&refund);
                let call = draft.sign(self.gate.now);
                self.decide(&call, (true, merchant, number), true, expected, fate)?;
            }
            Step::News(which, fate) if !self.open.is_empty() => {
                let open = self.open.remove(which.index(self.open.len()));
                self.finish(open, fate);
            }
            Step::Close(merchant, number, reverse, fate) => self.close(merchant, number, reverse, fate),
            Step::Query(refund, merchant, number, by_id, fate) => {
                self.query((refund, merchant, number), by_id, fate);
            }
            Step::Operate(which, settle, facts) if !self.ids.is_empty() => {
                let decision = which.index(self.ids.len());
                let (id, name) = self.ids[decision];
                let settled = self.gate.shared.settle(id, settle, &facts, self.gate.now);
                let settled = settled.map(|settled| (settled.state, settled.already, settled.late));
                prop_assert_eq!(settled, self.model.operate(name, decision, settle, &facts), "{:?} {:?}", name, settle);
            }
            Step::Sweep => {
                self.gate.sweep();
                self.model.sweep();
            }
            Step::Policy(policy) => {
                self.model.policy = in_force(&policy);
                self.gate
                    .shared
                    .replace_policy(setup(&self.model.policy, holding).policy())
                    .expect("nothing is recorded");
            }
            Step::Clock(seconds) => self.move_clock(seconds),
            Step::Again(..) | Step::News(..) | Step::Operate(..) => {}
        }
        Ok(())
    }

    /// Moves the clock, back by at most a day from where it has been: rows older than that may be gone.
    fn move_clock(&mut self, seconds: i64) {
        let now_s = (self.model.now_s + seconds).max(self.latest_s - 86_400);
        self.latest_s = self.latest_s.max(now_s);
        self.model.now_s = now_s;
        self.gate.now = UnixMillis::from_seconds(now_s);
    }

    fn close(&mut self, merchant: usize, number: u8, reverse: bool, fate: Fate) {
        let number_text = format!("T{number}");
        let close = if reverse { Draft::reverse } else { Draft::close };
        let admission = self.gate.admit(&close(merchant, &number_text));
        match fate {
            Fate::Settled(outcome) => admission.settle(outcome),
            Fate::Answered(answer) => {
                _ = admission.answered(answer.status, answer.body(false, &number_text).as_bytes())
            }
            Fate::Dropped { .. } | Fate::Open => drop(admission),
        }
        if fate.closes() {
            let name = (false, merchant, number);
            let news = News { outcome: Some(Outcome::Refused), facts: SettledFacts::default() };
            self.model.told(name, self.model.named(name), news, self.model.now_s);
        }
    }

    fn query(&mut self, name: Name, by_id: bool, fate: Fate) {
        let (refund, merchant, number) = name;
        let number = if refund { format!("R{number}") } else { format!("T{number}") };
        let draft = match (refund, by_id) {
            (true, _) => Draft::query_refund(merchant, &number),
            (false, false) => Draft::query(merchant, &number),
            (false, true) => {
                let target = format!("/v3/pay/transactions/id/42?mchid={}", mchid(merchant));
                Draft::new(merchant, "GET", &target, "")
            }
        };
        let mut admission = self.gate.admit(&draft);
        // Only an answer tells anything of the order.
        match fate {
            Fate::Answered(answer) => {
                admission.answered(answer.status, answer.body(refund, &number).as_bytes());
                self.model.told(name, self.model.named(name), answer.of_query(refund), self.model.now_s);
            }
            Fate::Settled(outcome) => admission.settle(outcome),
            Fate::Dropped { sent: true } => admission.sent(),
            Fate::Dropped { sent: false } | Fate::Open => drop(admission),
        }
    }

    fn decide(
        &mut self,
        call: &Call,
        name: Name,
        on_answer: bool,
        expected: Verdict,
        fate: Fate,
    ) -> Result<(), TestCaseError> {
        let told = self.gate.shared.explain(&call.request(), self.gate.now);
        // What a trusted hop delivers again is decided by what was decided then.
        let again = told.refused() == Some(Reason::NonceReplayed);
        let again = again && call.draft.trust == Trust::TrustedHop;
        match self.gate.decide(call.request()) {
            Decision::Admitted(admission) => {
                let Verdict::Admitted { decision, duplicate, shadowed } = expected else {
                    return Err(TestCaseError::fail(format!("{name:?} was admitted, expected {expected:?}")));
                };
                prop_assert_eq!((admission.duplicate, admission.shadowed.to_vec()), (duplicate, shadowed));
                prop_assert!(again || told.refused().is_none(), "{}", told);
                if !duplicate {
                    self.ids.push((admission.id, name));
                }
                prop_assert_eq!(admission.id, self.ids[decision].0);
                let at_s = self.model.now_s;
                self.finish(Open { admission, name, decision, on_answer, at_s }, fate);
            }
            Decision::Refused(refusal) => {
                let Verdict::Refused(reason, detail) = expected else {
                    return Err(TestCaseError::fail(format!("{name:?} was refused: {refusal:?}")));
                };
                prop_assert_eq!(refusal.reason, reason, "{:?}", refusal);
                prop_assert!(again || told.refused() == Some(reason), "{reason} but {told}");
                if let Some(detail) = detail {
                    prop_assert_eq!(refusal.detail, detail);
                }
            }
        }
        Ok(())
    }

    fn finish(&mut self, open: Open, fate: Fate) {
        let (refund, _, number) = open.name;
        let Some(news) = fate.news(open.on_answer, refund) else { return self.open.push(open) };
        let Open { mut admission, name, decision, at_s, .. } = open;
        match fate {
            Fate::Open => {}
            Fate::Settled(outcome) => admission.settle(outcome),
            Fate::Answered(answer) => {
                admission.answered(answer.status, answer.body(refund, &format!("T{number}")).as_bytes());
            }
            Fate::Dropped { sent } => {
                if sent {
                    admission.sent();
                }
                drop(admission);
            }
        }
        self.model.settle(name, decision, news, at_s);
    }

    /// Compares what is used by one of the merchants and customers, in every window now open.
    fn compare_usage(&self, merchant: usize, customer: &Customer) -> Result<(), TestCaseError> {
        let mut query =
            UsageQuery { merchant: Some(mchid(merchant).parse().expect("a merchant")), ..UsageQuery::default() };
        match customer {
            Customer::Unknown => {}
            Customer::Platform(number) => query.customer = Some(format!("c{number}")),
            Customer::Openid(number) => {
                (query.appid, query.openid) = (Some("wx-jsapi".to_owned()), Some(format!("o{number}")));
            }
        }
        let found = self.gate.shared.usage(&query, self.gate.now).expect("a merchant that there is");
        let held = self.model.held();
        let mut expected = Vec::new();
        for (rule, percent) in self.model.policy.iter().filter(|(rule, _)| rule.concerns(merchant)) {
            let Some(row) = rule.row(merchant, customer) else { continue };
            let [_, ceilings @ ..] = rule.ceilings(merchant, customer, *percent);
            for (at, window) in Window::ALL.iter().enumerate().filter(|(at, _)| rule.counted()[*at]) {
                let open = rules::window(*window, self.model.now_s, rule.cut_over_hour);
                let (used, held) = self.model.counts.used(&row, at, open, &held);
                let ceiling = Some(ceilings[at]).filter(|ceiling| *ceiling > 0);
                expected.push((rule.id, *window, used, held, used - held, ceiling));
            }
        }
        prop_assert_eq!(found.iter().flat_map(told).collect::<Vec<_>>(), expected);
        Ok(())
    }

    fn compare_settlements(&self) -> Result<(), TestCaseError> {
        let settlements = self.gate.shared.settlements(usize::MAX);
        let found =
            settlements.iter().map(|one| (one.at.seconds(), one.decision.0, one.amount_fen, one.event.as_str()));
        let mut found: Vec<_> = found.collect();
        let events = self.model.events.iter();
        let mut expected: Vec<_> =
            events.map(|(at, decision, fen, event)| (*at, self.ids[*decision].0.0, *fen, event.as_str())).collect();
        found.sort_unstable();
        expected.sort_unstable();
        prop_assert_eq!(found, expected);
        for count in self.gate.shared.settlement_counts() {
            let of = self.model.events.iter().filter(|(.., event)| *event == count.event);
            prop_assert_eq!((count.orders, count.fen), of.fold((0, 0), |sum, (_, _, fen, _)| (sum.0 + 1, sum.1 + fen)));
        }
        Ok(())
    }
}

type Told<'u> = (&'u str, Window, u64, u64, u64, Option<u64>);

fn told(usage: &Usage) -> impl Iterator<Item = Told<'_>> {
    usage.windows.iter().map(|one| (&*usage.limit, one.window, one.used, one.held, one.committed, one.ceiling))
}

fn draft(order: &Order, expires_s: Option<i64>) -> Draft {
    let (merchant, number, amount) = (order.merchant, format!("T{}", order.number), order.amount.to_string());
    let mut facts: Vec<(&str, &str)> = order.means.facts().to_vec();
    facts.extend(order.class.map(|class: AccountClass| ("tollgate-account-class", class.as_str())));
    let expires = expires_s.map(|expires_s| jiff::Timestamp::from_second(expires_s).expect("an instant"));
    let expires = expires.map(|expires| format!(r#","time_expire":"{expires}""#)).unwrap_or_default();
    let jsapi = |openid: u8| format!(r#"{expires},"payer":{{"openid":"o{openid}"}}"#);
    let made = |path: &str, appid: &str, rest: &str| {
        Draft::order(merchant, &format!("/v3/pay/transactions/{path}"), appid, &number, &amount, rest)
    };
    let draft = match order.customer {
        Customer::Openid(openid) => made("jsapi", "wx-jsapi", &jsapi(openid)),
        Customer::Unknown | Customer::Platform(_) if order.on_answer => made("codepay", "wx-code", ""),
        Customer::Unknown | Customer::Platform(_) => made("native", "wx-native", &expires),
    };
    let customer = match order.customer {
        Customer::Platform(customer) => Some(format!("c{customer}")),
        Customer::Unknown | Customer::Openid(_) => None,
    };
    facts.extend(customer.as_ref().map(|customer| ("tollgate-customer", customer.as_str())));
    draft.hop(&facts)
}

const CUSTOMERS: [Customer; 5] =
    [Customer::Unknown, Customer::Platform(1), Customer::Platform(2), Customer::Openid(1), Customer::Openid(2)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_gate_lives_through_any_history_as_its_model_does(
        policy in steps::policy(),
        holding in steps::holding(),
        history in prop::collection::vec(steps::step(), 1..100),
    ) {
        let mut pair = Pair::new(&policy, holding);
        for (step, turn) in history.into_iter().zip(0..) {
            pair.step(step, holding)?;
            pair.compare_usage(turn % 2, &CUSTOMERS[turn / 2 % CUSTOMERS.len()])?;
        }
        for customer in &CUSTOMERS {
            pair.compare_usage(0, customer)?;
            pair.compare_usage(1, customer)?;
        }
        pair.compare_settlements()?;
        pair.gate.assert_conserved();
    }
}
