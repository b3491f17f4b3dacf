//! Order keys, and decision ids that lead to them. HOT.

use std::hash::{Hash, Hasher};

use super::{Namespace, OrderName};
use crate::prf::Prf;
use crate::types::DecisionId;

/// 64 bits that stand for an order number, and lie in every decision id on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OrderKey(pub(super) u64);

/// Names one decision on an order, whatever became of it. Holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OrderRef {
    pub(super) key: OrderKey,
    decision: DecisionId,
}

impl OrderKey {
    /// Returns the key of a number, and 64 more bits that tell it from others with the same key.
    pub(super) fn of(prf: &Prf, name: OrderName<'_>) -> (Self, u64) {
        let parts = [name.namespace.as_bytes(), name.merchant.as_str().as_bytes(), name.number.as_bytes()];
        let value = prf.digest(&parts);
        (Self(low(value)), low(value >> 64))
    }

    /// Returns the id of the decision that `random` tells from others on the same order.
    pub(super) fn decision(self, prf: &Prf, random: u64) -> DecisionId {
        DecisionId(u128::from(random) << 64 | u128::from(self.0 ^ mask(prf, random)))
    }

    /// Returns the part of a table that the key belongs to. `parts` is not empty.
    #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
    pub(super) fn choose<'a, T>(&self, parts: &'a [T]) -> &'a T {
        // Bits that a map with as many entries as there may be looks at neither for the lock, nor the slot, nor the tag.
        &parts[(self.0 >> 32) as usize % parts.len()]
    }
}

/// Returns what images have for the number of an order, their `key` and `check`, by the function of the order table.
pub fn order_digest(prf: &Prf, name: OrderName<'_>) -> (u64, u64) {
    let (OrderKey(key), check) = OrderKey::of(prf, name);
    (key, check)
}

impl Hash for OrderKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

impl OrderRef {
    pub(super) const fn new(key: OrderKey, decision: DecisionId) -> Self {
        Self { key, decision }
    }

    /// Reads where a decision id leads. Any id leads somewhere; whether it is that order's is for the table to say.
    pub(super) fn read(prf: &Prf, decision: DecisionId) -> Self {
        let key = OrderKey(low(decision.0) ^ mask(prf, low(decision.0 >> 64)));
        Self { key, decision }
    }

    /// Returns the decision.
    pub const fn decision(&self) -> DecisionId {
        self.decision
    }

    pub(super) const fn random(&self) -> u64 {
        low(self.decision.0 >> 64)
    }
}

impl Namespace {
    const fn as_bytes(self) -> &'static [u8] {
        match self {
            Self::Payment => b"payment",
            Self::Refund => b"refund",
        }
    }
}

/// Hides the key in an id, so that ids on one order have nothing in common. One part, where a name has three.
fn mask(prf: &Prf, random: u64) -> u64 {
    low(prf.digest(&[&random.to_le_bytes()]))
}

#[expect(clippy::cast_possible_truncation, reason = "takes the low half")]
const fn low(value: u128) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prf::{DEPLOYMENT_KEY_BYTES, DeploymentKey};

    #[test]
    fn a_decision_id_leads_to_its_order_and_shows_nothing_of_it() {
        let prf = DeploymentKey::new([7; DEPLOYMENT_KEY_BYTES]).derive("orders");
        let key = OrderKey(0x0123_4567_89ab_cdef);
        let ids = [1, 2, u64::MAX].map(|random| key.decision(&prf, random));
        for (id, random) in ids.into_iter().zip([1, 2, u64::MAX]) {
            let order = OrderRef::read(&prf, id);
            assert_eq!((order.key, order.random(), order.decision()), (key, random, id));
            assert_ne!(low(id.0), key.0);
        }
        assert_ne!(low(ids[0].0), low(ids[1].0), "ids on one order must not be seen to belong together");
    }

    #[test]
    fn an_id_of_another_deployment_leads_elsewhere() {
        let [ours, theirs] = [7, 8].map(|byte| DeploymentKey::new([byte; DEPLOYMENT_KEY_BYTES]).derive("orders"));
        let key = OrderKey(5);
        assert_ne!(OrderRef::read(&theirs, key.decision(&ours, 1)).key, key);
    }
}
