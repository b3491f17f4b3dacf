//! A store that outlives the gate, and fails when it is told to: before anything is stored, or after all of it was.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tollgate::journal::Image;
use tollgate::store::{Base, Fold, FoldedRow, Memory, Meta, Reached, Store, StoreFault, Unfoldable};
use tollgate::types::DecisionId;

/// A store in memory. Clones are the same store.
#[derive(Clone, Default)]
pub struct Shaky {
    memory: Memory,
    next: Arc<Mutex<Fate>>,
}

/// What becomes of the next thing stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Stored,
    /// It is stored, and the call says that it failed.
    StoredInVain,
    Failed,
}

impl Shaky {
    /// Decides what becomes of the next thing stored.
    pub fn set(&self, fate: Fate) {
        *self.fate() = fate;
    }

    fn fate(&self) -> MutexGuard<'_, Fate> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Base for Shaky {
    fn image(&self, decision: DecisionId) -> Result<Option<Image>, Unfoldable> {
        self.memory.image(decision)
    }

    fn is_ahead(&self, decision: DecisionId) -> bool {
        self.memory.is_ahead(decision)
    }
}

impl Store for Shaky {
    fn meta(&self) -> Result<Meta, StoreFault> {
        self.memory.meta()
    }

    fn apply(&mut self, fold: &mut Fold, reached: &BTreeMap<u16, Reached>) -> Result<(), StoreFault> {
        let fate = std::mem::take(&mut *self.fate());
        if fate != Fate::Failed {
            self.memory.apply(fold, reached)?;
        }
        if fate == Fate::Stored { Ok(()) } else { Err(StoreFault::Broken("it was told to be".to_owned())) }
    }

    fn each_image(&self, and: &Fold, visit: &mut dyn FnMut(Image)) -> Result<(), StoreFault> {
        self.memory.each_image(and, visit)
    }

    fn each_row(&self, and: &mut Fold, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault> {
        self.memory.each_row(and, visit)
    }

    fn clean(&mut self, past: &dyn Fn(&Image) -> bool) -> Result<usize, StoreFault> {
        self.memory.clean(past)
    }

    fn clean_rows(&mut self, past: &dyn Fn(u128, &FoldedRow) -> bool) -> Result<usize, StoreFault> {
        self.memory.clean_rows(past)
    }
}
