//! The composition root: the configuration taken apart, the parts built, threads started, and stopped in order.

mod explain;
mod journal;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::watch;

use crate::admin::{self, Control, SettleFacts};
use crate::admission::{
    Engine, SettleAs, SettleFault, Settled, Settlement, Shared, SharedParts, Usage, UsageFault, UsageQuery,
};
use crate::certificate::Authority;
use crate::config::{self, Config};
use crate::front::{
    self, Address, Gate, GateParts, Listener, PlatformKeyKind, Safety, SignerPool, Socket, WorkerParts, bind,
};
use crate::journal::{Log, Progress, Recent, Record, Shelf};
use crate::metrics::{self, Gauges, Metrics, Readings, Snapshot};
use crate::quota::Table;
use crate::recovery::Standing;
use crate::storage::{Disk, Lock, Storage};
use crate::time::{Clock, UnixMillis};
use crate::types::DecisionId;

pub use crate::recovery::RecoveryError;
pub use explain::explain_offline;

/// A gate that runs.
pub struct Running {
    addresses: Vec<(String, Address)>,
    control: Arc<Controller>,
    drain: watch::Sender<bool>,
    workers: Vec<JoinHandle<io::Result<()>>>,
    others: Vec<JoinHandle<io::Result<()>>>,
    stop_others: watch::Sender<bool>,
    journal: Option<Journaling>,
}

/// The threads of the journal. They end last: what is acknowledged to the end is recorded.
struct Journaling {
    progress: Arc<Progress>,
    stop_keeping: Arc<AtomicBool>,
    threads: Vec<JoinHandle<io::Result<()>>>,
    /// Held until the last of it is written.
    _lock: Box<dyn Lock>,
}

/// The gate could not be started, or a thread of it failed.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A listener cannot be bound.
    #[error("cannot listen on {address}: {source}; choose another address or stop what listens there")]
    Bind {
        /// The address.
        address: Address,
        /// What the operating system says.
        source: io::Error,
    },
    /// A thread cannot be started or failed.
    #[error("thread `{thread}`: {source}")]
    Thread {
        /// Its name.
        thread: &'static str,
        /// What the operating system says.
        source: io::Error,
    },
    /// What was recorded cannot be recovered, or nothing can be recorded.
    #[error("journal: {source}")]
    Journal {
        /// Why.
        source: RecoveryError,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Starts a gate. `source` is the file that a reload reads again.
///
/// # Errors
/// [`ServerError`] where a part cannot be started; what was started has ended then.
pub fn start(config: Config, source: Option<PathBuf>, clock: Arc<dyn Clock>) -> Result<Running, ServerError> {
    start_on(config, source, clock, Arc::new(Disk))
}

/// Starts a gate whose journal is on this storage.
///
/// # Errors
/// As [`start`].
pub fn start_on(
    config: Config,
    source: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    storage: Arc<dyn Storage>,
) -> Result<Running, ServerError> {
    let Config { workers, deployment_key, listeners, control, upstream, bounds, .. } = config;
    let Config { platform, signing_threads, signing_queue_max, nonces, orders, holds, quota, policy, .. } = config;
    let recorded = config.journal;
    let caps = Caps { nonces: nonces.entries_max, orders: orders.entries_max, rows: quota.rows_max };
    let parts = SharedParts { policy, deployment_key, nonces, orders, holds, quota };
    let (admission, journal) = match recorded {
        Some(options) => {
            let loggers = u16::try_from(workers).unwrap_or(u16::MAX);
            let (shared, journal) = journal::start(parts, options, storage, loggers, &*clock)?;
            (shared, Some(journal))
        }
        None => {
            tracing::warn!(
                "nothing is recorded: after a restart limits begin empty; add [journal] to the configuration"
            );
            (Arc::new(Shared::new(parts)), None)
        }
    };
    let signer = SignerPool::start(signing_threads, signing_queue_max, None).map_err(thread("signer"))?;
    let parts =
        GateParts { admission: Arc::clone(&admission), platform, signer, clock: Arc::clone(&clock), bounds, upstream };
    let gate = Arc::new(Gate::new(parts));
    let sockets = bind_all(&listeners)?;
    let control = control.map(|address| bind_one(&address)).transpose()?;
    let mut addresses = Vec::new();
    for (name, socket) in sockets.iter().map(|(listener, socket)| (listener.name.as_str(), socket)) {
        addresses.extend(socket.address().map(|address| (name.to_owned(), address)));
    }
    if let Some(address) = control.as_ref().and_then(|socket| socket.address().ok()) {
        addresses.push(("control".to_owned(), address));
    }

    let (drain, draining) = watch::channel(false);
    let (stop_others, stopping) = watch::channel(false);
    let standing = journal.as_ref().map(|journal| journal.upkeep.standing().clone());
    let (logs, safety, journal) = start_journal(journal, &clock)?;
    let started = start_workers(&gate, sockets_per_worker(sockets, workers)?, (logs, safety), &draining)?;
    let ready = AtomicBool::new(true);
    let gauges = Arc::new(Observed { gate: Arc::clone(&gate), clock: Arc::clone(&clock), caps, ready, standing });
    let metrics = Metrics::new(started.counters, Arc::clone(&gauges) as Arc<dyn Gauges>);
    let shelves = started.shelves;
    let controller = Arc::new(Controller {
        gate,
        metrics,
        gauges,
        shelves,
        source,
        clock: Arc::clone(&clock),
        reloading: Mutex::default(),
    });
    let mut others = vec![spawn("sweeper", sweep(admission, clock, stopping.clone()))?];
    if let Some(socket) = control {
        let control: Arc<dyn Control> = Arc::<Controller>::clone(&controller);
        let listener = match socket {
            Socket::Tcp(socket) => admin::Listener::Tcp(socket),
            Socket::Unix(socket) => admin::Listener::Unix(socket),
        };
        others.push(spawn("control", move || admin::serve(listener, control, stopping))?);
    }
    Ok(Running { addresses, control: controller, drain, workers: started.threads, others, stop_others, journal })
}

/// Starts the threads of the journal; returns what workers record in and wait for.
#[expect(clippy::type_complexity, reason = "taken apart at once")]
fn start_journal(
    journal: Option<journal::Journal>,
    clock: &Arc<dyn Clock>,
) -> Result<(Vec<Arc<Log>>, Option<Safety>, Option<Journaling>), ServerError> {
    let Some(journal) = journal else { return Ok((Vec::new(), None, None)) };
    let journal::Journal { logs, safety, progress, syncer, upkeep, store, lock } = journal;
    let stop_keeping = Arc::new(AtomicBool::new(false));
    let threads = vec![
        spawn("journal", move || syncer.run())?,
        spawn("write-behind", journal::write_behind(store, Arc::clone(clock), Arc::clone(&stop_keeping)))?,
        spawn("keeper", journal::keep(upkeep, Arc::clone(clock), Arc::clone(&stop_keeping)))?,
    ];
    Ok((logs, Some(safety), Some(Journaling { progress, stop_keeping, threads, _lock: lock })))
}

/// The workers, and what is read of them from outside.
struct Started {
    threads: Vec<JoinHandle<io::Result<()>>>,
    counters: Vec<Arc<metrics::Worker>>,
    shelves: Vec<Arc<Shelf>>,
}

fn start_workers(
    gate: &Arc<Gate>,
    sockets: Vec<Vec<(Listener, Socket)>>,
    (logs, safety): (Vec<Arc<Log>>, Option<Safety>),
    draining: &watch::Receiver<bool>,
) -> Result<Started, ServerError> {
    let mut logs = logs.into_iter();
    let mut started = Started { threads: Vec::new(), counters: Vec::new(), shelves: Vec::new() };
    for listeners in sockets {
        let journal = Recent::new(RECENT_RECORDS_MAX);
        let metrics = Arc::new(metrics::Worker::new());
        started.shelves.push(journal.shelf());
        started.counters.push(Arc::clone(&metrics));
        let parts = WorkerParts {
            gate: Arc::clone(gate),
            listeners,
            engine: match logs.next() {
                Some(log) => Engine::recording(Arc::clone(gate.admission()), Box::new(journal), log, random_seed()?),
                None => Engine::new(Arc::clone(gate.admission()), Box::new(journal), random_seed()?),
            },
            safety: safety.clone(),
            metrics,
            draining: draining.clone(),
            seed: random_seed()?,
        };
        started.threads.push(spawn("worker", move || front::run(parts))?);
    }
    Ok(started)
}

impl Running {
    /// Returns where the listener of a name listens.
    pub fn address(&self, name: &str) -> Option<&Address> {
        self.addresses.iter().find(|(listener, _)| listener == name).map(|(_, address)| address)
    }

    /// Returns the control plane's side of the gate.
    pub fn control(&self) -> &Arc<Controller> {
        &self.control
    }

    /// Drains: stops accepting, lets what is under way finish, ends all threads.
    ///
    /// # Errors
    /// The first error that a thread ended with.
    pub fn stop(self) -> Result<(), ServerError> {
        self.control.gauges.ready.store(false, Ordering::Relaxed);
        // Nobody listens any more where a thread has ended: then there is nothing to tell it.
        let _ = self.drain.send(true);
        let workers = join("worker", self.workers);
        let _ = self.stop_others.send(true);
        let others = join("control", self.others);
        let journal = self.journal.map_or(Ok(()), Journaling::stop);
        workers.and(others).and(journal)
    }

    /// Tells whether every worker still runs.
    pub fn is_alive(&self) -> bool {
        let journal = self.journal.iter().flat_map(|journal| &journal.threads);
        self.workers.iter().chain(&self.others).chain(journal).all(|thread| !thread.is_finished())
    }
}

impl Journaling {
    /// Has the last of it made safe and sealed.
    fn stop(self) -> Result<(), ServerError> {
        self.progress.stop();
        self.stop_keeping.store(true, Ordering::Relaxed);
        join("journal", self.threads)
    }
}

/// The control plane's side of a gate.
pub struct Controller {
    gate: Arc<Gate>,
    metrics: Metrics,
    gauges: Arc<Observed>,
    shelves: Vec<Arc<Shelf>>,
    source: Option<PathBuf>,
    clock: Arc<dyn Clock>,
    reloading: Mutex<()>,
}

impl Controller {
    /// Returns the counters, summed over the workers.
    pub fn snapshot(&self) -> Snapshot {
        self.metrics.snapshot()
    }

    /// Returns what all engines share: the policy in force and the tables.
    pub fn admission(&self) -> &Arc<Shared> {
        self.gate.admission()
    }

    /// Returns the sizes of the tables and the like.
    pub fn readings(&self) -> Readings {
        self.gauges.read()
    }

    /// Frees what is past, as the gate does by itself every second: a part of each table a call. Waits until what is given
    /// back is.
    pub fn sweep(&self) {
        self.gate.admission().sweep(self.clock.now());
        // Where the journal has failed, nothing is given back.
        let _ = self.gate.admission().settle_all();
    }
}

impl Control for Controller {
    fn metrics(&self) -> Result<String, std::fmt::Error> {
        self.metrics.encode()
    }

    fn ready(&self) -> bool {
        let recorder = self.gate.admission().recorder();
        let failed = recorder.is_some_and(|recorder| recorder.watermark().has_failed());
        self.gauges.ready.load(Ordering::Relaxed) && !failed
    }

    fn recent(&self, max: usize) -> Vec<Record> {
        let mut records: Vec<_> = self.shelves.iter().flat_map(|shelf| shelf.records()).collect();
        records.sort_by_key(|record| record.at);
        let skip = records.len().saturating_sub(max);
        records.split_off(skip)
    }

    /// Reads the configuration again and swaps merchants, routes, limits and platform keys in whole. A file that does not
    /// check changes nothing.
    fn reload(&self) -> Result<(), String> {
        let source = self.source.as_deref().ok_or("the gate was started without a configuration file")?;
        // One at a time: else the older of two readings could be the last to be put in force.
        let _turn = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let config = config::load(source, self.clock.now()).map_err(|error| error.to_string())?;
        let before = self.gate.admission().policy();
        if let Some((after, before)) = config.policy.authority().zip(before.authority()) {
            after
                .check_follows(before)
                .map_err(|error| format!("{}: authority.crl_files: {error}", source.display()))?;
        }
        self.gate.admission().replace_policy(config.policy).map_err(|fault| fault.to_string())?;
        self.gate.replace_platform(config.platform);
        tracing::info!(file = %source.display(), "merchants, routes, limits and platform keys reloaded");
        Ok(())
    }

    fn accept_clock(&self) -> Result<(), String> {
        let now = self.clock.now();
        tracing::warn!(now_ms = now.0, "the operator says that the clock is right");
        self.gate.admission().record_time(now, true).map_err(|fault| fault.to_string())
    }

    fn usage(&self, query: UsageQuery) -> Result<Vec<Usage>, UsageFault> {
        self.gate.admission().usage(&query, self.clock.now())
    }

    fn export_pages(&self) -> usize {
        self.gate.admission().export_pages()
    }

    fn export(&self, page: usize) -> Vec<u8> {
        self.gate.admission().export(page)
    }

    fn settle(&self, decision: DecisionId, settle: SettleAs, facts: SettleFacts) -> Result<Settled, SettleFault> {
        self.gate.admission().settle(decision, settle, &facts.into(), self.clock.now())
    }

    fn settlements(&self, max: usize) -> Vec<Settlement> {
        self.gate.admission().settlements(max)
    }

    fn explain(&self, request: &[u8], trusted_hop: bool) -> Result<String, String> {
        let (admission, platform) = (self.gate.admission(), self.gate.platform());
        explain::explain(admission, &platform, request, trusted_hop, self.clock.now())
    }
}

/// What is read when metrics are scraped.
struct Observed {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    caps: Caps,
    ready: AtomicBool,
    /// What is told of the journal; `None` where nothing is recorded.
    standing: Option<Standing>,
}

#[derive(Clone, Copy)]
struct Caps {
    nonces: usize,
    orders: usize,
    rows: u64,
}

impl Gauges for Observed {
    fn read(&self) -> Readings {
        let admission = self.gate.admission();
        let policy = admission.policy();
        let now = self.clock.now();
        let days_left = |until: UnixMillis| {
            let seconds = until.seconds().saturating_sub(now.seconds());
            Duration::from_secs(seconds.unsigned_abs()).as_secs_f64() / 86_400.0 * if seconds < 0 { -1.0 } else { 1.0 }
        };
        let lists = policy.authority().into_iter().flat_map(Authority::lists);
        let merchants = policy.merchants().flat_map(|merchant| merchant.keys());
        let merchants = merchants.filter(|key| key.in_force(now).is_ok()).filter_map(|key| key.not_after());
        let platform = self.gate.platform();
        let platform = platform.iter().filter_map(|key| match key.kind() {
            PlatformKeyKind::Certificate { not_after, .. } => Some(*not_after),
            PlatformKeyKind::PublicKey => None,
        });
        let table = admission.table();
        Readings {
            nonces: count(admission.nonces().len()),
            nonces_max: count(self.caps.nonces),
            orders: count(admission.orders().len()),
            orders_max: count(self.caps.orders),
            rows: table.rows(),
            rows_max: self.caps.rows,
            rows_bytes: table.bytes(),
            rows_sliced: table.sliced_rows(),
            cells_used: table.cells_used(),
            conservation_error: conservation_error(table),
            holds: holds(admission),
            settlements: settlements(admission),
            merchant_certificate_days_left_min: merchants.map(days_left).min_by(f64::total_cmp),
            platform_certificate_days_left_min: platform.map(days_left).min_by(f64::total_cmp),
            revocation_list_days_left_min: lists.map(|list| days_left(list.until)).min_by(f64::total_cmp),
            merchants: count(policy.merchants().count()),
            bodies_bytes: count(self.gate.bodies_bytes()),
            answers_bytes: count(self.gate.answers_bytes()),
            connections: count(self.gate.connections_open()),
            ready: self.ready.load(Ordering::Relaxed),
            signing_queue: count(self.gate.signing_queue()),
            journal: self.standing.as_ref().and_then(|standing| journal::read(standing, admission, now)),
        }
    }
}

fn conservation_error(table: &Table) -> Option<u64> {
    let conservation = table.conservation();
    (conservation.stripes_checked > 0).then_some(conservation.error)
}

fn holds(admission: &Shared) -> Vec<(&'static str, u64, u64)> {
    let ages = ["under_1m", "under_1h", "under_1d", "older"];
    ages.into_iter().zip(admission.orders().holds().by_age).map(|(age, held)| (age, held.orders, held.fen)).collect()
}

fn settlements(admission: &Shared) -> Vec<(&'static str, u64, u64)> {
    admission.settlement_counts().map(|counted| (counted.event.as_str(), counted.orders, counted.fen)).collect()
}

fn count(size: usize) -> u64 {
    u64::try_from(size).unwrap_or(u64::MAX)
}

fn bind_one(address: &Address) -> Result<Socket, ServerError> {
    bind(address).map_err(|source| ServerError::Bind { address: address.clone(), source })
}

fn bind_all(listeners: &[Listener]) -> Result<Vec<(Listener, Socket)>, ServerError> {
    listeners.iter().map(|listener| Ok((listener.clone(), bind_one(&listener.address)?))).collect()
}

/// Gives every worker its own sockets; the first takes those bound already.
fn sockets_per_worker(
    first: Vec<(Listener, Socket)>,
    workers: usize,
) -> Result<Vec<Vec<(Listener, Socket)>>, ServerError> {
    let mut all = Vec::with_capacity(workers);
    for _ in 1..workers {
        let another = |(listener, socket): &(Listener, Socket)| {
            let address = listener.address.clone();
            let socket = socket.another().map_err(|source| ServerError::Bind { address, source })?;
            Ok((listener.clone(), socket))
        };
        all.push(first.iter().map(another).collect::<Result<_, _>>()?);
    }
    all.push(first);
    Ok(all)
}

/// Frees what is past, every second, off the data plane.
fn sweep(
    admission: Arc<Shared>,
    clock: Arc<dyn Clock>,
    mut stopping: watch::Receiver<bool>,
) -> impl FnOnce() -> io::Result<()> {
    move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        runtime.block_on(async {
            while tokio::time::timeout(SWEEP_EVERY, stopping.wait_for(|stop| *stop)).await.is_err() {
                let now = clock.now();
                admission.sweep(now);
                // Where it cannot be recorded now, the next decision's record has it.
                let _ = admission.record_time(now, false);
            }
        });
        Ok(())
    }
}

fn random_seed() -> Result<[u8; 32], ServerError> {
    let mut seed = [0; 32];
    SystemRandom::new().fill(&mut seed).map_err(|_| ServerError::Random)?;
    Ok(seed)
}

fn spawn<F>(name: &'static str, run: F) -> Result<JoinHandle<io::Result<()>>, ServerError>
where
    F: FnOnce() -> io::Result<()> + Send + 'static,
{
    Builder::new().name(name.to_owned()).spawn(run).map_err(thread(name))
}

fn join(name: &'static str, threads: Vec<JoinHandle<io::Result<()>>>) -> Result<(), ServerError> {
    let mut first = Ok(());
    for handle in threads {
        let ended = handle.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")));
        first = first.and(ended.map_err(thread(name)));
    }
    first
}

fn thread(thread: &'static str) -> impl Fn(io::Error) -> ServerError {
    move |source| ServerError::Thread { thread, source }
}

/// How many records of decisions each worker keeps for the operator.
const RECENT_RECORDS_MAX: usize = 4096;

/// How often what is past is freed.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
