//! The control listener: metrics, health, decisions and what became of them, usage of limits, explanations and reload,
//! over plain HTTP/1.1 on this machine only.
//!
//! It runs on a thread of its own, apart from the workers, so that looking at the gate costs the gate nothing. A TCP
//! listener must be on loopback; peers of a Unix socket must have the gate's own user id or be root. One request a
//! connection, without a body but where an endpoint asks for one; heads, bodies, connections and times are bounded by
//! `Bounds` and the constants of the endpoints. Cold.

mod answer;
mod body;
mod pages;
mod peer;
mod query;
mod records;
mod routes;
mod settle;

use std::fmt;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time;

use crate::admission::{SettleAs, SettleFault, Settled, Settlement, Usage, UsageFault, UsageQuery};
use crate::journal::Record;
use crate::types::DecisionId;
use peer::{Door, Peer};
use routes::Desk;

pub use body::EXPLAIN_BYTES_MAX;
pub use settle::{SettleFacts, decision_of};

/// What the operator may see and do.
pub trait Control: Send + Sync {
    /// Returns the metrics as OpenMetrics text.
    ///
    /// # Errors
    /// Whatever stopped the encoder.
    fn metrics(&self) -> Result<String, fmt::Error>;

    /// Tells whether the gate takes requests.
    fn ready(&self) -> bool;

    /// Returns the last decisions, at most `max`, oldest first.
    fn recent(&self, max: usize) -> Vec<Record>;

    /// Reads the configuration again and puts it in force. May block; is never called twice at once.
    ///
    /// # Errors
    /// What the operator must change; the configuration in force stays.
    fn reload(&self) -> Result<(), String>;

    /// Takes the clock for right, though it is behind the highest time that was recorded. May block.
    ///
    /// # Errors
    /// Why that cannot be recorded.
    fn accept_clock(&self) -> Result<(), String>;

    /// Returns what is used of the limits that the query asks for. May block.
    ///
    /// # Errors
    /// What the query names that is not there, or lacks.
    fn usage(&self, query: UsageQuery) -> Result<Vec<Usage>, UsageFault>;

    /// Returns how many pages an export of all rows has.
    fn export_pages(&self) -> usize;

    /// Returns the rows of one page as JSON lines; nothing where there is no such page. May block.
    fn export(&self, page: usize) -> Vec<u8>;

    /// Settles a decision; the same call again changes nothing and says so. May block.
    ///
    /// # Errors
    /// Why the decision cannot be settled so.
    fn settle(&self, decision: DecisionId, settle: SettleAs, facts: SettleFacts) -> Result<Settled, SettleFault>;

    /// Returns the last settlements, at most `max`, oldest first.
    fn settlements(&self, max: usize) -> Vec<Settlement>;

    /// Says how a raw HTTP/1.1 request would be decided now, as the data plane would read it from a public peer or from a
    /// trusted hop; takes nothing. May block.
    ///
    /// # Errors
    /// What the operator must change in the request.
    fn explain(&self, request: &[u8], trusted_hop: bool) -> Result<String, String>;
}

/// A listener that is already bound.
#[derive(Debug)]
pub enum Listener {
    /// TCP, on a loopback address.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// Serves the control listener on this thread until `shutdown` becomes true or its sender is dropped.
///
/// Requests under way are answered if that takes less than a second; a reload that blocks for longer is left behind.
///
/// # Errors
/// Where the runtime or the listener could not be set up: [`io::ErrorKind::InvalidInput`] where a TCP listener is not
/// on loopback.
pub fn serve(listener: Listener, control: Arc<dyn Control>, shutdown: watch::Receiver<bool>) -> io::Result<()> {
    serve_within(Bounds::default(), listener, control, shutdown)
}

/// What the control listener takes before it refuses.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    /// Longest request head, in bytes.
    head_bytes_max: usize,
    /// Most connections at once; more wait to be accepted.
    connections_max: usize,
    /// Longest wait for a request head.
    head_timeout: Duration,
    /// Longest wait for a request body.
    body_timeout: Duration,
    /// Longest life of a connection.
    connection_timeout: Duration,
    /// Longest life of a connection that carries an export, where that is longer.
    export_timeout: Duration,
    /// Longest wait for requests under way at shutdown.
    drain_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            connections_max: 64,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            connection_timeout: Duration::from_secs(60),
            export_timeout: Duration::from_secs(1_800),
            drain_timeout: Duration::from_secs(1),
        }
    }
}

fn serve_within(
    bounds: Bounds,
    listener: Listener,
    control: Arc<dyn Control>,
    shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("tollgate-admin")
        .max_blocking_threads(CALLS_MAX)
        .build()?;
    let served = runtime.block_on(async {
        let door = Door::new(listener)?;
        listen(&door, bounds, Arc::new(Desk::new(control, bounds.body_timeout)), shutdown).await;
        Ok(())
    });
    runtime.shutdown_timeout(bounds.drain_timeout);
    served
}

async fn listen(door: &Door, bounds: Bounds, desk: Arc<Desk>, mut shutdown: watch::Receiver<bool>) {
    let slots = Arc::new(Semaphore::new(bounds.connections_max));
    let visit = Visit { bounds, desk, shutdown: shutdown.clone() };
    loop {
        let accepted = async {
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, door.accept().await)
        };
        let accepted = tokio::select! {
            biased;
            () = told(&mut shutdown) => break,
            accepted = accepted => accepted,
        };
        match accepted {
            (Ok(slot), Ok(Peer::Tcp(stream))) => drop(tokio::spawn(visit.clone().converse(stream, slot))),
            (Ok(slot), Ok(Peer::Unix(stream))) => drop(tokio::spawn(visit.clone().converse(stream, slot))),
            (Ok(_), Err(error)) => {
                tracing::warn!(%error, "the control listener could not accept");
                time::sleep(ACCEPT_PAUSE).await;
            }
            // Nobody closes the semaphore.
            (Err(_), _) => break,
        }
    }
    // All slots are free again once every connection has ended.
    let all = u32::try_from(bounds.connections_max).unwrap_or(u32::MAX);
    let drained = time::timeout(bounds.drain_timeout, slots.acquire_many(all)).await;
    if drained.is_err() {
        tracing::warn!("control connections were cut off by the shutdown");
    }
}

/// Waits until the shutdown is told, or can no longer be.
async fn told(shutdown: &mut watch::Receiver<bool>) {
    // An error says that the sender is gone, and with it whoever could ask for a shutdown.
    let _ = shutdown.wait_for(|told| *told).await;
}

/// What a connection needs to be served.
#[derive(Clone)]
struct Visit {
    bounds: Bounds,
    desk: Arc<Desk>,
    shutdown: watch::Receiver<bool>,
}

impl Visit {
    /// Serves one connection, and keeps its slot for as long.
    async fn converse<S>(self, stream: S, slot: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self { bounds, desk, mut shutdown } = self;
        let exports = AtomicBool::new(false);
        let service = service_fn(|request| {
            let (desk, exports) = (&desk, &exports);
            async move {
                let answer = desk.answer(request).await;
                exports.store(answer.body().is_export(), Ordering::Relaxed);
                Ok::<_, std::convert::Infallible>(answer)
            }
        });
        // No keep-alive: a scraper's interval is longer than any idle time worth granting.
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .keep_alive(false)
            .header_read_timeout(bounds.head_timeout)
            .max_buf_size(bounds.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = pin!(connection);
        let conversation = async {
            let ended = tokio::select! {
                ended = connection.as_mut() => Some(ended),
                () = told(&mut shutdown) => None,
            };
            if let Some(ended) = ended {
                return ended;
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        };
        tokio::select! {
            ended = conversation => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a control connection broke off");
                }
            }
            () = overdue(bounds, &exports) => tracing::debug!("a control connection took too long"),
        }
        drop(slot);
    }
}

/// Waits for as long as a connection may live; what it carries is known only later.
async fn overdue(bounds: Bounds, exports: &AtomicBool) {
    time::sleep(bounds.connection_timeout).await;
    if exports.load(Ordering::Relaxed) {
        time::sleep(bounds.export_timeout.saturating_sub(bounds.connection_timeout)).await;
    }
}

/// Most calls of a [`Control`] at once.
const CALLS_MAX: usize = 4;

/// How long to wait after a failure to accept, which is mostly for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[cfg(test)]
pub(crate) mod tests;
