//! What a decision costs beyond its signature, beside one verification by ring.
//!
//! The cost is a difference: a round decides batches of eight orders, and verifies the same eight by themselves. It is
//! one of low percentiles and not of sums, which would be that of whatever else ran on the machine.

mod gate;
mod pool;

use std::hint::black_box;
use std::time::{Duration, Instant};

use tollgate::signature::{Extracted, Invalid, Verified, Verifier};

use self::pool::Pool;
use super::orders::{Order, Prepared, jobs, verify_all};
use super::row::Sorted;
use super::verify::RivalKeys;
use super::{Better, Contest, Entry, NotReady, Pair, RatioError, Size};

/// Returns the rows of decisions.
pub(super) fn entries(size: Size) -> Vec<Entry> {
    vec![Entry::new("decide.rest_vs_ring_verify", move || Rest::new(size))]
}

/// Decisions without their signatures, beside ring.
struct Rest {
    batches: usize,
    pool: Pool,
    rival: RivalKeys,
    verifier: Verifier,
    verdicts: Vec<Result<Verified, Invalid>>,
}

impl Rest {
    fn new(size: Size) -> Result<Self, NotReady> {
        let pool = Pool::new(size)?;
        let batches = match size {
            Size::Full => 256,
            Size::Smoke => 2,
        };
        let rival = RivalKeys::ring(pool.signers());
        Ok(Self { batches, pool, rival, verifier: Verifier::new(), verdicts: Vec::new() })
    }

    /// Times the decision on the next orders, their verification, and the rival's.
    fn batch(&mut self) -> Result<[Duration; 3], RatioError> {
        let decided = self.pool.decide(BATCH)?;
        let orders = self.pool.decided(BATCH);
        let extracted = orders.iter().map(Order::extracted).collect::<Result<Vec<Extracted<'_>>, _>>()?;
        let jobs = jobs(self.pool.signers(), orders, &extracted)?;
        let began = Instant::now();
        let valid = verify_all(&mut self.verifier, &mut self.verdicts, black_box(&jobs), BATCH);
        let verified = began.elapsed();
        RatioError::check(valid, "ours refuses a valid signature")?;
        let prepared = orders.iter().map(Prepared::new).collect::<Result<Vec<_>, _>>()?;
        let began = Instant::now();
        let valid = self.rival.verify_all(black_box(&prepared));
        let rival = began.elapsed();
        RatioError::check(valid, "the rival refuses a valid signature")?;
        Ok([decided, verified, rival])
    }
}

impl Contest for Rest {
    fn rival_name(&self) -> &'static str {
        "one verification by ring"
    }

    fn unit(&self) -> &'static str {
        "ns"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        self.pool.refuse_forged()?;
        let times = (0..self.batches).map(|_| self.batch()).collect::<Result<Vec<_>, _>>()?;
        let low = |of: fn(&[Duration; 3]) -> Duration| {
            let nanoseconds = times.iter().map(|times| of(times).as_secs_f64() * 1e9 / BATCH as f64);
            Sorted::new(nanoseconds).percentile(LOW_PERCENT)
        };
        let rest = low(|[decided, _, _]| *decided) - low(|[_, verified, _]| *verified);
        // A clock cannot tell less than a nanosecond.
        Ok(Pair { ours: rest.max(1.0), rival: low(|[_, _, rival]| *rival) })
    }
}

/// Orders that are decided together, as many as a worker decides together.
const BATCH: usize = 8;

/// The percentile of the batches that stands for all.
const LOW_PERCENT: usize = 10;
