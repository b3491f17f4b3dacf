//! Two rows that all decisions fall on: what two workers do in the time of one.

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use tollgate::quota::Lane;

use super::demands::{BATCH, Batch, CEILING_FEN, demand};
use super::rows::Rows;
use crate::ratios::{Better, Contest, NotReady, Pair, RatioError, Size};

/// The rows.
pub(super) struct HotRow {
    rows: Rows,
    lanes: [Lane; 2],
    batch: Batch,
    /// What one worker decides in a turn.
    batches: u64,
    /// How many decisions were made.
    decided: u64,
}

impl HotRow {
    /// Makes the rows; not where there is one core only.
    pub(super) fn new(size: Size) -> Result<Self, NotReady> {
        let cores = thread::available_parallelism().map_err(RatioError::broken("the number of cores"))?;
        if cores.get() < 2 {
            return Err(NotReady::Skipped("it takes two cores".to_owned()));
        }
        let rows = Rows::new(64);
        let batches = match size {
            Size::Full => 100_000,
            Size::Smoke => 50,
        };
        let batch = std::array::from_fn(|_| [1, 2].map(|number| demand(number, [CEILING_FEN; 2])));
        Ok(Self { lanes: [rows.lane(), rows.another_lane()], rows, batch, batches, decided: 0 })
    }

    /// Lets so many workers decide at the same time; returns the decisions of a second.
    fn rate(&mut self, workers: usize) -> Result<f64, RatioError> {
        let barrier = Barrier::new(workers);
        let work = |lane: Lane| {
            barrier.wait();
            let began = Instant::now();
            let admitted = (0..self.batches).all(|_| self.rows.decide(lane, black_box(&self.batch)));
            admitted.then(|| began.elapsed().as_secs_f64())
        };
        let times: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = self.lanes.iter().take(workers).map(|lane| scope.spawn(|| work(*lane))).collect();
            threads.into_iter().map(|thread| thread.join().ok().flatten()).collect()
        });
        let longest = times.into_iter().try_fold(0.0, |longest: f64, time| Some(longest.max(time?)));
        let longest = longest.ok_or(RatioError::Wrong("a decision was refused that has room"))?;
        let decisions = workers as u64 * self.batches * BATCH as u64;
        self.decided += decisions;
        Ok(decisions as f64 / longest)
    }
}

impl Contest for HotRow {
    fn rival_name(&self) -> &'static str {
        "one worker"
    }

    fn unit(&self) -> &'static str {
        "decisions/s"
    }

    fn better(&self) -> Better {
        Better::Higher
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let pair = Pair { rival: self.rate(1)?, ours: self.rate(2)? };
        self.rows.check_books(self.decided)?;
        Ok(pair)
    }
}
