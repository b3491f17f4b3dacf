//! Signed orders for a gate that lives as long as they last, and then another one.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tollgate::admission::{Batch, Decision, Engine, Outcome};
use tollgate::reason::Reason;

use super::gate;
use crate::ratios::orders::{NOW, Order, Signer};
use crate::ratios::{RatioError, Size};

/// The orders, and the gate that decides them.
pub(super) struct Pool {
    signers: Vec<Signer>,
    /// Those decided before, then as many others.
    orders: Vec<Order>,
    /// The first that is still to be decided.
    next: usize,
    nonces: usize,
    engine: Engine,
    batch: Batch<'static>,
}

impl Pool {
    /// Signs the orders.
    pub(super) fn new(size: Size) -> Result<Self, RatioError> {
        let (count, nonces) = match size {
            Size::Full => (1 << 13, 1 << 16),
            Size::Smoke => (1 << 5, 1 << 8),
        };
        let signers = Signer::several(2)?;
        let orders = Order::several(&signers, 2 * count)?;
        let engine = gate::engine(&signers, nonces)?;
        let mut pool = Self { signers, orders, next: count, nonces, engine, batch: Batch::new() };
        pool.decide_before()?;
        Ok(pool)
    }

    /// Decides the next so many orders together; returns how long that took.
    pub(super) fn decide(&mut self, size: usize) -> Result<Duration, RatioError> {
        if self.next + size > self.orders.len() {
            self.engine = gate::engine(&self.signers, self.nonces)?;
            self.decide_before()?;
        }
        let orders = self.orders.get(self.next..self.next + size).unwrap_or_default();
        self.next += size;
        black_box(orders.iter().map(Order::read).sum::<usize>());
        let mut batch = std::mem::take(&mut self.batch).recycle();
        orders.iter().for_each(|order| batch.push(order.request()));
        let began = Instant::now();
        self.engine.decide(&mut batch, NOW);
        let took = began.elapsed();
        let mut admitted = 0;
        for decision in batch.drain() {
            match decision {
                Decision::Admitted(admission) => admission.settle(Outcome::Done),
                Decision::Refused(_) => continue,
            }
            admitted += 1;
        }
        RatioError::check(admitted == size, "an order was refused")?;
        self.batch = batch.recycle();
        Ok(took)
    }

    /// Returns the orders that were decided last.
    pub(super) fn decided(&self, size: usize) -> &[Order] {
        self.orders.get(self.next.saturating_sub(size)..self.next).unwrap_or_default()
    }

    /// Returns the merchants.
    pub(super) fn signers(&self) -> &[Signer] {
        &self.signers
    }

    /// An order that was changed after it was signed is refused.
    pub(super) fn refuse_forged(&mut self) -> Result<(), RatioError> {
        let forged = self.orders.first().ok_or(RatioError::Wrong("no orders"))?.forged();
        let mut batch = Batch::new();
        batch.push(forged.request());
        self.engine.decide(&mut batch, NOW);
        let refused = batch.drain().all(|decision| match decision {
            Decision::Admitted(_) => false,
            Decision::Refused(refusal) => refusal.reason == Reason::SignatureInvalid,
        });
        RatioError::check(refused, "a forged order was not refused for its signature")
    }

    /// Brings the gate to where it is after some time: its tables have grown to what they will hold.
    fn decide_before(&mut self) -> Result<(), RatioError> {
        self.next = self.orders.len() / 2;
        let mut batch = std::mem::take(&mut self.batch).recycle();
        self.orders.iter().take(self.next).for_each(|order| batch.push(order.request()));
        self.engine.decide(&mut batch, NOW);
        // Held together until here, as many as will be held later; then all is given back.
        let decisions: Vec<_> = batch.drain().collect();
        let admitted = decisions.iter().filter(|decision| matches!(decision, Decision::Admitted(_))).count();
        self.batch = batch.recycle();
        RatioError::check(admitted == self.next, "an order was refused")
    }
}
