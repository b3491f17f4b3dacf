//! Folding records: of each order the image with the highest revision, of each row what its orders charge.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};

use crate::journal::{self, Image, NO_WINDOW, RowPart, Unreadable};
use crate::time::UnixMillis;
use crate::types::{DecisionId, MerchantId};

/// What was folded before, and lies elsewhere.
pub trait Base {
    /// Returns the image of a decision.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn image(&self, decision: DecisionId) -> Result<Option<Image>, Unfoldable>;

    /// Returns a row.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn row(&self, row: u128) -> Result<Option<FoldedRow>, Unfoldable>;
}

/// Nothing was folded before.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

/// A record cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum Unfoldable {
    /// It reads as none that this version writes.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// What was folded before cannot be read.
    #[error("what was stored before cannot be read: {0}")]
    Base(String),
}

/// One row of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoldedRow {
    /// The label of its limit; zero where no record tells.
    pub label: u32,
    /// The merchant whose decision was the first to charge it.
    pub owner: MerchantId,
    /// The newest window of each cell, and what is used of it.
    pub cells: [(u16, u64); 2],
}

/// What some records come to.
#[derive(Debug, Default)]
pub struct Fold {
    images: HashMap<u128, Image, BuildKeyHasher>,
    rows: HashMap<u128, FoldedRow, BuildKeyHasher>,
    labels: Vec<(u32, String)>,
    highest: Option<UnixMillis>,
    records: u64,
}

impl Fold {
    /// Starts with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Starts with the highest time of what was folded before.
    pub fn since(highest: Option<UnixMillis>) -> Self {
        Self { highest, ..Self::default() }
    }

    /// Folds a record of this payload and time.
    ///
    /// # Errors
    /// [`Unfoldable`]; the record is not folded then.
    pub fn fold(&mut self, base: &dyn Base, payload: &[u8], at: UnixMillis) -> Result<journal::Entry, Unfoldable> {
        use journal::Entry::{Change, Clock, Decision, Label};
        let entry = journal::Entry::from_bytes(payload)?;
        match &entry {
            Decision(decision) => decision.order.iter().try_for_each(|image| self.order(base, image))?,
            Change(change) => change.orders.iter().try_for_each(|image| self.order(base, image))?,
            Label { label, name } => self.labels.push((*label, name.clone())),
            Clock { accepted: true } => self.highest = Some(at),
            Clock { accepted: false } => {}
        }
        self.highest = self.highest.max(Some(at));
        self.records = self.records.saturating_add(1);
        Ok(entry)
    }

    /// Returns how many records were folded.
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// Returns the highest time of a record, or the one that the operator put the clock back to since.
    pub const fn highest(&self) -> Option<UnixMillis> {
        self.highest
    }

    /// Visits the orders, in no order.
    pub fn images(&self) -> impl Iterator<Item = &Image> {
        self.images.values()
    }

    /// Visits the rows, in no order.
    pub fn rows(&self) -> impl Iterator<Item = (u128, &FoldedRow)> {
        self.rows.iter().map(|(row, folded)| (*row, folded))
    }

    /// Visits the labels, in the order in which they were recorded.
    pub fn labels(&self) -> impl Iterator<Item = (u32, &str)> {
        self.labels.iter().map(|(label, name)| (*label, name.as_str()))
    }

    /// Tells whether a row was changed.
    pub fn has_row(&self, row: u128) -> bool {
        self.rows.contains_key(&row)
    }

    /// Tells whether an order was changed.
    pub fn has_image(&self, decision: DecisionId) -> bool {
        self.images.contains_key(&decision.0)
    }

    /// Folds an order: nothing where a later image of it is known.
    fn order(&mut self, base: &dyn Base, image: &Image) -> Result<(), Unfoldable> {
        let before = match self.images.get(&image.decision.0) {
            Some(_) => None,
            None => base.image(image.decision)?,
        };
        let before = self.images.get(&image.decision.0).or(before.as_ref());
        if before.is_some_and(|before| before.revision >= image.revision) {
            return Ok(());
        }
        let charged: smallvec::SmallVec<[RowPart; 4]> = before.into_iter().flat_map(Image::charged).copied().collect();
        for part in image.charged() {
            self.change(base, part, image.merchant, |used, amount| used.saturating_add(amount).min(USED_MAX))?;
        }
        for part in &charged {
            self.change(base, part, image.merchant, u64::saturating_sub)?;
        }
        self.images.insert(image.decision.0, image.clone());
        Ok(())
    }

    fn change(
        &mut self,
        base: &dyn Base,
        part: &RowPart,
        owner: MerchantId,
        change: impl Fn(u64, u64) -> u64,
    ) -> Result<(), Unfoldable> {
        let row = match self.rows.entry(part.row) {
            Entry::Occupied(occupied) => occupied.into_mut(),
            Entry::Vacant(vacant) => {
                let new = FoldedRow { label: part.label, owner, cells: [(0, 0); 2] };
                vacant.insert(base.row(part.row)?.unwrap_or(new))
            }
        };
        if row.label == 0 {
            row.label = part.label;
        }
        for (cell, window) in row.cells.iter_mut().zip(part.windows) {
            let (newest, used) = *cell;
            if window == NO_WINDOW || window < newest {
                continue;
            }
            let used = if window > newest { 0 } else { used };
            *cell = (window, change(used, part.charged));
        }
        Ok(())
    }
}

impl Base for Nothing {
    fn image(&self, _decision: DecisionId) -> Result<Option<Image>, Unfoldable> {
        Ok(None)
    }

    fn row(&self, _row: u128) -> Result<Option<FoldedRow>, Unfoldable> {
        Ok(None)
    }
}

/// Takes 64 bits of a key for its hash: keys are keyed pseudo-random values already.
#[derive(Clone, Copy, Default)]
struct KeyHasher(u64);

type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.chunks(8).for_each(|chunk| {
            let word = chunk.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.0 = self.0.rotate_left(5) ^ word;
        });
    }

    fn write_u128(&mut self, key: u128) {
        // The high half of a row has bits that are the same for all; the halves of a decision are both random.
        let [low, high] = [key, key >> 64].map(|half| u64::try_from(half & u128::from(u64::MAX)).unwrap_or(0));
        self.0 = low ^ high.rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The most that a cell can say is used.
const USED_MAX: u64 = (1 << 48) - 1;
