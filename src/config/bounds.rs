//! Numbers: each within its range, and those that bound one another in their order.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::front::Bounds;
use crate::merchant::HoldRules;
use crate::{quota, replay};

use super::fault::{At, Fault, Problem, ROOT};
use super::shape::{self, Table};

/// Checks a number against its range and gives it the type it is kept in.
pub(super) fn within<T: TryFrom<u64>>(at: &At<'_>, value: u64, range: RangeInclusive<u64>) -> Result<T, Fault> {
    let fits = range.contains(&value).then(|| T::try_from(value).ok()).flatten();
    fits.ok_or_else(|| at.refuse(Problem::Range { value, min: *range.start(), max: *range.end() }))
}

/// Checks a time in milliseconds against its range.
pub(super) fn duration(at: &At<'_>, value_ms: u64, range_ms: RangeInclusive<u64>) -> Result<Duration, Fault> {
    within(at, value_ms, range_ms).map(Duration::from_millis)
}

/// Checks that a number is not above another that bounds it.
pub(super) fn at_most(at: &At<'_>, value: u64, other: &'static str, max: u64) -> Result<(), Fault> {
    if value <= max { Ok(()) } else { Err(at.refuse(Problem::Above { value, other, max })) }
}

/// Checks that a list is not longer than the gate takes.
pub(super) fn few<T>(at: &At<'_>, items: &[T], max: usize) -> Result<(), Fault> {
    if items.len() <= max { Ok(()) } else { Err(at.refuse(Problem::TooMany { count: items.len(), max })) }
}

/// Checks each item of a list of sections, which is not longer than the gate takes.
pub(super) fn each<S, T>(
    at: &At<'_>,
    name: &'static str,
    shapes: Vec<Table<S>>,
    max: usize,
    check: impl Fn(&At<'_>, S) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    few(&at.key(name), &shapes, max)?;
    shapes.into_iter().enumerate().map(|(index, Table(shape))| check(&at.item(name, index), shape)).collect()
}

/// Checks the section `bounds`.
pub(super) fn front(shape: &shape::FrontBounds) -> Result<Bounds, Fault> {
    let at = ROOT.key("bounds");
    at_most(&at.key("body_bytes_max"), shape.body_bytes_max, "bodies_bytes_max", shape.bodies_bytes_max)?;
    at_most(&at.key("handshakes_max"), shape.handshakes_max, "connections_max", shape.connections_max)?;
    let timeout = |name, value_ms| duration(&at.key(name), value_ms, 100..=600_000);
    Ok(Bounds {
        head_bytes_max: within(&at.key("head_bytes_max"), shape.head_bytes_max, 8 * KIB..=MIB)?,
        headers_max: within(&at.key("headers_max"), shape.headers_max, 16..=256)?,
        body_bytes_max: within(&at.key("body_bytes_max"), shape.body_bytes_max, KIB..=16 * MIB)?,
        bodies_bytes_max: within(&at.key("bodies_bytes_max"), shape.bodies_bytes_max, MIB..=64 * KIB * MIB)?,
        connections_max: within(&at.key("connections_max"), shape.connections_max, 1..=1_000_000)?,
        connections_per_peer_max: within(
            &at.key("connections_per_peer_max"),
            shape.connections_per_peer_max,
            1..=1_000_000,
        )?,
        requests_per_connection_max: within(
            &at.key("requests_per_connection_max"),
            shape.requests_per_connection_max,
            1..=1_000_000_000,
        )?,
        h2_streams_max: within(&at.key("h2_streams_max"), shape.h2_streams_max, 1..=1024)?,
        h2_resets_max: within(&at.key("h2_resets_max"), shape.h2_resets_max, 1..=65_536)?,
        h2_frames_max: within(&at.key("h2_frames_max"), shape.h2_frames_max, 64..=65_536)?,
        handshakes_max: within(&at.key("handshakes_max"), shape.handshakes_max, 1..=65_536)?,
        handshake_timeout: timeout("handshake_timeout_ms", shape.handshake_timeout_ms)?,
        head_timeout: timeout("head_timeout_ms", shape.head_timeout_ms)?,
        body_timeout: timeout("body_timeout_ms", shape.body_timeout_ms)?,
        idle_timeout: duration(&at.key("idle_timeout_ms"), shape.idle_timeout_ms, 100..=3_600_000)?,
        write_timeout: timeout("write_timeout_ms", shape.write_timeout_ms)?,
        drain_timeout: duration(&at.key("drain_timeout_ms"), shape.drain_timeout_ms, 0..=600_000)?,
    })
}

/// Checks the section `replay`.
pub(super) fn nonces(shape: &shape::Replay) -> Result<replay::NonceBounds, Fault> {
    let at = ROOT.key("replay");
    let per_merchant = at.key("nonces_per_merchant_max");
    at_most(&per_merchant, shape.nonces_per_merchant_max, "nonces_max", shape.nonces_max)?;
    Ok(replay::NonceBounds {
        entries_max: within(&at.key("nonces_max"), shape.nonces_max, 1..=ENTRIES_MAX)?,
        entries_per_merchant_max: within(&per_merchant, shape.nonces_per_merchant_max, 1..=ENTRIES_MAX)?,
        tolerance_s: within(&at.key("tolerance_s"), shape.tolerance_s, 1..=300)?,
    })
}

/// Checks the section `orders`.
pub(super) fn orders(shape: &shape::Orders) -> Result<replay::OrderBounds, Fault> {
    let at = ROOT.key("orders");
    let per_merchant = at.key("orders_per_merchant_max");
    at_most(&per_merchant, shape.orders_per_merchant_max, "orders_max", shape.orders_max)?;
    Ok(replay::OrderBounds {
        entries_max: within(&at.key("orders_max"), shape.orders_max, 1..=ENTRIES_MAX)?,
        entries_per_merchant_max: within(&per_merchant, shape.orders_per_merchant_max, 1..=ENTRIES_MAX)?,
        keep_s: within(&at.key("keep_s"), shape.keep_s, 60..=90 * DAY_S)?,
    })
}

/// Checks what the section `orders` says of holds.
pub(super) fn holds(shape: &shape::Orders) -> Result<HoldRules, Fault> {
    let hold_s = within(&ROOT.key("orders").key("hold_s"), shape.hold_s, 60..=30 * DAY_S)?;
    Ok(HoldRules { hold_s, on_expiry: shape.on_expiry })
}

/// Checks the section `rows`.
pub(super) fn rows(shape: &shape::Rows) -> Result<quota::Bounds, Fault> {
    let at = ROOT.key("rows");
    let per_merchant = at.key("rows_per_merchant_max");
    at_most(&per_merchant, shape.rows_per_merchant_max, "rows_max", shape.rows_max)?;
    Ok(quota::Bounds {
        rows_max: within(&at.key("rows_max"), shape.rows_max, 1..=ENTRIES_MAX)?,
        rows_per_merchant_max: within(&per_merchant, shape.rows_per_merchant_max, 1..=ENTRIES_MAX)?,
    })
}

/// Most entries of one table.
const ENTRIES_MAX: u64 = 1 << 30;

const DAY_S: u64 = 86_400;

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
