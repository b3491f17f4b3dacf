//! Cutting a journal after damage, because the operator says so: what is behind a byte is given up.
//!
//! The segment is sealed at the last whole record before that byte, and later segments of its writer are removed. A sealed
//! segment without records stands for those, so that no position is ever given twice. May be ended at any instant and begun
//! again.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::LOCK;
use super::inspect::{self, Inspection, Segment, State};
use super::keeper;
use super::scan::{OpenFault, Read};
use super::segment::{HEADER_BYTES, Header, SEAL_BYTES, Seal, SegmentId};
use crate::storage::{Lock, Storage};
use crate::time::UnixMillis;

/// What a cut would do. Holds the journal for this process.
#[derive(Debug)]
pub struct Cut {
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    _lock: Box<dyn Lock>,
    /// Segments of the writer before the one that is cut.
    before: Vec<Segment>,
    /// The one that is cut.
    id: SegmentId,
    /// Where its records end after that; no more than the header where none stays.
    end: u64,
    /// How many records of it stay.
    pub kept: u64,
    /// How many whole records stand behind the cut in it.
    pub lost: u64,
    /// Later segments, which are removed, and how many whole records each has.
    pub removed: Vec<(SegmentId, u64)>,
}

/// A journal cannot be cut there.
#[derive(Debug, thiserror::Error)]
pub enum CutFault {
    /// It cannot be read or written, or a gate has it.
    #[error(transparent)]
    Open(#[from] OpenFault),
    /// There is no such segment.
    #[error("{folder}: writer {} has no segment {}; see `tollgate journal verify`", id.writer, id.number)]
    Unknown {
        /// The folder.
        folder: String,
        /// What was named.
        id: SegmentId,
    },
    /// Nothing is damaged there.
    #[error(
        "{path}: nothing is damaged at byte {at} or behind it, so nothing is cut; name the segment and byte that \
         `tollgate journal verify` names"
    )]
    Whole {
        /// The file.
        path: String,
        /// What was named.
        at: u64,
    },
    /// What stands before is damaged itself.
    #[error("{path}: a segment before it is damaged, too: {state}; cut there first")]
    Earlier {
        /// The file.
        path: String,
        /// How it is.
        state: State,
    },
}

impl Cut {
    /// Takes the journal and finds what a cut at a byte of a segment would do. Changes nothing.
    ///
    /// # Errors
    /// [`CutFault`].
    pub fn plan(storage: Arc<dyn Storage>, folder: &Path, id: SegmentId, at: u64) -> Result<Self, CutFault> {
        // Asked first: the lock is a file, and no folder is made for it.
        storage.list(folder).map_err(OpenFault::io(folder))?;
        let lock = storage.lock(&folder.join(LOCK)).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => OpenFault::Locked { folder: folder.display().to_string() },
            _ => OpenFault::io(folder)(error),
        })?;
        let inspection = inspect::segments(&*storage, folder)?;
        let of_writer = inspection.segments().iter().filter(|segment| segment.id.writer == id.writer);
        let segments: Vec<Segment> = of_writer.cloned().collect();
        let unknown = || CutFault::Unknown { folder: folder.display().to_string(), id };
        let segment = segments.iter().find(|segment| segment.id == id).ok_or_else(unknown)?;
        let damaged = |segment: &&Segment| matches!(segment.state, State::Damaged { .. });
        if let Some(earlier) = segments.iter().take_while(|segment| segment.id < id).find(damaged) {
            let path = inspection.path(earlier).display().to_string();
            return Err(CutFault::Earlier { path, state: earlier.state });
        }
        let behind = |segment: &&Segment| match segment.state {
            State::Damaged { at: damage, .. } => segment.id > id || (segment.id == id && damage >= at.min(segment.end)),
            State::Sealed | State::Open | State::Torn { .. } => false,
        };
        if !segments.iter().any(|segment| behind(&segment)) {
            return Err(CutFault::Whole { path: inspection.path(segment).display().to_string(), at });
        }
        let mut cut = Self {
            before: segments.iter().take_while(|segment| segment.id < id).cloned().collect(),
            id,
            end: HEADER_BYTES as u64,
            kept: 0,
            lost: 0,
            removed: Vec::new(),
            folder: folder.to_owned(),
            _lock: lock,
            storage,
        };
        cut.measure(&inspection, segment, at)?;
        Ok(cut)
    }

    fn measure(&mut self, inspection: &Inspection, segment: &Segment, at: u64) -> Result<(), OpenFault> {
        if let Some(read) = self.read(self.id)? {
            let until = at.min(segment.end);
            for (_, _, _, end) in read.frames(0).take_while(|(.., end)| *end <= until) {
                (self.end, self.kept) = (end, self.kept.saturating_add(1));
            }
            self.lost = read.strewn(self.end).fold(0, |sum, _| sum.saturating_add(1));
        }
        let later = inspection.segments().iter().map(|segment| segment.id);
        for id in later.filter(|later| later.writer == self.id.writer && *later > self.id) {
            let records = self.read(id)?.map_or(0, |read| read.strewn(0).fold(0_u64, |sum, _| sum.saturating_add(1)));
            self.removed.push((id, records));
        }
        Ok(())
    }

    /// Returns the byte behind the last record that stays, and the file; `None` where the whole segment is removed.
    pub fn sealed_at(&self) -> Option<u64> {
        (self.kept > 0).then_some(self.end)
    }

    /// Returns how many whole records are given up.
    pub fn records(&self) -> u64 {
        self.removed.iter().fold(self.lost, |sum, (_, records)| sum.saturating_add(*records))
    }

    /// Cuts.
    ///
    /// # Errors
    /// [`OpenFault`]: cut again.
    pub fn carry_out(self) -> Result<(), OpenFault> {
        let mut last: Option<Seal> = None;
        let mut seals = Vec::new();
        let kept = self.before.iter().map(|segment| (segment.id, segment.end)).chain([(self.id, self.end)]);
        for (id, end) in kept.filter(|(_, end)| *end > HEADER_BYTES as u64) {
            let Some(mut read) = self.read(id)? else { continue };
            let was = read.seal;
            read.bytes.truncate(usize::try_from(end).unwrap_or(usize::MAX));
            let extent = read.extent();
            let before = last.map(|seal| seal.hash).or(was.map(|seal| seal.before)).unwrap_or_default();
            let path = id.path(&self.folder);
            let io = OpenFault::io(&path);
            let file = self.storage.open(&path, true).map_err(&io)?;
            // What is sealed must be safe.
            file.sync_data().map_err(&io)?;
            let hash = keeper::hash(&*file, before, end).map_err(&io)?;
            let (first_sequence, last_sequence) = extent.sequences.unwrap_or((0, 0));
            let seal = Seal { end, first_sequence, last_sequence, times: extent.times, fen: extent.fen, before, hash };
            if was != Some(seal) {
                seals.push((file, path.clone(), seal));
            }
            last = Some(seal);
        }
        let highest = self.removed.last().map_or(self.id.number, |(id, _)| id.number);
        self.stand_in(highest.saturating_add(1), last)?;
        let whole = (self.kept == 0).then_some(self.id);
        for id in self.removed.iter().rev().map(|(id, _)| *id).chain(whole) {
            let path = id.path(&self.folder);
            self.storage.remove(&path).map_err(OpenFault::io(&path))?;
        }
        self.storage.sync_folder(&self.folder).map_err(OpenFault::io(&self.folder))?;
        for (file, path, seal) in seals {
            let bytes = file.bytes().map_err(OpenFault::io(&path))?;
            keeper::write(&*file, &seal, bytes).map_err(OpenFault::io(&path))?;
        }
        Ok(())
    }

    /// Makes a sealed segment without records, with a number above all that there were.
    fn stand_in(&self, number: u64, last: Option<Seal>) -> Result<(), OpenFault> {
        let id = SegmentId { writer: self.id.writer, number };
        let path = id.path(&self.folder);
        let io = OpenFault::io(&path);
        let fingerprint = self.fingerprint()?;
        let bytes = (HEADER_BYTES + SEAL_BYTES) as u64;
        let file = self.storage.create(&path, bytes).map_err(&io)?;
        // No record is of this epoch.
        let header = Header { fingerprint, epoch: 0, id, bytes };
        file.write_at(&header.to_bytes(), 0).map_err(&io)?;
        let before = last.map_or([0; 32], |seal| seal.hash);
        let at = last.map_or(UnixMillis(0), |seal| seal.times.1);
        let end = HEADER_BYTES as u64;
        let hash = keeper::hash(&*file, before, end).map_err(&io)?;
        let last_sequence = last.map_or(0, |seal| seal.last_sequence);
        // The next record's, as if it were here.
        let first_sequence = last_sequence.saturating_add(1);
        let seal = Seal { end, first_sequence, last_sequence, times: (at, at), fen: 0, before, hash };
        keeper::write(&*file, &seal, bytes).map_err(&io)?;
        self.storage.sync_folder(&self.folder).map_err(OpenFault::io(&self.folder))
    }

    /// Finds the deployment key's mark in any header of the folder.
    fn fingerprint(&self) -> Result<[u8; 16], OpenFault> {
        let inspection = inspect::segments(&*self.storage, &self.folder)?;
        let marked = inspection.segments().iter().find_map(|segment| segment.fingerprint);
        marked.ok_or_else(|| {
            let found = "no file of the journal has a header; remove the folder, under a new one all limits begin anew";
            OpenFault::damaged(&self.id.path(&self.folder), 0, found)
        })
    }

    /// Reads a segment; `None` where its header is of no use.
    fn read(&self, id: SegmentId) -> Result<Option<Read>, OpenFault> {
        match Read::new(&*self.storage, &self.folder, id) {
            Err(OpenFault::Damaged { .. }) => Ok(None),
            read => read,
        }
    }
}

#[cfg(test)]
mod tests;
