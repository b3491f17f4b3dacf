//! The snapshot that decisions are made against, and the one question asked of it per request: may this merchant do this?

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrayvec::ArrayVec;
use foldhash::fast::RandomState;

use super::limit::{Limit, LimitProblem};
use super::measures::Measures;
use super::route::{Route, Routes};
use super::spec::{AppSpec, KeyOrigin, KeySpec, KeyStatus, LimitSpec, MerchantSpec, Network, OverrideSubject};
use crate::certificate::{self, Authority, Revocation};
use crate::reason::Reason;
use crate::request::Trust;
use crate::share::Share;
use crate::signature::{Extracted, Job, Verifier, VerifyingKey};
use crate::time::{CalendarRule, UnixMillis};
use crate::types::{
    AccountClass, ApiV3Key, Authentication, Channel, CodeGrade, Instrument, Interface, KeyId, MerchantId, MerchantKind,
    Operation, Risk, Scenario,
};

/// Merchants, routes and limits at one moment. Immutable.
#[derive(Debug)]
pub struct Policy {
    routes: Routes,
    /// Looked up with every request. Who asks cannot add to it, so its hash need not withstand them.
    merchants: HashMap<MerchantId, Merchant, RandomState>,
    limits: Vec<Limit>,
    /// The calendars that limits count by, each once.
    calendars: Arc<[CalendarRule]>,
    authority: Option<Authority>,
}

/// A merchant, resolved for decisions.
#[derive(Debug)]
pub struct Merchant {
    /// The identity.
    pub id: MerchantId,
    /// Ordinary or micro.
    pub kind: MerchantKind,
    /// The industry category.
    pub category: String,
    /// The risk level.
    pub risk: Risk,
    /// The APIv3 key, where the merchant has one.
    pub apiv3_key: Option<ApiV3Key>,
    /// The platform key that signs answers when the request names none.
    pub platform_key: Option<KeyId>,
    /// What the merchant holds of the bounded tables; kept from snapshot to snapshot.
    pub shares: Shares,
    sources: Vec<Network>,
    keys: Vec<ApiKey>,
    apps: Vec<AppSpec>,
    measures: Measures,
    /// Positions of the limits that can apply to the merchant.
    limits: Vec<u16>,
}

/// A key that a merchant may sign with.
#[derive(Debug)]
pub struct ApiKey {
    /// Serial of the certificate, or id of the bare key.
    pub id: KeyId,
    /// The key, prepared.
    pub key: VerifyingKey,
    origin: KeyOrigin,
    status: KeyStatus,
}

/// What one merchant holds of each bounded table.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    /// Nonces.
    pub nonces: Arc<Share>,
    /// Order numbers.
    pub orders: Arc<Share>,
    /// Rows of limits.
    pub rows: Arc<Share>,
}

impl Shares {
    /// Makes the empty shares of a merchant.
    pub fn of(merchant: MerchantId) -> Self {
        let [nonces, orders, rows] = std::array::from_fn(|_| Arc::new(Share::of(merchant)));
        Self { nonces, orders, rows }
    }
}

/// What is known of a payment beyond its amount; from the body, and from the headers of a trusted hop.
#[derive(Clone, Debug, Default)]
pub struct Facts<'a> {
    /// The appid.
    pub appid: Option<&'a str>,
    /// The customer's openid.
    pub openid: Option<&'a str>,
    /// The platform's own name of the customer.
    pub customer: Option<&'a str>,
    /// The channel.
    pub channel: Option<Channel>,
    /// The instrument.
    pub instrument: Option<Instrument>,
    /// The class of the customer's payment account.
    pub account_class: Option<AccountClass>,
    /// The grade of the bar code it is paid by.
    pub code_grade: Option<CodeGrade>,
    /// How it was authenticated.
    pub authentication: Option<Authentication>,
    /// The scenario.
    pub scenario: Option<Scenario>,
    /// The interfaces that it may come in by, where the request says more than its route.
    pub interfaces: Option<&'a [Interface]>,
}

/// Proof: the merchant may do what the route asks for, under these facts.
#[derive(Debug)]
#[expect(clippy::manual_non_exhaustive, reason = "only this module may make the proof, not the whole crate")]
pub struct Permitted {
    /// The interfaces the payment may have come in by; none where it is not a payment.
    pub interfaces: ArrayVec<Interface, { Interface::ALL.len() }>,
    /// Channels that the payment may still take, as risk control left them.
    pub channels: ArrayVec<Channel, 2>,
    _proof: (),
}

/// The parts of a policy do not fit together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{section} {index}: {problem}")]
pub struct PolicyError {
    /// The list in which the culprit stands.
    pub section: Section,
    /// Its position there, from 0.
    pub index: usize,
    /// What is wrong and what would be right.
    pub problem: Problem,
}

/// A list of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// The merchants.
    Merchant,
    /// The limits.
    Limit,
}

impl std::fmt::Display for Section {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Merchant => "merchant",
            Self::Limit => "limit",
        })
    }
}

/// What is wrong with a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// A merchant occurs twice.
    #[error("the mchid {0} occurs twice; give each merchant one entry")]
    MerchantRepeated(MerchantId),
    /// A key occurs twice.
    #[error("the key {0} occurs twice; a key belongs to one merchant, once")]
    KeyRepeated(KeyId),
    /// A merchant has no key.
    #[error("the merchant has no key; nothing it sends could be verified")]
    NoKey,
    /// A limit is not usable.
    #[error(transparent)]
    Limit(#[from] LimitProblem),
    /// A limit occurs twice.
    #[error("the limit id `{0}` occurs twice; an id names one limit")]
    LimitRepeated(String),
    /// The limits count by more calendars than a decision looks at.
    #[error("the limits count by more than {max} different pairs of `zone` and `cut_over_hour`; let some share one")]
    TooManyCalendars {
        /// How many there can be.
        max: usize,
    },
    /// More limits apply to one merchant than a decision can charge.
    #[error("the limits on this merchant have {cells} windows in all; at most {max} can be charged together")]
    TooManyCells {
        /// How many there are.
        cells: usize,
        /// How many can be.
        max: usize,
    },
}

impl Policy {
    /// Puts a policy together.
    ///
    /// # Errors
    /// [`PolicyError`] names the entry that does not fit, and why.
    pub fn build(routes: Routes, merchants: Vec<MerchantSpec>, limits: Vec<LimitSpec>) -> Result<Self, PolicyError> {
        check_overrides(&merchants, &limits)?;
        let (limits, calendars) = build_limits(limits)?;
        let merchant_count = merchants.len();
        let merchants_by_id = HashMap::with_capacity_and_hasher(merchant_count, RandomState::default());
        let mut policy = Self { routes, merchants: merchants_by_id, limits, calendars, authority: None };
        let mut keys = HashSet::new();
        for (index, spec) in merchants.into_iter().enumerate() {
            let fail = |problem| PolicyError { section: Section::Merchant, index, problem };
            let merchant = Merchant::build(spec, &policy.limits).map_err(fail)?;
            let named = |key: &&ApiKey| key.id != KeyId::API_V2;
            if let Some(key) = merchant.keys.iter().filter(named).find(|key| !keys.insert(key.id)) {
                return Err(fail(Problem::KeyRepeated(key.id)));
            }
            let id = merchant.id;
            if policy.merchants.insert(id, merchant).is_some() {
                return Err(fail(Problem::MerchantRepeated(id)));
            }
        }
        Ok(policy)
    }

    /// Names the authority of the API certificates that TLS peers show.
    #[must_use]
    pub fn with_authority(mut self, authority: Option<Authority>) -> Self {
        self.authority = authority;
        self
    }

    /// Returns the authority of API certificates, with its revocation lists.
    pub fn authority(&self) -> Option<&Authority> {
        self.authority.as_ref()
    }

    /// Judges the certificate that a TLS peer proved to hold: does it vouch for this merchant now?
    ///
    /// # Errors
    /// [`Reason::CertificateRequired`] where it does not, and [`Reason::RevocationUnknown`] where it would, but for a
    /// revocation list that is missing or out of date.
    pub fn vouches(&self, certificate_der: &[u8], merchant: &Merchant, now: UnixMillis) -> Result<(), Reason> {
        let authority = self.authority.as_ref().ok_or(Reason::CertificateRequired)?;
        let checked = authority.check(certificate_der, now).map_err(|error| match error {
            certificate::Error::Unlisted | certificate::Error::ListStale { .. } => Reason::RevocationUnknown,
            _ => Reason::CertificateRequired,
        })?;
        let registered = merchant.key(&checked.serial).filter(|_| checked.merchant == merchant.id);
        match registered.map(|key| key.in_force(now)) {
            Some(Ok(())) => Ok(()),
            Some(Err(Reason::RevocationUnknown)) => Err(Reason::RevocationUnknown),
            Some(Err(_)) | None => Err(Reason::CertificateRequired),
        }
    }

    /// Takes over what its merchants hold of the bounded tables, and notes those that are new: `known` outlives snapshots,
    /// so that a merchant that is removed and comes back still holds what it held.
    pub fn adopt_shares(&mut self, known: &mut HashMap<MerchantId, Shares>) {
        for merchant in self.merchants.values_mut() {
            merchant.shares = known.entry(merchant.id).or_insert_with(|| merchant.shares.clone()).clone();
        }
    }

    /// Returns the route table.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// Returns a merchant.
    pub fn merchant(&self, id: &MerchantId) -> Option<&Merchant> {
        self.merchants.get(id)
    }

    /// Returns all merchants, in no order.
    pub fn merchants(&self) -> impl Iterator<Item = &Merchant> {
        self.merchants.values()
    }

    /// Gives every limit the label that `number` knows it by: a number for all that makes it this limit and no other.
    pub fn label(&mut self, number: &mut dyn FnMut(&str) -> u32) {
        for limit in &mut self.limits {
            limit.label = number(limit.name());
        }
    }

    /// Returns all limits, in the order of their positions.
    pub fn limits(&self) -> &[Limit] {
        &self.limits
    }

    /// Returns the limit of this id.
    pub fn limit_by_id(&self, id: &str) -> Option<&Limit> {
        self.limits.iter().find(|limit| &*limit.id == id)
    }

    /// Returns a limit by its position.
    pub fn limit(&self, index: u16) -> Option<&Limit> {
        self.limits.get(usize::from(index))
    }

    /// Returns the calendars that limits count by. The same `Arc` as long as the policy is the same.
    pub fn calendars(&self) -> &Arc<[CalendarRule]> {
        &self.calendars
    }

    /// Returns the limits that can apply to a merchant, with their positions.
    pub fn limits_on<'p>(&'p self, merchant: &'p Merchant) -> impl Iterator<Item = (u16, &'p Limit)> {
        merchant.limits.iter().filter_map(|index| Some((*index, self.limit(*index)?)))
    }
}

/// Checks that every merchant with ceilings of its own exists: one misspelt would be held to those of the limit.
fn check_overrides(merchants: &[MerchantSpec], limits: &[LimitSpec]) -> Result<(), PolicyError> {
    let known: HashSet<&MerchantId> = merchants.iter().map(|merchant| &merchant.id).collect();
    for (index, limit) in limits.iter().enumerate() {
        for (position, one) in limit.overrides.iter().enumerate() {
            if let OverrideSubject::Merchant(id) = &one.subject
                && !known.contains(id)
            {
                let problem = Box::new(LimitProblem::OverrideOfUnknown(*id));
                let problem = Problem::Limit(LimitProblem::Override { index: position, problem });
                return Err(PolicyError { section: Section::Limit, index, problem });
            }
        }
    }
    Ok(())
}

fn build_limits(specs: Vec<LimitSpec>) -> Result<(Vec<Limit>, Arc<[CalendarRule]>), PolicyError> {
    let mut ids = HashSet::new();
    let mut calendars: Vec<CalendarRule> = Vec::new();
    let mut limits = Vec::with_capacity(specs.len());
    for (index, spec) in specs.into_iter().enumerate() {
        let fail = |problem| PolicyError { section: Section::Limit, index, problem };
        if !ids.insert(spec.id.clone()) {
            return Err(fail(Problem::LimitRepeated(spec.id)));
        }
        let calendar = calendars.iter().position(|known| *known == spec.calendar).unwrap_or_else(|| {
            calendars.push(spec.calendar.clone());
            calendars.len().saturating_sub(1)
        });
        if calendar >= CALENDARS_MAX {
            return Err(fail(Problem::TooManyCalendars { max: CALENDARS_MAX }));
        }
        limits.push(Limit::new(spec, calendar).map_err(|problem| fail(problem.into()))?);
    }
    Ok((limits, calendars.into()))
}

impl Merchant {
    fn build(spec: MerchantSpec, limits: &[Limit]) -> Result<Self, Problem> {
        if spec.keys.is_empty() {
            return Err(Problem::NoKey);
        }
        let applying: Vec<(u16, &Limit)> = (0u16..)
            .zip(limits)
            .filter(|(_, limit)| limit.could_apply_to(spec.kind, &spec.category, spec.risk))
            .collect();
        let cells: usize = applying.iter().map(|(_, limit)| limit.cells()).sum();
        if cells > crate::quota::CHARGES_MAX {
            return Err(Problem::TooManyCells { cells, max: crate::quota::CHARGES_MAX });
        }
        Ok(Self {
            id: spec.id,
            kind: spec.kind,
            risk: spec.risk,
            apiv3_key: spec.apiv3_key,
            platform_key: spec.platform_key,
            shares: Shares::of(spec.id),
            sources: spec.sources,
            keys: spec.keys.into_iter().map(ApiKey::from).collect(),
            apps: spec.apps,
            measures: Measures::new(&spec.measures),
            limits: applying.into_iter().map(|(index, _)| index).collect(),
            category: spec.category,
        })
    }

    /// Returns the key of this id.
    pub fn key(&self, id: &KeyId) -> Option<&ApiKey> {
        self.keys.iter().find(|key| key.id == *id)
    }

    /// Returns the key that a request claims. A scheme whose requests name none may have several, while one replaces
    /// another: of those it is the one that the signature holds under, or else the first.
    pub fn key_of(&self, extracted: &Extracted<'_>) -> Option<&ApiKey> {
        let mut keys = self.keys.iter().filter(|key| key.id == extracted.key);
        let first = keys.next()?;
        let mut verifier = Verifier::new();
        let mut holds = |key: &&ApiKey| verifier.holds(&Job { key: &key.key, extracted });
        match keys.next() {
            None => Some(first),
            Some(second) => [first, second].into_iter().chain(keys).find(|key| holds(key)).or(Some(first)),
        }
    }

    /// Returns all keys.
    pub fn keys(&self) -> &[ApiKey] {
        &self.keys
    }

    /// Returns the share of every ceiling that risk control leaves, in thousandths.
    pub fn limit_factor_permille(&self) -> u16 {
        self.measures.factor_permille
    }

    /// Judges whether the merchant may do what the route asks for.
    ///
    /// # Errors
    /// The reason why not: measures first, then where it comes from, then interface, scenario and channel.
    pub fn permit(
        &self,
        route: &Route,
        facts: &Facts<'_>,
        trust: Trust,
        peer: Option<std::net::IpAddr>,
    ) -> Result<Permitted, Reason> {
        self.measures.allow(route.operation)?;
        self.allow_source(trust, peer)?;
        let paying = route.operation == Operation::Pay;
        let interfaces = if paying { self.allow_interfaces(route, facts)? } else { ArrayVec::new() };
        let channels = possible_channels(facts)
            .filter(|channel| !paying || !self.measures.restricted_channels.contains(channel))
            .collect::<ArrayVec<_, 2>>();
        if channels.is_empty() {
            return Err(Reason::ChannelRestricted);
        }
        Ok(Permitted { interfaces, channels, _proof: () })
    }

    fn allow_source(&self, trust: Trust, peer: Option<std::net::IpAddr>) -> Result<(), Reason> {
        // Behind a trusted hop the peer is the hop, not the merchant: the hop answers for its callers' addresses.
        let allowed = match (trust, peer) {
            (Trust::TrustedHop, _) => true,
            (Trust::Public, Some(peer)) => self.sources.iter().any(|network| network.contains(peer)),
            (Trust::Public, None) => false,
        };
        if self.sources.is_empty() || allowed { Ok(()) } else { Err(Reason::SourceDenied) }
    }

    fn allow_interfaces(
        &self,
        route: &Route,
        facts: &Facts<'_>,
    ) -> Result<ArrayVec<Interface, { Interface::ALL.len() }>, Reason> {
        let needs_appid = route.pointers.appid.is_some();
        let same_appid = |app: &&AppSpec| match facts.appid {
            Some(appid) if needs_appid => app.appids.iter().any(|known| known == appid),
            _ => !needs_appid,
        };
        let of_appid = || self.apps.iter().filter(same_appid);
        if of_appid().next().is_none() {
            return Err(if needs_appid { Reason::AppidUnknown } else { Reason::InterfaceDenied });
        }
        let interfaces = facts.interfaces.unwrap_or(&route.interfaces);
        let approved = || of_appid().filter(|app| interfaces.contains(&app.interface));
        if approved().next().is_none() {
            return Err(Reason::InterfaceDenied);
        }
        let stated = || approved().filter(|app| facts.scenario.is_none_or(|scenario| scenario == app.scenario));
        if stated().next().is_none() {
            return Err(Reason::ScenarioDenied);
        }
        // A scenario that is not known could be the restricted one: in doubt, no.
        if stated().any(|app| self.measures.restricted_scenarios.contains(&app.scenario)) {
            return Err(Reason::ScenarioRestricted);
        }
        let possible = |interface: &&Interface| stated().any(|app| app.interface == **interface);
        Ok(Interface::ALL.iter().filter(possible).copied().collect())
    }
}

/// The channels that a payment may be taking, as far as the facts tell.
fn possible_channels(facts: &Facts<'_>) -> impl Iterator<Item = Channel> {
    let (channel, instrument) = (facts.channel, facts.instrument);
    Channel::ALL.iter().copied().filter(move |one| {
        channel.is_none_or(|known| known == *one) && instrument.is_none_or(|known| one.draws_on(known))
    })
}

impl ApiKey {
    /// Judges whether the key is in force at an instant.
    ///
    /// # Errors
    /// The reason why it is not.
    pub fn in_force(&self, now: UnixMillis) -> Result<(), Reason> {
        match self.status {
            KeyStatus::Revoked => return Err(Reason::CertificateRevoked),
            KeyStatus::Retiring { until } if now >= until => return Err(Reason::CertificateExpired),
            KeyStatus::Active | KeyStatus::Retiring { .. } => {}
        }
        let KeyOrigin::Certificate { not_before, not_after, revocation } = self.origin else { return Ok(()) };
        match revocation {
            Revocation::Revoked => Err(Reason::CertificateRevoked),
            _ if now < not_before => Err(Reason::CertificateNotYetValid),
            _ if now > not_after => Err(Reason::CertificateExpired),
            Revocation::Unlisted => Err(Reason::RevocationUnknown),
            Revocation::NotListed { until } if now > until => Err(Reason::RevocationUnknown),
            Revocation::NotListed { .. } | Revocation::NotAsked => Ok(()),
        }
    }

    /// Tells whether an API certificate vouches for the key.
    pub fn is_certificate(&self) -> bool {
        matches!(self.origin, KeyOrigin::Certificate { .. })
    }

    /// Returns the last instant of the certificate's validity; `None` for a bare key.
    pub fn not_after(&self) -> Option<UnixMillis> {
        match self.origin {
            KeyOrigin::Certificate { not_after, .. } => Some(not_after),
            KeyOrigin::Bare => None,
        }
    }
}

impl From<KeySpec> for ApiKey {
    fn from(spec: KeySpec) -> Self {
        Self { id: spec.id, key: spec.key, origin: spec.origin, status: spec.status }
    }
}

/// Most calendars: each is looked at once a batch.
const CALENDARS_MAX: usize = 32;
