//! The limits of the histories: each written down once as data, made into a limit of the gate, and judged by hand.

use tollgate::merchant::{
    Ceilings, LimitSpec, Override, OverrideSubject, Predicate, Refunds, SettledFacts, SubjectPart, UnknownSubject,
};
use tollgate::types::{AccountClass, Channel, Fen, Instrument, LimitMode, MerchantKind, Unit, Window};

use super::orders::{Customer, Order, Row};
use crate::gate::{calendar, limit};
use crate::signer::mchid;

/// A limit, in the words of the model. Merchant 0 is ordinary retail, merchant 1 micro food.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub id: &'static str,
    pub unit: Unit,
    pub shadow: bool,
    /// Whether refunds give no room back.
    pub keep: bool,
    /// Whether a payment of an unknown customer is refused.
    refuse_unknown: bool,
    per: &'static [SubjectPart],
    pub cut_over_hour: u8,
    /// Whether it is for merchant 1 only.
    micro_only: bool,
    channels: &'static [Channel],
    instruments: &'static [Instrument],
    classes: &'static [AccountClass],
    /// Of a single transaction, a day, a month, a year, all time.
    ceilings: [u64; 5],
    /// The ceilings of customer c1, and of merchant 0; zero where they have none of their own.
    own: [[u64; 5]; 2],
}

const NONE: Rule = Rule {
    id: "",
    unit: Unit::Fen,
    shadow: false,
    keep: false,
    refuse_unknown: false,
    per: &[SubjectPart::Merchant],
    cut_over_hour: 0,
    micro_only: false,
    channels: &[],
    instruments: &[],
    classes: &[],
    ceilings: [0; 5],
    own: [[0; 5]; 2],
};

/// All limits that a history may choose from.
pub const RULES: [Rule; 11] = [
    Rule {
        id: "customer",
        per: &[SubjectPart::Customer, SubjectPart::Category],
        ceilings: [50, 80, 120, 0, 400],
        ..NONE
    },
    Rule { id: "merchant", ceilings: [0, 150, 0, 600, 0], ..NONE },
    Rule {
        id: "credit",
        micro_only: true,
        instruments: &[Instrument::CreditCard],
        ceilings: [0, 60, 100, 0, 0],
        ..NONE
    },
    Rule {
        id: "balance",
        micro_only: true,
        refuse_unknown: true,
        per: &[SubjectPart::Customer],
        channels: &[Channel::Balance],
        ceilings: [0, 90, 0, 0, 0],
        ..NONE
    },
    Rule { id: "count", unit: Unit::Count, ceilings: [0, 4, 6, 0, 0], ..NONE },
    Rule { id: "gross", keep: true, cut_over_hour: 4, ceilings: [0, 0, 300, 0, 900], ..NONE },
    Rule { id: "shadow", shadow: true, ceilings: [35, 40, 0, 100, 0], ..NONE },
    Rule {
        id: "class",
        unit: Unit::Count,
        per: &[SubjectPart::Customer],
        classes: &[AccountClass::II, AccountClass::III],
        ceilings: [0, 0, 0, 5, 0],
        ..NONE
    },
    Rule {
        id: "own",
        per: &[SubjectPart::Merchant, SubjectPart::Customer],
        ceilings: [0, 70, 90, 0, 0],
        own: [[0, 30, 0, 0, 0], [45, 60, 0, 200, 0]],
        ..NONE
    },
    Rule {
        id: "gross count",
        unit: Unit::Count,
        keep: true,
        shadow: true,
        per: &[SubjectPart::Category],
        ceilings: [0, 0, 0, 0, 9],
        ..NONE
    },
    Rule {
        id: "debit",
        channels: &[Channel::QuickPay],
        instruments: &[Instrument::DebitCard],
        ceilings: [0, 0, 0, 200, 0],
        ..NONE
    },
];

/// What a limit says of an order before anything is counted.
pub enum Says {
    Nothing,
    Checked,
    Above,
    Unknown,
    Charges(Row),
}

impl Rule {
    /// Makes the limit, its ceilings multiplied.
    pub fn spec(&self, percent: u64) -> LimitSpec {
        let ceiling = |of: u64| (of > 0).then(|| Fen::new(scaled(of, percent)).expect("an amount"));
        let ceilings = |[transaction, day, month, year, lifetime]: [u64; 5]| Ceilings {
            transaction: ceiling(transaction),
            day: ceiling(day),
            month: ceiling(month),
            year: ceiling(year),
            lifetime: ceiling(lifetime),
        };
        let Ceilings { transaction, day, month, year, lifetime } = ceilings(self.ceilings);
        let merchant = OverrideSubject::Merchant(mchid(0).parse().expect("a merchant"));
        let subjects = [OverrideSubject::Customer("c1".to_owned()), merchant].into_iter().zip(self.own);
        let own = subjects.filter(|(_, own)| *own != [0; 5]);
        LimitSpec {
            predicate: Predicate {
                merchant_kinds: if self.micro_only { vec![MerchantKind::Micro] } else { Vec::new() },
                channels: self.channels.to_vec(),
                instruments: self.instruments.to_vec(),
                account_classes: self.classes.to_vec(),
                ..Predicate::default()
            },
            unknown_subject: if self.refuse_unknown { UnknownSubject::Refuse } else { UnknownSubject::PerTransaction },
            calendar: calendar("Asia/Shanghai", self.cut_over_hour),
            unit: self.unit,
            disk: false,
            mode: if self.shadow { LimitMode::Shadow } else { LimitMode::Enforce },
            refund: if self.keep { Refunds::Keep } else { Refunds::Return },
            overrides: own.map(|(subject, own)| Override { subject, ceilings: ceilings(own) }).collect(),
            transaction,
            day,
            month,
            year,
            lifetime,
            ..limit(self.id, self.per)
        }
    }

    /// Tells which windows are counted.
    pub fn counted(&self) -> [bool; 4] {
        let [_, day, month, year, lifetime] =
            [0, 1, 2, 3, 4].map(|at| self.ceilings[at] > 0 || self.own.iter().any(|own| own[at] > 0));
        [day || month, day || month, year, lifetime]
    }

    /// Returns the ceilings for a merchant and, where the platform names it, a customer; zero is none.
    pub fn ceilings(&self, merchant: usize, customer: &Customer, percent: u64) -> [u64; 5] {
        let by_customer = *customer == Customer::Platform(1);
        let own = match (by_customer, merchant) {
            (true, _) if self.own[0] != [0; 5] => self.own[0],
            (_, 0) => self.own[1],
            _ => [0; 5],
        };
        [0, 1, 2, 3, 4].map(|at| scaled(if own[at] > 0 { own[at] } else { self.ceilings[at] }, percent))
    }

    /// Tells whether the limit can concern a merchant.
    pub fn concerns(&self, merchant: usize) -> bool {
        !self.micro_only || merchant == 1
    }

    /// Returns the row of a subject; `None` where the customer matters and is not known.
    pub fn row(&self, merchant: usize, customer: &Customer) -> Option<Row> {
        let mut subject = Vec::new();
        for part in self.per {
            subject.push(match (part, customer) {
                (SubjectPart::Merchant, _) => mchid(merchant),
                (SubjectPart::Category, _) => if merchant == 1 { "food" } else { "retail" }.to_owned(),
                (SubjectPart::Customer, Customer::Unknown) => return None,
                (SubjectPart::Customer, Customer::Platform(number)) => format!("c{number}"),
                (SubjectPart::Customer, Customer::Openid(number)) => format!("wx-jsapi o{number}"),
            });
        }
        Some(Row { limit: self.id, subject })
    }

    pub fn says(&self, order: &Order, percent: u64) -> Says {
        let class = order.class.is_none_or(|class| self.classes.is_empty() || self.classes.contains(&class));
        if !self.concerns(order.merchant) || !class || !self.covers_way(&order.means.ways()) {
            return Says::Nothing;
        }
        let [transaction, ..] = self.ceilings(order.merchant, &order.customer, percent);
        if transaction > 0 && order.amount > transaction {
            return Says::Above;
        }
        match self.row(order.merchant, &order.customer) {
            Some(row) => Says::Charges(row),
            None if self.refuse_unknown => Says::Unknown,
            None => Says::Checked,
        }
    }

    /// Tells whether a payment of which this was learned may be one that the limit is for.
    pub fn covers(&self, facts: &SettledFacts) -> bool {
        let fits = |way: &&(Channel, Instrument)| {
            facts.channel.is_none_or(|one| one == way.0) && facts.instrument.is_none_or(|one| one == way.1)
        };
        let mut ways: Vec<_> = WAYS.iter().filter(fits).copied().collect();
        if ways.is_empty() {
            // They contradict each other.
            ways = WAYS.to_vec();
        }
        let class = facts.account_class.is_none_or(|class| self.classes.is_empty() || self.classes.contains(&class));
        class && self.covers_way(&ways)
    }

    fn covers_way(&self, ways: &[(Channel, Instrument)]) -> bool {
        ways.iter().any(|(channel, instrument)| {
            (self.channels.is_empty() || self.channels.contains(channel))
                && (self.instruments.is_empty() || self.instruments.contains(instrument))
        })
    }
}

fn scaled(ceiling: u64, percent: u64) -> u64 {
    if ceiling == 0 { 0 } else { (ceiling * percent / 100).max(1) }
}

/// The ways to pay.
pub const WAYS: [(Channel, Instrument); 3] = [
    (Channel::QuickPay, Instrument::CreditCard),
    (Channel::QuickPay, Instrument::DebitCard),
    (Channel::Balance, Instrument::Balance),
];

/// Days since 1970 in Shanghai where they begin at an hour; months and years likewise; zero for all time.
pub fn window(window: Window, now_s: i64, cut_over_hour: u8) -> u16 {
    let day = (now_s + (8 - i64::from(cut_over_hour)) * 3600).div_euclid(86_400);
    match window {
        Window::Day => u16::try_from(day).expect("a day"),
        Window::Month => month_of(day),
        Window::Year => month_of(day) / 12,
        Window::Lifetime => 0,
    }
}

/// Returns the first second after a window; `None` for all time.
pub fn end_s(kind: Window, now_s: i64, cut_over_hour: u8) -> Option<i64> {
    let now = window(kind, now_s, cut_over_hour);
    let shift_s = (8 - i64::from(cut_over_hour)) * 3600;
    let midnight_s = (now_s + shift_s).div_euclid(86_400) * 86_400 - shift_s;
    let days = (1..=366).map(|day| midnight_s + day * 86_400);
    (kind != Window::Lifetime).then(|| days.into_iter().find(|at| window(kind, *at, cut_over_hour) > now)).flatten()
}

/// Counts the months by walking through the years.
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
