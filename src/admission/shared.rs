//! What all engines of a gate share: the policy in force and the tables.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;

use super::books::{Books, Stake};
use super::decision::Refusal;
use super::identify::read_claims;
use super::ledger::{EventCount, Ledger};
use super::settle::{Event, SettleAs, SettleFault, Settled, Settlement, State};
use crate::merchant::{HoldRules, Policy, SettledFacts, Shares};
use crate::prf::{DeploymentKey, Prf};
use crate::quota::Table;
use crate::replay::{NonceBounds, Nonces, OrderBounds, Orders, PaidRule};
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
    /// Makes empty tables for a policy.
    pub fn new(parts: SharedParts) -> Self {
        let SharedParts { mut policy, deployment_key, nonces, orders, holds, quota } = parts;
        let table = Arc::new(Table::new(quota));
        let mut register = Register::default();
        register.enter(&mut policy);
        Self {
            tolerance_s: nonces.tolerance_s,
            policy: ArcSwap::from_pointee(policy),
            nonces: Nonces::new(nonces, deployment_key.derive("nonces")),
            books: Books {
                lane: table.lane(),
                table,
                orders: Arc::new(Orders::new(orders, deployment_key.derive("orders"))),
                ledger: Arc::new(Ledger::default()),
            },
            rows: deployment_key.derive("rows"),
            digests: deployment_key.derive("order digests"),
            holds,
            register: Mutex::new(register),
        }
    }

    /// Returns the policy in force. Drop it soon: a later call may return another one.
    pub fn policy(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Puts another policy in force, from the next batch on.
    pub fn replace_policy(&self, mut policy: Policy) {
        let mut register = self.register.lock().unwrap_or_else(PoisonError::into_inner);
        register.enter(&mut policy);
        self.policy.store(Arc::new(policy));
    }

    /// Refuses what can be told from the head alone, so that a front need not hold the body of a request that has no
    /// chance. What passes is decided by [`Engine::decide`](super::Engine::decide) all the same.
    ///
    /// # Errors
    /// The refusal that [`Engine::decide`](super::Engine::decide) would give.
    pub fn check_head(&self, request: &Request<'_>, now: UnixMillis) -> Result<(), Refusal> {
        read_claims(self, &self.policy.load(), request, now).map(|_| ())
    }

    /// Frees nonces, orders and rows whose time is over, and ends holds that ran out; a part of each a call. For a background
    /// thread; not HOT.
    pub fn sweep(&self, now: UnixMillis) {
        self.nonces.sweep(now);
        for expired in self.books.orders.sweep(now) {
            self.books.expire(expired, now);
        }
        self.books.table.reclaim(now);
    }

    /// Settles a decision as the operator says; `facts` free the limits that they rule out. May be called again.
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
        let (settled, event) = match settle {
            SettleAs::Commit => (self.books.commit(order, facts, now)?, Event::Committed),
            SettleAs::Release => (self.books.release(order, PaidRule::Refuse, now)?, Event::Released),
        };
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
