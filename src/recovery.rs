//! Going on where a gate left off: what was recorded is put back, and from there on the files and the store are kept.
//!
//! Nothing here has a thread, a clock or a wait of its own: each part is taken step by step by whoever runs it.

mod found;
mod upkeep;

use std::io;
use std::sync::Arc;

use crate::admission::{Recording, RecordingBounds, RestoreFault, Shared, SharedParts};
use crate::journal::{self, Fault, Found, Keep, Log, Open, OpenFault, Progress, Sink, Syncer, Watermark};
use crate::storage::{Lock, Storage};
use crate::store::{Store, StoreFault, Unfoldable};
use crate::time::UnixMillis;

pub use self::found::{Recovered, Spans};
pub use self::upkeep::{Closed, Folding, Standing, Upkeep};

/// How a gate records.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The files of the journal.
    pub files: journal::Options,
    /// The bounds of recording.
    pub recording: RecordingBounds,
    /// How long records are kept for audit.
    pub keep: Keep,
    /// Whether to start where records are missing between the store and the journal.
    pub accept_missing: bool,
}

/// A gate that goes on, and the parts that someone must take the steps of.
pub struct Resumed {
    /// What all engines share.
    pub shared: Arc<Shared>,
    /// Where to record: one for each worker.
    pub logs: Vec<Arc<Log>>,
    /// Tells how far all are.
    pub progress: Arc<Progress>,
    /// Makes safe what is written.
    pub syncer: Syncer,
    /// Keeps the files.
    pub upkeep: Upkeep,
    /// Keeps the store.
    pub folding: Folding,
    /// Held for as long as the journal is written.
    pub lock: Box<dyn Lock>,
}

/// Opens the store, or makes it.
pub type OpenStore<'o> = &'o dyn Fn() -> Result<Box<dyn Store>, StoreFault>;

/// Makes what decisions wait for.
pub type Watch = dyn FnOnce(&Arc<Progress>) -> Arc<dyn Watermark>;

/// What a gate is told by, and what it tells.
pub struct Hooks {
    /// [`Progress`] itself where another thread syncs.
    pub watch: Box<Watch>,
    /// Called after each sync, and when there will be none any more.
    pub synced: Box<dyn Fn() + Send>,
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
        "the store has the records of writer {writer} up to number {reached}, and the journal has them from number {first} \
         on: what is between is missing, and limits would have more room than there is; bring back the store or the files of the \
         journal, or accept it with `accept_missing = true` in [journal]"
    )]
    Missing {
        /// The writer.
        writer: u16,
        /// The last record that the store has.
        reached: u64,
        /// The first that the journal has.
        first: u64,
    },
    /// What was recorded does not fit the tables.
    #[error(transparent)]
    Restore(#[from] RestoreFault),
    /// The labels of the limits cannot be recorded.
    #[error(transparent)]
    Labels(#[from] Fault),
    /// The next file of the journal cannot be made.
    #[error("the next segment of the journal: {0}")]
    Segment(io::Error),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
}

/// Recovers what was recorded, and begins to record for so many workers.
///
/// May be ended at any instant and begun again.
///
/// # Errors
/// [`RecoveryError`]; nothing was decided then.
pub fn resume(
    parts: SharedParts,
    settings: &Settings,
    (storage, open_store): (Arc<dyn Storage>, OpenStore<'_>),
    workers: u16,
    now: UnixMillis,
    hooks: Hooks,
) -> Result<Resumed, RecoveryError> {
    let found = Found::open(Arc::clone(&storage), settings.files.clone())?;
    let step_back_s = i64::from(settings.recording.step_back_ms_max).div_euclid(1000).saturating_add(1);
    let window_s = i64::from(parts.nonces.tolerance_s).saturating_mul(2).saturating_add(step_back_s);
    // Behind the lock of the folder: nobody else has it open.
    let store = open_store()?;
    let spans = Spans { window_s, step_back_s };
    let recovered = Recovered::read(&found, &*store, spans, settings.accept_missing)?;
    if found.cut_bytes() > 0 {
        tracing::warn!(
            bytes = found.cut_bytes(),
            "the journal had a torn tail, of records that were never safe; it was cut"
        );
    }
    // One more for what no worker decides.
    let Open { mut writers, syncer, mut keeper, progress, lock } = found.begin(workers.saturating_add(1))?;
    keeper.prepare().map_err(RecoveryError::Segment)?;
    let log = |writer| Arc::new(Log::new(Box::new(writer) as Box<dyn Sink>));
    let cold = writers.pop().map(log).ok_or_else(|| RecoveryError::Segment(io::ErrorKind::NotFound.into()))?;
    let logs = writers.into_iter().map(log).collect();
    let Hooks { watch, synced } = hooks;
    let recording = Arc::new(Recording::new(
        watch(&progress),
        recovered.highest().unwrap_or(UnixMillis(i64::MIN)),
        settings.recording,
    ));
    let shared = Shared::recording(parts, recording, cold, recovered.labels(), &|| syncer.step())?;
    recovered.restore(&shared, &*store, now)?;
    let standing = Standing::default();
    let upkeep = Upkeep::new(keeper, standing.clone(), settings.keep, window_s);
    let shared = Arc::new(shared);
    let settling = Arc::downgrade(&shared);
    let syncer = syncer.telling(Box::new(move || {
        if let Some(shared) = settling.upgrade() {
            shared.settle_ripe();
        }
        synced();
    }));
    let closed = Closed {
        storage,
        folder: settings.files.folder.clone(),
        sealed: upkeep.sealed().clone(),
        progress: Arc::clone(&progress),
        shared: Arc::clone(&shared),
        standing,
        accept_missing: settings.accept_missing,
    };
    let folding = closed.go_on(Ok(store)).map_err(|(_, fault)| fault)?;
    Ok(Resumed { shared, logs, progress, syncer, upkeep, folding, lock })
}

impl std::fmt::Debug for Resumed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Resumed").field("progress", &self.progress).finish_non_exhaustive()
    }
}
