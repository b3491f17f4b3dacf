//! The commands.

mod audit;
mod control;
pub mod demo;
mod explain;
mod journal;
mod serve;
mod settle;
mod usage;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use rand::rand_core::UnwrapErr;
use rand::rngs::SysRng;

use crate::config::{self, Config};
use crate::time::{Clock, SystemClock};

/// Signature verification and payment limits in front of a payment API.
#[derive(Debug, Parser)]
#[command(name = "tollgate", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a gate.
    Serve {
        /// The configuration.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration without running it.
    CheckConfig {
        /// The configuration.
        file: PathBuf,
    },
    /// Write a commented configuration that runs, with keys and certificates to try it.
    Init {
        /// The directory to make.
        dir: PathBuf,
    },
    /// Show what is used of the limits of a running gate.
    Usage(usage::Options),
    /// Commit or release a decision of a running gate.
    Settle(settle::Options),
    /// Say how a gate would decide a request, without deciding it.
    Explain(explain::Options),
    /// Look at a gate's journal, or give up what is damaged in it.
    #[command(subcommand)]
    Journal(journal::Action),
    /// Show from the journal who asked for what, what was decided, and by which limits.
    Audit(audit::Options),
    /// Show a gate at work: every verdict provoked and checked, then traffic.
    Demo(demo::Options),
}

/// Runs the command that the arguments of the process name.
pub fn run() -> ExitCode {
    run_from(std::env::args_os())
}

/// Runs the command that arguments name, of which the first is the name of the program.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command answers on its standard streams")]
pub fn run_from(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let result = match Arguments::parse_from(arguments).command {
        Command::Serve { config } => serve::run(&config),
        Command::CheckConfig { file } => config::load(&file, SystemClock.now())
            .map(|config| println!("{}: ok; {}", file.display(), summary(&config)))
            .map_err(Into::into),
        Command::Init { dir } => config::init(&dir, &mut UnwrapErr(SysRng), SystemClock.now())
            .map(|files| {
                files.iter().for_each(|file| println!("wrote {}", file.display()));
                println!("run: tollgate serve --config {}", dir.join("tollgate.toml").display());
            })
            .map_err(Into::into),
        Command::Usage(options) => usage::run(&options, &mut std::io::stdout().lock()),
        Command::Settle(options) => settle::run(&options, &mut std::io::stdout().lock()),
        Command::Explain(options) => explain::run(&options, &mut std::io::stdout().lock()),
        Command::Journal(action) => journal::run(&action, &mut std::io::stdout().lock()),
        Command::Audit(options) => audit::run(&options, &mut std::io::stdout().lock()),
        Command::Demo(options) => return demo::run(&options),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err::<(), Failure>(failure) => {
            eprintln!("tollgate: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn summary(config: &config::Config) -> String {
    let Config { listeners, policy, workers, .. } = config;
    let merchants = policy.merchants().count();
    let routes = policy.routes().iter().count();
    format!("{workers} workers, {} listeners, {merchants} merchants, {routes} routes", listeners.len())
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    #[error(transparent)]
    Server(#[from] crate::server::ServerError),
    #[error("signals cannot be listened to: {0}")]
    Signals(#[from] std::io::Error),
    #[error("a thread of the gate ended; see the log")]
    Died,
    #[error(transparent)]
    Control(#[from] control::ControlError),
    #[error("{}: {source}", path.display())]
    Request { path: PathBuf, source: std::io::Error },
    #[error("{}: more than {} bytes; give one HTTP/1.1 request", path.display(), crate::admin::EXPLAIN_BYTES_MAX)]
    RequestLong { path: PathBuf },
    #[error("{0}")]
    Unexplained(String),
    #[error("{}: there is no section [journal], so nothing is recorded; add one, or give --folder", config.display())]
    NoJournal { config: PathBuf },
    #[error(transparent)]
    Journal(#[from] crate::journal::OpenFault),
    #[error(transparent)]
    Cut(#[from] crate::journal::CutFault),
    #[error("the output cannot be written: {0}")]
    Output(std::io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a command that asks a gate, and returns what it prints or says went wrong.
    pub(super) fn output(line: &[&str]) -> Result<String, String> {
        let line = std::iter::once(&"tollgate").chain(line);
        let arguments = Arguments::try_parse_from(line).map_err(|error| error.to_string())?;
        let mut out = Vec::new();
        let done = match arguments.command {
            Command::Usage(options) => usage::run(&options, &mut out),
            Command::Settle(options) => settle::run(&options, &mut out),
            Command::Explain(options) => explain::run(&options, &mut out),
            Command::Journal(action) => journal::run(&action, &mut out),
            Command::Audit(options) => audit::run(&options, &mut out),
            Command::Serve { .. } | Command::CheckConfig { .. } | Command::Init { .. } | Command::Demo(_) => {
                return Err("asks no gate".to_owned());
            }
        };
        done.map_err(|failure| failure.to_string())?;
        String::from_utf8(out).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }
}
