//! The journal of a gate: what it recorded is put back, then it is gone on with.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use super::ServerError;
use crate::admission::{Recording, RecordingBounds, RestoreFault, Shared, SharedParts};
use crate::config;
use crate::front::Safety;
use crate::journal::{
    DecisionEntry, Durability, Entry, Fault, Found, Keeper, Log, Open, OpenFault, Options, Progress, Room, Sink,
    Syncer, Watermark,
};
use crate::storage::{Lock, Storage};
use crate::store::{Fold, Nothing, Unfoldable};
use crate::time::{Clock, UnixMillis};

/// The journal of a gate that runs.
pub(super) struct Journal {
    /// One for each worker.
    pub logs: Vec<Arc<Log>>,
    pub safety: Safety,
    pub progress: Arc<Progress>,
    pub syncer: Syncer,
    pub keeper: Keeper,
    pub lock: Box<dyn Lock>,
    /// Told what to do after each sync once there is something.
    pub shared: Arc<OnceLock<Weak<Shared>>>,
    /// Whether the disk is full.
    pub full: Arc<AtomicBool>,
}

/// What was recorded before this start.
#[derive(Debug, Default)]
struct Recovered {
    fold: Fold,
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
    let found = Found::open(storage, files).map_err(|error| failed(error.into()))?;
    let step_back_s = i64::from(options.step_back_ms_max).div_euclid(1000).saturating_add(1);
    let recovered = Recovered::read(&found, step_back_s).map_err(failed)?;
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
    let cold = cold.ok_or_else(|| failed(RecoveryError::Random))?;
    let labels = recovered.labels();
    let shared =
        Shared::recording(parts, recording, cold, labels, &|| syncer.step()).map_err(|fault| failed(fault.into()))?;
    recovered.restore(&shared, clock.now(), step_back_s).map_err(failed)?;
    let safety =
        Safety { watermark, durability: options.durability, exposure: options.exposure, progress: progress_told };
    let full = Arc::default();
    Ok((shared, Journal { logs, safety, progress, syncer, keeper, lock, shared: shared_later, full }))
}

impl Recovered {
    fn read(found: &Found, step_back_s: i64) -> Result<Self, RecoveryError> {
        let mut recovered = Self::default();
        found.replay(&|_| 0, UnixMillis(i64::MIN), &mut |record| {
            let entry = recovered
                .fold
                .fold(&Nothing, record.payload, record.frame.at)
                .map_err(|source| RecoveryError::Fold { writer: record.writer, position: record.position, source })?;
            recovered.records = recovered.records.saturating_add(1);
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
        for (number, name) in self.fold.labels() {
            let place = usize::try_from(number).unwrap_or(0).saturating_sub(1);
            if labels.len() <= place {
                labels.resize(place + 1, Arc::from(""));
            }
            labels.get_mut(place).into_iter().for_each(|label| *label = name.into());
        }
        labels
    }

    fn restore(self, shared: &Shared, now: UnixMillis, step_back_s: i64) -> Result<(), RecoveryError> {
        for (row, folded) in self.fold.rows() {
            shared.restore_row(row, folded.label, folded.owner, folded.cells)?;
        }
        let (mut orders, mut nonces) = (0_u64, 0_u64);
        for image in self.fold.images() {
            if shared.is_kept(image, now) {
                shared.restore_order(image)?;
                orders = orders.saturating_add(1);
            }
        }
        let oldest_s = self.oldest_nonce_s(step_back_s);
        if self.fold.highest().is_some() {
            shared.forget_nonces_until(oldest_s.saturating_sub(1));
        }
        for entry in self.nonces.iter().filter(|entry| entry.nonce.is_some_and(|nonce| nonce.end_s >= oldest_s)) {
            shared.restore_nonce(entry)?;
            nonces = nonces.saturating_add(1);
        }
        let rows = self.fold.rows().count();
        tracing::info!(records = self.records, rows, orders, nonces, "recovered from the journal");
        Ok(())
    }
}

/// Makes segments ahead, seals them and removes them, until told to stop.
pub(super) fn keep(
    mut keeper: Keeper,
    full: Arc<AtomicBool>,
    stopping: Arc<AtomicBool>,
) -> impl FnOnce() -> io::Result<()> {
    move || {
        while !stopping.load(Ordering::Relaxed) {
            match keeper.prepare() {
                Ok(room) => {
                    let is_full = room == Room::Full;
                    if full.swap(is_full, Ordering::Relaxed) != is_full {
                        tracing::warn!(
                            is_full,
                            "the disk of the journal: whether there is no room for the next segment"
                        );
                    }
                }
                Err(error) => tracing::error!(%error, "the next segment of the journal cannot be made; trying again"),
            }
            if let Err(error) = keeper.seal() {
                tracing::error!(%error, "a segment of the journal cannot be sealed; trying again");
            }
            std::thread::sleep(KEEP_EVERY);
        }
        keeper.seal().map(drop)
    }
}

/// How often it is looked after the files.
const KEEP_EVERY: Duration = Duration::from_millis(20);

/// Most nonces dropped for one that is read: more than one, so that they do not pile up.
const DROPPED_PER_RECORD: usize = 4;
