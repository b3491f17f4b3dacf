//! Settling by name: what the operator, an answer or the passing of time says of an order. COLD but for answers.

use serde::Serialize;

use crate::journal::Fault;
use crate::time::UnixMillis;
use crate::types::DecisionId;

/// What a settle call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAs {
    /// The payment was made.
    Commit,
    /// It was not, and will not be.
    Release,
}

/// What became of a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// What it took stays taken.
    Committed,
    /// What it took was given back.
    Released,
    /// A forward of it is in flight: it is released if that is refused.
    Pending,
}

/// The answer to a settle call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settled {
    /// The decision.
    pub decision: DecisionId,
    /// Its state now.
    pub state: State,
    /// Whether it was in this state before: nothing was done.
    pub already: bool,
    /// Whether the commit came after the hold had expired: the amount was taken again, past any ceiling.
    pub late: bool,
}

/// Why a decision cannot be settled so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettleFault {
    /// No order is held, or was of late, under the decision.
    #[error("no order is known under this decision; it was never admitted, bound no order, or is long settled")]
    Unknown,
    /// It was released before.
    #[error("the decision was released before; what was paid all the same must be corrected by hand")]
    Released,
    /// It was committed before.
    #[error("the decision was committed before; a refund or reversal through the gate gives room back")]
    Committed,
    /// The journal cannot record it.
    #[error("the decision stays as it is: {0}")]
    Unrecorded(#[from] Fault),
}

/// Something that became of an order otherwise than by the answer to its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// When.
    pub at: UnixMillis,
    /// Which decision.
    pub decision: DecisionId,
    /// Its amount, in fen.
    pub amount_fen: u64,
    /// What.
    pub event: Event,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The operator committed it.
    Committed,
    /// The operator released it.
    Released,
    /// Its hold ran out, and what it took was given back.
    Expired,
    /// Its hold ran out with an outcome nobody knows: what it took stays taken.
    ExpiredKept,
    /// It was committed after its hold had run out: taken again, past any ceiling.
    CommittedLate,
    /// The upstream says that it was paid, but it had been released: nothing was taken again.
    PaidAfterRelease,
}

impl Event {
    /// Every event, in declaration order.
    pub const ALL: [Self; 6] = [
        Self::Committed,
        Self::Released,
        Self::Expired,
        Self::ExpiredKept,
        Self::CommittedLate,
        Self::PaidAfterRelease,
    ];

    /// Returns the name used in metrics and listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Committed => "committed",
            Self::Released => "released",
            Self::Expired => "expired",
            Self::ExpiredKept => "expired_kept",
            Self::CommittedLate => "committed_late",
            Self::PaidAfterRelease => "paid_after_release",
        }
    }
}
