//! The files of a gate's journal: found when it starts, replayed, and gone on with.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use super::cursor::{self, Cursor};
use super::frame::Frame;
use super::keeper::{self, Chain, Keeper};
use super::scan::{Extent, OpenFault, Read};
use super::segment::{HEADER_BYTES, Header, Seal, SegmentId, position};
use super::syncer::Syncer;
use super::writer::{Progress, Writer};
use crate::storage::{Lock, Storage};
use crate::time::UnixMillis;

/// What a journal is made of.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where its files are.
    pub folder: PathBuf,
    /// Bytes of a segment, from [`SEGMENT_BYTES_MIN`] to [`SEGMENT_BYTES_MAX`].
    pub segment_bytes: u64,
    /// Tells the deployment's key from others.
    pub fingerprint: [u8; 16],
    /// A number that no earlier start has used: random.
    pub epoch: u64,
}

/// A journal as it was found, its torn tails cut.
#[derive(Debug)]
pub struct Found {
    storage: Arc<dyn Storage>,
    options: Options,
    lock: Box<dyn Lock>,
    writers: BTreeMap<u16, Past>,
}

/// What was found of one writer.
#[derive(Debug, Default)]
struct Past {
    segments: Vec<(SegmentId, Seal)>,
    highest_number: u64,
    last_sequence: u64,
    last_stamp: u64,
    /// What was cut: records that were written and never safe.
    cut_bytes: u64,
}

/// A record of the journal.
#[derive(Clone, Copy, Debug)]
pub struct Recorded<'r> {
    /// Who wrote it.
    pub writer: u16,
    /// Where it ends.
    pub position: u64,
    /// What the frame says.
    pub frame: Frame,
    /// What it says.
    pub payload: &'r [u8],
    /// The file, and where in it the record begins.
    pub place: (SegmentId, u64),
}

/// A journal that is written.
#[derive(Debug)]
pub struct Open {
    /// One for each worker, and one more for all else.
    pub writers: Vec<Writer>,
    /// Makes safe what they write.
    pub syncer: Syncer,
    /// Keeps the files.
    pub keeper: Keeper,
    /// Tells how far all are.
    pub progress: Arc<Progress>,
    /// Held for as long as the journal is written.
    pub lock: Box<dyn Lock>,
}

impl Found {
    /// Takes the folder for this process, and looks through its files: a torn tail is cut, damage is refused.
    ///
    /// May be ended at any instant and begun again.
    ///
    /// # Errors
    /// [`OpenFault`].
    pub fn open(storage: Arc<dyn Storage>, options: Options) -> Result<Self, OpenFault> {
        let folder = &options.folder.clone();
        let io = OpenFault::io(folder);
        storage.create_folder(folder).map_err(&io)?;
        // The folder is new, perhaps; what is in it is safe only if it is.
        folder
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .map_or(Ok(()), |parent| storage.sync_folder(parent))
            .map_err(&io)?;
        let lock = storage.lock(&folder.join(LOCK)).map_err(|error| match error.kind() {
            ErrorKind::WouldBlock => OpenFault::Locked { folder: folder.display().to_string() },
            _ => OpenFault::io(folder)(error),
        })?;
        let mut writers: BTreeMap<u16, Vec<SegmentId>> = BTreeMap::new();
        for id in storage.list(folder).map_err(&io)?.iter().filter_map(|name| SegmentId::named(name)) {
            writers.entry(id.writer).or_default().push(id);
        }
        let survey = |(writer, ids)| Ok((writer, Survey { storage: &*storage, options: &options, ids }.run()?));
        let writers = writers.into_iter().map(survey).collect::<Result<_, OpenFault>>()?;
        Ok(Self { storage, options, lock, writers })
    }

    /// Visits the records that end behind a position of their writer, or are not older than `since`: roughly in the order
    /// in which they were written, those of one writer exactly.
    ///
    /// # Errors
    /// [`OpenFault`], or what `visit` fails with.
    pub fn replay<E: From<OpenFault>>(
        &self,
        from: &dyn Fn(u16) -> u64,
        since: UnixMillis,
        visit: &mut dyn FnMut(&Recorded<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut cursors = Vec::new();
        for (writer, past) in &self.writers {
            let from = from(*writer);
            let needed = past.segments.iter().filter(|segment| is_needed(segment, from, since));
            let segments = needed.map(|(id, seal)| (*id, seal.end)).collect();
            cursors.push(Cursor::new(&*self.storage, &self.options.folder, segments).from(from, since));
        }
        cursor::merge(cursors, |frame| frame.stamp, visit)
    }

    /// Returns how many records are in the segments that [`Found::replay`] reads.
    pub fn records(&self, from: &dyn Fn(u16) -> u64, since: UnixMillis) -> u64 {
        let of = |(writer, past): (&u16, &Past)| -> u64 {
            let from = from(*writer);
            past.segments.iter().filter(|segment| is_needed(segment, from, since)).map(|(_, seal)| seal.records()).sum()
        };
        self.writers.iter().map(of).sum()
    }

    /// Returns how many bytes of torn tails were cut.
    pub fn cut_bytes(&self) -> u64 {
        self.writers.values().map(|past| past.cut_bytes).sum()
    }

    /// Returns by writer the sequence of the first record that is kept; none of a writer without records.
    pub fn first(&self) -> BTreeMap<u16, u64> {
        let first = |past: &Past| past.segments.iter().map(|(_, seal)| seal.first_sequence).find(|first| *first > 0);
        self.writers.iter().filter_map(|(writer, past)| Some((*writer, first(past)?))).collect()
    }

    /// Goes on: so many writers begin segments of their own.
    ///
    /// # Errors
    /// [`OpenFault`] where a file cannot be made.
    pub fn begin(self, writers: u16) -> Result<Open, OpenFault> {
        let Self { storage, options, lock, writers: past } = self;
        let Options { folder, segment_bytes, fingerprint, epoch } = options;
        let stamp = past.values().map(|past| past.last_stamp).max().unwrap_or(0).saturating_add(1);
        let progress = Arc::new(Progress::new(writers, segment_bytes, stamp));
        let chain = |writer: u16| {
            let past = past.get(&writer);
            let last = past.and_then(|past| past.segments.last());
            let next_number = past.map_or(0, |past| past.highest_number).saturating_add(1);
            Chain { next_number, hash: last.map_or([0; 32], |(_, seal)| seal.hash) }
        };
        let chains = (0..writers).map(chain).collect();
        let sealed = past.values().flat_map(|past| past.segments.iter().copied()).collect();
        let files = (Arc::clone(&storage), folder.clone());
        let mut keeper = Keeper::new(Arc::clone(&progress), files, (fingerprint, epoch), chains, sealed);
        let begin = |writer: u16| {
            let segment = keeper.make(writer).map_err(OpenFault::io(&folder))?;
            let sequence = past.get(&writer).map_or(0, |past| past.last_sequence);
            Ok(Writer::new(Arc::clone(&progress), writer, segment, sequence))
        };
        let writers = (0..writers).map(begin).collect::<Result<_, OpenFault>>()?;
        let syncer = Syncer::new(Arc::clone(&progress));
        Ok(Open { writers, syncer, keeper, progress, lock })
    }
}

/// Tells whether a segment has records behind a position, or some that are not older than `since`.
fn is_needed((id, seal): &(SegmentId, Seal), from: u64, since: UnixMillis) -> bool {
    position(id.number, seal.end) > from || seal.times.1 >= since
}

/// Looks through the segments of one writer.
struct Survey<'s> {
    storage: &'s dyn Storage,
    options: &'s Options,
    ids: Vec<SegmentId>,
}

impl Survey<'_> {
    fn run(self) -> Result<Past, OpenFault> {
        let mut past =
            Past { highest_number: self.ids.iter().map(|id| id.number).max().unwrap_or(0), ..Past::default() };
        // Segments with records that have no seal yet.
        let mut unsealed: Vec<(SegmentId, Extent)> = Vec::new();
        let mut empty = Vec::new();
        for (index, id) in self.ids.iter().enumerate() {
            let Some((header, seal)) = Read::ends(self.storage, &self.options.folder, *id)? else {
                self.unfinished(*id)?;
                empty.push(*id);
                continue;
            };
            self.fingerprint(*id, header)?;
            if let Some(seal) = seal {
                self.chained(*id, seal, &past, unsealed.last())?;
                past.last_sequence = past.last_sequence.max(seal.last_sequence);
                past.segments.push((*id, seal));
                continue;
            }
            let Some(read) = Read::new(self.storage, &self.options.folder, *id)? else { continue };
            let extent = read.extent();
            past.last_stamp = past.last_stamp.max(extent.last_stamp);
            let known = !past.segments.is_empty() || !unsealed.is_empty();
            match extent.sequences {
                Some((first, last)) if !known || first == past.last_sequence.saturating_add(1) => {
                    past.last_sequence = last;
                    unsealed.push((*id, extent));
                    if read.safe_by_later(extent.end).is_some() {
                        self.cut(index, extent.end, position(id.number, extent.end), &mut past)?;
                        break;
                    }
                }
                None if read.safe_by_later(0).is_none() => empty.push(*id),
                // Records before these are missing.
                Some(_) | None => {
                    // Behind one of the same life the log ends where that one does. What is sealed is whole.
                    let header = position(id.number, HEADER_BYTES as u64);
                    let ended = unsealed.last().map_or(header, |(id, extent)| position(id.number, extent.end));
                    self.cut(index, 0, ended, &mut past)?;
                    break;
                }
            }
        }
        // Where all is sealed, the stamps are those of the last that is.
        if let (true, Some((id, seal))) = (unsealed.is_empty(), past.segments.last())
            && let Some(mut read) = Read::new(self.storage, &self.options.folder, *id)?
        {
            read.bytes.truncate(usize::try_from(seal.end).unwrap_or(usize::MAX));
            past.last_stamp = past.last_stamp.max(read.extent().last_stamp);
        }
        self.finish(past, &unsealed, &empty)
    }

    /// Seals what has records, and removes what has none.
    fn finish(&self, mut past: Past, unsealed: &[(SegmentId, Extent)], empty: &[SegmentId]) -> Result<Past, OpenFault> {
        let folder = &self.options.folder;
        for id in empty {
            self.remove(*id)?;
        }
        if !empty.is_empty() {
            self.storage.sync_folder(folder).map_err(OpenFault::io(folder))?;
        }
        for (id, extent) in unsealed {
            let path = id.path(folder);
            let io = OpenFault::io(&path);
            let before = past.segments.last().map_or([0; 32], |(_, seal)| seal.hash);
            let file = self.storage.open(&path, true).map_err(&io)?;
            // What is sealed must be safe, also where the writer had no time to sync it.
            file.sync_data().map_err(&io)?;
            let hash = keeper::hash(&*file, before, extent.end).map_err(&io)?;
            let (first_sequence, last_sequence) = extent.sequences.unwrap_or((0, 0));
            let Extent { end, times, fen, .. } = *extent;
            let seal = Seal { end, first_sequence, last_sequence, times, fen, before, hash };
            keeper::write(&*file, &seal, file.bytes().map_err(&io)?).map_err(&io)?;
            past.segments.push((*id, seal));
        }
        Ok(past)
    }

    fn fingerprint(&self, id: SegmentId, header: Header) -> Result<(), OpenFault> {
        if header.fingerprint == self.options.fingerprint {
            return Ok(());
        }
        Err(OpenFault::Fingerprint { path: id.path(&self.options.folder).display().to_string() })
    }

    /// Refuses a seal that does not follow those before it.
    fn chained(
        &self,
        id: SegmentId,
        seal: Seal,
        past: &Past,
        unsealed: Option<&(SegmentId, Extent)>,
    ) -> Result<(), OpenFault> {
        let before = past.segments.last().map(|(_, seal)| seal.hash);
        // The oldest that is kept follows one that is not.
        if unsealed.is_none() && before.is_none_or(|before| before == seal.before) {
            return Ok(());
        }
        let path = id.path(&self.options.folder);
        Err(OpenFault::damaged(&path, seal.end, "its seal does not follow that of the segment before it"))
    }

    /// A segment whose header was never finished has nothing in it.
    fn unfinished(&self, id: SegmentId) -> Result<(), OpenFault> {
        let path = id.path(&self.options.folder);
        let io = OpenFault::io(&path);
        let file = self.storage.open(&path, false).map_err(&io)?;
        let mut bytes = vec![0; HEADER_BYTES];
        let read = file.read_at(&mut bytes, HEADER_BYTES as u64).map_err(&io)?;
        match bytes.iter().take(read).position(|byte| *byte != 0) {
            None => Ok(()),
            Some(at) => {
                let offset = (HEADER_BYTES as u64).saturating_add(u64::try_from(at).unwrap_or(u64::MAX));
                Err(OpenFault::damaged(&path, offset, "records without a header"))
            }
        }
    }

    /// Cuts everything from an offset of a segment on, 0 for all of it, where none of it was ever safe.
    fn cut(&self, index: usize, end: u64, cut_at: u64, past: &mut Past) -> Result<(), OpenFault> {
        let Some(id) = self.ids.get(index).copied() else { return Ok(()) };
        let folder = &self.options.folder;
        for (later, from) in self.ids.iter().skip(index).zip(std::iter::once(end).chain(std::iter::repeat(0))) {
            let path = later.path(folder);
            let Some(read) = Read::new(self.storage, folder, *later)? else { continue };
            if read.seal.is_some() {
                return Err(OpenFault::damaged(
                    &id.path(folder),
                    end,
                    "a sealed segment follows records that are missing",
                ));
            }
            if let Some((durable, offset)) = read.safe_by_later(from).filter(|(durable, _)| *durable > cut_at) {
                let found = format!(
                    "the record at byte {offset} of {} was written when all up to {durable} was safe",
                    path.display(),
                );
                return Err(OpenFault::damaged(&id.path(folder), end, found));
            }
            past.cut_bytes = past.cut_bytes.saturating_add(read.bytes.len() as u64).saturating_sub(from);
        }
        let keeps = usize::from(end > 0);
        for later in self.ids.iter().skip(index.saturating_add(keeps)).rev() {
            self.remove(*later)?;
            self.storage.sync_folder(folder).map_err(OpenFault::io(folder))?;
        }
        Ok(())
    }

    fn remove(&self, id: SegmentId) -> Result<(), OpenFault> {
        let path = id.path(&self.options.folder);
        self.storage.remove(&path).map_err(OpenFault::io(&path))
    }
}

/// The file by which a gate has a folder for itself.
pub(super) const LOCK: &str = "lock";

/// Least bytes of a segment: room for the largest batch, and for what becomes of orders.
pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Most bytes of a segment.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests;
