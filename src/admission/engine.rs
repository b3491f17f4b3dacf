//! The engine: one a worker. HOT.

use std::sync::Arc;

use arrayvec::ArrayVec;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::books::Books;
use super::decision::{Admission, Decision, Detail, Proofs, Refusal, Terms};
use super::facts::{Fault, Stated};
use super::identify::{Identified, anonymous, identify};
use super::intent::{Intent, Wanted};
use super::record::Recorder;
use super::shared::Shared;
use super::steps::{Stage, Trail, namespace_of};
use crate::journal::{self, DecisionEntry, Journal, Log, Name, NonceEntry, Position, Record};
use crate::merchant::Policy;
use crate::quota::Demand;
use crate::reason::Reason;
use crate::replay::{Claimed, ClaimedNonce, Fresh, Stored};
use crate::request::Request;
use crate::signature::{Invalid, Verified, Verifier};
use crate::time::{Calendar, CalendarRule, UnixMillis, WindowIds};
use crate::types::{DecisionId, Fen};

/// Requests to be decided together, and then the decisions, in the same order.
#[derive(Default)]
pub struct Batch<'r> {
    requests: Vec<Request<'r>>,
    decisions: Vec<Decision>,
}

impl<'r> Batch<'r> {
    /// Makes an empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request.
    pub fn push(&mut self, request: Request<'r>) {
        self.requests.push(request);
    }

    /// Returns how many requests are in the batch.
    pub fn len(&self) -> usize {
        self.requests.len()
    }

    /// Tells whether the batch is empty.
    pub fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Takes the decisions out, one a request, in order, and empties the batch.
    pub fn drain(&mut self) -> impl Iterator<Item = Decision> {
        self.requests.clear();
        self.decisions.drain(..)
    }

    /// Empties the batch and hands its memory on to requests of another lifetime.
    pub fn recycle<'n>(mut self) -> Batch<'n> {
        self.requests.clear();
        self.decisions.clear();
        // An empty vector mapped in place keeps its allocation and holds nothing of the old lifetime.
        let requests = self.requests.into_iter().map_while(|_| None).collect();
        Batch { requests, decisions: self.decisions }
    }
}

/// Decides.
pub struct Engine {
    shared: Arc<Shared>,
    books: Arc<Books>,
    journal: Box<dyn Journal>,
    verifier: Verifier,
    verdicts: Vec<Result<Verified, Invalid>>,
    /// Empty memory between batches.
    wanted: Wanted,
    calendars: Calendars,
    random: StdRng,
    /// Why nothing is decided in this batch.
    closed: Option<Reason>,
}

impl Engine {
    /// Makes an engine. `seed` must be 32 random bytes: decision ids come from it and must not be guessable.
    pub fn new(shared: Arc<Shared>, journal: Box<dyn Journal>, seed: [u8; 32]) -> Self {
        Self::over(shared, journal, None, seed)
    }

    /// Makes an engine that records in a file of its own. `shared` must be made for recording.
    pub fn recording(shared: Arc<Shared>, journal: Box<dyn Journal>, log: Arc<Log>, seed: [u8; 32]) -> Self {
        Self::over(shared, journal, Some(log), seed)
    }

    fn over(shared: Arc<Shared>, journal: Box<dyn Journal>, log: Option<Arc<Log>>, seed: [u8; 32]) -> Self {
        Self {
            calendars: Calendars::default(),
            books: Arc::new(shared.books.of_another_worker(log)),
            closed: None,
            shared,
            journal,
            verifier: Verifier::new(),
            verdicts: Vec::new(),
            wanted: Wanted::default(),
            random: StdRng::from_seed(seed),
        }
    }

    /// Decides every request of the batch as of `now`, and records it. Returns where the records end, where there are any.
    ///
    /// Where they could not be written, everything is refused.
    pub fn decide(&mut self, batch: &mut Batch<'_>, now: UnixMillis) -> Option<Position> {
        let shared = Arc::clone(&self.shared);
        let policy = shared.policy.load();
        let windows = self.calendars.windows(&policy, now);
        let moment = Moment { now, windows: &windows };
        batch.decisions.clear();
        self.closed = self.closed(now, batch.requests.len());
        for requests in batch.requests.chunks(LANES) {
            self.decide_lanes(&shared, &policy, requests, moment, &mut batch.decisions);
        }
        self.calendars.windows = windows;
        self.journal.commit();
        let recorder = self.books.recorder.clone()?;
        let flushed = recorder.log.turn().flush();
        if flushed.is_err() {
            // What is in the file is not known. What was taken stays taken: nothing is given back that is not recorded.
            for decision in &mut batch.decisions {
                let authentic = match decision {
                    Decision::Admitted(admission) => Some(admission.merchant),
                    Decision::Refused(refusal) => refusal.authentic,
                };
                let reason = Reason::JournalFailed;
                *decision = Decision::Refused(Refusal { reason, detail: Detail::None, authentic });
            }
        }
        flushed.ok()
    }

    /// Says why nothing can be decided: a decision that could not be recorded, or that might count for a window that is
    /// over, is not made.
    fn closed(&self, now: UnixMillis, requests: usize) -> Option<Reason> {
        let Recorder { log, gate } = self.books.recorder.as_ref()?;
        if gate.watermark().has_failed() {
            return Some(Reason::JournalFailed);
        }
        if !gate.note(now) {
            return Some(Reason::ClockSteppedBack);
        }
        // Room is left for what becomes of the orders.
        (log.turn().room_bytes() < gate.room_for(requests)).then_some(Reason::JournalFull)
    }

    fn decide_lanes(
        &mut self,
        shared: &Shared,
        policy: &Policy,
        requests: &[Request<'_>],
        moment: Moment<'_>,
        decisions: &mut Vec<Decision>,
    ) {
        let identified: ArrayVec<_, LANES> =
            requests.iter().map(|request| identify(shared, policy, request, moment.now)).collect();
        let verified = self.verify(&identified);
        let books = Arc::clone(&self.books);
        let read: ArrayVec<Option<(Stage<'_, '_>, Result<Stated<'_>, Fault>)>, LANES> = requests
            .iter()
            .zip(&identified)
            .zip(&verified)
            .map(|((request, identified), verified)| {
                let (Ok(identified), Ok(_)) = (identified, verified) else { return None };
                let stage = Stage { shared, books: &books, policy, request, identified, moment };
                let stated = stage.read();
                Some((stage, stated))
            })
            .collect();
        let mut wanted = std::mem::take(&mut self.wanted);
        let mut intents: ArrayVec<_, LANES> = ArrayVec::new();
        for (verified, read) in verified.iter().zip(&read) {
            let both = verified.as_ref().ok().zip(read.as_ref());
            intents.push(both.map(|(verified, (stage, stated))| (stage, stage.intend(verified, stated, &mut wanted))));
        }
        wanted.fetch_rows(&books.table);
        for (verified, intent) in verified.into_iter().zip(intents) {
            let decision = verified.and_then(|verified| {
                // What is verified was read; in doubt it is refused.
                let (stage, intent) = intent.ok_or_else(|| anonymous(Reason::SignatureInvalid, Detail::None))?;
                self.conclude(stage, verified, intent, &wanted)
            });
            decisions.push(decision.map_or_else(Decision::Refused, Decision::Admitted));
        }
        wanted.clear();
        self.wanted = wanted;
    }

    /// Verifies the signatures of the requests that are identified.
    fn verify(
        &mut self,
        identified: &[Result<Identified<'_, '_>, Refusal>],
    ) -> ArrayVec<Result<Verified, Refusal>, LANES> {
        let jobs: ArrayVec<_, LANES> =
            identified.iter().filter_map(|one| one.as_ref().ok().map(Identified::job)).collect();
        self.verifier.verify(&jobs, &mut self.verdicts);
        let mut verdicts = self.verdicts.drain(..);
        let mut verdict = |identified: &Result<_, Refusal>| {
            identified.as_ref().map_err(Refusal::clone)?;
            let invalid = || anonymous(Reason::SignatureInvalid, Detail::None);
            verdicts.next().and_then(Result::ok).ok_or_else(invalid)
        };
        identified.iter().map(&mut verdict).collect()
    }

    /// Goes on with an authentic request: claim, permit, bind, reserve, record.
    fn conclude(
        &mut self,
        stage: &Stage<'_, '_>,
        verified: Verified,
        intent: Intent<'_>,
        wanted: &Wanted,
    ) -> Result<Admission, Refusal> {
        if let Some(reason) = self.closed {
            return Err(stage.refuse(reason, Detail::None));
        }
        let (high, low) = (self.random.next_u64(), self.random.next_u64());
        let mut trail = Trail::default();
        let demands = intent.wish.as_ref().map(|wish| wanted.range(&wish.charges)).unwrap_or_default();
        let result = stage.run(high, &verified, intent, wanted, &mut trail);
        let refused = result.as_ref().err().map(|refusal| refusal.reason);
        let id = trail.decision.unwrap_or(DecisionId(u128::from(high) << u64::BITS | u128::from(low)));
        let receipt = self.journal.append(Record {
            at: stage.moment.now,
            decision: id,
            merchant: verified.merchant(),
            operation: stage.identified.route.operation,
            amount_fen: trail.amount.map_or(0, Fen::get),
            refused,
            duplicate: trail.duplicate,
            shadowed: trail
                .shadowed
                .iter()
                .filter_map(|index| Some(Arc::clone(&stage.policy.limit(*index)?.id)))
                .collect(),
        });
        if let Some(claimed) = &trail.claimed {
            let stored = Stored { decision: id, refused };
            stage.shared.nonces.remember(claimed, stored);
        }
        let result = match self.record(stage, &verified, id, (wanted.demands(demands), &trail), &result) {
            Ok(()) => result,
            Err(journal::Fault::Failed) => Err(stage.refuse(Reason::JournalFailed, Detail::None)),
            Err(journal::Fault::NoRoom) => Err(stage.refuse(Reason::JournalFull, Detail::None)),
        };
        let (permitted, bound) = result?;
        let route = stage.identified.route;
        let terms = Terms {
            id,
            operation: route.operation,
            settle: route.settle,
            amount: trail.amount,
            duplicate: trail.duplicate,
            skew_ms: stage.identified.fresh.map(|fresh| skew_ms(fresh, stage.moment.now)),
            about: trail.about,
            namespace: namespace_of(route),
            answer: route.answer.clone(),
            shadowed: trail.shadowed,
            disk: trail.disk,
            format: route.scheme.format(),
            at: stage.moment.now,
        };
        let claimed = trail.claimed.unwrap_or_else(Claimed::not_needed);
        let proofs = Proofs { verified, claimed, permitted, bound, receipt };
        Ok(Admission::new(proofs, terms, Arc::clone(&self.books)))
    }

    /// Appends a decision to the file, where there is one.
    fn record<T>(
        &self,
        stage: &Stage<'_, '_>,
        verified: &Verified,
        decision: DecisionId,
        (demands, trail): (&[Demand], &Trail),
        result: &Result<T, Refusal>,
    ) -> Result<(), journal::Fault> {
        let Some(Recorder { log, .. }) = &self.books.recorder else { return Ok(()) };
        let refusal = result.as_ref().err();
        let claimed = trail.claimed.as_ref().and_then(|claimed| claimed.nonce(verified.digest()));
        let order = trail.decision.filter(|_| refusal.is_none()).and_then(|decision| {
            let order = self.books.orders.find(decision)?;
            self.books.image(order, demands)
        });
        let limit_id = |index: &u16| Some(Name::clone(&stage.policy.limit(*index)?.id));
        let entry = DecisionEntry {
            decision,
            merchant: verified.merchant(),
            operation: stage.identified.route.operation,
            amount_fen: trail.amount.map_or(0, Fen::get),
            refused: refusal.map(|refusal| Name::from(refusal.reason.as_str())),
            limit: refusal.and_then(|refusal| match &refusal.detail {
                Detail::Limit { limit, window, .. } => Some((Name::from(limit.as_str()), *window)),
                Detail::None | Detail::Parameter { .. } | Detail::Skew { .. } => None,
            }),
            duplicate: trail.duplicate,
            shadowed: trail.shadowed.iter().filter_map(limit_id).collect(),
            nonce: claimed.map(|ClaimedNonce { key, digest, end_s }| NonceEntry { key, digest, end_s }),
            order,
        };
        log.turn().decision(stage.moment.now, &entry)
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("calendars", &self.calendars).finish_non_exhaustive()
    }
}

/// When a batch is decided.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'w> {
    pub now: UnixMillis,
    /// The windows by each calendar of the policy.
    pub windows: &'w [Option<WindowIds>],
}

/// The calendars of the policy in force, kept from batch to batch.
#[derive(Debug, Default)]
struct Calendars {
    /// What `calendars` was made of. Held, so that no other policy's rules can lie at its address.
    rules: Arc<[CalendarRule]>,
    calendars: Vec<Calendar>,
    /// Empty memory between batches.
    windows: Vec<Option<WindowIds>>,
}

impl Calendars {
    /// Returns the windows that `now` falls in by each calendar of a policy, in memory to be handed back.
    fn windows(&mut self, policy: &Policy, now: UnixMillis) -> Vec<Option<WindowIds>> {
        if !Arc::ptr_eq(&self.rules, policy.calendars()) {
            self.rules = Arc::clone(policy.calendars());
            self.calendars = self.rules.iter().cloned().map(Calendar::new).collect();
        }
        let mut windows = std::mem::take(&mut self.windows);
        windows.clear();
        windows.extend(self.calendars.iter_mut().map(|calendar| calendar.windows(now)));
        windows
    }
}

fn skew_ms(fresh: Fresh, now: UnixMillis) -> i64 {
    UnixMillis::from_seconds(fresh.timestamp_s()).0.saturating_sub(now.0)
}

/// How many requests pass the stages together; the width of the widest verification kernel.
const LANES: usize = 8;
