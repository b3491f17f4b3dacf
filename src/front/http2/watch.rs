//! The deadlines and the bounds of a connection that speaks HTTP/2, kept where its bytes come in.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::time::Instant;

use super::frames::Frames;
use super::streams::Streams;
use crate::front::guard::{Deadlines, Pace};
use crate::metrics;

/// Watches the frames that come, and the streams that they belong to.
#[derive(Debug)]
pub(super) struct Watch {
    frames: Frames,
    streams: Rc<Streams>,
    deadlines: Deadlines,
    limits: Limits,
    metrics: Arc<metrics::Worker>,
    /// When the frame or the list of fields that has begun must be over.
    within_by: Option<Instant>,
}

/// What a connection may do that leads nowhere.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Most streams that the peer resets, less those answered.
    pub resets_max: u64,
    /// Most frames that carry neither a request nor data and are paid for by nothing that was written.
    pub frames_max: u64,
}

impl Watch {
    pub fn new(streams: Rc<Streams>, deadlines: Deadlines, limits: Limits, metrics: Arc<metrics::Worker>) -> Self {
        Self { frames: Frames::default(), streams, deadlines, limits, metrics, within_by: None }
    }
}

impl Pace for Watch {
    fn came(&mut self, bytes: &[u8]) -> io::Result<()> {
        let seen = self.frames.follow(bytes);
        if !self.frames.is_within() {
            self.within_by = None;
        } else if seen.ended || self.within_by.is_none() {
            self.within_by = Some(Instant::now() + self.deadlines.head);
        }
        self.metrics.streams_reset(seen.resets);
        let resets = self.streams.reset(seen.resets);
        let frames = self.streams.charged(seen.others);
        if resets > self.limits.resets_max || frames > self.limits.frames_max {
            self.metrics.flood_ended();
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        Ok(())
    }

    fn waits(&mut self) {}

    fn wrote(&mut self, bytes: usize) {
        self.streams.paid(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn flushed(&mut self) {}

    /// An answer that is not taken has a deadline of its own: to a peer that opens no window, nothing is written.
    fn due(&self) -> Option<Instant> {
        let answers_by = self.streams.untaken_since().map(|since| since + self.deadlines.write);
        // Frames that belong to no stream do not prolong the idle time.
        let idle_by = || self.streams.idle_since().map(|since| since + self.deadlines.idle);
        let read_by = self.within_by.or_else(idle_by);
        [answers_by, read_by].into_iter().flatten().min()
    }

    /// That a stream has ended, or an answer is taken, wakes nobody.
    fn look_again(&self) -> Option<Instant> {
        Some(Instant::now() + self.deadlines.idle)
    }
}
