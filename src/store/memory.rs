//! A store in memory, whose calls fail when they are told to: what the others are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fold::{Base, Fold, FoldedRow, Unfoldable};
use super::rows::{Owners, PARTS, RowChange, combine};
use super::{CLEANED_PER_STEP, Meta, Reached, Store, StoreFault};
use crate::journal::Image;
use crate::types::DecisionId;

/// A store in memory. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    images: BTreeMap<u128, Vec<u8>>,
    ahead: BTreeSet<u128>,
    rows: Vec<RowChange>,
    owners: Owners,
    meta: Meta,
    cleaned: Option<u128>,
    failing: u32,
    failing_late: u32,
}

impl Memory {
    /// Makes an empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Has the next calls of [`Store::apply`] fail.
    pub fn fail(&self, calls: u32) {
        self.content().failing = calls;
    }

    /// Has the next calls of [`Store::apply`] take what they are given, and fail all the same.
    pub fn fail_late(&self, calls: u32) {
        self.content().failing_late = calls;
    }

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Base for Memory {
    fn image(&self, decision: DecisionId) -> Result<Option<Image>, Unfoldable> {
        let content = self.content();
        Ok(content.images.get(&decision.0).map(|bytes| Image::from_bytes(bytes)).transpose()?)
    }

    fn is_ahead(&self, decision: DecisionId) -> bool {
        self.content().ahead.contains(&decision.0)
    }
}

impl Store for Memory {
    fn meta(&self) -> Result<Meta, StoreFault> {
        Ok(self.content().meta.clone())
    }

    fn apply(&mut self, fold: &mut Fold, reached: &BTreeMap<u16, Reached>) -> Result<(), StoreFault> {
        let mut content = self.content();
        if content.failing > 0 {
            content.failing -= 1;
            return Err(StoreFault::Broken("it was told to be".to_owned()));
        }
        let Content { images, ahead, rows, owners, meta, failing_late, .. } = &mut *content;
        images.extend(fold.images().map(|(decision, image)| (decision.0, image.to_vec())));
        for (DecisionId(decision), is_ahead) in fold.ahead() {
            if is_ahead {
                ahead.insert(decision);
            } else {
                ahead.remove(&decision);
            }
        }
        let changes = fold.rows()?;
        for part in 0..PARTS {
            rows.extend(changes.adopted(part, owners));
        }
        combine(rows);
        meta.labels.extend(fold.labels().map(|(label, name)| (label, name.to_owned())));
        meta.reached.extend(reached);
        meta.highest = fold.highest().or(meta.highest);
        if *failing_late > 0 {
            *failing_late -= 1;
            return Err(StoreFault::Broken("it was told to be".to_owned()));
        }
        Ok(())
    }

    fn each_image(&self, and: &Fold, visit: &mut dyn FnMut(Image)) -> Result<(), StoreFault> {
        let content = self.content();
        let stored = content.images.iter().filter(|(decision, _)| !and.has_image(DecisionId(**decision)));
        let all = stored.map(|(_, image)| image.as_slice()).chain(and.images().map(|(_, image)| image));
        all.map(read).try_for_each(|image| {
            visit(image?);
            Ok(())
        })
    }

    fn each_row(&self, and: &mut Fold, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault> {
        let content = self.content();
        let (mut owners, mut rows) = (content.owners.clone(), content.rows.clone());
        let changes = and.rows()?;
        for part in 0..PARTS {
            rows.extend(changes.adopted(part, &mut owners));
        }
        combine(&mut rows);
        let folded = |change: &RowChange| Some((change.row, change.folded(&owners)?));
        rows.iter().filter_map(folded).for_each(|(row, folded)| visit(row, folded));
        Ok(())
    }

    fn clean(&mut self, past: &dyn Fn(&Image) -> bool) -> Result<usize, StoreFault> {
        let mut content = self.content();
        let from = content.cleaned.map_or(0, |cleaned| cleaned.saturating_add(1));
        let looked_at = content.images.range(from..).take(CLEANED_PER_STEP);
        let looked_at = looked_at.map(|(decision, image)| Ok((*decision, past(&read(image)?))));
        let looked_at = looked_at.collect::<Result<Vec<(u128, bool)>, StoreFault>>()?;
        content.cleaned =
            looked_at.last().map(|(decision, _)| *decision).filter(|_| looked_at.len() == CLEANED_PER_STEP);
        let mut forgotten = 0;
        for (decision, _) in looked_at.iter().filter(|(_, past)| *past) {
            content.images.remove(decision);
            content.ahead.remove(decision);
            forgotten += 1;
        }
        Ok(forgotten)
    }

    fn clean_rows(&mut self, past: &dyn Fn(u128, &FoldedRow) -> bool) -> Result<usize, StoreFault> {
        let mut content = self.content();
        let Content { rows, owners, .. } = &mut *content;
        let before = rows.len();
        rows.retain(|change| !change.folded(owners).is_some_and(|row| past(change.row, &row)));
        Ok(before.saturating_sub(rows.len()))
    }
}

fn read(image: &[u8]) -> Result<Image, StoreFault> {
    Image::from_bytes(image).map_err(|_| StoreFault::Broken("an order in it does not read".to_owned()))
}
