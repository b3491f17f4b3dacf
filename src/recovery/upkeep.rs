//! The files and the store of a gate that runs, step by step.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::admission::Shared;
use crate::journal::{Image, Keep, Keeper, Progress, Room, Sealed};
use crate::quota;
use crate::storage::Storage;
use crate::store::{Behind, FoldedRow, Reached, Store, StoreFault, WriteBehind, WriteFault};
use crate::time::UnixMillis;

/// How files and store stand, for those who keep them and for the operator. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// By writer, up to where its records are stored.
    folded: Arc<Mutex<BTreeMap<u16, Reached>>>,
    behind: Arc<Mutex<Behind>>,
    full: Arc<AtomicBool>,
}

impl Standing {
    /// Returns how far the store is behind.
    pub fn behind(&self) -> Behind {
        *lock(&self.behind)
    }

    /// Tells whether the disk has no room for the next segment.
    pub fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }
}

/// Keeps the files.
#[derive(Debug)]
pub struct Upkeep {
    keeper: Keeper,
    standing: Standing,
    keep: Keep,
    /// For how long nonces may be in force, in seconds.
    window_s: i64,
}

impl Upkeep {
    pub(super) const fn new(keeper: Keeper, standing: Standing, keep: Keep, window_s: i64) -> Self {
        Self { keeper, standing, keep, window_s }
    }

    /// Returns the sealed segments.
    pub const fn sealed(&self) -> &Sealed {
        self.keeper.sealed()
    }

    /// Returns how files and store stand.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Makes segments ahead; returns whether there is room, where that has changed.
    ///
    /// # Errors
    /// As [`Keeper::prepare`].
    pub fn prepare(&mut self) -> io::Result<Option<Room>> {
        let room = self.keeper.prepare()?;
        let full = room == Room::Full;
        Ok((self.standing.full.swap(full, Ordering::Relaxed) != full).then_some(room))
    }

    /// Seals what is full and safe; returns how many segments.
    ///
    /// # Errors
    /// As [`Keeper::seal`].
    pub fn seal(&mut self) -> io::Result<usize> {
        self.keeper.seal()
    }

    /// Removes segments that nobody needs; returns how many.
    ///
    /// # Errors
    /// As [`Keeper::retire`].
    pub fn retire(&mut self, now: UnixMillis) -> io::Result<usize> {
        let needed_from = UnixMillis(now.0.saturating_sub(self.window_s.saturating_mul(1000)));
        let folded = lock(&self.standing.folded).clone();
        let is_needed = |writer: u16, end: u64| folded.get(&writer).is_none_or(|folded| folded.position < end);
        self.keeper.retire(self.keep, now, needed_from, &is_needed)
    }
}

/// Keeps the store.
pub struct Folding {
    behind: WriteBehind,
    around: Closed,
    /// The time of the oldest record that was in no sealed segment when the last step began.
    unsealed: Option<UnixMillis>,
    cleanings: u32,
}

/// Keeps a store that is closed: all that it takes but the store.
pub struct Closed {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) folder: PathBuf,
    pub(super) sealed: Sealed,
    pub(super) progress: Arc<Progress>,
    pub(super) shared: Arc<Shared>,
    pub(super) standing: Standing,
    pub(super) accept_missing: bool,
}

impl Folding {
    /// Folds some sealed records into the store; returns how many.
    ///
    /// # Errors
    /// As [`WriteBehind::step`].
    pub fn step(&mut self) -> Result<u64, WriteFault> {
        // Before the list: what is sealed in between is in one of the two.
        self.unsealed = self.around.progress.oldest_unsealed();
        let sealed = self.around.sealed.list();
        let stepped = self.behind.step(&*self.around.storage, &self.around.folder, &sealed);
        *lock(&self.around.standing.behind) = self.behind.behind(&sealed);
        if stepped.is_ok() {
            self.note();
        }
        stepped
    }

    /// Forgets some of what is past in the store, where the last step has found nothing to fold; returns how many orders
    /// and rows.
    ///
    /// # Errors
    /// As [`WriteBehind::clean`].
    pub fn clean(&mut self, now: UnixMillis) -> Result<usize, StoreFault> {
        // Nothing older than what is not folded yet may be forgotten: an earlier image of it could come.
        let until = self.unsealed.unwrap_or(now).min(now);
        let until_s = until.seconds().saturating_sub(CLEANED_BEHIND_S);
        let past = |image: &Image| i64::from(image.since_s) < until_s && !self.around.shared.is_kept(image, now);
        let orders = self.behind.clean(&past)?;
        self.cleanings = self.cleanings.wrapping_add(1);
        if !self.cleanings.is_multiple_of(ROWS_CLEANED_EVERY) {
            return Ok(orders);
        }
        let until = UnixMillis(until.0.saturating_sub(ROWS_CLEANED_BEHIND_MS));
        let past = |row: u128, folded: &FoldedRow| quota::is_past(row, folded.cells, until);
        Ok(orders.saturating_add(self.behind.clean_rows(&past)?))
    }

    /// Leaves a store that has failed once, and which takes nothing more until it is opened again: it is closed when this
    /// returns. Then [`Closed::go_on`] with it.
    pub fn close(self) -> Closed {
        self.around
    }

    fn note(&self) {
        lock(&self.around.standing.folded).clone_from(self.behind.reached());
    }
}

impl Closed {
    /// Goes on with the store, opened again.
    ///
    /// # Errors
    /// [`StoreFault`], and itself: it may be tried again.
    pub fn go_on(self, store: Result<Box<dyn Store>, StoreFault>) -> Result<Folding, (Self, StoreFault)> {
        match store.and_then(WriteBehind::new) {
            Ok(behind) => {
                let behind = behind.accepting_missing(self.accept_missing);
                let folding = Folding { behind, around: self, unsealed: None, cleanings: 0 };
                folding.note();
                Ok(folding)
            }
            Err(fault) => Err((self, fault)),
        }
    }
}

impl fmt::Debug for Folding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Folding").field("behind", &self.behind).finish_non_exhaustive()
    }
}

impl fmt::Debug for Closed {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Closed").field("folder", &self.folder).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much older than all that is not folded an order must be to be forgotten, in seconds: workers' clocks are read apart.
const CLEANED_BEHIND_S: i64 = 60;

/// How much longer than all that is not folded a row must be past to be forgotten: an operator may put the clock back by less
/// than 31 days, and what is used up then is used up still. What an order takes from a row that is gone makes no room: a
/// row that comes again begins with nothing, and is of windows that are over.
const ROWS_CLEANED_BEHIND_MS: i64 = 31 * 86_400_000;

/// In how many cleanings rows are looked at once: with five a second a part of the rows in 20 seconds, all of them in an hour
/// and a half.
const ROWS_CLEANED_EVERY: u32 = 100;
