//! Limits, each value by itself; the policy checks how those of one limit, and the limits of one merchant, fit.

use jiff::tz::TimeZone;

use crate::journal::Durability;
use crate::merchant::{Ceilings, LimitSpec, Override, OverrideSubject, Predicate, RiskFactors};
use crate::time::CalendarRule;
use crate::types::{Fen, Unit};

use super::bounds::{each, within};
use super::fault::{At, Fault, Problem, ROOT};
use super::gate::time_zone;
use super::merchant::category;
use super::shape::{self, Table};

/// Checks the sections `limit`; `zone` is that of limits that name none.
pub(super) fn check(shapes: Vec<Table<shape::Limit>>, zone: &TimeZone) -> Result<Vec<LimitSpec>, Fault> {
    each(&ROOT, "limit", shapes, LIMITS_MAX, |at, shape| one(at, shape, zone))
}

fn one(at: &At<'_>, shape: shape::Limit, zone: &TimeZone) -> Result<LimitSpec, Fault> {
    id(&at.key("id"), &shape.id)?;
    let calendar = calendar(at, &shape, zone)?;
    let unit = shape.unit;
    let Ceilings { transaction, day, month, year, lifetime } = ceilings(at, unit, &Given::from(&shape))?;
    let risk_factors = risk_factors(&at.key("risk_factor_permille"), &shape.risk_factor_permille.0)?;
    let overrides = each(at, "override", shape.overrides, OVERRIDES_MAX, |at, shape| one_override(at, unit, shape))?;
    let Table(when) = shape.when;
    let when_at = at.key("when");
    let categories = when.category.into_iter().enumerate();
    Ok(LimitSpec {
        id: shape.id,
        predicate: Predicate {
            merchant_kinds: when.merchant_kind,
            categories: categories
                .map(|(index, name)| category(&when_at.item("category", index), name))
                .collect::<Result<_, _>>()?,
            risks: when.risk,
            interfaces: when.interface,
            channels: when.channel,
            instruments: when.instrument,
            account_classes: when.account_class,
            code_grades: when.code_grade,
            authentications: when.authentication,
        },
        subject: shape.per,
        unknown_subject: shape.unknown_subject,
        mode: shape.mode,
        disk: shape.durability == Some(Durability::Disk),
        refund: shape.refund,
        calendar,
        unit,
        transaction,
        day,
        month,
        year,
        lifetime,
        risk_factors,
        overrides,
    })
}

fn calendar(at: &At<'_>, shape: &shape::Limit, zone: &TimeZone) -> Result<CalendarRule, Fault> {
    let named = shape.zone.as_deref().map(|name| time_zone(&at.key("zone"), name)).transpose()?;
    let (at, hour) = (at.key("cut_over_hour"), shape.cut_over_hour);
    let rule = CalendarRule::new(named.unwrap_or_else(|| zone.clone()), within(&at, hour, 0..=HOUR_MAX)?);
    rule.ok_or_else(|| at.refuse(Problem::Range { value: hour, min: 0, max: HOUR_MAX }))
}

fn id(at: &At<'_>, id: &str) -> Result<(), Fault> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if (1..=ID_BYTES_MAX).contains(&id.len()) && id.bytes().all(plain) {
        return Ok(());
    }
    let expected = "1 to 64 letters, digits, `_`, `-` or `.`";
    Err(at.refuse(Problem::Text { found: id.to_owned(), expected }))
}

/// Ceilings as they stand in the file, by window, a single transaction first.
struct Given {
    fen: [Option<u64>; 5],
    count: [Option<u64>; 5],
}

impl From<&shape::Limit> for Given {
    fn from(shape: &shape::Limit) -> Self {
        Self {
            fen: [shape.transaction_fen, shape.day_fen, shape.month_fen, shape.year_fen, shape.lifetime_fen],
            count: [None, shape.day_count, shape.month_count, shape.year_count, shape.lifetime_count],
        }
    }
}

impl From<&shape::Override> for Given {
    fn from(shape: &shape::Override) -> Self {
        Self {
            fen: [shape.transaction_fen, shape.day_fen, shape.month_fen, shape.year_fen, shape.lifetime_fen],
            count: [None, shape.day_count, shape.month_count, shape.year_count, shape.lifetime_count],
        }
    }
}

/// Reads the ceilings in the limit's unit; those in the other one are refused.
fn ceilings(at: &At<'_>, unit: Unit, given: &Given) -> Result<Ceilings, Fault> {
    let (fen, count) = (FEN_KEYS.into_iter().zip(given.fen), COUNT_KEYS.into_iter().zip(given.count));
    let (mut own, mut other, remedy) = match unit {
        Unit::Fen => (fen, count, "remove the key, or write unit = \"count\""),
        Unit::Count => (count, fen, "remove the key, or write unit = \"fen\"; one limit counts one or the other"),
    };
    if let Some((name, _)) = other.find(|(_, value)| value.is_some()) {
        return Err(at.key(name).refuse(Problem::Unwanted { remedy }));
    }
    let mut next = || own.next().map_or(Ok(None), |(name, value)| ceiling(&at.key(name), value));
    Ok(Ceilings { transaction: next()?, day: next()?, month: next()?, year: next()?, lifetime: next()? })
}

fn risk_factors(at: &At<'_>, shape: &shape::RiskFactors) -> Result<RiskFactors, Fault> {
    let permille = |name, value| within(&at.key(name), value, 0..=FACTOR_PERMILLE_MAX);
    Ok(RiskFactors {
        low_permille: permille("low", shape.low)?,
        normal_permille: permille("normal", shape.normal)?,
        high_permille: permille("high", shape.high)?,
    })
}

fn one_override(at: &At<'_>, unit: Unit, shape: shape::Override) -> Result<Override, Fault> {
    let ceilings = ceilings(at, unit, &Given::from(&shape))?;
    let remedy = "an override is for one merchant or for one customer; name one of them";
    let subject = match (shape.merchant, shape.customer) {
        (Some(merchant), None) => OverrideSubject::Merchant(merchant),
        (None, Some(customer)) if (1..=CUSTOMER_BYTES_MAX).contains(&customer.len()) => {
            OverrideSubject::Customer(customer)
        }
        (None, Some(found)) => {
            return Err(at.key("customer").refuse(Problem::Text { found, expected: "a text of 1 to 128 bytes" }));
        }
        (Some(_), Some(_)) => return Err(at.key("customer").refuse(Problem::Unwanted { remedy })),
        (None, None) => return Err(at.key("merchant").refuse(Problem::Missing { remedy: "add it, or `customer`" })),
    };
    Ok(Override { subject, ceilings })
}

fn ceiling(at: &At<'_>, fen: Option<u64>) -> Result<Option<Fen>, Fault> {
    let amount =
        |fen| Fen::new(fen).ok_or_else(|| at.refuse(Problem::Range { value: fen, min: 1, max: Fen::MAX.get() }));
    fen.map(amount).transpose()
}

/// The last hour of a day.
const HOUR_MAX: u64 = 23;

/// Most limits.
const LIMITS_MAX: usize = 1000;

/// Longest id of a limit, in bytes.
const ID_BYTES_MAX: usize = 64;

/// Most subjects of one limit with ceilings of their own.
const OVERRIDES_MAX: usize = 10_000;

/// Longest name of a customer, in bytes: that of the header which states it.
const CUSTOMER_BYTES_MAX: usize = 128;

/// Largest factor of a risk level.
const FACTOR_PERMILLE_MAX: u64 = 10_000;

/// The keys of ceilings, by window, a single transaction first.
const FEN_KEYS: [&str; 5] = ["transaction_fen", "day_fen", "month_fen", "year_fen", "lifetime_fen"];
const COUNT_KEYS: [&str; 5] = ["transaction_count", "day_count", "month_count", "year_count", "lifetime_count"];
