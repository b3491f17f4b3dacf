//! Who the merchants are and what they may: the registry snapshot, the routes, and the rules that resolve
//! which limits apply.
//!
//! A [`Policy`] is immutable: a change is a new snapshot, swapped in whole.

mod answer;
mod ceilings;
mod coverage;
mod limit;
mod measures;
mod policy;
mod route;
mod spec;

#[cfg(test)]
mod tests;

pub use answer::{AnswerSpec, Codes, instrument_of_bank_type};
pub use coverage::{Coverage, SettledFacts};
pub use limit::{Applies, Limit, LimitProblem, Payment, SubjectNames};
pub use policy::{ApiKey, Facts, Merchant, Permitted, Policy, PolicyError, Problem, Section, Shares};
pub use route::{
    CertificateDemand, OrderKind, Place, Pointers, Route, RouteError, RouteIndex, RouteMatch, Routes, RoutesInvalid,
    Settle, Variant, Variants,
};
pub use spec::{
    AppSpec, Ceilings, ExpiryRule, HoldRules, KeyOrigin, KeySpec, KeyStatus, LimitSpec, Measure, MerchantSpec, Network,
    Override, OverrideSubject, Predicate, Refunds, RiskFactors, SubjectPart, UnknownSubject,
};
