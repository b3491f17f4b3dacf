//! A store in memory, whose calls fail when they are told to: what the others are compared with.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::fold::{Base, Fold, FoldedRow, Unfoldable};
use super::{CLEANED_PER_STEP, Meta, Reached, Store, StoreFault};
use crate::journal::Image;
use crate::types::DecisionId;

/// A store in memory. Clones are the same store.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Content>>);

#[derive(Debug, Default)]
struct Content {
    images: BTreeMap<u128, Image>,
    rows: BTreeMap<u128, FoldedRow>,
    meta: Meta,
    cleaned: Option<u128>,
    failing: u32,
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

    fn content(&self) -> MutexGuard<'_, Content> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Base for Memory {
    fn image(&self, DecisionId(decision): DecisionId) -> Result<Option<Image>, Unfoldable> {
        Ok(self.content().images.get(&decision).cloned())
    }

    fn row(&self, row: u128) -> Result<Option<FoldedRow>, Unfoldable> {
        Ok(self.content().rows.get(&row).copied())
    }
}

impl Store for Memory {
    fn meta(&self) -> Result<Meta, StoreFault> {
        Ok(self.content().meta.clone())
    }

    fn apply(&mut self, fold: &Fold, reached: &BTreeMap<u16, Reached>) -> Result<(), StoreFault> {
        let mut content = self.content();
        if content.failing > 0 {
            content.failing -= 1;
            return Err(StoreFault::Broken("it was told to be".to_owned()));
        }
        content.images.extend(fold.images().map(|image| (image.decision.0, image.clone())));
        content.rows.extend(fold.rows().map(|(row, folded)| (row, *folded)));
        content.meta.labels.extend(fold.labels().map(|(label, name)| (label, name.to_owned())));
        content.meta.reached.extend(reached);
        content.meta.highest = fold.highest().or(content.meta.highest);
        Ok(())
    }

    fn each_image(&self, visit: &mut dyn FnMut(Image)) -> Result<(), StoreFault> {
        self.content().images.values().cloned().for_each(visit);
        Ok(())
    }

    fn each_row(&self, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault> {
        self.content().rows.iter().for_each(|(row, folded)| visit(*row, *folded));
        Ok(())
    }

    fn clean(&mut self, past: &dyn Fn(&Image) -> bool) -> Result<usize, StoreFault> {
        let mut content = self.content();
        let from = content.cleaned.map_or(0, |cleaned| cleaned.saturating_add(1));
        let looked_at = content.images.range(from..).take(CLEANED_PER_STEP);
        let looked_at: Vec<(u128, bool)> = looked_at.map(|(decision, image)| (*decision, past(image))).collect();
        content.cleaned =
            looked_at.last().map(|(decision, _)| *decision).filter(|_| looked_at.len() == CLEANED_PER_STEP);
        looked_at.iter().filter(|(_, past)| *past).for_each(|(decision, _)| drop(content.images.remove(decision)));
        Ok(looked_at.iter().filter(|(_, past)| *past).count())
    }
}
