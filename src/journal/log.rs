//! What the files of the journal are to those who record in them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::entry::{ChangeEntry, DecisionEntry};
use crate::time::UnixMillis;

/// The file of one writer.
pub trait Sink: Send {
    /// Returns how many bytes of records can be appended before there is no more room.
    fn room_bytes(&self) -> usize;

    /// Appends a record to what [`Sink::flush`] writes. `fen` is what would not be counted were it lost.
    ///
    /// # Errors
    /// [`Fault`]; nothing is appended then.
    fn append(&mut self, payload: &[u8], at: UnixMillis, fen: u64) -> Result<(), Fault>;

    /// Writes what was appended, by one call of the system, and returns where it ends.
    ///
    /// # Errors
    /// [`Fault::Failed`]: what is in the file then is not known, and nothing more is written.
    fn flush(&mut self) -> Result<Position, Fault>;
}

/// Says up to where records are safe from a loss of power.
pub trait Watermark: Send + Sync {
    /// Tells whether all that a writer wrote up to a position is safe.
    fn covers(&self, position: Position) -> bool;

    /// Tells whether the journal has failed: nothing that is not safe yet will ever be.
    fn has_failed(&self) -> bool;

    /// Returns what a loss of power would take now.
    fn exposure(&self) -> Exposure;

    /// Asks for what is written to be made safe soon, whatever the pace.
    fn request(&self);

    /// Waits until a position is safe.
    ///
    /// # Errors
    /// [`Fault::Failed`] where it will never be.
    fn wait(&self, position: Position) -> Result<(), Fault>;
}

/// Where a record ends: a count of bytes in the files of one writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The writer.
    pub writer: u16,
    /// Bytes up to the end of the record, those of earlier segments included.
    pub offset: u64,
}

/// What is written and not safe yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// The money that its records charge, in fen.
    pub fen: u64,
    /// When the oldest of it was recorded; `None` where all is safe.
    pub since: Option<UnixMillis>,
}

/// Nothing can be recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// There is no room: the disk is full, or the next segment is not ready.
    #[error("the journal has no room; free space on its disk")]
    NoRoom,
    /// A write or a sync failed.
    #[error("the journal failed")]
    Failed,
}

/// How safe a record must be before anything that follows from it leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Written: safe from the end of the process. A loss of power takes at most the exposure.
    Process,
    /// Synced: safe from a loss of power, too.
    Disk,
}

/// The file of one writer, for all who record in it.
pub struct Log(Mutex<Inner>);

struct Inner {
    sink: Box<dyn Sink>,
    /// Empty memory between records.
    bytes: Vec<u8>,
}

impl Log {
    /// Takes a file.
    pub fn new(sink: Box<dyn Sink>) -> Self {
        Self(Mutex::new(Inner { sink, bytes: Vec::new() }))
    }

    /// Waits until nobody else records.
    pub fn turn(&self) -> Turn<'_> {
        // What a panic left behind is a record that was not appended.
        Turn(self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Log")
    }
}

/// Records; nobody else does meanwhile.
pub struct Turn<'l>(MutexGuard<'l, Inner>);

impl Turn<'_> {
    /// Returns how many bytes of records there is room for.
    pub fn room_bytes(&self) -> usize {
        self.0.sink.room_bytes()
    }

    /// Appends a decision.
    ///
    /// # Errors
    /// [`Fault`]; nothing is appended then.
    pub fn decision(&mut self, at: UnixMillis, entry: &DecisionEntry) -> Result<(), Fault> {
        // As `EntryView::fen` has it.
        let fen = if entry.refused.is_none() { entry.amount_fen } else { 0 };
        self.append(at, fen, |bytes| entry.write(bytes))
    }

    /// Appends what became of orders.
    ///
    /// # Errors
    /// [`Fault`]; nothing is appended then.
    pub fn change(&mut self, at: UnixMillis, entry: &ChangeEntry) -> Result<(), Fault> {
        self.append(at, 0, |bytes| entry.write(bytes))
    }

    /// Appends any entry.
    ///
    /// # Errors
    /// [`Fault`]; nothing is appended then.
    pub fn entry(&mut self, at: UnixMillis, entry: &super::Entry) -> Result<(), Fault> {
        self.append(at, 0, |bytes| entry.write(bytes))
    }

    /// Writes what was appended, and returns where it ends.
    ///
    /// # Errors
    /// [`Fault::Failed`].
    pub fn flush(&mut self) -> Result<Position, Fault> {
        self.0.sink.flush()
    }

    fn append(&mut self, at: UnixMillis, fen: u64, write: impl FnOnce(&mut Vec<u8>)) -> Result<(), Fault> {
        let Inner { sink, bytes } = &mut *self.0;
        bytes.clear();
        write(bytes);
        sink.append(bytes, at, fen)
    }
}
