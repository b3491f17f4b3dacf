//! Whether anything that was acknowledged is lost: gates that are ended at any instant, and a ledger that nothing ends.

mod client;
mod faults;
mod kill;
mod mutants;
mod power;
mod scene;
mod sim;
mod torn;

use std::path::Path;

use clap::{Parser, ValueEnum};

pub use scene::CrashError;

/// What is done to a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Name {
    /// The process is ended by SIGKILL, under load, as it recovers, and as it starts.
    Kill,
    /// The disk loses power, under load. Needs root, mkfs.ext4, mkfs.xfs and xfs_io.
    Power,
    /// Production's own parts in one thread, on a disk and with a clock of their own, as seeds decide.
    Sim,
    /// Journals as decisions leave them, with the sectors that were not synced kept, dropped, zeroed, flipped or misplaced.
    Torn,
    /// One story lived again and again, each time with another call of the disk failing.
    Faults,
}

/// How it is done.
#[derive(Clone, Debug, Parser)]
pub struct Options {
    /// What is done to a gate.
    pub name: Name,
    /// How often.
    #[arg(default_value_t = 10)]
    pub size: u32,
    /// What random choices follow from.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// With `sim`: end with the first seed that finds a fault.
    #[arg(long)]
    pub until_fault: bool,
    /// With `sim`: put faults into a copy of the sources, and see whether the simulation finds each. In the repository's root.
    #[arg(long)]
    pub mutants: bool,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rounds after which everything was as it must be.
    pub passed: u32,
    /// Rounds after which it was not.
    pub failed: u32,
    /// What was not.
    pub faults: Vec<String>,
    /// What was seen, for people.
    pub summary: String,
}

/// Does it; `program` is this program, of which gates are children.
///
/// # Errors
/// [`CrashError`] where a part cannot be set up. What is wrong with the gate is in the outcome.
pub fn run(options: &Options, program: &Path, tell: &mut dyn FnMut(&str)) -> Result<Outcome, CrashError> {
    match options.name {
        Name::Kill => kill::run(options.size, options.seed, program, tell),
        Name::Power => power::run(options.size, options.seed, program, tell),
        Name::Torn => torn::run(options.size, options.seed, tell),
        Name::Faults => faults::run(options.size, options.seed, tell),
        Name::Sim if options.mutants => mutants::run(options.size, tell),
        Name::Sim => sim::run(options.size, options.seed, options.until_fault, tell),
    }
}
