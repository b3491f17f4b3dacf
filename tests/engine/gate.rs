//! A gate without sockets: its merchants and limits, and one engine to ask.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tollgate::admission::{Admission, Batch, Decision, Engine, Refusal, Shared, SharedParts, Stake, UsageQuery};
use tollgate::certificate::{Authority, Revocation};
use tollgate::journal::{Journal, Recent, Shelf};
use tollgate::merchant::{
    AppSpec, HoldRules, KeyOrigin, KeySpec, KeyStatus, LimitSpec, MerchantSpec, Policy, Predicate, Refunds,
    RiskFactors, Routes, SubjectPart, UnknownSubject,
};
use tollgate::prf::DeploymentKey;
use tollgate::quota::{Bounds, RowKey};
use tollgate::reason::Reason;
use tollgate::replay::{NonceBounds, OrderBounds, Orders};
use tollgate::request::Request;
use tollgate::time::{CalendarRule, UnixMillis};
use tollgate::types::{Fen, Interface, LimitMode, MerchantKind, Risk, Scenario, Unit};

use crate::signer::{Call, Draft, NOW, mchid, serial, verifying_key};

const SECRET: [u8; 32] = [7; 32];

/// What a gate is made of.
pub struct Setup {
    pub merchants: Vec<MerchantSpec>,
    pub limits: Vec<LimitSpec>,
    pub routes: Routes,
    pub authority: Option<Authority>,
    pub nonces: NonceBounds,
    pub orders: OrderBounds,
    pub holds: HoldRules,
    pub quota: Bounds,
}

impl Default for Setup {
    /// Two merchants without limits, and room for everything.
    fn default() -> Self {
        Self {
            merchants: vec![merchant(0), merchant(1)],
            limits: Vec::new(),
            routes: Routes::standard().expect("the standard table"),
            authority: None,
            nonces: NonceBounds { entries_max: 1 << 20, entries_per_merchant_max: 1 << 20, tolerance_s: 300 },
            orders: OrderBounds { entries_max: 1 << 20, entries_per_merchant_max: 1 << 20, keep_s: 86_400 },
            holds: HoldRules::default(),
            quota: Bounds { rows_max: 1 << 20, rows_per_merchant_max: 1 << 20 },
        }
    }
}

impl Setup {
    /// Makes a setup with these limits.
    pub fn limited(limits: impl IntoIterator<Item = LimitSpec>) -> Self {
        Self { limits: limits.into_iter().collect(), ..Self::default() }
    }

    /// Changes the first merchant.
    pub fn first(mut self, change: impl FnOnce(&mut MerchantSpec)) -> Self {
        change(self.merchants.first_mut().expect("a merchant"));
        self
    }

    /// Puts the policy together.
    pub fn policy(self) -> Policy {
        let policy = Policy::build(self.routes, self.merchants, self.limits).expect("a policy");
        policy.with_authority(self.authority)
    }

    /// Makes the gate.
    pub fn gate(self) -> Gate {
        let (nonces, orders, holds, quota) = (self.nonces, self.orders, self.holds, self.quota);
        let deployment_key = DeploymentKey::new(SECRET);
        let parts = SharedParts { policy: self.policy(), deployment_key, nonces, orders, holds, quota };
        let shared = Arc::new(Shared::new(parts));
        let journal = Recent::new(1 << 10);
        let shelf = journal.shelf();
        Gate { engine: engine(&shared, Box::new(journal)), shared, shelf, now: NOW }
    }
}

/// A gate with one engine, and its clock.
pub struct Gate {
    pub shared: Arc<Shared>,
    pub engine: Engine,
    pub shelf: Arc<Shelf>,
    pub now: UnixMillis,
}

impl Gate {
    /// Makes a gate with these limits.
    pub fn limited(limits: impl IntoIterator<Item = LimitSpec>) -> Self {
        Setup::limited(limits).gate()
    }

    /// Decides one request.
    pub fn decide(&mut self, request: Request<'_>) -> Decision {
        let mut batch = Batch::new();
        batch.push(request);
        self.engine.decide(&mut batch, self.now);
        let mut decisions = batch.drain();
        let decision = decisions.next().expect("one decision per request");
        assert!(decisions.next().is_none());
        decision
    }

    /// Decides a request that must be admitted.
    #[track_caller]
    pub fn admit_call(&mut self, call: &Call) -> Admission {
        match self.decide(call.request()) {
            Decision::Admitted(admission) => admission,
            Decision::Refused(refusal) => panic!("refused {refusal:?} on {:?}", call.draft),
        }
    }

    /// Decides a request that must be refused.
    #[track_caller]
    pub fn refuse_call(&mut self, call: &Call) -> Refusal {
        match self.decide(call.request()) {
            Decision::Admitted(admission) => panic!("admitted {admission:?} on {:?}", call.draft),
            Decision::Refused(refusal) => refusal,
        }
    }

    /// Signs and decides a request that must be admitted.
    #[track_caller]
    pub fn admit(&mut self, draft: &Draft) -> Admission {
        self.admit_call(&draft.sign(self.now))
    }

    /// Signs and decides a request that must be refused.
    #[track_caller]
    pub fn refuse(&mut self, draft: &Draft) -> Refusal {
        self.refuse_call(&draft.sign(self.now))
    }

    /// Signs and decides a request that must be refused; says why it was.
    #[track_caller]
    pub fn reason(&mut self, draft: &Draft) -> Reason {
        self.refuse(draft).reason
    }

    /// Reads a cell of the rows that a limit keeps for a subject, which is named by tags and values in turn: the day, the
    /// month, the year or the lifetime.
    pub fn cell(&self, limit: &str, subject: &[&str], cell: usize) -> Option<(u16, u64)> {
        let cells = self.shared.table().usage(row_key(limit, subject));
        cells.get(cell).copied().flatten().map(|cell| (cell.window_id, cell.used))
    }

    /// Returns what is used in that cell; 0 where the row does not exist.
    pub fn used(&self, limit: &str, subject: &[&str], cell: usize) -> u64 {
        self.cell(limit, subject, cell).map_or(0, |(_, used_fen)| used_fen)
    }

    /// Returns what is used, held and committed of the first window of a limit of the first merchant.
    #[track_caller]
    pub fn books(&self, limit: &str) -> (u64, u64, u64) {
        let merchant = Some(mchid(0).parse().expect("a merchant"));
        let query = UsageQuery { limit: Some(limit.to_owned()), merchant, ..UsageQuery::default() };
        let usage = self.shared.usage(&query, self.now).expect("a limit of a merchant");
        let window = &usage.first().expect("the limit").windows.first().expect("a window");
        (window.used, window.held, window.committed)
    }

    /// Sweeps all parts of the tables.
    pub fn sweep(&self) {
        (0..Orders::<Stake>::SWEEPS_PER_PASS).for_each(|_| self.shared.sweep(self.now));
    }

    /// Moves the clock.
    pub fn pass(&mut self, seconds: i64) {
        self.now = UnixMillis(self.now.0 + seconds * 1000);
    }

    /// Checks that what is used is what was taken less what was given back and what has passed.
    #[track_caller]
    pub fn assert_conserved(&self) {
        assert_conserved(&self.shared);
    }
}

/// Checks that nothing was made or lost in the table of a gate at rest.
#[track_caller]
pub fn assert_conserved(shared: &Shared) {
    let conservation = shared.table().conservation();
    assert_eq!((conservation.error, conservation.stripes_checked), (0, conservation.stripes), "{conservation:?}");
    let used = conservation.taken.wrapping_sub(conservation.given_back).wrapping_sub(conservation.passed);
    assert_eq!(shared.table().used_total(), used);
}

/// Makes an engine of its own over what a gate shares.
pub fn engine(shared: &Arc<Shared>, journal: Box<dyn Journal>) -> Engine {
    static SEEDS: AtomicU64 = AtomicU64::new(1);
    let mut seed = [0; 32];
    // Relaxed: any number will do that nobody else has.
    let number = SEEDS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    seed.iter_mut().zip(number).for_each(|(to, from)| *to = from);
    Engine::new(Arc::clone(shared), journal, seed)
}

/// Makes the calendar of a zone.
pub fn calendar(zone: &str, cut_over_hour: u8) -> CalendarRule {
    CalendarRule::new(jiff::tz::TimeZone::get(zone).expect("a zone"), cut_over_hour).expect("an hour")
}

/// Names the row of a limit as the engine does: what makes it this limit, then the factors of the subject.
pub fn row_key(limit: &str, subject: &[&str]) -> RowKey {
    let limit = if limit.contains(' ') { limit.to_owned() } else { format!("{limit} Asia/Shanghai 0 fen") };
    let parts: Vec<&[u8]> = std::iter::once(&&*limit).chain(subject).map(|part| part.as_bytes()).collect();
    RowKey(DeploymentKey::new(SECRET).derive("rows").digest(&parts))
}

/// Makes a merchant with one bare key and all interfaces.
pub fn merchant(index: usize) -> MerchantSpec {
    let app = |interface, scenario, appid: &str| AppSpec { interface, scenario, appids: vec![appid.to_owned()] };
    MerchantSpec {
        id: mchid(index).parse().expect("a merchant"),
        name: format!("merchant {index}"),
        kind: MerchantKind::Ordinary,
        category: "retail".to_owned(),
        risk: Risk::Normal,
        sources: Vec::new(),
        keys: vec![key(index, &serial(index))],
        apps: vec![
            app(Interface::Jsapi, Scenario::OfficialAccount, "wx-jsapi"),
            app(Interface::MiniProgram, Scenario::MiniProgram, "wx-mini"),
            app(Interface::Native, Scenario::PcSite, "wx-native"),
            app(Interface::App, Scenario::App, "wx-app"),
            app(Interface::H5, Scenario::MobileWeb, "wx-h5"),
            app(Interface::PaymentCode, Scenario::Offline, "wx-code"),
            AppSpec { interface: Interface::Face, scenario: Scenario::Offline, appids: Vec::new() },
        ],
        measures: Vec::new(),
        apiv3_key: None,
        platform_key: None,
    }
}

/// Registers a bare key that is in force.
pub fn key(index: usize, id: &str) -> KeySpec {
    let id = id.parse().expect("a key id");
    KeySpec { id, key: verifying_key(index), origin: KeyOrigin::Bare, status: KeyStatus::Active }
}

/// Registers a key that an API certificate vouches for, valid an hour around noon.
pub fn certified(index: usize, id: &str) -> KeySpec {
    let (not_before, not_after) = (UnixMillis(NOW.0 - 1_800_000), UnixMillis(NOW.0 + 1_800_000));
    KeySpec {
        origin: KeyOrigin::Certificate { not_before, not_after, revocation: Revocation::NotAsked },
        ..key(index, id)
    }
}

/// Registers a key that an API certificate vouches for whatever the clock says.
pub fn always_certified(index: usize, id: &str) -> KeySpec {
    let (not_before, not_after) = (UnixMillis(0), UnixMillis(i64::MAX));
    KeySpec {
        origin: KeyOrigin::Certificate { not_before, not_after, revocation: Revocation::NotAsked },
        ..key(index, id)
    }
}

/// Makes a limit on all payments without a ceiling yet.
pub fn limit(id: &str, subject: &[SubjectPart]) -> LimitSpec {
    LimitSpec {
        id: id.to_owned(),
        predicate: Predicate::default(),
        subject: subject.to_vec(),
        unknown_subject: UnknownSubject::PerTransaction,
        calendar: calendar("Asia/Shanghai", 0),
        unit: Unit::Fen,
        transaction: None,
        day: None,
        month: None,
        year: None,
        lifetime: None,
        mode: LimitMode::Enforce,
        disk: false,
        refund: Refunds::Return,
        risk_factors: RiskFactors::default(),
        overrides: Vec::new(),
    }
}

/// Makes a limit of a merchant's day.
pub fn merchant_day(id: &str, ceiling_fen: u64) -> LimitSpec {
    LimitSpec { day: fen(ceiling_fen), ..limit(id, &[SubjectPart::Merchant]) }
}

/// Makes a ceiling.
pub fn fen(fen: u64) -> Option<Fen> {
    Some(Fen::new(fen).expect("an amount"))
}
