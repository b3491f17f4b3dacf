//! Every limit that comes with the gate, run into: paid up to each of its ceilings, on a gate whose clock is moved
//! through the days, months and years, with the refusal that follows, and the room that the next window brings.

mod run;
mod shipped;

use serde::Serialize;

use super::DemoError;
use super::books::{Books, UsageShown};
use super::other_times::instant;
use super::world::{ManualClock, World};
use crate::admission::Shared;
use run::Till;
pub(super) use run::first_day;
use shipped::{LIMITS, SHOPS, Shipped, Shop};

/// A limit that was run into.
#[derive(Debug, Serialize)]
pub(super) struct Reached {
    pub limit: &'static str,
    /// The windows that were used up, each with the refusal that followed.
    pub ceilings: Vec<Ceiling>,
    pub paid: u32,
    pub refused: u32,
    pub ok: bool,
    /// What differed.
    pub difference: Option<String>,
}

/// A ceiling that was reached.
#[derive(Debug, Serialize)]
pub(super) struct Ceiling {
    pub window: &'static str,
    /// The merchant's risk level.
    pub risk: &'static str,
    pub fen: u64,
}

/// What came of it.
pub(super) struct Presets {
    pub reached: Vec<Reached>,
    /// What some subjects used when their limit was used up.
    pub usage: UsageShown,
    pub books: Books,
}

/// Runs into every limit of every preset.
///
/// # Errors
/// Where the gate cannot be started.
pub(super) async fn run(world: &World) -> Result<Presets, DemoError> {
    let date = first_day()?;
    let clock = ManualClock::at(instant(date.at(9, 0, 0, 0))?);
    let as_clock = std::sync::Arc::<ManualClock>::clone(&clock);
    let steps = async |gate: &super::world::DemoGate| {
        let mut till = Till::open(world, gate, &clock, date).await?;
        let mut reached = Vec::with_capacity(LIMITS.len());
        for limit in LIMITS {
            reached.push(till.reach(limit).await);
        }
        reached.extend(missing(gate.shared()));
        Ok(Presets { reached, usage: till.usage, books: gate.books("presets") })
    };
    world.at_gate("presets", world.presets(), as_clock, steps).await
}

/// Names the presets as the configuration does.
pub(super) fn names() -> String {
    ["t10_micro_merchants", "t8_categories", "pboc_43", "bar_code_grades"].map(|name| format!("\"{name}\"")).join(", ")
}

/// Writes the merchants of a gate with all presets.
pub(super) fn merchants() -> String {
    SHOPS.iter().map(Shop::section).collect()
}

/// Returns a line for each limit that the gate has and nothing here runs into, or whose ceilings are others.
fn missing(shared: &Shared) -> Vec<Reached> {
    let policy = shared.policy();
    let differs = |limit: &&crate::merchant::Limit| {
        let known = LIMITS.iter().find(|known| *known.id == *limit.id);
        known.is_none_or(|known| limit.ceilings_of(None, None).map(|fen| fen.unwrap_or(0)) != known.ceilings)
    };
    let line = |limit: &crate::merchant::Limit| Reached {
        limit: "one of a preset",
        ceilings: Vec::new(),
        paid: 0,
        refused: 0,
        ok: false,
        difference: Some(format!("the limit {} has ceilings that nothing runs into", limit.id)),
    };
    policy.limits().iter().filter(differs).map(line).collect()
}

impl Shop {
    fn section(&self) -> String {
        let Self { mchid, kind, category, risk } = self;
        format!(
            r#"
[[merchant]]
mchid = "{mchid}"
name = "Merchant of {category}, {risk} risk"
kind = "{kind}"
category = "{category}"
risk = "{risk}"
platform_key = "PUB_KEY_ID_0000000001"

[[merchant.key]]
id = "PUB_KEY_ID_{mchid}"
public_key_file = "merchants/public_key.pem"
status = "active"

[[merchant.interface]]
kind = "face"
scenario = "offline"

[[merchant.interface]]
kind = "payment_code"
scenario = "offline"
appids = ["wx{mchid}a"]
"#
        )
    }
}
