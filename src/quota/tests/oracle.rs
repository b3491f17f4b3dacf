//! Random histories against a plain map.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

/// The rules again, on one thread over a map.
#[derive(Default)]
struct Oracle {
    rows: HashMap<(u128, usize), Vec<(u16, u64)>>,
}

/// What the oracle charged: row, cell, window.
type OracleCharges = Vec<((u128, usize), usize, u16)>;

impl Oracle {
    fn reserve(&mut self, demands: &[Demand], amount: u64) -> Result<OracleCharges, Shortfall> {
        let mut charges = Vec::new();
        for (index, demand) in demands.iter().enumerate() {
            let row = (demand.row.0, demand.cells.len());
            let ceiling = |cell: &CellDemand| cell.ceiling_fen.min(Fen::MAX.get());
            let mut refused = None;
            if !self.rows.contains_key(&row) {
                refused = demand.cells.iter().position(|cell| amount > ceiling(cell));
            }
            if refused.is_none() {
                let cells = self.rows.entry(row).or_insert_with(|| vec![(0, 0); row.1]);
                for (cell, demanded) in demand.cells.iter().enumerate() {
                    let (window, used) = cells[cell];
                    let used = if window < demanded.window_id { 0 } else { used };
                    if used + amount > ceiling(demanded) {
                        refused = Some(cell);
                        break;
                    }
                    cells[cell] = (window.max(demanded.window_id), used + amount);
                    charges.push((row, cell, cells[cell].0));
                }
            }
            if let Some(cell) = refused {
                self.give_back(&charges, amount);
                return Err(Shortfall::Exceeded { demand: index, cell });
            }
        }
        Ok(charges)
    }

    fn give_back(&mut self, charges: &OracleCharges, amount: u64) {
        for (row, cell, window) in charges {
            let found = &mut self.rows.get_mut(row).expect("charged row")[*cell];
            if found.0 == *window {
                found.1 -= amount;
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Reserves; `moment` is the window of every cell, shifted by the cell's position.
    Reserve { rows: Vec<(u64, usize)>, moment: u16, amount: u64, ceiling: u64 },
    /// Gives back one of the reservations held.
    GiveBack { pick: prop::sample::Index },
}

fn step() -> impl Strategy<Value = Step> {
    let max = Fen::MAX.get();
    let amount = prop_oneof![6 => 1_u64..40, 1 => Just(max), 1 => max / 2 - 3..max / 2 + 3];
    let ceiling = prop_oneof![6 => 0_u64..150, 2 => Just(max), 1 => Just(u64::MAX), 1 => max - 40..max];
    let rows = prop::collection::vec((0_u64..4, 1_usize..=CELLS_PER_ROW_MAX), 1..4);
    prop_oneof![
        3 => (rows, 0_u16..6, amount, ceiling)
            .prop_map(|(rows, moment, amount, ceiling)| Step::Reserve { rows, moment, amount, ceiling }),
        1 => any::<prop::sample::Index>().prop_map(|pick| Step::GiveBack { pick }),
    ]
}

proptest! {
    #[test]
    fn any_history_agrees_with_the_oracle(steps in prop::collection::vec(step(), 1..120)) {
        let table = table(PLENTY);
        let share = Share::default();
        let mut oracle = Oracle::default();
        let mut held = Vec::new();
        for step in steps {
            match step {
                Step::Reserve { rows, moment, amount, ceiling } => {
                    let demands: Vec<_> = rows
                        .iter()
                        .map(|&(row, cells)| {
                            let cell = |cell: u16| (moment / (cell + 1), ceiling.saturating_add(u64::from(cell)));
                            demand(key(row), &(0_u16..).take(cells).map(cell).collect::<Vec<_>>())
                        })
                        .collect();
                    let expected = oracle.reserve(&demands, amount);
                    let got = table.reserve(&demands, fen(amount), &share);
                    match (got, expected) {
                        (Ok(reserved), Ok(charges)) => {
                            let windows = |charge: Charge| (charge.cell(), charge.window_id());
                            prop_assert!(reserved
                                .charges()
                                .iter()
                                .map(windows)
                                .eq(charges.iter().map(|&(_, cell, window)| (cell, window))));
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
            prop_assert_eq!(table.rows(), oracle.rows.len() as u64);
            for ((row, cells), expected) in &oracle.rows {
                let got: Vec<_> = (0..*cells).filter_map(|cell| table.usage(RowKey(*row), *cells, cell)).collect();
                prop_assert_eq!(&got, expected);
            }
        }
    }
}
