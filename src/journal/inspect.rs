//! Looking at a journal: what is whole, what is torn and what is damaged, and where. Nothing is locked, changed or cut.
//!
//! A gate may be writing meanwhile. Segments are read from the last to the first, and where one seems not to be whole it is
//! read again: what a record says of others was then true before they were read. So a journal that is being written is
//! never called damaged.
//!
//! The oldest segments of a writer go when they are not needed any more, and the last ones may be missing without a trace;
//! what is between them is proved: every record by its check and its number, every sealed segment by its hash, which the
//! seal of the next one repeats.

mod follow;
mod look;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub use self::follow::Follower;
use self::look::{Head, Look};
use super::cursor::{self, Cursor};
use super::entry::Name;
use super::files::Recorded;
use super::scan::OpenFault;
use super::segment::{HEADER_BYTES, Seal, SegmentId, position};
use crate::storage::Storage;
use crate::time::UnixMillis;

/// What was found in the folder of a journal.
#[derive(Debug)]
pub struct Inspection {
    folder: PathBuf,
    /// By writer and number.
    segments: Vec<Segment>,
    labels: BTreeMap<u32, Name>,
}

/// What was found of one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Which one.
    pub id: SegmentId,
    /// Tells under which deployment key it was made; `None` where its header is not whole.
    pub fingerprint: Option<[u8; 16]>,
    /// How many records are valid in it.
    pub records: u64,
    /// The times of the first and the last of these; `None` where there is none.
    pub times: Option<(UnixMillis, UnixMillis)>,
    /// Where they end, in bytes from the start of the file.
    pub end: u64,
    /// How it is.
    pub state: State,
}

/// How a segment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Full, and as it was sealed.
    Sealed,
    /// Not sealed: it may be being written.
    Open,
    /// Not sealed, and something stands behind its records that was never safe: the next start cuts it.
    Torn {
        /// The first byte that counts no more.
        at: u64,
    },
    /// Something that was safe is not there, or not as it was.
    Damaged {
        /// The first byte that cannot be trusted.
        at: u64,
        /// What was found.
        found: &'static str,
    },
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sealed => formatter.write_str("sealed"),
            Self::Open => formatter.write_str("open"),
            Self::Torn { at } => write!(formatter, "torn tail at byte {at}"),
            Self::Damaged { at, found } => write!(formatter, "damaged at byte {at}: {found}"),
        }
    }
}

/// Looks at all segments in a folder.
///
/// # Errors
/// [`OpenFault::Io`] where a file cannot be read, [`OpenFault::Version`] where one is of another version. Damage is no error:
/// it is what is found.
pub fn segments(storage: &dyn Storage, folder: &Path) -> Result<Inspection, OpenFault> {
    let names = storage.list(folder).map_err(OpenFault::io(folder))?;
    let mut writers: BTreeMap<u16, Vec<SegmentId>> = BTreeMap::new();
    for id in names.iter().filter_map(|name| SegmentId::named(name)) {
        writers.entry(id.writer).or_default().push(id);
    }
    let mut inspection = Inspection { folder: folder.to_owned(), segments: Vec::new(), labels: BTreeMap::new() };
    for mut ids in writers.into_values() {
        ids.sort_unstable();
        let mut looks = Vec::with_capacity(ids.len());
        for id in ids.into_iter().rev() {
            // One that is gone by now was not needed any more.
            looks.extend(Look::at(storage, folder, id)?);
        }
        looks.reverse();
        inspection.labels.extend(looks.iter_mut().flat_map(|look| std::mem::take(&mut look.labels)));
        inspection.segments.extend(judge(&looks));
    }
    Ok(inspection)
}

impl Inspection {
    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the segments, by writer and number.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Returns how many records are valid in all.
    pub fn records(&self) -> u64 {
        self.segments.iter().map(|segment| segment.records).sum()
    }

    /// Returns the first damage, as opening the journal for writing would refuse it.
    pub fn fault(&self) -> Option<OpenFault> {
        self.segments.iter().find_map(|segment| match segment.state {
            State::Damaged { at, found } => Some(OpenFault::damaged(&segment.id.path(&self.folder), at, found)),
            State::Sealed | State::Open | State::Torn { .. } => None,
        })
    }

    /// Returns the path of a segment.
    pub fn path(&self, segment: &Segment) -> PathBuf {
        segment.id.path(&self.folder)
    }

    /// Returns the names of limits by their labels.
    pub fn labels(&self) -> &BTreeMap<u32, Name> {
        &self.labels
    }

    /// Returns what sees the records that are written from now on.
    pub fn follower(&self) -> Follower {
        Follower::behind(self.folder.clone(), self.valid())
    }

    /// Visits the valid records in the order of their times, those of one writer in the order in which they were written:
    /// of each writer up to the first damage in it.
    ///
    /// # Errors
    /// [`OpenFault`], or what `visit` fails with.
    pub fn visit<E: From<OpenFault>>(
        &self,
        storage: &dyn Storage,
        visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let full = |(id, end): &(SegmentId, u64)| (*end > HEADER_BYTES as u64).then_some((*id, *end));
        let cursors = self
            .valid()
            .into_values()
            .map(|segments| Cursor::new(storage, &self.folder, segments.iter().filter_map(full).collect()));
        cursor::merge(cursors.collect(), |frame| (frame.at, frame.stamp), visit)
    }

    /// The segments of each writer up to the first that is damaged, each with where its records end.
    fn valid(&self) -> BTreeMap<u16, Vec<(SegmentId, u64)>> {
        let mut valid: BTreeMap<u16, (bool, Vec<(SegmentId, u64)>)> = BTreeMap::new();
        for Segment { id, end, state, .. } in &self.segments {
            let (over, segments) = valid.entry(id.writer).or_default();
            if !*over {
                segments.push((*id, *end));
                *over = matches!(state, State::Damaged { .. });
            }
        }
        valid.into_iter().map(|(writer, (_, segments))| (writer, segments)).collect()
    }
}

/// What must follow the segments looked at so far.
#[derive(Clone, Copy, Debug, Default)]
struct Before {
    /// The last sequence; `None` where anything may follow.
    sequence: Option<u64>,
    /// The position where it ends.
    end: u64,
    /// Whether whole records stand behind its end: what follows was never safe either.
    torn: bool,
    /// The last seal, where the segment before is sealed.
    hash: Option<[u8; 32]>,
}

/// Judges the segments of one writer.
fn judge(looks: &[Look]) -> Vec<Segment> {
    let mut before = Before::default();
    let mut segments = Vec::with_capacity(looks.len());
    for (index, look) in looks.iter().enumerate() {
        let later = looks.get(index.saturating_add(1)..).unwrap_or_default();
        let state = match &look.seal {
            Some(seal) => sealed(look, seal, before),
            None => unsealed(look, later, before),
        };
        let hash = look.seal.map(|seal| seal.hash);
        match state {
            State::Damaged { .. } => before = Before { hash, ..Before::default() },
            State::Sealed => {
                let sequence = look.seal.map(|seal| seal.last_sequence);
                let end = position(look.id.number, look.extent.end);
                before = Before { sequence, end, hash, torn: false };
            }
            State::Open | State::Torn { .. } => {
                if let Head::Whole(_) = look.head {
                    before.end = position(look.id.number, look.extent.end);
                }
                before.torn |= look.behind.is_some();
                if let Some((_, last)) = look.extent.sequences {
                    (before.sequence, before.hash) = (Some(last), None);
                }
            }
        }
        segments.push(look.valid(state));
    }
    segments
}

fn sealed(look: &Look, seal: &Seal, before: Before) -> State {
    let damaged = |at: u64, found: &'static str| State::Damaged { at, found };
    let extent = look.extent;
    if extent.end != seal.end {
        return damaged(extent.end, "a sealed record is not whole, or does not follow the one before it");
    }
    if look.follows(before.sequence) == Some(false) {
        return damaged(HEADER_BYTES as u64, MISSING);
    }
    let last = extent.sequences.map_or(seal.last_sequence, |(_, last)| last);
    if last != seal.last_sequence || (extent.sequences.is_some() && extent.times != seal.times) {
        return damaged(look.seal_at, "the seal is not that of these records");
    }
    let first = extent.sequences.is_some_and(|(first, _)| first == 1);
    let expected = before.hash.or(first.then_some([0; 32]));
    if expected.is_some_and(|hash| hash != seal.before) {
        return damaged(look.seal_at, "the seal does not follow that of the segment before it");
    }
    match look.stain {
        // What a torn write left between records may have been sealed with them.
        _ if look.hash_holds => State::Sealed,
        Some(at) => damaged(at, "a byte that was zero is not"),
        None => damaged(look.seal_at, "the records are not those that were sealed"),
    }
}

fn unsealed(look: &Look, later: &[Look], before: Before) -> State {
    let end = look.extent.end;
    match look.head {
        Head::Whole(_) => {}
        Head::Blank => return State::Open,
        Head::Broken { records: false } => return State::Torn { at: 0 },
        Head::Broken { records: true } | Head::Foreign => {
            return State::Damaged { at: 0, found: look.head.fault().unwrap_or_default() };
        }
    }
    let gone = |at: u64| State::Damaged { at, found: "records that were safe are not there any more" };
    let next = later.iter().find_map(Look::first_sequence);
    let last = look.extent.sequences.map(|(_, last)| last).or(before.sequence);
    let gap = next.zip(last).is_some_and(|(next, last)| next != last.saturating_add(1));
    // Where none is missing, later segments rightly say that more was safe: that of themselves.
    let of_later = position(look.id.number.saturating_add(1), 0);
    let by_later = later.iter().filter_map(|look| look.claim).filter(|claim| gap || *claim < of_later).max();
    let claim = look.behind.max(by_later);
    if claim.is_some_and(|durable| durable > position(look.id.number, end)) {
        return gone(end);
    }
    if later.iter().any(|look| look.seal.is_some()) {
        return State::Damaged { at: look.seal_at, found: "it has no seal, and a later segment has one" };
    }
    if (before.torn && look.claim.is_some()) || look.follows(before.sequence) == Some(false) {
        let at = HEADER_BYTES as u64;
        let was_safe = look.claim.is_some_and(|durable| durable > before.end);
        return if was_safe { State::Damaged { at, found: MISSING } } else { State::Torn { at } };
    }
    match look.dirt {
        Some(_) => State::Torn { at: end },
        None if look.seal_torn => State::Torn { at: look.seal_at },
        None => State::Open,
    }
}

const MISSING: &str = "the records before these are missing";

#[cfg(test)]
mod tests;
