//! Bodies: read whole, within a bound each, a budget together, and a deadline.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};

use crate::reason::Reason;

/// The bytes that all bodies being held may take together.
#[derive(Debug)]
pub struct Budget {
    used_bytes: AtomicUsize,
    bytes_max: usize,
}

/// A part of the budget, given back when dropped.
#[derive(Debug)]
pub(super) struct Grant {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    /// Makes an unused budget.
    pub fn new(bytes_max: usize) -> Self {
        Self { used_bytes: AtomicUsize::new(0), bytes_max }
    }

    /// Returns how many bytes are in use.
    pub fn used_bytes(&self) -> usize {
        self.used_bytes.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> Result<(), Reason> {
        // Relaxed: the counter publishes nothing but itself.
        let fits = |used: usize| used.checked_add(bytes).filter(|used| *used <= self.bytes_max);
        let taken = self.used_bytes.try_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(|_| ()).map_err(|_| Reason::BodyBudgetExhausted)
    }
}

impl Grant {
    /// Makes bytes that keep their part of the budget for as long as any of them is held, in a socket's queue too.
    pub fn hold(self, bytes: Bytes) -> Bytes {
        Bytes::from_owner(Held { bytes, _grant: self })
    }

    pub fn nothing(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    pub fn grow(&mut self, bytes: usize) -> Result<(), Reason> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

struct Held {
    bytes: Bytes,
    _grant: Grant,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.budget.used_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What a body is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A connection of its own. What is left unread when it closes would reset it, and the answer with it: some of a
    /// body that is refused is read and dropped.
    Connection,
    /// A stream of several on a connection. It is left as it is; but a piece of a body that was not copied would hold the
    /// buffer in which pieces of others are, too.
    Stream,
}

/// Reads a request's body to its end, and takes as much of the budget as it holds. Trailers are dropped.
///
/// # Errors
/// Too large, too slow, over the budget, or broken off: the connection, or the stream, is to be closed then.
pub(super) async fn read(
    body: Incoming,
    bytes_max: usize,
    grant: &mut Grant,
    timeout: Duration,
    source: Source,
) -> Result<Bytes, Reason> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let expected = body.size_hint().lower();
    let mut body = body;
    let collected = if usize::try_from(expected).map_or(true, |expected| expected > bytes_max) {
        Err(Reason::BodyTooLarge)
    } else {
        let collected = tokio::time::timeout(timeout, collect(&mut body, bytes_max, grant, source)).await;
        collected.unwrap_or(Err(Reason::BodyTimeout))
    };
    if source == Source::Connection && matches!(collected, Err(Reason::BodyTooLarge | Reason::BodyBudgetExhausted)) {
        let _ = tokio::time::timeout(DISCARD_TIMEOUT.min(timeout), discard(body)).await;
    }
    collected
}

/// Reads on and keeps nothing, within a bound.
async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B) {
    let mut left = DISCARD_BYTES_MAX;
    while let Some(Ok(frame)) = body.frame().await {
        left = left.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
        if left == 0 {
            return;
        }
    }
}

async fn collect<B: Body<Data = Bytes> + Unpin>(
    mut body: B,
    bytes_max: usize,
    grant: &mut Grant,
    source: Source,
) -> Result<Bytes, Reason> {
    let mut first = Bytes::new();
    let mut joined = BytesMut::new();
    let mut read_bytes: usize = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Reason::BodyTimeout)?;
        let Ok(data) = frame.into_data() else { continue };
        grant.grow(data.len())?;
        read_bytes += data.len();
        if read_bytes > bytes_max {
            return Err(Reason::BodyTooLarge);
        }
        // PERF: a body in one piece, the usual case, is not copied.
        if source == Source::Connection && first.is_empty() && joined.is_empty() {
            first = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&first);
            }
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { first } else { joined.freeze() })
}

/// Most bytes of a body that is refused anyway which are read so that the refusal arrives.
const DISCARD_BYTES_MAX: usize = 1024 * 1024;

/// Longest time spent on that.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::Full;
    use hyper::body::Frame;

    struct Pieces(&'static [&'static [u8]]);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
            let Some((piece, rest)) = self.0.split_first() else { return std::task::Poll::Ready(None) };
            self.0 = rest;
            std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
        }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().expect("runtime").block_on(future)
    }

    #[test]
    fn pieces_are_joined_in_order_and_counted_against_the_bound() {
        let budget = Arc::new(Budget::new(100));
        let mut grant = Grant::nothing(&budget);
        assert_eq!(
            run(collect(Pieces(&[b"ab", b"c", b"", b"de"]), 5, &mut grant, Source::Connection)),
            Ok(Bytes::from_static(b"abcde"))
        );
        assert_eq!(budget.used_bytes(), 5);
        drop(grant);
        assert_eq!(budget.used_bytes(), 0);
        let mut grant = Grant::nothing(&budget);
        assert_eq!(
            run(collect(Pieces(&[b"abc", b"def"]), 5, &mut grant, Source::Connection)),
            Err(Reason::BodyTooLarge)
        );
    }

    #[test]
    fn held_bytes_keep_their_part_of_the_budget_until_the_last_is_dropped() {
        let budget = Arc::new(Budget::new(5));
        let mut grant = Grant::nothing(&budget);
        assert!(grant.grow(5).is_ok());
        let held = grant.hold(Bytes::from_static(b"abcde"));
        let queued = held.slice(4..);
        drop(held);
        assert_eq!((budget.used_bytes(), queued.as_ref()), (5, b"e".as_slice()));
        drop(queued);
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn bodies_together_stay_within_the_budget() {
        let budget = Arc::new(Budget::new(5));
        let mut one = Grant::nothing(&budget);
        assert!(run(collect(Full::new(Bytes::from_static(b"abc")), 10, &mut one, Source::Stream)).is_ok());
        let mut other = Grant::nothing(&budget);
        let full = run(collect(Full::new(Bytes::from_static(b"abc")), 10, &mut other, Source::Stream));
        assert_eq!(full, Err(Reason::BodyBudgetExhausted));
        drop(one);
        let again = run(collect(Full::new(Bytes::from_static(b"abc")), 10, &mut other, Source::Stream));
        assert!(again.is_ok());
    }
}
