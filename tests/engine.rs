//! The decision as a library: who is refused and why, in which order, and what is charged and given back. No sockets.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test may stop where what it stands on is broken"
)]

#[path = "vectors/captures.rs"]
#[expect(dead_code, reason = "the vectors and the benches use the rest")]
mod captures;
#[path = "engine/gate.rs"]
mod gate;
#[path = "engine/signer.rs"]
mod signer;

#[path = "engine/amounts.rs"]
mod amounts;
#[path = "engine/authentication.rs"]
mod authentication;
#[path = "engine/bounds.rs"]
mod bounds;
#[path = "engine/certificates.rs"]
mod certificates;
#[path = "engine/explaining.rs"]
mod explaining;
#[path = "engine/history.rs"]
mod history;
#[path = "engine/holds.rs"]
mod holds;
#[path = "engine/limits.rs"]
mod limits;
#[path = "engine/parameters.rs"]
mod parameters;
#[path = "engine/permissions.rs"]
mod permissions;
#[path = "engine/recordings.rs"]
mod recordings;
#[path = "engine/refusals.rs"]
mod refusals;
#[path = "engine/replays.rs"]
mod replays;
#[path = "engine/settling.rs"]
mod settling;
#[path = "engine/storms.rs"]
mod storms;
#[path = "engine/tampering.rs"]
mod tampering;
#[path = "engine/v2.rs"]
mod v2;
#[path = "engine/windows.rs"]
mod windows;
