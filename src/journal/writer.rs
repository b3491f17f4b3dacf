//! Writing: one file of one worker, one write a batch. HOT.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::frame::{self, SECTOR_BYTES, frame_bytes};
use super::log::{Exposure, Fault, Position, Sink, Watermark};
use super::segment::{HEADER_BYTES, SegmentId, frames_end, position};
use crate::storage::File;
use crate::time::UnixMillis;

/// How far all writers of a gate are, for those who sync and those who wait.
#[derive(Debug)]
pub struct Progress {
    pub(super) writers: Box<[WriterState]>,
    pub(super) segment_bytes: u64,
    /// Counts writes, over all writers.
    stamp: AtomicU64,
    failed: AtomicBool,
    /// Whether whoever syncs has something to do, and whether it was asked to hurry.
    wake: Mutex<Wake>,
    bell: Condvar,
    /// Rung after each sync.
    synced: Condvar,
    waiters: Mutex<()>,
    idle: AtomicBool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wake {
    pub requested: bool,
    pub stopping: bool,
}

/// How far one writer is.
#[derive(Debug)]
pub(super) struct WriterState {
    pub written: AtomicU64,
    pub durable: AtomicU64,
    fen_written: AtomicU64,
    fen_durable: AtomicU64,
    /// When the oldest record that is not safe was written; `NEVER` where all are.
    since_ms: AtomicI64,
    last_ms: AtomicI64,
    /// When the first record of the segment being written was made; `NEVER` where there is none.
    first_ms: AtomicI64,
    pub files: Mutex<Files>,
}

/// The files of one writer.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The segment being written, last, and those before it that are not synced whole.
    pub open: Vec<Segment>,
    /// The segment to be written next.
    pub next: Option<Segment>,
    /// Segments that are synced whole and not sealed.
    pub full: Vec<Segment>,
}

/// One segment.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub id: SegmentId,
    pub file: Arc<dyn File>,
    pub epoch: u64,
    /// Where its frames end, once it is full.
    pub end: Option<u64>,
    /// The times of the first and the last record, once it is full.
    pub times: (UnixMillis, UnixMillis),
    /// The first and the last sequence, once it is full; zero where there is none.
    pub sequences: (u64, u64),
    /// What would not be counted were its records lost, in fen, once it is full.
    pub fen: u64,
}

/// Writes the records of one worker.
#[derive(Debug)]
pub struct Writer {
    number: u16,
    progress: Arc<Progress>,
    segment: Segment,
    /// Where the frames of the segment end.
    offset: u64,
    sequence: u64,
    buffer: Vec<u8>,
    /// Of what is in the buffer.
    fen: u64,
    fen_of_segment: u64,
    last_at: UnixMillis,
    /// Sequence and time of the first record of the segment.
    first_of_segment: Option<(u64, UnixMillis)>,
}

impl Progress {
    pub(super) fn new(writers: u16, segment_bytes: u64, stamp: u64) -> Self {
        let state = || WriterState {
            written: AtomicU64::new(0),
            durable: AtomicU64::new(0),
            fen_written: AtomicU64::new(0),
            fen_durable: AtomicU64::new(0),
            since_ms: AtomicI64::new(NEVER),
            last_ms: AtomicI64::new(0),
            first_ms: AtomicI64::new(NEVER),
            files: Mutex::default(),
        };
        Self {
            writers: (0..writers).map(|_| state()).collect(),
            segment_bytes,
            stamp: AtomicU64::new(stamp),
            failed: AtomicBool::new(false),
            wake: Mutex::default(),
            bell: Condvar::new(),
            synced: Condvar::new(),
            waiters: Mutex::default(),
            idle: AtomicBool::new(false),
        }
    }

    /// Returns when the oldest record was made that is in no sealed segment; `None` where all are.
    pub fn oldest_unsealed(&self) -> Option<UnixMillis> {
        let of = |writer: &WriterState| {
            let files = writer.files();
            let ended = files.full.iter().chain(files.open.iter().filter(|segment| segment.end.is_some()));
            let ended = ended.map(|segment| segment.times.0).min();
            let begun = writer.first_ms.load(Ordering::Acquire);
            ended.into_iter().chain((begun != NEVER).then_some(UnixMillis(begun))).min()
        };
        self.writers.iter().filter_map(of).min()
    }

    /// Notes that nothing more will ever be safe.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::SeqCst);
        self.announce();
    }

    /// Tells those who wait that something has become safe, or never will.
    pub(super) fn announce(&self) {
        drop(self.waiters.lock().unwrap_or_else(PoisonError::into_inner));
        self.synced.notify_all();
    }

    /// Tells whether something is written that is not safe.
    pub(super) fn has_work(&self) -> bool {
        self.writers.iter().any(|writer| {
            // SeqCst: see `ring`.
            writer.written.load(Ordering::SeqCst) > writer.durable.load(Ordering::Acquire)
        })
    }

    /// Wakes whoever syncs, where it sleeps. Cheap where it does not.
    fn ring(&self) {
        // SeqCst: either this sees that it is about to sleep, or it sees what was written; see `Syncer::run`.
        if self.idle.load(Ordering::SeqCst) {
            drop(self.wake());
            self.bell.notify_one();
        }
    }

    pub(super) fn wake(&self) -> MutexGuard<'_, Wake> {
        self.wake.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sleeps until there is something to sync, or the end. For whoever syncs.
    pub(super) fn sleep(&self, until: impl Fn(&Wake) -> bool, at_most: Option<std::time::Duration>) -> Wake {
        let mut wake = self.wake();
        // Whoever waits out a pace has something to sync: each ring would have it wait anew.
        self.idle.store(at_most.is_none(), Ordering::SeqCst);
        while !until(&wake) {
            wake = match at_most {
                None => self.bell.wait(wake).unwrap_or_else(PoisonError::into_inner),
                Some(at_most) => {
                    let (wake, timed_out) =
                        self.bell.wait_timeout(wake, at_most).unwrap_or_else(PoisonError::into_inner);
                    if timed_out.timed_out() {
                        self.idle.store(false, Ordering::SeqCst);
                        return *wake;
                    }
                    wake
                }
            };
        }
        self.idle.store(false, Ordering::SeqCst);
        let now = *wake;
        wake.requested = false;
        now
    }

    /// Has whoever syncs come to its end.
    pub fn stop(&self) {
        self.wake().stopping = true;
        self.bell.notify_all();
    }
}

impl Watermark for Progress {
    fn covers(&self, position: Position) -> bool {
        let writer = self.writers.get(usize::from(position.writer));
        // Acquire: partner of the Release in `WriterState::synced`.
        writer.is_some_and(|writer| writer.durable.load(Ordering::Acquire) >= position.offset)
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn exposure(&self) -> Exposure {
        let mut sum = Exposure::default();
        for writer in &self.writers {
            // What is safe is read first: it never passes what is written.
            let durable = writer.fen_durable.load(Ordering::Acquire);
            sum.fen = sum.fen.saturating_add(writer.fen_written.load(Ordering::Acquire).saturating_sub(durable));
            let since = writer.since_ms.load(Ordering::Acquire);
            if since != NEVER {
                let since = UnixMillis(since);
                sum.since = Some(sum.since.map_or(since, |oldest| oldest.min(since)));
            }
        }
        sum
    }

    fn request(&self) {
        let mut wake = self.wake();
        wake.requested = true;
        drop(wake);
        self.bell.notify_one();
    }

    fn wait(&self, position: Position) -> Result<(), Fault> {
        self.request();
        let mut waiting = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if self.covers(position) {
                return Ok(());
            }
            if self.has_failed() {
                return Err(Fault::Failed);
            }
            waiting = self.synced.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl WriterState {
    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns what is to be noted once all written by now is safe.
    pub fn mark(&self) -> Mark {
        // Acquire: partner of the Release in `flush`. What is counted there is counted before the position.
        let written = self.written.load(Ordering::Acquire);
        Mark { written, fen: self.fen_written.load(Ordering::Acquire), last_ms: self.last_ms.load(Ordering::Acquire) }
    }

    /// Notes that all up to a mark is safe.
    pub fn synced(&self, mark: Mark) {
        self.fen_durable.fetch_max(mark.fen, Ordering::AcqRel);
        self.durable.fetch_max(mark.written, Ordering::AcqRel);
        self.since_ms.store(NEVER, Ordering::SeqCst);
        // What was written since was written no earlier than the last of what is safe. SeqCst: either this sees what is
        // written meanwhile, or its writer sees that nothing older is left and notes itself.
        if self.written.load(Ordering::SeqCst) > mark.written {
            let _ = self.since_ms.compare_exchange(NEVER, mark.last_ms, Ordering::SeqCst, Ordering::Relaxed);
        }
    }
}

/// How far a writer was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    pub written: u64,
    fen: u64,
    last_ms: i64,
}

impl Writer {
    /// Makes a writer that begins a segment. `sequence` is that of its last record.
    pub(super) fn new(progress: Arc<Progress>, number: u16, segment: Segment, sequence: u64) -> Self {
        let offset = HEADER_BYTES as u64;
        let writer = Self {
            number,
            progress,
            segment,
            offset,
            sequence,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            fen: 0,
            fen_of_segment: 0,
            last_at: UnixMillis(0),
            first_of_segment: None,
        };
        if let Some(state) = writer.state() {
            state.files().open.push(writer.segment.clone());
            let begun = writer.position(0);
            state.written.store(begun, Ordering::Release);
            state.durable.store(begun, Ordering::Release);
        }
        writer
    }

    fn state(&self) -> Option<&WriterState> {
        self.progress.writers.get(usize::from(self.number))
    }

    fn position(&self, more: usize) -> u64 {
        position(self.segment.id.number, self.offset.saturating_add(bytes(more)))
    }

    fn left(&self) -> usize {
        let left = frames_end(self.progress.segment_bytes).saturating_sub(self.begin());
        usize::try_from(left).unwrap_or(usize::MAX).saturating_sub(self.buffer.len())
    }

    /// Returns where the next write begins: no sector that may be safe is written again.
    fn begin(&self) -> u64 {
        self.offset.next_multiple_of(SECTOR_BYTES as u64)
    }

    /// Goes on in the next segment; `false` where there is none.
    fn turn_over(&mut self) -> Result<bool, Fault> {
        self.flush()?;
        let Some(state) = self.progress.writers.get(usize::from(self.number)) else { return Ok(false) };
        let mut files = state.files();
        let Some(next) = files.next.take() else { return Ok(false) };
        if let Some(last) = files.open.last_mut() {
            last.end = Some(self.offset);
            last.times = (self.first_of_segment.map_or(self.last_at, |(_, at)| at), self.last_at);
            last.sequences = self.first_of_segment.map_or((0, 0), |(first, _)| (first, self.sequence));
            last.fen = std::mem::take(&mut self.fen_of_segment);
        }
        files.open.push(next.clone());
        drop(files);
        self.segment = next;
        self.offset = HEADER_BYTES as u64;
        self.first_of_segment = None;
        if let Some(state) = self.state() {
            state.first_ms.store(NEVER, Ordering::Release);
        }
        Ok(true)
    }
}

impl Sink for Writer {
    fn room_bytes(&self) -> usize {
        let next = self.state().is_some_and(|state| state.files().next.is_some());
        let left = self.left();
        let fresh = usize::try_from(frames_end(self.progress.segment_bytes)).unwrap_or(usize::MAX);
        if next { left.saturating_add(fresh.saturating_sub(HEADER_BYTES)) } else { left }
    }

    fn append(&mut self, payload: &[u8], at: UnixMillis, fen: u64) -> Result<(), Fault> {
        if self.progress.has_failed() {
            return Err(Fault::Failed);
        }
        let needed = frame_bytes(payload.len());
        if payload.is_empty() || payload.len() > frame::PAYLOAD_BYTES_MAX {
            return Err(Fault::NoRoom);
        }
        if needed > self.left() && (!self.turn_over()? || needed > self.left()) {
            return Err(Fault::NoRoom);
        }
        self.sequence = self.sequence.saturating_add(1);
        frame::append(&mut self.buffer, self.sequence, at, payload);
        self.fen = self.fen.saturating_add(fen);
        self.fen_of_segment = self.fen_of_segment.saturating_add(fen);
        self.last_at = at;
        if self.first_of_segment.is_none() {
            self.first_of_segment = Some((self.sequence, at));
            if let Some(state) = self.state() {
                state.first_ms.store(at.0, Ordering::Release);
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<Position, Fault> {
        if self.progress.has_failed() {
            return Err(Fault::Failed);
        }
        if !self.buffer.is_empty() {
            let state = self.progress.writers.get(usize::from(self.number)).ok_or(Fault::Failed)?;
            // Relaxed: whoever acts on what another has written has seen it by other means.
            let stamp = self.progress.stamp.fetch_add(1, Ordering::Relaxed);
            let durable = state.durable.load(Ordering::Acquire);
            frame::seal(&mut self.buffer, self.segment.epoch, stamp, durable);
            self.offset = self.begin();
            if let Err(error) = self.segment.file.write_at(&self.buffer, self.offset) {
                tracing::error!(%error, "a write of the journal failed: nothing more is acknowledged");
                self.progress.fail();
                return Err(Fault::Failed);
            }
            self.offset = self.offset.saturating_add(bytes(self.buffer.len()));
            self.buffer.clear();
            state.last_ms.store(self.last_at.0, Ordering::Release);
            state.fen_written.fetch_add(std::mem::take(&mut self.fen), Ordering::AcqRel);
            // SeqCst: see `Progress::ring`. Release: partner of the Acquire of whoever syncs; what is published is the file.
            state.written.store(self.position(0), Ordering::SeqCst);
            // Fails where something older is not safe yet. SeqCst: see `WriterState::synced`.
            let _ = state.since_ms.compare_exchange(NEVER, self.last_at.0, Ordering::SeqCst, Ordering::Relaxed);
            self.progress.ring();
        }
        Ok(Position { writer: self.number, offset: self.position(0) })
    }
}

/// Says what stands in the way of a file.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// No time.
const NEVER: i64 = i64::MIN;

/// What the buffer of a writer has room for from the start.
const BUFFER_BYTES: usize = 1 << 17;
