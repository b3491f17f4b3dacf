//! What became of orders otherwise than by the answer to their request: counted, and the last of it kept for the operator.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::settle::{Event, Settlement};

/// Counts settlements and keeps the last ones. They are rare: expiries, calls of the operator, late commits.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    recent: Mutex<VecDeque<Settlement>>,
    events: [Tally; Event::ALL.len()],
}

#[derive(Debug, Default)]
struct Tally {
    orders: AtomicU64,
    fen: AtomicU64,
}

/// How often something became of an order, and of how much money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventCount {
    /// What.
    pub event: Event,
    /// Of how many orders.
    pub orders: u64,
    /// Their amounts, in fen.
    pub fen: u64,
}

impl Ledger {
    /// Notes a settlement.
    pub fn note(&self, settlement: Settlement) {
        if let Some(tally) = self.events.get(settlement.event as usize) {
            // Relaxed, here and below: a counter publishes nothing but itself.
            tally.orders.fetch_add(1, Ordering::Relaxed);
            tally.fen.fetch_add(settlement.amount_fen, Ordering::Relaxed);
        }
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() >= SETTLEMENTS_MAX {
            recent.pop_front();
        }
        recent.push_back(settlement);
    }

    /// Returns the last settlements, at most `max`, oldest first.
    pub fn recent(&self, max: usize) -> Vec<Settlement> {
        let recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.iter().skip(recent.len().saturating_sub(max)).copied().collect()
    }

    /// Returns how often each event occurred.
    pub fn counts(&self) -> impl Iterator<Item = EventCount> {
        Event::ALL.iter().zip(&self.events).map(|(event, tally)| EventCount {
            event: *event,
            orders: tally.orders.load(Ordering::Relaxed),
            fen: tally.fen.load(Ordering::Relaxed),
        })
    }
}

/// Most settlements kept.
const SETTLEMENTS_MAX: usize = 4096;
