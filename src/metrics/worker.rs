//! What one worker counts. HOT.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::histogram::{Histogram, Reading, Scale};
use crate::reason::Reason;

/// What one worker counts: written by one worker, read by the scraper.
///
/// Padded to two cache lines, since processors fetch them in pairs, so that no two workers write to one line.
#[derive(Debug)]
#[repr(align(128))]
pub struct Worker {
    admissions: Counter,
    duplicates: Counter,
    shadow_refusals: Counter,
    refusals: [Counter; Reason::COUNT],
    requests: Counter,
    connections_opened: Counter,
    connections_closed: Counter,
    connections_refused: Counter,
    multiplexed_connections: Counter,
    resets: Counter,
    floods_ended: Counter,
    handshakes_failed: Counter,
    accepts_failed: Counter,
    batches: Histogram<BATCH_BOUNDS>,
    stages: [Histogram<STAGE_BOUNDS>; Stage::ALL.len()],
    skew_ahead: Histogram<SKEW_BOUNDS>,
    skew_behind: Histogram<SKEW_BOUNDS>,
}

/// A part of a request's way through the gate whose time is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Reading the body.
    Body,
    /// Waiting for the batch.
    Queue,
    /// Deciding; once per batch.
    Decide,
    /// From the request's place in the queue until its record is safe, where a decision waits for that.
    Safe,
    /// Waiting for the upstream's answer.
    Upstream,
    /// Signing the answer, the wait for a signing thread included.
    Sign,
    /// From the request's head to the answer.
    Total,
}

impl Worker {
    /// Makes counters at zero.
    pub fn new() -> Self {
        Self {
            admissions: Counter::default(),
            duplicates: Counter::default(),
            shadow_refusals: Counter::default(),
            refusals: std::array::from_fn(|_| Counter::default()),
            requests: Counter::default(),
            connections_opened: Counter::default(),
            connections_closed: Counter::default(),
            connections_refused: Counter::default(),
            multiplexed_connections: Counter::default(),
            resets: Counter::default(),
            floods_ended: Counter::default(),
            handshakes_failed: Counter::default(),
            accepts_failed: Counter::default(),
            batches: Histogram::new(&BATCH_SCALE),
            stages: std::array::from_fn(|_| Histogram::new(&STAGE_SCALE)),
            skew_ahead: Histogram::new(&SKEW_SCALE),
            skew_behind: Histogram::new(&SKEW_SCALE),
        }
    }

    /// Counts a batch of `size` requests.
    pub fn batch(&self, size: usize) {
        self.batches.observe(u64::try_from(size).unwrap_or(u64::MAX));
    }

    /// Counts an admission; `duplicate` where it found an earlier decision on the same order.
    pub fn admitted(&self, duplicate: bool) {
        self.admissions.increment();
        if duplicate {
            self.duplicates.increment();
        }
    }

    /// Counts the shadow limits that would have refused an admission.
    pub fn shadow_refused(&self, limits: usize) {
        self.shadow_refusals.add(u64::try_from(limits).unwrap_or(u64::MAX));
    }

    /// Counts a refusal.
    pub fn refused(&self, reason: Reason) {
        if let Some(counter) = self.refusals.get(reason.index()) {
            counter.increment();
        }
    }

    /// Counts the time that a stage took.
    pub fn stage(&self, stage: Stage, elapsed: Duration) {
        if let Some(histogram) = self.stages.get(stage.index()) {
            histogram.observe(u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX));
        }
    }

    /// Counts how far the timestamp of an authentic request is off: its time less the gate's, in milliseconds.
    pub fn skew(&self, skew_ms: i64) {
        let histogram = if skew_ms < 0 { &self.skew_behind } else { &self.skew_ahead };
        histogram.observe(skew_ms.unsigned_abs());
    }

    /// Counts a connection accepted.
    pub fn connection_opened(&self) {
        self.connections_opened.increment();
    }

    /// Counts a connection that ended.
    pub fn connection_closed(&self) {
        self.connections_closed.increment();
    }

    /// Counts a connection closed at once because a bound on connections was reached.
    pub fn connection_refused(&self) {
        self.connections_refused.increment();
    }

    /// Counts a connection that began to speak HTTP/2.
    pub fn multiplexed_opened(&self) {
        self.multiplexed_connections.increment();
    }

    /// Counts streams that their peer reset.
    pub fn streams_reset(&self, count: u64) {
        if count > 0 {
            self.resets.add(count);
        }
    }

    /// Counts a connection that was ended because its peer did too much that led nowhere.
    pub fn flood_ended(&self) {
        self.floods_ended.increment();
    }

    /// Counts a TLS handshake that failed or took too long.
    pub fn handshake_failed(&self) {
        self.handshakes_failed.increment();
    }

    /// Counts a failure of the listener to accept.
    pub fn accept_failed(&self) {
        self.accepts_failed.increment();
    }

    /// Counts a request whose head was read.
    pub fn request(&self) {
        self.requests.increment();
    }

    pub(super) fn admissions(&self) -> u64 {
        self.admissions.read()
    }

    pub(super) fn duplicates(&self) -> u64 {
        self.duplicates.read()
    }

    pub(super) fn shadow_refusals(&self) -> u64 {
        self.shadow_refusals.read()
    }

    pub(super) fn refusals(&self, reason: Reason) -> u64 {
        self.refusals.get(reason.index()).map_or(0, Counter::read)
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.read()
    }

    pub(super) fn connections_opened(&self) -> u64 {
        self.connections_opened.read()
    }

    pub(super) fn connections_closed(&self) -> u64 {
        self.connections_closed.read()
    }

    pub(super) fn connections_refused(&self) -> u64 {
        self.connections_refused.read()
    }

    pub(super) fn multiplexed_connections(&self) -> u64 {
        self.multiplexed_connections.read()
    }

    pub(super) fn resets(&self) -> u64 {
        self.resets.read()
    }

    pub(super) fn floods_ended(&self) -> u64 {
        self.floods_ended.read()
    }

    pub(super) fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.read()
    }

    pub(super) fn accepts_failed(&self) -> u64 {
        self.accepts_failed.read()
    }

    pub(super) fn batches(&self) -> Reading<BATCH_BOUNDS> {
        self.batches.read()
    }

    pub(super) fn stage_seconds(&self, stage: Stage) -> Reading<STAGE_BOUNDS> {
        self.stages.get(stage.index()).map_or_else(Reading::empty, Histogram::read)
    }

    pub(super) fn skew_ahead(&self) -> Reading<SKEW_BOUNDS> {
        self.skew_ahead.read()
    }

    pub(super) fn skew_behind(&self) -> Reading<SKEW_BOUNDS> {
        self.skew_behind.read()
    }
}

impl Default for Worker {
    fn default() -> Self {
        Self::new()
    }
}

impl Stage {
    /// Every stage, in declaration order.
    pub const ALL: &'static [Self] =
        &[Self::Body, Self::Queue, Self::Decide, Self::Safe, Self::Upstream, Self::Sign, Self::Total];

    /// Returns the name used as a label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Body => "body",
            Self::Queue => "queue",
            Self::Decide => "decide",
            Self::Safe => "safe",
            Self::Upstream => "upstream",
            Self::Sign => "sign",
            Self::Total => "total",
        }
    }

    const fn index(self) -> usize {
        self as usize
    }
}

/// A count that only rises.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn increment(&self) {
        self.add(1);
    }

    fn add(&self, count: u64) {
        // Relaxed, here and below: the count publishes nothing but itself.
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many bounds the histogram of batch sizes has.
pub(super) const BATCH_BOUNDS: usize = 8;

/// How many bounds a histogram of a stage's time has.
pub(super) const STAGE_BOUNDS: usize = 22;

/// How many bounds a histogram of clock skew has.
pub(super) const SKEW_BOUNDS: usize = 12;

/// Batch sizes, counted in requests.
pub(super) static BATCH_SCALE: Scale<BATCH_BOUNDS> =
    Scale { bounds: [1, 2, 4, 8, 16, 32, 64, 128], per_shown: 1, value_max: 1 << 32 };

/// Times of stages, counted in nanoseconds, from a microsecond to ten seconds.
pub(super) static STAGE_SCALE: Scale<STAGE_BOUNDS> = Scale {
    bounds: [
        1_000,
        2_000,
        5_000,
        10_000,
        20_000,
        50_000,
        100_000,
        200_000,
        500_000,
        1_000_000,
        2_000_000,
        5_000_000,
        10_000_000,
        20_000_000,
        50_000_000,
        100_000_000,
        200_000_000,
        500_000_000,
        1_000_000_000,
        2_000_000_000,
        5_000_000_000,
        10_000_000_000,
    ],
    per_shown: 1_000_000_000,
    value_max: DAY_S * 1_000_000_000,
};

/// Amounts of clock skew, counted in milliseconds. Timestamps are whole seconds: finer bounds would show rounding.
pub(super) static SKEW_SCALE: Scale<SKEW_BOUNDS> = Scale {
    bounds: [1_000, 2_000, 5_000, 10_000, 20_000, 30_000, 60_000, 120_000, 180_000, 240_000, 300_000, 600_000],
    per_shown: 1_000,
    value_max: DAY_S * 1_000,
};

/// A day, in seconds: no stage and no skew of an authentic request comes near.
const DAY_S: u64 = 86_400;
