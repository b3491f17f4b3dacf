//! A segment: one file of fixed size, with a header, frames, and a seal once it is full.
//!
//! The name is the writer in 3 digits, `-`, the number of the segment in 10 digits, `.journal`. All integers are
//! little-endian.
//!
//! | bytes | header |
//! | --- | --- |
//! | 0..8 | `TOLLGATE` |
//! | 8..12 | version of the format, 2 |
//! | 12..16 | CRC-32C of the other bytes up to 64 |
//! | 16..32 | fingerprint of the deployment key |
//! | 32..40 | epoch: chosen anew whenever a gate starts, so that frames of another life do not check |
//! | 40..48 | number of the segment, from 1 |
//! | 48..56 | bytes of the segment |
//! | 56..58 | writer |
//! | 58..4096 | zeros |
//!
//! | last 512 bytes | seal |
//! | --- | --- |
//! | 0..8 | `SEALED` and two zeros |
//! | 8..12 | zeros |
//! | 12..16 | CRC-32C of the other bytes up to 128 |
//! | 16..24 | where the frames end |
//! | 24..32, 32..40 | first and last sequence, 0 where there is no frame |
//! | 40..48, 48..56 | first and last time of a record, in milliseconds |
//! | 56..88 | hash of the seal before it, zeros where there is none |
//! | 88..120 | SHA-256 of the hash before and of the bytes up to where the frames end |
//! | 120..128 | what the records charge, in fen |
//! | 128..512 | zeros |

use std::io;
use std::path::{Path, PathBuf};

use crate::storage::File;
use crate::time::UnixMillis;

/// Names a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId {
    /// The writer.
    pub writer: u16,
    /// Its number among the writer's, from 1.
    pub number: u64,
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub fingerprint: [u8; 16],
    pub epoch: u64,
    pub id: SegmentId,
    pub bytes: u64,
}

/// What a seal says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Where the frames end.
    pub end: u64,
    /// The first sequence; 0 where there is no frame.
    pub first_sequence: u64,
    /// The last sequence; 0 where there is no frame.
    pub last_sequence: u64,
    /// The times of the first and the last record.
    pub times: (UnixMillis, UnixMillis),
    /// What would not be counted were the records lost, in fen.
    pub fen: u64,
    /// The hash of the seal before.
    pub before: [u8; 32],
    /// The hash of this one.
    pub hash: [u8; 32],
}

impl SegmentId {
    /// Returns the path of the segment in a folder.
    pub fn path(self, folder: &Path) -> PathBuf {
        folder.join(format!("{:03}-{:010}{ENDING}", self.writer, self.number))
    }

    /// Reads the name of a file; `None` where it is not that of a segment.
    pub fn named(name: &str) -> Option<Self> {
        let (writer, number) = name.strip_suffix(ENDING)?.split_once('-')?;
        let id = Self { writer: writer.parse().ok()?, number: number.parse().ok()? };
        (id.path(Path::new("")) == Path::new(name)).then_some(id)
    }
}

impl Header {
    pub fn to_bytes(self) -> Vec<u8> {
        let Self { fingerprint, epoch, id, bytes } = self;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(MAGIC);
        header.extend_from_slice(&VERSION.to_le_bytes());
        header.extend_from_slice(&[0; 4]);
        header.extend_from_slice(&fingerprint);
        header.extend_from_slice(&epoch.to_le_bytes());
        header.extend_from_slice(&id.number.to_le_bytes());
        header.extend_from_slice(&bytes.to_le_bytes());
        header.extend_from_slice(&id.writer.to_le_bytes());
        header.resize(HEADER_BYTES, 0);
        checked(&mut header, 64);
        header
    }

    /// Reads a header; `Ok(None)` where the bytes are none.
    ///
    /// # Errors
    /// The version, where it is not this one.
    pub fn read(bytes: &[u8]) -> Result<Option<Self>, u32> {
        let mut header = bytes.get(..HEADER_BYTES).unwrap_or_default().to_vec();
        if header.get(..8) != Some(MAGIC) || !is_checked(&mut header, 64) {
            return Ok(None);
        }
        let word = |at: usize| header.get(at..).and_then(|rest| rest.first_chunk()).copied().map(u64::from_le_bytes);
        let version = header.get(8..).and_then(|rest| rest.first_chunk()).copied().map_or(0, u32::from_le_bytes);
        if version != VERSION {
            return Err(version);
        }
        let read = || {
            let writer = u16::from_le_bytes(*header.get(56..)?.first_chunk()?);
            let fingerprint = *header.get(16..)?.first_chunk()?;
            let id = SegmentId { writer, number: word(40)? };
            Some(Self { fingerprint, epoch: word(32)?, id, bytes: word(48)? })
        };
        Ok(read())
    }
}

impl Seal {
    /// Returns how many records the segment has.
    pub const fn records(&self) -> u64 {
        if self.last_sequence == 0 {
            0
        } else {
            self.last_sequence.saturating_add(1).saturating_sub(self.first_sequence)
        }
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Self { end, first_sequence, last_sequence, times: (first, last), fen, before, hash } = self;
        let mut seal = Vec::with_capacity(SEAL_BYTES);
        seal.extend_from_slice(SEALED);
        seal.extend_from_slice(&[0; 8]);
        seal.extend_from_slice(&end.to_le_bytes());
        seal.extend_from_slice(&first_sequence.to_le_bytes());
        seal.extend_from_slice(&last_sequence.to_le_bytes());
        seal.extend_from_slice(&first.0.to_le_bytes());
        seal.extend_from_slice(&last.0.to_le_bytes());
        seal.extend_from_slice(&before);
        seal.extend_from_slice(&hash);
        seal.extend_from_slice(&fen.to_le_bytes());
        seal.resize(SEAL_BYTES, 0);
        checked(&mut seal, 128);
        seal
    }

    /// Reads a seal; `None` where the bytes are none.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut seal = bytes.get(..SEAL_BYTES)?.to_vec();
        if seal.get(..8) != Some(SEALED) || !is_checked(&mut seal, 128) {
            return None;
        }
        let word = |at: usize| Some(u64::from_le_bytes(*seal.get(at..)?.first_chunk()?));
        let time = |at: usize| Some(UnixMillis(word(at)?.cast_signed()));
        let hash = |at: usize| seal.get(at..)?.first_chunk().copied();
        let times = (time(40)?, time(48)?);
        let (first_sequence, last_sequence) = (word(24)?, word(32)?);
        let (before, this) = (hash(56)?, hash(88)?);
        Some(Self { end: word(16)?, first_sequence, last_sequence, times, fen: word(120)?, before, hash: this })
    }

    /// Reads the seal of a segment of so many bytes.
    pub(super) fn of(file: &dyn File, segment_bytes: u64) -> io::Result<Option<Self>> {
        let mut bytes = [0; SEAL_BYTES];
        file.read_at(&mut bytes, segment_bytes.saturating_sub(SEAL_BYTES as u64))?;
        Ok(Self::read(&bytes).filter(|seal| seal.end <= frames_end(segment_bytes)))
    }
}

/// Returns the position of an offset in a segment: 32 bits each, so that positions rise whatever the size of segments.
pub const fn position(number: u64, offset: u64) -> u64 {
    number.saturating_mul(1 << 32).saturating_add(offset)
}

/// Returns where the room for frames in a segment ends.
pub(super) const fn frames_end(segment_bytes: u64) -> u64 {
    segment_bytes.saturating_sub(SEAL_BYTES as u64)
}

fn checked(bytes: &mut [u8], length: usize) {
    let check = crc_of(bytes, length).to_le_bytes();
    bytes.get_mut(12..16).into_iter().flatten().zip(check).for_each(|(to, from)| *to = from);
}

/// Tells whether the check is right; leaves it zero.
fn is_checked(bytes: &mut [u8], length: usize) -> bool {
    let Some(place) = bytes.get_mut(12..16).and_then(|place| place.first_chunk_mut::<4>()) else { return false };
    let check = u32::from_le_bytes(std::mem::take(place));
    crc_of(bytes, length) == check
}

fn crc_of(bytes: &[u8], length: usize) -> u32 {
    crc32c::crc32c(bytes.get(..length).unwrap_or(bytes))
}

const MAGIC: &[u8] = b"TOLLGATE";
const SEALED: &[u8] = b"SEALED\0\0";
const VERSION: u32 = 2;
const ENDING: &str = ".journal";

/// Bytes of a header that its check covers; the others are zeros.
pub(super) const HEADER_SAID_BYTES: u64 = 64;

/// Bytes of a header.
pub(super) const HEADER_BYTES: usize = 4096;

/// Bytes of a seal.
pub(super) const SEAL_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SegmentId = SegmentId { writer: 3, number: 12 };

    #[test]
    fn a_name_reads_as_its_segment_and_nothing_else_does() {
        assert_eq!(ID.path(Path::new("a")), Path::new("a/003-0000000012.journal"));
        assert_eq!(SegmentId::named("003-0000000012.journal"), Some(ID));
        for name in
            ["lock", "3-12.journal", "003-0000000012", "003-0000000012.journal.old", "-.journal", "1000-x.journal"]
        {
            assert_eq!(SegmentId::named(name), None, "{name}");
        }
    }

    #[test]
    fn a_header_and_a_seal_read_as_written_or_not_at_all() {
        let header = Header { fingerprint: [7; 16], epoch: 9, id: ID, bytes: 1 << 20 };
        let mut bytes = header.to_bytes();
        assert_eq!((bytes.len(), Header::read(&bytes)), (HEADER_BYTES, Ok(Some(header))));
        bytes[40] ^= 1;
        assert_eq!(Header::read(&bytes), Ok(None));
        let seal = Seal {
            end: 5000,
            first_sequence: 3,
            last_sequence: 8,
            times: (UnixMillis(-1), UnixMillis(2)),
            fen: 1 << 40,
            before: [1; 32],
            hash: [2; 32],
        };
        let mut bytes = seal.to_bytes();
        assert_eq!((bytes.len(), Seal::read(&bytes)), (SEAL_BYTES, Some(seal)));
        for at in [119, 127] {
            bytes[at] ^= 1;
            assert_eq!(Seal::read(&bytes), None, "byte {at}");
            bytes[at] ^= 1;
        }
    }

    #[test]
    fn a_later_version_is_told_from_no_header() {
        let mut bytes = Header { fingerprint: [7; 16], epoch: 9, id: ID, bytes: 1 << 20 }.to_bytes();
        bytes[8] = 3;
        bytes[12..16].fill(0);
        checked(&mut bytes, 64);
        assert_eq!(Header::read(&bytes), Err(3));
    }
}
