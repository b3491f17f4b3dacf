//! How requests that are ready together come to be decided together.
//!
//! Each connection puts its request on the worker's queue; one task, woken by the first of them, decides all that is
//! queued when it is polled. The runtime's queue is first in, first out, so it runs after every connection that the last
//! poll of the sockets made ready. No timer: a lone request is decided at once.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName};
use http::request::Parts;

use super::body::Grant;
use super::safety::Safety;
use crate::admission::{Batch, Decision, Detail, Engine, Refusal};
use crate::journal::Position;
use crate::metrics::{self, Stage};
use crate::reason::Reason;
use crate::request::{Request, Trust};
use crate::time::{Clock, UnixMillis};

/// A request that is complete, with all that its decision looks at.
#[derive(Debug)]
pub(super) struct Ask {
    pub head: Parts,
    pub body: Bytes,
    pub trust: Trust,
    pub peer: Option<IpAddr>,
    pub client_certificate: Option<Rc<[u8]>>,
    /// Fields of the head that never go on to the upstream.
    pub withheld: Arc<[HeaderName]>,
    pub answer_key_known: bool,
    /// What the body takes of the budget, for as long as it is held.
    pub _grant: Grant,
}

impl Ask {
    /// Returns path and query as on the wire.
    pub fn target(&self) -> &str {
        target(&self.head)
    }

    /// Returns the platform key that the caller can verify answers with, where it names one.
    pub fn answer_key(&self) -> Option<&str> {
        answer_key(&self.head.headers)
    }

    /// Returns the view that decisions are made on.
    pub fn view(&self) -> Request<'_> {
        Request {
            method: self.head.method.as_str(),
            target: self.target(),
            headers: &self.head.headers,
            body: &self.body,
            trust: self.trust,
            peer: self.peer,
            client_certificate: self.client_certificate.as_deref(),
            answer_key_known: self.answer_key_known,
        }
    }
}

/// Returns path and query of a head as on the wire.
pub(super) fn target(head: &Parts) -> &str {
    head.uri.path_and_query().map_or("/", |target| target.as_str())
}

/// Reads which platform key the caller can verify answers with.
pub(super) fn answer_key(headers: &HeaderMap) -> Option<&str> {
    // What is not text names no key: an empty name is unknown, too.
    headers.get("wechatpay-serial").map(|value| value.to_str().unwrap_or(""))
}

/// The queue of one worker.
#[derive(Debug, Default)]
pub(super) struct Decider {
    queue: RefCell<Vec<Rc<Slot>>>,
    batcher: RefCell<Option<Waker>>,
    /// What decisions wait for; `None` where nothing is recorded.
    safety: Option<Safety>,
    /// Decisions that wait until they are safe, oldest first.
    unsafe_yet: RefCell<VecDeque<(Position, Rc<Slot>, Decision)>>,
}

#[derive(Debug)]
struct Slot {
    ask: Rc<Ask>,
    queued_at: Instant,
    state: RefCell<State>,
}

#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "a box would cost an allocation a request")]
enum State {
    Waiting(Waker),
    Decided(Decision),
    Taken,
}

impl Decider {
    /// Makes an empty queue.
    pub fn new(safety: Option<Safety>) -> Self {
        Self { safety, ..Self::default() }
    }

    /// Waits until a record is safe from a loss of power. Where it never will be, nothing waits any more.
    pub async fn safe(&self, position: Position) {
        if let Some(safety) = &self.safety {
            // Who waits tells of what was done: that it can be told to nobody else is not theirs to fear.
            let _ = safety.wait(position).await;
        }
    }

    /// Hands out decisions as they become safe, for as long as the worker lives.
    pub async fn hand_out(&self, metrics: &metrics::Worker) {
        let Some(safety) = &self.safety else { return };
        loop {
            let progress = safety.progress.notified();
            let mut progress = std::pin::pin!(progress);
            // From here on no news is missed.
            progress.as_mut().enable();
            let failed = safety.watermark.has_failed();
            loop {
                let ripe = |(position, ..): &mut (Position, _, _)| failed || safety.watermark.covers(*position);
                let next = self.unsafe_yet.borrow_mut().pop_front_if(ripe);
                let Some((position, slot, decision)) = next else { break };
                let safe = safety.watermark.covers(position);
                metrics.stage(Stage::Safe, slot.queued_at.elapsed());
                slot.hand_out(if safe { decision } else { unsure(&decision) });
            }
            progress.await;
        }
    }

    /// Waits for the decision on a request. Dropped before, the request is not decided, or what it took is given back.
    pub fn decide(&self, ask: Rc<Ask>) -> Deciding<'_> {
        Deciding { decider: self, ask: Some(ask), slot: None }
    }

    /// Decides what is queued, for as long as the worker lives.
    pub async fn run(&self, mut engine: Engine, clock: Arc<dyn Clock>, metrics: Arc<metrics::Worker>) {
        let _abort = AbortOnPanic;
        let mut spare: Batch<'static> = Batch::new();
        loop {
            let mut slots = poll_fn(|context| self.poll_queue(context)).await;
            // A connection that went away holds its slot no more: its request is not decided.
            slots.retain(|slot| Rc::strong_count(slot) > 1);
            if slots.is_empty() {
                continue;
            }
            let began = Instant::now();
            let mut batch = spare.recycle();
            slots.iter().for_each(|slot| batch.push(slot.ask.view()));
            metrics.batch(slots.len());
            let now = clock.now();
            let position = engine.decide(&mut batch, now);
            metrics.stage(Stage::Decide, began.elapsed());
            let mut waits = false;
            for (slot, decision) in slots.iter().zip(batch.drain()) {
                metrics.stage(Stage::Queue, began.saturating_duration_since(slot.queued_at));
                match self.must_be_safe(&decision, position, now) {
                    Some(position) => {
                        waits = true;
                        self.unsafe_yet.borrow_mut().push_back((position, Rc::clone(slot), decision));
                    }
                    None => slot.hand_out(decision),
                }
            }
            if let Some(safety) = self.safety.as_ref().filter(|_| waits) {
                safety.watermark.request();
            }
            spare = batch.recycle();
        }
    }

    /// Returns the record that a decision waits for.
    fn must_be_safe(&self, decision: &Decision, position: Option<Position>, now: UnixMillis) -> Option<Position> {
        let disk = match decision {
            Decision::Admitted(admission) => admission.disk,
            // Nothing is recorded of those who are not known.
            Decision::Refused(Refusal { authentic: None, .. }) => return None,
            Decision::Refused(_) => false,
        };
        let safety = self.safety.as_ref()?;
        position.filter(|position| safety.must_wait(disk, now) && !safety.watermark.covers(*position))
    }

    fn poll_queue(&self, context: &mut Context<'_>) -> Poll<Vec<Rc<Slot>>> {
        if self.queue.borrow().is_empty() {
            let mut batcher = self.batcher.borrow_mut();
            if !batcher.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                *batcher = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        Poll::Ready(self.queue.take())
    }

    fn push(&self, slot: Rc<Slot>) {
        let mut queue = self.queue.borrow_mut();
        queue.push(slot);
        if queue.len() == 1
            && let Some(waker) = self.batcher.borrow().as_ref()
        {
            waker.wake_by_ref();
        }
    }
}

impl Slot {
    fn hand_out(&self, decision: Decision) {
        if let State::Waiting(waker) = self.state.replace(State::Decided(decision)) {
            waker.wake();
        }
    }
}

/// Refuses in place of a decision that is not sure to last.
fn unsure(decision: &Decision) -> Decision {
    let authentic = match decision {
        Decision::Admitted(admission) => Some(admission.merchant),
        Decision::Refused(refusal) => refusal.authentic,
    };
    Decision::Refused(Refusal { reason: Reason::JournalFailed, detail: Detail::None, authentic })
}

/// Ends the process where a decision panics: what its tables hold then is not known, and a worker that decides no more
/// would leave its connections waiting.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}

/// Waits for one decision.
#[derive(Debug)]
pub(super) struct Deciding<'d> {
    decider: &'d Decider,
    ask: Option<Rc<Ask>>,
    slot: Option<Rc<Slot>>,
}

impl Future for Deciding<'_> {
    type Output = Decision;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Decision> {
        if let Some(ask) = self.ask.take() {
            let state = RefCell::new(State::Waiting(context.waker().clone()));
            let slot = Rc::new(Slot { ask, queued_at: Instant::now(), state });
            self.decider.push(Rc::clone(&slot));
            self.slot = Some(slot);
            return Poll::Pending;
        }
        let Some(slot) = &self.slot else { return Poll::Pending };
        match slot.state.replace(State::Taken) {
            State::Decided(decision) => Poll::Ready(decision),
            State::Waiting(_) => {
                slot.state.replace(State::Waiting(context.waker().clone()));
                Poll::Pending
            }
            State::Taken => Poll::Pending,
        }
    }
}
