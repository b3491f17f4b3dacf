//! `tollgate journal dump` and `tollgate journal tail`.

use std::collections::VecDeque;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use super::shown::{Names, Shown};
use super::{Place, instant};
use crate::cli::Failure;
use crate::journal::inspect::{self, Inspection};
use crate::journal::{OpenFault, Recorded};
use crate::storage::Disk;
use crate::time::UnixMillis;

/// Which records are printed, and how.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Dump {
    #[command(flatten)]
    place: Place,
    /// Leave out what was recorded before, such as 2026-11-21T09:30:00+08:00.
    #[arg(long, value_name = "INSTANT", value_parser = instant)]
    since: Option<UnixMillis>,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

/// How many records are printed, and how.
#[derive(Clone, Debug, clap::Args)]
pub(in crate::cli) struct Tail {
    #[command(flatten)]
    place: Place,
    /// How many, at most 100,000.
    #[arg(short = 'n', value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    records: u32,
    /// Go on with what is written from now on, until ended.
    #[arg(long)]
    follow: bool,
    /// Print JSON objects, one a line.
    #[arg(long)]
    json: bool,
}

/// Prints the records up to the first damage, and fails with that.
pub(super) fn dump(options: &Dump, out: &mut dyn Write) -> Result<(), Failure> {
    let (inspection, mut names) = look(&options.place)?;
    inspection.visit(&Disk, &mut |record| {
        let shown = show(&mut names, inspection.folder(), record)?;
        if options.since.is_none_or(|since| record.frame.at >= since) {
            line(&shown, options.json, out)?;
        }
        Ok::<_, Failure>(())
    })?;
    inspection.fault().map_or(Ok(()), |fault| Err(fault.into()))
}

/// Prints the last records, and those that come.
pub(super) fn tail(options: &Tail, out: &mut dyn Write) -> Result<(), Failure> {
    let (inspection, mut names) = look(&options.place)?;
    let records_max = usize::try_from(options.records).unwrap_or(usize::MAX);
    let mut last: VecDeque<Shown> = VecDeque::new();
    inspection.visit(&Disk, &mut |record| {
        last.push_back(show(&mut names, inspection.folder(), record)?);
        if last.len() > records_max {
            last.pop_front();
        }
        Ok::<_, Failure>(())
    })?;
    last.iter().try_for_each(|shown| line(shown, options.json, out))?;
    if let Some(fault) = inspection.fault() {
        return Err(fault.into());
    }
    if options.follow { follow(&inspection, names, options.json, out) } else { Ok(()) }
}

/// Prints what is written from now on, until the output is closed or the program ended.
fn follow(inspection: &Inspection, mut names: Names, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let mut follower = inspection.follower();
    loop {
        out.flush().map_err(Failure::Output)?;
        std::thread::sleep(FOLLOW_EVERY);
        let mut came: Vec<((UnixMillis, u64), Shown)> = Vec::new();
        follower.more(&Disk, &mut |record| {
            let shown = show(&mut names, inspection.folder(), record)?;
            came.push(((record.frame.at, record.frame.stamp), shown));
            Ok::<_, Failure>(())
        })?;
        came.sort_by_key(|(key, _)| *key);
        came.iter().try_for_each(|(_, shown)| line(shown, json, out))?;
    }
}

fn look(place: &Place) -> Result<(Inspection, Names), Failure> {
    let found = place.find()?;
    let inspection = inspect::segments(&Disk, &found.folder)?;
    found.check_key(&inspection)?;
    let names = Names::new(inspection.labels().clone());
    Ok((inspection, names))
}

fn show(names: &mut Names, folder: &Path, record: &Recorded<'_>) -> Result<Shown, OpenFault> {
    let entry = names.read(folder, record)?;
    Ok(names.show(record, entry))
}

fn line(shown: &Shown, json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let written = if json {
        serde_json::to_writer(&mut *out, shown).map_err(Into::into).and_then(|()| writeln!(out))
    } else {
        writeln!(out, "{shown}")
    };
    written.map_err(Failure::Output)
}

/// How often it is looked for new records.
const FOLLOW_EVERY: Duration = Duration::from_millis(200);
