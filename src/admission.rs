//! The decision: all of the branching, none of the mechanism.
//!
//! [`Engine::decide`] is synchronous and works on a batch: no I/O, no clock, no await. One engine a worker; what the
//! workers share is in [`Shared`].
//!
//! ```
//! use tollgate::admission::{Batch, Decision, Engine, Outcome};
//! use tollgate::request::{Request, Trust};
//! use tollgate::time::UnixMillis;
//!
//! fn pay(engine: &mut Engine, authorization: &str, body: &[u8], now: UnixMillis) {
//!     let headers = [("authorization", authorization.as_bytes()), ("accept", b"application/json".as_slice())];
//!     let mut batch = Batch::new();
//!     batch.push(Request {
//!         method: "POST",
//!         target: "/v3/pay/transactions/jsapi",
//!         headers: &headers,
//!         body,
//!         trust: Trust::Public,
//!         peer: None,
//!         client_certificate: None,
//!         answer_key_known: true,
//!     });
//!     engine.decide(&mut batch, now);
//!     for decision in batch.drain() {
//!         match decision {
//!             // Act, then say how it went; dropped instead, it gives back what it took.
//!             Decision::Admitted(admission) => admission.settle(Outcome::Done),
//!             Decision::Refused(refusal) => println!("{}", refusal.reason),
//!         }
//!     }
//! }
//! ```

mod answer;
mod books;
mod decision;
mod engine;
mod explain;
mod facts;
mod identify;
mod intent;
mod ledger;
mod record;
mod restore;
mod settle;
mod shared;
mod steps;
mod usage;

pub use books::Stake;
pub use decision::{Admission, Decision, Detail, Outcome, Refusal};
pub use engine::{Batch, Engine};
pub use explain::{Explanation, Step};
pub use ledger::EventCount;
pub use record::{Recording, RecordingBounds};
pub use restore::{RestoreFault, Restorer, UsedNonce};
pub use settle::{Event, SettleAs, SettleFault, Settled, Settlement, State};
pub use shared::{Shared, SharedParts};
pub use usage::{Usage, UsageFault, UsageQuery, WindowUsage};
