//! The streams of one connection: which are being handled, whose answers the peer has yet to take, and what it did that
//! led nowhere.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;

/// The streams of one connection.
#[derive(Debug)]
pub(super) struct Streams {
    handled: Cell<usize>,
    /// When the last one that was handled no longer was.
    handled_until: Cell<Instant>,
    untaken: Arc<Untaken>,
    resets_ahead: Cell<u64>,
    frames_debt_bytes: Cell<u64>,
}

impl Streams {
    /// Makes the state of a connection that begins.
    pub fn new(now: Instant) -> Rc<Self> {
        let waiting = Waiting { next: 0, since: BTreeMap::new(), until: now };
        Rc::new(Self {
            handled: Cell::new(0),
            handled_until: Cell::new(now),
            untaken: Arc::new(Untaken(Mutex::new(waiting))),
            resets_ahead: Cell::new(0),
            frames_debt_bytes: Cell::new(0),
        })
    }

    /// Counts a stream as handled for as long as the return value lives.
    pub fn handle(self: &Rc<Self>) -> Handling {
        self.handled.set(self.handled.get() + 1);
        Handling(Rc::clone(self))
    }

    /// Notes that a request is answered: a peer that takes answers may reset streams now and then, and its frames serve
    /// a purpose.
    pub fn answered(&self) {
        self.resets_ahead.set(self.resets_ahead.get().saturating_sub(1));
        self.paid(ANSWER_BYTES);
    }

    /// Notes that bytes were written, which pay for frames of the peer's.
    pub fn paid(&self, bytes: u64) {
        self.frames_debt_bytes.set(self.frames_debt_bytes.get().saturating_sub(bytes));
    }

    /// Counts resets; returns how many are ahead of the answers.
    pub fn reset(&self, count: u64) -> u64 {
        self.resets_ahead.set(self.resets_ahead.get().saturating_add(count));
        self.resets_ahead.get()
    }

    /// Counts frames that carry neither a request nor data; returns how many nothing has paid for.
    pub fn charged(&self, count: u64) -> u64 {
        let debt_bytes = self.frames_debt_bytes.get().saturating_add(count.saturating_mul(FRAME_BYTES));
        self.frames_debt_bytes.set(debt_bytes);
        debt_bytes / FRAME_BYTES
    }

    /// Makes bytes of an answer that are counted as not taken for as long as any of them is held.
    pub fn hold(&self, bytes: Bytes) -> Bytes {
        let mut waiting = self.untaken.lock();
        let number = waiting.next;
        waiting.next += 1;
        waiting.since.insert(number, Instant::now());
        drop(waiting);
        Bytes::from_owner(Held { bytes, number, untaken: Arc::clone(&self.untaken) })
    }

    /// Returns when the oldest answer was made that the peer has yet to take.
    pub fn untaken_since(&self) -> Option<Instant> {
        self.untaken.lock().since.first_key_value().map(|(_, since)| *since)
    }

    /// Returns since when nothing is handled and every answer is taken; `None` while it is not so.
    pub fn idle_since(&self) -> Option<Instant> {
        let waiting = self.untaken.lock();
        let idle = self.handled.get() == 0 && waiting.since.is_empty();
        idle.then(|| waiting.until.max(self.handled_until.get()))
    }
}

/// A stream that is being handled.
#[derive(Debug)]
pub(super) struct Handling(Rc<Streams>);

impl Drop for Handling {
    fn drop(&mut self) {
        self.0.handled.set(self.0.handled.get().saturating_sub(1));
        self.0.handled_until.set(Instant::now());
    }
}

/// Answers that the peer has yet to take. Behind a lock that nobody contends for, since [`Bytes`] may be dropped on any
/// thread.
#[derive(Debug)]
struct Untaken(Mutex<Waiting>);

#[derive(Debug)]
struct Waiting {
    next: u64,
    /// When each was made, in their order.
    since: BTreeMap<u64, Instant>,
    /// When the last was taken.
    until: Instant,
}

impl Untaken {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Held {
    bytes: Bytes,
    number: u64,
    untaken: Arc<Untaken>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut waiting = self.untaken.lock();
        waiting.since.remove(&self.number);
        waiting.until = Instant::now();
    }
}

/// What a frame that carries neither a request nor data costs: bytes written pay for it. A client that takes a long
/// answer sends some for every 16 KiB; a PING is answered by 17.
const FRAME_BYTES: u64 = 256;

/// What an answer pays for, whatever its length: four frames.
const ANSWER_BYTES: u64 = 4 * FRAME_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_idle_once_nothing_is_handled_and_all_answers_are_taken() {
        let began = Instant::now();
        let streams = Streams::new(began);
        assert_eq!(streams.idle_since(), Some(began));
        let handling = streams.handle();
        assert_eq!(streams.idle_since(), None);
        let answer = streams.hold(Bytes::from_static(b"abc"));
        drop(handling);
        assert_eq!((streams.idle_since(), streams.untaken_since().is_some()), (None, true));
        let part = answer.slice(1..);
        drop(answer);
        assert!(streams.untaken_since().is_some(), "a part of it is still there");
        drop(part);
        assert!(streams.untaken_since().is_none() && streams.idle_since().is_some());
    }

    #[test]
    fn answers_make_up_for_resets_and_bytes_written_for_frames() {
        let streams = Streams::new(Instant::now());
        assert_eq!(streams.reset(3), 3);
        streams.answered();
        assert_eq!(streams.reset(1), 3);
        assert_eq!(streams.charged(10), 10);
        streams.paid(2 * FRAME_BYTES);
        streams.answered();
        assert_eq!(streams.charged(1), 5);
    }
}
