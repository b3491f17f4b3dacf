//! Writing behind: sealed segments of the journal are folded into the store, off the data plane and at its own pace.
//!
//! What is sealed is safe and changes no more. What is not sealed yet is at most two segments of each writer; a start folds
//! that from the journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::fold::{Fold, FoldedRow, Unfoldable};
use super::{Reached, Store, StoreFault};
use crate::journal::{OpenFault, Recorded, Seal, SegmentId, position, visit_sealed};
use crate::storage::Storage;
use crate::time::UnixMillis;

/// Folds sealed segments into a store.
pub struct WriteBehind {
    store: Box<dyn Store>,
    reached: BTreeMap<u16, Reached>,
    highest: Option<UnixMillis>,
    /// Empty memory between steps.
    fold: Fold,
    /// Whether the store may be further than is known here.
    unsure: bool,
    /// Whether to go on where records are missing.
    accept_missing: bool,
}

/// How far the store is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// Sealed segments that are not folded whole.
    pub segments: u64,
    /// Their records; those of one begun count whole.
    pub records: u64,
    /// What they charge, in fen; that of one begun counts whole.
    pub fen: u64,
    /// When the oldest of these records was made; `None` where all is folded.
    pub oldest: Option<UnixMillis>,
}

/// Segments could not be folded.
#[derive(Debug, thiserror::Error)]
pub enum WriteFault {
    /// The store failed: what was reached stays, and the next step begins there.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] OpenFault),
    /// A record cannot be folded.
    #[error(transparent)]
    Fold(#[from] Unfoldable),
    /// Records are missing that were retired once the store had them: it has them no more.
    #[error(
        "the store has the records of writer {writer} up to number {reached}, and the journal has them from number {first} \
         on; bring back the store"
    )]
    Missing {
        /// The writer.
        writer: u16,
        /// The last record that the store has.
        reached: u64,
        /// The first that the journal has.
        first: u64,
    },
}

impl WriteBehind {
    /// Goes on where a store is.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn new(store: Box<dyn Store>) -> Result<Self, StoreFault> {
        let meta = store.meta()?;
        Ok(Self {
            store,
            reached: meta.reached,
            highest: meta.highest,
            fold: Fold::new(),
            unsure: false,
            accept_missing: false,
        })
    }

    /// Goes on where records are missing, where somebody has accepted that.
    #[must_use]
    pub fn accepting_missing(self, accept_missing: bool) -> Self {
        Self { accept_missing, ..self }
    }

    /// Returns by writer up to where its records are folded.
    pub const fn reached(&self) -> &BTreeMap<u16, Reached> {
        &self.reached
    }

    /// Says how far the store is behind these sealed segments.
    pub fn behind(&self, sealed: &[(SegmentId, Seal)]) -> Behind {
        sealed.iter().filter(|(id, seal)| !self.has(*id, seal)).fold(Behind::default(), |behind, (_, seal)| Behind {
            segments: behind.segments.saturating_add(1),
            records: behind.records.saturating_add(seal.records()),
            fen: behind.fen.saturating_add(seal.fen),
            oldest: Some(behind.oldest.map_or(seal.times.0, |oldest| oldest.min(seal.times.0))),
        })
    }

    /// Folds at most [`RECORDS_PER_STEP`] records of the oldest segment that is not folded, and stores what they come to;
    /// returns how many.
    ///
    /// # Errors
    /// [`WriteFault`]; whatever is stored of the step, the next one begins where the store is then.
    pub fn step(
        &mut self,
        storage: &dyn Storage,
        folder: &Path,
        sealed: &[(SegmentId, Seal)],
    ) -> Result<u64, WriteFault> {
        if self.unsure {
            let meta = self.store.meta()?;
            (self.reached, self.highest, self.unsure) = (meta.reached, meta.highest, false);
        }
        let Some((id, seal)) = self.next(sealed) else { return Ok(0) };
        let from = self.reached.get(&id.writer).copied().unwrap_or_default();
        // A store that was lost, or put back to what it was, cannot go on where the journal begins later.
        if seal.first_sequence > from.sequence.saturating_add(1) && !self.accept_missing {
            return Err(WriteFault::Missing { writer: id.writer, reached: from.sequence, first: seal.first_sequence });
        }
        self.fold.restart(self.highest);
        let fold = &mut self.fold;
        // A segment without records has no last one.
        let sequence = if seal.last_sequence == 0 { from.sequence } else { seal.last_sequence };
        let mut reached = Reached { position: position(id.number, seal.end), sequence };
        let from = from.position;
        visit_sealed::<WriteFault>(storage, folder, (id, seal), from, &mut |record: &Recorded<'_>| {
            fold.fold(&*self.store, record.payload, record.frame.at)?;
            let more = fold.records() < RECORDS_PER_STEP;
            if !more {
                reached = Reached { position: record.position, sequence: record.frame.sequence };
            }
            Ok(more)
        })?;
        let reached = BTreeMap::from([(id.writer, reached)]);
        self.unsure = true;
        self.store.apply(fold, &reached)?;
        self.unsure = false;
        self.highest = fold.highest();
        self.reached.extend(reached);
        Ok(fold.records())
    }

    /// Forgets some orders that are `past`, the next call others.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn clean(&mut self, past: &dyn Fn(&crate::journal::Image) -> bool) -> Result<usize, StoreFault> {
        self.store.clean(past)
    }

    /// Forgets some rows that are `past`, the next call others.
    ///
    /// # Errors
    /// [`StoreFault`].
    pub fn clean_rows(&mut self, past: &dyn Fn(u128, &FoldedRow) -> bool) -> Result<usize, StoreFault> {
        self.store.clean_rows(past)
    }

    /// Returns the oldest of the segments that are next of their writers: those of one go in their order, whatever their
    /// times say, since a clock may be put back.
    fn next(&self, sealed: &[(SegmentId, Seal)]) -> Option<(SegmentId, Seal)> {
        let mut next: BTreeMap<u16, (SegmentId, Seal)> = BTreeMap::new();
        for (id, seal) in sealed.iter().filter(|(id, seal)| !self.has(*id, seal)) {
            let first = next.entry(id.writer).or_insert((*id, *seal));
            if id.number < first.0.number {
                *first = (*id, *seal);
            }
        }
        next.into_values().min_by_key(|(id, seal)| (seal.times.0, *id))
    }

    fn has(&self, id: SegmentId, seal: &Seal) -> bool {
        self.reached.get(&id.writer).is_some_and(|reached| reached.position >= position(id.number, seal.end))
    }
}

impl std::fmt::Debug for WriteBehind {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("WriteBehind").field("reached", &self.reached).finish_non_exhaustive()
    }
}

/// How long to leave a store alone that fails: twice as long each time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    /// Returns how long to wait after another failure.
    pub fn failed(&mut self) -> Duration {
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(7)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// Forgets the failures.
    pub const fn succeeded(&mut self) {
        self.failures = 0;
    }
}

/// Most records of one step: what a fold holds of them is some 40 MB.
pub const RECORDS_PER_STEP: u64 = 50_000;

const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
