//! What a decision says, and what an admission owes.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::journal::Receipt;
use crate::merchant::{Permitted, Settle};
use crate::quota::{Charges, Table};
use crate::reason::Reason;
use crate::replay::{Bound, Claimed, Namespace, OrderName, Orders};
use crate::signature::Verified;
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
    /// Positions of the shadow limits, in the policy it was decided by, that would have refused it.
    pub shadowed: SmallVec<[u16; 4]>,
    bound: Option<Bound<Charges>>,
    _claimed: Claimed,
    _receipt: Receipt,
    /// The order that a success takes back.
    undoes: Option<Undoes>,
    books: Arc<Books>,
    sent: bool,
}

/// Everything that had to be shown before an admission; each part can only be made by the check it stands for.
pub(super) struct Proofs {
    pub verified: Verified,
    pub claimed: Claimed,
    pub permitted: Permitted,
    pub bound: Bound<Charges>,
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
    pub undoes: Option<Undoes>,
    pub shadowed: SmallVec<[u16; 4]>,
}

/// The order that a close or a reversal is about: its number may be bound again before the answer comes.
#[derive(Debug)]
pub(super) struct Undoes {
    pub number: String,
    pub decision: DecisionId,
}

/// Where an admission gives back to.
pub(super) struct Books {
    pub table: Arc<Table>,
    pub orders: Arc<Orders<Charges>>,
}

impl Admission {
    pub(super) fn new(proofs: Proofs, terms: Terms, books: Arc<Books>) -> Self {
        let Proofs { verified, claimed, permitted, bound, receipt } = proofs;
        let Terms { id, operation, settle, amount, duplicate, skew_ms, undoes, shadowed } = terms;
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
            shadowed,
            bound: Some(bound),
            _claimed: claimed,
            _receipt: receipt,
            undoes,
            books,
            sent: false,
        }
    }

    /// Notes that the request is about to leave: from here on, no news is an unknown outcome.
    pub fn sent(&mut self) {
        self.sent = true;
    }

    /// Settles with the outcome. Nothing is counted twice, whatever the order in which duplicates settle.
    pub fn settle(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        let Some(bound) = self.bound.take() else { return };
        if let Some(charges) = bound.settle(outcome) {
            self.books.table.give_back(&charges);
        }
        if let (Outcome::Done, Some(Undoes { number, decision })) = (outcome, &self.undoes) {
            let name = OrderName { namespace: Namespace::Payment, merchant: &self.merchant, number };
            if let Some(released) = self.books.orders.release(name, *decision) {
                self.books.table.give_back(&released.charges);
            }
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
        self.finish(if self.sent { Outcome::Unknown } else { Outcome::Refused });
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
    },
}
