//! Which payments a charge was made for, so that what is learned of a payment later frees the limits that it rules out.
//!
//! A payment is charged to every limit that it *could* fall under. The charge keeps, in 16 bits, the values of the
//! uncertain facts that its limit covers; whoever settles the payment and names one of the facts can then tell which
//! charges were for another case.

use super::spec::{Predicate, Refunds};
use crate::types::{AccountClass, Authentication, Channel, CodeGrade, Instrument};

/// The values of uncertain facts that a limit covers, and whether refunds give it room; the tag of its charges.
///
/// Facts are judged one by one and a limit covers a payment where each fits, as its predicate does. What the payment
/// itself stated is not repeated here: a fact that is settled counts for more than one that was stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage(u16);

/// What is learned of a payment when it settles; `None` where nothing is learned of a fact.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SettledFacts {
    /// The channel.
    pub channel: Option<Channel>,
    /// The instrument.
    pub instrument: Option<Instrument>,
    /// The class of the customer's payment account.
    pub account_class: Option<AccountClass>,
    /// The grade of the bar code it was paid by.
    pub code_grade: Option<CodeGrade>,
    /// How it was authenticated.
    pub authentication: Option<Authentication>,
}

impl Coverage {
    /// Makes the coverage of a limit.
    pub(super) fn new(predicate: &Predicate, refunds: Refunds) -> Self {
        let Predicate { channels, instruments, account_classes, code_grades, authentications, .. } = predicate;
        let returns = match refunds {
            Refunds::Return => RETURNS,
            Refunds::Keep => 0,
        };
        Self(
            ways(|channel| matches(channels, channel), |instrument| matches(instruments, instrument))
                | bits(AccountClass::ALL, CLASSES_FROM, |one| matches(account_classes, one))
                | bits(CodeGrade::ALL, GRADES_FROM, |one| matches(code_grades, one))
                | bits(Authentication::ALL, AUTHENTICATIONS_FROM, |one| matches(authentications, one))
                | returns,
        )
    }

    /// Reads the tag of a charge.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits)
    }

    /// Returns the tag for a charge.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Tells whether a payment of which this was learned may fall under the limit; `false` where a fact rules it out.
    ///
    /// A channel and an instrument that contradict each other say nothing of either.
    pub fn covers(self, facts: &SettledFacts) -> bool {
        let SettledFacts { channel, instrument, account_class, code_grade, authentication } = facts;
        let paid = match ways(|one| is(channel, one), |one| is(instrument, one)) {
            0 => WAYS,
            paid => paid,
        };
        let settled = [
            paid,
            bits(AccountClass::ALL, CLASSES_FROM, |one| is(account_class, one)),
            bits(CodeGrade::ALL, GRADES_FROM, |one| is(code_grade, one)),
            bits(Authentication::ALL, AUTHENTICATIONS_FROM, |one| is(authentication, one)),
        ];
        settled.iter().all(|possible| self.0 & possible != 0)
    }

    /// Tells whether a refund of the payment gives room back to the limit.
    pub const fn returns(self) -> bool {
        self.0 & RETURNS != 0
    }
}

/// Returns the bits of the ways to pay whose channel and instrument will both do.
fn ways(channel: impl Fn(Channel) -> bool, instrument: impl Fn(Instrument) -> bool) -> u16 {
    let drawn = |way: Instrument| Channel::ALL.iter().any(|one| one.draws_on(way) && channel(*one));
    bits(Instrument::ALL, 0, |way| instrument(way) && drawn(way))
}

/// Returns one bit, from bit `from` on, for each value that will do.
fn bits<T: Copy>(all: &[T], from: u32, fits: impl Fn(T) -> bool) -> u16 {
    let place = |(value, bit): (&T, u32)| if fits(*value) { 1 << bit } else { 0 };
    all.iter().zip(from..).map(place).fold(0, |bits: u16, bit| bits | bit)
}

/// Tells whether a list of a predicate matches a value; an empty one matches all.
fn matches<T: PartialEq>(named: &[T], value: T) -> bool {
    named.is_empty() || named.contains(&value)
}

/// Tells whether a fact may have a value: it has, or nothing is known of it.
fn is<T: PartialEq>(fact: &Option<T>, value: T) -> bool {
    fact.as_ref().is_none_or(|known| *known == value)
}

/// Every instrument is drawn on by one channel, so the instrument alone names the way to pay: bits 0 to 2.
const WAYS: u16 = (1 << CLASSES_FROM) - 1;
const CLASSES_FROM: u32 = 3;
const GRADES_FROM: u32 = CLASSES_FROM + 3;
const AUTHENTICATIONS_FROM: u32 = GRADES_FROM + 4;
const RETURNS: u16 = 1 << (AUTHENTICATIONS_FROM + 3);
const _: () = assert!(
    Instrument::ALL.len() == 3 && AccountClass::ALL.len() == 3 && CodeGrade::ALL.len() == 4,
    "every value has a bit of its own"
);
const _: () = assert!(Authentication::ALL.len() == 3, "and so has every kind of authentication");
