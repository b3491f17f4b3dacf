//! The journal of a gate: recovered, and kept by threads of its own.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Notify;

use super::ServerError;
use crate::admission::{RecordingBounds, Shared, SharedParts};
use crate::config;
use crate::front::Safety;
use crate::journal::{Durability, Log, Options, Progress, Room, Syncer, Watermark};
use crate::metrics::JournalReadings;
use crate::recovery::{self, Folding, Hooks, RecoveryError, Resumed, Settings, Standing, Upkeep};
use crate::storage::{Lock, Storage};
use crate::store::{Backoff, Durable, Store, StoreFault};
use crate::time::{Clock, UnixMillis};

/// The journal of a gate that runs.
pub(super) struct Journal {
    /// One for each worker.
    pub logs: Vec<Arc<Log>>,
    pub safety: Safety,
    pub progress: Arc<Progress>,
    pub syncer: Syncer,
    pub upkeep: Upkeep,
    pub store: Keeping,
    pub lock: Box<dyn Lock>,
}

/// The store, and where to open it again.
pub(super) struct Keeping {
    folding: Folding,
    options: config::Journal,
    fingerprint: [u8; 16],
}

/// Recovers what was recorded, and begins to record for so many workers.
pub(super) fn start(
    parts: SharedParts,
    options: config::Journal,
    storage: Arc<dyn Storage>,
    workers: u16,
    clock: &dyn Clock,
) -> Result<(Arc<Shared>, Journal), ServerError> {
    let failed = |source: RecoveryError| ServerError::Journal { source };
    let fingerprint = parts.deployment_key.fingerprint();
    let mut epoch = [0; 8];
    SystemRandom::new().fill(&mut epoch).map_err(|_| failed(RecoveryError::Random))?;
    let settings = Settings {
        files: Options {
            folder: options.folder.clone(),
            segment_bytes: options.segment_bytes,
            fingerprint,
            epoch: u64::from_le_bytes(epoch),
        },
        recording: RecordingBounds { step_back_ms_max: options.step_back_ms_max, reserve_bytes: options.reserve_bytes },
        keep: options.keep,
        accept_missing: options.accept_missing,
    };
    let told = Arc::new(Notify::new());
    let tell = Arc::clone(&told);
    let hooks = Hooks {
        watch: Box::new(|progress| Arc::<Progress>::clone(progress)),
        synced: Box::new(move || tell.notify_waiters()),
    };
    let open = || open(&options.folder, fingerprint);
    let Resumed { shared, logs, progress, syncer, upkeep, folding, lock } =
        recovery::resume(parts, &settings, (storage, &open), workers, clock.now(), hooks).map_err(failed)?;
    let pace = match options.durability {
        Durability::Disk => Duration::ZERO,
        // Twice as often as the exposure asks for, so that nobody has to wait.
        Durability::Process => Duration::from_millis(u64::from(options.exposure.age_ms) / 2),
    };
    let watermark: Arc<dyn Watermark> = Arc::<Progress>::clone(&progress);
    let safety = Safety { watermark, durability: options.durability, exposure: options.exposure, progress: told };
    let store = Keeping { folding, options, fingerprint };
    Ok((shared, Journal { logs, safety, progress, syncer: syncer.paced(pace), upkeep, store, lock }))
}

/// Opens the store in the folder of a journal.
fn open(folder: &Path, fingerprint: [u8; 16]) -> Result<Box<dyn Store>, StoreFault> {
    Ok(Box::new(Durable::open(&folder.join(STORE), fingerprint)?))
}

/// Reads what metrics show.
pub(super) fn read(standing: &Standing, shared: &Shared, now: UnixMillis) -> Option<JournalReadings> {
    let recorder = shared.recorder()?;
    let exposure = recorder.watermark().exposure();
    let behind = standing.behind();
    let age = |since: Option<UnixMillis>| {
        let ms = since.map_or(0, |since| now.0.saturating_sub(since.0).max(0));
        Duration::from_millis(ms.unsigned_abs()).as_secs_f64()
    };
    Some(JournalReadings {
        exposed_fen: exposure.fen,
        exposed_seconds: age(exposure.since),
        give_backs_waiting: u64::try_from(recorder.waiting()).unwrap_or(u64::MAX),
        behind_records: behind.records,
        behind_fen: behind.fen,
        behind_seconds: age(behind.oldest),
        full: standing.is_full(),
        failed: recorder.watermark().has_failed(),
    })
}

/// Makes segments ahead, seals them and removes them, until told to stop.
pub(super) fn keep(
    mut upkeep: Upkeep,
    clock: Arc<dyn Clock>,
    stopping: Arc<AtomicBool>,
) -> impl FnOnce() -> io::Result<()> {
    move || {
        let mut turns = 0_u32;
        while !stopping.load(Ordering::Relaxed) {
            match upkeep.prepare() {
                Ok(None) => {}
                Ok(Some(room)) => {
                    let is_full = room == Room::Full;
                    tracing::warn!(is_full, "the disk of the journal: whether there is no room for the next segment");
                }
                Err(error) => {
                    tracing::error!(%error, "the next segment of the journal cannot be made; trying again");
                    sleep(RETRY_EVERY, &stopping);
                }
            }
            if let Err(error) = upkeep.seal() {
                tracing::error!(%error, "a segment of the journal cannot be sealed; trying again");
            }
            if turns.is_multiple_of(RETIRE_EVERY)
                && let Err(error) = upkeep.retire(clock.now())
            {
                tracing::error!(%error, "a segment of the journal cannot be removed; trying again");
            }
            turns = turns.wrapping_add(1);
            std::thread::sleep(KEEP_EVERY);
        }
        upkeep.seal().map(drop)
    }
}

/// Folds sealed segments into the store, until told to stop.
pub(super) fn write_behind(
    keeping: Keeping,
    clock: Arc<dyn Clock>,
    stopping: Arc<AtomicBool>,
) -> impl FnOnce() -> io::Result<()> {
    let Keeping { mut folding, options, fingerprint } = keeping;
    move || {
        let mut backoff = Backoff::default();
        while !stopping.load(Ordering::Relaxed) {
            let wait = match folding.step() {
                Ok(0) => {
                    backoff.succeeded();
                    if let Err(error) = folding.clean(clock.now()) {
                        tracing::error!(%error, "the store cannot be cleaned; trying again");
                    }
                    WRITE_EVERY
                }
                Ok(_) => {
                    backoff.succeeded();
                    Duration::ZERO
                }
                Err(error) => {
                    let wait = backoff.failed();
                    tracing::error!(%error, wait_ms = wait.as_millis(), "the store is behind; opening it again");
                    let mut closed = folding.close();
                    sleep(wait, &stopping);
                    loop {
                        match closed.go_on(open(&options.folder, fingerprint)) {
                            Ok(opened) => break folding = opened,
                            Err(_) if stopping.load(Ordering::Relaxed) => return Ok(()),
                            Err((again, error)) => {
                                closed = again;
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

/// The folder of the store, in that of the journal.
const STORE: &str = "store";

/// How long after the next segment could not be made it is tried again.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How often segments are looked for that can be folded.
const WRITE_EVERY: Duration = Duration::from_millis(200);

/// How often segments are looked for that can be removed, in turns of [`KEEP_EVERY`].
const RETIRE_EVERY: u32 = 250;

/// How often it is looked after the files.
const KEEP_EVERY: Duration = Duration::from_millis(20);
