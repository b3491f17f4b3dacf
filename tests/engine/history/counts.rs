//! The plain counts of the model: what is used of every limit, and the rules by which it is taken and given back.

use std::collections::HashMap;

use tollgate::types::{Unit, Window};

use super::orders::{Order, Row};
use super::rules::{Rule, Says, window};

/// What is used: of each row its two halves apart, day and month, year and lifetime; of each cell its window and use.
#[derive(Default)]
pub struct Counts {
    halves: HashMap<(Row, bool), [(u16, u64); 2]>,
    /// The oldest windows that what was freed can be charged in again.
    floors: HashMap<(Row, bool), [u16; 2]>,
}

/// What an order took from one half of a row.
#[derive(Clone, Debug)]
pub struct Charge {
    row: Row,
    long: bool,
    /// The windows it was charged in.
    windows: [Option<u16>; 2],
    amount: u64,
    pub rule: Rule,
}

/// Why an order is refused: the limit at fault, its window, and whether the amount fits a window that nothing is used of.
pub struct Full {
    pub limit: &'static str,
    pub cut_over_hour: u8,
    pub window: Window,
    pub fits: bool,
}

impl Counts {
    /// Takes an order from all limits that it falls under, or from none. Returns the charges and the positions of the
    /// shadow limits that it did not fit.
    pub fn take(&mut self, order: &Order, policy: &[(Rule, u64)], now_s: i64) -> Result<(Vec<Charge>, Vec<u16>), Full> {
        let (mut charges, mut lacking) = (Vec::new(), Vec::new());
        for (position, (rule, percent)) in (0..).zip(policy) {
            let Says::Charges(row) = rule.says(order, *percent) else { continue };
            let before = charges.len();
            let Err(full) = self.take_row(order, rule, *percent, &row, now_s, &mut charges) else { continue };
            if rule.shadow {
                self.give_back(&charges.split_off(before));
                lacking.push(position);
            } else {
                self.give_back(&charges);
                return Err(full);
            }
        }
        Ok((charges, lacking))
    }

    fn take_row(
        &mut self,
        order: &Order,
        rule: &Rule,
        percent: u64,
        row: &Row,
        now_s: i64,
        charges: &mut Vec<Charge>,
    ) -> Result<(), Full> {
        let amount = if rule.unit == Unit::Count { 1 } else { order.amount };
        let [_, ceilings @ ..] = rule.ceilings(order.merchant, &order.customer, percent);
        let fits = |at: usize, used: u64| ceilings[at] == 0 || used + amount <= ceilings[at];
        let full = |at: usize| Full {
            limit: rule.id,
            cut_over_hour: rule.cut_over_hour,
            window: Window::ALL[at],
            fits: fits(at, 0),
        };
        let counted = rule.counted();
        for long in [false, true] {
            let ats: Vec<usize> = half(long).into_iter().filter(|at| counted[*at]).collect();
            if ats.is_empty() {
                continue;
            }
            let exists = self.halves.contains_key(&(row.clone(), long));
            let from = half(long)[0];
            // Nothing is made only to be refused.
            if let (false, Some(at)) = (exists, (from..4).find(|at| counted[*at] && !fits(*at, 0))) {
                return Err(full(at));
            }
            let cells = self.halves.entry((row.clone(), long)).or_default();
            let mut charge = Charge { row: row.clone(), long, windows: [None; 2], amount, rule: *rule };
            for at in ats {
                let open = window(Window::ALL[at], now_s, rule.cut_over_hour);
                let cell = &mut cells[at % 2];
                let (id, used) = if cell.0 < open { (open, 0) } else { *cell };
                if !fits(at, used) {
                    charges.push(charge);
                    return Err(full(at));
                }
                *cell = (id, used + amount);
                charge.windows[at % 2] = Some(id);
            }
            charges.push(charge);
        }
        Ok(())
    }

    /// Gives charges back, each to its window.
    pub fn give_back(&mut self, charges: &[Charge]) {
        charges.iter().for_each(|charge| self.give_back_part(charge, charge.amount));
    }

    /// Gives back what an order took, less what its refunds gave back.
    pub fn give_back_rest(&mut self, charges: &[Charge], order: (u64, u64)) {
        charges.iter().for_each(|charge| self.give_back_part(charge, rest(charge, order)));
    }

    /// Gives back for a refund of `fen`; `whole` where nothing is left of the payment.
    pub fn refund(&mut self, charges: &[Charge], fen: u64, whole: bool) {
        for charge in charges.iter().filter(|charge| !charge.rule.keep) {
            let part = if charge.rule.unit == Unit::Fen { fen } else { u64::from(whole) };
            self.give_back_part(charge, part);
        }
    }

    /// Takes once more what an order took, less what its refunds gave back, whatever the ceilings.
    pub fn take_late(&mut self, charges: &[Charge], order: (u64, u64)) {
        for charge in charges {
            let part = rest(charge, order);
            if part == 0 {
                continue;
            }
            let name = (charge.row.clone(), charge.long);
            let floor = self.floors.get(&name).copied().unwrap_or_default();
            let cells = self.halves.entry(name).or_default();
            for ((cell, id), floor) in cells.iter_mut().zip(charge.windows).zip(floor) {
                let Some(id) = id.filter(|id| cell.0 <= *id && floor <= *id) else { continue };
                *cell = if cell.0 < id { (id, part) } else { (id, cell.1 + part) };
            }
        }
    }

    fn give_back_part(&mut self, charge: &Charge, part: u64) {
        let Some(cells) = self.halves.get_mut(&(charge.row.clone(), charge.long)) else { return };
        for (cell, id) in cells.iter_mut().zip(charge.windows) {
            if Some(cell.0) == id {
                cell.1 -= part;
            }
        }
    }

    /// Frees what is over wherever on earth: nothing of it can matter again.
    pub fn reclaim(&mut self, now_s: i64) {
        let utc = |kind, seconds: i64| window(kind, seconds, 8);
        let day = utc(Window::Day, now_s) - 2;
        let [month, year] = [Window::Month, Window::Year].map(|kind| utc(kind, now_s - 3 * 86_400));
        let over = |cell: &(u16, u64), open: u16| cell.0 < open || *cell == (open, 0);
        let floors = &mut self.floors;
        self.halves.retain(|name, [first, second]| {
            let stays = match name.1 {
                false => !(over(first, day) && over(second, month)),
                true => !(over(first, year) && second.1 == 0),
            };
            if !stays {
                // What was used of a window that is forgotten is not charged again, either.
                let after = |(id, used): (u16, u64)| if used == 0 { id } else { id + 1 };
                floors.insert(name.clone(), [after(*first), if name.1 { 0 } else { after(*second) }]);
            }
            stays
        });
    }

    /// Returns what is used of a window of a row and, of the charges that are held, how much of it.
    pub fn used(&self, row: &Row, at: usize, open: u16, held: &[&Charge]) -> (u64, u64) {
        let Some(cells) = self.halves.get(&(row.clone(), at >= 2)) else { return (0, 0) };
        let (id, used) = cells[at % 2];
        if id < open {
            return (0, 0);
        }
        let here =
            |charge: &&&Charge| charge.row == *row && charge.long == (at >= 2) && charge.windows[at % 2] == Some(id);
        let held: u64 = held.iter().filter(here).map(|charge| charge.amount).sum();
        (used, held.min(used))
    }
}

/// Returns what is left of a charge of an order of which `(amount, refunded)`.
fn rest(charge: &Charge, (amount, refunded): (u64, u64)) -> u64 {
    match charge.rule.unit {
        _ if charge.rule.keep => charge.amount,
        Unit::Fen => charge.amount - refunded,
        Unit::Count => u64::from(amount > refunded),
    }
}

const fn half(long: bool) -> [usize; 2] {
    if long { [2, 3] } else { [0, 1] }
}
