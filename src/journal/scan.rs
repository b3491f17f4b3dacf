//! Reading what is there: where a writer's records end, and whether that is a torn tail or damage.
//!
//! A loss of power may keep any sectors that were not synced, so whole frames may stand behind one that is not. Each frame
//! says up to where its file was safe when it was written. Where a frame is not whole, at position `p`, and a later one
//! says that more than `p` was safe, what was safe is not there any more: that is damage. Else all from `p` on was never
//! acknowledged as safe, and is cut.

use std::io;
use std::path::Path;

use super::entry::EntryView;
use super::frame::{self, ALIGN, Frame};
use super::segment::{HEADER_BYTES, Header, Seal, SegmentId, frames_end};
use crate::storage::Storage;
use crate::time::UnixMillis;

/// A journal cannot be read, or must not be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum OpenFault {
    /// Another process has the folder.
    #[error("{folder}: another gate has this journal open; stop it, or choose another folder")]
    Locked {
        /// The folder.
        folder: String,
    },
    /// The file system refuses.
    #[error("{path}: {source}")]
    Io {
        /// What was to be read or written.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// The journal belongs to another deployment key.
    #[error(
        "{path}: the journal was made under another deployment key; give the gate that key, or another folder: under a \
         new key all limits would begin anew"
    )]
    Fingerprint {
        /// The file.
        path: String,
    },
    /// The journal was written by another version.
    #[error("{path}: written in version {version} of the format, which this program does not read")]
    Version {
        /// The file.
        path: String,
        /// The version.
        version: u32,
    },
    /// Records that were safe are not there any more.
    #[error(
        "{path}: damaged at byte {offset}: {found}; look at it with `tollgate journal verify`, restore the file from a copy, \
         or go on without what is behind that byte with `tollgate journal cut`"
    )]
    Damaged {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
        /// What was found.
        found: String,
    },
    /// A record reads as none that this version writes.
    #[error("{path}: the record at byte {offset} does not read as one that this version writes")]
    Unreadable {
        /// The file.
        path: String,
        /// Where.
        offset: u64,
    },
}

impl OpenFault {
    pub(super) fn io(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self::Io { path: path.display().to_string(), source }
    }

    pub(super) fn damaged(path: &Path, offset: u64, found: impl Into<String>) -> Self {
        Self::Damaged { path: path.display().to_string(), offset, found: found.into() }
    }
}

/// One segment, read.
#[derive(Debug)]
pub(super) struct Read {
    pub header: Header,
    pub seal: Option<Seal>,
    pub bytes: Vec<u8>,
}

/// Where the frames of a segment end, and what they say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    pub end: u64,
    /// The sequences of the first and the last frame; `None` where there is none.
    pub sequences: Option<(u64, u64)>,
    pub times: (UnixMillis, UnixMillis),
    /// What the records charge, in fen; those that do not read as records count nothing.
    pub fen: u64,
    pub last_stamp: u64,
}

impl Read {
    /// Reads a segment; `Ok(None)` where its header was never finished.
    pub fn new(storage: &dyn Storage, folder: &Path, id: SegmentId) -> Result<Option<Self>, OpenFault> {
        let path = id.path(folder);
        let io = OpenFault::io(&path);
        let file = storage.open(&path, false).map_err(&io)?;
        let mut head = vec![0; HEADER_BYTES];
        let read = file.read_at(&mut head, 0).map_err(&io)?;
        head.truncate(read);
        let header =
            Header::read(&head).map_err(|version| OpenFault::Version { path: path.display().to_string(), version })?;
        let Some(header) = header else { return Ok(None) };
        if header.id != id || header.bytes != file.bytes().map_err(&io)? {
            return Err(OpenFault::damaged(&path, 0, "the header is that of another file"));
        }
        let mut bytes = vec![0; usize::try_from(frames_end(header.bytes)).unwrap_or(0)];
        let read = file.read_at(&mut bytes, 0).map_err(&io)?;
        bytes.truncate(read);
        let seal = Seal::of(&*file, header.bytes).map_err(&io)?;
        Ok(Some(Self { header, seal, bytes }))
    }

    /// Reads the header and the seal alone.
    pub fn ends(
        storage: &dyn Storage,
        folder: &Path,
        id: SegmentId,
    ) -> Result<Option<(Header, Option<Seal>)>, OpenFault> {
        let path = id.path(folder);
        let io = OpenFault::io(&path);
        let file = storage.open(&path, false).map_err(&io)?;
        let mut head = vec![0; HEADER_BYTES];
        file.read_at(&mut head, 0).map_err(&io)?;
        let header =
            Header::read(&head).map_err(|version| OpenFault::Version { path: path.display().to_string(), version })?;
        let Some(header) = header else { return Ok(None) };
        Ok(Some((header, Seal::of(&*file, header.bytes).map_err(&io)?)))
    }

    /// Visits the frames from an offset on while they are whole and in sequence: each with where it begins and ends.
    pub fn frames(&self, from: u64) -> impl Iterator<Item = (Frame, &[u8], u64, u64)> {
        let mut offset = usize::try_from(from).unwrap_or(usize::MAX).max(HEADER_BYTES);
        let mut last: Option<u64> = None;
        std::iter::from_fn(move || {
            let (frame, payload, begun, end) = frame::at(&self.bytes, offset, self.header.epoch)?;
            if last.is_some_and(|last| frame.sequence != last.wrapping_add(1)) {
                return None;
            }
            last = Some(frame.sequence);
            offset = end;
            Some((frame, payload, begun as u64, end as u64))
        })
    }

    /// Finds where the frames end.
    pub fn extent(&self) -> Extent {
        let none = UnixMillis(0);
        let mut extent =
            Extent { end: HEADER_BYTES as u64, sequences: None, times: (none, none), fen: 0, last_stamp: 0 };
        for (frame, payload, _, end) in self.frames(0) {
            let (first, _) = extent.sequences.unwrap_or((frame.sequence, 0));
            let since = if extent.sequences.is_some() { extent.times.0 } else { frame.at };
            extent = Extent {
                end,
                sequences: Some((first, frame.sequence)),
                times: (since, frame.at),
                fen: extent.fen.saturating_add(EntryView::from_bytes(payload).map_or(0, |entry| entry.fen())),
                last_stamp: extent.last_stamp.max(frame.stamp),
            };
        }
        extent
    }

    /// Finds the most that any whole frame from an offset on says was safe, and where that frame is.
    pub fn safe_by_later(&self, from: u64) -> Option<(u64, u64)> {
        let mut most: Option<(u64, u64)> = None;
        for (frame, offset) in self.strewn(from) {
            if most.is_none_or(|(durable, _)| frame.durable > durable) {
                most = Some((frame.durable, offset));
            }
        }
        most
    }

    /// Visits the whole frames from an offset on wherever they stand, each with where it begins.
    pub fn strewn(&self, from: u64) -> impl Iterator<Item = (Frame, u64)> {
        let mut offset = usize::try_from(from).unwrap_or(usize::MAX).max(HEADER_BYTES).next_multiple_of(ALIGN);
        std::iter::from_fn(move || {
            while offset < self.bytes.len() {
                let begun = offset;
                match self.bytes.get(offset..).and_then(|rest| frame::read(rest, self.header.epoch)) {
                    Some((frame, _, whole)) => {
                        offset = offset.saturating_add(whole);
                        return Some((frame, begun as u64));
                    }
                    None => offset = offset.saturating_add(ALIGN),
                }
            }
            None
        })
    }
}
