//! `tollgate journal`: the operator's commands on the journal. They read the files themselves; only `cut` changes any.

mod cut;
mod dump;
pub(super) mod shown;
mod verify;

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use super::Failure;
use crate::config;
use crate::journal::OpenFault;
use crate::journal::inspect::Inspection;
use crate::prf::DeploymentKey;
use crate::time::{Clock, SystemClock, UnixMillis};

/// What is done with the journal.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Action {
    /// Check every record and every seal, also while a gate runs; nothing is changed.
    Verify(verify::Options),
    /// Print every record.
    Dump(dump::Dump),
    /// Print the last records.
    Tail(dump::Tail),
    /// After damage: give up what is behind a byte of a segment, so that a gate starts again.
    Cut(cut::Options),
}

/// Which journal.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(super) struct Place {
    /// The gate's configuration, which names the journal's folder.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The folder itself.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,
}

/// Where a journal is.
pub(super) struct Found {
    pub folder: PathBuf,
    /// The deployment's secret; `None` where the folder alone is named.
    pub key: Option<DeploymentKey>,
}

/// Does it.
pub(super) fn run(action: &Action, out: &mut dyn Write) -> Result<(), Failure> {
    let done = match action {
        Action::Verify(options) => verify::run(options, out),
        Action::Dump(options) => dump::dump(options, out),
        Action::Tail(options) => dump::tail(options, out),
        Action::Cut(options) => cut::run(options, out),
    };
    finished(done, out)
}

/// Writes out what is left; whoever closed the output has read enough.
pub(super) fn finished(done: Result<(), Failure>, out: &mut dyn Write) -> Result<(), Failure> {
    let flushed = out.flush().map_err(Failure::Output);
    match done.and(flushed) {
        Err(Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}

impl Place {
    pub fn find(&self) -> Result<Found, Failure> {
        match (&self.config, &self.folder) {
            (Some(config), _) => Found::by(config),
            (None, Some(folder)) => Ok(Found { folder: folder.clone(), key: None }),
            (None, None) => Err(super::control::ControlError::NoPlace.into()),
        }
    }
}

impl Found {
    /// Finds the journal that a configuration names.
    pub fn by(file: &std::path::Path) -> Result<Self, Failure> {
        let config = config::load(file, SystemClock.now())?;
        let journal = config.journal.ok_or_else(|| Failure::NoJournal { config: file.to_owned() })?;
        Ok(Self { folder: journal.folder, key: Some(config.deployment_key) })
    }

    /// Refuses segments that were made under another key.
    pub fn check_key(&self, inspection: &Inspection) -> Result<(), OpenFault> {
        let Some(key) = &self.key else { return Ok(()) };
        let ours = key.fingerprint();
        let other = |fingerprint: [u8; 16]| fingerprint != ours;
        match inspection.segments().iter().find(|segment| segment.fingerprint.is_some_and(other)) {
            Some(segment) => Err(OpenFault::Fingerprint { path: inspection.path(segment).display().to_string() }),
            None => Ok(()),
        }
    }
}

/// Reads an instant as RFC 3339 writes it.
pub(super) fn instant(text: &str) -> Result<UnixMillis, &'static str> {
    let stamp: Result<jiff::Timestamp, _> = text.parse();
    let expected = "write an instant with its offset, such as 2026-11-21T09:30:00+08:00";
    stamp.map(|stamp| UnixMillis(stamp.as_millisecond())).map_err(|_| expected)
}

/// Writes an instant as RFC 3339 does, in UTC; `-` for the time of a record that was made before any was known.
pub(super) fn time(at: UnixMillis) -> String {
    let stamp = jiff::Timestamp::from_millisecond(at.0).ok().filter(|_| at.0 != 0);
    stamp.map_or_else(|| "-".to_owned(), |stamp| format!("{stamp:.3}"))
}
