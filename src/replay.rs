//! Freshness, the nonce window and the order table: what keeps one request from acting twice. HOT.
//!
//! Every promise here leans one way, toward refusal. A signed request is claimed at most once, however the clock moves;
//! an order number is bound to at most one decision at a time, and what that decision charged is held until it is
//! committed, released or expired, and handed back at most once. Both tables are bounded, in all and per merchant. A full table refuses and never evicts what is live.
//!
//! Both tables are keyed by a keyed pseudo-random function of the name, so that nobody outside the deployment can choose
//! names that collide. A lookup compares 128-bit values and keeps no names: with 2^26 live entries, a new name is taken
//! for one of them, and refused, once in 2^102. (Orders are placed by 64 of the bits; see there.)

mod freshness;
mod nonces;
mod orders;
mod table;

pub use freshness::{Fresh, Skewed, fresh};
pub use nonces::{Claimed, ClaimedNonce, NonceBounds, NonceKey, Nonces, Refused, Stored};
pub use orders::{
    BindRefused, Binding, Bound, Commit, EXPIRED_PER_SWEEP_MAX, Expired, HOLD_AGES_S, HoldAge, Holds, Namespace,
    ORDERS_PURPOSE, OnExpiry, OrderBounds, OrderImage, OrderName, OrderRef, OrderState, OrderView, Orders, Outcome,
    PaidRule, RELEASED_KEEP_S, Refund, Release, Released, Settled, Terms, order_digest,
};
