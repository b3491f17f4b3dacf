//! The runs of a store: each step of folding writes one, and where a part has many small ones they become one.
//!
//! Parts of a level that are [`MERGED`] in number become one of the next level; so what is written of a row is written again
//! but a few times, whatever the size of the store, and a part has but a few runs of each level.

use fjall::{Database, Keyspace, OwnedWriteBatch};

use super::{broken, unreadable};
use crate::store::StoreFault;
use crate::store::fold::FoldedRow;
use crate::store::rows::{Owners, PARTS, RowChange, RowChanges, combine, read_part, write_part};

/// The runs, by parts.
pub(super) struct Runs {
    rows: Keyspace,
    levels: Keyspace,
    /// Of each part the runs, oldest first. Their levels do not rise.
    parts: Vec<Vec<Run>>,
    /// The run to be written next.
    next: u64,
    /// The part that is merged, and that is cleaned, next.
    merged: usize,
    cleaned: usize,
}

/// The part of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    number: u64,
    level: u8,
}

impl Runs {
    /// Opens what two keyspaces have.
    pub fn open(rows: Keyspace, levels: Keyspace) -> Result<Self, StoreFault> {
        let mut parts = vec![Vec::new(); PARTS];
        let mut next = 1;
        for item in levels.iter() {
            let (key, value) = item.into_inner().map_err(broken)?;
            let read = || {
                let (part, number) = key.split_first_chunk()?;
                let number = u64::from_be_bytes(number.try_into().ok()?);
                Some((usize::from(u16::from_be_bytes(*part)), Run { number, level: *value.first()? }))
            };
            let (part, run) = read().ok_or_else(|| unreadable("a run"))?;
            parts.get_mut(part).ok_or_else(|| unreadable("a run"))?.push(run);
            next = next.max(run.number.saturating_add(1));
        }
        Ok(Self { rows, levels, parts, next, merged: 0, cleaned: 0 })
    }

    /// Returns the number of the run to be written next.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Has a batch write a run; returns which parts it has.
    pub fn write(&self, batch: &mut OwnedWriteBatch, number: u64, changes: &RowChanges) -> Vec<usize> {
        let parts = (0..PARTS).filter(|part| !changes.part(*part).is_empty());
        parts
            .inspect(|part| self.put(batch, (*part, Run { number, level: 0 }), &changes.owners, changes.part(*part)))
            .collect()
    }

    /// Notes that a run is written.
    pub fn written(&mut self, number: u64, parts: &[usize]) {
        self.next = self.next.max(number.saturating_add(1));
        for part in parts {
            if let Some(runs) = self.parts.get_mut(*part) {
                runs.push(Run { number, level: 0 });
            }
        }
    }

    /// Merges runs of some parts, the next call those of others.
    pub fn merge(&mut self, database: &Database) -> Result<(), StoreFault> {
        for _ in 0..MERGED_PER_STEP {
            let part = self.merged;
            self.merged = part.saturating_add(1) % PARTS;
            let Some(runs) = self.parts.get(part) else { continue };
            let Some(last) = runs.last().copied() else { continue };
            let alike = runs.iter().rev().take_while(|run| run.level == last.level).count();
            if alike < MERGED {
                continue;
            }
            let from = runs.len().saturating_sub(alike);
            let (mut owners, mut changes) = (Owners::default(), Vec::new());
            self.read((part, from), &mut owners, &mut changes)?;
            self.replace(database, (part, from), last.level.saturating_add(1), (&owners, &changes))?;
        }
        Ok(())
    }

    /// Visits all rows, as they are once these changes are made to them.
    pub fn each_row(&self, and: &RowChanges, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault> {
        let (mut owners, mut changes) = (Owners::default(), Vec::new());
        for part in 0..PARTS {
            changes.clear();
            self.read((part, 0), &mut owners, &mut changes)?;
            let more = and.part(part);
            if !more.is_empty() {
                changes.extend(and.adopted(part, &mut owners));
                combine(&mut changes);
            }
            for change in &changes {
                if let Some(row) = change.folded(&owners) {
                    visit(change.row, row);
                }
            }
        }
        Ok(())
    }

    /// Forgets the rows of a part that are past, the next call those of another; returns how many.
    pub fn clean(&mut self, database: &Database, past: &dyn Fn(u128, &FoldedRow) -> bool) -> Result<usize, StoreFault> {
        let part = self.cleaned;
        self.cleaned = part.saturating_add(1) % PARTS;
        let (mut owners, mut changes) = (Owners::default(), Vec::new());
        self.read((part, 0), &mut owners, &mut changes)?;
        let before = changes.len();
        changes.retain(|change| !change.folded(&owners).is_some_and(|row| past(change.row, &row)));
        let forgotten = before.saturating_sub(changes.len());
        if forgotten > 0 {
            let level = self.parts.get(part).and_then(|runs| runs.first()).map_or(0, |run| run.level);
            self.replace(database, (part, 0), level, (&owners, &changes))?;
        }
        Ok(forgotten)
    }

    /// Reads the runs of a part from one on, and combines them; there are no changes before.
    fn read(
        &self,
        (part, from): (usize, usize),
        owners: &mut Owners,
        changes: &mut Vec<RowChange>,
    ) -> Result<(), StoreFault> {
        let runs = self.parts.get(part).and_then(|runs| runs.get(from..)).unwrap_or_default();
        for run in runs {
            let bytes = self.rows.get(key(part, run.number)).map_err(broken)?;
            let read = bytes.and_then(|bytes| read_part(&bytes, owners, changes));
            read.ok_or_else(|| unreadable("a run"))?;
        }
        if runs.len() > 1 {
            combine(changes);
        }
        Ok(())
    }

    /// Puts one run in the place of those of a part from one on. It need not be safe from a loss of power: what is there is
    /// the same before and after.
    fn replace(
        &mut self,
        database: &Database,
        (part, from): (usize, usize),
        level: u8,
        (owners, changes): (&Owners, &[RowChange]),
    ) -> Result<(), StoreFault> {
        let Some(runs) = self.parts.get(part) else { return Ok(()) };
        let Some(Run { number, .. }) = runs.last().copied() else { return Ok(()) };
        let mut batch = database.batch().durability(None);
        for run in runs.iter().skip(from).filter(|run| run.number != number || changes.is_empty()) {
            batch.remove(&self.rows, key(part, run.number));
            batch.remove(&self.levels, key(part, run.number));
        }
        let new = Run { number, level };
        if !changes.is_empty() {
            self.put(&mut batch, (part, new), owners, changes);
        }
        batch.commit().map_err(broken)?;
        if let Some(runs) = self.parts.get_mut(part) {
            runs.truncate(from);
            runs.extend(Some(new).filter(|_| !changes.is_empty()));
        }
        Ok(())
    }

    fn put(&self, batch: &mut OwnedWriteBatch, (part, run): (usize, Run), owners: &Owners, changes: &[RowChange]) {
        batch.insert(&self.rows, key(part, run.number), write_part(owners, changes));
        batch.insert(&self.levels, key(part, run.number), [run.level]);
    }
}

#[cfg(test)]
impl Runs {
    /// Returns the most runs that a part has.
    pub fn most(&self) -> usize {
        self.parts.iter().map(Vec::len).max().unwrap_or(0)
    }
}

fn key(part: usize, number: u64) -> [u8; 10] {
    let [first, second] = u16::try_from(part).unwrap_or(u16::MAX).to_be_bytes();
    let [a, b, c, d, e, f, g, h] = number.to_be_bytes();
    [first, second, a, b, c, d, e, f, g, h]
}

/// So many runs of a part that are of one level become one of the next.
const MERGED: usize = 8;

/// Parts that are looked at after each step.
const MERGED_PER_STEP: usize = PARTS / 4;
