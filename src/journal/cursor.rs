//! Reading records one after the other: those of one writer, and those of all writers in one order.

use std::collections::VecDeque;
use std::path::Path;

use super::files::Recorded;
use super::frame::{self, Frame};
use super::scan::{OpenFault, Read};
use super::segment::{HEADER_BYTES, Seal, SegmentId, position};
use crate::storage::Storage;
use crate::time::UnixMillis;

/// Reads the records of one writer.
pub(super) struct Cursor<'c> {
    storage: &'c dyn Storage,
    folder: &'c Path,
    /// Each with where its records end.
    segments: VecDeque<(SegmentId, u64)>,
    /// The segment being read, and the record that is next in it.
    read: Option<(SegmentId, Read, u64, Frame, u64)>,
    from: u64,
    since: UnixMillis,
}

impl<'c> Cursor<'c> {
    /// Begins with the first record of the first segment.
    pub fn new(storage: &'c dyn Storage, folder: &'c Path, segments: VecDeque<(SegmentId, u64)>) -> Self {
        Self { storage, folder, segments, read: None, from: 0, since: UnixMillis(i64::MIN) }
    }

    /// Leaves out records that end at a position or before it, unless they are not older than `since`.
    pub fn from(mut self, from: u64, since: UnixMillis) -> Self {
        (self.from, self.since) = (from, since);
        self
    }

    /// Goes to the next record that is wanted; returns what its frame says.
    fn advance(&mut self) -> Result<Option<Frame>, OpenFault> {
        loop {
            let (id, read, begun) = match self.read.take() {
                Some((id, read, _, _, end)) => (id, read, end),
                None => {
                    let Some((id, records_end)) = self.segments.pop_front() else { return Ok(None) };
                    let path = id.path(self.folder);
                    let unread = || OpenFault::damaged(&path, 0, "its header is gone");
                    let mut read = Read::new(self.storage, self.folder, id)?.ok_or_else(unread)?;
                    read.bytes.truncate(usize::try_from(records_end).unwrap_or(usize::MAX));
                    (id, read, HEADER_BYTES as u64)
                }
            };
            let offset = usize::try_from(begun).unwrap_or(usize::MAX);
            let Some((frame, _, begun, end)) = frame::at(&read.bytes, offset, read.header.epoch) else {
                if offset < read.bytes.len() {
                    return Err(OpenFault::damaged(&id.path(self.folder), begun, "a sealed record is not whole"));
                }
                continue;
            };
            let (begun, end) = (begun as u64, end as u64);
            self.read = Some((id, read, begun, frame, end));
            if position(id.number, end) > self.from || frame.at >= self.since {
                return Ok(Some(frame));
            }
        }
    }

    fn visit<E>(&self, visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>) -> Result<(), E> {
        let Some((id, read, begun, frame, end)) = &self.read else { return Ok(()) };
        let first = usize::try_from(*begun).unwrap_or(usize::MAX);
        let payload = read.bytes.get(first..).map_or(&[][..], frame::payload);
        let position = position(id.number, *end);
        visit(&Recorded { writer: id.writer, position, frame: *frame, payload, place: (*id, *begun) })
    }
}

/// Visits the records of a sealed segment, until `visit` says that it wants no more.
///
/// # Errors
/// [`OpenFault`] where it cannot be read or is damaged, or what `visit` fails with.
pub fn visit_sealed<E: From<OpenFault>>(
    storage: &dyn Storage,
    folder: &Path,
    (id, seal): (SegmentId, Seal),
    visit: &mut dyn FnMut(&Recorded<'_>) -> Result<bool, E>,
) -> Result<(), E> {
    let mut cursor = Cursor::new(storage, folder, VecDeque::from([(id, seal.end)]));
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
