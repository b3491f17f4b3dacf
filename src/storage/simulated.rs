//! Storage in memory that loses power: what was not synced is kept, lost or torn, sector by sector, as a seed decides.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{File, Lock, Storage};

/// Storage in memory. Clones are the same storage.
#[derive(Clone, Debug, Default)]
pub struct Simulated(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Content>,
    /// The names as they were when their folder was last synced.
    named: BTreeMap<PathBuf, u64>,
    locked: Vec<PathBuf>,
    created: u64,
    /// Counts losses of power: a file that was open before is of no use.
    life: u64,
    /// Bytes of the disk; `None` where there is no end of them.
    room_bytes: Option<u64>,
    /// Content by number of files whose name was removed but not for good.
    removed: BTreeMap<PathBuf, Content>,
}

#[derive(Clone, Debug)]
struct Content {
    number: u64,
    bytes: Vec<u8>,
    /// What is safe.
    safe: Vec<u8>,
}

/// What becomes of a sector that was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It was written.
    Kept,
    /// It is as it was when it was last synced.
    Dropped,
    /// It is all zeros.
    Zeroed,
    /// One bit of it is wrong.
    Flipped,
    /// It has what was written to the sector before it.
    Misplaced,
}

impl Fate {
    /// Every fate.
    pub const ALL: [Self; 5] = [Self::Kept, Self::Dropped, Self::Zeroed, Self::Flipped, Self::Misplaced];
}

impl Simulated {
    /// Makes empty storage.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bounds the disk to so many bytes in all files; `None` lifts the bound.
    pub fn set_room(&self, room_bytes: Option<u64>) {
        self.state().room_bytes = room_bytes;
    }

    /// Returns a copy that shares nothing with this storage.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self(Arc::new(Mutex::new(self.state().clone())))
    }

    /// Ends the process: all that was written is there, nothing is locked, what was open is not any more.
    pub fn kill(&self) {
        let mut state = self.state();
        state.locked.clear();
        state.life += 1;
    }

    /// Loses power: of each sector that was not synced becomes what a seed decides among `fates`; files that were created
    /// or removed in a folder that was not synced since are there or not.
    pub fn cut_power(&self, seed: u64, fates: &[Fate]) {
        self.kill();
        let mut random = StdRng::seed_from_u64(seed);
        let mut state = self.state();
        let State { files, named, removed, .. } = &mut *state;
        for (path, content) in std::mem::take(removed) {
            if named.get(&path) == Some(&content.number) && random.random() {
                files.entry(path).or_insert(content);
            }
        }
        files.retain(|path, content| named.get(path) == Some(&content.number) || random.random());
        for content in files.values_mut() {
            content.lose(&mut random, fates);
        }
        *named = files.iter().map(|(path, content)| (path.clone(), content.number)).collect();
    }

    /// Changes one byte of a file, of what is safe as well: damage that no loss of power explains.
    pub fn damage(&self, path: &Path, offset: usize, change: impl FnOnce(u8) -> u8) {
        if let Some(content) = self.state().files.get_mut(path)
            && let Some(byte) = content.bytes.get_mut(offset)
        {
            *byte = change(*byte);
            let changed = *byte;
            content.safe.get_mut(offset).into_iter().for_each(|safe| *safe = changed);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn handle(&self, path: &Path, state: &State, write: bool) -> io::Result<Arc<dyn File>> {
        let number = state.files.get(path).ok_or(ErrorKind::NotFound)?.number;
        Ok(Arc::new(Handle { storage: self.clone(), path: path.to_owned(), number, life: state.life, write }))
    }
}

impl Content {
    fn lose(&mut self, random: &mut StdRng, fates: &[Fate]) {
        let written = std::mem::replace(&mut self.bytes, self.safe.clone());
        let mut before: &[u8] = &[];
        for (index, (sector, safe)) in written.chunks(SECTOR_BYTES).zip(self.safe.chunks(SECTOR_BYTES)).enumerate() {
            if sector != safe {
                let fate = fates.get(random.random_range(0..fates.len().max(1))).copied().unwrap_or(Fate::Kept);
                let first = index * SECTOR_BYTES;
                let Some(place) = self.bytes.get_mut(first..first + sector.len()) else { continue };
                match fate {
                    Fate::Kept => place.copy_from_slice(sector),
                    Fate::Dropped => {}
                    Fate::Zeroed => place.fill(0),
                    Fate::Flipped => {
                        place.copy_from_slice(sector);
                        let bit = random.random_range(0..sector.len() * 8);
                        place.get_mut(bit / 8).into_iter().for_each(|byte| *byte ^= 1 << (bit % 8));
                    }
                    Fate::Misplaced => place.iter_mut().zip(before).for_each(|(to, from)| *to = *from),
                }
            }
            before = sector;
        }
        self.safe.clone_from(&self.bytes);
    }
}

impl Storage for Simulated {
    fn create_folder(&self, _folder: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, folder: &Path) -> io::Result<Vec<String>> {
        let state = self.state();
        let here = state.files.keys().filter(|path| path.parent() == Some(folder));
        Ok(here.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect())
    }

    fn create(&self, path: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        if state.files.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let used: usize = state.files.values().map(|content| content.bytes.len()).sum();
        let used = u64::try_from(used).unwrap_or(u64::MAX);
        if state.room_bytes.is_some_and(|room| used.saturating_add(bytes) > room) {
            return Err(ErrorKind::StorageFull.into());
        }
        state.created += 1;
        let number = state.created;
        let zeros = vec![0; usize::try_from(bytes).map_err(|_| ErrorKind::StorageFull)?];
        state.files.insert(path.to_owned(), Content { number, bytes: zeros.clone(), safe: zeros });
        self.handle(path, &state, true)
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn File>> {
        self.handle(path, &self.state(), write)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        let content = state.files.remove(path).ok_or(ErrorKind::NotFound)?;
        if state.named.get(path) == Some(&content.number) {
            state.removed.insert(path.to_owned(), content);
        }
        Ok(())
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        let mut state = self.state();
        let State { files, named, removed, .. } = &mut *state;
        named.retain(|path, _| path.parent() != Some(folder));
        removed.retain(|path, _| path.parent() != Some(folder));
        let here = files.iter().filter(|(path, _)| path.parent() == Some(folder));
        named.extend(here.map(|(path, content)| (path.clone(), content.number)));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        let mut state = self.state();
        if state.locked.iter().any(|locked| locked == path) {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.locked.push(path.to_owned());
        Ok(Box::new(Locked { storage: self.clone(), path: path.to_owned(), life: state.life }))
    }
}

#[derive(Debug)]
struct Handle {
    storage: Simulated,
    path: PathBuf,
    number: u64,
    life: u64,
    write: bool,
}

impl Handle {
    fn with<R>(&self, act: impl FnOnce(&mut Content) -> R) -> io::Result<R> {
        let mut state = self.storage.state();
        let alive = state.life == self.life;
        let State { files, removed, .. } = &mut *state;
        let content = [files.get_mut(&self.path), removed.get_mut(&self.path)];
        let content = content.into_iter().flatten().find(|content| content.number == self.number);
        content.filter(|_| alive).map(act).ok_or_else(|| io::Error::other("the process that opened the file has ended"))
    }
}

impl File for Handle {
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        self.with(|content| {
            let there = usize::try_from(offset).ok().and_then(|offset| content.bytes.get(offset..)).unwrap_or(&[]);
            bytes.iter_mut().zip(there).map(|(to, from)| *to = *from).count()
        })
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if !self.write {
            return Err(ErrorKind::PermissionDenied.into());
        }
        self.with(|content| {
            let first = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
            let end = first.checked_add(bytes.len()).ok_or(ErrorKind::InvalidInput)?;
            // Files are made with the size that they keep.
            let place = content.bytes.get_mut(first..end).ok_or(ErrorKind::InvalidInput)?;
            place.copy_from_slice(bytes);
            Ok(())
        })?
    }

    fn sync_data(&self) -> io::Result<()> {
        self.with(|content| content.safe.clone_from(&content.bytes))
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|content| u64::try_from(content.bytes.len()).unwrap_or(u64::MAX))
    }
}

#[derive(Debug)]
struct Locked {
    storage: Simulated,
    path: PathBuf,
    life: u64,
}

impl Lock for Locked {}

impl Drop for Locked {
    fn drop(&mut self) {
        let mut state = self.storage.state();
        if state.life == self.life {
            state.locked.retain(|path| *path != self.path);
        }
    }
}

/// What a disk writes whole or not at all.
pub const SECTOR_BYTES: usize = 512;
