//! The journal: what was decided, and what became of it, recorded before anything that follows from it leaves.
//!
//! Each writer has a sequence of files; the format stands in their modules:
//!
//! | file | what it says |
//! | --- | --- |
//! | `segment.rs` | one file: header, frames, seal |
//! | `frame.rs` | what surrounds a record, and tells a whole one |
//! | `codec.rs` | what a record says, byte by byte ([`Entry`]) |
//!
//! [`Log`] is how workers record; [`Syncer`] makes that safe from a loss of power, [`Watermark`] tells up to where;
//! [`Keeper`] makes files ahead, seals them and removes them; [`Found`] is a journal as a gate finds it when it starts;
//! [`inspect`] looks at one without a lock. [`Recent`] keeps the last records in memory for the operator to read.
//!
//! Promises:
//! * What is covered by the watermark is there after the end of the process and after a loss of power.
//! * What is read was written: in the order of its writer, without a hole. A torn tail is cut; where what was safe is
//!   damaged, nothing is read at all.
//! * After a write or a sync that failed nothing is written any more.

mod blocks;
mod codec;
mod cursor;
mod cut;
mod entry;
mod files;
mod frame;
pub mod inspect;
mod keeper;
mod log;
mod scan;
mod segment;
mod syncer;
mod writer;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use crate::reason::Reason;
use crate::time::UnixMillis;
use crate::types::{DecisionId, MerchantId, Operation};

pub use codec::{ENTRY_BYTES_MAX, Unreadable};
pub use cursor::visit_sealed;
pub use cut::{Cut, CutFault};
pub use entry::{
    Cause, ChangeEntry, DecisionEntry, DecisionView, Entry, EntryView, IMAGES_MAX, Image, ImagePhase, ImageStake,
    ImageView, NO_WINDOW, Name, NonceEntry, PARTS_MAX, PartsView, RawImage, RowPart, StakeView, TextsView,
};
pub use files::{Found, Open, Options, Recorded, SEGMENT_BYTES_MAX, SEGMENT_BYTES_MIN};
pub use frame::Frame;
pub use keeper::{Keep, Keeper, Room, Sealed};
pub use log::{Durability, Exposure, Fault, Log, Position, Sink, Turn, Watermark};
pub use scan::OpenFault;
pub use segment::{Seal, SegmentId, position};
pub use syncer::Syncer;
pub use writer::{Progress, Writer};

/// One decision on an authentic request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// When it was decided.
    pub at: UnixMillis,
    /// The decision.
    pub decision: DecisionId,
    /// Who asked.
    pub merchant: MerchantId,
    /// What for.
    pub operation: Operation,
    /// How much, in fen; 0 where no amount is concerned or none was read.
    pub amount_fen: u64,
    /// Why it was refused; `None` where it was admitted.
    pub refused: Option<Reason>,
    /// Whether an earlier decision on the same order was found.
    pub duplicate: bool,
    /// Ids of the shadow limits that would have refused it.
    pub shadowed: SmallVec<[Arc<str>; 1]>,
}

/// Proof: the decision is in the journal. Private constructor.
#[derive(Debug)]
pub struct Receipt {
    _proof: (),
}

/// Takes records.
pub trait Journal: Send {
    /// Appends a record to the batch under way.
    fn append(&mut self, record: Record) -> Receipt;

    /// Makes the records appended since the last commit visible to readers.
    fn commit(&mut self);
}

/// Keeps the last records of one worker in memory.
#[derive(Debug)]
pub struct Recent {
    batch: Vec<Record>,
    shelf: Arc<Shelf>,
}

/// The last records of one worker, for reading.
#[derive(Debug)]
pub struct Shelf {
    records: Mutex<VecDeque<Record>>,
    records_max: usize,
}

impl Recent {
    /// Makes a journal that keeps the last `records_max` records.
    pub fn new(records_max: usize) -> Self {
        let records = Mutex::new(VecDeque::with_capacity(records_max));
        Self { batch: Vec::new(), shelf: Arc::new(Shelf { records, records_max }) }
    }

    /// Returns the shelf to read from.
    pub fn shelf(&self) -> Arc<Shelf> {
        Arc::clone(&self.shelf)
    }
}

impl Journal for Recent {
    fn append(&mut self, record: Record) -> Receipt {
        self.batch.push(record);
        Receipt { _proof: () }
    }

    fn commit(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut records = self.shelf.records.lock().unwrap_or_else(PoisonError::into_inner);
        for record in self.batch.drain(..) {
            if records.len() >= self.shelf.records_max {
                records.pop_front();
            }
            records.push_back(record);
        }
    }
}

impl Shelf {
    /// Returns the records kept, oldest first.
    pub fn records(&self) -> Vec<Record> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(decision: u128) -> Record {
        Record {
            at: UnixMillis(1),
            decision: DecisionId(decision),
            merchant: "1900000001".parse().expect("merchant"),
            operation: Operation::Pay,
            amount_fen: 1,
            refused: None,
            duplicate: false,
            shadowed: SmallVec::new(),
        }
    }

    #[test]
    fn records_are_visible_once_committed_and_the_oldest_go_first() {
        let mut journal = Recent::new(2);
        let shelf = journal.shelf();
        for decision in 1..=3 {
            let _receipt = journal.append(record(decision));
        }
        assert_eq!(shelf.records(), []);
        journal.commit();
        assert_eq!(shelf.records(), [record(2), record(3)]);
    }
}
