//! The gate's metrics: every one declared once, in `families`, with its unit and what to do when it rises.
//!
//! Each worker counts in a [`Worker`] of its own, with relaxed atomics: no lock, no allocation, no look-up of labels.
//! [`Metrics`] adds the workers up when it is scraped, which is cold. No merchant and no customer is ever a label: the
//! number of series is fixed at start.

mod collector;
mod families;
mod histogram;
mod worker;

use std::fmt;
use std::sync::Arc;

use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;

use crate::reason::Reason;
use collector::Sources;

pub use worker::{Stage, Worker};

/// Tells what is read when scraped, rather than counted as it happens.
pub trait Gauges: Send + Sync {
    /// Reads everything as it is now.
    fn read(&self) -> Readings;
}

/// What is read when scraped.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings {
    /// Nonces held.
    pub nonces: u64,
    /// Most nonces held at once.
    pub nonces_max: u64,
    /// Orders held.
    pub orders: u64,
    /// Most orders held at once.
    pub orders_max: u64,
    /// Limit rows held.
    pub rows: u64,
    /// Most limit rows held at once.
    pub rows_max: u64,
    /// Memory of the table of limit rows, in bytes.
    pub rows_bytes: u64,
    /// Limit rows whose room is handed out to workers in slices.
    pub rows_sliced: u64,
    /// Windows of limits of which something is used.
    pub cells_used: u64,
    /// What the limit rows show as used, less what was taken and not given back; `None` where traffic was too heavy to tell.
    pub conservation_error: Option<u64>,
    /// Orders held and their amounts in fen, by age.
    pub holds: Vec<(&'static str, u64, u64)>,
    /// Orders settled otherwise than by an answer, and their amounts in fen, by event.
    pub settlements: Vec<(&'static str, u64, u64)>,
    /// Days until the first merchant certificate expires; `None` without certificates, negative once expired.
    pub merchant_certificate_days_left_min: Option<f64>,
    /// Days until the first platform certificate expires; `None` without certificates, negative once expired.
    pub platform_certificate_days_left_min: Option<f64>,
    /// Days until the first revocation list stops counting; `None` where there is none.
    pub revocation_list_days_left_min: Option<f64>,
    /// Merchants in the policy in force.
    pub merchants: u64,
    /// Bodies held, in bytes.
    pub bodies_bytes: u64,
    /// Answers of the upstream being held, in bytes.
    pub answers_bytes: u64,
    /// Connections open.
    pub connections: u64,
    /// Whether the gate takes requests.
    pub ready: bool,
    /// Answers waiting to be signed.
    pub signing_queue: u64,
    /// The journal; `None` where nothing is recorded.
    pub journal: Option<JournalReadings>,
}

/// What is read of the journal and of the store behind it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct JournalReadings {
    /// What a loss of power would take now, in fen.
    pub exposed_fen: u64,
    /// How old the oldest record is that is not safe, in seconds.
    pub exposed_seconds: f64,
    /// What waits for its record to be safe before it is given back.
    pub give_backs_waiting: u64,
    /// Records that are sealed and not stored.
    pub behind_records: u64,
    /// What these charge, in fen.
    pub behind_fen: u64,
    /// How old the oldest of these is, in seconds.
    pub behind_seconds: f64,
    /// Whether the disk has no room for the next segment.
    pub full: bool,
    /// Whether the journal has failed.
    pub failed: bool,
}

/// Everything the gate tells about itself.
#[derive(Debug)]
pub struct Metrics {
    sources: Arc<Sources>,
    registry: Registry,
}

impl Metrics {
    /// Makes the metrics of all workers and of what is read when scraped.
    pub fn new(workers: Vec<Arc<Worker>>, gauges: Arc<dyn Gauges>) -> Self {
        let sources = Arc::new(Sources { workers, gauges });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&sources)));
        Self { sources, registry }
    }

    /// Returns everything as OpenMetrics 1.0 text.
    ///
    /// # Errors
    /// Whatever stopped the encoder; nothing of its own does.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    /// Returns the sums of the decisions over all workers.
    pub fn snapshot(&self) -> Snapshot {
        let batches = self.sources.batches();
        Snapshot {
            admitted: self.sources.total(Worker::admissions),
            duplicates: self.sources.total(Worker::duplicates),
            refused: self.sources.refusals().filter(|(_, count)| *count > 0).collect(),
            batches: batches.count(),
            batched_requests: batches.sum,
        }
    }
}

/// The sums of the decisions over all workers, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Admissions, duplicates among them.
    pub admitted: u64,
    /// Admissions that found an earlier decision on the same order.
    pub duplicates: u64,
    /// Refusals by reason, in the order of [`Reason::ALL`]; reasons that never occurred are left out.
    pub refused: Vec<(Reason, u64)>,
    /// Batches decided.
    pub batches: u64,
    /// Requests decided in these batches.
    pub batched_requests: u64,
}

impl Snapshot {
    /// Returns the mean number of requests in a batch; `None` before the first batch.
    pub fn batch_requests_mean(&self) -> Option<f64> {
        (self.batches > 0).then(|| histogram::float(self.batched_requests) / histogram::float(self.batches))
    }
}

#[cfg(test)]
mod tests;
