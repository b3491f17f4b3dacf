//! What the rig believes is used of every limit, from the answers that it got alone.
//!
//! It shares nothing with the gate's own accounts: a limit applies here where the scenario's text says so, and windows
//! are counted by a calendar of fixed offset.

use std::collections::BTreeMap;

use crate::pool;
use crate::scenario::{Limit, Part, Refunds, Scenario};
use crate::traffic::Planned;

/// Subject of a limit, by the names of its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
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

/// What an account says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    pub sums: Sums,
    /// What of it was taken past any ceiling: payments committed after their holds had run out.
    pub late_fen: u64,
}

/// An order: its merchant and its number.
type Order = (usize, usize);

/// What was admitted, and what became of it.
#[derive(Debug, Default)]
pub struct Ledger {
    accounts: BTreeMap<Account, Totals>,
    decisions: BTreeMap<u128, Entry>,
    /// The decisions on payments that were committed.
    committed: BTreeMap<Order, u128>,
    /// Admissions of a decision that was known already.
    repeats: u64,
    /// What contradicts itself.
    faults: Vec<String>,
}

#[derive(Debug)]
struct Entry {
    order: Order,
    amount_fen: u64,
    /// What refunds have given back of it, or would where a limit keeps that.
    refunded_fen: u64,
    accounts: Vec<Account>,
    state: State,
    /// The payment that it is a refund of.
    original: Option<Order>,
    /// Whether a verdict called it new.
    called_new: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Held,
    Committed,
    Released,
    /// Its hold ran out: what it took was given back, and is taken again where it is committed after all.
    Expired,
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
    pub fn accounts(&self, planned: &Planned, at_s: i64) -> Vec<Account> {
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
        self.committed.retain(|_, committed| *committed != decision);
        for account in &entry.accounts {
            let sums = &mut self.accounts.entry(account.clone()).or_default().sums;
            match entry.state {
                State::Held => sums.held = sums.held.saturating_sub(entry.amount_fen),
                State::Committed => sums.committed = sums.committed.saturating_sub(entry.amount_fen),
                State::Released | State::Expired => {}
            }
        }
    }

    /// Tells whether a decision was released.
    pub fn is_released(&self, decision: u128) -> bool {
        self.decisions.get(&decision).is_some_and(|entry| entry.state == State::Released)
    }

    /// Enters an admission. One that was entered before, as a duplicate's is, counts once; `duplicate` is what the gate
    /// calls it, where that is known.
    pub fn admit(&mut self, decision: u128, duplicate: Option<bool>, planned: &Planned, at_s: i64, names: Names<'_>) {
        let order = (planned.merchant, planned.order);
        let new = duplicate == Some(false);
        if let Some(entry) = self.decisions.get_mut(&decision) {
            self.repeats += 1;
            if entry.order != order {
                self.faults.push(format!("decision {decision:032x} is that of two orders"));
            }
            if new && entry.called_new {
                self.faults.push(format!("decision {decision:032x} was called new twice"));
            }
            entry.called_new |= new;
            return;
        }
        if planned.kind.is_forbidden() {
            self.faults.push(format!("a {} request was admitted: {decision:032x}", planned.kind.as_str()));
        }
        let original = planned.original.map(|original| (planned.merchant, original.order));
        // A refund takes nothing; it gives back where it is committed.
        let accounts = if original.is_some() { Vec::new() } else { names.accounts(planned, at_s) };
        for account in &accounts {
            let sums = &mut self.accounts.entry(account.clone()).or_default().sums;
            sums.held = sums.held.saturating_add(planned.amount_fen);
        }
        let amount_fen = planned.amount_fen;
        let entry =
            Entry { order, amount_fen, refunded_fen: 0, accounts, state: State::Held, original, called_new: new };
        self.decisions.insert(decision, entry);
    }

    /// Enters that an order was committed; `late` is what the gate calls a commit after the hold has run out.
    pub fn commit(&mut self, decision: u128, late: bool, names: Names<'_>) {
        let Some(entry) = self.decisions.get_mut(&decision) else { return self.unknown(decision) };
        let Entry { state, amount_fen, original, order, .. } = *entry;
        match state {
            State::Held => {}
            State::Expired if late || original.is_some() => {}
            State::Expired | State::Committed | State::Released => {
                self.faults.push(format!("decision {decision:032x} was {state:?}, and was committed: late: {late}"));
                return;
            }
        }
        entry.state = State::Committed;
        for account in &entry.accounts {
            let Totals { sums, late_fen } = self.accounts.entry(account.clone()).or_default();
            if state == State::Held {
                sums.held = sums.held.saturating_sub(amount_fen);
            }
            sums.committed = sums.committed.saturating_add(amount_fen);
            *late_fen = late_fen.saturating_add(if late { amount_fen } else { 0 });
        }
        match original {
            None => drop(self.committed.insert(order, decision)),
            Some(original) => self.give_back(original, amount_fen, names),
        }
    }

    /// Gives room back for a refund: never more than is left of its payment, and only to limits that say so.
    fn give_back(&mut self, original: Order, fen: u64, names: Names<'_>) {
        let payment = self.committed.get(&original).and_then(|decision| self.decisions.get_mut(decision));
        let Some(payment) = payment else {
            return self.faults.push(format!("order {original:?} was refunded, and was not committed"));
        };
        let fen = fen.min(payment.amount_fen.saturating_sub(payment.refunded_fen));
        payment.refunded_fen = payment.refunded_fen.saturating_add(fen);
        let returns = |account: &&Account| {
            names.scenario.limit.get(account.0).is_some_and(|limit| limit.refund == Refunds::Return)
        };
        for account in payment.accounts.iter().filter(returns) {
            let sums = &mut self.accounts.entry(account.clone()).or_default().sums;
            sums.committed = sums.committed.saturating_sub(fen);
        }
    }

    /// Enters that an order was released; where its hold had run out, nothing is left to be given back.
    pub fn release(&mut self, decision: u128) {
        let open = |entry: &&mut Entry| matches!(entry.state, State::Held | State::Expired);
        let Some(entry) = self.decisions.get_mut(&decision).filter(open) else { return self.unknown(decision) };
        if entry.state == State::Held {
            Self::free(&mut self.accounts, entry);
        }
        entry.state = State::Released;
    }

    /// Enters that all holds have run out; returns of how many orders.
    pub fn expire(&mut self) -> usize {
        let held = self.decisions.values_mut().filter(|entry| entry.state == State::Held);
        held.map(|entry| {
            entry.state = State::Expired;
            Self::free(&mut self.accounts, entry);
        })
        .count()
    }

    fn free(accounts: &mut BTreeMap<Account, Totals>, entry: &Entry) {
        for account in &entry.accounts {
            let sums = &mut accounts.entry(account.clone()).or_default().sums;
            sums.held = sums.held.saturating_sub(entry.amount_fen);
        }
    }

    fn unknown(&mut self, decision: u128) {
        self.faults.push(format!("decision {decision:032x} was settled and is not held"));
    }

    /// Tells whether a payment was admitted and committed.
    pub fn is_committed(&self, merchant: usize, order: usize) -> bool {
        self.committed.contains_key(&(merchant, order))
    }

    /// Tells whether a decision was entered.
    pub fn knows(&self, decision: u128) -> bool {
        self.decisions.contains_key(&decision)
    }

    /// Returns the newest window of every account, with what is used of it.
    pub fn newest(&self) -> BTreeMap<(usize, Subject, Window), (u16, Totals)> {
        let mut newest = BTreeMap::new();
        for ((limit, subject, window, id), totals) in &self.accounts {
            // Ascending by id: the last one stays.
            newest.insert((*limit, subject.clone(), *window), (*id, *totals));
        }
        newest
    }

    /// Returns how many payments were admitted, and their sum in fen.
    pub fn admitted(&self) -> (usize, u64) {
        let payments = || self.decisions.values().filter(|entry| entry.original.is_none());
        (payments().count(), payments().map(|entry| entry.amount_fen).sum())
    }

    /// Returns how many refunds were committed, and how much they gave back of their payments, in fen.
    pub fn refunded(&self) -> (usize, u64) {
        let done = |entry: &&Entry| entry.original.is_some() && entry.state == State::Committed;
        let refunds = self.decisions.values().filter(done).count();
        (refunds, self.decisions.values().map(|entry| entry.refunded_fen).sum())
    }

    /// Returns how many admissions were of a decision that was known already: they count once.
    pub const fn repeats(&self) -> u64 {
        self.repeats
    }

    /// Returns what contradicts itself, and orders that were admitted under two decisions.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.faults.clone();
        let mut orders: BTreeMap<Order, u128> = BTreeMap::new();
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
mod tests;
