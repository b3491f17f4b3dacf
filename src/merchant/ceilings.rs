//! How much a limit allows: whether its ceilings fit together, and the subjects that have ceilings of their own.

use std::collections::HashMap;

use super::limit::LimitProblem;
use super::spec::{Ceilings, Override, OverrideSubject, SubjectPart};
use crate::types::{MerchantId, Unit, Window};

/// Subjects that have ceilings of their own.
#[derive(Debug, Default)]
pub(super) struct Overrides {
    merchants: HashMap<MerchantId, Ceilings>,
    customers: HashMap<String, Ceilings>,
}

impl Overrides {
    /// Checks the ceilings of subjects beside those of their limit.
    ///
    /// # Errors
    /// [`LimitProblem::Override`] names the subject and what to change.
    pub fn new(per: &[SubjectPart], unit: Unit, limit: Ceilings, specs: Vec<Override>) -> Result<Self, LimitProblem> {
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

    /// Returns the ceilings of a subject; those of the customer where the merchant has some too.
    pub fn of(&self, merchant: Option<&MerchantId>, customer: Option<&str>) -> Option<&Ceilings> {
        // Most limits have none: no hash is made for them.
        let customer = customer.filter(|_| !self.customers.is_empty());
        let merchant = merchant.filter(|_| !self.merchants.is_empty());
        customer
            .and_then(|customer| self.customers.get(customer))
            .or_else(|| merchant.and_then(|merchant| self.merchants.get(merchant)))
    }
}

/// Checks that there is a ceiling, and that, with those that hold beside them, no window allows less than a shorter one.
///
/// # Errors
/// [`LimitProblem`] says what to change.
pub(super) fn check_ceilings(unit: Unit, given: &Ceilings, all: &Ceilings) -> Result<(), LimitProblem> {
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
