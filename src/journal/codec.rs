//! How an [`Entry`] is written, byte by byte. HOT where it writes.
//!
//! All integers are little-endian. `text` is one byte of length and so many bytes of UTF-8.
//!
//! | entry | bytes |
//! | --- | --- |
//! | decision | `1`, flags `u8` (1 duplicate, 2 refused, 4 limit, 8 limit's window, 16 nonce, 32 order), operation `text`, merchant `text`, decision `u128`, fen `u64`; the reason `text` where refused; the limit `text` and its window `u8` (position in [`Window::ALL`]) where flagged; nonce: key `u128`, digest `u128`, last second `i64`; how many shadow limits `u8`, each `text`; the order as an image |
//! | change | `2`, cause `u8` (1 answer, 2 call, 3 expiry), how many images `u8`, the images |
//! | label | `3`, number `u32`, name `text` |
//! | clock | `4`, accepted `u8` (0 or 1) |
//!
//! | image | bytes |
//! | --- | --- |
//! | order | decision `u128`, key `u64`, check `u64`, digest `u128`, merchant `text`, revision `u32`, phase `u8` (1 held, 2 committed, 3 expired, 4 released), keep on expiry `u8`, note `u8`, fen `u64`, refunded fen `u64`, since `u32`, expires `u32` |
//! | payment | `1`, how many rows `u8`; a row: key `u128`, label `u32`, tag `u16`, counts `u8`, windows 2 times `u16`, charged `u64` |
//! | refund | `2`, whether the payment is known `u8`, its decision `u128`, fen `u64` |

mod read;

use super::entry::{
    Cause, ChangeEntry, DecisionEntry, Entry, IMAGES_MAX, Image, ImagePhase, ImageStake, NonceEntry, PART_BYTES,
    PARTS_MAX, RowPart,
};
use crate::types::DecisionId;

/// The bytes of a record are not those of an entry: written by a later version, or by none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record does not read as one that this version writes")]
pub struct Unreadable;

impl DecisionEntry {
    /// Appends the bytes of the entry.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let Self { decision, merchant, operation, amount_fen, refused, limit, duplicate, shadowed, nonce, order } =
            self;
        let window = limit.as_ref().and_then(|(_, window)| *window);
        let flags =
            [*duplicate, refused.is_some(), limit.is_some(), window.is_some(), nonce.is_some(), order.is_some()];
        let flags = flags.into_iter().rev().fold(0, |flags, flag| flags << 1 | u8::from(flag));
        bytes.extend_from_slice(&[DECISION, flags]);
        text(bytes, operation.as_str());
        text(bytes, merchant.as_str());
        bytes.extend_from_slice(&decision.0.to_le_bytes());
        bytes.extend_from_slice(&amount_fen.to_le_bytes());
        refused.iter().for_each(|reason| text(bytes, reason));
        limit.iter().for_each(|(id, _)| text(bytes, id));
        bytes.extend(window.map(|window| window as u8));
        if let Some(NonceEntry { key, digest, end_s }) = nonce {
            bytes.extend_from_slice(&key.to_le_bytes());
            bytes.extend_from_slice(&digest.to_le_bytes());
            bytes.extend_from_slice(&end_s.to_le_bytes());
        }
        let shadowed = shadowed.get(..SHADOWED_MAX).unwrap_or(shadowed);
        bytes.push(count(shadowed.len()));
        shadowed.iter().for_each(|id| text(bytes, id));
        order.iter().for_each(|order| order.write(bytes));
    }
}

impl ChangeEntry {
    /// Appends the bytes of the entry.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let cause = match self.cause {
            Cause::Answer => 1,
            Cause::Call => 2,
            Cause::Expiry => 3,
        };
        let orders = self.orders.get(..IMAGES_MAX).unwrap_or(&self.orders);
        bytes.extend_from_slice(&[CHANGE, cause, count(orders.len())]);
        orders.iter().for_each(|order| order.write(bytes));
    }
}

impl Image {
    /// Appends the bytes of the image.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        let phase = match self.phase {
            ImagePhase::Held => 1,
            ImagePhase::Committed => 2,
            ImagePhase::Expired => 3,
            ImagePhase::Released => 4,
        };
        bytes.extend_from_slice(&self.decision.0.to_le_bytes());
        bytes.extend_from_slice(&self.key.to_le_bytes());
        bytes.extend_from_slice(&self.check.to_le_bytes());
        bytes.extend_from_slice(&self.digest.to_le_bytes());
        text(bytes, self.merchant.as_str());
        bytes.extend_from_slice(&self.revision.to_le_bytes());
        bytes.extend_from_slice(&[phase, u8::from(self.keep_on_expiry), self.note]);
        bytes.extend_from_slice(&self.amount_fen.to_le_bytes());
        bytes.extend_from_slice(&self.refunded_fen.to_le_bytes());
        bytes.extend_from_slice(&self.since_s.to_le_bytes());
        bytes.extend_from_slice(&self.expires_s.to_le_bytes());
        match &self.stake {
            ImageStake::Payment(parts) => {
                let parts = parts.get(..PARTS_MAX).unwrap_or(parts);
                bytes.extend_from_slice(&[PAYMENT, count(parts.len())]);
                parts.iter().for_each(|part| part.write(bytes));
            }
            ImageStake::Refund { original, fen } => {
                bytes.extend_from_slice(&[REFUND, u8::from(original.is_some())]);
                bytes.extend_from_slice(&original.map_or(0, |DecisionId(id)| id).to_le_bytes());
                bytes.extend_from_slice(&fen.to_le_bytes());
            }
        }
    }
}

impl RowPart {
    fn write(&self, bytes: &mut Vec<u8>) {
        let mut part = [0; PART_BYTES];
        let [first, second] = self.windows.map(u16::to_le_bytes);
        let counts = [u8::from(self.counts)];
        let fields: [&[u8]; 7] = [
            &self.row.to_le_bytes(),
            &self.label.to_le_bytes(),
            &self.tag.to_le_bytes(),
            &counts,
            &first,
            &second,
            &self.charged.to_le_bytes(),
        ];
        let mut places = part.iter_mut();
        fields.iter().flat_map(|field| field.iter()).zip(&mut places).for_each(|(from, to)| *to = *from);
        bytes.extend_from_slice(&part);
    }
}

impl Entry {
    /// Appends the bytes of the entry.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Decision(decision) => decision.write(bytes),
            Self::Change(change) => change.write(bytes),
            Self::Label { label, name } => {
                bytes.push(LABEL);
                bytes.extend_from_slice(&label.to_le_bytes());
                text(bytes, name);
            }
            Self::Clock { accepted } => bytes.extend_from_slice(&[CLOCK, u8::from(*accepted)]),
        }
    }
}

/// Tells whether the bytes of an entry are those of a label.
pub(super) fn is_label(bytes: &[u8]) -> bool {
    bytes.first() == Some(&LABEL)
}

/// Appends a text, cut to what one byte of length can say: ids and names are shorter.
fn text(bytes: &mut Vec<u8>, text: &str) {
    let text = text.get(..text.floor_char_boundary(usize::from(u8::MAX))).unwrap_or_default();
    bytes.push(count(text.len()));
    bytes.extend_from_slice(text.as_bytes());
}

/// Cuts to a byte what the caller has bounded by less.
fn count(length: usize) -> u8 {
    u8::try_from(length).unwrap_or(u8::MAX)
}

const DECISION: u8 = 1;
const CHANGE: u8 = 2;
const LABEL: u8 = 3;
const CLOCK: u8 = 4;

const PAYMENT: u8 = 1;
const REFUND: u8 = 2;

/// Where in a row it stands whether it counts payments.
const PART_COUNTS_AT: usize = 16 + 4 + 2;

/// Most shadow limits that a record names; those beyond are left out.
const SHADOWED_MAX: usize = 32;

/// Most bytes that an image takes.
pub const IMAGE_BYTES_MAX: usize = 16 + 8 + 8 + 16 + 33 + 4 + 3 + 8 + 8 + 4 + 4 + 2 + PARTS_MAX * PART_BYTES;

/// Most bytes that an entry takes.
pub const ENTRY_BYTES_MAX: usize =
    2 + 16 + 33 + 16 + 8 + 256 + 257 + 40 + 1 + SHADOWED_MAX * 256 + IMAGES_MAX * IMAGE_BYTES_MAX;
const _: () = assert!(ENTRY_BYTES_MAX < 1 << 16, "an entry fits a frame of the journal");

#[cfg(test)]
mod tests;
