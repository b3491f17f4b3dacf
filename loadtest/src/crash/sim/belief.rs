//! What must be true of a gate, by its answers and by what its journal calls safe.

use std::collections::BTreeMap;

use tollgate::admission::Shared;
use tollgate::journal::{Durability, Position};
use tollgate::replay::{OrderState, RELEASED_KEEP_S};
use tollgate::time::UnixMillis;
use tollgate::types::DecisionId;

use super::life::EXPOSURE_FEN;
use super::setting::Setting;
use crate::books;
use crate::ledger::{Account, Sums, Window, window_ids};
use crate::scenario::Refunds;
use crate::traffic::Planned;

/// Where a change is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// It was said to be safe from a loss of power.
    Safe,
    /// Up to a position.
    Ends(Position),
    /// Nobody was told where, or whether.
    Somewhere,
    /// Nowhere: the journal had failed.
    Nowhere,
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Killed,
    PowerLost,
}

/// Tells whether the journal calls a position safe.
pub type Covers<'c> = &'c dyn Fn(Position) -> bool;

impl At {
    /// Tells whether what is recorded there is so after the end of a life.
    pub fn survives(self, end: End, covers: Covers<'_>) -> bool {
        match (self, end) {
            (Self::Safe, _) | (Self::Ends(_), End::Killed) => true,
            (Self::Ends(position), End::PowerLost) => covers(position),
            (Self::Somewhere | Self::Nowhere, _) => false,
        }
    }
}

/// All decisions that may be in force.
#[derive(Clone)]
pub struct Belief<'s> {
    setting: &'s Setting,
    known: BTreeMap<u128, Known>,
}

/// One decision.
#[derive(Clone)]
struct Known {
    request: usize,
    amount_fen: u64,
    since: UnixMillis,
    accounts: Vec<Account>,
    /// What it was and is, oldest first.
    history: Vec<Seen>,
    /// Whether its verdict has left.
    acknowledged: bool,
    /// The first of the history that may be found after the end of a life; `None` where it may not be found at all.
    must: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    state: OrderState,
    refunded_fen: u64,
    late: bool,
    at: At,
}

/// What is charged to an account: at least and at most, how much of it is held, and how much may pass the ceiling.
#[derive(Clone, Copy, Debug, Default)]
struct Charged {
    least: u64,
    most: u64,
    held: u64,
    late: u64,
}

impl<'s> Belief<'s> {
    pub const fn new(setting: &'s Setting) -> Self {
        Self { setting, known: BTreeMap::new() }
    }

    /// Notes an admission whose record ends there.
    pub fn admitted(
        &mut self,
        id: u128,
        (request, planned): (usize, &Planned),
        duplicate: bool,
        at: At,
        now: UnixMillis,
    ) -> Result<(), String> {
        if let Some(known) = self.known.get_mut(&id) {
            if !duplicate || known.request != request {
                return Err(format!("decision {id:032x} on order {request} is not new"));
            }
            // The record of a duplicate says all that there is to say of the order.
            known.history.extend(known.history.last().map(|last| Seen { at, ..*last }));
            return Ok(());
        }
        if duplicate {
            return Err(format!("order {request} was decided before as {id:032x}, and was not"));
        }
        let in_force = |known: &&Known| {
            known.request == request && known.history.last().is_some_and(|last| last.state != OrderState::Released)
        };
        if self.known.values().any(|known| in_force(&known)) {
            return Err(format!("order {request} is decided twice"));
        }
        let names = self.setting.names();
        let accounts = if planned.original.is_some() { Vec::new() } else { names.accounts(planned, now.seconds()) };
        let held = Seen { state: OrderState::Held, refunded_fen: 0, late: false, at };
        let (history, amount_fen) = (vec![held], planned.amount_fen);
        let known = Known { request, amount_fen, since: now, accounts, history, acknowledged: false, must: None };
        self.known.insert(id, known);
        Ok(())
    }

    /// Notes that a verdict has left.
    pub fn acknowledged(&mut self, id: u128) {
        self.known.entry(id).and_modify(|known| known.acknowledged = true);
    }

    /// Notes what has changed by a step that is recorded there.
    pub fn observe(&mut self, shared: &Shared, at: At, now: UnixMillis) -> Result<(), String> {
        for (id, known) in &mut self.known {
            let Some(last) = known.history.last().copied() else { continue };
            let (state, refunded_fen) = match view(shared, *id) {
                Some(view) => view,
                // It is forgotten once it was released long enough ago, or its number is another's by now.
                None if last.state == OrderState::Released => continue,
                None => return Err(format!("decision {id:032x} is not known any more, {last:?}, now {}", now.0)),
            };
            if (state, refunded_fen) != (last.state, last.refunded_fen) {
                let late = last.late || (last.state == OrderState::Expired && state == OrderState::Committed);
                known.history.push(Seen { state, refunded_fen, late, at });
            }
        }
        Ok(())
    }

    /// Notes that what a decision is now is safe.
    pub fn safe(&mut self, id: u128) {
        let last = |known: &mut Known| known.history.last_mut().into_iter().for_each(|last| last.at = At::Safe);
        self.known.entry(id).and_modify(last);
    }

    /// Notes the end of a life.
    pub fn ended(&mut self, end: End, durability: Durability, covers: Covers<'_>) {
        for known in self.known.values_mut() {
            let survives = |seen: &Seen| seen.at.survives(end, covers);
            let safe = known.history.iter().rposition(survives);
            let promised = known.acknowledged && (end == End::Killed || durability == Durability::Disk);
            known.must = safe.or(promised.then_some(0));
        }
    }

    /// Compares what was recovered with what must be; returns how many decisions are gone whose verdicts had left.
    pub fn recovered(&mut self, shared: &Shared, now: UnixMillis) -> Result<usize, String> {
        let (mut lost, mut lost_fen, mut present) = (0, 0, 0);
        let mut gone = Vec::new();
        let mut decisions: BTreeMap<usize, usize> = BTreeMap::new();
        self.known.values().for_each(|known| *decisions.entry(known.request).or_default() += 1);
        for (id, known) in &mut self.known {
            let possible = known.history.get(known.must.unwrap_or(0)..).unwrap_or_default();
            // The number of an order that was released is another's soon, or nobody's.
            let forgotten = now.seconds() > known.since.seconds() + i64::from(RELEASED_KEEP_S)
                || decisions.get(&known.request).is_some_and(|decisions| *decisions > 1);
            let found = match view(shared, *id) {
                Some(view) => {
                    present += usize::from(view.0 != OrderState::Released);
                    possible.iter().rfind(|seen| (seen.state, seen.refunded_fen) == view)
                }
                None if known.must.is_none() => {
                    lost += usize::from(known.acknowledged);
                    lost_fen += if known.acknowledged { known.amount_fen } else { 0 };
                    gone.push(*id);
                    continue;
                }
                None => possible.iter().rfind(|seen| seen.state == OrderState::Released && forgotten),
            };
            let Some(found) = found else {
                let view = view(shared, *id);
                return Err(format!("decision {id:032x} is {view:?} after a start, one of {possible:?} is due"));
            };
            known.history = vec![Seen { at: At::Safe, ..*found }];
            known.must = Some(0);
        }
        gone.iter().for_each(|id| _ = self.known.remove(id));
        if shared.orders().len() != present {
            return Err(format!("{} orders after a start, {present} were decided", shared.orders().len()));
        }
        if lost_fen > EXPOSURE_FEN {
            return Err(format!("{lost_fen} fen are lost whose verdicts had left, {EXPOSURE_FEN} may be exposed"));
        }
        Ok(lost)
    }

    /// Compares the rows of a gate with what its decisions charge.
    pub fn compare(&self, shared: &Shared, covers: Covers<'_>, now: UnixMillis) -> Result<(), String> {
        let mut faults = Vec::new();
        let export: Vec<u8> = (0..shared.export_pages()).flat_map(|page| shared.export(page)).collect();
        let mut exported = books::exported(&String::from_utf8_lossy(&export), &mut faults);
        for ((limit, row, window), (id, charged)) in self.charged(covers)? {
            let limit = self.setting.scenario.limit.get(limit).ok_or("a limit that there is not")?;
            let passed = !window_ids(now.seconds()).contains(&(window, id));
            let name = format!("{} {row} {} {id}", limit.id, window.as_str());
            let (their_id, Sums { held, committed }) =
                exported.remove(&(row, window.as_str().to_owned())).unwrap_or((id, Sums::default()));
            let used = held + committed;
            if their_id != id || (passed && used == 0) {
                // A refusal may have turned the row to a newer window; what is lost or charges nothing turns none.
                let idle = their_id < id && charged.least == 0;
                if !passed && !idle {
                    faults.push(format!("{name}: the gate shows window {their_id}"));
                }
                continue;
            }
            let Charged { least, most, held: own_held, late } = charged;
            if used < least || used > most || (least == most && held != own_held) {
                faults.push(format!("{name}: {used} used, {held} of it held; {charged:?} by the decisions"));
            }
            let ceiling = if window == Window::Day { limit.day_fen } else { limit.month_fen };
            if ceiling.is_some_and(|ceiling| used > ceiling + late) {
                faults.push(format!("{name}: {used} is above the ceiling {}", ceiling.unwrap_or(0)));
            }
        }
        faults.extend(
            exported.iter().map(|(key, used)| format!("{key:?}: {used:?} is used, and no decision charged it")),
        );
        if faults.is_empty() { Ok(()) } else { Err(faults.join("; ")) }
    }

    /// Adds up what decisions charge in the newest window of each account.
    #[expect(clippy::type_complexity, reason = "it is read once, and taken apart")]
    fn charged(&self, covers: Covers<'_>) -> Result<BTreeMap<(usize, String, Window), (u16, Charged)>, String> {
        let mut newest: BTreeMap<(usize, String, Window), (u16, Charged)> = BTreeMap::new();
        for known in self.known.values() {
            for (limit, subject, window, id) in &known.accounts {
                let row = self.setting.row(*limit, subject).ok_or("a row that no gate has")?;
                let entry = newest.entry((*limit, row, *window)).or_insert((*id, Charged::default()));
                if *id > entry.0 {
                    *entry = (*id, Charged::default());
                }
                if *id == entry.0 {
                    let returns = self.setting.scenario.limit.get(*limit).map(|limit| limit.refund);
                    entry.1.add(known, returns == Some(Refunds::Return), covers);
                }
            }
        }
        Ok(newest)
    }

    /// Visits the decisions: id, request, state, and whether it must be in force after any end of this life.
    pub fn decisions(&self) -> impl Iterator<Item = (u128, usize, OrderState)> {
        self.known.iter().filter_map(|(id, known)| Some((*id, known.request, known.history.last()?.state)))
    }

    /// Returns the highest time of a decision that a start must know of.
    pub fn highest(&self) -> Option<UnixMillis> {
        self.known.values().filter(|known| known.must.is_some()).map(|known| known.since).max()
    }
}

impl Charged {
    fn add(&mut self, known: &Known, returns: bool, covers: Covers<'_>) {
        let charge = |seen: &Seen| match seen.state {
            OrderState::Held => known.amount_fen,
            OrderState::Committed if returns => known.amount_fen.saturating_sub(seen.refunded_fen),
            OrderState::Committed => known.amount_fen,
            OrderState::Expired | OrderState::Released => 0,
        };
        // What is given back is given back once its record is safe, and no sooner.
        let most_since =
            |first: Option<usize>| known.history.iter().skip(first.unwrap_or(0)).map(charge).max().unwrap_or(0);
        let safe = |seen: &Seen| seen.at.survives(End::PowerLost, covers);
        self.most += most_since(known.history.iter().rposition(safe));
        self.least += most_since(known.history.iter().rposition(|seen| safe(seen) || seen.at == At::Somewhere));
        if let Some(last) = known.history.last() {
            self.held += if last.state == OrderState::Held { known.amount_fen } else { 0 };
            self.late += if last.late { known.amount_fen } else { 0 };
        }
    }
}

fn view(shared: &Shared, id: u128) -> Option<(OrderState, u64)> {
    let order = shared.orders().find(DecisionId(id))?;
    shared.orders().view_of(order).map(|view| (view.state, view.refunded_fen))
}
