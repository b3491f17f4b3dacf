//! Keeping: segments are made ahead of the writers, sealed behind them, and removed when nobody needs them any more.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ring::digest::{Context, SHA256};

use super::segment::{HEADER_BYTES, Header, Seal, SegmentId, frames_end, position};
use super::writer::{Progress, Segment, WriterState, is_full};
use crate::storage::{File, Storage};
use crate::time::UnixMillis;

/// Keeps the files of a journal. One for all writers; not on their way.
#[derive(Debug)]
pub struct Keeper {
    progress: Arc<Progress>,
    storage: Arc<dyn Storage>,
    folder: PathBuf,
    fingerprint: [u8; 16],
    epoch: u64,
    /// By writer, the number of the segment to be made next, and the hash of the last seal.
    chains: Vec<Chain>,
    /// Sealed segments, oldest first by writer.
    sealed: Sealed,
}

/// Sealed segments, for those who fold them. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Sealed(Arc<Mutex<Vec<(SegmentId, Seal)>>>);

impl Sealed {
    /// Returns those that are there now, oldest first by writer.
    pub fn list(&self) -> Vec<(SegmentId, Seal)> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, Vec<(SegmentId, Seal)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Chain {
    pub next_number: u64,
    pub hash: [u8; 32],
}

/// How much of the journal is kept beyond what is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Records younger than this are kept, in seconds.
    pub seconds: u32,
    /// Beyond so many bytes in all, older records go all the same.
    pub bytes: u64,
}

/// How the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Every writer has its next segment.
    Ready,
    /// There is no room for one.
    Full,
}

impl Keeper {
    pub(super) fn new(
        progress: Arc<Progress>,
        (storage, folder): (Arc<dyn Storage>, PathBuf),
        (fingerprint, epoch): ([u8; 16], u64),
        chains: Vec<Chain>,
        sealed: Vec<(SegmentId, Seal)>,
    ) -> Self {
        let sealed = Sealed(Arc::new(Mutex::new(sealed)));
        Self { progress, storage, folder, fingerprint, epoch, chains, sealed }
    }

    /// Makes the next segment of each writer that has none.
    ///
    /// # Errors
    /// What the system says, where it is not that the disk is full. Nothing is lost by that: the next call tries again.
    pub fn prepare(&mut self) -> io::Result<Room> {
        for number in 0..self.progress.writers.len() {
            let progress = Arc::clone(&self.progress);
            let Some(writer) = progress.writers.get(number) else { break };
            if writer.files().next.is_some() {
                continue;
            }
            match self.make(u16::try_from(number).unwrap_or(u16::MAX)) {
                Ok(segment) => writer.files().next = Some(segment),
                Err(error) if is_full(&error) => return Ok(Room::Full),
                Err(error) => return Err(error),
            }
        }
        Ok(Room::Ready)
    }

    /// Makes a segment, safe from a loss of power: its name, its room and its header.
    pub(super) fn make(&mut self, writer: u16) -> io::Result<Segment> {
        let chain = self.chains.get_mut(usize::from(writer)).ok_or(io::ErrorKind::NotFound)?;
        let id = SegmentId { writer, number: chain.next_number };
        let path = id.path(&self.folder);
        let bytes = self.progress.segment_bytes;
        let header = Header { fingerprint: self.fingerprint, epoch: self.epoch, id, bytes };
        let file = self.storage.create(&path, bytes)?;
        let made = file.write_at(&header.to_bytes(), 0).and_then(|()| file.sync_data());
        if let Err(error) = made.and_then(|()| self.storage.sync_folder(&self.folder)) {
            // Nothing is in it yet; where it stays, the next start removes it.
            drop(file);
            let _ = self.storage.remove(&path);
            return Err(error);
        }
        chain.next_number = chain.next_number.saturating_add(1);
        let now = UnixMillis(0);
        let sequences = (0, 0);
        Ok(Segment { id, file, epoch: self.epoch, end: None, times: (now, now), sequences, fen: 0 })
    }

    /// Seals the segments that are full and safe; returns how many.
    ///
    /// # Errors
    /// What the system says: the segments stay as they are, and the next call tries again.
    pub fn seal(&mut self) -> io::Result<usize> {
        let mut sealed = 0;
        for number in 0..self.progress.writers.len() {
            while let Some(segment) = self.first_full(number) {
                let Some(chain) = self.chains.get_mut(number) else { break };
                let end = segment.end.unwrap_or(HEADER_BYTES as u64);
                let hash = hash(&*segment.file, chain.hash, end)?;
                let Segment { sequences: (first_sequence, last_sequence), times, fen, .. } = segment;
                let seal = Seal { end, first_sequence, last_sequence, times, fen, before: chain.hash, hash };
                write(&*segment.file, &seal, self.progress.segment_bytes).inspect_err(|_| {
                    // A sync that failed is never tried again.
                    self.progress.fail();
                })?;
                chain.hash = hash;
                self.sealed.all().push((segment.id, seal));
                if let Some(writer) = self.progress.writers.get(number) {
                    drop(writer.files().full.remove(0));
                }
                sealed += 1;
            }
        }
        Ok(sealed)
    }

    fn first_full(&self, writer: usize) -> Option<Segment> {
        self.progress.writers.get(writer).map(WriterState::files)?.full.first().cloned()
    }

    /// Removes sealed segments: those whose records are all older than `keep` says, or that are the oldest beyond its bytes;
    /// never one that holds a record at or after `needed_from`, nor one that `is_needed` (by writer and end of position).
    /// Returns how many.
    ///
    /// # Errors
    /// What the system says; what was not removed is tried again by the next call.
    pub fn retire(
        &mut self,
        keep: Keep,
        now: UnixMillis,
        needed_from: UnixMillis,
        is_needed: &dyn Fn(u16, u64) -> bool,
    ) -> io::Result<usize> {
        let segment_bytes = self.progress.segment_bytes;
        let oldest_kept = UnixMillis(now.0.saturating_sub(i64::from(keep.seconds).saturating_mul(1000)));
        let mut order = self.sealed.list();
        let mut held = u64::try_from(order.len()).unwrap_or(u64::MAX).saturating_mul(segment_bytes);
        // A clock that was put back does not change the order of a writer's segments.
        let mut latest = BTreeMap::new();
        order.sort_by_key(|(id, _)| *id);
        for (id, seal) in &mut order {
            let latest = latest.entry(id.writer).or_insert((id.number, seal.times.1));
            *latest = (id.number, latest.1.max(seal.times.1));
            seal.times.1 = latest.1;
        }
        order.sort_by_key(|(_, seal)| seal.times.1);
        let mut blocked = Vec::new();
        let mut removed = 0_usize;
        for (id, seal) in order {
            // The last of a writer says where its numbers, sequences and seals go on.
            if latest.get(&id.writer).is_some_and(|(last, _)| *last == id.number) {
                continue;
            }
            let end = position(id.number, seal.end);
            let expendable = seal.times.1 < oldest_kept || held > keep.bytes;
            // A writer's segments go in their order, so that what is left has no hole.
            let free = expendable && seal.times.1 < needed_from && !is_needed(id.writer, end);
            if !free || blocked.contains(&id.writer) {
                blocked.push(id.writer);
                continue;
            }
            match self.storage.remove(&id.path(&self.folder)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            // One by one: a loss of power that brings back one of several would leave a hole.
            self.storage.sync_folder(&self.folder)?;
            self.sealed.all().retain(|(sealed, _)| *sealed != id);
            held = held.saturating_sub(segment_bytes);
            removed = removed.saturating_add(1);
        }
        Ok(removed)
    }

    /// Returns the sealed segments.
    pub const fn sealed(&self) -> &Sealed {
        &self.sealed
    }
}

/// Writes a seal and makes it safe.
pub(super) fn write(file: &dyn File, seal: &Seal, segment_bytes: u64) -> io::Result<()> {
    file.write_at(&seal.to_bytes(), frames_end(segment_bytes))?;
    file.sync_data()
}

/// Hashes a segment up to where its frames end, behind the hash of the seal before.
pub(super) fn hash(file: &dyn File, before: [u8; 32], end: u64) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    context.update(&before);
    let mut bytes = vec![0; HASHED_BYTES];
    let mut offset = 0;
    while offset < end {
        let wanted = usize::try_from(end - offset).unwrap_or(HASHED_BYTES).min(HASHED_BYTES);
        let part = bytes.get_mut(..wanted).unwrap_or_default();
        if file.read_at(part, offset)? < wanted {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        context.update(part);
        offset = offset.saturating_add(u64::try_from(wanted).unwrap_or(u64::MAX));
    }
    let mut hash = [0; 32];
    hash.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
    Ok(hash)
}

/// How much is hashed at a time.
const HASHED_BYTES: usize = 1 << 18;
