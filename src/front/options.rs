//! What the front is told at start: listeners, bounds, the upstream.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::header::HeaderName;

use super::shown::CertificateHeader;
use crate::request::Trust;

/// A data-plane listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// The name in logs.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// How far its peers are trusted.
    pub trust: Trust,
    /// Whether it forwards what it admits, or only says so.
    pub mode: Mode,
    /// TLS; `None` only on loopback and Unix sockets.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Whether HTTP/2 is spoken beside HTTP/1.1: with TLS by ALPN, without by prior knowledge.
    pub http2: bool,
    /// Where peers state the certificate of their clients; what they show by TLS themselves is their own then.
    pub certificate_header: Option<CertificateHeader>,
    /// Fields in which peers of other listeners state certificates: from these peers, they never go on to the upstream.
    pub withheld: Arc<[HeaderName]>,
}

/// Where a listener listens, or an upstream is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// TCP.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Address {
    /// Tells whether what is sent there stays on this machine.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }

    /// Returns the address of TCP peers, `None` for a Unix socket.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip()),
            Self::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => write!(formatter, "{address}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// What a listener does with an admitted request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It forwards the request to the upstream and returns its answer.
    Proxy,
    /// It answers 200 itself; the caller goes on.
    Check,
}

/// Where admitted requests go.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// The address.
    pub address: Address,
    /// The `Host` to send; that of the request where absent.
    pub host: Option<String>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for the whole answer.
    pub answer_timeout: Duration,
    /// Most idle connections kept per worker.
    pub idle_connections_max: usize,
    /// Most connections per worker.
    pub connections_max: usize,
    /// Longest answer body, in bytes.
    pub answer_bytes_max: usize,
    /// All answers being held at once, in bytes.
    pub answers_bytes_max: usize,
}

/// What the front takes from peers before it refuses.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Longest request head, in bytes.
    pub head_bytes_max: usize,
    /// Most header fields.
    pub headers_max: usize,
    /// Longest body of one request, in bytes.
    pub body_bytes_max: usize,
    /// All bodies being held at once, in bytes.
    pub bodies_bytes_max: usize,
    /// Most connections at once.
    pub connections_max: usize,
    /// Most connections at once from one address, on public listeners.
    pub connections_per_peer_max: usize,
    /// Most requests on one connection.
    pub requests_per_connection_max: u64,
    /// Most streams at once on one connection of HTTP/2.
    pub h2_streams_max: u32,
    /// Most streams of one connection that its peer resets, less those answered.
    pub h2_resets_max: u64,
    /// Most frames of one connection that carry neither a request nor data, less those that answers made needful.
    pub h2_frames_max: u64,
    /// Most TLS handshakes under way at once.
    pub handshakes_max: usize,
    /// Longest TLS handshake.
    pub handshake_timeout: Duration,
    /// Longest wait for a request head, from its first byte or the end of the last request.
    pub head_timeout: Duration,
    /// Longest wait for a body.
    pub body_timeout: Duration,
    /// Longest idle time of a connection between requests.
    pub idle_timeout: Duration,
    /// Longest wait for one answer to be taken by the peer.
    pub write_timeout: Duration,
    /// Longest time that a drain waits for requests under way.
    pub drain_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1024,
            headers_max: 64,
            body_bytes_max: 64 * 1024,
            bodies_bytes_max: 64 * 1024 * 1024,
            connections_max: 8192,
            connections_per_peer_max: 4096,
            requests_per_connection_max: 1_000_000,
            h2_streams_max: 128,
            h2_resets_max: 128,
            h2_frames_max: 1024,
            handshakes_max: 512,
            handshake_timeout: Duration::from_secs(5),
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}
