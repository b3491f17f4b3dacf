//! Reading: a record is looked at where it lies, and an [`Entry`] is made of it only where one is to be kept. HOT where
//! many are read.

use smallvec::SmallVec;

use super::{CHANGE, CLOCK, DECISION, LABEL, PART_BYTES, PART_COUNTS_AT, PAYMENT, REFUND, Unreadable};
use crate::journal::entry::{
    Cause, ChangeEntry, DecisionEntry, DecisionView, Entry, EntryView, Image, ImagePhase, ImageStake, ImageView, Name,
    NonceEntry, PARTS_MAX, PartsView, RawImage, RowPart, StakeView, TextsView,
};
use crate::types::{DecisionId, Window};

impl Entry {
    /// Reads an entry that fills the bytes.
    ///
    /// # Errors
    /// [`Unreadable`] where it does not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        EntryView::from_bytes(bytes).map(Self::from)
    }
}

impl Image {
    /// Reads an image that fills the bytes.
    ///
    /// # Errors
    /// [`Unreadable`] where it does not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Unreadable> {
        RawImage::from_bytes(bytes).map(|raw| raw.image.into())
    }
}

impl<'b> EntryView<'b> {
    /// Reads an entry that fills the bytes.
    ///
    /// # Errors
    /// [`Unreadable`] where it does not.
    pub fn from_bytes(bytes: &'b [u8]) -> Result<Self, Unreadable> {
        let mut bytes = Bytes(bytes);
        Self::read(&mut bytes).filter(|_| bytes.0.is_empty()).ok_or(Unreadable)
    }

    fn read(bytes: &mut Bytes<'b>) -> Option<Self> {
        match bytes.byte()? {
            DECISION => DecisionView::read(bytes).map(Self::Decision),
            CHANGE => {
                let cause = match bytes.byte()? {
                    1 => Cause::Answer,
                    2 => Cause::Call,
                    3 => Cause::Expiry,
                    _ => return None,
                };
                let orders = (0..bytes.byte()?).map(|_| RawImage::read(bytes)).collect::<Option<_>>()?;
                Some(Self::Change { cause, orders })
            }
            LABEL => Some(Self::Label { label: u32::from_le_bytes(bytes.array()?), name: bytes.text()? }),
            CLOCK => Some(Self::Clock { accepted: bytes.truth()? }),
            _ => None,
        }
    }
}

impl<'b> DecisionView<'b> {
    fn read(bytes: &mut Bytes<'b>) -> Option<Self> {
        let flags = bytes.byte()?;
        let has = |flag: u8| flags & flag != 0;
        Some(Self {
            operation: bytes.text()?.parse().ok()?,
            merchant: bytes.text()?.parse().ok()?,
            decision: DecisionId(u128::from_le_bytes(bytes.array()?)),
            amount_fen: u64::from_le_bytes(bytes.array()?),
            duplicate: has(1),
            refused: if has(2) { Some(bytes.text()?) } else { None },
            limit: match (has(4), has(8)) {
                (false, _) => None,
                (true, false) => Some((bytes.text()?, None)),
                (true, true) => Some((bytes.text()?, Some(*Window::ALL.get(usize::from(bytes.byte()?))?))),
            },
            nonce: if has(16) { Some(NonceEntry::read(bytes)?) } else { None },
            shadowed: TextsView::read(bytes)?,
            order: if has(32) { Some(RawImage::read(bytes)?) } else { None },
        })
    }
}

impl NonceEntry {
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            key: u128::from_le_bytes(bytes.array()?),
            digest: u128::from_le_bytes(bytes.array()?),
            end_s: i64::from_le_bytes(bytes.array()?),
        })
    }
}

impl<'b> TextsView<'b> {
    fn read(bytes: &mut Bytes<'b>) -> Option<Self> {
        let count = bytes.byte()?;
        let all = bytes.0;
        for _ in 0..count {
            bytes.text()?;
        }
        Some(Self { count, bytes: all })
    }

    /// Visits the texts.
    pub fn iter(self) -> impl Iterator<Item = &'b str> {
        let mut bytes = Bytes(self.bytes);
        (0..self.count).map_while(move |_| bytes.text())
    }
}

impl<'b> RawImage<'b> {
    /// Reads an image that fills the bytes.
    ///
    /// # Errors
    /// [`Unreadable`] where it does not.
    pub fn from_bytes(bytes: &'b [u8]) -> Result<Self, Unreadable> {
        let mut bytes = Bytes(bytes);
        Self::read(&mut bytes).filter(|_| bytes.0.is_empty()).ok_or(Unreadable)
    }

    fn read(bytes: &mut Bytes<'b>) -> Option<Self> {
        let all = bytes.0;
        let image = ImageView::read(bytes)?;
        let length = all.len().checked_sub(bytes.0.len())?;
        Some(Self { bytes: all.get(..length)?, image })
    }
}

impl<'b> ImageView<'b> {
    fn read(bytes: &mut Bytes<'b>) -> Option<Self> {
        Some(Self {
            decision: DecisionId(u128::from_le_bytes(bytes.array()?)),
            key: u64::from_le_bytes(bytes.array()?),
            check: u64::from_le_bytes(bytes.array()?),
            digest: u128::from_le_bytes(bytes.array()?),
            merchant: bytes.text()?.parse().ok()?,
            revision: u32::from_le_bytes(bytes.array()?),
            phase: match bytes.byte()? {
                1 => ImagePhase::Held,
                2 => ImagePhase::Committed,
                3 => ImagePhase::Expired,
                4 => ImagePhase::Released,
                _ => return None,
            },
            keep_on_expiry: bytes.truth()?,
            note: bytes.byte()?,
            amount_fen: u64::from_le_bytes(bytes.array()?),
            refunded_fen: u64::from_le_bytes(bytes.array()?),
            since_s: u32::from_le_bytes(bytes.array()?),
            expires_s: u32::from_le_bytes(bytes.array()?),
            stake: StakeView::read(bytes)?,
        })
    }
}

impl<'b> StakeView<'b> {
    fn read(bytes: &mut Bytes<'b>) -> Option<Self> {
        match bytes.byte()? {
            PAYMENT => {
                let count = usize::from(bytes.byte()?);
                let (parts, rest) = bytes.0.split_at_checked(count.checked_mul(PART_BYTES)?)?;
                bytes.0 = rest;
                // What else a row says is valid whatever it is.
                let is_valid = |part: &[u8]| part.get(PART_COUNTS_AT).is_some_and(|counts| *counts <= 1);
                (count <= PARTS_MAX && parts.chunks_exact(PART_BYTES).all(is_valid))
                    .then_some(Self::Payment(PartsView(parts)))
            }
            REFUND => {
                let known = bytes.truth()?;
                let original = DecisionId(u128::from_le_bytes(bytes.array()?));
                let fen = u64::from_le_bytes(bytes.array()?);
                Some(Self::Refund { original: known.then_some(original), fen })
            }
            _ => None,
        }
    }
}

impl<'b> PartsView<'b> {
    /// Visits the rows.
    pub fn iter(self) -> impl Iterator<Item = RowPart> + use<'b> {
        self.0.chunks_exact(PART_BYTES).map_while(|part| RowPart::read(&mut Bytes(part)))
    }
}

impl RowPart {
    #[inline]
    fn read(bytes: &mut Bytes<'_>) -> Option<Self> {
        Some(Self {
            row: u128::from_le_bytes(bytes.array()?),
            label: u32::from_le_bytes(bytes.array()?),
            tag: u16::from_le_bytes(bytes.array()?),
            counts: bytes.truth()?,
            windows: [u16::from_le_bytes(bytes.array()?), u16::from_le_bytes(bytes.array()?)],
            charged: u64::from_le_bytes(bytes.array()?),
        })
    }
}

impl From<EntryView<'_>> for Entry {
    fn from(view: EntryView<'_>) -> Self {
        match view {
            EntryView::Decision(decision) => Self::Decision(Box::new(decision.into())),
            EntryView::Change { cause, orders } => {
                let orders = orders.into_iter().map(|raw| raw.image.into()).collect();
                Self::Change(ChangeEntry { cause, orders })
            }
            EntryView::Label { label, name } => Self::Label { label, name: name.to_owned() },
            EntryView::Clock { accepted } => Self::Clock { accepted },
        }
    }
}

impl From<DecisionView<'_>> for DecisionEntry {
    fn from(view: DecisionView<'_>) -> Self {
        let DecisionView { decision, merchant, operation, amount_fen, duplicate, nonce, .. } = view;
        Self {
            decision,
            merchant,
            operation,
            amount_fen,
            refused: view.refused.map(Name::from),
            limit: view.limit.map(|(id, window)| (Name::from(id), window)),
            duplicate,
            shadowed: view.shadowed.iter().map(Name::from).collect(),
            nonce,
            order: view.order.map(|raw| raw.image.into()),
        }
    }
}

impl From<ImageView<'_>> for Image {
    fn from(view: ImageView<'_>) -> Self {
        let ImageView { decision, key, check, digest, merchant, revision, phase, keep_on_expiry, note, .. } = view;
        let ImageView { amount_fen, refunded_fen, since_s, expires_s, stake, .. } = view;
        let stake = match stake {
            StakeView::Payment(parts) => ImageStake::Payment(parts.iter().collect::<SmallVec<_>>()),
            StakeView::Refund { original, fen } => ImageStake::Refund { original, fen },
        };
        Self {
            decision,
            key,
            check,
            digest,
            merchant,
            revision,
            phase,
            keep_on_expiry,
            note,
            amount_fen,
            refunded_fen,
            since_s,
            expires_s,
            stake,
        }
    }
}

/// What is left to be read.
struct Bytes<'b>(&'b [u8]);

impl<'b> Bytes<'b> {
    #[inline]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*first)
    }

    #[inline]
    fn byte(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    fn truth(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    #[inline]
    fn text(&mut self) -> Option<&'b str> {
        let length = usize::from(self.byte()?);
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}
