//! Takes from limits, four cells in two rows a decision, out of a million rows.
//!
//! The table decides in batches of eight, as a worker does: it is asked to fetch what all eight need before the first is
//! decided. A map has nothing of the kind, so a batch is eight decisions to it. What the table does with one decision at
//! a time is printed as well.
//!
//! The rivals hold the same windows in maps: one atomic a cell, one row of atomics a key, and the cells of a keyed rate
//! limiter, which cannot take back what it took. The maps use the bits of the keys as they are, as the table does. Nobody
//! gives anything back.
//!
//! `cargo bench --bench quota` measures and ends with one line for each promise and its figure. Without `--bench`, as
//! tests run it, everything is small and runs once, and the figures say nothing.

#![expect(clippy::expect_used, clippy::indexing_slicing, reason = "a bench that goes wrong stops")]

use std::hash::{BuildHasherDefault, Hasher};
use std::hint::black_box;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Instant;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use dashmap::DashMap;
use governor::clock::DefaultClock;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use tollgate::quota::{Bounds, CellDemand, Demand, Lane, RowKey, Table};
use tollgate::share::Share;
use tollgate::types::{Fen, LimitMode, Unit};

/// How much is done: all of it, or as much as shows that it works.
#[derive(Clone, Copy)]
struct Size {
    rows: u64,
    decisions: u64,
    rounds: u64,
}

impl Size {
    fn asked_for() -> Self {
        // Cargo says so when it measures; criterion runs each bench once otherwise.
        if std::env::args().any(|argument| argument == "--bench") && !std::env::args().any(|one| one == "--test") {
            Self { rows: 1 << 20, decisions: 204_800, rounds: 15 }
        } else {
            Self { rows: 1 << 10, decisions: 2_048, rounds: 1 }
        }
    }
}

/// Decides a batch, and tells whether all cells had room.
type Decide<'a> = (&'static str, Box<dyn Fn(&[[Demand; 2]]) -> bool + 'a>);

fn reserve4(criterion: &mut Criterion) {
    let size = Size::asked_for();
    let (rows, cells, map, limiter) =
        (Rows::new(size.rows), DashmapCells::default(), DashmapRows::default(), limiter());
    let contenders: [Decide<'_>; 5] = [
        ("tollgate", Box::new(|batch| rows.decide(rows.lane, batch))),
        ("dashmap_rows", Box::new(|batch| batch.iter().all(|demands| map.decide(demands)))),
        ("dashmap_cells", Box::new(|batch| batch.iter().all(|demands| cells.decide(demands)))),
        ("governor", Box::new(|batch| batch.iter().all(|demands| limit(&limiter, demands)))),
        ("tollgate_one_by_one", Box::new(|batch| batch.chunks(1).all(|demands| rows.decide(rows.lane, demands)))),
    ];
    for (name, decide) in &contenders {
        assert!((0..size.rows).all(|number| decide(&[demands(number, size.rows)])), "{name} fills");
    }
    refuse_alike(&contenders[..3], size.rows);

    let mut group = criterion.benchmark_group("quota/reserve4");
    group.throughput(Throughput::Elements(BATCH as u64));
    let mut number = 0;
    for (name, decide) in &contenders {
        let mut next = || {
            number += BATCH as u64;
            batch(number, size.rows)
        };
        let run = |batch: [[Demand; 2]; BATCH]| assert!(decide(black_box(&batch)));
        group.bench_function(*name, |bencher| bencher.iter_batched(&mut next, run, BatchSize::SmallInput));
    }
    group.finish();

    let times = in_rounds(&contenders, size, size.rows);
    let ratio = |rival: usize| median(times[rival].iter().zip(&times[0]).map(|(rival, own)| rival / own).collect());
    for ((name, _), times) in contenders.iter().zip(&times) {
        println!("quota/reserve4/{name}: {:.0} ns", median(times.clone()));
    }
    at_least("cells of dashmap against tollgate", ratio(2), 3.0);
    at_least("rows of dashmap against tollgate", ratio(1), 1.2);
    at_least("governor against tollgate", ratio(3), 10.0);
    drop(contenders);
    drop((map, cells, limiter));
    large(&rows, size);
}

/// A table ten times as large, beside the first.
fn large(rows: &Rows, size: Size) {
    let many = 10 * size.rows;
    let large = Rows::new(many);
    for number in 0..many {
        let demand = [demand(number)];
        large.table.reserve(large.lane, &demand, large.amount, &large.share).expect("room").keep();
    }
    let bytes = large.table.bytes() as f64 / large.table.rows() as f64;
    let contenders: [Decide<'_>; 2] = [
        ("1 M rows", Box::new(|batch| rows.decide(rows.lane, batch))),
        ("10 M rows", Box::new(|batch| large.decide(large.lane, batch))),
    ];
    let mut ratios = Vec::new();
    for round in 0..size.rounds {
        let one = Size { rounds: 1, ..size };
        let of = |which: usize, rows: u64| {
            let contender = std::slice::from_ref(&contenders[which]);
            in_rounds_from(contender, one, rows, round)[0][0]
        };
        ratios.push(of(1, many) / of(0, size.rows));
    }
    at_most("ten times the rows against as many", median(ratios), 2.0);
    at_most("bytes a row", bytes, 48.0);
}

/// One row that all decisions fall on: what two workers do in the time of one.
fn hot_row(_: &mut Criterion) {
    let size = Size::asked_for();
    let rows = Rows::new(64);
    let lanes = [rows.lane, rows.table.lane()];
    let batch: [_; BATCH] = std::array::from_fn(|_| [demand(1), demand(2)]);
    let decisions = size.decisions * 5;
    let run = |workers: usize| {
        let barrier = Barrier::new(workers);
        let (barrier, rows, batch) = (&barrier, &rows, &batch);
        let longest = std::thread::scope(|scope| {
            let work = |lane: Lane| {
                move || {
                    barrier.wait();
                    let start = Instant::now();
                    assert!((0..decisions / BATCH as u64).all(|_| rows.decide(lane, black_box(batch))));
                    start.elapsed().as_secs_f64()
                }
            };
            let threads: Vec<_> = lanes.into_iter().take(workers).map(|lane| scope.spawn(work(lane))).collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).fold(0.0, f64::max)
        });
        workers as f64 * decisions as f64 / longest
    };
    let (mut ratios, mut ones) = (Vec::new(), Vec::new());
    for _ in 0..size.rounds {
        let (one, two) = (run(1), run(2));
        ones.push(1e9 / one);
        ratios.push(two / one);
    }
    println!("quota/hot_row: {:.0} ns alone, {} of two rows in slices", median(ones), rows.table.sliced_rows());
    at_least("hot row by two workers against one (hot_row_2core)", median(ratios), 1.5);
    assert_eq!(rows.table.conservation().error, 0);
}

/// Every contender that has ceilings refuses what passes one in the last cell, and keeps nothing of it.
fn refuse_alike(contenders: &[Decide<'_>], rows: u64) {
    let with_ceilings = |first: u64, last: u64| {
        let mut demands = [rows, rows + 1].map(demand);
        demands.iter_mut().flat_map(|demand| demand.cells.iter_mut().flatten()).for_each(|cell| cell.ceiling = first);
        demands[1].cells[1].as_mut().expect("a month").ceiling = last;
        demands
    };
    for (name, decide) in contenders {
        assert!(decide(&[with_ceilings(2 * AMOUNT, AMOUNT)]), "{name} takes up to a ceiling");
        assert!(!decide(&[with_ceilings(2 * AMOUNT, 2 * AMOUNT - 1)]), "{name} passes no ceiling");
        assert!(decide(&[with_ceilings(2 * AMOUNT, 2 * AMOUNT)]), "{name} keeps nothing of what it refused");
    }
}

/// Lets all decide the same, in turn; returns for each its nanoseconds a decision, by round.
fn in_rounds(contenders: &[Decide<'_>], size: Size, rows: u64) -> Vec<Vec<f64>> {
    in_rounds_from(contenders, size, rows, 0)
}

fn in_rounds_from(contenders: &[Decide<'_>], size: Size, rows: u64, first: u64) -> Vec<Vec<f64>> {
    let mut times: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for round in first..first + size.rounds {
        for ((_, decide), times) in contenders.iter().zip(&mut times) {
            // Demands are made a few batches at a time: those of a whole round would fill the caches of the processor.
            let chunks = (0..size.decisions).step_by(BATCH * BATCHES).map(|first| {
                let number = |batch: usize| round << 32 | (first + (batch * BATCH) as u64);
                let batches: [_; BATCHES] = std::array::from_fn(|one| batch(number(one), rows));
                let start = Instant::now();
                assert!(batches.iter().all(|batch| decide(batch)));
                start.elapsed().as_secs_f64()
            });
            times.push(chunks.sum::<f64>() * 1e9 / size.decisions as f64);
        }
    }
    times
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn at_least(what: &str, value: f64, bar: f64) {
    println!("bar: {what}: {value:.2}, at least {bar}: {}", if value >= bar { "met" } else { "MISSED" });
}

fn at_most(what: &str, value: f64, bar: f64) {
    println!("bar: {what}: {value:.2}, at most {bar}: {}", if value <= bar { "met" } else { "MISSED" });
}

/// The table of this crate.
struct Rows {
    table: Table,
    lane: Lane,
    share: Arc<Share>,
    amount: Fen,
}

impl Rows {
    fn new(rows: u64) -> Self {
        let table = Table::new(Bounds { rows_max: rows + 2, rows_per_merchant_max: u32::MAX });
        Self { lane: table.lane(), table, share: Arc::default(), amount: Fen::new(AMOUNT).expect("amount") }
    }

    fn decide(&self, lane: Lane, batch: &[[Demand; 2]]) -> bool {
        batch.iter().flatten().for_each(|demand| self.table.fetch_index(demand));
        batch.iter().flatten().for_each(|demand| self.table.fetch_rows(demand));
        batch.iter().all(|demands| {
            let reserved = self.table.reserve(lane, demands, self.amount, &self.share);
            reserved.map(|reserved| black_box(reserved.keep())).is_ok()
        })
    }
}

/// One map entry a cell.
#[derive(Default)]
struct DashmapCells(DashMap<u128, AtomicU64, BuildHasherDefault<AsIs>>);

impl DashmapCells {
    fn decide(&self, demands: &[Demand; 2]) -> bool {
        let cells = || demands.iter().flat_map(cells);
        let taken = cells().take_while(|(key, cell)| self.with(*key, |word| take(word, cell))).count();
        if taken < 4 {
            cells().take(taken).for_each(|(key, _)| self.with(key, give_back));
        }
        taken == 4
    }

    fn with<T>(&self, key: u128, act: impl FnOnce(&AtomicU64) -> T) -> T {
        match self.0.get(&key) {
            Some(word) => act(&word),
            None => act(&self.0.entry(key).or_default()),
        }
    }
}

/// One map entry a row.
#[derive(Default)]
struct DashmapRows(DashMap<u128, [AtomicU64; 2], BuildHasherDefault<AsIs>>);

impl DashmapRows {
    fn decide(&self, demands: &[Demand; 2]) -> bool {
        let taken = demands.each_ref().map(|demand| {
            self.with(demand.row.0, |row| {
                row.iter().zip(demand.cells.iter().flatten()).take_while(|(word, cell)| take(word, cell)).count()
            })
        });
        if taken != [2, 2] {
            for (demand, taken) in demands.iter().zip(taken) {
                self.with(demand.row.0, |row| row.iter().take(taken).for_each(give_back));
            }
        }
        taken == [2, 2]
    }

    fn with<T>(&self, key: u128, act: impl FnOnce(&[AtomicU64; 2]) -> T) -> T {
        match self.0.get(&key) {
            Some(row) => act(&row),
            None => act(&self.0.entry(key).or_default()),
        }
    }
}

type Limiter = RateLimiter<u128, DashMapStateStore<u128>, DefaultClock>;

fn limiter() -> Limiter {
    RateLimiter::dashmap(Quota::per_second(NonZeroU32::MAX))
}

fn limit(limiter: &Limiter, demands: &[Demand; 2]) -> bool {
    let amount = NonZeroU32::new(100).expect("amount");
    demands.iter().flat_map(cells).all(|(key, _)| limiter.check_key_n(&key, amount).is_ok_and(|within| within.is_ok()))
}

/// Takes from a rival's cell: the window in the upper 16 bits, its use below, as in the table.
fn take(word: &AtomicU64, cell: &CellDemand) -> bool {
    let window = u64::from(cell.window_id);
    word.try_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
        let (window, used) = if word >> 48 < window { (window, 0) } else { (word >> 48, word & USED_MASK) };
        (used + AMOUNT <= cell.ceiling).then(|| window << 48 | (used + AMOUNT))
    })
    .is_ok()
}

fn give_back(word: &AtomicU64) {
    word.fetch_sub(AMOUNT, Ordering::Relaxed);
}

fn cells(demand: &Demand) -> impl Iterator<Item = (u128, &CellDemand)> {
    demand.cells.iter().flatten().zip(0_u128..).map(|(cell, position)| (demand.row.0 ^ position << 40, cell))
}

/// Hashes a key by its lower half.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {}

    #[expect(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    fn write_u128(&mut self, key: u128) {
        self.0 = key as u64;
    }
}

/// Makes a batch of decisions on rows that follow from a number as at random.
fn batch(number: u64, rows: u64) -> [[Demand; 2]; BATCH] {
    std::array::from_fn(|one| demands(spread(number + one as u64) % rows, rows))
}

fn demands(number: u64, rows: u64) -> [Demand; 2] {
    [number, spread(number) % rows].map(demand)
}

fn demand(number: u64) -> Demand {
    let row = RowKey(u128::from(spread(!number)) << 64 | u128::from(spread(number)));
    Demand { row, label: 0, unit: Unit::Fen, mode: LimitMode::Enforce, tag: 0, cells: CELLS }
}

/// Spreads a number over 64 bits (SplitMix64).
fn spread(number: u64) -> u64 {
    let seed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let a = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}

/// Decisions of a batch, as many as a worker decides together.
const BATCH: usize = 8;

/// Batches that are made before they are decided.
const BATCHES: usize = 8;

const AMOUNT: u64 = 100;
const USED_MASK: u64 = (1 << 48) - 1;
const CELLS: [Option<CellDemand>; 4] = [
    Some(CellDemand { window_id: 20_779, ceiling: 1 << 47 }),
    Some(CellDemand { window_id: 683, ceiling: 1 << 47 }),
    None,
    None,
];

criterion_group!(benches, hot_row, reserve4);
criterion_main!(benches);
