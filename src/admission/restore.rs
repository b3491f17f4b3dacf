//! Putting back what was recorded, before anything is decided.

use super::books::Stake;
use super::shared::Shared;
use crate::journal::{Image, ImagePhase, ImageStake, NonceEntry};
use crate::merchant::Shares;
use crate::quota::{Charges, NO_LABEL, Part, RestoredRow, Shortfall};
use crate::reason::Reason;
use crate::replay::{BindRefused, ClaimedNonce, OnExpiry, OrderImage, OrderState, Refused, Stored};
use crate::types::{DecisionId, MerchantId, Unit};

/// What was recorded does not fit the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RestoreFault {
    /// More orders are held than the table has room for.
    #[error("the journal holds more orders than the table has room for; raise `entries_max` of [orders]")]
    Orders,
    /// More nonces are in force than the table has room for.
    #[error("the journal holds more nonces than the table has room for; raise `entries_max` of [replay]")]
    Nonces,
    /// More rows are in use than the table has room for.
    #[error("the journal holds more rows of limits than the table has room for; raise `rows_max` of [rows]")]
    Rows,
}

/// A nonce that a decision used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsedNonce {
    /// The decision.
    pub decision: DecisionId,
    /// Who asked.
    pub merchant: MerchantId,
    /// Why it was refused; `None` where it was admitted.
    pub refused: Option<Reason>,
    /// The nonce.
    pub nonce: NonceEntry,
}

impl UsedNonce {
    /// Makes it of what a record says.
    pub fn new(decision: DecisionId, merchant: MerchantId, refused: Option<&str>, nonce: NonceEntry) -> Self {
        // A reason that this version does not know is a refusal all the same.
        let refused = refused.map(|name| Reason::named(name).unwrap_or(Reason::NonceReplayed));
        Self { decision, merchant, refused, nonce }
    }
}

/// Puts back what was recorded.
pub struct Restorer<'s> {
    shared: &'s Shared,
    /// What the merchant holds whose things came last.
    last: Option<(MerchantId, Shares)>,
}

impl<'s> Restorer<'s> {
    /// Puts back into these tables.
    pub const fn new(shared: &'s Shared) -> Self {
        Self { shared, last: None }
    }

    fn shares_of(&mut self, merchant: MerchantId) -> &Shares {
        let last = self.last.take().filter(|(last, _)| *last == merchant);
        &self.last.insert(last.unwrap_or_else(|| (merchant, self.shared.shares_of(merchant)))).1
    }

    /// Puts a row back.
    ///
    /// # Errors
    /// [`RestoreFault::Rows`].
    pub fn row(
        &mut self,
        row: u128,
        label: u32,
        owner: MerchantId,
        cells: [(u16, u64); 2],
    ) -> Result<(), RestoreFault> {
        let label = if label == 0 { NO_LABEL } else { label };
        let table = &self.shared.books.table;
        let restored = table.restore(&RestoredRow { row, label, cells }, &self.shares_of(owner).rows);
        restored.map_err(|_: Shortfall| RestoreFault::Rows)
    }

    /// Puts an order back. Its rows are put back by themselves.
    ///
    /// # Errors
    /// [`RestoreFault::Orders`].
    pub fn order(&mut self, image: &Image) -> Result<(), RestoreFault> {
        let charges = match &image.stake {
            ImageStake::Payment(parts) => {
                let parts = parts.iter().map(|part| Part {
                    row: part.row,
                    tag: part.tag,
                    unit: if part.counts { Unit::Count } else { Unit::Fen },
                    windows: part.windows,
                });
                Stake::Payment(Charges::of_parts(image.amount_fen, parts))
            }
            ImageStake::Refund { original, fen } => {
                let original = original.map(|original| self.shared.books.orders.named_by(original));
                Stake::Refund { original, fen: *fen }
            }
        };
        let state = match image.phase {
            ImagePhase::Held => OrderState::Held,
            ImagePhase::Committed => OrderState::Committed,
            ImagePhase::Expired => OrderState::Expired,
            ImagePhase::Released => OrderState::Released,
        };
        let order = OrderImage {
            decision: image.decision,
            key: image.key,
            check: image.check,
            digest: image.digest,
            merchant: Some(image.merchant),
            revision: image.revision,
            state,
            on_expiry: if image.keep_on_expiry { OnExpiry::Keep } else { OnExpiry::Release },
            note: image.note,
            amount_fen: image.amount_fen,
            refunded_fen: image.refunded_fen,
            since_s: image.since_s,
            expires_s: image.expires_s,
            charges: None,
        };
        let orders = &self.shared.books.orders;
        let restored = orders.restore(&order, charges, &self.shares_of(image.merchant).orders);
        restored.map_err(|_: BindRefused| RestoreFault::Orders)
    }

    /// Puts back the nonce that a decision used up.
    ///
    /// # Errors
    /// [`RestoreFault::Nonces`].
    pub fn nonce(&mut self, used: &UsedNonce) -> Result<(), RestoreFault> {
        let UsedNonce { decision, merchant, refused, nonce: NonceEntry { key, digest, end_s } } = *used;
        let nonce = ClaimedNonce { key, digest, end_s };
        let nonces = &self.shared.nonces;
        let restored = nonces.restore(&nonce, Stored { decision, refused }, &self.shares_of(merchant).nonces);
        restored.map_err(|_: Refused| RestoreFault::Nonces)
    }
}

impl Shared {
    /// Refuses nonces from here on that end no later than `end_s`, in seconds since 1970: which of those were used up is not
    /// known any more.
    pub fn forget_nonces_until(&self, end_s: i64) {
        self.nonces.forget_until(end_s);
    }
}
