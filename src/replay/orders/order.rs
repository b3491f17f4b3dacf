//! What is known under one order number, and what it may become. HOT.
//!
//! ```text
//! Deciding --> Held --> Committed       Held <-- Committed: taken back with a forward in flight
//!               |           ^
//!               |           | late
//!               '------> Expired        Held, Committed, Expired --> Released
//! ```
//! Where releases must be recorded before they act, an order is [`State::Leaving`] on its way to Released.

use std::sync::Arc;

use super::bound::{OnExpiry, Outcome, Terms};
use super::image::OrderImage;
use super::settle::PaidRule;
use super::view::OrderState;
use crate::share::Share;

/// What is known under one order number.
pub(super) struct Order<C> {
    /// Bytes, since a `u128` would align the whole to 16.
    digest: [u8; 16],
    /// Tells the number from others with the same key.
    check: u64,
    pub share: Arc<Share>,
    pub state: State<C>,
}

/// How far an order is.
pub(super) enum State<C> {
    /// The decision is in flight; only the [`Bound`](super::Bound) that made the entry changes or removes it.
    Deciding { bound_s: u32 },
    /// A decision holds the number.
    Decided(Decided<C>),
    /// The decision was taken back and its charges are out; the number is free once that is recorded for good.
    Leaving(Left),
    /// The decision was taken back and its charges are out; the number is free.
    Released { random: u64, since_s: u32 },
}

/// What is known of an order that leaves.
#[derive(Clone, Copy)]
pub(super) struct Left {
    pub random: u64,
    pub since_s: u32,
    pub revision: u32,
    pub amount_fen: u64,
    pub refunded_fen: u64,
}

/// A decision and what became of its forwards.
pub(super) struct Decided<C> {
    /// The high half of the decision's id.
    pub random: u64,
    pub charges: C,
    pub amount_fen: u64,
    pub refunded_fen: u64,
    /// When the order was bound, while it is held; when it was settled, after that.
    pub since_s: u32,
    pub expires_s: u32,
    /// How often the order was shown to be recorded.
    pub revision: u32,
    /// Forwards not settled yet.
    forwards: u16,
    /// What the decider wants to find again with the decision.
    pub note: u8,
    pub phase: Phase,
    /// Whether a forward succeeded, or might have: then refusals of others give nothing back.
    kept: bool,
    pub on_expiry: OnExpiry,
}

/// What became of a decision that holds its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The outcome is open.
    Held,
    /// The money moved.
    Committed,
    /// The hold ran out and the charges are out.
    Expired,
}

/// An order that answers to a decision's id.
pub(super) enum Known<'a, C> {
    Decided(&'a mut Decided<C>),
    Released,
}

/// What the end of a forward comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settling {
    Stays,
    Ends,
    Late,
}

/// What a commit comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Committing {
    Now,
    Already,
    Late,
}

/// What a release comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Releasing {
    Ends,
    /// Its charges are out already.
    Closes,
    Pending,
    Conflict,
}

impl<C> Order<C> {
    pub const fn new(digest: u128, check: u64, share: Arc<Share>, bound_s: u32) -> Self {
        Self { digest: digest.to_ne_bytes(), check, share, state: State::Deciding { bound_s } }
    }

    /// Puts an order back.
    pub const fn restored(digest: u128, check: u64, share: Arc<Share>, state: State<C>) -> Self {
        Self { digest: digest.to_ne_bytes(), check, share, state }
    }

    /// Tells whether the order has the number that `check` belongs to.
    pub const fn has(&self, check: u64) -> bool {
        self.check == check
    }

    /// Tells whether the order was bound by the request that `digest` stands for.
    pub fn is_of(&self, digest: u128) -> bool {
        self.digest == digest.to_ne_bytes()
    }

    /// Returns what tells the order's number from others with the same key.
    pub const fn check(&self) -> u64 {
        self.check
    }

    /// Returns what stands for the request that bound the order.
    pub const fn digest(&self) -> u128 {
        u128::from_ne_bytes(self.digest)
    }

    /// Returns what became of the decision that `random` belongs to; `None` where the order knows another one or none.
    pub fn known(&mut self, random: u64) -> Option<Known<'_, C>> {
        match &mut self.state {
            State::Decided(decided) if decided.random == random => Some(Known::Decided(decided)),
            State::Leaving(Left { random: released, .. }) | State::Released { random: released, .. }
                if *released == random =>
            {
                Some(Known::Released)
            }
            State::Deciding { .. } | State::Decided(_) | State::Leaving(_) | State::Released { .. } => None,
        }
    }

    /// Returns the high half of the id of the last decision on the order; `None` while it is being made.
    pub const fn random(&self) -> Option<u64> {
        match &self.state {
            State::Deciding { .. } => None,
            State::Decided(Decided { random, .. })
            | State::Leaving(Left { random, .. })
            | State::Released { random, .. } => Some(*random),
        }
    }
}

impl Phase {
    /// Returns what is shown of it.
    pub const fn shown(self) -> OrderState {
        match self {
            Self::Held => OrderState::Held,
            Self::Committed => OrderState::Committed,
            Self::Expired => OrderState::Expired,
        }
    }
}

impl<C> Decided<C> {
    /// Makes a hold whose first forward is in flight.
    pub fn new(random: u64, terms: Terms<C>, bound_s: u32) -> Self {
        let Terms { charges, note, amount_fen, expires_s, on_expiry } = terms;
        Self {
            random,
            charges,
            amount_fen,
            refunded_fen: 0,
            since_s: bound_s,
            expires_s: seconds(expires_s),
            revision: 0,
            forwards: 1,
            note,
            phase: Phase::Held,
            kept: false,
            on_expiry,
        }
    }

    /// Puts an order back as it was recorded. What its forwards came to nobody knows: it is not given back because others
    /// are refused.
    pub fn restored(image: &OrderImage<C>, charges: C) -> Option<Self> {
        let phase = match image.state {
            OrderState::Held => Phase::Held,
            OrderState::Committed => Phase::Committed,
            OrderState::Expired => Phase::Expired,
            OrderState::Released => return None,
        };
        let OrderImage { amount_fen, refunded_fen, since_s, expires_s, revision, note, on_expiry, .. } = *image;
        let random = image.random();
        let (forwards, kept) = (0, true);
        Some(Self {
            random,
            charges,
            amount_fen,
            refunded_fen,
            since_s,
            expires_s,
            revision,
            forwards,
            note,
            phase,
            kept,
            on_expiry,
        })
    }

    /// Counts another forward; `false` where too many are in flight.
    #[must_use]
    pub const fn forward(&mut self) -> bool {
        match self.forwards.checked_add(1) {
            Some(forwards) => {
                self.forwards = forwards;
                true
            }
            None => false,
        }
    }

    /// Settles one forward.
    pub fn settle(&mut self, outcome: Outcome, now_s: u32) -> Settling {
        let last = self.end_forward(outcome);
        match outcome {
            Outcome::Done => match self.commit(now_s) {
                Committing::Now | Committing::Already => Settling::Stays,
                Committing::Late => Settling::Late,
            },
            Outcome::Refused if last && !self.kept && self.phase == Phase::Held => Settling::Ends,
            Outcome::Created | Outcome::Refused | Outcome::Unknown => Settling::Stays,
        }
    }

    /// Counts one forward as over; tells whether it was the last. What `Done` means beyond that is for the caller.
    pub fn end_forward(&mut self, outcome: Outcome) -> bool {
        match outcome {
            Outcome::Created | Outcome::Unknown => self.kept = true,
            Outcome::Done | Outcome::Refused => {}
        }
        let left = self.forwards.checked_sub(1);
        debug_assert!(left.is_some(), "more forwards settled than made");
        // Saturating: were the assertion wrong, keeping the order is the safe side.
        self.forwards = left.unwrap_or(0);
        left == Some(0)
    }

    /// Commits, however many forwards are in flight.
    pub const fn commit(&mut self, now_s: u32) -> Committing {
        let committing = match self.phase {
            Phase::Held => Committing::Now,
            Phase::Committed => return Committing::Already,
            Phase::Expired => Committing::Late,
        };
        self.enter(Phase::Committed, now_s);
        committing
    }

    /// Takes the order back, or notes that it was while a forward may have passed that on the way.
    pub const fn release(&mut self, paid: PaidRule, now_s: u32) -> Releasing {
        match self.phase {
            Phase::Expired => return Releasing::Closes,
            Phase::Committed if matches!(paid, PaidRule::Refuse) => return Releasing::Conflict,
            Phase::Held | Phase::Committed if self.forwards == 0 => return Releasing::Ends,
            Phase::Held => {}
            // The forward in flight has the last word: the outcome is open again.
            Phase::Committed => self.enter(Phase::Held, now_s),
        }
        self.kept = false;
        Releasing::Pending
    }

    /// Counts a refund of at most `fen`; returns how much of it the order has room for. `None` where nothing is charged.
    pub fn refund(&mut self, fen: u64) -> Option<u64> {
        match self.phase {
            Phase::Held | Phase::Committed => {}
            Phase::Expired => return None,
        }
        let fen = fen.min(self.left_fen());
        self.refunded_fen = self.refunded_fen.saturating_add(fen);
        Some(fen)
    }

    /// Returns what is charged and not refunded. A refund is cut to this, so it is never below zero.
    pub const fn left_fen(&self) -> u64 {
        self.amount_fen.saturating_sub(self.refunded_fen)
    }

    /// Lets a hold last at least until then: another forward of the order may be paid for longer than the first.
    pub fn prolong(&mut self, expires_s: u32) {
        self.expires_s = self.expires_s.max(expires_s);
    }

    /// Ends a hold whose time is over and that has nothing in flight; returns what the end means.
    pub fn expire(&mut self, now_s: u32) -> Option<OnExpiry> {
        if self.phase != Phase::Held || self.forwards != 0 || now_s <= self.expires_s {
            return None;
        }
        let phase = match self.on_expiry {
            OnExpiry::Release => Phase::Expired,
            OnExpiry::Keep => Phase::Committed,
        };
        self.enter(phase, now_s);
        Some(self.on_expiry)
    }

    /// Tells whether the order was settled more than `keep_s` ago and has nothing in flight.
    pub const fn is_past(&self, now_s: u32, keep_s: u32) -> bool {
        match self.phase {
            Phase::Held => false,
            Phase::Committed | Phase::Expired => self.forwards == 0 && is_past(self.since_s, now_s, keep_s),
        }
    }

    const fn enter(&mut self, phase: Phase, now_s: u32) {
        self.phase = phase;
        self.since_s = now_s;
    }
}

/// Tells whether more than `keep_s` passed since.
pub(super) const fn is_past(since_s: u32, now_s: u32, keep_s: u32) -> bool {
    now_s > since_s.saturating_add(keep_s)
}

/// Cuts seconds since 1970 to 32 bits: they last until 2106, and a hold until then or later does not expire.
pub(super) fn seconds(seconds: i64) -> u32 {
    u32::try_from(seconds.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hold(expires_s: i64, on_expiry: OnExpiry) -> Decided<()> {
        let terms = Terms { charges: (), note: 0, amount_fen: 100, expires_s, on_expiry };
        Decided::new(1, terms, 10)
    }

    #[test]
    fn done_after_expiry_is_late_once() {
        let mut decided = hold(20, OnExpiry::Release);
        decided.end_forward(Outcome::Unknown);
        assert_eq!(decided.expire(21), Some(OnExpiry::Release));
        // The table refuses such forwards; were one to come, its success must not be lost.
        assert!(decided.forward() && decided.forward());
        assert_eq!(decided.settle(Outcome::Done, 30), Settling::Late);
        assert_eq!((decided.settle(Outcome::Done, 31), decided.commit(32)), (Settling::Stays, Committing::Already));
        assert_eq!((decided.phase, decided.since_s), (Phase::Committed, 30));
    }

    #[test]
    fn times_beyond_32_bits_never_come() {
        assert_eq!((seconds(-1), seconds(0), seconds(5), seconds(i64::MAX)), (0, 0, 5, u32::MAX));
        let mut decided = hold(i64::MAX, OnExpiry::Release);
        decided.end_forward(Outcome::Created);
        assert_eq!(decided.expire(u32::MAX), None);
        assert!(!is_past(u32::MAX - 5, u32::MAX, 10));
    }

    #[test]
    fn forwards_are_bounded() {
        let mut decided = hold(20, OnExpiry::Release);
        let more = (0..u32::from(u16::MAX)).take_while(|_| decided.forward()).count();
        assert_eq!((more, decided.forward()), (usize::from(u16::MAX) - 1, false));
        let ended = (1..u32::from(u16::MAX)).filter(|_| decided.settle(Outcome::Refused, 0) == Settling::Ends).count();
        assert_eq!((ended, decided.settle(Outcome::Refused, 0)), (0, Settling::Ends));
    }
}
