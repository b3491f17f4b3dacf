//! The books of the demo's gates: what their limits show as used against what went through them, and against what the
//! demo itself has counted.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::DemoError;
use super::world::DemoGate;
use crate::admission::{Shared, Usage, UsageQuery, WindowUsage};
use crate::cli::usage;
use crate::time::{Clock, SystemClock, UnixMillis};
use crate::types::Window;

/// The books of one gate, in fen: an amount counts once for each window that it was taken from.
#[derive(Debug, Serialize)]
pub(super) struct Books {
    pub gate: &'static str,
    /// All that was taken from limits.
    pub taken: u64,
    /// What was given back.
    pub given_back: u64,
    /// What was used of windows that are over.
    pub passed: u64,
    /// What the limits show as used, added up over the export.
    pub used: u64,
    /// By how much the gate's own check finds the rows off.
    pub error: u64,
    pub stripes_checked: u32,
    pub stripes: u32,
    pub ok: bool,
}

/// What one merchant took, as the demo counted it and as a limit of the gate did, in fen.
#[derive(Debug, Serialize)]
pub(super) struct Count {
    pub merchant: &'static str,
    pub demo_fen: i64,
    pub gate_fen: i64,
    pub ok: bool,
}

/// Usage of some subjects, as the gate writes it.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct UsageShown(pub Vec<Usage>);

impl Books {
    /// Reads the books of a gate that nobody pays through meanwhile.
    pub fn read(gate: &'static str, shared: &Shared) -> Self {
        let mut before = shared.table().conservation();
        let mut used = exported(shared);
        // The gate frees rows of windows that are over at any time; then what was added up is read again.
        for _ in 0..TRIES {
            let after = shared.table().conservation();
            if after == before {
                break;
            }
            (before, used) = (after, exported(shared));
        }
        let sums = before;
        let balanced = sums.taken.checked_sub(sums.given_back).and_then(|left| left.checked_sub(sums.passed));
        Self {
            gate,
            taken: sums.taken,
            given_back: sums.given_back,
            passed: sums.passed,
            used,
            error: sums.error,
            stripes_checked: sums.stripes_checked,
            stripes: sums.stripes,
            ok: sums.error == 0 && sums.stripes_checked > 0 && sums.taken > 0 && balanced == Some(used),
        }
    }
}

/// Adds up what the export says is used.
fn exported(shared: &Shared) -> u64 {
    let used = |line: &[u8]| -> u64 {
        let line: Value = serde_json::from_slice(line).unwrap_or_default();
        let windows = line.get("windows").and_then(Value::as_array);
        windows.into_iter().flatten().filter_map(|window| window.get("used")?.as_u64()).sum()
    };
    let page = |page| shared.export(page).split(|byte| *byte == b'\n').map(used).sum::<u64>();
    (0..shared.export_pages()).map(page).sum()
}

/// Returns what each merchant took so far, as the gate counts it, in fen.
///
/// # Errors
/// Where the gate does not tell.
pub(super) fn receipts(gate: &DemoGate, merchants: &[&'static str]) -> Result<BTreeMap<&'static str, i64>, DemoError> {
    let of = |merchant: &&'static str| {
        let query =
            UsageQuery { merchant: merchant.parse().ok(), limit: Some(RECEIPTS.to_owned()), ..UsageQuery::default() };
        let shown = UsageShown::ask(gate, query, SystemClock.now())?;
        let used = shown.window(Window::Lifetime).map(|window| window.used);
        Ok((
            *merchant,
            used.and_then(|used| i64::try_from(used).ok()).ok_or(DemoError::Setup("no receipts are counted"))?,
        ))
    };
    merchants.iter().map(of).collect()
}

/// Compares what the demo counted between two readings with the difference of these.
pub(super) fn compare(
    counted: &BTreeMap<&'static str, i64>,
    before: &BTreeMap<&'static str, i64>,
    after: &BTreeMap<&'static str, i64>,
) -> Vec<Count> {
    let count = |(merchant, after): (&&'static str, &i64)| {
        let gate_fen = after - before.get(merchant).copied().unwrap_or(0);
        let demo_fen = counted.get(merchant).copied().unwrap_or(0);
        Count { merchant, demo_fen, gate_fen, ok: demo_fen == gate_fen && gate_fen > 0 }
    };
    after.iter().map(count).collect()
}

impl UsageShown {
    /// Asks a gate for usage.
    ///
    /// # Errors
    /// Where it does not tell.
    pub fn ask(gate: &DemoGate, query: UsageQuery, now: UnixMillis) -> Result<Self, DemoError> {
        gate.shared().usage(&query, now).map(Self).map_err(|_| DemoError::Setup("the gate does not tell the usage"))
    }

    /// Returns what the first limit says of a window.
    pub fn window(&self, window: Window) -> Option<&WindowUsage> {
        self.0.first()?.windows.iter().find(|one| one.window == window)
    }
}

impl fmt::Display for UsageShown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Vec::new();
        let json = serde_json::to_vec(&self.0).map_err(|_| fmt::Error)?;
        usage::show(&json, false, &mut table).map_err(|_| fmt::Error)?;
        String::from_utf8_lossy(&table).lines().try_for_each(|line| writeln!(formatter, "     {line}"))
    }
}

/// Writes fen as yuan.
pub(super) fn yuan(fen: u64) -> String {
    format!("{}.{:02}", fen / 100, fen % 100)
}

/// The limit that counts what each merchant takes.
const RECEIPTS: &str = "receipts";

/// How often the books are read again where they changed meanwhile.
const TRIES: usize = 5;
