//! Reading records one after the other: those of one writer, and those of all writers in one order.

use std::collections::VecDeque;
use std::path::Path;

use super::blocks::Blocks;
use super::files::Recorded;
use super::frame::Frame;
use super::scan::OpenFault;
use super::segment::{HEADER_BYTES, Seal, SegmentId, position};
use crate::storage::Storage;
use crate::time::UnixMillis;

/// Reads the records of one writer.
pub(super) struct Cursor<'c> {
    storage: &'c dyn Storage,
    folder: &'c Path,
    /// Each with where its records end.
    segments: VecDeque<(SegmentId, u64)>,
    /// The segment being read.
    read: Option<(SegmentId, Blocks)>,
    /// The record that is next in it, where it begins and where it ends.
    next: Option<(Frame, u64, u64)>,
    from: u64,
    /// `None` where all is wanted that ends behind `from`, and nothing else.
    since: Option<UnixMillis>,
}

impl<'c> Cursor<'c> {
    /// Begins with the first record of the first segment.
    pub fn new(storage: &'c dyn Storage, folder: &'c Path, segments: VecDeque<(SegmentId, u64)>) -> Self {
        Self { storage, folder, segments, read: None, next: None, from: 0, since: None }
    }

    /// Leaves out records that end at a position or before it.
    pub fn behind(mut self, from: u64) -> Self {
        self.from = from;
        self
    }

    /// Leaves out records that end at a position or before it, unless they are not older than `since`.
    pub fn from(mut self, from: u64, since: UnixMillis) -> Self {
        (self.from, self.since) = (from, Some(since));
        self
    }

    /// Goes to the next record that is wanted; returns what its frame says.
    fn advance(&mut self) -> Result<Option<Frame>, OpenFault> {
        loop {
            let offset = match (&self.read, self.next.take()) {
                (Some(_), Some((_, _, end))) => end,
                (Some((id, _)), None) => self.begin(*id),
                (None, _) => {
                    let Some((id, records_end)) = self.segments.pop_front() else { return Ok(None) };
                    self.read = Some((id, Blocks::open(self.storage, self.folder, id, records_end)?));
                    self.begin(id)
                }
            };
            let Some((id, blocks)) = &mut self.read else { return Ok(None) };
            let found = blocks.at(offset).map_err(|source| OpenFault::io(&id.path(self.folder))(source))?;
            let Some((frame, begun, end)) = found.filter(|(_, _, end)| *end <= blocks.end()) else {
                if offset < blocks.end() {
                    return Err(OpenFault::damaged(&id.path(self.folder), offset, "a sealed record is not whole"));
                }
                self.read = None;
                continue;
            };
            let is_new = position(id.number, end) > self.from;
            self.next = Some((frame, begun, end));
            if is_new || self.since.is_some_and(|since| frame.at >= since) {
                return Ok(Some(frame));
            }
        }
    }

    /// Returns where the first record of a segment is that may be wanted.
    fn begin(&self, id: SegmentId) -> u64 {
        let first = HEADER_BYTES as u64;
        // A position is where a record ends, and so where the next one begins.
        if self.since.is_some() { first } else { self.from.saturating_sub(position(id.number, 0)).max(first) }
    }

    fn visit<E>(&self, visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>) -> Result<(), E> {
        let (Some((id, blocks)), Some((frame, begun, end))) = (&self.read, self.next) else { return Ok(()) };
        let (payload, position) = (blocks.payload(begun), position(id.number, end));
        visit(&Recorded { writer: id.writer, position, frame, payload, place: (*id, begun) })
    }
}

/// Visits the records of a sealed segment that end behind a position, until `visit` says that it wants no more.
///
/// # Errors
/// [`OpenFault`] where it cannot be read or is damaged, or what `visit` fails with.
pub fn visit_sealed<E: From<OpenFault>>(
    storage: &dyn Storage,
    folder: &Path,
    (id, seal): (SegmentId, Seal),
    from: u64,
    visit: &mut dyn FnMut(&Recorded<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut cursor = Cursor::new(storage, folder, VecDeque::from([(id, seal.end)])).behind(from);
    let mut more = true;
    while more && cursor.advance()?.is_some() {
        cursor.visit(&mut |record| {
            more = visit(record)?;
            Ok::<_, E>(())
        })?;
    }
    Ok(())
}

/// Visits the records of all cursors, always the one whose key is the lowest; those of one cursor in their order.
///
/// # Errors
/// [`OpenFault`], or what `visit` fails with.
pub(super) fn merge<K: Ord, E: From<OpenFault>>(
    cursors: Vec<Cursor<'_>>,
    key: impl Fn(&Frame) -> K,
    visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut begun = Vec::with_capacity(cursors.len());
    for mut cursor in cursors {
        if let Some(frame) = cursor.advance()? {
            begun.push((key(&frame), cursor));
        }
    }
    while let Some(next) = lowest(&begun) {
        let Some((first, cursor)) = begun.get_mut(next) else { break };
        cursor.visit(visit)?;
        match cursor.advance()? {
            Some(frame) => *first = key(&frame),
            None => drop(begun.swap_remove(next)),
        }
    }
    Ok(())
}

fn lowest<K: Ord>(cursors: &[(K, Cursor<'_>)]) -> Option<usize> {
    cursors.iter().enumerate().min_by(|(_, (one, _)), (_, (other, _))| one.cmp(other)).map(|(index, _)| index)
}
