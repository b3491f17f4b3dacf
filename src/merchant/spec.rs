//! What the control plane states about merchants and limits, checked one by one; [`Policy`](super::Policy) checks them together.

use std::net::IpAddr;
use std::str::FromStr;

use crate::certificate::Revocation;
use crate::signature::VerifyingKey;
use crate::time::{CalendarRule, UnixMillis};
use crate::types::{
    AccountClass, ApiV3Key, Authentication, Channel, CodeGrade, Fen, Instrument, Interface, Invalid, KeyId, LimitMode,
    MerchantId, MerchantKind, Risk, Scenario, Unit, Window,
};

/// A merchant, as configured.
#[derive(Clone, Debug)]
pub struct MerchantSpec {
    /// The identity that requests claim.
    pub id: MerchantId,
    /// The name people know it by.
    pub name: String,
    /// Ordinary or micro.
    pub kind: MerchantKind,
    /// The industry category.
    pub category: String,
    /// The risk level.
    pub risk: Risk,
    /// Where requests may come from; empty means anywhere.
    pub sources: Vec<Network>,
    /// Keys that may sign; several while one replaces another.
    pub keys: Vec<KeySpec>,
    /// Approved interfaces.
    pub apps: Vec<AppSpec>,
    /// Measures in force.
    pub measures: Vec<Measure>,
    /// The 32-byte APIv3 key, with which platform certificates are sealed for download.
    pub apiv3_key: Option<ApiV3Key>,
    /// The platform key that signs answers when the request names none; the platform's default where absent.
    pub platform_key: Option<KeyId>,
}

/// A key that a merchant may sign with.
#[derive(Clone, Debug)]
pub struct KeySpec {
    /// Serial of the certificate, or id of the bare key.
    pub id: KeyId,
    /// The public key, prepared.
    pub key: VerifyingKey,
    /// What vouches for it.
    pub origin: KeyOrigin,
    /// Whether it is in force.
    pub status: KeyStatus,
}

/// What vouches for a merchant's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// An API certificate of the configured authority, whose subject CN is the merchant.
    Certificate {
        /// First instant of validity.
        not_before: UnixMillis,
        /// Last instant of validity.
        not_after: UnixMillis,
        /// What revocation lists say of it.
        revocation: Revocation,
    },
    /// The configuration alone.
    Bare,
}

/// Whether a key is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStatus {
    /// In force.
    Active,
    /// Replaced, in force until an instant.
    Retiring {
        /// First instant at which it no longer counts.
        until: UnixMillis,
    },
    /// Not in force.
    Revoked,
}

/// An approved interface in one scenario, and the appids it is used with.
#[derive(Clone, Debug)]
pub struct AppSpec {
    /// The kind of interface.
    pub interface: Interface,
    /// The scenario it was approved for.
    pub scenario: Scenario,
    /// The appids that mean this interface; one path serves JSAPI and mini programs.
    pub appids: Vec<String>,
}

/// A measure of risk control in force on a merchant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Recorded; changes no decision.
    Warning,
    /// Ceilings are multiplied by this many thousandths, at most 1000.
    LimitFactor {
        /// Thousandths of the configured ceiling.
        permille: u16,
    },
    /// Payments through this channel are refused.
    RestrictedChannel(Channel),
    /// Payments in this scenario are refused.
    RestrictedScenario(Scenario),
    /// Nothing but queries passes.
    Suspended,
    /// No new payment passes; queries, closes, reversals and refunds do.
    PaymentClosed,
    /// Nothing passes.
    Terminated,
}

/// A limit, as configured.
#[derive(Clone, Debug)]
pub struct LimitSpec {
    /// The stable id; another id is another limit, with counters of its own.
    pub id: String,
    /// Which payments it applies to.
    pub predicate: Predicate,
    /// What it counts per; never empty.
    pub subject: Vec<SubjectPart>,
    /// What happens to a payment whose customer or category is not known, where the subject needs it.
    pub unknown_subject: UnknownSubject,
    /// When its days, months and years begin. Another rule is another limit, with counters of its own.
    pub calendar: CalendarRule,
    /// What it counts. Another unit is another limit, with counters of its own.
    pub unit: Unit,
    /// Ceiling of a single transaction; where payments are counted, none.
    pub transaction: Option<Fen>,
    /// Ceiling of a calendar day, in the limit's unit, as are those of longer windows.
    pub day: Option<Fen>,
    /// Ceiling of a calendar month.
    pub month: Option<Fen>,
    /// Ceiling of a calendar year.
    pub year: Option<Fen>,
    /// Ceiling of all time.
    pub lifetime: Option<Fen>,
    /// Whether it refuses what does not fit.
    pub mode: LimitMode,
    /// Whether what is decided on it must be safe from a loss of power before anything follows from it, though the gate asks
    /// for less.
    pub disk: bool,
    /// What a refund does to it.
    pub refund: Refunds,
    /// What the ceilings above are multiplied by, after the merchant's risk level.
    pub risk_factors: RiskFactors,
    /// Subjects with ceilings of their own.
    pub overrides: Vec<Override>,
}

/// By how many thousandths ceilings are multiplied for a merchant of each risk level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RiskFactors {
    /// Below the usual.
    pub low_permille: u16,
    /// The usual.
    pub normal_permille: u16,
    /// Above the usual.
    pub high_permille: u16,
}

impl Default for RiskFactors {
    fn default() -> Self {
        Self { low_permille: 1000, normal_permille: 1000, high_permille: 1000 }
    }
}

impl RiskFactors {
    /// Returns the factor of a risk level, in thousandths.
    pub const fn of(&self, risk: Risk) -> u16 {
        match risk {
            Risk::Low => self.low_permille,
            Risk::Normal => self.normal_permille,
            Risk::High => self.high_permille,
        }
    }
}

/// Ceilings that one subject has in place of the limit's. What is absent stays the limit's.
#[derive(Clone, Debug)]
pub struct Override {
    /// Whose ceilings they are; the limit must count per such a one.
    pub subject: OverrideSubject,
    /// The ceilings. Risk factors do not act on them, measures do.
    pub ceilings: Ceilings,
}

/// Names a subject that has ceilings of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OverrideSubject {
    /// A merchant.
    Merchant(MerchantId),
    /// A customer of the platform, as a trusted hop names it.
    Customer(String),
}

/// The ceilings of a limit, in its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Of a single transaction.
    pub transaction: Option<Fen>,
    /// Of a day.
    pub day: Option<Fen>,
    /// Of a month.
    pub month: Option<Fen>,
    /// Of a year.
    pub year: Option<Fen>,
    /// Of all time.
    pub lifetime: Option<Fen>,
}

impl Ceilings {
    /// Returns the ceiling of a window, that of a single transaction where it is `None`.
    pub const fn of(&self, window: Option<Window>) -> Option<Fen> {
        match window {
            None => self.transaction,
            Some(Window::Day) => self.day,
            Some(Window::Month) => self.month,
            Some(Window::Year) => self.year,
            Some(Window::Lifetime) => self.lifetime,
        }
    }

    /// Tells whether a window has a ceiling, beyond that of a single transaction.
    pub(super) fn any_window(&self) -> bool {
        Window::ALL.iter().any(|window| self.of(Some(*window)).is_some())
    }

    /// Returns these ceilings, and those of `other` where these have none.
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            transaction: self.transaction.or(other.transaction),
            day: self.day.or(other.day),
            month: self.month.or(other.month),
            year: self.year.or(other.year),
            lifetime: self.lifetime.or(other.lifetime),
        }
    }
}

/// Which payments a limit applies to: each list names the values that match, an empty list matches all.
#[derive(Clone, Debug, Default)]
pub struct Predicate {
    /// Merchant kinds.
    pub merchant_kinds: Vec<MerchantKind>,
    /// Categories.
    pub categories: Vec<String>,
    /// Risk levels.
    pub risks: Vec<Risk>,
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Channels; a payment whose channel is not known could fall under each, and is charged to each.
    pub channels: Vec<Channel>,
    /// Instruments; likewise.
    pub instruments: Vec<Instrument>,
    /// Classes of payment accounts; likewise.
    pub account_classes: Vec<AccountClass>,
    /// Grades of bar codes; likewise.
    pub code_grades: Vec<CodeGrade>,
    /// How the payment was authenticated; likewise.
    pub authentications: Vec<Authentication>,
}

/// One factor of a limit's subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SubjectPart {
    /// The platform's customer, across all merchants.
    Customer,
    /// The merchant.
    Merchant,
    /// The merchant's category.
    Category,
}

impl SubjectPart {
    /// Returns the name used in configuration and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Customer => "customer",
            Self::Merchant => "merchant",
            Self::Category => "category",
        }
    }
}

/// What happens to a payment whose subject is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownSubject {
    /// It is refused.
    Refuse,
    /// Only the ceiling of a single transaction applies.
    #[default]
    PerTransaction,
}

/// What a refund does to a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refunds {
    /// It gives room back, to the windows that the payment was charged in.
    #[default]
    Return,
    /// It gives none: the limit counts gross.
    Keep,
}

/// How long an order that may still be paid keeps what it took, and what becomes of that in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldRules {
    /// How long an order is held that does not say when it expires, in seconds.
    pub hold_s: u32,
    /// What becomes of a hold whose time is over.
    pub on_expiry: ExpiryRule,
}

impl Default for HoldRules {
    fn default() -> Self {
        Self { hold_s: HOLD_S, on_expiry: ExpiryRule::Release }
    }
}

/// What becomes of a hold whose time is over while nobody said whether the order was paid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryRule {
    /// What it took is given back.
    #[default]
    Release,
    /// What it took stays taken.
    Keep,
}

/// How long an order can be paid where nothing else is said: 7 days, in seconds.
const HOLD_S: u32 = 604_800;

/// A network in CIDR notation, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u8,
}

impl Network {
    /// Tells whether an address lies in the network. An IPv4 address mapped into IPv6 counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(ours), IpAddr::V4(theirs)) => {
                let shift = 32 - u32::from(self.prefix_bits);
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            (IpAddr::V6(ours), IpAddr::V6(theirs)) => {
                let shift = 128 - u32::from(self.prefix_bits);
                (ours.to_bits() ^ theirs.to_bits()).checked_shr(shift).unwrap_or(0) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let invalid = Invalid { expected: "an address, or a network such as 192.0.2.0/24 or 2001:db8::/32" };
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address = address.parse::<IpAddr>().map_err(|_| invalid)?.to_canonical();
        let bits_max = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = prefix.map_or(Ok(bits_max), |prefix| prefix.parse().map_err(|_| invalid))?;
        if prefix_bits <= bits_max { Ok(Self { address, prefix_bits }) } else { Err(invalid) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_contains_its_addresses_only() {
        let contains = |network: &str, address: &str| {
            let network: Network = network.parse().expect("network");
            network.contains(address.parse().expect("address"))
        };
        assert!(contains("192.0.2.0/24", "192.0.2.255") && !contains("192.0.2.0/24", "192.0.3.0"));
        assert!(contains("192.0.2.7", "192.0.2.7") && !contains("192.0.2.7", "192.0.2.6"));
        assert!(contains("0.0.0.0/0", "203.0.113.9") && !contains("0.0.0.0/0", "2001:db8::1"));
        assert!(contains("2001:db8::/32", "2001:db8:ffff::1") && !contains("2001:db8::/32", "2001:db9::1"));
        assert!(contains("127.0.0.0/8", "::ffff:127.0.0.1"));
        assert!(contains("::/0", "2001:db8::1"));
    }

    #[test]
    fn a_network_is_an_address_and_at_most_its_bits() {
        for bad in ["", "a", "192.0.2.0/33", "::/129", "192.0.2.0/", "192.0.2.0/-1", "192.0.2/24"] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }
}
