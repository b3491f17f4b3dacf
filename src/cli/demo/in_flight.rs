//! The case of a request that another worker is still deciding: two workers put together by hand, one of them with a
//! journal that waits. Everything else is the real thing, and so is the answer.

use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use tokio::sync::watch;

use super::DemoError;
use super::accounts::random_bytes;
use super::cases::{Case, Expected};
use super::client::{Answer, Connection};
use super::request::Payment;
use super::world::World;
use crate::admission::{Engine, Shared, SharedParts};
use crate::config::{self, Config};
use crate::front::{self, Address, Gate, GateParts, Listener, SignerPool, WorkerParts, bind};
use crate::journal::{Journal, Receipt, Recent, Record};
use crate::metrics::{self, Gauges, Metrics, Readings};
use crate::time::{Clock, SystemClock};
use crate::types::Interface;

pub(super) fn order_in_flight() -> Case {
    Expected::signed(503, "SERVICE_UNAVAILABLE")
        .after("delivered again while another worker decides (workers put together by hand)", |world| {
            Box::pin(delivered_again(world))
        })
}

/// The cashier delivers a request to one worker, and while that one waits for its journal, again to the other.
async fn delivered_again(world: &World) -> Result<Answer, DemoError> {
    let (entered, deciding) = mpsc::channel();
    let (go_on, release) = mpsc::channel();
    let pair = Pair::start(world, Waiting { inner: Recent::new(1), entered, release })?;
    let delivery = world.accounts.store.pay(Interface::Jsapi, &Payment::new(100)).signed();
    let mut first = Connection::open(pair.first, Some(world.tls())).await?;
    let mut second = Connection::open(pair.second, Some(world.tls())).await?;
    let again = delivery.clone();
    let waiting = tokio::spawn(async move { first.send(delivery.request()).await });
    let held = tokio::task::spawn_blocking(move || deciding.recv()).await;
    let answer = match held {
        Ok(Ok(())) => second.send(again.request()).await,
        Ok(Err(_)) | Err(_) => Err(DemoError::Thread),
    };
    // Nobody waits any more where the worker ended; then the first delivery has no answer either.
    let _ = go_on.send(());
    waiting.await.map_err(|_| DemoError::Thread)??.admitted()?;
    drop(second);
    pair.stop(world)?;
    answer
}

/// A journal that tells when a record is to be appended, and waits for leave.
struct Waiting {
    inner: Recent,
    entered: mpsc::Sender<()>,
    release: mpsc::Receiver<()>,
}

impl Journal for Waiting {
    fn append(&mut self, record: Record) -> Receipt {
        // Where the demo is gone there is nobody to wait for.
        if self.entered.send(()).is_ok() {
            let _ = self.release.recv();
        }
        self.inner.append(record)
    }

    fn commit(&mut self) {
        self.inner.commit();
    }
}

/// Two workers of one gate, each with a listener of its own.
struct Pair {
    first: SocketAddr,
    second: SocketAddr,
    metrics: Metrics,
    drain: watch::Sender<bool>,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

impl Pair {
    fn start(world: &World, waiting: Waiting) -> Result<Self, DemoError> {
        let config = config::load(&world.configuration("in-flight", &world.small())?, SystemClock.now())?;
        let Config { deployment_key, listeners, upstream, bounds, platform, .. } = config;
        let Config { signing_threads, signing_queue_max, nonces, orders, holds, quota, policy, .. } = config;
        let admission = Arc::new(Shared::new(SharedParts { policy, deployment_key, nonces, orders, holds, quota }));
        let signer = SignerPool::start(signing_threads, signing_queue_max, None)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let parts = GateParts { admission: Arc::clone(&admission), platform, signer, clock, bounds, upstream };
        let gate = Arc::new(Gate::new(parts));
        let hop = listeners.into_iter().find(|listener| listener.name == "hop");
        let hop = hop.ok_or(DemoError::Listener("hop"))?;
        let (drain, draining) = watch::channel(false);
        let counters = [Arc::new(metrics::Worker::new()), Arc::new(metrics::Worker::new())];
        let [first_counter, second_counter] = counters.clone();
        let first_engine = Engine::new(Arc::clone(&admission), Box::new(waiting), random_bytes());
        let second_engine = Engine::new(admission, Box::new(Recent::new(1)), random_bytes());
        let (first, first_thread) =
            worker(Arc::clone(&gate), hop.clone(), first_engine, first_counter, draining.clone())?;
        let (second, second_thread) = worker(gate, hop, second_engine, second_counter, draining)?;
        let metrics = Metrics::new(counters.to_vec(), Arc::new(NothingToRead));
        Ok(Self { first, second, metrics, drain, threads: vec![first_thread, second_thread] })
    }

    fn stop(self, world: &World) -> Result<(), DemoError> {
        world.note(&self.metrics.snapshot());
        // Nobody listens any more where a worker has ended; the join tells.
        let _ = self.drain.send(true);
        for thread in self.threads {
            thread.join().map_err(|_| DemoError::Thread)??;
        }
        Ok(())
    }
}

/// Starts a worker on a listener of its own; returns where that listens.
fn worker(
    gate: Arc<Gate>,
    listener: Listener,
    engine: Engine,
    counter: Arc<metrics::Worker>,
    draining: watch::Receiver<bool>,
) -> Result<(SocketAddr, JoinHandle<std::io::Result<()>>), DemoError> {
    let socket = bind(&listener.address)?;
    let Address::Tcp(address) = socket.address()? else { return Err(DemoError::Listener("hop")) };
    let listeners = vec![(listener, socket)];
    let (safety, seed) = (None, random_bytes());
    let parts = WorkerParts { gate, listeners, engine, safety, metrics: counter, draining, seed };
    Ok((address, thread::Builder::new().name("worker".to_owned()).spawn(move || front::run(parts))?))
}

/// The gauges of a gate of which only the counters matter.
struct NothingToRead;

impl Gauges for NothingToRead {
    fn read(&self) -> Readings {
        Readings::default()
    }
}
