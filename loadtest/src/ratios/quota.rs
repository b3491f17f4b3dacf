//! Takes from limits: four cells in two rows a decision, out of a million rows.
//!
//! The table decides in batches of eight, as a worker does, and is asked to fetch what all eight need before the first
//! is decided. A map has nothing of the kind, so a batch is eight decisions to it. Nobody gives anything back.

mod demands;
mod hot_row;
mod rivals;
mod rows;

use std::hint::black_box;
use std::time::Instant;

use self::demands::{BATCH, Batch, Demands, batch, demands, demands_below};
use self::hot_row::HotRow;
use self::rivals::{DashmapCells, DashmapRows, Limiter};
use self::rows::Rows;
use super::{Better, Contest, Entry, NotReady, Pair, RatioError, Size};

/// Returns the rows of limits.
pub(super) fn entries(size: Size) -> Vec<Entry> {
    vec![
        Entry::new("quota.reserve4_vs_dashmap", move || Reserve::<DashmapCells>::new(size)),
        Entry::new("quota.reserve4_vs_dashmap_rows", move || Reserve::<DashmapRows>::new(size)),
        Entry::new("quota.reserve4_vs_governor", move || Reserve::<Limiter>::new(size)),
        Entry::new("quota.hot_row_2core", move || HotRow::new(size)),
    ]
}

/// Something else that could hold the windows of limits.
trait Rival: Default {
    /// Its name in the row.
    const NAME: &'static str;

    /// Whether a decision has ceilings of its own, and what is refused is given back.
    const CEILINGS: bool;

    /// Takes from all four cells, or from none where it can; tells whether all had room.
    fn decide(&self, demands: &Demands) -> bool;
}

/// How much is done.
#[derive(Clone, Copy)]
struct Amounts {
    rows: u64,
    /// Batches between two readings of the clock. Demands are made in between: those of a whole round would fill the
    /// caches of the processor.
    batches: usize,
    /// Stretches of so many batches in a turn.
    stretches: u64,
    /// Turns of each in a round.
    turns: u64,
}

impl Amounts {
    fn of(size: Size) -> Self {
        match size {
            Size::Full => Self { rows: 1 << 20, batches: 8, stretches: 640, turns: 4 },
            Size::Smoke => Self { rows: 1 << 10, batches: 2, stretches: 4, turns: 2 },
        }
    }
}

/// The table of this project beside a rival.
struct Reserve<R> {
    amounts: Amounts,
    rows: Rows,
    rival: R,
    /// The number of the next decision.
    next: u64,
    /// How many decisions ours admitted.
    admitted: u64,
    /// What the cells hold that are asked about ceilings.
    probed_fen: u64,
}

impl<R: Rival> Reserve<R> {
    /// Fills both with all rows.
    fn new(size: Size) -> Result<Self, NotReady> {
        let amounts = Amounts::of(size);
        let (rows, rival) = (Rows::new(amounts.rows + PROBED_ROWS), R::default());
        for number in 0..amounts.rows {
            let demands = demands(number, amounts.rows);
            let filled = rows.decide(rows.lane(), std::slice::from_ref(&demands)) && rival.decide(&demands);
            RatioError::check(filled, "there is no room for a row")?;
        }
        Ok(Self { amounts, rows, rival, next: 0, admitted: amounts.rows, probed_fen: 0 })
    }

    /// Returns the nanoseconds of a decision.
    fn time(&self, first: u64, decide: impl Fn(&Batch) -> bool) -> Result<f64, RatioError> {
        let Amounts { rows, batches, stretches, .. } = self.amounts;
        let stride = (batches * BATCH) as u64;
        let mut seconds = 0.0;
        for stretch in 0..stretches {
            let numbers = (first + stretch * stride..).step_by(BATCH).take(batches);
            let stretch: Vec<_> = numbers.map(|number| batch(number, rows)).collect();
            let began = Instant::now();
            let admitted = stretch.iter().all(|batch| decide(black_box(batch)));
            seconds += began.elapsed().as_secs_f64();
            RatioError::check(admitted, "a decision was refused that has room")?;
        }
        Ok(seconds * 1e9 / (stretches * stride) as f64)
    }

    /// Both refuse what passes a ceiling in the last cell, and keep nothing of it: then what just fits is admitted.
    fn refuse_alike(&mut self) -> Result<(), RatioError> {
        let filled = self.probed_fen + demands::AMOUNT_FEN;
        let probe = |last| demands_below(self.amounts.rows, [filled, filled, filled, last]);
        let (above, within) = (probe(filled - 1), probe(filled));
        let ours = |demands| self.rows.decide(self.rows.lane(), std::slice::from_ref(demands));
        RatioError::check(!ours(&above), "ours passes a ceiling")?;
        RatioError::check(ours(&within), "ours keeps a part of what it refused")?;
        if R::CEILINGS {
            RatioError::check(!self.rival.decide(&above), "the rival passes a ceiling")?;
            RatioError::check(self.rival.decide(&within), "the rival keeps a part of what it refused")?;
        }
        self.probed_fen = filled;
        self.admitted += 1;
        Ok(())
    }
}

impl<R: Rival> Contest for Reserve<R> {
    fn rival_name(&self) -> &'static str {
        R::NAME
    }

    fn unit(&self) -> &'static str {
        "ns"
    }

    fn better(&self) -> Better {
        Better::Lower
    }

    fn round(&mut self) -> Result<Pair, RatioError> {
        let Amounts { batches, stretches, turns, .. } = self.amounts;
        let decisions = stretches * (batches * BATCH) as u64;
        let (mut ours, mut rival) = (0.0, 0.0);
        for _ in 0..turns {
            ours += self.time(self.next, |batch| self.rows.decide(self.rows.lane(), batch))?;
            rival += self.time(self.next, |batch| batch.iter().all(|demands| self.rival.decide(demands)))?;
            self.next += decisions;
            self.admitted += decisions;
        }
        self.refuse_alike()?;
        self.rows.check_books(self.admitted)?;
        Ok(Pair { ours: ours / turns as f64, rival: rival / turns as f64 })
    }
}

/// Rows that are asked about ceilings, beside the others.
const PROBED_ROWS: u64 = 2;
