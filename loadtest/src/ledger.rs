//! What the rig believes is used of every limit, from the answers that it got alone.
//!
//! It shares nothing with the gate's own accounts: a limit applies here where the scenario's text says so, and windows
//! are counted by a calendar of fixed offset.

use std::collections::BTreeMap;

use crate::pool;
use crate::scenario::{Limit, Part, Scenario};
use crate::traffic::Planned;

/// Subject of a limit, by the names of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subject {
    pub customer: Option<String>,
    pub merchant: Option<String>,
    pub category: Option<String>,
}

/// What is used of one window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub held: u64,
    pub committed: u64,
}

/// The window of a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Window {
    Day,
    Month,
}

impl Window {
    /// Returns its name in the export.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Month => "month",
        }
    }
}

/// One account: a limit of the scenario by its position, a subject, a window and its id.
pub type Account = (usize, Subject, Window, u16);

/// What was admitted, and what became of it.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<Account, Sums>,
    decisions: BTreeMap<u128, Entry>,
    /// What contradicts itself.
    faults: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    order: (usize, usize),
    amount_fen: u64,
    accounts: Vec<Account>,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held,
    Committed,
    Released,
}

/// The names of the merchants, for the accounts.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    pub scenario: &'a Scenario,
    pub mchids: &'a [String],
    /// Seconds that local time is ahead of UTC.
    pub offset_s: i64,
}

impl Names<'_> {
    /// Returns the category of a merchant.
    pub fn category(&self, merchant: usize) -> &str {
        let categories = &self.scenario.merchants.categories;
        categories.get(merchant % categories.len().max(1)).map_or("", String::as_str)
    }

    /// Returns the accounts that a payment is charged to, admitted at this time.
    fn accounts(&self, planned: &Planned, at_s: i64) -> Vec<Account> {
        let limits = self.scenario.limit.iter().enumerate();
        let applying = limits.filter(|(_, limit)| self.applies(limit, planned));
        let accounts = applying.flat_map(|(position, limit)| {
            let subject = self.subject(limit, planned);
            let counted = limit.day_fen.is_some() || limit.month_fen.is_some();
            let windows = if counted { window_ids(at_s + self.offset_s).to_vec() } else { Vec::new() };
            windows.into_iter().map(move |(window, id)| (position, subject.clone(), window, id))
        });
        accounts.collect()
    }

    fn applies(&self, limit: &Limit, planned: &Planned) -> bool {
        let listed = |list: &[String], one: &str| list.is_empty() || list.iter().any(|listed| listed == one);
        listed(&limit.when.channel, planned.channel.as_str())
            && listed(&limit.when.category, self.category(planned.merchant))
    }

    fn subject(&self, limit: &Limit, planned: &Planned) -> Subject {
        let has = |part| limit.per.contains(&part);
        Subject {
            customer: has(Part::Customer).then(|| pool::customer(planned.customer)),
            merchant: has(Part::Merchant).then(|| self.mchids.get(planned.merchant).cloned().unwrap_or_default()),
            category: has(Part::Category).then(|| self.category(planned.merchant).to_owned()),
        }
    }
}

impl Ledger {
    /// Forgets a decision, and what it charged.
    pub fn forget(&mut self, decision: u128) {
        let Some(entry) = self.decisions.remove(&decision) else { return };
        for account in &entry.accounts {
            let Some(sums) = self.accounts.get_mut(account) else { continue };
            match entry.state {
                State::Held => sums.held = sums.held.saturating_sub(entry.amount_fen),
                State::Committed => sums.committed = sums.committed.saturating_sub(entry.amount_fen),
                State::Released => {}
            }
        }
    }

    /// Tells whether a decision was released.
    pub fn is_released(&self, decision: u128) -> bool {
        self.decisions.get(&decision).is_some_and(|entry| entry.state == State::Released)
    }

    /// Enters an admission. One that was entered before, as a duplicate's is, counts once.
    pub fn admit(&mut self, decision: u128, planned: &Planned, at_s: i64, names: Names<'_>) {
        let order = (planned.merchant, planned.order);
        if let Some(entry) = self.decisions.get(&decision) {
            if entry.order != order {
                self.faults.push(format!("decision {decision:032x} is that of two orders"));
            }
            return;
        }
        if planned.kind.is_forbidden() {
            self.faults.push(format!("a {} request was admitted: {decision:032x}", planned.kind.as_str()));
        }
        let accounts = names.accounts(planned, at_s);
        for account in &accounts {
            let sums = self.accounts.entry(account.clone()).or_default();
            sums.held = sums.held.saturating_add(planned.amount_fen);
        }
        let entry = Entry { order, amount_fen: planned.amount_fen, accounts, state: State::Held };
        self.decisions.insert(decision, entry);
    }

    /// Enters that a payment was committed.
    pub fn commit(&mut self, decision: u128) {
        self.settle(decision, State::Committed);
    }

    /// Enters that a payment was released.
    pub fn release(&mut self, decision: u128) {
        self.settle(decision, State::Released);
    }

    fn settle(&mut self, decision: u128, state: State) {
        let Some(entry) = self.decisions.get_mut(&decision).filter(|entry| entry.state == State::Held) else {
            self.faults.push(format!("decision {decision:032x} was settled and is not held"));
            return;
        };
        entry.state = state;
        for account in &entry.accounts {
            let sums = self.accounts.entry(account.clone()).or_default();
            sums.held = sums.held.saturating_sub(entry.amount_fen);
            if state == State::Committed {
                sums.committed = sums.committed.saturating_add(entry.amount_fen);
            }
        }
    }

    /// Returns the newest window of every account, with what is used of it.
    pub fn newest(&self) -> BTreeMap<(usize, Subject, Window), (u16, Sums)> {
        let mut newest = BTreeMap::new();
        for ((limit, subject, window, id), sums) in &self.accounts {
            // Ascending by id: the last one stays.
            newest.insert((*limit, subject.clone(), *window), (*id, *sums));
        }
        newest
    }

    /// Returns how many payments were admitted, and their sum in fen.
    pub fn admitted(&self) -> (usize, u64) {
        (self.decisions.len(), self.decisions.values().map(|entry| entry.amount_fen).sum())
    }

    /// Returns what contradicts itself, and orders that were admitted under two decisions.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let mut orders: BTreeMap<(usize, usize), u128> = BTreeMap::new();
        for (decision, entry) in self.decisions.iter().filter(|(_, entry)| entry.state != State::Released) {
            if let Some(other) = orders.insert(entry.order, *decision) {
                faults.push(format!("one order has two decisions: {other:032x} and {decision:032x}"));
            }
        }
        faults
    }
}

/// Returns the ids of the windows that a local instant falls in: days and months since January 1970.
pub fn window_ids(local_s: i64) -> [(Window, u16); 2] {
    let days = local_s.div_euclid(86_400);
    let (year, month) = civil(days);
    let id = |id: i64| u16::try_from(id).unwrap_or(u16::MAX);
    [(Window::Day, id(days)), (Window::Month, id((year - 1970) * 12 + month - 1))]
}

/// Returns year and month of a day since 1 January 1970 in the Gregorian calendar.
fn civil(days: i64) -> (i64, i64) {
    let (mut year, mut rest) = (1970, days);
    let leap = |year: i64| (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    while rest >= 365 + i64::from(leap(year)) {
        rest -= 365 + i64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in lengths {
        if rest < length {
            break;
        }
        rest -= length;
        month += 1;
    }
    (year, month)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::traffic::{Channel, Kind};

    fn planned(order: usize, amount_fen: u64) -> Planned {
        let at = Duration::ZERO;
        Planned { at, kind: Kind::Payment, merchant: 1, customer: 7, channel: Channel::Balance, amount_fen, order }
    }

    #[test]
    fn windows_are_those_of_the_local_date() {
        // 2026-11-30T23:59:59 and a second later; 29 February 2024.
        assert_eq!(window_ids(1_796_083_199), [(Window::Day, 20_787), (Window::Month, 682)]);
        assert_eq!(window_ids(1_796_083_200), [(Window::Day, 20_788), (Window::Month, 683)]);
        assert_eq!(window_ids(1_709_164_800), [(Window::Day, 19_782), (Window::Month, 649)]);
        assert_eq!(window_ids(0), [(Window::Day, 0), (Window::Month, 0)]);
    }

    #[test]
    fn a_payment_counts_once_and_moves_from_held_to_committed_or_away() {
        let scenario: Scenario = toml::from_str(include_str!("../scenarios/steady.toml")).expect("a scenario");
        let mchids = ["m-0", "m-1"].map(str::to_owned);
        let names = Names { scenario: &scenario, mchids: &mchids, offset_s: 0 };
        let mut ledger = Ledger::default();
        for (decision, order, amount) in [(1, 1, 100), (2, 2, 30), (1, 1, 100), (3, 3, 5)] {
            ledger.admit(decision, &planned(order, amount), 0, names);
        }
        ledger.commit(1);
        ledger.release(3);
        let newest = ledger.newest();
        let merchant = Subject { merchant: Some("m-1".to_owned()), ..Subject::default() };
        assert_eq!(newest[&(2, merchant, Window::Day)], (0, Sums { held: 30, committed: 100 }));
        let customer =
            Subject { customer: Some("c-7".to_owned()), category: Some("catering".to_owned()), ..Subject::default() };
        assert_eq!(newest[&(1, customer.clone(), Window::Month)], (0, Sums { held: 30, committed: 100 }));
        assert!(!newest.contains_key(&(0, customer, Window::Day)), "of the other channel");
        assert!(ledger.faults().is_empty());
    }

    #[test]
    fn what_contradicts_itself_is_found() {
        let scenario: Scenario = toml::from_str(include_str!("../scenarios/steady.toml")).expect("a scenario");
        let names = Names { scenario: &scenario, mchids: &[], offset_s: 0 };
        let mut ledger = Ledger::default();
        ledger.admit(1, &planned(1, 100), 0, names);
        ledger.admit(2, &planned(1, 100), 0, names);
        ledger.admit(3, &Planned { kind: Kind::Stale, ..planned(2, 1) }, 0, names);
        ledger.admit(3, &planned(4, 1), 0, names);
        ledger.commit(1);
        ledger.release(1);
        assert_eq!(ledger.faults().len(), 4, "{:?}", ledger.faults());
    }
}
