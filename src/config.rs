//! The one reader of configuration: a TOML file, and the files it names, become checked values; each part of the gate
//! gets its own. Nothing is read from the environment.
//!
//! COLD. Unknown keys are refused, units stand in the names of keys, and every number has a range. A file is taken as
//! a whole or not at all, so that a reload with a mistake changes nothing.

mod bounds;
mod fault;
mod file;
mod gate;
mod init;
pub mod issue;
mod journal;
mod limit;
mod listener;
mod merchant;
mod platform;
mod preset;
mod shape;
mod source;

#[cfg(test)]
mod tests;

use std::path::Path;

use crate::front::{Address, Bounds, Listener, PlatformKeys, Upstream};
use crate::merchant::{HoldRules, LimitProblem, Policy, PolicyError, Problem as Unfit, Section};
use crate::prf::DeploymentKey;
use crate::time::UnixMillis;
use crate::types::{Unit, Window};
use crate::{quota, replay};

use fault::{Fault, ROOT};
use file::Folder;
use shape::Shape;
use source::Source;

pub use fault::{ConfigError, Problem};
pub use init::{SAMPLE_MCHID, TEMPLATE, init};
pub use journal::Journal;

/// Everything that the gate is told, checked.
pub struct Config {
    /// Worker threads; at least one.
    pub workers: usize,
    /// The deployment's secret.
    pub deployment_key: DeploymentKey,
    /// Data-plane listeners; at least one.
    pub listeners: Vec<Listener>,
    /// The control listener; loopback or a Unix socket.
    pub control: Option<Address>,
    /// Where admitted requests go; present where a listener forwards.
    pub upstream: Option<Upstream>,
    /// What is taken from peers.
    pub bounds: Bounds,
    /// The platform's own keys, with which answers are signed.
    pub platform: PlatformKeys,
    /// Threads that sign answers.
    pub signing_threads: usize,
    /// Most answers waiting to be signed.
    pub signing_queue_max: usize,
    /// Freshness and the nonce table.
    pub nonces: replay::NonceBounds,
    /// The order table.
    pub orders: replay::OrderBounds,
    /// How long an order that may still be paid keeps what it took.
    pub holds: HoldRules,
    /// The table of limit rows.
    pub quota: quota::Bounds,
    /// Where decisions are recorded; `None` where they are not.
    pub journal: Option<Journal>,
    /// Merchants, routes and limits.
    pub policy: Policy,
}

impl std::fmt::Debug for Config {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The policy holds secrets of merchants, and would be long.
        formatter
            .debug_struct("Config")
            .field("workers", &self.workers)
            .field("listeners", &self.listeners.iter().map(|listener| &listener.name).collect::<Vec<_>>())
            .field("control", &self.control)
            .field("upstream", &self.upstream)
            .field("bounds", &self.bounds)
            .field("signing_threads", &self.signing_threads)
            .field("signing_queue_max", &self.signing_queue_max)
            .field("nonces", &self.nonces)
            .field("orders", &self.orders)
            .field("holds", &self.holds)
            .field("quota", &self.quota)
            .field("journal", &self.journal)
            .finish_non_exhaustive()
    }
}

/// Reads a configuration file and every file it names. Relative paths count from the folder of the file.
///
/// # Errors
/// [`ConfigError`] names the file, the line, the key, what is wrong and what to write instead.
pub fn load(path: &Path, now: UnixMillis) -> Result<Config, ConfigError> {
    let source = Source::read(path)?;
    let shape = source.parse()?;
    let folder = Folder::of(path);
    check(shape, folder, now).map_err(|fault| source.error(fault))
}

fn check(mut shape: Shape, folder: Folder<'_>, now: UnixMillis) -> Result<Config, Fault> {
    shape.limit.extend(preset::limits(&ROOT.key("gate"), &shape.gate.0.presets)?);
    let gate = gate::check(shape.gate.0, folder)?;
    let upstream = listener::upstream(shape.upstream, folder)?;
    let listeners = listener::check(shape.listener, upstream.as_ref(), folder)?;
    let platform = platform::check(shape.platform.0, folder)?;
    let authority = merchant::authority(shape.authority, folder, now)?;
    let routes = gate::routes(gate.routes, shape.route, authority.is_some())?;
    let context =
        merchant::Context { folder, authority: authority.as_ref(), platform: &platform.keys, routes: &routes, now };
    let merchants = merchant::check(shape.merchant, &context)?;
    let limits = limit::check(shape.limit, &gate.zone)?;
    let policy = Policy::build(routes, merchants, limits).map_err(misfit)?.with_authority(authority);
    Ok(Config {
        workers: gate.workers,
        deployment_key: gate.deployment_key,
        listeners: listeners.data,
        control: listeners.control,
        upstream,
        bounds: bounds::front(&shape.bounds.0)?,
        platform: platform.keys,
        signing_threads: platform.signing_threads,
        signing_queue_max: platform.signing_queue_max,
        nonces: bounds::nonces(&shape.replay.0)?,
        orders: bounds::orders(&shape.orders.0)?,
        holds: bounds::holds(&shape.orders.0)?,
        quota: bounds::rows(&shape.rows.0)?,
        journal: journal::check(shape.journal.map(|journal| journal.0), folder)?,
        policy,
    })
}

/// Names the key of a window's ceiling.
const fn ceiling_key(window: Window, unit: Unit) -> &'static str {
    match (window, unit) {
        (Window::Day, Unit::Fen) => "day_fen",
        (Window::Month, Unit::Fen) => "month_fen",
        (Window::Year, Unit::Fen) => "year_fen",
        (Window::Lifetime, Unit::Fen) => "lifetime_fen",
        (Window::Day, Unit::Count) => "day_count",
        (Window::Month, Unit::Count) => "month_count",
        (Window::Year, Unit::Count) => "year_count",
        (Window::Lifetime, Unit::Count) => "lifetime_count",
    }
}

/// Names the key of a limit, or of an override, that is to be changed; `None` where it is the whole entry.
const fn limit_key(problem: &LimitProblem) -> Option<&'static str> {
    match problem {
        LimitProblem::NoSubject => Some("per"),
        LimitProblem::Inverted { longer, unit, .. } => Some(ceiling_key(*longer, *unit)),
        LimitProblem::TransactionOfCount => Some("transaction_fen"),
        LimitProblem::OverrideOfAnother { part } => Some(part),
        LimitProblem::OverrideOfUnknown(_) => Some("merchant"),
        LimitProblem::NoCeiling { .. } | LimitProblem::Override { .. } | LimitProblem::OverrideRepeated => None,
    }
}

/// Places what the policy says of a whole entry at the key that is to be changed.
fn misfit(error: PolicyError) -> Fault {
    if let (Section::Limit, Unfit::Limit(LimitProblem::Override { index, problem })) = (error.section, &error.problem) {
        let item = ROOT.item("limit", error.index);
        let item = item.item("override", *index);
        let key = limit_key(problem);
        return match key {
            Some(key) => item.key(key).refuse(Problem::Policy(error.problem)),
            None => item.refuse(Problem::Policy(error.problem)),
        };
    }
    let (section, key) = match (error.section, &error.problem) {
        (Section::Merchant, Unfit::MerchantRepeated(_)) => ("merchant", Some("mchid")),
        (Section::Merchant, Unfit::KeyRepeated(_) | Unfit::NoKey) => ("merchant", Some("key")),
        (
            Section::Merchant,
            Unfit::TooManyCells { .. } | Unfit::TooManyCalendars { .. } | Unfit::Limit(_) | Unfit::LimitRepeated(_),
        ) => ("merchant", None),
        (Section::Limit, Unfit::TooManyCalendars { .. }) => ("limit", Some("zone")),
        (Section::Limit, Unfit::LimitRepeated(_)) => ("limit", Some("id")),
        (Section::Limit, Unfit::Limit(problem)) => ("limit", limit_key(problem)),
        (
            Section::Limit,
            Unfit::MerchantRepeated(_) | Unfit::KeyRepeated(_) | Unfit::NoKey | Unfit::TooManyCells { .. },
        ) => ("limit", None),
    };
    let item = ROOT.item(section, error.index);
    match key {
        Some(key) => item.key(key).refuse(Problem::Policy(error.problem)),
        None => item.refuse(Problem::Policy(error.problem)),
    }
}
