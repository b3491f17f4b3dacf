//! Scenarios: what traffic is like, as a TOML file says it.

use std::path::Path;

use crate::ledger::Window;
use serde::{Deserialize, Serialize};

/// A kind of payment traffic. Shares are percentages.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it is to show.
    pub about: String,
    pub merchants: Merchants,
    pub customers: Customers,
    pub amounts: Amounts,
    /// Part of the payments by each channel, in per cent; they add up to 100.
    pub channels: Channels,
    /// Part of the requests that are something else than a plain payment, in per cent.
    #[serde(default)]
    pub hostile: Hostile,
    /// What becomes of admitted payments and refunds, in per cent of them; nothing is ever heard of the rest.
    #[serde(default)]
    pub settles: Settles,
    pub arrivals: Arrivals,
    /// The limits of the gate, as in its configuration; only `per`, `when.channel`, `when.category`, `refund` and ceilings.
    #[serde(default)]
    pub limit: Vec<Limit>,
    /// The clock of an in-process gate at the start, RFC 3339; other targets run by the clock of the machine.
    pub clock: Option<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Merchants {
    pub count: usize,
    /// Exponent of the Zipf distribution over them; 0 where all are alike.
    pub skew: f64,
    /// Part of the requests that one merchant gets beside that, in per cent.
    #[serde(default)]
    pub hot: f64,
    pub categories: Vec<String>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Customers {
    pub count: usize,
    pub skew: f64,
}

/// Amounts are uniform between these, in fen.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Amounts {
    pub least_fen: u64,
    pub most_fen: u64,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Channels {
    pub quick_pay: f64,
    pub balance: f64,
}

/// Each request is one of these at most.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Hostile {
    /// A request sent before, byte for byte.
    pub replay: f64,
    /// Signed an hour ago.
    pub stale: f64,
    /// A body that was changed after it was signed.
    pub tampered: f64,
    /// Signed with another merchant's key.
    pub wrong_key: f64,
    /// Signed with a key that was revoked.
    pub revoked: f64,
    /// By an interface that the merchant may not use.
    pub forbidden_interface: f64,
    /// By a merchant that is suspended.
    pub suspended: f64,
    /// An order sent before, signed anew.
    pub duplicate: f64,
    /// A refund, of all or a part of what is left of a payment that was committed before.
    pub refund: f64,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settles {
    pub commit: f64,
    pub release: f64,
    /// Committed when it is too late. Where holds run out in the run, after that: the gate takes them again. Elsewhere
    /// after a release: the gate refuses, and takes nothing.
    pub late: f64,
    /// How long after the verdict a payment is settled, in milliseconds.
    pub delay_ms: u64,
    /// How long a hold lasts where holds run out in the run, in seconds: in this process, where the clock is put forward,
    /// and where the run waits for it. Other gates keep their default, of days.
    pub hold_s: Option<u32>,
}

/// When requests are to be sent.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "snake_case")]
pub enum Arrivals {
    /// Evenly.
    Constant { per_second: f64 },
    /// At random, independent of each other.
    Poisson { per_second: f64 },
    /// Evenly, at one rate after the other, each for so long.
    Stepped { per_second: Vec<f64>, step_ms: u64 },
    /// As recorded: milliseconds from the start, ascending, repeated from the last on.
    Recorded { at_ms: Vec<f64> },
}

/// A limit of the gate.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    pub id: String,
    pub per: Vec<Part>,
    #[serde(default, skip_serializing_if = "When::is_empty")]
    pub when: When,
    #[serde(default)]
    pub refund: Refunds,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transaction_fen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_fen: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub month_fen: Option<u64>,
}

impl Limit {
    /// Returns the ceiling of a window, in fen.
    pub const fn ceiling(&self, window: Window) -> Option<u64> {
        match window {
            Window::Day => self.day_fen,
            Window::Month => self.month_fen,
        }
    }
}

/// What a limit counts per.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    Customer,
    Merchant,
    Category,
}

/// What a refund does to a limit.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Refunds {
    /// It gives back the room that the payment took.
    #[default]
    Return,
    /// It gives back nothing.
    Keep,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub channel: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub category: Vec<String>,
}

impl When {
    fn is_empty(&self) -> bool {
        self.channel.is_empty() && self.category.is_empty()
    }
}

/// Why a scenario can't be run.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    #[error("there is no scenario `{name}`; write one of {}, or the path of a TOML file", names().join(", "))]
    Unknown { name: String },
    #[error("{path}: {source}")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{path}: {source}")]
    Malformed { path: String, source: Box<toml::de::Error> },
    #[error("{path}: {key}: {problem}")]
    Impossible { path: String, key: &'static str, problem: &'static str },
}

impl Scenario {
    /// Reads one that ships, by its name, or a file. A name has neither a folder nor an ending.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn load(name_or_path: &Path) -> Result<Self, ScenarioError> {
        let name = || name_or_path.display().to_string();
        if let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| Path::new(shipped) == name_or_path) {
            return Self::read(text, name());
        }
        let text = std::fs::read_to_string(name_or_path).map_err(|source| {
            let is_path = name_or_path.components().count() > 1 || name_or_path.extension().is_some();
            if is_path {
                ScenarioError::Unreadable { path: name(), source }
            } else {
                ScenarioError::Unknown { name: name() }
            }
        })?;
        Self::read(&text, name())
    }

    fn read(text: &str, path: String) -> Result<Self, ScenarioError> {
        let scenario: Self = match toml::from_str(text) {
            Ok(scenario) => scenario,
            Err(source) => return Err(ScenarioError::Malformed { path, source: Box::new(source) }),
        };
        match scenario.check() {
            Ok(()) => Ok(scenario),
            Err((key, problem)) => Err(ScenarioError::Impossible { path, key, problem }),
        }
    }

    fn check(&self) -> Result<(), (&'static str, &'static str)> {
        let whole = |parts: &[f64]| (parts.iter().sum::<f64>() - 100.0).abs() < 1e-6;
        let part = |parts: &[f64]| parts.iter().all(|part| *part >= 0.0) && parts.iter().sum::<f64>() <= 100.0;
        let rates = match &self.arrivals {
            Arrivals::Constant { per_second } | Arrivals::Poisson { per_second } => vec![*per_second],
            Arrivals::Stepped { per_second, step_ms } if *step_ms > 0 => per_second.clone(),
            Arrivals::Stepped { .. } => return Err(("arrivals.step_ms", "write at least 1")),
            Arrivals::Recorded { at_ms } if !at_ms.is_sorted() || at_ms.last().is_none_or(|last| *last <= 0.0) => {
                return Err(("arrivals.at_ms", "write ascending times, the last above 0"));
            }
            Arrivals::Recorded { .. } => vec![1.0],
        };
        let checks = [
            (self.merchants.count > 0 && self.merchants.count <= MERCHANTS_MAX, "merchants.count", "write 1 to 10000"),
            (!self.merchants.categories.is_empty(), "merchants.categories", "name at least one"),
            (part(&[self.merchants.hot]), "merchants.hot", "write 0 to 100"),
            (self.merchants.skew >= 0.0 && self.customers.skew >= 0.0, "skew", "write 0 or more"),
            (
                self.customers.count > 0 && self.customers.count <= CUSTOMERS_MAX,
                "customers.count",
                "write 1 to 10000000",
            ),
            (
                0 < self.amounts.least_fen && self.amounts.least_fen <= self.amounts.most_fen,
                "amounts",
                "write 1 <= least_fen <= most_fen",
            ),
            (whole(&[self.channels.quick_pay, self.channels.balance]), "channels", "the shares must add up to 100"),
            (part(&self.hostile.shares()), "hostile", "the shares must not add up to more than 100"),
            (
                part(&[self.settles.commit, self.settles.release, self.settles.late]),
                "settles",
                "the shares must not add up to more than 100",
            ),
            (
                self.settles.hold_s.map_or(self.settles.late == 0.0, |hold_s| HOLD_S.contains(&hold_s)),
                "settles.hold_s",
                "write 60 to 120; late settles need it",
            ),
            (!rates.is_empty() && rates.iter().all(|rate| *rate > 0.0), "arrivals.per_second", "write more than 0"),
        ];
        checks.into_iter().find(|(holds, ..)| !holds).map_or(Ok(()), |(_, key, problem)| Err((key, problem)))
    }
}

impl Hostile {
    /// Returns the shares, in the order of the fields.
    pub fn shares(&self) -> [f64; 9] {
        let Self { replay, stale, tampered, wrong_key, revoked, forbidden_interface, suspended, duplicate, refund } =
            self;
        [*replay, *stale, *tampered, *wrong_key, *revoked, *forbidden_interface, *suspended, *duplicate, *refund]
    }
}

/// Returns the names of the scenarios that ship.
fn names() -> Vec<&'static str> {
    SHIPPED.iter().map(|(name, _)| *name).collect()
}

/// The scenarios that ship, in the program: it finds them wherever it is started.
const SHIPPED: [(&str, &str); 5] = [
    ("steady", include_str!("../scenarios/steady.toml")),
    ("hot_merchant", include_str!("../scenarios/hot_merchant.toml")),
    ("at_the_ceiling", include_str!("../scenarios/at_the_ceiling.toml")),
    ("hostile", include_str!("../scenarios/hostile.toml")),
    ("month_end", include_str!("../scenarios/month_end.toml")),
];

/// How long holds may last that run out in a run, in seconds: a gate takes no shorter ones, and twice as long is less than
/// the 300 that timestamps may be off when the clock is put forward.
const HOLD_S: std::ops::RangeInclusive<u32> = 60..=120;

const MERCHANTS_MAX: usize = 10_000;
const CUSTOMERS_MAX: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_that_ships_is_found_by_its_name_and_by_its_file() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let files: Vec<_> =
            std::fs::read_dir(folder).expect("scenarios").map(|file| file.expect("a file").path()).collect();
        assert_eq!(files.len(), SHIPPED.len(), "{files:?}");
        for file in files {
            let by_file = Scenario::load(&file).expect("a scenario");
            let by_name = Scenario::load(Path::new(file.file_stem().expect("a name"))).expect("a scenario");
            assert_eq!(by_file.about, by_name.about);
        }
    }

    #[test]
    fn a_scenario_that_is_not_there_is_told_from_a_name_that_none_has() {
        let error = |path: &str| Scenario::load(Path::new(path)).expect_err(path).to_string();
        assert!(error("stedy").contains("write one of steady, hot_merchant"), "{}", error("stedy"));
        assert!(error("nowhere/steady.toml").starts_with("nowhere/steady.toml: No such file"));
    }

    #[test]
    fn a_scenario_that_makes_no_sense_is_refused_by_the_name_of_its_key() {
        let text = include_str!("../scenarios/steady.toml");
        for (from, to, key) in [
            ("quick_pay = 70", "quick_pay = 71", "channels"),
            ("least_fen = 100", "least_fen = 0", "amounts"),
            ("commit = 80", "commit = 101", "settles"),
            ("commit = 80", "commit = 80\nlate = 1", "settles.hold_s"),
            ("commit = 80", "commit = 80\nhold_s = 59", "settles.hold_s"),
            ("count = 100\n", "count = 0\n", "merchants.count"),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text, "{from}");
            let scenario: Scenario = toml::from_str(&changed).expect("TOML");
            assert_eq!(scenario.check().map_err(|(key, _)| key), Err(key));
        }
    }
}
