//! `tollgate journal verify`.

use std::io::Write;

use super::{Place, time};
use crate::cli::Failure;
use crate::journal::inspect;
use crate::storage::Disk;

/// Which journal is checked.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    place: Place,
}

/// Prints a line for each segment; fails with the first damage.
pub(super) fn run(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let found = options.place.find()?;
    let inspection = inspect::segments(&Disk, &found.folder)?;
    let mut print = |line: String| writeln!(out, "{line}").map_err(Failure::Output);
    print(format!("writer  segment     records  {:TIME$}  {:TIME$}  state", "first", "last"))?;
    for segment in inspection.segments() {
        let (first, last) = segment.times.map_or(("-".into(), "-".into()), |(first, last)| (time(first), time(last)));
        let (id, records, state) = (segment.id, segment.records, segment.state);
        print(format!("{:6}  {:7}  {records:10}  {first:TIME$}  {last:TIME$}  {state}", id.writer, id.number))?;
    }
    found.check_key(&inspection)?;
    match inspection.fault() {
        Some(fault) => Err(fault.into()),
        None => {
            let (segments, records) = (inspection.segments().len(), inspection.records());
            print(format!("{segments} segments, {records} records, verified"))
        }
    }
}

/// Letters of an instant.
const TIME: usize = "2026-11-22T15:02:47.000Z".len();
