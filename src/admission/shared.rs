//! What all engines of a gate share: the policy in force and the tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::books::{Books, Stake};
use super::decision::Refusal;
use super::identify::check_head;
use super::ledger::{EventCount, Ledger};
use super::record::{Recorder, Recording};
use super::settle::{Event, SettleAs, SettleFault, Settled, Settlement, State};
use crate::journal::{Cause, Entry, Fault, Image, ImagePhase, Log, Position};
use crate::merchant::{HoldRules, Policy, SettledFacts, Shares};
use crate::prf::{DeploymentKey, Prf};
use crate::quota::Table;
use crate::replay::{NonceBounds, Nonces, ORDERS_PURPOSE, OrderBounds, Orders, PaidRule, RELEASED_KEEP_S};
use crate::request::Request;
use crate::time::UnixMillis;
use crate::types::{DecisionId, MerchantId};

/// What all engines of a gate share.
pub struct Shared {
    pub(super) policy: ArcSwap<Policy>,
    pub(super) nonces: Nonces,
    /// The books as those see them who are no worker.
    pub(super) books: Books,
    pub(super) rows: Prf,
    pub(super) digests: Prf,
    pub(super) tolerance_s: u32,
    pub(super) holds: HoldRules,
    /// Held while a policy is put in force.
    register: Mutex<Register>,
}

/// What must stay the same from policy to policy.
#[derive(Default)]
struct Register {
    /// What each merchant holds of the tables, also of those that are gone: they may come back.
    shares: HashMap<MerchantId, Shares>,
    /// The limits that there ever were, by the label of their rows less one; zero labels none.
    labels: Vec<Arc<str>>,
    /// How many of the labels are recorded.
    recorded: usize,
}

/// What [`Shared`] is made of.
#[derive(Debug)]
pub struct SharedParts {
    /// The first policy.
    pub policy: Policy,
    /// The deployment's secret.
    pub deployment_key: DeploymentKey,
    /// The nonce table; its tolerance is that of freshness too.
    pub nonces: NonceBounds,
    /// The order table.
    pub orders: OrderBounds,
    /// How long orders hold what they took.
    pub holds: HoldRules,
    /// The table of limit rows.
    pub quota: crate::quota::Bounds,
}

impl Shared {
    /// Makes empty tables for a policy. Nothing is recorded.
    pub fn new(parts: SharedParts) -> Self {
        let mut register = Register::default();
        Self::over(parts, None, &mut register).with(register)
    }

    /// Makes empty tables for a policy: what workers decide is recorded in their logs, all else in this one. `labels` are
    /// those that were recorded before, in the order of their numbers from one.
    ///
    /// `sync` makes safe what is written: nobody else does yet.
    ///
    /// # Errors
    /// [`Fault`] where the labels of the policy cannot be recorded.
    pub fn recording(
        parts: SharedParts,
        recording: Arc<Recording>,
        log: Arc<Log>,
        labels: Vec<Arc<str>>,
        sync: &dyn Fn() -> std::io::Result<()>,
    ) -> Result<Self, Fault> {
        let mut register = Register { recorded: labels.len(), labels, ..Register::default() };
        let shared = Self::over(parts, Some(Recorder { log, gate: recording }), &mut register);
        let position = shared.record_labels(&mut register)?;
        if position.is_some() {
            sync().map_err(|_| Fault::Failed)?;
        }
        Ok(shared.with(register))
    }

    fn with(self, register: Register) -> Self {
        Self { register: Mutex::new(register), ..self }
    }

    fn over(parts: SharedParts, recorder: Option<Recorder>, register: &mut Register) -> Self {
        let SharedParts { mut policy, deployment_key, nonces, orders, holds, quota } = parts;
        let table = Arc::new(Table::new(quota));
        register.enter(&mut policy);
        let orders = Orders::new(orders, deployment_key.derive(ORDERS_PURPOSE));
        let orders = if recorder.is_some() { orders.recording() } else { orders };
        Self {
            tolerance_s: nonces.tolerance_s,
            policy: ArcSwap::from_pointee(policy),
            nonces: Nonces::new(nonces, deployment_key.derive("nonces")),
            books: Books {
                lane: table.lane(),
                table,
                orders: Arc::new(orders),
                ledger: Arc::new(Ledger::default()),
                recorder,
            },
            rows: deployment_key.derive("rows"),
            digests: deployment_key.derive("order digests"),
            holds,
            register: Mutex::default(),
        }
    }

    /// Records the labels that are new; until that is safe nothing may be recorded with them, since a number must never come
    /// to mean another limit.
    fn record_labels(&self, register: &mut Register) -> Result<Option<Position>, Fault> {
        let Some(Recorder { log, gate }) = &self.books.recorder else { return Ok(None) };
        if register.recorded == register.labels.len() {
            return Ok(None);
        }
        let new = register.labels.iter().zip(1..).skip(register.recorded);
        let mut turn = log.turn();
        // No time has been seen where nothing was recorded yet.
        let at = gate.highest().max(UnixMillis(0));
        for (name, label) in new {
            turn.entry(at, &Entry::Label { label, name: name.to_string() })?;
        }
        let position = turn.flush()?;
        register.recorded = register.labels.len();
        Ok(Some(position))
    }

    /// Does what waits for records that are safe by now: gives back, and frees order numbers. To be called after each sync.
    pub fn settle_ripe(&self) {
        if let Some(Recorder { gate, .. }) = &self.books.recorder {
            gate.settle_ripe(&self.books);
        }
    }

    /// Waits until all is safe that something waits for now, and does it. May block.
    ///
    /// # Errors
    /// [`Fault::Failed`] where it never will be.
    pub fn settle_all(&self) -> Result<(), Fault> {
        self.books.recorder.as_ref().map_or(Ok(()), |recorder| recorder.gate.settle_all(&self.books))
    }

    /// Returns what is recorded, where anything is.
    pub fn recorder(&self) -> Option<&Arc<Recording>> {
        self.books.recorder.as_ref().map(|recorder| &recorder.gate)
    }

    /// Records the time, so that a later start knows it though nothing was decided. Where `accept`, it counts as the
    /// highest time from here on, also where the clock was ahead of it before.
    ///
    /// # Errors
    /// [`Fault`] where it cannot be recorded; then nothing changes.
    pub fn record_time(&self, now: UnixMillis, accept: bool) -> Result<(), Fault> {
        let Some(Recorder { log, gate }) = &self.books.recorder else { return Ok(()) };
        if !accept && now.0 < gate.recorded().0.saturating_add(RECORDED_EVERY_MS) {
            return Ok(());
        }
        let mut turn = log.turn();
        turn.entry(now, &Entry::Clock { accepted: accept })?;
        let position = turn.flush()?;
        drop(turn);
        if accept {
            gate.watermark().wait(position)?;
            gate.accept(now);
        }
        gate.set_recorded(now);
        Ok(())
    }

    /// Tells whether an order that was recorded is remembered still.
    pub fn is_kept(&self, image: &Image, now: UnixMillis) -> bool {
        let keep_s = match image.phase {
            ImagePhase::Held => return true,
            ImagePhase::Committed | ImagePhase::Expired => self.books.orders.keep_s(),
            ImagePhase::Released => RELEASED_KEEP_S,
        };
        now.seconds() <= i64::from(image.since_s).saturating_add(i64::from(keep_s))
    }

    /// Returns what a merchant holds of the tables, whether or not it is in the policy.
    pub(super) fn shares_of(&self, merchant: MerchantId) -> Shares {
        let mut register = self.register.lock().unwrap_or_else(PoisonError::into_inner);
        register.shares.entry(merchant).or_insert_with(|| Shares::of(merchant)).clone()
    }

    /// Returns the policy in force. Drop it soon: a later call may return another one.
    pub fn policy(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Puts another policy in force, from the next batch on.
    ///
    /// # Errors
    /// [`Fault`] where its labels cannot be recorded: then the old one stays.
    pub fn replace_policy(&self, mut policy: Policy) -> Result<(), Fault> {
        let mut register = self.register.lock().unwrap_or_else(PoisonError::into_inner);
        register.enter(&mut policy);
        if let (Some(position), Some(Recorder { gate, .. })) =
            (self.record_labels(&mut register)?, &self.books.recorder)
        {
            gate.watermark().wait(position)?;
        }
        self.policy.store(Arc::new(policy));
        Ok(())
    }

    /// Refuses what can be told from the head alone, so that a front need not hold the body of a request that has no
    /// chance. What passes is decided by [`Engine::decide`](super::Engine::decide) all the same.
    ///
    /// # Errors
    /// The refusal that [`Engine::decide`](super::Engine::decide) would give.
    pub fn check_head(&self, request: &Request<'_>, now: UnixMillis) -> Result<(), Refusal> {
        check_head(self, &self.policy.load(), request, now)
    }

    /// Frees nonces, orders and rows whose time is over, and ends holds that ran out; a part of each a call. For a background
    /// thread; not HOT.
    pub fn sweep(&self, now: UnixMillis) {
        self.nonces.sweep(now);
        self.books.expire(now);
        self.books.table.reclaim(now);
    }

    /// Settles a decision as the operator says; `facts` free the limits that they rule out. May be called again. Where
    /// decisions are recorded, it waits until this is safe.
    ///
    /// # Errors
    /// [`SettleFault`] where the decision is unknown, or was settled otherwise.
    pub fn settle(
        &self,
        decision: DecisionId,
        settle: SettleAs,
        facts: &SettledFacts,
        now: UnixMillis,
    ) -> Result<Settled, SettleFault> {
        let order = self.books.orders.find(decision).ok_or(SettleFault::Unknown)?;
        let amount_fen = self.books.orders.view_of(order).map_or(0, |view| view.amount_fen);
        let ((settled, position), event) = match settle {
            SettleAs::Commit => (self.books.commit(Cause::Call, order, facts, now)?, Event::Committed),
            SettleAs::Release => (self.books.release(Cause::Call, order, PaidRule::Refuse, now)?, Event::Released),
        };
        if let (Some(position), Some(Recorder { gate, .. })) = (position, &self.books.recorder) {
            gate.watermark().wait(position)?;
            gate.settle_ripe(&self.books);
        }
        // One that waits for a forward was not released yet; a late one is noted where it is charged again.
        if !settled.already && !settled.late && settled.state != State::Pending {
            self.books.ledger.note(Settlement { at: now, decision, amount_fen, event });
        }
        Ok(settled)
    }

    /// Returns the last settlements that no answer made, at most `max`, oldest first.
    pub fn settlements(&self, max: usize) -> Vec<Settlement> {
        self.books.ledger.recent(max)
    }

    /// Returns how often orders were settled otherwise than by an answer.
    pub fn settlement_counts(&self) -> impl Iterator<Item = EventCount> {
        self.books.ledger.counts()
    }

    /// Returns the id of the limit that a row's label stands for.
    pub(super) fn labelled(&self, label: u32) -> Option<Arc<str>> {
        let register = self.register.lock().unwrap_or_else(PoisonError::into_inner);
        let position = usize::try_from(label.checked_sub(1)?).ok()?;
        register.labels.get(position).cloned()
    }

    /// Returns the nonce table.
    pub fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Returns the order table.
    pub fn orders(&self) -> &Orders<Stake> {
        &self.books.orders
    }

    /// Returns the table of limit rows.
    pub fn table(&self) -> &Arc<Table> {
        &self.books.table
    }
}

/// How often the time is recorded by itself, in milliseconds.
const RECORDED_EVERY_MS: i64 = 10_000;

impl Register {
    /// Gives a policy what its merchants hold already, and its limits their labels.
    fn enter(&mut self, policy: &mut Policy) {
        policy.adopt_shares(&mut self.shares);
        policy.label(&mut |name| {
            let known = self.labels.iter().position(|label| **label == *name);
            let position = known.unwrap_or_else(|| {
                self.labels.push(name.into());
                self.labels.len().saturating_sub(1)
            });
            u32::try_from(position).ok().and_then(|position| position.checked_add(1)).unwrap_or(0)
        });
    }
}
