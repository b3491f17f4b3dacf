//! Takes from rows and gives back, one decision of four cells at a time.
//!
//! The rival is the plain form: one map of rows behind one lock.

#![expect(clippy::expect_used, reason = "a bench that goes wrong stops")]

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::{Arc, Mutex};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tollgate::quota::{Bounds, CellDemand, Demand, RowKey, Table};
use tollgate::share::Share;
use tollgate::types::{Fen, LimitMode, Unit};

const ROWS: u64 = 1 << 17;
const CELLS: [CellDemand; 2] =
    [CellDemand { window_id: 20_779, ceiling_fen: 1 << 40 }, CellDemand { window_id: 683, ceiling_fen: 1 << 40 }];

/// Spreads a number over the key space (SplitMix64).
fn key(number: u64) -> u128 {
    let mix = |seed: u64| {
        let a = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        b ^ (b >> 31)
    };
    let low = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    u128::from(mix(low)) << 64 | u128::from(low)
}

fn demands(number: u64) -> [Demand; 2] {
    let row = |number: u64| Demand {
        row: RowKey(key(number % ROWS)),
        unit: Unit::Fen,
        mode: LimitMode::Enforce,
        cells: CELLS.into_iter().collect(),
    };
    [row(number), row(number.wrapping_mul(7) + 1)]
}

/// The plain form: all rows behind one lock.
#[derive(Default)]
struct Locked(Mutex<HashMap<RowKey, [(u16, u64); 2]>>);

impl Locked {
    fn reserve_and_give_back(&self, demands: &[Demand], amount: u64) -> usize {
        let mut rows = self.0.lock().expect("no panic");
        let mut taken = 0;
        for demand in demands {
            let row = rows.entry(demand.row).or_default();
            for (cell, demanded) in row.iter_mut().zip(&demand.cells) {
                let used = if cell.0 < demanded.window_id { 0 } else { cell.1 };
                if used + amount <= demanded.ceiling_fen {
                    *cell = (demanded.window_id, used + amount);
                    taken += 1;
                }
            }
        }
        drop(rows);
        let mut rows = self.0.lock().expect("no panic");
        for row in demands.iter().map(|demand| demand.row) {
            rows.entry(row).and_modify(|cells| cells.iter_mut().for_each(|cell| cell.1 -= amount));
        }
        taken
    }
}

fn reserve(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("quota/reserve");
    group.throughput(Throughput::Elements(1));
    let amount = Fen::new(100).expect("amount");

    let locked = Locked::default();
    (0..ROWS).for_each(|number| assert_eq!(locked.reserve_and_give_back(&demands(number), 1), 4));
    let mut number = 0;
    let mut next = || {
        number += 1;
        demands(number * 0x9e37_79b9 % ROWS)
    };
    group.bench_function("mutex_map", |bencher| {
        let decide = |demands: [Demand; 2]| assert_eq!(locked.reserve_and_give_back(black_box(&demands), 100), 4);
        bencher.iter_batched(&mut next, decide, BatchSize::SmallInput);
    });

    let table = Arc::new(Table::new(Bounds { rows_max: 2 * ROWS, rows_per_merchant_max: u32::MAX }));
    let share = Share::default();
    let decide = |demands: &[Demand]| {
        let reserved = table.reserve(demands, amount, &share).expect("room");
        assert_eq!(reserved.charges().iter().count(), 4);
    };
    (0..ROWS).for_each(|number| decide(&demands(number)));
    group.bench_function("table", |bencher| {
        bencher.iter_batched(&mut next, |demands| decide(black_box(&demands)), BatchSize::SmallInput);
    });
    assert_eq!(table.used_total(), 0);
    group.finish();
}

criterion_group!(benches, reserve);
criterion_main!(benches);
