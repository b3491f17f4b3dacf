//! What is recorded of decisions and of what becomes of orders, and what waits until it is recorded for good.
//!
//! What is taken is taken first and recorded then; what is given back is recorded first, and given back once no loss of
//! power can take the record. So whatever a crash leaves of the journal, what it shows as used is never less than what
//! was acknowledged, and never more than there was room for.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::books::{Books, Stake};
use crate::journal::{
    Cause, ChangeEntry, Fault, Image, ImagePhase, ImageStake, Log, NO_WINDOW, Position, RowPart, Watermark,
};
use crate::merchant::Coverage;
use crate::quota::{self, Charges, Demand, Lane, Part, Table};
use crate::replay::{OnExpiry, OrderImage, OrderRef, OrderState, Orders};
use crate::time::UnixMillis;
use crate::types::Unit;

/// What all who record in a gate share.
pub struct Recording {
    watermark: Arc<dyn Watermark>,
    /// By writer, what waits for its records, oldest first.
    waiting: Mutex<Vec<VecDeque<(Position, After)>>>,
    highest_ms: AtomicI64,
    /// The time that was recorded last by itself.
    recorded_ms: AtomicI64,
    step_back_ms_max: i64,
    reserve_bytes: usize,
}

/// The bounds of recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordingBounds {
    /// The most that the clock may be behind the highest time ever recorded, in milliseconds: further behind, nothing is
    /// decided.
    pub step_back_ms_max: u32,
    /// Room that decisions leave in the journal for what becomes of orders, in bytes.
    pub reserve_bytes: usize,
}

/// What is done once a record is safe.
#[derive(Debug)]
pub(super) enum After {
    /// Gives charges back.
    GiveBack(Charges),
    /// Frees the number of an order.
    Leave(OrderRef),
}

/// Where one worker records.
#[derive(Clone)]
pub(super) struct Recorder {
    pub log: Arc<Log>,
    pub gate: Arc<Recording>,
}

/// What one event changes.
#[derive(Debug)]
pub(super) struct Change {
    cause: Cause,
    touched: SmallVec<[OrderRef; 2]>,
    after: SmallVec<[After; 2]>,
}

impl Recording {
    /// Starts where a recovery left off: with the highest time that was ever recorded.
    pub fn new(watermark: Arc<dyn Watermark>, highest: UnixMillis, bounds: RecordingBounds) -> Self {
        let RecordingBounds { step_back_ms_max, reserve_bytes } = bounds;
        Self {
            watermark,
            waiting: Mutex::default(),
            highest_ms: AtomicI64::new(highest.0),
            recorded_ms: AtomicI64::new(highest.0),
            step_back_ms_max: step_back_ms_max.into(),
            reserve_bytes,
        }
    }

    /// Tells what is safe.
    pub fn watermark(&self) -> &Arc<dyn Watermark> {
        &self.watermark
    }

    /// Returns the room that so many decisions need.
    pub(super) fn room_for(&self, decisions: usize) -> usize {
        decisions.saturating_mul(CHANGE_BYTES_MAX).saturating_add(self.reserve_bytes)
    }

    /// Notes the time; `false` where it is further behind the highest one seen than a clock may step back.
    pub fn note(&self, now: UnixMillis) -> bool {
        // Relaxed: the time publishes nothing but itself.
        let highest_ms = self.highest_ms.load(Ordering::Relaxed);
        if now.0 > highest_ms {
            self.highest_ms.fetch_max(now.0, Ordering::Relaxed);
        }
        now.0 >= highest_ms.saturating_sub(self.step_back_ms_max)
    }

    /// Returns the highest time noted.
    pub fn highest(&self) -> UnixMillis {
        UnixMillis(self.highest_ms.load(Ordering::Relaxed))
    }

    pub(super) fn recorded(&self) -> UnixMillis {
        UnixMillis(self.recorded_ms.load(Ordering::Relaxed))
    }

    pub(super) fn set_recorded(&self, at: UnixMillis) {
        self.recorded_ms.store(at.0, Ordering::Relaxed);
    }

    /// Takes this for the highest time, whatever was noted before.
    pub(super) fn accept(&self, now: UnixMillis) {
        self.highest_ms.store(now.0, Ordering::Relaxed);
    }

    pub(super) fn defer(&self, position: Position, after: impl Iterator<Item = After>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = usize::from(position.writer);
        if waiting.len() <= writer {
            waiting.resize_with(writer + 1, VecDeque::new);
        }
        if let Some(waiting) = waiting.get_mut(writer) {
            waiting.extend(after.map(|after| (position, after)));
        }
    }

    /// Does what waited for records that are safe by now. Whoever returns from here finds it done: it is done under the lock.
    pub(super) fn settle_ripe(&self, books: &Books) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for waiting in waiting.iter_mut() {
            while let Some((_, after)) = waiting.pop_front_if(|(position, _)| self.watermark.covers(*position)) {
                after.act(&books.table, &books.orders, books.lane);
            }
        }
    }

    /// Waits until all is safe that something waits for now, and does that.
    pub(super) fn settle_all(&self, books: &Books) -> Result<(), Fault> {
        let last = |waiting: &VecDeque<(Position, After)>| waiting.back().map(|(position, _)| *position);
        let waiting: Vec<Position> =
            self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().filter_map(last).collect();
        waiting.into_iter().try_for_each(|position| self.watermark.wait(position))?;
        self.settle_ripe(books);
        Ok(())
    }

    /// Returns how much waits.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().map(VecDeque::len).sum()
    }
}

impl After {
    fn act(&self, table: &Table, orders: &Orders<Stake>, lane: Lane) {
        match self {
            Self::GiveBack(charges) => table.give_back(lane, charges),
            Self::Leave(order) => orders.leave(*order),
        }
    }
}

impl Change {
    /// Tells whether somebody asked for the change by name, and is told that it is made.
    pub fn is_call(&self) -> bool {
        self.cause == Cause::Call
    }

    /// Notes that an order has changed.
    pub fn touch(&mut self, order: OrderRef) {
        if !self.touched.contains(&order) {
            self.touched.push(order);
        }
    }

    /// Has charges given back.
    pub fn give_back(&mut self, charges: Charges) {
        if !charges.is_empty() {
            self.after.push(After::GiveBack(charges));
        }
    }

    /// Has the number of an order freed.
    pub fn leave(&mut self, order: OrderRef) {
        self.touch(order);
        self.after.push(After::Leave(order));
    }
}

impl Books {
    /// Makes a change, records it, and does what comes after it: at once where nothing is recorded, else when the record is
    /// safe. Returns the record's end where something waits for that.
    ///
    /// # Errors
    /// [`Fault`]: nothing was changed, or, where the journal failed, nothing will be given back.
    pub fn change<R>(
        &self,
        cause: Cause,
        at: UnixMillis,
        act: impl FnOnce(&mut Change) -> R,
    ) -> Result<(R, Option<Position>), Fault> {
        let mut change = Change { cause, touched: SmallVec::new(), after: SmallVec::new() };
        let Some(Recorder { log, gate }) = &self.recorder else {
            let result = act(&mut change);
            change.after.iter().for_each(|after| after.act(&self.table, &self.orders, self.lane));
            return Ok((result, None));
        };
        let mut turn = log.turn();
        if gate.watermark.has_failed() {
            return Err(Fault::Failed);
        }
        if turn.room_bytes() < CHANGE_BYTES_MAX {
            return Err(Fault::NoRoom);
        }
        let result = act(&mut change);
        let Change { cause, touched, after } = change;
        let orders: SmallVec<_> = touched.iter().filter_map(|order| self.image(*order, &[])).collect();
        if orders.is_empty() {
            after.iter().for_each(|after| after.act(&self.table, &self.orders, self.lane));
            return Ok((result, None));
        }
        turn.change(at, &ChangeEntry { cause, orders })?;
        let position = turn.flush()?;
        drop(turn);
        gate.defer(position, after.into_iter());
        Ok((result, Some(position)))
    }

    /// Shows an order as it is recorded; `demands` tell the limits of its rows. `None` where its decision holds nothing.
    pub fn image(&self, order: OrderRef, demands: &[Demand]) -> Option<Image> {
        let image = self.orders.image(order)?;
        let merchant = image.merchant?;
        let stake = match &image.charges {
            Some(Stake::Payment(charges)) => ImageStake::Payment(row_parts(&image, charges, demands)),
            Some(Stake::Refund { original, fen }) => {
                ImageStake::Refund { original: original.map(|original| original.decision()), fen: *fen }
            }
            None => ImageStake::Payment(SmallVec::new()),
        };
        let OrderImage { decision, key, check, digest, revision, note, amount_fen, refunded_fen, .. } = image;
        Some(Image {
            decision,
            key,
            check,
            digest,
            merchant,
            revision,
            phase: phase(image.state),
            keep_on_expiry: image.on_expiry == OnExpiry::Keep,
            note,
            amount_fen,
            refunded_fen,
            since_s: image.since_s,
            expires_s: image.expires_s,
            stake,
        })
    }
}

/// Returns what is charged of an order, row by row.
fn row_parts(image: &OrderImage<Stake>, charges: &Charges, demands: &[Demand]) -> SmallVec<[RowPart; 4]> {
    let parts = charges.parts().map(|part| RowPart {
        row: part.row,
        label: demands.iter().find(|demand| demand.is_for(&part)).map_or(0, |demand| demand.label),
        tag: part.tag,
        counts: part.unit == Unit::Count,
        windows: part.windows,
        charged: charged(image, &part),
    });
    parts.collect()
}

/// Returns what of a part is charged still: all of it, less what refunds have given back.
fn charged(image: &OrderImage<Stake>, part: &Part) -> u64 {
    match image.state {
        OrderState::Held | OrderState::Committed => {}
        OrderState::Expired | OrderState::Released => return 0,
    }
    let left_fen = if image.refunded_fen > 0 && Coverage::from_bits(part.tag).returns() {
        image.amount_fen.saturating_sub(image.refunded_fen)
    } else {
        image.amount_fen
    };
    match part.unit {
        Unit::Fen => left_fen,
        Unit::Count => u64::from(left_fen > 0),
    }
}

const fn phase(state: OrderState) -> ImagePhase {
    match state {
        OrderState::Held => ImagePhase::Held,
        OrderState::Committed => ImagePhase::Committed,
        OrderState::Expired => ImagePhase::Expired,
        OrderState::Released => ImagePhase::Released,
    }
}

/// Most bytes that the record of a change takes, its frame included.
pub(super) const CHANGE_BYTES_MAX: usize = crate::journal::ENTRY_BYTES_MAX;

const _: () = assert!(NO_WINDOW == quota::NO_WINDOW, "a cell that was not charged is recorded as one");
