//! What a record of the journal says: a decision, what became of orders later, a limit's label, the time.
//!
//! An order is recorded as an *image*: all that must be known of it, what it charges included. So a record stands alone,
//! and of two images of one decision the one with the higher revision holds, in whatever order they are read.

use smallvec::SmallVec;

use crate::types::{DecisionId, MerchantId, Operation, Window};

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one is held at a time")]
pub enum Entry {
    /// A decision on an authentic request.
    Decision(Box<DecisionEntry>),
    /// What became of orders otherwise than by being decided.
    Change(ChangeEntry),
    /// A number that stands for a limit in [`RowPart::label`]; written before it is used.
    Label {
        /// The number, from one.
        label: u32,
        /// Id, zone, cut-over hour and unit of the limit.
        name: String,
    },
    /// Nothing but the time of the record: so the highest time seen is known when little happens.
    Clock {
        /// Whether the operator put the clock back to it: what was seen before counts no more.
        accepted: bool,
    },
}

/// A decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionEntry {
    /// The decision.
    pub decision: DecisionId,
    /// Who asked.
    pub merchant: MerchantId,
    /// What for.
    pub operation: Operation,
    /// How much, in fen; 0 where no amount is concerned or none was read.
    pub amount_fen: u64,
    /// Name of the reason for which it was refused; `None` where it was admitted.
    pub refused: Option<Name>,
    /// The limit that refused it, and its window; `None` for the window of a single transaction.
    pub limit: Option<(Name, Option<Window>)>,
    /// Whether an earlier decision on the same order was found.
    pub duplicate: bool,
    /// Ids of the shadow limits that would have refused it.
    pub shadowed: SmallVec<[Name; 1]>,
    /// The nonce that it used up.
    pub nonce: Option<NonceEntry>,
    /// The order as it is after the decision.
    pub order: Option<Image>,
}

/// A nonce that was used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NonceEntry {
    /// Keyed digest of merchant, key id and nonce.
    pub key: u128,
    /// Digest of the signed request.
    pub digest: u128,
    /// The last second in which the nonce is refused, since 1970.
    pub end_s: i64,
}

/// What became of orders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeEntry {
    /// What happened.
    pub cause: Cause,
    /// The orders as they are since, at most [`IMAGES_MAX`].
    pub orders: SmallVec<[Image; 1]>,
}

/// Why orders changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The answer to a request said so.
    Answer,
    /// The operator said so, or a settle call.
    Call,
    /// A hold ran out.
    Expiry,
}

/// An order, and what its decision charges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image<S = ImageStake> {
    /// The decision that holds the order number.
    pub decision: DecisionId,
    /// 64 bits of a keyed digest of the order number: its place in the table.
    pub key: u64,
    /// 64 more bits, that tell it from others in that place.
    pub check: u64,
    /// Digest of what matters of the request.
    pub digest: u128,
    /// Whose order it is.
    pub merchant: MerchantId,
    /// How often the order was recorded, this time included; the first image has 1.
    pub revision: u32,
    /// What became of it.
    pub phase: ImagePhase,
    /// Whether what it charges stays when its hold runs out.
    pub keep_on_expiry: bool,
    /// What the decider noted.
    pub note: u8,
    /// Its amount, in fen.
    pub amount_fen: u64,
    /// What was refunded of it, in fen.
    pub refunded_fen: u64,
    /// When it was bound, while it is held; when it was settled, after that. Seconds since 1970.
    pub since_s: u32,
    /// When its hold runs out, in seconds since 1970.
    pub expires_s: u32,
    /// What it has at stake.
    pub stake: S,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImagePhase {
    /// The outcome is open.
    Held,
    /// The money moved.
    Committed,
    /// The hold ran out and nothing is charged.
    Expired,
    /// It was taken back: nothing is charged, the number is free.
    Released,
}

/// What an order has at stake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageStake {
    /// A payment.
    Payment(SmallVec<[RowPart; 4]>),
    /// A refund.
    Refund {
        /// The decision on the payment, where the gate knows it.
        original: Option<DecisionId>,
        /// The amount, in fen.
        fen: u64,
    },
}

/// What a payment charged to one row of a limit, and what of it is charged still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowPart {
    /// The row: the key of limit and subject with the bit that says which of its two rows.
    pub row: u128,
    /// The label of the row's limit, see [`Entry::Label`]; zero where this record does not know it.
    pub label: u32,
    /// The tag of the charge.
    pub tag: u16,
    /// Whether the row counts payments, and not fen.
    pub counts: bool,
    /// The windows of the two cells in which it was charged; [`NO_WINDOW`] for a cell that was not.
    pub windows: [u16; 2],
    /// What is charged to each of these cells now, in the row's unit: zero once it was given back.
    pub charged: u64,
}

impl Image {
    /// Visits the rows that something is charged to.
    pub fn charged(&self) -> impl Iterator<Item = &RowPart> {
        let parts = match &self.stake {
            ImageStake::Payment(parts) => parts.as_slice(),
            ImageStake::Refund { .. } => &[],
        };
        parts.iter().filter(|part| part.charged > 0)
    }
}

/// A record as it lies in its bytes: what [`Entry`] says, without memory of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryView<'b> {
    /// As [`Entry::Decision`].
    Decision(DecisionView<'b>),
    /// As [`Entry::Change`].
    Change {
        /// What happened.
        cause: Cause,
        /// The orders as they are since.
        orders: SmallVec<[RawImage<'b>; 1]>,
    },
    /// As [`Entry::Label`].
    Label {
        /// The number, from one.
        label: u32,
        /// Id, zone, cut-over hour and unit of the limit.
        name: &'b str,
    },
    /// As [`Entry::Clock`].
    Clock {
        /// Whether the operator put the clock back to it.
        accepted: bool,
    },
}

/// A decision as it lies in its bytes; as [`DecisionEntry`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionView<'b> {
    /// The decision.
    pub decision: DecisionId,
    /// Who asked.
    pub merchant: MerchantId,
    /// What for.
    pub operation: Operation,
    /// How much, in fen.
    pub amount_fen: u64,
    /// Name of the reason for which it was refused.
    pub refused: Option<&'b str>,
    /// The limit that refused it, and its window.
    pub limit: Option<(&'b str, Option<Window>)>,
    /// Whether an earlier decision on the same order was found.
    pub duplicate: bool,
    /// Ids of the shadow limits that would have refused it.
    pub shadowed: TextsView<'b>,
    /// The nonce that it used up.
    pub nonce: Option<NonceEntry>,
    /// The order as it is after the decision.
    pub order: Option<RawImage<'b>>,
}

/// Some texts as they lie in their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextsView<'b> {
    pub(super) count: u8,
    /// Begins with the first of them.
    pub(super) bytes: &'b [u8],
}

/// An image, and the bytes that it lies in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawImage<'b> {
    /// All of its bytes.
    pub bytes: &'b [u8],
    /// What they say.
    pub image: ImageView<'b>,
}

/// An image whose rows lie in its bytes.
pub type ImageView<'b> = Image<StakeView<'b>>;

/// As [`ImageStake`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StakeView<'b> {
    /// A payment.
    Payment(PartsView<'b>),
    /// A refund.
    Refund {
        /// The decision on the payment, where the gate knows it.
        original: Option<DecisionId>,
        /// The amount, in fen.
        fen: u64,
    },
}

/// The rows that a payment charged, as they lie in their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartsView<'b>(pub(super) &'b [u8]);

impl<'b> ImageView<'b> {
    /// Visits the rows that something is charged to.
    pub fn charged(&self) -> impl Iterator<Item = RowPart> + use<'b> {
        let parts = match self.stake {
            StakeView::Payment(parts) => Some(parts),
            StakeView::Refund { .. } => None,
        };
        parts.into_iter().flat_map(PartsView::iter).filter(|part| part.charged > 0)
    }
}

impl ImageView<'_> {
    /// Returns how many rows the image names.
    pub const fn parts(&self) -> usize {
        match self.stake {
            StakeView::Payment(PartsView(parts)) => parts.len() / PART_BYTES,
            StakeView::Refund { .. } => 0,
        }
    }
}

impl EntryView<'_> {
    /// Returns what is not counted where the record is not, in fen: what a decision charges. A refusal charges nothing.
    pub fn fen(&self) -> u64 {
        match self {
            Self::Decision(decision) if decision.refused.is_none() => decision.amount_fen,
            Self::Decision(_) | Self::Change { .. } | Self::Label { .. } | Self::Clock { .. } => 0,
        }
    }
}

/// A short name in a record: of a limit, or of a reason.
pub type Name = std::sync::Arc<str>;

/// The window id of a cell that was not charged.
pub const NO_WINDOW: u16 = u16::MAX;

/// Bytes of a row in an image.
pub(super) const PART_BYTES: usize = 16 + 4 + 2 + 1 + 2 * 2 + 8;

/// Most orders in one record: a refund's, its payment's, and one to spare.
pub const IMAGES_MAX: usize = 3;

/// Most rows of one image: as many as a decision charges cells.
pub const PARTS_MAX: usize = 64;
