//! The steps of a history, and how they are made at random.

use proptest::prelude::*;
use tollgate::admission::{Outcome, SettleAs};
use tollgate::merchant::SettledFacts;
use tollgate::types::{AccountClass, Channel, Instrument};

use super::model::Holding;
use super::orders::{Customer, Means, News, Order, Return};
use super::rules::RULES;

/// One step of a history.
#[derive(Clone, Debug)]
pub enum Step {
    /// A new request for an order, that can be paid for so many seconds.
    Pay(Order, Option<i64>, Fate),
    /// The request before, the bytes unchanged, on a listener that is trusted or is not.
    Again(prop::sample::Index, bool, Fate),
    /// A request for a refund.
    Refund(Return, Fate),
    /// News of a request whose outcome is open.
    News(prop::sample::Index, Fate),
    /// A close or a reversal of an order.
    Close(usize, u8, bool, Fate),
    /// A query of a payment or refund, or by the platform's id of the payment.
    Query(bool, usize, u8, bool, Fate),
    /// The operator settles a decision.
    Operate(prop::sample::Index, SettleAs, SettledFacts),
    /// The background thread goes through the tables.
    Sweep,
    /// Other limits come into force: positions among the rules, and hundredths of the ceilings.
    Policy(Vec<(usize, u64)>),
    /// The clock moves.
    Clock(i64),
}

/// What becomes of an admission.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    Settled(Outcome),
    Answered(Answer),
    Dropped { sent: bool },
    Open,
}

/// An answer of the upstream.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub status: u16,
    /// What it says of the order; `None` where it is not JSON.
    pub state: Option<Outcome>,
    pub bank: &'static str,
}

impl Answer {
    /// Writes the body of an answer about a payment or a refund.
    pub fn body(&self, refund: bool, number: &str) -> String {
        let state = match (self.state, refund) {
            (None, _) => return "<html>".to_owned(),
            (Some(Outcome::Done), _) => "SUCCESS",
            (Some(Outcome::Refused), true) => "CLOSED",
            (Some(Outcome::Refused), false) => "REVOKED",
            (Some(_), true) => "PROCESSING",
            (Some(_), false) => "USERPAYING",
        };
        if refund {
            return format!(r#"{{"out_refund_no":"{number}","status":"{state}"}}"#);
        }
        format!(r#"{{"out_trade_no":"{number}","trade_state":"{state}","bank_type":"{}"}}"#, self.bank)
    }

    /// What the answer to a query says.
    pub fn of_query(&self, refund: bool) -> News {
        let told = (200..300).contains(&self.status) && self.state.is_some();
        let outcome = self.state.filter(|_| told);
        News { outcome, facts: if told && !refund { facts_of(self.bank) } else { SettledFacts::default() } }
    }

    /// What the answer to a payment or refund says; `read` where its route reads the body.
    fn of_order(&self, read: bool, refund: bool) -> News {
        let by_status = match self.status {
            // A refund is done only where the answer says so.
            200 | 204 if read && !refund => Outcome::Done,
            200..300 => Outcome::Created,
            400 | 403 | 404 => Outcome::Refused,
            _ => Outcome::Unknown,
        };
        let told = read && (200..300).contains(&self.status) && self.state.is_some();
        let outcome = if told { self.state } else { Some(by_status) };
        News { outcome, facts: if told && !refund { facts_of(self.bank) } else { SettledFacts::default() } }
    }
}

impl Fate {
    /// What it means for a payment or refund; `None` where it stays open. `read` where the answer settles it.
    pub fn news(self, read: bool, refund: bool) -> Option<News> {
        let plain = |outcome| Some(News { outcome: Some(outcome), facts: SettledFacts::default() });
        match self {
            Self::Open => None,
            Self::Settled(Outcome::Done) if !read => plain(Outcome::Created),
            Self::Settled(outcome) => plain(outcome),
            Self::Answered(answer) => Some(answer.of_order(read, refund)),
            Self::Dropped { sent: true } => plain(Outcome::Unknown),
            Self::Dropped { sent: false } => plain(Outcome::Refused),
        }
    }

    /// Tells whether it says that a close was done.
    pub fn closes(self) -> bool {
        match self {
            Self::Settled(outcome) => outcome == Outcome::Done,
            Self::Answered(answer) => matches!(answer.status, 200 | 204),
            Self::Dropped { .. } | Self::Open => false,
        }
    }
}

/// What a bank type says.
fn facts_of(bank: &str) -> SettledFacts {
    let (channel, instrument) = match bank {
        "CFT" => (Channel::Balance, Instrument::Balance),
        "ICBC_CREDIT" => (Channel::QuickPay, Instrument::CreditCard),
        "CMB_DEBIT" => (Channel::QuickPay, Instrument::DebitCard),
        _ => return SettledFacts::default(),
    };
    SettledFacts { channel: Some(channel), instrument: Some(instrument), ..SettledFacts::default() }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop::sample::select(vec![Outcome::Done, Outcome::Created, Outcome::Refused, Outcome::Unknown])
}

fn answer() -> impl Strategy<Value = Answer> {
    let status = prop::sample::select(vec![200_u16, 200, 200, 200, 204, 202, 400, 404, 500]);
    let states = [Outcome::Done, Outcome::Done, Outcome::Created, Outcome::Refused].map(Some);
    let state = prop::sample::select([states.as_slice(), &[None]].concat());
    let bank = prop::sample::select(vec!["CFT", "ICBC_CREDIT", "CMB_DEBIT", "OTHERS"]);
    (status, state, bank).prop_map(|(status, state, bank)| Answer { status, state, bank })
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        3 => outcome().prop_map(Fate::Settled),
        4 => answer().prop_map(Fate::Answered),
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
    let class = prop::sample::select(vec![None, None, Some(AccountClass::I), Some(AccountClass::II)]);
    let amount = prop::sample::select(vec![1_u64, 7, 20, 41, 50, 51, 70]);
    let all = (0..2_usize, 0..4_u8, amount, customer, means, class, any::<bool>());
    all.prop_map(|(merchant, number, amount, customer, means, class, on_answer)| {
        let on_answer = on_answer && !matches!(customer, Customer::Openid(_));
        Order { merchant, number, amount, customer, means, class, on_answer }
    })
}

fn refund() -> impl Strategy<Value = Return> {
    let amount = prop::sample::select(vec![1_u64, 7, 20, 41, 50, 200]);
    (0..2_usize, 0..3_u8, 0..5_u8, amount).prop_map(|(merchant, number, original, amount)| Return {
        merchant,
        number,
        original,
        amount,
    })
}

fn facts() -> impl Strategy<Value = SettledFacts> {
    let channel = prop::sample::select(vec![None, Some(Channel::QuickPay), Some(Channel::Balance)]);
    let instrument = prop::sample::select(vec![None, Some(Instrument::CreditCard), Some(Instrument::DebitCard)]);
    let class = prop::sample::select(vec![None, Some(AccountClass::I), Some(AccountClass::III)]);
    (channel, instrument, class).prop_map(|(channel, instrument, account_class)| SettledFacts {
        channel,
        instrument,
        account_class,
        ..SettledFacts::default()
    })
}

/// Makes a choice of limits, each with its ceilings as they are, raised or lowered.
pub fn policy() -> impl Strategy<Value = Vec<(usize, u64)>> {
    let percents = prop::collection::vec(prop::sample::select(vec![100, 100, 100, 250, 40]), RULES.len());
    let chosen = prop::sample::subsequence((0..RULES.len()).collect::<Vec<_>>(), 1..=RULES.len());
    (chosen, percents).prop_map(|(chosen, percents)| chosen.into_iter().zip(percents).collect())
}

/// Makes the rules by which orders are held.
pub fn holding() -> impl Strategy<Value = Holding> {
    any::<bool>().prop_map(|keep_on_expiry| Holding { hold_s: 7_200, keep_s: 20_000, keep_on_expiry })
}

/// Makes a step.
pub fn step() -> impl Strategy<Value = Step> {
    let clock = prop_oneof![
        3 => 0..7_200_i64,
        1 => Just(43_200),
        1 => Just(86_400),
        1 => prop::sample::select(vec![9 * 86_400, 40 * 86_400, 366 * 86_400]),
        2 => -90_000..0_i64,
    ];
    let until = prop_oneof![5 => Just(None), 2 => (-10..4_000_i64).prop_map(Some), 1 => Just(Some(31 * 86_400))];
    let settle = prop_oneof![Just(SettleAs::Commit), Just(SettleAs::Release)];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        9 => (order(), until, fate()).prop_map(|(order, until, fate)| Step::Pay(order, until, fate)),
        2 => (index(), any::<bool>(), fate()).prop_map(|(which, hop, fate)| Step::Again(which, hop, fate)),
        4 => (refund(), fate()).prop_map(|(refund, fate)| Step::Refund(refund, fate)),
        3 => (index(), fate()).prop_map(|(which, fate)| Step::News(which, fate)),
        2 => (0..2_usize, 0..4_u8, any::<bool>(), fate())
            .prop_map(|(merchant, number, reverse, fate)| Step::Close(merchant, number, reverse, fate)),
        3 => (any::<bool>(), 0..2_usize, 0..4_u8, any::<bool>(), fate())
            .prop_map(|(refund, merchant, number, by_id, fate)| Step::Query(refund, merchant, number, by_id, fate)),
        3 => (index(), settle, facts()).prop_map(|(which, settle, facts)| Step::Operate(which, settle, facts)),
        2 => Just(Step::Sweep),
        1 => policy().prop_map(Step::Policy),
        3 => clock.prop_map(Step::Clock),
    ]
}
