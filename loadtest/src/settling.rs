//! What becomes of admitted payments: some are committed, some released, after a while.

mod remote;

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::thread;
use std::time::{Duration, Instant};

use crate::ledger::{Ledger, Names};
use crate::pool::Prepared;
use crate::run::Observer;
use crate::target::{Answered, Outcome};
use crate::traffic::{Fate, Kind};

pub use remote::Remote;

/// An order that is to be settled, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    pub decision: u128,
    pub commit: bool,
}

/// What a gate says to a settle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is done; `late` where a commit came after the hold had run out.
    Done { late: bool },
    /// Not yet: an answer to the same order, delivered twice, is under way, and may keep what it took.
    Pending,
    /// It was settled otherwise before.
    Conflict,
    /// The gate does not know the decision.
    Unknown,
    /// Anything else, or no answer.
    Failed,
}

/// Settles orders at a gate.
pub trait Settler {
    /// Takes one to be settled soon.
    fn settle(&mut self, settle: Settle);

    /// Returns those that were settled since, and what the gate said.
    fn settled(&mut self) -> Vec<(Settle, Settled)>;
}

/// How orders were settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Settles {
    /// Commits in time, and releases.
    pub committed: u64,
    pub released: u64,
    /// Commits after the hold had run out, which the gate took past any ceiling.
    pub committed_late: u64,
    /// Commits after a release, which the gate refused and took nothing for.
    pub conflicts: u64,
    /// Releases that had to wait for an answer under way, and were asked for again.
    pub repeated: u64,
    /// Orders whose hold ran out.
    pub expired: u64,
    /// Those that the gate refused and should not have.
    pub refused: u64,
}

/// Enters each answer in the ledger, and has orders settled as they are fated.
pub struct Bookkeeper<'a> {
    pub ledger: Ledger,
    names: Names<'a>,
    settler: &'a mut dyn Settler,
    /// How long after its admission an order is settled.
    delay: Duration,
    /// Whether holds run out in this run.
    holds_end: bool,
    /// Those to be settled, by when.
    due: VecDeque<(Instant, Settle)>,
    /// Handed to the settler and not heard of.
    under_way: usize,
    /// Those to be committed when their holds have run out, and then by when.
    late: Vec<u128>,
    late_due: VecDeque<(Instant, Settle)>,
    /// Those to be committed after a release.
    contradicted: HashSet<u128>,
    /// Requests of which nobody can tell what became of them.
    pub unknown: Vec<usize>,
    /// What was answered to each kind of request, and how often.
    pub answers: BTreeMap<&'static str, BTreeMap<String, u64>>,
    pub settles: Settles,
}

impl<'a> Bookkeeper<'a> {
    /// Begins with empty books. `holds_end` tells whether [`Self::end_holds`] will be called.
    pub fn new(names: Names<'a>, settler: &'a mut dyn Settler, holds_end: bool) -> Self {
        Self {
            ledger: Ledger::default(),
            names,
            settler,
            delay: Duration::from_millis(names.scenario.settles.delay_ms),
            holds_end,
            due: VecDeque::new(),
            under_way: 0,
            late: Vec::new(),
            late_due: VecDeque::new(),
            contradicted: HashSet::new(),
            unknown: Vec::new(),
            answers: BTreeMap::new(),
            settles: Settles::default(),
        }
    }

    /// Enters an outcome; `false` where nobody can tell what became of the request.
    pub fn enter(&mut self, outcome: &Outcome, prepared: &Prepared, as_of_s: i64, now: Instant) -> bool {
        let answer = match outcome {
            Outcome::Admitted { decision, duplicate } => self.admit(*decision, *duplicate, prepared, as_of_s, now),
            Outcome::Refused { code } => code.as_str(),
            Outcome::Answered | Outcome::Unknown { .. } => return false,
        };
        let answers = self.answers.entry(prepared.planned.kind.as_str()).or_default();
        match answers.get_mut(answer) {
            Some(count) => *count += 1,
            None => drop(answers.insert(answer.to_owned(), 1)),
        }
        true
    }

    /// Enters an admission; returns what the gate calls it. A proxy's upstream says nothing of duplicates: there it is
    /// called by what these books know of the decision.
    fn admit(
        &mut self,
        decision: u128,
        duplicate: Option<bool>,
        prepared: &Prepared,
        as_of_s: i64,
        now: Instant,
    ) -> &'static str {
        let known = self.ledger.knows(decision);
        self.ledger.admit(decision, duplicate, &prepared.planned, as_of_s, self.names);
        if !known {
            self.decree(decision, prepared.planned.fate, now);
        }
        let [new, again, duplicated] = ADMISSIONS;
        match duplicate {
            Some(true) => duplicated,
            None if known => again,
            Some(false) | None => new,
        }
    }

    fn decree(&mut self, decision: u128, fate: Fate, now: Instant) {
        let commit = match fate {
            Fate::Missing => return,
            Fate::Late if self.holds_end => return self.late.push(decision),
            Fate::Late => {
                self.contradicted.insert(decision);
                false
            }
            Fate::Commit => true,
            Fate::Release => false,
        };
        self.due.push_back((now + self.delay, Settle { decision, commit }));
    }

    /// Settles all that is left, and waits until it is done; `false` where it takes too long.
    pub fn finish(&mut self, patience: Duration) -> bool {
        let began = Instant::now();
        while !self.due.is_empty() || !self.late_due.is_empty() || self.under_way > 0 {
            self.tick(Instant::now() + self.delay.max(LATE_AFTER));
            if began.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }

    /// Enters that all holds have run out, and has those committed that are late, when others had time to take the room.
    pub fn end_holds(&mut self) {
        self.settles.expired += self.ledger.expire() as u64;
        let due = Instant::now() + LATE_AFTER;
        self.late_due.extend(self.late.drain(..).map(|decision| (due, Settle { decision, commit: true })));
    }

    fn take(&mut self, Settle { decision, commit }: Settle, settled: Settled, now: Instant) {
        let settles = &mut self.settles;
        // Those released for that: first the release comes back, then the commit.
        let contradicts = commit && self.contradicted.contains(&decision);
        match (settled, commit) {
            (Settled::Conflict | Settled::Unknown, true) if contradicts => settles.conflicts += 1,
            (Settled::Done { late }, true) => {
                *if late { &mut settles.committed_late } else { &mut settles.committed } += 1;
                self.ledger.commit(decision, late, self.names);
            }
            (Settled::Done { .. }, false) => {
                settles.released += 1;
                self.ledger.release(decision);
                if self.contradicted.contains(&decision) {
                    self.due.push_back((now + self.delay, Settle { decision, commit: true }));
                }
            }
            (Settled::Pending, _) => {
                settles.repeated += 1;
                self.due.push_back((now + self.delay, Settle { decision, commit }));
            }
            (Settled::Conflict | Settled::Unknown | Settled::Failed, _) => settles.refused += 1,
        }
    }
}

impl Observer for Bookkeeper<'_> {
    fn answered(&mut self, prepared: &Prepared, answered: &Answered) {
        let as_of_s = answered.as_of_s.unwrap_or_else(crate::now_s);
        if !self.enter(&answered.outcome, prepared, as_of_s, answered.at) {
            self.unknown.push(answered.request);
        }
    }

    fn tick(&mut self, now: Instant) {
        for queue in [&mut self.due, &mut self.late_due] {
            while let Some((_, settle)) = queue.pop_front_if(|(due, _)| *due <= now) {
                self.settler.settle(settle);
                self.under_way += 1;
            }
        }
        if self.under_way == 0 {
            return;
        }
        for (settle, settled) in self.settler.settled() {
            self.under_way = self.under_way.saturating_sub(1);
            self.take(settle, settled, now);
        }
    }

    /// A refund follows on a payment that was committed: where that was refused, or is not settled yet, there is none.
    fn may_send(&mut self, prepared: &Prepared) -> bool {
        let planned = &prepared.planned;
        planned.kind != Kind::Refund
            || planned.original.is_some_and(|original| self.ledger.is_committed(planned.merchant, original.order))
    }
}

/// How long after the end of its hold a late order is committed.
const LATE_AFTER: Duration = Duration::from_millis(500);

/// What admissions are called: new, of a decision that these books know, and a duplicate by the gate's own word.
pub const ADMISSIONS: [&str; 3] = ["admitted", "admitted again", "duplicate"];

#[cfg(test)]
mod tests;
