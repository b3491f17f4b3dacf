//! Reading a segment whose end is known, a block at a time.

use std::path::Path;
use std::sync::Arc;

use super::frame::{self, FRAME_BYTES, Frame, PAYLOAD_BYTES_MAX, SECTOR_BYTES};
use super::scan::{OpenFault, Read};
use super::segment::SegmentId;
use crate::storage::{File, Storage};

/// Reads the frames of a segment one after the other.
#[derive(Debug)]
pub(super) struct Blocks {
    file: Arc<dyn File>,
    epoch: u64,
    /// Where the frames end.
    end: u64,
    /// Where in the file the bytes begin: at a multiple of a sector.
    base: u64,
    /// Of these so many are read.
    bytes: Vec<u8>,
    filled: usize,
}

impl Blocks {
    /// Opens a segment whose frames end at `end`.
    ///
    /// # Errors
    /// [`OpenFault`].
    pub fn open(storage: &dyn Storage, folder: &Path, id: SegmentId, end: u64) -> Result<Self, OpenFault> {
        let path = id.path(folder);
        let (header, _) =
            Read::ends(storage, folder, id)?.ok_or_else(|| OpenFault::damaged(&path, 0, "its header is gone"))?;
        let file = storage.open(&path, false).map_err(OpenFault::io(&path))?;
        if header.id != id || header.bytes != file.bytes().map_err(OpenFault::io(&path))? {
            return Err(OpenFault::damaged(&path, 0, "the header is that of another file"));
        }
        Ok(Self { file, epoch: header.epoch, end, base: 0, bytes: Vec::new(), filled: 0 })
    }

    /// Finds the frame at an offset, or at the next multiple of a sector: it, and where it begins and ends. `None` where
    /// none is there, or one that is not whole. Offsets must not fall.
    ///
    /// # Errors
    /// What the system says.
    pub fn at(&mut self, offset: u64) -> std::io::Result<Option<(Frame, u64, u64)>> {
        loop {
            let inside = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
            if let Some((frame, _, begun, end)) = frame::at(self.read(), inside, self.epoch) {
                return Ok(Some((frame, self.base.saturating_add(begun as u64), self.base.saturating_add(end as u64))));
            }
            let read_to = self.base.saturating_add(self.filled as u64);
            if read_to >= self.end || read_to.saturating_sub(offset) >= WHOLE_BYTES_MAX && read_to > offset {
                return Ok(None);
            }
            self.read_on(offset)?;
        }
    }

    /// Returns the payload of a frame that was found last.
    pub fn payload(&self, begun: u64) -> &[u8] {
        let inside = usize::try_from(begun.saturating_sub(self.base)).unwrap_or(usize::MAX);
        self.read().get(inside..).map_or(&[], frame::payload)
    }

    /// Tells where the frames end.
    pub const fn end(&self) -> u64 {
        self.end
    }

    fn read(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// Lets go of what is before an offset, and reads another block.
    fn read_on(&mut self, offset: u64) -> std::io::Result<()> {
        let base = offset - offset % SECTOR_BYTES as u64;
        let read_to = self.base.saturating_add(self.filled as u64).max(base);
        let past = usize::try_from(base.saturating_sub(self.base)).unwrap_or(usize::MAX).min(self.filled);
        self.bytes.copy_within(past..self.filled, 0);
        self.filled = self.filled.saturating_sub(past);
        self.base = base;
        let wanted = usize::try_from(self.end.saturating_sub(read_to).min(BLOCK_BYTES)).unwrap_or(0);
        let whole = self.filled.saturating_add(wanted);
        if self.bytes.len() < whole {
            self.bytes.resize(whole, 0);
        }
        let read = self.file.read_at(self.bytes.get_mut(self.filled..whole).unwrap_or_default(), read_to)?;
        self.filled = self.filled.saturating_add(read);
        if read == 0 {
            // The file is shorter than it says.
            self.end = read_to;
        }
        Ok(())
    }
}

/// How much is read at a time.
const BLOCK_BYTES: u64 = 1 << 18;

/// Most bytes from where a frame is looked for to where it ends.
const WHOLE_BYTES_MAX: u64 = (SECTOR_BYTES + FRAME_BYTES + PAYLOAD_BYTES_MAX + frame::ALIGN) as u64;
const _: () = assert!(BLOCK_BYTES > WHOLE_BYTES_MAX, "what is read holds a whole frame");
