//! The program.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::{bare, crash, ratios, session};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Drives a gate like payment traffic, checks its books afterwards, and measures it beside rivals.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Drive a gate, and compare its books with its answers.
    Run(session::Options),
    /// Measure ours beside rivals, in one run.
    Ratios(ratios::Options),
    /// End gates at any instant, and see whether anything that they acknowledged is lost.
    Crash(crash::Options),
    /// Be a bare hyper server: a child of the other commands.
    #[command(hide = true)]
    Bare {
        #[arg(requires = "key")]
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    },
    /// Be a gate: a child of the other commands.
    #[command(hide = true)]
    Gate {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command answers on its standard streams")]
fn main() -> ExitCode {
    let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("loadtest"));
    let mut tell = |line: &str| eprintln!("{line}");
    match Arguments::parse().command {
        Command::Run(options) => match session::run(&options, &program, &mut tell) {
            Ok(report) => {
                print!("{}", report.describe());
                let _ = std::io::stdout().flush();
                if let Err(error) = report.write(&options.out) {
                    eprintln!("loadtest: {}: {error}", options.out.display());
                    return ExitCode::FAILURE;
                }
                eprintln!("written to {}", options.out.display());
                if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => fail(&error),
        },
        Command::Ratios(options) => match ratios::command(&options, &program, &mut tell) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Command::Crash(options) => {
            let mut tell = |line: &str| eprintln!("{line}");
            match crash::run(&options, &program, &mut tell) {
                Ok(outcome) => {
                    outcome.faults.iter().for_each(|fault| println!("FAULT {fault}"));
                    print!("{}", outcome.summary);
                    println!("{} passed, {} failed", outcome.passed, outcome.failed);
                    if outcome.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
                }
                Err(error) => fail(&error),
            }
        }
        Command::Bare { certificate, key } => {
            let files = certificate.as_deref().zip(key.as_deref());
            match bare::command(files, &mut |line| println!("{line}")) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(&error),
            }
        }
        Command::Gate { arguments } => {
            tollgate::cli::run_from(std::iter::once(OsString::from("tollgate")).chain(arguments))
        }
    }
}

#[expect(clippy::print_stderr, reason = "a command answers on its standard streams")]
fn fail(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("loadtest: {error}");
    ExitCode::FAILURE
}
