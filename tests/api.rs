//! The gate as its peers see it: whole requests over sockets, in process or as the program, beside a stand-in for the
//! upstream that records what reaches it. One module per feature.

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test stops where the gate does not do what it must"
)]

#[path = "api/batching.rs"]
mod batching;
#[path = "api/bounds.rs"]
mod bounds;
#[path = "api/check.rs"]
mod check;
#[path = "api/commands.rs"]
mod commands;
#[path = "api/contention.rs"]
mod contention;
#[path = "api/deadlines.rs"]
mod deadlines;
#[path = "api/explaining.rs"]
mod explaining;
#[path = "api/forwarding.rs"]
mod forwarding;
#[path = "api/holds.rs"]
mod holds;
#[path = "api/http2.rs"]
mod http2;
#[path = "api/http2_faults.rs"]
mod http2_faults;
#[path = "api/journal.rs"]
mod journal;
#[path = "api/lifecycle.rs"]
mod lifecycle;
#[path = "api/memory.rs"]
mod memory;
#[path = "api/mtls.rs"]
mod mtls;
#[path = "api/recovery.rs"]
mod recovery;
#[path = "api/refunds.rs"]
mod refunds;
#[path = "api/settling.rs"]
mod settling;
#[path = "api/smuggling.rs"]
mod smuggling;
#[path = "api/tls.rs"]
mod tls;
#[path = "api/transport.rs"]
mod transport;
#[path = "api/v2.rs"]
mod v2;

#[path = "api/client.rs"]
mod client;
#[path = "api/deployment.rs"]
mod deployment;
#[path = "api/frames.rs"]
mod frames;
#[path = "api/gate.rs"]
mod gate;
#[path = "api/process.rs"]
mod process;
#[path = "api/raw.rs"]
mod raw;
#[path = "api/request.rs"]
mod request;
#[path = "api/till.rs"]
mod till;
#[path = "api/upstream.rs"]
mod upstream;
