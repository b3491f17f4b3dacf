//! Random histories against a plain map.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The rules again, on one thread over a map. A limit's row counts as existing once a take got as far as it.
#[derive(Default)]
struct Oracle {
    cells: HashMap<(u128, usize), (u16, u64)>,
}

/// What the oracle charged: row and position of the cell, window.
type OracleCharges = Vec<((u128, usize), u16)>;

impl Oracle {
    fn reserve(&mut self, demands: &[Demand], amount: u64) -> Result<OracleCharges, Shortfall> {
        let mut charges = Vec::new();
        for (index, demand) in demands.iter().enumerate() {
            if let Some(window) = self.take(demand, amount, &mut charges) {
                self.give_back(&charges, amount);
                return Err(exceeded(index, window));
            }
        }
        Ok(charges)
    }

    fn take(&mut self, demand: &Demand, amount: u64, charges: &mut OracleCharges) -> Option<Window> {
        let cells = || (0..).zip(demand.cells).filter_map(|(which, cell)| cell.map(|cell| (which, cell)));
        let window = |which: usize| Some(Window::ALL[which]);
        for row in [0..2, 2..4] {
            let exists = row.clone().any(|which| self.cells.contains_key(&(demand.row.0, which)));
            let mut own = cells().filter(|(which, _)| row.contains(which)).peekable();
            if own.peek().is_none() {
                continue;
            }
            let fits = |ceiling: u64, used: u64| used + amount <= ceiling.min(Fen::MAX.get());
            if let (false, Some((which, _))) =
                (exists, cells().find(|(which, cell)| *which >= row.start && !fits(cell.ceiling, 0)))
            {
                return window(which);
            }
            row.clone().for_each(|which| {
                self.cells.entry((demand.row.0, which)).or_default();
            });
            for (which, demanded) in own {
                let cell = self.cells.get_mut(&(demand.row.0, which)).expect("a row");
                let used = if cell.0 < demanded.window_id { 0 } else { cell.1 };
                if !fits(demanded.ceiling, used) {
                    return window(which);
                }
                *cell = (cell.0.max(demanded.window_id), used + amount);
                charges.push(((demand.row.0, which), cell.0));
            }
        }
        None
    }

    fn give_back(&mut self, charges: &OracleCharges, amount: u64) {
        for (cell, window) in charges {
            let found = self.cells.get_mut(cell).expect("charged row");
            if found.0 == *window {
                found.1 -= amount;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Reserves from rows and those of their windows in a mask; `moment` is where the clock stands.
    Reserve { rows: Vec<(u64, u8)>, moment: u16, amount: u64, ceiling: u64 },
    /// Gives back one of the reservations held.
    GiveBack { pick: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    let max = Fen::MAX.get();
    let amount = prop_oneof![6 => 1_u64..40, 1 => Just(max), 1 => max / 2 - 3..max / 2 + 3];
    let ceiling = prop_oneof![6 => 0_u64..150, 2 => Just(max), 1 => Just(u64::MAX), 1 => max - 40..max];
    let rows = prop::collection::vec((0_u64..4, 1_u8..16), 1..4);
    prop_oneof![
        3 => (rows, 0_u16..12, amount, ceiling)
            .prop_map(|(rows, moment, amount, ceiling)| Step::Reserve { rows, moment, amount, ceiling }),
        1 => any::<prop::sample::Index>().prop_map(|pick| Step::GiveBack { pick }),
    ]
}

/// Demands the windows in a mask at a moment; the longer the window, the higher its ceiling.
fn masked((row, mask): (u64, u8), moment: u16, ceiling: u64) -> Demand {
    let ids = [moment, moment / 2, moment / 4, 0];
    let mut made = demand(key(row), &[]);
    for (which, (cell, window_id)) in (0..).zip(made.cells.iter_mut().zip(ids)) {
        let ceiling = ceiling.saturating_add(which);
        *cell = (mask & 1 << which != 0).then_some(CellDemand { window_id, ceiling });
    }
    made
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_oracle(steps in prop::collection::vec(step(), 1..120)) {
        let desk = Desk::new(Bounds { rows_max: 100, rows_per_merchant_max: 100 });
        let mut oracle = Oracle::default();
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Reserve { rows, moment, amount, ceiling } => {
                    let demands: Vec<_> = rows.into_iter().map(|row| masked(row, moment, ceiling)).collect();
                    match (desk.reserve(&demands, amount), oracle.reserve(&demands, amount)) {
                        (Ok(reserved), Ok(charges)) => {
                            let windows = |charge: Charge| (charge.window(), charge.window_id());
                            let expected = charges.iter().map(|&((_, which), id)| (Window::ALL[which], id));
                            prop_assert!(reserved.charges().iter().map(windows).eq(expected));
                            held.push((reserved, charges));
                        }
                        (Err(got), Err(expected)) => prop_assert_eq!(got, expected),
                        (got, expected) => prop_assert!(false, "{:?} against {:?}", got, expected),
                    }
                }
                Step::GiveBack { pick } if !held.is_empty() => {
                    let (reserved, charges) = held.swap_remove(pick.index(held.len()));
                    oracle.give_back(&charges, reserved.charges().amount());
                    drop(reserved);
                }
                Step::GiveBack { .. } => {}
            }
            prop_assert_eq!(2 * desk.table.rows(), oracle.cells.len() as u64);
            for ((row, which), expected) in &oracle.cells {
                let got = desk.table.usage(RowKey(*row))[*which].map_or((0, 0), |cell| (cell.window_id, cell.used));
                prop_assert_eq!(got, *expected);
            }
        }
        assert_conserved(&desk.table);
    }
}
