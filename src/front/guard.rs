//! A stream with deadlines: for the head of a request, for the idle time between requests, for writing.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::options::Bounds;

/// What a connection is doing; set by the stream and by the service that handles its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Between requests.
    Idle,
    /// A head has begun and is not complete.
    Head,
    /// A request is being handled; the handler has deadlines of its own.
    Busy,
}

/// A phase that the stream and the service of one connection share.
pub(super) type SharedPhase = Rc<Cell<Phase>>;

/// How long each phase may last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    pub head: Duration,
    pub idle: Duration,
    pub write: Duration,
}

impl Deadlines {
    /// Takes them from the bounds.
    pub fn of(bounds: &Bounds) -> Self {
        Self { head: bounds.head_timeout, idle: bounds.idle_timeout, write: bounds.write_timeout }
    }
}

/// What a protocol makes of the bytes that come and go: how long what is waited for may take.
pub(super) trait Pace {
    /// Notes bytes that came.
    ///
    /// # Errors
    /// Where the peer has done something once too often: the connection ends.
    fn came(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Notes that a read waits.
    fn waits(&mut self);

    /// Notes how many bytes were written.
    fn wrote(&mut self, bytes: usize);

    /// Notes that all that was written has been taken.
    fn flushed(&mut self);

    /// Returns when what is waited for must be over.
    fn due(&self) -> Option<Instant>;

    /// Returns when to look at what is due again, though nothing has come by then.
    fn look_again(&self) -> Option<Instant>;
}

/// A stream that fails with [`io::ErrorKind::TimedOut`] when a phase lasts too long.
#[derive(Debug)]
pub(super) struct Guarded<S, P = Phases> {
    stream: S,
    pace: P,
    write_timeout: Duration,
    /// When what is being written must have been taken.
    write_by: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    armed_for: Instant,
}

impl<S> Guarded<S> {
    /// Guards a stream on which one request comes behind the other.
    pub fn new(stream: S, phase: SharedPhase, deadlines: Deadlines) -> Self {
        let far = Instant::now() + deadlines.idle;
        let timer = Box::pin(sleep_until(far));
        let pace = Phases { phase, deadlines, read_by: None, unflushed: false };
        Self { stream, pace, write_timeout: deadlines.write, write_by: None, timer, armed_for: far }
    }

    /// Guards the stream by another pace from here on.
    pub fn paced_by<P: Pace>(self, pace: P) -> Guarded<S, P> {
        let Self { stream, pace: _, write_timeout, write_by, timer, armed_for } = self;
        Guarded { stream, pace, write_timeout, write_by, timer, armed_for }
    }
}

impl<S, P: Pace> Guarded<S, P> {
    /// Fails once a deadline is over; otherwise sees to it that the task is woken by then.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        loop {
            let due = [self.pace.due(), self.write_by].into_iter().flatten().min();
            let Some(wake) = [due, self.pace.look_again()].into_iter().flatten().min() else { return Poll::Pending };
            // PERF: the timer is moved only forward in urgency; a deadline that moved away is noticed when it fires.
            if wake < self.armed_for || self.timer.is_elapsed() {
                self.timer.as_mut().reset(wake);
                self.armed_for = wake;
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            if due.is_some_and(|due| Instant::now() >= due) {
                return Poll::Ready(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn wait_to_write<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        let by = Instant::now() + self.write_timeout;
        self.write_by.get_or_insert(by);
        self.poll_deadline(context).map(Err)
    }

    fn written(&mut self, context: &mut Context<'_>, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match result {
            Poll::Pending => return self.wait_to_write(context),
            Poll::Ready(Ok(bytes)) => self.pace.wrote(bytes),
            Poll::Ready(Err(_)) => {}
        }
        result
    }

    fn flushed(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write_by = None;
        self.pace.flushed();
        match self.poll_deadline(context) {
            Poll::Ready(late) => Poll::Ready(Err(late)),
            Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

/// The pace of HTTP/1.1: one request behind the other.
#[derive(Debug)]
pub(super) struct Phases {
    phase: SharedPhase,
    deadlines: Deadlines,
    /// When the phase that is being read in must be over.
    read_by: Option<(Phase, Instant)>,
    /// Whether anything was written since the last flush.
    unflushed: bool,
}

impl Pace for Phases {
    /// Notes that bytes came: between requests, a head has begun.
    fn came(&mut self, _bytes: &[u8]) -> io::Result<()> {
        match self.phase.get() {
            Phase::Idle => {
                self.phase.set(Phase::Head);
                self.read_by = Some((Phase::Head, Instant::now() + self.deadlines.head));
            }
            Phase::Head => {}
            Phase::Busy => self.read_by = None,
        }
        Ok(())
    }

    /// Notes what the phase allows while a read waits.
    fn waits(&mut self) {
        let phase = self.phase.get();
        if self.read_by.is_some_and(|(noted, _)| noted == phase) {
            return;
        }
        self.read_by = match phase {
            Phase::Idle => Some((phase, Instant::now() + self.deadlines.idle)),
            Phase::Head => Some((phase, Instant::now() + self.deadlines.head)),
            Phase::Busy => None,
        };
    }

    fn wrote(&mut self, _bytes: usize) {
        self.unflushed = true;
    }

    /// Notes that an answer has been taken: its deadline is met, and the idle time begins. hyper does not read again
    /// after an answer until it is woken, so this is where the timer of the idle time is set.
    fn flushed(&mut self) {
        if std::mem::take(&mut self.unflushed) && self.phase.get() == Phase::Idle {
            self.read_by = Some((Phase::Idle, Instant::now() + self.deadlines.idle));
        }
    }

    /// A deadline of a phase that is over says nothing: of several requests that came together, only the first was
    /// waited for.
    fn due(&self) -> Option<Instant> {
        self.read_by.filter(|(phase, _)| *phase == self.phase.get()).map(|(_, by)| by)
    }

    fn look_again(&self) -> Option<Instant> {
        None
    }
}

impl<S: AsyncRead + Unpin, P: Pace + Unpin> AsyncRead for Guarded<S, P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        match Pin::new(&mut self.stream).poll_read(context, buffer) {
            Poll::Pending => {
                self.pace.waits();
                self.poll_deadline(context).map(Err)
            }
            Poll::Ready(Ok(())) => Poll::Ready(self.pace.came(buffer.filled().get(before..).unwrap_or_default())),
            failed @ Poll::Ready(Err(_)) => failed,
        }
    }
}

impl<S: AsyncWrite + Unpin, P: Pace + Unpin> AsyncWrite for Guarded<S, P> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.written(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.wait_to_write(context),
            Poll::Ready(Ok(())) => self.flushed(context),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.wait_to_write(context),
            done @ Poll::Ready(_) => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    fn deadlines() -> Deadlines {
        Deadlines { head: Duration::from_secs(5), idle: Duration::from_secs(75), write: Duration::from_secs(10) }
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("runtime").block_on(test);
    }

    #[test]
    fn a_head_has_its_own_shorter_deadline() {
        run(async {
            let (mut peer, ours) = duplex(64);
            let phase = Rc::new(Cell::new(Phase::Idle));
            let mut guarded = Guarded::new(ours, Rc::clone(&phase), deadlines());
            let began = Instant::now();
            tokio::time::sleep(Duration::from_secs(70)).await;
            peer.write_all(b"POST").await.expect("write");
            let mut bytes = [0; 16];
            assert_eq!(guarded.read(&mut bytes).await.expect("in time"), 4);
            assert_eq!(phase.get(), Phase::Head);
            let error = guarded.read(&mut bytes).await.expect_err("the head is late");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(began.elapsed().as_secs(), 75);
        });
    }

    #[test]
    fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
        run(async {
            let (_peer, ours) = duplex(64);
            let phase = Rc::new(Cell::new(Phase::Busy));
            let mut guarded = Guarded::new(ours, Rc::clone(&phase), deadlines());
            let mut bytes = [0; 16];
            let busy = tokio::time::timeout(Duration::from_secs(1000), guarded.read(&mut bytes)).await;
            assert!(busy.is_err(), "a handler has deadlines of its own");
            phase.set(Phase::Idle);
            let began = Instant::now();
            let error = guarded.read(&mut bytes).await.expect_err("idle too long");
            assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 75));
        });
    }

    #[test]
    fn a_peer_that_does_not_read_is_dropped() {
        run(async {
            let (_peer, ours) = duplex(4);
            let mut guarded = Guarded::new(ours, Rc::new(Cell::new(Phase::Busy)), deadlines());
            let began = Instant::now();
            let error = guarded.write_all(&[0; 64]).await.expect_err("nobody reads");
            assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 10));
        });
    }

    #[test]
    fn the_idle_time_begins_with_the_end_of_an_answer_whether_or_not_anybody_reads() {
        run(async {
            let (mut peer, ours) = duplex(64);
            let phase = Rc::new(Cell::new(Phase::Idle));
            let mut guarded = Guarded::new(ours, Rc::clone(&phase), deadlines());
            peer.write_all(b"POST").await.expect("write");
            let mut bytes = [0; 16];
            assert_eq!(guarded.read(&mut bytes).await.expect("a head"), 4);
            phase.set(Phase::Busy);
            tokio::time::sleep(Duration::from_secs(100)).await;
            phase.set(Phase::Idle);
            guarded.write_all(b"answer").await.expect("write");
            let began = Instant::now();
            // As hyper does: it flushes, and reads again only when it is woken.
            let mut flushed = false;
            let woken = std::future::poll_fn(|context| {
                if std::mem::replace(&mut flushed, true) {
                    return Poll::Ready(());
                }
                assert!(matches!(Pin::new(&mut guarded).poll_flush(context), Poll::Ready(Ok(()))), "nothing is late");
                Poll::Pending
            });
            woken.await;
            assert_eq!(began.elapsed().as_secs(), 75);
            let error = guarded.read(&mut bytes).await.expect_err("idle too long");
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn an_answer_that_is_taken_in_drops_is_dropped() {
        run(async {
            let (mut peer, ours) = duplex(4);
            let mut guarded = Guarded::new(ours, Rc::new(Cell::new(Phase::Busy)), deadlines());
            let began = Instant::now();
            let taking = async {
                let mut bytes = [0; 4];
                loop {
                    tokio::time::sleep(Duration::from_secs(3)).await;
                    if peer.read(&mut bytes).await.is_err() {
                        break;
                    }
                }
            };
            let error = tokio::select! {
                written = guarded.write_all(&[0; 64]) => written.expect_err("too slow"),
                () = taking => panic!("the writer ends first"),
            };
            assert_eq!((error.kind(), began.elapsed().as_secs()), (io::ErrorKind::TimedOut, 10));
        });
    }

    #[test]
    fn the_deadline_of_a_head_says_nothing_of_the_answer() {
        run(async {
            let (mut peer, ours) = duplex(4);
            let phase = Rc::new(Cell::new(Phase::Idle));
            let mut guarded = Guarded::new(ours, Rc::clone(&phase), deadlines());
            peer.write_all(b"POST").await.expect("write");
            assert_eq!(guarded.read(&mut [0; 16]).await.expect("a head"), 4);
            phase.set(Phase::Busy);
            tokio::time::sleep(Duration::from_secs(60)).await;
            let taking = async {
                tokio::time::sleep(Duration::from_secs(3)).await;
                let mut bytes = [0; 8];
                peer.read_exact(&mut bytes).await.expect("the answer");
            };
            let (written, ()) = tokio::join!(guarded.write_all(&[0; 8]), taking);
            written.expect("the peer took the answer in time");
        });
    }
}
