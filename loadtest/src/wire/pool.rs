//! The connections of one [`Wire`](super::Wire), and what events mean for them.

use std::io;
use std::time::Instant;

use mio::event::Event;
use mio::{Registry, Token};

use super::answer::Fed;
use super::connection::{Connection, Received};
use super::{Bounds, Done, Failure, Idle, InFlight, Target, WireError};

/// The connections, each in a slot whose index is the token of its events.
pub(super) struct Pool {
    target: Target,
    registry: Registry,
    bounds: Bounds,
    slots: Vec<Slot>,
    pub(super) idle: Idle,
    /// Slots whose request could not be written.
    unsendable: Vec<usize>,
    /// What was read last, of whichever connection.
    buffer: Box<[u8]>,
}

/// A place for a connection, which is opened anew when it breaks.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    in_flight: Option<InFlight>,
    /// Since when there has been no open connection here.
    down_since: Option<Instant>,
    /// Why the last attempt to open one failed.
    down_reason: Option<io::Error>,
}

/// Whether a connection can be used further.
enum Fate {
    Kept,
    Lost(Failure),
}

impl Pool {
    pub(super) fn new(target: Target, registry: Registry, bounds: Bounds, connections: usize) -> Self {
        Self {
            target,
            registry,
            bounds,
            slots: Vec::with_capacity(connections),
            idle: Idle::with_capacity(connections),
            unsendable: Vec::new(),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
        }
    }

    /// Starts connections, up to `connections` in all and `opening_max` that are not open yet.
    pub(super) fn start(&mut self, connections: usize, opening_max: usize) {
        while self.slots.len() < connections && self.slots.len() < self.idle.len() + opening_max {
            let index = self.slots.len();
            self.slots.push(Slot::default());
            self.open(index);
        }
    }

    pub(super) fn send(&mut self, tag: u64, request: &[u8]) -> bool {
        let Some(index) = self.idle.pop_front() else {
            return false;
        };
        let Some(slot) = self.slots.get_mut(index) else {
            return false;
        };
        slot.in_flight = Some(InFlight { tag, sent: Instant::now() });
        let sent = slot.connection.as_mut().map(|connection| connection.send(request, &self.registry));
        if !matches!(sent, Some(Ok(()))) {
            self.unsendable.push(index);
        }
        true
    }

    /// Reports requests that could not be written, or the answers that came before; false if there were none.
    pub(super) fn report_unsendable(&mut self, done: &mut dyn FnMut(Done<'_>)) -> bool {
        let found = !self.unsendable.is_empty();
        while let Some(index) = self.unsendable.pop() {
            if let Some(connection) = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut()) {
                connection.note_event(true);
            }
            let failure = match self.receive(index, done) {
                Fate::Lost(failure) => failure,
                Fate::Kept => Failure::Closed,
            };
            self.replace(index, failure, done);
        }
        found
    }

    pub(super) fn on_event(&mut self, event: &Event, done: &mut dyn FnMut(Done<'_>)) {
        let index = event.token().0;
        let Some(connection) = self.slots.get_mut(index).and_then(|slot| slot.connection.as_mut()) else {
            return;
        };
        connection.note_event(event.is_read_closed() || event.is_error());
        if !connection.is_open() {
            return self.advance(index);
        }
        if connection.awaits_writable() && event.is_writable() && connection.flush(&self.registry).is_err() {
            // What the other side said before it closed still counts.
            connection.note_event(true);
        }
        if let Fate::Lost(failure) = self.receive(index, done) {
            self.replace(index, failure, done);
        }
    }

    /// Gives up requests and attempts to connect that have taken too long, and tries again where there is no connection.
    pub(super) fn sweep(&mut self, now: Instant, done: &mut dyn FnMut(Done<'_>)) -> Result<(), WireError> {
        let patience = self.bounds.answer_timeout;
        let is_over = |since: Instant| now.saturating_duration_since(since) >= patience;
        for index in 0..self.slots.len() {
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if slot.in_flight.is_some_and(|in_flight| is_over(in_flight.sent)) {
                self.replace(index, Failure::TimedOut, done);
            } else if slot.down_since.is_some_and(is_over) {
                let source = slot.down_reason.take().unwrap_or_else(|| io::ErrorKind::TimedOut.into());
                return Err(WireError::Unreachable { patience, source });
            } else if slot.connection.is_none() {
                self.open(index);
            }
        }
        Ok(())
    }

    fn open(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.down_since.get_or_insert_with(Instant::now);
        match Connection::start(&self.target, &self.registry, Token(index)) {
            Ok(connection) => slot.connection = Some(connection),
            Err(error) => slot.down_reason = Some(error),
        }
    }

    fn advance(&mut self, index: usize) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        match slot.connection.as_mut().map(|connection| connection.advance(&self.registry)) {
            None | Some(Ok(false)) => {}
            Some(Ok(true)) => {
                slot.down_since = None;
                slot.down_reason = None;
                self.idle.push_back(index);
            }
            Some(Err(error)) => {
                slot.connection = None;
                slot.down_reason = Some(error);
            }
        }
    }

    /// Reads until the socket is empty.
    fn receive(&mut self, index: usize, done: &mut dyn FnMut(Done<'_>)) -> Fate {
        let Some(Slot { connection: Some(connection), in_flight, .. }) = self.slots.get_mut(index) else {
            return Fate::Kept;
        };
        loop {
            let bytes = match connection.receive(&mut self.buffer) {
                Received::Bytes(bytes) => bytes,
                Received::Drained => return Fate::Kept,
                Received::Closed => return Fate::Lost(Failure::Closed),
                Received::Malformed => return Fate::Lost(Failure::Malformed),
            };
            let fresh = self.buffer.get_mut(..bytes).unwrap_or_default();
            match connection.reading.feed(fresh, self.bounds.answer_bytes_max) {
                Fed::Partial => {}
                Fed::Malformed => return Fate::Lost(Failure::Malformed),
                Fed::Whole { answer, last } => {
                    let Some(asked) = in_flight.take() else {
                        return Fate::Lost(Failure::Malformed);
                    };
                    done(asked.done(Ok(answer)));
                    self.idle.push_back(index);
                    connection.reading.reset();
                    if last {
                        return Fate::Lost(Failure::Closed);
                    }
                }
            }
        }
    }

    /// Drops a connection, reports what was asked on it, and starts the next one.
    fn replace(&mut self, index: usize, failure: Failure, done: &mut dyn FnMut(Done<'_>)) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.connection = None;
        match slot.in_flight.take() {
            Some(asked) => done(asked.done(Err(failure))),
            None => self.idle.retain(|&idle| idle != index),
        }
        self.open(index);
    }
}

/// Read at once, at most.
const BUFFER_BYTES: usize = 64 * 1024;
