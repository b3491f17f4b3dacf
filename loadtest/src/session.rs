//! A whole run: a gate is set up, driven, settled with, and its books are compared with what it answered.

mod bare;
mod holds;
mod resolve;
mod stage;

pub(crate) use resolve::fetch;
pub(crate) use stage::{plan_of, recorded, row_of, zone};

use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

use crate::deployment::DeploymentError;
use crate::latency::SecondsLog;
use crate::report::{LOG_FILE, Report};
use crate::scenario::{Arrivals, Scenario, ScenarioError};
use crate::target::TargetError;
use crate::wire::WireError;
use stage::Stage;

/// What a run is to be.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The scenario: the name of one that ships, or a TOML file. `steady` where absent.
    #[arg(long)]
    pub scenario: Option<PathBuf>,
    /// What is driven.
    #[arg(long, value_enum, default_value_t = TargetKind::Check)]
    pub target: TargetKind,
    /// How long, in seconds.
    #[arg(long, default_value_t = 10.0, value_parser = seconds)]
    pub seconds: f64,
    /// Requests a second in place of the scenario's.
    #[arg(long, value_parser = rate)]
    pub rate: Option<f64>,
    /// Closed loop: so many requests are under way at all times. It hides stalls: not for latencies.
    #[arg(long, value_parser = connections)]
    pub closed: Option<usize>,
    /// Connections.
    #[arg(long, default_value_t = 64, value_parser = connections)]
    pub connections: usize,
    /// TLS to the gate.
    #[arg(long)]
    pub tls: bool,
    /// A Unix socket in place of TCP.
    #[arg(long, conflicts_with = "tls")]
    pub socket: bool,
    /// Wait, at a gate in a process of its own, until the holds have run out, some two minutes: then late settles are late.
    #[arg(long)]
    pub wait_for_holds: bool,
    /// Primes of each key: 2 as usual, or 4, 8 or 16, which sign faster and verify alike.
    #[arg(long, default_value_t = 16, value_parser = primes)]
    pub primes: usize,
    /// Worker threads of the gate.
    #[arg(long, default_value_t = 1)]
    pub workers: usize,
    /// The core that the gate runs on, or the bare server.
    #[arg(long)]
    pub gate_core: Option<usize>,
    /// The core that sends.
    #[arg(long)]
    pub generator_core: Option<usize>,
    /// Longest wait for an answer, in milliseconds.
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..=TIMEOUT_MS_MAX))]
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
    /// A server that answers 200 to anything: what the generator can do by itself. It gets one request again and again.
    Bare,
}

impl TargetKind {
    /// Returns its name in options and results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Proxy => "proxy",
            Self::InProcess => "in-process",
            Self::Bare => "bare",
        }
    }
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

/// Runs; `program` is this program, of which servers are children; `tell` is told of the progress. The latencies are written
/// to [`Options::out`] meanwhile; the report is the caller's to write.
///
/// # Errors
/// Where the run can't be made. One whose books don't balance was made: the report says so.
pub fn run(options: &Options, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Report, SessionError> {
    options.check()?;
    if options.target == TargetKind::Bare {
        return bare::run(options, program, tell);
    }
    let mut scenario = Scenario::load(options.scenario.as_deref().unwrap_or("steady".as_ref()))?;
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
    if options.wait_for_holds && scenario.settles.hold_s.is_none() {
        let why = "--wait-for-holds: the scenario says no `settles.hold_s`; write it there, or leave the option out";
        return Err(SessionError::Impossible(why.to_owned()));
    }
    let stage = Stage::set(options, &scenario, tell)?;
    match options.target {
        TargetKind::InProcess => stage.in_process(tell),
        TargetKind::Check | TargetKind::Proxy | TargetKind::Bare => stage.remote(program, tell),
    }
}

impl Options {
    /// Refuses what each option may say by itself, and not with the others.
    fn check(&self) -> Result<(), SessionError> {
        let Self { closed: Some(closed), connections, target, seconds, .. } = *self else { return Ok(()) };
        let why = if closed > connections {
            format!("--closed {closed} needs as many connections: write --connections {closed}")
        } else if target != TargetKind::Bare && seconds > CLOSED_SECONDS_MAX {
            // Nobody knows beforehand when each request will be sent, so that its timestamp can't be laid there.
            format!("--closed: requests to a gate age; write --seconds {CLOSED_SECONDS_MAX} or less")
        } else {
            return Ok(());
        };
        Err(SessionError::Impossible(why))
    }
}

/// Opens the file that the latencies go to, in a folder that is made.
fn log_file(options: &Options) -> Result<BufWriter<File>, SessionError> {
    std::fs::create_dir_all(&options.out).map_err(io("--out"))?;
    File::create(options.out.join(LOG_FILE)).map(BufWriter::new).map_err(io("--out"))
}

fn log(file: &mut BufWriter<File>) -> Result<SecondsLog<'_>, SessionError> {
    SecondsLog::begin(file).map_err(io("the log of latencies"))
}

fn io(what: &'static str) -> impl Fn(std::io::Error) -> SessionError {
    move |source| SessionError::Io { what, source }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.0, SECONDS_MAX)
}

fn rate(text: &str) -> Result<f64, String> {
    number(text, 0.0, RATE_MAX)
}

/// Reads a number above one and not above another.
fn number(text: &str, above: f64, most: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| *number > above && *number <= most);
    number.ok_or_else(|| format!("write a number above {above}, at most {most}"))
}

fn connections(text: &str) -> Result<usize, String> {
    let connections = text.parse().ok().filter(|connections| (1..=CONNECTIONS_MAX).contains(connections));
    connections.ok_or_else(|| format!("write 1 to {CONNECTIONS_MAX}"))
}

fn primes(text: &str) -> Result<usize, String> {
    let primes = text.parse().ok().filter(|primes| [2, 4, 8, 16].contains(primes));
    primes.ok_or_else(|| "write 2, 4, 8 or 16".to_owned())
}

/// Longest run, in seconds: a day.
const SECONDS_MAX: f64 = 86_400.0;

/// Longest closed loop against a gate, in seconds: less than the 300 that a timestamp may be off, and less the time by which
/// a clock may be put forward.
const CLOSED_SECONDS_MAX: f64 = 170.0;

/// Most requests a second that can be asked for: no generator comes near.
const RATE_MAX: f64 = 10_000_000.0;

/// Most connections: a socket has one of some 28,000 ports.
const CONNECTIONS_MAX: usize = 20_000;

/// Longest time-out, in milliseconds: latencies beyond two minutes are not told apart.
const TIMEOUT_MS_MAX: u64 = 120_000;
