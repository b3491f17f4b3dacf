//! Orders and refunds as merchants mean them, and what is expected of them.

use tollgate::admission::{Detail, Outcome};
use tollgate::merchant::SettledFacts;
use tollgate::reason::Reason;
use tollgate::types::{AccountClass, Channel, Instrument};

use super::rules::WAYS;

/// A payment order, as its merchant means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    pub merchant: usize,
    pub number: u8,
    pub amount: u64,
    pub customer: Customer,
    pub means: Means,
    pub class: Option<AccountClass>,
    /// Whether the answer settles it.
    pub on_answer: bool,
}

/// A refund, as its merchant means it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Return {
    pub merchant: usize,
    pub number: u8,
    /// The number of the payment.
    pub original: u8,
    pub amount: u64,
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

    /// The ways to pay that are possible still.
    pub fn ways(self) -> Vec<(Channel, Instrument)> {
        let [credit, debit, balance] = WAYS;
        match self {
            Self::Unknown => vec![credit, debit, balance],
            Self::QuickPay => vec![credit, debit],
            Self::Credit => vec![credit],
            Self::Debit => vec![debit],
            Self::Balance => vec![balance],
        }
    }
}

/// What the model expects.
#[derive(Clone, Debug)]
pub enum Verdict {
    Admitted { decision: usize, duplicate: bool, shadowed: Vec<u16> },
    Refused(Reason, Option<Detail>),
}

/// One limit of one subject.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    pub limit: &'static str,
    pub subject: Vec<String>,
}

/// What is told of an order by an answer.
#[derive(Clone, Copy, Debug)]
pub struct News {
    pub outcome: Option<Outcome>,
    pub facts: SettledFacts,
}

/// A number: of a payment or of a refund, of a merchant.
pub type Name = (bool, usize, u8);
