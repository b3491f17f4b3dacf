//! What all seeds have in common: merchants with keys, limits, and how rows are named.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tollgate::admission::{Shared, SharedParts};
use tollgate::config::Config;
use tollgate::merchant::{ExpiryRule, HoldRules};
use tollgate::quota;
use tollgate::replay::{NonceBounds, OrderBounds};
use tollgate::time::UnixMillis;

use crate::crash::scene::CrashError;
use crate::deployment::Deployment;
use crate::ledger::{Names, Subject};
use crate::pool::{self, Prepared, Signing};
use crate::scenario::Scenario;
use crate::session;
use crate::traffic::Planned;

/// What all seeds have in common.
pub struct Setting {
    pub deployment: Deployment,
    pub scenario: Scenario,
    mchids: Vec<String>,
    /// Names rows as gates of this deployment do.
    twin: Shared,
    rows: Mutex<HashMap<(usize, Subject), Option<String>>>,
}

impl Setting {
    pub fn new() -> Result<Self, CrashError> {
        let scenario: Scenario = toml::from_str(SCENARIO)?;
        let plan = session::plan_of(&scenario, "UTC")?;
        let deployment = Deployment::write_at(&plan, PRIMES, &mut StdRng::seed_from_u64(1), STARTS)?;
        let mchids = deployment.merchants.iter().map(|merchant| merchant.mchid.clone()).collect();
        let twin = Shared::new(parts(deployment.load(STARTS)?));
        Ok(Self { deployment, scenario, mchids, twin, rows: Mutex::default() })
    }

    /// Returns what a gate is made of.
    pub fn parts(&self) -> Result<SharedParts, String> {
        Ok(parts(self.deployment.load(STARTS).map_err(|error| error.to_string())?))
    }

    /// Returns what names accounts: the calendar is that of UTC.
    pub fn names(&self) -> Names<'_> {
        Names { scenario: &self.scenario, mchids: &self.mchids, offset_s: 0 }
    }

    /// Returns the key under which a gate exports the row of a limit and subject.
    pub fn row(&self, limit: usize, subject: &Subject) -> Option<String> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let row = rows.entry((limit, subject.clone())).or_insert_with(|| {
            let id = &self.scenario.limit.get(limit)?.id;
            session::row_of(&self.twin, id, subject, STARTS.seconds())
        });
        row.clone()
    }

    /// Signs a request; no other has its `nonce`.
    pub fn sign(&self, planned: &Planned, at: UnixMillis, nonce: u32) -> Option<Prepared> {
        let (merchants, appid) = (&self.deployment.merchants, Deployment::appid());
        // Order numbers name the low half of the run, nonces all of it.
        let run = u64::from(nonce) << 32 | 1;
        let signing = Signing { merchants, starts_s: at.seconds(), run, appid, facts: true };
        pool::sign(std::slice::from_ref(planned), signing, 1).0.pop()
    }
}

/// A gate of a configuration with tables so small that many can be made.
fn parts(config: Config) -> SharedParts {
    let Config { policy, deployment_key, .. } = config;
    let each = 1 << 12;
    SharedParts {
        policy,
        deployment_key,
        nonces: NonceBounds { entries_max: 1 << 12, entries_per_merchant_max: each, tolerance_s: 300 },
        orders: OrderBounds { entries_max: 1 << 12, entries_per_merchant_max: each, keep_s: KEEP_S },
        holds: HoldRules { hold_s: HOLD_S, on_expiry: ExpiryRule::Release },
        quota: quota::Bounds { rows_max: 1 << 12, rows_per_merchant_max: each },
    }
}

const SCENARIO: &str = include_str!("scenario.toml");

/// Primes of a key: more sign faster.
const PRIMES: usize = 16;

/// The last evening of a month.
pub const STARTS: UnixMillis = UnixMillis(1_801_429_200_000);

/// For how long orders are kept: longer than any story.
const KEEP_S: u32 = 90 * 86_400;

/// How long orders are held, in seconds.
pub const HOLD_S: u32 = 90;
