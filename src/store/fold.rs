//! Folding records: of each order the image with the highest revision, of each row what its orders charge.
//!
//! Each record is folded once: whoever folds goes on behind the position that the store has reached. So the first image of
//! a decision is known to no store, and nothing is looked up for it, unless a later image came before it out of the file
//! of another writer. Such decisions are *ahead*: the store says which those are.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::StoreFault;
use super::orders::{BuildKeyHasher, Orders};
use super::rows::{RowChange, RowChanges};
use crate::journal::{EntryView, Image, NO_WINDOW, RawImage, RowPart, Unreadable};
use crate::time::UnixMillis;
use crate::types::{DecisionId, MerchantId};

/// What was folded before, and lies elsewhere.
pub trait Base {
    /// Returns the image of a decision.
    ///
    /// # Errors
    /// Where it cannot be read.
    fn image(&self, decision: DecisionId) -> Result<Option<Image>, Unfoldable>;

    /// Tells whether a later image of a decision was folded, and the first one was not.
    fn is_ahead(&self, decision: DecisionId) -> bool;
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
    /// What was folded is added up already.
    #[error("what was folded is added up already; begin another fold")]
    Ended,
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
    orders: Orders,
    /// Without what the images of `orders` charge, until [`Fold::add_up`].
    rows: RowChanges,
    added_up: bool,
    /// Decisions that are ahead now, and those that are so no more.
    ahead: HashMap<u128, bool, BuildKeyHasher>,
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

    /// Starts again, with the memory that it has.
    pub fn restart(&mut self, highest: Option<UnixMillis>) {
        self.orders.clear();
        self.rows.clear();
        self.added_up = false;
        self.ahead.clear();
        self.labels.clear();
        (self.highest, self.records) = (highest, 0);
    }

    /// Takes room for the orders of so many records.
    pub fn reserve(&mut self, records: usize) {
        self.orders.reserve(records);
    }

    /// Folds a record of this payload and time.
    ///
    /// # Errors
    /// [`Unfoldable`]; what is folded of the record then is not known, and the fold is of no more use. Nor is anything
    /// folded once it was added up.
    pub fn fold<'p>(
        &mut self,
        base: &dyn Base,
        payload: &'p [u8],
        at: UnixMillis,
    ) -> Result<EntryView<'p>, Unfoldable> {
        if self.added_up {
            return Err(Unfoldable::Ended);
        }
        let entry = EntryView::from_bytes(payload)?;
        match &entry {
            EntryView::Decision(decision) => decision.order.iter().try_for_each(|raw| self.order(base, raw))?,
            EntryView::Change { orders, .. } => orders.iter().try_for_each(|raw| self.order(base, raw))?,
            EntryView::Label { label, name } => self.labels.push((*label, (*name).to_owned())),
            EntryView::Clock { accepted: true } => self.highest = Some(at),
            EntryView::Clock { accepted: false } => {}
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

    /// Visits the orders as they were recorded, in the order of their decisions.
    pub fn images(&self) -> impl Iterator<Item = (DecisionId, &[u8])> {
        self.orders.sorted()
    }

    /// Adds up what the orders charge, once all is folded.
    ///
    /// # Errors
    /// [`Unreadable`] where an image does not read as it was folded.
    fn add_up(&mut self) -> Result<(), Unreadable> {
        if !self.added_up {
            self.rows.reserve(self.orders.parts());
            for image in self.orders.all() {
                let RawImage { image, .. } = RawImage::from_bytes(image)?;
                let owner = self.rows.owners.number(image.merchant);
                image.charged().for_each(|part| self.rows.push(change(&part, owner, Sign::Plus)));
            }
            self.rows.combine();
            self.added_up = true;
        }
        Ok(())
    }

    /// Adds up, and returns how rows are changed, each once.
    pub(super) fn rows(&mut self) -> Result<&RowChanges, StoreFault> {
        self.add_up().map_err(|fault| StoreFault::Broken(fault.to_string()))?;
        Ok(&self.rows)
    }

    /// Visits the decisions that are ahead, and those that are so no more.
    pub fn ahead(&self) -> impl Iterator<Item = (DecisionId, bool)> {
        self.ahead.iter().map(|(decision, ahead)| (DecisionId(*decision), *ahead))
    }

    /// Visits the labels, in the order in which they were recorded.
    pub fn labels(&self) -> impl Iterator<Item = (u32, &str)> {
        self.labels.iter().map(|(label, name)| (*label, name.as_str()))
    }

    /// Tells whether an order was changed.
    pub fn has_image(&self, decision: DecisionId) -> bool {
        self.orders.find(decision).is_some()
    }

    /// Folds an order: nothing where a later image of it is known.
    fn order(&mut self, base: &dyn Base, raw: &RawImage<'_>) -> Result<(), Unfoldable> {
        let RawImage { bytes, image } = raw;
        let is_first = image.revision <= FIRST_REVISION;
        let mut before: SmallVec<[RowPart; 4]> = SmallVec::new();
        let mut sign = Sign::Minus;
        let known = match self.orders.find(image.decision) {
            Some((revision, known)) => {
                if revision < image.revision {
                    // What it charged was not added yet; what it says of labels and windows holds.
                    before.extend(RawImage::from_bytes(known)?.image.charged());
                    sign = Sign::Neither;
                }
                Some(revision)
            }
            None if is_first => base.is_ahead(image.decision).then_some(u32::MAX),
            None => {
                let stored = base.image(image.decision)?;
                before.extend(stored.iter().flat_map(|stored| stored.charged()).copied());
                if stored.is_none() {
                    self.ahead.insert(image.decision.0, true);
                }
                stored.map(|stored| stored.revision)
            }
        };
        if let (true, Some(_)) = (is_first, known) {
            self.caught_up(base, image.decision);
        }
        if known.is_some_and(|known| known >= image.revision) {
            return Ok(());
        }
        if !before.is_empty() {
            let owner = self.rows.owners.number(image.merchant);
            before.iter().for_each(|part| self.rows.push(change(part, owner, sign)));
        }
        self.orders.put(image, bytes);
        Ok(())
    }

    /// Notes that the first image of a decision came behind a later one.
    fn caught_up(&mut self, base: &dyn Base, DecisionId(decision): DecisionId) {
        if base.is_ahead(DecisionId(decision)) {
            self.ahead.insert(decision, false);
        } else {
            self.ahead.remove(&decision);
        }
    }
}

/// What becomes of what an image charges.
#[derive(Clone, Copy, Debug)]
enum Sign {
    Plus,
    Minus,
    Neither,
}

/// Makes a change of a row out of what an image charges to it.
fn change(part: &RowPart, owner: u32, sign: Sign) -> RowChange {
    let charged = i64::try_from(part.charged).unwrap_or(i64::MAX);
    let charged = match sign {
        Sign::Plus => charged,
        Sign::Minus => -charged,
        Sign::Neither => 0,
    };
    let cell = |window: u16| if window == NO_WINDOW { (0, 0) } else { (window, charged) };
    let [(first, first_used), (second, second_used)] = part.windows.map(cell);
    RowChange { row: part.row, label: part.label, owner, windows: [first, second], used: [first_used, second_used] }
}

impl Base for Nothing {
    fn image(&self, _decision: DecisionId) -> Result<Option<Image>, Unfoldable> {
        Ok(None)
    }

    fn is_ahead(&self, _decision: DecisionId) -> bool {
        false
    }
}

/// The revision of the first image of a decision.
const FIRST_REVISION: u32 = 1;
