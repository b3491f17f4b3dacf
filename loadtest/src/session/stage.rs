//! A run against a gate: all that is ready before the first request, then the run, then its books.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use tollgate::admission::{Shared, UsageQuery};
use tollgate::time::UnixMillis;

use super::holds::{Halftime, Turn};
use super::resolve::{EXPORT, FINISHED_WITHIN, fetch, resolve, wait_for_holds};
use super::{Options, SessionError, TargetKind, io, log, log_file};
use crate::arrivals::{self, REQUESTS_MAX};
use crate::books::{self, Terms};
use crate::deployment::{Deployment, Gate, MerchantPlan, Plan};
use crate::in_process::{self, InProcess, SetClock, Within};
use crate::ledger::{Names, Subject, window_ids};
use crate::pool::{self, Prepared, Signing};
use crate::process::pin_to;
use crate::report::Report;
use crate::run::{self, Measured, Pace, Requests};
use crate::scenario::Scenario;
use crate::settling::{Bookkeeper, Remote};
use crate::target;
use crate::traffic::{self, Cast};
use crate::upstream::Upstream;
use crate::watch::Watch;
use crate::wire::{self, Bounds, Wire};

/// Everything that is ready before the first request is sent.
pub(super) struct Stage<'a> {
    options: &'a Options,
    scenario: &'a Scenario,
    deployment: Deployment,
    mchids: Vec<String>,
    pool: Vec<Prepared>,
    signed_per_second: f64,
    /// When the run is to start, in seconds since 1970.
    starts_s: i64,
    offset_s: i64,
    random: StdRng,
}

impl<'a> Stage<'a> {
    pub fn set(options: &'a Options, scenario: &'a Scenario, tell: &mut dyn FnMut(&str)) -> Result<Self, SessionError> {
        let mut random = StdRng::seed_from_u64(options.seed);
        let run = Duration::from_secs_f64(options.seconds);
        let times = arrivals::times(&scenario.arrivals, run, &mut random);
        if times.len() >= REQUESTS_MAX {
            let why = format!("more than {REQUESTS_MAX} requests: shorten --seconds, or lower --rate");
            return Err(SessionError::Impossible(why));
        }
        let planned = traffic::plan(scenario, &times, &mut random);
        let (zone, offset_s) = zone(crate::now_s());
        let cast = Cast::new(scenario.merchants.count);
        tell(&format!("making {} merchants with keys of {} primes", cast.len(), options.primes));
        let upstream = match options.target {
            TargetKind::Proxy => Some(Upstream::start().map_err(io("the upstream"))?),
            TargetKind::Check | TargetKind::InProcess | TargetKind::Bare => None,
        };
        let plan = plan(options, scenario, zone, upstream.as_ref())?;
        let deployment = Deployment::write(&plan, options.primes, &mut random)?;
        let mchids: Vec<String> = deployment.merchants.iter().map(|merchant| merchant.mchid.clone()).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let signing = pool::estimate(&deployment.merchants, planned.len(), threads).mul_f64(1.3) + STARTED_WITHIN;
        let starts_s = match &scenario.clock {
            None => crate::now_s().saturating_add_unsigned(signing.as_secs()),
            Some(clock) => {
                seconds(clock).ok_or_else(|| SessionError::Impossible(format!("{clock} is no time; write RFC 3339")))?
            }
        };
        let signing = Signing {
            merchants: &deployment.merchants,
            starts_s,
            run: random.random(),
            appid: Deployment::appid(),
            facts: true,
        };
        tell(&format!("signing {} requests ahead", planned.len()));
        let (pool, signed_per_second) = pool::sign(&planned, signing, threads);
        tell(&format!("signed {signed_per_second:.0} a second"));
        let offset_s = if scenario.clock.is_some() { SHANGHAI_S } else { offset_s };
        Ok(Self { options, scenario, deployment, mchids, pool, signed_per_second, starts_s, offset_s, random })
    }

    fn names(&self) -> Names<'_> {
        Names { scenario: self.scenario, mchids: &self.mchids, offset_s: self.offset_s }
    }

    pub fn in_process(mut self, tell: &mut dyn FnMut(&str)) -> Result<Report, SessionError> {
        let mut file = log_file(self.options)?;
        let starts = UnixMillis::from_seconds(self.starts_s);
        let config = self.deployment.load(starts)?;
        let clock = SetClock::start(starts);
        let mut engine = InProcess::new(config, clock.clone(), self.random.random());
        let mut settler = Within::new(Arc::clone(engine.shared()), clock.clone());
        let mut keeper = Bookkeeper::new(self.names(), &mut settler, self.hold_s().is_some());
        let (pace, log) = (Pace::of(self.options), log(&mut file)?);
        let watch = Watch::begin(pace.run, tell);
        let requests = Requests::Signed(&self.pool);
        let mut settled = true;
        let measured = match self.hold_s() {
            None => run::drive(&mut engine, requests, &pace, &mut keeper, log, watch)?,
            Some(hold_s) => {
                let turn = Turn { shared: Arc::clone(engine.shared()), clock: clock.clone(), hold_s };
                let at = Some(Instant::now() + pace.run / 2);
                let mut halves = Halftime { keeper: &mut keeper, turn, at, ended: Ok(()) };
                let measured = run::drive(&mut engine, requests, &pace, &mut halves, log, watch)?;
                let Halftime { turn, ended, .. } = halves;
                ended?;
                settled &= keeper.finish(FINISHED_WITHIN);
                turn.end_holds(&mut keeper)?;
                measured
            }
        };
        self.tell_if_used_up(&measured, tell);
        settled &= keeper.finish(FINISHED_WITHIN);
        let export: Vec<u8> = {
            let shared = engine.shared();
            (0..shared.export_pages()).flat_map(|page| shared.export(page)).collect()
        };
        let mut report = self.report(&measured, &keeper, &String::from_utf8_lossy(&export), clock.now().seconds())?;
        report.decision_ns = Some(engine.decision_ns());
        report.settled_all = settled;
        Ok(report)
    }

    pub fn remote(self, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Report, SessionError> {
        let mut file = log_file(self.options)?;
        let gate = Gate::start(program, &self.deployment, self.options.gate_core).map_err(io("the gate"))?;
        tell(&format!("the gate is process {}", gate.pid()));
        if let Some(core) = self.options.generator_core {
            pin_to(core).map_err(io("--generator-core"))?;
        }
        let bounds = bounds(self.options);
        let control = self.endpoint(&gate, "control", false)?;
        let mut settler = Remote::connect(&control)?;
        let listener = if self.options.target == TargetKind::Proxy { "hop" } else { "check" };
        let target = self.endpoint(&gate, listener, self.options.tls)?;
        let mut remote = target::Remote::new(Wire::connect(&target, self.options.connections, bounds)?, true);
        let mut keeper = Bookkeeper::new(self.names(), &mut settler, self.hold_s().is_some());
        wait_until(self.starts_s);
        tell("sending");
        let before = gate.cpu_seconds().map_err(io("the gate's processor time"))?;
        let (pace, log) = (Pace::of(self.options), log(&mut file)?);
        let watch = Watch::begin(pace.run, tell);
        let measured = run::drive(&mut remote, Requests::Signed(&self.pool), &pace, &mut keeper, log, watch)?;
        let cpu = gate.cpu_seconds().map_err(io("the gate's processor time"))? - before;
        drop(remote);
        self.tell_if_used_up(&measured, tell);
        let (asked, unresolved) = resolve(&mut keeper, &self.pool, &target, bounds)?;
        let mut settled = keeper.finish(FINISHED_WITHIN);
        if let Some(hold_s) = self.hold_s() {
            tell(&format!("waiting for the last hold to run out: {hold_s} s, and until the gate has noticed"));
            wait_for_holds(&control, hold_s)?;
            keeper.end_holds();
            settled &= keeper.finish(FINISHED_WITHIN);
        }
        tell("comparing the books");
        let export = fetch(&control, EXPORT)?;
        let mut report = self.report(&measured, &keeper, &export, crate::now_s())?;
        report.server_cpu_s = Some(cpu);
        report.settled_all = settled;
        report.resolved = asked;
        report.unresolved = unresolved;
        Ok(report)
    }

    /// Says so where a closed loop ended before its time.
    fn tell_if_used_up(&self, measured: &Measured, tell: &mut dyn FnMut(&str)) {
        let (took_s, seconds) = (measured.took.as_secs_f64(), self.options.seconds);
        if self.options.closed.is_some() && took_s < 0.9 * seconds {
            let signed = self.pool.len();
            let rate = signed as f64 / took_s.max(1e-3);
            tell(&format!(
                "all {signed} requests were used after {took_s:.1} s; --rate {rate:.0} signs enough for {seconds} s"
            ));
        }
    }

    /// Returns how long holds last, in seconds, where they run out in this run.
    fn hold_s(&self) -> Option<u32> {
        hold_s(self.options, self.scenario)
    }

    fn endpoint(&self, gate: &Gate, listener: &str, tls: bool) -> Result<wire::Target, SessionError> {
        let address = gate.address(listener).cloned();
        let address =
            address.ok_or_else(|| SessionError::Impossible(format!("the gate has no listener {listener}")))?;
        Ok(wire::Target { address, tls: tls.then(|| Arc::clone(&self.deployment.tls_client)) })
    }

    fn report(
        &self,
        measured: &Measured,
        keeper: &Bookkeeper<'_>,
        export: &str,
        ends_s: i64,
    ) -> Result<Report, SessionError> {
        let twin = in_process::shared(self.deployment.load(UnixMillis::from_seconds(ends_s))?);
        let row_of = |limit: &str, subject: &Subject| row_of(&twin, limit, subject, ends_s);
        let terms = Terms { scenario: self.scenario, row_of: &row_of, open: window_ids(ends_s + self.offset_s) };
        let verdict = books::compare(&keeper.ledger, export, &terms);
        let report = Report::new(self.options, measured);
        Ok(report.with_books(self.options, self.scenario, keeper, verdict, self.signed_per_second))
    }
}

impl Pace {
    /// Reads how a run is to go.
    pub(super) fn of(options: &Options) -> Self {
        let Options { closed, seconds, timeout_ms, lateness_max_ms, .. } = *options;
        Self {
            closed,
            run: Duration::from_secs_f64(seconds),
            drain: Duration::from_millis(timeout_ms) + Duration::from_secs(1),
            lateness_max: Duration::from_millis(lateness_max_ms),
        }
    }
}

/// Returns what an answer may cost.
pub(super) fn bounds(options: &Options) -> Bounds {
    Bounds { answer_bytes_max: ANSWER_BYTES_MAX, answer_timeout: Duration::from_millis(options.timeout_ms) }
}

/// Asks the key of a row of a gate of the same configuration, in which nothing is used.
pub(crate) fn row_of(twin: &Shared, limit: &str, subject: &Subject, now_s: i64) -> Option<String> {
    let query = UsageQuery {
        limit: Some(limit.to_owned()),
        customer: subject.customer.clone(),
        merchant: subject.merchant.as_ref().and_then(|merchant| merchant.parse().ok()),
        category: subject.category.clone(),
        ..UsageQuery::default()
    };
    let usage = twin.usage(&query, UnixMillis::from_seconds(now_s)).ok()?;
    usage.into_iter().next().map(|usage| usage.row)
}

fn hold_s(options: &Options, scenario: &Scenario) -> Option<u32> {
    let run_out = options.target == TargetKind::InProcess || options.wait_for_holds;
    scenario.settles.hold_s.filter(|_| run_out)
}

fn plan(options: &Options, scenario: &Scenario, zone: &str, upstream: Option<&Upstream>) -> Result<Plan, SessionError> {
    let mut plan = plan_of(scenario, zone)?;
    plan.bounds.extend(hold_s(options, scenario).map(orders).unwrap_or_default());
    Ok(Plan {
        workers: options.workers,
        upstream: upstream.map(|upstream| upstream.address().to_string()),
        tls: options.tls,
        socket: options.socket,
        ..plan
    })
}

/// Plans a gate for a scenario that answers checks, on ports without TLS.
pub(crate) fn plan_of(scenario: &Scenario, zone: &str) -> Result<Plan, SessionError> {
    let cast = Cast::new(scenario.merchants.count);
    let categories = &scenario.merchants.categories;
    let merchants = (0..cast.len()).map(|number| MerchantPlan {
        mchid: format!("19{number:08}"),
        kind: "ordinary".to_owned(),
        category: categories.get(number % categories.len().max(1)).cloned().unwrap_or_default(),
        risk: "normal".to_owned(),
        suspended: number == cast.suspended(),
        revoked: number == cast.revoked(),
    });
    let limits = toml::Value::try_from(&scenario.limit).map_err(|error| SessionError::Impossible(error.to_string()))?;
    Ok(Plan {
        merchants: merchants.collect(),
        limits: limits.as_array().cloned().unwrap_or_default(),
        presets: Vec::new(),
        workers: 0,
        upstream: None,
        time_zone: if scenario.clock.is_some() { "Asia/Shanghai".to_owned() } else { zone.to_owned() },
        tls: false,
        socket: false,
        bounds: recorded("process"),
    })
}

/// Returns what has a gate record its decisions with this durability.
pub(crate) fn recorded(durability: &str) -> toml::Table {
    let journal = toml::Table::from_iter([("durability".to_owned(), durability.into())]);
    toml::Table::from_iter([("journal".to_owned(), journal.into())])
}

/// Writes the section `orders` of a gate whose holds last so long.
fn orders(hold_s: u32) -> toml::Table {
    let orders = toml::Table::from_iter([("hold_s".to_owned(), i64::from(hold_s).into())]);
    toml::Table::from_iter([("orders".to_owned(), orders.into())])
}

/// Chooses a time zone in which no day ends soon, and tells by how many seconds its time is ahead of UTC.
pub(crate) fn zone(now_s: i64) -> (&'static str, i64) {
    let until_midnight = |offset_s: i64| DAY_S - (now_s + offset_s).rem_euclid(DAY_S);
    if until_midnight(SHANGHAI_S) > until_midnight(0) { ("Asia/Shanghai", SHANGHAI_S) } else { ("UTC", 0) }
}

/// Reads a time in RFC 3339 as seconds since 1970.
fn seconds(text: &str) -> Option<i64> {
    text.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

fn wait_until(starts_s: i64) {
    while crate::now_s() < starts_s {
        std::thread::sleep(Duration::from_millis(20));
    }
}

const DAY_S: i64 = 86_400;

/// Shanghai is eight hours ahead of UTC all year round.
const SHANGHAI_S: i64 = 8 * 3600;

/// How long a gate may take to start.
const STARTED_WITHIN: Duration = Duration::from_secs(3);

/// Longest answer to a request, in bytes.
const ANSWER_BYTES_MAX: usize = 1 << 16;
