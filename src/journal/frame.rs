//! The frame around a record in a file.
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..4 | length of the payload, `u32` |
//! | 4..8 | CRC-32C (RFC 3720, 12.1) of the segment's epoch and of all bytes of the frame but these four |
//! | 8..16 | sequence: 1 for the first record of a writer, one more for each; `u64` |
//! | 16..24 | stamp: rises with every write of any writer of the gate; `u64` |
//! | 24..32 | position up to which this writer's file was known to be synced when this was written; `u64` |
//! | 32..40 | time of the record, in milliseconds since 1970; `i64` |
//! | 40.. | payload, and zeros up to a multiple of 8 |
//!
//! All little-endian. What is written at once begins at a multiple of 512 bytes, so that no sector that is safe is written
//! again; zeros fill what is left of the sector before. A length of zero at a multiple of 512 ends the records of a segment.

use crate::time::UnixMillis;

/// What is said of a record beside its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which record of its writer it is.
    pub sequence: u64,
    /// Which write of the gate it came with.
    pub stamp: u64,
    /// Up to where the file was known to be safe.
    pub durable: u64,
    /// When it was recorded.
    pub at: UnixMillis,
}

/// Appends a frame whose stamp, mark of what is safe, and check are not known yet.
pub(super) fn append(buffer: &mut Vec<u8>, sequence: u64, at: UnixMillis, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    buffer.extend_from_slice(&length.to_le_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&sequence.to_le_bytes());
    buffer.extend_from_slice(&[0; 16]);
    buffer.extend_from_slice(&at.0.to_le_bytes());
    buffer.extend_from_slice(payload);
    let whole = buffer.len().next_multiple_of(ALIGN);
    buffer.resize(whole, 0);
}

/// Completes the frames of a buffer.
pub(super) fn seal(mut buffer: &mut [u8], epoch: u64, stamp: u64, durable: u64) {
    while let Some((length, _)) = buffer.split_first_chunk::<4>() {
        let bytes = frame_bytes(u32::from_le_bytes(*length) as usize);
        let Some((frame, rest)) = buffer.split_at_mut_checked(bytes) else { return };
        let marks = frame.get_mut(STAMP_AT..STAMP_AT + 16);
        let bytes = stamp.to_le_bytes().into_iter().chain(durable.to_le_bytes());
        marks.into_iter().flatten().zip(bytes).for_each(|(to, from)| *to = from);
        let check = check(epoch, frame).to_le_bytes();
        frame.get_mut(4..8).into_iter().flatten().zip(check).for_each(|(to, from)| *to = from);
        buffer = rest;
    }
}

/// Reads the frame at the start of some bytes: it, its payload, and its length. `None` where there is none, or one that
/// is not whole.
pub(super) fn read(bytes: &[u8], epoch: u64) -> Option<(Frame, &[u8], usize)> {
    let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
    let length = u32::from_le_bytes(*bytes.first_chunk()?) as usize;
    if length == 0 || length > PAYLOAD_BYTES_MAX {
        return None;
    }
    let whole = frame_bytes(length);
    let frame = bytes.get(..whole)?;
    let expected = u32::from_le_bytes(*frame.get(4..)?.first_chunk()?);
    if check(epoch, frame) != expected {
        return None;
    }
    let payload = frame.get(FRAME_BYTES..FRAME_BYTES + length)?;
    let (sequence, stamp, durable) = (word(8)?, word(STAMP_AT)?, word(24)?);
    Some((Frame { sequence, stamp, durable, at: UnixMillis(word(32)?.cast_signed()) }, payload, whole))
}

/// Finds the frame at an offset, or at the next multiple of a sector where zeros fill the rest of this one: it, and where it
/// begins and ends.
pub(super) fn at(bytes: &[u8], offset: usize, epoch: u64) -> Option<(Frame, &[u8], usize, usize)> {
    let padded = !offset.is_multiple_of(SECTOR_BYTES) && bytes.get(offset..)?.first_chunk() == Some(&[0; 4]);
    let begun = if padded { offset.next_multiple_of(SECTOR_BYTES) } else { offset };
    let (frame, payload, whole) = read(bytes.get(begun..)?, epoch)?;
    Some((frame, payload, begun, begun.checked_add(whole)?))
}

/// Returns the payload of the frame at the start of some bytes, which was read before.
pub(super) fn payload(bytes: &[u8]) -> &[u8] {
    let length = bytes.first_chunk().map_or(0, |length| u32::from_le_bytes(*length) as usize);
    bytes.get(FRAME_BYTES..).and_then(|rest| rest.get(..length)).unwrap_or(&[])
}

/// Returns how many bytes the frame of a payload takes.
pub(super) const fn frame_bytes(payload: usize) -> usize {
    (FRAME_BYTES + payload).next_multiple_of(ALIGN)
}

fn check(epoch: u64, frame: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&epoch.to_le_bytes());
    let (length, rest) = frame.split_at_checked(4).unwrap_or((frame, &[]));
    crc32c::crc32c_append(crc32c::crc32c_append(crc, length), rest.get(4..).unwrap_or(&[]))
}

/// Bytes of a frame before its payload.
pub(super) const FRAME_BYTES: usize = 40;

/// What a disk writes whole or not at all; what is written at once begins at a multiple of it.
pub(super) const SECTOR_BYTES: usize = 512;

/// Frames begin at multiples of this.
pub(super) const ALIGN: usize = 8;

const STAMP_AT: usize = 16;
const _: () = assert!(FRAME_BYTES == 4 + 4 + 4 * 8 && FRAME_BYTES.is_multiple_of(ALIGN), "as the table says");

/// Most bytes of a payload.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_read_as_written_one_after_the_other(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 1..5), epoch: u64, stamp: u64,
        ) {
            let mut buffer = Vec::new();
            for (payload, sequence) in payloads.iter().zip(7..) {
                append(&mut buffer, sequence, UnixMillis(-5), payload);
            }
            seal(&mut buffer, epoch, stamp, 99);
            let mut rest = buffer.as_slice();
            for (payload, sequence) in payloads.iter().zip(7..) {
                let (frame, read, bytes) = read(rest, epoch).expect("a frame");
                prop_assert_eq!(frame, Frame { sequence, stamp, durable: 99, at: UnixMillis(-5) });
                prop_assert_eq!(read, payload.as_slice());
                rest = &rest[bytes..];
            }
            prop_assert!(rest.is_empty() && super::read(rest, epoch).is_none());
        }

        #[test]
        fn a_flipped_bit_a_lost_end_and_another_epoch_are_noticed(
            payload in prop::collection::vec(any::<u8>(), 1..100), epoch: u64, bit: prop::sample::Index,
        ) {
            let mut buffer = Vec::new();
            append(&mut buffer, 1, UnixMillis(1), &payload);
            seal(&mut buffer, epoch, 2, 3);
            prop_assert!(read(&buffer, epoch ^ 1).is_none());
            prop_assert!(read(&buffer[..buffer.len() - 1], epoch).is_none());
            let bit = bit.index(buffer.len() * 8);
            buffer[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(read(&buffer, epoch).is_none());
        }
    }
}
