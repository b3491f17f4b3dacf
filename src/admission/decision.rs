//! What a decision says, and what an admission owes.

use std::sync::Arc;

use smallvec::SmallVec;

use super::answer::News;
use super::books::{Books, Stake};
use super::settle::SettleFault;
use crate::journal::{Cause, Position, Receipt};
use crate::merchant::{AnswerSpec, Permitted, Settle, SettledFacts};
use crate::reason::Reason;
use crate::replay::{Bound, Claimed, Namespace, OrderName, OrderRef, PaidRule};
use crate::request::Format;
use crate::signature::Verified;
use crate::time::UnixMillis;
use crate::types::{Channel, DecisionId, Fen, Interface, MerchantId, Operation, Window};

pub use crate::replay::Outcome;

/// What was decided on one request.
#[derive(Debug)]
pub enum Decision {
    /// It may pass.
    Admitted(Admission),
    /// It may not.
    Refused(Refusal),
}

/// Leave to go on. It holds what the request took: settle it with the outcome.
///
/// Dropped unsettled it gives everything back, unless [`Admission::sent`] was called: then the outcome is unknown, and
/// what was taken stays taken.
#[must_use = "an admission holds room in limits until it is settled"]
pub struct Admission {
    /// The decision.
    pub id: DecisionId,
    /// Who asked.
    pub merchant: MerchantId,
    /// What for.
    pub operation: Operation,
    /// How it settles.
    pub settle: Settle,
    /// The amount it concerns.
    pub amount: Option<Fen>,
    /// The interfaces it may have come in by.
    pub interfaces: arrayvec::ArrayVec<Interface, { Interface::ALL.len() }>,
    /// The channels it may take.
    pub channels: arrayvec::ArrayVec<Channel, 2>,
    /// Whether an earlier decision on the same order was found.
    pub duplicate: bool,
    /// The request's time less the gate's, in milliseconds; `None` in a scheme without timestamps.
    pub skew_ms: Option<i64>,
    /// Whether a limit that it takes from asks for its record to be safe from a loss of power.
    pub disk: bool,
    /// Positions of the shadow limits, in the policy it was decided by, that would have refused it.
    pub shadowed: SmallVec<[u16; 4]>,
    /// How bodies on its route are written.
    pub format: Format,
    bound: Option<Bound<Stake>>,
    _claimed: Claimed,
    _receipt: Receipt,
    /// The order that a query, close or reversal is about.
    about: Option<OrderRef>,
    /// In which namespace an order that an answer names is looked up.
    namespace: Namespace,
    /// Where the answer says what became of an order.
    answer: Option<Arc<AnswerSpec>>,
    at: UnixMillis,
    books: Arc<Books>,
    sent: bool,
}

/// Everything that had to be shown before an admission; each part can only be made by the check it stands for.
pub(super) struct Proofs {
    pub verified: Verified,
    pub claimed: Claimed,
    pub permitted: Permitted,
    pub bound: Bound<Stake>,
    pub receipt: Receipt,
}

/// What a decision says of the request, beside its proofs.
#[derive(Debug)]
pub(super) struct Terms {
    pub id: DecisionId,
    pub operation: Operation,
    pub settle: Settle,
    pub amount: Option<Fen>,
    pub duplicate: bool,
    pub skew_ms: Option<i64>,
    pub about: Option<OrderRef>,
    pub namespace: Namespace,
    pub answer: Option<Arc<AnswerSpec>>,
    pub shadowed: SmallVec<[u16; 4]>,
    pub disk: bool,
    pub format: Format,
    pub at: UnixMillis,
}

impl Admission {
    pub(super) fn new(proofs: Proofs, terms: Terms, books: Arc<Books>) -> Self {
        let Proofs { verified, claimed, permitted, bound, receipt } = proofs;
        let Terms {
            id,
            operation,
            settle,
            amount,
            duplicate,
            skew_ms,
            about,
            namespace,
            answer,
            shadowed,
            disk,
            format,
            at,
        } = terms;
        let merchant = verified.merchant();
        let Permitted { interfaces, channels, .. } = permitted;
        Self {
            id,
            merchant,
            operation,
            settle,
            amount,
            interfaces,
            channels,
            duplicate,
            skew_ms,
            disk,
            shadowed,
            format,
            bound: Some(bound),
            _claimed: claimed,
            _receipt: receipt,
            about,
            namespace,
            answer,
            at,
            books,
            sent: false,
        }
    }

    /// Notes that the request is about to leave: from here on, no news is an unknown outcome.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// Settles with the outcome. Nothing is counted twice, whatever the order in which duplicates settle.
    ///
    /// Where an order was only created, which is what success means on a route that settles later, it is held until it
    /// is known whether it was paid.
    pub fn settle(self, outcome: Outcome) {
        // Who has nobody to tell need not wait for what is given back.
        let _ = self.end(outcome);
    }

    /// Settles with the outcome, as [`Admission::settle`]; returns the record that what is given back waits for.
    pub fn end(mut self, outcome: Outcome) -> Option<Position> {
        let created = self.settle == Settle::Later && outcome == Outcome::Done;
        self.finish_plainly(if created { Outcome::Created } else { outcome })
    }

    /// Settles with the upstream's answer: its HTTP status, and its body where the route reads the state of an order there.
    ///
    /// Returns the record that what is given back waits for: whoever tells of the answer only then has it given back by
    /// the time it is told.
    pub fn answered(mut self, status: u16, body: &[u8]) -> Option<Position> {
        let news = News::read(self.operation, self.settle, self.answer.as_deref(), status, body);
        self.finish(&news)
    }

    /// Finishes where nothing is known but what became of the request. Of a query that tells nothing of its order.
    fn finish_plainly(&mut self, outcome: Outcome) -> Option<Position> {
        let outcome = (self.operation != Operation::Query).then_some(outcome);
        self.finish(&News { outcome, ..News::default() })
    }

    fn finish(&mut self, news: &News) -> Option<Position> {
        let bound = self.bound.take()?;
        match self.operation {
            Operation::Pay | Operation::Refund => self.finish_order(bound, news),
            Operation::Close | Operation::Reverse => {
                let done = news.outcome == Some(Outcome::Done);
                // It may have been taken back already, or be forgotten: then nothing is left to do.
                self.about.filter(|_| done).and_then(|order| self.take_back(order))
            }
            Operation::Query => self.finish_query(news),
            Operation::Certificates | Operation::Echo => None,
        }
    }

    fn take_back(&self, order: OrderRef) -> Option<Position> {
        self.books.release(Cause::Answer, order, PaidRule::TakeBack, self.at).ok().and_then(|(_, position)| position)
    }

    fn finish_order(&self, bound: Bound<Stake>, news: &News) -> Option<Position> {
        let outcome = news.outcome.unwrap_or(Outcome::Unknown);
        if outcome != Outcome::Done {
            return self.books.settle(bound, outcome, self.at);
        }
        // What the answer says beside frees limits, or gives room back: that is done where the order is committed.
        let _ = self.books.settle(bound, Outcome::Created, self.at);
        self.books.orders.find(self.id).and_then(|order| self.commit(order, &news.facts))
    }

    /// Commits an order that the upstream says was done. That it was known before is no fault.
    fn commit(&self, order: OrderRef, facts: &SettledFacts) -> Option<Position> {
        let committed = self.books.commit(Cause::Answer, order, facts, self.at);
        if committed == Err(SettleFault::Released) && self.namespace == Namespace::Payment {
            self.books.contradicted(order.decision(), self.amount.map_or(0, Fen::get), self.at);
        }
        committed.ok().and_then(|(_, position)| position)
    }

    fn finish_query(&self, news: &News) -> Option<Position> {
        let named = || {
            let number = news.order.as_deref()?;
            self.books.orders.named(OrderName { namespace: self.namespace, merchant: &self.merchant, number })
        };
        let order = self.about.or_else(named)?;
        match news.outcome {
            Some(Outcome::Done) => self.commit(order, &news.facts),
            // Queries are repeated: that it was taken back before, or is forgotten, is no fault.
            Some(Outcome::Refused) => self.take_back(order),
            Some(Outcome::Created | Outcome::Unknown) | None => None,
        }
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Admission");
        shown.field("id", &self.id).field("merchant", &self.merchant).field("operation", &self.operation);
        shown.field("amount", &self.amount).field("duplicate", &self.duplicate).finish_non_exhaustive()
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let outcome = if self.sent { Outcome::Unknown } else { Outcome::Refused };
        let _ = self.finish_plainly(outcome);
    }
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// What the caller may be told beside it.
    pub detail: Detail,
    /// Who asked, where the signature held: only such a refusal may be signed.
    pub authentic: Option<MerchantId>,
}

/// What the caller may be told beside the reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    #[default]
    None,
    /// The parameter at fault.
    Parameter {
        /// A JSON Pointer into the body, or the name of a path or query parameter or header.
        name: String,
    },
    /// How far the timestamp is off.
    Skew {
        /// The request's time less the gate's, in milliseconds.
        skew_ms: i64,
    },
    /// The limit at fault.
    Limit {
        /// Its id.
        limit: String,
        /// The window that is used up; `None` for a single transaction.
        window: Option<Window>,
        /// When that window ends; `None` where waiting does not help.
        ends: Option<UnixMillis>,
    },
}
