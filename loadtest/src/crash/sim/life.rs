//! One life of a gate: resumed from a disk and a store, with every thread's steps in the hands of the story.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use tollgate::admission::{Admission, Batch, Decision, Engine, RecordingBounds, Shared};
use tollgate::front::{ExposureMax, Safety};
use tollgate::journal::{
    Durability, ENTRY_BYTES_MAX, Exposure, Fault, Keep, Options, Position, Progress, Recent, Syncer, Watermark,
};
use tollgate::recovery::{self, Folding, Hooks, RecoveryError, Resumed, Settings, Upkeep};
use tollgate::request::Trust;
use tollgate::storage::{Lock, Storage};
use tollgate::time::UnixMillis;

use super::setting::Setting;
use super::shaky::Shaky;
use crate::in_process::Parsed;

/// A gate.
pub struct Life {
    pub shared: Arc<Shared>,
    engines: Vec<Engine>,
    pub progress: Arc<Progress>,
    watermark: Arc<Stepped>,
    pub upkeep: Upkeep,
    /// Absent only while it is opened again.
    folding: Option<Folding>,
    pub safety: Safety,
    /// Admissions whose verdicts have not left, oldest first, each with the record that it waits for.
    pub waiting: VecDeque<Waiting>,
    _lock: Box<dyn Lock>,
}

/// An admission whose verdict has not left.
pub struct Waiting {
    pub admission: Admission,
    pub position: Option<Position>,
    /// Whether it waits until a loss of power cannot take the record.
    pub waits: bool,
}

/// Tells how far all are; to wait is to take the step of whoever syncs.
struct Stepped {
    progress: Arc<Progress>,
    syncer: OnceLock<Mutex<Syncer>>,
}

impl Life {
    /// Resumes.
    pub fn resume(
        setting: &Setting,
        durability: Durability,
        (storage, store): (Arc<dyn Storage>, &Shaky),
        epoch: u64,
        now: UnixMillis,
    ) -> Result<Self, Failure> {
        let parts = setting.parts().map_err(Failure::Setting)?;
        let settings = Settings {
            files: files(parts.deployment_key.fingerprint(), epoch),
            recording: RecordingBounds { step_back_ms_max: STEP_BACK_MS_MAX, reserve_bytes: 1 << 10 },
            keep: Keep { seconds: 0, bytes: u64::MAX },
            accept_missing: false,
        };
        let stepped: Arc<OnceLock<Arc<Stepped>>> = Arc::default();
        let later = Arc::clone(&stepped);
        let hooks = Hooks {
            watch: Box::new(move |progress| {
                let made = Stepped { progress: Arc::clone(progress), syncer: OnceLock::new() };
                Arc::<Stepped>::clone(later.get_or_init(|| Arc::new(made)))
            }),
            synced: Box::new(|| {}),
        };
        let open = || Ok(Box::new(store.clone()) as _);
        let Resumed { shared, logs, progress, syncer, upkeep, folding, lock } =
            recovery::resume(parts, &settings, (storage, &open), WORKERS, now, hooks).map_err(Failure::Recovery)?;
        let watermark = stepped.get().cloned().ok_or_else(|| Failure::Setting("nobody watches".to_owned()))?;
        // It is set this once.
        let _ = watermark.syncer.set(Mutex::new(syncer));
        let seed = |worker: usize| {
            let mut seed = [0; 32];
            seed.iter_mut().zip(epoch.to_be_bytes()).for_each(|(to, from)| *to = from);
            seed.iter_mut().last().into_iter().for_each(|last| *last = u8::try_from(worker).unwrap_or(0));
            seed
        };
        let engine =
            |(worker, log)| Engine::recording(Arc::clone(&shared), Box::new(Recent::new(RECENT)), log, seed(worker));
        let engines = logs.into_iter().enumerate().map(engine).collect();
        let told: Arc<dyn Watermark> = Arc::<Stepped>::clone(&watermark);
        let exposure = ExposureMax { age_ms: u32::MAX, fen: EXPOSURE_FEN };
        let safety = Safety { watermark: told, durability, exposure, progress: Arc::default() };
        let folding = Some(folding);
        let waiting = VecDeque::new();
        Ok(Self { shared, engines, progress, watermark, upkeep, folding, safety, waiting, _lock: lock })
    }

    /// Decides requests together, each with how it is trusted; returns where their records end.
    pub fn decide(
        &mut self,
        worker: usize,
        requests: &[(&[u8], Trust)],
        now: UnixMillis,
    ) -> Result<(Vec<Decision>, Option<Position>), String> {
        let parsed = requests.iter().map(|(bytes, _)| Parsed::read(bytes)).collect::<Result<Vec<_>, _>>();
        let parsed = parsed.map_err(|error| error.to_string())?;
        let mut batch = Batch::new();
        parsed.iter().zip(requests).for_each(|(parsed, (_, trust))| batch.push(parsed.request(*trust)));
        let workers = self.engines.len().max(1);
        let engine = self.engines.get_mut(worker % workers).ok_or("a gate without workers")?;
        let position = engine.decide(&mut batch, now);
        Ok((batch.drain().collect(), position))
    }

    /// Makes safe what is written. That it fails is what the disk was told to do.
    pub fn sync(&self) {
        let _ = self.watermark.step();
    }

    /// Tells whether the journal has failed.
    pub fn has_failed(&self) -> bool {
        self.watermark.has_failed()
    }

    /// Folds some records, and forgets what is past; a store that fails is opened again.
    pub fn fold(&mut self, store: &Shaky, now: UnixMillis) -> Result<(), String> {
        let mut folding = self.folding.take().ok_or("the store was not opened again")?;
        let done = match folding.step() {
            Ok(0) => folding.clean(now).map(drop).map_err(|fault| fault.to_string()),
            Ok(_) => Ok(()),
            Err(fault) => Err(fault.to_string()),
        };
        self.folding = Some(folding);
        if done.is_err() { self.reopen(store) } else { Ok(()) }
    }

    /// Closes the store, and opens this one in its place.
    pub fn reopen(&mut self, store: &Shaky) -> Result<(), String> {
        let folding = self.folding.take().ok_or("the store was not opened again")?;
        let opened = folding.close().go_on(Ok(Box::new(store.clone())));
        self.folding = Some(opened.map_err(|(_, fault)| fault.to_string())?);
        Ok(())
    }
}

/// A gate could not be resumed.
pub enum Failure {
    Recovery(RecoveryError),
    /// It is not the gate's fault.
    Setting(String),
}

/// Returns the files of a journal in this life.
pub fn files(fingerprint: [u8; 16], epoch: u64) -> Options {
    Options { folder: Path::new(FOLDER).to_owned(), segment_bytes: SEGMENT_BYTES, fingerprint, epoch }
}

impl Stepped {
    fn step(&self) -> std::io::Result<()> {
        let syncer = self.syncer.get().map(|syncer| syncer.lock().unwrap_or_else(PoisonError::into_inner));
        syncer.map_or(Ok(()), |syncer| syncer.step())
    }
}

impl Watermark for Stepped {
    fn covers(&self, position: Position) -> bool {
        self.progress.covers(position)
    }

    fn has_failed(&self) -> bool {
        self.progress.has_failed()
    }

    fn exposure(&self) -> Exposure {
        self.progress.exposure()
    }

    fn request(&self) {}

    fn wait(&self, position: Position) -> Result<(), Fault> {
        if !self.covers(position) && !self.has_failed() {
            let _ = self.step();
        }
        if self.covers(position) { Ok(()) } else { Err(Fault::Failed) }
    }
}

/// The folder of the journal.
pub const FOLDER: &str = "journal";

/// Bytes of a segment: little more than a batch may need, so that they fill.
const SEGMENT_BYTES: u64 = (2 * ENTRY_BYTES_MAX as u64).next_multiple_of(4096) + (8 << 10);

const WORKERS: u16 = 2;

/// How far the clock may step back, in milliseconds.
pub const STEP_BACK_MS_MAX: u32 = 5_000;

/// What may be exposed, in fen: a few decisions.
pub const EXPOSURE_FEN: u64 = 3_000;

/// Decisions kept to be looked at.
const RECENT: usize = 16;
