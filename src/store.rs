//! What the records of the journal come to: folded into orders and rows, kept in a durable store behind the gate, and
//! loaded when it starts.
//!
//! Nothing here reads the tables that decisions are made on. The journal is the queue: what is folded is what was recorded,
//! and what was reached is stored with what it came to, so that nothing is folded twice.

mod durable;
mod fold;
mod memory;
mod orders;
mod rows;
#[cfg(test)]
mod tests;
mod write_behind;

use std::collections::BTreeMap;

pub use durable::Durable;
pub use fold::{Base, Fold, FoldedRow, Nothing, Unfoldable};
pub use memory::Memory;
pub use write_behind::{Backoff, Behind, RECORDS_PER_STEP, WriteBehind, WriteFault};

use crate::journal::Image;
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// What is kept behind the gate.
pub trait Store: Base + Send {
    /// Returns how far it is, and what is said of the whole.
    ///
    /// # Errors
    /// [`StoreFault`]; so of all calls.
    fn meta(&self) -> Result<Meta, StoreFault>;

    /// Takes what records came to, and how far they reach, all of it or nothing. Safe from a loss of power when it returns.
    ///
    /// # Errors
    /// [`StoreFault`]; all of it may be stored all the same, or nothing: [`Store::meta`] says how far it is then. What it
    /// has reached must not be folded again.
    fn apply(&mut self, fold: &mut Fold, reached: &BTreeMap<u16, Reached>) -> Result<(), StoreFault>;

    /// Shows every order, as it is with what was folded since.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn each_image(&self, and: &Fold, visit: &mut dyn FnMut(Image)) -> Result<(), StoreFault>;

    /// Shows every row, as it is with what was folded since.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn each_row(&self, and: &mut Fold, visit: &mut dyn FnMut(u128, FoldedRow)) -> Result<(), StoreFault>;

    /// Looks at some orders, the next call at the next ones, and forgets those that are `past`; returns how many.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn clean(&mut self, past: &dyn Fn(&Image) -> bool) -> Result<usize, StoreFault>;

    /// Looks at some rows, the next call at others, and forgets those that are `past`; returns how many. A row that is
    /// forgotten and changed once more begins with nothing.
    ///
    /// # Errors
    /// [`StoreFault`].
    fn clean_rows(&mut self, past: &dyn Fn(u128, &FoldedRow) -> bool) -> Result<usize, StoreFault>;
}

/// What a store says of the whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// By writer, up to where its records are folded.
    pub reached: BTreeMap<u16, Reached>,
    /// The labels by their numbers.
    pub labels: BTreeMap<u32, String>,
    /// The highest time of a record.
    pub highest: Option<UnixMillis>,
}

/// Up to where the records of a writer are folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reached {
    /// The position.
    pub position: u64,
    /// The sequence of the last record before it: what comes next is the one after it, or records are missing.
    pub sequence: u64,
}

/// A store cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreFault {
    /// It belongs to another deployment key.
    #[error("the store was made under another deployment key; give the gate that key, or another folder")]
    Fingerprint,
    /// It cannot be read or written.
    #[error("the store cannot be used: {0}; with the folder `store` moved away it is made again from the journal")]
    Broken(String),
}

impl From<StoreFault> for Unfoldable {
    fn from(fault: StoreFault) -> Self {
        Self::Base(fault.to_string())
    }
}

/// Most orders that a cleaning looks at.
pub const CLEANED_PER_STEP: usize = 4096;

/// Names a decision by its bytes, so that those of one order of bytes lie together.
const fn key_of(DecisionId(id): DecisionId) -> [u8; 16] {
    id.to_be_bytes()
}
