//! The journal of a gate: what it recorded is put back, then it is gone on with.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use super::ServerError;
use crate::admission::{Recording, RecordingBounds, RestoreFault, Shared, SharedParts};
use crate::config;
use crate::front::Safety;
use crate::journal::{
    DecisionEntry, Durability, Entry, Fault, Found, Image, Keeper, Log, Open, OpenFault, Options, Progress, Room,
    Sealed, Sink, Syncer, Watermark,
};
use crate::metrics::JournalReadings;
use crate::quota;
use crate::storage::{Lock, Storage};
use crate::store::{Backoff, Behind, Durable, Fold, FoldedRow, Store, StoreFault, Unfoldable, WriteBehind};
use crate::time::{Clock, UnixMillis};

/// The journal of a gate that runs.
pub(super) struct Journal {
    /// One for each worker.
    pub logs: Vec<Arc<Log>>,
    pub safety: Safety,
    pub progress: Arc<Progress>,
    pub syncer: Syncer,
    pub keeper: Keeper,
    pub behind: WriteBehind,
    pub kept: Kept,
    pub storage: Arc<dyn Storage>,
    pub lock: Box<dyn Lock>,
    /// Told what to do after each sync once there is something.
    pub shared: Arc<OnceLock<Weak<Shared>>>,
}

/// What those who keep the files tell each other and the operator. Clones are the same.
#[derive(Clone)]
pub(super) struct Kept {
    /// For how long nonces may be in force, in seconds.
    window_s: i64,
    fingerprint: [u8; 16],
    options: config::Journal,
    /// By writer, up to where its records are stored.
    folded: Arc<Mutex<BTreeMap<u16, u64>>>,
    /// How far the store is behind.
    lag: Arc<Mutex<Behind>>,
    /// Whether the disk has no room for the next segment.
    full: Arc<AtomicBool>,
}

/// What was recorded before this start.
#[derive(Debug, Default)]
struct Recovered {
    fold: Fold,
    /// Labels that are stored.
    stored: BTreeMap<u32, String>,
    /// Decisions whose nonces may be in force, oldest first.
    nonces: VecDeque<DecisionEntry>,
    records: u64,
}

/// A journal cannot be recovered.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// Its files cannot be read.
    #[error(transparent)]
    Open(#[from] OpenFault),
    /// A record cannot be folded.
    #[error("the record of writer {writer} at {position}: {source}")]
    Fold {
        /// The writer.
        writer: u16,
        /// Where the record ends.
        position: u64,
        /// Why.
        source: Unfoldable,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// Records are missing.
    #[error(
        "the store has the records of writer {writer} up to {reached}, and the journal has them from {first} on: what is \
         between is missing, and limits would have more room than there is; bring back the store or the files of the \
         journal, or accept it with `accept_missing = true` in [journal]"
    )]
    Missing {
        /// The writer.
        writer: u16,
        /// Up to where the store has its records.
        reached: u64,
        /// From where the journal has them.
        first: u64,
    },
    /// What was recorded does not fit the tables.
    #[error(transparent)]
    Restore(#[from] RestoreFault),
    /// The labels of the limits cannot be recorded.
    #[error(transparent)]
    Labels(#[from] Fault),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Recovers what was recorded, and begins to record for so many workers.
pub(super) fn start(
    parts: SharedParts,
    options: config::Journal,
    storage: Arc<dyn Storage>,
    workers: u16,
    clock: &dyn Clock,
) -> Result<(Shared, Journal), ServerError> {
    let failed = |source: RecoveryError| ServerError::Journal { source };
    let fingerprint = parts.deployment_key.fingerprint();
    let mut epoch = [0; 8];
    SystemRandom::new().fill(&mut epoch).map_err(|_| failed(RecoveryError::Random))?;
    let files = Options {
        folder: options.folder.clone(),
        segment_bytes: options.segment_bytes,
        fingerprint,
        epoch: u64::from_le_bytes(epoch),
    };
    let found = Found::open(Arc::clone(&storage), files).map_err(|error| failed(error.into()))?;
    let step_back_s = i64::from(options.step_back_ms_max).div_euclid(1000).saturating_add(1);
    let store = Durable::open(&options.folder.join(STORE), fingerprint).map_err(|fault| failed(fault.into()))?;
    let window_s = i64::from(parts.nonces.tolerance_s).saturating_mul(2).saturating_add(step_back_s);
    let recovered = Recovered::read(&found, &store, (window_s, step_back_s), options.accept_missing).map_err(failed)?;
    if found.cut_bytes() > 0 {
        tracing::warn!(
            bytes = found.cut_bytes(),
            "the journal had a torn tail, of records that were never safe; it was cut"
        );
    }
    // One more for what no worker decides.
    let Open { mut writers, syncer, mut keeper, progress, lock } =
        found.begin(workers.saturating_add(1)).map_err(|error| failed(error.into()))?;
    keeper.prepare().map_err(|source| ServerError::Thread { thread: "keeper", source })?;
    let progress_told = Arc::new(Notify::new());
    let shared_later: Arc<OnceLock<Weak<Shared>>> = Arc::default();
    let after = {
        let (told, shared) = (Arc::clone(&progress_told), Arc::clone(&shared_later));
        move || {
            if let Some(shared) = shared.get().and_then(Weak::upgrade) {
                shared.settle_ripe();
            }
            told.notify_waiters();
        }
    };
    let pace = match options.durability {
        Durability::Disk => Duration::ZERO,
        // Twice as often as the exposure asks for, so that nobody has to wait.
        Durability::Process => Duration::from_millis(u64::from(options.exposure.age_ms) / 2),
    };
    let syncer = syncer.paced(pace).telling(Box::new(after));
    let log = |writer| Arc::new(Log::new(Box::new(writer) as Box<dyn Sink>));
    let cold = writers.pop().map(log);
    let logs = writers.into_iter().map(log).collect();
    let highest = recovered.fold.highest().unwrap_or(UnixMillis(i64::MIN));
    let bounds = RecordingBounds { step_back_ms_max: options.step_back_ms_max, reserve_bytes: options.reserve_bytes };
    let watermark: Arc<dyn Watermark> = Arc::<Progress>::clone(&progress);
    let recording = Arc::new(Recording::new(Arc::clone(&watermark), highest, bounds));
    let missing = || ServerError::Thread { thread: "journal", source: io::ErrorKind::NotFound.into() };
    let cold = cold.ok_or_else(missing)?;
    let labels = recovered.labels();
    let shared =
        Shared::recording(parts, recording, cold, labels, &|| syncer.step()).map_err(|fault| failed(fault.into()))?;
    recovered.restore(&shared, &store, clock.now(), step_back_s).map_err(failed)?;
    let behind = WriteBehind::new(Box::new(store)).map_err(|fault| failed(fault.into()))?;
    let safety =
        Safety { watermark, durability: options.durability, exposure: options.exposure, progress: progress_told };
    let full = Arc::default();
    let kept = Kept { window_s, fingerprint, options, folded: Arc::default(), lag: Arc::default(), full };
    Ok((shared, Journal { logs, safety, progress, syncer, keeper, behind, kept, lock, shared: shared_later, storage }))
}

impl Recovered {
    fn read(
        found: &Found,
        store: &Durable,
        (window_s, step_back_s): (i64, i64),
        accept_missing: bool,
    ) -> Result<Self, RecoveryError> {
        let meta = store.meta()?;
        for (writer, (first, sequence)) in found.first() {
            let reached = meta.reached.get(&writer).copied().unwrap_or(0);
            // The first record of all is missing nowhere.
            if first > reached && sequence > 1 {
                if !accept_missing {
                    return Err(RecoveryError::Missing { writer, reached, first });
                }
                tracing::error!(writer, reached, first, "records are missing between the store and the journal");
            }
        }
        let mut recovered = Self { fold: Fold::since(meta.highest), stored: meta.labels, ..Self::default() };
        // Nonces are not stored: the journal has them.
        let since = meta.highest.map_or(UnixMillis(i64::MIN), |UnixMillis(highest_ms)| {
            UnixMillis(highest_ms.saturating_sub(window_s.saturating_mul(1000)))
        });
        let from = |writer: u16| meta.reached.get(&writer).copied().unwrap_or(0);
        found.replay(&from, since, &mut |record| {
            let unfoldable = |source| RecoveryError::Fold { writer: record.writer, position: record.position, source };
            // What is stored is read again for its nonce alone.
            let entry = if record.position > from(record.writer) {
                recovered.records = recovered.records.saturating_add(1);
                recovered.fold.fold(store, record.payload, record.frame.at).map_err(unfoldable)?
            } else {
                Entry::from_bytes(record.payload).map_err(|source| unfoldable(source.into()))?
            };
            if let Entry::Decision(mut decision) = entry
                && decision.nonce.is_some()
            {
                decision.order = None;
                recovered.nonces.push_back(*decision);
                recovered.drop_past(step_back_s, DROPPED_PER_RECORD);
            }
            Ok::<_, RecoveryError>(())
        })?;
        recovered.drop_past(step_back_s, usize::MAX);
        Ok(recovered)
    }

    /// Drops decisions whose nonces are not in force any more, whatever the clock may say after this.
    fn drop_past(&mut self, step_back_s: i64, most: usize) {
        let oldest_s = self.oldest_nonce_s(step_back_s);
        for _ in 0..most {
            let past = |entry: &DecisionEntry| entry.nonce.is_none_or(|nonce| nonce.end_s < oldest_s);
            if !self.nonces.front().is_some_and(past) {
                return;
            }
            self.nonces.pop_front();
        }
    }

    fn oldest_nonce_s(&self, step_back_s: i64) -> i64 {
        self.fold.highest().map_or(i64::MIN, |highest| highest.seconds().saturating_sub(step_back_s))
    }

    /// Returns the labels by their numbers, from one.
    fn labels(&self) -> Vec<Arc<str>> {
        let mut labels: Vec<Arc<str>> = Vec::new();
        let stored = self.stored.iter().map(|(number, name)| (*number, name.as_str()));
        for (number, name) in stored.chain(self.fold.labels()) {
            let place = usize::try_from(number).unwrap_or(0).saturating_sub(1);
            if labels.len() <= place {
                labels.resize(place + 1, Arc::from(""));
            }
            labels.get_mut(place).into_iter().for_each(|label| *label = name.into());
        }
        labels
    }

    /// Fills the tables: with what is stored, and where it was folded since with that.
    fn restore(self, shared: &Shared, store: &Durable, now: UnixMillis, step_back_s: i64) -> Result<(), RecoveryError> {
        let (mut rows, mut orders, mut nonces) = (0_u64, 0_u64, 0_u64);
        let mut result = Ok(());
        let mut row = |row: u128, folded: &FoldedRow| {
            if result.is_ok() && !quota::is_past(row, folded.cells, now) {
                result = shared.restore_row(row, folded.label, folded.owner, folded.cells);
                rows = rows.saturating_add(1);
            }
        };
        store.each_row(&mut |key, folded| {
            if !self.fold.has_row(key) {
                row(key, &folded);
            }
        })?;
        self.fold.rows().for_each(|(key, folded)| row(key, folded));
        let mut order = |image: &Image| {
            if result.is_ok() && shared.is_kept(image, now) {
                result = shared.restore_order(image);
                orders = orders.saturating_add(1);
            }
        };
        store.each_image(&mut |image| {
            if !self.fold.has_image(image.decision) {
                order(&image);
            }
        })?;
        self.fold.images().for_each(order);
        result?;
        let oldest_s = self.oldest_nonce_s(step_back_s);
        if self.fold.highest().is_some() {
            shared.forget_nonces_until(oldest_s.saturating_sub(1));
        }
        for entry in self.nonces.iter().filter(|entry| entry.nonce.is_some_and(|nonce| nonce.end_s >= oldest_s)) {
            shared.restore_nonce(entry)?;
            nonces = nonces.saturating_add(1);
        }
        tracing::info!(records = self.records, rows, orders, nonces, "recovered from the store and the journal");
        Ok(())
    }
}

impl Kept {
    /// Reads what metrics show.
    pub fn read(&self, shared: &Shared, now: UnixMillis) -> Option<JournalReadings> {
        let recorder = shared.recorder()?;
        let exposure = recorder.watermark().exposure();
        let behind = *lock(&self.lag);
        let age = |since: Option<UnixMillis>| {
            let ms = since.map_or(0, |since| now.0.saturating_sub(since.0).max(0));
            Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
        };
        Some(JournalReadings {
            exposed_fen: exposure.fen,
            exposed_seconds: age(exposure.since),
            give_backs_waiting: u64::try_from(recorder.waiting()).unwrap_or(u64::MAX),
            behind_records: behind.records,
            behind_seconds: age(behind.oldest),
            full: self.full.load(Ordering::Relaxed),
            failed: recorder.watermark().has_failed(),
        })
    }
}

/// Makes segments ahead, seals them and removes them, until told to stop.
pub(super) fn keep(
    mut keeper: Keeper,
    kept: Kept,
    clock: Arc<dyn Clock>,
    stopping: Arc<AtomicBool>,
) -> impl FnOnce() -> io::Result<()> {
    move || {
        let mut turns = 0_u32;
        while !stopping.load(Ordering::Relaxed) {
            match keeper.prepare() {
                Ok(room) => {
                    let is_full = room == Room::Full;
                    if kept.full.swap(is_full, Ordering::Relaxed) != is_full {
                        tracing::warn!(
                            is_full,
                            "the disk of the journal: whether there is no room for the next segment"
                        );
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the next segment of the journal cannot be made; trying again");
                    sleep(RETRY_EVERY, &stopping);
                }
            }
            if let Err(error) = keeper.seal() {
                tracing::error!(%error, "a segment of the journal cannot be sealed; trying again");
            }
            if turns.is_multiple_of(RETIRE_EVERY) {
                let now = clock.now();
                let needed_from = UnixMillis(now.0.saturating_sub(kept.window_s.saturating_mul(1000)));
                let folded = lock(&kept.folded).clone();
                let is_needed = |writer: u16, end: u64| folded.get(&writer).is_none_or(|folded| *folded < end);
                if let Err(error) = keeper.retire(kept.options.keep, now, needed_from, &is_needed) {
                    tracing::error!(%error, "a segment of the journal cannot be removed; trying again");
                }
            }
            turns = turns.wrapping_add(1);
            std::thread::sleep(KEEP_EVERY);
        }
        keeper.seal().map(drop)
    }
}

/// Folds sealed segments into the store, until told to stop.
pub(super) fn write_behind(
    mut behind: WriteBehind,
    (storage, sealed): (Arc<dyn Storage>, Sealed),
    progress: Arc<Progress>,
    kept: Kept,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    stopping: Arc<AtomicBool>,
) -> impl FnOnce() -> io::Result<()> {
    move || {
        let mut backoff = Backoff::default();
        let (store, fingerprint) = (kept.options.folder.join(STORE), kept.fingerprint);
        lock(&kept.folded).clone_from(behind.reached());
        while !stopping.load(Ordering::Relaxed) {
            let list = sealed.list();
            let stepped = behind.step(&*storage, &kept.options.folder, &list);
            *lock(&kept.lag) = behind.behind(&list);
            let wait = match stepped {
                Ok(0) => {
                    backoff.succeeded();
                    // Nothing older than what is not folded yet may be forgotten: an earlier image of it could come.
                    let now = clock.now();
                    let until_s = progress.oldest_unsealed().unwrap_or(now).seconds().saturating_sub(CLEANED_BEHIND_S);
                    let past = |image: &Image| i64::from(image.since_s) < until_s && !shared.is_kept(image, now);
                    if let Err(error) = behind.clean(&past) {
                        tracing::error!(%error, "the store cannot be cleaned; trying again");
                    }
                    WRITE_EVERY
                }
                Ok(_) => {
                    backoff.succeeded();
                    lock(&kept.folded).clone_from(behind.reached());
                    Duration::ZERO
                }
                Err(error) => {
                    let wait = backoff.failed();
                    tracing::error!(%error, wait_ms = wait.as_millis(), "the store is behind; opening it again");
                    // A store that has failed once takes nothing more until it is opened again.
                    drop(behind);
                    sleep(wait, &stopping);
                    loop {
                        match Durable::open(&store, fingerprint).and_then(|store| WriteBehind::new(Box::new(store))) {
                            Ok(opened) => break behind = opened,
                            Err(_) if stopping.load(Ordering::Relaxed) => return Ok(()),
                            Err(error) => {
                                let wait = backoff.failed();
                                tracing::error!(%error, wait_ms = wait.as_millis(), "the store cannot be opened; trying again");
                                sleep(wait, &stopping);
                            }
                        }
                    }
                    Duration::ZERO
                }
            };
            sleep(wait, &stopping);
        }
        Ok(())
    }
}

/// Sleeps, and looks now and then whether it is time to stop.
fn sleep(time: Duration, stopping: &AtomicBool) {
    let mut left = time;
    while !left.is_zero() && !stopping.load(Ordering::Relaxed) {
        let part = left.min(KEEP_EVERY);
        std::thread::sleep(part);
        left = left.saturating_sub(part);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The folder of the store, in that of the journal.
const STORE: &str = "store";

/// How long after the next segment could not be made it is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How often segments are looked for that can be folded.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// How often segments are looked for that can be removed, in turns of [`KEEP_EVERY`].
const RETIRE_EVERY: u32 = 250;

/// How much older than all that is not folded an order must be to be forgotten, in seconds: workers' clocks are read apart.
const CLEANED_BEHIND_S: i64 = 60;

/// How often it is looked after the files.
const KEEP_EVERY: Duration = Duration::from_millis(20);

/// Most nonces dropped for one that is read: more than one, so that they do not pile up.
const DROPPED_PER_RECORD: usize = 4;
