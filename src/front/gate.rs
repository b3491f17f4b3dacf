//! What the workers of a gate share: tables, keys, the signing pool, and the counts that bound it.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::body::Budget;
use super::options::{Bounds, Upstream};
use super::places::{PeerPlaces, Places};
use super::platform::PlatformKeys;
use super::sign::SignerPool;
use crate::admission::Shared;
use crate::time::Clock;

/// What the workers of a gate share.
pub struct Gate {
    admission: Arc<Shared>,
    platform: ArcSwap<PlatformKeys>,
    signer: SignerPool,
    clock: Arc<dyn Clock>,
    bounds: Bounds,
    budget: Arc<Budget>,
    connections: Arc<Places>,
    handshakes: Arc<Places>,
    peers: Arc<PeerPlaces>,
    upstream: Option<Upstream>,
    answers: Arc<Budget>,
}

/// What a [`Gate`] is made of.
pub struct GateParts {
    /// The tables and the policy.
    pub admission: Arc<Shared>,
    /// The platform's keys.
    pub platform: PlatformKeys,
    /// The threads that sign.
    pub signer: SignerPool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What is taken from peers.
    pub bounds: Bounds,
    /// Where admitted requests go.
    pub upstream: Option<Upstream>,
}

impl Gate {
    /// Puts the shared part of a gate together.
    pub fn new(parts: GateParts) -> Self {
        let GateParts { admission, platform, signer, clock, bounds, upstream } = parts;
        Self {
            admission,
            platform: ArcSwap::from_pointee(platform),
            signer,
            clock,
            bounds,
            budget: Arc::new(Budget::new(bounds.bodies_bytes_max)),
            connections: Places::new(bounds.connections_max),
            handshakes: Places::new(bounds.handshakes_max),
            peers: PeerPlaces::new(bounds.connections_per_peer_max),
            answers: Arc::new(Budget::new(upstream.as_ref().map_or(0, |upstream| upstream.answers_bytes_max))),
            upstream,
        }
    }

    /// Returns the tables and the policy.
    pub fn admission(&self) -> &Arc<Shared> {
        &self.admission
    }

    /// Returns the platform's keys. Drop them soon: a later call may return others.
    pub fn platform(&self) -> arc_swap::Guard<Arc<PlatformKeys>> {
        self.platform.load()
    }

    /// Puts other platform keys in force.
    pub fn replace_platform(&self, platform: PlatformKeys) {
        self.platform.store(Arc::new(platform));
    }

    /// Returns how many bytes of bodies are being held.
    pub fn bodies_bytes(&self) -> usize {
        self.budget.used_bytes()
    }

    /// Returns how many bytes of the upstream's answers are being held.
    pub fn answers_bytes(&self) -> usize {
        self.answers.used_bytes()
    }

    /// Returns how many connections are open.
    pub fn connections_open(&self) -> usize {
        self.connections.used()
    }

    /// Returns how many answers wait to be signed.
    pub fn signing_queue(&self) -> usize {
        self.signer.queued()
    }

    pub(super) fn signer(&self) -> &SignerPool {
        &self.signer
    }

    pub(super) fn answers(&self) -> &Arc<Budget> {
        &self.answers
    }

    pub(super) fn upstream(&self) -> Option<&Upstream> {
        self.upstream.as_ref()
    }

    pub(super) fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    pub(super) fn connections(&self) -> &Arc<Places> {
        &self.connections
    }

    pub(super) fn peers(&self) -> &Arc<PeerPlaces> {
        &self.peers
    }

    pub(super) fn handshakes(&self) -> &Arc<Places> {
        &self.handshakes
    }
}
