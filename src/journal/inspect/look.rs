//! Reading one segment, to tell what is whole in it.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::{Segment, State};
use crate::journal::codec;
use crate::journal::entry::{Entry, Name};
use crate::journal::files::SEGMENT_BYTES_MAX;
use crate::journal::keeper;
use crate::journal::scan::{Extent, OpenFault, Read};
use crate::journal::segment::{HEADER_BYTES, HEADER_SAID_BYTES, Header, SEAL_BYTES, Seal, SegmentId, frames_end};
use crate::storage::{File, Storage};
use crate::time::UnixMillis;

/// What one segment shows by itself.
#[derive(Debug)]
pub(super) struct Look {
    pub id: SegmentId,
    pub head: Head,
    pub seal: Option<Seal>,
    /// Where a seal is or would be.
    pub seal_at: u64,
    /// Whether something stands there that is no seal.
    pub seal_torn: bool,
    pub hash_holds: bool,
    /// How far frames follow each other.
    pub extent: Extent,
    /// The most that any whole frame says was safe.
    pub claim: Option<u64>,
    /// The most that one behind the end says was safe.
    pub behind: Option<u64>,
    /// The first byte before the end that is not zero and must be.
    pub stain: Option<u64>,
    /// The first byte behind the end that is not zero.
    pub dirt: Option<u64>,
    pub labels: Vec<(u32, Name)>,
    /// By frame, where it ends and its time.
    frames: Vec<(u64, UnixMillis)>,
}

/// What the header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Head {
    Whole(Header),
    /// Nothing is written yet.
    Blank,
    /// It is not whole; whether something stands behind it.
    Broken {
        records: bool,
    },
    /// It is whole, and that of another file.
    Foreign,
}

impl Head {
    pub fn fault(self) -> Option<&'static str> {
        match self {
            Self::Whole(_) | Self::Blank => None,
            Self::Broken { .. } => Some("the header is not whole, and something follows it"),
            Self::Foreign => Some("the header is that of another file"),
        }
    }
}

impl Look {
    /// Looks at a segment; `None` where it is not there any more.
    pub fn at(storage: &dyn Storage, folder: &Path, id: SegmentId) -> Result<Option<Self>, OpenFault> {
        let path = id.path(folder);
        let io = OpenFault::io(&path);
        let file = match storage.open(&path, false) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io(error)),
        };
        let bytes = file.bytes().map_err(&io)?;
        let version = |version| OpenFault::Version { path: path.display().to_string(), version };
        let first = Reading::of(&file, bytes).map_err(&io)?;
        let mut look = first.look(id, &*file, bytes).map_err(&io)?.map_err(version)?;
        if look.seal.is_none() && (look.dirt.is_some() || look.seal_torn || matches!(look.head, Head::Broken { .. })) {
            // What stood behind the end at first must be preceded by whole records now, or never will be.
            let second = Reading::of(&file, bytes).map_err(&io)?;
            look = second.look(id, &*file, bytes).map_err(&io)?.map_err(version)?;
            if let (None, Head::Whole(header)) = (look.seal, look.head) {
                let first = Read { header, seal: None, bytes: first.bytes };
                look.behind = first.safe_by_later(look.extent.end).map(|(durable, _)| durable);
                look.dirt = stained(&first.bytes, look.extent.end, u64::MAX);
            }
        }
        Ok(Some(look))
    }

    /// The sequence of the first record; `None` where there is none.
    pub fn first_sequence(&self) -> Option<u64> {
        self.extent.sequences.map(|(first, _)| first)
    }

    /// Tells whether the first record follows one of this sequence; `None` where that cannot be told.
    pub fn follows(&self, sequence: Option<u64>) -> Option<bool> {
        Some(self.first_sequence()? == sequence?.saturating_add(1))
    }

    /// Returns what is valid of the segment in this state.
    pub fn valid(&self, state: State) -> Segment {
        let until = match state {
            State::Sealed | State::Open => u64::MAX,
            State::Torn { at } => at,
            // Where a seal does not fit, no record of the segment is proved.
            State::Damaged { at, .. } if self.seal.is_some() && at >= self.seal_at => 0,
            State::Damaged { at, .. } => at,
        };
        let mut valid = self.frames.iter().take_while(|(end, _)| *end <= until);
        let first = valid.next();
        let (mut records, mut last) = (u64::from(first.is_some()), first);
        for frame in valid {
            (records, last) = (records.saturating_add(1), Some(frame));
        }
        let times = first.zip(last).map(|((_, first), (_, last))| (*first, *last));
        let end = last.map_or(0, |(end, _)| *end).max((HEADER_BYTES as u64).min(until));
        let fingerprint = match self.head {
            Head::Whole(header) => Some(header.fingerprint),
            Head::Blank | Head::Broken { .. } | Head::Foreign => None,
        };
        Segment { id: self.id, fingerprint, records, times, end, state }
    }
}

/// The bytes of a segment, and its seal as it was before they were read.
struct Reading {
    seal: Vec<u8>,
    bytes: Vec<u8>,
}

impl Reading {
    fn of(file: &Arc<dyn File>, bytes: u64) -> io::Result<Self> {
        let bytes = bytes.min(SEGMENT_BYTES_MAX);
        let read = |length: u64, offset: u64| {
            let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
            let read = file.read_at(&mut bytes, offset)?;
            bytes.truncate(read);
            Ok::<_, io::Error>(bytes)
        };
        let seal = read(SEAL_BYTES as u64, frames_end(bytes))?;
        Ok(Self { seal, bytes: read(frames_end(bytes), 0)? })
    }

    fn look(&self, id: SegmentId, file: &dyn File, file_bytes: u64) -> io::Result<Result<Look, u32>> {
        let head = match self.head(id, file_bytes) {
            Ok(head) => head,
            Err(version) => return Ok(Err(version)),
        };
        let seal_at = frames_end(file_bytes);
        let none = UnixMillis(0);
        let mut look = Look {
            id,
            head,
            seal: None,
            seal_at,
            seal_torn: false,
            hash_holds: false,
            extent: Extent { end: HEADER_BYTES as u64, sequences: None, times: (none, none), fen: 0, last_stamp: 0 },
            claim: None,
            behind: None,
            stain: None,
            dirt: None,
            labels: Vec::new(),
            frames: Vec::new(),
        };
        let Head::Whole(header) = head else { return Ok(Ok(look)) };
        look.seal = Seal::read(&self.seal).filter(|seal| seal.end <= seal_at);
        look.seal_torn = look.seal.is_none() && self.seal.iter().any(|byte| *byte != 0);
        let records_end = look.seal.map_or(u64::MAX, |seal| seal.end);
        let bytes = self.bytes.get(..usize::try_from(records_end).unwrap_or(usize::MAX)).unwrap_or(&self.bytes);
        let read = Read { header, seal: look.seal, bytes: bytes.to_vec() };
        look.extent = read.extent();
        look.stain = stained(bytes, HEADER_SAID_BYTES, HEADER_BYTES as u64);
        let mut last = HEADER_BYTES as u64;
        for (frame, payload, begun, end) in read.frames(0) {
            look.stain = look.stain.or_else(|| stained(bytes, last, begun));
            if codec::is_label(payload)
                && let Ok(Entry::Label { label, name }) = Entry::from_bytes(payload)
            {
                look.labels.push((label, name.into()));
            }
            look.frames.push((end, frame.at));
            look.claim = look.claim.max(Some(frame.durable));
            last = end;
        }
        match look.seal {
            Some(seal) => look.hash_holds = keeper::hash(file, seal.before, seal.end)? == seal.hash,
            None => {
                look.dirt = stained(bytes, last, u64::MAX);
                if look.dirt.is_some() {
                    look.behind = read.safe_by_later(last).map(|(durable, _)| durable);
                    look.claim = look.claim.max(look.behind);
                }
            }
        }
        Ok(Ok(look))
    }

    fn head(&self, id: SegmentId, file_bytes: u64) -> Result<Head, u32> {
        Ok(match Header::read(&self.bytes)? {
            Some(header) if header.id == id && header.bytes == file_bytes => Head::Whole(header),
            Some(_) => Head::Foreign,
            None if stained(&self.bytes, 0, u64::MAX).is_none() && self.seal.iter().all(|byte| *byte == 0) => {
                Head::Blank
            }
            None => Head::Broken { records: stained(&self.bytes, HEADER_BYTES as u64, u64::MAX).is_some() },
        })
    }
}

/// Finds the first byte between two offsets that is not zero.
fn stained(bytes: &[u8], from: u64, until: u64) -> Option<u64> {
    let [from, until] = [from, until].map(|offset| usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len()));
    let mut offset = from;
    for chunk in bytes.get(from..until).unwrap_or_default().chunks(ZEROS.len()) {
        // PERF: one comparison of memory, since most of a segment may be zeros.
        if ZEROS.get(..chunk.len()) != Some(chunk) {
            let inside = chunk.iter().position(|byte| *byte != 0).unwrap_or(0);
            return Some(offset.saturating_add(inside) as u64);
        }
        offset = offset.saturating_add(chunk.len());
    }
    None
}

static ZEROS: [u8; 4096] = [0; 4096];
