//! Seeing records as they are written.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;

use crate::journal::files::Recorded;
use crate::journal::frame::{self, SECTOR_BYTES};
use crate::journal::scan::OpenFault;
use crate::journal::segment::{HEADER_BYTES, Header, SegmentId, position};
use crate::storage::Storage;

/// Sees the records that were written since it was asked last.
#[derive(Debug)]
pub struct Follower {
    folder: PathBuf,
    places: BTreeMap<u16, Place>,
}

/// How far a writer was followed.
#[derive(Clone, Copy, Debug)]
struct Place {
    number: u64,
    /// Where the last record ends in that segment.
    end: u64,
    /// The sequence of the last record; `None` where none was seen.
    sequence: Option<u64>,
}

impl Follower {
    /// Begins behind the last of these segments of each writer, each given with where its records end.
    pub(super) fn behind(folder: PathBuf, valid: BTreeMap<u16, Vec<(SegmentId, u64)>>) -> Self {
        // The next segment may be made and empty already: what comes next stands behind the last record.
        let last = |segments: &Vec<(SegmentId, u64)>| {
            let filled = segments.iter().rev().find(|(_, end)| *end > HEADER_BYTES as u64);
            filled.or(segments.first()).map(|(id, end)| Place { number: id.number, end: *end, sequence: None })
        };
        let places = valid.iter().filter_map(|(writer, segments)| Some((*writer, last(segments)?))).collect();
        Self { folder, places }
    }

    /// Visits what was written since: of each writer at most one segment, and at most 1 MiB, at a time.
    ///
    /// # Errors
    /// [`OpenFault`], or what `visit` fails with.
    pub fn more<E: From<OpenFault>>(
        &mut self,
        storage: &dyn Storage,
        visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let names = storage.list(&self.folder).map_err(OpenFault::io(&self.folder))?;
        let mut done = Vec::new();
        for id in names.iter().filter_map(|name| SegmentId::named(name)) {
            let place = self.places.get(&id.writer).copied();
            if !done.contains(&id.writer) && place.is_none_or(|place| id.number >= place.number) {
                let seen = self.segment(storage, id, place, visit)?;
                done.extend(seen.then_some(id.writer));
            }
        }
        Ok(())
    }

    /// Visits what is new in a segment; tells whether there was something.
    fn segment<E: From<OpenFault>>(
        &mut self,
        storage: &dyn Storage,
        id: SegmentId,
        place: Option<Place>,
        visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let path = id.path(&self.folder);
        let io = OpenFault::io(&path);
        let file = match storage.open(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(io(error).into()),
        };
        let mut head = vec![0; HEADER_BYTES];
        file.read_at(&mut head, 0).map_err(&io)?;
        let version = |version| OpenFault::Version { path: path.display().to_string(), version };
        let Some(header) = Header::read(&head).map_err(version)? else { return Ok(false) };
        let here = place.filter(|place| place.number == id.number);
        let begin = here.map_or(0, |place| place.end).max(HEADER_BYTES as u64);
        // Records are found by where sectors begin.
        let base = begin - begin % SECTOR_BYTES as u64;
        let mut bytes = vec![0; READ_BYTES];
        let read = file.read_at(&mut bytes, base).map_err(&io)?;
        bytes.truncate(read);
        let mut offset = usize::try_from(begin - base).unwrap_or(0);
        let mut last = place.and_then(|place| place.sequence);
        let mut seen = false;
        while let Some((frame, payload, begun, end)) = frame::at(&bytes, offset, header.epoch) {
            if last.is_some_and(|last| frame.sequence != last.saturating_add(1)) {
                break;
            }
            let [begun, end_offset] = [begun, end].map(|offset| base.saturating_add(offset as u64));
            let position = position(id.number, end_offset);
            visit(&Recorded { writer: id.writer, position, frame, payload, place: (id, begun) })?;
            (offset, last, seen) = (end, Some(frame.sequence), true);
            self.places.insert(id.writer, Place { number: id.number, end: end_offset, sequence: last });
        }
        Ok(seen)
    }
}

/// How much of a segment is read at a time: more than any record takes.
const READ_BYTES: usize = 1 << 20;
