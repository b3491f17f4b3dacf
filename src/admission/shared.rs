//! What all engines of a gate share: the policy in force and the tables.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::decision::{Books, Refusal};
use super::identify::read_claims;
use crate::merchant::Policy;
use crate::prf::{DeploymentKey, Prf};
use crate::quota::{Charges, Table};
use crate::replay::{NonceBounds, Nonces, OrderBounds, Orders};
use crate::request::Request;
use crate::time::UnixMillis;

/// What all engines of a gate share.
pub struct Shared {
    pub(super) policy: ArcSwap<Policy>,
    pub(super) nonces: Nonces,
    pub(super) books: Arc<Books>,
    pub(super) rows: Prf,
    pub(super) digests: Prf,
    pub(super) tolerance_s: u32,
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
    /// The table of limit rows.
    pub quota: crate::quota::Bounds,
}

impl Shared {
    /// Makes empty tables for a policy.
    pub fn new(parts: SharedParts) -> Self {
        let SharedParts { policy, deployment_key, nonces, orders, quota } = parts;
        Self {
            tolerance_s: nonces.tolerance_s,
            policy: ArcSwap::from_pointee(policy),
            nonces: Nonces::new(nonces, deployment_key.derive("nonces")),
            books: Arc::new(Books {
                table: Arc::new(Table::new(quota)),
                orders: Arc::new(Orders::new(orders, deployment_key.derive("orders"))),
            }),
            rows: deployment_key.derive("rows"),
            digests: deployment_key.derive("order digests"),
        }
    }

    /// Returns the policy in force. Drop it soon: a later call may return another one.
    pub fn policy(&self) -> arc_swap::Guard<Arc<Policy>> {
        self.policy.load()
    }

    /// Puts another policy in force, from the next batch on.
    pub fn replace_policy(&self, mut policy: Policy) {
        policy.adopt_shares(&self.policy.load());
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

    /// Frees nonces and orders whose time is over. For a background thread; not HOT.
    pub fn sweep(&self, now: UnixMillis) {
        self.nonces.sweep(now);
        self.books.orders.sweep(now);
    }

    /// Returns the nonce table.
    pub fn nonces(&self) -> &Nonces {
        &self.nonces
    }

    /// Returns the order table.
    pub fn orders(&self) -> &Orders<Charges> {
        &self.books.orders
    }

    /// Returns the table of limit rows.
    pub fn table(&self) -> &Table {
        &self.books.table
    }
}
