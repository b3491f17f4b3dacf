//! A whole run: a gate is set up, driven, settled with, and its books are compared with what it answered.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng};
use tollgate::admission::{Shared, UsageQuery};
use tollgate::time::UnixMillis;

use crate::arrivals;
use crate::books::{self, Terms};
use crate::deployment::{Deployment, DeploymentError, Gate, MerchantPlan, Plan};
use crate::in_process::{self, InProcess, SetClock};
use crate::ledger::{Names, Subject, window_ids};
use crate::pool::{self, Prepared, Signing};
use crate::process::pin_to;
use crate::report::Report;
use crate::run::{self, Measured, Pace};
use crate::scenario::{Arrivals, Scenario, ScenarioError};
use crate::settling::{Bookkeeper, Settle, Settler};
use crate::target::{self, Outcome, TargetError};
use crate::traffic::{self, Cast};
use crate::upstream::Upstream;
use crate::wire::{self, Bounds, Wire, WireError};

/// What a run is to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scenario: the name of one that ships, or a TOML file.
    #[arg(long, default_value = "steady")]
    pub scenario: PathBuf,
    /// What is driven.
    #[arg(long, value_enum, default_value_t = TargetKind::Check)]
    pub target: TargetKind,
    /// How long, in seconds.
    #[arg(long, default_value_t = 10.0)]
    pub seconds: f64,
    /// Requests a second in place of the scenario's.
    #[arg(long)]
    pub rate: Option<f64>,
    /// Closed loop: so many requests are under way at all times. It hides stalls: not for latencies.
    #[arg(long)]
    pub closed: Option<usize>,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// TLS to the gate.
    #[arg(long)]
    pub tls: bool,
    /// A Unix socket in place of TCP.
    #[arg(long, conflicts_with = "tls")]
    pub socket: bool,
    /// Primes of each key: 2 as usual, or 4, 8 or 16, which sign faster and verify alike.
    #[arg(long, default_value_t = 16)]
    pub primes: usize,
    /// Worker threads of the gate.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// The core that the gate runs on.
    #[arg(long)]
    pub gate_core: Option<usize>,
    /// The core that sends.
    #[arg(long)]
    pub generator_core: Option<usize>,
    /// Longest wait for an answer, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    pub timeout_ms: u64,
    /// How late 99 of 100 requests may be noticed by the generator itself, in milliseconds, for the run to count.
    #[arg(long, default_value_t = 5)]
    pub lateness_max_ms: u64,
    /// Where random choices come from: the same number makes the same traffic.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Folder for the result, `result.json` and `latency.hlog`.
    #[arg(long, default_value = "target/loadtest")]
    pub out: PathBuf,
}

/// What is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TargetKind {
    /// A gate that only answers whether a request may pass.
    Check,
    /// A gate that forwards to an upstream, which answers at once.
    Proxy,
    /// The engine, in this process.
    InProcess,
}

/// Why a run came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The scenario is none.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// No gate could be made or started.
    #[error(transparent)]
    Deployment(#[from] DeploymentError),
    /// The configuration that was made is none.
    #[error(transparent)]
    Config(#[from] tollgate::config::ConfigError),
    /// Requests could not be sent.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// A listener could not be reached.
    #[error(transparent)]
    Wire(#[from] WireError),
    /// The system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was asked of it.
        what: &'static str,
        /// Its answer.
        source: std::io::Error,
    },
    /// It can't be done as asked.
    #[error("{0}")]
    Impossible(String),
}

/// Runs; `program` is this program, of which the gate is a child; `tell` is told of the progress.
///
/// # Errors
/// Where the run can't be made. One whose books don't balance was made: the report says so.
pub fn run(options: &Options, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Report, SessionError> {
    let mut scenario = Scenario::load(&options.scenario)?;
    if let Some(per_second) = options.rate {
        scenario.arrivals = match scenario.arrivals {
            Arrivals::Poisson { .. } => Arrivals::Poisson { per_second },
            _ => Arrivals::Constant { per_second },
        };
    }
    if scenario.clock.is_some() && options.target != TargetKind::InProcess {
        return Err(SessionError::Impossible(
            "the scenario sets the clock: it runs with --target in-process only".into(),
        ));
    }
    let stage = Stage::set(options, &scenario, tell)?;
    match options.target {
        TargetKind::InProcess => stage.in_process(),
        TargetKind::Check | TargetKind::Proxy => stage.remote(program, tell),
    }
}

/// Everything that is ready before the first request is sent.
struct Stage<'a> {
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
    fn set(options: &'a Options, scenario: &'a Scenario, tell: &mut dyn FnMut(&str)) -> Result<Self, SessionError> {
        let mut random = StdRng::seed_from_u64(options.seed);
        let run = Duration::from_secs_f64(options.seconds);
        let times = arrivals::times(&scenario.arrivals, run, &mut random);
        let planned = traffic::plan(scenario, &times, &mut random);
        let (zone, offset_s) = zone(crate::now_s());
        let cast = Cast::new(scenario.merchants.count);
        tell(&format!("making {} merchants with keys of {} primes", cast.len(), options.primes));
        let upstream = match options.target {
            TargetKind::Proxy => Some(Upstream::start().map_err(io("the upstream"))?),
            TargetKind::Check | TargetKind::InProcess => None,
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

    fn pace(&self) -> Pace {
        let Options { closed, seconds, timeout_ms, lateness_max_ms, .. } = *self.options;
        Pace {
            closed,
            run: Duration::from_secs_f64(seconds),
            drain: Duration::from_millis(timeout_ms) + Duration::from_secs(1),
            lateness_max: Duration::from_millis(lateness_max_ms),
        }
    }

    fn in_process(mut self) -> Result<Report, SessionError> {
        let starts = UnixMillis::from_seconds(self.starts_s);
        let clock = SetClock { starts, started: Instant::now() };
        let config = self.deployment.load(starts)?;
        let mut engine = InProcess::new(config, clock, self.random.random());
        let mut settler = Within { shared: Arc::clone(engine.shared()), clock, done: Vec::new() };
        let random = StdRng::seed_from_u64(self.options.seed);
        let mut keeper = Bookkeeper::new(self.names(), &self.scenario.settles, &mut settler, random);
        let measured = run::drive(&mut engine, &self.pool, &self.pace(), &mut keeper)?;
        let settled = keeper.finish(FINISHED_WITHIN);
        let export: Vec<u8> = {
            let shared = engine.shared();
            (0..shared.export_pages()).flat_map(|page| shared.export(page)).collect()
        };
        let ends_s = engine.clock().now().seconds();
        let mut report = self.report(&measured, &keeper, &String::from_utf8_lossy(&export), ends_s)?;
        report.decision_ns = Some(engine.decision_ns());
        report.settled_all = settled;
        Ok(report)
    }

    fn remote(self, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Report, SessionError> {
        let gate = Gate::start(program, &self.deployment, self.options.gate_core).map_err(io("the gate"))?;
        tell(&format!("the gate is process {}", gate.pid()));
        if let Some(core) = self.options.generator_core {
            pin_to(core).map_err(io("--generator-core"))?;
        }
        let bounds =
            Bounds { answer_bytes_max: 1 << 16, answer_timeout: Duration::from_millis(self.options.timeout_ms) };
        let control = self.endpoint(&gate, "control", false)?;
        let mut settler = crate::settling::Remote::connect(&control)?;
        let listener = if self.options.target == TargetKind::Proxy { "hop" } else { "check" };
        let target = self.endpoint(&gate, listener, self.options.tls)?;
        let mut remote = target::Remote::new(Wire::connect(&target, self.options.connections, bounds)?, true);
        let random = StdRng::seed_from_u64(self.options.seed);
        let mut keeper = Bookkeeper::new(self.names(), &self.scenario.settles, &mut settler, random);
        wait_until(self.starts_s);
        tell("sending");
        let before = gate.cpu_seconds().map_err(io("the gate's processor time"))?;
        let measured = run::drive(&mut remote, &self.pool, &self.pace(), &mut keeper)?;
        let cpu = gate.cpu_seconds().map_err(io("the gate's processor time"))? - before;
        drop(remote);
        let (asked, unresolved) = resolve(&mut keeper, &self.pool, &target, bounds)?;
        let settled = keeper.finish(FINISHED_WITHIN);
        tell("comparing the books");
        let export = fetch(&control, "/v1/usage/export")?;
        let mut report = self.report(&measured, &keeper, &export, crate::now_s())?;
        report.gate_cpu_s = Some(cpu);
        report.settled_all = settled;
        report.resolved = asked;
        report.unresolved = unresolved;
        Ok(report)
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
        Ok(Report::new(self.options, self.scenario, measured, keeper, verdict, self.signed_per_second))
    }
}

/// Asks the key of a row of a gate of the same configuration, in which nothing is used.
fn row_of(twin: &Shared, limit: &str, subject: &Subject, now_s: i64) -> Option<String> {
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

/// Sends again, as a trusted hop may, what nobody knows the outcome of; returns how many, and how many stay unknown.
fn resolve(
    keeper: &mut Bookkeeper<'_>,
    pool: &[Prepared],
    target: &wire::Target,
    bounds: Bounds,
) -> Result<(usize, usize), SessionError> {
    let unknown = std::mem::take(&mut keeper.unknown);
    if unknown.is_empty() {
        return Ok((0, 0));
    }
    let mut wire = Wire::connect(target, 1, bounds)?;
    let mut unresolved = 0;
    for request in &unknown {
        let Some(prepared) = pool.get(*request) else { continue };
        let outcome = (0..ASKED_AGAIN).find_map(|_| ask(&mut wire, &prepared.bytes).ok().flatten());
        match outcome {
            Some(Outcome::Admitted { decision }) => keeper.admit(decision, prepared, crate::now_s(), Instant::now()),
            Some(Outcome::Refused { .. }) => {}
            Some(Outcome::Answered | Outcome::Unknown { .. }) | None => {
                unresolved += 1;
            }
        }
    }
    Ok((unknown.len(), unresolved))
}

/// Sends one request and waits for its outcome; `None` where it stays unknown.
fn ask(wire: &mut Wire, bytes: &[u8]) -> Result<Option<Outcome>, WireError> {
    let mut outcome = None;
    let began = Instant::now();
    while !wire.send(0, bytes)? {
        wire.poll(Some(Duration::from_millis(10)), &mut |_| {})?;
        if began.elapsed() > FINISHED_WITHIN {
            return Ok(None);
        }
    }
    let mut answered = false;
    while !answered && began.elapsed() < FINISHED_WITHIN {
        wire.poll(Some(Duration::from_millis(10)), &mut |done| {
            answered = true;
            outcome = done.outcome.ok().map(|answer| target::read(answer.status, answer.body));
        })?;
    }
    Ok(outcome.filter(|outcome| !matches!(outcome, Outcome::Unknown { .. })))
}

/// Reads a page of the control listener.
fn fetch(control: &wire::Target, path: &str) -> Result<String, SessionError> {
    let bounds = Bounds { answer_bytes_max: EXPORT_BYTES_MAX, answer_timeout: FINISHED_WITHIN };
    let mut wire = Wire::connect(control, 1, bounds)?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wire.send(0, request.as_bytes())?;
    let mut page = None;
    while page.is_none() {
        wire.poll(Some(Duration::from_millis(10)), &mut |done| {
            page = Some(done.outcome.map(|answer| (answer.status, String::from_utf8_lossy(answer.body).into_owned())));
        })?;
    }
    match page {
        Some(Ok((200, text))) => Ok(text),
        other => Err(SessionError::Impossible(format!("the control listener did not give {path}: {other:?}"))),
    }
}

/// Settles at an engine in this process.
struct Within {
    shared: Arc<Shared>,
    clock: SetClock,
    done: Vec<(Settle, bool)>,
}

impl Settler for Within {
    fn settle(&mut self, settle: Settle) {
        let done = in_process::settle(&self.shared, settle.decision, settle.commit, self.clock.now());
        self.done.push((settle, done));
    }

    fn settled(&mut self) -> Vec<(Settle, bool)> {
        std::mem::take(&mut self.done)
    }
}

fn plan(options: &Options, scenario: &Scenario, zone: &str, upstream: Option<&Upstream>) -> Result<Plan, SessionError> {
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
        workers: options.workers,
        upstream: upstream.map(|upstream| upstream.address().to_string()),
        time_zone: if scenario.clock.is_some() { "Asia/Shanghai".to_owned() } else { zone.to_owned() },
        tls: options.tls,
        socket: options.socket,
        bounds: toml::Table::new(),
    })
}

/// Chooses a time zone in which no day ends soon, and tells by how many seconds its time is ahead of UTC.
fn zone(now_s: i64) -> (&'static str, i64) {
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

fn io(what: &'static str) -> impl Fn(std::io::Error) -> SessionError {
    move |source| SessionError::Io { what, source }
}

const DAY_S: i64 = 86_400;

/// Shanghai is eight hours ahead of UTC all year round.
const SHANGHAI_S: i64 = 8 * 3600;

/// How long a gate may take to start.
const STARTED_WITHIN: Duration = Duration::from_secs(3);

/// How long the last settles and questions may take.
const FINISHED_WITHIN: Duration = Duration::from_secs(30);

/// How often a request is sent again whose outcome is unknown.
const ASKED_AGAIN: usize = 3;

/// Longest export, in bytes.
const EXPORT_BYTES_MAX: usize = 1 << 30;
