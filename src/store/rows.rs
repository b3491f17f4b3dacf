//! Rows as differences: what records add to a row and take from it, without a look at what it was.
//!
//! Of a cell the newest window counts, and of that the sum. So differences of a row may be put together in any groups and
//! in any order, and a row is what all of its differences come to. They are kept in *runs*: the rows of some records,
//! sorted, each once. A run lies in [`PARTS`] parts, by the first bits of the rows' keys.
//!
//! All integers of a part are little-endian.
//!
//! | part of a run | bytes |
//! | --- | --- |
//! | owners | how many `u32`; each one byte of length and the merchant |
//! | rows | a row: key `u128`, label `u32`, place among the owners `u32`, windows 2 times `u16`, differences 2 times `i64` |

use std::collections::HashMap;

use super::FoldedRow;
use crate::types::MerchantId;

/// What some records change of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowChange {
    pub row: u128,
    /// The label of its limit; zero where no record tells.
    pub label: u32,
    /// Who charged it first, among the [`Owners`].
    pub owner: u32,
    pub windows: [u16; 2],
    pub used: [i64; 2],
}

/// Merchants by numbers.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners {
    all: Vec<MerchantId>,
    places: HashMap<MerchantId, u32>,
    last: Option<(MerchantId, u32)>,
}

/// The rows that some records change, by parts.
#[derive(Debug)]
pub(super) struct RowChanges {
    pub owners: Owners,
    parts: Vec<Part>,
}

/// What is changed of the rows of one part.
#[derive(Debug, Default)]
struct Part {
    changes: Vec<RowChange>,
    /// So many of them are sorted, each row once.
    combined: usize,
}

impl RowChange {
    /// Adds what later records change.
    fn add(&mut self, later: &Self) {
        if self.label == 0 {
            self.label = later.label;
        }
        let cells = self.windows.iter_mut().zip(&mut self.used);
        for ((window, used), (later_window, later_used)) in cells.zip(later.windows.iter().zip(later.used)) {
            if later_window > window {
                (*window, *used) = (*later_window, later_used);
            } else if later_window == window {
                *used = used.saturating_add(later_used);
            }
        }
    }

    /// Returns the row as it is where these are all of its changes.
    pub fn folded(&self, owners: &Owners) -> Option<FoldedRow> {
        let ([first, second], owner) = (self.windows, owners.get(self.owner)?);
        let [first_used, second_used] = self.used.map(|used| used.max(0).unsigned_abs().min(USED_MAX));
        Some(FoldedRow { label: self.label, owner, cells: [(first, first_used), (second, second_used)] })
    }
}

impl Owners {
    /// Returns the number of a merchant.
    pub fn number(&mut self, merchant: MerchantId) -> u32 {
        match self.last {
            Some((last, number)) if last == merchant => number,
            _ => {
                let next = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
                let number = *self.places.entry(merchant).or_insert_with(|| {
                    self.all.push(merchant);
                    next
                });
                self.last = Some((merchant, number));
                number
            }
        }
    }

    fn get(&self, number: u32) -> Option<MerchantId> {
        self.all.get(usize::try_from(number).ok()?).copied()
    }
}

impl Default for RowChanges {
    fn default() -> Self {
        Self { owners: Owners::default(), parts: (0..PARTS).map(|_| Part::default()).collect() }
    }
}

impl RowChanges {
    /// Makes room for so many changes, of whatever rows.
    pub fn reserve(&mut self, changes: usize) {
        let each = changes.div_ceil(PARTS);
        // Keys are spread evenly: few parts have more than an eighth above the mean.
        self.parts.iter_mut().for_each(|part| part.changes.reserve(each.saturating_add(each / 8)));
    }

    /// Adds a change that is later than those before.
    pub fn push(&mut self, change: RowChange) {
        if let Some(part) = self.parts.get_mut(part_of(change.row)) {
            part.changes.push(change);
            if part.changes.len() >= part.combined.saturating_mul(2).max(UNCOMBINED_MAX) {
                part.combine();
            }
        }
    }

    /// Sorts all, and has each row once.
    pub fn combine(&mut self) {
        self.parts.iter_mut().for_each(Part::combine);
    }

    /// Returns the changes of a part: some may be of one row, until they are combined.
    pub fn part(&self, part: usize) -> &[RowChange] {
        self.parts.get(part).map_or(&[], |part| &part.changes)
    }

    /// Returns the changes of a part as others number the owners.
    pub fn adopted(&self, part: usize, owners: &mut Owners) -> Vec<RowChange> {
        let adopt = |change: &RowChange| {
            let owner = owners.number(self.owners.get(change.owner)?);
            Some(RowChange { owner, ..*change })
        };
        self.part(part).iter().filter_map(adopt).collect()
    }

    /// Forgets all, and keeps the memory.
    pub fn clear(&mut self) {
        self.owners = Owners::default();
        for part in &mut self.parts {
            part.changes.clear();
            part.combined = 0;
        }
    }
}

impl Part {
    fn combine(&mut self) {
        if self.combined < self.changes.len() {
            combine(&mut self.changes);
            self.combined = self.changes.len();
        }
    }
}

/// Sorts changes, older ones first, by their rows, and adds up those of a row.
pub(super) fn combine(changes: &mut Vec<RowChange>) {
    // Stable: of one row the oldest stays first.
    changes.sort_by_key(|change| change.row);
    changes.dedup_by(|later, kept| {
        let same = later.row == kept.row;
        if same {
            kept.add(later);
        }
        same
    });
}

/// Returns the part that a row is in.
pub(super) fn part_of(row: u128) -> usize {
    usize::try_from(row >> (u128::BITS - PARTS.ilog2())).unwrap_or(0)
}

/// Writes a part of a run: changes that are combined.
pub(super) fn write_part(owners: &Owners, changes: &[RowChange]) -> Vec<u8> {
    let mut own = Owners::default();
    let mut rows = Vec::with_capacity(changes.len().saturating_mul(ROW_BYTES));
    for change in changes {
        let Some(owner) = owners.get(change.owner) else { continue };
        let ([first, second], [first_used, second_used]) = (change.windows, change.used);
        rows.extend_from_slice(&change.row.to_le_bytes());
        rows.extend_from_slice(&change.label.to_le_bytes());
        rows.extend_from_slice(&own.number(owner).to_le_bytes());
        rows.extend_from_slice(&first.to_le_bytes());
        rows.extend_from_slice(&second.to_le_bytes());
        rows.extend_from_slice(&first_used.to_le_bytes());
        rows.extend_from_slice(&second_used.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(rows.len().saturating_add(64));
    bytes.extend_from_slice(&u32::try_from(own.all.len()).unwrap_or(u32::MAX).to_le_bytes());
    for owner in &own.all {
        bytes.push(u8::try_from(owner.as_str().len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(owner.as_str().as_bytes());
    }
    bytes.extend_from_slice(&rows);
    bytes
}

/// Reads a part of a run, behind the changes read before; `None` where the bytes are none.
pub(super) fn read_part(mut bytes: &[u8], owners: &mut Owners, changes: &mut Vec<RowChange>) -> Option<()> {
    let count = u32::from_le_bytes(*take(&mut bytes)?);
    let mut own = Vec::new();
    for _ in 0..count {
        let [length] = *take(&mut bytes)?;
        let (owner, rest) = bytes.split_at_checked(length.into())?;
        bytes = rest;
        own.push(owners.number(std::str::from_utf8(owner).ok()?.parse().ok()?));
    }
    let (rows, rest) = bytes.as_chunks::<ROW_BYTES>();
    changes.reserve(rows.len());
    for row in rows {
        let mut row = row.as_slice();
        changes.push(RowChange {
            row: u128::from_le_bytes(*take(&mut row)?),
            label: u32::from_le_bytes(*take(&mut row)?),
            owner: *own.get(usize::try_from(u32::from_le_bytes(*take(&mut row)?)).ok()?)?,
            windows: [u16::from_le_bytes(*take(&mut row)?), u16::from_le_bytes(*take(&mut row)?)],
            used: [i64::from_le_bytes(*take(&mut row)?), i64::from_le_bytes(*take(&mut row)?)],
        });
    }
    rest.is_empty().then_some(())
}

fn take<'b, const N: usize>(bytes: &mut &'b [u8]) -> Option<&'b [u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

/// Parts of a run. A power of two.
pub(super) const PARTS: usize = 256;

/// Bytes of a row in a part.
const ROW_BYTES: usize = 16 + 4 + 4 + 2 * 2 + 2 * 8;

/// The most that a cell can say is used.
const USED_MAX: u64 = (1 << 48) - 1;

/// Changes of a part that are not worth being combined.
const UNCOMBINED_MAX: usize = 4096;
