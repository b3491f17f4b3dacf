//! A gate without sockets: what a decision costs by itself.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use httparse::{EMPTY_HEADER, Status};
use tollgate::admission::{self, Batch, Decision, Engine, SettleAs, SettleFault, Shared, SharedParts};
use tollgate::config::Config;
use tollgate::journal::Recent;
use tollgate::merchant::SettledFacts;
use tollgate::replay::Orders;
use tollgate::request::{Request, Trust};
use tollgate::time::UnixMillis;
use tollgate::types::DecisionId;

use crate::pool::Prepared;
use crate::settling::{Settle, Settled, Settler};
use crate::target::{Answered, Outcome, Target, TargetError};

/// An engine that decides what is queued, in batches.
pub struct InProcess {
    shared: Arc<Shared>,
    engine: Engine,
    queue: VecDeque<(usize, Instant, Vec<u8>)>,
    clock: SetClock,
    /// What deciding took, without parsing.
    decided: Duration,
    decisions: u64,
}

/// A clock that was set when it was started, and can be put forward. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct SetClock {
    starts: UnixMillis,
    started: Instant,
    ahead_ms: Rc<Cell<i64>>,
}

impl SetClock {
    /// Starts a clock.
    pub fn start(starts: UnixMillis) -> Self {
        Self { starts, started: Instant::now(), ahead_ms: Rc::default() }
    }

    /// Reads it.
    pub fn now(&self) -> UnixMillis {
        let since = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        UnixMillis(self.starts.0.saturating_add(since).saturating_add(self.ahead_ms.get()))
    }

    /// Puts it forward, by so many seconds.
    pub fn put_forward(&self, seconds: u32) {
        self.ahead_ms.set(self.ahead_ms.get().saturating_add(i64::from(seconds) * 1000));
    }
}

/// Ends the holds that have run out by now, as a gate does in the background; `false` where some have not.
pub fn end_holds(shared: &Shared, now: UnixMillis) -> bool {
    (0..PASSES_MAX).any(|_| {
        (0..sweeps(shared.orders())).for_each(|_| shared.sweep(now));
        shared.orders().holds().by_age.iter().all(|held| held.orders == 0)
    })
}

/// Returns how many sweeps look through all orders.
const fn sweeps<C>(_: &Orders<C>) -> usize {
    Orders::<C>::SWEEPS_PER_PASS
}

/// Puts a gate's tables together, empty.
pub fn shared(config: Config) -> Shared {
    let Config { policy, deployment_key, nonces, orders, holds, quota, .. } = config;
    Shared::new(SharedParts { policy, deployment_key, nonces, orders, holds, quota })
}

impl InProcess {
    /// Makes a gate of a configuration. `seed` is where decision ids come from.
    pub fn new(config: Config, clock: SetClock, seed: [u8; 32]) -> Self {
        let shared = Arc::new(shared(config));
        let engine = Engine::new(Arc::clone(&shared), Box::new(Recent::new(RECORDS)), seed);
        Self { shared, engine, queue: VecDeque::new(), clock, decided: Duration::ZERO, decisions: 0 }
    }

    /// Returns the tables.
    pub const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Returns what one decision took on average, signature included, in nanoseconds.
    pub fn decision_ns(&self) -> f64 {
        self.decided.as_secs_f64() * 1e9 / (self.decisions as f64).max(1.0)
    }
}

/// Settles at an engine in this process.
pub struct Within {
    shared: Arc<Shared>,
    clock: SetClock,
    done: Vec<(Settle, Settled)>,
}

impl Within {
    /// Takes the tables of the engine, and its clock.
    pub const fn new(shared: Arc<Shared>, clock: SetClock) -> Self {
        Self { shared, clock, done: Vec::new() }
    }
}

impl Settler for Within {
    fn settle(&mut self, settle: Settle) {
        let how = if settle.commit { SettleAs::Commit } else { SettleAs::Release };
        let settled = self.shared.settle(DecisionId(settle.decision), how, &SettledFacts::default(), self.clock.now());
        let settled = match settled {
            Ok(admission::Settled { state: admission::State::Pending, .. }) => Settled::Pending,
            Ok(admission::Settled { late, .. }) => Settled::Done { late },
            Err(SettleFault::Released | SettleFault::Committed) => Settled::Conflict,
            Err(SettleFault::Unrecorded(_)) => Settled::Failed,
            Err(SettleFault::Unknown) => Settled::Unknown,
        };
        self.done.push((settle, settled));
    }

    fn settled(&mut self) -> Vec<(Settle, Settled)> {
        std::mem::take(&mut self.done)
    }
}

impl Target for InProcess {
    fn send(&mut self, request: usize, prepared: &Prepared) -> Result<bool, TargetError> {
        let free = self.queue.len() < QUEUE_MAX;
        if free {
            self.queue.push_back((request, Instant::now(), prepared.bytes.clone()));
        }
        Ok(free)
    }

    fn poll(&mut self, patience: Duration, answers: &mut Vec<Answered>) -> Result<(), TargetError> {
        if self.queue.is_empty() {
            std::thread::sleep(patience);
            return Ok(());
        }
        let queued: Vec<_> = self.queue.drain(..self.queue.len().min(BATCH)).collect();
        let parsed = queued.iter().map(|(.., bytes)| Parsed::read(bytes)).collect::<Result<Vec<_>, _>>()?;
        let mut batch = Batch::new();
        parsed.iter().for_each(|parsed| batch.push(parsed.request(Trust::TrustedHop)));
        let now = self.clock.now();
        let began = Instant::now();
        self.engine.decide(&mut batch, now);
        self.decided += began.elapsed();
        self.decisions += queued.len() as u64;
        let at = Instant::now();
        for ((request, sent, _), decision) in queued.iter().zip(batch.drain()) {
            let outcome = match decision {
                Decision::Admitted(mut admission) => {
                    let (decision, duplicate) = (admission.id.0, Some(admission.duplicate));
                    // As in check mode: the verdict left, and what becomes of the payment is heard later.
                    admission.sent();
                    Outcome::Admitted { decision, duplicate }
                }
                Decision::Refused(refusal) => Outcome::Refused { code: refusal.reason.as_str().to_owned() },
            };
            answers.push(Answered { request: *request, sent: *sent, at, as_of_s: Some(now.seconds()), outcome });
        }
        Ok(())
    }
}

/// A request in its parts.
pub(crate) struct Parsed<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<(&'a str, &'a [u8])>,
    body: &'a [u8],
}

impl<'a> Parsed<'a> {
    pub fn read(bytes: &'a [u8]) -> Result<Self, TargetError> {
        let mut headers = [EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut headers);
        let Ok(Status::Complete(head)) = request.parse(bytes) else { return Err(TargetError::Request("its head")) };
        Ok(Self {
            method: request.method.unwrap_or_default(),
            target: request.path.unwrap_or_default(),
            headers: request.headers.iter().map(|header| (header.name, header.value)).collect(),
            body: bytes.get(head..).unwrap_or_default(),
        })
    }

    pub fn request(&self, trust: Trust) -> Request<'_> {
        Request {
            method: self.method,
            target: self.target,
            headers: &self.headers,
            body: self.body,
            trust,
            peer: None,
            client_certificate: None,
            answer_key_known: true,
        }
    }
}

/// Most times that all orders are looked through until no hold is left: each ends up to a million.
const PASSES_MAX: usize = 8;

/// Requests decided together.
const BATCH: usize = 8;

/// Requests that wait to be decided.
const QUEUE_MAX: usize = 64;

/// Decisions that are kept to be looked at.
const RECORDS: usize = 1024;
