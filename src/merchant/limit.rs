//! A limit: which payments it applies to, what it counts per, and how much it allows.

use std::collections::HashMap;
use std::sync::Arc;

use arrayvec::ArrayVec;

use super::policy::{Facts, Merchant, Permitted};
use super::spec::{
    Ceilings, LimitSpec, Override, OverrideSubject, Predicate, RiskFactors, SubjectPart, UnknownSubject,
};
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
    /// Whether it counts, in all windows. A window without a ceiling is unlimited but counted all the same, so that a
    /// ceiling set later acts on what was used before. Not where only single transactions are limited.
    counted: bool,
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
            counted: ceilings.any_window() || spec.overrides.iter().any(|one| one.ceilings.any_window()),
            overrides: Overrides::new(&spec.subject, spec.unit, ceilings, spec.overrides)?,
            id: spec.id.into(),
            mode: spec.mode,
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

    /// Returns how many cells a charge takes.
    pub fn cells(&self) -> usize {
        if self.counted { Window::ALL.len() } else { 0 }
    }

    /// Returns the window of a cell.
    pub fn window(&self, cell: usize) -> Option<Window> {
        Window::ALL.get(cell).copied().filter(|_| self.counted)
    }

    /// Says what the limit makes of a payment of a merchant that it could apply to.
    pub fn applies(&self, payment: &Payment<'_>, prf: &Prf) -> Applies {
        if !self.covers(payment) {
            return Applies::No;
        }
        let own = self.overrides.of(payment);
        if self.ceiling(None, own, payment.merchant).is_some_and(|ceiling| payment.amount.get() > ceiling) {
            return Applies::AboveTransaction;
        }
        if !self.counted {
            return Applies::Checked;
        }
        let Some(row) = self.row(payment, prf) else {
            return match self.unknown_subject {
                UnknownSubject::Refuse => Applies::SubjectUnknown,
                UnknownSubject::PerTransaction => Applies::Checked,
            };
        };
        let Some(windows) = payment.windows.get(self.calendar).copied().flatten() else {
            return Applies::ClockOutOfRange;
        };
        let cells = Window::ALL.iter().map(|window| CellDemand {
            window_id: match window {
                Window::Day => windows.day,
                Window::Month => windows.month,
                Window::Year => windows.year,
                Window::Lifetime => LIFETIME,
            },
            ceiling_fen: self.ceiling(Some(*window), own, payment.merchant).unwrap_or(u64::MAX),
        });
        Applies::Charge(Demand { row, unit: self.unit, mode: self.mode, cells: cells.collect() })
    }

    /// Returns the ceiling of a window, or of a single transaction: the subject's own, or the limit's after the
    /// merchant's risk level; in either case as far as the measures on the merchant leave it. `None` means none.
    fn ceiling(&self, window: Option<Window>, own: Option<&Ceilings>, merchant: &Merchant) -> Option<u64> {
        // At most 2^48 * 10,000 / 1000 * 1000: no overflow.
        let part = |of: u64, permille: u16| of.saturating_mul(permille.into()) / 1000;
        let own = own.and_then(|own| own.of(window)).map(Fen::get);
        let risk_permille = self.risk_factors.of(merchant.risk);
        own.or_else(|| self.ceilings.of(window).map(|ceiling| part(ceiling.get(), risk_permille)))
            .map(|ceiling| part(ceiling, merchant.limit_factor_permille()))
    }

    /// A fact that is not known could be any of those still possible: the limit covers the payment if it covers one.
    fn covers(&self, payment: &Payment<'_>) -> bool {
        let Predicate { interfaces, channels, instruments, account_classes, code_grades, .. } = &self.predicate;
        let Facts { account_class, code_grade, .. } = payment.facts;
        let channel = |one: &Channel| channels.is_empty() || channels.contains(one);
        let instrument = |one: &Instrument| {
            (instruments.is_empty() || instruments.contains(one))
                && payment.facts.instrument.is_none_or(|known| known == *one)
        };
        could_be(*account_class, account_classes)
            && could_be(*code_grade, code_grades)
            && (interfaces.is_empty() || payment.permitted.interfaces.iter().any(|one| interfaces.contains(one)))
            && payment
                .permitted
                .channels
                .iter()
                .filter(|one| channel(one))
                .any(|one| Instrument::ALL.iter().filter(|other| instrument(other)).any(|other| one.draws_on(*other)))
    }

    fn row(&self, payment: &Payment<'_>, prf: &Prf) -> Option<RowKey> {
        let mut parts: ArrayVec<&[u8], SUBJECT_PARTS_MAX> = ArrayVec::new();
        parts.push(self.name.as_bytes());
        for part in &self.subject {
            match part {
                SubjectPart::Merchant => push(&mut parts, b"merchant", &[payment.merchant.id.as_str()])?,
                SubjectPart::Category => push(&mut parts, b"category", &[&payment.merchant.category])?,
                SubjectPart::Customer => match (payment.facts.customer, payment.facts.appid, payment.facts.openid) {
                    (Some(customer), ..) => push(&mut parts, b"customer", &[customer])?,
                    (None, Some(appid), Some(openid)) => push(&mut parts, b"openid", &[appid, openid])?,
                    (None, ..) => return None,
                },
            }
        }
        Some(RowKey(prf.digest(&parts)))
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

/// Subjects that have ceilings of their own.
#[derive(Debug, Default)]
struct Overrides {
    merchants: HashMap<MerchantId, Ceilings>,
    customers: HashMap<String, Ceilings>,
}

impl Overrides {
    fn new(per: &[SubjectPart], unit: Unit, limit: Ceilings, specs: Vec<Override>) -> Result<Self, LimitProblem> {
        let mut overrides = Self::default();
        for (index, Override { subject, ceilings }) in specs.into_iter().enumerate() {
            let fail = |problem| LimitProblem::Override { index, problem: Box::new(problem) };
            check_ceilings(unit, &ceilings, &ceilings.or(limit)).map_err(fail)?;
            let (part, name) = match &subject {
                OverrideSubject::Merchant(_) => (SubjectPart::Merchant, "merchant"),
                OverrideSubject::Customer(_) => (SubjectPart::Customer, "customer"),
            };
            if !per.contains(&part) {
                return Err(fail(LimitProblem::OverrideOfAnother { part: name }));
            }
            let before = match subject {
                OverrideSubject::Merchant(id) => overrides.merchants.insert(id, ceilings),
                OverrideSubject::Customer(customer) => overrides.customers.insert(customer, ceilings),
            };
            if before.is_some() {
                return Err(fail(LimitProblem::OverrideRepeated));
            }
        }
        Ok(overrides)
    }

    /// Returns the ceilings of a payment's subject; those of its customer where its merchant has some too.
    fn of(&self, payment: &Payment<'_>) -> Option<&Ceilings> {
        // Most limits have none: no hash is made for them.
        let customer = payment.facts.customer.filter(|_| !self.customers.is_empty());
        let merchant = Some(&payment.merchant.id).filter(|_| !self.merchants.is_empty());
        customer
            .and_then(|customer| self.customers.get(customer))
            .or_else(|| merchant.and_then(|merchant| self.merchants.get(merchant)))
    }
}

/// Checks that there is a ceiling, and that, with those that hold beside them, no window allows less than a shorter one.
fn check_ceilings(unit: Unit, given: &Ceilings, all: &Ceilings) -> Result<(), LimitProblem> {
    if !given.any_window() && given.transaction.is_none() {
        return Err(LimitProblem::NoCeiling { unit });
    }
    if unit == Unit::Count && given.transaction.is_some() {
        return Err(LimitProblem::TransactionOfCount);
    }
    let mut below = all.transaction.map(|ceiling| (None, ceiling));
    for window in Window::ALL {
        let Some(ceiling) = all.of(Some(*window)) else { continue };
        if let Some((shorter, less)) = below
            && ceiling < less
        {
            return Err(LimitProblem::Inverted { longer: *window, shorter, unit });
        }
        below = Some((Some(*window), ceiling));
    }
    Ok(())
}

/// Tells whether a fact, where it is known, is one of those named; where none is named, any will do.
fn could_be<T: PartialEq>(fact: Option<T>, named: &[T]) -> bool {
    named.is_empty() || fact.is_none_or(|known| named.contains(&known))
}

fn push<'a>(parts: &mut ArrayVec<&'a [u8], SUBJECT_PARTS_MAX>, tag: &'a [u8], values: &[&'a str]) -> Option<()> {
    parts.try_push(tag).ok()?;
    values.iter().try_for_each(|value| parts.try_push(value.as_bytes()).ok())
}

const _: () = assert!(Window::ALL.len() <= crate::quota::CELLS_PER_ROW_MAX, "a row has a cell for every window");

/// The one window that is always open.
const LIFETIME: u16 = 0;

/// The limit's name, then a tag and at most two values for each of at most four factors.
const SUBJECT_PARTS_MAX: usize = 1 + 4 * 3;
