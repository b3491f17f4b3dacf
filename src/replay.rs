//! Freshness, the nonce window and the order table: what keeps one request from acting twice. HOT.
//!
//! Every promise here leans one way, toward refusal. A signed request is claimed at most once, however the clock moves;
//! an order number is bound to at most one decision at a time, and what that decision charged is handed back at most
//! once. Both tables are bounded, in all and per merchant. A full table refuses and never evicts what is live.
//!
//! Both tables are keyed by a keyed pseudo-random function of the name, so that nobody outside the deployment can choose
//! names that collide. A lookup compares 128-bit values and keeps no names: with 2^26 live entries, a new name is taken
//! for one of them, and refused, once in 2^102.

mod freshness;
mod nonces;
mod orders;
mod table;

pub use freshness::{Fresh, Skewed, fresh};
pub use nonces::{Claimed, NonceBounds, Nonces, Refused, Stored};
pub use orders::{BindRefused, Binding, Bound, Namespace, OrderBounds, OrderName, Orders, Outcome, Released};
