//! The commands.

pub mod demo;
mod serve;

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
    /// Show a gate at work: every verdict provoked and checked, then traffic.
    Demo(demo::Options),
}

/// Runs the command that the arguments name.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command answers on its standard streams")]
pub fn run() -> ExitCode {
    let result = match Arguments::parse().command {
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
}
