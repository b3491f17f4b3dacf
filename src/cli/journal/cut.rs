//! `tollgate journal cut`.

use std::io::Write;
use std::sync::Arc;

use super::Place;
use crate::cli::Failure;
use crate::journal::{Cut, SegmentId};
use crate::storage::Disk;

/// Where which journal is cut.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Options {
    #[command(flatten)]
    place: Place,
    /// The writer of the damaged segment.
    #[arg(long)]
    writer: u16,
    /// The number of the damaged segment.
    #[arg(long)]
    segment: u64,
    /// The byte of it that `tollgate journal verify` names.
    #[arg(long, value_name = "BYTE")]
    at: u64,
    /// Cut; without it, only what would be cut is said.
    #[arg(long)]
    yes: bool,
}

/// Says what is cut, and cuts.
pub(super) fn run(options: &Options, out: &mut dyn Write) -> Result<(), Failure> {
    let &Options { writer, segment: number, at, yes, .. } = options;
    let folder = options.place.find()?.folder;
    let id = SegmentId { writer, number };
    let cut = Cut::plan(Arc::new(Disk), &folder, id, at)?;
    let mut print = |line: String| writeln!(out, "{line}").map_err(Failure::Output);
    let path = id.path(&folder).display().to_string();
    match cut.sealed_at() {
        Some(end) => {
            print(format!(
                "{path}: {} records stay, up to byte {end}; {} whole records behind it go",
                cut.kept, cut.lost
            ))?;
        }
        None => print(format!("{path}: removed, with {} whole records", cut.lost))?,
    }
    for (id, records) in &cut.removed {
        print(format!("{}: removed, with {records} whole records", id.path(&folder).display()))?;
    }
    let records = cut.records();
    if yes {
        cut.carry_out()?;
        print(format!("cut: {records} whole records are given up; what they charge is not counted any more"))
    } else {
        print(format!("nothing is done yet: {records} whole records would be given up; add --yes to cut"))
    }
}
