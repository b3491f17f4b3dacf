//! A small HTTP/1.1 client that keeps many connections busy from one thread.
//!
//! It speaks over TCP, TLS and Unix sockets, one request at a time on each connection. After warm-up a request costs
//! one write, one read and no allocation (TLS allocates its records). Every accepted request is reported exactly once,
//! with its answer or with why there is none. A connection that broke is opened anew; none is ever retried on.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll};

use pool::Pool;

mod answer;
mod connection;
mod pool;
mod stream;
#[cfg(test)]
pub(crate) mod tests;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// An address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// A server, and the TLS to speak with it, in which it is named `localhost`.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where it listens.
    pub address: Address,
    /// How to trust it; without it, requests go in the clear.
    pub tls: Option<Arc<rustls::ClientConfig>>,
}

/// What an answer may cost.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Length of head and body together, with chunk lines.
    pub answer_bytes_max: usize,
    /// Time from sending to the last byte; also for how long a connection may fail to open.
    pub answer_timeout: Duration,
}

/// A request that is over.
#[derive(Debug)]
pub struct Done<'a> {
    /// What [`Wire::send`] was given.
    pub tag: u64,
    /// When the request was sent.
    pub sent: Instant,
    /// The answer, or why there is none.
    pub outcome: Result<Answer<'a>, Failure>,
}

/// A whole answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The body, without chunk lines.
    pub body: &'a [u8],
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The time for it was up. It may be answered all the same, later.
    TimedOut,
    /// The connection ended before the answer was whole.
    Closed,
    /// What came is no answer, or longer than allowed.
    Malformed,
}

/// Why a [`Wire`] cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The system's event queue failed.
    #[error("waiting for events failed")]
    Events(#[source] io::Error),
    /// A connection could not be opened, or not again, for [`Bounds::answer_timeout`].
    #[error("no connection could be opened for {patience:?}")]
    Unreachable {
        /// For how long it was tried.
        patience: Duration,
        /// Why the last attempt failed.
        #[source]
        source: io::Error,
    },
}

/// Connections to one server.
pub struct Wire {
    poll: Poll,
    events: Events,
    pool: Pool,
    next_sweep: Instant,
}

impl Wire {
    /// Opens connections and waits until all of them are open, with TLS handshakes done.
    ///
    /// # Errors
    /// As [`Self::poll`].
    pub fn connect(target: &Target, connections: usize, bounds: Bounds) -> Result<Self, WireError> {
        let poll = Poll::new().map_err(WireError::Events)?;
        let registry = poll.registry().try_clone().map_err(WireError::Events)?;
        let mut wire = Self {
            poll,
            events: Events::with_capacity(EVENTS_MAX),
            pool: Pool::new(target.clone(), registry, bounds, connections),
            next_sweep: Instant::now(),
        };
        while wire.pool.idle.len() < connections {
            wire.pool.start(connections, OPENING_MAX);
            wire.poll(None, &mut |_| {})?;
        }
        Ok(wire)
    }

    /// Counts the connections that can take a request now.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.pool.idle.len()
    }

    /// Sends a whole HTTP/1.1 request on the connection that has been idle for longest; false if none is idle.
    ///
    /// A request that could not be written is reported by the next [`Self::poll`]. HEAD is not understood.
    ///
    /// # Errors
    /// None at present.
    pub fn send(&mut self, tag: u64, request: &[u8]) -> Result<bool, WireError> {
        Ok(self.pool.send(tag, request))
    }

    /// Waits for events for at most `timeout` and reports each request that is over; may return early with none.
    ///
    /// What is less than a millisecond of `timeout` is not slept: a caller with a plan in microseconds polls in a loop.
    ///
    /// # Errors
    /// The event queue fails, or a connection could not be opened for as long as [`Bounds::answer_timeout`].
    pub fn poll(&mut self, timeout: Option<Duration>, done: &mut dyn FnMut(Done<'_>)) -> Result<(), WireError> {
        let wait = if self.pool.report_unsendable(done) { Duration::ZERO } else { self.wait(timeout) };
        match self.poll.poll(&mut self.events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(WireError::Events(error)),
        }
        for event in &self.events {
            self.pool.on_event(event, done);
        }
        let now = Instant::now();
        if now >= self.next_sweep {
            self.next_sweep = now + SWEEP_INTERVAL;
            self.pool.sweep(now, done)?;
        }
        Ok(())
    }

    fn wait(&self, timeout: Option<Duration>) -> Duration {
        let until_sweep = self.next_sweep.saturating_duration_since(Instant::now());
        match timeout {
            // The system call rounds up to milliseconds; these are cut off so that no caller is woken late.
            Some(timeout) if timeout < until_sweep => {
                timeout.saturating_sub(Duration::from_nanos(u64::from(timeout.subsec_nanos() % 1_000_000)))
            }
            Some(_) | None => until_sweep,
        }
    }
}

/// A request on its way.
#[derive(Clone, Copy)]
struct InFlight {
    tag: u64,
    sent: Instant,
}

impl InFlight {
    fn done(self, outcome: Result<Answer<'_>, Failure>) -> Done<'_> {
        Done { tag: self.tag, sent: self.sent, outcome }
    }
}

/// The connections without a request, by how long they have been so.
type Idle = VecDeque<usize>;

/// Events taken from the system at once.
const EVENTS_MAX: usize = 1024;

/// Connections being opened at once at first: a listener's queue is short.
const OPENING_MAX: usize = 64;

/// How often time-outs are looked for and connections that could not be opened are tried again.
const SWEEP_INTERVAL: Duration = Duration::from_millis(10);
