//! `tollgate demo`: a gate with everything around it, in one process, on one command.
//!
//! It makes an authority, keys and merchants in a temporary folder, writes a configuration there and loads it, starts
//! the gate in front of a stand-in service, and sends it real signed requests over TLS 1.3: one case for every reason
//! of refusal, one for everything that is admitted, and then traffic. Every answer is checked. Nothing outside the
//! folder is read or written, and nothing listens but on loopback.

mod accounts;
mod admitted;
mod after_admission;
mod api_v2;
mod authentic;
mod before_anybody_is_known;
mod books;
mod cases;
mod client;
mod configuration;
mod full_tables;
mod holds;
mod in_flight;
mod journals;
mod limits;
mod other_times;
mod presets;
mod report;
mod request;
mod script;
mod shows;
mod stock;
mod traffic;
mod upstream;
mod world;

use std::io;
use std::process::ExitCode;

use crate::config::ConfigError;
use crate::reason::Reason;

use books::UsageShown;
use report::{Report, Seen};
use world::World;

/// What the demo is asked for.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Options {
    /// How long traffic is sent after the cases, in seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    pub seconds: u64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub json: bool,
}

/// Runs the demo. Succeeds only where every answer was the one expected.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command answers on its standard streams")]
pub fn run(options: &Options) -> ExitCode {
    eprintln!("setting up: keys and certificates, a gate on loopback ports, a service behind it, merchants in front");
    match show(options.seconds) {
        Ok(report) if options.json => {
            // Strings, numbers and truth values always serialise.
            println!("{}", serde_json::to_string(&report).unwrap_or_default());
            exit_code(report.ok)
        }
        Ok(report) => {
            println!("{report}");
            exit_code(report.ok)
        }
        Err(error) => {
            eprintln!("tollgate demo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn exit_code(ok: bool) -> ExitCode {
    if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn show(seconds: u64) -> Result<Report, DemoError> {
    let world = World::build()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shown = runtime.block_on(async {
        let mut refusals = Vec::with_capacity(Reason::COUNT);
        for reason in Reason::ALL {
            refusals.push(cases::run(&world, *reason).await);
        }
        let (admissions, limits) = (shows::admissions(&world).await, shows::limits(&world).await);
        Ok::<_, DemoError>((refusals, admissions, limits, presets::run(&world).await?, holds::run(&world).await?))
    });
    // Its connections must be gone before the gate drains.
    drop(runtime);
    let (refusals, admissions, limits, presets, holds) = shown?;
    let merchants = [world.accounts.store.mchid, world.accounts.tea_house.mchid];
    let before = books::receipts(&world.main, &merchants)?;
    let traffic = traffic::run(&world, seconds)?;
    let after = books::receipts(&world.main, &merchants)?;
    let counts = books::compare(&traffic.receipts, &before, &after);
    let books = vec![presets.books, holds.books, world.main.books("traffic")];
    world.stop()?;
    let usage = UsageShown(presets.usage.0.into_iter().chain(holds.usage.0).collect());
    let seen = Seen {
        refusals,
        admissions,
        limits,
        presets: presets.reached,
        holds: holds.shown,
        traffic,
        usage,
        books,
        counts,
    };
    Ok(Report::new(seen))
}

/// Why the demo could not go on, or a case has no answer to compare.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error(transparent)]
    Config(Box<ConfigError>),
    #[error(transparent)]
    Issue(#[from] crate::config::issue::IssueError),
    #[error(transparent)]
    Certificate(#[from] crate::certificate::Error),
    #[error(transparent)]
    Server(#[from] crate::server::ServerError),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    #[error("TLS: {0}")]
    Name(#[from] rustls::pki_types::InvalidDnsNameError),
    #[error("HTTP: {0}")]
    Http(#[from] hyper::Error),
    #[error("no answer came in time")]
    NoAnswer,
    #[error("an earlier step was answered {status} {code}")]
    Unexpected {
        /// The status.
        status: u16,
        /// The error code; empty where there is none.
        code: String,
    },
    #[error("not so: {0}")]
    Broken(&'static str),
    #[error("the case could not be set up: {0}")]
    Setup(&'static str),
    #[error("a key that was just made cannot be used")]
    Key,
    #[error("the listener `{0}` has no TCP address")]
    Listener(&'static str),
    #[error("the calendar has no such instant")]
    Calendar,
    #[error("a thread of the demo ended")]
    Thread,
}

impl From<ConfigError> for DemoError {
    fn from(error: ConfigError) -> Self {
        Self::Config(Box::new(error))
    }
}
