//! The data plane's front: sockets, TLS, HTTP/1.1 and HTTP/2, and what is made of a decision.
//!
//! One worker per core; nothing on the way of a request waits for another worker.

mod answers;
mod body;
mod connection;
mod decider;
mod gate;
mod guard;
mod head;
mod http2;
mod options;
mod peer;
mod places;
mod platform;
mod preface;
mod respond;
mod safety;
mod service;
mod shown;
mod sign;
mod socket;
mod station;
pub mod tls;
mod upstream;
mod worker;

pub use gate::{Gate, GateParts};
pub use head::may_state_a_certificate;
pub use options::{Address, Bounds, Listener, Mode, Upstream};
pub use platform::{PLATFORM_KEYS_MAX, PlatformError, PlatformKey, PlatformKeyKind, PlatformKeys};
pub use respond::{Wire, wire};
pub use safety::{ExposureMax, Safety};
pub use shown::{CERTIFICATE_HEADER_BYTES_MAX, CertificateForm, CertificateHeader};
pub use sign::{QUEUE_MAX, QueueFull, SignedHeaders, SignerPool, Signing, THREADS_MAX};
pub use socket::{Socket, bind};
pub use worker::{WorkerParts, run};
