//! Who the merchants are and what they may: the registry snapshot, the routes, and the rules that resolve
//! which limits apply.
//!
//! A [`Policy`] is immutable: a change is a new snapshot, swapped in whole.

mod limit;
mod policy;
mod route;
mod spec;

pub use limit::{Applies, Limit, LimitProblem, Payment};
pub use policy::{ApiKey, Facts, Merchant, Permitted, Policy, PolicyError, Problem, Section, Shares};
pub use route::{
    CertificateDemand, Place, Pointers, Route, RouteError, RouteIndex, RouteMatch, Routes, RoutesInvalid, Settle,
};
pub use spec::{
    AppSpec, Ceilings, KeyOrigin, KeySpec, KeyStatus, LimitSpec, Measure, MerchantSpec, Network, Override,
    OverrideSubject, Predicate, RiskFactors, SubjectPart, UnknownSubject,
};
