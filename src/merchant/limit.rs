//! A limit: which payments it applies to, what it counts per, and how much it allows.

use std::sync::Arc;

use arrayvec::ArrayVec;

use super::ceilings::{Overrides, check_ceilings};
use super::coverage::Coverage;
use super::policy::{Facts, Merchant, Permitted};
use super::spec::{Ceilings, LimitSpec, Predicate, RiskFactors, SubjectPart, UnknownSubject};
use crate::prf::Prf;
use crate::quota::{CellDemand, Demand, RowKey};
use crate::time::WindowIds;
use crate::types::{Channel, Fen, Instrument, LimitMode, MerchantId, MerchantKind, Risk, Unit, Window};

/// A limit, checked.
#[derive(Debug)]
pub struct Limit {
    /// The stable id.
    pub id: Arc<str>,
    /// Whether it refuses what does not fit.
    pub mode: LimitMode,
    /// Whether what is decided on it must be safe from a loss of power before anything follows from it.
    pub disk: bool,
    /// The number that its rows are marked with; see [`Policy::label`](super::Policy::label).
    pub label: u32,
    /// What stands for it in the keys of its rows: all that makes it this limit and no other.
    name: String,
    unit: Unit,
    /// Position of its calendar in the policy.
    calendar: usize,
    predicate: Predicate,
    subject: Vec<SubjectPart>,
    unknown_subject: UnknownSubject,
    ceilings: Ceilings,
    risk_factors: RiskFactors,
    overrides: Overrides,
    /// The windows it counts, in the order of [`Window::ALL`]; none where only single transactions are limited.
    windows: [bool; Window::ALL.len()],
    /// The tag of its charges.
    coverage: Coverage,
}

/// A limit is not usable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitProblem {
    /// It has no ceiling.
    #[error(
        "the limit has no ceiling; give it {}day_{unit}, month_{unit}, year_{unit} or lifetime_{unit}",
        if *.unit == Unit::Fen { "transaction_fen, " } else { "" }
    )]
    NoCeiling {
        /// What it counts.
        unit: Unit,
    },
    /// It counts payments, and bounds a single one.
    #[error("a limit that counts payments has no ceiling of a single transaction; make that a limit of its own")]
    TransactionOfCount,
    /// It counts per nothing.
    #[error("the limit counts per nothing; name `customer`, `merchant` or `category` in `per`")]
    NoSubject,
    /// A longer window allows less than a shorter one.
    #[error(
        "{longer}_{unit} is below {shorter}_{unit}, so the shorter window could never be used up; raise it",
        shorter = .shorter.map_or("transaction", Window::as_str)
    )]
    Inverted {
        /// The longer window.
        longer: Window,
        /// The shorter one; `None` for a single transaction.
        shorter: Option<Window>,
        /// What the limit counts.
        unit: Unit,
    },
    /// Ceilings of one subject are not usable.
    #[error("{problem}")]
    Override {
        /// Position of the subject among those of the limit.
        index: usize,
        /// What is wrong.
        problem: Box<Self>,
    },
    /// A subject that the limit does not count per has ceilings of its own.
    #[error("the limit does not count per {part}; add \"{part}\" to its `per`, or remove the override")]
    OverrideOfAnother {
        /// What it would have to count per.
        part: &'static str,
    },
    /// A subject has ceilings of its own twice.
    #[error("an earlier override is for the same subject; give each subject one")]
    OverrideRepeated,
    /// A merchant that does not exist has ceilings of its own.
    #[error("there is no merchant {0}; write the mchid of one")]
    OverrideOfUnknown(MerchantId),
}

/// What a limit says of a payment.
#[derive(Debug)]
pub enum Applies {
    /// Nothing.
    No,
    /// Single transactions are within its ceiling; it counts nothing for this payment.
    Checked,
    /// It is to be charged.
    Charge(Demand),
    /// The amount passes the ceiling of a single transaction.
    AboveTransaction,
    /// It counts per something that is not known of this payment, and refuses such payments.
    SubjectUnknown,
    /// The clock reads a time that no window can name.
    ClockOutOfRange,
}

impl Limit {
    /// Checks a limit, whose calendar stands at position `calendar` of the policy.
    ///
    /// # Errors
    /// [`LimitProblem`] says what to change.
    pub(super) fn new(spec: LimitSpec, calendar: usize) -> Result<Self, LimitProblem> {
        let ceilings = Ceilings {
            transaction: spec.transaction,
            day: spec.day,
            month: spec.month,
            year: spec.year,
            lifetime: spec.lifetime,
        };
        if spec.subject.is_empty() {
            return Err(LimitProblem::NoSubject);
        }
        check_ceilings(spec.unit, &ceilings, &ceilings)?;
        let LimitSpec { id, calendar: rule, unit, .. } = &spec;
        Ok(Self {
            name: format!("{id} {zone} {hour} {unit}", zone = rule.zone_name(), hour = rule.cut_over_hour()),
            unit: spec.unit,
            calendar,
            windows: counted_windows(&spec, ceilings),
            coverage: Coverage::new(&spec.predicate, spec.refund),
            overrides: Overrides::new(&spec.subject, spec.unit, ceilings, spec.overrides)?,
            id: spec.id.into(),
            mode: spec.mode,
            disk: spec.disk,
            label: 0,
            predicate: spec.predicate,
            subject: spec.subject,
            unknown_subject: spec.unknown_subject,
            ceilings,
            risk_factors: spec.risk_factors,
        })
    }

    /// Tells whether some payment of such a merchant can fall under the limit.
    pub fn could_apply_to(&self, kind: MerchantKind, category: &str, risk: Risk) -> bool {
        let Predicate { merchant_kinds, categories, risks, .. } = &self.predicate;
        (merchant_kinds.is_empty() || merchant_kinds.contains(&kind))
            && (categories.is_empty() || categories.iter().any(|one| one == category))
            && (risks.is_empty() || risks.contains(&risk))
    }

    /// Returns what stands for it in the keys of its rows: id, zone, cut-over hour and unit.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns what it counts.
    pub const fn unit(&self) -> Unit {
        self.unit
    }

    /// Returns the position of its calendar in the policy.
    pub const fn calendar(&self) -> usize {
        self.calendar
    }

    /// Returns what it counts per.
    pub fn per(&self) -> &[SubjectPart] {
        &self.subject
    }

    /// Returns the payments that it covers, as the tag of its charges says.
    pub const fn coverage(&self) -> Coverage {
        self.coverage
    }

    /// Tells of each window, in the order of [`Window::ALL`], whether it is counted.
    ///
    /// Day and month are counted together where either has a ceiling, a year and all time each where it has one. A
    /// window that is counted without a ceiling is unlimited, so that a ceiling set later acts on what was used before.
    pub const fn windows(&self) -> [bool; Window::ALL.len()] {
        self.windows
    }

    /// Returns how many cells a charge takes.
    pub fn cells(&self) -> usize {
        self.windows.iter().filter(|counted| **counted).count()
    }

    /// Returns the row that the limit keeps for a subject; `None` where something that it counts per is not named.
    pub fn row_of(&self, subject: &SubjectNames<'_>, prf: &Prf) -> Option<RowKey> {
        let mut parts: ArrayVec<&[u8], SUBJECT_PARTS_MAX> = ArrayVec::new();
        parts.push(self.name.as_bytes());
        for part in &self.subject {
            match part {
                SubjectPart::Merchant => push(&mut parts, b"merchant", &[subject.merchant?])?,
                SubjectPart::Category => push(&mut parts, b"category", &[subject.category?])?,
                SubjectPart::Customer => match (subject.customer, subject.openid) {
                    (Some(customer), _) => push(&mut parts, b"customer", &[customer])?,
                    (None, Some((appid, openid))) => push(&mut parts, b"openid", &[appid, openid])?,
                    (None, None) => return None,
                },
            }
        }
        Some(RowKey(prf.digest(&parts)))
    }

    /// Returns the ceilings in force for a subject, in the limit's unit: of a single transaction, then of each window.
    /// `None` means none.
    ///
    /// The risk level and the measures of the merchant act on them where it is given, ceilings of its own hold where it
    /// or the customer has some.
    pub fn ceilings_of(
        &self,
        merchant: Option<&Merchant>,
        customer: Option<&str>,
    ) -> [Option<u64>; 1 + Window::ALL.len()] {
        let own = self.overrides.of(merchant.map(|merchant| &merchant.id), customer);
        let windows = [None, Some(Window::Day), Some(Window::Month), Some(Window::Year), Some(Window::Lifetime)];
        windows.map(|window| self.ceiling(window, own, merchant))
    }

    /// Says what the limit makes of a payment of a merchant that it could apply to.
    pub fn applies(&self, payment: &Payment<'_>, prf: &Prf) -> Applies {
        if !self.covers(payment) {
            return Applies::No;
        }
        let own = self.overrides.of(Some(&payment.merchant.id), payment.facts.customer);
        let ceiling = |window| self.ceiling(window, own, Some(payment.merchant));
        if ceiling(None).is_some_and(|ceiling| payment.amount.get() > ceiling) {
            return Applies::AboveTransaction;
        }
        if self.windows == [false; Window::ALL.len()] {
            return Applies::Checked;
        }
        let Some(row) = self.row_of(&SubjectNames::from(payment), prf) else {
            return match self.unknown_subject {
                UnknownSubject::Refuse => Applies::SubjectUnknown,
                UnknownSubject::PerTransaction => Applies::Checked,
            };
        };
        let Some(windows) = payment.windows.get(self.calendar).copied().flatten() else {
            return Applies::ClockOutOfRange;
        };
        let [day, month, year, lifetime] = self.windows;
        let cell = |counted: bool, window, window_id| {
            counted.then(|| CellDemand { window_id, ceiling: ceiling(Some(window)).unwrap_or(u64::MAX) })
        };
        let cells = [
            cell(day, Window::Day, windows.day),
            cell(month, Window::Month, windows.month),
            cell(year, Window::Year, windows.year),
            cell(lifetime, Window::Lifetime, LIFETIME),
        ];
        let (label, unit, mode, tag) = (self.label, self.unit, self.mode, self.coverage.bits());
        Applies::Charge(Demand { row, label, unit, mode, tag, cells })
    }

    /// Returns the ceiling of a window, or of a single transaction: the subject's own, or the limit's after the
    /// merchant's risk level; in either case as far as the measures on the merchant leave it. `None` means none.
    fn ceiling(&self, window: Option<Window>, own: Option<&Ceilings>, merchant: Option<&Merchant>) -> Option<u64> {
        // At most 2^48 * 10,000 / 1000 * 1000: no overflow.
        let part = |of: u64, permille: u16| of.saturating_mul(permille.into()) / 1000;
        let own = own.and_then(|own| own.of(window)).map(Fen::get);
        let risk_permille = merchant.map_or(UNCHANGED_PERMILLE, |merchant| self.risk_factors.of(merchant.risk));
        own.or_else(|| self.ceilings.of(window).map(|ceiling| part(ceiling.get(), risk_permille)))
            .map(|ceiling| part(ceiling, merchant.map_or(UNCHANGED_PERMILLE, Merchant::limit_factor_permille)))
    }

    /// A fact that is not known could be any of those still possible: the limit covers the payment if it covers one.
    fn covers(&self, payment: &Payment<'_>) -> bool {
        let Predicate { interfaces, channels, instruments, .. } = &self.predicate;
        let Predicate { account_classes, code_grades, authentications, .. } = &self.predicate;
        let Facts { account_class, code_grade, authentication, .. } = payment.facts;
        let channel = |one: &Channel| channels.is_empty() || channels.contains(one);
        let instrument = |one: &Instrument| {
            (instruments.is_empty() || instruments.contains(one))
                && payment.facts.instrument.is_none_or(|known| known == *one)
        };
        could_be(*account_class, account_classes)
            && could_be(*code_grade, code_grades)
            && could_be(*authentication, authentications)
            && (interfaces.is_empty() || payment.permitted.interfaces.iter().any(|one| interfaces.contains(one)))
            && payment
                .permitted
                .channels
                .iter()
                .filter(|one| channel(one))
                .any(|one| Instrument::ALL.iter().filter(|other| instrument(other)).any(|other| one.draws_on(*other)))
    }
}

/// A payment, as limits look at it.
#[derive(Debug)]
pub struct Payment<'a> {
    /// Who takes it.
    pub merchant: &'a Merchant,
    /// What was permitted.
    pub permitted: &'a Permitted,
    /// What is known of it.
    pub facts: &'a Facts<'a>,
    /// How much.
    pub amount: Fen,
    /// The windows it falls in, by each calendar of the policy; `None` where the clock is out of range.
    pub windows: &'a [Option<WindowIds>],
}

/// Names what a limit may count per; `None` where it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubjectNames<'a> {
    /// The merchant's identity.
    pub merchant: Option<&'a str>,
    /// The category.
    pub category: Option<&'a str>,
    /// The platform's own name of the customer.
    pub customer: Option<&'a str>,
    /// The appid and the customer's openid there; stands for the customer where the platform's name is not known.
    pub openid: Option<(&'a str, &'a str)>,
}

impl<'a> From<&Payment<'a>> for SubjectNames<'a> {
    fn from(payment: &Payment<'a>) -> Self {
        Self {
            merchant: Some(payment.merchant.id.as_str()),
            category: Some(&payment.merchant.category),
            customer: payment.facts.customer,
            openid: payment.facts.appid.zip(payment.facts.openid),
        }
    }
}

/// Tells which windows are counted; see [`Limit::windows`].
fn counted_windows(spec: &LimitSpec, ceilings: Ceilings) -> [bool; Window::ALL.len()] {
    let has = |window| {
        let own = |ceilings: &Ceilings| ceilings.of(Some(window)).is_some();
        own(&ceilings) || spec.overrides.iter().any(|one| own(&one.ceilings))
    };
    let short = has(Window::Day) || has(Window::Month);
    [short, short, has(Window::Year), has(Window::Lifetime)]
}

/// Tells whether a fact, where it is known, is one of those named; where none is named, any will do.
fn could_be<T: PartialEq>(fact: Option<T>, named: &[T]) -> bool {
    named.is_empty() || fact.is_none_or(|known| named.contains(&known))
}

fn push<'a>(parts: &mut ArrayVec<&'a [u8], SUBJECT_PARTS_MAX>, tag: &'a [u8], values: &[&'a str]) -> Option<()> {
    parts.try_push(tag).ok()?;
    values.iter().try_for_each(|value| parts.try_push(value.as_bytes()).ok())
}

/// The one window that is always open.
const LIFETIME: u16 = 0;

/// The factor that leaves a ceiling as it is.
const UNCHANGED_PERMILLE: u16 = 1000;

/// The limit's name, then a tag and at most two values for each of at most four factors.
const SUBJECT_PARTS_MAX: usize = 1 + 4 * 3;
