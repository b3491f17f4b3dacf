//! Cases that depend on the date: a gate whose clock the demo sets.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::accounts::LIST_DAYS;
use super::cases::{Case, Expected};
use super::client::Answer;
use super::configuration::{Bounds, Lists};
use super::request::Message;
use super::world::{ManualClock, World};
use super::{DemoError, request::Payment};
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::types::Interface;

pub(super) fn certificate_not_yet_valid() -> Case {
    Expected::unsigned(401, "SIGN_ERROR").after("ten days before the certificate was made", |world| {
        let then = UnixMillis(SystemClock.now().0 - 10 * DAY_MS);
        Box::pin(at(world, "not-yet-valid", then, world.accounts.store.echo("hello")))
    })
}

pub(super) fn certificate_expired() -> Case {
    Expected::unsigned(401, "SIGN_ERROR").after("six years later; and by a replaced key, now", |world| {
        Box::pin(async move {
            let later = UnixMillis(SystemClock.now().0 + 6 * 366 * DAY_MS);
            let expired = at(world, "expired", later, world.accounts.store.echo("hello")).await?;
            let replaced = world.main.send(world.accounts.store_replaced.echo("hello")).await?;
            if (expired.status, expired.code()) == (replaced.status, replaced.code()) {
                Ok(replaced)
            } else {
                Err(DemoError::Unexpected { status: expired.status, code: expired.code() })
            }
        })
    })
}

pub(super) fn revocation_unknown() -> Case {
    Expected::unsigned(503, "SERVICE_UNAVAILABLE").after("the revocation list has expired", |world| {
        Box::pin(async move {
            let lists = Bounds { lists: Lists::Own, ..world.small() };
            let then = |days: i64| UnixMillis(SystemClock.now().0 + days * DAY_MS);
            let echo = || world.accounts.store.echo("hello");
            let fresh = at_gate(world, ("listed", lists.clone()), then(0), echo()).await?;
            if fresh.status != 200 {
                return Err(DemoError::Unexpected { status: fresh.status, code: fresh.code() });
            }
            at_gate(world, ("list-expired", lists), then(LIST_DAYS + 2), echo()).await
        })
    })
}

/// A bare key has no validity, so that the payment comes as far as the limits.
pub(super) fn clock_out_of_range() -> Case {
    Expected::signed(503, "SERVICE_UNAVAILABLE").after("a payment in the year 2150", |world| {
        Box::pin(async move {
            let then = instant(jiff::civil::date(2150, 1, 1).at(12, 0, 0, 0))?;
            let pay = world.accounts.store_bare.pay(Interface::Jsapi, &Payment::new(100));
            at(world, "year-2150", then, pay).await
        })
    })
}

/// Returns the instant of a date and time in the calendar of limits.
///
/// # Errors
/// Where the calendar is not known, or no instant has that name in it.
pub(super) fn instant(local: DateTime) -> Result<UnixMillis, DemoError> {
    let zone = TimeZone::get("Asia/Shanghai").map_err(|_| DemoError::Calendar)?;
    let zoned = local.to_zoned(zone).map_err(|_| DemoError::Calendar)?;
    Ok(UnixMillis(zoned.timestamp().as_millisecond()))
}

/// Sends a message, dated so, to a gate whose clock stands at that instant.
async fn at(world: &World, name: &str, then: UnixMillis, message: Message) -> Result<Answer, DemoError> {
    at_gate(world, (name, world.small()), then, message).await
}

async fn at_gate(
    world: &World,
    (name, bounds): (&str, Bounds),
    then: UnixMillis,
    message: Message,
) -> Result<Answer, DemoError> {
    let clock = ManualClock::at(then);
    world.at_gate(name, bounds, clock, async |gate| gate.send(message.at(then)).await).await
}

/// A day, in milliseconds.
pub(super) const DAY_MS: i64 = 24 * 60 * 60 * 1000;
