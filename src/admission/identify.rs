//! From a request to who claims to have sent it: what costs little comes before what costs much. HOT.

use super::decision::{Detail, Refusal};
use super::shared::Shared;
use crate::merchant::{ApiKey, Merchant, Policy, Route, RouteError};
use crate::reason::Reason;
use crate::replay::{self, Fresh};
use crate::request::Request;
use crate::signature::{ExtractError, Extracted, Job};
use crate::time::UnixMillis;

/// What the head of a request says: route, claimed identity, freshness.
pub(super) struct Claims<'p, 'r> {
    pub route: &'p Route,
    pub parameter: Option<&'r str>,
    pub extracted: Extracted<'r>,
    pub fresh: Option<Fresh>,
}

/// A request whose route, claimed identity and key are known.
pub(super) struct Identified<'p, 'r> {
    pub route: &'p Route,
    pub parameter: Option<&'r str>,
    pub merchant: &'p Merchant,
    pub key: &'p ApiKey,
    pub extracted: Extracted<'r>,
    pub fresh: Option<Fresh>,
}

impl Identified<'_, '_> {
    pub fn job(&self) -> Job<'_, '_> {
        Job { key: &self.key.key, extracted: &self.extracted }
    }
}

/// Refuses what can be told from the head alone. A signature that stands in the body is judged with it.
pub(super) fn check_head(
    shared: &Shared,
    policy: &Policy,
    request: &Request<'_>,
    now: UnixMillis,
) -> Result<(), Refusal> {
    let (route, parameter) = find_route(policy, request)?;
    if route.scheme.signs_in_head() {
        read_claims(shared, (route, parameter), request, now)?;
    }
    Ok(())
}

fn find_route<'p, 'r>(policy: &'p Policy, request: &Request<'r>) -> Result<(&'p Route, Option<&'r str>), Refusal> {
    let refuse = |reason| anonymous(reason, Detail::None);
    let (path, _) = request.path_and_query();
    let found = policy.routes().find(request.method, path).map_err(|error| refuse(unrouted(error)))?;
    let route = policy.routes().route(found.index).ok_or_else(|| refuse(Reason::RouteUnknown))?;
    let missing = |name| request.headers.only(name).is_ok_and(|value| value.is_none());
    if route.agent_required && (missing("accept") || missing("user-agent")) {
        return Err(refuse(Reason::HeaderMissing));
    }
    Ok((route, found.parameter))
}

/// Form and freshness: what costs little comes before what costs much.
fn read_claims<'p, 'r>(
    shared: &Shared,
    (route, parameter): (&'p Route, Option<&'r str>),
    request: &Request<'r>,
    now: UnixMillis,
) -> Result<Claims<'p, 'r>, Refusal> {
    let extracted = route.scheme.extract(request).map_err(|error| anonymous(unsigned(error), flaw(error)))?;
    let fresh = extracted.timestamp_s.map(|timestamp_s| replay::fresh(timestamp_s, now, shared.tolerance_s));
    let fresh = fresh
        .transpose()
        .map_err(|skewed| anonymous(Reason::TimestampSkewed, Detail::Skew { skew_ms: skewed.skew_ms }))?;
    Ok(Claims { route, parameter, extracted, fresh })
}

pub(super) fn identify<'p, 'r>(
    shared: &Shared,
    policy: &'p Policy,
    request: &Request<'r>,
    now: UnixMillis,
) -> Result<Identified<'p, 'r>, Refusal> {
    let refuse = |reason| anonymous(reason, Detail::None);
    let found = find_route(policy, request)?;
    let Claims { route, parameter, extracted, fresh } = read_claims(shared, found, request, now)?;
    let merchant = policy.merchant(&extracted.merchant).ok_or_else(|| refuse(Reason::MerchantUnknown))?;
    let key = merchant.key_of(&extracted).ok_or_else(|| refuse(Reason::KeyUnknown))?;
    Ok(Identified { route, parameter, merchant, key, extracted, fresh })
}

/// Refuses somebody who is not known to be who it says.
pub(super) fn anonymous(reason: Reason, detail: Detail) -> Refusal {
    Refusal { reason, detail, authentic: None }
}

/// Says why no route takes a request.
pub(super) const fn unrouted(error: RouteError) -> Reason {
    match error {
        RouteError::Unknown => Reason::RouteUnknown,
        RouteError::Method => Reason::MethodNotAllowed,
    }
}

/// Says why a request does not name its signature as the scheme prescribes.
pub(super) const fn unsigned(error: ExtractError) -> Reason {
    match error {
        ExtractError::Malformed => Reason::AuthorizationMalformed,
        ExtractError::Missing => Reason::AuthorizationMissing,
        ExtractError::Unsupported => Reason::SchemeUnsupported,
        ExtractError::Query => Reason::HeadInvalid,
        ExtractError::Body(_) | ExtractError::TwoReadings => Reason::BodyMalformed,
    }
}

/// Says what is wrong with a body that the signature stands in.
fn flaw(error: ExtractError) -> Detail {
    match error {
        ExtractError::Body(_) | ExtractError::TwoReadings => Detail::Parameter { name: error.to_string() },
        ExtractError::Malformed | ExtractError::Missing | ExtractError::Unsupported | ExtractError::Query => {
            Detail::None
        }
    }
}
