//! The plain model: one thread, maps, and the rules written out.

use std::collections::HashMap;

use tollgate::admission::{Detail, Outcome};
use tollgate::reason::Reason;
use tollgate::types::Window;

/// A payment order, as its merchant means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub merchant: usize,
    pub number: u8,
    pub amount: u64,
    pub customer: Customer,
    pub means: Means,
}

/// What is known of who pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Customer {
    Unknown,
    Platform(u8),
    Openid(u8),
}

/// What is known of how it is paid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Means {
    Unknown,
    QuickPay,
    Credit,
    Debit,
    Balance,
}

impl Means {
    pub const ALL: [Self; 5] = [Self::Unknown, Self::QuickPay, Self::Credit, Self::Debit, Self::Balance];

    /// The headers in which a trusted hop states it.
    pub fn facts(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Unknown => &[],
            Self::QuickPay => &[("tollgate-channel", "quick_pay")],
            Self::Credit => &[("tollgate-instrument", "credit_card")],
            Self::Debit => &[("tollgate-channel", "quick_pay"), ("tollgate-instrument", "debit_card")],
            Self::Balance => &[("tollgate-channel", "balance")],
        }
    }

    fn may_be_credit(self) -> bool {
        !matches!(self, Self::Debit | Self::Balance)
    }

    fn may_be_balance(self) -> bool {
        matches!(self, Self::Unknown | Self::Balance)
    }
}

/// What the model expects.
#[derive(Clone, Debug)]
pub enum Verdict {
    Admitted { decision: usize, duplicate: bool },
    Refused(Reason, Option<Detail>),
}

/// One limit of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub limit: &'static str,
    pub subject: Vec<String>,
}

/// A limit that applies to an order: its row, and its windows with their ceilings.
struct Applying {
    row: Row,
    ceilings: [(Window, u64); 4],
}

struct Bound {
    order: Order,
    decision: usize,
    charges: Vec<(Row, usize, u16)>,
    forwards: u32,
    kept: bool,
}

/// The state of a gate.
pub struct Model {
    now_s: i64,
    rows: HashMap<Row, Vec<(u16, u64)>>,
    orders: HashMap<(usize, u8), Bound>,
    /// The verdict on each request, in the order they came; `None` for an admission.
    verdicts: Vec<Option<Reason>>,
    decisions: usize,
}

impl Model {
    pub fn new(now_s: i64) -> Self {
        Self { now_s, rows: HashMap::new(), orders: HashMap::new(), verdicts: Vec::new(), decisions: 0 }
    }

    pub fn move_clock(&mut self, seconds: i64) {
        self.now_s += seconds;
    }

    pub fn rows(&self) -> impl Iterator<Item = (&Row, &Vec<(u16, u64)>)> {
        self.rows.iter()
    }

    /// A new request.
    pub fn pay(&mut self, order: &Order) -> Verdict {
        let verdict = match self.forward_again(order) {
            Some(verdict) => verdict,
            None => self.decide(order),
        };
        self.verdicts.push(match &verdict {
            Verdict::Admitted { .. } => None,
            Verdict::Refused(reason, _) => Some(*reason),
        });
        verdict
    }

    /// The request of this number once more.
    pub fn again(&mut self, number: usize, order: &Order, hop: bool) -> Verdict {
        let replayed = Verdict::Refused(Reason::NonceReplayed, Some(Detail::None));
        match self.verdicts[number] {
            _ if !hop => replayed,
            Some(reason) => Verdict::Refused(reason, None),
            None => self.forward_again(order).unwrap_or(replayed),
        }
    }

    pub fn settle(&mut self, order: &Order, decision: usize, outcome: Outcome) {
        let name = (order.merchant, order.number);
        let Some(bound) = self.orders.get_mut(&name).filter(|bound| bound.decision == decision) else { return };
        bound.forwards -= 1;
        bound.kept |= outcome != Outcome::Refused;
        if bound.forwards == 0 && !bound.kept {
            self.take_back(order.merchant, order.number);
        }
    }

    pub fn take_back(&mut self, merchant: usize, number: u8) {
        let name = (merchant, number);
        // A forward in flight may have passed the close on its way: the order ends when all such are refused.
        if let Some(bound) = self.orders.get_mut(&name).filter(|bound| bound.forwards > 0) {
            bound.kept = false;
        } else if let Some(bound) = self.orders.remove(&name) {
            self.give_back(&bound.charges, bound.order.amount);
        }
    }

    /// The verdict where the number is bound.
    fn forward_again(&mut self, order: &Order) -> Option<Verdict> {
        let bound = self.orders.get_mut(&(order.merchant, order.number))?;
        if bound.order != *order {
            return Some(Verdict::Refused(Reason::OrderNumberUsed, Some(Detail::None)));
        }
        bound.forwards += 1;
        Some(Verdict::Admitted { decision: bound.decision, duplicate: true })
    }

    fn decide(&mut self, order: &Order) -> Verdict {
        let applying = match applying(order) {
            Ok(applying) => applying,
            Err((reason, limit)) => return refused(reason, limit, None),
        };
        let mut charges = Vec::new();
        for Applying { row, ceilings } in applying {
            for (cell, (window, ceiling)) in ceilings.iter().enumerate() {
                let today = self.window(*window);
                let cells = self.rows.entry(row.clone()).or_insert_with(|| vec![(0, 0); ceilings.len()]);
                let (id, used) = cells[cell];
                let (id, used) = if id < today { (today, 0) } else { (id, used) };
                if used + order.amount > *ceiling {
                    self.give_back(&charges, order.amount);
                    return refused(Reason::LimitExceeded, row.limit, Some(*window));
                }
                cells[cell] = (id, used + order.amount);
                charges.push((row.clone(), cell, id));
            }
        }
        let decision = self.decisions;
        self.decisions += 1;
        let bound = Bound { order: order.clone(), decision, charges, forwards: 1, kept: false };
        self.orders.insert((order.merchant, order.number), bound);
        Verdict::Admitted { decision, duplicate: false }
    }

    fn give_back(&mut self, charges: &[(Row, usize, u16)], amount: u64) {
        for (row, cell, window) in charges {
            let (id, used) = &mut self.rows.get_mut(row).expect("a row that was charged")[*cell];
            if id == window {
                *used -= amount;
            }
        }
    }

    /// Days since 1970 at UTC+8; months since 1970, counted by walking through the years.
    fn window(&self, window: Window) -> u16 {
        let day = (self.now_s + 8 * 3600).div_euclid(86_400);
        match window {
            Window::Day => u16::try_from(day).expect("a day"),
            Window::Month => month_of(day),
            Window::Year => month_of(day) / 12,
            Window::Lifetime => 0,
        }
    }
}

fn month_of(mut day: i64) -> u16 {
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = |year| [31, if leap(year) { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut months = 0;
    for year in 1970.. {
        for length in lengths(year) {
            if day < length {
                return months;
            }
            day -= length;
            months += 1;
        }
    }
    unreachable!("the years do not end")
}

fn refused(reason: Reason, limit: &str, window: Option<Window>) -> Verdict {
    Verdict::Refused(reason, Some(Detail::Limit { limit: limit.to_owned(), window }))
}

/// The limits of the test, one by one; merchant 0 is ordinary retail, merchant 1 micro food.
fn applying(order: &Order) -> Result<Vec<Applying>, (Reason, &'static str)> {
    let micro = order.merchant == 1;
    let category = if micro { "food" } else { "retail" };
    let merchant = vec!["merchant".to_owned(), crate::signer::mchid(order.merchant)];
    let customer = match order.customer {
        Customer::Unknown => None,
        Customer::Platform(customer) => Some(vec!["customer".to_owned(), format!("c{customer}")]),
        Customer::Openid(customer) => Some(vec!["openid".to_owned(), "wx-jsapi".to_owned(), format!("o{customer}")]),
    };
    let mut applying = Vec::new();
    // Every window is counted, whether it has a ceiling or none.
    let mut apply = |limit, subject, ceilings: [Option<u64>; 4]| {
        let windows = [Window::Day, Window::Month, Window::Year, Window::Lifetime].into_iter();
        let ceilings = windows.zip(ceilings.map(|ceiling| ceiling.unwrap_or(u64::MAX))).collect::<Vec<_>>();
        applying.push(Applying { row: Row { limit, subject }, ceilings: ceilings.try_into().expect("four windows") });
    };
    if order.amount > 50 {
        return Err((Reason::LimitExceeded, "customer"));
    }
    if let Some(customer) = customer.clone() {
        let subject = [customer, vec!["category".to_owned(), category.to_owned()]].concat();
        apply("customer", subject, [Some(80), Some(120), None, Some(400)]);
    }
    apply("merchant", merchant.clone(), [Some(150), None, Some(600), None]);
    if micro && order.means.may_be_credit() {
        apply("credit", merchant, [Some(60), Some(100), None, None]);
    }
    if micro && order.means.may_be_balance() {
        let customer = customer.ok_or((Reason::LimitSubjectUnknown, "balance"))?;
        apply("balance", customer, [Some(90), None, None, None]);
    }
    Ok(applying)
}
