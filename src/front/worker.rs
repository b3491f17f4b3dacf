//! A worker: one thread, one runtime, its own listeners, its own engine.

use std::cell::Cell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::LocalSet;

use super::answers::Answers;
use super::connection;
use super::decider::Decider;
use super::gate::Gate;
use super::options::Listener;
use super::safety::Safety;
use super::socket::Socket;
use super::station::Station;
use super::upstream::Pool;
use crate::admission::Engine;
use crate::metrics;

/// What a worker is made of.
pub struct WorkerParts {
    /// What it shares with the others.
    pub gate: Arc<Gate>,
    /// The listeners, each with a socket of the worker's own.
    pub listeners: Vec<(Listener, Socket)>,
    /// Its engine.
    pub engine: Engine,
    /// What its decisions wait for; `None` where nothing is recorded.
    pub safety: Option<Safety>,
    /// Its counters.
    pub metrics: Arc<metrics::Worker>,
    /// Turns true when the gate drains.
    pub draining: watch::Receiver<bool>,
    /// 32 random bytes; nonces of answers and request ids come from them.
    pub seed: [u8; 32],
}

/// Serves the listeners on this thread until the gate drains and the last connection is done.
///
/// # Errors
/// Where the runtime or a listener cannot be set up.
pub fn run(parts: WorkerParts) -> io::Result<()> {
    let WorkerParts { gate, listeners, engine, safety, metrics, draining, seed } = parts;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let drain_timeout = gate.bounds().drain_timeout;
    let clock = Arc::clone(gate.clock());
    let station = Rc::new(Station {
        decider: Decider::new(safety),
        upstream: gate.upstream().cloned().map(|options| Pool::new(options, Arc::clone(gate.answers()))),
        answers: Answers::new(Arc::clone(&gate), Arc::clone(&metrics), seed),
        metrics: Arc::clone(&metrics),
        draining,
        open: Cell::new(0),
        gate,
    });
    let local = LocalSet::new();
    let deciding = Rc::clone(&station);
    let handing_out = Rc::clone(&station);
    local.spawn_local(async move { handing_out.decider.hand_out(&handing_out.metrics).await });
    local.spawn_local(async move { deciding.decider.run(engine, clock, metrics).await });
    local.block_on(&runtime, async move {
        let mut accepting = Vec::new();
        for (listener, socket) in listeners {
            accepting.push(tokio::task::spawn_local(accept(Rc::clone(&station), Rc::new(listener), socket)));
        }
        for task in accepting {
            task.await.map_err(io::Error::other)??;
        }
        drained(&station, drain_timeout).await;
        Ok(())
    })
}

/// Waits until no connection of this worker is open, or the drain has taken too long.
async fn drained(station: &Station, timeout: Duration) {
    let open = async {
        while station.open.get() > 0 {
            tokio::time::sleep(DRAIN_POLL).await;
        }
    };
    if tokio::time::timeout(timeout, open).await.is_err() {
        tracing::warn!(connections = station.open.get(), "drain timed out; closing what is left");
    }
}

async fn accept(station: Rc<Station>, listener: Rc<Listener>, socket: Socket) -> io::Result<()> {
    match socket {
        Socket::Tcp(socket) => {
            let socket = tokio::net::TcpListener::from_std(socket)?;
            accept_loop(&station, async || {
                let (stream, peer) = socket.accept().await?;
                // Without it a small answer may wait for an acknowledgement; where it cannot be set, it waits.
                let _ = stream.set_nodelay(true);
                let peer: IpAddr = peer.ip().to_canonical();
                let serving = connection::serve(Rc::clone(&station), Rc::clone(&listener), stream, Some(peer));
                tokio::task::spawn_local(serving);
                Ok(())
            })
            .await;
        }
        Socket::Unix(socket) => {
            let socket = tokio::net::UnixListener::from_std(socket)?;
            accept_loop(&station, async || {
                let (stream, _) = socket.accept().await?;
                tokio::task::spawn_local(connection::serve(Rc::clone(&station), Rc::clone(&listener), stream, None));
                Ok(())
            })
            .await;
        }
    }
    Ok(())
}

/// Accepts until the gate drains. An error is the machine's (no descriptors left, say): it passes, so wait and go on.
async fn accept_loop(station: &Station, accept_one: impl AsyncFn() -> io::Result<()>) {
    let mut draining = station.draining.clone();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = connection::wait(&mut draining) => return,
            accepted = accept_one() => accepted,
        };
        if accepted.is_err() {
            station.metrics.accept_failed();
            tokio::time::sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// How long to wait after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often a drain looks whether it is done.
const DRAIN_POLL: Duration = Duration::from_millis(10);
