//! Records of the gate as the operator reads them: JSON, one value a line.

use serde::Serialize;

use crate::admission::{Event, Settlement};
use crate::journal::Record;
use crate::time::UnixMillis;
use crate::types::{MerchantId, Operation};

/// Writes decisions.
///
/// # Errors
/// Whatever stopped the encoder.
pub(super) fn decisions(records: &[Record]) -> Result<Vec<u8>, serde_json::Error> {
    lines(records.iter().map(Decided::from))
}

/// Writes what became of decisions.
///
/// # Errors
/// Whatever stopped the encoder.
pub(super) fn settlements(settlements: &[Settlement]) -> Result<Vec<u8>, serde_json::Error> {
    lines(settlements.iter().map(Became::from))
}

/// Reads how many records are asked for; `None` where the query is anything else or out of bounds.
pub(super) fn last(query: Option<&str>) -> Option<usize> {
    let Some(query) = query else { return Some(RECORDS_DEFAULT) };
    let last = query.strip_prefix("last=")?.parse().ok()?;
    (1..=RECORDS_MAX).contains(&last).then_some(last)
}

/// A decision.
#[derive(Serialize)]
struct Decided<'a> {
    at: Option<jiff::Timestamp>,
    decision: String,
    merchant: &'a MerchantId,
    operation: Operation,
    amount_fen: u64,
    verdict: &'static str,
    reason: Option<&'static str>,
    duplicate: bool,
    /// Shadow limits that would have refused it.
    shadowed: Vec<&'a str>,
}

impl<'a> From<&'a Record> for Decided<'a> {
    fn from(record: &'a Record) -> Self {
        Self {
            at: instant(record.at),
            decision: record.decision.to_string(),
            merchant: &record.merchant,
            operation: record.operation,
            amount_fen: record.amount_fen,
            verdict: if record.refused.is_some() { "refused" } else { "admitted" },
            reason: record.refused.map(|reason| reason.as_str()),
            duplicate: record.duplicate,
            shadowed: record.shadowed.iter().map(|id| &**id).collect(),
        }
    }
}

/// What became of a decision.
#[derive(Serialize)]
struct Became {
    at: Option<jiff::Timestamp>,
    decision: String,
    amount_fen: u64,
    event: Event,
}

impl From<&Settlement> for Became {
    fn from(settlement: &Settlement) -> Self {
        let &Settlement { at, decision, amount_fen, event } = settlement;
        Self { at: instant(at), decision: decision.to_string(), amount_fen, event }
    }
}

/// Names an instant as RFC 3339 does, in UTC; `None`, null in JSON, where it has no such form.
fn instant(at: UnixMillis) -> Option<jiff::Timestamp> {
    jiff::Timestamp::from_millisecond(at.0).ok()
}

fn lines(values: impl Iterator<Item = impl Serialize>) -> Result<Vec<u8>, serde_json::Error> {
    let mut lines = Vec::new();
    for value in values {
        serde_json::to_writer(&mut lines, &value)?;
        lines.push(b'\n');
    }
    Ok(lines)
}

/// How many records are listed where the query does not say.
const RECORDS_DEFAULT: usize = 100;

/// Most records listed at once.
const RECORDS_MAX: usize = 10_000;
