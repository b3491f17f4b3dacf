//! What lies behind the journal, beside what it must keep up with: folding into the store, reading the journal after a
//! crash, and loading a large store. The rival is the bar.

mod recorded;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;
use tollgate::admission::{Shared, SharedParts};
use tollgate::merchant::{HoldRules, Policy, Routes};
use tollgate::prf::DeploymentKey;
use tollgate::quota::Bounds;
use tollgate::recovery::{Recovered, Spans};
use tollgate::replay::{NonceBounds, OrderBounds};
use tollgate::store::{Durable, WriteBehind};
use tollgate::time::UnixMillis;

use self::recorded::{AT, FINGERPRINT, LIMITS, Recorded, found};
use super::{Better, Contest, Entry, NotReady, Pair, RatioError, Size};

/// Returns the rows of the store.
pub(super) fn entries(size: Size) -> Vec<Entry> {
    vec![
        Entry::new("store.write_behind", move || Behind::new(size)),
        Entry::new("journal.recovery", move || Recovery::new(size)),
        Entry::new("store.load_10m_rows", move || Load::new(size)),
    ]
}

/// A journal, and the store that it is folded into.
struct Scene {
    folder: TempDir,
    journal: Recorded,
    behind: WriteBehind,
}

impl Scene {
    fn new(size: Size) -> Result<Self, RatioError> {
        let folder = tempfile::tempdir().map_err(RatioError::broken("a folder"))?;
        let journal = Recorded::new(folder.path(), size)?;
        let behind = WriteBehind::new(Box::new(store(folder.path())?)).map_err(RatioError::broken("the store"))?;
        Ok(Self { folder, journal, behind })
    }

    /// Folds all that is sealed; returns how many records.
    fn fold(&mut self) -> Result<u64, RatioError> {
        let sealed = self.journal.sealed.list();
        let mut records = 0;
        loop {
            let step = self.behind.step(&*self.journal.storage, self.folder.path(), &sealed);
            match step.map_err(RatioError::broken("the store"))? {
                0 => return Ok(records),
                step => records += step,
            }
        }
    }
}

/// Folding into the store, by the processor time of all threads: also of those that put its files in order.
struct Behind {
    scene: Scene,
    decisions: u64,
}

impl Behind {
    fn new(size: Size) -> Result<Self, NotReady> {
        let decisions = match size {
            Size::Full => 250_000,
            Size::Smoke => 4_000,
        };
        Ok(Self { scene: Scene::new(size)?, decisions })
    }
}

impl Contest for Behind {
    fn rival_name(&self) -> &'static str {
        "bar: half a core at 50000/s"
    }

    fn unit(&self) -> &'static str {
        "us of processor time a decision"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        self.scene.journal.decide(self.decisions, AT)?;
        let before = processor_time();
        let records = self.scene.fold()?;
        wait_until_idle();
        let took = processor_time().saturating_sub(before);
        RatioError::check(records > 0, "nothing was folded")?;
        Ok(Pair { ours: took.as_secs_f64() * 1e6 / records as f64, rival: BEHIND_US })
    }
}

/// Reading a journal of which nothing is stored, as a gate does that starts.
struct Recovery {
    folder: TempDir,
    decisions: u64,
}

impl Recovery {
    fn new(size: Size) -> Result<Self, NotReady> {
        let decisions = match size {
            Size::Full => 1_000_000,
            Size::Smoke => 4_000,
        };
        let folder = tempfile::tempdir().map_err(RatioError::broken("a folder"))?;
        Recorded::new(folder.path(), size)?.decide(decisions, AT)?;
        Ok(Self { folder, decisions })
    }
}

impl Contest for Recovery {
    fn rival_name(&self) -> &'static str {
        "bar"
    }

    fn unit(&self) -> &'static str {
        "records per second of processor time"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let (found, store) = (found(self.folder.path())?, store(self.folder.path())?);
        let before = processor_time();
        let recovered = Recovered::read(&found, &store, SPANS, false).map_err(RatioError::broken("the journal"))?;
        let took = processor_time().saturating_sub(before);
        RatioError::check(recovered.records() >= self.decisions, "records are missing")?;
        Ok(Pair { ours: recovered.records() as f64 / took.as_secs_f64(), rival: RECOVERED_PER_S })
    }
}

/// Filling the tables of a gate that starts out of a store.
struct Load {
    folder: TempDir,
    decisions: u64,
}

impl Load {
    fn new(size: Size) -> Result<Self, NotReady> {
        let (parts, part) = match size {
            Size::Full => (11, 250_000),
            Size::Smoke => (2, 4_000),
        };
        let mut scene = Scene::new(size)?;
        let mut decisions = 0;
        for part_before_last in (0..parts).rev() {
            // Hours apart: no nonce but the last ones is in force.
            scene.journal.decide(part, UnixMillis(AT.0 - part_before_last * HOUR_MS))?;
            decisions += scene.fold()?;
        }
        let Scene { folder, journal, behind } = scene;
        drop((journal, behind));
        Ok(Self { folder, decisions })
    }
}

impl Contest for Load {
    fn rival_name(&self) -> &'static str {
        "bar"
    }

    fn unit(&self) -> &'static str {
        "s"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let found = found(self.folder.path())?;
        let rows = self.decisions * u64::from(LIMITS);
        let shared = shared(rows + ROWS_MORE)?;
        let began = Instant::now();
        let store = store(self.folder.path())?;
        let recovered = Recovered::read(&found, &store, SPANS, false).map_err(RatioError::broken("the journal"))?;
        recovered.restore(&shared, &store, AT).map_err(RatioError::broken("the tables"))?;
        let took = began.elapsed();
        RatioError::check(shared.table().rows() >= rows, "rows are missing")?;
        Ok(Pair { ours: took.as_secs_f64(), rival: LOADED_S })
    }
}

fn store(folder: &Path) -> Result<Durable, RatioError> {
    Durable::open(&folder.join("store"), FINGERPRINT).map_err(RatioError::broken("the store"))
}

/// Makes empty tables with room for so many rows.
fn shared(rows_max: u64) -> Result<Shared, RatioError> {
    let routes = Routes::standard().map_err(RatioError::broken("the routes"))?;
    let policy = Policy::build(routes, Vec::new(), Vec::new()).map_err(RatioError::broken("the policy"))?;
    Ok(Shared::new(SharedParts {
        policy,
        deployment_key: DeploymentKey::new([7; 32]),
        nonces: NonceBounds { entries_max: ENTRIES_MAX, entries_per_merchant_max: u32::MAX, tolerance_s: 300 },
        orders: OrderBounds { entries_max: ENTRIES_MAX, entries_per_merchant_max: u32::MAX, keep_s: 86_400 },
        holds: HoldRules::default(),
        quota: Bounds { rows_max, rows_per_merchant_max: u32::MAX },
    }))
}

/// Waits until the threads that put the files of a store in order have come to their end.
fn wait_until_idle() {
    let mut before = processor_time();
    for _ in 0..IDLE_ROUNDS_MAX {
        std::thread::sleep(IDLE_ROUND);
        let now = processor_time();
        if now.saturating_sub(before) < IDLE_ROUND / 20 {
            return;
        }
        before = now;
    }
}

/// Reads the processor time that all threads of this process have taken.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Half a core, at 50,000 decisions a second.
const BEHIND_US: f64 = 10.0;

/// Records that are read, by one core in a second.
const RECOVERED_PER_S: f64 = 1e6;

/// How long a store of ten million rows may take, in seconds.
const LOADED_S: f64 = 20.0;

const SPANS: Spans = Spans { window_s: 660, step_back_s: 60 };

const ENTRIES_MAX: usize = 1 << 22;

/// Room for the rows of records that are not stored yet.
const ROWS_MORE: u64 = 1 << 19;

const HOUR_MS: i64 = 3_600_000;

const IDLE_ROUND: Duration = Duration::from_millis(100);

/// A minute.
const IDLE_ROUNDS_MAX: u32 = 600;
