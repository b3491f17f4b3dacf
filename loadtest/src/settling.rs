//! What becomes of admitted payments: some are committed, some released, after a while.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::ledger::{Ledger, Names};
use crate::pool::Prepared;
use crate::run::Observer;
use crate::scenario::Settles;
use crate::target::{Answered, Outcome};
use crate::wire::{Bounds, Target, Wire, WireError};

/// A payment that is to be settled, or was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settle {
    pub decision: u128,
    pub commit: bool,
}

/// Settles payments at a gate.
pub trait Settler {
    /// Takes one to be settled soon.
    fn settle(&mut self, settle: Settle);

    /// Returns those that were settled since, and whether they could be.
    fn settled(&mut self) -> Vec<(Settle, bool)>;
}

/// Enters each answer in the ledger, and has a part of the payments settled.
pub struct Bookkeeper<'a> {
    pub ledger: Ledger,
    names: Names<'a>,
    settles: &'a Settles,
    settler: &'a mut dyn Settler,
    random: StdRng,
    /// Those to be settled, by when.
    due: VecDeque<(Instant, Settle)>,
    /// Handed to the settler and not heard of.
    under_way: usize,
    /// Decisions met before: what is answered twice is settled once.
    known: std::collections::HashSet<u128>,
    /// Requests of which nobody can tell what became of them.
    pub unknown: Vec<usize>,
    /// Codes of refusals, and how often.
    pub codes: std::collections::BTreeMap<String, u64>,
    pub refused_settles: u64,
}

impl<'a> Bookkeeper<'a> {
    /// Begins with empty books.
    pub fn new(names: Names<'a>, settles: &'a Settles, settler: &'a mut dyn Settler, random: StdRng) -> Self {
        Self {
            ledger: Ledger::default(),
            names,
            settles,
            settler,
            random,
            due: VecDeque::new(),
            under_way: 0,
            known: std::collections::HashSet::new(),
            unknown: Vec::new(),
            codes: std::collections::BTreeMap::new(),
            refused_settles: 0,
        }
    }

    /// Enters an admission.
    pub fn admit(&mut self, decision: u128, prepared: &Prepared, as_of_s: i64, now: Instant) {
        self.ledger.admit(decision, &prepared.planned, as_of_s, self.names);
        if !self.known.insert(decision) {
            return;
        }
        let drawn = self.random.random::<f64>() * 100.0;
        let Settles { commit, release, delay_ms } = *self.settles;
        if drawn < commit + release {
            self.due.push_back((now + Duration::from_millis(delay_ms), Settle { decision, commit: drawn < commit }));
        }
    }

    /// Settles all that is left, and waits until it is done; `false` where it takes too long.
    pub fn finish(&mut self, patience: Duration) -> bool {
        let began = Instant::now();
        while !self.due.is_empty() || self.under_way > 0 {
            self.tick(Instant::now() + Duration::from_millis(self.settles.delay_ms));
            if began.elapsed() > patience {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

impl Observer for Bookkeeper<'_> {
    fn answered(&mut self, prepared: &Prepared, answered: &Answered) {
        match &answered.outcome {
            Outcome::Admitted { decision } => {
                let as_of_s = answered.as_of_s.unwrap_or_else(crate::now_s);
                self.admit(*decision, prepared, as_of_s, answered.at);
            }
            Outcome::Refused { code } => *self.codes.entry(code.clone()).or_default() += 1,
            Outcome::Answered => {}
            Outcome::Unknown { .. } => self.unknown.push(answered.request),
        }
    }

    fn tick(&mut self, now: Instant) {
        while let Some((_, settle)) = self.due.pop_front_if(|(due, _)| *due <= now) {
            self.settler.settle(settle);
            self.under_way += 1;
        }
        if self.under_way == 0 {
            return;
        }
        for (Settle { decision, commit }, done) in self.settler.settled() {
            self.under_way = self.under_way.saturating_sub(1);
            match (done, commit) {
                (true, true) => self.ledger.commit(decision),
                (true, false) => self.ledger.release(decision),
                (false, _) => self.refused_settles += 1,
            }
        }
    }
}

/// Settles through the control listener of a gate, from a thread of its own.
pub struct Remote {
    orders: Option<Sender<Settle>>,
    done: Receiver<(Settle, bool)>,
    thread: Option<JoinHandle<()>>,
}

impl Remote {
    /// Connects to the control listener.
    ///
    /// # Errors
    /// Where nobody listens there.
    pub fn connect(control: &Target) -> Result<Self, WireError> {
        let bounds = Bounds { answer_bytes_max: 1 << 16, answer_timeout: Duration::from_secs(5) };
        let wire = Wire::connect(control, CONNECTIONS, bounds)?;
        let (orders, received) = channel();
        let (sender, done) = channel();
        let thread = thread::spawn(move || serve(wire, &received, &sender));
        Ok(Self { orders: Some(orders), done, thread: Some(thread) })
    }
}

impl Settler for Remote {
    fn settle(&mut self, settle: Settle) {
        // Where the thread has ended, nobody settles: the books show it.
        let _ = self.orders.as_ref().map(|orders| orders.send(settle));
    }

    fn settled(&mut self) -> Vec<(Settle, bool)> {
        self.done.try_iter().collect()
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.orders = None;
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut wire: Wire, orders: &Receiver<Settle>, done: &Sender<(Settle, bool)>) {
    let mut sent: Vec<Settle> = Vec::new();
    let (mut open, mut ended) = (0_usize, false);
    let mut next: Option<Settle> = None;
    while !ended || open > 0 || next.is_some() {
        while wire.idle() > 0 {
            if next.is_none() {
                next = match orders.try_recv() {
                    Ok(settle) => Some(settle),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => {
                        ended = true;
                        None
                    }
                };
            }
            let Some(settle) = next.take() else { break };
            let verb = if settle.commit { "commit" } else { "release" };
            let request = format!(
                "POST /v1/decisions/{:032x}/{verb} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
                settle.decision
            );
            match wire.send(sent.len() as u64, request.as_bytes()) {
                Ok(true) => {
                    sent.push(settle);
                    open += 1;
                }
                Ok(false) => {
                    next = Some(settle);
                    break;
                }
                Err(_) => return,
            }
        }
        let polled = wire.poll(Some(POLL), &mut |answer| {
            open = open.saturating_sub(1);
            let settle = usize::try_from(answer.tag).ok().and_then(|tag| sent.get(tag));
            let settled = answer.outcome.is_ok_and(|answer| answer.status == 200);
            let _ = settle.map(|settle| done.send((*settle, settled)));
        });
        if polled.is_err() {
            return;
        }
        if open == 0 {
            sent.clear();
        }
    }
}

/// Connections to the control listener.
const CONNECTIONS: usize = 4;

/// How often new orders are looked for.
const POLL: Duration = Duration::from_millis(1);
