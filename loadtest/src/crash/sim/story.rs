//! What happens to a gate, as a seed decides: lives of some steps, each ended at any instant.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tollgate::admission::{Decision, Outcome, SettleAs, Stake};
use tollgate::journal::{Durability, Found, OpenFault, Position, Progress, Recorded, Watermark as _};
use tollgate::merchant::SettledFacts;
use tollgate::reason::Reason;
use tollgate::recovery::RecoveryError;
use tollgate::replay::{OrderState, Orders};
use tollgate::request::Trust;
use tollgate::storage::faulty::{Call, Error, Faulty, Rule};
use tollgate::storage::simulated::{Fate, Simulated};
use tollgate::time::UnixMillis;
use tollgate::types::DecisionId;

use super::belief::{At, Belief, End};
use super::life::{self, Failure, Life, STEP_BACK_MS_MAX, Waiting};
use super::setting::{HOLD_S, STARTS, Setting};
use super::shaky::{self, Shaky};
use crate::traffic::{Channel, Kind, Original, Planned};

/// One seed.
pub struct Story<'s> {
    setting: &'s Setting,
    random: StdRng,
    now: UnixMillis,
    /// The highest time that a gate must know of.
    highest: Option<UnixMillis>,
    disk: Simulated,
    faulty: Faulty,
    store: Shaky,
    /// The store that was lost, where one was.
    old: Option<Shaky>,
    durability: Durability,
    epoch: u64,
    belief: Belief<'s>,
    orders: Vec<Planned>,
    sent: Vec<Sent>,
    /// How far the journal of the last life was.
    past: Option<Arc<Progress>>,
    /// Whether the disk is well but for what it is told from outside.
    steady: bool,
    pub counts: Counts,
}

/// A request that was sent.
struct Sent {
    order: usize,
    bytes: Vec<u8>,
    at: UnixMillis,
    /// The records that say that its nonce is used up.
    spent: Vec<At>,
    /// Whether one of them is there after the end of a life.
    must: bool,
}

/// What losses of power came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Torn {
    pub recovered: u32,
    pub refused: u32,
}

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Counts(BTreeMap<&'static str, u64>);

impl<'s> Story<'s> {
    pub fn new(setting: &'s Setting, seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let disk = Simulated::new();
        Self {
            setting,
            now: STARTS,
            highest: None,
            faulty: Faulty::new(Arc::new(disk.clone())),
            disk,
            store: Shaky::default(),
            old: None,
            durability: if random.random() { Durability::Disk } else { Durability::Process },
            random,
            epoch: 0,
            belief: Belief::new(setting),
            orders: Vec::new(),
            sent: Vec::new(),
            past: None,
            steady: false,
            counts: Counts::default(),
        }
    }

    /// Lives through it.
    pub fn run(&mut self) -> Result<(), String> {
        let lives = self.random.random_range(2..=LIVES_MAX);
        for number in 0..lives {
            let mut life = self.begin().map_err(|fault| format!("start {number}: {fault}"))?;
            self.walk(&mut life, STEPS_MAX).map_err(|fault| format!("life {number}, {fault}"))?;
            self.end(life);
        }
        let life = self.begin().map_err(|fault| format!("the last start: {fault}"))?;
        self.look(&life)
    }

    /// Lives for a while, and recovers what so many losses of power at its end leave.
    pub fn torn(&mut self, images: u32) -> Result<Torn, String> {
        for _ in 0..self.random.random_range(0..3) {
            let mut life = self.begin()?;
            self.walk(&mut life, STEPS_MAX)?;
            self.end(life);
        }
        let mut life = self.begin()?;
        // A journal that has failed has less to be torn.
        while !life.has_failed() && self.random.random_range(0..STEPS_MAX) > 0 {
            self.step(&mut life)?;
        }
        self.past = Some(Arc::clone(&life.progress));
        self.judge(End::PowerLost);
        let mut torn = Torn::default();
        for image in 0..images {
            let disk = self.disk.copy();
            // A start on a full disk is refused, and that is tried elsewhere.
            disk.set_room(None);
            let fates: &[Fate] = if self.random.random() { &Fate::ALL } else { &[Fate::Kept, Fate::Dropped] };
            disk.cut_power(self.random.random(), fates);
            let mut belief = self.belief.clone();
            let media = (Arc::new(disk) as _, &self.store);
            match Life::resume(self.setting, self.durability, media, u64::MAX - u64::from(image), self.now) {
                Ok(life) => {
                    let recovered = belief.recovered(&life.shared, self.now);
                    let compared = recovered.and_then(|_| belief.compare(&life.shared, &|_| true, self.now));
                    compared.map_err(|fault| format!("image {image}: {fault}"))?;
                    torn.recovered += 1;
                }
                Err(Failure::Recovery(RecoveryError::Open(OpenFault::Damaged { .. }))) => torn.refused += 1,
                Err(Failure::Recovery(error)) => return Err(format!("image {image}: {error}")),
                Err(Failure::Setting(fault)) => return Err(fault),
            }
        }
        Ok(torn)
    }

    /// Lives two lives on a disk that is well but for this; returns how many calls of the disk they made.
    pub fn with_fault(&mut self, rule: Option<Rule>) -> Result<u64, String> {
        self.steady = true;
        self.faulty.set(rule);
        for _ in 0..2 {
            match self.resume() {
                Ok(life) if !life.has_failed() => {
                    let mut life = self.check_start(life)?;
                    self.walk(&mut life, STEPS_OF_FAULTS)?;
                    self.end(life);
                }
                Err(Failure::Setting(fault)) => return Err(fault),
                Err(Failure::Recovery(error)) if rule.is_none() => return Err(error.to_string()),
                Ok(_) | Err(Failure::Recovery(_)) => self.disk.kill(),
            }
        }
        let calls = self.faulty.calls();
        self.faulty.set(None);
        let life = self.begin()?;
        self.look(&life)?;
        Ok(calls)
    }

    /// Takes some steps, fewer where the journal fails.
    fn walk(&mut self, life: &mut Life, steps_max: u32) -> Result<(), String> {
        let steps = self.random.random_range(1..=steps_max);
        for step in 0..steps {
            // Reading all books at every step would take most of the time.
            let look = step + 1 == steps || self.random.random_range(0..LOOK_EVERY) == 0;
            let taken = self.step(life).and_then(|()| if look { self.look(life) } else { Ok(()) });
            taken.map_err(|fault| format!("step {step}: {fault}"))?;
            if life.has_failed() {
                break;
            }
        }
        Ok(())
    }

    /// Starts a gate; now and then the disk breaks meanwhile, and it is started again.
    fn begin(&mut self) -> Result<Life, String> {
        self.disk.set_room(None);
        self.check_files()?;
        if self.random.random_range(0..8) == 0 {
            self.now.0 -= self.random.random_range(0..30_000);
        }
        let mut break_it = !self.steady && self.random.random_range(0..3) == 0;
        loop {
            if break_it {
                let after = self.random.random_range(0..80);
                self.faulty.set(Some(Rule { call: None, after, times: u64::MAX, error: Error::Broken }));
            }
            let resumed = self.resume();
            self.faulty.set(None);
            match resumed {
                Ok(life) if !life.has_failed() => {
                    self.counts.note("lives", 1);
                    return self.check_start(life);
                }
                Err(Failure::Setting(fault)) => return Err(fault),
                Err(Failure::Recovery(RecoveryError::Missing { .. })) if self.old.is_some() => {
                    // What was retired is in the store that was lost: somebody brings it back.
                    self.store = self.old.take().unwrap_or_default();
                    self.disk.kill();
                }
                Err(Failure::Recovery(error)) if !break_it => return Err(error.to_string()),
                Ok(_) | Err(Failure::Recovery(_)) => {
                    self.counts.note("starts that broke", 1);
                    if self.random.random() {
                        self.disk.kill();
                    } else {
                        // What was written and never synced goes with it.
                        self.judge(End::PowerLost);
                        self.cut_power();
                    }
                }
            }
            break_it = false;
        }
    }

    fn resume(&mut self) -> Result<Life, Failure> {
        self.epoch += 1;
        let media = (Arc::new(self.faulty.clone()) as _, &self.store);
        Life::resume(self.setting, self.durability, media, self.epoch, self.now)
    }

    /// Looks at what a start found.
    fn check_start(&mut self, mut life: Life) -> Result<Life, String> {
        let lost = self.belief.recovered(&life.shared, self.now)?;
        self.counts.note("lost within the exposure", lost);
        for sent in &mut self.sent {
            sent.spent = if sent.must { vec![At::Safe] } else { Vec::new() };
        }
        self.belief.compare(&life.shared, &|_| true, self.now)?;
        for _ in 0..SAMPLES {
            if let Some(sent) = self.spent() {
                self.send(&mut life, vec![(sent, Trust::Public)])?;
            }
        }
        Ok(life)
    }

    /// What is in the files was written in order, without a hole.
    fn check_files(&mut self) -> Result<(), String> {
        let storage = Arc::new(self.disk.copy());
        let fingerprint = self.setting.parts()?.deployment_key.fingerprint();
        let found = Found::open(storage, life::files(fingerprint, u64::MAX)).map_err(|fault| fault.to_string())?;
        let mut last = BTreeMap::new();
        let mut holes = Vec::new();
        let visit = &mut |record: &Recorded<'_>| {
            let sequence = record.frame.sequence;
            let before = last.insert(record.writer, sequence);
            if before.is_some_and(|before| before + 1 != sequence) {
                holes.push(format!("writer {}: {sequence} follows {before:?}", record.writer));
            }
            Ok::<_, OpenFault>(())
        };
        found.replay(&|_| 0, UnixMillis(i64::MIN), visit).map_err(|fault| fault.to_string())?;
        if holes.is_empty() { Ok(()) } else { Err(holes.join("; ")) }
    }

    /// Ends a life: the process is killed, or the power is lost.
    fn end(&mut self, life: Life) {
        let end = if self.random.random() { End::Killed } else { End::PowerLost };
        self.past = Some(Arc::clone(&life.progress));
        self.judge(end);
        match end {
            End::Killed => self.disk.kill(),
            End::PowerLost => {
                self.counts.note("losses of power", 1);
                self.cut_power();
            }
        }
        if !self.steady {
            self.faulty.set(None);
        }
        self.store.set(shaky::Fate::Stored);
        // What it held does not reach the disk any more.
        drop(life);
        if !self.steady && self.old.is_none() && self.random.random_range(0..6) == 0 {
            // Where all of the journal is there, the store is made again from it.
            self.old = Some(std::mem::take(&mut self.store));
            self.counts.note("stores lost", 1);
        }
    }

    /// Says what must be found after the end of the last life.
    fn judge(&mut self, end: End) {
        let past = self.past.clone();
        let covers = |position: Position| past.as_ref().is_some_and(|past| past.covers(position));
        self.belief.ended(end, self.durability, &covers);
        for sent in &mut self.sent {
            sent.must = sent.spent.iter().any(|at| at.survives(end, &covers));
        }
        self.highest = self.belief.highest();
    }

    fn cut_power(&mut self) {
        let fates: &[Fate] = if self.random.random() { &Fate::ALL } else { &[Fate::Kept, Fate::Dropped] };
        self.disk.cut_power(self.random.random(), fates);
    }

    /// Compares the books with what was decided.
    fn look(&self, life: &Life) -> Result<(), String> {
        // Once the journal has failed, nothing is given back: this life is over.
        if life.has_failed() {
            return Ok(());
        }
        self.belief.compare(&life.shared, &|position| life.progress.covers(position), self.now)
    }

    fn step(&mut self, life: &mut Life) -> Result<(), String> {
        match self.random.random_range(0..100) {
            0..36 => {
                // Now and then many at once, so that segments fill.
                let times = if self.random.random_range(0..8) == 0 { BURST } else { 1 };
                for _ in 0..times {
                    self.ask(life)?;
                }
            }
            36..46 => self.hand_out(life)?,
            46..56 => {
                life.sync();
                self.hand_out(life)?;
            }
            56..64 => self.call(life)?,
            64..68 => self.leave(life)?,
            68..76 => {
                // That a file cannot be made or sealed is what the disk was told.
                let _ = life.upkeep.prepare();
                self.counts.note("sealed in life", life.upkeep.seal().unwrap_or(0));
            }
            76..79 => self.counts.note("retired", life.upkeep.retire(self.now).unwrap_or(0)),
            79..85 => {
                self.counts.note("steps of the store", 1);
                life.fold(&self.store, self.now)?;
            }
            85..88 => {
                let passes = Orders::<Stake>::SWEEPS_PER_PASS;
                (0..passes).for_each(|_| life.shared.sweep(self.now));
                self.observe(life, At::Somewhere)?;
                self.counts.note("sweeps", 1);
            }
            88..93 => self.pass_time(),
            93 => {
                // The time is recorded though nothing is decided; a disk that fails is told by the journal.
                let _ = life.shared.record_time(self.now, false);
            }
            // What the disk does is said by somebody else.
            94..98 if self.steady => {}
            94 => self.disk.set_room(if self.random.random() { Some(0) } else { None }),
            95..97 => {
                let call = [None, Some(Call::Write), Some(Call::Sync)];
                let call = call.get(self.random.random_range(0..call.len())).copied().flatten();
                let (after, times) = (self.random.random_range(0..6), self.random.random_range(1..4));
                self.faulty.set(Some(Rule { call, after, times, error: Error::Broken }));
            }
            97 => self.faulty.set(None),
            98 if self.old.is_none() => {
                // It is deleted under the gate, which opens an empty one in its place.
                self.old = Some(std::mem::take(&mut self.store));
                self.counts.note("stores lost", 1);
                life.reopen(&self.store)?;
            }
            _ => {
                let fates = [shaky::Fate::Failed, shaky::Fate::StoredInVain];
                let fate = fates.get(self.random.random_range(0..fates.len())).copied().unwrap_or_default();
                self.store.set(fate);
            }
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        self.now.0 += match self.random.random_range(0..20) {
            0 => self.random.random_range(0..8 * 3_600_000),
            1..4 => i64::from(HOLD_S) * 1000,
            4 => -self.random.random_range(0..3_000),
            _ => self.random.random_range(0..10_000),
        };
    }

    /// Sends one or two requests: new ones, orders again, and what was sent before byte for byte.
    fn ask(&mut self, life: &mut Life) -> Result<(), String> {
        let mut batch = Vec::new();
        for _ in 0..self.random.random_range(1..=BATCH_MAX) {
            let (sent, trust) = match self.random.random_range(0..10) {
                0 if !self.orders.is_empty() => {
                    let order = self.random.random_range(self.orders.len().saturating_sub(YOUNG)..self.orders.len());
                    (self.sign(order)?, Trust::TrustedHop)
                }
                1 => match self.spent() {
                    Some(sent) => (sent, if self.random.random() { Trust::TrustedHop } else { Trust::Public }),
                    None => continue,
                },
                2 => match self.refund() {
                    Some(order) => (self.sign(order)?, Trust::TrustedHop),
                    None => continue,
                },
                _ => (self.pay()?, Trust::TrustedHop),
            };
            batch.push((sent, trust));
        }
        self.send(life, batch)
    }

    /// Chooses one of the last requests whose nonces are used up.
    fn spent(&mut self) -> Option<usize> {
        let youngest = self.sent.len().saturating_sub(YOUNG);
        let spent = |sent: &usize| self.sent.get(*sent).is_some_and(|sent| !sent.spent.is_empty());
        let spent: Vec<usize> = (youngest..self.sent.len()).filter(spent).collect();
        spent.get(self.random.random_range(0..spent.len().max(1))).copied()
    }

    /// Plans and signs a payment.
    fn pay(&mut self) -> Result<usize, String> {
        let scenario = &self.setting.scenario;
        self.orders.push(Planned {
            at: Duration::ZERO,
            kind: Kind::Payment,
            merchant: self.random.random_range(0..scenario.merchants.count),
            customer: self.random.random_range(0..scenario.customers.count),
            channel: if self.random.random() { Channel::Balance } else { Channel::QuickPay },
            amount_fen: self.random.random_range(scenario.amounts.least_fen..=scenario.amounts.most_fen),
            order: self.orders.len(),
            ..Planned::nothing()
        });
        self.sign(self.orders.len() - 1)
    }

    /// Plans a refund of a payment that was committed.
    fn refund(&mut self) -> Option<usize> {
        let paid = |(_, order, state): &(u128, usize, OrderState)| {
            let is_payment = self.orders.get(*order).is_some_and(|planned| planned.original.is_none());
            *state == OrderState::Committed && is_payment
        };
        let paid: Vec<usize> = self.belief.decisions().filter(paid).map(|(_, order, _)| order).collect();
        let payment = self.orders.get(*paid.get(self.random.random_range(0..paid.len().max(1)))?)?.clone();
        let original = Some(Original { order: payment.order, amount_fen: payment.amount_fen });
        let amount_fen = self.random.random_range(1..=payment.amount_fen);
        let order = self.orders.len();
        self.orders.push(Planned { kind: Kind::Refund, amount_fen, order, original, ..payment });
        self.counts.note("refunds", 1);
        Some(order)
    }

    fn sign(&mut self, order: usize) -> Result<usize, String> {
        let nonce = u32::try_from(self.sent.len()).map_err(|_| "too many requests")?;
        let planned = self.orders.get(order).ok_or("an order that there is not")?;
        let prepared = self.setting.sign(planned, self.now, nonce).ok_or("a merchant that there is not")?;
        self.sent.push(Sent { order, bytes: prepared.bytes, at: self.now, spent: Vec::new(), must: false });
        Ok(self.sent.len() - 1)
    }

    fn send(&mut self, life: &mut Life, batch: Vec<(usize, Trust)>) -> Result<(), String> {
        let worker = self.random.random_range(0..2);
        let requests = batch.iter().filter_map(|(sent, trust)| Some((&*self.sent.get(*sent)?.bytes, *trust)));
        let requests: Vec<(&[u8], Trust)> = requests.collect();
        let (decisions, position) = life.decide(worker, &requests, self.now)?;
        let at = position.map_or(At::Nowhere, At::Ends);
        let too_early = self.highest.is_some_and(|highest| self.now.0 < highest.0 - i64::from(STEP_BACK_MS_MAX));
        if !too_early && position.is_some() {
            self.highest = self.highest.max(Some(self.now));
        }
        for ((sent, trust), decision) in batch.into_iter().zip(decisions) {
            let Some(of) = self.sent.get_mut(sent) else { continue };
            let was_spent = !of.spent.is_empty();
            match decision {
                Decision::Admitted(admission) => {
                    if too_early {
                        return Err(format!("request {sent} was admitted though the clock was put back"));
                    }
                    if was_spent && trust == Trust::Public {
                        return Err(format!("request {sent} of {} was admitted twice", of.at.0));
                    }
                    let planned = self.orders.get(of.order).ok_or("an order that there is not")?;
                    let (id, duplicate) = (admission.id.0, admission.duplicate);
                    self.belief.admitted(id, (of.order, planned), duplicate, at, self.now)?;
                    of.spent.push(at);
                    self.counts.note(if duplicate { "duplicates" } else { "admitted" }, 1);
                    let waits = life.safety.must_wait(admission.disk, self.now);
                    life.waiting.push_back(Waiting { admission, position, waits });
                }
                Decision::Refused(refusal) => {
                    if refusal.reason == Reason::LimitExceeded {
                        // Where a trusted hop delivers it again, it is what was decided then.
                        of.spent.push(at);
                        self.counts.note("above a limit", 1);
                    }
                    if refusal.reason == Reason::NonceReplayed {
                        self.counts.note("replays refused", 1);
                    }
                }
            }
        }
        self.observe(life, at)
    }

    /// Lets verdicts leave that wait for nothing more.
    fn hand_out(&mut self, life: &mut Life) -> Result<(), String> {
        let progress = Arc::clone(&life.progress);
        let free = |waiting: &mut Waiting| {
            !waiting.waits || waiting.position.is_some_and(|position| progress.covers(position))
        };
        while let Some(Waiting { mut admission, .. }) = life.waiting.pop_front_if(free) {
            self.belief.acknowledged(admission.id.0);
            self.counts.note("acknowledged", 1);
            admission.sent();
            drop(admission);
        }
        self.observe(life, At::Somewhere)
    }

    /// A client goes away before its verdict has left.
    fn leave(&mut self, life: &mut Life) -> Result<(), String> {
        let Some(Waiting { admission, .. }) = life.waiting.pop_back() else { return Ok(()) };
        let position = admission.end(Outcome::Refused);
        self.observe(life, position.map_or(At::Nowhere, At::Ends))
    }

    /// Somebody says what became of an order.
    fn call(&mut self, life: &mut Life) -> Result<(), String> {
        let open = |(_, _, state): &(u128, usize, OrderState)| *state != OrderState::Released;
        let open: Vec<u128> = self.belief.decisions().filter(open).map(|(id, ..)| id).collect();
        let Some(id) = open.get(self.random.random_range(0..open.len().max(1))).copied() else { return Ok(()) };
        let how = if self.random.random_range(0..10) < 7 { SettleAs::Commit } else { SettleAs::Release };
        let settled = life.shared.settle(DecisionId(id), how, &SettledFacts::default(), self.now);
        if settled.is_ok() {
            self.counts.note("settled", 1);
            self.observe(life, At::Safe)?;
            self.belief.safe(id);
            return Ok(());
        }
        self.observe(life, At::Nowhere)
    }

    fn observe(&mut self, life: &Life, at: At) -> Result<(), String> {
        let at = if life.has_failed() { At::Nowhere } else { at };
        self.belief.observe(&life.shared, at, self.now)
    }
}

impl Counts {
    fn note(&mut self, what: &'static str, times: usize) {
        *self.0.entry(what).or_default() += times as u64;
    }

    pub fn add(&mut self, other: &Self) {
        other.0.iter().for_each(|(what, times)| *self.0.entry(what).or_default() += times);
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts: Vec<String> = self.0.iter().map(|(what, times)| format!("{what} {times}")).collect();
        formatter.write_str(&counts.join(", "))
    }
}

/// Most lives of a seed, the last start aside.
const LIVES_MAX: u32 = 5;

/// Most steps of a life.
const STEPS_MAX: u32 = 150;

/// Requests decided together: more would need larger segments.
const BATCH_MAX: usize = 2;

/// Batches of a burst.
const BURST: u32 = 12;

/// Most steps of a life in which one call fails.
const STEPS_OF_FAULTS: u32 = 60;

/// In so many steps the books are compared once.
const LOOK_EVERY: u32 = 8;

/// Requests sent again after a start.
const SAMPLES: usize = 6;

/// How many of the last requests and orders are chosen from to be sent again.
const YOUNG: usize = 30;
